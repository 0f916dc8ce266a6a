/* The POSIX layer's .zfs directory is not part of the core. */
#include <sys/zfs_vfsops.h>
