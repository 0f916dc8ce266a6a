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

#ifndef	_ZOW_NVLIST_H
#define	_ZOW_NVLIST_H

#include <sys/nvpair.h>

/* Lists in lists, of what an ioctl brings and returns: room for one around. */
#define	NVLIST_LEVELS_MAX	19

/* How deep lists are within the list; 0: there are none. */
int nvlist_levels(nvlist_t *nvl);

#endif	/* _ZOW_NVLIST_H */
