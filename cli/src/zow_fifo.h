/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Included before libzfs_core.c of the WebAssembly programs. A kernel cannot
 * write a stream to every kind of file, so lzc_send_wrapper() puts a pipe, a
 * thread and splice(2) in between unless the descriptor is a pipe. Here it is
 * the program itself that writes, to any descriptor, and there is no
 * splice(2): each descriptor counts as a pipe. The other place in that
 * file that asks only enlarges a pipe's buffer, and may fail at that.
 */

#ifndef _ZOW_FIFO_H
#define	_ZOW_FIFO_H

#include <sys/stat.h>

#undef	S_ISFIFO
#define	S_ISFIFO(mode)	((void)(mode), 1)

#endif	/* _ZOW_FIFO_H */
