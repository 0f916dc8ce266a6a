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

#ifndef	_ZOW_ADMISSION_H
#define	_ZOW_ADMISSION_H

#include <sys/types.h>

/*
 * What begins may need so much memory until admission_leave(): waits until
 * there is that much beside what others that began may still need, and
 * something to spare. ENOBUFS: it did not come free, or there never is as
 * much. EINTR: the client is gone. Not ENOMEM, which tells the programs to
 * come back with a larger buffer.
 */
int admission_enter(uint64_t bytes);
void admission_leave(uint64_t bytes);

/* What a stream that is sent or received holds back, bytes. */
uint64_t zow_stream_queue(void);

#endif	/* _ZOW_ADMISSION_H */
