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
 * What a suspended pool shows.
 *
 * A sync task holds the pool's configuration lock, and some wait for I/O (a
 * new encrypted dataset is written at once). When the pool is suspended there,
 * upstream's `zpool status` and `zpool list` wait for the lock, of all pools
 * as soon as they come to this one, and nobody is told to clear it.
 */

#include <sys/zfs_context.h>
#include <sys/dsl_pool.h>
#include <sys/metaslab.h>
#include <sys/spa.h>
#include <sys/spa_impl.h>
#include <sys/vdev_impl.h>
#include <sys/zfs_ioctl.h>

#include "zfs_prop.h"

/* Whether who wants to read the configuration would wait for a txg's end. */
static boolean_t
config_is_held(spa_t *spa)
{
	rrwlock_t *rrl = &spa->spa_dsl_pool->dp_config_rwlock;

	/* Most come before anybody else runs. */
	while (rrl->rr_writer != NULL || rrl->rr_writer_wanted) {
		if (spa_suspended(spa))
			return (B_TRUE);
		delay(MAX(hz / 100, 1));
	}
	return (B_FALSE);
}

static void
add_number(nvlist_t *nv, zpool_prop_t prop, uint64_t value)
{
	nvlist_t *pair = fnvlist_alloc();

	fnvlist_add_uint64(pair, ZPROP_SOURCE, ZPROP_SRC_NONE);
	fnvlist_add_uint64(pair, ZPROP_VALUE, value);
	fnvlist_add_nvlist(nv, zpool_prop_to_name(prop), pair);
	nvlist_free(pair);
}

static void
add_string(nvlist_t *nv, zpool_prop_t prop, const char *value,
    zprop_source_t source)
{
	nvlist_t *pair = fnvlist_alloc();

	fnvlist_add_uint64(pair, ZPROP_SOURCE, source);
	fnvlist_add_string(pair, ZPROP_VALUE, value);
	fnvlist_add_nvlist(nv, zpool_prop_to_name(prop), pair);
	nvlist_free(pair);
}

static void
add_space(spa_t *spa, nvlist_t *nv)
{
	metaslab_class_t *mcs[] = { spa_normal_class(spa),
	    spa_special_class(spa), spa_dedup_class(spa),
	    spa_embedded_log_class(spa) };
	uint64_t size = 0, alloc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(mcs); i++) {
		size += metaslab_class_get_space(mcs[i]);
		alloc += metaslab_class_get_alloc(mcs[i]);
	}
	add_number(nv, ZPOOL_PROP_SIZE, size);
	add_number(nv, ZPOOL_PROP_ALLOCATED, alloc);
	add_number(nv, ZPOOL_PROP_FREE, size - alloc);
	add_number(nv, ZPOOL_PROP_CAPACITY, size == 0 ? 0 :
	    alloc * 100 / size);
}

/* Of the properties those that are in memory, and need no lock that waits. */
static void
props_in_memory(spa_t *spa, nvlist_t *nv)
{
	add_string(nv, ZPOOL_PROP_NAME, spa_name(spa), ZPROP_SRC_NONE);
	add_number(nv, ZPOOL_PROP_GUID, spa_guid(spa));
	if (spa->spa_root != NULL)
		add_string(nv, ZPOOL_PROP_ALTROOT, spa->spa_root,
		    ZPROP_SRC_LOCAL);
	if (spa->spa_root_vdev == NULL)
		return;
	add_space(spa, nv);
	add_number(nv, ZPOOL_PROP_READONLY, spa_mode(spa) == SPA_MODE_READ);
	add_number(nv, ZPOOL_PROP_HEALTH, spa->spa_root_vdev->vdev_state);
	add_number(nv, ZPOOL_PROP_VERSION, spa_version(spa));
	add_number(nv, ZPOOL_PROP_LOAD_GUID, spa_load_guid(spa));
}

extern int __real_spa_prop_get(spa_t *, nvlist_t *);
extern int __wrap_spa_prop_get(spa_t *, nvlist_t *);

int
__wrap_spa_prop_get(spa_t *spa, nvlist_t *nv)
{
	/* One that could not be opened has no configuration to lock. */
	if (spa->spa_dsl_pool != NULL && !config_is_held(spa))
		return (__real_spa_prop_get(spa, nv));
	props_in_memory(spa, nv);
	return (0);
}
