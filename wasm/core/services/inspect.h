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


#ifndef	_ZOW_INSPECT_H
#define	_ZOW_INSPECT_H

#include <sys/nvpair.h>

/* Adds "paths": what kstat_read() takes. */
void kstat_paths(nvlist_t *nvl);

/*
 * Adds "path" and what is published there. Of a kstat: "instance", "class",
 * "type" (KSTAT_TYPE_*), "flags", "kid", "ndata", "size", "crtime",
 * "snaptime", and by its type "named", "records", "text" or "bytes". Of a
 * procfs list: "text", whose first line is its header. A text that is too long
 * is cut, and "truncated" is there. ENOENT.
 */
int kstat_read(const char *path, nvlist_t *nvl);

/* What writing to the file does in a kernel: clears it. ENOENT, EACCES. */
int kstat_clear(const char *path);

/*
 * Adds "tunables": of each its "name", "value" as text, "type" (int, uint,
 * ulong, u64, string or text), "writable" and "description".
 */
void tunables_list(nvlist_t *nvl);

/*
 * Sets a tunable from text. `load`: as an option at load, which may set those
 * that are read only later. ENOENT, EACCES: read only; else what upstream
 * says of the value, EINVAL or ERANGE.
 */
int tunable_set(const char *name, const char *value, boolean_t load);

#endif	/* _ZOW_INSPECT_H */
