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
 * The kernel boundary: sessions (opens of /dev/zfs) and their ioctls, in the
 * place of module/os/linux/zfs/zfs_ioctl_os.c. Every ioctl goes to upstream's
 * zfsdev_ioctl_common(), which checks names, permissions, pool state and
 * input before the handler runs.
 */

#include <sys/zfs_context.h>
#include <sys/zfs_vfsops.h>
#include <sys/zfs_ioctl.h>
#include <sys/zfs_ioctl_impl.h>
#include <sys/zfs_onexit.h>
#include <sys/nvpair.h>
#include <sys/spa_impl.h>
#include <sys/txg.h>
#include <sys/arc.h>
#include <sys/arc_impl.h>
#include <zfs_namecheck.h>

#include "admission.h"
#include "compat.h"
#include "flush.h"
#include "malloc.h"
#include "seam.h"
#include "session.h"
#include "work.h"

/*
 * Where an ioctl's handler sees the client's buffers. A real address of the
 * module never is an ioctl's: handlers reach these by ddi_copyin() and
 * ddi_copyout() only, as a kernel reaches user space.
 */
#define	USER_SPACE	0x10000000u	/* size of each buffer's range */
#define	USER_SRC	(1 * USER_SPACE)
#define	USER_CONF	(2 * USER_SPACE)
#define	USER_HISTORY	(3 * USER_SPACE)
#define	USER_DST	(4 * USER_SPACE)

/* Not the ioctls' queue: closing a session ends ioctls that wait. */

/* How long a closing session is waited for: a disk may hang for ever. */
#define	CLOSING_SECONDS_MAX	30

static list_t sessions;
static list_t processes;
static list_t requests;		/* under way, and in line for a fiber */
static kmutex_t closing_lock;
static kcondvar_t closing_cv;	/* a session has closed */
static list_t loading;		/* pools that ioctls import or look into */
static kmutex_t loading_lock;
static kcondvar_t loading_cv;	/* one of them is through */

ioctl_request_t *
ioctl_current(void)
{
	return (fiber_current != NULL ? fiber_current->f_context : NULL);
}

proc_t *
zow_curproc(void)
{
	ioctl_request_t *r = ioctl_current();

	return (r != NULL ? (proc_t *)r->r_session->s_process : &p0);
}

int
zow_interrupted(void)
{
	return (fiber_current->f_interrupted);
}

/*
 * Copies between the handler and the client's buffers.
 */
static int
user_out(ioctl_request_t *r, char **buf, size_t *len, size_t room,
    size_t offset, const void *from, size_t count)
{
	if (offset > room || count > room - offset)
		return (EFAULT);
	if (offset + count > *len) {
		/* It is not worth the host's end. */
		char *grown = kmem_alloc(offset + count, KM_NOSLEEP);

		if (grown == NULL) {
			r->r_starved = B_TRUE;
			return (EFAULT);
		}
		if (*len > 0)
			memcpy(grown, *buf, *len);
		memset(grown + *len, 0, offset + count - *len);
		free(*buf);
		*buf = grown;
		*len = offset + count;
	}
	memcpy(*buf + offset, from, count);
	return (0);
}

int
ddi_copyout(const void *from, void *to, size_t len, int flags)
{
	ioctl_request_t *r = ioctl_current();
	uintptr_t offset = (uintptr_t)to % USER_SPACE;

	(void) flags;
	if (len == 0)
		return (0);
	if (r == NULL)
		return (EFAULT);
	switch ((uintptr_t)to - offset) {
	case USER_DST:
		return (user_out(r, &r->r_dst, &r->r_dst_len, r->r_dst_room,
		    offset, from, len));
	case USER_HISTORY:
		return (user_out(r, &r->r_out_history, &r->r_out_history_len,
		    r->r_out_history_room, offset, from, len));
	default:
		return (EFAULT);
	}
}

/* The client's input at `from`, of which `left` bytes are there; NULL: none. */
static const char *
user_in(const void *from, size_t *left)
{
	ioctl_request_t *r = ioctl_current();
	uintptr_t offset = (uintptr_t)from % USER_SPACE;
	const char *buf;
	size_t len;

	if (r == NULL)
		return (NULL);
	switch ((uintptr_t)from - offset) {
	case USER_SRC:
		buf = r->r_src;
		len = r->r_src_len;
		break;
	case USER_CONF:
		buf = r->r_conf;
		len = r->r_conf_len;
		break;
	case USER_HISTORY:
		buf = r->r_history;
		len = r->r_history_len;
		break;
	default:
		return (NULL);
	}
	if (offset >= len)
		return (NULL);
	*left = len - offset;
	return (buf + offset);
}

int
ddi_copyin(const void *from, void *to, size_t len, int flags)
{
	size_t left;
	const char *buf;

	(void) flags;
	if (len == 0)
		return (0);
	buf = user_in(from, &left);
	if (buf == NULL || len > left)
		return (EFAULT);
	memcpy(to, buf, len);
	return (0);
}

int
copyinstr(const void *from, void *to, size_t len, size_t *done)
{
	size_t left;
	const char *buf = user_in(from, &left);
	size_t n;

	if (len == 0)
		return (ENAMETOOLONG);
	if (buf == NULL)
		return (EFAULT);
	n = strnlen(buf, MIN(left, len));
	if (n == len)
		return (ENAMETOOLONG);
	memcpy(to, buf, n);
	((char *)to)[n] = '\0';
	if (done != NULL)
		*done = n + 1;
	return (0);
}

/*
 * Sessions.
 */
void
zfsdev_private_set_state(void *priv, zfsdev_state_t *zs)
{
	((session_t *)priv)->s_state = zs;
}

zfsdev_state_t *
zfsdev_private_get_state(void *priv)
{
	return (((session_t *)priv)->s_state);
}

session_t *
session_hold(client_process_t *process, int fd)
{
	for (session_t *s = list_head(&sessions); s != NULL;
	    s = list_next(&sessions, s)) {
		if (s->s_process == process && s->s_fd == fd &&
		    !s->s_closing) {
			s->s_files++;
			return (s);
		}
	}
	return (NULL);
}

void
session_rele(session_t *s)
{
	VERIFY3S(s->s_files, >, 0);
	if (--s->s_files == 0)
		fiber_wake_all(&s->s_idle);
}

static client_process_t *
process_hold(int id)
{
	client_process_t *p;

	for (p = list_head(&processes); p != NULL;
	    p = list_next(&processes, p)) {
		if (p->cp_id == id)
			break;
	}
	if (p == NULL) {
		p = kmem_zalloc(sizeof (*p), KM_SLEEP);
		p->cp_id = id;
		list_insert_tail(&processes, p);
	}
	p->cp_sessions++;
	return (p);
}

static void
process_rele(client_process_t *p)
{
	if (--p->cp_sessions > 0)
		return;
	if (p->cp_allow_log != NULL)
		kmem_strfree(p->cp_allow_log);
	list_remove(&processes, p);
	kmem_free(p, sizeof (*p));
}

typedef struct session_work {
	int		sw_request;
	int		sw_process;
	int		sw_fd;
	session_t	*sw_session;
} session_work_t;

static void
session_open_work(void *arg)
{
	session_work_t *sw = arg;
	session_t *s = kmem_zalloc(sizeof (*s), KM_SLEEP);
	int error;

	s->s_self = s;
	s->s_fd = sw->sw_fd;
	s->s_process = process_hold(sw->sw_process);
	mutex_enter(&zfsdev_state_lock);
	error = zfsdev_state_init(s);
	mutex_exit(&zfsdev_state_lock);
	if (error != 0) {
		process_rele(s->s_process);
		kmem_free(s, sizeof (*s));
		zow_session_done(sw->sw_request, NULL, -error);
	} else {
		/* Newest first: a descriptor's number is used again. */
		list_insert_head(&sessions, s);
		zow_session_done(sw->sw_request, s, s->s_state->zs_minor);
	}
	free(sw);
}

/* Answers, and frees the request. */
static void
ioctl_end(ioctl_request_t *r, int error)
{
	session_t *s = r->r_session;

	list_remove(&requests, r);
	zow_ioctl_done(r->r_id, error, r->r_cmd, r->r_dst, r->r_dst_len,
	    r->r_out_history, r->r_out_history_len);
	VERIFY3S(s->s_running, >, 0);
	if (--s->s_running == 0)
		fiber_wake_all(&s->s_idle);
	free(r->r_dst);
	free(r->r_out_history);
	/* There may be a key in it. */
	explicit_bzero((char *)r->r_src, r->r_src_len);
	free(r->r_cmd);
	free(r);
}

/*
 * As a signal does. What waits in line for a fiber, behind what a suspended
 * pool does not answer, ends at once, and its request is gone.
 */
static void
ioctl_signal(ioctl_request_t *r)
{
	if (r->r_fiber != NULL)
		fiber_interrupt(r->r_fiber);
	else if (zow_work_cancel(r))
		ioctl_end(r, EINTR);
	else
		r->r_interrupted = B_TRUE;
}

static void
session_close_work(void *arg)
{
	session_work_t *sw = arg;
	session_t *s = sw->sw_session;

	for (ioctl_request_t *r = list_head(&requests), *next; r != NULL;
	    r = next) {
		next = list_next(&requests, r);
		if (r->r_session == s)
			ioctl_signal(r);
	}
	while (s->s_running > 0 || s->s_files > 0)
		(void) fiber_wait(&s->s_idle, 0);
	zfsdev_state_destroy(s);
	s->s_self = NULL;
	list_remove(&sessions, s);
	process_rele(s->s_process);
	kmem_free(s, sizeof (*s));
	cv_broadcast(&closing_cv);
	zow_session_done(sw->sw_request, NULL, 0);
	free(sw);
}

static boolean_t
pool_closing(const char *pool)
{
	for (session_t *s = list_head(&sessions); s != NULL;
	    s = list_next(&sessions, s)) {
		if (s->s_closing && strcmp(s->s_pool, pool) == 0)
			return (B_TRUE);
	}
	return (B_FALSE);
}

static boolean_t
pool_suspended(const char *pool)
{
	spa_t *spa = NULL;

	if (!spa_namespace_tryenter(FTAG))
		return (B_FALSE);
	while ((spa = spa_next(spa)) != NULL) {
		if (strcmp(spa_name(spa), pool) == 0)
			break;
	}
	spa_namespace_exit(FTAG);
	return (spa != NULL && spa_suspended(spa));
}

/*
 * A process ends for its parent when the kernel has ended its ioctls and
 * released what its /dev/zfs held: whoever waited for a killed receive finds
 * its resume state written and the dataset free.  A client of ours is gone
 * before that, so the next ioctl about the same pool waits instead; not while
 * the pool is suspended, for then it takes another ioctl to go on.
 */
static int
wait_for_closing(const char *pool)
{
	int error = 0;

	mutex_enter(&closing_lock);
	for (int i = 0; i < 10 * CLOSING_SECONDS_MAX && error == 0 &&
	    pool_closing(pool) && !pool_suspended(pool); i++) {
		if (cv_timedwait_sig(&closing_cv, &closing_lock,
		    ddi_get_lbolt() + hz / 10) == 0)
			error = SET_ERROR(EINTR);
	}
	mutex_exit(&closing_lock);
	return (error);
}

/* The host names sessions by their address: one that is open. */
static void
session_verify(const session_t *s)
{
	VERIFY3P(s, !=, NULL);
	VERIFY3P(s->s_self, ==, s);
	VERIFY0(s->s_closing);
}

/* What it takes to see a suspended pool, and to have it go on. */
static work_kind_t
ioctl_work_kind(unsigned int number)
{
	switch (number) {
	case ZFS_IOC_POOL_CONFIGS:
	case ZFS_IOC_POOL_STATS:
	case ZFS_IOC_POOL_GET_PROPS:
		return (WORK_LOOK);
	case ZFS_IOC_POOL_REOPEN:
	case ZFS_IOC_VDEV_SET_STATE:
	case ZFS_IOC_CLEAR:
		return (WORK_RESCUE);
	default:
		return (WORK_IOCTL);
	}
}

/* Opens a session for descriptor `fd` of the host's `process`. */
ZOW_EXPORT("session-open") int
session_open(int request, int process, int fd)
{
	session_work_t *sw = calloc(1, sizeof (*sw));
	int error;

	if (sw == NULL)
		return (-ENOMEM);
	sw->sw_request = request;
	sw->sw_process = process;
	sw->sw_fd = fd;
	error = zow_work_for(WORK_OPEN, "", "session", session_open_work, sw);
	if (error != 0)
		free(sw);
	return (-error);
}

/* Interrupts a session's ioctls, waits for them and runs its callbacks. */
ZOW_EXPORT("session-close") int
session_close(int request, session_t *s)
{
	session_work_t *sw = calloc(1, sizeof (*sw));
	int error;

	session_verify(s);
	if (sw == NULL)
		return (-ENOMEM);
	sw->sw_request = request;
	sw->sw_session = s;
	VERIFY0(s->s_closing);
	error = zow_work_for(WORK_CLOSE, s->s_pool, "session",
	    session_close_work, sw);
	if (error == 0)
		s->s_closing = 1;
	else
		free(sw);
	return (-error);
}

/*
 * A pool that is suspended cannot be exported or destroyed. Upstream finds out
 * in the middle of it, and waits with spa_namespace_lock held: then nothing
 * works any more, not even `zpool clear`. Here it is known before, and what
 * can still fail is written before.
 */
static int
pool_can_leave(const char *name)
{
	spa_t *spa;
	int error = 0;

	spa_namespace_enter(FTAG);
	spa = spa_lookup(name);
	if (spa == NULL || !spa->spa_sync_on) {
		spa_namespace_exit(FTAG);
		return (0);
	}
	spa_open_ref(spa, FTAG);
	spa_namespace_exit(FTAG);
	if (spa_suspended(spa))
		error = SET_ERROR(EAGAIN);
#ifdef	TREE_TXG_WAIT_FLAGS
	else if (txg_wait_synced_flags(spa_get_dsl(spa), 0,
	    TXG_WAIT_SUSPEND) != 0)
		error = SET_ERROR(EAGAIN);
#endif
	spa_close(spa, FTAG);
	return (error);
}

typedef struct loading {
	list_node_t	ld_node;
	uint64_t	ld_guid;	/* of the pool */
} loading_t;

static boolean_t
is_loading(uint64_t guid)
{
	for (loading_t *ld = list_head(&loading); ld != NULL;
	    ld = list_next(&loading, ld)) {
		if (ld->ld_guid == guid)
			return (B_TRUE);
	}
	return (B_FALSE);
}

/* The pool that an ioctl imports or looks into; 0: none. */
static uint64_t
pool_to_load(const ioctl_request_t *r)
{
	nvlist_t *config;
	uint64_t guid = 0;

	if (r->r_number == ZFS_IOC_POOL_IMPORT)
		return (r->r_cmd->zc_guid);
	if (r->r_number != ZFS_IOC_POOL_TRYIMPORT || nvlist_unpack(
	    (char *)r->r_conf, r->r_conf_len, &config, KM_SLEEP) != 0)
		return (0);
	(void) nvlist_lookup_uint64(config, ZPOOL_CONFIG_POOL_GUID, &guid);
	nvlist_free(config);
	return (guid);
}

/*
 * While a search looks into a pool, upstream has that open under another name:
 * for all others, searches and imports, it is in use already, so that they
 * miss it or fail. Here they wait.
 */
static int
load_run(ioctl_request_t *r, uint64_t guid)
{
	loading_t self = { .ld_guid = guid };

	mutex_enter(&loading_lock);
	while (is_loading(guid)) {
		if (cv_wait_sig(&loading_cv, &loading_lock) == 0) {
			mutex_exit(&loading_lock);
			return (SET_ERROR(EINTR));
		}
	}
	list_insert_tail(&loading, &self);
	mutex_exit(&loading_lock);
	int error = zfsdev_ioctl_common(r->r_number - ZFS_IOC_FIRST,
	    r->r_cmd, 0);
	mutex_enter(&loading_lock);
	list_remove(&loading, &self);
	cv_broadcast(&loading_cv);
	mutex_exit(&loading_lock);
	return (error);
}

/*
 * Upstream checks a new pool's name, not its temporary one: a pool whose name
 * no program takes is in use for ever.
 */
static int
temporary_name_check(const ioctl_request_t *r)
{
	nvlist_t *props;
	const char *name;
	int error = 0;

	if (nvlist_unpack((char *)r->r_src, r->r_src_len, &props,
	    KM_SLEEP) != 0)
		return (0);
	if (nvlist_lookup_string(props, zpool_prop_to_name(ZPOOL_PROP_TNAME),
	    &name) == 0 && pool_namecheck(name, NULL, NULL) != 0)
		error = SET_ERROR(EINVAL);
	nvlist_free(props);
	return (error);
}

/*
 * What an ioctl may take of memory before it gives anything back; 0: little.
 * A pool that comes needs threads as soon as it is there, and memory for every
 * txg.  An nvlist is there as it was sent, copied, unpacked (an empty list in a
 * list has 5 times the bytes it was packed in), and in the history.
 */
#define	POOL_BYTES	(12 * 1024 * 1024)	/* measured: 11 */
#define	STREAM_BYTES	(2 * 1024 * 1024)	/* beside its queue */
#define	NVLIST_COPIES	8
#define	SMALL_BYTES	(128 * 1024)	/* an nvlist that is not counted */

/* Of nvlists: more than that is refused, as 1/4 of memory is in a kernel. */
#define	NVLIST_HEAP_SHIFT	4

static uint64_t
ioctl_memory(const ioctl_request_t *r)
{
	uint64_t bytes = 0;
	size_t nvlists = r->r_src_len + r->r_conf_len;

	if (nvlists > SMALL_BYTES)
		bytes += (uint64_t)nvlists * NVLIST_COPIES;
	switch (r->r_number) {
	case ZFS_IOC_POOL_CREATE:
	case ZFS_IOC_POOL_IMPORT:
	case ZFS_IOC_POOL_TRYIMPORT:
	case ZFS_IOC_VDEV_SPLIT:
		bytes += POOL_BYTES;
		break;
	case ZFS_IOC_POOL_GET_HISTORY:
		/* A buffer of the size, of which what is there is copied. */
		if (r->r_cmd->zc_history_len > SMALL_BYTES)
			bytes += 2 * r->r_cmd->zc_history_len;
		break;
	case ZFS_IOC_SEND:
	case ZFS_IOC_SEND_NEW:
		bytes += zow_stream_queue() + STREAM_BYTES;
		break;
	case ZFS_IOC_RECV:
	case ZFS_IOC_RECV_NEW:
		bytes += zow_stream_queue() + STREAM_BYTES;
		break;
	}
	return (bytes);
}

/*
 * What a client says of its buffers against what it sent: handlers allocate
 * by it before they copy, and cut it to the 32 bits that a size has here. The
 * errors are a kernel's for what is not mapped. Strings end in their fields.
 */
static int
ioctl_check(ioctl_request_t *r)
{
	zfs_cmd_t *zc = r->r_cmd;
	uint64_t max = MIN(zfs_max_nvlist_src_size_os(),
	    zow_heap_limit() >> NVLIST_HEAP_SHIFT);

	zc->zc_name[sizeof (zc->zc_name) - 1] = '\0';
	zc->zc_value[sizeof (zc->zc_value) - 1] = '\0';
	zc->zc_string[sizeof (zc->zc_string) - 1] = '\0';
	zc->zc_begin_record.drr_toname[
	    sizeof (zc->zc_begin_record.drr_toname) - 1] = '\0';
	zc->zc_inject_record.zi_func[
	    sizeof (zc->zc_inject_record.zi_func) - 1] = '\0';
	if (zc->zc_nvlist_src_size > max || zc->zc_nvlist_conf_size > max)
		return (SET_ERROR(EINVAL));
	if (zc->zc_nvlist_src_size > r->r_src_len ||
	    zc->zc_nvlist_conf_size > r->r_conf_len)
		return (SET_ERROR(EFAULT));
	if (r->r_number == ZFS_IOC_POOL_GET_HISTORY &&
	    zc->zc_history_len > r->r_out_history_room)
		return (SET_ERROR(EFAULT));
	return (0);
}

/*
 * Whether a flush failed that had the pool's only copy of something; also when
 * the pool was to leave for that, and could not.
 */
static boolean_t
pool_was_lost(const char *name)
{
	boolean_t lost;
	spa_t *spa;

	spa_namespace_enter(FTAG);
	spa = spa_lookup(name);
	lost = spa != NULL && (pool_is_lost(spa) || pool_is_dropped(spa));
	spa_namespace_exit(FTAG);
	return (lost);
}

static int
ioctl_run(ioctl_request_t *r)
{
	zfs_cmd_t *zc = r->r_cmd;
	uint64_t guid = pool_to_load(r);
	int error = 0;

	if (guid != 0)
		return (load_run(r, guid));
	if (r->r_number == ZFS_IOC_CLEAR && pool_was_lost(zc->zc_name))
		return (pool_go_back(zc->zc_name));
	if (r->r_number == ZFS_IOC_POOL_EXPORT && pool_was_lost(zc->zc_name))
		return (pool_drop_export(zc->zc_name));
	if (r->r_number == ZFS_IOC_POOL_EXPORT ||
	    r->r_number == ZFS_IOC_POOL_DESTROY)
		error = pool_can_leave(zc->zc_name);
	else if (r->r_number == ZFS_IOC_POOL_CREATE && r->r_src_len != 0)
		error = temporary_name_check(r);
	if (error == 0)
		error = zfsdev_ioctl_common(r->r_number - ZFS_IOC_FIRST, zc, 0);
	/* What it resumed was waiting for a flush that has failed. */
	if (error == EIO && r->r_number == ZFS_IOC_CLEAR &&
	    pool_was_lost(zc->zc_name))
		error = pool_go_back(zc->zc_name);
	return (error);
}

/*
 * ioctls.
 */
/*
 * The pool that the history of the next ioctl is for lives as long as the
 * client's thread in a kernel, as its process here.  Ioctls of several threads
 * run at once, so each has a copy for upstream to free, and what it leaves
 * counts if it has changed that.
 */
static void
allow_log_enter(client_process_t *cp, char *before)
{
	const char *pool = cp->cp_allow_log;

	before[0] = '\0';
	if (pool != NULL)
		(void) strlcpy(before, pool, ZFS_MAX_DATASET_NAME_LEN);
	(void) tsd_set(zfs_allow_log_key,
	    pool != NULL ? kmem_strdup(pool) : NULL);
}

static void
allow_log_exit(client_process_t *cp, const char *before)
{
	char *after = tsd_get(zfs_allow_log_key);

	(void) tsd_set(zfs_allow_log_key, NULL);
	if (strcmp(after != NULL ? after : "", before) != 0) {
		char *old = cp->cp_allow_log;

		cp->cp_allow_log = after;
		after = old;
	}
	if (after != NULL)
		kmem_strfree(after);
}

/*
 * Whether the pool was dropped meanwhile, or before and could not leave. What
 * looks has changed nothing, and what it saw was so: zpool(8) aborts where
 * ZFS_IOC_POOL_STATS fails.
 */
static boolean_t
ioctl_went_nowhere(unsigned int number, const char *name, uint64_t drops)
{
	if (name[0] == '\0' || number == ZFS_IOC_CLEAR ||
	    number == ZFS_IOC_POOL_EXPORT ||
	    ioctl_work_kind(number) == WORK_LOOK)
		return (B_FALSE);
	/* The drop's own clock began later. */
	return (pool_dropped_since(name, drops) || pool_name_is_dropped(name));
}

static void
ioctl_work(void *arg)
{
	ioctl_request_t *r = arg;
	session_t *s = r->r_session;
	zfs_cmd_t *zc = r->r_cmd;
	char allow_log[ZFS_MAX_DATASET_NAME_LEN];
	uint64_t drops = pool_drops();
	uint64_t bytes = ioctl_memory(r);
	int error = 0;

	r->r_fiber = fiber_current;
	fiber_current->f_context = r;
	error = ioctl_check(r);
	if (error == 0 && zc->zc_name[0] != '\0') {
		size_t len = strcspn(zc->zc_name, "/@#");

		strlcpy(s->s_pool, zc->zc_name,
		    MIN(len + 1, sizeof (s->s_pool)));
		error = wait_for_closing(s->s_pool);
	}
	allow_log_enter(s->s_process, allow_log);

	if (s->s_closing || r->r_interrupted)
		error = SET_ERROR(EINTR);
	if (error == 0 && (error = admission_enter(bytes)) == 0) {
		error = ioctl_run(r);
		admission_leave(bytes);
	}
	if (error == 0 && ioctl_went_nowhere(r->r_number, zc->zc_name, drops))
		error = SET_ERROR(EIO);
	/* What could not be answered was not answered. */
	if (r->r_starved)
		error = SET_ERROR(ENOBUFS);

	allow_log_exit(s->s_process, allow_log);
	fiber_current->f_context = NULL;
	ioctl_end(r, error);
}

/*
 * Starts an ioctl. `buffer` comes from alloc() and belongs to the core from
 * here on: a zfs_cmd_t, then the input nvlist, the configuration and the
 * history string. `dst_room` and `history_room` limit what it answers.
 */
ZOW_EXPORT("ioctl-submit") int
ioctl_submit(int id, session_t *s, unsigned int number, char *buffer,
    size_t src_len, size_t conf_len, size_t history_len, size_t dst_room,
    size_t history_room)
{
	ioctl_request_t *r = calloc(1, sizeof (*r));
	zfs_cmd_t *zc = (zfs_cmd_t *)buffer;

	session_verify(s);
	if (r == NULL) {
		explicit_bzero(buffer + sizeof (zfs_cmd_t), src_len);
		free(buffer);
		return (-ENOMEM);
	}
	r->r_id = id;
	r->r_session = s;
	r->r_number = number;
	r->r_cmd = zc;
	r->r_src = buffer + sizeof (zfs_cmd_t);
	r->r_src_len = src_len;
	r->r_conf = r->r_src + src_len;
	r->r_conf_len = conf_len;
	r->r_history = r->r_conf + conf_len;
	r->r_history_len = history_len;
	VERIFY3U(src_len, <, USER_SPACE);
	VERIFY3U(conf_len, <, USER_SPACE);
	VERIFY3U(history_len, <, USER_SPACE);
	r->r_dst_room = MIN(dst_room, USER_SPACE - 1);
	r->r_out_history_room = MIN(history_room, USER_SPACE - 1);
	zc->zc_nvlist_src = src_len != 0 ? USER_SRC : 0;
	zc->zc_nvlist_conf = conf_len != 0 ? USER_CONF : 0;
	zc->zc_nvlist_dst = dst_room != 0 ? USER_DST : 0;
	zc->zc_history = history_len != 0 || history_room != 0 ?
	    USER_HISTORY : 0;
	zc->zc_name[sizeof (zc->zc_name) - 1] = '\0';
	s->s_running++;
	list_insert_tail(&requests, r);
	if (zow_work_for(ioctl_work_kind(number), zc->zc_name, "ioctl",
	    ioctl_work, r) != 0) {
		s->s_running--;
		list_remove(&requests, r);
		explicit_bzero((char *)r->r_src, r->r_src_len);
		free(r);
		free(buffer);
		return (-ENOMEM);
	}
	return (0);
}

/* As the signal to a thread that is in an ioctl(2). */
ZOW_EXPORT("ioctl-interrupt") void
ioctl_interrupt(int id)
{
	for (ioctl_request_t *r = list_head(&requests); r != NULL;
	    r = list_next(&requests, r)) {
		if (r->r_id == id) {
			ioctl_signal(r);
			return;
		}
	}
}

int
zfsdev_attach(void)
{
	list_create(&sessions, sizeof (session_t),
	    offsetof(session_t, s_node));
	list_create(&requests, sizeof (ioctl_request_t),
	    offsetof(ioctl_request_t, r_node));
	list_create(&processes, sizeof (client_process_t),
	    offsetof(client_process_t, cp_node));
	mutex_init(&closing_lock, NULL, MUTEX_DEFAULT, NULL);
	cv_init(&closing_cv, NULL, CV_DEFAULT, NULL);
	list_create(&loading, sizeof (loading_t), offsetof(loading_t, ld_node));
	mutex_init(&loading_lock, NULL, MUTEX_DEFAULT, NULL);
	cv_init(&loading_cv, NULL, CV_DEFAULT, NULL);
	return (0);
}

void
zfsdev_detach(void)
{
	cv_destroy(&loading_cv);
	mutex_destroy(&loading_lock);
	list_destroy(&loading);
	cv_destroy(&closing_cv);
	mutex_destroy(&closing_lock);
	list_destroy(&requests);
	list_destroy(&sessions);
	list_destroy(&processes);
}

uint64_t
zfs_max_nvlist_src_size_os(void)
{
	if (zfs_max_nvlist_src_size != 0)
		return (zfs_max_nvlist_src_size);
	return (64 * 1024 * 1024);
}

void
zfs_ioctl_update_mount_cache(const char *dsname)
{
	(void) dsname;
}

#ifdef	TREE_IOC_USERNS
/*
 * Which user namespaces may mount a filesystem: none is ever mounted here.
 */
static int
zfs_ioc_userns(zfs_cmd_t *zc)
{
	(void) zc;
	return (SET_ERROR(ENOTSUP));
}
#endif

void
zfs_ioctl_init_os(void)
{
#ifdef	TREE_IOC_USERNS
	zfs_ioctl_register_dataset_nolog(ZFS_IOC_USERNS_ATTACH,
	    zfs_ioc_userns, zfs_secpolicy_config, POOL_CHECK_NONE);
	zfs_ioctl_register_dataset_nolog(ZFS_IOC_USERNS_DETACH,
	    zfs_ioc_userns, zfs_secpolicy_config, POOL_CHECK_NONE);
#endif
}
