/*
 * Until 2.4, this header and not sys/mod.h has what tunables are in user
 * space. It comes after our sys/mod.h, whose definitions count.
 */
#ifdef	_KERNEL
#include <sys/mod.h>
#undef	ZFS_MODULE_PARAM_ARGS
#undef	ZFS_MODULE_PARAM_CALL
#define	zfs_kernel_param_t	libzpool_zfs_kernel_param_t
#endif

#include_next <sys/zfs_context.h>

#ifdef	_KERNEL
#undef	zfs_kernel_param_t
#undef	ZFS_MODULE_PARAM_ARGS
#define	ZFS_MODULE_PARAM_ARGS	const char *buf, zfs_kernel_param_t *kp
#undef	ZFS_MODULE_PARAM_CALL
#define	ZFS_MODULE_PARAM_CALL(scope_prefix, name_prefix, name, setfunc, \
	getfunc, perm, desc)
#define	ZFS_MODULE_VIRTUAL_PARAM_CALL(scope_prefix, name_prefix, name, \
	setfunc, getfunc, perm, desc)

#define	mutex_owned(lock)	MUTEX_HELD(lock)
#endif
