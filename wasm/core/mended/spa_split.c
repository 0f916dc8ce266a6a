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
 * What upstream forgets when a pool is split.
 */

#include <sys/zfs_context.h>
#include <sys/spa.h>
#include <sys/vdev_impl.h>
#include <sys/zvol.h>

extern boolean_t __real_vdev_is_concrete(vdev_t *);
extern boolean_t __wrap_vdev_is_concrete(vdev_t *);
extern int __real_spa_vdev_split_mirror(spa_t *, const char *, nvlist_t *,
    nvlist_t *, boolean_t);
extern int __wrap_spa_vdev_split_mirror(spa_t *, const char *, nvlist_t *,
    nvlist_t *, boolean_t);

/*
 * The new pool has no log devices, but the log of space maps that it loads
 * may have entries of theirs.  One with a device after it has become a hole,
 * whose entries are skipped; the last ones are missing, and NULL is asked.
 */
boolean_t
__wrap_vdev_is_concrete(vdev_t *vd)
{
	return (vd != NULL && __real_vdev_is_concrete(vd));
}

/* A new pool that stays imported has minors too, as after an import. */
int
__wrap_spa_vdev_split_mirror(spa_t *spa, const char *newname,
    nvlist_t *config, nvlist_t *props, boolean_t exp)
{
	int error = __real_spa_vdev_split_mirror(spa, newname, config, props,
	    exp);

	if (error == 0 && !exp)
		zvol_create_minors(newname);
	return (error);
}
