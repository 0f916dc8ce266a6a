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
 * Filesystems, none of which is ever mounted. Upstream's code asks for a
 * mounted one first (getzfsvfs() finds none), and opens one of its own where
 * that will do: for quotas and the space that users take (zfs_quota.c), and for
 * what the master node keeps. Such a zfsvfs_t has what those need, no znodes.
 */

#include <sys/zfs_context.h>
#include <sys/dataset_kstats.h>
#include <sys/dmu_objset.h>
#include <sys/dsl_dataset.h>
#include <sys/sa.h>
#include <sys/spa.h>
#include <sys/u8_textprep.h>
#include <sys/zap.h>
#include <sys/zfs_fuid.h>
#include <sys/zfs_quota.h>
#include <sys/zfs_sa.h>
#include <sys/zfs_vfsops.h>
#include <sys/zfs_znode.h>
#include "zfs_comutil.h"
#include "zfs_prop.h"

#include "compat.h"

/*
 * How many are open. Each owns its filesystem, which has one owner at a time;
 * a mounted one would be shared, so requests take turns (zfsvfs_create()).
 */
static uint64_t zfsvfs_open;
static kmutex_t zfsvfs_open_lock;
static kcondvar_t zfsvfs_open_cv;

/*
 * Lets the DMU account for what users, groups and projects take.
 */
void
zfs_init(void)
{
	mutex_init(&zfsvfs_open_lock, NULL, MUTEX_DEFAULT, NULL);
	cv_init(&zfsvfs_open_cv, NULL, CV_DEFAULT, NULL);
	dmu_objset_register_type(DMU_OST_ZFS, zpl_get_file_info);
}

void
zfs_fini(void)
{
	cv_destroy(&zfsvfs_open_cv);
	mutex_destroy(&zfsvfs_open_lock);
}

boolean_t
zfs_get_vfs_flag_unmounted(objset_t *os)
{
	(void) os;
	return (B_FALSE);
}

int
zfs_get_temporary_prop(dsl_dataset_t *ds, zfs_prop_t prop, uint64_t *val,
    char *setpoint)
{
	(void) ds, (void) prop, (void) val, (void) setpoint;
	return (SET_ERROR(ENOENT));
}

int
zfsctl_snapshot_unmount(const char *name, int flags)
{
	(void) name, (void) flags;
	return (SET_ERROR(ENOENT));
}

boolean_t
zfs_vfs_held(zfsvfs_t *zfsvfs)
{
	(void) zfsvfs;
	return (B_FALSE);
}

int
zfs_vfs_ref(zfsvfs_t **zfvp)
{
	(void) zfvp;
	return (SET_ERROR(ESRCH));
}

void
zfs_vfs_rele(zfsvfs_t *zfsvfs)
{
	(void) zfsvfs;
}

int
zfs_suspend_fs(zfsvfs_t *zfsvfs)
{
	(void) zfsvfs;
	return (SET_ERROR(ENOTSUP));
}

int
zfs_resume_fs(zfsvfs_t *zfsvfs, dsl_dataset_t *ds)
{
	(void) zfsvfs, (void) ds;
	return (SET_ERROR(ENOTSUP));
}

int
zfs_end_fs(zfsvfs_t *zfsvfs, dsl_dataset_t *ds)
{
	(void) zfsvfs, (void) ds;
	return (SET_ERROR(ENOTSUP));
}

/*
 * An object that the master node names; 0 if it names none.
 */
static int
master_node_object(objset_t *os, const char *name, uint64_t *object)
{
	int error = zap_lookup(os, MASTER_NODE_OBJ, name, 8, 1, object);

	if (error != ENOENT)
		return (error);
	*object = 0;
	return (0);
}

static int
zfsvfs_load_quotas(zfsvfs_t *zfsvfs)
{
	const struct {
		zfs_userquota_prop_t	prop;
		uint64_t		*object;
	} quotas[] = {
		{ ZFS_PROP_USERQUOTA, &zfsvfs->z_userquota_obj },
		{ ZFS_PROP_GROUPQUOTA, &zfsvfs->z_groupquota_obj },
		{ ZFS_PROP_PROJECTQUOTA, &zfsvfs->z_projectquota_obj },
		{ ZFS_PROP_USEROBJQUOTA, &zfsvfs->z_userobjquota_obj },
		{ ZFS_PROP_GROUPOBJQUOTA, &zfsvfs->z_groupobjquota_obj },
		{ ZFS_PROP_PROJECTOBJQUOTA, &zfsvfs->z_projectobjquota_obj },
	};
	int error = 0;

	for (int i = 0; i < ARRAY_SIZE(quotas) && error == 0; i++)
		error = master_node_object(zfsvfs->z_os,
		    zfs_userquota_prop_prefixes[quotas[i].prop],
		    quotas[i].object);
	return (error);
}

#ifdef	TREE_DEFAULT_QUOTAS
/*
 * Where a zfsvfs_t keeps a default quota; NULL for any other property.
 */
static uint64_t *
default_quota(zfsvfs_t *zfsvfs, zfs_prop_t prop)
{
	switch (prop) {
	case ZFS_PROP_DEFAULTUSERQUOTA:
		return (&zfsvfs->z_defaultuserquota);
	case ZFS_PROP_DEFAULTGROUPQUOTA:
		return (&zfsvfs->z_defaultgroupquota);
	case ZFS_PROP_DEFAULTPROJECTQUOTA:
		return (&zfsvfs->z_defaultprojectquota);
	case ZFS_PROP_DEFAULTUSEROBJQUOTA:
		return (&zfsvfs->z_defaultuserobjquota);
	case ZFS_PROP_DEFAULTGROUPOBJQUOTA:
		return (&zfsvfs->z_defaultgroupobjquota);
	case ZFS_PROP_DEFAULTPROJECTOBJQUOTA:
		return (&zfsvfs->z_defaultprojectobjquota);
	default:
		return (NULL);
	}
}

static int
zfsvfs_load_default_quotas(zfsvfs_t *zfsvfs)
{
	const zfs_prop_t props[] = {
		ZFS_PROP_DEFAULTUSERQUOTA, ZFS_PROP_DEFAULTGROUPQUOTA,
		ZFS_PROP_DEFAULTPROJECTQUOTA, ZFS_PROP_DEFAULTUSEROBJQUOTA,
		ZFS_PROP_DEFAULTGROUPOBJQUOTA, ZFS_PROP_DEFAULTPROJECTOBJQUOTA,
	};
	int error = 0;

	for (int i = 0; i < ARRAY_SIZE(props) && error == 0; i++)
		error = zfs_get_zplprop(zfsvfs->z_os, props[i],
		    default_quota(zfsvfs, props[i]));
	return (error);
}

/*
 * Sets a default quota in bytes or objects; 0 is none.
 */
int
zfs_set_default_quota(zfsvfs_t *zfsvfs, zfs_prop_t prop, uint64_t quota)
{
	objset_t *os = zfsvfs->z_os;
	const char *name = zfs_prop_to_name(prop);
	uint64_t *kept = default_quota(zfsvfs, prop);
	dmu_tx_t *tx = dmu_tx_create(os);
	int error;

	dmu_tx_hold_zap(tx, MASTER_NODE_OBJ, B_TRUE, name);
	error = dmu_tx_assign(tx, DMU_TX_WAIT);
	if (error != 0) {
		dmu_tx_abort(tx);
		return (error);
	}
	if (quota == 0) {
		error = zap_remove(os, MASTER_NODE_OBJ, name, tx);
		if (error == ENOENT)
			error = 0;
	} else {
		error = zap_update(os, MASTER_NODE_OBJ, name, 8, 1, &quota, tx);
	}
	if (error == 0 && kept != NULL)
		*kept = quota;
	dmu_tx_commit(tx);
	return (error);
}
#else
#define	zfsvfs_load_default_quotas(zfsvfs)	((void) (zfsvfs), 0)
#endif

static void
zfsvfs_set_version(zfsvfs_t *zfsvfs, uint64_t version)
{
	zfsvfs->z_version = version;
	zfsvfs->z_use_fuids = USE_FUIDS(version, zfsvfs->z_os);
	zfsvfs->z_use_sa = USE_SA(version, zfsvfs->z_os);
}

/*
 * Reads what the master node keeps. ENOTSUP: the filesystem is of a later
 * version than its pool can have.
 */
static int
zfsvfs_load(zfsvfs_t *zfsvfs)
{
	objset_t *os = zfsvfs->z_os;
	uint64_t version, sense, norm, utf8;
	uint64_t sa_obj = 0;
	int error;

	if ((error = zfs_get_zplprop(os, ZFS_PROP_VERSION, &version)) != 0 ||
	    (error = zfs_get_zplprop(os, ZFS_PROP_NORMALIZE, &norm)) != 0 ||
	    (error = zfs_get_zplprop(os, ZFS_PROP_UTF8ONLY, &utf8)) != 0 ||
	    (error = zfs_get_zplprop(os, ZFS_PROP_CASE, &sense)) != 0)
		return (error);
	if (version > zfs_zpl_version_map(spa_version(dmu_objset_spa(os))))
		return (SET_ERROR(ENOTSUP));
	zfsvfs_set_version(zfsvfs, version);
	zfsvfs->z_norm = norm;
	zfsvfs->z_utf8 = (utf8 != 0);
	zfsvfs->z_case = sense;
	if (sense == ZFS_CASE_INSENSITIVE || sense == ZFS_CASE_MIXED)
		zfsvfs->z_norm |= U8_TEXTPREP_TOUPPER;

	if (zfsvfs->z_use_sa && (error = zap_lookup(os, MASTER_NODE_OBJ,
	    ZFS_SA_ATTRS, 8, 1, &sa_obj)) != 0)
		return (error);
	if ((error = zap_lookup(os, MASTER_NODE_OBJ, ZFS_ROOT_OBJ, 8, 1,
	    &zfsvfs->z_root)) != 0 ||
	    (error = zap_lookup(os, MASTER_NODE_OBJ, ZFS_UNLINKED_SET, 8, 1,
	    &zfsvfs->z_unlinkedobj)) != 0 ||
	    (error = master_node_object(os, ZFS_FUID_TABLES,
	    &zfsvfs->z_fuid_obj)) != 0 ||
	    (error = zfsvfs_load_quotas(zfsvfs)) != 0 ||
	    (error = zfsvfs_load_default_quotas(zfsvfs)) != 0)
		return (error);
	return (sa_setup(os, sa_obj, zfs_attr_table, ZPL_END,
	    &zfsvfs->z_attr_table));
}

static void
zfsvfs_open_enter(void)
{
	mutex_enter(&zfsvfs_open_lock);
	zfsvfs_open++;
	mutex_exit(&zfsvfs_open_lock);
}

/*
 * Returns how many others are open still.
 */
static uint64_t
zfsvfs_open_exit(void)
{
	uint64_t others;

	mutex_enter(&zfsvfs_open_lock);
	others = --zfsvfs_open;
	cv_broadcast(&zfsvfs_open_cv);
	mutex_exit(&zfsvfs_open_lock);
	return (others);
}

/*
 * Owns a filesystem, after the requests that do so now. EBUSY: its owner is
 * something else, a receive for instance.
 */
static int
zfsvfs_own(const char *name, boolean_t readonly, zfsvfs_t *zfsvfs,
    objset_t **os)
{
	int error;

	for (;;) {
		zfsvfs_open_enter();
		error = dmu_objset_own(name, DMU_OST_ZFS, readonly, B_TRUE,
		    zfsvfs, os);
		if (error == 0)
			return (0);
		if (zfsvfs_open_exit() == 0 || error != EBUSY)
			return (error);

		mutex_enter(&zfsvfs_open_lock);
		if (zfsvfs_open != 0)
			cv_wait(&zfsvfs_open_cv, &zfsvfs_open_lock);
		mutex_exit(&zfsvfs_open_lock);
	}
}

static int
zfsvfs_fill(zfsvfs_t *zfsvfs, objset_t *os)
{
	zfsvfs->z_os = os;
	zfsvfs->z_parent = zfsvfs;
	mutex_init(&zfsvfs->z_lock, NULL, MUTEX_DEFAULT, NULL);
	rw_init(&zfsvfs->z_fuid_lock, NULL, RW_DEFAULT, NULL);
	ZFS_TEARDOWN_INIT(zfsvfs);
	return (zfsvfs_load(zfsvfs));
}

/*
 * Opens a filesystem or its snapshot, as its owner. zfsvfs_rele() closes it.
 */
int
zfsvfs_create(const char *name, boolean_t readonly, zfsvfs_t **zfvp)
{
	zfsvfs_t *zfsvfs = kmem_zalloc(sizeof (zfsvfs_t), KM_SLEEP);
	objset_t *os;
	int error;

	error = zfsvfs_own(name, readonly || strchr(name, '@') != NULL,
	    zfsvfs, &os);
	if (error != 0) {
		kmem_free(zfsvfs, sizeof (zfsvfs_t));
		return (error);
	}
	error = zfsvfs_fill(zfsvfs, os);
	if (error != 0) {
		dmu_objset_disown(os, B_TRUE, zfsvfs);
		zfsvfs_free(zfsvfs);
		return (error);
	}
	*zfvp = zfsvfs;
	return (0);
}

/*
 * Fills a zeroed zfsvfs_t for an objset that the caller holds, and goes on to
 * hold. Frees `zfsvfs` when it fails, and leaves the hold alone. (Upstream's
 * disowns the objset then, which its one caller besides zfsvfs_create(),
 * zcp_get_userquota_prop(), does not own.)
 */
int
zfsvfs_create_impl(zfsvfs_t **zfvp, zfsvfs_t *zfsvfs, objset_t *os)
{
	int error;

	zfsvfs_open_enter();
	error = zfsvfs_fill(zfsvfs, os);
	if (error != 0) {
		zfsvfs_free(zfsvfs);
		zfsvfs = NULL;
	}
	*zfvp = zfsvfs;
	return (error);
}

#ifdef	TREE_ZFSVFS_CREATE_HOLD
/*
 * Opens a filesystem or its snapshot that may have an owner besides.
 */
int
zfsvfs_create_hold(const char *name, zfsvfs_t **zfvp)
{
	zfsvfs_t *zfsvfs = kmem_zalloc(sizeof (zfsvfs_t), KM_SLEEP);
	objset_t *os;
	int error = dmu_objset_hold(name, zfsvfs, &os);

	if (error == 0 && dmu_objset_type(os) != DMU_OST_ZFS) {
		dmu_objset_rele(os, zfsvfs);
		error = SET_ERROR(EINVAL);
	}
	if (error != 0) {
		kmem_free(zfsvfs, sizeof (zfsvfs_t));
		return (error);
	}
	zfsvfs->z_use_hold = B_TRUE;
	zfsvfs_open_enter();
	error = zfsvfs_fill(zfsvfs, os);
	if (error != 0) {
		dmu_objset_rele(os, zfsvfs);
		zfsvfs_free(zfsvfs);
		return (error);
	}
	*zfvp = zfsvfs;
	return (0);
}
#endif

void
zfsvfs_free(zfsvfs_t *zfsvfs)
{
	zfs_fuid_destroy(zfsvfs);
	ZFS_TEARDOWN_DESTROY(zfsvfs);
	rw_destroy(&zfsvfs->z_fuid_lock);
	mutex_destroy(&zfsvfs->z_lock);
	kmem_free(zfsvfs, sizeof (zfsvfs_t));
	(void) zfsvfs_open_exit();
}

/*
 * `zfs upgrade`: raises the ZPL version. EINVAL: it would be lowered, or is
 * unknown; ENOTSUP: the pool's version is too old for it.
 */
int
zfs_set_version(zfsvfs_t *zfsvfs, uint64_t version)
{
	objset_t *os = zfsvfs->z_os;
	boolean_t add_sa = version >= ZPL_VERSION_SA && !zfsvfs->z_use_sa;
	dmu_tx_t *tx;
	int error;

	if (version < zfsvfs->z_version || version < ZPL_VERSION_INITIAL ||
	    version > ZPL_VERSION)
		return (SET_ERROR(EINVAL));
	if (zfs_spa_version_map(version) > spa_version(dmu_objset_spa(os)))
		return (SET_ERROR(ENOTSUP));

	tx = dmu_tx_create(os);
	dmu_tx_hold_zap(tx, MASTER_NODE_OBJ, B_FALSE, ZPL_VERSION_STR);
	if (add_sa) {
		dmu_tx_hold_zap(tx, MASTER_NODE_OBJ, B_TRUE, ZFS_SA_ATTRS);
		dmu_tx_hold_zap(tx, DMU_NEW_OBJECT, B_FALSE, NULL);
	}
	error = dmu_tx_assign(tx, DMU_TX_WAIT);
	if (error != 0) {
		dmu_tx_abort(tx);
		return (error);
	}
	error = zap_update(os, MASTER_NODE_OBJ, ZPL_VERSION_STR, 8, 1,
	    &version, tx);
	if (error == 0 && add_sa) {
		uint64_t sa_obj = zap_create(os, DMU_OT_SA_MASTER_NODE,
		    DMU_OT_NONE, 0, tx);

		VERIFY0(zap_add(os, MASTER_NODE_OBJ, ZFS_SA_ATTRS, 8, 1,
		    &sa_obj, tx));
		VERIFY0(sa_set_sa_object(os, sa_obj));
	}
	if (error == 0) {
		spa_history_log_internal_ds(dmu_objset_ds(os), "upgrade", tx,
		    "from %llu to %llu", (u_longlong_t)zfsvfs->z_version,
		    (u_longlong_t)version);
		os->os_version = version;
		zfsvfs_set_version(zfsvfs, version);
	}
	dmu_tx_commit(tx);
	return (error);
}
