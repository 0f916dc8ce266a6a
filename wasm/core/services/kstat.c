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
 * kstats and procfs lists: what upstream publishes, by the path that a kernel
 * gives it below /proc/spl/kstat. Semantics are those of the SPL
 * (module/os/linux/spl/spl-kstat.c, spl-procfs-list.c).
 */

#include <sys/zfs_context.h>
#include <sys/kstat.h>
#include <sys/nvpair.h>

#include "fiber.h"
#include "inspect.h"
#include "zow.h"

#define	RAW_BUF_MIN	4096
#define	RAW_BUF_MAX	(128 * 1024)	/* KSTAT_RAW_MAX */
#define	TEXT_MAX	(8 * 1024 * 1024) /* a longer text is cut */
#define	YIELD_ROWS	64

/* A node below /proc/spl/kstat. */
typedef struct kstat_node {
	list_node_t	kn_node;
	char		kn_path[2 * KSTAT_STRLEN];
	kstat_t		*kn_kstat;	/* or else … */
	procfs_list_t	*kn_list;
	int		(*kn_show)(struct seq_file *, void *);
	int		(*kn_show_header)(struct seq_file *);
	int		(*kn_clear)(procfs_list_t *);
	boolean_t	kn_visible;
	int		kn_readers;
	fiber_queue_t	kn_idle;	/* who waits for kn_readers == 0 */
} kstat_node_t;

/* A kstat_t as upstream sees it, and what it does not see. */
typedef struct kstat_entry {
	kstat_t		ke_kstat;	/* first */
	kmutex_t	ke_lock;
	kstat_node_t	ke_node;
	int		(*ke_headers)(char *, size_t);
	int		(*ke_data)(char *, size_t, void *);
	void		*(*ke_addr)(kstat_t *, loff_t);
} kstat_entry_t;

/* What seq_printf() writes to. */
typedef struct text {
	char		*t_buf;
	size_t		t_len;
	size_t		t_size;
	boolean_t	t_full;
} text_t;

static list_t kstat_nodes;
static boolean_t kstat_nodes_made;
static int kstat_ids;

static kstat_node_t *
kstat_find(const char *path)
{
	if (!kstat_nodes_made) {
		list_create(&kstat_nodes, sizeof (kstat_node_t),
		    offsetof(kstat_node_t, kn_node));
		kstat_nodes_made = B_TRUE;
	}
	for (kstat_node_t *kn = list_head(&kstat_nodes); kn != NULL;
	    kn = list_next(&kstat_nodes, kn)) {
		if (kn->kn_visible && strcmp(kn->kn_path, path) == 0)
			return (kn);
	}
	return (NULL);
}

/* The newest of a name is seen, as on Linux; the older one lives on. */
static void
kstat_show(kstat_node_t *kn)
{
	kstat_node_t *before = kstat_find(kn->kn_path);

	if (before != NULL)
		before->kn_visible = B_FALSE;
	if (!list_link_active(&kn->kn_node))
		list_insert_tail(&kstat_nodes, kn);
	kn->kn_visible = B_TRUE;
}

/* Takes it out of sight, and waits for who reads it. */
static void
kstat_hide(kstat_node_t *kn)
{
	kn->kn_visible = B_FALSE;
	if (list_link_active(&kn->kn_node))
		list_remove(&kstat_nodes, kn);
	while (kn->kn_readers > 0)
		(void) fiber_wait(&kn->kn_idle, 0);
}

/*
 * What upstream calls.
 */
static int
kstat_default_update(kstat_t *ksp, int rw)
{
	(void) ksp;
	return (rw == KSTAT_WRITE ? EACCES : 0);
}

static size_t
kstat_record_size(uchar_t type)
{
	switch (type) {
	case KSTAT_TYPE_NAMED:
		return (sizeof (kstat_named_t));
	case KSTAT_TYPE_INTR:
		return (sizeof (kstat_intr_t));
	case KSTAT_TYPE_IO:
		return (sizeof (kstat_io_t));
	case KSTAT_TYPE_TIMER:
		return (sizeof (kstat_timer_t));
	default:
		return (1);
	}
}

kstat_t *
kstat_create(const char *module, int instance, const char *name,
    const char *class, uchar_t type, ulong_t ndata, uchar_t flags)
{
	kstat_entry_t *ke = kmem_zalloc(sizeof (*ke), KM_SLEEP);
	kstat_t *ksp = &ke->ke_kstat;

	mutex_init(&ke->ke_lock, NULL, MUTEX_DEFAULT, NULL);
	ksp->ks_crtime = ksp->ks_snaptime = gethrtime();
	ksp->ks_kid = kstat_ids++;
	ksp->ks_instance = instance;
	ksp->ks_type = type;
	ksp->ks_flags = flags;
	ksp->ks_ndata = type == KSTAT_TYPE_RAW ? 1 : ndata;
	ksp->ks_data_size = ndata * kstat_record_size(type);
	ksp->ks_update = kstat_default_update;
	ksp->ks_lock = &ke->ke_lock;
	(void) strlcpy(ksp->ks_module, module, KSTAT_STRLEN);
	(void) strlcpy(ksp->ks_name, name, KSTAT_STRLEN);
	(void) strlcpy(ksp->ks_class, class, KSTAT_STRLEN);
	if (!(flags & KSTAT_FLAG_VIRTUAL) && ksp->ks_data_size != 0)
		ksp->ks_data = kmem_zalloc(ksp->ks_data_size, KM_SLEEP);
	(void) snprintf(ke->ke_node.kn_path, sizeof (ke->ke_node.kn_path),
	    "%s/%s", ksp->ks_module, ksp->ks_name);
	ke->ke_node.kn_kstat = ksp;
	return (ksp);
}

void
kstat_install(kstat_t *ksp)
{
	kstat_show(&((kstat_entry_t *)ksp)->ke_node);
}

void
kstat_delete(kstat_t *ksp)
{
	kstat_entry_t *ke = (kstat_entry_t *)ksp;

	kstat_hide(&ke->ke_node);
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

#define	NODE_ID(list, obj) \
	(((procfs_list_node_t *)((char *)(obj) + (list)->pl_node_offset))-> \
	pln_id)

void
procfs_list_install(const char *module, const char *submodule,
    const char *name, mode_t mode, procfs_list_t *list,
    int (*show)(struct seq_file *f, void *p),
    int (*show_header)(struct seq_file *f),
    int (*clear)(procfs_list_t *list), size_t node_off)
{
	kstat_node_t *kn = kmem_zalloc(sizeof (*kn), KM_SLEEP);

	(void) mode;
	mutex_init(&list->pl_lock, NULL, MUTEX_DEFAULT, NULL);
	list_create(&list->pl_list, node_off + sizeof (procfs_list_node_t),
	    node_off + offsetof(procfs_list_node_t, pln_link));
	list->pl_next_id = 1;
	list->pl_node_offset = node_off;
	(void) snprintf(kn->kn_path, sizeof (kn->kn_path), "%s%s%s/%s", module,
	    submodule != NULL ? "/" : "", submodule != NULL ? submodule : "",
	    name);
	kn->kn_list = list;
	kn->kn_show = show;
	kn->kn_show_header = show_header;
	kn->kn_clear = clear;
	kstat_show(kn);
}

void
procfs_list_uninstall(procfs_list_t *list)
{
	for (kstat_node_t *kn = list_head(&kstat_nodes); kn != NULL;
	    kn = list_next(&kstat_nodes, kn)) {
		if (kn->kn_list == list) {
			kstat_hide(kn);
			kmem_free(kn, sizeof (*kn));
			return;
		}
	}
}

void
procfs_list_destroy(procfs_list_t *list)
{
	ASSERT(list_is_empty(&list->pl_list));
	list_destroy(&list->pl_list);
	mutex_destroy(&list->pl_lock);
}

void
procfs_list_add(procfs_list_t *list, void *p)
{
	ASSERT(MUTEX_HELD(&list->pl_lock));
	NODE_ID(list, p) = list->pl_next_id++;
	list_insert_tail(&list->pl_list, p);
}

/*
 * Text, which ends with its last whole line once it is full.
 */
static boolean_t
text_room(text_t *t, size_t more)
{
	if (t->t_full)
		return (B_FALSE);
	if (t->t_len + more >= t->t_size) {
		size_t size = MAX(t->t_size * 2, t->t_len + more + RAW_BUF_MIN);
		char *grown = size > TEXT_MAX ? NULL : realloc(t->t_buf, size);

		if (grown == NULL) {
			t->t_full = B_TRUE;
			while (t->t_len > 0 && t->t_buf[t->t_len - 1] != '\n')
				t->t_len--;
			return (B_FALSE);
		}
		t->t_buf = grown;
		t->t_size = size;
	}
	return (B_TRUE);
}

static void
text_add(text_t *t, const char *s)
{
	size_t len = strlen(s);

	if (text_room(t, len)) {
		memcpy(t->t_buf + t->t_len, s, len);
		t->t_len += len;
	}
}

void
seq_printf(struct seq_file *f, const char *fmt, ...)
{
	text_t *t = (text_t *)f;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (len < 0 || !text_room(t, len))
		return;
	va_start(ap, fmt);
	t->t_len += vsnprintf(t->t_buf + t->t_len, len + 1, fmt, ap);
	va_end(ap);
}

/*
 * snprintf() of zfs_debug.c, whose format begins with Linux's %px: a pointer
 * as it is, which is %p here.
 */
int
libzpool_snprintf(char *buf, size_t size, const char *fmt, ...)
{
	char plain[64];
	va_list ap;
	int len;

	(void) strlcpy(plain, fmt, sizeof (plain));
	if (strncmp(plain, "%px", 3) == 0)
		memmove(plain + 2, plain + 3, strlen(plain + 3) + 1);
	va_start(ap, fmt);
	len = vsnprintf(buf, size, plain, ap);
	va_end(ap);
	return (len);
}

/*
 * Reading.
 */
static void
text_to_nvlist(text_t *t, nvlist_t *nvl)
{
	if (text_room(t, 0) || t->t_buf != NULL)
		t->t_buf[t->t_len] = '\0';
	fnvlist_add_string(nvl, "text", t->t_buf != NULL ? t->t_buf : "");
	if (t->t_full)
		fnvlist_add_boolean(nvl, "truncated");
	free(t->t_buf);
}

/* Calls headers() or data() with a buffer that is as large as it asks for. */
static void
raw_call(kstat_entry_t *ke, text_t *t, char **buf, size_t *size, void *data)
{
	int error;

	for (;;) {
		(*buf)[0] = '\0';
		error = data == NULL ? ke->ke_headers(*buf, *size) :
		    ke->ke_data(*buf, *size, data);
		if (error != ENOMEM || *size == RAW_BUF_MAX)
			break;
		kmem_free(*buf, *size);
		*size = MIN(*size * 2, RAW_BUF_MAX);
		*buf = kmem_alloc(*size, KM_SLEEP);
	}
	if (error == 0)
		text_add(t, *buf);
}

/* preempt.h */
int kstat_raw_reads;

static void
read_raw(kstat_entry_t *ke, nvlist_t *nvl)
{
	kstat_t *ksp = &ke->ke_kstat;
	text_t t = { NULL };
	size_t size = RAW_BUF_MIN;
	char *buf;

	if (ke->ke_data == NULL) {
		fnvlist_add_uint8_array(nvl, "bytes", ksp->ks_data,
		    ksp->ks_data == NULL ? 0 : ksp->ks_data_size);
		return;
	}
	buf = kmem_alloc(size, KM_SLEEP);
	kstat_raw_reads++;
	if (ke->ke_headers != NULL && !(ksp->ks_flags & KSTAT_FLAG_NO_HEADERS))
		raw_call(ke, &t, &buf, &size, NULL);
	else if (!(ksp->ks_flags & KSTAT_FLAG_NO_HEADERS))
		text_add(&t, "raw data\n");
	for (uint_t n = 0; n < ksp->ks_ndata && !t.t_full; n++) {
		void *data = ke->ke_addr != NULL ? ke->ke_addr(ksp, n) :
		    ksp->ks_data;

		if (data == NULL)
			break;
		raw_call(ke, &t, &buf, &size, data);
		if (n % YIELD_ROWS == YIELD_ROWS - 1)
			fiber_yield();
	}
	kstat_raw_reads--;
	kmem_free(buf, size);
	text_to_nvlist(&t, nvl);
}

static void
read_named(kstat_t *ksp, nvlist_t *nvl)
{
	nvlist_t *named = fnvlist_alloc();
	kstat_named_t *knp = ksp->ks_data;
	char text[sizeof (knp->value.c) + 1];

	for (uint_t i = 0; knp != NULL && i < ksp->ks_ndata; i++, knp++) {
		switch (knp->data_type) {
		case KSTAT_DATA_CHAR:
			(void) strlcpy(text, knp->value.c, sizeof (text));
			fnvlist_add_string(named, knp->name, text);
			break;
		case KSTAT_DATA_INT32:
			fnvlist_add_int32(named, knp->name, knp->value.i32);
			break;
		case KSTAT_DATA_UINT32:
			fnvlist_add_uint32(named, knp->name, knp->value.ui32);
			break;
		case KSTAT_DATA_INT64:
			fnvlist_add_int64(named, knp->name, knp->value.i64);
			break;
		case KSTAT_DATA_UINT64:
			fnvlist_add_uint64(named, knp->name, knp->value.ui64);
			break;
		case KSTAT_DATA_STRING:
			fnvlist_add_string(named, knp->name,
			    KSTAT_NAMED_STR_PTR(knp) != NULL ?
			    KSTAT_NAMED_STR_PTR(knp) : "");
			break;
		default:
			break;
		}
	}
	fnvlist_add_nvlist(nvl, "named", named);
	fnvlist_free(named);
}

static void
read_intr(const kstat_intr_t *kip, nvlist_t *nvl)
{
	fnvlist_add_uint32(nvl, "hard", kip->intrs[KSTAT_INTR_HARD]);
	fnvlist_add_uint32(nvl, "soft", kip->intrs[KSTAT_INTR_SOFT]);
	fnvlist_add_uint32(nvl, "watchdog", kip->intrs[KSTAT_INTR_WATCHDOG]);
	fnvlist_add_uint32(nvl, "spurious", kip->intrs[KSTAT_INTR_SPURIOUS]);
	fnvlist_add_uint32(nvl, "multsvc", kip->intrs[KSTAT_INTR_MULTSVC]);
}

static void
read_io(const kstat_io_t *kip, nvlist_t *nvl)
{
	fnvlist_add_uint64(nvl, "nread", kip->nread);
	fnvlist_add_uint64(nvl, "nwritten", kip->nwritten);
	fnvlist_add_uint32(nvl, "reads", kip->reads);
	fnvlist_add_uint32(nvl, "writes", kip->writes);
	fnvlist_add_uint64(nvl, "wtime", kip->wtime);
	fnvlist_add_uint64(nvl, "wlentime", kip->wlentime);
	fnvlist_add_uint64(nvl, "wupdate", kip->wlastupdate);
	fnvlist_add_uint64(nvl, "rtime", kip->rtime);
	fnvlist_add_uint64(nvl, "rlentime", kip->rlentime);
	fnvlist_add_uint64(nvl, "rupdate", kip->rlastupdate);
	fnvlist_add_uint32(nvl, "wcnt", kip->wcnt);
	fnvlist_add_uint32(nvl, "rcnt", kip->rcnt);
}

static void
read_timer(const kstat_timer_t *ktp, nvlist_t *nvl)
{
	fnvlist_add_string(nvl, "name", ktp->name);
	fnvlist_add_uint64(nvl, "events", ktp->num_events);
	fnvlist_add_uint64(nvl, "elapsed", ktp->elapsed_time);
	fnvlist_add_uint64(nvl, "min", ktp->min_time);
	fnvlist_add_uint64(nvl, "max", ktp->max_time);
	fnvlist_add_uint64(nvl, "start", ktp->start_time);
	fnvlist_add_uint64(nvl, "stop", ktp->stop_time);
}

/* One nvlist for each record of a kstat of fixed layout. */
static void
read_records(kstat_t *ksp, nvlist_t *nvl)
{
	size_t size = kstat_record_size(ksp->ks_type);
	uint_t count = ksp->ks_data != NULL ? ksp->ks_ndata : 0;
	nvlist_t **records = kmem_alloc((count + 1) * sizeof (*records),
	    KM_SLEEP);

	for (uint_t i = 0; i < count; i++) {
		void *data = (char *)ksp->ks_data + i * size;

		records[i] = fnvlist_alloc();
		if (ksp->ks_type == KSTAT_TYPE_INTR)
			read_intr(data, records[i]);
		else if (ksp->ks_type == KSTAT_TYPE_IO)
			read_io(data, records[i]);
		else
			read_timer(data, records[i]);
	}
	fnvlist_add_nvlist_array(nvl, "records",
	    (const nvlist_t *const *)records, count);
	for (uint_t i = 0; i < count; i++)
		fnvlist_free(records[i]);
	kmem_free(records, (count + 1) * sizeof (*records));
}

static void
read_kstat(kstat_t *ksp, nvlist_t *nvl)
{
	mutex_enter(ksp->ks_lock);
	/* After an error the values are those of before. */
	(void) ksp->ks_update(ksp, KSTAT_READ);
	ksp->ks_snaptime = gethrtime();
	fnvlist_add_int32(nvl, "instance", ksp->ks_instance);
	fnvlist_add_string(nvl, "class", ksp->ks_class);
	fnvlist_add_uint32(nvl, "type", ksp->ks_type);
	fnvlist_add_uint32(nvl, "flags", ksp->ks_flags);
	fnvlist_add_int32(nvl, "kid", ksp->ks_kid);
	fnvlist_add_int32(nvl, "ndata", ksp->ks_ndata);
	fnvlist_add_int32(nvl, "size", ksp->ks_data_size);
	fnvlist_add_int64(nvl, "crtime", ksp->ks_crtime);
	fnvlist_add_int64(nvl, "snaptime", ksp->ks_snaptime);
	if (ksp->ks_type == KSTAT_TYPE_RAW)
		read_raw((kstat_entry_t *)ksp, nvl);
	else if (ksp->ks_type == KSTAT_TYPE_NAMED)
		read_named(ksp, nvl);
	else
		read_records(ksp, nvl);
	mutex_exit(ksp->ks_lock);
}

static void
read_list(kstat_node_t *kn, nvlist_t *nvl)
{
	procfs_list_t *list = kn->kn_list;
	text_t t = { NULL };
	int rows = 0;

	mutex_enter(&list->pl_lock);
	if (kn->kn_show_header != NULL)
		(void) kn->kn_show_header((struct seq_file *)&t);
	for (void *p = list_head(&list->pl_list); p != NULL && !t.t_full;
	    p = list_next(&list->pl_list, p)) {
		(void) kn->kn_show((struct seq_file *)&t, p);
		if (++rows % YIELD_ROWS == 0)
			fiber_yield();
	}
	mutex_exit(&list->pl_lock);
	text_to_nvlist(&t, nvl);
}

static void
node_rele(kstat_node_t *kn)
{
	if (--kn->kn_readers == 0)
		fiber_wake_all(&kn->kn_idle);
}

void
kstat_paths(nvlist_t *nvl)
{
	uint_t count = 0, room = 0;
	char **paths;

	(void) kstat_find("");
	for (kstat_node_t *kn = list_head(&kstat_nodes); kn != NULL;
	    kn = list_next(&kstat_nodes, kn))
		room++;
	/* Whether it waits or not: nothing of the list is held. */
	paths = kmem_alloc((room + 1) * sizeof (*paths), KM_SLEEP);
	for (kstat_node_t *kn = list_head(&kstat_nodes); kn != NULL;
	    kn = list_next(&kstat_nodes, kn)) {
		if (kn->kn_visible && count < room)
			paths[count++] = kn->kn_path;
	}
	fnvlist_add_string_array(nvl, "paths", (const char *const *)paths,
	    count);
	kmem_free(paths, (room + 1) * sizeof (*paths));
}

int
kstat_read(const char *path, nvlist_t *nvl)
{
	kstat_node_t *kn = kstat_find(path);

	if (kn == NULL)
		return (ENOENT);
	kn->kn_readers++;
	fnvlist_add_string(nvl, "path", kn->kn_path);
	if (kn->kn_kstat != NULL)
		read_kstat(kn->kn_kstat, nvl);
	else
		read_list(kn, nvl);
	node_rele(kn);
	return (0);
}

int
kstat_clear(const char *path)
{
	kstat_node_t *kn = kstat_find(path);
	int error = EACCES;

	if (kn == NULL)
		return (ENOENT);
	kn->kn_readers++;
	if (kn->kn_kstat != NULL) {
		mutex_enter(kn->kn_kstat->ks_lock);
		error = kn->kn_kstat->ks_update(kn->kn_kstat, KSTAT_WRITE);
		mutex_exit(kn->kn_kstat->ks_lock);
	} else if (kn->kn_clear != NULL) {
		error = kn->kn_clear(kn->kn_list);
	}
	node_rele(kn);
	return (ABS(error));
}
