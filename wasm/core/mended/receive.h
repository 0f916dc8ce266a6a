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

#ifndef	_ZOW_RECEIVE_H
#define	_ZOW_RECEIVE_H

#include <sys/zfs_context.h>
#include <sys/dmu.h>

/* receive_check.c: what is known of a stream that is received. */
typedef struct receive_check {
	boolean_t	rc_swap;	/* it is of the other byte order */
	boolean_t	rc_raw;		/* blocks are as they are on disk */
	int64_t		rc_left;	/* of a record's payload */
	/* Of a record whose block is embedded; rc_psize is 0 for others. */
	enum zio_compress rc_compression;
	uint32_t	rc_lsize;
	uint32_t	rc_psize;
	/* The last object, and where the last block was. */
	uint64_t	rc_object;
	uint64_t	rc_block_object;
	uint64_t	rc_block_offset;
} receive_check_t;

/*
 * What was read is the header of a record, or all of its payload. ECKSUM.
 * `check` is a receive_check_t.
 */
int receive_check(void *check, const void *read, size_t len);

/* receive_resume.c: from where a receive goes on when it is interrupted now. */
typedef struct receive_place {
	const objset_t	*rp_os;		/* what is received */
	struct receive_place *rp_next;
	uint64_t	rp_receiving;	/* the object under way; 0: none */
	uint64_t	rp_first;	/* of the last block of dnodes */
	uint64_t	rp_object;	/* the place; 0: none yet */
	uint64_t	rp_offset;
} receive_place_t;

void receive_place_begin(receive_place_t *, objset_t *);
void receive_place_end(receive_place_t *);

#endif	/* _ZOW_RECEIVE_H */
