/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * libblkid, as far as upstream uses it; blkid(8) does the work
 * (wasm/program/blkid.c).
 */

#ifndef	_BLKID_BLKID_H
#define	_BLKID_BLKID_H

typedef struct blkid_devices *blkid_cache;
typedef const char *blkid_dev;
typedef struct blkid_devices *blkid_dev_iterate;

extern int blkid_get_cache(blkid_cache *, const char *);
extern void blkid_put_cache(blkid_cache);
extern int blkid_probe_all_new(blkid_cache);
extern blkid_dev_iterate blkid_dev_iterate_begin(blkid_cache);
extern int blkid_dev_set_search(blkid_dev_iterate, char *, char *);
extern int blkid_dev_next(blkid_dev_iterate, blkid_dev *);
extern void blkid_dev_iterate_end(blkid_dev_iterate);
extern const char *blkid_dev_devname(blkid_dev);
extern char *blkid_get_tag_value(blkid_cache, const char *, const char *);

#endif	/* _BLKID_BLKID_H */
