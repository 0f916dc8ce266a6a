/* In the core the context's, whoever includes this: one meaning of KM_SLEEP. */
#ifdef	ZOW_CORE
#include <sys/zfs_context.h>
#else
#include_next <sys/kmem.h>
#endif
