/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * zlib's interface, as far as upstream's user space uses it; the host's zlib
 * does the work (wasm/program/zlib.c).
 */

#ifndef	_ZLIB_H
#define	_ZLIB_H

#include <stddef.h>

typedef unsigned char Bytef;
typedef unsigned int uInt;
typedef unsigned long uLong;
typedef unsigned long uLongf;

#define	Z_OK		0
#define	Z_BUF_ERROR	(-5)
#define	Z_NULL		NULL

extern int compress2(Bytef *, uLongf *, const Bytef *, uLong, int);
extern int uncompress(Bytef *, uLongf *, const Bytef *, uLong);
extern uLong crc32(uLong, const Bytef *, uInt);

#endif	/* _ZLIB_H */
