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
 * What a new filesystem has on disk: the master node, the registry of system
 * attributes, an empty unlinked set, and the root directory. A kernel makes
 * the directory through its POSIX layer (zfs_mknode()); without one it is
 * written here, attribute by attribute, as that layer would leave it.
 */

#include <sys/zfs_context.h>
#include <sys/acl.h>
#include <sys/cred.h>
#include <sys/dmu_objset.h>
#include <sys/dnode.h>
#include <sys/sa.h>
#include <sys/spa.h>
#include <sys/stat.h>
#include <sys/u8_textprep.h>
#include <sys/zap.h>
#include <sys/zfs_acl.h>
#include <sys/zfs_sa.h>
#include <sys/zfs_znode.h>
#include "zfs_comutil.h"

#define	ROOT_MODE	(S_IFDIR | 0755)
#define	ROOT_ACES	3

/* What everybody may do with a directory of mode 0755, and its owner besides */
#define	EVERYONE_MASK	(ACE_READ_ACL | ACE_READ_ATTRIBUTES | \
    ACE_READ_NAMED_ATTRS | ACE_SYNCHRONIZE | ACE_READ_DATA | ACE_EXECUTE)
#define	OWNER_MASK	(EVERYONE_MASK | ACE_WRITE_ATTRIBUTES | \
    ACE_WRITE_OWNER | ACE_WRITE_ACL | ACE_WRITE_NAMED_ATTRS | \
    ACE_WRITE_DATA | ACE_APPEND_DATA | ACE_DELETE_CHILD)

/* The trivial ACL that says the same as mode 0755 */
static const zfs_ace_hdr_t root_aces[ROOT_ACES] = {
	{ ACE_ACCESS_ALLOWED_ACE_TYPE, ACE_OWNER, OWNER_MASK },
	{ ACE_ACCESS_ALLOWED_ACE_TYPE, ACE_GROUP | ACE_IDENTIFIER_GROUP,
	    EVERYONE_MASK },
	{ ACE_ACCESS_ALLOWED_ACE_TYPE, ACE_EVERYONE, EVERYONE_MASK },
};

/* The attributes of a root directory, in either form of a znode */
typedef struct root_attrs {
	uint64_t	ra_mode;
	uint64_t	ra_size;	/* entries: "." and ".." */
	uint64_t	ra_links;
	uint64_t	ra_gen;		/* txg of creation */
	uint64_t	ra_uid;
	uint64_t	ra_gid;
	uint64_t	ra_parent;	/* its own object */
	uint64_t	ra_pflags;
	uint64_t	ra_time[2];	/* seconds and nanoseconds */
	uint64_t	ra_projid;
} root_attrs_t;

static void
root_attrs_init(root_attrs_t *ra, objset_t *os, cred_t *cr, uint64_t version,
    dmu_tx_t *tx)
{
	inode_timespec_t now;

	gethrestime(&now);
	memset(ra, 0, sizeof (*ra));
	ra->ra_mode = ROOT_MODE;
	ra->ra_size = 2;
	ra->ra_links = 2;
	ra->ra_gen = dmu_tx_get_txg(tx);
	ra->ra_uid = crgetuid(cr);
	ra->ra_gid = crgetgid(cr);
	ra->ra_time[0] = now.tv_sec;
	ra->ra_time[1] = now.tv_nsec;
	ra->ra_projid = ZFS_DEFAULT_PROJID;
	ra->ra_pflags = ZFS_ACL_TRIVIAL | ZFS_ACL_AUTO_INHERIT |
	    ZFS_NO_EXECS_DENIED;
	if (USE_FUIDS(version, os))
		ra->ra_pflags |= ZFS_ARCHIVE | ZFS_AV_MODIFIED;
	if (USE_SA(version, os) && dmu_objset_projectquota_enabled(os))
		ra->ra_pflags |= ZFS_PROJID;
}

/*
 * The root directory's attributes as system attributes, since ZPL version 5.
 * Their order is upstream's: space accounting reads by offset (SA_UID_OFFSET
 * and its neighbours).
 */
static void
root_write_sa(objset_t *os, const sa_attr_type_t *table, root_attrs_t *ra,
    dmu_tx_t *tx)
{
	sa_bulk_attr_t attrs[ZPL_END];
	sa_handle_t *hdl;
	uint64_t ace_count = ROOT_ACES;
	int count = 0;

#define	ADD(attr, value, size) \
	SA_ADD_BULK_ATTR(attrs, count, table[attr], NULL, value, size)
	ADD(ZPL_MODE, &ra->ra_mode, 8);
	ADD(ZPL_SIZE, &ra->ra_size, 8);
	ADD(ZPL_GEN, &ra->ra_gen, 8);
	ADD(ZPL_UID, &ra->ra_uid, 8);
	ADD(ZPL_GID, &ra->ra_gid, 8);
	ADD(ZPL_PARENT, &ra->ra_parent, 8);
	ADD(ZPL_FLAGS, &ra->ra_pflags, 8);
	ADD(ZPL_ATIME, ra->ra_time, 16);
	ADD(ZPL_MTIME, ra->ra_time, 16);
	ADD(ZPL_CTIME, ra->ra_time, 16);
	ADD(ZPL_CRTIME, ra->ra_time, 16);
	ADD(ZPL_LINKS, &ra->ra_links, 8);
	if (ra->ra_pflags & ZFS_PROJID)
		ADD(ZPL_PROJID, &ra->ra_projid, 8);
	ADD(ZPL_DACL_COUNT, &ace_count, 8);
	ADD(ZPL_DACL_ACES, (void *)root_aces, sizeof (root_aces));
#undef	ADD

	VERIFY0(sa_handle_get(os, ra->ra_parent, NULL, SA_HDL_PRIVATE, &hdl));
	VERIFY0(sa_replace_all_by_template(hdl, attrs, count, tx));
	sa_handle_destroy(hdl);
}

/*
 * Before ZPL version 5 a znode is a structure of fixed size. Its ACL has room
 * for the three entries, whose form changed with ZPL version 3.
 */
static void
root_write_znode(objset_t *os, const root_attrs_t *ra, uint64_t version,
    dmu_tx_t *tx)
{
	dmu_buf_t *db;
	znode_phys_t *zp;
	zfs_acl_phys_t *acl;

	VERIFY0(dmu_bonus_hold(os, ra->ra_parent, FTAG, &db));
	dmu_buf_will_dirty(db, tx);
	zp = db->db_data;
	memset(zp, 0, sizeof (*zp));
	memcpy(zp->zp_atime, ra->ra_time, sizeof (zp->zp_atime));
	memcpy(zp->zp_mtime, ra->ra_time, sizeof (zp->zp_mtime));
	memcpy(zp->zp_ctime, ra->ra_time, sizeof (zp->zp_ctime));
	memcpy(zp->zp_crtime, ra->ra_time, sizeof (zp->zp_crtime));
	zp->zp_gen = ra->ra_gen;
	zp->zp_mode = ra->ra_mode;
	zp->zp_size = ra->ra_size;
	zp->zp_parent = ra->ra_parent;
	zp->zp_links = ra->ra_links;
	zp->zp_flags = ra->ra_pflags;
	zp->zp_uid = ra->ra_uid;
	zp->zp_gid = ra->ra_gid;

	acl = &zp->zp_acl;
	if (version >= ZPL_VERSION_FUID) {
		acl->z_acl_version = ZFS_ACL_VERSION_FUID;
		acl->z_acl_size = sizeof (root_aces);
		acl->z_acl_count = ROOT_ACES;
		memcpy(acl->z_ace_data, root_aces, sizeof (root_aces));
	} else {
		zfs_acl_phys_v0_t *v0 = (zfs_acl_phys_v0_t *)acl;

		v0->z_acl_version = ZFS_ACL_VERSION_INITIAL;
		v0->z_acl_count = ROOT_ACES;
		/* Where upstream has the size in bytes since. */
		v0->z_acl_pad = ROOT_ACES * sizeof (zfs_oldace_t);
		for (int i = 0; i < ROOT_ACES; i++) {
			zfs_oldace_t *ace = &v0->z_ace_data[i];

			ace->z_access_mask = root_aces[i].z_access_mask;
			ace->z_flags = root_aces[i].z_flags;
			ace->z_type = root_aces[i].z_type;
		}
	}
	dmu_buf_rele(db, FTAG);
}

/*
 * Makes an empty root directory whose names are compared by `norm`
 * (U8_TEXTPREP_*). Returns its object.
 */
static uint64_t
root_create(objset_t *os, cred_t *cr, uint64_t version, int norm,
    uint64_t sa_obj, dmu_tx_t *tx)
{
	boolean_t use_sa = USE_SA(version, os);
	int dnodesize = dmu_objset_dnodesize(os);
	sa_attr_type_t *table;
	root_attrs_t ra;

	if (dnodesize == 0)
		dnodesize = DNODE_MIN_SIZE;
	VERIFY0(sa_setup(os, sa_obj, zfs_attr_table, ZPL_END, &table));
	root_attrs_init(&ra, os, cr, version, tx);
	ra.ra_parent = zap_create_norm_dnsize(os, norm,
	    DMU_OT_DIRECTORY_CONTENTS, use_sa ? DMU_OT_SA : DMU_OT_ZNODE,
	    use_sa ? DN_BONUS_SIZE(dnodesize) : ZFS_OLD_ZNODE_PHYS_SIZE,
	    dnodesize, tx);
	if (use_sa)
		root_write_sa(os, table, &ra, tx);
	else
		root_write_znode(os, &ra, version, tx);
	return (ra.ra_parent);
}

/*
 * Makes the contents of a new, empty objset of type DMU_OST_ZFS, in syncing
 * context. `zplprops` (zfs_fill_zplprops()) has what is kept in the master
 * node: the ZPL version, utf8only, normalization, casesensitivity and default
 * quotas. Nothing has to be read, so nothing can fail.
 */
void
zfs_create_fs(objset_t *os, cred_t *cr, nvlist_t *zplprops, dmu_tx_t *tx)
{
	uint64_t version = zfs_zpl_version_map(spa_version(dmu_objset_spa(os)));
	uint64_t sense = ZFS_CASE_SENSITIVE;
	uint64_t norm = 0;
	uint64_t sa_obj = 0;
	uint64_t obj;
	nvpair_t *elem = NULL;

	VERIFY0(zap_create_claim(os, MASTER_NODE_OBJ, DMU_OT_MASTER_NODE,
	    DMU_OT_NONE, 0, tx));

	while ((elem = nvlist_next_nvpair(zplprops, elem)) != NULL) {
		uint64_t value = fnvpair_value_uint64(elem);

		switch (zfs_name_to_prop(nvpair_name(elem))) {
		case ZFS_PROP_VERSION:
			version = MIN(version, value);
			continue;
		case ZFS_PROP_NORMALIZE:
			norm = value;
			break;
		case ZFS_PROP_CASE:
			sense = value;
			break;
		default:
			break;
		}
		VERIFY0(zap_update(os, MASTER_NODE_OBJ, nvpair_name(elem), 8, 1,
		    &value, tx));
	}
	VERIFY0(zap_update(os, MASTER_NODE_OBJ, ZPL_VERSION_STR, 8, 1,
	    &version, tx));

	if (version >= ZPL_VERSION_SA) {
		sa_obj = zap_create(os, DMU_OT_SA_MASTER_NODE, DMU_OT_NONE, 0,
		    tx);
		VERIFY0(zap_add(os, MASTER_NODE_OBJ, ZFS_SA_ATTRS, 8, 1,
		    &sa_obj, tx));
	}

	obj = zap_create(os, DMU_OT_UNLINKED_SET, DMU_OT_NONE, 0, tx);
	VERIFY0(zap_add(os, MASTER_NODE_OBJ, ZFS_UNLINKED_SET, 8, 1, &obj, tx));

	/* Names are also folded where case is ignored, always or sometimes. */
	if (sense == ZFS_CASE_INSENSITIVE || sense == ZFS_CASE_MIXED)
		norm |= U8_TEXTPREP_TOUPPER;
	obj = root_create(os, cr, version, norm, sa_obj, tx);
	VERIFY0(zap_add(os, MASTER_NODE_OBJ, ZFS_ROOT_OBJ, 8, 1, &obj, tx));
}
