/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include <errno.h>
#include <libzfs_core.h>

extern int __real_lzc_promote(const char *, char *, int);
int __wrap_lzc_promote(const char *, char *, int);

/*
 * libzfs looks whether the data set is a clone before it asks; that the host
 * says it is none means that another promotion came between. libzfs does not
 * know that error, and aborts.
 */
int
__wrap_lzc_promote(const char *fsname, char *snapnamebuf, int snapnamelen)
{
	int error = __real_lzc_promote(fsname, snapnamebuf, snapnamelen);

	return (error == EINVAL ? EBUSY : error);
}
