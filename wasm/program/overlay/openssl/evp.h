/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/* The one function of OpenSSL that upstream uses; see wasm/program/evp.c. */

#ifndef	_OPENSSL_EVP_H
#define	_OPENSSL_EVP_H

extern int PKCS5_PBKDF2_HMAC_SHA1(const char *, int, const unsigned char *,
    int, int, int, unsigned char *);

#endif	/* _OPENSSL_EVP_H */
