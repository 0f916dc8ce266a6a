/* Its kernel half is the POSIX layer, which is not part of the core. */
#ifdef	_KERNEL
#include <sys/zfs_fuid.h>
#undef	_KERNEL
#include_next <sys/zfs_acl.h>
#define	_KERNEL
#else
#include_next <sys/zfs_acl.h>
#endif
