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
 * Receiving reads ahead. dmu_recv.c reads a stream header by header and block
 * by block, and each read is a round trip to the client: of 16K blocks they
 * took more of the processor than the blocks. Here a fiber asks for as many
 * records as fit in a buffer, while dmu_recv.c works on those of another.
 *
 *	client --> fiber --> ra_chunks[2] --> receive_ahead_read() --> dmu_recv
 *
 * What is behind the stream's end belongs to the client's program, so the
 * fiber follows the records, and reads none before dmu_recv_stream() has
 * read its first: until then upstream may hand the stream back (recv_skip()).
 */

#include <sys/zfs_context.h>
#include <sys/zfs_ioctl.h>
#include <sys/dmu_recv.h>

#include "../../../cli/src/zow_client.h"
#include "fiber.h"
#include "receive.h"
#include "seam.h"
#include "session.h"

#define	AHEAD_BYTES	(256 * 1024)	/* a client's stream buffer */
#define	AHEAD_CHUNKS	2
#define	AHEAD_STACK	(64 * 1024)

typedef struct receive_ahead {
	int		ra_request;
	int		ra_fd;
	int64_t		ra_left;	/* of a record under way; -1: the end */
	char		*ra_chunks[AHEAD_CHUNKS];
	size_t		ra_bytes[AHEAD_CHUNKS];
	uint_t		ra_filled;	/* chunks, ever */
	uint_t		ra_taken;	/* of them */
	size_t		ra_at;		/* in the chunk that is taken next */
	int		ra_error;	/* after the last chunk; 0: the end */
	boolean_t	ra_started;
	boolean_t	ra_closing;
	boolean_t	ra_done;	/* the fiber has ended */
	fiber_queue_t	ra_wait;	/* the reader or the fiber */
} receive_ahead_t;

/* Follows the records through what was read. */
static void
ahead_follow(receive_ahead_t *ra, const char *buf, size_t bytes)
{
	dmu_replay_record_t drr;

	while (ra->ra_left >= 0 && bytes > 0) {
		if ((uint64_t)ra->ra_left >= bytes) {
			ra->ra_left -= bytes;
			return;
		}
		buf += ra->ra_left;
		bytes -= ra->ra_left;
		if (bytes < sizeof (drr)) {
			/* The client stops in a header where all ends. */
			ra->ra_left = -1;
			return;
		}
		memcpy(&drr, buf, sizeof (drr));
		buf += sizeof (drr);
		bytes -= sizeof (drr);
		ra->ra_left = zow_record_payload(&drr);
	}
}

static void *
ahead_fiber(void *arg)
{
	receive_ahead_t *ra = arg;

	while (ra->ra_left >= 0 && !ra->ra_closing) {
		uint_t i = ra->ra_filled % AHEAD_CHUNKS;
		int n;

		if (ra->ra_filled - ra->ra_taken == AHEAD_CHUNKS) {
			(void) fiber_wait(&ra->ra_wait, 0);
			continue;
		}
		n = fiber_io_end(zow_stream_records(fiber_io_start(),
		    ra->ra_request, ra->ra_fd, ra->ra_chunks[i], AHEAD_BYTES,
		    (uint32_t)ra->ra_left));
		if (n <= 0) {
			ra->ra_error = n;
			break;
		}
		ahead_follow(ra, ra->ra_chunks[i], n);
		ra->ra_bytes[i] = n;
		ra->ra_filled++;
		fiber_wake_all(&ra->ra_wait);
	}
	ra->ra_done = B_TRUE;
	fiber_wake_all(&ra->ra_wait);
	return (NULL);
}

static ssize_t
receive_ahead_read(void *arg, void *buf, size_t len)
{
	receive_ahead_t *ra = arg;
	uint_t i = ra->ra_taken % AHEAD_CHUNKS;

	if (!ra->ra_started) {
		if (fiber_create("receive_ahead", ahead_fiber, ra, AHEAD_STACK,
		    1) == NULL)
			return (-ENOMEM);
		ra->ra_started = B_TRUE;
	}
	while (ra->ra_filled == ra->ra_taken) {
		if (ra->ra_done)
			return (ra->ra_error);
		(void) fiber_wait(&ra->ra_wait, 0);
	}
	len = MIN(len, ra->ra_bytes[i] - ra->ra_at);
	memcpy(buf, ra->ra_chunks[i] + ra->ra_at, len);
	ra->ra_at += len;
	if (ra->ra_at == ra->ra_bytes[i]) {
		ra->ra_at = 0;
		ra->ra_taken++;
		fiber_wake_all(&ra->ra_wait);
	}
	return (len);
}

extern int __real_dmu_recv_stream(dmu_recv_cookie_t *, offset_t *);
extern int __wrap_dmu_recv_stream(dmu_recv_cookie_t *, offset_t *);

static int
receive_stream(dmu_recv_cookie_t *drc, offset_t *voffp)
{
	receive_ahead_t ra = { 0 };
	int error;

	/* Headers of the other byte order are not understood here. */
	if (drc->drc_byteswap || !zfs_file_is_stream(drc->drc_fp,
	    &ra.ra_request, &ra.ra_fd))
		return (__real_dmu_recv_stream(drc, voffp));

	/* dmu_recv_begin() may have read a header: its structure's first. */
	if (drc->drc_next_rrd != NULL)
		ra.ra_left = zow_record_payload((const dmu_replay_record_t *)
		    drc->drc_next_rrd);
	for (int i = 0; i < AHEAD_CHUNKS; i++)
		ra.ra_chunks[i] = vmem_alloc(AHEAD_BYTES, KM_SLEEP);
	zfs_file_read_from(drc->drc_fp, receive_ahead_read, &ra);
	error = __real_dmu_recv_stream(drc, voffp);
	zfs_file_read_from(drc->drc_fp, NULL, NULL);

	/* As upstream's reader does, a read under way is waited for. */
	ra.ra_closing = B_TRUE;
	fiber_wake_all(&ra.ra_wait);
	while (ra.ra_started && !ra.ra_done)
		(void) fiber_wait(&ra.ra_wait, 0);
	for (int i = 0; i < AHEAD_CHUNKS; i++)
		vmem_free(ra.ra_chunks[i], AHEAD_BYTES);
	return (error);
}

int
__wrap_dmu_recv_stream(dmu_recv_cookie_t *drc, offset_t *voffp)
{
	receive_check_t rc = { .rc_swap = drc->drc_byteswap,
	    .rc_raw = (drc->drc_featureflags & DMU_BACKUP_FEATURE_RAW) != 0 };
	dmu_replay_record_t *drr = (dmu_replay_record_t *)drc->drc_next_rrd;
	receive_place_t place;
	int error;

	/* dmu_recv_begin() has read this one, and put it into our order. */
	if (drr != NULL) {
		receive_check_t first = { .rc_raw = rc.rc_raw };

		/* Of no type that upstream knows. */
		if (receive_check(&first, drr, sizeof (*drr)) != 0)
			drr->drr_type = DRR_NUMTYPES;
		first.rc_swap = rc.rc_swap;
		rc = first;
	}
	receive_place_begin(&place, drc->drc_os);
	zfs_file_check_with(drc->drc_fp, receive_check, &rc);
	error = receive_stream(drc, voffp);
	zfs_file_check_with(drc->drc_fp, NULL, NULL);
	receive_place_end(&place);
	return (error);
}
