/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/* The ioctls of a block device: musl has them where mount(2) is declared. */

#ifndef	_LINUX_FS_H
#define	_LINUX_FS_H

#include <sys/mount.h>

#endif	/* _LINUX_FS_H */
