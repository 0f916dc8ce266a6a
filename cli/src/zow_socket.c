/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Finding the host, the greeting, and whole messages over its socket. Asks
 * for little of libc, because in WebAssembly each of these calls is an
 * import: socket, connect, read, write(v), close, fstat, geteuid, getpid.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <sys/zfs_ioctl.h>

#include "zow_client.h"

static pthread_once_t zow_once = PTHREAD_ONCE_INIT;
static char zow_path[sizeof (((struct sockaddr_un *)0)->sun_path)];
/* The environment's path when it does not fit, for the message. */
static const char *zow_path_long;
static uint8_t zow_process[16];
static char zow_why[512];
static uint32_t zow_hostid;

/* The system's own; the names without __real_ are wrapped. */
extern int __real_close(int);
extern uid_t __real_geteuid(void);

static void
zow_init(void)
{
	const char *path = getenv("ZOW_SOCKET");
	const char *dir = "";
	const char *name = path;

	if (path == NULL || *path == '\0') {
		dir = __real_geteuid() == 0 ? "/run/zow" :
		    getenv("XDG_RUNTIME_DIR");
		name = "/zow.sock";
	}
	if (dir != NULL && (*dir != '\0' || name == path)) {
		int n = snprintf(zow_path, sizeof (zow_path), "%s%s", dir,
		    name);
		if (n >= (int)sizeof (zow_path))
			zow_path_long = *dir != '\0' ? dir : name;
	}
	if (getrandom(zow_process, sizeof (zow_process), 0) !=
	    sizeof (zow_process)) {
		/* Unique on this machine is enough: it is not a secret. */
		pid_t pid = getpid();
		(void) memcpy(zow_process, &pid, sizeof (pid));
	}
}

/* Where the host should be; "" when the environment does not say. */
const char *
zow_socket_path(void)
{
	(void) pthread_once(&zow_once, zow_init);
	return (zow_path);
}

/* The cache file of the host's pools; 0: it keeps none. */
int
zow_cache_file(char *path, size_t size)
{
	struct stat st;

	return (*zow_socket_path() != '\0' && snprintf(path, size, "%s.cache",
	    zow_path) < (int)size && stat(path, &st) == 0);
}

/* Why the last open failed, one line; "" when none did. */
const char *
zow_why_not(void)
{
	return (zow_why);
}

/* The hostid of the host that was opened last, 0 before. */
uint32_t
zow_host_id(void)
{
	return (zow_hostid);
}

/*
 * Sends all of it. Returns 0 or an errno; never raises SIGPIPE: a host that
 * went away has a message of its own.
 */
int
zow_send(int fd, struct iovec *iov, int iovcnt)
{
	while (iovcnt > 0) {
#ifdef __wasm__
		ssize_t n = writev(fd, iov, iovcnt);
#else
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = iovcnt };
		ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);
#endif
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return (errno);
		}
		while (iovcnt > 0 && (size_t)n >= iov->iov_len) {
			n -= iov->iov_len;
			iov++;
			iovcnt--;
		}
		if (iovcnt > 0) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= n;
		}
	}
	return (0);
}

/* Receives exactly size bytes. Returns 0 or an errno, ECONNRESET at EOF. */
int
zow_receive(int fd, void *buffer, size_t size)
{
	char *p = buffer;

	while (size > 0) {
		ssize_t n = read(fd, p, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return (errno);
		if (n == 0)
			return (ECONNRESET);
		p += n;
		size -= n;
	}
	return (0);
}

/*
 * The reason for a person: one line, with what to do about it.
 */
static void
zow_explain(int error)
{
	static const char start[] = "start one with 'zow serve <config>'";
	static const char elsewhere[] = "or say where it is with ZOW_SOCKET";

	if (zow_path_long != NULL) {
		(void) snprintf(zow_why, sizeof (zow_why), "%.256s: too long "
		    "for a unix socket's path, which has at most %d bytes",
		    zow_path_long, (int)sizeof (zow_path) - 1);
	} else if (*zow_path == '\0') {
		(void) snprintf(zow_why, sizeof (zow_why), "no ZoW host: "
		    "neither ZOW_SOCKET nor XDG_RUNTIME_DIR is set; %s",
		    start);
	} else if (error == ENOENT || error == ECONNREFUSED) {
		(void) snprintf(zow_why, sizeof (zow_why), "no ZoW host "
		    "listens on %s: %s, %s", zow_path, start, elsewhere);
	} else {
		(void) snprintf(zow_why, sizeof (zow_why), "cannot reach the "
		    "ZoW host on %s: %s", zow_path, strerror(error));
	}
}

/*
 * What the inodes of standard input and output are: by them a host on this
 * machine makes sure that it has found this very process (pipe.ts).
 */
static uint32_t
zow_stdio(void)
{
	uint64_t inodes[2] = { 0 };
	struct stat st;

	for (int fd = 0; fd < 2; fd++) {
		if (fstat(fd, &st) == 0)
			inodes[fd] = st.st_ino;
	}
	return ((uint32_t)(31 * inodes[0] + inodes[1]));
}

/* Says hello on a connected socket. Returns 0 or an errno. */
static int
zow_greet(int fd, uint32_t attach_minor, zow_hello_reply_t *reply)
{
	zow_hello_t hello = {
		.zh_version = ZOW_VERSION,
		.zh_cmd_size = sizeof (zfs_cmd_t),
		.zh_release = ZFS_META_VERSION,
		.zh_pid = getpid(),
		.zh_fd = fd,
		.zh_attach_minor = attach_minor,
		.zh_stdio = zow_stdio(),
	};
	struct iovec iov = { &hello, sizeof (hello) };
	int error;

	(void) memcpy(hello.zh_magic, ZOW_MAGIC, sizeof (hello.zh_magic));
	(void) memcpy(hello.zh_process, zow_process, sizeof (zow_process));
	(void) strncpy(hello.zh_program, program_invocation_short_name,
	    sizeof (hello.zh_program) - 1);

	/* A host that refuses may have closed before it read all of it. */
	(void) zow_send(fd, &iov, 1);
	if ((error = zow_receive(fd, reply, sizeof (*reply))) != 0) {
		zow_explain(error);
		return (error);
	}
	reply->zr_release[sizeof (reply->zr_release) - 1] = '\0';
	reply->zr_message[sizeof (reply->zr_message) - 1] = '\0';
	if (memcmp(reply->zr_magic, ZOW_MAGIC, sizeof (reply->zr_magic)) != 0) {
		(void) snprintf(zow_why, sizeof (zow_why), "what listens on %s "
		    "is not a ZoW host", zow_path);
		return (EPROTO);
	}
	if (reply->zr_status != 0) {
		(void) snprintf(zow_why, sizeof (zow_why), "the ZoW host on %s "
		    "refuses: %s", zow_path, reply->zr_message);
		return (reply->zr_status);
	}
	return (0);
}

/*
 * A new connection to the host: a new session, or one more lane of the one
 * with this minor. Returns the descriptor and the reply, or -1 with errno
 * and zow_why_not().
 */
int
zow_connect(uint32_t attach_minor, zow_hello_reply_t *reply)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int error, fd;

	if (*zow_socket_path() == '\0' || zow_path_long != NULL) {
		zow_explain(ENOENT);
		errno = ENXIO;
		return (-1);
	}
	(void) memcpy(addr.sun_path, zow_path, sizeof (zow_path));
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0) {
		error = errno;
		zow_explain(error);
		errno = error;
		return (-1);
	}
	/* An interrupted connect to a unix socket has not begun. */
	do {
		error = connect(fd, (struct sockaddr *)&addr, sizeof (addr));
	} while (error != 0 && errno == EINTR);
	if (error != 0) {
		error = errno;
		zow_explain(error);
	} else {
		error = zow_greet(fd, attach_minor, reply);
	}
	if (error != 0) {
		(void) __real_close(fd);
		errno = error;
		return (-1);
	}
	zow_hostid = reply->zr_hostid;
	return (fd);
}
