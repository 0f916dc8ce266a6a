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
 * The calls of WASI preview 1 (wasi_snapshot_preview1.witx) that the libc
 * uses. Descriptor 3 is the root directory, preopened.
 */

#ifndef	_ZOW_WASI_H
#define	_ZOW_WASI_H

#include <stddef.h>
#include <stdint.h>

#define	WASI(name) \
	__attribute__((import_module("wasi_snapshot_preview1"), \
	import_name(#name))) extern uint16_t __wasi_##name

#define	WASI_ROOT_FD		3

#define	WASI_CLOCK_REALTIME	0
#define	WASI_CLOCK_MONOTONIC	1

#define	WASI_FILETYPE_BLOCK_DEVICE	1
#define	WASI_FILETYPE_CHARACTER_DEVICE	2
#define	WASI_FILETYPE_DIRECTORY		3
#define	WASI_FILETYPE_REGULAR_FILE	4
#define	WASI_FILETYPE_SOCKET_STREAM	6
#define	WASI_FILETYPE_SYMBOLIC_LINK	7

#define	WASI_LOOKUP_SYMLINK_FOLLOW	1

#define	WASI_OFLAGS_CREAT	1
#define	WASI_OFLAGS_DIRECTORY	2
#define	WASI_OFLAGS_EXCL	4
#define	WASI_OFLAGS_TRUNC	8

#define	WASI_FDFLAGS_APPEND	1

#define	WASI_RIGHTS_FD_READ	(1ull << 1)
#define	WASI_RIGHTS_FD_WRITE	(1ull << 6)

typedef struct wasi_iovec {
	const void	*buf;
	size_t		len;
} wasi_iovec_t;

/* Permissions, which preview 1 lacks, are where it has padding. */
typedef struct wasi_filestat {
	uint64_t	dev;
	uint64_t	ino;
	uint8_t		filetype;
	uint32_t	mode;
	uint64_t	nlink;
	uint64_t	size;
	uint64_t	atim;
	uint64_t	mtim;
	uint64_t	ctim;
} wasi_filestat_t;

typedef struct wasi_fdstat {
	uint8_t		filetype;
	uint16_t	flags;
	uint64_t	rights_base;
	uint64_t	rights_inheriting;
} wasi_fdstat_t;

typedef struct wasi_dirent {
	uint64_t	d_next;
	uint64_t	d_ino;
	uint32_t	d_namlen;
	uint8_t		d_type;
} wasi_dirent_t;

WASI(args_get)(uint8_t **argv, uint8_t *buf);
WASI(args_sizes_get)(size_t *argc, size_t *buf_size);
WASI(environ_get)(uint8_t **environ, uint8_t *buf);
WASI(environ_sizes_get)(size_t *count, size_t *buf_size);
WASI(clock_time_get)(uint32_t clock, uint64_t precision, uint64_t *time);
WASI(fd_close)(uint32_t fd);
WASI(fd_datasync)(uint32_t fd);
WASI(fd_fdstat_get)(uint32_t fd, wasi_fdstat_t *stat);
WASI(fd_filestat_get)(uint32_t fd, wasi_filestat_t *stat);
WASI(fd_filestat_set_size)(uint32_t fd, uint64_t size);
WASI(fd_pread)(uint32_t fd, const wasi_iovec_t *iovs, size_t iovs_len,
    uint64_t offset, size_t *nread);
WASI(fd_pwrite)(uint32_t fd, const wasi_iovec_t *iovs, size_t iovs_len,
    uint64_t offset, size_t *nwritten);
WASI(fd_read)(uint32_t fd, const wasi_iovec_t *iovs, size_t iovs_len,
    size_t *nread);
WASI(fd_readdir)(uint32_t fd, void *buf, size_t buf_len, uint64_t cookie,
    size_t *used);
WASI(fd_seek)(uint32_t fd, int64_t offset, uint8_t whence, uint64_t *pos);
WASI(fd_sync)(uint32_t fd);
WASI(fd_write)(uint32_t fd, const wasi_iovec_t *iovs, size_t iovs_len,
    size_t *nwritten);
WASI(path_create_directory)(uint32_t fd, const char *path, size_t len);
WASI(path_filestat_get)(uint32_t fd, uint32_t flags, const char *path,
    size_t len, wasi_filestat_t *stat);
WASI(path_open)(uint32_t fd, uint32_t dirflags, const char *path, size_t len,
    uint16_t oflags, uint64_t rights_base, uint64_t rights_inheriting,
    uint16_t fdflags, uint32_t *opened);
WASI(path_readlink)(uint32_t fd, const char *path, size_t len, char *buf,
    size_t buf_len, size_t *used);
WASI(path_remove_directory)(uint32_t fd, const char *path, size_t len);
WASI(path_rename)(uint32_t fd, const char *old, size_t old_len,
    uint32_t new_fd, const char *new, size_t new_len);
WASI(path_unlink_file)(uint32_t fd, const char *path, size_t len);
WASI(random_get)(void *buf, size_t len);

__attribute__((import_module("wasi_snapshot_preview1"),
    import_name("proc_exit")))
extern _Noreturn void __wasi_proc_exit(uint32_t code);

#endif	/* _ZOW_WASI_H */
