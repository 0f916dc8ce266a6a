/* Its kernel half is the SPL's; the user half is all that is needed. */
#ifdef	_KERNEL
#undef	_KERNEL
#include_next <sys/mod.h>
#define	_KERNEL
/* An old name of a tunable. */
#define	module_param_named(name, value, type, perm)
#else
#include_next <sys/mod.h>
#endif
