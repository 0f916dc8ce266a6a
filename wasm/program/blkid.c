/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * What is on the machine's block devices, by blkid(8), which comes with the
 * library that upstream uses: `zpool create` refuses a device that has a file
 * system, `zpool import` finds those that have a pool.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "overlay/blkid/blkid.h"
#include "process.h"

#define	BLKID_AMBIVALENT	8	/* exit code: several things at once */

struct blkid_devices {
	char	**bd_names;
	int	bd_count;
	int	bd_next;
};

/* Runs blkid, which a user's PATH may not have. Its exit code, or -1. */
static int
run_blkid(char **argv, char ***lines, int *count)
{
	static const char *const paths[] = {
		"/usr/sbin/blkid", "/sbin/blkid", "blkid"
	};
	int code = -1;

	*lines = NULL;
	*count = 0;
	for (int i = 0; code < 0 && i < 3; i++)
		code = zow_run(paths[i], argv, NULL, 0, lines, count);
	return (code);
}

static void
free_lines(char **lines, int count)
{
	for (int i = 0; i < count; i++)
		free(lines[i]);
	free(lines);
}

int
blkid_get_cache(blkid_cache *cache, const char *file)
{
	(void) file;
	*cache = NULL;
	return (0);
}

void
blkid_put_cache(blkid_cache cache)
{
	(void) cache;
}

int
blkid_probe_all_new(blkid_cache cache)
{
	(void) cache;
	return (0);
}

blkid_dev_iterate
blkid_dev_iterate_begin(blkid_cache cache)
{
	(void) cache;
	return (calloc(1, sizeof (struct blkid_devices)));
}

int
blkid_dev_set_search(blkid_dev_iterate devices, char *tag, char *value)
{
	char search[128];
	char *argv[] = { "blkid", "-o", "device", "-t", search, NULL };

	(void) snprintf(search, sizeof (search), "%s=%s", tag, value);
	/* Where there is no blkid, there is no device to be found. */
	(void) run_blkid(argv, &devices->bd_names, &devices->bd_count);
	return (0);
}

/* 0, or -1 at the end. */
int
blkid_dev_next(blkid_dev_iterate devices, blkid_dev *dev)
{
	if (devices->bd_next == devices->bd_count)
		return (-1);
	*dev = devices->bd_names[devices->bd_next++];
	return (0);
}

void
blkid_dev_iterate_end(blkid_dev_iterate devices)
{
	free_lines(devices->bd_names, devices->bd_count);
	free(devices);
}

const char *
blkid_dev_devname(blkid_dev dev)
{
	return (dev);
}

/* From malloc(3); NULL: the device has none. */
char *
blkid_get_tag_value(blkid_cache cache, const char *tag, const char *device)
{
	char *argv[] = { "blkid", "-p", "-o", "value", "-s", (char *)tag,
	    (char *)device, NULL };
	char **lines, *value = NULL;
	int count;
	int code = run_blkid(argv, &lines, &count);

	(void) cache;
	if (code == 0 && count > 0)
		value = strdup(lines[0]);
	else if (code == BLKID_AMBIVALENT)
		value = strdup("ambiguous");
	free_lines(lines, count);
	return (value);
}
