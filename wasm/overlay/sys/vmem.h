/* vmem_alloc() is the context's. */
#include <sys/zfs_context.h>
