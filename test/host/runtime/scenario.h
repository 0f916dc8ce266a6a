/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Test modules: main() runs the scenario that its first argument names, which
 * says what happens line by line.
 */

#ifndef	_SCENARIO_H
#define	_SCENARIO_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fiber.h"
#include "zow.h"

#define	MS	1000000LL
#define	STACK	(64 * 1024)

/* Ends the scenario when something is not as it must be. */
#define	CHECK(condition) \
	do { \
		if (!(condition)) \
			zow_panic("line %d: %s", __LINE__, #condition); \
	} while (0)

/*
 * Completes the fiber with `result` after so many milliseconds; at 0 before it
 * returns, below 0 without ever being pending.
 */
ZOW_IMPORT("test-io")
extern int test_io(int fiber, int milliseconds, int result);

typedef struct scenario {
	const char	*sc_name;
	void		(*sc_run)(int arg);
} scenario_t;

extern const scenario_t scenarios[];

/* The module's arguments: the scenario's name is [1]. */
static char **scenario_args __attribute__((unused));

static inline __attribute__((format(printf, 1, 2))) void
say(const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof (text), fmt, ap);
	va_end(ap);
	zow_log(ZOW_LOG_INFO, text, strlen(text));
}

/* Computes, without giving way, for so long. */
static inline void
spin(int64_t ns)
{
	int64_t end = fiber_now() + ns;

	while (fiber_now() < end)
		continue;
}

int
main(int argc, char **argv)
{
	scenario_args = argv;
	for (const scenario_t *s = scenarios; s->sc_name != NULL; s++) {
		if (argc > 1 && strcmp(s->sc_name, argv[1]) == 0) {
			s->sc_run(argc > 2 ? atoi(argv[2]) : 0);
			return (0);
		}
	}
	return (2);
}

#endif	/* _SCENARIO_H */
