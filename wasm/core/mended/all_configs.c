/*
 * CDDL HEADER START
 *
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 *
 * A full copy of the text of the CDDL should have accompanied this
 * source.
 *
 * CDDL HEADER END
 */

/*
 * Pools that are only looked at.
 *
 * ZFS_IOC_POOL_TRYIMPORT loads a pool as "$import-...", and gives the lock of
 * the namespace back meanwhile. Upstream lists it then as if it were imported.
 */

#include <sys/zfs_context.h>
#include <sys/spa.h>

extern int __real_spa_all_configs(uint64_t *, nvlist_t **);
extern int __wrap_spa_all_configs(uint64_t *, nvlist_t **);

int
__wrap_spa_all_configs(uint64_t *generation, nvlist_t **pools)
{
	int error = __real_spa_all_configs(generation, pools);
	nvpair_t *pair, *next;

	if (error != 0)
		return (error);
	for (pair = nvlist_next_nvpair(*pools, NULL); pair != NULL;
	    pair = next) {
		next = nvlist_next_nvpair(*pools, pair);
		if (*nvpair_name(pair) == '$')
			fnvlist_remove_nvpair(*pools, pair);
	}
	return (0);
}
