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
 * Volumes: the platform half of module/zfs/zvol.c, in the place of Linux's
 * zvol_os.c. A minor is announced to the host, whose frontends open it and
 * send requests; each runs on a fiber of its own and does what a block
 * device's would: range lock, transaction, intent log.
 */

#include <sys/zfs_context.h>
#include <sys/dataset_kstats.h>
#include <sys/dbuf.h>
#include <sys/dmu_impl.h>
#include <sys/dmu_traverse.h>
#include <sys/dsl_dataset.h>
#include <sys/dsl_prop.h>
#include <sys/dsl_dir.h>
#include <sys/zap.h>
#include <sys/zfeature.h>
#include <sys/zil_impl.h>
#include <sys/dmu_tx.h>
#include <sys/zio.h>
#include <sys/zfs_rlock.h>
#include <sys/spa_impl.h>
#include <sys/zvol.h>
#include <sys/zvol_impl.h>

#include "compat.h"
#include "flush.h"
#include "seam.h"
#include "work.h"

/* Each open of a volume; the host knows it by address. */
typedef struct volume_handle {
	struct volume_handle *vh_self;		/* until it is closed */
	zvol_state_t	*vh_zv;
	spa_t		*vh_spa;	/* the open volume holds it */
	work_queue_t	*vh_queue;
	boolean_t	vh_read_only;
	uint_t		vh_requests;		/* under way */
} volume_handle_t;

/* Made with the minor, gone with it: zv_zso. */
struct zvol_state_os {
	/* txgs with a record of the log that does not only point to blocks. */
	uint64_t	zso_logged_txg[TXG_SIZE];
	/* Where the volume ends while it is made smaller: see zvol_end(). */
	uint64_t	zso_new_size;
	/* Somebody opens it first, closes it last, or has it suspended. */
	boolean_t	zso_changes;
	/* Its last client has left; what that wrote is awaited. */
	boolean_t	zso_closes;
	/* What is open, while it is suspended. */
	dsl_dataset_t	*zso_suspended;
	/* Who has it suspended, and of what it makes minors afterwards. */
	kthread_t	*zso_suspender;
	char		*zso_creates;
	/* Who marks it as being removed without its lock. */
	kthread_t	*zso_marker;
	/* It could not be opened again after that. */
	boolean_t	zso_lost;
#ifndef	TREE_ZVOL_REMOVING
	kcondvar_t	zso_removing_cv;
#endif
};

typedef enum volume_op {
	VOLUME_READ = 0,
	VOLUME_WRITE = 1,
	VOLUME_FLUSH = 2,
	VOLUME_TRIM = 3,
	VOLUME_ZERO = 4,
	VOLUME_CLOSE = 5,
	VOLUME_OPEN = 6,
	VOLUME_STATUS = 7,
	VOLUME_REVEAL = 8,
	VOLUME_COMPARE = 9,
	VOLUME_OR = 10,
	VOLUME_VERIFY = 11
} volume_op_t;

#define	REVEAL_TRIES	100

#define	VOLUME_FUA	1
#define	VOLUME_ALLOCATE	2	/* VOLUME_ZERO: keep the space */

typedef struct volume_request {
	int		vr_id;
	volume_op_t	vr_op;
	volume_handle_t	*vr_handle;
	char		*vr_name;	/* VOLUME_OPEN, VOLUME_REVEAL */
	char		*vr_buf;	/* VOLUME_COMPARE: old, then new */
	uint64_t	vr_offset;
	uint64_t	vr_length;
	int		vr_flags;
	uint64_t	vr_differs;	/* where from the disk, plus one */
	list_node_t	vr_commit;	/* in volume_commits */
	boolean_t	vr_answered;	/* before it is over */
} volume_request_t;

/* Requests that wait for the intent log. */
static list_t volume_commits;
/* Who closes a handle waits for requests that were answered before. */
static kmutex_t volume_over_lock;
static kcondvar_t volume_over_cv;

boolean_t
zvol_os_is_zvol(const char *path)
{
	(void) path;
	return (B_FALSE);
}

/*
 * A block that dmu_sync() has written already, for an earlier record of the
 * same txg: has this record point there, too. EAGAIN: the block has changed
 * since.
 */
static int
zvol_get_synced(zvol_state_t *zv, lr_write_t *lr, struct lwb *lwb)
{
	uint64_t bs = zv->zv_volblocksize;
	uint64_t offset = P2ALIGN_TYPED(lr->lr_offset, bs, uint64_t);
	zfs_locked_range_t *range;
	dbuf_dirty_record_t *dr;
	dmu_buf_impl_t *db;
	dmu_buf_t *buf;
	int error;

	ASSERT3U(lr->lr_length, <=, bs);
	ASSERT3P(lwb, !=, NULL);
	range = zfs_rangelock_enter(&zv->zv_rangelock, offset, bs, RL_READER);
	error = zow_hold_noread(zv, offset, FTAG, &buf);
	if (error != 0) {
		zfs_rangelock_exit(range);
		return (error);
	}
	db = (dmu_buf_impl_t *)buf;
	mutex_enter(&db->db_mtx);
	while ((dr = dbuf_find_dirty_eq(db, lr->lr_common.lrc_txg)) != NULL &&
	    dr->dt.dl.dr_override_state == DR_IN_DMU_SYNC)
		cv_wait(&db->db_changed, &db->db_mtx);
	if (dr != NULL && dr->dt.dl.dr_override_state == DR_OVERRIDDEN) {
		lr->lr_blkptr = dr->dt.dl.dr_overridden_by;
		/* Replay learns from it how much is zero: dmu_sync_ready(). */
		if (BP_IS_HOLE(&lr->lr_blkptr))
			BP_SET_LSIZE(&lr->lr_blkptr, bs);
	} else {
		error = SET_ERROR(EAGAIN);
	}
	mutex_exit(&db->db_mtx);
	dmu_buf_rele(buf, FTAG);
	zfs_rangelock_exit(range);
	if (error == 0)
		zil_lwb_add_block(lwb, &lr->lr_blkptr);
	return (error);
}

/*
 * As zvol_get_data(), whose EALREADY means that the record is left out of the
 * log: its block is there for an earlier one, and has the data of both. That
 * loses them where a record between the two changes the block when it is
 * replayed: one that has a copy of older data, or frees the block.
 */
static int
zvol_os_get_data(void *arg, uint64_t arg2, lr_write_t *lr, char *buf,
    struct lwb *lwb, zio_t *zio)
{
	zvol_state_t *zv = arg;
	uint64_t txg = lr->lr_common.lrc_txg;
	int error;

	ASSERT3P(zv->zv_zso, !=, NULL);
	do {
		error = zvol_get_data(arg, arg2, lr, buf, lwb, zio);
		if (error == EALREADY &&
		    zv->zv_zso->zso_logged_txg[txg & TXG_MASK] == txg)
			error = zvol_get_synced(zv, lr, lwb);
	} while (error == EAGAIN);
	return (error);
}

/* Enters zv_suspend_lock as reader. */
static int
zvol_enter(zvol_state_t *zv)
{
	rw_enter(&zv->zv_suspend_lock, RW_READER);
	if (!zv->zv_zso->zso_lost) {
		ASSERT3U(zv->zv_open_count, >, 0);
		ASSERT3P(zv->zv_dn, !=, NULL);
		return (0);
	}
	rw_exit(&zv->zv_suspend_lock);
	return (SET_ERROR(EIO));
}

/*
 * And with the intent log open.  As reader only: the lock is left by whichever
 * fiber finishes the request.
 */
static int
zvol_enter_for_write(zvol_state_t *zv)
{
	for (;;) {
		int error = zvol_enter(zv);

		if (error != 0 || zv->zv_zilog != NULL)
			return (error);
		rw_exit(&zv->zv_suspend_lock);
		rw_enter(&zv->zv_suspend_lock, RW_WRITER);
		if (zv->zv_zilog == NULL && !zv->zv_zso->zso_lost) {
			ASSERT3P(zv->zv_objset, !=, NULL);
			zv->zv_zilog = zow_zil_open(zv->zv_objset,
			    zvol_os_get_data, &zv->zv_kstat);
			zv->zv_flags |= ZVOL_WRITTEN_TO;
			/* replay / destroy done in zvol_os_create_minor() */
			VERIFY0(zv->zv_zilog->zl_header->zh_flags &
			    ZIL_REPLAY_NEEDED);
		}
		rw_exit(&zv->zv_suspend_lock);
	}
}

/* Where requests have to end. */
static uint64_t
zvol_end(zvol_state_t *zv)
{
	ASSERT3P(zv->zv_zso, !=, NULL);
	return (MIN(zv->zv_volsize, zv->zv_zso->zso_new_size));
}

static int
zvol_read(zvol_state_t *zv, char *buf, uint64_t offset, uint64_t length)
{
	zfs_locked_range_t *lr;
	uint64_t done = 0;
	int error = zvol_enter(zv);

	ASSERT3U(length, >, 0);
	if (error != 0)
		return (error);
	lr = zfs_rangelock_enter(&zv->zv_rangelock, offset, length,
	    RL_READER);
	while (done < length && error == 0) {
		uint64_t bytes = MIN(length - done, DMU_MAX_ACCESS >> 1);

		error = zow_dmu_read(zv->zv_dn, offset + done, bytes,
		    buf + done);
		if (error == 0)
			done += bytes;
	}
	zfs_rangelock_exit(lr);
	dataset_kstats_update_read_kstats(&zv->zv_kstat, done);
	rw_exit(&zv->zv_suspend_lock);
	/* convert checksum errors into IO errors */
	return (error == ECKSUM ? SET_ERROR(EIO) : error);
}

/*
 * Logs a write. Upstream's zvol_log_write() leaves the data of all but the
 * smallest to be copied when the log is written, and then what does not fit
 * into a log block is cut at any eight bytes, the rest going into the next
 * one. A power cut in between, and replay makes a block of half a sector. So
 * what could be cut (what is larger than the space the log is willing to waste
 * at the end of a block) is copied into the record at once: such a record is
 * in one block or in none, and must fit into the largest block that the log
 * uses (zil_maxblocksize). Blocks that the log only points to are whole.
 */
#define	ZVOL_LOG_SMALL	7680		/* zil_maxcopied */
#define	ZVOL_LOG_PIECE	(16 * 1024)	/* the default volblocksize */

/* The largest write that is never cut: as zil_lwb_assign(). */
static uint64_t
zvol_log_small(zilog_t *zilog)
{
	uint64_t waste = zow_zil_max_write(zilog) / 16;

	return (waste <= sizeof (lr_write_t) ? 0 :
	    MIN(ZVOL_LOG_SMALL, waste - sizeof (lr_write_t)));
}

/* Bytes of a copied record: whole sectors of 4 KiB, or 512 in small blocks. */
static uint64_t
zvol_log_piece(zilog_t *zilog)
{
	uint64_t room = zow_zil_max_write(zilog);

	return (MIN(ZVOL_LOG_PIECE, P2ALIGN_TYPED(room,
	    room >= 4096 ? 4096 : SPA_MINBLOCKSIZE, uint64_t)));
}

/* Whether the log will point to the blocks of a write: as zvol_log_write(). */
static boolean_t
zvol_log_indirect(zvol_state_t *zv, uint64_t size, boolean_t sync)
{
#ifdef	TREE_ZIL_WRITE_STATE
	return (zil_write_state(zv->zv_zilog, size, zv->zv_volblocksize,
	    B_FALSE, sync) == WR_INDIRECT);
#else
	const uint64_t zvol_immediate_write_sz = 32768;

	(void) sync;
	return (zv->zv_zilog->zl_logbias == ZFS_LOGBIAS_THROUGHPUT ||
	    (!spa_has_slogs(zv->zv_zilog->zl_spa) &&
	    size >= zv->zv_volblocksize &&
	    zv->zv_volblocksize > zvol_immediate_write_sz));
#endif
}

/* For zvol_os_get_data(). */
static void
zvol_log_mark(zvol_state_t *zv, dmu_tx_t *tx)
{
	zv->zv_zso->zso_logged_txg[tx->tx_txg & TXG_MASK] = tx->tx_txg;
}

static void
zvol_log_copied(zvol_state_t *zv, dmu_tx_t *tx, uint64_t offset,
    uint64_t size, const char *buf)
{
	itx_t *itx = zil_itx_create(TX_WRITE, sizeof (lr_write_t) + size);
	lr_write_t *lr = (lr_write_t *)&itx->itx_lr;

	ASSERT3U(size, >, 0);
	ASSERT3U(size, <=, zvol_log_piece(zv->zv_zilog));
	itx->itx_wr_state = WR_COPIED;
	itx->itx_private = zv;
	lr->lr_foid = ZVOL_OBJ;
	lr->lr_offset = offset;
	lr->lr_length = size;
	lr->lr_blkoff = 0;
	BP_ZERO(&lr->lr_blkptr);
	memcpy(lr + 1, buf, size);
	dsl_pool_wrlog_count(zv->zv_zilog->zl_dmu_pool, itx->itx_size,
	    tx->tx_txg);
	zil_itx_assign(zv->zv_zilog, itx, tx);
}

static void
zvol_log(zvol_state_t *zv, dmu_tx_t *tx, uint64_t offset, uint64_t size,
    const char *buf, boolean_t sync)
{
	uint64_t piece = zvol_log_piece(zv->zv_zilog);
	boolean_t indirect = zvol_log_indirect(zv, size, sync);

	ASSERT3U(piece, >, 0);
	/* Or with sync=disabled. */
	if (zil_replaying(zv->zv_zilog, tx))
		return;
	if (!indirect)
		zvol_log_mark(zv, tx);
	if (indirect || size <= zvol_log_small(zv->zv_zilog)) {
		zvol_log_write(zv, tx, offset, size, sync);
		return;
	}
	for (uint64_t done = 0; done < size; ) {
		uint64_t bytes = MIN(size - done,
		    piece - (offset + done) % piece);

		zvol_log_copied(zv, tx, offset + done, bytes, buf + done);
		done += bytes;
	}
}

/*
 * Makes durable what the volume was told before. While the pool is suspended
 * that takes until it is resumed; with failmode=continue the client is told
 * EIO then, and what it waited for goes on.
 */
static int
zvol_commit(zvol_state_t *zv, volume_request_t *vr)
{
	spa_t *spa = vr->vr_handle->vh_spa;
	int error;

	if (spa_get_failmode(spa) == ZIO_FAILURE_MODE_CONTINUE &&
	    spa_suspended(spa))
		return (SET_ERROR(EIO));
	list_insert_tail(&volume_commits, vr);
	error = zow_zil_commit(zv->zv_zilog, ZVOL_OBJ);
	list_remove(&volume_commits, vr);
	return (error);
}

void
zvol_fail_commits(const spa_t *spa)
{
	for (volume_request_t *vr = list_head(&volume_commits); vr != NULL;
	    vr = list_next(&volume_commits, vr)) {
		volume_handle_t *vh = vr->vr_handle;

		if (vh->vh_spa != spa || vr->vr_answered)
			continue;
		vr->vr_answered = B_TRUE;
		/* Others may have its fiber's place. */
		zow_work_park(vh->vh_queue);
		zow_volume_done(vr->vr_id, EIO, NULL);
	}
}

/* The range is locked. */
static int
zvol_write_locked(zvol_state_t *zv, const char *buf, uint64_t offset,
    uint64_t length, boolean_t sync)
{
	uint64_t done = 0;
	int error = 0;

	ASSERT3U(length, >, 0);
	ASSERT3U(zv->zv_open_count, >, 0);
	ASSERT3P(zv->zv_zilog, !=, NULL);
	while (done < length) {
		uint64_t bytes = MIN(length - done, DMU_MAX_ACCESS >> 1);
		dmu_tx_t *tx;

		/* It may have shrunk since the request was checked. */
		if (offset + done + bytes > zvol_end(zv)) {
			error = SET_ERROR(ENOSPC);
			break;
		}
		tx = dmu_tx_create(zv->zv_objset);

		dmu_tx_hold_write_by_dnode(tx, zv->zv_dn, offset + done,
		    bytes);
		/* This will only fail for ENOSPC */
		error = dmu_tx_assign(tx, DMU_TX_WAIT);
		if (error != 0) {
			dmu_tx_abort(tx);
			break;
		}
		error = zow_dmu_write(zv->zv_dn, offset + done, bytes,
		    buf + done, tx);
		if (error == 0)
			zvol_log(zv, tx, offset + done, bytes,
			    buf + done, sync);
		dmu_tx_commit(tx);
		if (error != 0)
			break;
		done += bytes;
	}
	dataset_kstats_update_write_kstats(&zv->zv_kstat, done);
	return (error);
}

#define	ZVOL_MERGE_PIECE	(128 * 1024)

/*
 * Reads the range, which is locked, piece by piece. The request's bytes are
 * compared, or, for VOLUME_OR, get the bits that are set on the disk.
 */
static int
zvol_merge_locked(zvol_state_t *zv, volume_request_t *vr)
{
	size_t room = MIN(vr->vr_length, ZVOL_MERGE_PIECE);
	char *piece = vmem_alloc(room, KM_SLEEP);
	int error = 0;

	ASSERT0(vr->vr_differs);
	for (uint64_t done = 0; done < vr->vr_length && vr->vr_differs == 0; ) {
		uint64_t bytes = MIN(vr->vr_length - done, room);
		char *other = vr->vr_buf + done;

		error = zow_dmu_read(zv->zv_dn, vr->vr_offset + done, bytes,
		    piece);
		if (error != 0)
			break;
		for (uint64_t i = 0; i < bytes; i++) {
			if (vr->vr_op == VOLUME_OR) {
				other[i] |= piece[i];
			} else if (other[i] != piece[i]) {
				vr->vr_differs = done + i + 1;
				break;
			}
		}
		done += bytes;
	}
	vmem_free(piece, room);
	return (error == ECKSUM ? SET_ERROR(EIO) : error);
}

/* Whether the volume has these bytes. */
static int
zvol_verify(zvol_state_t *zv, volume_request_t *vr)
{
	zfs_locked_range_t *lr;
	int error = zvol_enter(zv);

	if (error != 0)
		return (error);
	lr = zfs_rangelock_enter(&zv->zv_rangelock, vr->vr_offset,
	    vr->vr_length, RL_READER);
	error = zvol_merge_locked(zv, vr);
	zfs_rangelock_exit(lr);
	rw_exit(&zv->zv_suspend_lock);
	return (error);
}

/*
 * SCSI's COMPARE AND WRITE and ORWRITE read first: that and the write are one
 * step for everybody else.
 */
static int
zvol_write(zvol_state_t *zv, const char *buf, uint64_t offset, uint64_t length,
    boolean_t fua, volume_request_t *vr)
{
	zfs_locked_range_t *lr;
	boolean_t sync;
	int error = zvol_enter_for_write(zv);

	if (error != 0)
		return (error);
	sync = fua || zv->zv_objset->os_sync == ZFS_SYNC_ALWAYS;
	lr = zfs_rangelock_enter(&zv->zv_rangelock, offset, length,
	    RL_WRITER);
	if (vr->vr_op == VOLUME_COMPARE || vr->vr_op == VOLUME_OR)
		error = zvol_merge_locked(zv, vr);
	if (error == 0 && vr->vr_differs == 0)
		error = zvol_write_locked(zv, buf, offset, length, sync);
	zfs_rangelock_exit(lr);
	if (error == 0 && vr->vr_differs == 0 && sync)
		error = zvol_commit(zv, vr);
	rw_exit(&zv->zv_suspend_lock);
	return (error);
}

static int
zvol_flush(zvol_state_t *zv, volume_request_t *vr)
{
	int error = zvol_enter(zv);

	if (error != 0)
		return (error);
	/* Without an open log nothing was written since the last close. */
	if (zv->zv_zilog != NULL)
		error = zvol_commit(zv, vr);
	rw_exit(&zv->zv_suspend_lock);
	return (error);
}

/*
 * Frees the whole blocks of the range, like zvol_discard() of Linux, but logs
 * that afterwards. A record in an earlier txg than the last of the blocks is
 * not replayed once that txg is synced, and then the blocks come back, though
 * a flush was acknowledged.
 */
static int
zvol_free_blocks(zvol_state_t *zv, uint64_t start, uint64_t end)
{
	zfs_locked_range_t *lr;
	dmu_tx_t *tx;
	int error;

	ASSERT3U(start, <, end);
	ASSERT0(start % zv->zv_volblocksize);
	ASSERT0(end % zv->zv_volblocksize);
	lr = zfs_rangelock_enter(&zv->zv_rangelock, start, end - start,
	    RL_WRITER);
	if (end > zvol_end(zv))
		error = SET_ERROR(EINVAL);
	else
		error = dmu_free_long_range(zv->zv_objset, ZVOL_OBJ, start,
		    end - start);
	if (error == 0) {
		tx = dmu_tx_create(zv->zv_objset);
		dmu_tx_mark_netfree(tx);
		error = dmu_tx_assign(tx, DMU_TX_WAIT);
		if (error != 0) {
			dmu_tx_abort(tx);
		} else {
			zvol_log_mark(zv, tx);
			zow_log_truncate(zv, tx, start, end - start);
			dmu_tx_commit(tx);
		}
	}
	zfs_rangelock_exit(lr);
	return (error);
}

static int
zvol_trim(zvol_state_t *zv, uint64_t offset, uint64_t length, boolean_t fua,
    volume_request_t *vr)
{
	uint64_t start = P2ROUNDUP(offset, zv->zv_volblocksize);
	uint64_t end = P2ALIGN_TYPED(offset + length, zv->zv_volblocksize,
	    uint64_t);
	int error = zvol_enter_for_write(zv);

	if (error != 0)
		return (error);
	if (start < end)
		error = zvol_free_blocks(zv, start, end);
	if (error == 0 && (fua || zv->zv_objset->os_sync == ZFS_SYNC_ALWAYS))
		error = zvol_commit(zv, vr);
	rw_exit(&zv->zv_suspend_lock);
	return (error);
}

/* Zeroes: written at the ragged ends, and where space is to be kept. */
static int
zvol_zero(zvol_state_t *zv, uint64_t offset, uint64_t length, int flags,
    volume_request_t *vr)
{
	static const char zeroes[128 * 1024];
	uint64_t bs = zv->zv_volblocksize;
	uint64_t end = offset + length;
	uint64_t start = P2ROUNDUP(offset, bs);
	uint64_t stop = P2ALIGN_TYPED(end, bs, uint64_t);
	boolean_t fua = (flags & VOLUME_FUA) != 0;
	int error = 0;

	ASSERT3U(length, >, 0);
	if ((flags & VOLUME_ALLOCATE) != 0 || start >= stop)
		start = stop = end;
	for (uint64_t at = offset; at < end && error == 0; ) {
		uint64_t bytes;

		if (at == start && start < stop) {
			error = zvol_trim(zv, start, stop - start, fua,
			    vr);
			/* What is beyond the end has no room for zeroes. */
			if (error == EINVAL)
				error = SET_ERROR(ENOSPC);
			at = stop;
			continue;
		}
		bytes = MIN((at < start ? start : end) - at, sizeof (zeroes));
		error = zvol_write(zv, zeroes, at, bytes, B_FALSE, vr);
		at += bytes;
	}
	if (error == 0 && fua)
		error = zvol_flush(zv, vr);
	return (error);
}

/*
 * What is allocated from `offset` on: lengths of data and hole in turn, data
 * first, as doubles at `lengths`, until `max` of them or the end of the range;
 * the list ends with a negative one.  A volume with writes under way waits for
 * its transaction group, as lseek(SEEK_HOLE) does upstream.
 */
static int
zvol_status(zvol_state_t *zv, uint64_t offset, uint64_t length,
    double *lengths, size_t max)
{
	uint64_t end = offset + length;
	boolean_t hole = B_FALSE;
	size_t n = 0;
	int error = zvol_enter(zv);

	ASSERT3U(max, >, 1);
	if (error != 0)
		return (error);
	while (offset < end && n < max - 1) {
		uint64_t next = offset;

		error = dmu_offset_next(zv->zv_objset, ZVOL_OBJ, !hole, &next);
		if (error == EBUSY) {
			/* It cannot be known now: data is always right. */
			next = hole ? offset : end;
			error = 0;
		} else if (error == ESRCH) {
			next = end;
			error = 0;
		} else if (error != 0) {
			break;
		}
		next = MAX(MIN(next, end), offset);
		lengths[n++] = (double)(next - offset);
		offset = next;
		hole = !hole;
	}
	lengths[n] = -1;
	rw_exit(&zv->zv_suspend_lock);
	return (error);
}

/*
 * Open and close.
 *
 * Both read and write the pool, and so does who suspends a volume for a
 * rollback or a receive: where the pool does not answer they wait until it is
 * cleared.  Upstream does so with the locks of the minor, and for an open with
 * the namespace: whoever looks through all minors then waits too, and so does
 * everybody, `zpool clear` included.  Here a minor is marked as being changed.
 * Who wants to change it waits for that, with no lock held.
 */
static zvol_state_t *
zvol_lookup(const char *name)
{
	uint64_t hash = zvol_name_hash(name);
	struct hlist_node *p;

	ASSERT(RW_LOCK_HELD(&zvol_state_lock));
	hlist_for_each(p, ZVOL_HT_HEAD(hash)) {
		zvol_state_t *zv = hlist_entry(p, zvol_state_t, zv_hlink);

		if (zv->zv_hash == hash && strcmp(zv->zv_name, name) == 0)
			return (zv);
	}
	return (NULL);
}

/* The minor of that name stays until zvol_leave(). */
static int
zvol_visit(const char *name, zvol_state_t **zvp)
{
	zvol_state_t *zv;
	int error = 0;

	rw_enter(&zvol_state_lock, RW_READER);
	zv = zvol_lookup(name);
	if (zv == NULL) {
		rw_exit(&zvol_state_lock);
		return (SET_ERROR(ENOENT));
	}
	mutex_enter(&zv->zv_state_lock);
	if (zow_is_removing(zv))
		error = SET_ERROR(ENXIO);
	else
		atomic_inc(&zv->zv_suspend_ref);
	mutex_exit(&zv->zv_state_lock);
	rw_exit(&zvol_state_lock);
	*zvp = zv;
	return (error);
}

static void
zvol_leave(zvol_state_t *zv)
{
	mutex_enter(&zv->zv_state_lock);
	atomic_dec(&zv->zv_suspend_ref);
	cv_broadcast(zow_removing_cv(zv));
	mutex_exit(&zv->zv_state_lock);
}

static void
zvol_change_begin(zvol_state_t *zv)
{
	ASSERT(MUTEX_HELD(&zv->zv_state_lock));
	while (zv->zv_zso->zso_changes)
		cv_wait(zow_removing_cv(zv), &zv->zv_state_lock);
	zv->zv_zso->zso_changes = B_TRUE;
}

static void
zvol_change_end(zvol_state_t *zv)
{
	ASSERT(MUTEX_HELD(&zv->zv_state_lock));
	ASSERT(zv->zv_zso->zso_changes);
	zv->zv_zso->zso_changes = B_FALSE;
	cv_broadcast(zow_removing_cv(zv));
}

/* Reads of an objset that is owned what its requests need. */
static int
zvol_setup(zvol_state_t *zv, objset_t *os)
{
	dsl_pool_t *dp = dmu_objset_pool(os);
	uint64_t read_only, volsize;
	dnode_t *dn;
	int error;

	ASSERT(zv->zv_zso->zso_changes);
	dsl_pool_config_enter(dp, FTAG);
	error = dsl_prop_get_int_ds(dmu_objset_ds(os),
	    zfs_prop_to_name(ZFS_PROP_READONLY), &read_only);
	dsl_pool_config_exit(dp, FTAG);
	if (error == 0)
		error = zap_lookup(os, ZVOL_ZAP_OBJ, "size", 8, 1, &volsize);
	if (error == 0)
		error = dnode_hold(os, ZVOL_OBJ, zv, &dn);
	if (error != 0)
		return (error);
	mutex_enter(&zv->zv_state_lock);
	zv->zv_objset = os;
	zv->zv_dn = dn;
	zv->zv_zilog = NULL;
	zv->zv_volsize = volsize;
	zv->zv_flags &= ~(ZVOL_WRITTEN_TO | ZVOL_RDONLY);
	if (read_only != 0 || dmu_objset_is_snapshot(os) ||
	    !spa_writeable(dmu_objset_spa(os)))
		zv->zv_flags |= ZVOL_RDONLY;
	zvol_os_set_capacity(zv, volsize >> SPA_MINBLOCKSHIFT);
	zvol_os_set_disk_ro(zv, (zv->zv_flags & ZVOL_RDONLY) != 0);
	mutex_exit(&zv->zv_state_lock);
	return (0);
}

/*
 * All that was written is on disk then, and nothing of it is cached.  No
 * request is under way.
 */
static void
zvol_settle(zvol_state_t *zv)
{
	objset_t *os = zv->zv_objset;
	boolean_t written = (zv->zv_flags & ZVOL_WRITTEN_TO) != 0;

	ASSERT(zv->zv_zso->zso_changes);
	if (written) {
		zilog_t *zilog = zv->zv_zilog;

		/* It has nothing left to commit then, see zil_wait.c. */
		(void) zow_zil_commit(zilog, 0);
		if (zilog->zl_dirty_max_txg != 0)
			txg_wait_synced(dmu_objset_pool(os),
			    zilog->zl_dirty_max_txg);
		zow_zil_close(zilog);
	}
	zv->zv_zilog = NULL;
	dnode_rele(zv->zv_dn, zv);
	zv->zv_dn = NULL;
	if (written)
		txg_wait_synced(dmu_objset_pool(os), 0);
	(void) dmu_objset_evict_dbufs(os);
}

static int
zvol_acquire(zvol_state_t *zv, const char *name, boolean_t read_only)
{
	boolean_t is_snapshot = strchr(name, '@') != NULL;
	objset_t *os;
	int error = dmu_objset_own(name, DMU_OST_ZVOL,
	    read_only || is_snapshot, B_TRUE, zv, &os);

	if (error != 0)
		return (error);
	error = zvol_setup(zv, os);
	if (error != 0)
		dmu_objset_disown(os, B_TRUE, zv);
	return (error);
}

/* Leaves the state lock meanwhile: the minor is being changed. */
static void
zvol_give_back(zvol_state_t *zv)
{
	struct zvol_state_os *zso = zv->zv_zso;

	ASSERT(MUTEX_HELD(&zv->zv_state_lock));
	ASSERT(zso->zso_changes);
	mutex_exit(&zv->zv_state_lock);
	if (zso->zso_lost) {
		dsl_dataset_disown(zso->zso_suspended, DS_HOLD_FLAG_DECRYPT,
		    zv);
		zso->zso_suspended = NULL;
		zso->zso_lost = B_FALSE;
	} else {
		zvol_settle(zv);
		dmu_objset_disown(zv->zv_objset, B_TRUE, zv);
		zv->zv_objset = NULL;
	}
	mutex_enter(&zv->zv_state_lock);
}

static int
zvol_open_minor(const char *name, boolean_t read_only, zvol_state_t **zvp,
    spa_t **spap)
{
	zvol_state_t *zv;
	int error = zvol_visit(name, &zv);

	if (error != 0)
		return (error);
	mutex_enter(&zv->zv_state_lock);
	zvol_change_begin(zv);
	if (zv->zv_open_count == 0 && !zow_is_removing(zv)) {
		mutex_exit(&zv->zv_state_lock);
		error = zvol_acquire(zv, name, read_only);
		mutex_enter(&zv->zv_state_lock);
	}
	if (error == 0) {
		boolean_t is_open = zv->zv_objset != NULL;

		if (zow_is_removing(zv))
			error = SET_ERROR(ENXIO);
		else if (zv->zv_zso->zso_lost ||
		    pool_is_dropped(dmu_objset_spa(zv->zv_objset)))
			error = SET_ERROR(EIO);
		else if (!read_only && (zv->zv_flags & ZVOL_RDONLY))
			error = SET_ERROR(EROFS);
		else
			zv->zv_open_count++;
		if (error == 0)
			*spap = dmu_objset_spa(zv->zv_objset);
		if (zv->zv_open_count == 0 && is_open)
			zvol_give_back(zv);
	}
	zvol_change_end(zv);
	mutex_exit(&zv->zv_state_lock);
	zvol_leave(zv);
	*zvp = zv;
	return (error);
}

static int
zvol_open(const char *name, boolean_t read_only, volume_handle_t **handlep)
{
	volume_handle_t *vh;
	work_queue_t *queue = zow_work_queue(WORK_VOLUME, name);
	zvol_state_t *zv;
	spa_t *spa;
	int error = 0;

	if (queue == NULL)
		return (SET_ERROR(ENOMEM));
	/*
	 * Whose devices were dropped is about to leave, and nobody comes in.
	 * One that leaves is waited for.
	 */
	spa_namespace_enter(FTAG);
	spa = spa_lookup(name);
	if (spa == NULL)
		error = SET_ERROR(ENOENT);
	else if (pool_is_dropped(spa))
		error = SET_ERROR(EIO);
	spa_namespace_exit(FTAG);
	if (error == 0)
		error = zvol_open_minor(name, read_only, &zv, &spa);
	if (error != 0) {
		zow_work_queue_rele(queue);
		return (error);
	}
	vh = kmem_zalloc(sizeof (*vh), KM_SLEEP);
	vh->vh_self = vh;
	vh->vh_zv = zv;
	vh->vh_spa = spa;
	vh->vh_queue = queue;
	vh->vh_read_only = read_only;
	*handlep = vh;
	return (0);
}

static int
zvol_release(volume_handle_t *vh)
{
	zvol_state_t *zv = vh->vh_zv;

	VERIFY3P(vh->vh_self, ==, vh);
	mutex_enter(&volume_over_lock);
	while (vh->vh_requests > 0)
		cv_wait(&volume_over_cv, &volume_over_lock);
	mutex_exit(&volume_over_lock);
	vh->vh_self = NULL;
	mutex_enter(&zv->zv_state_lock);
	zvol_change_begin(zv);
	ASSERT3U(zv->zv_open_count, >, 0);
	if (zv->zv_open_count == 1) {
		zv->zv_zso->zso_closes = B_TRUE;
		zvol_give_back(zv);
		zv->zv_zso->zso_closes = B_FALSE;
	}
	zv->zv_open_count--;
	zvol_change_end(zv);
	mutex_exit(&zv->zv_state_lock);
	zow_work_queue_rele(vh->vh_queue);
	kmem_free(vh, sizeof (*vh));
	return (0);
}

/* Keeps requests, opens and closes away, for a rollback or a receive. */
static int
zvol_suspend_minor(const char *name, zvol_state_t **zvp)
{
	zvol_state_t *zv;
	int error = zvol_visit(name, &zv);

	if (error != 0)
		return (error);
	mutex_enter(&zv->zv_state_lock);
	zvol_change_begin(zv);
	mutex_exit(&zv->zv_state_lock);
	rw_enter(&zv->zv_suspend_lock, RW_WRITER);
	if (zv->zv_open_count > 0 && !zv->zv_zso->zso_lost) {
		zv->zv_zso->zso_suspended = dmu_objset_ds(zv->zv_objset);
		zvol_settle(zv);
	}
	zv->zv_zso->zso_suspender = curthread;
	*zvp = zv;
	return (0);
}

#ifdef	TREE_ZVOL_SUSPEND_INT
extern int __wrap_zvol_suspend(const char *, zvol_state_t **);

int
__wrap_zvol_suspend(const char *name, zvol_state_t **zvp)
{
	int error = zvol_suspend_minor(name, zvp);

	return (error == ENXIO ? SET_ERROR(EIO) : error);
}
#else
extern zvol_state_t *__wrap_zvol_suspend(const char *);

zvol_state_t *
__wrap_zvol_suspend(const char *name)
{
	zvol_state_t *zv;

	return (zvol_suspend_minor(name, &zv) == 0 ? zv : NULL);
}
#endif

extern int __wrap_zvol_resume(zvol_state_t *);

int
__wrap_zvol_resume(zvol_state_t *zv)
{
	struct zvol_state_os *zso = zv->zv_zso;
	char *creates = zso->zso_creates;
	int error = 0;

	ASSERT(RW_WRITE_HELD(&zv->zv_suspend_lock));
	zso->zso_suspender = NULL;
	zso->zso_creates = NULL;
	if (zv->zv_open_count > 0 && !zso->zso_lost) {
		dsl_dataset_t *ds = zso->zso_suspended;
		dsl_pool_t *dp = ds->ds_dir->dd_pool;
		objset_t *os;

		VERIFY3P(ds->ds_owner, ==, zv);
		dsl_pool_config_enter(dp, FTAG);
		error = dmu_objset_from_ds(ds, &os);
		dsl_pool_config_exit(dp, FTAG);
		if (error == 0)
			error = zvol_setup(zv, os);
		if (error == 0) {
			zso->zso_suspended = NULL;
		} else {
			/* Upstream panics, or goes on without a dnode. */
			zso->zso_lost = B_TRUE;
			zv->zv_objset = NULL;
		}
	}
	rw_exit(&zv->zv_suspend_lock);
	mutex_enter(&zv->zv_state_lock);
	zvol_change_end(zv);
	mutex_exit(&zv->zv_state_lock);
	zvol_leave(zv);
	if (creates != NULL) {
		zvol_create_minors(creates);
		kmem_strfree(creates);
	}
	return (error);
}

extern int __real_zvol_get_stats(objset_t *, nvlist_t *);
extern int __wrap_zvol_get_stats(objset_t *, nvlist_t *);

/*
 * Who asks for them takes any error but EIO for impossible: ENXIO of disks that
 * are gone, ENOENT of a volume that was received without its size.
 */
int
__wrap_zvol_get_stats(objset_t *os, nvlist_t *nv)
{
	return (__real_zvol_get_stats(os, nv) == 0 ? 0 : SET_ERROR(EIO));
}

extern void __real_zvol_create_minors(const char *);
extern void __wrap_zvol_create_minors(const char *);

/*
 * Upstream's receive waits here for the one task of its pool that makes and
 * removes minors, with the volume suspended: that task may be removing it, and
 * wait for it. The minor of the snapshot is made when it is resumed.
 */
void
__wrap_zvol_create_minors(const char *name)
{
	char volume[ZFS_MAX_DATASET_NAME_LEN];
	zvol_state_t *zv;
	boolean_t later;

	(void) strlcpy(volume, name, sizeof (volume));
	volume[strcspn(volume, "@")] = '\0';
	rw_enter(&zvol_state_lock, RW_READER);
	zv = zvol_lookup(volume);
	later = zv != NULL && zv->zv_zso->zso_suspender == curthread;
	if (later) {
		ASSERT0P(zv->zv_zso->zso_creates);
		zv->zv_zso->zso_creates = kmem_strdup(name);
	}
	rw_exit(&zvol_state_lock);
	if (!later)
		__real_zvol_create_minors(name);
}

/*
 * zvol.c is compiled with rw_enter() and rw_exit() under these names. Where it
 * marks minors as being removed it waits for the lock of each with that of the
 * list: for a request that its pool, suspended, does not answer, and so does
 * whoever looks for a volume then, of any pool. The mark needs no lock here: a
 * minor is not removed before it is closed and resumed.
 */
extern void libzpool_rw_enter(krwlock_t *, krw_t);
extern void libzpool_rw_exit(krwlock_t *);

static zvol_state_t *
zvol_of_lock(krwlock_t *rwl)
{
	return ((zvol_state_t *)((char *)rwl -
	    offsetof(zvol_state_t, zv_suspend_lock)));
}

void
libzpool_rw_enter(krwlock_t *rwl, krw_t rw)
{
	if (rwl == &zvol_state_lock || rw != RW_WRITER ||
	    !RW_READ_HELD(&zvol_state_lock))
		rw_enter(rwl, rw);
	else if (!rw_tryenter(rwl, rw))
		zvol_of_lock(rwl)->zv_zso->zso_marker = curthread;
}

void
libzpool_rw_exit(krwlock_t *rwl)
{
	if (rwl == &zvol_state_lock ||
	    zvol_of_lock(rwl)->zv_zso->zso_marker != curthread)
		rw_exit(rwl);
	else
		zvol_of_lock(rwl)->zv_zso->zso_marker = NULL;
}

/*
 * Upstream frees what is beyond a smaller size without a lock that writers
 * there would meet: blocks leak, or an assertion fails. Here nobody is there:
 * who has begun is waited for, and the others find the volume to end earlier.
 *
 * And upstream waits for the txg with the state lock, which whoever looks
 * through all minors wants: of other pools, too, and their sync threads. Here
 * the volume is open meanwhile, and neither destroyed nor suspended.
 */
static int
zvol_resize(zvol_state_t *zv, uint64_t volsize)
{
	objset_t *os = zv->zv_objset;
	dmu_tx_t *tx = dmu_tx_create(os);
	uint64_t txg;
	int error;

	dmu_tx_hold_zap(tx, ZVOL_ZAP_OBJ, TRUE, NULL);
	dmu_tx_mark_netfree(tx);
	error = dmu_tx_assign(tx, DMU_TX_WAIT);
	if (error != 0) {
		dmu_tx_abort(tx);
		return (error);
	}
	txg = dmu_tx_get_txg(tx);
	error = zap_update(os, ZVOL_ZAP_OBJ, "size", 8, 1, &volsize, tx);
	dmu_tx_commit(tx);
	txg_wait_synced(dmu_objset_pool(os), txg);
	if (error == 0)
		error = dmu_free_long_range(os, ZVOL_OBJ, volsize,
		    DMU_OBJECT_END);
	return (error);
}

extern int __real_zvol_set_volsize(const char *, uint64_t);
extern int __wrap_zvol_set_volsize(const char *, uint64_t);

int
__wrap_zvol_set_volsize(const char *name, uint64_t volsize)
{
	volume_handle_t *vh;
	zvol_state_t *zv;
	spa_t *spa;
	int error;

	/*
	 * It cannot be opened: nobody writes, and the reason is told. By who
	 * holds the pool, which otherwise waits for that with a minor's lock.
	 */
	if (zvol_open(name, B_FALSE, &vh) != 0) {
		error = spa_open(name, &spa, FTAG);
		if (error == 0) {
			error = __real_zvol_set_volsize(name, volsize);
			spa_close(spa, FTAG);
		}
		return (error);
	}
	zv = vh->vh_zv;
	error = zvol_check_volsize(volsize, zv->zv_volblocksize);
	if (error == 0) {
		/* Somebody else may be at it. */
		while (zv->zv_zso->zso_new_size != UINT64_MAX)
			delay(1);
		zv->zv_zso->zso_new_size = volsize;
		error = zvol_enter(zv);
		if (error == 0) {
			zfs_rangelock_exit(zfs_rangelock_enter(
			    &zv->zv_rangelock, volsize, UINT64_MAX - volsize,
			    RL_WRITER));
			error = zvol_resize(zv, volsize);
			if (error == 0) {
				mutex_enter(&zv->zv_state_lock);
				zv->zv_volsize = volsize;
				zv->zv_changed = 1;
				mutex_exit(&zv->zv_state_lock);
			}
			rw_exit(&zv->zv_suspend_lock);
		}
		zv->zv_zso->zso_new_size = UINT64_MAX;
		if (error == 0)
			zvol_os_update_volsize(zv, volsize);
	}
	(void) zvol_release(vh);
	return (error);
}

static int
volume_request_do(volume_request_t *vr)
{
	volume_handle_t *vh = vr->vr_handle;
	zvol_state_t *zv = vh->vh_zv;
	boolean_t fua = (vr->vr_flags & VOLUME_FUA) != 0;

	if (zow_is_removing(zv))
		return (SET_ERROR(ENXIO));
	if (vr->vr_op == VOLUME_FLUSH)
		return (zvol_flush(zv, vr));
	if (vr->vr_offset > zvol_end(zv) ||
	    vr->vr_length > zvol_end(zv) - vr->vr_offset)
		return (vr->vr_op == VOLUME_WRITE || vr->vr_op == VOLUME_ZERO ?
		    SET_ERROR(ENOSPC) : SET_ERROR(EINVAL));
	if (vr->vr_length == 0)
		return (0);
	if (vr->vr_op == VOLUME_READ)
		return (zvol_read(zv, vr->vr_buf, vr->vr_offset,
		    vr->vr_length));
	if (vr->vr_op == VOLUME_STATUS)
		return (zvol_status(zv, vr->vr_offset, vr->vr_length,
		    (double *)vr->vr_buf, vr->vr_flags));
	if (vr->vr_op == VOLUME_VERIFY)
		return (zvol_verify(zv, vr));
	if (vh->vh_read_only || (zv->zv_flags & ZVOL_RDONLY))
		return (SET_ERROR(EROFS));
	switch (vr->vr_op) {
	case VOLUME_WRITE:
	case VOLUME_OR:
		return (zvol_write(zv, vr->vr_buf, vr->vr_offset,
		    vr->vr_length, fua, vr));
	case VOLUME_COMPARE:
		/* Behind what must be there. */
		return (zvol_write(zv, vr->vr_buf + vr->vr_length,
		    vr->vr_offset, vr->vr_length, fua, vr));
	case VOLUME_TRIM:
		return (zvol_trim(zv, vr->vr_offset, vr->vr_length, fua, vr));
	case VOLUME_ZERO:
		return (zvol_zero(zv, vr->vr_offset, vr->vr_length,
		    vr->vr_flags, vr));
	default:
		return (SET_ERROR(EOPNOTSUPP));
	}
}

/* What a dropped pool says is not so: it goes nowhere. */
static int
volume_request_run(volume_request_t *vr)
{
	volume_handle_t *vh = vr->vr_handle;
	int error;

	if (pool_is_dropped(vh->vh_spa))
		return (SET_ERROR(EIO));
	error = volume_request_do(vr);
	return (pool_is_dropped(vh->vh_spa) ? SET_ERROR(EIO) : error);
}

static int zvol_reveal(const char *name);

static void
volume_work(void *arg)
{
	volume_request_t *vr = arg;
	volume_handle_t *vh = vr->vr_handle;
	void *result;
	int error;

	if (vr->vr_op == VOLUME_OPEN) {
		vh = NULL;
		error = zvol_open(vr->vr_name, vr->vr_flags != 0, &vh);
		free(vr->vr_name);
	} else if (vr->vr_op == VOLUME_REVEAL) {
		error = zvol_reveal(vr->vr_name);
		free(vr->vr_name);
	} else if (vr->vr_op == VOLUME_CLOSE) {
		error = zvol_release(vh);
	} else {
		VERIFY3P(vh->vh_self, ==, vh);
		VERIFY3U(vh->vh_requests, >, 0);
		error = volume_request_run(vr);
		vh->vh_requests--;
	}
	result = vr->vr_op == VOLUME_OPEN ? vh :
	    (void *)(uintptr_t)vr->vr_differs;
	if (vr->vr_answered) {
		zow_work_unpark(vh->vh_queue);
		mutex_enter(&volume_over_lock);
		cv_broadcast(&volume_over_cv);
		mutex_exit(&volume_over_lock);
	} else {
		zow_volume_done(vr->vr_id, error, result);
	}
	free(vr);
}

/* Frees a request that no fiber could be had for. */
static int
volume_started(volume_request_t *vr, int error)
{
	if (error != 0) {
		free(vr->vr_name);
		free(vr);
	}
	return (error);
}

/*
 * Starts a request on an open volume; volume-done reports its end. `buf` is
 * the core's until then. Of VOLUME_STATUS `flags` is its room in doubles.
 */
ZOW_EXPORT("volume-submit") int
volume_submit(int id, volume_handle_t *vh, int op, char *buf, double offset,
    double length, int flags)
{
	volume_request_t *vr = calloc(1, sizeof (*vr));
	int error;

	VERIFY3P(vh, !=, NULL);
	VERIFY3P(vh->vh_self, ==, vh);
	VERIFY(offset >= 0 && length >= 0);
	if (vr == NULL)
		return (-ENOMEM);
	vr->vr_id = id;
	vr->vr_op = op;
	vr->vr_handle = vh;
	vr->vr_buf = buf;
	vr->vr_offset = (uint64_t)offset;
	vr->vr_length = (uint64_t)length;
	vr->vr_flags = flags;
	error = volume_started(vr, zow_work(vh->vh_queue, "zvol", volume_work,
	    vr));
	/* The close is the last: nothing else is under way then. */
	if (error == 0 && op != VOLUME_CLOSE)
		vh->vh_requests++;
	return (-error);
}

static int
volume_start_named(int id, volume_op_t op, char *name, int flags,
    const char *fiber)
{
	volume_request_t *vr = calloc(1, sizeof (*vr));

	if (vr == NULL) {
		free(name);
		return (-ENOMEM);
	}
	vr->vr_id = id;
	vr->vr_op = op;
	vr->vr_name = name;
	vr->vr_flags = flags;
	return (-volume_started(vr, zow_work_for(WORK_VOLUME, name, fiber,
	    volume_work, vr)));
}

/* Opens a volume; `name` comes from alloc() and belongs to the core. */
ZOW_EXPORT("volume-open") int
volume_open(int id, char *name, int read_only)
{
	return (volume_start_named(id, VOLUME_OPEN, name, read_only,
	    "zvol_open"));
}

/* Reveals a snapshot; `name` comes from alloc() and belongs to the core. */
ZOW_EXPORT("volume-reveal") int
volume_reveal(int id, char *name)
{
	return (volume_start_named(id, VOLUME_REVEAL, name, 0, "zvol_reveal"));
}

/*
 * Minors.
 */
static void
zvol_announce(zvol_state_t *zv, uint64_t pool_guid, uint64_t guid)
{
	zow_volume_added(zv->zv_name, strlen(zv->zv_name),
	    (double)zv->zv_volsize, (uint32_t)zv->zv_volblocksize,
	    (zv->zv_flags & ZVOL_RDONLY) != 0, pool_guid, guid);
}

/*
 * Makes the minor of a snapshot that snapdev=hidden, the default, keeps from
 * the list: who names it may read it. Of a volume that has none the errno
 * says why: EACCES, its key is not loaded; EINVAL, it is no volume. Success
 * without a minor: volmode=none.
 */
static int
zvol_reveal(const char *name)
{
	int error;

	/* Who reveals the same one at this moment owns it for a while. */
	for (int tries = 0; tries < REVEAL_TRIES; tries++) {
		error = zvol_os_create_minor(name);
		if (error != EBUSY)
			break;
		delay(1);
	}
	return (error == EEXIST ? 0 : error);
}

static zvol_state_t *
zvol_alloc(const char *name, uint64_t volsize, uint64_t volblocksize)
{
	zvol_state_t *zv;
	uint64_t volmode;

	if (dsl_prop_get_integer(name, "volmode", &volmode, NULL) != 0)
		return (NULL);
	if (volmode == ZFS_VOLMODE_DEFAULT)
		volmode = zvol_volmode;
	if (volmode == ZFS_VOLMODE_NONE)
		return (NULL);

	zv = kmem_zalloc(sizeof (*zv), KM_SLEEP);
	zv->zv_zso = kmem_zalloc(sizeof (*zv->zv_zso), KM_SLEEP);
	zv->zv_zso->zso_new_size = UINT64_MAX;
	zv->zv_volmode = volmode;
	zv->zv_volsize = volsize;
	zv->zv_volblocksize = volblocksize;
	list_link_init(&zv->zv_next);
	mutex_init(&zv->zv_state_lock, NULL, MUTEX_DEFAULT, NULL);
	cv_init(zow_removing_cv(zv), NULL, CV_DEFAULT, NULL);
	zfs_rangelock_init(&zv->zv_rangelock, NULL, NULL);
	rw_init(&zv->zv_suspend_lock, NULL, RW_DEFAULT, NULL);
	(void) strlcpy(zv->zv_name, name, sizeof (zv->zv_name));
	return (zv);
}

/* Replays what the intent log holds, so that opens find the volume whole. */
static int
zvol_replay(zvol_state_t *zv, objset_t *os)
{
	boolean_t replayed = B_FALSE;
	int error;

	ASSERT0P(zv->zv_objset);
	ASSERT0P(zv->zv_zilog);
	zv->zv_objset = os;
	error = zow_kstats_create(&zv->zv_kstat, os);
	if (error == 0) {
		zv->zv_zilog = zow_zil_open(os, zvol_os_get_data,
		    &zv->zv_kstat);
		if (spa_writeable(dmu_objset_spa(os))) {
			replayed = zil_replay_disable ?
			    zow_zil_destroy(zv->zv_zilog) :
			    zow_zil_replay(os, zv, zvol_replay_vector);
		}
		/*
		 * What was not replayed is not closed, which would write. It
		 * is opened again as it is where another holds the objset.
		 */
		if (replayed)
			zow_zil_close(zv->zv_zilog);
		else
			zv->zv_zilog->zl_get_data = NULL;
		zv->zv_zilog = NULL;
	}
	zv->zv_objset = NULL;
	return (error);
}

/* The property volthreading, where there is one. */
static void
zvol_load_threading(zvol_state_t *zv)
{
#ifdef	TREE_ZVOL_THREADING
	uint64_t threading = B_TRUE;

	(void) dsl_prop_get_integer(zv->zv_name, "volthreading", &threading,
	    NULL);
	zv->zv_threading = threading;
#else
	(void) zv;
#endif
}

static void
zvol_free_private(zvol_state_t *zv)
{
#ifndef	TREE_ZVOL_REMOVING
	cv_destroy(zow_removing_cv(zv));
#endif
	kmem_free(zv->zv_zso, sizeof (*zv->zv_zso));
	zv->zv_zso = NULL;
}

int
zvol_os_create_minor(const char *name)
{
	uint64_t hash = zvol_name_hash(name);
	zvol_state_t *zv;
	objset_t *os;
	dmu_object_info_t doi;
	uint64_t volsize, pool_guid, guid;
	spa_t *spa;
	int error;

	if (zvol_inhibit_dev)
		return (0);

	zv = zvol_find_by_name_hash(name, hash, RW_NONE);
	if (zv != NULL) {
		mutex_exit(&zv->zv_state_lock);
		return (SET_ERROR(EEXIST));
	}

	error = dmu_objset_own(name, DMU_OST_ZVOL, B_TRUE, B_TRUE, FTAG, &os);
	if (error != 0)
		return (error);
	error = dmu_object_info(os, ZVOL_OBJ, &doi);
	if (error == 0)
		error = zap_lookup(os, ZVOL_ZAP_OBJ, "size", 8, 1, &volsize);
	/* One of another machine's may be larger than the host can count. */
	if (error == 0)
		error = zvol_check_volsize(volsize, doi.doi_data_block_size);
	if (error == 0) {
		zv = zvol_alloc(name, volsize, doi.doi_data_block_size);
		if (zv != NULL) {
			zv->zv_hash = hash;
			if (dmu_objset_is_snapshot(os))
				zv->zv_flags |= ZVOL_RDONLY;
			zvol_load_threading(zv);
			error = zvol_replay(zv, os);
		}
	}
	spa = dmu_objset_spa(os);
	pool_guid = spa_guid(spa);
	guid = dsl_dataset_phys(dmu_objset_ds(os))->ds_guid;
	/* The pool does not leave between these. */
	spa_open_ref(spa, FTAG);
	dmu_objset_disown(os, B_TRUE, FTAG);
	if (error == 0 && zv != NULL) {
		rw_enter(&zvol_state_lock, RW_WRITER);
		/* Not owned any more: another may have been faster. */
		if (zvol_lookup(name) != NULL)
			error = SET_ERROR(EEXIST);
		else if (spa->spa_is_exporting)
			error = SET_ERROR(EBUSY);
		else
			zvol_insert(zv);
		rw_exit(&zvol_state_lock);
	}
	spa_close(spa, FTAG);
	if (zv == NULL)
		return (error);
	if (error != 0) {
		zvol_free_private(zv);
		zvol_os_free(zv);
		return (error);
	}
	zvol_announce(zv, pool_guid, guid);
	return (0);
}

void
zvol_os_remove_minor(zvol_state_t *zv)
{
	ASSERT(MUTEX_HELD(&zv->zv_state_lock));
	ASSERT0(zv->zv_open_count);
	ASSERT3P(zv->zv_zso, !=, NULL);
	ASSERT3U(zv->zv_zso->zso_new_size, ==, UINT64_MAX);
	ASSERT(!zv->zv_zso->zso_changes);
	zow_volume_removed(zv->zv_name, strlen(zv->zv_name));
	zvol_free_private(zv);
}

void
zvol_os_free(zvol_state_t *zv)
{
	ASSERT(!RW_LOCK_HELD(&zv->zv_suspend_lock));
	ASSERT(!MUTEX_HELD(&zv->zv_state_lock));
	ASSERT0(zv->zv_open_count);
	ASSERT0P(zv->zv_zso);
	rw_destroy(&zv->zv_suspend_lock);
	zfs_rangelock_fini(&zv->zv_rangelock);
#ifdef	TREE_ZVOL_REMOVING
	cv_destroy(zow_removing_cv(zv));
#endif
	mutex_destroy(&zv->zv_state_lock);
	dataset_kstats_destroy(&zv->zv_kstat);
	kmem_free(zv, sizeof (*zv));
}

/*
 * A change of volmode takes the minor away, and perhaps brings it back. Who
 * has it open is told first, and has some time to get answers and close;
 * after that its requests fail with ENXIO, and the minor goes with the last
 * close.
 */
void
zvol_wait_close(zvol_state_t *zv)
{
	char name[ZFS_MAX_DATASET_NAME_LEN];
	uint64_t hash = zv->zv_hash;
	int opens = zv->zv_open_count;

	if (opens == 0)
		return;
	(void) strlcpy(name, zv->zv_name, sizeof (name));
	zow_volume_removed(name, strlen(name));
	for (int i = 0; i < 100 && opens > 0; i++) {
		delay(MAX(hz / 20, 1));
		zv = zvol_find_by_name_hash(name, hash, RW_NONE);
		if (zv == NULL)
			return;
		opens = zv->zv_open_count;
		mutex_exit(&zv->zv_state_lock);
	}
}

#ifdef	TREE_ZVOL_RENAME_INT
int
#else
void
#endif
zvol_os_rename_minor(zvol_state_t *zv, const char *newname)
{
	ASSERT(RW_LOCK_HELD(&zvol_state_lock));
	ASSERT(MUTEX_HELD(&zv->zv_state_lock));
	zow_volume_renamed(zv->zv_name, strlen(zv->zv_name), newname,
	    strlen(newname));
	(void) strlcpy(zv->zv_name, newname, sizeof (zv->zv_name));
	/* move to new hashtable entry  */
	zv->zv_hash = zvol_name_hash(newname);
	hlist_del(&zv->zv_hlink);
	hlist_add_head(&zv->zv_hlink, ZVOL_HT_HEAD(zv->zv_hash));
	dataset_kstats_rename(&zv->zv_kstat, newname);
#ifdef	TREE_ZVOL_RENAME_INT
	return (0);
#endif
}

void
zvol_os_set_disk_ro(zvol_state_t *zv, int flags)
{
	zow_volume_read_only(zv->zv_name, strlen(zv->zv_name), flags != 0);
}

void
zvol_os_set_capacity(zvol_state_t *zv, uint64_t capacity)
{
	zow_volume_resized(zv->zv_name, strlen(zv->zv_name),
	    (double)(capacity << SPA_MINBLOCKSHIFT));
}

int
zvol_os_update_volsize(zvol_state_t *zv, uint64_t volsize)
{
	ASSERT3U(volsize, >, 0);
	ASSERT0(volsize % zv->zv_volblocksize);
	zow_volume_resized(zv->zv_name, strlen(zv->zv_name), (double)volsize);
	return (0);
}

/* Whether a client has the volume, or one below the dataset, open. */
static boolean_t
zvol_any_open(const char *name)
{
	size_t namelen = strlen(name);
	boolean_t found = B_FALSE;

	rw_enter(&zvol_state_lock, RW_READER);
	for (int i = 0; i < ZVOL_HT_SIZE && !found; i++) {
		struct hlist_node *p;

		hlist_for_each(p, ZVOL_HT_HEAD(i)) {
			zvol_state_t *zv = hlist_entry(p, zvol_state_t,
			    zv_hlink);
			char next = zv->zv_name[strnlen(zv->zv_name, namelen)];

			found |= zv->zv_open_count > 0 &&
			    !zv->zv_zso->zso_closes &&
			    strncmp(zv->zv_name, name, namelen) == 0 &&
			    (next == '\0' || next == '/' || next == '@');
		}
	}
	rw_exit(&zvol_state_lock);
	return (found);
}

void
zvol_hang_up(const char *pool)
{
	size_t len = strlen(pool);

	rw_enter(&zvol_state_lock, RW_READER);
	for (int i = 0; i < ZVOL_HT_SIZE; i++) {
		struct hlist_node *p;

		hlist_for_each(p, ZVOL_HT_HEAD(i)) {
			zvol_state_t *zv = hlist_entry(p, zvol_state_t,
			    zv_hlink);

			if (strncmp(zv->zv_name, pool, len) == 0 &&
			    zv->zv_name[len] == '/')
				zow_volume_removed(zv->zv_name,
				    strlen(zv->zv_name));
		}
	}
	rw_exit(&zvol_state_lock);
}

/*
 * Upstream takes the minors away before it looks whether the pool is busy, and
 * waits until the last client has closed.  An export with clients must fail
 * with EBUSY instead and leave them what they have: minors in use stay, and so
 * does the pool, even if the last client closes before it is looked at.  A
 * client that has just hung up is given a second to be gone.
 *
 * No minor of a pool may be there when the next one of its name is imported:
 * its intent log is replayed where minors are made, and one that is there
 * already would be written to above a log that is not.
 */
typedef struct zvol_stay {
	list_node_t	st_node;
	spa_t		*st_spa;
} zvol_stay_t;

static list_t zvol_stays;

extern void __real_zvol_remove_minors(spa_t *, const char *, boolean_t);
extern void __wrap_zvol_remove_minors(spa_t *, const char *, boolean_t);

void
__wrap_zvol_remove_minors(spa_t *spa, const char *name, boolean_t async)
{
	zvol_stay_t *st;

	/*
	 * Of a dataset that has been destroyed none is open, and a sync thread
	 * waits for no lock that somebody may hold who waits for it.
	 */
	if (dsl_pool_sync_context(spa_get_dsl(spa))) {
		__real_zvol_remove_minors(spa, name, async);
		return;
	}
	for (int i = 0; i < 20 && zvol_any_open(name); i++)
		delay(MAX(hz / 20, 1));
	if (!zvol_any_open(name)) {
		__real_zvol_remove_minors(spa, name, async);
	} else if (spa->spa_is_exporting && strcmp(name, spa_name(spa)) == 0) {
		st = kmem_zalloc(sizeof (*st), KM_SLEEP);
		st->st_spa = spa;
		spa_open_ref(spa, st);
		list_insert_tail(&zvol_stays, st);
	}
}

/* Its minors are there again, or still, when the pool is. */
static int
zvol_export_over(const char *pool, int error)
{
	zvol_stay_t *st;
	boolean_t stays;
	spa_t *spa;

	if (error == 0 || error == ZFS_ERR_EXPORT_IN_PROGRESS)
		return (error);
	for (st = list_head(&zvol_stays); st != NULL;
	    st = list_next(&zvol_stays, st)) {
		if (strcmp(spa_name(st->st_spa), pool) == 0)
			break;
	}
	if (st != NULL) {
		list_remove(&zvol_stays, st);
		spa_close(st->st_spa, st);
		kmem_free(st, sizeof (*st));
	}
	if (spa_open(pool, &spa, FTAG) == 0) {
		/* One that does not answer cannot say which it has. */
		stays = !pool_is_dropped(spa) && !spa_suspended(spa);
		spa_close(spa, FTAG);
		if (stays)
			zvol_create_minors(pool);
	}
	return (error);
}

extern int __real_spa_export(const char *, nvlist_t **, boolean_t, boolean_t);
extern int __wrap_spa_export(const char *, nvlist_t **, boolean_t, boolean_t);

int
__wrap_spa_export(const char *pool, nvlist_t **oldconfig, boolean_t force,
    boolean_t hardforce)
{
	return (zvol_export_over(pool, __real_spa_export(pool, oldconfig,
	    force, hardforce)));
}

extern int __real_spa_destroy(const char *);
extern int __wrap_spa_destroy(const char *);

int
__wrap_spa_destroy(const char *pool)
{
	return (zvol_export_over(pool, __real_spa_destroy(pool)));
}

extern int __real_spa_reset(const char *);
extern int __wrap_spa_reset(const char *);

int
__wrap_spa_reset(const char *pool)
{
	return (zvol_export_over(pool, __real_spa_reset(pool)));
}

int
zvol_init(void)
{
	zow_zvol_register();
	list_create(&zvol_stays, sizeof (zvol_stay_t),
	    offsetof(zvol_stay_t, st_node));
	list_create(&volume_commits, sizeof (volume_request_t),
	    offsetof(volume_request_t, vr_commit));
	mutex_init(&volume_over_lock, NULL, MUTEX_DEFAULT, NULL);
	cv_init(&volume_over_cv, NULL, CV_DEFAULT, NULL);
	return (zvol_init_impl());
}

void
zvol_fini(void)
{
	zvol_fini_impl();
	cv_destroy(&volume_over_cv);
	mutex_destroy(&volume_over_lock);
	list_destroy(&volume_commits);
}
