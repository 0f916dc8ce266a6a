/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Mounting and sharing, which need a kernel. Who asks for it is told why not;
 * where upstream does it on the way (create, clone, receive, import) the
 * command succeeds without it. The seam is where upstream's programs call
 * into libzfs_mount.c and libshare.c, so that nothing below, which makes
 * directories, calls mount(2) and rewrites /etc/exports.d, ever runs.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libzfs.h>
#include <libshare.h>

#include "zow_client.h"

extern void __real_zfs_save_arguments(int, char **, char *, int);

void __wrap_zfs_save_arguments(int, char **, char *, int);
int __wrap_zfs_mount(zfs_handle_t *, const char *, int);
int __wrap_zfs_mount_delegation_check(void);
int __wrap_zpool_enable_datasets(zpool_handle_t *, const char *, int, uint_t);
int __wrap_zfs_share(zfs_handle_t *, const enum sa_protocol *);
int __wrap_umount2(const char *, int);
void __wrap_sa_commit_shares(enum sa_protocol);
void __wrap_sa_truncate_shares(enum sa_protocol);

/*
 * Subcommands that work on what only a kernel has. Theirs would be the errno
 * of a system call on a file that is not ZFS's.
 */
static void
zow_refuse_subcommand(void)
{
	static const char *const on_files[] = { "project", "rewrite" };
	static const char *const on_kernels[] = { "zone", "unzone" };

	for (int i = 0; i < 2; i++) {
		if (zow_subcommand_is(on_files[i])) {
			(void) fprintf(stderr, "cannot %s: it works on the "
			    "files of a mounted file system, and ZoW mounts "
			    "none\n", on_files[i]);
			exit(1);
		}
		if (zow_subcommand_is(on_kernels[i])) {
			(void) fprintf(stderr, "cannot %s: ZoW has no kernel "
			    "whose namespaces could own a dataset\n",
			    on_kernels[i]);
			exit(1);
		}
	}
}

/* zfs and zpool note their command line for the history; so do we. */
void
__wrap_zfs_save_arguments(int argc, char **argv, char *string, int len)
{
	if (argc > 1)
		zow_set_subcommand(argv[1]);
	/* Without arguments they print their usage. */
	if (argc > 2)
		zow_refuse_subcommand();
	__real_zfs_save_arguments(argc, argv, string, len);
}

/* Would a kernel have mounted it? With legacy and none it would not. */
static int
zow_has_mountpoint(zfs_handle_t *zhp)
{
	char mountpoint[ZFS_MAXPROPLEN];

	return (zfs_prop_get(zhp, ZFS_PROP_MOUNTPOINT, mountpoint,
	    sizeof (mountpoint), NULL, NULL, 0, B_FALSE) == 0 &&
	    strcmp(mountpoint, ZFS_MOUNTPOINT_LEGACY) != 0 &&
	    strcmp(mountpoint, ZFS_MOUNTPOINT_NONE) != 0);
}

int
__wrap_zfs_mount(zfs_handle_t *zhp, const char *options, int flags)
{
	static int said;

	(void) options, (void) flags;
	if (zow_subcommand_is("mount") || zow_subcommand_is("share")) {
		(void) fprintf(stderr, "cannot %s '%s': ZoW has no kernel file "
		    "system to mount; it serves volumes, see 'zfs create "
		    "-V'\n", zow_get_subcommand(), zfs_get_name(zhp));
		return (-1);
	}
	if ((zow_subcommand_is("create") || zow_subcommand_is("clone")) &&
	    zfs_get_pool_handle(zhp) != NULL &&
	    strchr(zfs_get_name(zhp), '/') != NULL &&
	    zow_has_mountpoint(zhp) && !said) {
		said = 1;
		(void) fprintf(stderr, "filesystem successfully created, but "
		    "not mounted: ZoW mounts no file systems\n");
	}
	return (0);
}

/*
 * `zfs unmount /path` tries, where the path is no dataset's mount point, and
 * it could be one of this machine's own. To umount(2) it is none.
 */
int
__wrap_umount2(const char *path, int flags)
{
	(void) path, (void) flags;
	errno = EINVAL;
	return (-1);
}

/* Anybody who may use the socket may create what is not mounted anyway. */
int
__wrap_zfs_mount_delegation_check(void)
{
	return (0);
}

/* After an import: mounts and shares what the pool has. */
int
__wrap_zpool_enable_datasets(zpool_handle_t *zhp, const char *options,
    int flags, uint_t nthr)
{
	(void) zhp, (void) options, (void) flags, (void) nthr;
	return (0);
}

int
__wrap_zfs_share(zfs_handle_t *zhp, const enum sa_protocol *proto)
{
	(void) zhp, (void) proto;
	return (0);
}

/* Runs exportfs(8), for shares of another ZFS on this machine. */
void
__wrap_sa_commit_shares(enum sa_protocol proto)
{
	(void) proto;
}

/* Empties /etc/exports.d/zfs.exports, which may be that one's too. */
void
__wrap_sa_truncate_shares(enum sa_protocol proto)
{
	(void) proto;
}
