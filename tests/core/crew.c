/* SPDX-License-Identifier: MIT */
/*
 * crew: every piece is visited once, whatever the number of threads; order, ends, errors; threads that work at once, grow when calls wait, and
 * do not when they do not.
 */
#include "crew.h"
#include "tree.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>

enum { WIDTH = 6 };

/* Pieces are depths, as pointers: one of depth n brings WIDTH of depth n - 1. */
struct trip {
	_Atomic uint64_t visits, entered, left;
	_Atomic unsigned inside, most;
	uint64_t by[LW_PACE_MOST];	/* visits by each thread */
	unsigned depth;
	unsigned sleep_us;		/* in each visit */
	uint64_t calls;			/* claimed by each visit */
	uint64_t stop_at;
	unsigned refuse_from;		/* threads of this number on have no memory; 0: all have */
};

static void *enter(void *arg, struct lw_crew_worker *worker)
{
	struct trip *trip = arg;
	atomic_fetch_add(&trip->entered, 1);
	return trip->refuse_from && worker->number >= trip->refuse_from ? NULL : trip;
}

static void leave(void *arg, struct lw_crew_worker *worker)
{
	atomic_fetch_add(&((struct trip *)arg)->left, 1);
}

static void count_inside(struct trip *trip)
{
	unsigned inside = 1 + atomic_fetch_add(&trip->inside, 1), most = atomic_load(&trip->most);
	while (inside > most && !atomic_compare_exchange_weak(&trip->most, &most, inside))
		;
}

static int visit(void *arg, struct lw_crew_worker *worker, void *piece)
{
	struct trip *trip = arg;
	void *more[WIDTH];
	uintptr_t depth = (uintptr_t)piece;
	uint64_t number = 1 + atomic_fetch_add(&trip->visits, 1);
	trip->by[worker->number]++;
	worker->calls += trip->calls;
	count_inside(trip);
	if (trip->sleep_us)
		usleep(trip->sleep_us);
	atomic_fetch_sub(&trip->inside, 1);
	if (trip->stop_at && number >= trip->stop_at)
		return 7;
	for (unsigned i = 0; i < WIDTH; i++)
		more[i] = (void *)(depth - 1);
	return depth > 1 ? lw_crew_push(worker, more, WIDTH) : 0;
}

static int run(struct trip *trip, unsigned threads, unsigned *used)
{
	struct lw_crew_job job = { .arg = trip, .threads = threads, .enter = enter, .visit = visit, .leave = leave };
	void *first = (void *)(uintptr_t)trip->depth;
	return lw_crew_run(&job, &first, 1, used);
}

static uint64_t pieces(unsigned depth)
{
	uint64_t all = 0, level = 1;
	for (; depth; depth--, level *= WIDTH)
		all += level;
	return all;
}

Test(crew, every_piece_is_visited_once)
{
	for (unsigned threads = 0; threads <= 100; threads = threads ? threads * 3 : 1) {
		for (unsigned depth = 1; depth <= 6; depth++) {
			struct trip trip = { .depth = depth, .calls = 1000 };
			unsigned used;
			cr_assert_eq(run(&trip, threads, &used), 0);
			cr_expect_eq(trip.visits, pieces(depth), "%u threads, depth %u", threads, depth);
			cr_expect_eq(trip.entered, used);
			cr_expect_eq(trip.left, used);
			cr_expect(used == (threads > LW_PACE_MOST ? LW_PACE_MOST : threads) || !threads, "%u of %u", used, threads);
		}
	}
}

Test(crew, nothing_to_do)
{
	struct trip trip = { 0 };
	struct lw_crew_job job = { .arg = &trip, .threads = 4, .enter = enter, .visit = visit, .leave = leave };
	unsigned used;
	cr_expect_eq(lw_crew_run(&job, NULL, 0, &used), 0);
	cr_expect_eq(trip.entered, 0);
}

static int note_order(void *arg, struct lw_crew_worker *worker, void *piece)
{
	struct trip *trip = arg;
	trip->by[trip->visits++] = (uintptr_t)piece;
	void *more[] = { (void *)((uintptr_t)piece * 10 + 1), (void *)((uintptr_t)piece * 10 + 2) };
	return (uintptr_t)piece < 10 ? lw_crew_push(worker, more, 2) : 0;
}

Test(crew, the_newest_piece_is_done_first)
{
	static const uint64_t order[] = { 2, 22, 21, 1, 12, 11 };
	struct trip trip = { 0 };
	struct lw_crew_job job = { .arg = &trip, .threads = 1, .enter = enter, .visit = note_order, .leave = leave };
	void *first[] = { (void *)1, (void *)2 };
	unsigned used;
	cr_assert_eq(lw_crew_run(&job, first, 2, &used), 0);
	cr_expect_arr_eq(trip.by, order, sizeof order);
}

Test(crew, a_result_ends_the_run)
{
	for (unsigned threads = 1; threads <= 16; threads *= 4) {
		struct trip trip = { .depth = 9, .stop_at = 50 };
		unsigned used;
		cr_expect_eq(run(&trip, threads, &used), 7);
		cr_expect_lt(trip.visits, pieces(9) / 100);
		cr_expect_eq(trip.left, trip.entered);
	}
}

/* Threads that are started while it is set take their time: 1 ms each. */
static _Atomic bool slow_start;
static _Atomic unsigned started_slowly;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*begin)(void *), void *arg)
{
	int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	*(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
	if (atomic_load(&slow_start)) {
		atomic_fetch_add(&started_slowly, 1);
		usleep(1000);
	}
	return next(thread, attributes, begin, arg);
}

/*
 *     thread 0                     thread A             thread B
 *                                                       start 24 more ...
 *                                  7 is the result
 *     sees it, counts the threads                       ... and more ...
 *     waits for those, goes                             ... and more
 */
static int stop_while_threads_start(void *arg, struct lw_crew_worker *worker, void *piece)
{
	usleep(1000);
	worker->calls++;
	/* Nobody else waits for the lock under which threads are started. */
	return worker->number && atomic_load(&started_slowly) > 8 ? 7 : 0;
}

static void leave_late(void *arg, struct lw_crew_worker *worker)
{
	if (worker->number >= 8)
		usleep(20000);
	leave(arg, worker);
}

Test(crew, a_result_waits_for_threads_that_are_being_started, .timeout = 60)
{
	static void *first[2000];
	struct lw_crew_job job = { .enter = enter, .visit = stop_while_threads_start, .leave = leave_late };
	for (unsigned i = 0; i < 2000; i++)
		first[i] = first;
	atomic_store(&slow_start, true);
	for (unsigned round = 0; round < 5; round++) {
		struct trip trip = { 0 };
		unsigned used;
		job.arg = &trip;
		atomic_store(&started_slowly, 0);
		cr_assert_eq(lw_crew_run(&job, first, 2000, &used), 7);
		cr_assert_eq(trip.entered, used);
		cr_assert_eq(trip.left, used);
	}
}

Test(crew, a_thread_without_memory_ends_the_run)
{
	struct trip trip = { .depth = 9, .refuse_from = 2, .sleep_us = 10 };
	unsigned used;
	cr_expect_eq(run(&trip, 4, &used), -ENOMEM);
	cr_expect_lt(trip.visits, pieces(9));
	cr_expect_eq(trip.left, 2);
}

Test(crew, threads_work_at_once_and_share)
{
	struct trip trip = { .depth = 5, .sleep_us = 500 };
	unsigned used, busy = 0;
	cr_assert_eq(run(&trip, 8, &used), 0);
	cr_expect_eq(trip.most, 8);
	for (unsigned i = 0; i < 8; i++)
		busy += trip.by[i] > 20;
	cr_expect_eq(busy, 8, "each has done a part");
}

Test(crew, grows_when_calls_wait)
{
	struct trip trip = { .depth = 5, .sleep_us = 1000, .calls = 1 };
	unsigned used;
	cr_assert_eq(run(&trip, 0, &used), 0);
	cr_expect_gt(used, lw_cores(), "%u threads", used);
	cr_expect_eq(trip.visits, pieces(5));
}

Test(crew, does_not_grow_when_calls_are_short)
{
	/* The same sleep, but claimed to be a million calls: a machine that is busy otherwise may take its time. */
	struct trip trip = { .depth = 5, .sleep_us = 1000, .calls = 1000000 };
	unsigned used;
	cr_assert_eq(run(&trip, 0, &used), 0);
	cr_expect_eq(used, lw_cores());
}

/* Waits at first, then claims short calls: most threads are parked while there is work on their stacks. */
static int change_of_weather(void *arg, struct lw_crew_worker *worker, void *piece)
{
	struct trip *trip = arg;
	bool waits = atomic_load(&trip->visits) % 4096 < 1024;
	trip->sleep_us = waits ? 500 : 0;
	trip->calls = waits ? 1 : 100000;
	return visit(arg, worker, piece);
}

Test(crew, parked_threads_leave_nothing_behind, .timeout = 60)
{
	for (unsigned i = 0; i < 5; i++) {
		struct trip trip = { .depth = 7 };
		struct lw_crew_job job = { .arg = &trip, .enter = enter, .visit = change_of_weather, .leave = leave };
		void *first = (void *)7;
		unsigned used;
		cr_assert_eq(lw_crew_run(&job, &first, 1, &used), 0);
		cr_expect_eq(trip.visits, pieces(7));
		cr_expect_gt(used, lw_cores());
	}
}

static int note_mask(void *arg, struct lw_crew_worker *worker, void *piece)
{
	sigset_t mask;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	atomic_fetch_add((_Atomic unsigned *)arg, worker->number && !sigismember(&mask, SIGINT));
	usleep(1000);
	return 0;
}

static void *enter_anything(void *arg, struct lw_crew_worker *worker)
{
	return arg;
}

static void leave_it(void *arg, struct lw_crew_worker *worker)
{
}

Test(crew, signals_are_for_the_program)
{
	_Atomic unsigned open = 0;
	struct lw_crew_job job = { .arg = &open, .threads = 4, .enter = enter_anything, .visit = note_mask, .leave = leave_it };
	void *first[50] = { 0 };
	sigset_t before, after;
	unsigned used;
	for (unsigned i = 0; i < 50; i++)
		first[i] = (void *)1;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	cr_assert_eq(lw_crew_run(&job, first, 50, &used), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	cr_expect_eq(open, 0);
	cr_expect_eq(sigismember(&before, SIGINT), sigismember(&after, SIGINT));
}
