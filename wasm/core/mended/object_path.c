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
 * The path of an object, whose directories upstream follows without an end,
 * and writes before the start of its buffer when they are too many. What is on
 * disk may be what a stream said: directories in a circle, or none of those
 * that every file system has.
 */

#include <sys/zfs_context.h>
#include <sys/dmu.h>
#include <sys/zap.h>
#include <sys/sa.h>
#include <sys/zfs_sa.h>
#include <sys/zfs_znode.h>
#include <sys/zfs_stat.h>

#ifdef	TREE_ZAP_LONG_NAMES
#define	NAME_MAXLEN	ZAP_MAXNAMELEN_NEW
#define	name_search(os, object, value, mask, name) \
	zap_value_search(os, object, value, mask, name, NAME_MAXLEN)
#else
#define	NAME_MAXLEN	ZAP_MAXNAMELEN
#define	name_search(os, object, value, mask, name) \
	zap_value_search(os, object, value, mask, name)
#endif

#define	LEVELS_MAX	4096

extern int zfs_obj_to_pobj(objset_t *, sa_handle_t *, sa_attr_type_t *,
    uint64_t *, int *);

/* The directory that an object is in. */
static int
object_parent(objset_t *os, sa_attr_type_t *table, uint64_t object,
    uint64_t *parent, int *is_xattrs)
{
	dmu_object_info_t doi;
	sa_handle_t *hdl;
	int error = dmu_object_info(os, object, &doi);

	if (error == 0 && doi.doi_bonus_type != DMU_OT_SA &&
	    (doi.doi_bonus_type != DMU_OT_ZNODE ||
	    doi.doi_bonus_size < sizeof (znode_phys_t)))
		error = SET_ERROR(ENOTSUP);
	if (error == 0)
		error = sa_handle_get(os, object, NULL, SA_HDL_PRIVATE, &hdl);
	if (error != 0)
		return (error);
	error = zfs_obj_to_pobj(os, hdl, table, parent, is_xattrs);
	sa_handle_destroy(hdl);
	return (error);
}

/*
 * Whether upstream finds the path's end before that of the buffer. Where it
 * stops at an error, that is upstream's to say.
 */
static int
path_check(objset_t *os, uint64_t object, int len)
{
	char *name = kmem_alloc(NAME_MAXLEN, KM_SLEEP);
	sa_attr_type_t *table;
	uint64_t unlinked, parent, attributes = 0;
	size_t path = 2;		/* the root, and the end */
	int is_xattrs;
	int error = zap_lookup(os, MASTER_NODE_OBJ, ZFS_UNLINKED_SET,
	    sizeof (uint64_t), 1, &unlinked);

	if (error == 0) {
		/* Older file systems have none. */
		error = zap_lookup(os, MASTER_NODE_OBJ, ZFS_SA_ATTRS,
		    sizeof (uint64_t), 1, &attributes);
		if (error == 0 || error == ENOENT)
			error = sa_setup(os, attributes, zfs_attr_table,
			    ZPL_END, &table);
	}
	if (error != 0) {
		kmem_free(name, NAME_MAXLEN);
		return (error);
	}
	for (int level = 0; error == 0; level++, object = parent) {
		error = object_parent(os, table, object, &parent, &is_xattrs);
		if (error != 0 || parent == object)
			break;
		(void) strlcpy(name, "<xattrdir>", NAME_MAXLEN);
		if (!is_xattrs)
			error = name_search(os, parent, object,
			    ZFS_DIRENT_OBJ(-1ULL), name);
		path += 1 + strnlen(name, NAME_MAXLEN);
		if (error == 0 && (level == LEVELS_MAX || path > len))
			error = SET_ERROR(ENAMETOOLONG);
	}
	kmem_free(name, NAME_MAXLEN);
	return (error == ENAMETOOLONG ? error : 0);
}

extern int __real_zfs_obj_to_path(objset_t *, uint64_t, char *, int);
extern int __wrap_zfs_obj_to_path(objset_t *, uint64_t, char *, int);

int
__wrap_zfs_obj_to_path(objset_t *os, uint64_t object, char *buf, int len)
{
	int error = path_check(os, object, len);

	return (error != 0 ? error :
	    __real_zfs_obj_to_path(os, object, buf, len));
}

extern int __real_zfs_obj_to_stats(objset_t *, uint64_t, zfs_stat_t *, char *,
    int);
extern int __wrap_zfs_obj_to_stats(objset_t *, uint64_t, zfs_stat_t *, char *,
    int);

int
__wrap_zfs_obj_to_stats(objset_t *os, uint64_t object, zfs_stat_t *sb,
    char *buf, int len)
{
	int error = path_check(os, object, len);

	return (error != 0 ? error :
	    __real_zfs_obj_to_stats(os, object, sb, buf, len));
}
