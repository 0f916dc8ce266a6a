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
 * The core's start: what zfs.ko does when it is loaded, and kernel_init() of
 * libzpool besides.
 */

#include <sys/zfs_context.h>
#include <sys/arc.h>
#include <sys/dsl_pool.h>
#include <sys/spa.h>
#include <sys/spa_impl.h>
#include <sys/crypto/icp.h>
#include <sys/zstd/zstd.h>
#include <sys/systeminfo.h>
#include <sys/zfs_vfsops.h>
#include <sys/zfs_ioctl.h>
#include <sys/zfs_ioctl_impl.h>
#include <sys/utsname.h>
#include <zfs_fletcher.h>

#include "admission.h"
#include "fiber.h"
#include "inspect.h"
#include "malloc.h"
#include "seam.h"

/* As long as the host's between two turns of the event loop (scheduler.ts). */
#define	SLICE_NS	(500 * 1000)

extern int zfs_kmod_init(void);
extern uint32_t hostid;
extern struct utsname hw_utsname;
extern uint64_t zfs_arc_min;
extern uint64_t zfs_arc_max;

/*
 * Defaults for one memory, shared by the ARC and everything else.
 */
static void
tunables_init(void)
{
	uint64_t heap = zow_heap_limit();
	char queue[24];

	/* The rest is for stacks and I/O buffers. */
	zow_slab_bytes_max = heap / 8 * 5;
	/* zfs_arc_max is ignored unless zfs_arc_min is set too. */
	zfs_arc_min = MAX(heap / 16, 2ULL << SPA_MAXBLOCKSHIFT);
	zfs_arc_max = heap / 2;
	zfs_dirty_data_max = heap / 10;
	(void) snprintf(queue, sizeof (queue), "%llu",
	    (u_longlong_t)zow_stream_queue());
	VERIFY0(tunable_set("zfs_send_queue_length", queue, B_TRUE));
	VERIFY0(tunable_set("zfs_recv_queue_length", queue, B_TRUE));
}

/* `name=value`, as to modprobe: before anything reads them. */
static void
options_init(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		char *value = strchr(argv[i], '=');
		int error = EINVAL;

		if (value != NULL) {
			*value++ = '\0';
			error = tunable_set(argv[i], value, B_TRUE);
		}
		if (error != 0)
			zow_option_refused(i - 1, error);
	}
}

int
main(int argc, char **argv)
{
	fiber_slice(SLICE_NS);
	physmem = sysconf(_SC_PHYS_PAGES);
	hostid = get_system_hostid();
	random_init();
	VERIFY0(uname(&hw_utsname));
	tunables_init();
	options_init(argc, argv);
	system_taskq_init();
	fletcher_4_init();
	VERIFY0(icp_init());
	VERIFY0(zstd_init());
	VERIFY0(zfs_kmod_init());
	zow_ready(sizeof (zfs_cmd_t), hostid);
	for (;;)
		fiber_block();
}
