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
 * made as requests come, up to a limit of the queue's; beyond it they wait in
 * line. Each pool has a queue, and the ioctls have one: a suspended pool keeps
 * neither the others nor `zpool clear` from their fibers.
 */

#include <sys/zfs_context.h>

#include "fiber.h"
#include "malloc.h"
#include "work.h"
#include "zow.h"

#define	IOCTL_FIBERS_MAX	1024
#define	POOL_FIBERS_MAX		512	/* less where memory is small */
#define	IDLE_FIBERS_MAX		64	/* kept for the next request */
#define	WORK_STACK		(128 * 1024)

typedef struct work_item {
	struct work_item	*wi_next;
	work_queue_t		*wi_queue;
	const char		*wi_fiber;
	void			(*wi_func)(void *);
	void			*wi_arg;
} work_item_t;

struct work_queue {
	work_queue_t	*wq_next;
	char		*wq_name;	/* of the pool; "" for the ioctls */
	int		wq_limit;
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
zow_work_queue(const char *name)
{
	size_t len = name != NULL ? strcspn(name, "/@") : 0;
	work_queue_t *wq;

	for (wq = work_queues; wq != NULL; wq = wq->wq_next) {
		if (strlen(wq->wq_name) == len &&
		    strncmp(wq->wq_name, name != NULL ? name : "", len) == 0)
			return (wq);
	}
	wq = calloc(1, sizeof (*wq));
	if (wq == NULL)
		return (NULL);
	wq->wq_name = strndup(name != NULL ? name : "", len);
	if (wq->wq_name == NULL) {
		free(wq);
		return (NULL);
	}
	wq->wq_limit = name != NULL ? pool_fibers_max() : IOCTL_FIBERS_MAX;
	wq->wq_tail = &wq->wq_head;
	wq->wq_next = work_queues;
	work_queues = wq;
	return (wq);
}

/* Runs the item and what waits behind it in its queue. */
static void
work_run(work_item_t *item)
{
	fiber_t *self = fiber_current;
	work_queue_t *wq = item->wi_queue;

	do {
		strlcpy(self->f_name, item->wi_fiber, FIBER_NAME_LEN);
		item->wi_func(item->wi_arg);
		self->f_context = NULL;
		self->f_interrupted = 0;
		free(item);
		item = wq->wq_head;
		if (item != NULL) {
			wq->wq_head = item->wi_next;
			if (wq->wq_head == NULL)
				wq->wq_tail = &wq->wq_head;
		}
	} while (item != NULL);
	wq->wq_running--;
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

int
zow_work(work_queue_t *queue, const char *fiber, void (*func)(void *),
    void *arg)
{
	work_item_t *item;

	if (queue == NULL || (item = malloc(sizeof (*item))) == NULL)
		return (ENOMEM);
	item->wi_next = NULL;
	item->wi_queue = queue;
	item->wi_fiber = fiber;
	item->wi_func = func;
	item->wi_arg = arg;
	if (queue->wq_running == queue->wq_limit) {
		*queue->wq_tail = item;
		queue->wq_tail = &item->wi_next;
		return (0);
	}
	if (fiber_wake_one(&work_idle) == NULL && fiber_create("work",
	    work_fiber, NULL, WORK_STACK, 1) == NULL) {
		free(item);
		return (ENOMEM);
	}
	queue->wq_running++;
	*work_start_tail = item;
	work_start_tail = &item->wi_next;
	return (0);
}
