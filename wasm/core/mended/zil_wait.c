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
 * The intent log of a pool that is suspended waits until it is resumed.
 *
 * Upstream's 2.4 gives the log up instead (zil_crash()), so that zil_commit()
 * can fail. It frees records and blocks of the log that other threads are in
 * the middle of: who fills a block and waits for data, for a txg or for space
 * goes on with memory that is somebody else's, and takes the head of a list for
 * a block; and where nothing else is written to the dataset its header goes on
 * pointing at blocks that are free. Here no log is given up, as in 2.3, and
 * with failmode=continue the clients of volumes are told at once that what
 * they wait for has failed (zvol_os.c).
 */

#include <sys/zfs_context.h>
#include <sys/dsl_pool.h>
#include <sys/spa.h>
#include <sys/txg.h>

#include "flush.h"

#ifdef	TREE_TXG_WAIT_FLAGS
/* What zil.c is compiled with: no suspension ends the wait. */
extern int libzpool_txg_wait_synced_flags(dsl_pool_t *, uint64_t,
    txg_wait_flag_t);

int
libzpool_txg_wait_synced_flags(dsl_pool_t *dp, uint64_t txg,
    txg_wait_flag_t flags)
{
	ASSERT0(flags & ~TXG_WAIT_SUSPEND);
	txg_wait_synced(dp, txg);
	return (0);
}

/* Called when a pool is suspended. */
extern void __real_txg_wait_kick(dsl_pool_t *);
extern void __wrap_txg_wait_kick(dsl_pool_t *);

void
__wrap_txg_wait_kick(dsl_pool_t *dp)
{
	__real_txg_wait_kick(dp);
	if (spa_get_failmode(dp->dp_spa) == ZIO_FAILURE_MODE_CONTINUE)
		zvol_fail_commits(dp->dp_spa);
}
#endif
