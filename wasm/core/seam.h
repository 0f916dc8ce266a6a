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
 * The imports of the core besides the libc's: devices, streams, volumes,
 * computation. Described in wasm/zow.wit. Where an import takes `fiber`, it
 * either returns its result at once or IO_PENDING, and completes the fiber
 * later (fiber.h).
 */

#ifndef	_ZOW_SEAM_H
#define	_ZOW_SEAM_H

#include "fiber.h"
#include "zow.h"

#define	DEVICE_WRITABLE		1
#define	DEVICE_EXCLUSIVE	2

/* What the host says of an open device. */
typedef struct device_info {
	double		di_size;		/* bytes */
	uint32_t	di_logical_ashift;
	uint32_t	di_physical_ashift;
	uint32_t	di_nonrot;
	uint32_t	di_trim;
	uint32_t	di_block;		/* a block device, not a file */
} device_info_t;

/* Opens a device: its handle, > 0, or -errno. */
ZOW_IMPORT("device-open")
extern int zow_device_open(int fiber, const char *path, size_t length,
    int flags);
ZOW_IMPORT("device-info")
extern int zow_device_info(int fiber, int handle, device_info_t *info);
ZOW_IMPORT("device-close")
extern int zow_device_close(int fiber, int handle);

/*
 * I/O: completes `zio` with vdev-complete(zio, error) later and returns
 * IO_PENDING, or returns 0 or -errno at once.
 */
ZOW_IMPORT("device-read")
extern int zow_device_read(void *zio, int handle, void *buf, size_t length,
    double offset);
ZOW_IMPORT("device-write")
extern int zow_device_write(void *zio, int handle, const void *buf,
    size_t length, double offset);
ZOW_IMPORT("device-flush")
extern int zow_device_flush(void *zio, int handle);
ZOW_IMPORT("device-trim")
extern int zow_device_trim(void *zio, int handle, double offset,
    double length);

/*
 * Nothing that is written from now on goes to the device. It is remembered as
 * that of `pool`, any address, also when the device is opened and dropped
 * anew, until all of the pool is forgotten.
 */
ZOW_IMPORT("device-drop")
extern void zow_device_drop(int handle, const void *pool);
ZOW_IMPORT("devices-forget")
extern void zow_devices_forget(const void *pool);

/* The descriptor `fd` of the client whose ioctl is `request`. */
ZOW_IMPORT("stream-read")
extern int zow_stream_read(int fiber, int request, int fd, void *buf,
    size_t length);
ZOW_IMPORT("stream-records")
extern int zow_stream_records(int fiber, int request, int fd, void *buf,
    size_t length, uint32_t left);
ZOW_IMPORT("stream-write")
extern int zow_stream_write(int fiber, int request, int fd, const void *buf,
    size_t length);

/* The end of an ioctl; the host copies the results before it returns. */
ZOW_IMPORT("ioctl-done")
extern void zow_ioctl_done(int request, int error, const void *cmd,
    const void *dst, size_t dst_length, const void *history,
    size_t history_length);
/* A session's open (session, minor; or NULL, -errno) or close has ended. */
ZOW_IMPORT("session-done")
extern void zow_session_done(int request, void *session, int minor);

/* A minor appeared, changed or went (volumes/zvols.ts). */
ZOW_IMPORT("volume-added")
extern void zow_volume_added(const char *name, size_t length, double size,
    uint32_t block_size, int read_only, uint64_t pool_guid, uint64_t guid);
ZOW_IMPORT("volume-removed")
extern void zow_volume_removed(const char *name, size_t length);
ZOW_IMPORT("volume-renamed")
extern void zow_volume_renamed(const char *name, size_t length,
    const char *new_name, size_t new_length);
ZOW_IMPORT("volume-resized")
extern void zow_volume_resized(const char *name, size_t length, double size);
ZOW_IMPORT("volume-read-only")
extern void zow_volume_read_only(const char *name, size_t length,
    int read_only);
/* The end of a volume request; `handle` as wasm/zow.wit says. */
ZOW_IMPORT("volume-done")
extern void zow_volume_done(int request, int error, void *handle);

/* The end of an inspection; the host copies the packed nvlist. */
ZOW_IMPORT("inspect-done")
extern void zow_inspect_done(int request, int error, const void *packed,
    size_t length);
/* The option `index` of main()'s arguments is refused. */
ZOW_IMPORT("option-refused")
extern void zow_option_refused(int index, int error);

/* zlib, level 1 to 9: bytes written, or -1 when they do not fit. */
ZOW_IMPORT("deflate")
extern int zow_deflate(const void *source, size_t source_length, void *dest,
    size_t dest_length, int level);
/* Bytes written, or -1 when the data are damaged or do not fit. */
ZOW_IMPORT("inflate")
extern int zow_inflate(const void *source, size_t source_length, void *dest,
    size_t dest_length);

/* SHA-256 of the buffer: 32 bytes at `digest`; nonzero when it failed. */
ZOW_IMPORT("sha256")
extern int zow_sha256(const void *buf, size_t length, void *digest);
/*
 * AES-GCM with a 96-bit IV and a 128-bit MAC, which is written when encrypting
 * and checked when decrypting; nonzero when it failed.
 */
ZOW_IMPORT("aes-gcm")
extern int zow_aes_gcm(int encrypt, const void *source, void *dest,
    size_t length, const void *iv, void *mac, const void *key,
    size_t key_length);

/* The core is up and takes requests. */
ZOW_IMPORT("ready")
extern void zow_ready(uint32_t cmd_size, uint32_t hostid);

#endif	/* _ZOW_SEAM_H */
