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
 * Requests that upstream believes until it is in syncing context, where what
 * cannot be done is a panic: names and values that are too long for a ZAP
 * object, values of another type, data sets and pools that are not there.  Each
 * is checked before, and fails with an errno.  docs/upstream.md has them all.
 */

#include <sys/zfs_context.h>
#include <sys/dmu_objset.h>
#include <sys/dnode.h>
#include <sys/dsl_dataset.h>
#include <sys/dsl_deleg.h>
#include <sys/dsl_pool.h>
#include <sys/dsl_prop.h>
#include <sys/dsl_userhold.h>
#include <sys/dmu_send.h>
#include <sys/lua/lua.h>
#include <sys/lua/lauxlib.h>
#include <sys/spa.h>
#include <sys/vdev.h>
#include <sys/vdev_impl.h>
#include <sys/zfs_bootenv.h>
#include <sys/zap.h>
#include <sys/zfs_ioctl.h>
#include <zfs_namecheck.h>
#include <zfs_prop.h>

#include "compat.h"
#include "vdev_tree.h"

extern int __real_dsl_deleg_set(const char *, nvlist_t *, boolean_t);
extern int __wrap_dsl_deleg_set(const char *, nvlist_t *, boolean_t);
extern int __real_dsl_dataset_user_hold(nvlist_t *, minor_t, nvlist_t *);
extern int __wrap_dsl_dataset_user_hold(nvlist_t *, minor_t, nvlist_t *);
extern int __real_spa_prop_set(spa_t *, nvlist_t *);
extern int __wrap_spa_prop_set(spa_t *, nvlist_t *);
extern int __real_spa_import(char *, nvlist_t *, nvlist_t *, uint64_t);
extern int __wrap_spa_import(char *, nvlist_t *, nvlist_t *, uint64_t);
extern int __real_spa_create(const char *, nvlist_t *, nvlist_t *, nvlist_t *,
    struct dsl_crypto_params *);
extern int __wrap_spa_create(const char *, nvlist_t *, nvlist_t *, nvlist_t *,
    struct dsl_crypto_params *);
extern void __real_dsl_props_set_sync(void *, dmu_tx_t *);
extern void __wrap_dsl_props_set_sync(void *, dmu_tx_t *);
extern int __real_dsl_prop_set_hasrecvd(const char *);
extern int __wrap_dsl_prop_set_hasrecvd(const char *);
extern void __wrap_dsl_prop_unset_hasrecvd(const char *);

/* As zcp_inherit_prop_arg_t of zcp_synctask.c. */
typedef struct inherit_arg {
	lua_State		*ia_state;
	const char		*ia_prop;
	dsl_props_set_arg_t	ia_dpsa;
} inherit_arg_t;

extern int __real_zio_inject_fault(char *, int, int *, zinject_record_t *);
extern int __wrap_zio_inject_fault(char *, int, int *, zinject_record_t *);

extern int __real_dsl_dir_rename(const char *, const char *);
extern int __wrap_dsl_dir_rename(const char *, const char *);

extern int __real_dsl_dataset_rename_snapshot_check(void *, dmu_tx_t *);
extern int __wrap_dsl_dataset_rename_snapshot_check(void *, dmu_tx_t *);

extern int __real_dsl_dataset_snapshot_check(void *, dmu_tx_t *);
extern int __wrap_dsl_dataset_snapshot_check(void *, dmu_tx_t *);

extern int __real_vdev_label_write_bootenv(vdev_t *, nvlist_t *);
extern int __wrap_vdev_label_write_bootenv(vdev_t *, nvlist_t *);

extern int __real_spa_vdev_remove(spa_t *, uint64_t, boolean_t);
extern int __wrap_spa_vdev_remove(spa_t *, uint64_t, boolean_t);

extern int __real_dsl_props_set(const char *, zprop_source_t, nvlist_t *);
extern int __wrap_dsl_props_set(const char *, zprop_source_t, nvlist_t *);

extern int __real_dsl_prop_set_int(const char *, const char *, zprop_source_t,
    uint64_t);
extern int __wrap_dsl_prop_set_int(const char *, const char *, zprop_source_t,
    uint64_t);

extern int __real_dmu_send_estimate_fast(dsl_dataset_t *, dsl_dataset_t *,
    zfs_bookmark_phys_t *, boolean_t, boolean_t, uint64_t *);
extern int __wrap_dmu_send_estimate_fast(dsl_dataset_t *, dsl_dataset_t *,
    zfs_bookmark_phys_t *, boolean_t, boolean_t, uint64_t *);

/* The longest suffix that the name of a property gets: `$inherit`, `$recvd`. */
#define	SUFFIX_LEN	8

/* `zfs allow`: who is a name of the ZAP object, whose value is a list. */
int
__wrap_dsl_deleg_set(const char *name, nvlist_t *nvp, boolean_t unset)
{
	nvpair_t *who = NULL;

	while ((who = nvlist_next_nvpair(nvp, who)) != NULL) {
		if (strlen(nvpair_name(who)) >= ZAP_MAXNAMELEN)
			return (SET_ERROR(ENAMETOOLONG));
		if (!unset && nvpair_type(who) != DATA_TYPE_NVLIST)
			return (SET_ERROR(EINVAL));
	}
	return (__real_dsl_deleg_set(name, nvp, unset));
}

/* `zfs hold`: upstream's own check is off by one. */
int
__wrap_dsl_dataset_user_hold(nvlist_t *holds, minor_t minor, nvlist_t *errors)
{
	nvpair_t *pair = NULL;
	const char *tag;

	while ((pair = nvlist_next_nvpair(holds, pair)) != NULL) {
		if (nvpair_value_string(pair, &tag) != 0)
			return (SET_ERROR(EINVAL));
		if (strlen(tag) >= ZAP_MAXNAMELEN)
			return (SET_ERROR(E2BIG));
	}
	return (__real_dsl_dataset_user_hold(holds, minor, errors));
}

/* The string of a property, as a ZAP object takes it. */
static int
check_string(nvpair_t *pair)
{
	const char *value;

	if (strlen(nvpair_name(pair)) >= ZAP_MAXNAMELEN)
		return (SET_ERROR(ENAMETOOLONG));
	if (nvpair_value_string(pair, &value) != 0)
		return (SET_ERROR(EINVAL));
	return (strlen(value) < ZAP_MAXVALUELEN ? 0 : SET_ERROR(E2BIG));
}

/* Is the value of the type that the property has? */
static int
check_value(nvpair_t *pair, zprop_type_t type, int prop,
    int (*to_string)(int, uint64_t, const char **))
{
	const char *name;
	uint64_t value;

	if (type == PROP_TYPE_STRING)
		return (check_string(pair));
	if (nvpair_value_uint64(pair, &value) != 0)
		return (SET_ERROR(EINVAL));
	if (type == PROP_TYPE_INDEX && to_string(prop, value, &name) != 0)
		return (SET_ERROR(EINVAL));
	return (0);
}

static int
pool_index(int prop, uint64_t value, const char **name)
{
	return (zpool_prop_index_to_string(prop, value, name));
}

static int
check_pool_props(nvlist_t *props)
{
	nvpair_t *pair = NULL;
	int error = 0;

	if (props == NULL)
		return (0);
	while (error == 0 && (pair = nvlist_next_nvpair(props, pair)) != NULL) {
		const char *name = nvpair_name(pair);
		zpool_prop_t prop = zpool_name_to_prop(name);

		/* Upstream knows what a name means that is neither. */
		if (prop != ZPOOL_PROP_INVAL)
			error = check_value(pair, zpool_prop_get_type(prop),
			    prop, pool_index);
		else if (zfs_prop_user(name))
			error = check_string(pair);
	}
	return (error);
}

int
__wrap_spa_prop_set(spa_t *spa, nvlist_t *props)
{
	int error = check_pool_props(props);

	return (error != 0 ? error : __real_spa_prop_set(spa, props));
}

int
__wrap_spa_import(char *pool, nvlist_t *config, nvlist_t *props, uint64_t flags)
{
	int error = check_pool_props(props);

	if (error == 0)
		error = vdev_config_check(config);
	return (error != 0 ? error : __real_spa_import(pool, config, props,
	    flags));
}

int
__wrap_spa_create(const char *pool, nvlist_t *nvroot, nvlist_t *props,
    nvlist_t *zplprops, struct dsl_crypto_params *dcp)
{
	int error = check_pool_props(props);

	if (error == 0)
		error = vdev_tree_check(nvroot, B_FALSE);
	return (error != 0 ? error : __real_spa_create(pool, nvroot, props,
	    zplprops, dcp));
}

#ifdef	TREE_VDEV_PROPS
extern int __real_vdev_prop_set(vdev_t *, nvlist_t *, nvlist_t *);
extern int __wrap_vdev_prop_set(vdev_t *, nvlist_t *, nvlist_t *);

static int
vdev_index(int prop, uint64_t value, const char **name)
{
	return (vdev_prop_index_to_string(prop, value, name));
}

/* `zpool set NAME=VALUE POOL VDEV`, whose user properties nobody measures. */
int
__wrap_vdev_prop_set(vdev_t *vd, nvlist_t *in, nvlist_t *out)
{
	nvpair_t *pair = NULL;
	nvlist_t *props;
	int error = 0;

	if (nvlist_lookup_nvlist(in, ZPOOL_VDEV_PROPS_SET_PROPS, &props) != 0)
		return (SET_ERROR(EINVAL));
	while (error == 0 && (pair = nvlist_next_nvpair(props, pair)) != NULL) {
		const char *name = nvpair_name(pair);
		vdev_prop_t prop = vdev_name_to_prop(name);

		if (prop == VDEV_PROP_USERPROP || prop == VDEV_PROP_INVAL)
			error = check_string(pair);
		else if (!vdev_prop_readonly(prop))
			error = check_value(pair, vdev_prop_get_type(prop),
			    prop, vdev_index);
		/* It has no group of metaslabs for log blocks beside. */
		if (error == 0 && prop == VDEV_PROP_ALLOCATING &&
		    vd->vdev_islog && fnvpair_value_uint64(pair) == 0)
			error = SET_ERROR(ZFS_ERR_VDEV_NOTSUP);
	}
	return (error != 0 ? error : __real_vdev_prop_set(vd, in, out));
}
#endif	/* TREE_VDEV_PROPS */

/*
 * `zfs inherit` marks the property with a longer name where the data set has
 * received properties.  A name without room for that cannot have a received
 * value either, which is what the mark would hide.
 *
 * zfs.sync.inherit() of a channel program comes here without any check, if it
 * is a user property; everybody else's has just succeeded.
 */
void
__wrap_dsl_props_set_sync(void *arg, dmu_tx_t *tx)
{
	dsl_props_set_arg_t *dpsa = arg;
	nvpair_t *pair = nvlist_next_nvpair(dpsa->dpsa_props, NULL);
	int error = dsl_props_set_check(arg, tx);

	if (error != 0) {
		inherit_arg_t *ia = (void *)((char *)arg -
		    offsetof(inherit_arg_t, ia_dpsa));

		VERIFY0(strcmp(ia->ia_prop, nvpair_name(pair)));
		(void) luaL_error(ia->ia_state, "cannot inherit property '%s' "
		    "of '%s': error %d", ia->ia_prop, dpsa->dpsa_dsname, error);
	}
	if (dpsa->dpsa_source == ZPROP_SRC_INHERITED && pair != NULL &&
	    strlen(nvpair_name(pair)) + SUFFIX_LEN >= ZAP_MAXNAMELEN)
		dpsa->dpsa_source = ZPROP_SRC_NONE;
	__real_dsl_props_set_sync(arg, tx);
}

/*
 * The end of a receive: its pool may be exported, its data set destroyed, by
 * somebody else (OpenZFS #16988).
 */
int
__wrap_dsl_prop_set_hasrecvd(const char *dsname)
{
	spa_t *spa;
	int error = spa_open(dsname, &spa, FTAG);

	if (error != 0)
		return (error);
	error = __real_dsl_prop_set_hasrecvd(dsname);
	spa_close(spa, FTAG);
	return (error);
}

void
__wrap_dsl_prop_unset_hasrecvd(const char *dsname)
{
	spa_t *spa;

	if (spa_open(dsname, &spa, FTAG) != 0)
		return;
	if (spa_version(spa) >= SPA_VERSION_RECVD_PROPS)
		(void) dsl_prop_set_int(dsname, ZPROP_HAS_RECVD,
		    ZPROP_SRC_NONE, 0);
	spa_close(spa, FTAG);
}

/*
 * From bytes to blocks, as upstream's zio_calculate_range().  That gives the
 * pool's configuration back before it opens the objset, and the data set
 * before it reads the dnode: a destroy may come between.
 */
static int
calculate_range(const char *pool, zinject_record_t *record)
{
	dsl_pool_t *dp;
	dsl_dataset_t *ds;
	objset_t *os;
	dnode_t *dn = NULL;
	int error = dsl_pool_hold(pool, FTAG, &dp);

	if (error != 0)
		return (error);
	error = dsl_dataset_hold_obj(dp, record->zi_objset, FTAG, &ds);
	if (error != 0) {
		dsl_pool_rele(dp, FTAG);
		return (error);
	}
	error = dmu_objset_from_ds(ds, &os);
	if (error == 0)
		error = dnode_hold(os, record->zi_object, FTAG, &dn);
	if (error == 0) {
		if (record->zi_start != 0 || record->zi_end != -1ULL) {
			record->zi_start >>= dn->dn_datablkshift;
			record->zi_end >>= dn->dn_datablkshift;
		}
		if (record->zi_level >= dn->dn_nlevels && record->zi_level > 0)
			error = SET_ERROR(EDOM);
		else if (record->zi_start != 0 || record->zi_end != 0) {
			int shift = record->zi_level *
			    (dn->dn_indblkshift - SPA_BLKPTRSHIFT);

			record->zi_start = shift < 64 ?
			    record->zi_start >> shift : 0;
			record->zi_end = shift < 64 ?
			    record->zi_end >> shift : 0;
		}
		dnode_rele(dn, FTAG);
	}
	dsl_dataset_rele(ds, FTAG);
	dsl_pool_rele(dp, FTAG);
	return (error);
}

/*
 * `zinject -I` stops the pool, in time, by a panic. When that time begins is
 * the kernel's to say.
 */
int
__wrap_zio_inject_fault(char *name, int flags, int *id,
    zinject_record_t *record)
{
	int error = 0;

	if (record->zi_cmd == ZINJECT_IGNORED_WRITES) {
		if (record->zi_duration == 0)
			return (SET_ERROR(EINVAL));
		record->zi_timer = 0;
	}
	if (flags & ZINJECT_CALC_RANGE) {
		if (flags & ZINJECT_UNLOAD_SPA)
			error = spa_reset(name);
		if (error == 0)
			error = calculate_range(name, record);
		flags &= ~(ZINJECT_CALC_RANGE | ZINJECT_UNLOAD_SPA);
	}
	return (error != 0 ? error : __real_zio_inject_fault(name, flags, id,
	    record));
}

/*
 * Who is no snapshot does not become one: upstream makes a child of that name
 * below the data set, `tank/fs/@snap`, and panics when it is there already.
 */
int
__wrap_dsl_dir_rename(const char *oldname, const char *newname)
{
	if (strpbrk(newname, "@#") != NULL)
		return (SET_ERROR(EINVAL));
	return (__real_dsl_dir_rename(oldname, newname));
}

/* zfs.sync.snapshot() and rename_snapshot(): nobody reads the name. */
int
__wrap_dsl_dataset_snapshot_check(void *arg, dmu_tx_t *tx)
{
	dsl_dataset_snapshot_arg_t *ddsa = arg;
	nvpair_t *pair = NULL;

	while ((pair = nvlist_next_nvpair(ddsa->ddsa_snaps, pair)) != NULL) {
		if (dataset_namecheck(nvpair_name(pair), NULL, NULL) != 0)
			return (SET_ERROR(EINVAL));
	}
	return (__real_dsl_dataset_snapshot_check(arg, tx));
}

int
__wrap_dsl_dataset_rename_snapshot_check(void *arg, dmu_tx_t *tx)
{
	dsl_dataset_rename_snapshot_arg_t *ddrsa = arg;

	if (zfs_component_namecheck(ddrsa->ddrsa_newsnapname, NULL, NULL) != 0)
		return (SET_ERROR(EINVAL));
	return (__real_dsl_dataset_rename_snapshot_check(arg, tx));
}

/* Of a version that upstream does not know it frees a buffer that is lent. */
int
__wrap_vdev_label_write_bootenv(vdev_t *vd, nvlist_t *env)
{
	uint64_t version;

	if (nvlist_lookup_uint64(env, BOOTENV_VERSION, &version) != 0 ||
	    (version != VB_RAW && version != VB_NVLIST))
		return (SET_ERROR(EINVAL));
	return (__real_vdev_label_write_bootenv(vd, env));
}

/* `zpool remove`: upstream takes what is in a log for the whole log. */
int
__wrap_spa_vdev_remove(spa_t *spa, uint64_t guid, boolean_t unspare)
{
	boolean_t locked = spa_namespace_held();
	boolean_t part;
	vdev_t *vd;

	if (!locked)
		spa_namespace_enter(FTAG);
	vd = spa_lookup_by_guid(spa, guid, B_FALSE);
	part = vd != NULL && vd->vdev_islog && vd != vd->vdev_top;
	if (!locked)
		spa_namespace_exit(FTAG);
	if (part)
		return (SET_ERROR(ENOTSUP));
	return (__real_spa_vdev_remove(spa, guid, unspare));
}

/* Sizes of blocks: only libzfs looks whether there are such blocks. */
static boolean_t
is_good_size(const char *name, uint64_t size)
{
	zfs_prop_t prop = zfs_name_to_prop(name);

	if (prop != ZFS_PROP_RECORDSIZE && prop != ZFS_PROP_VOLBLOCKSIZE)
		return (B_TRUE);
	return (size >= SPA_MINBLOCKSIZE && ISP2(size));
}

int
__wrap_dsl_props_set(const char *name, zprop_source_t source, nvlist_t *props)
{
	nvpair_t *pair = NULL;

	while ((pair = nvlist_next_nvpair(props, pair)) != NULL) {
		nvpair_t *value = pair;
		nvlist_t *list;
		uint64_t size;

		if (nvpair_value_nvlist(pair, &list) == 0 &&
		    nvlist_lookup_nvpair(list, ZPROP_VALUE, &value) != 0)
			continue;
		if (nvpair_value_uint64(value, &size) == 0 &&
		    !is_good_size(nvpair_name(pair), size))
			return (SET_ERROR(ERANGE));
	}
	return (__real_dsl_props_set(name, source, props));
}

/* Of several properties that cannot be set at once each is tried alone. */
int
__wrap_dsl_prop_set_int(const char *name, const char *prop,
    zprop_source_t source, uint64_t value)
{
	if (!is_good_size(prop, value))
		return (SET_ERROR(ERANGE));
	return (__real_dsl_prop_set_int(name, prop, source, value));
}

/* `zfs send -n`: how many blocks there are is a division by their size. */
int
__wrap_dmu_send_estimate_fast(dsl_dataset_t *ds, dsl_dataset_t *from,
    zfs_bookmark_phys_t *book, boolean_t compressed, boolean_t saved,
    uint64_t *size)
{
	zfs_prop_t props[] = { ZFS_PROP_RECORDSIZE, ZFS_PROP_VOLBLOCKSIZE };

	for (int i = 0; i < ARRAY_SIZE(props); i++) {
		uint64_t bytes;

		if (dsl_prop_get_int_ds(ds, zfs_prop_to_name(props[i]),
		    &bytes) == 0 && bytes == 0)
			return (SET_ERROR(ERANGE));
	}
	return (__real_dmu_send_estimate_fast(ds, from, book, compressed, saved,
	    size));
}
