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
 * A block of dnodes that cannot be read while its dataset is being destroyed.
 *
 * The destruction goes on where it stopped, and visits children before their
 * parent: of the block that it stopped at the children are done. Not so of one
 * that could not be read. Upstream leaves them out all the same, so that what
 * they have is never freed.
 */

#include <sys/zfs_context.h>
#include <sys/dmu_objset.h>
#include <sys/dmu_traverse.h>
#include <sys/dnode.h>

extern int __real_traverse_dataset_destroyed(spa_t *, blkptr_t *, uint64_t,
    zbookmark_phys_t *, int, blkptr_cb_t, void *);
extern int __wrap_traverse_dataset_destroyed(spa_t *, blkptr_t *, uint64_t,
    zbookmark_phys_t *, int, blkptr_cb_t, void *);

/* It goes on at the first object of the block instead of the block itself. */
int
__wrap_traverse_dataset_destroyed(spa_t *spa, blkptr_t *bp, uint64_t txg_start,
    zbookmark_phys_t *resume, int flags, blkptr_cb_t func, void *arg)
{
	int error = __real_traverse_dataset_destroyed(spa, bp, txg_start,
	    resume, flags, func, arg);

	/* What bptree_iterate() takes for an I/O error: a read failed. */
	if ((error == EIO || error == ECKSUM || error == ENXIO) &&
	    (flags & TRAVERSE_POST) != 0 && resume != NULL &&
	    resume->zb_object == DMU_META_DNODE_OBJECT) {
		resume->zb_object =
		    MAX(1, resume->zb_blkid << DNODES_PER_BLOCK_SHIFT);
		resume->zb_blkid = 0;
	}
	return (error);
}
