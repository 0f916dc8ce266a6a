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
 * The operating system below musl: each system call that the core and the
 * programs make, answered by WASI preview 1. What only a program needs
 * (sockets, terminals, child processes) is in process.c.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "fiber.h"
#include "malloc.h"
#include "wasi.h"
#include "zow.h"

/* The layout of the kernel's statx(2). */
struct kernel_statx {
	uint32_t	stx_mask;
	uint32_t	stx_blksize;
	uint64_t	stx_attributes;
	uint32_t	stx_nlink;
	uint32_t	stx_uid;
	uint32_t	stx_gid;
	uint16_t	stx_mode;
	uint16_t	pad1;
	uint64_t	stx_ino;
	uint64_t	stx_size;
	uint64_t	stx_blocks;
	uint64_t	stx_attributes_mask;
	struct {
		int64_t		tv_sec;
		uint32_t	tv_nsec;
		int32_t		pad;
	} stx_atime, stx_btime, stx_ctime, stx_mtime;
	uint32_t	stx_rdev_major;
	uint32_t	stx_rdev_minor;
	uint32_t	stx_dev_major;
	uint32_t	stx_dev_minor;
	uint64_t	spare[14];
};

struct kernel_timespec {
	int64_t	tv_sec;
	int64_t	tv_nsec;
};

/*
 * WASI's errno (witx order, from 0) in Linux's numbers: the one place where
 * they are translated.
 */
static const uint8_t linux_errno[] = {
	0, E2BIG, EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN,
	EALREADY, EBADF, EBADMSG, EBUSY, ECANCELED, ECHILD, ECONNABORTED,
	ECONNREFUSED, ECONNRESET, EDEADLK, EDESTADDRREQ, EDOM, EDQUOT, EEXIST,
	EFAULT, EFBIG, EHOSTUNREACH, EIDRM, EILSEQ, EINPROGRESS, EINTR, EINVAL,
	EIO, EISCONN, EISDIR, ELOOP, EMFILE, EMLINK, EMSGSIZE, EMULTIHOP,
	ENAMETOOLONG, ENETDOWN, ENETRESET, ENETUNREACH, ENFILE, ENOBUFS,
	ENODEV, ENOENT, ENOEXEC, ENOLCK, ENOLINK, ENOMEM, ENOMSG, ENOPROTOOPT,
	ENOSPC, ENOSYS, ENOTCONN, ENOTDIR, ENOTEMPTY, ENOTRECOVERABLE,
	ENOTSOCK, EOPNOTSUPP, ENOTTY, ENXIO, EOVERFLOW, EOWNERDEAD, EPERM,
	EPIPE, EPROTO, EPROTONOSUPPORT, EPROTOTYPE, ERANGE, EROFS, ESPIPE,
	ESRCH, ESTALE, ETIMEDOUT, ETXTBSY, EXDEV, EACCES
};

static long
from_wasi(uint16_t error)
{
	if (error >= sizeof (linux_errno))
		return (-EIO);
	return (-(long)linux_errno[error]);
}

/* System calls of programs; -ENOSYS in the core, which has none. */
__attribute__((__weak__)) long
__zow_syscall_process(long n, long a, long b, long c, long d, long e, long f)
{
	(void) n, (void) a, (void) b, (void) c, (void) d, (void) e, (void) f;
	return (-ENOSYS);
}

/*
 * Paths. WASI's are relative to a preopened directory, which is the root; the
 * current directory is ours, PWD at the start.
 */
static char current_dir[PATH_MAX];

static const char *
current_directory(void)
{
	if (current_dir[0] == '\0') {
		const char *pwd = getenv("PWD");

		strlcpy(current_dir, pwd != NULL && pwd[0] == '/' ? pwd : "/",
		    sizeof (current_dir));
	}
	return (current_dir);
}

/* Length of the absolute path put in `out`, or -errno. */
static long
absolute(long dirfd, const char *path, char out[PATH_MAX])
{
	size_t len;

	if (path == NULL)
		return (-EFAULT);
	if (path[0] == '\0')
		return (-ENOENT);
	if (path[0] == '/') {
		len = strlcpy(out, path, PATH_MAX);
	} else {
		if (dirfd != AT_FDCWD)
			return (-EOPNOTSUPP);
		strlcpy(out, current_directory(), PATH_MAX);
		if (strcmp(out, "/") != 0)
			strlcat(out, "/", PATH_MAX);
		len = strlcat(out, path, PATH_MAX);
	}
	return (len < PATH_MAX ? (long)len : -ENAMETOOLONG);
}

/*
 * fd_readdir wants the descriptor's path for fstatat(dirfd, name): directories
 * opened here remember theirs.
 */
#define	DIR_FDS	16
static struct dir_fd {
	uint32_t	df_fd;
	uint64_t	df_cookie;
	char		*df_path;
} dir_fds[DIR_FDS];

static struct dir_fd *
dir_fd_find(long fd)
{
	for (int i = 0; i < DIR_FDS; i++) {
		if (dir_fds[i].df_path != NULL && dir_fds[i].df_fd == fd)
			return (&dir_fds[i]);
	}
	return (NULL);
}

static long
resolve(long dirfd, const char *path, char out[PATH_MAX])
{
	struct dir_fd *dir;

	if (path != NULL && path[0] != '/' && path[0] != '\0' &&
	    dirfd != AT_FDCWD &&
	    (dir = dir_fd_find(dirfd)) != NULL) {
		if (strlcpy(out, dir->df_path, PATH_MAX) >= PATH_MAX ||
		    strlcat(out, "/", PATH_MAX) >= PATH_MAX ||
		    strlcat(out, path, PATH_MAX) >= PATH_MAX)
			return (-ENAMETOOLONG);
		return (strlen(out));
	}
	return (absolute(dirfd, path, out));
}

static long
sys_openat(long dirfd, const char *path, long flags)
{
	char buf[PATH_MAX];
	long len = resolve(dirfd, path, buf);
	uint64_t rights = 0;
	uint16_t oflags = 0;
	uint32_t fd;
	long error;

	if (len < 0)
		return (len);
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
	case O_PATH:
		rights = WASI_RIGHTS_FD_READ;
		break;
	case O_WRONLY:
		rights = WASI_RIGHTS_FD_WRITE;
		break;
	default:
		rights = WASI_RIGHTS_FD_READ | WASI_RIGHTS_FD_WRITE;
	}
	if (flags & O_CREAT)
		oflags |= WASI_OFLAGS_CREAT;
	if (flags & O_EXCL)
		oflags |= WASI_OFLAGS_EXCL;
	if (flags & O_TRUNC)
		oflags |= WASI_OFLAGS_TRUNC;
	if (flags & O_DIRECTORY)
		oflags |= WASI_OFLAGS_DIRECTORY;
	error = from_wasi(__wasi_path_open(WASI_ROOT_FD,
	    flags & O_NOFOLLOW ? 0 : WASI_LOOKUP_SYMLINK_FOLLOW, buf, len,
	    oflags, rights, rights, flags & O_APPEND ? WASI_FDFLAGS_APPEND : 0,
	    &fd));
	if (error != 0)
		return (error);
	if (flags & O_DIRECTORY) {
		for (int i = 0; i < DIR_FDS; i++) {
			if (dir_fds[i].df_path != NULL)
				continue;
			dir_fds[i].df_fd = fd;
			dir_fds[i].df_cookie = 0;
			dir_fds[i].df_path = strdup(buf);
			break;
		}
	}
	return (fd);
}

static long
sys_close(long fd)
{
	struct dir_fd *dir = dir_fd_find(fd);

	if (dir != NULL) {
		free(dir->df_path);
		dir->df_path = NULL;
	}
	return (from_wasi(__wasi_fd_close(fd)));
}

static uint16_t
type_of(uint8_t filetype)
{
	switch (filetype) {
	case WASI_FILETYPE_BLOCK_DEVICE:
		return (S_IFBLK);
	case WASI_FILETYPE_CHARACTER_DEVICE:
		return (S_IFCHR);
	case WASI_FILETYPE_DIRECTORY:
		return (S_IFDIR);
	case WASI_FILETYPE_SYMBOLIC_LINK:
		return (S_IFLNK);
	case WASI_FILETYPE_REGULAR_FILE:
		return (S_IFREG);
	case WASI_FILETYPE_SOCKET_STREAM:
		return (S_IFSOCK);
	default:
		return (S_IFIFO);
	}
}

static void
statx_time(uint64_t ns, int64_t *sec, uint32_t *nsec)
{
	*sec = ns / 1000000000;
	*nsec = ns % 1000000000;
}

/* Of a block device, `size` is its size in bytes and `dev` its own number. */
static long
sys_statx(long dirfd, const char *path, long flags, struct kernel_statx *stx)
{
	wasi_filestat_t st;
	char buf[PATH_MAX];
	long error;

	if (path == NULL || (path[0] == '\0' && (flags & AT_EMPTY_PATH))) {
		error = from_wasi(__wasi_fd_filestat_get(dirfd, &st));
	} else {
		long len = resolve(dirfd, path, buf);

		if (len < 0)
			return (len);
		error = from_wasi(__wasi_path_filestat_get(WASI_ROOT_FD,
		    flags & AT_SYMLINK_NOFOLLOW ? 0 :
		    WASI_LOOKUP_SYMLINK_FOLLOW, buf, len, &st));
	}
	if (error != 0)
		return (error);
	memset(stx, 0, sizeof (*stx));
	stx->stx_mask = 0x7ff;
	stx->stx_blksize = 4096;
	stx->stx_nlink = st.nlink;
	stx->stx_mode = type_of(st.filetype) | st.mode;
	stx->stx_ino = st.ino;
	stx->stx_size = st.size;
	stx->stx_blocks = st.size / 512;
	stx->stx_dev_major = major(st.dev);
	stx->stx_dev_minor = minor(st.dev);
	if (st.filetype == WASI_FILETYPE_BLOCK_DEVICE) {
		stx->stx_rdev_major = major(st.dev);
		stx->stx_rdev_minor = minor(st.dev);
	}
	statx_time(st.atim, &stx->stx_atime.tv_sec, &stx->stx_atime.tv_nsec);
	statx_time(st.mtim, &stx->stx_mtime.tv_sec, &stx->stx_mtime.tv_nsec);
	statx_time(st.ctim, &stx->stx_ctime.tv_sec, &stx->stx_ctime.tv_nsec);
	return (0);
}

static long
sys_getdents64(long fd, char *buf, size_t size)
{
	struct dir_fd *dir = dir_fd_find(fd);
	char raw[4096];
	size_t used, in = 0, out = 0;
	long error;

	if (dir == NULL)
		return (-ENOTDIR);
	error = from_wasi(__wasi_fd_readdir(fd, raw, sizeof (raw),
	    dir->df_cookie, &used));
	if (error != 0)
		return (error);
	while (in + sizeof (wasi_dirent_t) <= used) {
		wasi_dirent_t *from = (wasi_dirent_t *)(raw + in);
		struct dirent *to = (struct dirent *)(buf + out);
		size_t reclen = (offsetof(struct dirent, d_name) +
		    from->d_namlen + 1 + 7) & -8;

		in += sizeof (*from) + from->d_namlen;
		if (in > used || out + reclen > size)
			break;
		to->d_ino = from->d_ino;
		to->d_off = from->d_next;
		to->d_reclen = reclen;
		to->d_type = type_of(from->d_type) >> 12;
		memcpy(to->d_name, from + 1, from->d_namlen);
		to->d_name[from->d_namlen] = '\0';
		dir->df_cookie = from->d_next;
		out += reclen;
	}
	return (out);
}

/* Of a directory, rewinddir(3) and seekdir(3). */
static long
sys_llseek(long fd, int64_t offset, long whence, uint64_t *result)
{
	struct dir_fd *dir = dir_fd_find(fd);

	if (dir == NULL)
		return (from_wasi(__wasi_fd_seek(fd, offset, whence, result)));
	if (whence != SEEK_SET || offset < 0)
		return (-EINVAL);
	dir->df_cookie = offset;
	*result = offset;
	return (0);
}

static long
sys_readlinkat(long dirfd, const char *path, char *buf, size_t size)
{
	char abs[PATH_MAX];
	long len = resolve(dirfd, path, abs);
	size_t used;
	long error;

	if (len < 0)
		return (len);
	error = from_wasi(__wasi_path_readlink(WASI_ROOT_FD, abs, len, buf,
	    size, &used));
	return (error != 0 ? error : (long)used);
}

static long
sys_path(uint16_t (*call)(uint32_t, const char *, size_t), long dirfd,
    const char *path)
{
	char buf[PATH_MAX];
	long len = resolve(dirfd, path, buf);

	if (len < 0)
		return (len);
	return (from_wasi(call(WASI_ROOT_FD, buf, len)));
}

static long
sys_renameat(long olddir, const char *old, long newdir, const char *new)
{
	char from[PATH_MAX], to[PATH_MAX];
	long from_len = resolve(olddir, old, from);
	long to_len = resolve(newdir, new, to);

	if (from_len < 0 || to_len < 0)
		return (from_len < 0 ? from_len : to_len);
	return (from_wasi(__wasi_path_rename(WASI_ROOT_FD, from, from_len,
	    WASI_ROOT_FD, to, to_len)));
}

/* Whether it may be read or written open(2) will tell. */
static long
sys_access(long dirfd, const char *path, long mode)
{
	struct kernel_statx stx;
	long error = sys_statx(dirfd, path, 0, &stx);

	if (error == 0 && (mode & X_OK) && (stx.stx_mode & 0111) == 0)
		return (-EACCES);
	return (error);
}

static long
sys_chdir(const char *path)
{
	char buf[PATH_MAX];
	long len = absolute(AT_FDCWD, path, buf);
	struct kernel_statx stx;
	long error;

	if (len < 0)
		return (len);
	if ((error = sys_statx(AT_FDCWD, buf, 0, &stx)) != 0)
		return (error);
	if (!S_ISDIR(stx.stx_mode))
		return (-ENOTDIR);
	(void) current_directory();
	strlcpy(current_dir, buf, sizeof (current_dir));
	return (0);
}

/*
 * Time.
 */
static long
sys_clock_gettime(long clock, struct kernel_timespec *ts)
{
	uint64_t ns;

	if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
		(void) __wasi_clock_time_get(WASI_CLOCK_REALTIME, 1000, &ns);
	else
		ns = fiber_now();
	ts->tv_sec = ns / 1000000000;
	ts->tv_nsec = ns % 1000000000;
	return (0);
}

static long
sys_nanosleep(long clock, long flags, const struct kernel_timespec *want)
{
	int64_t ns = want->tv_sec * 1000000000 + want->tv_nsec;

	if (flags & TIMER_ABSTIME) {
		struct kernel_timespec now;

		(void) sys_clock_gettime(clock, &now);
		ns -= now.tv_sec * 1000000000 + now.tv_nsec;
	}
	fiber_sleep(ns);
	return (0);
}

/*
 * Memory: mappings come from malloc. A file's is a copy of what it has now,
 * as musl wants time zones and libzfs lists of features: a private one.
 */
static long
sys_mmap(size_t length, long prot, long flags, long fd, uint64_t offset)
{
	wasi_iovec_t iov;
	size_t count;
	uint16_t error;
	char *p;

	if (!(flags & MAP_ANON) && (prot & PROT_WRITE) &&
	    (flags & MAP_TYPE) != MAP_PRIVATE)
		return (-ENODEV);
	p = aligned_alloc(4096, (length + 4095) & -4096);
	if (p == NULL)
		return (-ENOMEM);
	memset(p, 0, length);
	if (flags & MAP_ANON)
		return ((long)p);
	iov.buf = p;
	iov.len = length;
	error = __wasi_fd_pread(fd, &iov, 1, offset, &count);
	if (error != 0) {
		free(p);
		return (from_wasi(error));
	}
	return ((long)p);
}

static long
sys_uname(struct utsname *u)
{
	memset(u, 0, sizeof (*u));
	strlcpy(u->sysname, "Linux", sizeof (u->sysname));
	strlcpy(u->nodename, getenv("HOSTNAME") ?: "zow", sizeof (u->nodename));
	strlcpy(u->release, "6.0.0-zow", sizeof (u->release));
	strlcpy(u->version, "WebAssembly", sizeof (u->version));
	strlcpy(u->machine, "wasm32", sizeof (u->machine));
	return (0);
}

static long
sys_sysinfo(struct sysinfo *info)
{
	memset(info, 0, sizeof (*info));
	info->totalram = zow_heap_limit();
	info->freeram = zow_heap_limit() - zow_heap_live();
	info->mem_unit = 1;
	info->uptime = fiber_now() / 1000000000;
	return (0);
}

/* Processors: upstream sizes its thread pools by them. */
#define	NCPU	2

static long
sys_affinity(size_t size, unsigned char *mask)
{
	if (size < sizeof (long))
		return (-EINVAL);
	memset(mask, 0, size);
	mask[0] = (1 << NCPU) - 1;
	return (sizeof (long));
}

static long
io_result(uint16_t error, size_t count)
{
	return (error != 0 ? from_wasi(error) : (long)count);
}

static uint64_t
u64(long low, long high)
{
	return ((uint64_t)(uint32_t)high << 32 | (uint32_t)low);
}

long
__zow_syscall(long n, long a, long b, long c, long d, long e, long f)
{
	wasi_iovec_t iov;
	size_t count;

	switch (n) {
	case SYS_read:
	case SYS_write:
	case SYS_readv:
	case SYS_writev: {
		long r = __zow_syscall_process(n, a, b, c, d, e, f);
		const wasi_iovec_t *iovs = (const wasi_iovec_t *)b;
		size_t iovs_len = c;

		if (r != -ENOSYS)
			return (r);
		if (n == SYS_read || n == SYS_write) {
			iov.buf = (const void *)b;
			iov.len = c;
			iovs = &iov;
			iovs_len = 1;
		}
		if (n == SYS_read || n == SYS_readv)
			return (io_result(__wasi_fd_read(a, iovs, iovs_len,
			    &count), count));
		return (io_result(__wasi_fd_write(a, iovs, iovs_len, &count),
		    count));
	}
	/* The offset's halves follow a pad argument (__SYSCALL_LL_O). */
	case SYS_pread64:
		iov.buf = (const void *)b;
		iov.len = c;
		return (io_result(__wasi_fd_pread(a, &iov, 1, u64(e, f),
		    &count), count));
	case SYS_pwrite64:
		iov.buf = (const void *)b;
		iov.len = c;
		return (io_result(__wasi_fd_pwrite(a, &iov, 1, u64(e, f),
		    &count), count));
	case SYS__llseek: {
		uint64_t pos;
		long error = sys_llseek(a, (int64_t)u64(c, b), e, &pos);

		if (error == 0)
			*(uint64_t *)d = pos;
		return (error);
	}
	case SYS_openat:
		return (sys_openat(a, (const char *)b, c));
	case SYS_close: {
		long r = __zow_syscall_process(n, a, b, c, d, e, f);

		return (r != -ENOSYS ? r : sys_close(a));
	}
	case SYS_statx:
		return (sys_statx(a, (const char *)b, c,
		    (struct kernel_statx *)e));
	case SYS_getdents64:
		return (sys_getdents64(a, (char *)b, c));
	case SYS_readlinkat:
		return (sys_readlinkat(a, (const char *)b, (char *)c, d));
	case SYS_faccessat:
		return (sys_access(a, (const char *)b, c));
	case SYS_mkdirat:
		return (sys_path(__wasi_path_create_directory, a,
		    (const char *)b));
	case SYS_unlinkat:
		return (sys_path(c & AT_REMOVEDIR ?
		    __wasi_path_remove_directory : __wasi_path_unlink_file, a,
		    (const char *)b));
	case SYS_renameat2:
		return (sys_renameat(a, (const char *)b, c, (const char *)d));
	case SYS_fsync:
		return (from_wasi(__wasi_fd_sync(a)));
	case SYS_fdatasync:
		return (from_wasi(__wasi_fd_datasync(a)));
	case SYS_ftruncate64:
		return (from_wasi(__wasi_fd_filestat_set_size(a, u64(c, d))));
	case SYS_getcwd:
		if (strlen(current_directory()) >= (size_t)b)
			return (-ERANGE);
		strlcpy((char *)a, current_directory(), b);
		return (strlen((char *)a) + 1);
	case SYS_chdir:
		return (sys_chdir((const char *)a));
	case SYS_clock_gettime64:
		return (sys_clock_gettime(a, (struct kernel_timespec *)b));
	case SYS_clock_nanosleep_time64:
		return (sys_nanosleep(a, b,
		    (const struct kernel_timespec *)c));
	case SYS_ppoll_time64: {
		const struct kernel_timespec *ts =
		    (const struct kernel_timespec *)c;
		long r = __zow_syscall_process(n, a, b, c, d, e, f);

		if (r != -ENOSYS)
			return (r);
		if (b != 0 || ts == NULL)
			return (-ENOSYS);
		return (sys_nanosleep(CLOCK_MONOTONIC, 0, ts));
	}
	case SYS_mmap2:
		return (sys_mmap(b, c, d, e, (uint64_t)f * 4096));
	case SYS_munmap:
		free((void *)a);
		return (0);
	case SYS_madvise:
	case SYS_mlockall:
		return (0);
	case SYS_getrandom:
		zow_random((void *)a, b);
		return (b);
	case SYS_uname:
		return (sys_uname((struct utsname *)a));
	case SYS_sysinfo:
		return (sys_sysinfo((struct sysinfo *)a));
	case SYS_sched_getaffinity:
		return (sys_affinity(b, (unsigned char *)c));
	case SYS_prlimit64:
		if (d != 0) {
			uint64_t *limit = (uint64_t *)d;

			limit[0] = limit[1] = 1024;
		}
		return (0);
	case SYS_gettid:
		return (fiber_current != NULL ? fiber_current->f_id : 1);
	/* The core is process 1 and root. */
	case SYS_getpid:
	case SYS_getuid:
	case SYS_geteuid:
	case SYS_getgid:
	case SYS_getegid:
	case SYS_rt_sigaction: {
		long r = __zow_syscall_process(n, a, b, c, d, e, f);

		return (r != -ENOSYS ? r : n == SYS_getpid);
	}
	case SYS_rt_sigprocmask:
		return (0);
	case SYS_umask:
		return (022);
	case SYS_exit:
	case SYS_exit_group:
		__wasi_proc_exit(a);
	default:
		return (__zow_syscall_process(n, a, b, c, d, e, f));
	}
}

long
__syscall_cp(long n, long a, long b, long c, long d, long e, long f)
{
	return (__zow_syscall(n, a, b, c, d, e, f));
}
