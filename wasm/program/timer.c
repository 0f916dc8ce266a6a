/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Timers that send a signal or call a function in a thread of its own
 * (timer_create(3)): a fiber sleeps and calls the signal's handler, or that
 * function.
 */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "fiber.h"
#include "signal.h"

#define	NANOSEC		1000000000LL
#define	SIGNAL_STACK	(64 * 1024)
#define	THREAD_STACK	(256 * 1024)

struct timer {
	struct sigevent	t_event;
	int64_t	t_first;	/* ns until it goes off; 0: not set */
	int64_t	t_interval;	/* ns from then on; 0: once */
	int	t_deleted;	/* its fiber frees it when it wakes */
	int	t_running;
};

static void
timer_fire(const struct timer *timer)
{
	int sig = timer->t_event.sigev_signo;
	struct sigaction action;
	siginfo_t info = { .si_signo = sig, .si_code = SI_TIMER };

	if (timer->t_event.sigev_notify == SIGEV_THREAD) {
		timer->t_event.sigev_notify_function(
		    timer->t_event.sigev_value);
		return;
	}

	if (sigaction(sig, NULL, &action) == 0 &&
	    action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) {
		if (action.sa_flags & SA_SIGINFO)
			action.sa_sigaction(sig, &info, NULL);
		else
			action.sa_handler(sig);
	}
	zow_signal_handled();
}

static void *
timer_main(void *arg)
{
	struct timer *timer = arg;
	int64_t delay = timer->t_first;

	while (delay != 0) {
		fiber_sleep(delay);
		if (timer->t_deleted || timer->t_first == 0)
			break;
		timer_fire(timer);
		delay = timer->t_interval;
	}
	timer->t_running = 0;
	if (timer->t_deleted)
		free(timer);
	return (NULL);
}

int
timer_create(clockid_t clock, struct sigevent *restrict event,
    timer_t *restrict id)
{
	struct timer *timer;

	(void) clock;
	if (event == NULL || (event->sigev_notify != SIGEV_SIGNAL &&
	    event->sigev_notify != SIGEV_THREAD)) {
		errno = ENOTSUP;
		return (-1);
	}
	if ((timer = calloc(1, sizeof (*timer))) == NULL)
		return (-1);
	timer->t_event = *event;
	*id = timer;
	return (0);
}

static int64_t
nanoseconds(const struct timespec *ts)
{
	return (ts->tv_sec * NANOSEC + ts->tv_nsec);
}

/*
 * A timer is set once, and may be stopped after that: that is how upstream
 * uses them.
 */
int
timer_settime(timer_t id, int flags, const struct itimerspec *restrict value,
    struct itimerspec *restrict old)
{
	struct timer *timer = id;
	int64_t first = nanoseconds(&value->it_value);

	if (flags != 0 || old != NULL || (timer->t_running && first != 0)) {
		errno = ENOTSUP;
		return (-1);
	}
	timer->t_first = first;
	timer->t_interval = first != 0 ? nanoseconds(&value->it_interval) : 0;
	if (first == 0)
		return (0);
	timer->t_running = 1;
	if (fiber_create("timer", timer_main, timer,
	    timer->t_event.sigev_notify == SIGEV_THREAD ? THREAD_STACK :
	    SIGNAL_STACK, 1) == NULL) {
		timer->t_running = 0;
		errno = EAGAIN;
		return (-1);
	}
	return (0);
}

int
timer_delete(timer_t id)
{
	struct timer *timer = id;

	timer->t_deleted = 1;
	if (!timer->t_running)
		free(timer);
	return (0);
}
