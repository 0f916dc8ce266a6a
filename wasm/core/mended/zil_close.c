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
 * An intent log is closed and suspended by turns.  zil_close() waits for the
 * last txg that the log is dirty in, and VERIFYs that it is not dirty then;
 * upstream's zil_suspend(), of `zpool remove` and `zpool offline` of a log
 * device for one, commits a record meanwhile that makes it dirty in the next.
 * Nobody else does: volumes close when no request of theirs is under way.
 */

#include <sys/zfs_context.h>
#include <sys/dmu_objset.h>
#include <sys/spa.h>
#include <sys/zil_impl.h>

#include "flush.h"

extern int __real_zil_suspend(const char *, void **);
extern int __wrap_zil_suspend(const char *, void **);
extern int __real_zil_reset(const char *, void *);
extern int __wrap_zil_reset(const char *, void *);

typedef enum {
	LOG_CLOSES,
	LOG_SUSPENDS
} log_end_kind_t;

/* One log's end under way.  By its pool, for a dataset can be renamed. */
typedef struct log_end {
	list_node_t	le_node;
	char		le_pool[ZFS_MAX_DATASET_NAME_LEN];
	log_end_kind_t	le_kind;
} log_end_t;

static list_t log_ends;
static kmutex_t log_ends_lock;
static kcondvar_t log_ends_cv;

void
zil_close_init(void)
{
	list_create(&log_ends, sizeof (log_end_t),
	    offsetof(log_end_t, le_node));
	mutex_init(&log_ends_lock, NULL, MUTEX_DEFAULT, NULL);
	cv_init(&log_ends_cv, NULL, CV_DEFAULT, NULL);
}

static boolean_t
log_end_must_wait(const log_end_t *le)
{
	for (log_end_t *other = list_head(&log_ends); other != NULL;
	    other = list_next(&log_ends, other)) {
		if (other->le_kind != le->le_kind &&
		    strcmp(other->le_pool, le->le_pool) == 0)
			return (B_TRUE);
	}
	return (B_FALSE);
}

/* Waits for ends of the other kind in the pool of the dataset `name`. */
static log_end_t *
log_end_begin(const char *name, log_end_kind_t kind)
{
	log_end_t *le = kmem_zalloc(sizeof (*le), KM_SLEEP);

	(void) strlcpy(le->le_pool, name, sizeof (le->le_pool));
	le->le_pool[strcspn(le->le_pool, "/@#")] = '\0';
	le->le_kind = kind;
	mutex_enter(&log_ends_lock);
	while (log_end_must_wait(le))
		cv_wait(&log_ends_cv, &log_ends_lock);
	list_insert_tail(&log_ends, le);
	mutex_exit(&log_ends_lock);
	return (le);
}

static void
log_end_done(log_end_t *le)
{
	mutex_enter(&log_ends_lock);
	list_remove(&log_ends, le);
	cv_broadcast(&log_ends_cv);
	mutex_exit(&log_ends_lock);
	kmem_free(le, sizeof (*le));
}

void
zow_zil_close(zilog_t *zilog)
{
	log_end_t *le = log_end_begin(spa_name(zilog->zl_spa), LOG_CLOSES);

	zil_close(zilog);
	log_end_done(le);
}

int
__wrap_zil_suspend(const char *name, void **cookie)
{
	log_end_t *le = log_end_begin(name, LOG_SUSPENDS);
	int error = __real_zil_suspend(name, cookie);

	log_end_done(le);
	return (error);
}

/* Calls zil_suspend() from its own file. */
int
__wrap_zil_reset(const char *name, void *arg)
{
	log_end_t *le = log_end_begin(name, LOG_SUSPENDS);
	int error = __real_zil_reset(name, arg);

	log_end_done(le);
	return (error);
}
