/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * pause() and the cancellation of a thread that is in it: upstream stops the
 * thread that reports the progress of a send this way. There is no other
 * cancellation point; to be cancelled elsewhere takes effect at the next
 * pause().
 */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "fiber.h"
#include "signal.h"

#define	PENDING_MAX	16

static fiber_queue_t paused;
static unsigned int signals_handled;

/* Fibers that are to be cancelled; the oldest entry gives way. */
static int pending[PENDING_MAX];
static unsigned int pending_next;

/* Handlers of pthread_cleanup_push(), innermost first, by fiber. */
static pthread_key_t cleanup_key;

__attribute__((constructor))
static void
cancel_init(void)
{
	(void) pthread_key_create(&cleanup_key, NULL);
}

/* musl calls these two from _pthread_cleanup_push() and _pop(). */
void
__do_cleanup_push(struct __ptcb *handler)
{
	handler->__next = pthread_getspecific(cleanup_key);
	(void) pthread_setspecific(cleanup_key, handler);
}

void
__do_cleanup_pop(struct __ptcb *handler)
{
	(void) pthread_setspecific(cleanup_key, handler->__next);
}

void
zow_signal_handled(void)
{
	signals_handled++;
	fiber_wake_all(&paused);
}

int
pthread_cancel(pthread_t thread)
{
	pending[pending_next++ % PENDING_MAX] = ((fiber_t *)thread)->f_id;
	fiber_wake_all(&paused);
	return (0);
}

static int
take_cancellation(void)
{
	for (int i = 0; i < PENDING_MAX; i++) {
		if (pending[i] == fiber_current->f_id) {
			pending[i] = 0;
			return (1);
		}
	}
	return (0);
}

static _Noreturn void
end_cancelled(void)
{
	struct __ptcb *handler;

	while ((handler = pthread_getspecific(cleanup_key)) != NULL) {
		__do_cleanup_pop(handler);
		handler->__f(handler->__x);
	}
	pthread_exit(PTHREAD_CANCELED);
}

int
pause(void)
{
	unsigned int before = signals_handled;

	while (signals_handled == before) {
		if (take_cancellation())
			end_cancelled();
		(void) fiber_wait(&paused, 0);
	}
	errno = EINTR;
	return (-1);
}

int
pthread_setcanceltype(int type, int *old)
{
	if (old != NULL)
		*old = PTHREAD_CANCEL_DEFERRED;
	return (type == PTHREAD_CANCEL_DEFERRED ? 0 : ENOTSUP);
}
