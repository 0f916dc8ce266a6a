/* Its kernel half defines ace_object_t, as the user-space context does. */
#ifdef	_KERNEL
#undef	_KERNEL
#include_next <sys/acl.h>
#define	_KERNEL
#else
#include_next <sys/acl.h>
#endif
