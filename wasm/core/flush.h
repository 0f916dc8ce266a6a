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
 * What failed flushes lose (flush.c).
 */

#ifndef	_ZOW_FLUSH_H
#define	_ZOW_FLUSH_H

#include <sys/zfs_context.h>
#include <sys/spa.h>
#include <sys/vdev.h>
#include <sys/zio.h>

/* What an open device has been told and has not flushed. */
typedef struct leaf_flush {
	uint64_t	lf_since;	/* oldest txg that was written */
	uint64_t	lf_covered;	/* the same, of flushes under way */
	int		lf_running;	/* flushes under way */
	uint64_t	lf_missed;	/* open txg of the last failed write */
	boolean_t	lf_failed;	/* nothing is written any more */
} leaf_flush_t;

void pool_flush_init(void);
void leaf_flush_init(leaf_flush_t *lf);
/* A flush begins. */
void leaf_flush_begin(leaf_flush_t *lf);
/* A write has ended well; a flush, or another device I/O, has ended. */
void leaf_flush_written(leaf_flush_t *lf, zio_t *zio);
/* A write has failed. */
void leaf_flush_missed(leaf_flush_t *lf, zio_t *zio);
/* `removal`: the device is gone, and is taken out of its pool for that. */
void leaf_flush_end(leaf_flush_t *lf, zio_t *zio, boolean_t removal);
/* The device is gone, with its cache. */
void leaf_flush_gone(leaf_flush_t *lf, vdev_t *vd, boolean_t removal);

/* Of the open device of a leaf; NULL: it is closed (vdev_zow.c). */
leaf_flush_t *vdev_zow_flush(const vdev_t *vd);

/* What the only copy of was written, and flushed by nobody, may be gone. */
boolean_t pool_is_lost(const spa_t *spa);

/*
 * A pool that leaves without a last word to its devices (pool_drop.c): what is
 * written to it goes nowhere.
 */
boolean_t pool_is_dropped(const spa_t *spa);
/* The same of a dataset's pool; whether a dataset is one of `pool`'s. */
boolean_t pool_name_is_dropped(const char *name);
boolean_t pool_has_name(const char *pool, const char *name);
void pool_set_dropped(spa_t *spa);
void vdev_zow_drop(const spa_t *spa);
boolean_t vdev_zow_answers(const char *path);
/* `zpool clear` of devices, where it is not for pool_go_back(). */
void pool_clear_devices(spa_t *spa, vdev_t *vd);
void pool_bring_missing(vdev_t *vd);
extern int __real_zio_resume(spa_t *);

/*
 * Exports a lost pool; takes it back to what is on its devices, when they are
 * there: EIO otherwise. Both can be asked for again when they failed.
 */
int pool_drop_export(const char *name);
int pool_go_back(const char *name);
void pool_drop_init(void);
/* zil_close.c: as zil_close(), while no log of the pool is suspended. */
void zow_zil_close(zilog_t *zilog);
void zil_close_init(void);
/* A clock of drops; whether a pool was dropped since. */
uint64_t pool_drops(void);
boolean_t pool_dropped_since(const char *name, uint64_t when);

/*
 * zvol_os.c: tells the clients of a pool's volumes that what they wait for to
 * be durable has failed, though it may become so; tells the host that a pool's
 * volumes are gone.
 */
void zvol_fail_commits(const spa_t *spa);
void zvol_hang_up(const char *pool);

#endif	/* _ZOW_FLUSH_H */
