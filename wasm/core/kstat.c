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
 * kstats and procfs lists: a registry of what upstream publishes, which the
 * host reads.
 */

#include <sys/zfs_context.h>
#include <sys/kstat.h>

#include "fiber.h"
#include "zow.h"

typedef struct kstat_entry {
	kstat_t		ke_kstat;	/* first: upstream sees only this */
	list_node_t	ke_node;
	kmutex_t	ke_lock;
	boolean_t	ke_installed;
	int		(*ke_headers)(char *, size_t);
	int		(*ke_data)(char *, size_t, void *);
	void		*(*ke_addr)(kstat_t *, loff_t);
} kstat_entry_t;

static list_t kstats;
static boolean_t kstats_made;
static int kstat_ids;

static int
kstat_default_update(kstat_t *ksp, int rw)
{
	(void) ksp;
	return (rw == KSTAT_WRITE ? EACCES : 0);
}

static size_t
kstat_data_size(uchar_t type, ulong_t ndata)
{
	switch (type) {
	case KSTAT_TYPE_NAMED:
		return (ndata * sizeof (kstat_named_t));
	case KSTAT_TYPE_INTR:
		return (ndata * sizeof (kstat_intr_t));
	case KSTAT_TYPE_IO:
		return (ndata * sizeof (kstat_io_t));
	case KSTAT_TYPE_TIMER:
		return (ndata * sizeof (kstat_timer_t));
	default:
		return (ndata);
	}
}

kstat_t *
kstat_create(const char *module, int instance, const char *name,
    const char *class, uchar_t type, ulong_t ndata, uchar_t flags)
{
	kstat_entry_t *ke = kmem_zalloc(sizeof (*ke), KM_SLEEP);
	kstat_t *ksp = &ke->ke_kstat;

	if (!kstats_made) {
		list_create(&kstats, sizeof (kstat_entry_t),
		    offsetof(kstat_entry_t, ke_node));
		kstats_made = B_TRUE;
	}
	mutex_init(&ke->ke_lock, NULL, MUTEX_DEFAULT, NULL);
	ksp->ks_crtime = gethrtime();
	ksp->ks_kid = ++kstat_ids;
	ksp->ks_instance = instance;
	ksp->ks_type = type;
	ksp->ks_flags = flags;
	ksp->ks_ndata = ndata;
	ksp->ks_data_size = kstat_data_size(type, ndata);
	ksp->ks_update = kstat_default_update;
	ksp->ks_lock = &ke->ke_lock;
	(void) strlcpy(ksp->ks_module, module, KSTAT_STRLEN);
	(void) strlcpy(ksp->ks_name, name, KSTAT_STRLEN);
	(void) strlcpy(ksp->ks_class, class, KSTAT_STRLEN);
	if (!(flags & KSTAT_FLAG_VIRTUAL) && ksp->ks_data_size != 0)
		ksp->ks_data = kmem_zalloc(ksp->ks_data_size, KM_SLEEP);
	list_insert_tail(&kstats, ke);
	return (ksp);
}

void
kstat_install(kstat_t *ksp)
{
	((kstat_entry_t *)ksp)->ke_installed = B_TRUE;
}

void
kstat_delete(kstat_t *ksp)
{
	kstat_entry_t *ke = (kstat_entry_t *)ksp;

	list_remove(&kstats, ke);
	if (!(ksp->ks_flags & KSTAT_FLAG_VIRTUAL) && ksp->ks_data_size != 0)
		kmem_free(ksp->ks_data, ksp->ks_data_size);
	mutex_destroy(&ke->ke_lock);
	kmem_free(ke, sizeof (*ke));
}

void
kstat_set_raw_ops(kstat_t *ksp,
    int (*headers)(char *buf, size_t size),
    int (*data)(char *buf, size_t size, void *data),
    void *(*addr)(kstat_t *ksp, loff_t index))
{
	kstat_entry_t *ke = (kstat_entry_t *)ksp;

	ke->ke_headers = headers;
	ke->ke_data = data;
	ke->ke_addr = addr;
}
