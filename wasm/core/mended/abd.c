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
 * libzpool's abd_os.c cuts every buffer into pages, as kernels do, whose memory
 * has no larger pieces after a while; without their zfs_abd_scatter_enabled.
 * Here only a buffer in one piece goes to a disk as it is, and is shared
 * between the ARC and who reads it.
 */

#include <sys/zfs_context.h>
#include <sys/abd.h>

boolean_t
abd_size_alloc_linear(size_t size)
{
	(void) size;
	return (B_TRUE);
}
