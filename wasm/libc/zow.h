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
 * How a function crosses the seam between the module and its host. What
 * crosses it is described once in wasm/zow.wit, from which the host's types
 * are generated. Addresses and lengths are u32, byte offsets f64 (exact up to
 * 2^53), results Linux errno: 0 or a count when good, -errno when not.
 */

#ifndef	_ZOW_H
#define	_ZOW_H

#include <stddef.h>
#include <stdint.h>

#define	ZOW_IMPORT(name) \
	__attribute__((import_module("zow"), import_name(name)))
#define	ZOW_EXPORT(name) \
	__attribute__((export_name(name), used))

/* Levels of zow_log(), pino's numbers. */
#define	ZOW_LOG_INFO	30
#define	ZOW_LOG_WARN	40
#define	ZOW_LOG_ERROR	50

ZOW_IMPORT("log")
extern void zow_log(int level, const char *text, size_t length);

/*
 * The end of the module: `text` says where and why. Does not return; every
 * later call into the module is the host's bug.
 */
ZOW_IMPORT("panic")
extern _Noreturn void zow_panic_host(const char *text, size_t length);

extern const size_t zow_main_stack_size;

/* Formats, adds the fiber's name, and ends the module. */
extern _Noreturn void zow_panic(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));

/* States what must hold; a panic that says what does not. */
#define	zow_verify(holds, ...) \
	do { \
		if (__builtin_expect(!(holds), 0)) \
			zow_panic(__VA_ARGS__); \
	} while (0)

/* Fills the buffer with bytes fit for keys. */
ZOW_IMPORT("random")
extern void zow_random(void *buf, size_t length);

#endif	/* _ZOW_H */
