/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * What the user called: what is done on the way in one command is what was
 * asked for in another.
 */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "zow_client.h"

/* `create` of `zfs create tank/fs`; "" in programs that keep no history. */
static char zow_subcommand[32];

extern uid_t __real_geteuid(void);
uid_t __wrap_geteuid(void);

void
zow_set_subcommand(const char *name)
{
	(void) snprintf(zow_subcommand, sizeof (zow_subcommand), "%s", name);
}

const char *
zow_get_subcommand(void)
{
	return (zow_subcommand);
}

int
zow_subcommand_is(const char *name)
{
	return (strcmp(zow_subcommand, name) == 0);
}

/*
 * `zpool import` looks for pools only as root, who alone may open disks. Here
 * the devices may be the user's own files, and what may be opened is up to
 * open(2). Other commands use the number for other things.
 */
uid_t
__wrap_geteuid(void)
{
	return (zow_subcommand_is("import") ? 0 : __real_geteuid());
}
