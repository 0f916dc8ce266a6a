/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * The system calls that only programs make, by subject. Each function answers
 * what it knows; results are the kernel's: -errno when not good.
 */

#ifndef	_ZOW_PROCESS_H
#define	_ZOW_PROCESS_H

/* socket.c: the unix socket of a host. */
long zow_sys_socket(int domain, int type);
int zow_is_socket(int fd);
long zow_sys_socket_call(long n, long a, long b, long c);

/* ioctl.c: of terminals and block devices. */
long zow_sys_ioctl(int fd, unsigned int request, void *arg);

/* terminal.c: the terminal on a standard stream. */
long zow_terminal_ioctl(int fd, unsigned int request, void *arg);
int zow_is_terminal_input(int fd);
long zow_terminal_read(int fd, void *buf, unsigned int length);

/* signal.c */
struct k_sigaction;
long zow_sys_sigaction(int sig, const struct k_sigaction *action,
    struct k_sigaction *old);
long zow_sys_kill(int sig);

/*
 * run.c: runs a program and collects the lines it prints, from malloc(3);
 * `env` NULL is ours. Returns its exit code, or -1 when it did not run.
 */
int zow_run(const char *path, char **argv, char **env, int flags,
    char ***lines, int *count);

#endif	/* _ZOW_PROCESS_H */
