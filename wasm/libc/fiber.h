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
 * Fibers: the threads of the module. All of them run in the host's one
 * JavaScript thread, one at a time, and change over only where they block, or
 * where they could: fiber_preempt().
 *
 *	       fiber_create()         scheduler            blocks
 *	free ----------------> READY ----------> RUNNING ---------> BLOCKED
 *	  ^                      ^                  |                  |
 *	  |                      +- fiber_ready() --|------------------+
 *	  +------------------------- joined, detached <-- DONE
 *
 * Exactly one fiber is RUNNING while the module runs at all. A fiber that
 * blocks names its successor, and the host switches to it; with an empty run
 * queue the module is idle until a timer or a completion makes a fiber READY.
 */

#ifndef	_ZOW_FIBER_H
#define	_ZOW_FIBER_H

#include <stddef.h>
#include <stdint.h>

#ifdef	__cplusplus
extern "C" {
#endif

#define	FIBER_NAME_LEN	32
#define	FIBER_TSD_MAX	32		/* PTHREAD_KEYS_MAX of the module */

typedef struct fiber fiber_t;

typedef enum fiber_state {
	FIBER_READY,
	FIBER_RUNNING,
	FIBER_BLOCKED,
	FIBER_DONE
} fiber_state_t;

/*
 * An import that a fiber has called, and that may complete later:
 *
 *	NONE -- fiber_io_start() --> STARTED -- fiber-complete --> DONE
 *	  ^                             |                            |
 *	  +------------------- fiber_io_end() -----------------------+
 */
typedef enum fiber_io {
	FIBER_IO_NONE,
	FIBER_IO_STARTED,
	FIBER_IO_DONE
} fiber_io_t;

/* A queue of blocked fibers, first come first served. */
typedef struct fiber_queue {
	fiber_t	*fq_head;
	fiber_t	*fq_tail;
} fiber_queue_t;

struct fiber {
	int		f_id;		/* the host's handle, > 0 */
	fiber_state_t	f_state;
	char		*f_stack;	/* lowest address: the guard words */
	size_t		f_stack_size;	/* bytes */
	void		*(*f_func)(void *);
	void		*f_arg;
	void		*f_result;
	int		f_detached;
	fiber_t		*f_joiner;
	fiber_t		*f_next;	/* in the run queue or a wait queue */
	fiber_queue_t	*f_waiting;	/* the wait queue it is in */
	int		f_exclusive;	/* waits for a rwlock as writer */
	int		f_passed_over;	/* waits again: another was faster */
	int64_t		f_deadline;	/* fiber_now() clock, ns */
	int		f_timer;	/* index in the timer heap, -1: none */
	int		f_timed_out;
	fiber_io_t	f_io;
	int		f_io_number;	/* of the I/O, with f_id in it */
	int		f_io_result;
	int		f_interrupted;	/* its waits with _sig return early */
	int		f_interruptible; /* it is in such a wait */
	int		f_errno;
	int		f_io_depth;	/* see vdev_zow.c */
	void		*f_tsd[FIBER_TSD_MAX];
	void		*f_context;	/* session of an ioctl, else NULL */
	char		f_name[FIBER_NAME_LEN];
};

/* The running fiber. */
extern fiber_t *fiber_current;

/*
 * Creates a READY fiber that runs func(arg) on a stack of its own of
 * `stack_size` bytes. NULL when memory or fiber ids are exhausted.
 */
fiber_t *fiber_create(const char *name, void *(*func)(void *), void *arg,
    size_t stack_size, int detached);

/* Ends the running fiber. */
_Noreturn void fiber_exit(void *result);

/* Waits for the end of a fiber that is not detached and frees it. */
void *fiber_join(fiber_t *fiber);

/* Lets a fiber, which may have ended, be freed without a join. */
void fiber_detach(fiber_t *fiber);

/*
 * Blocks the running fiber until fiber_ready(). Whoever blocks says before
 * what it waits for; wake-ups can be spurious, so it looks again after.
 */
void fiber_block(void);

/* Makes a BLOCKED fiber READY; anything else is left as it is. */
void fiber_ready(fiber_t *fiber);

/*
 * Lets every READY fiber run once. Without one the event loop still has its
 * turns, so that a fiber can poll.
 */
void fiber_yield(void);

/*
 * Where code that never blocks gives way: locks that are free, allocations,
 * and the functions of files that compute for long (zfs-src/units.ts). A fiber
 * that has run for a slice yields there, so that neither the other fibers nor
 * the event loop wait for it. Upstream's code is made for kernels that preempt
 * it anywhere; ours must not call what gives way where it relies on nobody
 * else running. Never yields outside a fiber, nor before fiber_slice().
 *
 * It is called much more often than the clock can be looked at.
 */
extern int fiber_credit;	/* calls until the next look */
void fiber_look(void);

static inline void
fiber_preempt(void)
{
	if (__builtin_expect(--fiber_credit <= 0, 0))
		fiber_look();
}

/* Fibers give way after `ns` nanoseconds; 0, as at start: never. */
void fiber_slice(int64_t ns);

/*
 * Appends the running fiber to the queue and blocks it, until it is woken or
 * the deadline (fiber_now() clock; 0: none) has passed. Returns nonzero when
 * it timed out.
 */
int fiber_wait(fiber_queue_t *queue, int64_t deadline);

/* As fiber_wait(), of one who was passed over: before those who were not. */
void fiber_wait_again(fiber_queue_t *queue);

/* Takes the first fiber off the queue and makes it READY; NULL: empty. */
fiber_t *fiber_wake_one(fiber_queue_t *queue);
void fiber_wake_all(fiber_queue_t *queue);

/* Sleeps `ns` nanoseconds. */
void fiber_sleep(int64_t ns);

/* The monotonic clock in nanoseconds; starts near 0 with the module. */
int64_t fiber_now(void);

/*
 * Calls an import that may complete later, and waits for that:
 *	error = fiber_io_end(import(fiber_io_start(), …));
 * The number is the host's name for this one I/O: a completion of any other,
 * or a second one, is a panic.
 */
#define	IO_PENDING	INT32_MIN
int fiber_io_start(void);
int fiber_io_end(int result);

/*
 * Interrupts a fiber: now, if it is in an interruptible wait (fiber_wait
 * between fiber_interruptible(1) and (0)), else when it enters one.
 */
void fiber_interrupt(fiber_t *fiber);

/* Number of live fibers. */
int fiber_count(void);

#ifdef	__cplusplus
}
#endif

#endif	/* _ZOW_FIBER_H */
