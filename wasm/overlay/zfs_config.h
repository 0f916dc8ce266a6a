/*
 * What upstream's configure would have written for this platform. The release
 * comes from the build (zfs-src/releases.json).
 */
#ifndef	_ZFS_CONFIG_H
#define	_ZFS_CONFIG_H

#define	SYSTEM_LINUX		1
#define	ZFS_META_NAME		"zfs"
#define	ZFS_META_RELEASE	"1"
#define	ZFS_META_ALIAS		"zfs-" ZFS_META_VERSION "-" ZFS_META_RELEASE
#define	SPL_META_ALIAS		ZFS_META_ALIAS
#define	ZFS_META_AUTHOR		"OpenZFS"
#define	ZFS_DEVICE_MINOR	0

#define	HAVE_MAKEDEV_IN_SYSMACROS	1
#define	HAVE_INTTYPES		1

/* What the kernel context has without an #include of its own. */
#ifdef	_KERNEL
#include <errno.h>
#include <stddef.h>
#include <string.h>
#define	EXPORT_SYMBOL(x)
#endif

#endif
