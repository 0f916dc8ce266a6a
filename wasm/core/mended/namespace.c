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
 * Nobody waits for a pool with the namespace of all pools.
 *
 * Upstream changes the devices of a pool, its configuration, its guid, and
 * creates and exports it, with spa_namespace_lock held until the txg is synced
 * that has the change. When the pool is suspended meanwhile, or a disk hangs,
 * whatever looks for a pool waits, of any pool, and so does the `zpool clear`
 * that would end it. Who comes while a txg is synced waits in the same way for
 * SCL_CONFIG, which the sync holds; and who merely looks at the pool waits
 * behind a writer that waits, again with the namespace.
 *
 * Here the namespace is given back while it takes long. No other change of the
 * devices comes between, for spa_vdev_top_lock stays held, and the pool stays,
 * for it is referenced. One that is being exported is not found meanwhile, as
 * upstream has it in the rest of an export.
 */

#include <sys/zfs_context.h>
#include <sys/dsl_pool.h>
#include <sys/spa.h>
#include <sys/spa_impl.h>
#include <sys/txg.h>
#include <sys/vdev_impl.h>
#include <sys/vdev_initialize.h>
#include <sys/vdev_rebuild.h>
#include <sys/vdev_trim.h>

#include "compat.h"

/* How long others wait for one pool before it is left to itself. */
#define	PATIENCE_NS	SEC2NSEC(1)
#define	POLL_TICKS	MAX(hz / 100, 1)
#define	ASIDE_TICKS	MAX(hz / 10, 1)

/* Gives the namespace back. The pool stays. */
static int64_t
namespace_leave(spa_t *spa)
{
	int64_t refs;

	spa_open_ref(spa, FTAG);
	refs = zfs_refcount_count(&spa->spa_refcount);
	spa_namespace_exit(FTAG);
	return (refs);
}

/*
 * Who creates a pool counts its references afterwards: those are what it has
 * when nobody uses it. So who came meanwhile, for `zpool clear`, has to go.
 */
static void
namespace_return(spa_t *spa, int64_t refs)
{
	spa_namespace_enter(FTAG);
	while (spa->spa_load_state == SPA_LOAD_CREATE &&
	    zfs_refcount_count(&spa->spa_refcount) > refs) {
		spa_namespace_exit(FTAG);
		delay(POLL_TICKS);
		spa_namespace_enter(FTAG);
	}
	spa_close(spa, FTAG);
}

/* Whether the txg is synced soon; it is asked for. 0: what is open now. */
static boolean_t
txg_is_soon_synced(dsl_pool_t *dp, uint64_t *txg)
{
	tx_state_t *tx = &dp->dp_tx;
	hrtime_t until = gethrtime() + PATIENCE_NS;
	boolean_t synced;

	mutex_enter(&tx->tx_sync_lock);
	ASSERT3U(tx->tx_threads, ==, 2);
	if (*txg == 0)
		*txg = tx->tx_open_txg + TXG_DEFER_SIZE;
	tx->tx_sync_txg_waiting = MAX(tx->tx_sync_txg_waiting, *txg);
	while (tx->tx_synced_txg < *txg && !spa_suspended(dp->dp_spa) &&
	    gethrtime() < until) {
		cv_broadcast(&tx->tx_sync_more_cv);
		(void) cv_timedwait(&tx->tx_sync_done_cv, &tx->tx_sync_lock,
		    ddi_get_lbolt() + ASIDE_TICKS);
	}
	synced = tx->tx_synced_txg >= *txg;
	mutex_exit(&tx->tx_sync_lock);
	return (synced);
}

/*
 * What those files are compiled with that wait for a txg with the namespace and
 * no lock that is taken after it (zfs-src/units.ts).
 */
extern void libzpool_txg_wait_synced(dsl_pool_t *, uint64_t);

void
libzpool_txg_wait_synced(dsl_pool_t *dp, uint64_t txg)
{
	spa_t *spa = dp->dp_spa;

	if (spa_namespace_held() && !txg_is_soon_synced(dp, &txg)) {
		int64_t refs = namespace_leave(spa);

		txg_wait_synced(dp, txg);
		namespace_return(spa, refs);
	} else {
		txg_wait_synced(dp, txg);
	}
}

/* Lets others have their turn, until the pool may have gone on. */
static void
step_aside(spa_t *spa)
{
	if (spa_namespace_held()) {
		int64_t refs = namespace_leave(spa);

		delay(ASIDE_TICKS);
		namespace_return(spa, refs);
	} else {
		delay(ASIDE_TICKS);
	}
}

/*
 * SCL_CONFIG as a writer. Readers wait for one that waits; not here, while the
 * pool is suspended, or any longer than it is polite.
 */
static void
config_enter_writer(spa_t *spa, const void *tag)
{
	spa_config_lock_t *scl = &spa->spa_config_lock[0];
	hrtime_t until = gethrtime() + PATIENCE_NS;

	_Static_assert(SCL_CONFIG == 1, "it is the first of them");
	while (!spa_config_tryenter(spa, SCL_CONFIG, tag, RW_WRITER)) {
		if (spa_suspended(spa) || gethrtime() > until) {
			mutex_enter(&scl->scl_lock);
			cv_broadcast(&scl->scl_cv);
			mutex_exit(&scl->scl_lock);
			step_aside(spa);
			until = gethrtime() + PATIENCE_NS / 10;
			continue;
		}
		mutex_enter(&scl->scl_lock);
		scl->scl_write_wanted++;
		(void) cv_timedwait(&scl->scl_cv, &scl->scl_lock,
		    ddi_get_lbolt() + POLL_TICKS);
		scl->scl_write_wanted--;
		mutex_exit(&scl->scl_lock);
	}
}

extern void __real_spa_config_enter(spa_t *, int, const void *, krw_t);
extern void __wrap_spa_config_enter(spa_t *, int, const void *, krw_t);

void
__wrap_spa_config_enter(spa_t *spa, int locks, const void *tag, krw_t rw)
{
	if (rw == RW_WRITER && (locks & SCL_CONFIG) != 0) {
		config_enter_writer(spa, tag);
		locks &= ~SCL_CONFIG;
	}
	if (locks != 0)
		__real_spa_config_enter(spa, locks, tag, rw);
}

extern uint64_t __wrap_spa_vdev_config_enter(spa_t *);

uint64_t
__wrap_spa_vdev_config_enter(spa_t *spa)
{
	ASSERT(spa_namespace_held());
	spa_config_enter(spa, SCL_ALL, spa, RW_WRITER);
	return (spa_last_synced_txg(spa) + 1);
}

/*
 * `zpool initialize` and `zpool trim` that stop what works on devices wait for
 * its end, which waits for a txg.
 */
typedef boolean_t (*works_t)(const vdev_t *);

static boolean_t
initializes(const vdev_t *vd)
{
	return (vd->vdev_initialize_thread != NULL);
}

static boolean_t
trims(const vdev_t *vd)
{
	return (vd->vdev_trim_thread != NULL);
}

/* Which of the devices are left, in the list again; whether one works. */
static boolean_t
devices_find(spa_t *spa, const uint64_t *guids, uint64_t count, list_t *vds,
    works_t works)
{
	boolean_t any = B_FALSE;

	while (list_remove_head(vds) != NULL)
		continue;
	for (uint64_t i = 0; i < count; i++) {
		vdev_t *vd = spa_lookup_by_guid(spa, guids[i], B_TRUE);

		if (vd == NULL)
			continue;
		any |= works(vd);
		list_insert_tail(vds, vd);
	}
	return (any);
}

static void
devices_wait(spa_t *spa, list_t *vds, works_t works)
{
	uint64_t count = 0, *guids;
	vdev_t *vd;

	for (vd = list_head(vds); vd != NULL; vd = list_next(vds, vd))
		count++;
	if (count == 0)
		return;
	guids = kmem_alloc(count * sizeof (uint64_t), KM_SLEEP);
	for (uint64_t i = 0; i < count; i++) {
		vd = list_remove_head(vds);
		guids[i] = vd->vdev_guid;
	}
	/* One may be detached meanwhile. */
	while (devices_find(spa, guids, count, vds, works))
		step_aside(spa);
	kmem_free(guids, count * sizeof (uint64_t));
}

extern void libzpool_vdev_initialize_stop_wait(spa_t *, list_t *);
extern void libzpool_vdev_trim_stop_wait(spa_t *, list_t *);

void
libzpool_vdev_initialize_stop_wait(spa_t *spa, list_t *vds)
{
	devices_wait(spa, vds, initializes);
	vdev_initialize_stop_wait(spa, vds);
}

void
libzpool_vdev_trim_stop_wait(spa_t *spa, list_t *vds)
{
	devices_wait(spa, vds, trims);
	vdev_trim_stop_wait(spa, vds);
}

/* As vdev_rebuild_stop_wait(), without the namespace. */
static void
rebuild_stop(vdev_t *tvd)
{
	mutex_enter(&tvd->vdev_rebuild_lock);
	if (tvd->vdev_top_zap != 0 && tvd->vdev_rebuild_thread != NULL) {
		tvd->vdev_rebuild_exit_wanted = B_TRUE;
		while (tvd->vdev_rebuilding)
			cv_wait(&tvd->vdev_rebuild_cv, &tvd->vdev_rebuild_lock);
		tvd->vdev_rebuild_exit_wanted = B_FALSE;
	}
	mutex_exit(&tvd->vdev_rebuild_lock);
}

/*
 * What works on the devices ends after its txg, too. Once more with the
 * namespace: it may have begun again.
 */
extern uint64_t __wrap_spa_vdev_detach_enter(spa_t *, uint64_t);

uint64_t
__wrap_spa_vdev_detach_enter(spa_t *spa, uint64_t guid)
{
	vdev_t *vd;

	mutex_enter(&spa->spa_vdev_top_lock);
	vdev_autotrim_stop_all(spa);
	if (guid != 0 && (vd = spa_lookup_by_guid(spa, guid, B_FALSE)) != NULL)
		rebuild_stop(vd->vdev_top);
	spa_namespace_enter(FTAG);
	vdev_autotrim_stop_all(spa);
	if (guid != 0 && (vd = spa_lookup_by_guid(spa, guid, B_FALSE)) != NULL)
		vdev_rebuild_stop_wait(vd->vdev_top);
	return (spa_vdev_config_enter(spa));
}

extern uint64_t __wrap_spa_vdev_enter(spa_t *);

uint64_t
__wrap_spa_vdev_enter(spa_t *spa)
{
	return (__wrap_spa_vdev_detach_enter(spa, 0));
}
