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
#define	WAIT_MAX_NS	(10ll * NANOSEC)	/* for the ARC and for others */
#define	SPARE_SHIFT	4		/* 1/16 of the heap stays free */

typedef struct waiter {
	struct waiter *w_next;
} waiter_t;

static uint64_t admitted;	/* bytes of all that are in between */
static hrtime_t moved;		/* when one of them began, ended or gave up */
static waiter_t *first;		/* of those that wait, in their order */
static waiter_t **last = &first;

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

/*
 * One after the other, so that what needs much is not passed by what needs
 * little for ever. What waits has nothing yet, so it does not count for those
 * before it: if it did, many that wait would wait for each other.
 */
static int
wait_for_room(const waiter_t *self, uint64_t bytes)
{
	size_t limit = zow_heap_limit();
	uint64_t spare = limit >> SPARE_SHIFT;
	hrtime_t began = gethrtime();

	for (;;) {
		uint64_t want = admitted + bytes + spare;

		/* Copies are at most a quarter of what is asked for. */
		if (first == self && want <= limit &&
		    memory_has_room(want, MAX(PIECE, bytes / 4)))
			return (0);
		if (issig())
			return (SET_ERROR(EINTR));
		if (gethrtime() - MAX(began, moved) > WAIT_MAX_NS)
			return (SET_ERROR(ENOBUFS));
		if (first == self)
			arc_reduce_target_size(MIN(want, limit));
		fiber_sleep(WAIT_NS);
	}
}

int
admission_enter(uint64_t bytes)
{
	waiter_t self = { NULL };
	waiter_t **link;
	int error;

	if (bytes == 0)
		return (0);
	if (bytes > zow_heap_limit() / 2)
		return (SET_ERROR(ENOBUFS));
	*last = &self;
	last = &self.w_next;
	error = wait_for_room(&self, bytes);
	for (link = &first; *link != &self; link = &(*link)->w_next)
		;
	*link = self.w_next;
	if (last == &self.w_next)
		last = link;
	if (error == 0)
		admitted += bytes;
	moved = gethrtime();
	return (error);
}

void
admission_leave(uint64_t bytes)
{
	VERIFY3U(admitted, >=, bytes);
	admitted -= bytes;
	moved = gethrtime();
}
