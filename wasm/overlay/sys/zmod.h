/*
 * gzip as the kernel has it; the host's zlib does the work
 * (wasm/core/services/compute.c).
 */
#ifndef	_ZOW_ZMOD_H
#define	_ZOW_ZMOD_H
#include <sys/types.h>

#define	Z_OK	0

extern int z_compress_level(void *dest, size_t *destLen, const void *source,
    size_t sourceLen, int level);
extern int z_uncompress(void *dest, size_t *destLen, const void *source,
    size_t sourceLen);
#endif
