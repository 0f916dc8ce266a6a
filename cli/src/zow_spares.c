/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Pools that have engines of their own do not share spares: the engine that
 * has a disk has it alone. What libzfs says of that EBUSY is that a device was
 * given twice; here it is said which one it is, and who has it.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <libzfs.h>

extern int __real_zpool_add(zpool_handle_t *, nvlist_t *, boolean_t);
extern int __real_zpool_create(libzfs_handle_t *, const char *, nvlist_t *,
    nvlist_t *, nvlist_t *);

int __wrap_zpool_add(zpool_handle_t *, nvlist_t *, boolean_t);
int __wrap_zpool_create(libzfs_handle_t *, const char *, nvlist_t *,
    nvlist_t *, nvlist_t *);

/* Says which of the spares that a pool was to have is another pool's. */
static void
zow_explain_spares(libzfs_handle_t *hdl, nvlist_t *nvroot)
{
	nvlist_t **spares;
	uint_t count;

	if (libzfs_errno(hdl) != EZFS_BADDEV ||
	    nvlist_lookup_nvlist_array(nvroot, ZPOOL_CONFIG_SPARES, &spares,
	    &count) != 0)
		return;
	for (uint_t i = 0; i < count; i++) {
		const char *path;
		pool_state_t state;
		boolean_t inuse;
		char *pool = NULL;
		int fd;

		if (nvlist_lookup_string(spares[i], ZPOOL_CONFIG_PATH,
		    &path) != 0 || (fd = open(path, O_RDONLY)) < 0)
			continue;
		if (zpool_in_use(hdl, fd, &state, &pool, &inuse) == 0 &&
		    inuse && state == POOL_STATE_SPARE)
			(void) fprintf(stderr, "%s is a spare of pool '%s', "
			    "and pools with engines of their own cannot share "
			    "it\n", path, pool);
		free(pool);
		(void) close(fd);
	}
}

int
__wrap_zpool_add(zpool_handle_t *zhp, nvlist_t *nvroot, boolean_t check_ashift)
{
	int error = __real_zpool_add(zhp, nvroot, check_ashift);

	if (error != 0)
		zow_explain_spares(zpool_get_handle(zhp), nvroot);
	return (error);
}

int
__wrap_zpool_create(libzfs_handle_t *hdl, const char *pool, nvlist_t *nvroot,
    nvlist_t *props, nvlist_t *fsprops)
{
	int error = __real_zpool_create(hdl, pool, nvroot, props, fsprops);

	if (error != 0)
		zow_explain_spares(hdl, nvroot);
	return (error);
}
