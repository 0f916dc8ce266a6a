/*
 * Upstream's user-space context, with what its common code asks of the kernel
 * context besides when _KERNEL is defined.
 */
#if defined(ZOW_CORE) && !defined(TREE_TUNABLES)
/*
 * It has what tunables are in user space, which comes after our sys/mod.h,
 * whose definitions count.
 */
#include <sys/mod.h>
#undef	ZFS_MODULE_PARAM
#undef	ZFS_MODULE_PARAM_ARGS
#undef	ZFS_MODULE_PARAM_CALL
#define	zfs_kernel_param_t	libzpool_zfs_kernel_param_t
#include_next <sys/zfs_context.h>
#undef	zfs_kernel_param_t
#include "tunables.h"
#else
#include_next <sys/zfs_context.h>
#endif

#ifndef	_ZOW_ZFS_CONTEXT_H
#define	_ZOW_ZFS_CONTEXT_H

#include <sys/param.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/mod.h>

#ifdef	_KERNEL

#ifndef	PAGE_SIZE
#define	PAGE_SIZE	4096
#endif
#define	PAGESHIFT	12
#define	RW_NONE		(-1)
#ifndef	mutex_owned
#define	mutex_owned(lock)	MUTEX_HELD(lock)
#endif

/* A waiting ioctl whose client has gone is interrupted (zfs_ioctl_os.c). */
#undef	issig
#define	issig(...)	zow_interrupted()
extern int zow_interrupted(void);

/* The process behind a session, for zfs_proc_is_caller(). */
#undef	curproc
#define	curproc		zow_curproc()
extern struct proc *zow_curproc(void);
#define	zfs_proc_is_caller(p)	((p) == zow_curproc())

/* Their user-space versions cannot be interrupted. */
#undef	cv_timedwait_sig
#define	cv_timedwait_sig(cv, mp, at)	zow_cv_timedwait_sig(cv, mp, at)
extern int zow_cv_timedwait_sig(kcondvar_t *cv, kmutex_t *mp, clock_t abstime);

/* Types of the POSIX layer, which is not part of the core. */
typedef struct fid {
	uint16_t	fid_len;
} fid_t;
typedef struct zidmap zidmap_t;
typedef struct objset objset_t;

#define	kmem_reap()			((void)0)
#define	spl_kmem_cache_inuse(c)		((void) (c), 0ULL)
#define	spl_kmem_cache_entry_size(c)	((void) (c), 0ULL)

#define	FKIOCTL			0x80000000	/* ioctl from the kernel */
#define	GLOBAL_ZONEID		0
#define	crgetzoneid(cr)		((void) (cr), GLOBAL_ZONEID)
#define	kfpu_init()		(0)
#define	kfpu_fini()		((void)0)

/*
 * The buffers of an ioctl are in the module's memory already when its handler
 * runs (zfs_ioctl_os.c).
 */
extern int ddi_copyin(const void *from, void *to, size_t len, int flags);
extern int ddi_copyout(const void *from, void *to, size_t len, int flags);
extern int copyinstr(const void *from, void *to, size_t len, size_t *done);
#define	xcopyin(from, to, len)		ddi_copyin(from, to, len, 0)
#define	xcopyout(from, to, len)		ddi_copyout(from, to, len, 0)
#define	copyin(from, to, len)		ddi_copyin(from, to, len, 0)
#define	copyout(from, to, len)		ddi_copyout(from, to, len, 0)

/*
 * Permissions: whoever may open the socket is the administrator (policy.c).
 */
extern int secpolicy_sys_config(const cred_t *, boolean_t);
extern int secpolicy_zinject(const cred_t *);
extern int groupmember(gid_t, const cred_t *);
#define	is_system_labeled()	(0)

/* Nothing is ever mounted. */
extern boolean_t zfs_get_vfs_flag_unmounted(objset_t *);
extern int zfsctl_snapshot_unmount(const char *, int);

extern int ddi_strtoll(const char *, char **, int, longlong_t *);

/*
 * Lists by hash, as zvol.c keeps its minors (Linux's linux/list.h).
 */
struct hlist_node {
	struct hlist_node	*next;
	struct hlist_node	**pprev;
};

struct hlist_head {
	struct hlist_node	*first;
};

#define	INIT_HLIST_HEAD(head)	((head)->first = NULL)
#define	hlist_for_each(node, head) \
	for ((node) = (head)->first; (node) != NULL; (node) = (node)->next)
#define	hlist_entry(node, type, member) \
	((type *)((char *)(node) - offsetof(type, member)))

static inline void
INIT_HLIST_NODE(struct hlist_node *node)
{
	node->next = NULL;
	node->pprev = NULL;
}

static inline void
hlist_add_head(struct hlist_node *node, struct hlist_head *head)
{
	node->next = head->first;
	if (head->first != NULL)
		head->first->pprev = &node->next;
	head->first = node;
	node->pprev = &head->first;
}

static inline void
hlist_del(struct hlist_node *node)
{
	*node->pprev = node->next;
	if (node->next != NULL)
		node->next->pprev = node->pprev;
	INIT_HLIST_NODE(node);
}

/* A counter; nothing in the module runs between its read and its write. */
typedef struct {
	int	counter;
} atomic_t;

#define	atomic_read(v)		((v)->counter)
#define	atomic_set(v, i)	((v)->counter = (i))
#define	atomic_inc(v)		((v)->counter++)
#define	atomic_dec(v)		((v)->counter--)
#define	atomic_inc_not_zero(v)	((v)->counter != 0 && ((v)->counter++, 1))

#endif	/* _KERNEL */
#endif	/* _ZOW_ZFS_CONTEXT_H */
