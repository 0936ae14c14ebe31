/* SPDX-License-Identifier: MIT */
/*
 * crew under ThreadSanitizer: pieces that point at each other are handed from thread to thread, with plain memory behind them, while threads start,
 * sleep, steal, park and stop. The control is the same crew with stacks that nobody locks: the sanitizer, or the count of
 * visits, must say so.
 */
#include <stdbool.h>

static bool broken;
#define LW_CREW_LOCK(worker) (broken ? 0 : pthread_mutex_lock(&(worker)->lock))
#define LW_CREW_UNLOCK(worker) (broken ? 0 : pthread_mutex_unlock(&(worker)->lock))
#include "../../core/crew.c"
#include "../core/tree.h"

#include <stdio.h>

#if defined(__SANITIZE_THREAD__)
enum { UNDER_TSAN = 1 };
#else
enum { UNDER_TSAN = 0 };
#endif

enum { ROUNDS = 6, WIDTH = 5, DEPTH = 6 };

/* Written by whoever brings it, read and written by whoever visits it: nothing but the crew orders the two. */
struct piece {
	struct piece *parent;
	unsigned depth, visits, children;
	struct piece *made_before;	/* the crew has nothing to do with this one */
};

static _Atomic uint64_t visits;
static struct piece *_Atomic made;

static struct piece *make_piece(struct piece *parent)
{
	struct piece *piece = calloc(1, sizeof *piece);
	TREE_CHECK(piece);
	*piece = (struct piece){ .parent = parent, .depth = parent->depth - 1, .made_before = atomic_load_explicit(&made, memory_order_relaxed) };
	while (!atomic_compare_exchange_weak_explicit(&made, &piece->made_before, piece, memory_order_relaxed, memory_order_relaxed))
		;
	return piece;
}

/* At the end, when each is freed once, however often a broken crew has visited it. */
static void free_pieces(void)
{
	struct piece *piece = atomic_exchange(&made, NULL);
	while (piece) {
		struct piece *before = piece->made_before;
		free(piece);
		piece = before;
	}
}

static void *enter(void *arg, struct lw_crew_worker *worker)
{
	return arg;
}

static void leave(void *arg, struct lw_crew_worker *worker)
{
}

static int visit(void *arg, struct lw_crew_worker *worker, void *item)
{
	struct piece *piece = item;
	void *more[WIDTH];
	uint64_t number = 1 + atomic_fetch_add_explicit(&visits, 1, memory_order_relaxed);
	/* Now in a hurry, now waiting: threads come and are parked. */
	worker->calls += number % 512 < 256 ? 1 : 100000;
	if (number % 512 < 256)
		usleep(200);
	piece->visits++;
	if (piece->depth == 0)
		return 0;
	for (unsigned i = 0; i < WIDTH; i++) {
		more[i] = make_piece(piece);
		piece->children++;
	}
	return lw_crew_push(worker, more, WIDTH);
}

static uint64_t expected(void)
{
	uint64_t all = 0, level = 1;
	for (unsigned i = 0; i <= DEPTH; i++, level *= WIDTH)
		all += level;
	return all;
}

static bool run(unsigned threads)
{
	struct lw_crew_job job = { .arg = &job, .threads = threads, .enter = enter, .visit = visit, .leave = leave };
	struct piece first = { .depth = DEPTH };
	void *item = &first;
	unsigned used;
	atomic_store(&visits, 0);
	bool done = lw_crew_run(&job, &item, 1, &used) == 0 && atomic_load(&visits) == expected() && first.visits == 1;
	free_pieces();
	return done;
}

static bool all_rounds(void)
{
	/* A broken crew may wait for ever. */
	alarm(280);
	for (unsigned i = 0; i < ROUNDS; i++)
		if (!run(8) || !run(0))
			return false;
	return true;
}

/* Forked before there are threads. Its report goes nowhere: the test as a whole must stay silent. */
static bool control_is_caught(void)
{
	int status;
	pid_t pid = fork();
	TREE_CHECK(pid >= 0);
	if (pid == 0) {
		TREE_CHECK(freopen("/dev/null", "w", stderr));
		broken = true;
		exit(all_rounds() ? 0 : 1);
	}
	TREE_CHECK(waitpid(pid, &status, 0) == pid);
	return status != 0;
}

int main(void)
{
	/* Without the sanitizer a broken crew may be lucky. */
	if (UNDER_TSAN && !control_is_caught()) {
		fprintf(stderr, "the control was not caught\n");
		return 1;
	}
	if (all_rounds())
		return 0;
	fprintf(stderr, "a piece was lost or done twice\n");
	return 1;
}
