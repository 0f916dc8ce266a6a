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
 * The ARC's view of memory, in the place of libzpool's, which simulates
 * pressure for ztest. The memory is the module's heap: what is neither handed
 * out nor kept in reserve is available.
 */

#include <sys/zfs_context.h>
#include <sys/arc.h>
#include <sys/arc_impl.h>

#include "fiber.h"
#include "malloc.h"
#include "zow.h"

/* Kept free for what must not wait: 1/16 of the heap. */
#define	RESERVE_SHIFT	4

/* How long one allocation waits for the ARC before the module gives up. */
#define	MEMORY_WAIT_NS		(2 * MICROSEC)
#define	MEMORY_WAIT_TRIES	10000
#define	MEMORY_MAY_FAIL_TRIES	1000	/* of one that may fail: 2 s */
#define	MEMORY_WARN_NS		(10ll * NANOSEC)	/* between warnings */

uint64_t
arc_default_max(uint64_t min, uint64_t allmem)
{
	return (MAX(allmem / 2, min));
}

uint64_t
arc_all_memory(void)
{
	return (zow_heap_limit());
}

uint64_t
arc_free_memory(void)
{
	return (zow_heap_limit() - MIN(zow_heap_live(), zow_heap_limit()));
}

int64_t
arc_available_memory(void)
{
	return ((int64_t)arc_free_memory() -
	    (int64_t)(zow_heap_limit() >> RESERVE_SHIFT));
}

int
arc_memory_throttle(spa_t *spa, uint64_t reserve, uint64_t txg)
{
	(void) spa, (void) txg;
	if (arc_free_memory() < reserve + (zow_heap_limit() >> (RESERVE_SHIFT
	    + 1)))
		return (SET_ERROR(EAGAIN));
	return (0);
}

void
arc_lowmem_init(void)
{
}

void
arc_lowmem_fini(void)
{
}

void
arc_register_hotplug(void)
{
}

void
arc_unregister_hotplug(void)
{
}

/*
 * An allocation found no memory: let the ARC's reaper work. It runs as a
 * fiber, so sleeping is what gives it its turn.
 */
int
zow_memory_wait(size_t size, int tries)
{
	static hrtime_t warned;
	ulong_t live = zow_heap_live(), limit = zow_heap_limit();

	if (warned == 0 || gethrtime() - warned > MEMORY_WARN_NS) {
		char text[128];

		warned = gethrtime();
		(void) snprintf(text, sizeof (text), "out of memory: %lu bytes "
		    "wanted, %lu of %lu in use; waiting for the ARC",
		    (ulong_t)size, live, limit);
		zow_log(ZOW_LOG_WARN, text, strlen(text));
	}
	if (tries > MEMORY_WAIT_TRIES || size > limit)
		zow_panic("out of memory: %lu bytes wanted, %lu of %lu in use",
		    (ulong_t)size, live, limit);
	arc_reduce_target_size(MAX(size, 1024 * 1024));
	fiber_sleep(MEMORY_WAIT_NS);
	return (1);
}

/*
 * An allocation of upstream's that was not had at once (umem.h). What may fail
 * does, after a while or at once if no wait can help; what may not ends the
 * module rather than goes on with less.
 */
void *
zow_umem_alloc(uint64_t size, size_t align, int flags)
{
	boolean_t may_fail = (flags & UMEM_DEFAULT) != 0;
	void *p = NULL;

	if (size > zow_heap_limit() || fiber_current == NULL) {
		if (may_fail)
			return (NULL);
		zow_panic("out of memory: %llu bytes wanted, %lu of %lu in use",
		    (u_longlong_t)size, (ulong_t)zow_heap_live(),
		    (ulong_t)zow_heap_limit());
	}
	for (int tries = 1; p == NULL; tries++) {
		if (may_fail && tries > MEMORY_MAY_FAIL_TRIES)
			return (NULL);
		(void) zow_memory_wait(size, tries);
		p = zow_memalign_now(align, size);
	}
	return (p);
}

#ifdef ZFS_DEBUG
ZFS_MODULE_PARAM(zow, zow_, memory_storm, UINT, ZMOD_RW,
	"One of so many allocations that may fail does");
#endif
