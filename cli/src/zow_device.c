/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * What a kernel with the ZFS module would have in its file systems, as far
 * as the programs look: the linker's --wrap brings their calls here.
 *
 *	/dev/zfs		a connection to the ZoW host
 *	/sys/module/zfs		is there, and has nothing in it: upstream
 *				takes that for a module that supports all
 *				that it was built with, and the greeting has
 *				made sure that the host is the same release
 *	/proc/self/mounts	is empty: whatever this machine has mounted,
 *				the host's file systems are not among it
 *	/dev/zow/NAME		a remote disk (zow_remote.c)
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/fs/zfs.h>
#include <sys/mnttab.h>
#include <sys/stat.h>
#include <sys/zfs_sysfs.h>

#include "zow_client.h"

/* The type of ioctl(2)'s request differs, and WebAssembly checks types. */
#ifdef __GLIBC__
typedef unsigned long zow_request_t;
#else
typedef int zow_request_t;
#endif

extern int __real_open(const char *, int, ...);
extern int __real_close(int);
extern int __real_ioctl(int, zow_request_t, ...);
extern int __real_access(const char *, int);
extern DIR *__real_opendir(const char *);
extern FILE *__real_fopen(const char *, const char *);

int __wrap_open(const char *, int, ...);
int __wrap_close(int);
int __wrap_ioctl(int, zow_request_t, ...);
int __wrap_access(const char *, int);
DIR *__wrap_opendir(const char *);
FILE *__wrap_fopen(const char *, const char *);

/* Below one of the module's directories, or the directory itself? */
static int
zow_is_under(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return (strncmp(path, dir, n) == 0 &&
	    (path[n] == '/' || path[n] == '\0'));
}

static int
zow_is_sysfs(const char *path)
{
	return (zow_is_under(path, ZFS_SYSFS_DIR) ||
	    zow_is_under(path, ZFS_SYSFS_ALT_DIR));
}

/*
 * `zpool labelclear -f` opens a device with O_EXCL to learn whether a pool has
 * it. That means something for block devices; a file is locked by its host,
 * this one or another.
 */
static int
zow_open_exclusive(int fd, int flags)
{
	struct stat st;

	if (fd < 0 || (flags & O_EXCL) == 0 ||
	    !zow_subcommand_is("labelclear") ||
	    fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
	    flock(fd, LOCK_EX | LOCK_NB) == 0)
		return (fd);
	(void) __real_close(fd);
	errno = EBUSY;
	return (-1);
}

int
__wrap_open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode = 0;

	if (strcmp(path, ZFS_DEV) == 0)
		return (zow_open());
	if (zow_is_remote(path))
		return (zow_open_remote(path, flags));
	if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return (zow_open_exclusive(__real_open(path, flags, mode), flags));
}

int
__wrap_close(int fd)
{
	return (zow_is_session(fd) ? zow_close(fd) : __real_close(fd));
}

int
__wrap_ioctl(int fd, zow_request_t request, ...)
{
	va_list ap;

	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	if (zow_is_session(fd))
		return (zow_ioctl(fd, request, arg));
	return (__real_ioctl(fd, request, arg));
}

int
__wrap_access(const char *path, int mode)
{
	char cache[ZOW_CACHE_FILE_MAX];

	/* zdb asks before it looks for disks instead (zow_zdb.c). */
	if (strcmp(path, ZPOOL_CACHE) == 0 &&
	    zow_cache_file(cache, sizeof (cache)))
		return (0);
	if (strcmp(path, ZFS_DEV) == 0 || strcmp(path, ZFS_SYSFS_DIR) == 0)
		return (0);
	if (zow_is_sysfs(path)) {
		errno = ENOENT;
		return (-1);
	}
	return (__real_access(path, mode));
}

DIR *
__wrap_opendir(const char *path)
{
	if (zow_is_sysfs(path)) {
		errno = ENOENT;
		return (NULL);
	}
	return (__real_opendir(path));
}

FILE *
__wrap_fopen(const char *path, const char *mode)
{
	if (strcmp(path, MNTTAB) == 0)
		path = "/dev/null";
	return (__real_fopen(path, mode));
}

#ifdef __GLIBC__
/* The names that calls have when compiled for large files. */
extern int __real_open64(const char *, int, ...);
extern FILE *__real_fopen64(const char *, const char *);
int __wrap_open64(const char *, int, ...);
FILE *__wrap_fopen64(const char *, const char *);

int
__wrap_open64(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode = 0;

	if (strcmp(path, ZFS_DEV) == 0)
		return (zow_open());
	if (zow_is_remote(path))
		return (zow_open_remote(path, flags));
	if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return (zow_open_exclusive(__real_open64(path, flags, mode), flags));
}

FILE *
__wrap_fopen64(const char *path, const char *mode)
{
	if (strcmp(path, MNTTAB) == 0)
		path = "/dev/null";
	return (__real_fopen64(path, mode));
}
#endif
