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
 * Where the supported releases differ in what this folder calls.
 * ZFS_META_VERSION_NUMBER is 20403 for 2.4.3 (from the build).
 */

#ifndef	_ZOW_COMPAT_H
#define	_ZOW_COMPAT_H

#if ZFS_META_VERSION_NUMBER >= 20400
#define	zow_dmu_read(dn, offset, size, buf) \
	dmu_read_by_dnode(dn, offset, size, buf, DMU_READ_PREFETCH)
#define	zow_dmu_write(dn, offset, size, buf, tx) \
	dmu_write_by_dnode(dn, offset, size, buf, tx, DMU_READ_PREFETCH)
#define	zow_zil_commit(zilog, object)	zil_commit(zilog, object)
#define	ZOW_VDEV_SIZE_OPS \
	.vdev_op_psize_to_asize = vdev_default_asize, \
	.vdev_op_asize_to_psize = vdev_default_psize
#else
#define	zow_dmu_read(dn, offset, size, buf) \
	dmu_read_by_dnode(dn, offset, size, buf, DMU_READ_PREFETCH)
#define	zow_dmu_write(dn, offset, size, buf, tx) \
	(dmu_write_by_dnode(dn, offset, size, buf, tx), 0)
#define	zow_zil_commit(zilog, object)	(zil_commit(zilog, object), 0)
#define	ZOW_VDEV_SIZE_OPS	.vdev_op_asize = vdev_default_asize
#define	spa_namespace_enter(tag)	mutex_enter(&spa_namespace_lock)
#define	spa_namespace_tryenter(tag)	mutex_tryenter(&spa_namespace_lock)
#define	spa_namespace_exit(tag)		mutex_exit(&spa_namespace_lock)
#define	zvol_os_remove_minor		zvol_os_clear_private
#endif

#endif	/* _ZOW_COMPAT_H */
