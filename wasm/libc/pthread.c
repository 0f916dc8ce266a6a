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
 * POSIX threads on fibers. Nothing here is atomic and nothing needs to be: a
 * fiber is never taken off the processor between two of its instructions. To
 * take a lock is to give way (fiber_preempt()), before it is looked at.
 * A zeroed object is an initialised one, as POSIX's static initialisers want.
 */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "fiber.h"
#include "zow.h"

#define	STACK_DEFAULT	(256 * 1024)
#define	STACK_MIN	(16 * 1024)

struct attr {
	size_t	a_stack_size;
	size_t	a_guard_size;	/* these two as musl's getters have them */
	size_t	a_stack_address;
	int	a_detached;
};

int
pthread_attr_init(pthread_attr_t *attr)
{
	memset(attr, 0, sizeof (*attr));
	return (0);
}

int
pthread_attr_destroy(pthread_attr_t *attr)
{
	(void) attr;
	return (0);
}

int
pthread_attr_setdetachstate(pthread_attr_t *attr, int state)
{
	((struct attr *)attr)->a_detached = state == PTHREAD_CREATE_DETACHED;
	return (0);
}

int
pthread_attr_setstacksize(pthread_attr_t *attr, size_t size)
{
	if (size < STACK_MIN)
		return (EINVAL);
	((struct attr *)attr)->a_stack_size = size;
	return (0);
}

/* Every stack has a guard of its own kind (fiber.c). */
int
pthread_attr_setguardsize(pthread_attr_t *attr, size_t size)
{
	(void) attr, (void) size;
	return (0);
}

int
pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attr,
    void *(*func)(void *), void *restrict arg)
{
	const struct attr *a = (const struct attr *)attr;
	size_t size = STACK_DEFAULT;
	fiber_t *f;

	if (a != NULL && a->a_stack_size != 0)
		size = a->a_stack_size;
	f = fiber_create("thread", func, arg, size,
	    a != NULL && a->a_detached);
	if (f == NULL)
		return (EAGAIN);
	*thread = (pthread_t)f;
	return (0);
}

#undef	pthread_equal
int
pthread_equal(pthread_t a, pthread_t b)
{
	return (a == b);
}

pthread_t
pthread_self(void)
{
	return ((pthread_t)fiber_current);
}

int
pthread_join(pthread_t thread, void **result)
{
	void *r = fiber_join((fiber_t *)thread);

	if (result != NULL)
		*result = r;
	return (0);
}

int
pthread_detach(pthread_t thread)
{
	fiber_detach((fiber_t *)thread);
	return (0);
}

void
pthread_exit(void *result)
{
	fiber_exit(result);
}

int
pthread_setname_np(pthread_t thread, const char *name)
{
	fiber_t *f = (fiber_t *)thread;

	strlcpy(f->f_name, name, sizeof (f->f_name));
	return (0);
}

int
pthread_getname_np(pthread_t thread, char *name, size_t size)
{
	if (strlcpy(name, ((fiber_t *)thread)->f_name, size) >= size)
		return (ERANGE);
	return (0);
}

int
pthread_once(pthread_once_t *once, void (*func)(void))
{
	if (*once == 0) {
		*once = 1;
		func();
	}
	return (0);
}

/* Signals are the host's; fibers never get one. */
int
pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict old)
{
	(void) how, (void) set;
	if (old != NULL)
		sigemptyset(old);
	return (0);
}

int
pthread_kill(pthread_t thread, int sig)
{
	(void) thread;
	return (sig == 0 ? 0 : ENOSYS);
}

int
pthread_setcancelstate(int state, int *old)
{
	(void) state;
	if (old != NULL)
		*old = PTHREAD_CANCEL_DISABLE;
	return (0);
}

int
sched_yield(void)
{
	fiber_yield();
	return (0);
}

/*
 * Thread-specific data. Destructors are not run: no upstream key that lives
 * in the module has one that matters at a fiber's end.
 */
static unsigned int keys_used;

int
pthread_key_create(pthread_key_t *key, void (*destructor)(void *))
{
	(void) destructor;
	if (keys_used == FIBER_TSD_MAX)
		return (EAGAIN);
	*key = keys_used++;
	return (0);
}

int
pthread_key_delete(pthread_key_t key)
{
	(void) key;
	return (0);
}

void *
pthread_getspecific(pthread_key_t key)
{
	return (key < FIBER_TSD_MAX ? fiber_current->f_tsd[key] : NULL);
}

int
pthread_setspecific(pthread_key_t key, const void *value)
{
	if (key >= FIBER_TSD_MAX)
		return (EINVAL);
	fiber_current->f_tsd[key] = (void *)value;
	return (0);
}

/*
 * Mutexes. A woken waiter competes with whoever came meanwhile: handing the
 * lock over would force a switch for every contended unlock. Who was passed
 * over once has it handed over the next time, so that nobody waits for ever.
 */
typedef struct mutex {
	fiber_t		*m_owner;
	fiber_queue_t	m_queue;
	int		m_type;
	int		m_count;	/* recursive locks beyond the first */
} mutex_t;

_Static_assert(sizeof (mutex_t) <= sizeof (pthread_mutex_t), "mutex");

int
pthread_mutexattr_init(pthread_mutexattr_t *attr)
{
	memset(attr, 0, sizeof (*attr));
	return (0);
}

int
pthread_mutexattr_destroy(pthread_mutexattr_t *attr)
{
	(void) attr;
	return (0);
}

int
pthread_mutexattr_settype(pthread_mutexattr_t *attr, int type)
{
	*(int *)attr = type;
	return (0);
}

int
pthread_mutex_init(pthread_mutex_t *restrict mutex,
    const pthread_mutexattr_t *restrict attr)
{
	memset(mutex, 0, sizeof (*mutex));
	if (attr != NULL)
		((mutex_t *)mutex)->m_type = *(const int *)attr;
	return (0);
}

int
pthread_mutex_destroy(pthread_mutex_t *mutex)
{
	mutex_t *m = (mutex_t *)mutex;

	return (m->m_owner != NULL || m->m_queue.fq_head != NULL ? EBUSY : 0);
}

static __attribute__((noinline)) int
mutex_lock_slow(mutex_t *m)
{
	if (m->m_owner == fiber_current) {
		if (m->m_type == PTHREAD_MUTEX_RECURSIVE) {
			m->m_count++;
			return (0);
		}
		if (m->m_type == PTHREAD_MUTEX_ERRORCHECK)
			return (EDEADLK);
		zow_panic("fiber locks a mutex that it holds");
	}
	(void) fiber_wait(&m->m_queue, 0);
	while (m->m_owner != NULL && m->m_owner != fiber_current)
		fiber_wait_again(&m->m_queue);
	m->m_owner = fiber_current;
	return (0);
}

int
pthread_mutex_lock(pthread_mutex_t *mutex)
{
	mutex_t *m = (mutex_t *)mutex;

	fiber_preempt();
	if (__builtin_expect(m->m_owner != NULL, 0))
		return (mutex_lock_slow(m));
	m->m_owner = fiber_current;
	return (0);
}

int
pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	mutex_t *m = (mutex_t *)mutex;

	if (m->m_owner != NULL) {
		if (m->m_owner == fiber_current &&
		    m->m_type == PTHREAD_MUTEX_RECURSIVE) {
			m->m_count++;
			return (0);
		}
		return (EBUSY);
	}
	m->m_owner = fiber_current;
	return (0);
}

int
pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	mutex_t *m = (mutex_t *)mutex;

	fiber_t *next = m->m_queue.fq_head;

	zow_verify(m->m_owner == fiber_current && fiber_current != NULL,
	    "mutex %p is unlocked by a fiber that does not hold it: %s does",
	    (void *)m, m->m_owner != NULL ? m->m_owner->f_name : "nobody");
	if (m->m_count > 0) {
		m->m_count--;
		return (0);
	}
	m->m_owner = next != NULL && next->f_passed_over ? next : NULL;
	if (next != NULL)
		(void) fiber_wake_one(&m->m_queue);
	return (0);
}

/*
 * Condition variables. Deadlines come as CLOCK_REALTIME and are waited for on
 * the monotonic clock.
 */
typedef struct cond {
	fiber_queue_t	c_queue;
	int		c_clock;
} cond_t;

_Static_assert(sizeof (cond_t) <= sizeof (pthread_cond_t), "cond");

int
pthread_condattr_init(pthread_condattr_t *attr)
{
	memset(attr, 0, sizeof (*attr));
	return (0);
}

int
pthread_condattr_destroy(pthread_condattr_t *attr)
{
	(void) attr;
	return (0);
}

int
pthread_condattr_setclock(pthread_condattr_t *attr, clockid_t clock)
{
	*(int *)attr = clock;
	return (0);
}

int
pthread_cond_init(pthread_cond_t *restrict cond,
    const pthread_condattr_t *restrict attr)
{
	memset(cond, 0, sizeof (*cond));
	if (attr != NULL)
		((cond_t *)cond)->c_clock = *(const int *)attr;
	return (0);
}

int
pthread_cond_destroy(pthread_cond_t *cond)
{
	return (((cond_t *)cond)->c_queue.fq_head != NULL ? EBUSY : 0);
}

int
pthread_cond_timedwait(pthread_cond_t *restrict cond,
    pthread_mutex_t *restrict mutex, const struct timespec *restrict abstime)
{
	cond_t *c = (cond_t *)cond;
	int64_t deadline = 0;
	int timed_out;

	if (abstime != NULL) {
		struct timespec now;

		clock_gettime(c->c_clock, &now);
		deadline = fiber_now() +
		    (int64_t)(abstime->tv_sec - now.tv_sec) * 1000000000LL +
		    (abstime->tv_nsec - now.tv_nsec);
		if (deadline <= 0)
			deadline = 1;
	}
	/* Nobody runs between the unlock and the wait. */
	pthread_mutex_unlock(mutex);
	timed_out = fiber_wait(&c->c_queue, deadline);
	pthread_mutex_lock(mutex);
	return (timed_out ? ETIMEDOUT : 0);
}

int
pthread_cond_wait(pthread_cond_t *restrict cond,
    pthread_mutex_t *restrict mutex)
{
	return (pthread_cond_timedwait(cond, mutex, NULL));
}

int
pthread_cond_signal(pthread_cond_t *cond)
{
	(void) fiber_wake_one(&((cond_t *)cond)->c_queue);
	return (0);
}

int
pthread_cond_broadcast(pthread_cond_t *cond)
{
	fiber_wake_all(&((cond_t *)cond)->c_queue);
	return (0);
}

/*
 * Read-write locks, granted in the order of arrival as the kernel's are: a
 * reader waits behind a writer that came before it.  Where upstream takes a
 * lock as reader twice it uses its own rrwlock.
 */
typedef struct rwlock {
	fiber_t		*rw_writer;
	int		rw_readers;
	fiber_queue_t	rw_queue;
} rwlock_t;

_Static_assert(sizeof (rwlock_t) <= sizeof (pthread_rwlock_t), "rwlock");

int
pthread_rwlock_init(pthread_rwlock_t *restrict rwlock,
    const pthread_rwlockattr_t *restrict attr)
{
	(void) attr;
	memset(rwlock, 0, sizeof (*rwlock));
	return (0);
}

int
pthread_rwlock_destroy(pthread_rwlock_t *rwlock)
{
	rwlock_t *rw = (rwlock_t *)rwlock;

	return (rw->rw_writer != NULL || rw->rw_readers != 0 ||
	    rw->rw_queue.fq_head != NULL ? EBUSY : 0);
}

int
pthread_rwlock_tryrdlock(pthread_rwlock_t *rwlock)
{
	rwlock_t *rw = (rwlock_t *)rwlock;

	if (rw->rw_writer != NULL || rw->rw_queue.fq_head != NULL)
		return (EBUSY);
	rw->rw_readers++;
	return (0);
}

int
pthread_rwlock_trywrlock(pthread_rwlock_t *rwlock)
{
	rwlock_t *rw = (rwlock_t *)rwlock;

	if (rw->rw_writer != NULL || rw->rw_readers != 0)
		return (EBUSY);
	rw->rw_writer = fiber_current;
	return (0);
}

/*
 * The lock is handed over by rwlock_grant(): whoever returns from fiber_wait()
 * has it.
 */
int
pthread_rwlock_rdlock(pthread_rwlock_t *rwlock)
{
	rwlock_t *rw = (rwlock_t *)rwlock;

	fiber_preempt();
	if (rw->rw_writer == NULL && rw->rw_queue.fq_head == NULL) {
		rw->rw_readers++;
		return (0);
	}
	fiber_current->f_exclusive = 0;
	(void) fiber_wait(&rw->rw_queue, 0);
	return (0);
}

int
pthread_rwlock_wrlock(pthread_rwlock_t *rwlock)
{
	rwlock_t *rw = (rwlock_t *)rwlock;

	fiber_preempt();
	if (rw->rw_writer == NULL && rw->rw_readers == 0) {
		rw->rw_writer = fiber_current;
		return (0);
	}
	fiber_current->f_exclusive = 1;
	(void) fiber_wait(&rw->rw_queue, 0);
	return (0);
}

static void
rwlock_grant(rwlock_t *rw)
{
	fiber_t *f;

	while ((f = rw->rw_queue.fq_head) != NULL && rw->rw_writer == NULL) {
		if (f->f_exclusive) {
			if (rw->rw_readers == 0)
				rw->rw_writer = fiber_wake_one(&rw->rw_queue);
			return;
		}
		rw->rw_readers++;
		(void) fiber_wake_one(&rw->rw_queue);
	}
}

int
pthread_rwlock_unlock(pthread_rwlock_t *rwlock)
{
	rwlock_t *rw = (rwlock_t *)rwlock;

	if (rw->rw_writer != NULL) {
		zow_verify(rw->rw_writer == fiber_current,
		    "rwlock %p is unlocked by a fiber that does not hold it: "
		    "%s does, as writer", (void *)rw, rw->rw_writer->f_name);
		rw->rw_writer = NULL;
	} else {
		zow_verify(rw->rw_readers > 0,
		    "rwlock %p is unlocked by a fiber that does not hold it: "
		    "nobody does", (void *)rw);
		rw->rw_readers--;
	}
	if (rw->rw_queue.fq_head != NULL)
		rwlock_grant(rw);
	return (0);
}

/*
 * Semaphores. Who waits is handed what is posted.
 */
typedef struct sem {
	unsigned int	s_value;
	fiber_queue_t	s_queue;
} semaphore_t;

_Static_assert(sizeof (semaphore_t) <= sizeof (sem_t), "semaphore");

int
sem_init(sem_t *sem, int shared, unsigned int value)
{
	(void) shared;
	memset(sem, 0, sizeof (*sem));
	((semaphore_t *)sem)->s_value = value;
	return (0);
}

int
sem_destroy(sem_t *sem)
{
	(void) sem;
	return (0);
}

int
sem_wait(sem_t *sem)
{
	semaphore_t *s = (semaphore_t *)sem;

	if (s->s_value > 0)
		s->s_value--;
	else
		(void) fiber_wait(&s->s_queue, 0);
	return (0);
}

int
sem_post(sem_t *sem)
{
	semaphore_t *s = (semaphore_t *)sem;

	if (fiber_wake_one(&s->s_queue) == NULL)
		s->s_value++;
	return (0);
}
