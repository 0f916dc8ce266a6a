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
 * Fibers for what comes from outside: ioctls and volume requests.
 *
 * A request can wait for long (zpool wait, a suspended pool), so fibers are
 * made as requests come, up to a limit; beyond it they wait in line. What a
 * pool does not answer holds up its own queues: a suspended pool keeps neither
 * the others from their fibers, nor `zpool status` and `zpool clear`, which
 * have kinds of their own.
 */

#include <sys/zfs_context.h>

#include "fiber.h"
#include "malloc.h"
#include "work.h"
#include "zow.h"

#define	POOL_FIBERS_MAX		512	/* less where memory is small */
#define	IDLE_FIBERS_MAX		64	/* kept for the next request */
#define	WORK_STACK		(128 * 1024)

/* How many fibers one pool's queue, and all queues of the kind, may have. */
static struct work_kind_limit {
	int	wk_pool;	/* 0: as many as volumes have */
	int	wk_all;
	int	wk_running;
} work_kinds[WORK_KINDS] = {
	[WORK_VOLUME] = { 0, INT32_MAX },
	[WORK_IOCTL] = { 512, 1024 },
	[WORK_LOOK] = { 64, 512 },
	[WORK_RESCUE] = { 64, 512 },
	[WORK_OPEN] = { 64, 64 },
	[WORK_CLOSE] = { 256, 512 },
	[WORK_INSPECT] = { 64, 64 },
};

typedef struct work_item {
	struct work_item	*wi_next;
	work_queue_t		*wi_queue;
	const char		*wi_fiber;
	void			(*wi_func)(void *);
	void			*wi_arg;
} work_item_t;

struct work_queue {
	work_queue_t	*wq_next;
	work_kind_t	wq_kind;
	char		*wq_name;	/* of the pool; "": of no pool */
	int		wq_limit;
	int		wq_holds;	/* by handles, and by items */
	int		wq_running;
	work_item_t	*wq_head;	/* in line */
	work_item_t	**wq_tail;
};

static work_queue_t *work_queues;
static work_item_t *work_start;		/* for the next idle fiber */
static work_item_t **work_start_tail = &work_start;
static fiber_queue_t work_idle;
static int work_nidle;

/* Stacks of a pool's fibers may take 1/16 of the heap. */
static int
pool_fibers_max(void)
{
	return (MIN(zow_heap_limit() / 16 / WORK_STACK, POOL_FIBERS_MAX));
}

work_queue_t *
zow_work_queue(work_kind_t kind, const char *name)
{
	size_t len = strcspn(name, "/@#");
	work_queue_t *wq;

	VERIFY3U(kind, <, WORK_KINDS);
	for (wq = work_queues; wq != NULL; wq = wq->wq_next) {
		if (wq->wq_kind == kind && strlen(wq->wq_name) == len &&
		    strncmp(wq->wq_name, name, len) == 0) {
			wq->wq_holds++;
			return (wq);
		}
	}
	wq = calloc(1, sizeof (*wq));
	if (wq == NULL)
		return (NULL);
	wq->wq_name = strndup(name, len);
	if (wq->wq_name == NULL) {
		free(wq);
		return (NULL);
	}
	wq->wq_kind = kind;
	wq->wq_limit = work_kinds[kind].wk_pool != 0 ?
	    work_kinds[kind].wk_pool : pool_fibers_max();
	wq->wq_holds = 1;
	wq->wq_tail = &wq->wq_head;
	wq->wq_next = work_queues;
	work_queues = wq;
	return (wq);
}

void
zow_work_queue_rele(work_queue_t *wq)
{
	work_queue_t **wqp = &work_queues;

	VERIFY3S(wq->wq_holds, >, 0);
	if (--wq->wq_holds > 0 || wq->wq_running > 0 || wq->wq_head != NULL)
		return;
	while (*wqp != wq)
		wqp = &(*wqp)->wq_next;
	*wqp = wq->wq_next;
	free(wq->wq_name);
	free(wq);
}

/* Whether one more of the queue's items may run. */
static boolean_t
work_may_start(const work_queue_t *wq)
{
	const struct work_kind_limit *wk = &work_kinds[wq->wq_kind];

	return (wq->wq_running < wq->wq_limit && wk->wk_running < wk->wk_all);
}

static void
work_started(work_queue_t *wq)
{
	wq->wq_running++;
	work_kinds[wq->wq_kind].wk_running++;
}

/*
 * The next in line after an item of `last`; NULL: none that may run. Another
 * queue of the kind comes first, which waits only for that one.
 */
static work_item_t *
work_next(work_queue_t *last)
{
	work_queue_t *wq = last;
	work_item_t *item;

	do {
		if (work_kinds[last->wq_kind].wk_all != INT32_MAX)
			wq = wq->wq_next != NULL ? wq->wq_next : work_queues;
		if (wq->wq_kind == last->wq_kind && wq->wq_head != NULL &&
		    work_may_start(wq)) {
			item = wq->wq_head;
			wq->wq_head = item->wi_next;
			if (wq->wq_head == NULL)
				wq->wq_tail = &wq->wq_head;
			work_started(wq);
			return (item);
		}
	} while (wq != last);
	return (NULL);
}

/* Runs the item, and what waits in line behind it. */
static void
work_run(work_item_t *item)
{
	fiber_t *self = fiber_current;

	while (item != NULL) {
		work_queue_t *wq = item->wi_queue;
		struct work_kind_limit *wk = &work_kinds[wq->wq_kind];

		strlcpy(self->f_name, item->wi_fiber, FIBER_NAME_LEN);
		item->wi_func(item->wi_arg);
		self->f_context = NULL;
		self->f_interrupted = 0;
		free(item);
		VERIFY(wq->wq_running > 0 && wk->wk_running > 0);
		wq->wq_running--;
		wk->wk_running--;
		item = work_next(wq);
		zow_work_queue_rele(wq);
	}
}

static void *
work_fiber(void *arg)
{
	(void) arg;
	for (;;) {
		work_item_t *item = work_start;

		if (item != NULL) {
			work_start = item->wi_next;
			if (work_start == NULL)
				work_start_tail = &work_start;
			work_run(item);
			continue;
		}
		if (work_nidle >= IDLE_FIBERS_MAX)
			return (NULL);
		strlcpy(fiber_current->f_name, "idle", FIBER_NAME_LEN);
		work_nidle++;
		(void) fiber_wait(&work_idle, 0);
		work_nidle--;
	}
}

/* Has a fiber of its own take the item that it will find at work_start. */
static boolean_t
work_fiber_start(void)
{
	return (fiber_wake_one(&work_idle) != NULL ||
	    fiber_create("work", work_fiber, NULL, WORK_STACK, 1) != NULL);
}

static void
work_hand_over(work_item_t *item)
{
	item->wi_next = NULL;
	*work_start_tail = item;
	work_start_tail = &item->wi_next;
}

void
zow_work_park(work_queue_t *wq)
{
	struct work_kind_limit *wk = &work_kinds[wq->wq_kind];
	work_item_t *item;

	VERIFY(wq->wq_running > 0 && wk->wk_running > 0);
	wq->wq_running--;
	wk->wk_running--;
	/* Without memory for a fiber it stays in line. */
	if (wq->wq_head != NULL && work_may_start(wq) && work_fiber_start()) {
		item = work_next(wq);
		work_hand_over(item);
	}
}

void
zow_work_unpark(work_queue_t *wq)
{
	work_started(wq);
}

int
zow_work(work_queue_t *wq, const char *fiber, void (*func)(void *), void *arg)
{
	work_item_t *item = malloc(sizeof (*item));

	if (item == NULL)
		return (ENOMEM);
	item->wi_next = NULL;
	item->wi_queue = wq;
	item->wi_fiber = fiber;
	item->wi_func = func;
	item->wi_arg = arg;
	if (!work_may_start(wq)) {
		*wq->wq_tail = item;
		wq->wq_tail = &item->wi_next;
	} else if (work_fiber_start()) {
		work_started(wq);
		work_hand_over(item);
	} else {
		free(item);
		return (ENOMEM);
	}
	wq->wq_holds++;
	return (0);
}

static work_item_t *
work_unqueue(work_queue_t *wq, const void *arg)
{
	work_item_t **itemp = &wq->wq_head;
	work_item_t *item;

	while (*itemp != NULL && (*itemp)->wi_arg != arg)
		itemp = &(*itemp)->wi_next;
	item = *itemp;
	if (item == NULL)
		return (NULL);
	*itemp = item->wi_next;
	if (wq->wq_tail == &item->wi_next)
		wq->wq_tail = itemp;
	return (item);
}

int
zow_work_cancel(void *arg)
{
	for (work_queue_t *wq = work_queues; wq != NULL; wq = wq->wq_next) {
		work_item_t *item = work_unqueue(wq, arg);

		if (item != NULL) {
			free(item);
			zow_work_queue_rele(wq);
			return (1);
		}
	}
	return (0);
}

int
zow_work_for(work_kind_t kind, const char *name, const char *fiber,
    void (*func)(void *), void *arg)
{
	work_queue_t *wq = zow_work_queue(kind, name);
	int error;

	if (wq == NULL)
		return (ENOMEM);
	error = zow_work(wq, fiber, func, arg);
	zow_work_queue_rele(wq);
	return (error);
}
