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
 * `zfs change-key` wraps the keys of a data set, its children and clones anew,
 * in syncing context, where upstream VERIFYs that each can be unwrapped.
 * Before that it checks only that the key of the encryption root is loaded.  A
 * raw incremental receive leaves children whose key does not fit the root they
 * point to (OpenZFS #17425): each is tried here before anything is changed, in
 * both contexts, as upstream's own check is (pull request 18969).
 */

#include <sys/zfs_context.h>
#include <sys/dsl_crypt.h>
#include <sys/dsl_dataset.h>
#include <sys/dsl_dir.h>
#include <sys/dsl_pool.h>
#include <sys/dsl_synctask.h>
#include <sys/spa.h>
#include <sys/zap.h>

#include "compat.h"

extern int __real_spa_keystore_change_key(const char *, dsl_crypto_params_t *);
extern int __wrap_spa_keystore_change_key(const char *, dsl_crypto_params_t *);
extern int __real_dsl_sync_task(const char *, dsl_checkfunc_t *,
    dsl_syncfunc_t *, void *, int, zfs_space_check_t);
extern int __wrap_dsl_sync_task(const char *, dsl_checkfunc_t *,
    dsl_syncfunc_t *, void *, int, zfs_space_check_t);

typedef struct change_key {
	const char		*ck_name;
	dsl_crypto_params_t	*ck_dcp;
	dsl_checkfunc_t		*ck_check;	/* upstream's three */
	dsl_syncfunc_t		*ck_sync;
	void			*ck_arg;
} change_key_t;

extern int __real_dsl_dataset_promote_check(void *, dmu_tx_t *);
extern int __wrap_dsl_dataset_promote_check(void *, dmu_tx_t *);

/* From the call of spa_keystore_change_key() to that of dsl_sync_task(). */
static change_key_t *change_key_pending;

static int
encryption_root(dsl_dir_t *dd, uint64_t *rddobj)
{
	return (zap_lookup(dd->dd_pool->dp_meta_objset, dd->dd_crypto_obj,
	    DSL_CRYPTO_KEY_ROOT_DDOBJ, 8, 1, rddobj));
}

/* Can the key of the directory be had, loaded or from the disk? */
static int
unwraps(dsl_dir_t *dd)
{
	dsl_pool_t *dp = dd->dd_pool;
	dsl_dataset_t *ds;
	int error = dsl_dataset_hold_obj(dp,
	    dsl_dir_phys(dd)->dd_head_dataset_obj, FTAG, &ds);

	if (error != 0)
		return (error);
	error = spa_keystore_create_mapping(dp->dp_spa, ds, FTAG, NULL);
	if (error == 0) {
		VERIFY0(spa_keystore_remove_mapping(dp->dp_spa, ds->ds_object,
		    FTAG));
	} else {
		char name[ZFS_MAX_DATASET_NAME_LEN];

		dsl_dataset_name(ds, name);
		cmn_err(CE_WARN, "change-key: the key of '%s' does not fit its "
		    "encryption root's: error %d", name, error);
	}
	dsl_dataset_rele(ds, FTAG);
	return (error);
}

static int check_tree(dsl_pool_t *, uint64_t, uint64_t, boolean_t);

/* Each directory that the ZAP object names, itself or by its data set. */
static int
check_each(dsl_pool_t *dp, uint64_t zapobj, uint64_t rddobj, boolean_t clones)
{
	zap_cursor_t *zc = kmem_alloc(sizeof (*zc), KM_SLEEP);
	zap_attribute_t *za = zap_attribute_alloc();
	int error = 0;

	for (zap_cursor_init(zc, dp->dp_meta_objset, zapobj); error == 0 &&
	    zap_cursor_retrieve(zc, za) == 0; zap_cursor_advance(zc)) {
		uint64_t ddobj = za->za_first_integer;

		if (clones) {
			dsl_dataset_t *clone;

			error = dsl_dataset_hold_obj(dp, ddobj, FTAG, &clone);
			if (error != 0)
				break;
			ddobj = clone->ds_dir->dd_object;
			dsl_dataset_rele(clone, FTAG);
		}
		error = check_tree(dp, ddobj, rddobj, clones);
	}
	zap_cursor_fini(zc);
	zap_attribute_free(za);
	kmem_free(zc, sizeof (*zc));
	return (error);
}

/* The walk of spa_keystore_change_key_sync_impl(). */
static int
check_tree(dsl_pool_t *dp, uint64_t ddobj, uint64_t rddobj, boolean_t skip)
{
	dsl_dir_t *dd;
	uint64_t root;
	int error = dsl_dir_hold_obj(dp, ddobj, NULL, FTAG, &dd);

	if (error != 0)
		return (error);
	if (dd->dd_myname[0] == '$' || dd->dd_myname[0] == '%' ||
	    dd->dd_crypto_obj == 0)
		goto out;
	error = encryption_root(dd, &root);
	if (error != 0)
		goto out;
	if (!skip) {
		if (root != rddobj || dsl_dir_is_clone(dd))
			goto out;
		error = unwraps(dd);
	}
	if (error == 0) {
		error = check_each(dp, dsl_dir_phys(dd)->dd_child_dir_zapobj,
		    rddobj, B_FALSE);
	}
	if (error == 0 && dsl_dir_phys(dd)->dd_clones != 0) {
		error = check_each(dp, dsl_dir_phys(dd)->dd_clones, rddobj,
		    B_TRUE);
	}
out:
	dsl_dir_rele(dd, FTAG);
	return (error);
}

static int
change_key_check(void *arg, dmu_tx_t *tx)
{
	change_key_t *ck = arg;
	dcp_cmd_t cmd = ck->ck_dcp->cp_cmd;
	dsl_pool_t *dp = dmu_tx_pool(tx);
	dsl_dir_t *dd;
	uint64_t rddobj;
	int error = dsl_dir_hold(dp, ck->ck_name, FTAG, &dd, NULL);

	/* Upstream's check asks for the parent's key: a pool has no parent. */
	if (error == 0) {
		if (dd->dd_parent == NULL && (cmd == DCP_CMD_INHERIT ||
		    cmd == DCP_CMD_FORCE_INHERIT))
			error = SET_ERROR(EINVAL);
		dsl_dir_rele(dd, FTAG);
	}
	if (error == 0)
		error = ck->ck_check(ck->ck_arg, tx);
	if (error != 0 || (cmd != DCP_CMD_NEW_KEY && cmd != DCP_CMD_INHERIT))
		return (error);
	error = dsl_dir_hold(dp, ck->ck_name, FTAG, &dd, NULL);
	if (error != 0)
		return (error);
	error = encryption_root(dd, &rddobj);
	if (error == 0)
		error = check_tree(dp, dd->dd_object, rddobj, B_FALSE);
	dsl_dir_rele(dd, FTAG);
	return (error);
}

static void
change_key_sync(void *arg, dmu_tx_t *tx)
{
	change_key_t *ck = arg;

	ck->ck_sync(ck->ck_arg, tx);
}

int
__wrap_spa_keystore_change_key(const char *name, dsl_crypto_params_t *dcp)
{
	change_key_t ck = { .ck_name = name, .ck_dcp = dcp };
	int error;

	ASSERT0P(change_key_pending);
	change_key_pending = &ck;
	error = __real_spa_keystore_change_key(name, dcp);
	ASSERT0P(change_key_pending);
	return (error);
}

int
__wrap_dsl_sync_task(const char *pool, dsl_checkfunc_t *check,
    dsl_syncfunc_t *sync, void *arg, int blocks, zfs_space_check_t space)
{
	change_key_t *ck = change_key_pending;

	/* Upstream calls its own from where it is. */
	if (check == __real_dsl_dataset_promote_check)
		check = __wrap_dsl_dataset_promote_check;
	if (ck != NULL) {
		change_key_pending = NULL;
		ck->ck_check = check;
		ck->ck_sync = sync;
		ck->ck_arg = arg;
		check = change_key_check;
		sync = change_key_sync;
		arg = ck;
	}
	return (__real_dsl_sync_task(pool, check, sync, arg, blocks, space));
}
