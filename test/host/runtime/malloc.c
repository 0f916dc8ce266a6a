/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include "scenario.h"

/* musl's <malloc.h> is hidden by wasm/libc's own. */
extern size_t malloc_usable_size(void *);
extern size_t zow_slab_bytes_max;

ZOW_EXPORT("test-malloc") void *
test_malloc(size_t size)
{
	return (malloc(size));
}

ZOW_EXPORT("test-calloc") void *
test_calloc(size_t count, size_t size)
{
	return (calloc(count, size));
}

ZOW_EXPORT("test-realloc") void *
test_realloc(void *p, size_t size)
{
	return (realloc(p, size));
}

ZOW_EXPORT("test-aligned") void *
test_aligned(size_t align, size_t size)
{
	return (aligned_alloc(align, size));
}

ZOW_EXPORT("test-usable") size_t
test_usable(void *p)
{
	return (malloc_usable_size(p));
}

ZOW_EXPORT("test-slab-bytes-max") void
test_slab_bytes_max(size_t size)
{
	zow_slab_bytes_max = size;
}

const scenario_t scenarios[] = {
	{ NULL, NULL }
};
