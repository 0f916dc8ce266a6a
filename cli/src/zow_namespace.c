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
 * Root datasets in the middle of zpool_iter(), which zpool upgrade looks for.
 * Upstream reads the list of pools anew for them if it has changed, and
 * zpool_iter() goes on with an entry of the old one, which is freed.
 */

#include <stdlib.h>
#include <string.h>
#include <libzfs.h>

typedef struct names {
	char **n_list;
	size_t n_count;
} names_t;

extern int __real_zpool_iter(libzfs_handle_t *, zpool_iter_f, void *);
extern int __real_zfs_iter_root(libzfs_handle_t *, zfs_iter_f, void *);
int __wrap_zpool_iter(libzfs_handle_t *, zpool_iter_f, void *);
int __wrap_zfs_iter_root(libzfs_handle_t *, zfs_iter_f, void *);

static __thread int iterating;

int
__wrap_zpool_iter(libzfs_handle_t *hdl, zpool_iter_f func, void *data)
{
	iterating++;
	int ret = __real_zpool_iter(hdl, func, data);
	iterating--;
	return (ret);
}

static int
zow_add_name(zpool_handle_t *zhp, void *arg)
{
	names_t *names = arg;
	char **list = realloc(names->n_list,
	    (names->n_count + 1) * sizeof (char *));
	char *name = strdup(zpool_get_name(zhp));

	zpool_close(zhp);
	if (list == NULL || name == NULL)
		abort();
	list[names->n_count++] = name;
	names->n_list = list;
	return (0);
}

int
__wrap_zfs_iter_root(libzfs_handle_t *hdl, zfs_iter_f func, void *data)
{
	names_t names = { NULL, 0 };
	int ret;

	if (iterating == 0)
		return (__real_zfs_iter_root(hdl, func, data));
	/* One that is in another is content with the list that is there. */
	ret = __real_zpool_iter(hdl, zow_add_name, &names);
	for (size_t i = 0; i < names.n_count; i++) {
		zfs_handle_t *zhp = NULL;

		if (ret == 0)
			zhp = zfs_open(hdl, names.n_list[i],
			    ZFS_TYPE_FILESYSTEM);
		if (zhp != NULL)
			ret = func(zhp, data);
		free(names.n_list[i]);
	}
	free(names.n_list);
	return (ret);
}
