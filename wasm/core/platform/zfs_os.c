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
 * not have: users, signals, zones.
 */

#include <sys/zfs_context.h>
#include <sys/cred.h>
#include <sys/spa.h>
#include <sys/systeminfo.h>

#include "fiber.h"
#include "seam.h"

extern uint32_t __wrap_zone_get_hostid(void *);

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
 * Read anew each time, as in the kernel (spl-generic.c): /etc/hostid can be
 * made while the host runs.  libzpool's is what it was at start.
 */
uint32_t
__wrap_zone_get_hostid(void *zone)
{
	(void) zone;
	return (get_system_hostid());
}

/*
 * Strings.
 */
int
ddi_strtol(const char *str, char **end, int base, long *result)
{
	errno = 0;
	*result = strtol(str, end, base);
	return (errno);
}

int
ddi_strtoll(const char *str, char **end, int base, longlong_t *result)
{
	errno = 0;
	*result = strtoll(str, end, base);
	return (errno);
}

/* As `zpool history -il` names it. */
const char *
spa_history_zone(void)
{
	return ("zow");
}
