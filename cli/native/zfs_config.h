/*
 * What upstream's configure would find out for the natively built programs
 * on Debian, written down: running configure takes longer than compiling.
 * Upstream's sources include this file first (-include zfs_config.h).
 */

#ifndef _ZOW_NATIVE_ZFS_CONFIG_H
#define	_ZOW_NATIVE_ZFS_CONFIG_H

#include <features.h>

/* ZFS_META_VERSION comes from the command line (zfs-src/releases.json). */
#define	ZFS_META_NAME "zfs"
#define	ZFS_META_RELEASE "1"
#define	ZFS_META_ALIAS "zfs-" ZFS_META_VERSION "-" ZFS_META_RELEASE
#define	ZFS_META_AUTHOR "OpenZFS"

#define	SYSTEM_LINUX 1
#define	HAVE_AIO_H 1
#define	HAVE_BACKTRACE 1
#define	HAVE_GETTID 1
#define	HAVE_IMPLICIT_FALLTHROUGH 1
#define	HAVE_MAKEDEV_IN_SYSMACROS 1
#define	HAVE_MLOCKALL 1
#define	HAVE_STATX 1
#define	HAVE_STATX_MNT_ID 1

#if __GLIBC_PREREQ(2, 36)
#define	HAVE_MOUNT_SETATTR 1
#endif
#if __GLIBC_PREREQ(2, 38)
#define	HAVE_STRLCAT 1
#define	HAVE_STRLCPY 1
#endif

/* Instruction sets that the assembler knows; upstream asks the CPU later. */
#if defined(__x86_64__)
#define	HAVE_SSE 1
#define	HAVE_SSE2 1
#define	HAVE_SSE3 1
#define	HAVE_SSSE3 1
#define	HAVE_SSE4_1 1
#define	HAVE_SSE4_2 1
#define	HAVE_AVX 1
#define	HAVE_AVX2 1
#define	HAVE_AVX512F 1
#define	HAVE_AVX512CD 1
#define	HAVE_AVX512DQ 1
#define	HAVE_AVX512BW 1
#define	HAVE_AVX512IFMA 1
#define	HAVE_AVX512VBMI 1
#define	HAVE_AVX512VL 1
#define	HAVE_AES 1
#define	HAVE_PCLMULQDQ 1
#define	HAVE_MOVBE 1
#define	HAVE_VAES 1
#define	HAVE_VPCLMULQDQ 1
#define	HAVE_XSAVE 1
#define	HAVE_XSAVEOPT 1
#define	HAVE_XSAVES 1
#endif

#endif /* _ZOW_NATIVE_ZFS_CONFIG_H */
