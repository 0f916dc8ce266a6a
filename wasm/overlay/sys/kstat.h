/*
 * Its kernel half is illumos's, with prototypes of its own; the user half has
 * the types, and zfs_context.h declares the functions.
 */
#ifdef	_KERNEL
#undef	_KERNEL
#include_next <sys/kstat.h>
#define	_KERNEL
#else
#include_next <sys/kstat.h>
#endif
