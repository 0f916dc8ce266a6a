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

#ifndef	_ZOW_VDEV_TREE_H
#define	_ZOW_VDEV_TREE_H

#include <sys/zfs_context.h>

/*
 * Whether a pool can be made of the tree, or one of its parts (`attach`: a
 * disk that a mirror, raidz or spare gets): EINVAL, EBUSY.
 */
int vdev_tree_check(nvlist_t *nvroot, boolean_t attach);

/* Whether the configuration of a pool that exists can be read: EINVAL. */
int vdev_config_check(nvlist_t *config);

#endif	/* _ZOW_VDEV_TREE_H */
