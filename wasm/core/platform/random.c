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
 * Randomness, all of it the host's. libzpool's reads /dev/urandom at each
 * call, and caches pick one of their lists with a few bytes of it for every
 * block: these come from a buffer. What may be a key comes straight.
 */

#include <sys/zfs_context.h>

#include "zow.h"

static uint8_t pseudo[4096];
static size_t pseudo_left;

void
random_init(void)
{
}

int
random_get_bytes(uint8_t *ptr, size_t len)
{
	zow_random(ptr, len);
	return (0);
}

int
random_get_pseudo_bytes(uint8_t *ptr, size_t len)
{
	if (len > sizeof (pseudo) / 16) {
		zow_random(ptr, len);
		return (0);
	}
	if (len > pseudo_left) {
		zow_random(pseudo, sizeof (pseudo));
		pseudo_left = sizeof (pseudo);
	}
	pseudo_left -= len;
	memcpy(ptr, pseudo + pseudo_left, len);
	/* Salts and initialization vectors are not left lying about. */
	memset(pseudo + pseudo_left, 0, len);
	return (0);
}
