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

/*
 * The queue of the pool whose name is the first component of `name`, or of
 * the ioctls for NULL; made when asked for first. NULL: no memory.
 */
work_queue_t *zow_work_queue(const char *name);

/*
 * Runs func(arg) on a pooled fiber called `fiber`, in the order of the calls
 * while the queue has fibers. May be called from the host; never blocks.
 * Nonzero: no memory.
 */
int zow_work(work_queue_t *queue, const char *fiber, void (*func)(void *),
    void *arg);

#endif	/* _ZOW_WORK_H */
