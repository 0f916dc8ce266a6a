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
 * Writes that one disk of several refuses.
 *
 * The write as a whole has succeeded, so nobody tries it again: the disk lacks
 * the block. Upstream records that for every error but EIO, the one that disks
 * give, which vdev_stat_update() takes for one that is about to be retried. No
 * resilver brings such a block, the disk counts as having it when another
 * one's flush fails or is taken away, and only a scrub finds it.
 */

#include <sys/zfs_context.h>
#include <sys/dsl_scan.h>
#include <sys/spa_impl.h>
#include <sys/vdev_impl.h>
#include <sys/zio.h>

#include "flush.h"

extern void __real_vdev_stat_update(zio_t *, uint64_t);
extern void __wrap_vdev_stat_update(zio_t *, uint64_t);

/*
 * Where the write as a whole is retried after all, because all disks refused
 * it, what is recorded is resilvered without need. A disk alone has no other to
 * bring it from.
 */
void
__wrap_vdev_stat_update(zio_t *zio, uint64_t psize)
{
	vdev_t *vd = zio->io_vd;
	zio_flag_t flags = zio->io_flags;

	if (zio->io_type == ZIO_TYPE_WRITE && zio->io_error == EIO &&
	    vd != NULL && vd->vdev_ops->vdev_op_leaf && vd != vd->vdev_top)
		zio->io_flags |= ZIO_FLAG_IO_RETRY;
	__real_vdev_stat_update(zio, psize);
	zio->io_flags = flags;
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
