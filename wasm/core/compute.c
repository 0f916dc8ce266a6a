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
 * Computation that the host's native code does faster: gzip by its zlib.
 */

#include <sys/zfs_context.h>
#include <sys/zmod.h>

#include "seam.h"

#define	Z_BUF_ERROR	(-5)

int
z_compress_level(void *dest, size_t *dest_len, const void *source,
    size_t source_len, int level)
{
	int n = zow_deflate(source, source_len, dest, *dest_len, level);

	if (n < 0)
		return (Z_BUF_ERROR);
	*dest_len = n;
	return (Z_OK);
}

int
z_uncompress(void *dest, size_t *dest_len, const void *source,
    size_t source_len)
{
	int n = zow_inflate(source, source_len, dest, *dest_len);

	if (n < 0)
		return (Z_BUF_ERROR);
	*dest_len = n;
	return (Z_OK);
}
