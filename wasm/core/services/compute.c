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
 * Computation that the host's native code does faster: gzip by its zlib,
 * SHA-256 and AES-GCM by its OpenSSL.
 */

#include <sys/zfs_context.h>
#include <sys/qat.h>
#include <sys/zio_crypt.h>
#include <sys/zmod.h>

#include "seam.h"

#define	Z_BUF_ERROR	(-5)

int
z_compress_level(void *dest, size_t *dest_len, const void *source,
    size_t source_len, int level)
{
	int n = zow_deflate(source, source_len, dest, *dest_len, level);

	if (n < 0)
		return (Z_BUF_ERROR);
	*dest_len = n;
	return (Z_OK);
}

int
z_uncompress(void *dest, size_t *dest_len, const void *source,
    size_t source_len)
{
	int n = zow_inflate(source, source_len, dest, *dest_len);

	if (n < 0)
		return (Z_BUF_ERROR);
	*dest_len = n;
	return (Z_OK);
}

/* The 32 bytes of the digest, as they come. */
int
host_sha256(const void *buf, uint64_t size, zio_cksum_t *zcp)
{
	return (zow_sha256(buf, size, zcp) == 0 ? CPA_STATUS_SUCCESS : -1);
}

/*
 * One block, without additional data. A MAC that does not match is a failure
 * like any other here: upstream's own code runs then and reports it.
 */
int
host_aes_gcm(qat_encrypt_dir_t dir, const void *src, void *dst,
    const uint8_t *iv, uint8_t *mac, const crypto_key_t *key, uint64_t crypt,
    uint32_t length)
{
	if (zio_crypt_table[crypt].ci_crypt_type != ZC_TYPE_GCM)
		return (-1);
	return (zow_aes_gcm(dir == QAT_ENCRYPT, src, dst, length, iv, mac,
	    key->ck_data, key->ck_length / NBBY) == 0 ?
	    CPA_STATUS_SUCCESS : -1);
}
