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

#ifndef	_ZOW_WORK_H
#define	_ZOW_WORK_H

typedef struct work_queue work_queue_t;

typedef enum work_kind {
	WORK_VOLUME,	/* requests on a pool's volumes */
	WORK_IOCTL,
	WORK_LOOK,	/* ioctls that show a suspended pool */
	WORK_RESCUE,	/* ioctls that a suspended pool's end takes */
	WORK_OPEN,	/* of /dev/zfs, which waits for no pool */
	WORK_CLOSE,	/* of /dev/zfs, which may wait for a pool */
	WORK_INSPECT,
	WORK_KINDS
} work_kind_t;

/*
 * The queue of the kind for the pool whose name is the first component of
 * `name`; "": for no pool. It lives until zow_work_queue_rele() and until what
 * is in it is over. NULL: no memory.
 */
work_queue_t *zow_work_queue(work_kind_t kind, const char *name);
void zow_work_queue_rele(work_queue_t *wq);

/*
 * Runs func(arg) on a pooled fiber called `fiber`, in the order of the calls
 * while the queue has fibers. May be called from the host; never blocks.
 * Nonzero: no memory.
 */
int zow_work(work_queue_t *wq, const char *fiber, void (*func)(void *),
    void *arg);

/*
 * Takes the item of `arg` out of the line, if it still waits there: func will
 * not be called. Zero: it has begun, or is about to.
 */
int zow_work_cancel(void *arg);

/*
 * An item of the queue that takes long leaves its place to the next in line,
 * and takes it back, full or not, before it is over.
 */
void zow_work_park(work_queue_t *wq);
void zow_work_unpark(work_queue_t *wq);

/* The same, in the queue that zow_work_queue() names. */
int zow_work_for(work_kind_t kind, const char *name, const char *fiber,
    void (*func)(void *), void *arg);

#endif	/* _ZOW_WORK_H */
