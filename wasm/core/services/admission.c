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
 * Memory for what comes from outside. An allocation in the middle of upstream
 * cannot be refused: what finds no memory waits for the ARC, and in the end
 * ends the module, for all pools. So what may take much has to find it before
 * it begins. What is small lives from what is kept in reserve (arc_os.c).
 */

#include <sys/zfs_context.h>
#include <sys/arc.h>
#include <sys/arc_impl.h>

#include "admission.h"
#include "fiber.h"
#include "malloc.h"

#define	PIECE		(128 * 1024)	/* a stack, a block */
#define	WAIT_NS		(8 * MICROSEC)
#define	WAIT_TRIES	1250		/* 10 s, for the ARC and for others */
#define	SPARE_SHIFT	4		/* 1/16 of the heap stays free */

static uint64_t admitted;	/* bytes of all that are in between */

/* Whether so much can be had at once, a piece of it in one. */
static boolean_t
memory_has_room(size_t want, size_t piece)
{
	void **pieces = NULL;
	void *large = zow_malloc_now(piece);
	size_t got = piece;

	/* With so much of it free there is no need to try. */
	if (zow_heap_limit() / 2 > zow_heap_live() + want) {
		free(large);
		return (large != NULL);
	}
	while (large != NULL && got < want) {
		void **small = zow_malloc_now(PIECE);

		if (small == NULL)
			break;
		*small = pieces;
		pieces = small;
		got += PIECE;
	}
	while (pieces != NULL) {
		void **next = *pieces;

		free(pieces);
		pieces = next;
	}
	free(large);
	return (large != NULL && got >= want);
}

/* Upstream's 16 MiB where there is a GiB. */
uint64_t
zow_stream_queue(void)
{
	return (MIN(zow_heap_limit() >> 6, SPA_MAXBLOCKSIZE));
}

int
admission_enter(uint64_t bytes)
{
	size_t limit = zow_heap_limit();
	int error = 0;

	if (bytes == 0)
		return (0);
	if (bytes > limit / 2)
		return (SET_ERROR(ENOBUFS));
	admitted += bytes;
	for (int i = 0; error == 0; i++) {
		uint64_t want = admitted + (limit >> SPARE_SHIFT);

		/* Copies are at most a quarter of what is asked for. */
		if (want <= limit && memory_has_room(want,
		    MAX(PIECE, bytes / 4)))
			return (0);
		if (i == WAIT_TRIES)
			error = SET_ERROR(ENOBUFS);
		else if (issig())
			error = SET_ERROR(EINTR);
		arc_reduce_target_size(MIN(want, limit));
		fiber_sleep(WAIT_NS);
	}
	admitted -= bytes;
	return (error);
}

void
admission_leave(uint64_t bytes)
{
	VERIFY3U(admitted, >=, bytes);
	admitted -= bytes;
}
