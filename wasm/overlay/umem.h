/*
 * The core's allocator, in the place of libspl's. Sizes are upstream's, which
 * are often 64 bits: one that memory can never give is not cut to 32, and so
 * neither is what comes from a stream or a disk. UMEM_DEFAULT (KM_NOSLEEP)
 * fails after a while, all else never does (arc_os.c): 0 is what upstream's
 * callers say that know it as Linux's KM_SLEEP. What allocates or frees without
 * end gives way (fiber.h), as kmem_alloc() in a kernel may sleep.
 */
#ifndef	ZOW_CORE
#include_next <umem.h>
#else
#ifndef	_ZOW_UMEM_H
#define	_ZOW_UMEM_H

#include <sys/debug.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "fiber.h"

#define	UMEM_DEFAULT		0x0001
#define	UMEM_NOFAIL		0x0100
#define	UMC_NODEBUG		0x00020000
#define	UMEM_CACHE_NAMELEN	31

typedef void vmem_t;
typedef int umem_constructor_t(void *, void *, int);
typedef void umem_destructor_t(void *, void *);
typedef void umem_reclaim_t(void *);

/* libzpool's, for a process that may abort. */
#define	umem_nofail_callback(cb)	((void) (cb))

typedef struct umem_cache {
	char			cache_name[UMEM_CACHE_NAMELEN + 1];
	size_t			cache_bufsize;
	size_t			cache_align;
	umem_constructor_t	*cache_constructor;
	umem_destructor_t	*cache_destructor;
	void			*cache_private;
} umem_cache_t;

/* What finds no memory at once, or never will (arc_os.c). */
extern void *zow_umem_alloc(uint64_t size, size_t align, int flags);

/* malloc.h: they never wait. */
extern void *zow_malloc_now(size_t size);
extern void *zow_memalign_now(size_t align, size_t size);
extern int zow_memory_strikes(void);

__attribute__((malloc))
static inline void *
umem_alloc(uint64_t size, int flags)
{
	void *p = NULL;

#ifdef ZFS_DEBUG
	if (flags == UMEM_DEFAULT && zow_memory_strikes())
		return (NULL);
#endif
	fiber_preempt();
	if (__builtin_expect(size >> 32 == 0, 1))
		p = zow_malloc_now((size_t)size);
	if (__builtin_expect(p == NULL, 0))
		p = zow_umem_alloc(size, 1, flags);
	return (p);
}

__attribute__((malloc))
static inline void *
umem_alloc_aligned(uint64_t size, size_t align, int flags)
{
	void *p = NULL;

	if (__builtin_expect(size >> 32 == 0, 1))
		p = zow_memalign_now(align, (size_t)size);
	if (__builtin_expect(p == NULL, 0))
		p = zow_umem_alloc(size, align, flags);
	return (p);
}

__attribute__((malloc))
static inline void *
umem_zalloc(uint64_t size, int flags)
{
	void *p = umem_alloc(size, flags);

	if (p != NULL)
		memset(p, 0, (size_t)size);
	return (p);
}

static inline void
umem_free(const void *p, uint64_t size)
{
	(void) size;
	fiber_preempt();
	free((void *)p);
}

static inline void
umem_free_aligned(void *p, uint64_t size)
{
	(void) size;
	free(p);
}

static inline umem_cache_t *
umem_cache_create(const char *name, size_t bufsize, size_t align,
    umem_constructor_t *constructor, umem_destructor_t *destructor,
    umem_reclaim_t *reclaim, void *private, void *arena, int flags)
{
	umem_cache_t *cp = umem_zalloc(sizeof (*cp), UMEM_NOFAIL);

	(void) reclaim, (void) arena, (void) flags;
	strlcpy(cp->cache_name, name, UMEM_CACHE_NAMELEN);
	cp->cache_bufsize = bufsize;
	cp->cache_align = align;
	cp->cache_constructor = constructor;
	cp->cache_destructor = destructor;
	cp->cache_private = private;
	return (cp);
}

static inline void
umem_cache_destroy(umem_cache_t *cp)
{
	umem_free(cp, sizeof (*cp));
}

__attribute__((malloc))
static inline void *
umem_cache_alloc(umem_cache_t *cp, int flags)
{
	void *p = cp->cache_align != 0 ?
	    umem_alloc_aligned(cp->cache_bufsize, cp->cache_align, flags) :
	    umem_alloc(cp->cache_bufsize, flags);

	if (p != NULL && cp->cache_constructor != NULL)
		cp->cache_constructor(p, cp->cache_private, UMEM_DEFAULT);
	return (p);
}

static inline void
umem_cache_free(umem_cache_t *cp, void *p)
{
	if (cp->cache_destructor != NULL)
		cp->cache_destructor(p, cp->cache_private);
	umem_free(p, cp->cache_bufsize);
}

static inline void
umem_cache_reap_now(umem_cache_t *cp)
{
	(void) cp;
}

#endif	/* _ZOW_UMEM_H */
#endif	/* ZOW_CORE */
