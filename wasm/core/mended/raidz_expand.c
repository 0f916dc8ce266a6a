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
 * The last step of a raidz expansion, which makes its space usable, is not
 * part of the transaction that ends it: after a crash between the two upstream
 * never takes it.  Here the next import does.
 */

#include <sys/zfs_context.h>
#include <sys/spa_impl.h>
#include <sys/vdev_impl.h>
#include <sys/vdev_raidz.h>
#include <sys/vdev_raidz_impl.h>

#include "work.h"

#ifdef	TREE_RAIDZ_EXPAND
extern void __real_spa_start_raidz_expansion_thread(spa_t *);
extern void __wrap_spa_start_raidz_expansion_thread(spa_t *);

/*
 * Expanded, and smaller by just the disk that came: not a vdev whose disks
 * have grown since, which is `autoexpand`'s.
 */
static boolean_t
lacks_its_last_disk(vdev_t *vd)
{
	vdev_raidz_t *vdrz = vd->vdev_tsd;
	uint64_t width = vd->vdev_children, wanted;

	if (vd->vdev_ops != &vdev_raidz_ops ||
	    vdrz->vn_vre.vre_state != DSS_FINISHED)
		return (B_FALSE);
	wanted = vd->vdev_max_asize / width * (width - 1);
	return (vd->vdev_asize <= wanted &&
	    wanted - vd->vdev_asize < 1ULL << vd->vdev_ms_shift);
}

/* A disk of such a vdev; 0: there is none. */
static uint64_t
next_disk(spa_t *spa)
{
	vdev_t *rvd = spa->spa_root_vdev;
	uint64_t guid = 0;

	spa_config_enter(spa, SCL_VDEV, FTAG, RW_READER);
	for (uint64_t c = 0; guid == 0 && c < rvd->vdev_children; c++) {
		if (lacks_its_last_disk(rvd->vdev_child[c]))
			guid = rvd->vdev_child[c]->vdev_child[0]->vdev_guid;
	}
	spa_config_exit(spa, SCL_VDEV, FTAG);
	return (guid);
}

static void
expand_finish(void *arg)
{
	char *name = arg;
	uint64_t guid, last = 0;
	spa_t *spa;

	if (spa_open(name, &spa, FTAG) == 0) {
		while ((guid = next_disk(spa)) != 0 && guid != last) {
			(void) vdev_online(spa, guid, ZFS_ONLINE_EXPAND, NULL);
			last = guid;
		}
		spa_close(spa, FTAG);
	}
	kmem_strfree(name);
}

/* At the end of a writable import. */
void
__wrap_spa_start_raidz_expansion_thread(spa_t *spa)
{
	boolean_t lacks = B_FALSE;
	char *name;

	__real_spa_start_raidz_expansion_thread(spa);
	for (uint64_t c = 0; c < spa->spa_root_vdev->vdev_children; c++)
		lacks |= lacks_its_last_disk(spa->spa_root_vdev->vdev_child[c]);
	if (!lacks)
		return;
	name = kmem_strdup(spa_name(spa));
	if (zow_work_for(WORK_CLOSE, name, "raidz_expand", expand_finish,
	    name) != 0)
		kmem_strfree(name);
}
#endif	/* TREE_RAIDZ_EXPAND */
