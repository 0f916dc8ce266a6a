/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

#include "scenario.h"

static fiber_queue_t queue;

/*
 * Two fibers take turns: each wakes the other and blocks.
 */
static fiber_t *players[2];
static int rounds, hits;

static void *
player(void *arg)
{
	int me = (int)(intptr_t)arg;

	for (int i = 0; i < rounds; i++) {
		if (rounds <= 3)
			say("%c%d", 'a' + me, i);
		hits++;
		fiber_ready(players[1 - me]);
		fiber_block();
	}
	fiber_ready(players[1 - me]);
	return (NULL);
}

static void
pingpong(int arg)
{
	int64_t start = fiber_now();

	rounds = arg;
	for (int i = 0; i < 2; i++)
		players[i] = fiber_create("player", player,
		    (void *)(intptr_t)i, STACK, 0);
	for (int i = 0; i < 2; i++)
		(void) fiber_join(players[i]);
	CHECK(hits == 2 * rounds);
	say("%d ns", (int)((fiber_now() - start) / (2 * rounds)));
}

/*
 * Timers fire in the order of their deadlines, whatever that of their start.
 */
static void *
sleeper(void *arg)
{
	int64_t ns = (intptr_t)arg * MS;
	int64_t start = fiber_now();

	fiber_sleep(ns);
	CHECK(fiber_now() - start >= ns);
	say("%d", (int)(intptr_t)arg);
	return (NULL);
}

static void
timers(int arg)
{
	static const int ms[] = { 60, 20, 40, 1, 80, 0, 100, 10 };
	fiber_t *fibers[8];

	for (int i = 0; i < 8; i++)
		fibers[i] = fiber_create("sleeper", sleeper,
		    (void *)(intptr_t)ms[i], STACK, 0);
	for (int i = 0; i < 8; i++)
		(void) fiber_join(fibers[i]);
}

/* A wait that is woken before its deadline, and one that is not. */
static void *
waker(void *arg)
{
	fiber_sleep(10 * MS);
	CHECK(fiber_wake_one(&queue) == arg);
	CHECK(fiber_wake_one(&queue) == NULL);
	return (NULL);
}

static void
deadline(int arg)
{
	int64_t start = fiber_now();
	fiber_t *f;

	CHECK(fiber_wait(&queue, start + 20 * MS));
	CHECK(fiber_now() >= start + 20 * MS);
	CHECK(queue.fq_head == NULL);
	CHECK(fiber_wait(&queue, 1));
	f = fiber_create("waker", waker, fiber_current, STACK, 0);
	CHECK(!fiber_wait(&queue, fiber_now() + 400 * MS));
	(void) fiber_join(f);
	/* Nothing of that deadline is left to end another sleep early. */
	start = fiber_now();
	fiber_sleep(450 * MS);
	CHECK(fiber_now() >= start + 450 * MS);
}

/*
 * Many fibers, twice, so that ids and stacks are used again.
 */
static int alive;

static void *
one_of_many(void *arg)
{
	volatile char frame[4096];

	alive++;
	for (int i = 0; i < 5; i++) {
		frame[i] = (char)(intptr_t)arg;
		fiber_yield();
		CHECK(frame[i] == (char)(intptr_t)arg);
	}
	return (arg);
}

static void
many(int count)
{
	static fiber_t *fibers[8192];

	for (int round = 0; round < 2; round++) {
		alive = 0;
		for (int i = 0; i < count; i++) {
			fibers[i] = fiber_create("many", one_of_many,
			    (void *)(intptr_t)i, 16384, 0);
			CHECK(fibers[i] != NULL);
		}
		CHECK(fiber_count() == count + 1);
		for (int i = 0; i < count; i++)
			CHECK(fiber_join(fibers[i]) == (void *)(intptr_t)i);
		CHECK(fiber_count() == 1 && alive == count);
	}
}

/* More fibers than there are ids: the last creation fails, the rest run. */
static void
limit(int arg)
{
	static fiber_t *fibers[10000];
	int count = 0;

	while ((fibers[count] = fiber_create("limit", one_of_many,
	    (void *)(intptr_t)count, 8192, 0)) != NULL)
		CHECK(++count < 10000);
	say("%d", count + 1);
	for (int i = 0; i < count; i++)
		(void) fiber_join(fibers[i]);
	CHECK(fiber_count() == 1);
	CHECK(fiber_create("again", one_of_many, NULL, 8192, 1) != NULL);
}

/*
 * Ends.
 */
static __attribute__((noinline)) int
deep(int levels)
{
	char frame[1024];

	memset(frame, levels, sizeof (frame));
	__asm__ volatile("" : : "r"(frame) : "memory");
	if (levels == 0)
		fiber_yield();
	else
		frame[1] = deep(levels - 1);
	return (frame[0] + frame[1]);
}

static void *
overflowing(void *arg)
{
	return ((void *)(intptr_t)deep((int)(intptr_t)arg));
}

/* As overflow, with nobody else who could run. */
static void *
overflowing_alone(void *arg)
{
	(void) deep((int)(intptr_t)arg);
	say("it went on");
	return (NULL);
}

static void
overflow_alone(int levels)
{
	(void) fiber_join(fiber_create("lonely", overflowing_alone,
	    (void *)(intptr_t)levels, 16384, 0));
}

static void
overflow(int levels)
{
	fiber_t *f = fiber_create("hungry", overflowing,
	    (void *)(intptr_t)levels, 16384, 0);

	(void) fiber_create("next", one_of_many, NULL, STACK, 1);
	(void) fiber_join(f);
}

static __attribute__((noinline)) void
leave(int levels)
{
	if (levels == 0)
		fiber_exit((void *)42);
	leave(levels - 1);
	say("not reached");
}

static void *
leaving(void *arg)
{
	leave(20);
	return (NULL);
}

/* fiber_exit() from a depth; the others, and the stack, are none the worse. */
static void
leaves(int arg)
{
	for (int i = 0; i < 100; i++) {
		fiber_t *f = fiber_create("leaving", leaving, NULL, STACK, 0);
		fiber_t *g = fiber_create("other", one_of_many, (void *)7,
		    STACK, 0);

		CHECK(fiber_join(f) == (void *)42);
		CHECK(fiber_join(g) == (void *)7);
	}
	CHECK(fiber_count() == 1);
}

static void *
trapping(void *arg)
{
	__builtin_trap();
	return (NULL);
}

static void
trap(int arg)
{
	(void) fiber_join(fiber_create("trapping", trapping, NULL, STACK, 0));
}

/*
 * Completions: never pending, over before the wait, later.
 */
static int
io(int ms, int result)
{
	return (fiber_io_end(test_io(fiber_io_start(), ms, result)));
}

static void *
io_fiber(void *arg)
{
	int ms = (int)(intptr_t)arg;

	CHECK(io(ms, ms + 1) == ms + 1);
	say("%d", ms);
	return (NULL);
}

static void
completions(int arg)
{
	static const int ms[] = { 30, 10, -1, 20, 0 };
	fiber_t *fibers[5];

	CHECK(io(-1, -5) == -5);
	CHECK(io(0, 7) == 7);
	CHECK(io(5, 9) == 9);
	for (int i = 0; i < 5; i++)
		fibers[i] = fiber_create("io", io_fiber,
		    (void *)(intptr_t)ms[i], STACK, 0);
	for (int i = 0; i < 5; i++)
		(void) fiber_join(fibers[i]);
}

/*
 * An interrupt ends a wait that allows it, and no other.
 */
static void *
interrupted(void *arg)
{
	int interruptible = (int)(intptr_t)arg;
	int timed_out;

	fiber_current->f_interruptible = interruptible;
	timed_out = fiber_wait(&queue, fiber_now() + 50 * MS);
	fiber_current->f_interruptible = 0;
	CHECK(fiber_current->f_interrupted);
	say("%s: %s", interruptible ? "interruptible" : "not",
	    timed_out ? "timed out" : "woken");
	return (NULL);
}

static void
interrupts(int arg)
{
	for (int i = 0; i < 2; i++) {
		fiber_t *f = fiber_create("interrupted", interrupted,
		    (void *)(intptr_t)i, STACK, 0);

		fiber_yield();
		fiber_interrupt(f);
		(void) fiber_join(f);
		CHECK(queue.fq_head == NULL);
	}
}

/*
 * Fibers that always have something to do: each computes for `us`
 * microseconds between two switches.
 */
static int busy_us, stopping;

static void *
busy(void *arg)
{
	while (!stopping) {
		spin(busy_us * 1000LL);
		fiber_yield();
	}
	return (NULL);
}

static void
starve(int us)
{
	fiber_t *fibers[4];

	busy_us = us;
	for (int i = 0; i < 4; i++)
		fibers[i] = fiber_create("busy", busy, NULL, STACK, 0);
	fiber_sleep(400 * MS);
	stopping = 1;
	for (int i = 0; i < 4; i++)
		(void) fiber_join(fibers[i]);
}

/* Polls for what only a timer, or only the host, can make true. */
static void *
io_sets(void *arg)
{
	(void) io(20, 0);
	*(volatile int *)arg = 1;
	return (NULL);
}

static void *
sleep_sets(void *arg)
{
	fiber_sleep(20 * MS);
	*(volatile int *)arg = 1;
	return (NULL);
}

static void
poll_yielding(int arg)
{
	volatile int done[2] = { 0, 0 };

	(void) fiber_create("io", io_sets, (void *)&done[0], STACK, 1);
	(void) fiber_create("sleep", sleep_sets, (void *)&done[1], STACK, 1);
	while (!done[0] || !done[1])
		fiber_yield();
}

static void
tick(int ms)
{
	for (;;) {
		say("tick");
		fiber_sleep(ms * MS);
	}
}

static void
forever(int arg)
{
	say("waits");
	for (;;)
		fiber_block();
}

/* An I/O that is completed twice: at once, and again in 20 ms. */
static void
twice(int arg)
{
	int number = fiber_io_start();

	(void) test_io(number, 20, 0);
	CHECK(fiber_io_end(test_io(number, 0, 0)) == 0);
	fiber_sleep(1000 * MS);
}

/* Its completion comes when the fiber waits for the next I/O. */
static void
stale(int arg)
{
	int number = fiber_io_start();

	(void) test_io(number, 20, 0);
	CHECK(fiber_io_end(test_io(number, 0, 0)) == 0);
	(void) io(1000, 0);
}

ZOW_EXPORT("blocks") void
blocks(void)
{
	fiber_sleep(MS);
}

const scenario_t scenarios[] = {
	{ "twice", twice },
	{ "stale", stale },
	{ "pingpong", pingpong },
	{ "timers", timers },
	{ "deadline", deadline },
	{ "many", many },
	{ "limit", limit },
	{ "overflow", overflow },
	{ "overflow-alone", overflow_alone },
	{ "leaves", leaves },
	{ "trap", trap },
	{ "completions", completions },
	{ "interrupts", interrupts },
	{ "starve", starve },
	{ "poll", poll_yielding },
	{ "tick", tick },
	{ "forever", forever },
	{ NULL, NULL }
};
