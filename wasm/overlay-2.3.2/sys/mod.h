/* Its kernel half is the SPL's; the user half is all that is needed. */
#ifdef	_KERNEL
#undef	_KERNEL
#include_next <sys/mod.h>
#define	_KERNEL
#else
#include_next <sys/mod.h>
#endif
