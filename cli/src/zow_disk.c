/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include <libzutil.h>

boolean_t __wrap_zfs_dev_is_whole_disk(const char *);

/*
 * Upstream partitions a disk that it is given whole, waits for udev to make
 * the partition's node, and uses that. In a container there is no udev, and
 * the host was told this path: a device is used as it is, from its first
 * sector on, as upstream uses partitions and files.
 */
boolean_t
__wrap_zfs_dev_is_whole_disk(const char *path)
{
	(void) path;
	return (B_FALSE);
}
