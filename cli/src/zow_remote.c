/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * /dev/zow/NAME is a remote disk of the host (docs/config.md), and no path of
 * this machine leads to it. The programs only look at disks, for labels and
 * for what else is at their ends: the host is asked for that, and what is
 * opened is a file without a name that has it, and holes elsewhere. It is a
 * copy: nothing is written to it.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#include "zow_client.h"

/* With data of the disk: an offset, and at most so many bytes behind it. */
#define	ZOW_PIECE_MAX		(1U << 20)

extern int __real_close(int);
extern int __real_stat(const char *, struct stat *);
extern char *__real_realpath(const char *, char *);
int __wrap_stat(const char *, struct stat *);
char *__wrap_realpath(const char *, char *);

int
zow_is_remote(const char *path)
{
	return (strncmp(path, ZOW_REMOTE_DIR, strlen(ZOW_REMOTE_DIR)) == 0);
}

/* A file that goes when it is closed. A descriptor, or -1 with errno. */
static int
zow_nameless_file(void)
{
	const char *dir = getenv("TMPDIR");
	char name[PATH_MAX];
	int fd;

	if (dir == NULL || *dir != '/')
		dir = "/tmp";
	if (snprintf(name, sizeof (name), "%s/zow-disk-XXXXXX", dir) >=
	    sizeof (name)) {
		errno = ENAMETOOLONG;
		return (-1);
	}
	if ((fd = mkstemp(name)) >= 0)
		(void) unlink(name);
	return (fd);
}

/* The rest of an ITEM goes to its place. Returns 0 or an errno. */
static int
zow_take_piece(int host, int file, uint32_t length)
{
	uint64_t offset;
	char *data;
	int error;

	if (length < sizeof (offset) ||
	    length > sizeof (offset) + ZOW_PIECE_MAX)
		return (EPROTO);
	length -= sizeof (offset);
	if ((data = malloc(length + 1)) == NULL)
		return (ENOMEM);
	if ((error = zow_receive(host, &offset, sizeof (offset))) == 0 &&
	    (error = zow_receive(host, data, length)) == 0 &&
	    pwrite(file, data, length, (off_t)offset) != length)
		error = EIO;
	free(data);
	return (error);
}

/* The last frame of an answer. Returns the errno in it, or another one. */
static int
zow_take_done(int host, uint32_t length)
{
	uint32_t error;

	if (length < sizeof (error) ||
	    zow_receive(host, &error, sizeof (error)) != 0)
		return (EPROTO);
	return (error);
}

/* The size first, then what is at the ends. Returns 0 or an errno. */
static int
zow_take_disk(int host, int file, int whole)
{
	zow_header_t header;
	uint64_t size;
	int error;

	if ((error = zow_receive(host, &header, sizeof (header))) != 0)
		return (error);
	if (header.zf_type == ZOW_DONE) {
		error = zow_take_done(host, header.zf_length);
		return (error != 0 ? error : EPROTO);
	}
	if (header.zf_type != ZOW_ITEM || header.zf_length != sizeof (size))
		return (EPROTO);
	if ((error = zow_receive(host, &size, sizeof (size))) != 0)
		return (error);
	if (ftruncate(file, (off_t)size) != 0)
		return (errno);
	while (whole) {
		error = zow_receive(host, &header, sizeof (header));
		if (error != 0)
			return (error);
		if (header.zf_type == ZOW_DONE)
			return (zow_take_done(host, header.zf_length));
		if (header.zf_type != ZOW_ITEM)
			return (EPROTO);
		error = zow_take_piece(host, file, header.zf_length);
		if (error != 0)
			return (error);
	}
	return (0);
}

/* Asks the host for a disk. Returns a descriptor, or -1 with errno. */
static int
zow_fetch_disk(const char *path, int whole)
{
	const char *name = path + strlen(ZOW_REMOTE_DIR);
	zow_hello_reply_t reply;
	uint32_t kind = ZOW_QUERY_DISK;
	zow_header_t header = { ZOW_QUERY, sizeof (kind) + strlen(name) };
	struct iovec iov[] = {
		{ &header, sizeof (header) },
		{ &kind, sizeof (kind) },
		{ (void *)name, strlen(name) },
	};
	int error, file, host;

	if ((host = zow_connect(0, &reply)) < 0)
		return (-1);
	if ((file = zow_nameless_file()) < 0) {
		error = errno;
	} else {
		error = zow_send(host, iov, 3);
		if (error == 0)
			error = zow_take_disk(host, file, whole);
	}
	(void) __real_close(host);
	if (error == 0)
		return (file);
	if (file >= 0)
		(void) __real_close(file);
	errno = error;
	return (-1);
}

/* open(2) of a remote disk. Returns a descriptor, or -1 with errno. */
int
zow_open_remote(const char *path, int flags)
{
	int fd, state;

	if ((flags & O_ACCMODE) != O_RDONLY) {
		errno = EROFS;
		return (-1);
	}
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	fd = zow_fetch_disk(path, 1);
	(void) pthread_setcancelstate(state, NULL);
	return (fd);
}

/* stat(2) of one: a file of its size. */
static int
zow_stat_remote(const char *path, struct stat *st)
{
	int error, fd, state;

	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	if ((fd = zow_fetch_disk(path, 0)) >= 0) {
		error = fstat(fd, st);
		(void) __real_close(fd);
		fd = error;
	}
	(void) pthread_setcancelstate(state, NULL);
	return (fd);
}

int
__wrap_stat(const char *path, struct stat *st)
{
	if (zow_is_remote(path))
		return (zow_stat_remote(path, st));
	return (__real_stat(path, st));
}

/* The folder is looked for as well, which is not there either. */
static int
zow_is_below_remote(const char *path)
{
	return (zow_is_remote(path) || (strlen(path) + 1 ==
	    strlen(ZOW_REMOTE_DIR) &&
	    strncmp(path, ZOW_REMOTE_DIR, strlen(path)) == 0));
}

char *
__wrap_realpath(const char *path, char *resolved)
{
	if (path == NULL || !zow_is_below_remote(path))
		return (__real_realpath(path, resolved));
	if (strlen(path) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return (NULL);
	}
	return (resolved == NULL ? strdup(path) : strcpy(resolved, path));
}

#ifdef __GLIBC__
/* The names that calls have when compiled for large files, or fortified. */
extern int __real_stat64(const char *, struct stat64 *);
extern char *__real___realpath_chk(const char *, char *, size_t);
int __wrap_stat64(const char *, struct stat64 *);
char *__wrap___realpath_chk(const char *, char *, size_t);

int
__wrap_stat64(const char *path, struct stat64 *st)
{
	_Static_assert(sizeof (struct stat) == sizeof (struct stat64),
	    "both are the kernel's");
	if (zow_is_remote(path))
		return (zow_stat_remote(path, (struct stat *)st));
	return (__real_stat64(path, st));
}

char *
__wrap___realpath_chk(const char *path, char *resolved, size_t size)
{
	if (path == NULL || !zow_is_below_remote(path) || size < PATH_MAX)
		return (__real___realpath_chk(path, resolved, size));
	return (__wrap_realpath(path, resolved));
}
#endif
