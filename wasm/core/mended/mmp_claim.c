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
 * The claim of a pool with multihost=on at its import: an uberblock written to
 * all disks, for other hosts to see.  Upstream (2.3.8, 2.4.3) wants two good
 * writes to every mirror, so that a host that sees one side and a host that
 * sees the other do not both claim it; a mirror that has lost a disk can then
 * be imported nowhere any more.  As in 2.4.4, a disk that the pool's own
 * labels call offline, faulted or removed is not wanted: all hosts read that.
 * A disk that is only missing stays wanted, unless the administrator has said
 * that no other host uses the pool (zow_multihost_reclaim; upstream: zhack mmp
 * reclaim).
 */

#include <sys/zfs_context.h>
#include <sys/abd.h>
#include <sys/mmp.h>
#include <sys/spa_impl.h>
#include <sys/uberblock_impl.h>
#include <sys/vdev_impl.h>
#include <sys/zio.h>

extern int __wrap_mmp_claim_uberblock(spa_t *, vdev_t *, uberblock_t *);

static int zow_multihost_reclaim = 0;

typedef struct claim {
	uberblock_t	*c_uberblock;
	uint64_t	c_wanted;
	uint64_t	c_good;
} claim_t;

static void
claim_written(zio_t *zio)
{
	claim_t *c = zio->io_private;

	if (zio->io_error == 0 && zio->io_vd->vdev_top->vdev_ms_array != 0)
		c->c_good++;
}

static boolean_t
is_wanted(vdev_t *vd)
{
	if (vd->vdev_offline || vd->vdev_faulted || vd->vdev_removed)
		return (B_FALSE);
	return (!zow_multihost_reclaim || vdev_writeable(vd));
}

/* How many writes to a top-level vdev every other host would see. */
static uint64_t
writes_wanted(vdev_t *top)
{
	uint64_t parity = vdev_get_nparity(top), wanted = 0;

	if (top->vdev_ops == &vdev_indirect_ops || top->vdev_ishole)
		return (0);
	if (top->vdev_ops->vdev_op_leaf)
		return (1);
	for (uint64_t c = 0; c < top->vdev_children; c++)
		wanted += is_wanted(top->vdev_child[c]) ? 1 : 0;
	if (parity == 0)
		return (MIN(MAX(wanted, 1), 2));
	/* Any two sets that can serve the pool have a disk in common. */
	return (zow_multihost_reclaim ? MAX(MIN(wanted, parity + 1), 1) :
	    parity + 1);
}

static void
claim_write(claim_t *c, zio_t *zio, vdev_t *vd, int flags)
{
	abd_t *abd;

	for (uint64_t i = 0; i < vd->vdev_children; i++) {
		vdev_t *child = vd->vdev_child[i];

		if (child->vdev_islog || child->vdev_isspare ||
		    child->vdev_isl2cache)
			continue;
		if (child->vdev_top == child)
			c->c_wanted += writes_wanted(child);
		claim_write(c, zio, child, flags);
	}
	if (!vd->vdev_ops->vdev_op_leaf || !vdev_writeable(vd) ||
	    vd->vdev_ops == &vdev_draid_spare_ops)
		return;
	abd = abd_alloc_for_io(VDEV_UBERBLOCK_SIZE(vd), B_TRUE);
	abd_zero(abd, VDEV_UBERBLOCK_SIZE(vd));
	abd_copy_from_buf(abd, c->c_uberblock, sizeof (uberblock_t));
	vdev_label_write(zio, vd, 0, abd, VDEV_UBERBLOCK_OFFSET(vd,
	    VDEV_UBERBLOCK_COUNT(vd) - MMP_BLOCKS_PER_LABEL),
	    VDEV_UBERBLOCK_SIZE(vd), claim_written, c,
	    flags | ZIO_FLAG_DONT_PROPAGATE);
	abd_free(abd);
}

int
__wrap_mmp_claim_uberblock(spa_t *spa, vdev_t *rvd, uberblock_t *ub)
{
	claim_t c = { .c_uberblock = ub };
	int flags = ZIO_FLAG_CONFIG_WRITER | ZIO_FLAG_CANFAIL;
	zio_t *zio;

	spa_config_enter(spa, SCL_ALL, FTAG, RW_WRITER);
	zio = zio_root(spa, NULL, NULL, flags);
	claim_write(&c, zio, rvd, flags);
	(void) zio_wait(zio);
	zio = zio_root(spa, NULL, NULL, flags);
	zio_flush(zio, rvd);
	(void) zio_wait(zio);
	spa_config_exit(spa, SCL_ALL, FTAG);
	if (c.c_wanted != 0 && c.c_good >= c.c_wanted)
		return (0);
	cmn_err(CE_WARN, "multihost: pool '%s' cannot be claimed: %llu of the "
	    "%llu writes wanted, which other hosts would see, were made",
	    spa_name(spa), (u_longlong_t)c.c_good,
	    (u_longlong_t)c.c_wanted);
	return (SET_ERROR(EIO));
}

ZFS_MODULE_PARAM(zow, zow_, multihost_reclaim, INT, ZMOD_RW,
	"Import multihost pools without the disks that are missing here");
