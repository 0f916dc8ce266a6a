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
 * A pool of fibers for what comes from outside: ioctls and volume requests.
 *
 * A request can wait for long (zpool wait, a suspended pool), so the pool
 * grows with what waits, up to a limit; beyond it requests queue.
 */

#include <sys/zfs_context.h>

#include "fiber.h"
#include "work.h"
#include "zow.h"

#define	WORK_FIBERS_MAX	1024
#define	WORK_IDLE_MAX	64		/* kept for the next request */
#define	WORK_STACK	(128 * 1024)

typedef struct work_item {
	struct work_item	*wi_next;
	const char		*wi_name;
	void			(*wi_func)(void *);
	void			*wi_arg;
} work_item_t;

static work_item_t *work_head;
static work_item_t **work_tail = &work_head;
static fiber_queue_t work_idle;
static int work_fibers;
static int work_nidle;

static void *
work_fiber(void *arg)
{
	fiber_t *self = fiber_current;

	(void) arg;
	for (;;) {
		work_item_t *item = work_head;

		if (item == NULL) {
			if (work_nidle >= WORK_IDLE_MAX)
				break;
			strlcpy(self->f_name, "idle", FIBER_NAME_LEN);
			work_nidle++;
			(void) fiber_wait(&work_idle, 0);
			work_nidle--;
			continue;
		}
		work_head = item->wi_next;
		if (work_head == NULL)
			work_tail = &work_head;
		strlcpy(self->f_name, item->wi_name, FIBER_NAME_LEN);
		item->wi_func(item->wi_arg);
		self->f_context = NULL;
		self->f_interrupted = 0;
		free(item);
	}
	work_fibers--;
	return (NULL);
}

int
zow_work(const char *name, void (*func)(void *), void *arg)
{
	work_item_t *item = malloc(sizeof (*item));

	if (item == NULL)
		return (ENOMEM);
	item->wi_next = NULL;
	item->wi_name = name;
	item->wi_func = func;
	item->wi_arg = arg;
	*work_tail = item;
	work_tail = &item->wi_next;
	if (fiber_wake_one(&work_idle) != NULL)
		return (0);
	if (work_fibers < WORK_FIBERS_MAX && fiber_create("work", work_fiber,
	    NULL, WORK_STACK, 1) != NULL)
		work_fibers++;
	else if (work_fibers == 0)
		zow_panic("no memory for the first work fiber");
	return (0);
}
