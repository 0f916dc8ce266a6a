/* libtirpc's header, as far as upstream's XDR needs it. */
#ifndef	_RPC_TYPES_H
#define	_RPC_TYPES_H
#include <sys/types.h>
typedef int bool_t;
#ifndef	TRUE
#define	TRUE	1
#define	FALSE	0
#endif
#endif
