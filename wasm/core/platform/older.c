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
 * What older releases leave to the platform, and newer ones have in their
 * common code: empty for those.
 */

#include <sys/zfs_context.h>
#include <sys/dmu_objset.h>
#include <sys/zap.h>
#include <sys/zfs_ioctl.h>
#include <sys/zfs_vfsops.h>
#include <sys/zfs_ioctl_impl.h>
#include <sys/zfs_onexit.h>
#include <sys/zfs_znode.h>
#include <sys/fm/util.h>
#include <sys/zvol.h>
#include <sys/zfs_rlock.h>
#include <sys/dataset_kstats.h>
#include <sys/zvol_impl.h>

#include "compat.h"

#ifndef	TREE_ZFSDEV_STATE_INIT
extern void zfsdev_private_set_state(void *, zfsdev_state_t *);
extern zfsdev_state_t *zfsdev_private_get_state(void *);

/*
 * The state of one more open of /dev/zfs, with a minor number of its own. The
 * first of the list is never given away: it has minor 0.
 */
int
zfsdev_state_init(void *priv)
{
	minor_t minor = zfsdev_minor_alloc();
	zfsdev_state_t *zs, *last = NULL;

	ASSERT(MUTEX_HELD(&zfsdev_state_lock));
	if (minor == 0)
		return (SET_ERROR(ENXIO));
	for (zs = zfsdev_state_list; zs != NULL; last = zs, zs = zs->zs_next) {
		if (zs->zs_minor == -1)
			break;
	}
	if (zs == NULL) {
		zs = kmem_zalloc(sizeof (*zs), KM_SLEEP);
		zs->zs_minor = -1;
		last->zs_next = zs;
	}
	zfs_onexit_init((zfs_onexit_t **)&zs->zs_onexit);
	zfs_zevent_init((zfs_zevent_t **)&zs->zs_zevent);
	zfsdev_private_set_state(priv, zs);
	zs->zs_minor = minor;
	return (0);
}

/* Its end; the minor number is free when nothing refers to it any more. */
void
zfsdev_state_destroy(void *priv)
{
	zfsdev_state_t *zs = zfsdev_private_get_state(priv);

	zfs_onexit_destroy(zs->zs_onexit);
	zfs_zevent_destroy(zs->zs_zevent);
	zs->zs_onexit = NULL;
	zs->zs_zevent = NULL;
	zs->zs_minor = -1;
}
#endif	/* TREE_ZFSDEV_STATE_INIT */

#ifndef	TREE_ZPLPROP
/* What an object set keeps of a property; NULL of most. */
static uint64_t *
cached_zplprop(objset_t *os, zfs_prop_t prop)
{
	switch (prop) {
	case ZFS_PROP_VERSION:
		return (&os->os_version);
	case ZFS_PROP_NORMALIZE:
		return (&os->os_normalization);
	case ZFS_PROP_UTF8ONLY:
		return (&os->os_utf8only);
	case ZFS_PROP_CASE:
		return (&os->os_casesensitivity);
	default:
		return (NULL);
	}
}

/*
 * A property that a filesystem's master node has, or what it is without;
 * ENOENT when it is nothing then.
 */
int
zfs_get_zplprop(objset_t *os, zfs_prop_t prop, uint64_t *value)
{
	uint64_t *cached = os == NULL ? NULL : cached_zplprop(os, prop);
	const char *name = prop == ZFS_PROP_VERSION ? ZPL_VERSION_STR :
	    zfs_prop_to_name(prop);
	int error = ENOENT;

	if (cached != NULL && *cached != OBJSET_PROP_UNINITIALIZED) {
		*value = *cached;
		return (0);
	}
	if (os != NULL)
		error = zap_lookup(os, MASTER_NODE_OBJ, name, 8, 1, value);
	if (error == ENOENT) {
		error = 0;
		if (prop == ZFS_PROP_VERSION)
			*value = ZPL_VERSION;
		else if (prop == ZFS_PROP_NORMALIZE ||
		    prop == ZFS_PROP_UTF8ONLY)
			*value = 0;
		else if (prop == ZFS_PROP_CASE)
			*value = ZFS_CASE_SENSITIVE;
		else if (prop == ZFS_PROP_ACLTYPE)
			*value = ZFS_ACLTYPE_OFF;
		else
			error = ENOENT;
	}
	if (error == 0 && cached != NULL)
		*cached = *value;
	return (error);
}
#endif	/* TREE_ZPLPROP */

#ifdef	TREE_ZVOL_OPS
static const zvol_platform_ops_t zow_zvol_ops = {
	.zv_free = zvol_os_free,
	.zv_rename_minor = zvol_os_rename_minor,
	.zv_create_minor = zvol_os_create_minor,
	.zv_update_volsize = zvol_os_update_volsize,
	.zv_is_zvol = zvol_os_is_zvol,
	.zv_clear_private = zvol_os_clear_private,
	.zv_set_disk_ro = zvol_os_set_disk_ro,
	.zv_set_capacity = zvol_os_set_capacity,
};

/* Called by zvol_init(). */
void
zow_zvol_register(void)
{
	zvol_register_ops(&zow_zvol_ops);
}
#endif
