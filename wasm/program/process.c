/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Processes: a program has none but itself. What upstream runs others for
 * (`zpool iostat -c`, share commands, pagers) fails as it does when the
 * system refuses a process.
 */

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

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

/* There is no fork to be told of. */
int
pthread_atfork(void (*prepare)(void), void (*parent)(void),
    void (*child)(void))
{
	(void) prepare, (void) parent, (void) child;
	return (0);
}
