/*
 * Tunables: as in user space for programs; in the core as in the kernel.
 */
#include_next <sys/mod.h>

#ifndef	_ZOW_MOD_H
#define	_ZOW_MOD_H
#ifdef	ZOW_CORE
#include "tunables.h"
#endif
#ifdef	_KERNEL
#define	module_init(f)
#define	module_exit(f)
#define	MODULE_ALIAS(x)
#define	MODULE_LICENSE(x)
#define	MODULE_DESCRIPTION(x)
#define	MODULE_AUTHOR(x)
#define	MODULE_VERSION(x)
#endif
#endif
