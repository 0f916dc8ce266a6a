/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include <stdint.h>
#include <zow.h>
#include "overlay/zlib.h"

ZOW_IMPORT("deflate")
extern int zow_deflate(const void *, size_t, void *, size_t, int);
ZOW_IMPORT("inflate")
extern int zow_inflate(const void *, size_t, void *, size_t);

int
compress2(Bytef *dest, uLongf *dest_len, const Bytef *source,
    uLong source_len, int level)
{
	int n = zow_deflate(source, source_len, dest, *dest_len, level);

	if (n < 0)
		return (Z_BUF_ERROR);
	*dest_len = n;
	return (Z_OK);
}

int
uncompress(Bytef *dest, uLongf *dest_len, const Bytef *source,
    uLong source_len)
{
	int n = zow_inflate(source, source_len, dest, *dest_len);

	if (n < 0)
		return (Z_BUF_ERROR);
	*dest_len = n;
	return (Z_OK);
}

/* The CRC of IEEE 802.3, bit by bit: only labels of partitions need it. */
uLong
crc32(uLong crc, const Bytef *bytes, uInt length)
{
	uint32_t remainder = ~(uint32_t)crc;

	if (bytes == Z_NULL)
		return (0);
	for (uInt i = 0; i < length; i++) {
		remainder ^= bytes[i];
		for (int bit = 0; bit < 8; bit++) {
			remainder = (remainder >> 1) ^
			    (0xedb88320 & -(remainder & 1));
		}
	}
	return ((uint32_t)~remainder);
}
