/*
 * CDDL HEADER START
 *
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 *
 * A full copy of the text of the CDDL should have accompanied this
 * source.
 *
 * CDDL HEADER END
 */

/*
 * The length that an LZ4 block says of itself. Upstream adds its 4 bytes to it
 * before it compares: where a size has 32 bits that is over the end of them,
 * and what follows is read as input.
 */

#include <sys/zfs_context.h>

extern int __real_LZ4_uncompress_unknownOutputSize(const char *, char *, int,
    int);
extern int __wrap_LZ4_uncompress_unknownOutputSize(const char *, char *, int,
    int);

int
__wrap_LZ4_uncompress_unknownOutputSize(const char *source, char *dest,
    int size, int room)
{
	return (size < 0 ? -1 :
	    __real_LZ4_uncompress_unknownOutputSize(source, dest, size, room));
}
