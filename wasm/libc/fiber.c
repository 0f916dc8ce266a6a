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

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fiber.h"
#include "zow.h"

/*
 * The host's half (host/runtime/scheduler.ts). `fiber_switch` suspends the
 * caller and resumes `next` (0: nothing is ready, the module is idle); it
 * returns when somebody switches back to `self`.
 */
ZOW_IMPORT("fiber-switch") extern void host_switch(int self, int next);
ZOW_IMPORT("fiber-spawn") extern void host_spawn(int id);
ZOW_IMPORT("fiber-exiting") extern void host_exiting(int self, int next);
ZOW_IMPORT("fiber-unwind") extern _Noreturn void host_unwind(void);
ZOW_IMPORT("now") extern double host_now(void);

#define	FIBER_ID_BITS	13
#define	FIBER_MAX	(1 << FIBER_ID_BITS)
#define	FIBER_IO_MAX	(1 << (30 - FIBER_ID_BITS))
#define	GUARD_WORDS	4
#define	GUARD		0x5afe57ac
#define	STACK_ALIGN	16
#define	STACK_CACHE_MAX	64	/* free stacks kept for the next fiber */
#define	CREDIT_MAX	64	/* calls of fiber_preempt() between two looks */
#define	LOOKS_PER_SLICE	4	/* at least, where calls are far between */

fiber_t *fiber_current;

/*
 * Where the host's own calls into the module have their C stack while no
 * fiber runs: the last fiber's may be in use, or freed.
 */
static uintptr_t host_stack;

static fiber_t *fiber_table[FIBER_MAX];
static int fiber_ids = 1;		/* ids handed out so far */
static int fiber_free_ids[FIBER_MAX];
static int fiber_nfree;
static int fiber_live;

static fiber_queue_t run_queue;

static fiber_t *timer_heap[FIBER_MAX];
static int timer_count;

static struct stack_cache {
	char	*sc_stack[STACK_CACHE_MAX];
	size_t	sc_size;		/* all of this size */
	int	sc_count;
} stack_cache;

/*
 * JSPI switches the wasm stack but not the C stack, whose pointer is a global
 * of the module: each fiber saves it when it blocks and puts it back.
 */
__asm__(".globaltype __stack_pointer, i32\n");

static inline uintptr_t
stack_pointer(void)
{
	uintptr_t sp;

	__asm__ volatile("global.get __stack_pointer\n\tlocal.set %0"
	    : "=r"(sp));
	return (sp);
}

static inline void
set_stack_pointer(uintptr_t sp)
{
	__asm__ volatile("local.get %0\n\tglobal.set __stack_pointer"
	    :: "r"(sp));
}

int64_t
fiber_now(void)
{
	return ((int64_t)host_now());
}

/*
 * Queues.
 */
static void
queue_append(fiber_queue_t *q, fiber_t *f)
{
	f->f_next = NULL;
	if (q->fq_tail != NULL)
		q->fq_tail->f_next = f;
	else
		q->fq_head = f;
	q->fq_tail = f;
}

static fiber_t *
queue_take(fiber_queue_t *q)
{
	fiber_t *f = q->fq_head;

	if (f == NULL)
		return (NULL);
	q->fq_head = f->f_next;
	if (q->fq_head == NULL)
		q->fq_tail = NULL;
	f->f_next = NULL;
	return (f);
}

static void
queue_remove(fiber_queue_t *q, fiber_t *f)
{
	fiber_t *prev = NULL;

	for (fiber_t *g = q->fq_head; g != NULL; prev = g, g = g->f_next) {
		if (g != f)
			continue;
		if (prev != NULL)
			prev->f_next = f->f_next;
		else
			q->fq_head = f->f_next;
		if (q->fq_tail == f)
			q->fq_tail = prev;
		f->f_next = NULL;
		return;
	}
	zow_panic("fiber %s is not in the queue it waits in", f->f_name);
}

/*
 * Timers: a binary heap, earliest deadline first.
 */
static void
timer_place(int i, fiber_t *f)
{
	timer_heap[i] = f;
	f->f_timer = i;
}

static void
timer_up(int i)
{
	fiber_t *f = timer_heap[i];

	while (i > 0) {
		int parent = (i - 1) / 2;

		if (timer_heap[parent]->f_deadline <= f->f_deadline)
			break;
		timer_place(i, timer_heap[parent]);
		i = parent;
	}
	timer_place(i, f);
}

static void
timer_down(int i)
{
	fiber_t *f = timer_heap[i];

	for (;;) {
		int child = 2 * i + 1;

		if (child >= timer_count)
			break;
		if (child + 1 < timer_count && timer_heap[child + 1]->f_deadline
		    < timer_heap[child]->f_deadline)
			child++;
		if (timer_heap[child]->f_deadline >= f->f_deadline)
			break;
		timer_place(i, timer_heap[child]);
		i = child;
	}
	timer_place(i, f);
}

static void
timer_set(fiber_t *f, int64_t deadline)
{
	zow_verify(f->f_timer < 0 && timer_count < FIBER_MAX,
	    "fiber %s has a timer", f->f_name);
	f->f_deadline = deadline;
	f->f_timed_out = 0;
	timer_heap[timer_count] = f;
	timer_up(timer_count++);
}

static void
timer_cancel(fiber_t *f)
{
	int i = f->f_timer;
	fiber_t *last;

	if (i < 0)
		return;
	f->f_timer = -1;
	last = timer_heap[--timer_count];
	if (last == f)
		return;
	timer_heap[i] = last;
	last->f_timer = i;
	timer_down(i);
	timer_up(last->f_timer);
}

/*
 * Scheduling.
 */
/*
 * Of the running fiber. A large frame can step over the guard: then at least
 * the stack pointer tells, if it is still out there.
 */
static void
guard_check(const fiber_t *f)
{
	const uint32_t *guard = (const uint32_t *)f->f_stack;
	int intact = stack_pointer() >= (uintptr_t)&guard[GUARD_WORDS];

	for (int i = 0; i < GUARD_WORDS; i++)
		intact &= guard[i] == GUARD;
	if (!intact)
		zow_panic("stack overflow (%zu bytes)", f->f_stack_size);
}

void
fiber_ready(fiber_t *f)
{
	if (f->f_state != FIBER_BLOCKED)
		return;
	f->f_state = FIBER_READY;
	queue_append(&run_queue, f);
}

/* Not inlined: the stack pointer is saved in a local across the switch. */
static __attribute__((noinline)) void
switch_to(fiber_t *self, fiber_t *next)
{
	uintptr_t sp = stack_pointer();

	fiber_current = NULL;
	set_stack_pointer(host_stack);
	host_switch(self->f_id, next != NULL ? next->f_id : 0);
	set_stack_pointer(sp);
	zow_verify(fiber_current == NULL, "fiber %s is resumed beside another",
	    self->f_name);
	fiber_current = self;
}

/* The host's own calls into the module cannot wait for anything. */
static fiber_t *
running(void)
{
	zow_verify(fiber_current != NULL, "a call of the host blocks");
	return (fiber_current);
}

static void
block(fiber_t *self)
{
	fiber_t *next = queue_take(&run_queue);

	guard_check(self);
	zow_verify(next == NULL || next->f_state == FIBER_READY,
	    "fiber %s is in the run queue and not ready", next->f_name);
	if (next != self)
		switch_to(self, next);
	self->f_state = FIBER_RUNNING;
}

void
fiber_block(void)
{
	fiber_t *self = running();

	self->f_state = FIBER_BLOCKED;
	block(self);
}

void
fiber_yield(void)
{
	fiber_t *self = running();

	self->f_state = FIBER_READY;
	if (run_queue.fq_head != NULL) {
		queue_append(&run_queue, self);
		block(self);
	} else {
		/*
		 * The host decides whether the event loop has a turn: what
		 * the caller polls for may be a timer's or a completion's.
		 */
		guard_check(self);
		switch_to(self, self);
		self->f_state = FIBER_RUNNING;
	}
}

/*
 * Preemption. A look at the clock costs as much as some twenty calls that do
 * not look; the longer the code computes between two calls, the sooner the
 * next look.
 */
int fiber_credit = CREDIT_MAX;

static int64_t slice_ns;
static int64_t slice_start;	/* when somebody last gave way */
static int64_t looked_at;
static int credit_max = CREDIT_MAX;

void
fiber_slice(int64_t ns)
{
	slice_ns = ns;
}

void
fiber_look(void)
{
	fiber_t *self = fiber_current;
	int64_t now, passed;

	fiber_credit = credit_max;
	if (slice_ns == 0 || self == NULL || self->f_state != FIBER_RUNNING)
		return;
	now = fiber_now();
	passed = now - looked_at;
	looked_at = now;
	if (passed > slice_ns / LOOKS_PER_SLICE) {
		credit_max = credit_max * (slice_ns / LOOKS_PER_SLICE) / passed;
		if (credit_max == 0)
			credit_max = 1;
	} else if (credit_max < CREDIT_MAX) {
		credit_max *= 2;
	}
	if (credit_max > CREDIT_MAX)
		credit_max = CREDIT_MAX;
	fiber_credit = credit_max;
	if (now - slice_start < slice_ns)
		return;
	slice_start = now;
	fiber_yield();
}

/* Functions of files with -finstrument-function-entry-bare begin with it. */
void
__cyg_profile_func_enter_bare(void)
{
	fiber_preempt();
}

int
fiber_wait(fiber_queue_t *queue, int64_t deadline)
{
	fiber_t *self = running();

	zow_verify(self->f_waiting == NULL, "fiber waits twice");
	self->f_waiting = queue;
	self->f_passed_over = 0;
	queue_append(queue, self);
	self->f_timed_out = 0;
	if (deadline != 0)
		timer_set(self, deadline);
	while (self->f_waiting != NULL && !self->f_timed_out)
		fiber_block();
	timer_cancel(self);
	return (self->f_timed_out);
}

void
fiber_wait_again(fiber_queue_t *queue)
{
	fiber_t *self = running();
	fiber_t *before = NULL;
	fiber_t *after = queue->fq_head;

	zow_verify(self->f_waiting == NULL, "fiber waits twice");
	while (after != NULL && after->f_passed_over) {
		before = after;
		after = after->f_next;
	}
	self->f_waiting = queue;
	self->f_passed_over = 1;
	self->f_next = after;
	if (before != NULL)
		before->f_next = self;
	else
		queue->fq_head = self;
	if (after == NULL)
		queue->fq_tail = self;
	while (self->f_waiting != NULL)
		fiber_block();
}

fiber_t *
fiber_wake_one(fiber_queue_t *queue)
{
	fiber_t *f = queue_take(queue);

	if (f == NULL)
		return (NULL);
	zow_verify(f->f_waiting == queue, "fiber %s waits for something else",
	    f->f_name);
	f->f_waiting = NULL;
	timer_cancel(f);
	fiber_ready(f);
	return (f);
}

void
fiber_wake_all(fiber_queue_t *queue)
{
	while (fiber_wake_one(queue) != NULL)
		continue;
}

void
fiber_sleep(int64_t ns)
{
	fiber_t *self = running();

	if (ns <= 0) {
		fiber_yield();
		return;
	}
	timer_set(self, fiber_now() + ns);
	while (!self->f_timed_out)
		fiber_block();
	self->f_timed_out = 0;
}

int
fiber_io_start(void)
{
	fiber_t *self = running();
	unsigned int last = (unsigned int)self->f_io_number >> FIBER_ID_BITS;

	zow_verify(self->f_io == FIBER_IO_NONE, "fiber has an I/O under way");
	self->f_io = FIBER_IO_STARTED;
	self->f_io_number = (int)((last + 1) % FIBER_IO_MAX) << FIBER_ID_BITS |
	    self->f_id;
	return (self->f_io_number);
}

int
fiber_io_end(int result)
{
	fiber_t *self = running();

	if (result == IO_PENDING) {
		while (self->f_io == FIBER_IO_STARTED)
			fiber_block();
		result = self->f_io_result;
	} else {
		zow_verify(self->f_io == FIBER_IO_STARTED,
		    "an I/O is over at once, and completed besides");
	}
	self->f_io = FIBER_IO_NONE;
	return (result);
}

void
fiber_interrupt(fiber_t *f)
{
	f->f_interrupted = 1;
	if (!f->f_interruptible || f->f_waiting == NULL)
		return;
	queue_remove(f->f_waiting, f);
	f->f_waiting = NULL;
	timer_cancel(f);
	fiber_ready(f);
}

int
fiber_count(void)
{
	return (fiber_live);
}

/*
 * Life and death.
 */
static char *
stack_alloc(size_t size)
{
	if (stack_cache.sc_count > 0 && stack_cache.sc_size == size)
		return (stack_cache.sc_stack[--stack_cache.sc_count]);
	return (aligned_alloc(STACK_ALIGN, size));
}

static void
stack_free(char *stack, size_t size)
{
	if (stack_cache.sc_count == 0)
		stack_cache.sc_size = size;
	if (stack_cache.sc_size == size &&
	    stack_cache.sc_count < STACK_CACHE_MAX)
		stack_cache.sc_stack[stack_cache.sc_count++] = stack;
	else
		free(stack);
}

fiber_t *
fiber_create(const char *name, void *(*func)(void *), void *arg,
    size_t stack_size, int detached)
{
	fiber_t *f;
	uint32_t *guard;

	if (fiber_nfree == 0 && fiber_ids == FIBER_MAX)
		return (NULL);
	if (host_stack == 0)
		host_stack = stack_pointer() & -STACK_ALIGN;
	f = calloc(1, sizeof (*f));
	if (f == NULL)
		return (NULL);
	f->f_stack_size = (stack_size + STACK_ALIGN - 1) & -STACK_ALIGN;
	f->f_stack = stack_alloc(f->f_stack_size);
	if (f->f_stack == NULL) {
		free(f);
		return (NULL);
	}
	guard = (uint32_t *)f->f_stack;
	for (int i = 0; i < GUARD_WORDS; i++)
		guard[i] = GUARD;
	f->f_id = fiber_nfree > 0 ? fiber_free_ids[--fiber_nfree] :
	    fiber_ids++;
	f->f_func = func;
	f->f_arg = arg;
	f->f_detached = detached;
	f->f_timer = -1;
	strlcpy(f->f_name, name, sizeof (f->f_name));
	fiber_table[f->f_id] = f;
	fiber_live++;
	host_spawn(f->f_id);
	f->f_state = FIBER_READY;
	queue_append(&run_queue, f);
	return (f);
}

static void
fiber_free(fiber_t *f)
{
	fiber_table[f->f_id] = NULL;
	fiber_free_ids[fiber_nfree++] = f->f_id;
	free(f);
}

/* On the fiber's own stack, which is given back: touch nothing of it after. */
static __attribute__((noinline)) void
finish(fiber_t *f)
{
	int id = f->f_id;
	fiber_t *next;

	guard_check(f);
	zow_verify(f->f_waiting == NULL && f->f_timer < 0 &&
	    f->f_io == FIBER_IO_NONE, "fiber ends, and waits for something");
	f->f_state = FIBER_DONE;
	fiber_live--;
	stack_free(f->f_stack, f->f_stack_size);
	f->f_stack = NULL;
	if (f->f_joiner != NULL)
		fiber_ready(f->f_joiner);
	if (f->f_detached)
		fiber_free(f);
	next = queue_take(&run_queue);
	fiber_current = NULL;
	set_stack_pointer(host_stack);
	host_exiting(id, next != NULL ? next->f_id : 0);
}

void
fiber_exit(void *result)
{
	fiber_current->f_result = result;
	host_unwind();
}

void
fiber_detach(fiber_t *f)
{
	if (f->f_state == FIBER_DONE)
		fiber_free(f);
	else
		f->f_detached = 1;
}

void *
fiber_join(fiber_t *f)
{
	void *result;

	zow_verify(!f->f_detached && f->f_joiner == NULL,
	    "fiber %s is joined by two, or detached", f->f_name);
	while (f->f_state != FIBER_DONE) {
		f->f_joiner = fiber_current;
		fiber_block();
	}
	result = f->f_result;
	fiber_free(f);
	return (result);
}

/*
 * Exports: what the host calls.
 */

/* NULL: no such fiber. */
static fiber_t *
fiber_find(int id)
{
	return (id > 0 && id < FIBER_MAX ? fiber_table[id] : NULL);
}

/* The first activation of a fiber; wrapped by WebAssembly.promising. */
ZOW_EXPORT("fiber-start") void
fiber_start(int id)
{
	fiber_t *f = fiber_find(id);

	zow_verify(f != NULL && f->f_state == FIBER_READY &&
	    fiber_current == NULL, "the host starts fiber %d", id);
	set_stack_pointer((uintptr_t)f->f_stack + f->f_stack_size);
	fiber_current = f;
	f->f_state = FIBER_RUNNING;
	f->f_result = f->f_func(f->f_arg);
	finish(f);
}

/* A fiber ended by fiber_exit(): its frames are gone. */
ZOW_EXPORT("fiber-unwound") void
fiber_unwound(int id)
{
	fiber_t *f = fiber_find(id);

	zow_verify(f != NULL && f->f_state == FIBER_RUNNING &&
	    fiber_current == f, "the host ends fiber %d", id);
	set_stack_pointer((uintptr_t)f->f_stack + f->f_stack_size);
	finish(f);
}

/* The next READY fiber, taken off the run queue; 0: none. */
ZOW_EXPORT("fiber-next") int
fiber_next(void)
{
	fiber_t *f = queue_take(&run_queue);

	return (f != NULL ? f->f_id : 0);
}

/* Completion of the I/O that fiber_io_start() gave this number. */
ZOW_EXPORT("fiber-complete") void
fiber_complete(int number, int result)
{
	fiber_t *f = fiber_find(number & (FIBER_MAX - 1));

	zow_verify(f != NULL && f->f_io == FIBER_IO_STARTED &&
	    f->f_io_number == number && result != IO_PENDING,
	    "the host completes an I/O that nobody waits for: %d of %s",
	    number >> FIBER_ID_BITS, f != NULL ? f->f_name : "no fiber");
	f->f_io_result = result;
	f->f_io = FIBER_IO_DONE;
	fiber_ready(f);
}

/*
 * Fires the timers that are due. Returns the nanoseconds until the next, -1
 * without one.
 */
ZOW_EXPORT("fiber-timers") double
fiber_timers(void)
{
	int64_t now = fiber_now();

	while (timer_count > 0 && timer_heap[0]->f_deadline <= now) {
		fiber_t *f = timer_heap[0];

		timer_cancel(f);
		f->f_timed_out = 1;
		if (f->f_waiting != NULL) {
			queue_remove(f->f_waiting, f);
			f->f_waiting = NULL;
		}
		fiber_ready(f);
	}
	return (timer_count > 0 ?
	    (double)(timer_heap[0]->f_deadline - now) : -1);
}

/* Address of the NUL-terminated name of a fiber; 0: no such fiber. */
ZOW_EXPORT("fiber-name") const char *
fiber_name(int id)
{
	const fiber_t *f = fiber_find(id);

	return (f != NULL ? f->f_name : NULL);
}

/* The fiber that runs, 0 when the module is idle or before the first. */
ZOW_EXPORT("fiber-running") int
fiber_running(void)
{
	return (fiber_current != NULL ? fiber_current->f_id : 0);
}

ZOW_EXPORT("fiber-count") int
fiber_count_export(void)
{
	return (fiber_live);
}

void
zow_panic(const char *fmt, ...)
{
	static char text[2048];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof (text), fmt, ap);
	va_end(ap);
	if (len < 0)
		len = 0;
	if ((size_t)len >= sizeof (text))
		len = sizeof (text) - 1;
	(void) snprintf(text + len, sizeof (text) - len, " [fiber %s]",
	    fiber_current != NULL ? fiber_current->f_name : "none");
	zow_panic_host(text, strlen(text));
}
