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
 * Blocks that one disk of several lacks, and that upstream does not know of.
 *
 * Those of a write that it refused: the write as a whole has succeeded, so
 * nobody tries it again. Upstream records every error but EIO, the one that
 * disks give, which vdev_stat_update() takes for one that is about to be
 * retried.
 *
 * And those that a resilver could not read, because another disk did not answer
 * for a moment: at its end upstream takes the disk for whole.
 *
 * No resilver brings such a block, the disk counts as having it when another
 * one's flush fails or is taken away, and only a scrub finds it.
 */

#include <sys/zfs_context.h>
#include <sys/dsl_scan.h>
#include <sys/spa_impl.h>
#include <sys/vdev_impl.h>
#include <sys/zio.h>

#include "compat.h"
#include "flush.h"

extern void __real_vdev_stat_update(zio_t *, uint64_t);
extern void __wrap_vdev_stat_update(zio_t *, uint64_t);

/*
 * Where the write as a whole is retried after all, because all disks refused
 * it, what is recorded is resilvered without need. A disk alone has no other to
 * bring it from.
 */
static void
stat_refused_write(zio_t *zio, uint64_t psize)
{
	zio_flag_t flags = zio->io_flags;

	zio->io_flags |= ZIO_FLAG_IO_RETRY;
	__real_vdev_stat_update(zio, psize);
	zio->io_flags = flags;
}

/* Of what the disk lacks, that of `txg`; with `all`, what is older, too. */
static void
leaf_lacks(vdev_t *vd, uint64_t txg, boolean_t all)
{
	zfs_range_tree_t *missing = vd->vdev_dtl[DTL_MISSING];
	zfs_range_tree_t *scrubbed = vd->vdev_dtl[DTL_SCRUB];
	uint64_t first = txg;

	mutex_enter(&vd->vdev_dtl_lock);
	if (all && !zfs_range_tree_is_empty(missing))
		first = zfs_range_tree_min(missing);
	if (first <= txg && (first < txg ||
	    zfs_range_tree_contains(missing, txg, 1))) {
		zfs_range_tree_clear(scrubbed, first, txg - first + 1);
		zfs_range_tree_add(scrubbed, first, txg - first + 1);
	}
	mutex_exit(&vd->vdev_dtl_lock);
}

/*
 * What is of `txg` stays missing when this scan is over; with `all`, so does
 * all that is older. A device that is replaced or spared would stay for ever
 * where one block is lost for good: there it is as it is upstream.
 */
static void
vdev_lacks(vdev_t *vd, uint64_t txg, boolean_t all)
{
	const vdev_ops_t *ops = vd->vdev_ops;

	if (ops == &vdev_replacing_ops || ops == &vdev_spare_ops)
		return;
	for (uint64_t c = 0; c < vd->vdev_children; c++)
		vdev_lacks(vd->vdev_child[c], txg, all);
	if (ops->vdev_op_leaf && vd != vd->vdev_top)
		leaf_lacks(vd, txg, all);
}

/*
 * A scan could not read a block. Of one that has others below it none of those
 * was visited.
 */
static void
scan_lacks(zio_t *zio)
{
	const blkptr_t *bp = zio->io_bp;
	vdev_t *rvd = zio->io_spa->spa_root_vdev;
	boolean_t all = BP_GET_LEVEL(bp) > 0 ||
	    BP_GET_TYPE(bp) == DMU_OT_DNODE || BP_GET_TYPE(bp) == DMU_OT_OBJSET;

	vdev_lacks(rvd, zio->io_txg, all);
}

void
__wrap_vdev_stat_update(zio_t *zio, uint64_t psize)
{
	vdev_t *vd = zio->io_vd;

	if (zio->io_type == ZIO_TYPE_WRITE && zio->io_error == EIO &&
	    vd != NULL && vd->vdev_ops->vdev_op_leaf && vd != vd->vdev_top) {
		stat_refused_write(zio, psize);
		return;
	}
	if (zio->io_type == ZIO_TYPE_READ && zio->io_error != 0 && vd == NULL &&
	    zio->io_bp != NULL && (zio->io_flags & ZIO_FLAG_SCAN_THREAD))
		scan_lacks(zio);
	__real_vdev_stat_update(zio, psize);
}

/*
 * `zpool clear` says that the disks are well again: what they lack is brought.
 * Upstream resilvers those that it opens anew.
 */
void
pool_bring_missing(vdev_t *vd)
{
	for (uint64_t c = 0; c < vd->vdev_children; c++)
		pool_bring_missing(vd->vdev_child[c]);
	if (vd->vdev_ops->vdev_op_leaf && vd != vd->vdev_top)
		dsl_scan_assess_vdev(vd->vdev_spa->spa_dsl_pool, vd);
}
