/*
 * Until 2.4, this header and not sys/mod.h has what tunables are in user
 * space. It comes after our sys/mod.h, whose definitions count.
 */
#ifdef	ZOW_CORE
#include <sys/mod.h>
#undef	ZFS_MODULE_PARAM
#undef	ZFS_MODULE_PARAM_ARGS
#undef	ZFS_MODULE_PARAM_CALL
#define	zfs_kernel_param_t	libzpool_zfs_kernel_param_t
#endif

#include_next <sys/zfs_context.h>

#ifdef	ZOW_CORE
#undef	zfs_kernel_param_t
#include "tunables.h"
#endif
#ifdef	_KERNEL
#define	mutex_owned(lock)	MUTEX_HELD(lock)
#endif
