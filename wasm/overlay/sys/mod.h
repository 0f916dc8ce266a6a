/*
 * Tunables as in user space; a parameter that is set through a function has
 * the kernel's type of that function.
 */
#include_next <sys/mod.h>

#ifndef	_ZOW_MOD_H
#define	_ZOW_MOD_H
#ifdef	_KERNEL
struct kernel_param {
	void	*arg;
};
typedef const struct kernel_param zfs_kernel_param_t;

#undef	ZFS_MODULE_PARAM_ARGS
#define	ZFS_MODULE_PARAM_ARGS	const char *buf, zfs_kernel_param_t *kp

#define	ZFS_MODULE_VIRTUAL_PARAM_CALL(scope_prefix, name_prefix, name, \
	setfunc, getfunc, perm, desc)

#define	module_param_call(name, set, get, arg, perm)
#define	module_param(name, type, perm)
#define	module_param_named(name, value, type, perm)
#define	MODULE_PARM_DESC(name, desc)
#define	module_init(f)
#define	module_exit(f)
#define	MODULE_ALIAS(x)
#define	MODULE_LICENSE(x)
#define	MODULE_DESCRIPTION(x)
#define	MODULE_AUTHOR(x)
#define	MODULE_VERSION(x)
#endif
#endif
