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
 *			slab of an address is found by its page. One without
 *			live objects is any class's; when memory is short, a
 *			chunk whose slabs all are so is dlmalloc's again, and
 *			those side by side in others serve as a larger block
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
#define	CACHED_MAX	128		/* objects of a class kept at hand */
#define	LARGE_SHIFT	12
#define	LARGE_PAGE	(1 << LARGE_SHIFT)
#define	LARGE_BIN_MAX	4097		/* up to 16 MiB, the largest block */

/*
 * Slabs are numbered by their page; 0 is none. They come in chunks, whose
 * first slab knows how many they are.
 */
typedef struct slab {
	void		*s_objects;	/* free ones */
	uint16_t	s_live;		/* objects in use */
	uint16_t	s_next;		/* in its class's list, or that of */
	uint16_t	s_prev;		/* the free slabs */
	uint8_t		s_class;	/* 0: free, or not a slab */
	uint8_t		s_position;	/* in its chunk */
	uint8_t		s_chunk_slabs;
	uint8_t		s_chunk_free;	/* of them, free */
	uint8_t		s_free;		/* in free_slabs */
	uint8_t		s_run;		/* slabs of the large block here */
} slab_t;

static slab_t slabs[65536];
static uint16_t class_slabs[CLASS_MAX];	/* with free objects */
static uint16_t free_slabs;

/* What was freed last of each class, for the next of it; live to its slab. */
static void *class_cache[CLASS_MAX];
static uint8_t class_cached[CLASS_MAX];
static uint8_t class_cached_max[CLASS_MAX];
static int free_chunks;			/* whose slabs are all free */
static size_t slab_bytes;		/* of all chunks */
static size_t run_bytes;		/* of those, in large blocks */
size_t zow_slab_bytes_max = SIZE_MAX;
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
zow_memory_wait(size_t size, int tries)
{
	(void) size, (void) tries;
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
	for (c = 1; c < class_count; c++) {
		int count = SLAB_SIZE / class_size[c];

		class_cached_max[c] = count < CACHED_MAX ? count : CACHED_MAX;
	}
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
	if (large_cached == 0)
		return;
	for (int bin = 0; bin < LARGE_BIN_MAX; bin++) {
		while (large_bin[bin] != NULL) {
			void *p = large_bin[bin];

			large_bin[bin] = *(void **)p;
			dlfree(p);
		}
	}
	large_cached = 0;
}

static void
slab_link(uint16_t *list, unsigned int i)
{
	slabs[i].s_prev = 0;
	slabs[i].s_next = *list;
	if (*list != 0)
		slabs[*list].s_prev = i;
	*list = i;
}

static void
slab_unlink(uint16_t *list, unsigned int i)
{
	const slab_t *s = &slabs[i];

	if (s->s_prev != 0)
		slabs[s->s_prev].s_next = s->s_next;
	else
		*list = s->s_next;
	if (s->s_next != 0)
		slabs[s->s_next].s_prev = s->s_prev;
}

/* Makes a slab free, for any class. */
static __attribute__((noinline)) void
slab_release(unsigned int i)
{
	slab_t *first = &slabs[i - slabs[i].s_position];

	slabs[i].s_class = 0;
	slabs[i].s_free = 1;
	slab_link(&free_slabs, i);
	if (++first->s_chunk_free == first->s_chunk_slabs)
		free_chunks++;
}

/* Takes `count` free slabs, side by side, for a class or a large block. */
static void
slab_take(unsigned int i, unsigned int count)
{
	slab_t *first = &slabs[i - slabs[i].s_position];

	if (first->s_chunk_free == first->s_chunk_slabs)
		free_chunks--;
	first->s_chunk_free -= count;
	for (unsigned int n = 0; n < count; n++) {
		slab_unlink(&free_slabs, i + n);
		slabs[i + n].s_free = 0;
	}
}

static void slab_free(void *);

/* Gives chunks without a slab in use back to dlmalloc. */
static void
slab_flush(void)
{
	unsigned int next;

	for (int class = 1; class < class_count; class++) {
		while (class_cache[class] != NULL) {
			void *p = class_cache[class];

			class_cache[class] = *(void **)p;
			slab_free(p);
		}
		class_cached[class] = 0;
		for (unsigned int i = class_slabs[class]; i != 0; i = next) {
			next = slabs[i].s_next;
			if (slabs[i].s_live > 0)
				continue;
			slab_unlink(&class_slabs[class], i);
			slab_release(i);
		}
	}
	for (unsigned int i = free_slabs; i != 0 && free_chunks > 0; i = next) {
		unsigned int first = i - slabs[i].s_position;
		unsigned int count = slabs[first].s_chunk_slabs;

		next = slabs[i].s_next;
		if (slabs[first].s_chunk_free < count)
			continue;
		while (next >= first && next < first + count)
			next = slabs[next].s_next;
		slab_take(first, count);
		slab_bytes -= (size_t)count << SLAB_SHIFT;
		dlfree((void *)((uintptr_t)first << SLAB_SHIFT));
	}
}

static void *
underlying_alloc(size_t align, size_t size)
{
	void *p = dlmemalign(align, size);

	if (p == NULL) {
		large_flush();
		slab_flush();
		p = dlmemalign(align, size);
	}
	return (p);
}

/* A new chunk; zero when there is no memory. */
static int
chunk_grow(void)
{
	/* dlmalloc's header makes the last page of a chunk short. */
	unsigned int count = SLABS_AT_ONCE - 1;
	unsigned int first;
	void *chunk;

	if (slab_bytes - run_bytes + SLABS_AT_ONCE * SLAB_SIZE >
	    zow_slab_bytes_max) {
		slab_flush();
		return (free_slabs != 0);
	}
	chunk = underlying_alloc(SLAB_SIZE, SLABS_AT_ONCE * SLAB_SIZE - 64);
	if (chunk == NULL) {
		/* To look for one may have set slabs free. */
		if (free_slabs != 0)
			return (1);
		count = 1;
		chunk = underlying_alloc(SLAB_SIZE, SLAB_SIZE);
	}
	if (chunk == NULL)
		return (free_slabs != 0);
	first = (uintptr_t)chunk >> SLAB_SHIFT;
	slabs[first].s_chunk_slabs = count;
	slabs[first].s_chunk_free = 0;
	slab_bytes += (size_t)count << SLAB_SHIFT;
	for (unsigned int i = count; i-- > 0; ) {
		slabs[first + i].s_position = i;
		slab_release(first + i);
	}
	return (1);
}

/* Gives the class a slab; zero when there is no memory. */
static __attribute__((noinline)) int
slab_grow(int class)
{
	unsigned int size = class_size[class];
	unsigned int i;
	slab_t *s;
	char *base;

	if (free_slabs == 0 && !chunk_grow())
		return (0);
	i = free_slabs;
	s = &slabs[i];
	base = (char *)((uintptr_t)i << SLAB_SHIFT);
	slab_take(i, 1);
	s->s_class = class;
	s->s_live = 0;
	s->s_objects = NULL;
	for (unsigned int n = SLAB_SIZE / size; n-- > 0; ) {
		void **object = (void **)(base + n * size);

		*object = s->s_objects;
		s->s_objects = object;
	}
	slab_link(&class_slabs[class], i);
	return (1);
}

static __attribute__((noinline)) void *
slab_alloc(int class)
{
	slab_t *s;
	void *p;

	if (class_slabs[class] == 0 && !slab_grow(class))
		return (NULL);
	s = &slabs[class_slabs[class]];
	p = s->s_objects;
	s->s_objects = *(void **)p;
	s->s_live++;
	if (s->s_objects == NULL)
		slab_unlink(&class_slabs[class], class_slabs[class]);
	return (p);
}

/* A class keeps its last slab. */
static __attribute__((noinline)) void
slab_free(void *p)
{
	unsigned int i = (uintptr_t)p >> SLAB_SHIFT;
	slab_t *s = &slabs[i];
	uint16_t *list = &class_slabs[s->s_class];

	if (s->s_objects == NULL)
		slab_link(list, i);
	*(void **)p = s->s_objects;
	s->s_objects = p;
	if (--s->s_live == 0 && (s->s_next != 0 || s->s_prev != 0)) {
		slab_unlink(list, i);
		slab_release(i);
	}
}

static inline void *
small_alloc(int class)
{
	void *p = class_cache[class];

	if (__builtin_expect(p != NULL, 1)) {
		class_cache[class] = *(void **)p;
		class_cached[class]--;
	} else if ((p = slab_alloc(class)) == NULL) {
		return (NULL);
	}
	heap_live += class_size[class];
	return (p);
}

static inline void
small_free(int class, void *p)
{
	heap_live -= class_size[class];
	if (__builtin_expect(class_cached[class] < class_cached_max[class],
	    1)) {
		*(void **)p = class_cache[class];
		class_cache[class] = p;
		class_cached[class]++;
	} else {
		slab_free(p);
	}
}

static unsigned int
slabs_for(size_t size)
{
	return ((size + SLAB_SIZE - 1) >> SLAB_SHIFT);
}

/*
 * A large block of free slabs that are side by side; NULL: there are none.
 * Objects that stay keep their chunks from dlmalloc, and with them much
 * memory that nobody uses.
 */
static void *
run_alloc(size_t align, size_t size)
{
	unsigned int count = slabs_for(size);
	unsigned int i, n = 0;

	if (align > SLAB_SIZE || size > SLABS_AT_ONCE * SLAB_SIZE)
		return (NULL);
	for (i = free_slabs; i != 0; i = slabs[i].s_next) {
		unsigned int first = i - slabs[i].s_position;
		unsigned int end = first + slabs[first].s_chunk_slabs;

		for (n = 1; n < count && i + n < end && slabs[i + n].s_free; )
			n++;
		if (n == count)
			break;
	}
	if (i == 0)
		return (NULL);
	slab_take(i, count);
	slabs[i].s_run = count;
	run_bytes += (size_t)count << SLAB_SHIFT;
	heap_live += (size_t)count << SLAB_SHIFT;
	return ((void *)((uintptr_t)i << SLAB_SHIFT));
}

static void
run_free(unsigned int i)
{
	unsigned int count = slabs[i].s_run;

	slabs[i].s_run = 0;
	run_bytes -= (size_t)count << SLAB_SHIFT;
	heap_live -= (size_t)count << SLAB_SHIFT;
	for (unsigned int n = 0; n < count; n++)
		slab_release(i + n);
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
		if (align < LARGE_PAGE)
			align = LARGE_PAGE;
		p = dlmemalign(align, size);
		/* Slabs that it fills; others when there is nothing else. */
		if (p == NULL && size > slabs_for(size) * SLAB_SIZE / 4 * 3 &&
		    (p = run_alloc(align, size)) != NULL)
			return (p);
		if (p == NULL)
			p = underlying_alloc(align, size);
		if (p == NULL)
			return (run_alloc(align, size));
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

unsigned int zow_memory_storm;

int
zow_memory_strikes(void)
{
	static uint32_t state = 1;

	if (zow_memory_storm == 0)
		return (0);
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return (state % zow_memory_storm == 0);
}

static void *
alloc(size_t align, size_t size)
{
	void *p;

	for (int tries = 1; (p = alloc_now(align, size)) == NULL; tries++) {
		if (fiber_current == NULL || !zow_memory_wait(size, tries)) {
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
	unsigned int i = (uintptr_t)p >> SLAB_SHIFT;
	int class = slabs[i].s_class;
	size_t size, pages;

	if (p == NULL)
		return;
	if (__builtin_expect(class != 0, 1)) {
		small_free(class, p);
		return;
	}
	if (slabs[i].s_run != 0) {
		run_free(i);
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
	const slab_t *s = &slabs[(uintptr_t)p >> SLAB_SHIFT];

	if (s->s_class != 0)
		return (class_size[s->s_class]);
	if (s->s_run != 0)
		return ((size_t)s->s_run << SLAB_SHIFT);
	return (dlmalloc_usable_size(p) & -LARGE_PAGE);
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

void *
zow_malloc_now(size_t size)
{
	return (alloc_now(1, size));
}

void *
zow_memalign_now(size_t align, size_t size)
{
	return (alloc_now(align, size));
}

/* Exports: memory for the host's own use. They never wait. */
ZOW_EXPORT("alloc") void *
host_alloc(size_t size)
{
	return (zow_memory_strikes() ? NULL : zow_malloc_now(size));
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
