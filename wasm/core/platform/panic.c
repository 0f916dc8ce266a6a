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
 * The end: VERIFY failures, panics and warnings of the core, in the place of
 * libspl's assert.c and kernel.c's, which print and abort.
 */

#include <assert.h>
#include <stdarg.h>
#include <sys/zfs_context.h>
#include <sys/spa.h>

#include "fiber.h"
#include "session.h"
#include "zow.h"

#define	TEXT_MAX	1024

/* Names of the imported pools, as far as they fit; no lock: it is the end. */
static const char *
pool_names(void)
{
	static char names[256];
	spa_t *spa = NULL;

	names[0] = '\0';
	if (ioctl_current() != NULL) {
		strlcpy(names, ioctl_current()->r_cmd->zc_name,
		    sizeof (names));
		names[strcspn(names, "/@#")] = '\0';
		return (names);
	}
	while ((spa = spa_next(spa)) != NULL) {
		if (names[0] != '\0')
			strlcat(names, ",", sizeof (names));
		strlcat(names, spa_name(spa), sizeof (names));
	}
	return (names);
}

static _Noreturn void
end(const char *file, int line, const char *text)
{
	static struct {
		const char *file;
		int line;
		char text[TEXT_MAX];
	} first;

	/* spa_next() asserts its lock in a debug build: the first counts. */
	if (first.file != NULL)
		zow_panic("%s at %s:%d", first.text, first.file, first.line);
	first.file = file;
	first.line = line;
	(void) strlcpy(first.text, text, sizeof (first.text));
	zow_panic("%s at %s:%d [pool %s]", first.text, file, line,
	    pool_names());
}

/* Called by VERIFY and its kin (lib/libspl/include/assert.h). */
void
libspl_assertf(const char *file, const char *func, int line,
    const char *format, ...)
{
	static char text[TEXT_MAX];
	va_list ap;

	(void) func;
	va_start(ap, format);
	(void) vsnprintf(text, sizeof (text), format, ap);
	va_end(ap);
	end(file, line, text);
}

void
libspl_set_assert_ok(boolean_t ok)
{
	(void) ok;
}

void
vcmn_err(int level, const char *fmt, va_list ap)
{
	static char text[TEXT_MAX];
	int len = vsnprintf(text, sizeof (text), fmt, ap);

	if (len < 0 || level == CE_IGNORE)
		return;
	if (level == CE_PANIC)
		end("panic", 0, text);
	while (len > 0 && len < TEXT_MAX && text[len - 1] == '\n')
		len--;
	zow_log(level == CE_WARN ? ZOW_LOG_WARN : ZOW_LOG_INFO, text,
	    MIN(len, TEXT_MAX - 1));
}

void
cmn_err(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vcmn_err(level, fmt, ap);
	va_end(ap);
}

void
vpanic(const char *fmt, va_list ap)
{
	static char text[TEXT_MAX];

	(void) vsnprintf(text, sizeof (text), fmt, ap);
	end("panic", 0, text);
}

void
panic(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vpanic(fmt, ap);
}
