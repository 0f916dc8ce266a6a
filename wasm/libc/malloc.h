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

#ifndef	_ZOW_MALLOC_H
#define	_ZOW_MALLOC_H

#include <stddef.h>

/* Bytes that the heap can ever have. */
size_t zow_heap_limit(void);

/* Bytes handed out and not freed, rounded up to their size classes. */
size_t zow_heap_live(void);

/* As malloc() and memalign(), but they never wait. */
void *zow_malloc_now(size_t size);
void *zow_memalign_now(size_t align, size_t size);

/*
 * What small objects can have of the heap; without a limit one of them in
 * each chunk keeps all of it from large blocks, however much is free.
 */
extern size_t zow_slab_bytes_max;

/*
 * Called by a fiber whose allocation found no memory, for the tries'th time.
 * Returns nonzero when it should try again; the default returns 0, and the
 * allocation fails.
 */
int zow_memory_wait(size_t size, int tries);

/*
 * A storm, for tests: one of so many allocations that may fail (KM_NOSLEEP, and
 * the host's) does, whatever memory there is. What upstream makes with malloc()
 * may not. 0: none does (tunable zow_memory_storm of the debug build).
 */
extern unsigned int zow_memory_storm;
int zow_memory_strikes(void);

#endif	/* _ZOW_MALLOC_H */
