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
 * Tasks that are dispatched later, which libzpool's task queues do not have:
 * the deadman's, injected delays, the end of an ereport's memory. One fiber
 * is the clock; a task that is due goes to its queue as any other.
 */

#include <sys/zfs_context.h>

#include "fiber.h"
#include "zow.h"

#define	DELAY_STACK	(64 * 1024)

typedef enum delay_state {
	DELAY_WAITS,
	DELAY_QUEUED,
	DELAY_RUNS,
	DELAY_CANCELLED		/* its queue has it, and will drop it */
} delay_state_t;

typedef struct delayed {
	list_node_t	d_node;
	taskqid_t	d_id;
	taskq_t		*d_tq;
	task_func_t	*d_func;
	void		*d_arg;
	int64_t		d_deadline;	/* fiber_now() clock, ns */
	delay_state_t	d_state;
	fiber_t		*d_fiber;	/* that runs it */
	fiber_queue_t	d_done;		/* who waits for its end */
	int		d_waiters;
} delayed_t;

static list_t delayed_tasks;		/* by deadline */
static fiber_queue_t delay_changed;
static boolean_t delay_started;

static delayed_t *
delayed_find(taskqid_t id)
{
	delayed_t *d = delay_started ? list_head(&delayed_tasks) : NULL;

	while (d != NULL && d->d_id != id)
		d = list_next(&delayed_tasks, d);
	return (d);
}

/* Whether the running fiber is a delayed task that is being cancelled. */
static boolean_t
delayed_is_cancelled(void)
{
	for (delayed_t *d = list_head(&delayed_tasks); d != NULL;
	    d = list_next(&delayed_tasks, d)) {
		if (d->d_fiber == fiber_current && d->d_waiters > 0)
			return (B_TRUE);
	}
	return (B_FALSE);
}

static void
delayed_run(void *arg)
{
	delayed_t *d = arg;

	if (d->d_state != DELAY_CANCELLED) {
		d->d_state = DELAY_RUNS;
		d->d_fiber = fiber_current;
		d->d_func(d->d_arg);
	}
	list_remove(&delayed_tasks, d);
	if (d->d_waiters == 0)
		free(d);
	else
		/* The last of them frees it. */
		fiber_wake_all(&d->d_done);
}

static delayed_t *
delayed_first(void)
{
	delayed_t *d = list_head(&delayed_tasks);

	while (d != NULL && d->d_state != DELAY_WAITS)
		d = list_next(&delayed_tasks, d);
	return (d);
}

static void *
delay_fiber(void *arg)
{
	(void) arg;
	for (;;) {
		delayed_t *d = delayed_first();

		if (d == NULL || d->d_deadline > fiber_now()) {
			(void) fiber_wait(&delay_changed,
			    d != NULL ? d->d_deadline : 0);
			continue;
		}
		d->d_state = DELAY_QUEUED;
		(void) taskq_dispatch(d->d_tq, delayed_run, d, TQ_SLEEP);
	}
	return (NULL);
}

static boolean_t
delay_start(void)
{
	if (delay_started)
		return (B_TRUE);
	list_create(&delayed_tasks, sizeof (delayed_t),
	    offsetof(delayed_t, d_node));
	delay_started = fiber_create("delay", delay_fiber, NULL, DELAY_STACK,
	    1) != NULL;
	return (delay_started);
}

taskqid_t
taskq_dispatch_delay(taskq_t *tq, task_func_t func, void *arg, uint_t tqflags,
    clock_t expire_time)
{
	/* taskq_dispatch() of libzpool answers 1 for all of its own. */
	static taskqid_t last_id = 1;
	int64_t ticks = expire_time - ddi_get_lbolt();
	delayed_t *d, *after;

	(void) tqflags;
	/* A task that dispatches itself again would outlive its cancelling. */
	if (!delay_start() || delayed_is_cancelled())
		return (TASKQID_INVALID);
	if ((d = calloc(1, sizeof (*d))) == NULL)
		return (TASKQID_INVALID);
	do {
		last_id = MAX(last_id + 1, 2);
	} while (delayed_find(last_id) != NULL);
	d->d_id = last_id;
	d->d_tq = tq;
	d->d_func = func;
	d->d_arg = arg;
	d->d_deadline = fiber_now() + MAX(ticks, 0) * (NANOSEC / hz);
	after = list_head(&delayed_tasks);
	while (after != NULL && after->d_deadline <= d->d_deadline)
		after = list_next(&delayed_tasks, after);
	list_insert_before(&delayed_tasks, after, d);
	(void) fiber_wake_one(&delay_changed);
	return (d->d_id);
}

/*
 * 0: it will not run. ENOENT: it is not there, or it was waited for. EBUSY: it
 * runs.
 */
static int
delayed_cancel(taskqid_t id, boolean_t wait)
{
	delayed_t *d = delayed_find(id);

	if (d == NULL || d->d_state == DELAY_CANCELLED)
		return (ENOENT);
	switch (d->d_state) {
	case DELAY_WAITS:
		list_remove(&delayed_tasks, d);
		free(d);
		return (0);
	case DELAY_QUEUED:
		d->d_state = DELAY_CANCELLED;
		return (0);
	default:
		/* It cannot wait for itself. */
		if (!wait || d->d_fiber == fiber_current)
			return (EBUSY);
		d->d_waiters++;
		(void) fiber_wait(&d->d_done, 0);
		if (--d->d_waiters == 0)
			free(d);
		return (ENOENT);
	}
}

#ifdef	TREE_TASKQ_CANCEL_WAIT
int
taskq_cancel_id(taskq_t *tq, taskqid_t id, boolean_t wait)
{
	(void) tq;
	return (delayed_cancel(id, wait));
}
#else
int
taskq_cancel_id(taskq_t *tq, taskqid_t id)
{
	(void) tq;
	return (delayed_cancel(id, B_TRUE));
}
#endif
