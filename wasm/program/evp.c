/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include <zow.h>
#include "overlay/openssl/evp.h"

/* PBKDF2 with HMAC-SHA-1 (RFC 8018); 0 when good. */
ZOW_IMPORT("pbkdf2-sha1")
extern int zow_pbkdf2_sha1(const char *, size_t, const unsigned char *,
    size_t, int, unsigned char *, size_t);

/* The wrapping key of a passphrase; 1 when good, as OpenSSL has it. */
int
PKCS5_PBKDF2_HMAC_SHA1(const char *passphrase, int passphrase_len,
    const unsigned char *salt, int salt_len, int iterations, int key_len,
    unsigned char *key)
{
	return (zow_pbkdf2_sha1(passphrase, passphrase_len, salt, salt_len,
	    iterations, key, key_len) == 0);
}
