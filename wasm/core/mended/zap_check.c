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
 * What is in the blocks of a ZAP object, upstream believes: indexes of chunks,
 * lengths, chains that end, blocks that are the object's. They may be whatever
 * a stream or an image said. Here each header and each leaf is looked at once,
 * when it is brought into memory, and one that ZFS cannot have written is EIO.
 */

#include <sys/zfs_context.h>
#include <sys/dbuf.h>
#include <sys/dmu.h>
#include <sys/dmu_objset.h>
#include <sys/dnode.h>
#include <sys/zap.h>
#include <sys/zap_impl.h>
#include <sys/zap_leaf.h>
#include <sys/u8_textprep.h>

#define	CHAIN_END	0xffff		/* as in zap_leaf.c */
#define	LEAF_SHIFT_MAX	20		/* more chunks than 16 bits can name */
#define	LEAF_CHUNKS_MAX	ZAP_LEAF_NUMCHUNKS_BS(LEAF_SHIFT_MAX)
#define	MICRO_SIZE_MAX	(1 << LEAF_SHIFT_MAX)	/* as in zap_micro.c */
/* Entries of a leaf that have come from a micro ZAP: a name, and a value. */
#define	MICRO_ENTRY_CHUNKS	(1 + ZAP_LEAF_ARRAY_NCHUNKS(MZAP_NAME_LEN) + \
	ZAP_LEAF_ARRAY_NCHUNKS(sizeof (uint64_t)))
#define	OFFSET_MAX	(1ULL << 62)

#ifdef	TREE_ZAP_LONG_NAMES
#define	NAME_MAX_OF(type) ((type) == DMU_OT_DIRECTORY_CONTENTS ? \
	ZAP_MAXNAMELEN_NEW : ZAP_MAXNAMELEN)
#else
#define	NAME_MAX_OF(type)	ZAP_MAXNAMELEN
#endif

static int
bad_block(dnode_t *dn, uint64_t blkid)
{
	zfs_dbgmsg("block %llu of ZAP object %llu of objset %llu is damaged",
	    (u_longlong_t)blkid, (u_longlong_t)dn->dn_object,
	    (u_longlong_t)dmu_objset_id(dn->dn_objset));
	return (SET_ERROR(EIO));
}

/* Upstream takes it for granted that what is there can be normalized. */
static boolean_t
name_is_normal(zap_t *zap, const char *name, uint64_t *hash)
{
	zap_name_t *zn = zap_name_alloc_str(zap, name, 0);

	if (zn == NULL)
		return (B_FALSE);
	*hash = zn->zn_hash;
	zap_name_free(zn);
	return (B_TRUE);
}

static boolean_t
normalization_is_good(uint64_t normflags)
{
	zap_t zap = { .zap_ismicro = TRUE, .zap_salt = 1,
	    .zap_normflags = normflags };
	uint64_t hash;

	return (normflags == 0 || (normflags <= INT_MAX &&
	    name_is_normal(&zap, "", &hash)));
}

typedef struct micro_entry {
	uint64_t	me_key;		/* the hash, and in its low bits cd */
	const char	*me_name;
	uint_t		me_next;	/* of its bucket, + 1 */
} micro_entry_t;

/*
 * The B-tree of a micro ZAP has each hash and cd once, and a fat one that is
 * made of it each name; a leaf of it has room for those in one bucket.
 */
static boolean_t
micro_entry_fits(const micro_entry_t *entries, const micro_entry_t *new)
{
	int alike = 1;

	for (uint_t i = new->me_next; i != 0; i = entries[i - 1].me_next) {
		const micro_entry_t *me = &entries[i - 1];

		if (me->me_key == new->me_key ||
		    strcmp(me->me_name, new->me_name) == 0 ||
		    ++alike * MICRO_ENTRY_CHUNKS >= ZAP_LEAF_NUMCHUNKS_DEF)
			return (B_FALSE);
	}
	return (B_TRUE);
}

static boolean_t
micro_is_good(const mzap_phys_t *mzp, size_t size)
{
	zap_t zap = { .zap_ismicro = TRUE, .zap_salt = mzp->mz_salt,
	    .zap_normflags = mzp->mz_normflags };
	int chunks = size / MZAP_ENT_LEN - 1;
	int bits = highbit64(chunks);
	uint_t *buckets;
	micro_entry_t *entries;
	boolean_t good = B_TRUE;

	if (mzp->mz_salt == 0 || !normalization_is_good(mzp->mz_normflags))
		return (B_FALSE);
	entries = vmem_alloc(chunks * sizeof (*entries), KM_SLEEP);
	buckets = vmem_zalloc(sizeof (*buckets) << bits, KM_SLEEP);
	for (int i = 0; i < chunks && good; i++) {
		const mzap_ent_phys_t *mze = &mzp->mz_chunk[i];
		uint64_t hash;

		if (mze->mze_name[0] == '\0')
			continue;
		good = strnlen(mze->mze_name, MZAP_NAME_LEN) < MZAP_NAME_LEN &&
		    mze->mze_cd <= UINT16_MAX &&
		    name_is_normal(&zap, mze->mze_name, &hash);
		if (good) {
			uint_t *bucket = &buckets[hash >> (64 - bits)];

			entries[i].me_key = hash | mze->mze_cd;
			entries[i].me_name = mze->mze_name;
			entries[i].me_next = *bucket;
			*bucket = i + 1;
			good = micro_entry_fits(entries, &entries[i]);
		}
	}
	vmem_free(buckets, sizeof (*buckets) << bits);
	vmem_free(entries, chunks * sizeof (*entries));
	return (good);
}

static int
hash_bits(uint64_t flags)
{
	return (flags & ZAP_FLAG_HASH64 ? 48 : 28);
}

/* The table of pointers to leaves: in the header, or in blocks of its own. */
static boolean_t
table_is_good(const zap_phys_t *zp, int bs)
{
	const zap_table_phys_t *tbl = &zp->zap_ptrtbl;
	uint64_t blocks_max = OFFSET_MAX >> bs;

	if (tbl->zt_numblks == 0)
		return (tbl->zt_blk == 0 && tbl->zt_nextblk == 0 &&
		    tbl->zt_blks_copied == 0 && tbl->zt_shift == bs - 4);
	if (tbl->zt_shift <= bs - 4 ||
	    tbl->zt_shift > hash_bits(zp->zap_flags) - 2 ||
	    tbl->zt_numblks != 1ULL << (tbl->zt_shift - (bs - 3)) ||
	    tbl->zt_blk == 0 || tbl->zt_blk >= zp->zap_freeblk ||
	    tbl->zt_numblks > zp->zap_freeblk - tbl->zt_blk)
		return (B_FALSE);
	if (tbl->zt_nextblk == 0)
		return (tbl->zt_blks_copied == 0);
	return (tbl->zt_nextblk < blocks_max &&
	    tbl->zt_blks_copied < tbl->zt_numblks &&
	    (tbl->zt_nextblk >= tbl->zt_blk + tbl->zt_numblks ||
	    tbl->zt_nextblk + 2 * tbl->zt_numblks <= tbl->zt_blk));
}

static boolean_t
fat_is_good(dnode_t *dn, const zap_phys_t *zp, size_t size)
{
	int bs = highbit64(size) - 1;
	uint64_t words = size / sizeof (uint64_t);
	const uint64_t *word = (const uint64_t *)zp;

	if (!ISP2(size) || bs > LEAF_SHIFT_MAX || zp->zap_salt == 0 ||
	    zp->zap_freeblk < 2 || zp->zap_freeblk > OFFSET_MAX >> bs ||
	    zp->zap_flags & ~(uint64_t)(ZAP_FLAG_HASH64 |
	    ZAP_FLAG_UINT64_KEY | ZAP_FLAG_PRE_HASHED_KEY))
		return (B_FALSE);
	/* Nobody would ask for names in objects with other keys. */
	if (zp->zap_flags & ZAP_FLAG_UINT64_KEY) {
		if (dn->dn_objset->os_dsl_dataset != NULL ||
		    zp->zap_normflags != 0)
			return (B_FALSE);
	} else if (zp->zap_flags & ZAP_FLAG_PRE_HASHED_KEY) {
		return (B_FALSE);
	}
	if (!table_is_good(zp, bs))
		return (B_FALSE);
	/* What is freed, and whose pointer is left, is 0. */
	for (uint64_t i = words / 2; zp->zap_ptrtbl.zt_numblks == 0 &&
	    i < words; i++) {
		if (word[i] >= zp->zap_freeblk)
			return (B_FALSE);
	}
	return (B_TRUE);
}

/* A header, or a micro ZAP: block 0. */
static int
header_check(dnode_t *dn, dmu_buf_t *db)
{
	uint64_t type = *(uint64_t *)db->db_data;
	boolean_t good;

	/* What is neither is upstream's to refuse. */
	if (DMU_OT_BYTESWAP(dn->dn_type) != DMU_BSWAP_ZAP ||
	    (type != ZBT_MICRO && type != ZBT_HEADER))
		return (0);
	if (type == ZBT_HEADER) {
		const zap_phys_t *zp = db->db_data;

		good = normalization_is_good(zp->zap_normflags);
		/* Others may have opened it meanwhile, and write. */
		if (dmu_buf_get_user(db) != NULL)
			return (0);
		good = good && fat_is_good(dn, db->db_data, db->db_size);
	} else if (db->db_size > MICRO_SIZE_MAX || dn->dn_maxblkid != 0) {
		good = B_FALSE;
	} else {
		size_t size = db->db_size;
		mzap_phys_t *copy = vmem_alloc(size, KM_SLEEP);

		if (dmu_buf_get_user(db) != NULL) {
			vmem_free(copy, size);
			return (0);
		}
		memcpy(copy, db->db_data, size);
		good = micro_is_good(copy, size);
		vmem_free(copy, size);
	}
	return (good ? 0 : bad_block(dn, 0));
}

/* A leaf, and its chunks that something has led to. */
typedef struct leaf_check {
	zap_t		*lc_zap;
	zap_leaf_t	*lc_leaf;
	uint_t		lc_name_max;
	uint8_t		lc_taken[(LEAF_CHUNKS_MAX + 7) / 8];
} leaf_check_t;

/* A chunk that is there, of this type, and that nothing else has led to. */
static boolean_t
take_chunk(leaf_check_t *lc, uint16_t chunk, uint8_t type)
{
	uint8_t bit = 1 << (chunk % 8);

	if (chunk >= ZAP_LEAF_NUMCHUNKS(lc->lc_leaf) ||
	    ZAP_LEAF_CHUNK(lc->lc_leaf, chunk).l_free.lf_type != type ||
	    lc->lc_taken[chunk / 8] & bit)
		return (B_FALSE);
	lc->lc_taken[chunk / 8] |= bit;
	return (B_TRUE);
}

/* The chunks of so many bytes; the last byte is told. */
static boolean_t
array_is_good(leaf_check_t *lc, uint16_t chunk, uint_t bytes, uint8_t *last)
{
	for (uint_t left = bytes; left > 0;
	    left -= MIN(left, ZAP_LEAF_ARRAY_BYTES)) {
		struct zap_leaf_array *la;

		if (!take_chunk(lc, chunk, ZAP_CHUNK_ARRAY))
			return (B_FALSE);
		la = &ZAP_LEAF_CHUNK(lc->lc_leaf, chunk).l_array;
		*last = la->la_array[MIN(left, ZAP_LEAF_ARRAY_BYTES) - 1];
		chunk = la->la_next;
	}
	return (chunk == CHAIN_END);
}

static boolean_t
entry_is_good(leaf_check_t *lc, const struct zap_leaf_entry *le)
{
	uint64_t flags = zap_getflags(lc->lc_zap);
	uint_t name_intlen = flags & ZAP_FLAG_UINT64_KEY ? 8 : 1;
	uint_t name_bytes = le->le_name_numints * name_intlen;
	uint_t intlen = le->le_value_intlen;
	uint8_t last = 0;

	if (name_bytes == 0 || name_bytes > lc->lc_name_max ||
	    (intlen != 1 && intlen != 2 && intlen != 4 && intlen != 8) ||
	    le->le_cd >= zap_maxcd(lc->lc_zap) ||
	    le->le_hash << hash_bits(flags) != 0 ||
	    !array_is_good(lc, le->le_name_chunk, name_bytes, &last))
		return (B_FALSE);
	if (name_intlen == 1 && last != '\0')
		return (B_FALSE);
	return (array_is_good(lc, le->le_value_chunk,
	    le->le_value_numints * intlen, &last));
}

/* The entries of a hash bucket, which are in the order of their cd. */
static boolean_t
bucket_is_good(leaf_check_t *lc, uint_t bucket, uint_t *entries)
{
	zap_leaf_t *l = lc->lc_leaf;
	zap_leaf_phys_t *lp = zap_leaf_phys(l);
	uint_t prefix_len = lp->l_hdr.lh_prefix_len;
	uint_t bits = prefix_len + ZAP_LEAF_HASH_SHIFT(l);
	uint64_t hash = lp->l_hdr.lh_prefix << ZAP_LEAF_HASH_SHIFT(l) | bucket;
	struct zap_leaf_entry *le;
	uint32_t cd = 0;

	for (uint16_t chunk = lp->l_hash[bucket]; chunk != CHAIN_END;
	    chunk = le->le_next) {
		if (!take_chunk(lc, chunk, ZAP_CHUNK_ENTRY))
			return (B_FALSE);
		le = ZAP_LEAF_ENTRY(l, chunk);
		if (ZAP_HASH_IDX(le->le_hash, bits) != hash ||
		    !entry_is_good(lc, le))
			return (B_FALSE);
		if (lp->l_hdr.lh_flags & ZLF_ENTRIES_CDSORTED &&
		    le->le_cd < cd)
			return (B_FALSE);
		cd = le->le_cd;
		(*entries)++;
	}
	return (B_TRUE);
}

/* Nothing here gives way to other fibers: they may write meanwhile. */
static boolean_t
chunks_are_good(leaf_check_t *lc)
{
	zap_leaf_t *l = lc->lc_leaf;
	zap_leaf_phys_t *lp = zap_leaf_phys(l);
	uint_t entries = 0, linked = 0, nfree = 0;

	for (uint16_t chunk = lp->l_hdr.lh_freelist; chunk != CHAIN_END;
	    chunk = ZAP_LEAF_CHUNK(l, chunk).l_free.lf_next) {
		if (!take_chunk(lc, chunk, ZAP_CHUNK_FREE))
			return (B_FALSE);
		nfree++;
	}
	for (uint_t i = 0; i < ZAP_LEAF_HASH_NUMENTRIES(l); i++) {
		if (!bucket_is_good(lc, i, &linked))
			return (B_FALSE);
	}
	/* A leaf is split by what is in its chunks, linked or not. */
	for (uint_t i = 0; i < ZAP_LEAF_NUMCHUNKS(l); i++)
		entries += ZAP_LEAF_ENTRY(l, i)->le_type == ZAP_CHUNK_ENTRY;
	return (entries == linked && lp->l_hdr.lh_nentries == linked &&
	    lp->l_hdr.lh_nfree == nfree);
}

/* In a copy of a leaf that is good: for that may give way. */
static boolean_t
names_are_normal(zap_t *zap, zap_leaf_t *l, uint_t name_max)
{
	char *name = kmem_alloc(name_max, KM_SLEEP);
	boolean_t good = B_TRUE;

	for (uint_t i = 0; i < ZAP_LEAF_NUMCHUNKS(l) && good; i++) {
		struct zap_leaf_entry *le = ZAP_LEAF_ENTRY(l, i);
		uint16_t chunk = le->le_name_chunk;
		uint64_t hash;

		if (le->le_type != ZAP_CHUNK_ENTRY)
			continue;
		for (uint_t at = 0; at < le->le_name_numints;
		    at += ZAP_LEAF_ARRAY_BYTES) {
			struct zap_leaf_array *la =
			    &ZAP_LEAF_CHUNK(l, chunk).l_array;

			memcpy(name + at, la->la_array,
			    MIN(ZAP_LEAF_ARRAY_BYTES,
			    le->le_name_numints - at));
			chunk = la->la_next;
		}
		good = name_is_normal(zap, name, &hash);
	}
	kmem_free(name, name_max);
	return (good);
}

/* The pointer that a hash prefix has in the table. */
static int
table_pointer(zap_t *zap, uint64_t idx, uint64_t *blk)
{
	int bs = FZAP_BLOCK_SHIFT(zap);
	zap_table_phys_t *tbl = &zap_f_phys(zap)->zap_ptrtbl;
	dmu_buf_t *db;
	int error;

	if (tbl->zt_numblks == 0) {
		*blk = ZAP_EMBEDDED_PTRTBL_ENT(zap, idx);
		return (0);
	}
	error = dmu_buf_hold_by_dnode(zap->zap_dnode,
	    (tbl->zt_blk + (idx >> (bs - 3))) << bs, FTAG, &db,
	    DMU_READ_NO_PREFETCH);
	if (error == 0) {
		*blk = ((uint64_t *)db->db_data)[idx & ((1 << (bs - 3)) - 1)];
		dmu_buf_rele(db, FTAG);
	}
	return (error);
}

/*
 * The pointers to a leaf are those of its prefix, and those of its sibling lead
 * elsewhere: who holds the one takes the other's lock.
 */
static int
pointers_check(zap_t *zap, const struct zap_leaf_header *hdr, uint64_t blkid)
{
	int bs = FZAP_BLOCK_SHIFT(zap);
	uint64_t shift = zap_f_phys(zap)->zap_ptrtbl.zt_shift;
	uint64_t len = hdr->lh_prefix_len, prefix = hdr->lh_prefix;
	uint64_t pointers, blk;
	int error;

	if (len > shift || prefix >> len != 0)
		return (SET_ERROR(EIO));
	pointers = 1ULL << (shift - len);
	for (int sibling = 0; sibling <= (len > 0); sibling++) {
		uint64_t first = (prefix ^ sibling) << (shift - len);

		for (int last = 0; last <= 1; last++) {
			error = table_pointer(zap,
			    first + (last ? pointers - 1 : 0), &blk);
			if (error != 0)
				return (error);
			/* As upstream comes from a pointer to an offset. */
			if ((blk << bs == blkid << bs) == sibling)
				return (SET_ERROR(EIO));
		}
	}
	return (0);
}

static int
leaf_check(dnode_t *dn, zap_t *zap, uint64_t blkid, dmu_buf_t *db)
{
	const zap_phys_t *zp = zap_f_phys(zap);
	const zap_table_phys_t *tbl = &zp->zap_ptrtbl;
	struct zap_leaf_header hdr = ((zap_leaf_phys_t *)db->db_data)->l_hdr;
	zap_leaf_t leaf = { .l_bs = FZAP_BLOCK_SHIFT(zap), .l_dbuf = db };
	leaf_check_t lc = { .lc_zap = zap, .lc_leaf = &leaf,
	    .lc_name_max = NAME_MAX_OF(dn->dn_type) };
	dmu_buf_t copy = *db;
	boolean_t good;
	int error;

	if (db->db_size != 1ULL << leaf.l_bs || blkid >= zp->zap_freeblk ||
	    (blkid >= tbl->zt_blk && blkid < tbl->zt_blk + tbl->zt_numblks) ||
	    hdr.lh_block_type != ZBT_LEAF || hdr.lh_magic != ZAP_LEAF_MAGIC ||
	    hdr.lh_pad1 != 0)
		return (bad_block(dn, blkid));
	error = pointers_check(zap, &hdr, blkid);
	if (error != 0)
		return (error == EIO ? bad_block(dn, blkid) : error);
	/* Another one has had a look while the pointers were read. */
	if (dmu_buf_get_user(db) != NULL)
		return (0);
	if (zap->zap_normflags == 0)
		return (chunks_are_good(&lc) ? 0 : bad_block(dn, blkid));

	copy.db_data = vmem_alloc(db->db_size, KM_SLEEP);
	leaf.l_dbuf = &copy;
	if (dmu_buf_get_user(db) != NULL) {
		good = B_TRUE;
	} else {
		memcpy(copy.db_data, db->db_data, db->db_size);
		good = (hdr.lh_flags & ZLF_ENTRIES_CDSORTED) != 0 &&
		    chunks_are_good(&lc) &&
		    names_are_normal(zap, &leaf, lc.lc_name_max);
	}
	vmem_free(copy.db_data, db->db_size);
	return (good ? 0 : bad_block(dn, blkid));
}

/* What zap_micro.c holds headers by. */
extern int libzpool_dmu_buf_hold_by_dnode(dnode_t *, uint64_t, const void *,
    dmu_buf_t **, int);

int
libzpool_dmu_buf_hold_by_dnode(dnode_t *dn, uint64_t offset, const void *tag,
    dmu_buf_t **dbp, int flags)
{
	int error = dmu_buf_hold_by_dnode(dn, offset, tag, dbp, flags);

	if (error == 0 && dmu_buf_get_user(*dbp) == NULL) {
		error = header_check(dn, *dbp);
		if (error != 0)
			dmu_buf_rele(*dbp, tag);
	}
	return (error);
}

/* In releases that hold most of them so. */
extern int libzpool_dmu_buf_hold(objset_t *, uint64_t, uint64_t, const void *,
    dmu_buf_t **, int);

int
libzpool_dmu_buf_hold(objset_t *os, uint64_t object, uint64_t offset,
    const void *tag, dmu_buf_t **dbp, int flags)
{
	dnode_t *dn;
	int error = dnode_hold(os, object, FTAG, &dn);

	if (error == 0) {
		error = libzpool_dmu_buf_hold_by_dnode(dn, offset, tag, dbp,
		    flags);
		dnode_rele(dn, FTAG);
	}
	return (error);
}

/* What zap.c holds the other blocks by (zap_block.h), in this function. */
extern int zap_block_hold(dnode_t *, uint64_t, const void *, dmu_buf_t **, int,
    const char *);

int
zap_block_hold(dnode_t *dn, uint64_t offset, const void *tag, dmu_buf_t **dbp,
    int flags, const char *function)
{
	dmu_buf_t *header;
	int error;

	/* The others write a block that is new, or use the table. */
	if (strcmp(function, "zap_get_leaf_byblk") != 0)
		return (dmu_buf_hold_by_dnode(dn, offset, tag, dbp, flags));
	/* The pointer is not 0, but its block is the header. */
	if (offset == 0)
		return (bad_block(dn, 0));
	error = dmu_buf_hold_by_dnode(dn, offset, tag, dbp, flags);
	if (error != 0 || dmu_buf_get_user(*dbp) != NULL)
		return (error);
	/* Who gets leaves has it locked. */
	VERIFY0(dmu_buf_hold_by_dnode(dn, 0, FTAG, &header,
	    DMU_READ_NO_PREFETCH));
	error = leaf_check(dn, dmu_buf_get_user(header),
	    offset >> (highbit64(header->db_size) - 1), *dbp);
	dmu_buf_rele(header, FTAG);
	if (error != 0)
		dmu_buf_rele(*dbp, tag);
	return (error);
}

/*
 * Blocks of the other byte order are swapped as they are read, or received:
 * upstream panics at a chunk that is none, and believes that there are some.
 */
extern void __real_zap_leaf_byteswap(zap_leaf_phys_t *, size_t);
extern void __wrap_zap_leaf_byteswap(zap_leaf_phys_t *, size_t);

void
__wrap_zap_leaf_byteswap(zap_leaf_phys_t *buf, size_t size)
{
	dmu_buf_t db = { .db_data = buf, .db_size = size };
	zap_leaf_t l = { .l_bs = highbit64(size) - 1, .l_dbuf = &db };

	if (size < SPA_MINBLOCKSIZE)
		return;
	for (uint_t i = 0; i < ZAP_LEAF_NUMCHUNKS(&l); i++) {
		uint8_t type = ZAP_LEAF_CHUNK(&l, i).l_free.lf_type;

		if (type != ZAP_CHUNK_FREE && type != ZAP_CHUNK_ENTRY &&
		    type != ZAP_CHUNK_ARRAY) {
			/* Neither a leaf nor a header. */
			buf->l_hdr.lh_block_type = 0;
			return;
		}
	}
	__real_zap_leaf_byteswap(buf, size);
}
