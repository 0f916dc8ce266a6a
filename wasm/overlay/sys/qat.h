/*
 * Upstream's hooks for Intel's QuickAssist, used as the way to the host's
 * native code (wasm/core/services/compute.c): SHA-256 and AES-GCM of blocks
 * large enough that crossing over pays. What fails falls back to upstream's own
 * code.
 */
#ifndef	_SYS_QAT_H
#define	_SYS_QAT_H

#include <sys/types.h>

typedef enum qat_compress_dir {
	QAT_DECOMPRESS = 0,
	QAT_COMPRESS = 1,
} qat_compress_dir_t;

typedef enum qat_encrypt_dir {
	QAT_DECRYPT = 0,
	QAT_ENCRYPT = 1,
} qat_encrypt_dir_t;

#define	CPA_STATUS_SUCCESS		0
#define	CPA_STATUS_INCOMPRESSIBLE	(-127)

/* Bytes below which calling the host costs more than it saves. */
#define	HOST_CRYPT_MIN			1024

#define	qat_init()
#define	qat_fini()

#ifdef	_KERNEL
#include <sys/zio.h>
#include <sys/crypto/api.h>

extern int host_sha256(const void *buf, uint64_t size, zio_cksum_t *zcp);
extern int host_aes_gcm(qat_encrypt_dir_t dir, const void *src, void *dst,
    const uint8_t *iv, uint8_t *mac, const crypto_key_t *key, uint64_t crypt,
    uint32_t length);

#define	qat_crypt_use_accel(size)	((size) >= HOST_CRYPT_MIN)
#define	qat_checksum_use_accel(size)	((size) >= HOST_CRYPT_MIN)
#define	qat_crypt(dir, src, dst, aad, aad_len, iv, mac, key, crypt, len) \
	host_aes_gcm(dir, src, dst, iv, mac, key, crypt, len)
#define	qat_checksum(cksum, buf, size, zcp) \
	host_sha256(buf, size, zcp)
#else
#define	qat_crypt_use_accel(size)	((void) sizeof (size), 0)
#define	qat_checksum_use_accel(size)	((void) sizeof (size), 0)
#define	qat_crypt(dir, src, dst, aad, aad_len, iv, mac, key, crypt, len) \
	((void) sizeof (dir), (void) sizeof (src), (void) sizeof (dst), \
	(void) sizeof (aad), (void) sizeof (aad_len), (void) sizeof (iv), \
	(void) sizeof (mac), (void) sizeof (key), (void) sizeof (crypt), \
	(void) sizeof (len), 0)
#define	qat_checksum(cksum, buf, size, zcp) \
	((void) sizeof (cksum), (void) sizeof (buf), (void) sizeof (size), \
	(void) sizeof (zcp), 0)
#endif

/* gzip goes to the host by zmod.h. */
#define	qat_dc_use_accel(size)		((void) sizeof (size), 0)
#define	qat_compress(dir, src, src_len, dst, dst_len, c_len) \
	((void) sizeof (dir), (void) sizeof (src), (void) sizeof (src_len), \
	(void) sizeof (dst), (void) sizeof (dst_len), \
	(void) sizeof (c_len), 0)

#endif	/* _SYS_QAT_H */
