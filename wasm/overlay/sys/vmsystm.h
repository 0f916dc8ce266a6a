/* What it declares is in the user-space zfs_context.h. */
#include <sys/zfs_context.h>
