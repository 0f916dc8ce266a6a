/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "scenario.h"

#define	THREADS	8

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t sem;

static void
join_all(pthread_t *threads, int count)
{
	for (int i = 0; i < count; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

/*
 * Mutual exclusion: whoever holds the mutex blocks inside it.
 */
static int inside, counter;

static void *
incrementer(void *arg)
{
	for (int i = 0; i < 50; i++) {
		int before;

		CHECK(pthread_mutex_lock(&mutex) == 0);
		CHECK(inside++ == 0);
		before = counter;
		if (i % 10 == 0)
			fiber_sleep(MS / 10);
		else
			fiber_yield();
		counter = before + 1;
		CHECK(--inside == 0);
		CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
		CHECK(pthread_mutex_unlock(&mutex) == 0);
	}
	return (NULL);
}

static void
exclusion(int arg)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, incrementer,
		    NULL) == 0);
	join_all(threads, THREADS);
	CHECK(counter == 50 * THREADS);
	CHECK(pthread_mutex_trylock(&mutex) == 0);
	CHECK(pthread_mutex_destroy(&mutex) == EBUSY);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
	CHECK(pthread_mutex_destroy(&mutex) == 0);
}

static void
kinds(int arg)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t m;

	CHECK(pthread_mutexattr_init(&attr) == 0);
	CHECK(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE) == 0);
	CHECK(pthread_mutex_init(&m, &attr) == 0);
	CHECK(pthread_mutex_lock(&m) == 0 && pthread_mutex_lock(&m) == 0);
	CHECK(pthread_mutex_trylock(&m) == 0);
	for (int i = 0; i < 3; i++) {
		CHECK(pthread_mutex_destroy(&m) == EBUSY);
		CHECK(pthread_mutex_unlock(&m) == 0);
	}
	CHECK(pthread_mutex_destroy(&m) == 0);
	CHECK(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK) == 0);
	CHECK(pthread_mutex_init(&m, &attr) == 0);
	CHECK(pthread_mutex_lock(&m) == 0);
	CHECK(pthread_mutex_lock(&m) == EDEADLK);
	CHECK(pthread_mutex_unlock(&m) == 0);
}

static void
deadlock(int arg)
{
	CHECK(pthread_mutex_lock(&mutex) == 0);
	(void) pthread_mutex_lock(&mutex);
}

/*
 * A bounded buffer between producers and consumers.
 */
static int items, produced, consumed;

static void *
producer(void *arg)
{
	for (int i = 0; i < 100; i++) {
		pthread_mutex_lock(&mutex);
		while (items == 3)
			pthread_cond_wait(&cond, &mutex);
		CHECK(++items <= 3);
		produced++;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&mutex);
	}
	return (NULL);
}

static void *
consumer(void *arg)
{
	for (int i = 0; i < 100; i++) {
		pthread_mutex_lock(&mutex);
		while (items == 0)
			pthread_cond_wait(&cond, &mutex);
		CHECK(--items >= 0);
		consumed++;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&mutex);
	}
	return (NULL);
}

static void
buffer(int arg)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL,
		    i % 2 == 0 ? producer : consumer, NULL) == 0);
	join_all(threads, THREADS);
	CHECK(produced == 400 && consumed == 400 && items == 0);
}

/*
 * Waits with a deadline, on either clock.
 */
static struct timespec
after(clockid_t clock, int64_t ns)
{
	struct timespec ts;

	CHECK(clock_gettime(clock, &ts) == 0);
	ns += ts.tv_nsec;
	ts.tv_sec += ns / (1000 * MS);
	ts.tv_nsec = ns % (1000 * MS);
	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += 1000 * MS;
	}
	return (ts);
}

static void *
signaller(void *arg)
{
	fiber_sleep(10 * MS);
	pthread_mutex_lock(&mutex);
	pthread_cond_signal(arg);
	pthread_mutex_unlock(&mutex);
	return (NULL);
}

static void
deadlines_on(clockid_t clock)
{
	pthread_condattr_t attr;
	pthread_cond_t c;
	pthread_t thread;
	struct timespec ts;
	int64_t start;

	CHECK(pthread_condattr_init(&attr) == 0);
	CHECK(pthread_condattr_setclock(&attr, clock) == 0);
	CHECK(pthread_cond_init(&c, &attr) == 0);
	pthread_mutex_lock(&mutex);

	start = fiber_now();
	ts = after(clock, 30 * MS);
	CHECK(pthread_cond_timedwait(&c, &mutex, &ts) == ETIMEDOUT);
	/* Clocks are read in microseconds. */
	CHECK(fiber_now() - start >= 30 * MS - 10000);
	CHECK(pthread_mutex_trylock(&mutex) == EBUSY);

	/* One that has passed: at once, and others had their chance. */
	ts = after(clock, -5000 * MS);
	CHECK(pthread_cond_timedwait(&c, &mutex, &ts) == ETIMEDOUT);

	CHECK(pthread_create(&thread, NULL, signaller, &c) == 0);
	ts = after(clock, 5000 * MS);
	start = fiber_now();
	CHECK(pthread_cond_timedwait(&c, &mutex, &ts) == 0);
	CHECK(fiber_now() - start < 4000 * MS);
	pthread_mutex_unlock(&mutex);
	join_all(&thread, 1);
	CHECK(pthread_cond_destroy(&c) == 0);
}

static void
deadlines(int arg)
{
	deadlines_on(CLOCK_REALTIME);
	deadlines_on(CLOCK_MONOTONIC);
}

/* A signal wakes one of those that wait, a broadcast all. */
static int woken;

static void *
waiter(void *arg)
{
	pthread_mutex_lock(&mutex);
	pthread_cond_wait(&cond, &mutex);
	woken++;
	pthread_mutex_unlock(&mutex);
	return (NULL);
}

static void
wakeups(int arg)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, waiter, NULL) == 0);
	fiber_sleep(MS);
	for (int i = 1; i <= 3; i++) {
		pthread_cond_signal(&cond);
		fiber_sleep(MS);
		CHECK(woken == i);
	}
	pthread_cond_broadcast(&cond);
	join_all(threads, THREADS);
	CHECK(woken == THREADS);
	/* Signals are not kept for who comes later. */
	pthread_cond_signal(&cond);
	CHECK(pthread_create(&threads[0], NULL, waiter, NULL) == 0);
	fiber_sleep(MS);
	CHECK(woken == THREADS);
	pthread_cond_signal(&cond);
	join_all(threads, 1);
}

/*
 * Read-write locks, in the order of arrival.
 */
static void *
reader(void *arg)
{
	CHECK(pthread_rwlock_rdlock(&rwlock) == 0);
	say("r%d", (int)(intptr_t)arg);
	fiber_sleep(5 * MS);
	CHECK(pthread_rwlock_unlock(&rwlock) == 0);
	return (NULL);
}

static void *
writer(void *arg)
{
	CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
	CHECK(inside++ == 0);
	say("w%d", (int)(intptr_t)arg);
	fiber_sleep(5 * MS);
	CHECK(--inside == 0);
	CHECK(pthread_rwlock_unlock(&rwlock) == 0);
	return (NULL);
}

static void
fairness(int arg)
{
	static const char kinds[] = "rrwrrwwr";
	pthread_t threads[THREADS];

	CHECK(pthread_rwlock_tryrdlock(&rwlock) == 0);
	CHECK(pthread_rwlock_tryrdlock(&rwlock) == 0);
	CHECK(pthread_rwlock_trywrlock(&rwlock) == EBUSY);
	for (int i = 0; i < THREADS; i++) {
		CHECK(pthread_create(&threads[i], NULL,
		    kinds[i] == 'r' ? reader : writer,
		    (void *)(intptr_t)i) == 0);
	}
	fiber_sleep(MS);
	say("waits");
	/* The writer that waits is before us, whatever the lock is held as. */
	CHECK(pthread_rwlock_tryrdlock(&rwlock) == EBUSY);
	CHECK(pthread_rwlock_destroy(&rwlock) == EBUSY);
	CHECK(pthread_rwlock_unlock(&rwlock) == 0);
	CHECK(pthread_rwlock_unlock(&rwlock) == 0);
	join_all(threads, THREADS);
	CHECK(pthread_rwlock_trywrlock(&rwlock) == 0);
	CHECK(pthread_rwlock_tryrdlock(&rwlock) == EBUSY);
	CHECK(pthread_rwlock_unlock(&rwlock) == 0);
	CHECK(pthread_rwlock_destroy(&rwlock) == 0);
}

/* Readers that come and come do not keep a writer waiting. */
static int stop;

static void *
eager_reader(void *arg)
{
	while (!stop) {
		CHECK(pthread_rwlock_rdlock(&rwlock) == 0);
		fiber_sleep(2 * MS);
		CHECK(pthread_rwlock_unlock(&rwlock) == 0);
	}
	return (NULL);
}

static void
no_starvation(int arg)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++) {
		CHECK(pthread_create(&threads[i], NULL, eager_reader,
		    NULL) == 0);
		fiber_sleep(MS / 4);
	}
	for (int i = 0; i < 5; i++) {
		CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
		CHECK(pthread_rwlock_unlock(&rwlock) == 0);
	}
	stop = 1;
	join_all(threads, THREADS);
}

/*
 * Semaphores: no more than their value are inside.
 */
static void *
guest(void *arg)
{
	for (int i = 0; i < 20; i++) {
		CHECK(sem_wait(&sem) == 0);
		CHECK(++inside <= 3);
		fiber_yield();
		inside--;
		counter++;
		CHECK(sem_post(&sem) == 0);
	}
	return (NULL);
}

static void
semaphores(int arg)
{
	pthread_t threads[THREADS];

	CHECK(sem_init(&sem, 0, 3) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, guest, NULL) == 0);
	join_all(threads, THREADS);
	CHECK(counter == 20 * THREADS && inside == 0);
	CHECK(sem_destroy(&sem) == 0);
}

/*
 * Threads: results, detachment, names, their own errno and data.
 */
static pthread_key_t key;

static void *
individual(void *arg)
{
	char name[16];

	CHECK(pthread_getspecific(key) == NULL);
	CHECK(pthread_setspecific(key, arg) == 0);
	CHECK(pthread_setname_np(pthread_self(), "someone") == 0);
	errno = (int)(intptr_t)arg;
	fiber_sleep(MS);
	CHECK(errno == (int)(intptr_t)arg);
	CHECK(pthread_getspecific(key) == arg);
	CHECK(pthread_getname_np(pthread_self(), name, sizeof (name)) == 0);
	CHECK(strcmp(name, "someone") == 0);
	CHECK(pthread_getname_np(pthread_self(), name, 4) == ERANGE);
	if ((intptr_t)arg % 2 == 1)
		pthread_exit((void *)((intptr_t)arg * 10));
	return ((void *)((intptr_t)arg * 10));
}

static void *
nothing(void *arg)
{
	return (arg);
}

static void
threads(int arg)
{
	pthread_t list[THREADS];
	pthread_attr_t attr;
	void *result;

	CHECK(pthread_key_create(&key, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&list[i], NULL, individual,
		    (void *)(intptr_t)(i + 1)) == 0);
	for (int i = 0; i < THREADS; i++) {
		CHECK(pthread_join(list[i], &result) == 0);
		CHECK(result == (void *)(intptr_t)(10 * (i + 1)));
	}
	CHECK(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_setstacksize(&attr, 1) == EINVAL);
	CHECK(pthread_attr_setstacksize(&attr, 32768) == 0);
	CHECK(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
	/* More than there are ids: each must be free again after its end. */
	for (int i = 0; i < 10000; i++) {
		CHECK(pthread_create(&list[0], i % 2 == 0 ? &attr : NULL,
		    nothing, NULL) == 0);
		fiber_yield();
		if (i % 2 == 1)
			CHECK(pthread_detach(list[0]) == 0);
	}
	CHECK(fiber_count() == 1);
}

/*
 * Who locks again at once what it has just unlocked passes a waiter over, but
 * not twice.
 */
static int greedy_rounds, greedy_got;

static void *
greedy_locker(void *arg)
{
	while (greedy_rounds < 1000 && !greedy_got) {
		greedy_rounds++;
		CHECK(pthread_mutex_lock(&mutex) == 0);
		fiber_yield();
		CHECK(pthread_mutex_unlock(&mutex) == 0);
	}
	return (NULL);
}

static void *
patient_locker(void *arg)
{
	CHECK(pthread_mutex_lock(&mutex) == 0);
	greedy_got++;
	CHECK(pthread_mutex_unlock(&mutex) == 0);
	return (NULL);
}

static void
greedy(int arg)
{
	pthread_t threads[4];

	CHECK(pthread_create(&threads[0], NULL, greedy_locker, NULL) == 0);
	for (int i = 1; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, patient_locker,
		    NULL) == 0);
	join_all(threads, 4);
	CHECK(greedy_got == 3);
	say("%d", greedy_rounds);
}

static void *
semaphore_greedy(void *arg)
{
	while (greedy_rounds < 1000 && !greedy_got) {
		greedy_rounds++;
		CHECK(sem_wait(&sem) == 0);
		fiber_yield();
		CHECK(sem_post(&sem) == 0);
	}
	return (NULL);
}

static void *
semaphore_patient(void *arg)
{
	CHECK(sem_wait(&sem) == 0);
	greedy_got++;
	CHECK(sem_post(&sem) == 0);
	return (NULL);
}

static void
greedy_semaphore(int arg)
{
	pthread_t threads[2];

	CHECK(sem_init(&sem, 0, 1) == 0);
	CHECK(pthread_create(&threads[0], NULL, semaphore_greedy, NULL) == 0);
	CHECK(pthread_create(&threads[1], NULL, semaphore_patient, NULL) == 0);
	join_all(threads, 2);
	CHECK(greedy_got == 1);
	say("%d", greedy_rounds);
}

/*
 * Locks that are unlocked by who does not hold them.
 */
static void *
unlock_mutex(void *arg)
{
	return ((void *)(intptr_t)pthread_mutex_unlock(&mutex));
}

static void *
unlock_rwlock(void *arg)
{
	return ((void *)(intptr_t)pthread_rwlock_unlock(&rwlock));
}

static void
stranger(void *(*func)(void *))
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, func, NULL) == 0);
	CHECK(pthread_setname_np(thread, "stranger") == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}

static void
stranger_mutex(int arg)
{
	CHECK(pthread_mutex_lock(&mutex) == 0);
	stranger(unlock_mutex);
}

static void
stranger_writer(int arg)
{
	CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
	stranger(unlock_rwlock);
}

static void
stranger_free(int arg)
{
	stranger(unlock_rwlock);
}

/* As a taskq has it: a lock that is taken as reader is left by another. */
static void
stranger_reader(int arg)
{
	CHECK(pthread_rwlock_rdlock(&rwlock) == 0);
	stranger(unlock_rwlock);
	CHECK(pthread_rwlock_trywrlock(&rwlock) == 0);
	CHECK(pthread_rwlock_unlock(&rwlock) == 0);
}

const scenario_t scenarios[] = {
	{ "greedy", greedy },
	{ "greedy-semaphore", greedy_semaphore },
	{ "stranger-mutex", stranger_mutex },
	{ "stranger-writer", stranger_writer },
	{ "stranger-free", stranger_free },
	{ "stranger-reader", stranger_reader },
	{ "exclusion", exclusion },
	{ "kinds", kinds },
	{ "deadlock", deadlock },
	{ "buffer", buffer },
	{ "deadlines", deadlines },
	{ "wakeups", wakeups },
	{ "fairness", fairness },
	{ "no-starvation", no_starvation },
	{ "semaphores", semaphores },
	{ "threads", threads },
	{ NULL, NULL }
};
