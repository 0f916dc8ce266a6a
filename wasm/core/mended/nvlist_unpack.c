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
 * Packed nvlists in XDR: of labels, of streams, of clients.
 *
 * Of each pair the stream says how large it is in memory. 2.4 makes room for
 * that, and has lost the comparison with what its type and number of elements
 * need (a parenthesis in nvs_xdr_nvp_op()): an array of eight million lists is
 * written into a pair of 64 bytes. So a list is walked through first. What is
 * wrong in other ways is left to upstream.
 *
 * And lists in lists, of ioctls: what a client sends and is answered goes into
 * the pool's history, within another list, which then is too deep to be packed;
 * upstream finds that out in syncing context, and panics.
 */

#include <sys/zfs_context.h>
#include <sys/nvpair.h>
#include <sys/nvpair_impl.h>
#include <sys/byteorder.h>
#include <sys/debug.h>
#include <errno.h>
#include <string.h>

#include "nvlist.h"
#include "session.h"

#define	XDR_UNIT	4
#define	HEADER_BYTES	4	/* nvs_header_t */
/* Deeper than upstream goes. */
#define	DEPTH_MAX	128

typedef struct walk {
	const uint8_t	*w_at;
	const uint8_t	*w_end;
	int		w_depth;
} walk_t;

static boolean_t walk_list(walk_t *w);

static boolean_t
walk_over(walk_t *w, uint64_t bytes)
{
	bytes = P2ROUNDUP(bytes, (uint64_t)XDR_UNIT);
	if (bytes > w->w_end - w->w_at)
		return (B_FALSE);
	w->w_at += bytes;
	return (B_TRUE);
}

static boolean_t
walk_int(walk_t *w, uint32_t *value)
{
	const uint8_t *at = w->w_at;

	if (!walk_over(w, XDR_UNIT))
		return (B_FALSE);
	*value = (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
	return (B_TRUE);
}

/* `size`: what the string takes in memory, with its NUL. */
static boolean_t
walk_string(walk_t *w, uint64_t *size)
{
	const uint8_t *text;
	uint32_t length;

	if (!walk_int(w, &length))
		return (B_FALSE);
	text = w->w_at;
	if (!walk_over(w, length))
		return (B_FALSE);
	*size = strnlen((const char *)text, length) + 1;
	return (B_TRUE);
}

static boolean_t
walk_array(walk_t *w, uint64_t item)
{
	uint32_t count;

	return (walk_int(w, &count) && walk_over(w, count * item));
}

/* As i_get_value_size(), without strings themselves. */
static uint64_t
value_size(data_type_t type, uint64_t nelem)
{
	switch (type) {
	case DATA_TYPE_BYTE:
	case DATA_TYPE_INT8:
	case DATA_TYPE_UINT8:
	case DATA_TYPE_BYTE_ARRAY:
	case DATA_TYPE_INT8_ARRAY:
	case DATA_TYPE_UINT8_ARRAY:
		return (nelem);
	case DATA_TYPE_INT16:
	case DATA_TYPE_UINT16:
	case DATA_TYPE_INT16_ARRAY:
	case DATA_TYPE_UINT16_ARRAY:
		return (nelem * 2);
	case DATA_TYPE_BOOLEAN_VALUE:
	case DATA_TYPE_INT32:
	case DATA_TYPE_UINT32:
	case DATA_TYPE_BOOLEAN_ARRAY:
	case DATA_TYPE_INT32_ARRAY:
	case DATA_TYPE_UINT32_ARRAY:
		return (nelem * 4);
	case DATA_TYPE_INT64:
	case DATA_TYPE_UINT64:
	case DATA_TYPE_HRTIME:
	case DATA_TYPE_INT64_ARRAY:
	case DATA_TYPE_UINT64_ARRAY:
	case DATA_TYPE_STRING_ARRAY:
		return (nelem * 8);
	case DATA_TYPE_NVLIST:
		return (nelem * NV_ALIGN(sizeof (nvlist_t)));
	case DATA_TYPE_NVLIST_ARRAY:
		return (nelem * (8 + NV_ALIGN(sizeof (nvlist_t))));
	default:
		return (0);
	}
}

static boolean_t
walk_value(walk_t *w, data_type_t type, uint32_t nelem)
{
	uint64_t size;

	switch (type) {
	case DATA_TYPE_BOOLEAN:
		return (B_TRUE);
	case DATA_TYPE_BYTE:
	case DATA_TYPE_INT8:
	case DATA_TYPE_UINT8:
	case DATA_TYPE_INT16:
	case DATA_TYPE_UINT16:
	case DATA_TYPE_BOOLEAN_VALUE:
	case DATA_TYPE_INT32:
	case DATA_TYPE_UINT32:
		return (walk_over(w, 4));
	case DATA_TYPE_INT64:
	case DATA_TYPE_UINT64:
	case DATA_TYPE_HRTIME:
		return (walk_over(w, 8));
	case DATA_TYPE_STRING:
		return (walk_string(w, &size));
	case DATA_TYPE_BYTE_ARRAY:
		return (walk_over(w, nelem));
	case DATA_TYPE_INT8_ARRAY:
	case DATA_TYPE_UINT8_ARRAY:
	case DATA_TYPE_INT16_ARRAY:
	case DATA_TYPE_UINT16_ARRAY:
	case DATA_TYPE_BOOLEAN_ARRAY:
	case DATA_TYPE_INT32_ARRAY:
	case DATA_TYPE_UINT32_ARRAY:
		return (walk_array(w, 4));
	case DATA_TYPE_INT64_ARRAY:
	case DATA_TYPE_UINT64_ARRAY:
		return (walk_array(w, 8));
	case DATA_TYPE_STRING_ARRAY:
		for (uint32_t i = 0; i < nelem; i++) {
			if (!walk_string(w, &size))
				return (B_FALSE);
		}
		return (B_TRUE);
	case DATA_TYPE_NVLIST:
		return (walk_list(w));
	case DATA_TYPE_NVLIST_ARRAY:
		for (uint32_t i = 0; i < nelem; i++) {
			if (!walk_list(w))
				return (B_FALSE);
		}
		return (B_TRUE);
	default:
		return (B_FALSE);
	}
}

/* Pairs up to the one without a size, which ends a list. */
static boolean_t
walk_pairs(walk_t *w)
{
	uint32_t encoded, decoded, type, nelem;
	uint64_t name;

	for (;;) {
		if (!walk_int(w, &encoded) || !walk_int(w, &decoded))
			return (B_FALSE);
		if (decoded == 0)
			return (B_TRUE);
		if (!walk_string(w, &name) || !walk_int(w, &type) ||
		    !walk_int(w, &nelem))
			return (B_FALSE);
		if (NV_ALIGN(sizeof (nvpair_t) + name) +
		    value_size(type, nelem) > decoded)
			return (B_FALSE);
		if (nelem != 0 && !walk_value(w, type, nelem))
			return (B_FALSE);
	}
}

static boolean_t
walk_list(walk_t *w)
{
	boolean_t good;
	uint32_t version, flags;

	if (w->w_depth >= DEPTH_MAX)
		return (B_FALSE);
	w->w_depth++;
	good = walk_int(w, &version) && walk_int(w, &flags) &&
	    (flags & ~(NV_UNIQUE_NAME | NV_UNIQUE_NAME_TYPE)) == 0 &&
	    walk_pairs(w);
	w->w_depth--;
	return (good);
}

int
nvlist_levels(nvlist_t *nvl)
{
	int deepest = -1;

	for (nvpair_t *pair = nvlist_next_nvpair(nvl, NULL); pair != NULL;
	    pair = nvlist_next_nvpair(nvl, pair)) {
		nvlist_t *one, **lists = &one;
		uint_t count = 0;

		if (nvpair_type(pair) == DATA_TYPE_NVLIST) {
			one = fnvpair_value_nvlist(pair);
			count = 1;
		} else if (nvpair_type(pair) == DATA_TYPE_NVLIST_ARRAY) {
			VERIFY0(nvpair_value_nvlist_array(pair, &lists,
			    &count));
		}
		for (uint_t i = 0; i < count; i++)
			deepest = MAX(deepest, nvlist_levels(lists[i]));
	}
	return (deepest + 1);
}

/*
 * Who looks for a name in a list that does not say that names are unique gets
 * ENOTSUP, which fnvlist_lookup_nvlist() and its kind do not expect.
 */
static void
make_unique(nvlist_t *nvl)
{
	nvpair_t *pair = NULL;
	nvlist_t *inner, **array;
	uint_t n;

	if ((nvl->nvl_nvflag & (NV_UNIQUE_NAME | NV_UNIQUE_NAME_TYPE)) == 0)
		nvl->nvl_nvflag |= NV_UNIQUE_NAME;
	while ((pair = nvlist_next_nvpair(nvl, pair)) != NULL) {
		if (nvpair_value_nvlist(pair, &inner) == 0) {
			make_unique(inner);
		} else if (nvpair_value_nvlist_array(pair, &array, &n) == 0) {
			for (uint_t i = 0; i < n; i++)
				make_unique(array[i]);
		}
	}
}

extern int __real_nvlist_unpack(char *, size_t, nvlist_t **, int);
extern int __wrap_nvlist_unpack(char *, size_t, nvlist_t **, int);

int
__wrap_nvlist_unpack(char *buf, size_t buflen, nvlist_t **nvlp, int kmflag)
{
	int error;

	if (buf != NULL && buflen >= HEADER_BYTES && *buf == NV_ENCODE_XDR) {
		walk_t w = {
			.w_at = (const uint8_t *)buf + HEADER_BYTES,
			.w_end = (const uint8_t *)buf + buflen,
		};

		if (!walk_list(&w))
			return (EFAULT);
	}
	error = __real_nvlist_unpack(buf, buflen, nvlp, kmflag);
	if (error == 0 && ioctl_current() != NULL &&
	    nvlist_levels(*nvlp) > NVLIST_LEVELS_MAX) {
		nvlist_free(*nvlp);
		*nvlp = NULL;
		error = EINVAL;
	}
	if (error == 0)
		make_unique(*nvlp);
	return (error);
}
