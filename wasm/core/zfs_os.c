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
 * What upstream's common code asks of the parts of a kernel that the core does
 * not have: mounted filesystems, users, module parameters.
 */

#include <sys/zfs_context.h>
#include <sys/cred.h>
#include <sys/dmu_objset.h>
#include <sys/dsl_dataset.h>
#include <sys/spa.h>
#include <sys/zfs_ioctl.h>
#include <sys/zfs_vfsops.h>
#include <sys/zfs_quota.h>
#include <sys/zfs_znode.h>

#include "fiber.h"
#include "seam.h"

/*
 * Waits that a client's going away interrupts.
 */
int
cv_wait_sig(kcondvar_t *cv, kmutex_t *mp)
{
	return (zow_cv_timedwait_sig(cv, mp, 0) == 0 ? 0 : 1);
}

int
zow_cv_timedwait_sig(kcondvar_t *cv, kmutex_t *mp, clock_t abstime)
{
	fiber_t *self = fiber_current;
	int result = 1;

	if (self->f_interrupted) {
		/*
		 * dmu_recv_stream() goes round until its writer is done,
		 * interrupted or not: the writer must get to run meanwhile.
		 */
		(void) cv_timedwait(cv, mp, ddi_get_lbolt() + 1);
		return (0);
	}
	self->f_interruptible = 1;
	if (abstime == 0)
		cv_wait(cv, mp);
	else
		result = cv_timedwait(cv, mp, abstime);
	self->f_interruptible = 0;
	return (self->f_interrupted ? 0 : result);
}

/*
 * Permissions: the socket's mode decides who is the administrator.
 */
int
secpolicy_zfs(const cred_t *cr)
{
	(void) cr;
	return (0);
}

int
secpolicy_sys_config(const cred_t *cr, boolean_t checkonly)
{
	(void) cr, (void) checkonly;
	return (0);
}

int
secpolicy_zinject(const cred_t *cr)
{
	(void) cr;
	return (0);
}

int
groupmember(gid_t gid, const cred_t *cr)
{
	(void) gid, (void) cr;
	return (1);
}

/*
 * Strings.
 */
int
ddi_strtoll(const char *str, char **end, int base, longlong_t *result)
{
	errno = 0;
	*result = strtoll(str, end, base);
	return (errno);
}

/*
 * No filesystem is mounted: whatever needs one is not supported, and upstream
 * asks for a mounted one first (getzfsvfs() finds none).
 */
boolean_t
zfs_get_vfs_flag_unmounted(objset_t *os)
{
	(void) os;
	return (B_TRUE);
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

int
zfs_set_version(zfsvfs_t *zfsvfs, uint64_t version)
{
	(void) zfsvfs, (void) version;
	return (SET_ERROR(ENOTSUP));
}

int
zfs_set_default_quota(zfsvfs_t *zfsvfs, zfs_prop_t prop, uint64_t quota)
{
	(void) zfsvfs, (void) prop, (void) quota;
	return (SET_ERROR(ENOTSUP));
}

int
zfsvfs_create(const char *name, boolean_t readonly, zfsvfs_t **zfvp)
{
	(void) name, (void) readonly, (void) zfvp;
	return (SET_ERROR(ENOTSUP));
}

int
zfsvfs_create_impl(zfsvfs_t **zfvp, zfsvfs_t *zfsvfs, objset_t *os)
{
	(void) zfvp, (void) zfsvfs, (void) os;
	return (SET_ERROR(ENOTSUP));
}

void
zfsvfs_free(zfsvfs_t *zfsvfs)
{
	(void) zfsvfs;
}

int
zfs_userspace_one(zfsvfs_t *zfsvfs, zfs_userquota_prop_t type,
    const char *domain, uint64_t rid, uint64_t *valuep)
{
	(void) zfsvfs, (void) type, (void) domain, (void) rid, (void) valuep;
	return (SET_ERROR(ENOTSUP));
}

int
zfs_userspace_many(zfsvfs_t *zfsvfs, zfs_userquota_prop_t type,
    uint64_t *cookiep, void *vbuf, uint64_t *bufsizep,
    uint64_t *default_quota)
{
	(void) zfsvfs, (void) type, (void) cookiep, (void) vbuf,
	    (void) bufsizep, (void) default_quota;
	return (SET_ERROR(ENOTSUP));
}

int
zfs_set_userquota(zfsvfs_t *zfsvfs, zfs_userquota_prop_t type,
    const char *domain, uint64_t rid, uint64_t quota)
{
	(void) zfsvfs, (void) type, (void) domain, (void) rid, (void) quota;
	return (SET_ERROR(ENOTSUP));
}

void
zfs_init(void)
{
}

void
zfs_fini(void)
{
}

/* As `zpool history -il` names it. */
const char *
spa_history_zone(void)
{
	return ("zow");
}
