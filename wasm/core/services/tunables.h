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
 * Module parameters as the kernel has them: each with the functions that set
 * and get it, collected by the linker (tunables.c). In every file of the core;
 * to be included again where a header of upstream's redefines the macros.
 */

#ifndef	_ZOW_TUNABLES_H
#define	_ZOW_TUNABLES_H

struct zow_param {
	void	*arg;		/* the variable; NULL: the functions know */
};
typedef const struct zow_param zfs_kernel_param_t;

/* `set` returns 0 or -errno, `get` the length of the text or -errno. */
typedef struct zow_tunable {
	const char		*zt_name;
	struct zow_param	zt_param;
	int	(*zt_set)(const char *, zfs_kernel_param_t *);
	int	(*zt_get)(char *, zfs_kernel_param_t *);
	int			zt_mode;	/* 0644, or 0444: read only */
	const char		*zt_desc;
} zow_tunable_t;

/* MODULE_PARM_DESC: a description apart from its parameter. */
typedef struct zow_tunable_desc {
	const char	*zd_name;
	const char	*zd_desc;
} zow_tunable_desc_t;

extern int param_set_int(const char *, zfs_kernel_param_t *);
extern int param_set_uint(const char *, zfs_kernel_param_t *);
extern int param_set_ulong(const char *, zfs_kernel_param_t *);
extern int param_set_ullong(const char *, zfs_kernel_param_t *);
extern int param_set_charp(const char *, zfs_kernel_param_t *);
extern int param_get_int(char *, zfs_kernel_param_t *);
extern int param_get_uint(char *, zfs_kernel_param_t *);
extern int param_get_ulong(char *, zfs_kernel_param_t *);
extern int param_get_ullong(char *, zfs_kernel_param_t *);
extern int param_get_charp(char *, zfs_kernel_param_t *);
#define	spl_param_set_u64	param_set_ullong
#define	spl_param_get_u64	param_get_ullong

extern int kstrtoul(const char *, unsigned int, unsigned long *);
extern int kstrtouint(const char *, unsigned int, unsigned int *);

#define	ZOW_TUNABLE(name, set, get, arg, mode, desc) \
	static const zow_tunable_t __zow_tunable_##name \
	    __attribute__((__section__("zow_tunables"), __used__)) = { \
		.zt_name = #name, .zt_param = { (void *)(arg) }, \
		.zt_set = set, .zt_get = get, .zt_mode = mode, \
		.zt_desc = desc \
	};

#define	ZOW_SET_INT	param_set_int
#define	ZOW_GET_INT	param_get_int
#define	ZOW_SET_UINT	param_set_uint
#define	ZOW_GET_UINT	param_get_uint
#define	ZOW_SET_ULONG	param_set_ulong
#define	ZOW_GET_ULONG	param_get_ulong
#define	ZOW_SET_U64	param_set_ullong
#define	ZOW_GET_U64	param_get_ullong
#define	ZOW_SET_STRING	param_set_charp
#define	ZOW_GET_STRING	param_get_charp

#define	module_param(name, type, mode) \
	ZOW_TUNABLE(name, param_set_##type, param_get_##type, &name, mode, NULL)
#define	module_param_call(name, set, get, arg, mode) \
	ZOW_TUNABLE(name, set, get, arg, mode, NULL)
#define	MODULE_PARM_DESC(name, desc) \
	static const zow_tunable_desc_t __zow_tunable_desc_##name \
	    __attribute__((__section__("zow_tunable_descs"), __used__)) = { \
		.zd_name = #name, .zd_desc = desc \
	};
#endif	/* _ZOW_TUNABLES_H */

#undef	ZMOD_RW
#define	ZMOD_RW		0644
#undef	ZMOD_RD
#define	ZMOD_RD		0444

#undef	ZFS_MODULE_PARAM
#define	ZFS_MODULE_PARAM(scope, prefix, name, type, perm, desc) \
	ZOW_TUNABLE(prefix##name, ZOW_SET_##type, ZOW_GET_##type, \
	    &prefix##name, perm, desc)
#undef	ZFS_MODULE_PARAM_CALL
#define	ZFS_MODULE_PARAM_CALL(scope, prefix, name, set, get, perm, desc) \
	ZOW_TUNABLE(prefix##name, set, get, &prefix##name, perm, desc)
#undef	ZFS_MODULE_VIRTUAL_PARAM_CALL
#define	ZFS_MODULE_VIRTUAL_PARAM_CALL(scope, prefix, name, set, get, perm, \
	desc) \
	ZOW_TUNABLE(prefix##name, set, get, NULL, perm, desc)
#undef	ZFS_MODULE_PARAM_ARGS
#define	ZFS_MODULE_PARAM_ARGS	const char *buf, zfs_kernel_param_t *kp
