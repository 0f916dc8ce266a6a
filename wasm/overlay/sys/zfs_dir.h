/* The POSIX layer's directories are not part of the core. */
#include <sys/zfs_vfsops.h>
