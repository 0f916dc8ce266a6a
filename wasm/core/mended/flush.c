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
 * Flushes that fail.
 *
 * A device whose flush fails may have forgotten, or forget later, any part of
 * what was written since the flush before. Upstream's zio_flush() tells nobody
 * (ZIO_FLAG_DONT_PROPAGATE): the intent log calls such a write durable, and a
 * txg's uberblock is written above data that are nowhere. Here the result of a
 * top-level vdev's flush is that of its redundancy, and:
 *
 * - A leaf that failed is out, and its DTL has the txgs that it may have
 *   forgotten, so that it is not believed until it is resilvered.
 * - Where no other leaf has them the pool is lost: nothing is written to any
 *   of its devices any more, above all no label, and it is suspended. What is
 *   on them then is what a power cut at that moment could have left, so the
 *   next import goes back to the last txg that was flushed, and replays the
 *   intent log. Resuming it would build on blocks that may be gone.
 * - The intent log's block is not durable, nor is what comes after it in the
 *   chain: those commits wait for their txg. So do those behind a block that
 *   could not be written, until the log begins behind it.
 * - A log device only ever holds what a txg will have, too: it is left out.
 *
 * Where labels were all that was written nothing is forgotten: the txg is not
 * over until they are written again.
 */

#include <sys/zfs_context.h>
#include <sys/spa.h>
#include <sys/spa_impl.h>
#include <sys/dsl_pool.h>
#include <sys/txg.h>
#include <sys/vdev_impl.h>
#include <sys/vdev_file.h>
#include <sys/vdev_disk.h>
#include <sys/zil_impl.h>
#include <sys/zio.h>

#include "compat.h"
#include "flush.h"
#include "seam.h"
#include "work.h"

#define	NEVER	UINT64_MAX

/* What is known of a pool one of whose flushes, or log blocks, failed. */
typedef struct pool_flush {
	list_node_t	pf_node;
	spa_t		*pf_spa;
	boolean_t	pf_lost;
	boolean_t	pf_dropped;
	boolean_t	pf_failed;	/* since the txg's labels are written */
	uint64_t	pf_log_txg;	/* until this is synced no log counts */
} pool_flush_t;

/* Few, and none as a rule. */
static list_t pool_flushes;

void
pool_flush_init(void)
{
	list_create(&pool_flushes, sizeof (pool_flush_t),
	    offsetof(pool_flush_t, pf_node));
}

static pool_flush_t *
pool_flush_find(const spa_t *spa)
{
	pool_flush_t *pf = list_head(&pool_flushes);

	while (pf != NULL && pf->pf_spa != spa)
		pf = list_next(&pool_flushes, pf);
	return (pf);
}

static pool_flush_t *
pool_flush_get(spa_t *spa)
{
	pool_flush_t *pf = pool_flush_find(spa);

	if (pf != NULL)
		return (pf);
	pf = kmem_zalloc(sizeof (*pf), KM_SLEEP);
	pf->pf_spa = spa;
	list_insert_tail(&pool_flushes, pf);
	return (pf);
}

boolean_t
pool_is_lost(const spa_t *spa)
{
	pool_flush_t *pf = pool_flush_find(spa);

	return (pf != NULL && pf->pf_lost);
}

boolean_t
pool_is_dropped(const spa_t *spa)
{
	pool_flush_t *pf = pool_flush_find(spa);

	return (pf != NULL && pf->pf_dropped);
}

boolean_t
pool_has_name(const char *pool, const char *name)
{
	size_t len = strcspn(name, "/@#");

	return (strlen(pool) == len && strncmp(pool, name, len) == 0);
}

boolean_t
pool_name_is_dropped(const char *name)
{
	pool_flush_t *pf = list_head(&pool_flushes);

	while (pf != NULL && !(pf->pf_dropped &&
	    pool_has_name(spa_name(pf->pf_spa), name)))
		pf = list_next(&pool_flushes, pf);
	return (pf != NULL);
}

void
pool_set_dropped(spa_t *spa)
{
	pool_flush_t *pf = pool_flush_get(spa);

	pf->pf_dropped = B_TRUE;
	pf->pf_lost = pf->pf_failed = B_FALSE;
}

extern void __real_spa_remove(spa_t *);
extern void __wrap_spa_remove(spa_t *);

void
__wrap_spa_remove(spa_t *spa)
{
	pool_flush_t *pf = pool_flush_find(spa);

	if (pf != NULL) {
		if (pf->pf_dropped)
			zow_devices_forget(spa);
		list_remove(&pool_flushes, pf);
		kmem_free(pf, sizeof (*pf));
	}
	__real_spa_remove(spa);
}

/*
 * Leaves.
 */
static uint64_t
open_txg(const spa_t *spa)
{
	return (spa->spa_dsl_pool->dp_tx.tx_open_txg);
}

void
leaf_flush_init(leaf_flush_t *lf)
{
	lf->lf_since = lf->lf_covered = NEVER;
	lf->lf_running = 0;
	lf->lf_missed = 0;
	lf->lf_failed = B_FALSE;
}

/* The oldest txg of which a write had something; NEVER: none, a label's. */
static uint64_t
write_txg(const zio_t *zio)
{
	if (VDEV_OFFSET_IS_LABEL(zio->io_vd, zio->io_offset) ||
	    zio->io_priority == ZIO_PRIORITY_INITIALIZING)
		return (NEVER);
	/* It moves blocks of any txg: a raidz expansion, a removal. */
	return (zio->io_txg == 0 ? TXG_INITIAL : zio->io_txg);
}

void
leaf_flush_written(leaf_flush_t *lf, zio_t *zio)
{
	zio_link_t *zl = NULL;
	zio_t *pio;

	if ((zio->io_flags & ZIO_FLAG_DELEGATED) == 0) {
		lf->lf_since = MIN(lf->lf_since, write_txg(zio));
		return;
	}
	/* Of several in one, each is a parent. */
	while ((pio = zio_walk_parents(zio, &zl)) != NULL)
		lf->lf_since = MIN(lf->lf_since, write_txg(pio));
}

/*
 * No DTL tells of a block of the intent log that could not be written, which
 * belongs to no txg. It counts until the txg is synced that it may be about.
 */
void
leaf_flush_missed(leaf_flush_t *lf, zio_t *zio)
{
	if (zio->io_spa->spa_sync_on)
		lf->lf_missed = open_txg(zio->io_spa);
}

void
leaf_flush_begin(leaf_flush_t *lf)
{
	lf->lf_covered = MIN(lf->lf_covered, lf->lf_since);
	lf->lf_since = NEVER;
	lf->lf_running++;
}

/* Whether a leaf is out, or may lack something of the txgs from `from` on. */
static boolean_t
leaf_lacks(vdev_t *vd, uint64_t from, uint64_t to)
{
	leaf_flush_t *lf = NULL;

	if (!vdev_readable(vd))
		return (B_TRUE);
	if (vd->vdev_ops == &vdev_file_ops || vd->vdev_ops == &vdev_disk_ops) {
		lf = vdev_zow_flush(vd);
		if (lf == NULL || lf->lf_failed)
			return (B_TRUE);
	}
	if (from == NEVER)
		return (B_FALSE);
	if (lf != NULL && lf->lf_missed > spa_last_synced_txg(vd->vdev_spa))
		return (B_TRUE);
	if (vdev_dtl_empty(vd, DTL_MISSING))
		return (B_FALSE);
	/* Rare and long: from the beginning of the pool. */
	if (from == TXG_INITIAL)
		return (B_TRUE);
	for (uint64_t txg = from; txg <= to; txg++) {
		if (vdev_dtl_contains(vd, DTL_MISSING, txg, 1))
			return (B_TRUE);
	}
	return (B_FALSE);
}

/* Whether so many leaves lack something that the vdev does: as its DTL. */
static boolean_t
vdev_lacks(vdev_t *vd, uint64_t from, uint64_t to)
{
	uint64_t lacking = 0;

	if (vd->vdev_children == 0)
		return (leaf_lacks(vd, from, to));
	for (uint64_t c = 0; c < vd->vdev_children; c++)
		lacking += vdev_lacks(vd->vdev_child[c], from, to);
	if (vdev_get_nparity(vd) != 0)
		return (lacking > vdev_get_nparity(vd));
	return (lacking == vd->vdev_children);
}

/* What a leaf may have forgotten is missing, as if the writes had failed. */
static void
leaf_forgets(vdev_t *vd, uint64_t from)
{
	spa_t *spa = vd->vdev_spa;
	uint64_t to = open_txg(spa);

	if (from > to)
		return;
	for (vdev_t *pvd = vd; pvd != spa->spa_root_vdev;
	    pvd = pvd->vdev_parent)
		vdev_dtl_dirty(pvd, DTL_PARTIAL, from, to + 1 - from);
	vdev_dtl_dirty(vd, DTL_MISSING, from, to + 1 - from);
	if (to < spa->spa_final_txg) {
		vdev_dirty(vd->vdev_top, VDD_DTL, vd, to);
		txg_kick(spa->spa_dsl_pool, to);
	}
}

static void
vdev_stop_writes(vdev_t *vd)
{
	for (uint64_t c = 0; c < vd->vdev_children; c++)
		vdev_stop_writes(vd->vdev_child[c]);
	if (vd != vd->vdev_spa->spa_root_vdev)
		vd->vdev_cant_write = B_TRUE;
}

/* A device whose failure has to be told where one can wait. */
typedef struct lost_leaf {
	char		ll_pool[ZFS_MAX_DATASET_NAME_LEN];
	uint64_t	ll_guid;
} lost_leaf_t;

static void
pool_suspend_lost(void *arg)
{
	lost_leaf_t *ll = arg;
	spa_t *spa;
	vdev_t *vd;

	if (spa_open(ll->ll_pool, &spa, FTAG) == 0) {
		if (pool_is_lost(spa)) {
			if (!spa_suspended(spa))
				zio_suspend(spa, NULL, ZIO_SUSPEND_IOERR);
			spa_vdev_state_enter(spa, SCL_NONE);
			vd = spa_lookup_by_guid(spa, ll->ll_guid, B_FALSE);
			if (vd != NULL && !vdev_is_dead(vd))
				vdev_set_state(vd, B_FALSE,
				    VDEV_STATE_DEGRADED, VDEV_AUX_IO_FAILURE);
			(void) spa_vdev_state_exit(spa, NULL, 0);
		}
		spa_close(spa, FTAG);
	}
	free(ll);
}

static void
leaf_later(vdev_t *vd, const char *fiber, void (*func)(void *))
{
	lost_leaf_t *ll = malloc(sizeof (*ll));

	if (ll == NULL)
		return;
	(void) strlcpy(ll->ll_pool, spa_name(vd->vdev_spa),
	    sizeof (ll->ll_pool));
	ll->ll_guid = vd->vdev_guid;
	if (zow_work_for(WORK_RESCUE, ll->ll_pool, fiber, func, ll) != 0)
		free(ll);
}

/* Never blocks: a zio waits for it. */
static void
pool_lose(vdev_t *vd)
{
	spa_t *spa = vd->vdev_spa;
	pool_flush_t *pf = pool_flush_get(spa);

	if (pf->pf_lost)
		return;
	pf->pf_lost = B_TRUE;
	vdev_stop_writes(spa->spa_root_vdev);
	cmn_err(CE_WARN, "Pool '%s': the flush of %s failed, which has the "
	    "only copy of what was written since the one before, and may have "
	    "lost it. Nothing is written to the pool any more: once the device "
	    "works, 'zpool clear %s' goes back to what is on disk (txg %llu "
	    "and the intent log), and so does the next import. Nothing that "
	    "was acknowledged as flushed is lost by that.", spa_name(spa),
	    vd->vdev_path, spa_name(spa),
	    (u_longlong_t)spa_last_synced_txg(spa));
	leaf_later(vd, "pool_lost", pool_suspend_lost);
}

#ifdef	TREE_VDEV_FAULT_WANTED
static void
leaf_fault(vdev_t *vd)
{
	vd->vdev_fault_wanted = B_TRUE;
	spa_async_request(vd->vdev_spa, SPA_ASYNC_FAULT_VDEV);
}
#else
static void
pool_fault_leaf(void *arg)
{
	lost_leaf_t *ll = arg;
	spa_t *spa;

	if (spa_open(ll->ll_pool, &spa, FTAG) == 0) {
		(void) vdev_fault(spa, ll->ll_guid, VDEV_AUX_ERR_EXCEEDED);
		spa_close(spa, FTAG);
	}
	free(ll);
}

/* Until 2.2 it is zed that does so. */
static void
leaf_fault(vdev_t *vd)
{
	leaf_later(vd, "leaf_fault", pool_fault_leaf);
}
#endif

static void
leaf_fail(leaf_flush_t *lf, vdev_t *vd, boolean_t removal)
{
	spa_t *spa = vd->vdev_spa;
	uint64_t from = MIN(lf->lf_since, lf->lf_covered);

	/* The host remembers what is dropped, whatever the device does. */
	if (lf->lf_failed || pool_is_dropped(spa))
		return;
	lf->lf_failed = B_TRUE;
	if (vd->vdev_aux != NULL || !spa_writeable(spa) || !spa->spa_sync_on)
		return;
	vd->vdev_cant_write = B_TRUE;
	if (from != NEVER && !vd->vdev_top->vdev_islog &&
	    vdev_lacks(vd->vdev_top, from, open_txg(spa))) {
		pool_lose(vd);
		return;
	}
	if (from != NEVER)
		leaf_forgets(vd, from);
	/* FAULTED first, it would be closed, and never REMOVED. */
	if (removal)
		return;
	cmn_err(CE_WARN, "Pool '%s': the flush of %s failed. It is not used "
	    "until it is brought back by 'zpool clear %s'; what it may have "
	    "lost is then resilvered.", spa_name(spa), vd->vdev_path,
	    spa_name(spa));
	leaf_fault(vd);
}

void
leaf_flush_end(leaf_flush_t *lf, zio_t *zio, boolean_t removal)
{
	ASSERT3S(lf->lf_running, >, 0);
	if (--lf->lf_running == 0 && zio->io_error == 0 && !lf->lf_failed)
		lf->lf_covered = NEVER;
	/* One that has no cache says ENOTSUP. */
	if (zio->io_error != 0 && zio->io_error != ENOTSUP)
		leaf_fail(lf, zio->io_vd, removal);
}

void
leaf_flush_gone(leaf_flush_t *lf, vdev_t *vd, boolean_t removal)
{
	if (MIN(lf->lf_since, lf->lf_covered) != NEVER)
		leaf_fail(lf, vd, removal);
}

/*
 * The flush of a top-level vdev.
 */
static void
flush_top_done(zio_t *zio)
{
	vdev_t *vd = zio->io_private;
	spa_t *spa = vd->vdev_spa;

	/*
	 * What a leaf lacks since a write to it failed is that write's affair:
	 * asked for here, the open txg of a pool that was suspended stays in
	 * the DTL of its only disk, and the pool never comes back.
	 */
	if (!pool_is_lost(spa) && !vdev_lacks(vd, NEVER, NEVER))
		return;
	zio->io_error = SET_ERROR(EIO);
	if (!vd->vdev_islog)
		pool_flush_get(spa)->pf_failed = B_TRUE;
}

extern void __real_zio_flush(zio_t *, vdev_t *);
extern void __wrap_zio_flush(zio_t *, vdev_t *);

static void
flush_leaves(zio_t *pio, vdev_t *vd)
{
	if (vd->vdev_children == 0)
		__real_zio_flush(pio, vd);
	for (uint64_t c = 0; c < vd->vdev_children; c++)
		flush_leaves(pio, vd->vdev_child[c]);
}

void
__wrap_zio_flush(zio_t *pio, vdev_t *vd)
{
	zio_t *zio;

	if (vd == vd->vdev_spa->spa_root_vdev) {
		for (uint64_t c = 0; c < vd->vdev_children; c++)
			__wrap_zio_flush(pio, vd->vdev_child[c]);
		return;
	}
	if (vd->vdev_aux != NULL || !vdev_is_concrete(vd)) {
		flush_leaves(pio, vd);
		return;
	}
	ASSERT3P(vd, ==, vd->vdev_top);
	/* Who cannot fail learns it by what is not written afterwards. */
	zio = zio_null(pio, vd->vdev_spa, NULL, flush_top_done, vd,
	    ZIO_FLAG_CANFAIL | (pio->io_flags & ZIO_FLAG_CANFAIL ? 0 :
	    ZIO_FLAG_DONT_PROPAGATE));
	flush_leaves(zio, vd);
	zio_nowait(zio);
}

/* Has written a txg's labels and uberblocks when their flushes are over. */
extern int __real_vdev_config_sync(vdev_t **, int, uint64_t);
extern int __wrap_vdev_config_sync(vdev_t **, int, uint64_t);

int
__wrap_vdev_config_sync(vdev_t **svd, int svdcount, uint64_t txg)
{
	spa_t *spa = svd[0]->vdev_spa;
	pool_flush_t *pf = pool_flush_find(spa);
	int error;

	if (pf != NULL)
		pf->pf_failed = B_FALSE;
	error = __real_vdev_config_sync(svd, svdcount, txg);
	pf = pool_flush_find(spa);
	if (error == 0 && pf != NULL && (pf->pf_failed || pf->pf_lost))
		error = SET_ERROR(EIO);
	return (error);
}

/*
 * A raidz expansion writes uberblocks beside its txg's, and must not fail. Of
 * a lost pool nothing that follows is written either.
 */
extern int __real_vdev_uberblock_sync_list(vdev_t **, int, uberblock_t *, int);
extern int __wrap_vdev_uberblock_sync_list(vdev_t **, int, uberblock_t *, int);

int
__wrap_vdev_uberblock_sync_list(vdev_t **svd, int svdcount, uberblock_t *ub,
    int flags)
{
	spa_t *spa = svd[0]->vdev_spa;
	int error = __real_vdev_uberblock_sync_list(svd, svdcount, ub, flags);

	return (pool_is_lost(spa) ? 0 : error);
}

/*
 * The intent log. The zio of each of its blocks is made here: zil.c is compiled
 * with zio_root() under this name.
 */
static zio_done_func_t *lwb_real_done;

static void
lwb_done(zio_t *zio)
{
	lwb_t *lwb = zio->io_private;
	spa_t *spa = zio->io_spa;
	pool_flush_t *pf = pool_flush_find(spa);

	if (zio->io_error != 0) {
		uint64_t txg = lwb->lwb_max_txg;

#ifdef	TREE_LWB_ALLOC_TXG
		txg = MAX(MAX(lwb->lwb_alloc_txg, txg), lwb->lwb_issued_txg);
#else
		if (lwb->lwb_tx != NULL)
			txg = MAX(txg, dmu_tx_get_txg(lwb->lwb_tx));
#endif
		if (pf == NULL)
			pf = pool_flush_get(spa);
		pf->pf_log_txg = MAX(pf->pf_log_txg, txg);
	} else if (pf != NULL && pf->pf_log_txg > spa_last_synced_txg(spa)) {
		zio->io_error = SET_ERROR(EIO);
	}
	lwb_real_done(zio);
}

extern zio_t *libzpool_zio_root(spa_t *, zio_done_func_t *, void *,
    zio_flag_t);

zio_t *
libzpool_zio_root(spa_t *spa, zio_done_func_t *done, void *lwb,
    zio_flag_t flags)
{
	ASSERT3P(lwb, !=, NULL);
	ASSERT(lwb_real_done == NULL || lwb_real_done == done);
	lwb_real_done = done;
	return (zio_root(spa, lwb_done, lwb, flags));
}

/*
 * A pool can be suspended while its sync thread waits for a txg, here or when
 * an idle device is found to be faulted. Upstream's then asks without a pause
 * whether it still is: as one of our fibers it would be the last one to run.
 */
extern boolean_t __real_spa_suspended(spa_t *);
extern boolean_t __wrap_spa_suspended(spa_t *);

boolean_t
__wrap_spa_suspended(spa_t *spa)
{
	tx_state_t *tx;

	if (!__real_spa_suspended(spa))
		return (B_FALSE);
	if (spa->spa_dsl_pool != NULL) {
		tx = &spa->spa_dsl_pool->dp_tx;
		if (tx->tx_sync_thread == curthread &&
		    MUTEX_HELD(&tx->tx_sync_lock))
			(void) cv_timedwait(&tx->tx_sync_more_cv,
			    &tx->tx_sync_lock,
			    ddi_get_lbolt() + MAX(hz / 10, 1));
	}
	return (B_TRUE);
}

/*
 * A mirror whose disks were all REMOVED is opened by upstream's, since it
 * cannot be written, and they with it. A disk that is a top-level vdev itself
 * is left to `zpool online`, which a suspended pool refuses.
 */
extern void __real_vdev_clear(spa_t *, vdev_t *);
extern void __wrap_vdev_clear(spa_t *, vdev_t *);

void
pool_clear_devices(spa_t *spa, vdev_t *vd)
{
	vdev_t *rvd = spa->spa_root_vdev;

	for (uint64_t c = 0; c < rvd->vdev_children; c++) {
		vdev_t *tvd = rvd->vdev_child[c];

		if (tvd->vdev_removed && (vd == NULL || vd == rvd || vd == tvd))
			vdev_reopen(tvd);
	}
	__real_vdev_clear(spa, vd);
}

/*
 * `zpool clear` of a lost pool resumes nothing: see pool_go_back().
 */
void
__wrap_vdev_clear(spa_t *spa, vdev_t *vd)
{
	if (pool_is_lost(spa))
		return;
	pool_clear_devices(spa, vd);
	pool_bring_missing(vd == NULL ? spa->spa_root_vdev : vd);
}

extern int __wrap_zio_resume(spa_t *);

int
__wrap_zio_resume(spa_t *spa)
{
	return (pool_is_lost(spa) ? SET_ERROR(EIO) : __real_zio_resume(spa));
}
