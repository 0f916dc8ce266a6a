/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/* libuuid, as far as upstream's EFI labels and zed use it. */

#ifndef	_UUID_UUID_H
#define	_UUID_UUID_H

typedef unsigned char uuid_t[16];

extern void uuid_generate(uuid_t);
extern int uuid_is_null(const uuid_t);
extern void uuid_unparse(const uuid_t, char *);

#endif	/* _UUID_UUID_H */
