/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Unix stream sockets, which the host makes and names by descriptor. A call
 * that has to wait lets the other fibers run.
 */

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <zow.h>

#include "fiber.h"
#include "process.h"

#define	SOCKETS_MAX	1024	/* descriptors are below it */

/* Returns a descriptor. */
ZOW_IMPORT("socket-open")
extern int zow_socket_open(void);
/* These may return IO_PENDING and complete the fiber later. */
ZOW_IMPORT("socket-connect")
extern int zow_socket_connect(int fiber, int fd, const char *path,
    size_t length);
ZOW_IMPORT("socket-read")
extern int zow_socket_read(int fiber, int fd, void *buf, size_t length);
ZOW_IMPORT("socket-write")
extern int zow_socket_write(int fiber, int fd, const struct iovec *iov,
    int iovcnt);
ZOW_IMPORT("socket-shutdown")
extern int zow_socket_shutdown(int fd);
ZOW_IMPORT("socket-close")
extern int zow_socket_close(int fd);

static unsigned char is_socket[SOCKETS_MAX];

int
zow_is_socket(int fd)
{
	return (fd >= 0 && fd < SOCKETS_MAX && is_socket[fd]);
}

long
zow_sys_socket(int domain, int type)
{
	int fd;

	if (domain != AF_UNIX)
		return (-EAFNOSUPPORT);
	if ((type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != SOCK_STREAM)
		return (-EPROTONOSUPPORT);
	fd = zow_socket_open();
	if (fd >= SOCKETS_MAX) {
		(void) zow_socket_close(fd);
		return (-EMFILE);
	}
	is_socket[fd] = 1;
	return (fd);
}

static long
sys_connect(int fd, const struct sockaddr_un *addr, socklen_t length)
{
	size_t path = offsetof(struct sockaddr_un, sun_path);

	if (length <= path || addr->sun_family != AF_UNIX)
		return (-EINVAL);
	return (fiber_io_end(zow_socket_connect(fiber_io_start(), fd,
	    addr->sun_path, strnlen(addr->sun_path, length - path))));
}

/* Reads into the first part with room, as a short read may. */
static long
sys_readv(int fd, const struct iovec *iov, int iovcnt)
{
	while (iovcnt > 0 && iov->iov_len == 0) {
		iov++;
		iovcnt--;
	}
	if (iovcnt == 0)
		return (0);
	return (fiber_io_end(zow_socket_read(fiber_io_start(), fd,
	    iov->iov_base, iov->iov_len)));
}

/* All of it, or an error. */
static long
sys_writev(int fd, const struct iovec *iov, int iovcnt)
{
	return (fiber_io_end(zow_socket_write(fiber_io_start(), fd, iov,
	    iovcnt)));
}

/* A system call on a descriptor; -ENOSYS when that is not a socket. */
long
zow_sys_socket_call(long n, long a, long b, long c)
{
	struct iovec iov = { (void *)b, c };

	if (!zow_is_socket(a))
		return (n == SYS_connect || n == SYS_shutdown ? -ENOTSOCK :
		    -ENOSYS);
	switch (n) {
	case SYS_connect:
		return (sys_connect(a, (const struct sockaddr_un *)b, c));
	case SYS_read:
		return (sys_readv(a, &iov, 1));
	case SYS_readv:
		return (sys_readv(a, (const struct iovec *)b, c));
	case SYS_write:
		return (sys_writev(a, &iov, 1));
	case SYS_writev:
		return (sys_writev(a, (const struct iovec *)b, c));
	case SYS_shutdown:
		return (zow_socket_shutdown(a));
	case SYS_close:
		is_socket[a] = 0;
		return (zow_socket_close(a));
	default:
		return (-ENOSYS);
	}
}
