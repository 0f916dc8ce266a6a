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
 * A promoted clone takes the snapshots it shares with its origin, and the
 * bookmarks of them.  Upstream leaves the snapshots' minors under the origin's
 * name, where nothing removes them any more; here they take the new name, as
 * after a rename.  And it looks for conflicts among the bookmarks of the
 * origin, a snapshot, which has none, instead of those of its head: what has
 * the name of one of the clone's is found out in syncing context, by a panic.
 */

#include <sys/zfs_context.h>
#include <sys/dataset_kstats.h>
#include <sys/dmu_tx.h>
#include <sys/dsl_bookmark.h>
#include <sys/dsl_dataset.h>
#include <sys/dsl_dir.h>
#include <sys/dsl_pool.h>
#include <sys/spa_impl.h>
#include <sys/zfs_rlock.h>
#include <sys/zil_impl.h>
#include <sys/zvol.h>
#include <sys/zvol_impl.h>

#include "compat.h"

extern int __real_dsl_dataset_promote(const char *, char *);
extern int __wrap_dsl_dataset_promote(const char *, char *);
extern void __real_dsl_dataset_promote_sync(void *, dmu_tx_t *);
extern void __wrap_dsl_dataset_promote_sync(void *, dmu_tx_t *);

extern int __real_dsl_dataset_promote_check(void *, dmu_tx_t *);
extern int __wrap_dsl_dataset_promote_check(void *, dmu_tx_t *);

/* As dsl_dataset_promote_sync() moves them. */
static int
promote_check_bookmarks(dsl_dataset_promote_arg_t *ddpa, dsl_dataset_t *clone,
    dsl_dataset_t *origin, dsl_dataset_t *head)
{
	size_t max = MAXNAMELEN - strlen(ddpa->ddpa_clonename) - 1;
	int error = 0;

	for (dsl_bookmark_node_t *dbn = avl_first(&head->ds_bookmarks);
	    dbn != NULL && dbn->dbn_phys.zbm_creation_txg <=
	    dsl_dataset_phys(origin)->ds_creation_txg;
	    dbn = AVL_NEXT(&head->ds_bookmarks, dbn)) {
		zfs_bookmark_phys_t bm;
		int found;

		if (strlen(dbn->dbn_name) >= max)
			return (SET_ERROR(ENAMETOOLONG));
		found = dsl_bookmark_lookup_impl(clone, dbn->dbn_name, &bm);
		if (found == 0) {
			fnvlist_add_boolean(ddpa->err_ds, dbn->dbn_name);
			error = SET_ERROR(EEXIST);
		} else if (found != ESRCH) {
			return (found);
		}
	}
	return (error);
}

/* Also in syncing context, for a bookmark may have come since. */
int
__wrap_dsl_dataset_promote_check(void *arg, dmu_tx_t *tx)
{
	dsl_dataset_promote_arg_t *ddpa = arg;
	dsl_pool_t *dp = dmu_tx_pool(tx);
	dsl_dataset_t *clone, *origin, *head;
	int error = __real_dsl_dataset_promote_check(arg, tx);

	if (error != 0)
		return (error);
	error = dsl_dataset_hold(dp, ddpa->ddpa_clonename, FTAG, &clone);
	if (error != 0)
		return (error);
	error = dsl_dataset_hold_obj(dp,
	    dsl_dir_phys(clone->ds_dir)->dd_origin_obj, FTAG, &origin);
	if (error == 0) {
		error = dsl_dataset_hold_obj(dp,
		    dsl_dir_phys(origin->ds_dir)->dd_head_dataset_obj, FTAG,
		    &head);
		if (error == 0) {
			error = promote_check_bookmarks(ddpa, clone, origin,
			    head);
			dsl_dataset_rele(head, FTAG);
		}
		dsl_dataset_rele(origin, FTAG);
	}
	dsl_dataset_rele(clone, FTAG);
	return (error);
}

/* Names of the snapshots that a promotion of `clone` moves: old to new. */
static nvlist_t *
promote_names(dsl_pool_t *dp, const char *clone)
{
	nvlist_t *names = fnvlist_alloc();
	dsl_dataset_t *ds;
	uint64_t obj, dir = 0;

	if (dsl_dataset_hold(dp, clone, FTAG, &ds) != 0)
		return (names);
	obj = dsl_dir_phys(ds->ds_dir)->dd_origin_obj;
	dsl_dataset_rele(ds, FTAG);
	while (obj != 0 && dsl_dataset_hold_obj(dp, obj, FTAG, &ds) == 0) {
		char old[ZFS_MAX_DATASET_NAME_LEN];
		char *new;

		if (dir == 0)
			dir = ds->ds_dir->dd_object;
		if (ds->ds_dir->dd_object != dir) {
			dsl_dataset_rele(ds, FTAG);
			break;
		}
		dsl_dataset_name(ds, old);
		new = kmem_asprintf("%s%s", clone, strchr(old, '@'));
		fnvlist_add_string(names, old, new);
		kmem_strfree(new);
		obj = dsl_dataset_phys(ds)->ds_prev_snap_obj;
		dsl_dataset_rele(ds, FTAG);
	}
	return (names);
}

static void
promote_rename_minors(void *arg)
{
	nvlist_t *names = arg;
	const char *name;

	rw_enter(&zvol_state_lock, RW_WRITER);
	for (int i = 0; i < ZVOL_HT_SIZE; i++) {
		struct hlist_node *p = ZVOL_HT_HEAD(i)->first;

		while (p != NULL) {
			zvol_state_t *zv = hlist_entry(p, zvol_state_t,
			    zv_hlink);

			/* A renamed one goes to another chain. */
			p = p->next;
			mutex_enter(&zv->zv_state_lock);
			if (nvlist_lookup_string(names, zv->zv_name,
			    &name) == 0)
				(void) zvol_os_rename_minor(zv, name);
			mutex_exit(&zv->zv_state_lock);
		}
	}
	rw_exit(&zvol_state_lock);
	fnvlist_free(names);
}

/* zfs promote */
int
__wrap_dsl_dataset_promote(const char *clone, char *conflict)
{
	nvlist_t *names = NULL;
	dsl_pool_t *dp;
	spa_t *spa;
	taskqid_t id;
	int error = spa_open(clone, &spa, FTAG);

	if (error != 0)
		return (error);
	error = dsl_pool_hold(clone, FTAG, &dp);
	if (error == 0) {
		names = promote_names(dp, clone);
		dsl_pool_rele(dp, FTAG);
		error = __real_dsl_dataset_promote(clone, conflict);
	}
	if (error == 0) {
		id = taskq_dispatch(spa->spa_zvol_taskq, promote_rename_minors,
		    names, TQ_SLEEP);
		taskq_wait_id(spa->spa_zvol_taskq, id);
	} else if (names != NULL) {
		fnvlist_free(names);
	}
	spa_close(spa, FTAG);
	return (error);
}

/* zfs.sync.promote() of a channel program; the locks are the task's. */
void
__wrap_dsl_dataset_promote_sync(void *arg, dmu_tx_t *tx)
{
	dsl_dataset_promote_arg_t *ddpa = arg;
	dsl_pool_t *dp = dmu_tx_pool(tx);
	nvlist_t *names = promote_names(dp, ddpa->ddpa_clonename);

	__real_dsl_dataset_promote_sync(arg, tx);
	(void) taskq_dispatch(dp->dp_spa->spa_zvol_taskq, promote_rename_minors,
	    names, TQ_SLEEP);
}
