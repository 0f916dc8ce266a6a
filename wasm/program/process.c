/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * The operating system below a program: what wasm/libc/syscall.c, which the
 * core has too, leaves over. A program has one process, itself; what upstream
 * forks for is in run.c.
 */

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zow.h>

#include "fiber.h"
#include "process.h"

/* User and group of the process, effective or real, and its number. */
#define	ZOW_ID_UID	0
#define	ZOW_ID_EUID	1
#define	ZOW_ID_GID	2
#define	ZOW_ID_EGID	3
#define	ZOW_ID_PID	4
#define	ZOW_ID_PPID	5

ZOW_IMPORT("process-id")
extern int zow_process_id(int which);

/* Replaces the program; returns only when it cannot: -errno. */
ZOW_IMPORT("process-exec")
extern int zow_process_exec(const char *path, char *const *argv,
    char *const *envp);

/* flock(2), exclusive and without waiting: 0 or -errno. */
ZOW_IMPORT("process-lock")
extern int zow_process_lock(int fd);

/* What `ps` shows of the process from now on. */
ZOW_IMPORT("process-title")
extern void zow_process_title(const char *title, size_t length);

void __wrap_zfs_setproctitle_init(int, char **, char **);
void __wrap_zfs_setproctitle(const char *, ...);

/* As Linux gives main(): zdb has whole labels on it. */
const size_t zow_main_stack_size = 8 * 1024 * 1024;

pid_t
fork(void)
{
	errno = ENOSYS;
	return (-1);
}

pid_t
vfork(void)
{
	return (fork());
}

/*
 * zed asks whether it is root. Who can reach the host's socket is the pools'
 * administrator, whatever user that is.
 */
uid_t
zow_administrator(void)
{
	return (0);
}

/*
 * zed's state is of use to the next zed of the same host only: it has to
 * outlive the process, not the machine, and is written at every event.
 */
int
zow_no_sync(int fd)
{
	(void) fd;
	return (0);
}

/*
 * `zfs send --proctitle`. Upstream's writes over argv and the environment in
 * the process's memory; this module's are copies of them.
 */
void
__wrap_zfs_setproctitle_init(int argc, char **argv, char **envp)
{
	(void) argc, (void) argv, (void) envp;
}

void
__wrap_zfs_setproctitle(const char *format, ...)
{
	char title[2048];
	va_list ap;

	int at = snprintf(title, sizeof (title), "%s: ",
	    program_invocation_short_name);
	va_start(ap, format);
	(void) vsnprintf(title + at, sizeof (title) - at, format, ap);
	va_end(ap);
	zow_process_title(title, strlen(title));
}

/* There is no fork to be told of. */
int
pthread_atfork(void (*prepare)(void), void (*parent)(void),
    void (*child)(void))
{
	(void) prepare, (void) parent, (void) child;
	return (0);
}

/* Reads into the first part with room, as a short read may. */
static long
read_terminal(int fd, const struct iovec *iov, int iovcnt)
{
	for (int i = 0; i < iovcnt; i++) {
		if (iov[i].iov_len > 0)
			return (zow_terminal_read(fd, iov[i].iov_base,
			    iov[i].iov_len));
	}
	return (0);
}

long
__zow_syscall_process(long n, long a, long b, long c, long d, long e, long f)
{
	(void) d, (void) e, (void) f;
	switch (n) {
	case SYS_read:
		if (zow_is_terminal_input(a))
			return (zow_terminal_read(a, (void *)b, c));
		return (zow_sys_socket_call(n, a, b, c));
	case SYS_readv:
		if (zow_is_terminal_input(a))
			return (read_terminal(a, (const struct iovec *)b, c));
		return (zow_sys_socket_call(n, a, b, c));
	case SYS_socket:
		return (zow_sys_socket(a, b));
	case SYS_connect:
	case SYS_shutdown:
	case SYS_write:
	case SYS_writev:
	case SYS_close:
		return (zow_sys_socket_call(n, a, b, c));
	case SYS_ioctl:
		return (zow_sys_ioctl(a, b, (void *)c));
	case SYS_ppoll_time64:
		/* Without descriptors it is a sleep, which libc answers. */
		return (b == 0 ? -ENOSYS : b);
	case SYS_rt_sigaction:
		return (zow_sys_sigaction(a, (const struct k_sigaction *)b,
		    (struct k_sigaction *)c));
	case SYS_kill:
		return (a == 0 || a == zow_process_id(ZOW_ID_PID) ?
		    zow_sys_kill(b) : -EPERM);
	case SYS_tkill:
		return (zow_sys_kill(b));
	case SYS_waitid:
		return (-ECHILD);
	case SYS_execve:
		return (zow_process_exec((const char *)a, (char *const *)b,
		    (char *const *)c));
	case SYS_getuid:
		return (zow_process_id(ZOW_ID_UID));
	case SYS_geteuid:
		return (zow_process_id(ZOW_ID_EUID));
	case SYS_getgid:
		return (zow_process_id(ZOW_ID_GID));
	case SYS_getegid:
		return (zow_process_id(ZOW_ID_EGID));
	case SYS_getpid:
		return (zow_process_id(ZOW_ID_PID));
	case SYS_getppid:
		return (zow_process_id(ZOW_ID_PPID));
	case SYS_flock:
		return (b == (LOCK_EX | LOCK_NB) ? zow_process_lock(a) : 0);
	case SYS_sched_yield:
		fiber_yield();
		return (0);
	/* Flags of descriptors that nobody but this program has. */
	case SYS_fcntl64:
	case SYS_setpriority:
		return (0);
	default:
		return (-ENOSYS);
	}
}
