/*
 * Tunables: as in user space for programs; in the core as in the kernel, but
 * not as the SPL has it, whose half of the header older releases choose.
 */
#ifdef	_KERNEL
#undef	_KERNEL
#include_next <sys/mod.h>
#define	_KERNEL
#else
#include_next <sys/mod.h>
#endif

#ifndef	_ZOW_MOD_H
#define	_ZOW_MOD_H
#ifdef	ZOW_CORE
#include "tunables.h"
#endif
#ifdef	_KERNEL
#define	module_init(f)
#define	module_init_early(f)
#define	module_exit(f)
#define	MODULE_ALIAS(x)
#define	MODULE_LICENSE(x)
#define	MODULE_DESCRIPTION(x)
#define	MODULE_AUTHOR(x)
#define	MODULE_VERSION(x)
/* An old name of a tunable. */
#define	module_param_named(name, value, type, perm)
#endif
#endif
