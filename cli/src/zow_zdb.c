/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include <errno.h>
#include <string.h>
#include <sys/zfs_context.h>
#include <sys/spa.h>
#include <sys/spa_impl.h>

#include "zow_client.h"

extern void __real_kernel_init(int);
void __wrap_kernel_init(int);

/*
 * What zdb reads to find imported pools: the cache file that a host keeps
 * beside its socket, unless zdb was told another.
 */
void
__wrap_kernel_init(int mode)
{
	static char path[ZOW_CACHE_FILE_MAX];

	if (strcmp(spa_config_path, ZPOOL_CACHE) == 0 &&
	    zow_cache_file(path, sizeof (path)))
		spa_config_path = path;
	__real_kernel_init(mode);
}

extern void __real_kernel_fini(void);
void __wrap_kernel_fini(void);

/*
 * zdb has read all it wanted and writes nothing: it ends.  Upstream empties
 * the ARC before, and after a traversal spins for six seconds until it may
 * evict what was read ahead.  ztest, which goes on after this, does as ever.
 */
void
__wrap_kernel_fini(void)
{
	if (strcmp(program_invocation_short_name, "zdb") != 0)
		__real_kernel_fini();
}
