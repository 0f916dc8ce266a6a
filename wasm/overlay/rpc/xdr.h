/*
 * External data representation (RFC 4506) on a buffer in memory, as far as
 * nvpair.c uses it; the functions are in wasm/libc/xdr.c. It stands in for
 * libtirpc. Upstream's own, the SPL's, is under the GPL, which does not mix
 * with the CDDL in one artifact.
 */

#ifndef	_ZOW_RPC_XDR_H
#define	_ZOW_RPC_XDR_H

#include "types.h"

enum xdr_op {
	XDR_ENCODE,
	XDR_DECODE
};

typedef struct {
	enum xdr_op	x_op;
	char		*x_private;	/* where the next item is */
	unsigned int	x_handy;	/* bytes from there to the end */
} XDR;

/*
 * The type that nvpair.c gives its element functions: wasm checks at each
 * indirect call that types agree, and it differs with _KERNEL.
 */
#ifdef	_KERNEL
typedef bool_t (*xdrproc_t)(XDR *, void *);
#else
#define	XDR_CONTROL	1
typedef bool_t (*xdrproc_t)(XDR *, ...);
#endif

#define	XDR_GET_BYTES_AVAIL	1

struct xdr_bytesrec {
	bool_t	xc_is_last_record;
	size_t	xc_num_avail;
};

extern void xdrmem_create(XDR *, char *, unsigned int, enum xdr_op);
extern bool_t xdr_char(XDR *, char *);
extern bool_t xdr_short(XDR *, short *);
extern bool_t xdr_u_short(XDR *, unsigned short *);
extern bool_t xdr_int(XDR *, int *);
extern bool_t xdr_u_int(XDR *, unsigned int *);
extern bool_t xdr_longlong_t(XDR *, long long *);
extern bool_t xdr_u_longlong_t(XDR *, unsigned long long *);
extern bool_t xdr_double(XDR *, double *);
extern bool_t xdr_opaque(XDR *, char *, unsigned int);
extern bool_t xdr_string(XDR *, char **, unsigned int);

/* How much is left to decode; the only request there is. */
static inline bool_t
xdr_control(XDR *xdrs, int request, void *info)
{
	struct xdr_bytesrec *record = info;

	if (request != XDR_GET_BYTES_AVAIL)
		return (FALSE);
	record->xc_is_last_record = TRUE;
	record->xc_num_avail = xdrs->x_handy;
	return (TRUE);
}

/*
 * A counted array at *arrayp, which the caller has room for. Inline, so that
 * the element function is called with the caller's idea of its type.
 */
static inline bool_t
xdr_array(XDR *xdrs, char **arrayp, unsigned int *countp,
    unsigned int count_max, unsigned int element_size, xdrproc_t element)
{
	char *target = *arrayp;

	if (!xdr_u_int(xdrs, countp) || *countp > count_max || target == NULL)
		return (FALSE);
	for (unsigned int i = 0; i < *countp; i++, target += element_size) {
		if (!element(xdrs, target))
			return (FALSE);
	}
	return (TRUE);
}

#endif	/* _ZOW_RPC_XDR_H */
