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

/*
 * Runs func(arg) on a pooled fiber, in the order of the calls while fibers are
 * free. May be called from the host; never blocks. Nonzero: no memory.
 */
int zow_work(const char *name, void (*func)(void *), void *arg);

#endif	/* _ZOW_WORK_H */
