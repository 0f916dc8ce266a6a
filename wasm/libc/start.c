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
 * How the module starts, and how it ends. The host calls `start` once; it
 * makes the main fiber, which calls main() with WASI's arguments and
 * environment. What musl keeps per thread is one for the whole module.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pthread_impl.h>
#include <libc.h>

#include "fiber.h"
#include "wasi.h"
#include "zow.h"

/* Of main()'s fiber, in bytes; a program has one of its own. */
__attribute__((__weak__)) const size_t zow_main_stack_size = 512 * 1024;

extern int main(int argc, char **argv);
extern void __wasm_call_ctors(void);
extern char **__environ;
extern char *__progname, *__progname_full;

/* musl's own thread descriptor, at the address __get_tp() names. */
unsigned long __zow_tp[64];
_Static_assert(sizeof (struct pthread) <= sizeof (__zow_tp), "__zow_tp");

static int errno_idle;	/* errno while no fiber runs */
static int main_argc;
static char **main_argv;

int *
__errno_location(void)
{
	return (fiber_current != NULL ? &fiber_current->f_errno : &errno_idle);
}

int *
___errno_location(void)
{
	return (__errno_location());
}

/* Fibers change over only where they block, so musl's locks need nothing. */
void
__lock(volatile int *lock)
{
	(void) lock;
}

void
__unlock(volatile int *lock)
{
	(void) lock;
}

int
__lockfile(FILE *f)
{
	(void) f;
	return (0);
}

void
__unlockfile(FILE *f)
{
	(void) f;
}

void
flockfile(FILE *f)
{
	(void) f;
}

void
funlockfile(FILE *f)
{
	(void) f;
}

static char **
strings_get(uint16_t (*sizes)(size_t *, size_t *),
    uint16_t (*get)(uint8_t **, uint8_t *), int *countp)
{
	size_t count, bytes;
	char **list;

	if (sizes(&count, &bytes) != 0)
		zow_panic("no arguments from the host");
	list = calloc(count + 1, sizeof (char *));
	if (list == NULL || get((uint8_t **)list, malloc(bytes + 1)) != 0)
		zow_panic("no arguments from the host");
	*countp = count;
	return (list);
}

static void *
main_fiber(void *arg)
{
	(void) arg;
	exit(main(main_argc, main_argv));
}

/*
 * Prepares the module and creates its main fiber, READY; the host then runs
 * the scheduler.
 */
ZOW_EXPORT("start") void
zow_start(void)
{
	struct pthread *self = (struct pthread *)__zow_tp;
	int count;

	self->self = self;
	self->locale = &libc.global_locale;
	__wasm_call_ctors();
	__environ = strings_get(__wasi_environ_sizes_get, __wasi_environ_get,
	    &count);
	main_argv = strings_get(__wasi_args_sizes_get, __wasi_args_get,
	    &main_argc);
	libc.page_size = 4096;
	if (main_argc > 0) {
		char *slash = strrchr(main_argv[0], '/');

		__progname_full = main_argv[0];
		__progname = slash != NULL ? slash + 1 : main_argv[0];
	}
	if (fiber_create("main", main_fiber, NULL, zow_main_stack_size,
	    1) == NULL)
		zow_panic("no memory for the main fiber");
}

void
abort(void)
{
	zow_panic("abort");
}

int
raise(int sig)
{
	zow_panic("signal %d", sig);
}
