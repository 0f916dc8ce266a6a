/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#ifndef	_ZOW_SIGNAL_H
#define	_ZOW_SIGNAL_H

/* Tells whoever is in pause() that a signal's handler has run. */
void zow_signal_handled(void);

#endif	/* _ZOW_SIGNAL_H */
