/* Its kernel half is the POSIX layer, which is not part of the core. */
#ifdef	_KERNEL
#include <sys/zfs_acl.h>
#undef	_KERNEL
#include_next <sys/zfs_znode.h>
#define	_KERNEL
#ifndef	_ZOW_ZFS_ZNODE_H
#define	_ZOW_ZFS_ZNODE_H
#include <sys/zfs_vfsops.h>
#include <sys/zfs_sa.h>
#include <sys/zfs_quota.h>

#define	ZFS_NO_OBJECT	0

/* There is no znode; zfs_fuid.c compiles, and is not asked about any. */
typedef struct znode znode_t;
#define	ZTOZSB(zp)		((void) (zp), (zfsvfs_t *)NULL)
#define	ZTOUID(zp)		((void) (zp), 0)
#define	ZTOGID(zp)		((void) (zp), 0)
#define	KUID_TO_SUID(id)	(id)
#define	KGID_TO_SGID(id)	(id)

extern void zfs_create_fs(objset_t *, cred_t *, nvlist_t *, dmu_tx_t *);
extern int zfs_get_zplprop(objset_t *, zfs_prop_t, uint64_t *);
#endif
#else
#include_next <sys/zfs_znode.h>
#endif
