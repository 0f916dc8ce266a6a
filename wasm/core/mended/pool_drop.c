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
 * Pools that leave without a last word to their devices.
 *
 * A lost pool (flush.c) must not write, and without writing upstream can
 * neither export a pool nor get rid of it. So its devices are dropped first:
 * the host remembers what is written to them, for reads, and changes nothing.
 * All that waited then goes on and ends, every request of a volume and every
 * ioctl with EIO, for what it did goes nowhere; and the pool is exported as any
 * other. On its devices is what a power cut would have left. `zpool clear` has
 * it imported again at once, from devices that are opened anew: that is how it
 * goes back to the last txg that was flushed, and replays the intent log.
 */

#include <sys/zfs_context.h>
#include <sys/dsl_pool.h>
#include <sys/spa.h>
#include <sys/spa_impl.h>
#include <sys/txg.h>
#include <sys/vdev_impl.h>
#include <sys/zio.h>

#include "compat.h"
#include "flush.h"

/* How long what used the pool is waited for, in tenths of a second. */
#define	DROP_TENTHS_MAX	200
/* How often, once a second, its import is tried: a device may be late. */
#define	IMPORTS_MAX	10
/* A pool is suspended again by each read that its device does not answer. */
#define	RESUMES_MAX	100

/* The last drops; older ones count as ones of any pool. */
#define	DROPS_KEPT	16

static uint64_t drop_clock;
static struct {
	char		d_pool[ZFS_MAX_DATASET_NAME_LEN];
	uint64_t	d_when;
} drops[DROPS_KEPT];

uint64_t
pool_drops(void)
{
	return (drop_clock);
}

boolean_t
pool_dropped_since(const char *name, uint64_t when)
{
	size_t len = strcspn(name, "/@#");

	if (drop_clock - when > DROPS_KEPT)
		return (B_TRUE);
	for (int i = 0; i < DROPS_KEPT; i++) {
		if (drops[i].d_when > when && strlen(drops[i].d_pool) == len &&
		    strncmp(drops[i].d_pool, name, len) == 0)
			return (B_TRUE);
	}
	return (B_FALSE);
}

static void
pool_note_drop(const char *name)
{
	int i = drop_clock++ % DROPS_KEPT;

	(void) strlcpy(drops[i].d_pool, name, sizeof (drops[i].d_pool));
	drops[i].d_when = drop_clock;
}

/* Whether the pool goes on, its devices dropped. */
static int
pool_run_dropped(spa_t *spa)
{
	int error = 0;

	pool_note_drop(spa_name(spa));
	pool_set_dropped(spa);
	vdev_zow_drop(spa);
	zvol_hang_up(spa_name(spa));
	for (int i = 0; i < RESUMES_MAX; i++) {
		spa_vdev_state_enter(spa, SCL_NONE);
		__real_vdev_clear(spa, NULL);
		(void) spa_vdev_state_exit(spa, NULL, 0);
		(void) __real_zio_resume(spa);
#if ZFS_META_VERSION_NUMBER >= 20400
		error = txg_wait_synced_flags(spa->spa_dsl_pool, 0,
		    TXG_WAIT_SUSPEND);
		if (error == 0)
			break;
		delay(MAX(hz / 50, 1));
#else
		txg_wait_synced(spa->spa_dsl_pool, 0);
		break;
#endif
	}
	return (error == 0 ? 0 : SET_ERROR(EIO));
}

/* Where the pool is in the cache file, and its root. */
static nvlist_t *
pool_import_props(spa_t *spa)
{
	spa_config_dirent_t *dp = list_head(&spa->spa_config_list);
	nvlist_t *props = fnvlist_alloc();

	if (dp != NULL)
		fnvlist_add_string(props,
		    zpool_prop_to_name(ZPOOL_PROP_CACHEFILE),
		    dp->scd_path == NULL ? "none" : dp->scd_path);
	if (spa->spa_root != NULL)
		fnvlist_add_string(props,
		    zpool_prop_to_name(ZPOOL_PROP_ALTROOT), spa->spa_root);
	return (props);
}

static int
pool_drop(const char *name, nvlist_t **configp, nvlist_t **propsp)
{
	spa_t *spa;
	int error = spa_open(name, &spa, FTAG);

	if (error != 0)
		return (error);
	*propsp = pool_import_props(spa);
	error = pool_run_dropped(spa);
	spa_close(spa, FTAG);
	for (int i = 0; error == 0; i++) {
		error = spa_export(name, configp, B_TRUE, B_TRUE);
		if (error == 0)
			return (0);
		/* Its clients are still on their way out. */
		if (error != EBUSY || i == DROP_TENTHS_MAX)
			break;
		error = 0;
		delay(MAX(hz / 10, 1));
	}
	if (error != 0)
		nvlist_free(*propsp);
	return (error);
}

static void
pool_cannot_leave(const char *name)
{
	cmn_err(CE_WARN, "Pool '%s' cannot be taken down, because of what its "
	    "devices do not answer or clients that stay. Ending this host "
	    "leaves it as a crash does, with all that was flushed.", name);
}

int
pool_drop_export(const char *name)
{
	nvlist_t *config = NULL, *props;
	int error = pool_drop(name, &config, &props);

	if (error != 0) {
		pool_cannot_leave(name);
		return (error);
	}
	nvlist_free(config);
	nvlist_free(props);
	cmn_err(CE_WARN, "Pool '%s' has left; the next import goes back to "
	    "what is on its devices.", name);
	return (0);
}

int
pool_go_back(const char *name)
{
	nvlist_t *config = NULL, *props;
	char *pool = kmem_strdup(name);
	int error = pool_drop(name, &config, &props);

	if (error != 0) {
		pool_cannot_leave(name);
		kmem_strfree(pool);
		return (error);
	}
	for (int i = 0; i < IMPORTS_MAX; i++) {
		error = spa_import(pool, config, props, ZFS_IMPORT_NORMAL);
		if (error != ENXIO && error != EIO)
			break;
		delay(hz);
	}
	if (error == 0)
		cmn_err(CE_WARN, "Pool '%s' went back to what is on its "
		    "devices. What was written and not flushed may be gone: "
		    "its volumes were closed under their clients.", name);
	else
		cmn_err(CE_WARN, "Pool '%s' has left and cannot be imported "
		    "again (error %d): see 'zpool import'.", name, error);
	nvlist_free(config);
	nvlist_free(props);
	kmem_strfree(pool);
	return (error);
}
