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
 * The intent log of a pool that was suspended.
 *
 * zil_crash() of upstream's 2.4 gives a log up whose pool was suspended while
 * it was written. It clears the log's address in the dataset's header in
 * memory, and has zil_clean() free the blocks; but nothing writes the header
 * where nothing else is written to the dataset. The pool would then be
 * exported with a log whose first block is free, or somebody else's by now:
 * the next import would write to it, or free it again.
 */

#include <sys/zfs_context.h>
#include <sys/dmu_tx.h>
#include <sys/dsl_dataset.h>
#include <sys/dsl_pool.h>
#include <sys/zil_impl.h>

extern void __real_zil_clean(zilog_t *, uint64_t);
extern void __wrap_zil_clean(zilog_t *, uint64_t);

/* Called when a txg is synced: has the header written by the next one. */
void
__wrap_zil_clean(zilog_t *zilog, uint64_t synced_txg)
{
#if ZFS_META_VERSION_NUMBER >= 20400
	if (zilog->zl_restart_txg > 0) {
		/* The txg in which the blocks are freed. */
		dmu_tx_t *tx = dmu_tx_create_assigned(zilog->zl_dmu_pool,
		    synced_txg + 1);

		dsl_dataset_dirty(dmu_objset_ds(zilog->zl_os), tx);
		dmu_tx_commit(tx);
	}
#endif
	__real_zil_clean(zilog, synced_txg);
}
