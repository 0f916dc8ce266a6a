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
 * Questions of the host beside ioctls: kstats and tunables. Each runs on a
 * fiber, since it takes locks, and is answered with a packed nvlist.
 */

#include <sys/zfs_context.h>
#include <sys/nvpair.h>

#include "inspect.h"
#include "seam.h"
#include "work.h"

/* Not the ioctls' queue: statistics are wanted when those wait. */

typedef enum inspect_op {
	INSPECT_KSTATS,
	INSPECT_KSTAT_READ,
	INSPECT_KSTAT_CLEAR,
	INSPECT_TUNABLES,
	INSPECT_TUNABLE_SET
} inspect_op_t;

typedef struct inspection {
	int		i_request;
	inspect_op_t	i_op;
	char		*i_text;	/* from alloc() */
} inspection_t;

static int
inspect_run(const inspection_t *i, nvlist_t *nvl)
{
	char *value;

	switch (i->i_op) {
	case INSPECT_KSTATS:
		kstat_paths(nvl);
		return (0);
	case INSPECT_KSTAT_READ:
		return (kstat_read(i->i_text, nvl));
	case INSPECT_KSTAT_CLEAR:
		return (kstat_clear(i->i_text));
	case INSPECT_TUNABLES:
		tunables_list(nvl);
		return (0);
	case INSPECT_TUNABLE_SET:
		value = strchr(i->i_text, '=');
		if (value == NULL)
			return (EINVAL);
		*value++ = '\0';
		return (tunable_set(i->i_text, value, B_FALSE));
	default:
		return (EINVAL);
	}
}

static void
inspect_work(void *arg)
{
	inspection_t *i = arg;
	nvlist_t *nvl = fnvlist_alloc();
	int error = inspect_run(i, nvl);
	char *packed = NULL;
	size_t size = 0;

	if (error == 0)
		error = nvlist_pack(nvl, &packed, &size, NV_ENCODE_NATIVE,
		    KM_SLEEP);
	fnvlist_free(nvl);
	zow_inspect_done(i->i_request, error, packed, size);
	if (packed != NULL)
		fnvlist_pack_free(packed, size);
	free(i->i_text);
	free(i);
}

/* `text` comes from alloc(), is NUL-terminated, and the core's from here. */
ZOW_EXPORT("inspect") int
inspect(int request, int op, char *text)
{
	inspection_t *i = calloc(1, sizeof (*i));
	int error = ENOMEM;

	if (i != NULL) {
		i->i_request = request;
		i->i_op = op;
		i->i_text = text;
		error = zow_work_for(WORK_INSPECT, "", "inspect",
		    inspect_work, i);
	}
	if (error != 0) {
		free(i);
		free(text);
	}
	return (-error);
}
