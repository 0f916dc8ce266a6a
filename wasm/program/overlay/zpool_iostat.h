/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * For zpool_main.c alone, which computes where a bucket of `zpool iostat -w`
 * ends as an unsigned long. That has 32 bits here, and buckets go up to 137
 * seconds. Bucket `j` is the one place where it prints a time itself.
 */

#include <libzutil.h>

#define	zfs_nicetime(val, buf, len) \
	(zfs_nicetime)((val) = (1ULL << (j + 1)) - 1, buf, len)
