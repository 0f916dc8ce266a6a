/*
 * CDDL HEADER START
 *
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 *
 * A full copy of the text of the CDDL should have accompanied this
 * source.
 *
 * CDDL HEADER END
 */


/*
 * Pools that leave without a last word to their devices.
 *
 * A lost pool (flush.c) must not write, and without writing upstream can
 * neither export a pool nor get rid of it. So its devices are dropped first:
 * the host remembers what is written to them, for reads, and changes nothing.
 * All that waited then goes on and ends, every request of a volume and every
 * ioctl with EIO, for what it did goes nowhere; and the pool is exported as any
 * other. On its devices is what a power cut would have left. `zpool clear` has
 * it imported again at once, from devices that are opened anew: that is how it
 * goes back to the last txg that was flushed, and replays the intent log.
 */

#include <sys/zfs_context.h>
#include <sys/dsl_pool.h>
#include <sys/spa.h>
#include <sys/spa_impl.h>
#include <sys/txg.h>
#include <sys/vdev_impl.h>
#include <sys/zio.h>

#include "compat.h"
#include "fiber.h"
#include "flush.h"

/* How long what used the pool is waited for, in tenths of a second. */
#define	DROP_TENTHS_MAX	200
/* How often, once a second, its import is tried: a device may be late. */
#define	IMPORTS_MAX	10
/* How long a disk may take to say that it is there. */
#define	ANSWER_SECONDS_MAX	10
#define	ASK_STACK	(64 * 1024)
#define	RESUME_STACK	(128 * 1024)
/* A pool is suspended again by each read that its device does not answer. */
#define	RESUMES_MAX	100

/* The last drops; older ones count as ones of any pool. */
#define	DROPS_KEPT	16

static uint64_t drop_clock;
static struct {
	char		d_pool[ZFS_MAX_DATASET_NAME_LEN];
	uint64_t	d_when;
} drops[DROPS_KEPT];

uint64_t
pool_drops(void)
{
	return (drop_clock);
}

boolean_t
pool_dropped_since(const char *name, uint64_t when)
{
	if (drop_clock - when > DROPS_KEPT)
		return (B_TRUE);
	for (int i = 0; i < DROPS_KEPT; i++) {
		if (drops[i].d_when > when &&
		    pool_has_name(drops[i].d_pool, name))
			return (B_TRUE);
	}
	return (B_FALSE);
}

static void
pool_note_drop(const char *name)
{
	int i = drop_clock++ % DROPS_KEPT;

	(void) strlcpy(drops[i].d_pool, name, sizeof (drops[i].d_pool));
	drops[i].d_when = drop_clock;
}

static void
pool_resume_dropped(spa_t *spa)
{
	spa_vdev_state_enter(spa, SCL_NONE);
	pool_clear_devices(spa, NULL);
	(void) spa_vdev_state_exit(spa, NULL, 0);
	(void) __real_zio_resume(spa);
}

/* Whether the pool goes on, its devices dropped. */
static int
pool_run_dropped(spa_t *spa)
{
	int error = 0;

	pool_note_drop(spa_name(spa));
	pool_set_dropped(spa);
	/* Who reads of it is answered, and suspends it no more. */
	spa->spa_failmode = ZIO_FAILURE_MODE_CONTINUE;
	vdev_zow_drop(spa);
	zvol_hang_up(spa_name(spa));
	for (int i = 0; i < RESUMES_MAX; i++) {
		pool_resume_dropped(spa);
#ifdef	TREE_TXG_WAIT_FLAGS
		error = txg_wait_synced_flags(spa->spa_dsl_pool, 0,
		    TXG_WAIT_SUSPEND);
		if (error == 0)
			break;
		delay(MAX(hz / 50, 1));
#else
		txg_wait_synced(spa->spa_dsl_pool, 0);
		break;
#endif
	}
	return (error == 0 ? 0 : SET_ERROR(EIO));
}

/*
 * A pool that is suspended while it is exported waits in there, with a name
 * that nobody finds any more: it is resumed until it has gone.
 */
typedef struct resumer {
	const char	*rs_pool;
	boolean_t	rs_over;
} resumer_t;

static spa_t *
pool_hold_suspended(const char *name, const void *tag)
{
	spa_t *spa = NULL;

	spa_namespace_enter(FTAG);
	while ((spa = spa_next(spa)) != NULL) {
		if (strcmp(spa_name(spa), name) == 0)
			break;
	}
	if (spa != NULL && spa_suspended(spa))
		spa_open_ref(spa, tag);
	else
		spa = NULL;
	spa_namespace_exit(FTAG);
	return (spa);
}

static void *
resumer_fiber(void *arg)
{
	resumer_t *rs = arg;
	spa_t *spa;

	while (!rs->rs_over) {
		spa = pool_hold_suspended(rs->rs_pool, rs);
		if (spa != NULL) {
			pool_resume_dropped(spa);
			spa_close(spa, rs);
		}
		delay(MAX(hz / 10, 1));
	}
	return (NULL);
}

/* Where the pool is in the cache file, and its root. */
static nvlist_t *
pool_import_props(spa_t *spa)
{
	spa_config_dirent_t *dp = list_head(&spa->spa_config_list);
	nvlist_t *props = fnvlist_alloc();

	if (dp != NULL)
		fnvlist_add_string(props,
		    zpool_prop_to_name(ZPOOL_PROP_CACHEFILE),
		    dp->scd_path == NULL ? "none" : dp->scd_path);
	if (spa->spa_root != NULL)
		fnvlist_add_string(props,
		    zpool_prop_to_name(ZPOOL_PROP_ALTROOT), spa->spa_root);
	return (props);
}

static int
pool_drop(const char *name, nvlist_t **configp, nvlist_t **propsp)
{
	resumer_t rs = { .rs_pool = name };
	fiber_t *resumer;
	spa_t *spa;
	int error = spa_open(name, &spa, FTAG);

	if (error != 0)
		return (error);
	ASSERT(pool_is_lost(spa) || pool_is_dropped(spa));
	*propsp = pool_import_props(spa);
	error = pool_run_dropped(spa);
	spa_close(spa, FTAG);
	resumer = error != 0 ? NULL : fiber_create("pool_resume",
	    resumer_fiber, &rs, RESUME_STACK, 0);
	for (int i = 0; error == 0; i++) {
		error = spa_export(name, configp, B_TRUE, B_TRUE);
		/* Its clients are still on their way out. */
		if (error != EBUSY || i == DROP_TENTHS_MAX)
			break;
		error = 0;
		delay(MAX(hz / 10, 1));
	}
	rs.rs_over = B_TRUE;
	if (resumer != NULL)
		(void) fiber_join(resumer);
	if (error != 0)
		nvlist_free(*propsp);
	return (error);
}

/* A leaf, and whether it can be read. */
typedef struct leaf {
	uint64_t	l_guid;
	char		*l_path;
	boolean_t	l_answers;
} leaf_t;

static uint64_t
leaves_count(const vdev_t *vd)
{
	uint64_t count = vd->vdev_ops->vdev_op_leaf ? 1 : 0;

	for (uint64_t c = 0; c < vd->vdev_children; c++)
		count += leaves_count(vd->vdev_child[c]);
	return (count);
}

static leaf_t *
leaves_list(const vdev_t *vd, leaf_t *next)
{
	if (vd->vdev_ops->vdev_op_leaf) {
		next->l_guid = vd->vdev_guid;
		next->l_path = vd->vdev_path == NULL ? NULL :
		    kmem_strdup(vd->vdev_path);
		next++;
	}
	for (uint64_t c = 0; c < vd->vdev_children; c++)
		next = leaves_list(vd->vdev_child[c], next);
	return (next);
}

/* Whether enough leaves below can be read for what has redundancy. */
static boolean_t
vdev_answers(vdev_t *vd, const leaf_t *leaves, uint64_t count)
{
	uint64_t silent = 0;

	if (!vdev_is_concrete(vd) || vd->vdev_islog)
		return (B_TRUE);
	for (uint64_t i = 0; vd->vdev_ops->vdev_op_leaf && i < count; i++) {
		if (leaves[i].l_guid == vd->vdev_guid)
			return (leaves[i].l_answers);
	}
	for (uint64_t c = 0; c < vd->vdev_children; c++)
		silent += !vdev_answers(vd->vdev_child[c], leaves, count);
	if (vdev_get_nparity(vd) != 0)
		return (silent <= vdev_get_nparity(vd));
	return (vd->vdev_children != 0 && silent < vd->vdev_children);
}

/*
 * What a fiber of its own asks a pool's leaves, for they may hang. It outlives
 * who waits for it, and is freed by the last of both.
 */
typedef struct question {
	list_node_t	q_node;
	uint64_t	q_pool;		/* guid */
	uint64_t	q_count;
	leaf_t		*q_leaves;
	boolean_t	q_over;
	boolean_t	q_left;		/* nobody waits */
} question_t;

static list_t questions;
static kmutex_t question_lock;
static kcondvar_t question_cv;

void
pool_drop_init(void)
{
	list_create(&questions, sizeof (question_t),
	    offsetof(question_t, q_node));
	mutex_init(&question_lock, NULL, MUTEX_DEFAULT, NULL);
	cv_init(&question_cv, NULL, CV_DEFAULT, NULL);
}

static question_t *
question_make(spa_t *spa)
{
	question_t *q = kmem_zalloc(sizeof (*q), KM_SLEEP);
	vdev_t *rvd = spa->spa_root_vdev;

	q->q_pool = spa_guid(spa);
	spa_config_enter(spa, SCL_STATE, FTAG, RW_READER);
	q->q_count = leaves_count(rvd);
	q->q_leaves = kmem_zalloc(q->q_count * sizeof (leaf_t), KM_SLEEP);
	VERIFY3P(leaves_list(rvd, q->q_leaves), ==, q->q_leaves + q->q_count);
	spa_config_exit(spa, SCL_STATE, FTAG);
	return (q);
}

static void
question_free(question_t *q)
{
	for (uint64_t i = 0; i < q->q_count; i++) {
		if (q->q_leaves[i].l_path != NULL)
			kmem_strfree(q->q_leaves[i].l_path);
	}
	kmem_free(q->q_leaves, q->q_count * sizeof (leaf_t));
	kmem_free(q, sizeof (*q));
}

static void *
question_fiber(void *arg)
{
	question_t *q = arg;
	boolean_t left;

	for (uint64_t i = 0; i < q->q_count; i++) {
		if (q->q_leaves[i].l_path != NULL)
			q->q_leaves[i].l_answers =
			    vdev_zow_answers(q->q_leaves[i].l_path);
	}
	mutex_enter(&question_lock);
	list_remove(&questions, q);
	q->q_over = B_TRUE;
	left = q->q_left;
	cv_broadcast(&question_cv);
	mutex_exit(&question_lock);
	if (left)
		question_free(q);
	return (NULL);
}

static boolean_t
is_asked(uint64_t pool)
{
	question_t *q = list_head(&questions);

	while (q != NULL && q->q_pool != pool)
		q = list_next(&questions, q);
	return (q != NULL);
}

/* Waits until `until`, or for a signal: whether there is time left. */
static boolean_t
question_wait(clock_t until)
{
	return (cv_timedwait_sig(&question_cv, &question_lock, until) > 0);
}

/*
 * The pool's leaves, each asked whether it can be read; NULL: one of them does
 * not say in time. One that has not said yet is not asked twice.
 */
static question_t *
leaves_ask(spa_t *spa)
{
	clock_t until = ddi_get_lbolt() + ANSWER_SECONDS_MAX * hz;
	question_t *q = question_make(spa);
	boolean_t in_time = B_TRUE;

	mutex_enter(&question_lock);
	while (in_time && is_asked(q->q_pool))
		in_time = question_wait(until);
	if (!in_time || fiber_create("device_ask", question_fiber, q, ASK_STACK,
	    1) == NULL) {
		mutex_exit(&question_lock);
		question_free(q);
		return (NULL);
	}
	list_insert_tail(&questions, q);
	while (in_time && !q->q_over)
		in_time = question_wait(until);
	if (!q->q_over) {
		q->q_left = B_TRUE;
		q = NULL;
	}
	mutex_exit(&question_lock);
	return (q);
}

/*
 * Whether the pool's devices are there. Before they are it must not be dropped:
 * it would go on without them, and could neither leave nor come back. One that
 * hangs would have all wait that the pool is taken down for.
 */
static boolean_t
pool_answers(const char *name)
{
	boolean_t answers = B_TRUE;
	vdev_t *rvd;
	question_t *q;
	spa_t *spa;

	if (spa_open(name, &spa, FTAG) != 0)
		return (B_FALSE);
	rvd = spa->spa_root_vdev;
	q = leaves_ask(spa);
	if (q != NULL) {
		spa_config_enter(spa, SCL_STATE, FTAG, RW_READER);
		for (uint64_t c = 0; c < rvd->vdev_children; c++)
			answers &= vdev_answers(rvd->vdev_child[c],
			    q->q_leaves, q->q_count);
		spa_config_exit(spa, SCL_STATE, FTAG);
		question_free(q);
	}
	spa_close(spa, FTAG);
	return (q != NULL && answers);
}

static void
pool_cannot_leave(const char *name)
{
	cmn_err(CE_WARN, "Pool '%s' cannot be taken down, because of what its "
	    "devices do not answer or clients that stay. Ending this host "
	    "leaves it as a crash does, with all that was flushed.", name);
}

int
pool_drop_export(const char *name)
{
	nvlist_t *config = NULL, *props;
	int error = pool_drop(name, &config, &props);

	if (error != 0) {
		pool_cannot_leave(name);
		return (error);
	}
	nvlist_free(config);
	nvlist_free(props);
	cmn_err(CE_WARN, "Pool '%s' has left; the next import goes back to "
	    "what is on its devices.", name);
	return (0);
}

int
pool_go_back(const char *name)
{
	nvlist_t *config = NULL, *props;
	char *pool;
	int error;

	if (!pool_answers(name))
		return (SET_ERROR(EIO));
	pool = kmem_strdup(name);
	error = pool_drop(name, &config, &props);
	if (error != 0) {
		pool_cannot_leave(name);
		kmem_strfree(pool);
		return (error);
	}
	for (int i = 0; i < IMPORTS_MAX; i++) {
		error = spa_import(pool, config, props, ZFS_IMPORT_NORMAL);
		if (error != ENXIO && error != EIO)
			break;
		delay(hz);
	}
	if (error == 0)
		cmn_err(CE_WARN, "Pool '%s' went back to what is on its "
		    "devices. What was written and not flushed may be gone: "
		    "its volumes were closed under their clients.", name);
	else
		cmn_err(CE_WARN, "Pool '%s' has left and cannot be imported "
		    "again (error %d): see 'zpool import'.", name, error);
	nvlist_free(config);
	nvlist_free(props);
	kmem_strfree(pool);
	return (error);
}
