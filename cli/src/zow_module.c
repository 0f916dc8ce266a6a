/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * What libzfs says about a kernel module: why it is not there, its version.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <libzfs.h>

#include "zow_client.h"

extern const char *__real_libzfs_error_init(int);

const char *__wrap_libzfs_error_init(int);
char *__wrap_zfs_version_kernel(void);

/* Upstream would send the user to modprobe. */
const char *
__wrap_libzfs_error_init(int error)
{
	const char *why = zow_why_not();

	return (*why != '\0' ? why : __real_libzfs_error_init(error));
}

/*
 * `zpool version` asks before it opens anything. Without a host there is no
 * version, and one line says so.
 */
char *
__wrap_zfs_version_kernel(void)
{
	zow_hello_reply_t reply;
	int fd = zow_connect(0, &reply);

	if (fd < 0) {
		(void) fflush(stdout);
		(void) fprintf(stderr, "%s\n", zow_why_not());
		exit(1);
	}
	(void) close(fd);
	/* The greeting made sure that the host's release is ours. */
	return (strdup(&ZFS_META_ALIAS[sizeof ("zfs-") - 1]));
}
