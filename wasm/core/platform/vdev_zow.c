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
 * Leaf vdevs: "file" and "disk" on the host's devices, in the place of
 * vdev_file.c and vdev_disk.c.
 *
 * An I/O starts in the zio's own fiber, without a task queue between. What the
 * host answers at once (a read from the operating system's cache) goes on in
 * the same fiber; zio_execute() of a finished I/O can issue the next one from
 * the vdev's queue, so only the first of such a chain does, and the others
 * take the way of the asynchronous ones: vdev_complete() puts them on a list
 * that one fiber, the interrupt fiber, hands to the zio pipeline.
 *
 * A device that is gone is REMOVED, as vdev_disk.c does it: when its I/O says
 * so, or when the host has seen that its path leads nowhere, or to another
 * file. In that second case what is open still works, so a device that holds
 * the only copy of something stays in use.
 */

#include <sys/zfs_context.h>
#include <sys/spa.h>
#include <sys/spa_impl.h>
#include <sys/vdev_impl.h>
#include <sys/vdev_file.h>
#include <sys/vdev_disk.h>
#include <sys/vdev_trim.h>
#include <sys/zio.h>
#include <sys/fs/zfs.h>
#include <sys/abd.h>

#include "compat.h"
#include "flush.h"
#include "seam.h"
#include "work.h"

typedef struct vdev_zow {
	int		vz_handle;
	vdev_t		*vz_vdev;
	boolean_t	vz_gone;	/* it answered ENXIO or ENODEV */
	leaf_flush_t	vz_flush;
	list_node_t	vz_node;
} vdev_zow_t;

/* Those that are open. */
static list_t vdev_zow_open_list;

/* A device that is to be taken out of its pool. */
typedef struct device_removal {
	char	dr_pool[ZFS_MAX_DATASET_NAME_LEN];
	int	dr_handle;
} device_removal_t;

/* A started I/O: the zio, and the linear buffer it uses. */
typedef struct device_io {
	zio_t			*io_zio;	/* NULL: a fiber waits */
	fiber_queue_t		io_over;	/* for that one */
	void			*io_buf;	/* borrowed from the ABD */
	struct device_io	*io_self;	/* of one that is pending */
	int			io_error;
	boolean_t		io_flush;	/* before it is over */
	struct device_io	*io_next;
} device_io_t;

static device_io_t *interrupt_head;
static device_io_t **interrupt_tail = &interrupt_head;
static fiber_queue_t interrupt_wait;

static uint_t vdev_file_logical_ashift = SPA_MINBLOCKSHIFT;
static uint_t vdev_file_physical_ashift = SPA_MINBLOCKSHIFT;

/*
 * In a pool with multihost=on, labels are how other machines see that it is in
 * use: they must not wait in this one's cache.
 */
static boolean_t
device_io_is_sign_of_life(const zio_t *zio)
{
	return (zio->io_type == ZIO_TYPE_WRITE && spa_multihost(zio->io_spa) &&
	    VDEV_OFFSET_IS_LABEL(zio->io_vd, zio->io_offset));
}

/* Whether a write goes on with a flush, whose end is then its own. */
static boolean_t
device_io_flushes(device_io_t *io)
{
	vdev_zow_t *vz = io->io_zio->io_vd->vdev_tsd;
	int error;

	if (!io->io_flush || io->io_error != 0 || vz == NULL)
		return (B_FALSE);
	io->io_flush = B_FALSE;
	error = zow_device_flush(io, vz->vz_handle);
	if (error == IO_PENDING) {
		io->io_self = io;
		return (B_TRUE);
	}
	io->io_error = -error;
	return (B_FALSE);
}

static void
device_io_finish(device_io_t *io)
{
	zio_t *zio = io->io_zio;
	vdev_zow_t *vz = zio->io_vd->vdev_tsd;

	if (vz != NULL && (io->io_error == ENXIO || io->io_error == ENODEV))
		vz->vz_gone = B_TRUE;

	if (io->io_buf != NULL) {
		if (zio->io_type == ZIO_TYPE_READ)
			abd_return_buf_copy(zio->io_abd, io->io_buf,
			    zio->io_size);
		else
			abd_return_buf(zio->io_abd, io->io_buf, zio->io_size);
	}
	zio->io_error = io->io_error;
	free(io);
}

static void *
interrupt_fiber(void *arg)
{
	(void) arg;
	for (;;) {
		device_io_t *io = interrupt_head;
		zio_t *zio;

		if (io == NULL) {
			(void) fiber_wait(&interrupt_wait, 0);
			continue;
		}
		interrupt_head = io->io_next;
		if (interrupt_head == NULL)
			interrupt_tail = &interrupt_head;
		if (device_io_flushes(io))
			continue;
		zio = io->io_zio;
		device_io_finish(io);
		zio_delay_interrupt(zio);
	}
	return (NULL);
}

static void
interrupt_post(device_io_t *io, int error)
{
	io->io_error = error;
	io->io_next = NULL;
	*interrupt_tail = io;
	interrupt_tail = &io->io_next;
	(void) fiber_wake_one(&interrupt_wait);
}

/* Completion of an I/O that was pending; `error` is a Linux errno. */
ZOW_EXPORT("vdev-complete") void
vdev_complete(void *token, int error)
{
	device_io_t *io = token;

	VERIFY3P(io, !=, NULL);
	VERIFY3P(io->io_self, ==, io);
	io->io_self = NULL;
	if (io->io_zio != NULL) {
		interrupt_post(io, error);
		return;
	}
	io->io_error = error;
	(void) fiber_wake_one(&io->io_over);
}

static vdev_zow_t *
vdev_zow_find(int handle)
{
	vdev_zow_t *vz = list_head(&vdev_zow_open_list);

	while (vz != NULL && vz->vz_handle != handle)
		vz = list_next(&vdev_zow_open_list, vz);
	return (vz);
}

/* As spa_async_remove(), but now: a suspended pool has no next txg. */
static void
vdev_zow_set_removed(spa_t *spa, vdev_t *vd)
{
	vd->vdev_remove_wanted = B_FALSE;
	vd->vdev_delayed_close = B_FALSE;
	vdev_set_state(vd, B_FALSE, VDEV_STATE_REMOVED, VDEV_AUX_NONE);
	vd->vdev_stat.vs_read_errors = 0;
	vd->vdev_stat.vs_write_errors = 0;
	vd->vdev_stat.vs_checksum_errors = 0;
	vdev_state_dirty(vd->vdev_top);
	zow_post_remove(spa, vd);
}

static void
vdev_zow_remove(void *arg)
{
	device_removal_t *dr = arg;
	vdev_zow_t *vz;
	spa_t *spa;

	if (spa_open(dr->dr_pool, &spa, FTAG) == 0) {
		spa_vdev_state_enter(spa, SCL_NONE);
		vz = vdev_zow_find(dr->dr_handle);
		if (vz != NULL && vz->vz_vdev->vdev_spa == spa &&
		    (vz->vz_gone || vz->vz_vdev->vdev_aux != NULL ||
		    !vdev_dtl_required(vz->vz_vdev))) {
			/* Unflushed writes are gone, if no I/O has told. */
			leaf_flush_gone(&vz->vz_flush, vz->vz_vdev,
			    B_TRUE);
			vdev_zow_set_removed(spa, vz->vz_vdev);
		}
		(void) spa_vdev_state_exit(spa, NULL, 0);
		spa_close(spa, FTAG);
	}
	free(dr);
}

/* Never blocks: a zio waits for it, or the host. */
static void
vdev_zow_request_removal(vdev_zow_t *vz)
{
	device_removal_t *dr = malloc(sizeof (*dr));

	if (dr == NULL)
		return;
	(void) strlcpy(dr->dr_pool, spa_name(vz->vz_vdev->vdev_spa),
	    sizeof (dr->dr_pool));
	dr->dr_handle = vz->vz_handle;
	if (zow_work_for(WORK_CLOSE, dr->dr_pool, "vdev_remove",
	    vdev_zow_remove, dr) != 0)
		free(dr);
}

/* The path of an open device does not lead to it any more. */
ZOW_EXPORT("vdev-unlinked") void
vdev_unlinked(int handle)
{
	vdev_zow_t *vz = vdev_zow_find(handle);

	if (vz != NULL && spa_load_state(vz->vz_vdev->vdev_spa) ==
	    SPA_LOAD_NONE)
		vdev_zow_request_removal(vz);
}

void
vdev_file_init(void)
{
	pool_flush_init();
	pool_drop_init();
	zil_close_init();
	list_create(&vdev_zow_open_list, sizeof (vdev_zow_t),
	    offsetof(vdev_zow_t, vz_node));
	if (fiber_create("vdev_intr", interrupt_fiber, NULL, 64 * 1024, 1) ==
	    NULL)
		zow_panic("no memory for the interrupt fiber");
}

void
vdev_file_fini(void)
{
}

static void
vdev_zow_hold(vdev_t *vd)
{
	ASSERT3P(vd->vdev_path, !=, NULL);
}

static void
vdev_zow_rele(vdev_t *vd)
{
	ASSERT3P(vd->vdev_path, !=, NULL);
}

static int
vdev_zow_open(vdev_t *vd, uint64_t *psize, uint64_t *max_psize,
    uint64_t *logical_ashift, ZOW_WITH_CRED(uint64_t *physical_ashift))
{
	vdev_zow_t *vz;
	device_info_t info;
	int error;

	/* We must have a pathname, and it must be absolute. */
	if (vd->vdev_path == NULL || vd->vdev_path[0] != '/') {
		vd->vdev_stat.vs_aux = VDEV_AUX_BAD_LABEL;
		return (SET_ERROR(EINVAL));
	}

	/* Reopening an open device only asks for its size. */
	vz = vd->vdev_tsd;
	if (vz == NULL) {
		int flags = spa_mode(vd->vdev_spa) & SPA_MODE_WRITE ?
		    DEVICE_WRITABLE | DEVICE_EXCLUSIVE : 0;
		int handle = fiber_io_end(zow_device_open(fiber_io_start(),
		    vd->vdev_path, strlen(vd->vdev_path), flags));

		if (handle < 0) {
			/* A spare that pools of several engines share. */
			vd->vdev_stat.vs_aux = vd->vdev_aux != NULL &&
			    handle == -EBUSY ?
			    VDEV_AUX_ACTIVE : VDEV_AUX_OPEN_FAILED;
			return (SET_ERROR(-handle));
		}
		vz = vd->vdev_tsd = kmem_zalloc(sizeof (*vz), KM_SLEEP);
		vz->vz_handle = handle;
		vz->vz_vdev = vd;
		leaf_flush_init(&vz->vz_flush);
		list_insert_tail(&vdev_zow_open_list, vz);
		if (pool_is_dropped(vd->vdev_spa))
			zow_device_drop(vz->vz_handle, vd->vdev_spa);
	} else {
		ASSERT(vd->vdev_reopening);
	}

	error = fiber_io_end(zow_device_info(fiber_io_start(), vz->vz_handle,
	    &info));
	if (error != 0) {
		vd->vdev_stat.vs_aux = VDEV_AUX_OPEN_FAILED;
		return (SET_ERROR(-error));
	}
	vd->vdev_nonrot = info.di_nonrot != 0;
	vd->vdev_has_trim = info.di_trim != 0;
	vd->vdev_has_securetrim = B_FALSE;
	*max_psize = *psize = (uint64_t)info.di_size;
	if (info.di_block) {
		*logical_ashift = info.di_logical_ashift;
		*physical_ashift = info.di_physical_ashift;
	} else {
		*logical_ashift = MAX(vdev_file_logical_ashift,
		    SPA_MINBLOCKSHIFT);
		*physical_ashift = MAX(vdev_file_physical_ashift,
		    SPA_MINBLOCKSHIFT);
	}
	return (0);
}

static void
vdev_zow_close(vdev_t *vd)
{
	vdev_zow_t *vz = vd->vdev_tsd;

	/*
	 * What can no longer work is opened anew: the path of what is gone may
	 * lead somewhere again, and a device whose flush failed refuses all.
	 */
	if (vz == NULL || (vd->vdev_reopening && !vz->vz_gone &&
	    !vz->vz_flush.lf_failed))
		return;
	ASSERT0(vz->vz_flush.lf_running);
	list_remove(&vdev_zow_open_list, vz);
	(void) fiber_io_end(zow_device_close(fiber_io_start(), vz->vz_handle));
	vd->vdev_delayed_close = B_FALSE;
	kmem_free(vz, sizeof (*vz));
	vd->vdev_tsd = NULL;
}

leaf_flush_t *
vdev_zow_flush(const vdev_t *vd)
{
	vdev_zow_t *vz = vd->vdev_tsd;

	return (vz == NULL ? NULL : &vz->vz_flush);
}

/* Whether there is a device at the path that can be read. */
boolean_t
vdev_zow_answers(const char *path)
{
	char sector[SPA_MINBLOCKSIZE];
	int handle = fiber_io_end(zow_device_open(fiber_io_start(), path,
	    strlen(path), 0));
	device_io_t io = { 0 };

	if (handle < 0)
		return (B_FALSE);
	io.io_self = &io;
	io.io_error = zow_device_read(&io, handle, sector, sizeof (sector), 0);
	if (io.io_error == IO_PENDING) {
		while (io.io_self != NULL)
			(void) fiber_wait(&io.io_over, 0);
	}
	(void) fiber_io_end(zow_device_close(fiber_io_start(), handle));
	return (io.io_error == 0);
}

void
vdev_zow_drop(const spa_t *spa)
{
	for (vdev_zow_t *vz = list_head(&vdev_zow_open_list); vz != NULL;
	    vz = list_next(&vdev_zow_open_list, vz)) {
		if (vz->vz_vdev->vdev_spa != spa)
			continue;
		zow_device_drop(vz->vz_handle, spa);
		vz->vz_flush.lf_failed = B_FALSE;
	}
}

/* Nothing is built on what a failed flush may have lost. */
static boolean_t
vdev_zow_refuses(const zio_t *zio, const vdev_zow_t *vz)
{
	return (zio->io_type != ZIO_TYPE_READ &&
	    (vz->vz_flush.lf_failed || pool_is_lost(zio->io_spa)));
}

/* Starts the I/O: 0 or -errno when it is over, IO_PENDING. */
static int
device_io_issue(device_io_t *io, int handle)
{
	zio_t *zio = io->io_zio;

	switch (zio->io_type) {
	case ZIO_TYPE_READ:
		io->io_buf = abd_borrow_buf(zio->io_abd, zio->io_size);
		return (zow_device_read(io, handle, io->io_buf, zio->io_size,
		    (double)zio->io_offset));
	case ZIO_TYPE_WRITE:
		io->io_buf = abd_borrow_buf_copy(zio->io_abd, zio->io_size);
		return (zow_device_write(io, handle, io->io_buf, zio->io_size,
		    (double)zio->io_offset));
	case ZIO_TYPE_FLUSH:
		return (zow_device_flush(io, handle));
	case ZIO_TYPE_TRIM:
		return (zow_device_trim(io, handle, (double)zio->io_offset,
		    (double)zio->io_size));
	default:
		return (-ENOTSUP);
	}
}

static void
vdev_zow_io_start(zio_t *zio)
{
	vdev_t *vd = zio->io_vd;
	vdev_zow_t *vz = vd->vdev_tsd;
	fiber_t *self = fiber_current;
	device_io_t *io;
	int error;

	if (vz == NULL) {
		zio->io_error = SET_ERROR(ENXIO);
		zio_interrupt(zio);
		return;
	}
	if (zio->io_type == ZIO_TYPE_FLUSH) {
		/* XXPOLICY */
		if (!vdev_readable(vd)) {
			zio->io_error = SET_ERROR(ENXIO);
			zio_interrupt(zio);
			return;
		}
		/* Nobody else's: a flush has no done function. */
		ASSERT0P(zio->io_done);
		zio->io_private = &vz->vz_flush;
		leaf_flush_begin(&vz->vz_flush);
		if (zfs_nocacheflush) {
			zio_interrupt(zio);
			return;
		}
	}
	if (vdev_zow_refuses(zio, vz)) {
		zio->io_error = SET_ERROR(EIO);
		zio_interrupt(zio);
		return;
	}
	if (zio->io_type == ZIO_TYPE_READ || zio->io_type == ZIO_TYPE_WRITE)
		zio->io_target_timestamp = zio_handle_io_delay(zio);

	io = calloc(1, sizeof (*io));
	VERIFY3P(io, !=, NULL);
	io->io_zio = zio;
	io->io_flush = device_io_is_sign_of_life(zio);
	error = device_io_issue(io, vz->vz_handle);
	if (error == IO_PENDING) {
		io->io_self = io;
		return;
	}
	if (self->f_io_depth > 0 || zio->io_target_timestamp != 0 ||
	    io->io_flush) {
		interrupt_post(io, -error);
		return;
	}
	io->io_error = -error;
	device_io_finish(io);
	self->f_io_depth++;
	zio_execute(zio);
	self->f_io_depth--;
}

/* Before the probe that an error starts, which is not made of a lost device. */
static void
vdev_zow_io_done(zio_t *zio)
{
	vdev_t *vd = zio->io_vd;
	vdev_zow_t *vz = vd->vdev_tsd;
	boolean_t removal;

	if (vz == NULL)
		return;
	removal = vz->vz_gone && spa_writeable(zio->io_spa) &&
	    spa_load_state(zio->io_spa) == SPA_LOAD_NONE;
	if (zio->io_type == ZIO_TYPE_FLUSH) {
		if (zio->io_private == &vz->vz_flush)
			leaf_flush_end(&vz->vz_flush, zio, removal);
	} else if (zio->io_type == ZIO_TYPE_WRITE && zio->io_error == 0) {
		/* It was under way when a flush failed: no other covers it. */
		if (vz->vz_flush.lf_failed)
			zio->io_error = SET_ERROR(EIO);
		else
			leaf_flush_written(&vz->vz_flush, zio);
	} else if (zio->io_type == ZIO_TYPE_WRITE) {
		leaf_flush_missed(&vz->vz_flush, zio);
	}
	if (vz->vz_gone)
		leaf_flush_gone(&vz->vz_flush, vd, removal);

	if (zio->io_error == 0 || !removal || vd->vdev_remove_wanted)
		return;
	vd->vdev_remove_wanted = B_TRUE;
	vdev_zow_request_removal(vz);
}

#define	VDEV_ZOW_OPS(type)						\
{									\
	.vdev_op_open = vdev_zow_open,					\
	.vdev_op_close = vdev_zow_close,				\
	ZOW_VDEV_SIZE_OPS,						\
	.vdev_op_min_asize = vdev_default_min_asize,			\
	.vdev_op_io_start = vdev_zow_io_start,				\
	.vdev_op_io_done = vdev_zow_io_done,				\
	.vdev_op_hold = vdev_zow_hold,					\
	.vdev_op_rele = vdev_zow_rele,					\
	.vdev_op_xlate = vdev_default_xlate,				\
	.vdev_op_type = type,						\
	.vdev_op_leaf = B_TRUE						\
}

vdev_ops_t vdev_file_ops = VDEV_ZOW_OPS(VDEV_TYPE_FILE);
vdev_ops_t vdev_disk_ops = VDEV_ZOW_OPS(VDEV_TYPE_DISK);

ZFS_MODULE_PARAM(zfs_vdev_file, vdev_file_, logical_ashift, UINT, ZMOD_RW,
	"Logical ashift for file-based devices");
ZFS_MODULE_PARAM(zfs_vdev_file, vdev_file_, physical_ashift, UINT, ZMOD_RW,
	"Physical ashift for file-based devices");
