#include_next <sys/sunddi.h>

#ifdef	_KERNEL
extern int ddi_strtol(const char *, char **, int, long *);
/* As in a kernel, with the allocator; not in the middle of the context. */
#ifndef	_SYS_ZFS_CONTEXT_H
#include <sys/zfs_context.h>
#endif
#endif
