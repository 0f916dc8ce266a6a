/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include <stdio.h>
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

/* Its text, 36 characters and a NUL. */
void
uuid_unparse(const uuid_t uuid, char *out)
{
	for (int i = 0; i < sizeof (uuid_t); i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		out += sprintf(out, "%02x", uuid[i]);
	}
}
