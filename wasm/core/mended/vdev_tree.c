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
 * Trees of devices that a client describes. Upstream leaves it to libzfs to
 * describe none that a pool cannot be made of, and comes upon what is not there
 * in the middle of it: an indirect vdev without a mapping, a hole in a mirror,
 * a disk that is in it twice.
 */

#include <sys/zfs_context.h>
#include <sys/spa.h>
#include <sys/spa_impl.h>
#include <sys/vdev_impl.h>

#include "vdev_tree.h"

/* A root, a mirror or the like, its disks. */
#define	GROUP_LEVEL	1
#define	DISK_LEVEL	2
/* A spare in a mirror that is replaced, and so on. */
#define	LEVELS_MAX	8

static boolean_t
is_group(const char *type)
{
	return (strcmp(type, VDEV_TYPE_MIRROR) == 0 ||
	    strcmp(type, VDEV_TYPE_RAIDZ) == 0 ||
	    strcmp(type, VDEV_TYPE_DRAID) == 0);
}

static boolean_t
is_disk(const char *type, boolean_t attach)
{
	return (strcmp(type, VDEV_TYPE_FILE) == 0 ||
	    strcmp(type, VDEV_TYPE_DISK) == 0 ||
	    (attach && strcmp(type, VDEV_TYPE_DRAID_SPARE) == 0));
}

/* Upstream shifts by it without a look. 0: as the disk has it. */
static boolean_t
ashift_is_good(nvlist_t *vdev)
{
	uint64_t ashift;

	return (nvlist_lookup_uint64(vdev, ZPOOL_CONFIG_ASHIFT, &ashift) != 0 ||
	    ashift == 0 || (ashift >= ASHIFT_MIN && ashift <= ASHIFT_MAX));
}

/* Only what is at the top is a log. */
static boolean_t
is_log(nvlist_t *vdev)
{
	uint64_t log = 0;

	(void) nvlist_lookup_uint64(vdev, ZPOOL_CONFIG_IS_LOG, &log);
	return (log != 0);
}

/* Adds the disk's path to those seen so far: EBUSY, as of a label. */
static int
see_path(nvlist_t *vdev, nvlist_t *paths)
{
	const char *path;

	if (nvlist_lookup_string(vdev, ZPOOL_CONFIG_PATH, &path) != 0)
		return (SET_ERROR(EINVAL));
	if (nvlist_exists(paths, path))
		return (SET_ERROR(EBUSY));
	fnvlist_add_boolean(paths, path);
	return (0);
}

/* What is at `level` of the tree, under `name` in the list above. */
static int
check_children(nvlist_t *vdev, const char *name, int level, boolean_t attach,
    nvlist_t *paths)
{
	nvlist_t **child;
	uint_t children;
	const char *type;
	int error = nvlist_lookup_nvlist_array(vdev, name, &child, &children);

	if (error != 0)
		return (error == ENOENT ? 0 : SET_ERROR(EINVAL));
	for (uint_t c = 0; error == 0 && c < children; c++) {
		if (nvlist_lookup_string(child[c], ZPOOL_CONFIG_TYPE,
		    &type) != 0 || !ashift_is_good(child[c]) ||
		    ((attach || level == DISK_LEVEL) && is_log(child[c])))
			return (SET_ERROR(EINVAL));
		if (is_disk(type, attach))
			error = see_path(child[c], paths);
		else if (is_group(type) && level == GROUP_LEVEL)
			error = check_children(child[c], ZPOOL_CONFIG_CHILDREN,
			    DISK_LEVEL, attach, paths);
		else
			return (SET_ERROR(EINVAL));
	}
	return (error);
}

int
vdev_tree_check(nvlist_t *nvroot, boolean_t attach)
{
	nvlist_t *paths = fnvlist_alloc();
	const char *type;
	int error = 0;

	if (nvlist_lookup_string(nvroot, ZPOOL_CONFIG_TYPE, &type) != 0 ||
	    strcmp(type, VDEV_TYPE_ROOT) != 0)
		error = SET_ERROR(EINVAL);
	if (error == 0)
		error = check_children(nvroot, ZPOOL_CONFIG_CHILDREN,
		    GROUP_LEVEL, attach, paths);
	if (error == 0)
		error = check_children(nvroot, ZPOOL_CONFIG_SPARES, DISK_LEVEL,
		    B_FALSE, paths);
	if (error == 0)
		error = check_children(nvroot, ZPOOL_CONFIG_L2CACHE,
		    DISK_LEVEL, B_FALSE, paths);
	fnvlist_free(paths);
	return (error);
}

/* Of a pool that is imported there is more: what labels say of it. */
static int
config_check(nvlist_t *vdev, int level)
{
	nvlist_t **child;
	uint_t children;
	int error = 0;

	if (level > LEVELS_MAX || !ashift_is_good(vdev))
		return (SET_ERROR(EINVAL));
	if (nvlist_lookup_nvlist_array(vdev, ZPOOL_CONFIG_CHILDREN, &child,
	    &children) != 0)
		return (0);
	for (uint_t c = 0; error == 0 && c < children; c++)
		error = config_check(child[c], level + 1);
	return (error);
}

int
vdev_config_check(nvlist_t *config)
{
	nvlist_t *tree;
	uint64_t pool, root;

	if (nvlist_lookup_nvlist(config, ZPOOL_CONFIG_VDEV_TREE, &tree) != 0)
		return (SET_ERROR(EINVAL));
	/* The root's is the pool's, which upstream asserts. */
	if (nvlist_lookup_uint64(config, ZPOOL_CONFIG_POOL_GUID, &pool) == 0 &&
	    nvlist_lookup_uint64(tree, ZPOOL_CONFIG_GUID, &root) == 0 &&
	    pool != root)
		return (SET_ERROR(EINVAL));
	return (config_check(tree, 0));
}

extern nvlist_t *__real_spa_tryimport(nvlist_t *);
extern nvlist_t *__wrap_spa_tryimport(nvlist_t *);

nvlist_t *
__wrap_spa_tryimport(nvlist_t *config)
{
	return (vdev_config_check(config) != 0 ? NULL :
	    __real_spa_tryimport(config));
}

extern int __real_spa_vdev_add(spa_t *, nvlist_t *, boolean_t);
extern int __wrap_spa_vdev_add(spa_t *, nvlist_t *, boolean_t);
extern int __real_spa_vdev_attach(spa_t *, uint64_t, nvlist_t *, int, int);
extern int __wrap_spa_vdev_attach(spa_t *, uint64_t, nvlist_t *, int, int);
extern void __real_vdev_free(vdev_t *);
extern void __wrap_vdev_free(vdev_t *);

int
__wrap_spa_vdev_add(spa_t *spa, nvlist_t *nvroot, boolean_t check_ashift)
{
	int error = vdev_tree_check(nvroot, B_FALSE);

	return (error != 0 ? error :
	    __real_spa_vdev_add(spa, nvroot, check_ashift));
}

int
__wrap_spa_vdev_attach(spa_t *spa, uint64_t guid, nvlist_t *nvroot,
    int replacing, int rebuild)
{
	int error = vdev_tree_check(nvroot, B_TRUE);

	return (error != 0 ? error : __real_spa_vdev_attach(spa, guid, nvroot,
	    replacing, rebuild));
}

/*
 * A tree whose parsing failed in a grandchild is freed level by level: what is
 * freed first leaves a hole in its parent, and upstream closes that, too.
 */
void
__wrap_vdev_free(vdev_t *vd)
{
	for (uint64_t c = 0; c < vd->vdev_children; c++) {
		if (vd->vdev_child[c] == NULL) {
			vdev_compact_children(vd);
			break;
		}
	}
	__real_vdev_free(vd);
}

extern void __real_vdev_state_dirty(vdev_t *);
extern void __wrap_vdev_state_dirty(vdev_t *);

/* A pool that is imported read-only has no labels to write when a disk goes. */
void
__wrap_vdev_state_dirty(vdev_t *vd)
{
	if (spa_writeable(vd->vdev_spa))
		__real_vdev_state_dirty(vd);
}

/*
 * The pool itself is no device, but has a guid: upstream would open the
 * top-level vdev that it is in again, which is NULL.
 */
extern int __real_vdev_online(spa_t *, uint64_t, uint64_t, vdev_state_t *);
extern int __wrap_vdev_online(spa_t *, uint64_t, uint64_t, vdev_state_t *);

int
__wrap_vdev_online(spa_t *spa, uint64_t guid, uint64_t flags,
    vdev_state_t *newstate)
{
	if (guid == spa->spa_root_vdev->vdev_guid)
		return (SET_ERROR(ENOTSUP));
	return (__real_vdev_online(spa, guid, flags, newstate));
}
