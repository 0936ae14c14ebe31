/* SPDX-License-Identifier: MIT */
/*
 * ioq_pool: the thread backend of ioq. The owner gathers ops into chunks; threads take a chunk, make its calls, and give it
 * back. The lock is taken twice for a chunk, never for an op:
 *
 *     owner                              thread
 *     submit, submit, ... a chunk full
 *     lock, todo += chunk, unlock
 *                                        lock, take a chunk, unlock
 *     lock, take a chunk, unlock         ... its calls ...
 *     ... its calls (it helps) ...       lock, finished += ops, unlock
 *     lock, take all of finished, unlock
 *
 * Chunks: as many calls as take CHUNK_NS, by the mean of the calls so far. A thread that finds that its calls wait gives the
 * rest of its chunk back in chunks of one, so that a chunk cut before that was known costs few slow calls.
 *
 * Threads: as many as there are cores while calls do not wait; twice as many whenever all are busy with calls that wait and
 * more are to be made; the cores again when they wait no more. What there is too many of sleeps. The owner starts them,
 * for a thread shares the descriptors of the one that started it.
 *
 * The mean gives a chunk's mean a weight of 1/8, and counts no chunk for more than four times LW_IOQ_WAITS_NS: three slow
 * chunks in a row make calls "wait". A chunk that took long although its thread never gave up the processor was interrupted by others, and is not counted.
 */
#include "ioq_private.h"
#include "pace.h"
#include "stamp.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { PIECE = 8, CHUNK_MAX = 64, CHUNK_NS = 100 * 1000, WEIGHT = 8, MEAN_MAX_NS = 4 * LW_IOQ_WAITS_NS };

/* What the race test's control replaces. */
#ifndef LW_IOQ_COME_BACK
#define LW_IOQ_COME_BACK(pool, job) (pthread_mutex_lock(&(pool)->lock), finish_job(pool, job))
#endif

/* Chunks, linked by the `chunk` of their first op. */
struct chunks {
	struct lw_ioq_op *first, *last;
	unsigned count;
};

/* What a thread works on while it does not hold the lock. */
struct job {
	struct lw_ioq_list todo, done;
	struct lw_ioq_cost cost;
	int64_t ns;
	long switches;			/* switches() at its start */
	bool waited;
	bool cancel;
	struct chunks rest;		/* given back */
};

struct lw_ioq_pool {
	/* The owner's. */
	struct lw_ioq_list filling, ready;
	unsigned filled;
	uint64_t outstanding;
	int64_t mean_seen;		/* mean_ns, as of the last look */
	unsigned chunk_size;
	bool fixed;
	unsigned cores;

	pthread_mutex_t lock;		/* protects what follows */
	pthread_cond_t work;		/* for threads: todo, allowed or stop has changed */
	pthread_cond_t done;		/* for the owner: finished has */
	struct chunks todo;
	struct lw_ioq_list finished;
	unsigned started, idle;		/* threads: there, and asleep */
	unsigned active;		/* that make calls, the owner among them */
	unsigned allowed, limit;	/* that may, and that ever will */
	unsigned most;
	bool owner_waits, cancel, stop;
	int64_t mean_ns;
	struct lw_ioq_cost cost;
	pthread_t thread[LW_IOQ_THREADS_MAX];
};

/* Chunks */

static void push(struct chunks *chunks, struct lw_ioq_op *first)
{
	first->chunk = NULL;
	if (chunks->last)
		chunks->last->chunk = first;
	else
		chunks->first = first;
	chunks->last = first;
	chunks->count++;
}

static void push_all(struct chunks *to, const struct chunks *from)
{
	if (!from->count)
		return;
	if (to->last)
		to->last->chunk = from->first;
	else
		to->first = from->first;
	to->last = from->last;
	to->count += from->count;
}

static struct lw_ioq_op *pop(struct chunks *chunks)
{
	struct lw_ioq_op *first = chunks->first;
	if (!first)
		return NULL;
	chunks->first = first->chunk;
	if (!chunks->first)
		chunks->last = NULL;
	chunks->count--;
	return first;
}

/* Jobs: no lock is held. */

static void run_piece(struct job *job, unsigned count)
{
	while (count-- && job->todo.first) {
		struct lw_ioq_op *op = lw_ioq_take(&job->todo);
		if (job->cancel && op->kind != LW_IOQ_CLOSE)
			op->result = -ECANCELED; /* the owner is destroying the queue and looks at none */
		else
			lw_ioq_run(op, &job->cost);
		lw_ioq_add(&job->done, op);
	}
}

/* How often this thread has given up the processor to wait for something. */
static long switches(void)
{
	struct rusage usage;
	return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_nvcsw;
}

static bool is_slow(const struct job *job)
{
	return job->ns > (int64_t)job->cost.calls * LW_IOQ_WAITS_NS;
}

static void run_job(struct job *job)
{
	int64_t start = lw_monotonic_ns();
	/* 1, 2, 4, 8, 8, ...: the first call tells much. */
	unsigned piece = 1;
	job->switches = switches();
	do {
		run_piece(job, piece);
		job->ns = lw_monotonic_ns() - start;
		piece = piece < PIECE ? 2 * piece : PIECE;
		job->waited = is_slow(job) && switches() != job->switches;
	} while (job->todo.first && !job->waited);
	for (struct lw_ioq_op *op; (op = lw_ioq_take(&job->todo));) {
		op->next = NULL;
		push(&job->rest, op);
	}
}

/* With the lock held. */

static void note_time(struct lw_ioq_pool *pool, const struct job *job)
{
	/* Slow without having waited: others had the processor. That says nothing about calls. */
	if (!job->cost.calls || (is_slow(job) && !job->waited))
		return;
	int64_t mean = job->ns / (int64_t)job->cost.calls;
	pool->mean_ns += ((mean < MEAN_MAX_NS ? mean : MEAN_MAX_NS) - pool->mean_ns) / WEIGHT;
}

static void choose_allowed(struct lw_ioq_pool *pool)
{
	unsigned least = pool->cores < pool->limit ? pool->cores : pool->limit, twice = 2 * pool->allowed;
	if (pool->fixed || pool->mean_ns < LW_IOQ_WAITS_NS / 2)
		pool->allowed = least;
	else if (pool->mean_ns >= LW_IOQ_WAITS_NS && pool->todo.count && pool->active >= pool->allowed)
		pool->allowed = twice < pool->limit ? twice : pool->limit;
}

static void wake(struct lw_ioq_pool *pool)
{
	if (!pool->idle || !pool->todo.count)
		return;
	if (pool->todo.count == 1)
		pthread_cond_signal(&pool->work);
	else
		pthread_cond_broadcast(&pool->work);
}

static bool begin_job(struct lw_ioq_pool *pool, struct job *job)
{
	struct lw_ioq_op *first = pop(&pool->todo);
	*job = (struct job){ .todo.first = first, .cancel = pool->cancel };
	pool->active += first != NULL;
	if (pool->active > pool->most)
		pool->most = pool->active;
	return first != NULL;
}

static void finish_job(struct lw_ioq_pool *pool, struct job *job)
{
	lw_ioq_move(&pool->finished, &job->done);
	push_all(&pool->todo, &job->rest);
	pool->cost.calls += job->cost.calls;
	pool->cost.syscalls += job->cost.syscalls;
	note_time(pool, job);
	choose_allowed(pool);
	pool->active--;
	wake(pool);
	if (pool->owner_waits)
		pthread_cond_signal(&pool->done);
}

/* Take a chunk, make its calls with the lock given up, and come back with it. False: there is none. */
static bool do_chunk(struct lw_ioq_pool *pool)
{
	struct job job;
	if (!begin_job(pool, &job))
		return false;
	pthread_mutex_unlock(&pool->lock);
	run_job(&job);
	LW_IOQ_COME_BACK(pool, &job);
	return true;
}

/* Threads */

static void *work(void *arg)
{
	struct lw_ioq_pool *pool = arg;
	pthread_mutex_lock(&pool->lock);
	while (!pool->stop) {
		if (pool->active < pool->allowed && do_chunk(pool))
			continue;
		pool->idle++;
		pthread_cond_wait(&pool->work, &pool->lock);
		pool->idle--;
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* Threads that are missing for what is to be done. */
static unsigned missing(const struct lw_ioq_pool *pool)
{
	unsigned there = pool->started + 1, more = pool->todo.count > pool->idle ? pool->todo.count - pool->idle : 0;
	unsigned room = pool->allowed > there ? pool->allowed - there : 0;
	return room < more ? room : more;
}

/* By the owner, without the lock. A system that gives fewer is slower, not wrong. */
static unsigned start(struct lw_ioq_pool *pool, unsigned at, unsigned count)
{
	sigset_t all, old;
	unsigned started = 0;
	/* The program's signals are for the program's threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (started < count && pthread_create(&pool->thread[at + started], NULL, work, pool) == 0)
		started++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return started;
}

/* Gives up the lock meanwhile. */
static void start_missing(struct lw_ioq_pool *pool)
{
	unsigned count = missing(pool), at = pool->started;
	if (!count)
		return;
	pthread_mutex_unlock(&pool->lock);
	unsigned started = start(pool, at, count);
	pthread_mutex_lock(&pool->lock);
	pool->started += started;
	if (started == count)
		return;
	/* Asking again at every chunk would cost more than it brings. */
	pool->limit = pool->started + 1;
	if (pool->allowed > pool->limit)
		pool->allowed = pool->limit;
}

/* The owner */

static unsigned choose_size(const struct lw_ioq_pool *pool)
{
	if (!pool->mean_seen)
		return PIECE;
	int64_t size = CHUNK_NS / pool->mean_seen;
	if (pool->mean_seen >= LW_IOQ_WAITS_NS || size < 1)
		return 1;
	return size < CHUNK_MAX ? (unsigned)size : CHUNK_MAX;
}

/* With the lock held. */
static void flush(struct lw_ioq_pool *pool)
{
	if (pool->filled) {
		push(&pool->todo, pool->filling.first);
		pool->filling = (struct lw_ioq_list){ 0 };
		pool->filled = 0;
		wake(pool);
	}
	start_missing(pool);
}

void lw_ioq_pool_submit(struct lw_ioq_pool *pool, struct lw_ioq_op *op)
{
	lw_ioq_add(&pool->filling, op);
	pool->outstanding++;
	if (++pool->filled < pool->chunk_size)
		return;
	pthread_mutex_lock(&pool->lock);
	flush(pool);
	pthread_mutex_unlock(&pool->lock);
}

/* With the lock held, when nothing is finished: make some calls, or wait for others to. */
static void await(struct lw_ioq_pool *pool)
{
	if (do_chunk(pool))
		return;
	pool->owner_waits = true;
	if (!pool->finished.first)
		pthread_cond_wait(&pool->done, &pool->lock);
	pool->owner_waits = false;
}

static void collect(struct lw_ioq_pool *pool, bool wait)
{
	pthread_mutex_lock(&pool->lock);
	flush(pool);
	/* Where there is no other thread, somebody must. */
	if (!wait && !pool->started)
		do_chunk(pool);
	while (wait && !pool->finished.first) {
		await(pool);
		start_missing(pool);
	}
	lw_ioq_move(&pool->ready, &pool->finished);
	pool->mean_seen = pool->mean_ns;
	pthread_mutex_unlock(&pool->lock);
	pool->chunk_size = choose_size(pool);
}

struct lw_ioq_op *lw_ioq_pool_reap(struct lw_ioq_pool *pool, bool wait)
{
	if (!pool->outstanding)
		return NULL;
	if (!pool->ready.first)
		collect(pool, wait);
	struct lw_ioq_op *op = lw_ioq_take(&pool->ready);
	pool->outstanding -= op != NULL;
	return op;
}

struct lw_ioq_list lw_ioq_pool_take_back(struct lw_ioq_pool *pool)
{
	struct lw_ioq_list back = { 0 };
	pthread_mutex_lock(&pool->lock);
	struct chunks todo = pool->todo;
	pool->todo = (struct chunks){ 0 };
	pthread_mutex_unlock(&pool->lock);
	for (struct lw_ioq_op *op, *next; (op = pop(&todo));) {
		for (; op; op = next) {
			next = op->next;
			lw_ioq_add(&back, op);
			pool->outstanding--;
		}
	}
	pool->outstanding -= pool->filled;
	pool->filled = 0;
	lw_ioq_move(&back, &pool->filling);
	return back;
}

void lw_ioq_pool_allow(struct lw_ioq_pool *pool, unsigned threads)
{
	pthread_mutex_lock(&pool->lock);
	if (!pool->fixed)
		pool->limit = threads < LW_IOQ_THREADS_MAX ? threads : LW_IOQ_THREADS_MAX;
	pthread_mutex_unlock(&pool->lock);
}

void lw_ioq_pool_cancel(struct lw_ioq_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->cancel = true;
	pthread_mutex_unlock(&pool->lock);
}

int64_t lw_ioq_pool_mean(const struct lw_ioq_pool *pool)
{
	return pool->mean_seen;
}

uint64_t lw_ioq_pool_outstanding(const struct lw_ioq_pool *pool)
{
	return pool->outstanding;
}

void lw_ioq_pool_cost(const struct lw_ioq_pool *pool, struct lw_ioq_cost *cost, unsigned *threads)
{
	struct lw_ioq_pool *locked = (struct lw_ioq_pool *)pool;
	pthread_mutex_lock(&locked->lock);
	*cost = pool->cost;
	*threads = pool->most;
	pthread_mutex_unlock(&locked->lock);
}

struct lw_ioq_pool *lw_ioq_pool_create(unsigned threads, bool fixed)
{
	struct lw_ioq_pool *pool = calloc(1, sizeof *pool);
	if (!pool)
		return NULL;
	pool->limit = threads < LW_IOQ_THREADS_MAX ? threads : LW_IOQ_THREADS_MAX;
	pool->fixed = fixed;
	pool->cores = fixed ? pool->limit : lw_cores();
	pool->chunk_size = PIECE;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->done, NULL);
	choose_allowed(pool);
	return pool;
}

void lw_ioq_pool_destroy(struct lw_ioq_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->started; i++)
		pthread_join(pool->thread[i], NULL);
	pthread_cond_destroy(&pool->work);
	pthread_cond_destroy(&pool->done);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

void lw_ioq_pool_abandon(struct lw_ioq_pool *pool)
{
	free(pool);
}
