/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include <string.h>
#include <zow.h>
#include "overlay/uuid/uuid.h"

/* A random UUID: version 4, variant 1 (RFC 9562, 5.4). */
void
uuid_generate(uuid_t uuid)
{
	zow_random(uuid, sizeof (uuid_t));
	uuid[6] = (uuid[6] & 0x0f) | 0x40;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
}

int
uuid_is_null(const uuid_t uuid)
{
	static const uuid_t null;

	return (memcmp(uuid, null, sizeof (null)) == 0);
}
