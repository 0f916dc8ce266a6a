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
 * Where the supported releases differ in what this folder calls: by what is so
 * in the release's sources (TREE_*: zfs-src/facts.ts, included in every file).
 */

#ifndef	_ZOW_COMPAT_H
#define	_ZOW_COMPAT_H

#define	zow_dmu_read(dn, offset, size, buf) \
	dmu_read_by_dnode(dn, offset, size, buf, DMU_READ_PREFETCH)

#ifndef	TREE_DMU_TX_WAIT
#define	DMU_TX_WAIT	TXG_WAIT
#endif

#ifdef	TREE_DMU_WRITE_FLAGS
#define	zow_dmu_write(dn, offset, size, buf, tx) \
	dmu_write_by_dnode(dn, offset, size, buf, tx, DMU_READ_PREFETCH)
#else
#define	zow_dmu_write(dn, offset, size, buf, tx) \
	(dmu_write_by_dnode(dn, offset, size, buf, tx), 0)
#endif

#ifdef	TREE_ZIL_COMMIT_INT
#define	zow_zil_commit(zilog, object)	zil_commit(zilog, object)
#else
#define	zow_zil_commit(zilog, object)	(zil_commit(zilog, object), 0)
#endif

#ifdef	TREE_VDEV_PSIZE_TO_ASIZE
#define	ZOW_VDEV_SIZE_OPS \
	.vdev_op_psize_to_asize = vdev_default_asize, \
	.vdev_op_asize_to_psize = vdev_default_psize
#else
#define	ZOW_VDEV_SIZE_OPS	.vdev_op_asize = vdev_default_asize
#endif

#ifdef	TREE_VDEV_OPEN_CRED
#define	ZOW_WITH_CRED(last)	last, cred_t *cr
#else
#define	ZOW_WITH_CRED(last)	last
#endif

#ifndef	TREE_ZFS_RANGE_TREE
#define	zfs_range_tree_t		range_tree_t
#define	zfs_range_tree_add		range_tree_add
#define	zfs_range_tree_clear		range_tree_clear
#define	zfs_range_tree_contains		range_tree_contains
#define	zfs_range_tree_is_empty		range_tree_is_empty
#define	zfs_range_tree_min		range_tree_min
#endif

#ifndef	TREE_ZIO_FLAG_T
typedef enum zio_flag zio_flag_t;
#endif

#ifdef	TREE_POST_REMOVE_BY_KERNEL
#define	zow_post_remove(spa, vd)	zfs_post_remove(spa, vd, B_TRUE)
#else
#define	zow_post_remove(spa, vd)	zfs_post_remove(spa, vd)
#endif

#ifndef	TREE_ZIO_FLUSH
#define	ZIO_TYPE_FLUSH	ZIO_TYPE_IOCTL	/* there is no other */
#endif

#ifdef	TREE_DBUF_BY_DNODE
#define	zow_hold_noread(zv, offset, tag, bufp) \
	dmu_buf_hold_noread_by_dnode((zv)->zv_dn, offset, tag, bufp)
#else
#define	zow_hold_noread(zv, offset, tag, bufp) \
	dmu_buf_hold_noread((zv)->zv_objset, ZVOL_OBJ, offset, tag, bufp)
#endif

#ifdef	TREE_ZIL_SUMS
#define	zow_zil_open(os, get_data, kstat) \
	zil_open(os, get_data, &(kstat)->dk_zil_sums)
#else
#define	zow_zil_open(os, get_data, kstat)	zil_open(os, get_data)
#endif

#ifdef	TREE_ZIL_REPLAY_BOOLEAN
#define	zow_zil_destroy(zilog)	zil_destroy(zilog, B_FALSE)
#define	zow_zil_replay(os, arg, vector)	zil_replay(os, arg, vector)
#else
/* A log that was open without need is closed like any other. */
#define	zow_zil_destroy(zilog)	(zil_destroy(zilog, B_FALSE), B_TRUE)
#define	zow_zil_replay(os, arg, vector)	(zil_replay(os, arg, vector), B_TRUE)
#endif

#ifdef	TREE_ZIL_MAX_LOG_DATA_HEADER
#define	zow_zil_max_write(zilog) \
	zil_max_log_data(zilog, sizeof (lr_write_t))
#else
#define	zow_zil_max_write(zilog)	zil_max_log_data(zilog)
#endif

#ifndef	TREE_ZAP_ATTRIBUTE_ALLOC
#define	zap_attribute_alloc()	kmem_alloc(sizeof (zap_attribute_t), KM_SLEEP)
#define	zap_attribute_free(za)	kmem_free(za, sizeof (zap_attribute_t))
#endif

#ifdef	TREE_DATASET_KSTATS_INT
#define	zow_kstats_create(dk, os)	dataset_kstats_create(dk, os)
#else
#define	zow_kstats_create(dk, os)	(dataset_kstats_create(dk, os), 0)
#define	dataset_kstats_rename(dk, name)	((void)0)
#endif

#ifdef	TREE_ZVOL_LOG_TRUNCATE_SYNC
#define	zow_log_truncate(zv, tx, offset, length) \
	zvol_log_truncate(zv, tx, offset, length, B_FALSE)
#else
#define	zow_log_truncate(zv, tx, offset, length) \
	zvol_log_truncate(zv, tx, offset, length)
#endif

#ifdef	TREE_ZVOL_REMOVING
#define	zow_is_removing(zv)	(((zv)->zv_flags & ZVOL_REMOVING) != 0)
#define	zow_removing_cv(zv)	(&(zv)->zv_removing_cv)
#else
/* A minor in use is not removed. */
#define	zow_is_removing(zv)	((void) (zv), B_FALSE)
#define	zow_removing_cv(zv)	(&(zv)->zv_zso->zso_removing_cv)
#endif

#ifndef	ASSERT0P
#define	ASSERT0P(x)	ASSERT3P(x, ==, NULL)
#endif

#ifdef	TREE_ZVOL_OPS
/* older.c registers them. */
struct zvol_state;
extern void zvol_os_free(struct zvol_state *);
extern void zvol_os_rename_minor(struct zvol_state *, const char *);
extern int zvol_os_create_minor(const char *);
extern int zvol_os_update_volsize(struct zvol_state *, uint64_t);
extern boolean_t zvol_os_is_zvol(const char *);
extern void zvol_os_clear_private(struct zvol_state *);
extern void zvol_os_set_disk_ro(struct zvol_state *, int);
extern void zvol_os_set_capacity(struct zvol_state *, uint64_t);
extern void zow_zvol_register(void);
#else
#define	zow_zvol_register()	((void)0)
#endif

#ifndef	TREE_ZFSDEV_STATE_INIT
extern int zfsdev_state_init(void *);
extern void zfsdev_state_destroy(void *);
#endif

#ifndef	TREE_SPA_NAMESPACE_ENTER
#define	spa_namespace_enter(tag)	mutex_enter(&spa_namespace_lock)
#define	spa_namespace_tryenter(tag)	mutex_tryenter(&spa_namespace_lock)
#define	spa_namespace_exit(tag)		mutex_exit(&spa_namespace_lock)
#define	spa_namespace_held()		MUTEX_HELD(&spa_namespace_lock)
#endif

#ifndef	TREE_ZVOL_REMOVE_MINOR
#define	zvol_os_remove_minor		zvol_os_clear_private
#endif

#endif	/* _ZOW_COMPAT_H */
