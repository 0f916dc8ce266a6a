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
 * What upstream believes of a send stream, or asserts in a debug build only:
 * lengths of one record that have to fit each other, which nobody looks at
 * again before memory is written by them. A record that no sender makes is
 * taken for a damaged one.
 */

#include <sys/zfs_context.h>
#include <sys/zfs_ioctl.h>
#include <sys/dmu.h>
#include <sys/dmu_impl.h>
#include <sys/dmu_objset.h>
#include <sys/dmu_recv.h>
#include <sys/dmu_tx.h>
#include <sys/dnode.h>
#include <sys/dsl_dataset.h>
#include <sys/dsl_dir.h>
#include <sys/dsl_pool.h>
#include <sys/arc.h>
#include <sys/blkptr.h>
#include <sys/objlist.h>
#include <sys/zap.h>
#include <sys/zio_checksum.h>
#include <sys/zio_compress.h>

#include "../../../cli/src/zow_client.h"
#include "compat.h"
#include "receive.h"

/* Members as they are in a stream of this byte order, or of the other. */
#define	U32(x)	(swap ? BSWAP_32(x) : (x))
#define	U64(x)	(swap ? BSWAP_64(x) : (x))

static boolean_t
is_block_size(uint64_t size)
{
	return (size >= SPA_MINBLOCKSIZE && size <= SPA_MAXBLOCKSIZE &&
	    P2PHASE(size, SPA_MINBLOCKSIZE) == 0);
}

/*
 * What an object may have of its own for the blocks that are written to it.
 * Upstream asserts that it knows them; others are not for data, or are none.
 */
static boolean_t
functions_are_good(uint8_t checksum, uint8_t compress)
{
	return (checksum < ZIO_CHECKSUM_LEGACY_FUNCTIONS &&
	    checksum != ZIO_CHECKSUM_LABEL &&
	    checksum != ZIO_CHECKSUM_GANG_HEADER &&
	    checksum != ZIO_CHECKSUM_ZILOG &&
	    compress < ZIO_COMPRESS_LEGACY_FUNCTIONS &&
	    compress != ZIO_COMPRESS_EMPTY);
}

/* A bonus has a type and a length, or neither; two types may come later. */
static boolean_t
bonus_is_good(uint32_t type, uint32_t len)
{
	if (type == DMU_OT_SA || type == DMU_OTN_UINT64_METADATA)
		return (B_TRUE);
	return ((type == DMU_OT_NONE) == (len == 0));
}

static boolean_t
object_is_good(const struct drr_object *drro, boolean_t swap, boolean_t raw)
{
	int slots = MAX(drro->drr_dn_slots, DNODE_MIN_SLOTS);
	uint32_t bonuslen = U32(drro->drr_bonuslen);
	uint64_t maxblkid = U64(drro->drr_maxblkid);
	uint64_t blocks = drro->drr_nblkptr;
	int epbs = drro->drr_indblkshift - SPA_BLKPTRSHIFT;

	if (slots > DNODE_MAX_SLOTS ||
	    bonuslen > DN_SLOTS_TO_BONUSLEN(slots) ||
	    !bonus_is_good(U32(drro->drr_bonustype), bonuslen) ||
	    !functions_are_good(drro->drr_checksumtype, drro->drr_compress))
		return (B_FALSE);
	/* It would be the length of the payload. */
	if (!raw)
		return (drro->drr_raw_bonuslen == 0);
	if (U32(drro->drr_raw_bonuslen) > DN_SLOTS_TO_BONUSLEN(slots) ||
	    drro->drr_indblkshift < DN_MIN_INDBLKSHIFT ||
	    drro->drr_indblkshift > DN_MAX_INDBLKSHIFT ||
	    drro->drr_nlevels < 1 || drro->drr_nlevels > DN_MAX_LEVELS ||
	    drro->drr_nblkptr < 1 || drro->drr_nblkptr > DN_MAX_NBLKPTR)
		return (B_FALSE);
	/* The blocks of a dnode are those its levels reach. */
	for (int level = 1; level < drro->drr_nlevels; level++) {
		if (blocks > UINT64_MAX >> epbs)
			return (B_TRUE);
		blocks <<= epbs;
	}
	return (maxblkid < blocks);
}

static boolean_t
record_is_good(const dmu_replay_record_t *drr, boolean_t swap, boolean_t raw)
{
	switch (U32(drr->drr_type)) {
	case DRR_OBJECT:
		return (object_is_good(&drr->drr_u.drr_object, swap, raw));
	case DRR_WRITE: {
		const struct drr_write *drrw = &drr->drr_u.drr_write;
		uint64_t size = U64(drrw->drr_logical_size);
		uint64_t psize = U64(drrw->drr_compressed_size);

		if (!is_block_size(size) ||
		    drrw->drr_compressiontype >= ZIO_COMPRESS_FUNCTIONS)
			return (B_FALSE);
		return (!DRR_WRITE_COMPRESSED(drrw) || (is_block_size(psize) &&
		    psize <= size));
	}
	case DRR_WRITE_EMBEDDED: {
		const struct drr_write_embedded *drrwe =
		    &drr->drr_u.drr_write_embedded;
		uint32_t lsize = U32(drrwe->drr_lsize);
		uint32_t psize = U32(drrwe->drr_psize);

		if (drrwe->drr_compression >= ZIO_COMPRESS_FUNCTIONS ||
		    (drrwe->drr_compression == ZIO_COMPRESS_OFF &&
		    lsize != psize))
			return (B_FALSE);
		return (drrwe->drr_etype == BP_EMBEDDED_TYPE_DATA &&
		    U64(drrwe->drr_length) <= SPA_MAXBLOCKSIZE &&
		    lsize > 0 && lsize <= SPA_MAXBLOCKSIZE &&
		    psize > 0 && psize <= BPE_PAYLOAD_SIZE);
	}
	case DRR_SPILL: {
		const struct drr_spill *drrs = &drr->drr_u.drr_spill;
		uint64_t size = U64(drrs->drr_length);
		uint64_t psize = U64(drrs->drr_compressed_size);

		/* Copied as a whole into a buffer of its length. */
		return (is_block_size(size) && psize <= size &&
		    (raw ? is_block_size(psize) :
		    psize == 0 || psize == size) &&
		    drrs->drr_compressiontype < ZIO_COMPRESS_FUNCTIONS);
	}
	default:
		return (B_TRUE);
	}
}

/* Bytes of payload behind a header. */
static int64_t
record_payload(const dmu_replay_record_t *drr, boolean_t swap)
{
	dmu_replay_record_t native = *drr;

	if (swap) {
		native.drr_type = BSWAP_32(drr->drr_type);
		switch (native.drr_type) {
		case DRR_OBJECT:
			native.drr_u.drr_object.drr_bonuslen =
			    BSWAP_32(drr->drr_u.drr_object.drr_bonuslen);
			native.drr_u.drr_object.drr_raw_bonuslen =
			    BSWAP_32(drr->drr_u.drr_object.drr_raw_bonuslen);
			break;
		case DRR_WRITE:
			native.drr_u.drr_write.drr_logical_size =
			    BSWAP_64(drr->drr_u.drr_write.drr_logical_size);
			native.drr_u.drr_write.drr_compressed_size =
			    BSWAP_64(drr->drr_u.drr_write.drr_compressed_size);
			break;
		case DRR_WRITE_EMBEDDED:
			native.drr_u.drr_write_embedded.drr_psize =
			    BSWAP_32(drr->drr_u.drr_write_embedded.drr_psize);
			break;
		case DRR_SPILL:
			native.drr_u.drr_spill.drr_length =
			    BSWAP_64(drr->drr_u.drr_spill.drr_length);
			native.drr_u.drr_spill.drr_compressed_size =
			    BSWAP_64(drr->drr_u.drr_spill.drr_compressed_size);
			break;
		default:
			break;
		}
	}
	return (MAX(zow_record_payload(&native), 0));
}

/*
 * Whoever decompresses a block that is embedded in its pointer believes that
 * it can be.
 */
static boolean_t
embedded_is_good(const receive_check_t *rc, const void *payload)
{
#ifdef	TREE_DECOMPRESS_ABD
	abd_t cabd, dabd;
#endif
	char *buf;
	int error;

	if (rc->rc_compression == ZIO_COMPRESS_OFF)
		return (B_TRUE);
	buf = zio_buf_alloc(rc->rc_lsize);
#ifdef	TREE_DECOMPRESS_ABD
	abd_get_from_buf_struct(&cabd, (void *)payload, rc->rc_psize);
	abd_get_from_buf_struct(&dabd, buf, rc->rc_lsize);
	error = zio_decompress_data(rc->rc_compression, &cabd, &dabd,
	    rc->rc_psize, rc->rc_lsize, NULL);
	abd_free(&dabd);
	abd_free(&cabd);
#else
	error = zio_decompress_data_buf(rc->rc_compression, (void *)payload,
	    buf, rc->rc_psize, rc->rc_lsize, NULL);
#endif
	zio_buf_free(buf, rc->rc_lsize);
	return (error == 0);
}

/*
 * Blocks come in order, which receive_write() alone looks at, and so do
 * objects: an interrupted receive remembers how far it was.  Senders before 2.0
 * send the objects of a whole block of dnodes, and then what is in them.
 */
static boolean_t
order_is_good(receive_check_t *rc, const dmu_replay_record_t *drr)
{
	boolean_t swap = rc->rc_swap;
	uint64_t object, offset;

	switch (U32(drr->drr_type)) {
	case DRR_OBJECT:
		object = U64(drr->drr_u.drr_object.drr_object);
		if (object < rc->rc_object ||
		    (object != 0 && object == rc->rc_block_object))
			return (B_FALSE);
		rc->rc_object = object;
		return (B_TRUE);
	case DRR_FREEOBJECTS:
		/*
		 * What has come is not freed again: of blocks that are written
		 * as they come, in the same txg, dnode_undirty_dbufs() looks
		 * for a dbuf, which they do not have.
		 */
		object = U64(drr->drr_u.drr_freeobjects.drr_firstobj);
		return (object > MAX(rc->rc_object, rc->rc_block_object) ||
		    MAX(rc->rc_object, rc->rc_block_object) == 0);
	case DRR_WRITE:
		object = U64(drr->drr_u.drr_write.drr_object);
		offset = U64(drr->drr_u.drr_write.drr_offset);
		break;
	case DRR_WRITE_EMBEDDED:
		object = U64(drr->drr_u.drr_write_embedded.drr_object);
		offset = U64(drr->drr_u.drr_write_embedded.drr_offset);
		break;
	default:
		return (B_TRUE);
	}
	if (object < rc->rc_block_object ||
	    (object == rc->rc_block_object && offset < rc->rc_block_offset))
		return (B_FALSE);
	rc->rc_block_object = object;
	rc->rc_block_offset = offset;
	return (B_TRUE);
}

int
receive_check(void *check, const void *read, size_t len)
{
	receive_check_t *rc = check;
	boolean_t swap = rc->rc_swap;
	const dmu_replay_record_t *drr = read;

	if (rc->rc_left > 0) {
		ASSERT3U(rc->rc_left, ==, len);
		rc->rc_left = 0;
		if (rc->rc_psize == 0 || embedded_is_good(rc, read))
			return (0);
		return (SET_ERROR(ECKSUM));
	}
	if (len != sizeof (dmu_replay_record_t) ||
	    !record_is_good(read, rc->rc_swap, rc->rc_raw) ||
	    !order_is_good(rc, read))
		return (SET_ERROR(ECKSUM));
	rc->rc_left = record_payload(read, rc->rc_swap);
	rc->rc_psize = 0;
	if (U32(drr->drr_type) == DRR_WRITE_EMBEDDED) {
		const struct drr_write_embedded *drrwe =
		    &drr->drr_u.drr_write_embedded;

		rc->rc_compression = drrwe->drr_compression;
		rc->rc_lsize = U32(drrwe->drr_lsize);
		rc->rc_psize = U32(drrwe->drr_psize);
	}
	return (0);
}

extern int __real_dmu_recv_begin(const char *, const char *,
    dmu_replay_record_t *, boolean_t, boolean_t, boolean_t, nvlist_t *,
    nvlist_t *, const char *, dmu_recv_cookie_t *, zfs_file_t *, offset_t *);
extern int __wrap_dmu_recv_begin(const char *, const char *,
    dmu_replay_record_t *, boolean_t, boolean_t, boolean_t, nvlist_t *,
    nvlist_t *, const char *, dmu_recv_cookie_t *, zfs_file_t *, offset_t *);

/*
 * Upstream receives a raw stream as a clone of a snapshot that is not
 * encrypted, of which the clone then says that it is.  It also goes on with a
 * raw stream where one that was not began, and the other way around.
 */
static boolean_t
raw_fits(dsl_pool_t *dp, const char *tofs, boolean_t raw, boolean_t resuming,
    const char *origin)
{
	char clone[ZFS_MAX_DATASET_NAME_LEN + 6];
	dsl_dataset_t *ds;
	boolean_t fits = B_TRUE;

	if (raw && origin != NULL &&
	    dsl_dataset_hold(dp, origin, FTAG, &ds) == 0) {
		fits = ds->ds_dir->dd_crypto_obj != 0;
		dsl_dataset_rele(ds, FTAG);
	}
	if (!resuming)
		return (fits);
	(void) snprintf(clone, sizeof (clone), "%s/%s", tofs, recv_clone_name);
	if (dsl_dataset_hold(dp, clone, FTAG, &ds) != 0 &&
	    dsl_dataset_hold(dp, tofs, FTAG, &ds) != 0)
		return (fits);
	if (dsl_dataset_is_zapified(ds))
		fits = fits && raw == (zap_contains(dp->dp_meta_objset,
		    ds->ds_object, DS_FIELD_RESUME_RAWOK) == 0);
	dsl_dataset_rele(ds, FTAG);
	return (fits);
}

/*
 * The nvlist of a stream's first record is no larger than a block, and what it
 * is of is a file system or a volume.
 */
int
__wrap_dmu_recv_begin(const char *tofs, const char *tosnap,
    dmu_replay_record_t *drr, boolean_t force, boolean_t heal,
    boolean_t resumable, nvlist_t *props, nvlist_t *hidden, const char *origin,
    dmu_recv_cookie_t *drc, zfs_file_t *fp, offset_t *voffp)
{
	boolean_t swap = drr->drr_u.drr_begin.drr_magic ==
	    BSWAP_64(DMU_BACKUP_MAGIC);
	uint32_t size = U32(drr->drr_payloadlen);
	uint32_t type = U32(drr->drr_u.drr_begin.drr_type);
	uint64_t features = DMU_GET_FEATUREFLAGS(U64(
	    drr->drr_u.drr_begin.drr_versioninfo));
	boolean_t raw = (features & DMU_BACKUP_FEATURE_RAW) != 0;
	boolean_t fits = B_TRUE;
	dsl_pool_t *dp;

	drr->drr_u.drr_begin.drr_toname[
	    sizeof (drr->drr_u.drr_begin.drr_toname) - 1] = '\0';
	/* What else there is of types is a pool's own. */
	if (type != DMU_OST_ZFS && type != DMU_OST_ZVOL)
		return (SET_ERROR(EINVAL));
	if (size > SPA_MAXBLOCKSIZE || (!raw && P2PHASE(size, 8) != 0))
		return (SET_ERROR(E2BIG));
	if (dsl_pool_hold(tofs, FTAG, &dp) == 0) {
		fits = raw_fits(dp, tofs, raw,
		    (features & DMU_BACKUP_FEATURE_RESUMING) != 0, origin);
		dsl_pool_rele(dp, FTAG);
	}
	if (!fits)
		return (SET_ERROR(EINVAL));
	return (__real_dmu_recv_begin(tofs, tosnap, drr, force, heal, resumable,
	    props, hidden, origin, drc, fp, voffp));
}

/*
 * Blocks of a stream that are written as they come are blocks of the object:
 * what says otherwise leaves a block that others read beyond its end.
 */
extern int __real_dmu_lightweight_write_by_dnode(dnode_t *, uint64_t, abd_t *,
    const zio_prop_t *, zio_flag_t, dmu_tx_t *);
extern int __wrap_dmu_lightweight_write_by_dnode(dnode_t *, uint64_t, abd_t *,
    const zio_prop_t *, zio_flag_t, dmu_tx_t *);

int
__wrap_dmu_lightweight_write_by_dnode(dnode_t *dn, uint64_t offset, abd_t *abd,
    const zio_prop_t *zp, zio_flag_t flags, dmu_tx_t *tx)
{
	boolean_t whole = (flags & (ZIO_FLAG_RAW | ZIO_FLAG_RAW_COMPRESS)) == 0;

	/* Of a raw stream the dnode says how many there are. */
	if (dn->dn_objset->os_raw_receive &&
	    offset / dn->dn_datablksz > dn->dn_maxblkid)
		return (SET_ERROR(EINVAL));
	/* An object has one block unless its size is a power of 2. */
	if (offset % dn->dn_datablksz != 0 ||
	    (offset != 0 && !ISP2(dn->dn_datablksz)) ||
	    abd_get_size(abd) > dn->dn_datablksz ||
	    (whole && abd_get_size(abd) != dn->dn_datablksz))
		return (SET_ERROR(EINVAL));
	return (__real_dmu_lightweight_write_by_dnode(dn, offset, abd, zp,
	    flags, tx));
}

extern void __real_dmu_write_embedded(objset_t *, uint64_t, uint64_t, void *,
    uint8_t, uint8_t, int, int, int, dmu_tx_t *);
extern void __wrap_dmu_write_embedded(objset_t *, uint64_t, uint64_t, void *,
    uint8_t, uint8_t, int, int, int, dmu_tx_t *);

/* What does not fill its block is written as other data are. */
void
__wrap_dmu_write_embedded(objset_t *os, uint64_t object, uint64_t offset,
    void *data, uint8_t etype, uint8_t comp, int lsize, int psize,
    int byteorder, dmu_tx_t *tx)
{
	blkptr_t bp;
	dnode_t *dn;
	char *buf;

	VERIFY0(dnode_hold(os, object, FTAG, &dn));
	if (lsize == dn->dn_datablksz && offset % dn->dn_datablksz == 0) {
		dnode_rele(dn, FTAG);
		__real_dmu_write_embedded(os, object, offset, data, etype,
		    comp, lsize, psize, byteorder, tx);
		return;
	}
	encode_embedded_bp_compressed(&bp, data, comp, lsize, psize);
	BPE_SET_ETYPE(&bp, etype);
	buf = zio_buf_alloc(lsize);
	if (decode_embedded_bp(&bp, buf, lsize) == 0)
		(void) zow_dmu_write(dn, offset, lsize, buf, tx);
	zio_buf_free(buf, lsize);
	dnode_rele(dn, FTAG);
}

/*
 * What a receive does not ask for ahead. Upstream asserts that the objects of
 * a stream come in order; for one whose do not nothing else hangs on it.
 */
extern boolean_t __real_objlist_exists(objlist_t *, uint64_t);
extern boolean_t __wrap_objlist_exists(objlist_t *, uint64_t);
extern void __real_objlist_insert(objlist_t *, uint64_t);
extern void __wrap_objlist_insert(objlist_t *, uint64_t);

boolean_t
__wrap_objlist_exists(objlist_t *list, uint64_t object)
{
	return (object >= list->ol_last_lookup &&
	    __real_objlist_exists(list, object));
}

void
__wrap_objlist_insert(objlist_t *list, uint64_t object)
{
	objlist_node_t *last = list_tail(&list->ol_list);

	if (object > (last != NULL ? last->on_object : 0))
		__real_objlist_insert(list, object);
}
