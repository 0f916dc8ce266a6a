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
 * Memory of channel programs. Upstream's allocator for Lua believes in its
 * limit, 100 MiB or what `zfs program -m` says, and cannot fail within it.
 *
 * And tables in tables that they return: upstream lets through as many as a
 * list can be packed with, and puts them into lists of its own, which cannot.
 */

#include <sys/zfs_context.h>
#include <sys/zcp.h>
#include <sys/zfs_ioctl.h>

#include "admission.h"
#include "malloc.h"
#include "nvlist.h"
#include "session.h"

extern int __real_zcp_eval(const char *, const char *, boolean_t, uint64_t,
    uint64_t, nvpair_t *, nvlist_t *);
extern int __wrap_zcp_eval(const char *, const char *, boolean_t, uint64_t,
    uint64_t, nvpair_t *, nvlist_t *);

/* As upstream's own limit, which says 20. */
static int
result_check(nvlist_t *out, int error)
{
	char text[80];

	if (nvlist_levels(out) <= NVLIST_LEVELS_MAX)
		return (error);
	(void) snprintf(text, sizeof (text),
	    "Maximum table depth (%d) exceeded for table", NVLIST_LEVELS_MAX);
	(void) nvlist_remove_all(out, ZCP_RET_RETURN);
	(void) nvlist_remove_all(out, ZCP_RET_ERROR);
	fnvlist_add_string(out, ZCP_RET_ERROR, text);
	return (error != 0 ? error : SET_ERROR(ECHRNG));
}

int
__wrap_zcp_eval(const char *pool, const char *program, boolean_t sync,
    uint64_t instructions, uint64_t memory, nvpair_t *arg, nvlist_t *out)
{
	const ioctl_request_t *r = ioctl_current();
	uint64_t bytes;
	int error;

	memory = MIN(memory, zow_heap_limit() / 4);
	/* Upstream's own programs take little of what they may. */
	bytes = r != NULL && r->r_number == ZFS_IOC_CHANNEL_PROGRAM ?
	    memory : 0;
	if ((error = admission_enter(bytes)) != 0)
		return (error);
	error = __real_zcp_eval(pool, program, sync, instructions, memory,
	    arg, out);
	admission_leave(bytes);
	return (result_check(out, error));
}
