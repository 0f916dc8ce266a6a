/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/* What glibc's strftime(3) has, upstream uses, and musl's lacks. */

#include <string.h>
#include <time.h>

#define	FORMAT_MAX	256

extern size_t __real_strftime(char *, size_t, const char *,
    const struct tm *);
size_t __wrap_strftime(char *, size_t, const char *, const struct tm *);

/* `%k` and `%l` are the hours `%H` and `%I` padded with a blank. */
size_t
__wrap_strftime(char *out, size_t size, const char *format,
    const struct tm *tm)
{
	char text[FORMAT_MAX];
	size_t n = 0;

	for (const char *p = format; *p != '\0'; p++) {
		if (n + 4 > sizeof (text))
			return (0);
		text[n++] = *p;
		if (*p != '%' || p[1] == '\0')
			continue;
		p++;
		if (*p == 'k' || *p == 'l') {
			text[n++] = '_';
			text[n++] = *p == 'k' ? 'H' : 'I';
		} else {
			text[n++] = *p;
		}
	}
	text[n] = '\0';
	return (__real_strftime(out, size, text, tm));
}
