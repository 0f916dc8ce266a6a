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
 * The attributes of a file system's objects: their registry and their layouts,
 * two ZAP objects, and the header that says which layout an object has. They
 * may be whatever a stream or an image said; upstream takes the numbers in them
 * for indexes, and the layouts for those that it has.
 */

#include <sys/zfs_context.h>
#include <sys/dbuf.h>
#include <sys/dmu.h>
#include <sys/dmu_objset.h>
#include <sys/sa.h>
#include <sys/sa_impl.h>
#include <sys/zap.h>

#include "compat.h"

/* Numbers that are upstream's own: sa_legacy_attrs, and layouts 0 and 1. */
#define	LEGACY_ATTRS	16
#define	LEGACY_LAYOUTS	2
#define	LAYOUT_NUMS	1024	/* that a header has room for */

/* Each attribute has a number below that of all, which is told. */
static int
registry_check(objset_t *os, uint64_t object, uint64_t *attrs)
{
	zap_attribute_t *za;
	zap_cursor_t zc;
	uint64_t seen = 0;
	int error = zap_count(os, object, attrs);

	if (error == 0 && (*attrs < LEGACY_ATTRS || *attrs > UINT16_MAX))
		error = SET_ERROR(EIO);
	if (error != 0)
		return (error);
	za = zap_attribute_alloc();
	for (zap_cursor_init(&zc, os, object);
	    (error = zap_cursor_retrieve(&zc, za)) == 0;
	    zap_cursor_advance(&zc)) {
		uint64_t value = za->za_first_integer;

		if (za->za_integer_length != 8 || za->za_num_integers != 1 ||
		    ATTR_NUM(value) >= *attrs || ATTR_BSWAP(value) > SA_ACL)
			break;
		seen++;
	}
	zap_cursor_fini(&zc);
	zap_attribute_free(za);
	if (error == ENOENT && seen == *attrs)
		return (0);
	return (error == 0 || error == ENOENT ? SET_ERROR(EIO) : error);
}

/* A layout's name is its number, and what it has are attributes. */
static int
layout_check(objset_t *os, uint64_t object, const zap_attribute_t *za,
    uint64_t attrs)
{
	unsigned long long number;
	char name[24];
	uint16_t *numbers;
	int error;

	if (za->za_integer_length != sizeof (*numbers) ||
	    za->za_num_integers == 0 ||
	    ddi_strtoull(za->za_name, NULL, 10, &number) != 0 ||
	    number < LEGACY_LAYOUTS || number >= LAYOUT_NUMS)
		return (SET_ERROR(EIO));
	/* Each number has one name. */
	(void) snprintf(name, sizeof (name), "%llu", number);
	if (strcmp(name, za->za_name) != 0)
		return (SET_ERROR(EIO));
	numbers = kmem_alloc(za->za_num_integers * sizeof (*numbers), KM_SLEEP);
	error = zap_lookup(os, object, za->za_name, sizeof (*numbers),
	    za->za_num_integers, numbers);
	for (uint64_t i = 0; error == 0 && i < za->za_num_integers; i++) {
		if (numbers[i] >= attrs)
			error = SET_ERROR(EIO);
	}
	kmem_free(numbers, za->za_num_integers * sizeof (*numbers));
	return (error);
}

static int
layouts_check(objset_t *os, uint64_t object, uint64_t attrs)
{
	zap_attribute_t *za = zap_attribute_alloc();
	zap_cursor_t zc;
	int error;

	for (zap_cursor_init(&zc, os, object);
	    (error = zap_cursor_retrieve(&zc, za)) == 0;
	    zap_cursor_advance(&zc)) {
		error = layout_check(os, object, za, attrs);
		if (error != 0)
			break;
	}
	zap_cursor_fini(&zc);
	zap_attribute_free(za);
	return (error == ENOENT ? 0 : error);
}

extern int __real_sa_setup(objset_t *, uint64_t, const sa_attr_reg_t *, int,
    sa_attr_type_t **);
extern int __wrap_sa_setup(objset_t *, uint64_t, const sa_attr_reg_t *, int,
    sa_attr_type_t **);

int
__wrap_sa_setup(objset_t *os, uint64_t sa_obj, const sa_attr_reg_t *reg_attrs,
    int count, sa_attr_type_t **user_table)
{
	uint64_t object, attrs = LEGACY_ATTRS;
	int error;

	if (sa_obj != 0 && os->os_sa == NULL) {
		error = zap_lookup(os, sa_obj, SA_REGISTRY, 8, 1, &object);
		if (error == 0)
			error = registry_check(os, object, &attrs);
		if (error == 0 || error == ENOENT)
			error = zap_lookup(os, sa_obj, SA_LAYOUTS, 8, 1,
			    &object);
		if (error == 0)
			error = layouts_check(os, object, attrs);
		if (error != 0 && error != ENOENT)
			return (error);
	}
	return (__real_sa_setup(os, sa_obj, reg_attrs, count, user_table));
}

/* What its layout says is in a buffer has room there. */
static boolean_t
attributes_fit(objset_t *os, const dmu_buf_t *db)
{
	sa_os_t *sa = os->os_sa;
	sa_hdr_phys_t hdr, *phys = db->db_data;
	boolean_t swap;
	sa_lot_t *lot, search;
	uint64_t bytes;
	uint_t lengths = 0;

	if (db->db_size < sizeof (hdr))
		return (B_FALSE);
	hdr = *phys;
	swap = hdr.sa_magic == BSWAP_32(SA_MAGIC);
	if (hdr.sa_magic != 0 && hdr.sa_magic != SA_MAGIC && !swap)
		return (B_FALSE);
	if (swap)
		hdr.sa_layout_info = BSWAP_16(hdr.sa_layout_info);
	search.lot_num = SA_LAYOUT_NUM((&hdr), DMU_OT_SA);
	lot = avl_find(&sa->sa_layout_num_tree, &search, NULL);
	if (lot == NULL)
		return (B_FALSE);
	bytes = P2ROUNDUP(offsetof(sa_hdr_phys_t, sa_lengths) +
	    sizeof (uint16_t) * lot->lot_var_sizes, 8);
	/* Swapped are all that the header has. */
	if (bytes > db->db_size || SA_HDR_SIZE((&hdr)) > db->db_size)
		return (B_FALSE);
	for (uint32_t i = 0; i < lot->lot_attr_count; i++) {
		uint_t length =
		    sa->sa_attr_table[lot->lot_attrs[i]].sa_length;

		if (length == 0) {
			length = phys->sa_lengths[lengths++];
			if (swap)
				length = BSWAP_16(length);
		}
		bytes += P2ROUNDUP(length, 8);
	}
	return (bytes <= P2ROUNDUP(db->db_size, 8));
}

static int
object_check(objset_t *os, uint64_t object)
{
	dmu_buf_t *bonus, *spill;
	dmu_object_info_t doi;
	boolean_t good = B_TRUE;
	int error = dmu_bonus_hold(os, object, FTAG, &bonus);

	if (error != 0)
		return (error);
	dmu_object_info_from_db(bonus, &doi);
	mutex_enter(&os->os_sa->sa_lock);
	if (doi.doi_bonus_type == DMU_OT_SA)
		good = attributes_fit(os, bonus);
	mutex_exit(&os->os_sa->sa_lock);
	/* That it cannot be read is found out, and said, by who needs it. */
	if (good && dmu_spill_hold_existing(bonus, FTAG, &spill) == 0) {
		mutex_enter(&os->os_sa->sa_lock);
		good = doi.doi_bonus_type == DMU_OT_SA &&
		    attributes_fit(os, spill);
		mutex_exit(&os->os_sa->sa_lock);
		dmu_buf_rele(spill, FTAG);
	}
	dmu_buf_rele(bonus, FTAG);
	return (good ? 0 : SET_ERROR(EIO));
}

extern int __real_sa_handle_get(objset_t *, uint64_t, void *, sa_handle_type_t,
    sa_handle_t **);
extern int __wrap_sa_handle_get(objset_t *, uint64_t, void *, sa_handle_type_t,
    sa_handle_t **);

int
__wrap_sa_handle_get(objset_t *os, uint64_t object, void *userp,
    sa_handle_type_t type, sa_handle_t **handlepp)
{
	int error = object_check(os, object);

	return (error != 0 ? error :
	    __real_sa_handle_get(os, object, userp, type, handlepp));
}
