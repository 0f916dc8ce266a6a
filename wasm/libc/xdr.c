/*
 * External data representation (RFC 4506) on a buffer in memory. Every item
 * is a multiple of four bytes, integers are big-endian. A function encodes or
 * decodes, as its stream says, and returns FALSE at the buffer's end.
 */

#include <string.h>
#include "../overlay/rpc/xdr.h"

#define	XDR_UNIT	4

void
xdrmem_create(XDR *xdrs, char *buffer, unsigned int size, enum xdr_op op)
{
	xdrs->x_op = op;
	xdrs->x_private = buffer;
	xdrs->x_handy = size;
}

/* The next `size` bytes of the stream, or NULL when there are fewer. */
static char *
xdr_take(XDR *xdrs, unsigned int size)
{
	char *item = xdrs->x_private;

	if (size > xdrs->x_handy)
		return (NULL);
	xdrs->x_private += size;
	xdrs->x_handy -= size;
	return (item);
}

bool_t
xdr_u_int(XDR *xdrs, unsigned int *value)
{
	unsigned int wire;
	char *item = xdr_take(xdrs, sizeof (wire));

	if (item == NULL)
		return (FALSE);
	if (xdrs->x_op == XDR_ENCODE) {
		wire = __builtin_bswap32(*value);
		memcpy(item, &wire, sizeof (wire));
	} else {
		memcpy(&wire, item, sizeof (wire));
		*value = __builtin_bswap32(wire);
	}
	return (TRUE);
}

bool_t
xdr_u_longlong_t(XDR *xdrs, unsigned long long *value)
{
	unsigned long long wire;
	char *item = xdr_take(xdrs, sizeof (wire));

	if (item == NULL)
		return (FALSE);
	if (xdrs->x_op == XDR_ENCODE) {
		wire = __builtin_bswap64(*value);
		memcpy(item, &wire, sizeof (wire));
	} else {
		memcpy(&wire, item, sizeof (wire));
		*value = __builtin_bswap64(wire);
	}
	return (TRUE);
}

bool_t
xdr_int(XDR *xdrs, int *value)
{
	return (xdr_u_int(xdrs, (unsigned int *)value));
}

bool_t
xdr_longlong_t(XDR *xdrs, long long *value)
{
	return (xdr_u_longlong_t(xdrs, (unsigned long long *)value));
}

/* A double has the bits of its big-endian IEEE 754 form. */
bool_t
xdr_double(XDR *xdrs, double *value)
{
	unsigned long long bits;

	memcpy(&bits, value, sizeof (bits));
	if (!xdr_u_longlong_t(xdrs, &bits))
		return (FALSE);
	memcpy(value, &bits, sizeof (bits));
	return (TRUE);
}

/* Integers shorter than a unit travel as one. */
bool_t
xdr_char(XDR *xdrs, char *value)
{
	int wide = *value;

	if (!xdr_int(xdrs, &wide))
		return (FALSE);
	*value = (char)wide;
	return (TRUE);
}

bool_t
xdr_short(XDR *xdrs, short *value)
{
	int wide = *value;

	if (!xdr_int(xdrs, &wide))
		return (FALSE);
	*value = (short)wide;
	return (TRUE);
}

bool_t
xdr_u_short(XDR *xdrs, unsigned short *value)
{
	unsigned int wide = *value;

	if (!xdr_u_int(xdrs, &wide))
		return (FALSE);
	*value = (unsigned short)wide;
	return (TRUE);
}

/* `size` bytes as they are, then zeroes to a whole unit. */
bool_t
xdr_opaque(XDR *xdrs, char *bytes, unsigned int size)
{
	unsigned int padding = -size % XDR_UNIT;
	char *item = size > xdrs->x_handy ? NULL :
	    xdr_take(xdrs, size + padding);

	if (item == NULL)
		return (FALSE);
	if (xdrs->x_op == XDR_ENCODE) {
		memcpy(item, bytes, size);
		memset(item + size, 0, padding);
	} else {
		memcpy(bytes, item, size);
	}
	return (TRUE);
}

/*
 * A string of at most `size_max` bytes at *stringp, which has room for those
 * and a terminating zero.
 */
bool_t
xdr_string(XDR *xdrs, char **stringp, unsigned int size_max)
{
	char *string = *stringp;
	unsigned int size = 0;

	if (string == NULL)
		return (FALSE);
	if (xdrs->x_op == XDR_ENCODE)
		size = strlen(string);
	if (!xdr_u_int(xdrs, &size) || size > size_max ||
	    !xdr_opaque(xdrs, string, size))
		return (FALSE);
	if (xdrs->x_op == XDR_DECODE)
		string[size] = '\0';
	return (TRUE);
}
