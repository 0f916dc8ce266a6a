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
 * For zfs_chksum.c alone, which measures the implementations of checksums: at
 * start to choose the fastest, of which there is one here; and for a second
 * when its kstat is read first. The former is left out; in the latter others
 * have their turn after each measurement.
 */
#ifndef	_ZOW_PREEMPT_H
#define	_ZOW_PREEMPT_H

#include <sys/zfs_context.h>

extern int kstat_raw_reads;	/* under way (kstat.c) */

#undef	kpreempt_disable
#define	kpreempt_disable()	if (kstat_raw_reads == 0) return
#undef	kpreempt_enable
#define	kpreempt_enable()	delay(MSEC_TO_TICK(5))

#endif	/* _ZOW_PREEMPT_H */
