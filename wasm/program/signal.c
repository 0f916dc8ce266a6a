/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Signals. Those without a handler do to the process what they do to any. A
 * handler runs on a fiber of its own, at a moment when no other runs: between
 * two statements only of those that wait.
 */

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <ksigaction.h>
#include <zow.h>

#include "fiber.h"
#include "process.h"
#include "signal.h"

#define	SIGNALS		65
#define	SIGNAL_STACK	(64 * 1024)

/* What the host is to do with a signal from now on. */
typedef enum disposition {
	SIGNAL_DEFAULT,
	SIGNAL_DELIVER,
	SIGNAL_IGNORE
} disposition_t;
ZOW_IMPORT("signal-handle")
extern int zow_signal_handle(int sig, int disposition);
/* The next of those signals; IO_PENDING until there is one. */
ZOW_IMPORT("signal-next")
extern int zow_signal_next(int fiber);
/* The handlers have run: reads of the terminal end with EINTR. */
ZOW_IMPORT("signal-done")
extern void zow_signal_done(void);
/* Sends it to the process, by its default. */
ZOW_IMPORT("signal-raise")
extern int zow_signal_raise(int sig);

static struct k_sigaction actions[SIGNALS];
static fiber_t *deliverer;

static disposition_t
disposition(int sig)
{
	if (actions[sig].handler == SIG_DFL)
		return (SIGNAL_DEFAULT);
	if (actions[sig].handler == SIG_IGN)
		return (SIGNAL_IGNORE);
	return (SIGNAL_DELIVER);
}

static void
run_handler(int sig)
{
	struct k_sigaction action = actions[sig];
	siginfo_t info = { .si_signo = sig, .si_code = SI_USER };

	if (disposition(sig) != SIGNAL_DELIVER)
		return;
	if (action.flags & SA_SIGINFO) {
		((void (*)(int, siginfo_t *, void *))(void *)action.handler)(
		    sig, &info, NULL);
	} else {
		action.handler(sig);
	}
	zow_signal_handled();
}

static void *
deliver(void *arg)
{
	(void) arg;
	for (;;) {
		int sig = fiber_io_end(zow_signal_next(fiber_io_start()));

		run_handler(sig);
		zow_signal_done();
	}
	return (NULL);
}

long
zow_sys_sigaction(int sig, const struct k_sigaction *action,
    struct k_sigaction *old)
{
	disposition_t before;

	if (sig <= 0 || sig >= SIGNALS || sig == SIGKILL || sig == SIGSTOP)
		return (-EINVAL);
	if (old != NULL)
		*old = actions[sig];
	if (action == NULL)
		return (0);
	before = disposition(sig);
	actions[sig] = *action;
	if (disposition(sig) == SIGNAL_DELIVER && deliverer == NULL) {
		deliverer = fiber_create("signals", deliver, NULL,
		    SIGNAL_STACK, 1);
		if (deliverer == NULL)
			return (-ENOMEM);
	}
	if (disposition(sig) != before)
		(void) zow_signal_handle(sig, disposition(sig));
	return (0);
}

/* A handler is called at once, as by the kernel before kill(2) returns. */
long
zow_sys_kill(int sig)
{
	if (sig < 0 || sig >= SIGNALS)
		return (-EINVAL);
	if (sig == 0 || disposition(sig) == SIGNAL_IGNORE)
		return (0);
	if (disposition(sig) == SIGNAL_DELIVER) {
		run_handler(sig);
		return (0);
	}
	return (zow_signal_raise(sig));
}
