/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "process.h"

/* stat(2) of a block device has its size here, see wasm/libc/syscall.c. */
static long
block_size(int fd, uint64_t *bytes)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return (-errno);
	if (!S_ISBLK(st.st_mode))
		return (-ENOTTY);
	*bytes = st.st_size;
	return (0);
}

long
zow_sys_ioctl(int fd, unsigned int request, void *arg)
{
	switch (request) {
	case BLKGETSIZE64:
		return (block_size(fd, arg));
	/* Reads of a program see what the host wrote: both use the cache. */
	case BLKFLSBUF:
		return (0);
	default:
		return (zow_terminal_ioctl(fd, request, arg));
	}
}
