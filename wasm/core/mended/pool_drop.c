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
#include "flush.h"

/* How long what used the pool is waited for, in tenths of a second. */
#define	DROP_TENTHS_MAX	200
/* How often, once a second, its import is tried: a device may be late. */
#define	IMPORTS_MAX	10
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

/* Whether the pool goes on, its devices dropped. */
static int
pool_run_dropped(spa_t *spa)
{
	int error = 0;

	pool_note_drop(spa_name(spa));
	pool_set_dropped(spa);
	vdev_zow_drop(spa);
	zvol_hang_up(spa_name(spa));
	for (int i = 0; i < RESUMES_MAX; i++) {
		spa_vdev_state_enter(spa, SCL_NONE);
		pool_clear_devices(spa, NULL);
		(void) spa_vdev_state_exit(spa, NULL, 0);
		(void) __real_zio_resume(spa);
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
	spa_t *spa;
	int error = spa_open(name, &spa, FTAG);

	if (error != 0)
		return (error);
	ASSERT(pool_is_lost(spa) || pool_is_dropped(spa));
	*propsp = pool_import_props(spa);
	error = pool_run_dropped(spa);
	spa_close(spa, FTAG);
	for (int i = 0; error == 0; i++) {
		error = spa_export(name, configp, B_TRUE, B_TRUE);
		if (error == 0)
			return (0);
		/* Its clients are still on their way out. */
		if (error != EBUSY || i == DROP_TENTHS_MAX)
			break;
		error = 0;
		delay(MAX(hz / 10, 1));
	}
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
 * Whether the pool's devices are there. Before they are it must not be dropped:
 * it would go on without them, and could neither leave nor come back.
 */
static boolean_t
pool_answers(const char *name)
{
	boolean_t answers = B_TRUE;
	uint64_t count;
	leaf_t *leaves;
	vdev_t *rvd;
	spa_t *spa;

	if (spa_open(name, &spa, FTAG) != 0)
		return (B_FALSE);
	rvd = spa->spa_root_vdev;
	spa_config_enter(spa, SCL_STATE, FTAG, RW_READER);
	count = leaves_count(rvd);
	leaves = kmem_zalloc(count * sizeof (leaf_t), KM_SLEEP);
	VERIFY3P(leaves_list(rvd, leaves), ==, leaves + count);
	spa_config_exit(spa, SCL_STATE, FTAG);
	/* A disk that hangs holds up nobody who asks for the pool's state. */
	for (uint64_t i = 0; i < count; i++) {
		if (leaves[i].l_path != NULL)
			leaves[i].l_answers =
			    vdev_zow_answers(leaves[i].l_path);
	}
	spa_config_enter(spa, SCL_STATE, FTAG, RW_READER);
	for (uint64_t c = 0; c < rvd->vdev_children; c++)
		answers &= vdev_answers(rvd->vdev_child[c], leaves, count);
	spa_config_exit(spa, SCL_STATE, FTAG);
	for (uint64_t i = 0; i < count; i++) {
		if (leaves[i].l_path != NULL)
			kmem_strfree(leaves[i].l_path);
	}
	kmem_free(leaves, count * sizeof (leaf_t));
	spa_close(spa, FTAG);
	return (answers);
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
