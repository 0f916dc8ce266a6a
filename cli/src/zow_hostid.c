/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include <sys/systeminfo.h>

#include "zow_client.h"

extern unsigned long __real_get_system_hostid(void);
unsigned long __wrap_get_system_hostid(void);

/*
 * The hostid that the host writes into labels. Upstream reads it from the
 * module's /proc, so that kernel and user agree.
 */
unsigned long
__wrap_get_system_hostid(void)
{
	uint32_t hostid = zow_host_id();

	return (hostid != 0 ? hostid : __real_get_system_hostid());
}
