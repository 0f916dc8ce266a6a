/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * The kernel's partition ioctl, so that libefi compiles. A program has no
 * block device to call it on: a device is used as it is.
 */

#ifndef	_LINUX_BLKPG_H
#define	_LINUX_BLKPG_H

#include <sys/ioctl.h>

#define	BLKPG			_IO(0x12, 105)
#define	BLKPG_ADD_PARTITION	1
#define	BLKPG_DEL_PARTITION	2
#define	BLKPG_RESIZE_PARTITION	3
#define	BLKPG_DEVNAMELTH	64
#define	BLKPG_VOLNAMELTH	64

struct blkpg_ioctl_arg {
	int	op;
	int	flags;
	int	datalen;
	void	*data;
};

struct blkpg_partition {
	long long	start;
	long long	length;
	int		pno;
	char		devname[BLKPG_DEVNAMELTH];
	char		volname[BLKPG_VOLNAMELTH];
};

#endif	/* _LINUX_BLKPG_H */
