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
 * From where an interrupted receive goes on. Blocks come in order, so the last
 * one that was written is such a place. Upstream takes the last object for one
 * as well, since the senders of today send all that is in an object before the
 * next one; those before 2.0 send the objects of a whole block of dnodes, and
 * then what is in them. Of the two, an object without blocks behind another one
 * looks the same: so the first object of a block of dnodes is a place, which
 * both kinds of senders send behind all of the block before.
 *
 * dmu_recv.c is compiled with dmu_object_set_compress() and dmu_tx_commit()
 * under the names they have here (zfs-src/units.ts): the one is called for
 * every object that comes, the other when upstream has taken it for a place.
 */

#include <sys/zfs_context.h>
#include <sys/dmu.h>
#include <sys/dmu_objset.h>
#include <sys/dmu_tx.h>
#include <sys/dnode.h>
#include <sys/dsl_dataset.h>

#include "receive.h"

/* The receives under way: few, and each has one fiber that writes. */
static receive_place_t *places;

#define	SAME_BLOCK(a, b)	\
	((a) >> DNODES_PER_BLOCK_SHIFT == (b) >> DNODES_PER_BLOCK_SHIFT)

void
receive_place_begin(receive_place_t *rp, objset_t *os)
{
	memset(rp, 0, sizeof (*rp));
	rp->rp_os = os;
	rp->rp_next = places;
	places = rp;
}

void
receive_place_end(receive_place_t *rp)
{
	receive_place_t **link = &places;

	while (*link != rp)
		link = &(*link)->rp_next;
	*link = rp->rp_next;
}

static receive_place_t *
receive_place_of(const objset_t *os)
{
	receive_place_t *rp = places;

	while (rp != NULL && rp->rp_os != os)
		rp = rp->rp_next;
	return (rp);
}

extern void libzpool_dmu_object_set_compress(objset_t *, uint64_t, uint8_t,
    dmu_tx_t *);
extern void libzpool_dmu_tx_commit(dmu_tx_t *);

void
libzpool_dmu_object_set_compress(objset_t *os, uint64_t object,
    uint8_t compress, dmu_tx_t *tx)
{
	receive_place_t *rp = receive_place_of(os);

	if (rp != NULL)
		rp->rp_receiving = object;
	dmu_object_set_compress(os, object, compress, tx);
}

void
libzpool_dmu_tx_commit(dmu_tx_t *tx)
{
	receive_place_t *rp = receive_place_of(tx->tx_objset);
	dsl_dataset_t *ds = tx->tx_objset->os_dsl_dataset;
	int i = dmu_tx_get_txg(tx) & TXG_MASK;

	/* No place is kept of a receive that cannot be resumed. */
	if (rp != NULL && ds->ds_resume_bytes[i] != 0) {
		if (rp->rp_receiving == 0) {
			rp->rp_object = ds->ds_resume_object[i];
			rp->rp_offset = ds->ds_resume_offset[i];
		} else {
			if (rp->rp_first == 0 ||
			    !SAME_BLOCK(rp->rp_first, rp->rp_receiving))
				rp->rp_first = rp->rp_receiving;
			if (rp->rp_object < rp->rp_first) {
				rp->rp_object = rp->rp_first;
				rp->rp_offset = 0;
			}
			ds->ds_resume_object[i] = rp->rp_object;
			ds->ds_resume_offset[i] = rp->rp_offset;
		}
	}
	if (rp != NULL)
		rp->rp_receiving = 0;
	dmu_tx_commit(tx);
}
