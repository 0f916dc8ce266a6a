/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * libblkid, as far as upstream uses it, of a machine that has no block
 * devices: the disks are the host's, and a program does not look at them.
 */

#ifndef	_BLKID_BLKID_H
#define	_BLKID_BLKID_H

#include <stddef.h>

typedef struct blkid_nothing *blkid_cache;
typedef struct blkid_nothing *blkid_dev;
typedef struct blkid_nothing *blkid_dev_iterate;

static inline int
blkid_get_cache(blkid_cache *cache, const char *file)
{
	(void) file;
	*cache = NULL;
	return (0);
}

static inline void
blkid_put_cache(blkid_cache cache)
{
	(void) cache;
}

static inline int
blkid_probe_all_new(blkid_cache cache)
{
	(void) cache;
	return (0);
}

/* Not NULL, which would be an error. */
static inline blkid_dev_iterate
blkid_dev_iterate_begin(blkid_cache cache)
{
	(void) cache;
	return ((blkid_dev_iterate)-1);
}

static inline int
blkid_dev_set_search(blkid_dev_iterate iterator, char *tag, char *value)
{
	(void) iterator, (void) tag, (void) value;
	return (0);
}

static inline int
blkid_dev_next(blkid_dev_iterate iterator, blkid_dev *dev)
{
	(void) iterator, (void) dev;
	return (-1);
}

static inline void
blkid_dev_iterate_end(blkid_dev_iterate iterator)
{
	(void) iterator;
}

static inline const char *
blkid_dev_devname(blkid_dev dev)
{
	(void) dev;
	return (NULL);
}

/* No device has a file system that a new pool could overwrite. */
static inline char *
blkid_get_tag_value(blkid_cache cache, const char *tag, const char *device)
{
	(void) cache, (void) tag, (void) device;
	return (NULL);
}

#endif	/* _BLKID_BLKID_H */
