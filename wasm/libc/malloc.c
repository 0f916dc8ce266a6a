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
 * malloc: size classes over dlmalloc (whose source wasi-libc carries).
 *
 *	<= 16 KiB	slabs: 64 KiB pages cut into objects of one class; the
 *			class of an address is found by its page
 *	larger		multiples of 4 KiB, page aligned; freed ones are kept
 *			in a list by exact size (ARC buffers come and go in a
 *			few sizes), the rest goes to dlmalloc
 *
 * With dlmalloc alone malloc was 13 % of the processor time of a pool under
 * load. The memory is the module's fixed one: nothing is given back to the
 * operating system, and what is out of use is what arc_os.c counts as free.
 */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "fiber.h"
#include "zow.h"
#include "malloc.h"

#define	HAVE_MMAP		0
#define	MORECORE_CANNOT_TRIM	1
#define	MALLOC_ALIGNMENT	16
#define	LACKS_TIME_H		1
#define	NO_MALLINFO		1
#define	NO_MALLOC_STATS		1
#define	USE_LOCKS		0
#define	malloc_getpagesize	65536
#define	DEFAULT_GRANULARITY	(1 << 20)
#define	ABORT			__builtin_trap()
#define	USE_DL_PREFIX		1
#define	DLMALLOC_EXPORT		static inline
static size_t dlmalloc_usable_size(void *);
#include "dlmalloc/src/malloc.c"

#define	SMALL_MAX	16384
#define	SLAB_SHIFT	16
#define	SLAB_SIZE	(1 << SLAB_SHIFT)
#define	SLABS_AT_ONCE	16
#define	CLASS_MAX	64
#define	LARGE_SHIFT	12
#define	LARGE_PAGE	(1 << LARGE_SHIFT)
#define	LARGE_BIN_MAX	4097		/* up to 16 MiB, the largest block */

static uint8_t slab_class[65536];	/* of each 64 KiB page; 0: not a slab */
static void *class_free[CLASS_MAX];
static uint16_t class_size[CLASS_MAX];
static uint8_t size_class[SMALL_MAX / 16 + 1];
static int class_count;
static void *large_bin[LARGE_BIN_MAX];

static size_t heap_live;		/* bytes handed out, rounded up */
static size_t large_cached;		/* bytes in large_bin */
static uintptr_t heap_break;

extern unsigned char __heap_base;

/* Waits for memory to come free; 0 when there is no point. See arc_os.c. */
__attribute__((__weak__)) int
zow_memory_wait(size_t size)
{
	(void) size;
	return (0);
}

void *
sbrk(intptr_t increment)
{
	uintptr_t limit = __builtin_wasm_memory_size(0) * 65536ull - 65536;
	uintptr_t old;

	if (heap_break == 0)
		heap_break = ((uintptr_t)&__heap_base + 65535) & -65536;
	old = heap_break;
	if (increment < 0 || (uintptr_t)increment > limit - old) {
		errno = ENOMEM;
		return ((void *)-1);
	}
	heap_break += increment;
	return ((void *)old);
}

static void
classes_init(void)
{
	int c = 1;

	for (unsigned int size = 16; size <= 256; size += 16)
		class_size[c++] = size;
	for (unsigned int base = 256; base < SMALL_MAX; base *= 2) {
		for (int i = 1; i <= 4; i++)
			class_size[c++] = base + base / 4 * i;
	}
	class_count = c;
	c = 1;
	for (unsigned int i = 0; i <= SMALL_MAX / 16; i++) {
		while (class_size[c] < i * 16)
			c++;
		size_class[i] = c;
	}
}

static void
large_flush(void)
{
	for (int bin = 0; bin < LARGE_BIN_MAX; bin++) {
		while (large_bin[bin] != NULL) {
			void *p = large_bin[bin];

			large_bin[bin] = *(void **)p;
			dlfree(p);
		}
	}
	large_cached = 0;
}

static void *
underlying_alloc(size_t align, size_t size)
{
	void *p = dlmemalign(align, size);

	if (p == NULL && large_cached > 0) {
		large_flush();
		p = dlmemalign(align, size);
	}
	return (p);
}

/* A new slab for the class; its first object, the others go to the list. */
static void *
slab_grow(int class)
{
	static char *chunk;
	static int chunk_slabs;
	unsigned int size = class_size[class];
	unsigned int count = SLAB_SIZE / size;
	char *slab;

	if (chunk_slabs == 0) {
		/* dlmalloc's header makes the last page of a chunk short. */
		chunk = underlying_alloc(SLAB_SIZE,
		    SLABS_AT_ONCE * SLAB_SIZE - 64);
		if (chunk != NULL) {
			chunk_slabs = SLABS_AT_ONCE - 1;
		} else {
			chunk = underlying_alloc(SLAB_SIZE, SLAB_SIZE);
			if (chunk == NULL)
				return (NULL);
			chunk_slabs = 1;
		}
	}
	slab = chunk;
	chunk += SLAB_SIZE;
	chunk_slabs--;
	slab_class[(uintptr_t)slab >> SLAB_SHIFT] = class;
	for (unsigned int i = count - 1; i > 0; i--) {
		void **object = (void **)(slab + i * size);

		*object = class_free[class];
		class_free[class] = object;
	}
	return (slab);
}

static inline void *
small_alloc(int class)
{
	void *p = class_free[class];

	if (__builtin_expect(p != NULL, 1)) {
		class_free[class] = *(void **)p;
	} else {
		p = slab_grow(class);
		if (p == NULL)
			return (NULL);
	}
	heap_live += class_size[class];
	return (p);
}

static __attribute__((noinline)) void *
large_alloc(size_t align, size_t size)
{
	size_t pages;
	void *p;

	if (size > SIZE_MAX - LARGE_PAGE)
		return (NULL);
	size = (size + LARGE_PAGE - 1) & -LARGE_PAGE;
	pages = size >> LARGE_SHIFT;
	if (align <= LARGE_PAGE && pages < LARGE_BIN_MAX &&
	    large_bin[pages] != NULL) {
		p = large_bin[pages];
		large_bin[pages] = *(void **)p;
		large_cached -= size;
	} else {
		p = underlying_alloc(align < LARGE_PAGE ? LARGE_PAGE : align,
		    size);
		if (p == NULL)
			return (NULL);
	}
	heap_live += dlmalloc_usable_size(p) & -LARGE_PAGE;
	return (p);
}

static void *
alloc_now(size_t align, size_t size)
{
	if (__builtin_expect(class_count == 0, 0))
		classes_init();
	if (align <= 16) {
		if (__builtin_expect(size <= SMALL_MAX, 1))
			return (small_alloc(size_class[(size + 15) >> 4]));
	} else if (size <= SMALL_MAX && align <= SMALL_MAX) {
		/* Objects of a power-of-two class are aligned to it. */
		size_t power = align;

		while (power < size)
			power *= 2;
		if (power <= SMALL_MAX)
			return (small_alloc(size_class[power >> 4]));
	}
	return (large_alloc(align, size));
}

static void *
alloc(size_t align, size_t size)
{
	void *p;

	while ((p = alloc_now(align, size)) == NULL) {
		if (fiber_current == NULL || !zow_memory_wait(size)) {
			errno = ENOMEM;
			return (NULL);
		}
	}
	return (p);
}

void *
malloc(size_t size)
{
	return (alloc(1, size));
}

void
free(void *p)
{
	int class;
	size_t size, pages;

	if (p == NULL)
		return;
	class = slab_class[(uintptr_t)p >> SLAB_SHIFT];
	if (__builtin_expect(class != 0, 1)) {
		heap_live -= class_size[class];
		*(void **)p = class_free[class];
		class_free[class] = p;
		return;
	}
	size = dlmalloc_usable_size(p) & -LARGE_PAGE;
	pages = size >> LARGE_SHIFT;
	heap_live -= size;
	if (pages < LARGE_BIN_MAX && large_cached + size <=
	    zow_heap_limit() / 16) {
		*(void **)p = large_bin[pages];
		large_bin[pages] = p;
		large_cached += size;
		return;
	}
	dlfree(p);
}

size_t
malloc_usable_size(void *p)
{
	int class = slab_class[(uintptr_t)p >> SLAB_SHIFT];

	return (class != 0 ? class_size[class] :
	    dlmalloc_usable_size(p) & -LARGE_PAGE);
}

void *
calloc(size_t count, size_t size)
{
	size_t bytes;
	void *p;

	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return (NULL);
	}
	p = malloc(bytes);
	if (p != NULL)
		memset(p, 0, bytes);
	return (p);
}

void *
realloc(void *p, size_t size)
{
	size_t old;
	void *q;

	if (p == NULL)
		return (malloc(size));
	old = malloc_usable_size(p);
	if (size <= old && size > old / 2)
		return (p);
	q = malloc(size);
	if (q == NULL)
		return (NULL);
	memcpy(q, p, size < old ? size : old);
	free(p);
	return (q);
}

void *
aligned_alloc(size_t align, size_t size)
{
	return (alloc(align, size));
}

void *
memalign(size_t align, size_t size)
{
	return (alloc(align, size));
}

int
posix_memalign(void **result, size_t align, size_t size)
{
	void *p = alloc(align, size);

	if (p == NULL)
		return (ENOMEM);
	*result = p;
	return (0);
}

/* musl's names for its own use. */
void *
__libc_malloc(size_t size)
{
	return (malloc(size));
}

void *
__libc_calloc(size_t count, size_t size)
{
	return (calloc(count, size));
}

void *
__libc_realloc(void *p, size_t size)
{
	return (realloc(p, size));
}

void
__libc_free(void *p)
{
	free(p);
}

size_t
zow_heap_limit(void)
{
	return (__builtin_wasm_memory_size(0) * 65536ull - 65536 -
	    (uintptr_t)&__heap_base);
}

size_t
zow_heap_live(void)
{
	return (heap_live);
}

/* Exports: memory for the host's own use. They never wait. */
ZOW_EXPORT("alloc") void *
host_alloc(size_t size)
{
	return (alloc_now(16, size));
}

ZOW_EXPORT("free") void
host_free(void *p)
{
	free(p);
}

ZOW_EXPORT("heap-live") size_t
host_heap_live(void)
{
	return (heap_live);
}
