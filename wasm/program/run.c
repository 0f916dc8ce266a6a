/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Upstream's way to run another program (`zpool status -c`), by the host:
 * there is no fork. The seam is upstream's own functions for it.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zow.h>

#include "process.h"

/* Flags of libzfs.h, which needs upstream's include path. */
#define	STDOUT_VERBOSE	0x01
#define	STDERR_VERBOSE	0x02
#define	NO_DEFAULT_PATH	0x04

/*
 * Runs a program to its end. Returns its exit code, or -1. With `output`, it
 * gets what was written to stdout, from malloc(3).
 */
ZOW_IMPORT("process-run")
extern int zow_process_run(const char *path, char *const *argv,
    char *const *envp, int flags, char **output, size_t *length);

extern char **environ;

int __wrap_libzfs_run_process(const char *, char **, int);
int __wrap_libzfs_run_process_get_stdout(const char *, char **, char **,
    char ***, int *);
int __wrap_libzfs_run_process_get_stdout_nopath(const char *, char **, char **,
    char ***, int *);

int
__wrap_libzfs_run_process(const char *path, char **argv, int flags)
{
	return (zow_process_run(path, argv, environ, flags, NULL, NULL));
}

/* Lines of `text`, each from malloc(3), and how many they are. */
static int
split_lines(char *text, size_t length, char ***linesp)
{
	char **lines = NULL, **more;
	int count = 0;

	for (size_t at = 0, end; at < length; at = end + 1) {
		char *newline = memchr(text + at, '\n', length - at);

		end = newline != NULL ? (size_t)(newline - text) : length;
		more = realloc(lines, sizeof (*lines) * (count + 1));
		if (more == NULL)
			break;
		lines = more;
		if ((lines[count] = strndup(text + at, end - at)) == NULL)
			break;
		count++;
	}
	*linesp = lines;
	return (count);
}

int
zow_run(const char *path, char **argv, char **env, int flags, char ***lines,
    int *count)
{
	char *output = NULL;
	size_t length = 0;
	int code = zow_process_run(path, argv, env != NULL ? env : environ,
	    flags, &output, &length);

	if (code >= 0)
		*count = split_lines(output, length, lines);
	free(output);
	return (code);
}

int
__wrap_libzfs_run_process_get_stdout(const char *path, char **argv, char **env,
    char ***lines, int *count)
{
	return (zow_run(path, argv, env, 0, lines, count));
}

int
__wrap_libzfs_run_process_get_stdout_nopath(const char *path, char **argv,
    char **env, char ***lines, int *count)
{
	return (zow_run(path, argv, env, NO_DEFAULT_PATH, lines, count));
}
