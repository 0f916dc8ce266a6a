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
 * Upstream's zap.c is compiled with this before it, and in the core who holds a
 * block of a ZAP object has it checked (zap_check.c).
 */
#ifndef	_ZOW_ZAP_BLOCK_H
#define	_ZOW_ZAP_BLOCK_H

#ifdef	ZOW_CORE
#include <sys/dmu.h>

extern int zap_block_hold(dnode_t *, uint64_t, const void *, dmu_buf_t **, int,
    const char *);

#define	dmu_buf_hold_by_dnode(dn, offset, tag, dbp, flags) \
	zap_block_hold(dn, offset, tag, dbp, flags, __func__)
#endif	/* ZOW_CORE */

#endif	/* _ZOW_ZAP_BLOCK_H */
