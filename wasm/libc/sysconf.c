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

#include <unistd.h>

#include "malloc.h"

#define	PAGE	4096
#define	NCPU	2	/* as sched_getaffinity() says, see syscall.c */

long
sysconf(int name)
{
	switch (name) {
	case _SC_PAGESIZE:
		return (PAGE);
	case _SC_PHYS_PAGES:
		return (zow_heap_limit() / PAGE);
	case _SC_AVPHYS_PAGES:
		return ((zow_heap_limit() - zow_heap_live()) / PAGE);
	case _SC_NPROCESSORS_ONLN:
	case _SC_NPROCESSORS_CONF:
		return (NCPU);
	case _SC_OPEN_MAX:
		return (1024);
	case _SC_CLK_TCK:
		return (100);
	default:
		return (-1);
	}
}

int
getpagesize(void)
{
	return (PAGE);
}
