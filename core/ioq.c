/* SPDX-License-Identifier: MIT */
/*
 * ioq: see ioq.h; ioq_pool.c and ioq_ring.c are the backends. Here: the plain calls, and who makes the next one.
 *
 * The rule of AUTO: the pool makes the calls while a call takes less than 20 us in the mean, the ring from then on. While the ring is used
 * every 256th op goes to the pool, as a sample; below 10 us in the mean the pool takes over again. Where the ring is refused or breaks, the
 * pool grows instead.
 *
 * What it rests on (6.18, 2 cores; ms for all, median of 3 or 5; statx of distinct paths, 256 in flight in the ring):
 *
 *     72,000 cached directories, depth 6            1 thread 143   2 threads 76     ring 112
 *     4,000 over FUSE, answered at once             1 thread 154   2 threads 54     ring, 64 workers 32    4 threads 46
 *     4,000 over FUSE, after 0.1 ms                 8 threads 130  64 threads 76    ring, 64 workers 61
 *     4,000 over FUSE, after 0.5 ms                 32 threads 85  64 threads 58    ring, 64 workers 60
 *     4,000 over FUSE, after 5 ms                                  64 threads 330   ring, 64 workers 329
 *
 * So the ring is worth nothing where the answer is in memory (every statx is handed to a kernel worker); where calls wait it does what 64
 * threads do, for less processor time and without 64 threads in the process. A cached call takes 0.5 to 3 us however deep the path, the fastest that leaves
 * the processor 10 to 40: between them lies the 20.
 */
#include "ioq_private.h"
#include "pace.h"
#include "uring.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH = 256, DEPTH_MAX = 4096, SAMPLE = 256, LOOK = 64, READ_MAX = 0x7ffff000 };

struct lw_ioq {
	struct lw_ioq_config config;
	struct lw_ioq_pool *pool;
	struct lw_ioq_ring *ring;	/* NULL: not made */
	bool use_ring;			/* for what is submitted next */
	bool refused;			/* do not ask for the ring (again) */
	unsigned since_sample, since_look;
	pid_t pid;
	char why[LW_IOQ_WHY - 16];
};

/* Plain calls */

static int64_t call(const struct lw_ioq_op *op)
{
	switch (op->kind) {
	case LW_IOQ_STATX:
		return statx(op->fd, op->path, op->flags, op->mask, op->statx);
	case LW_IOQ_OPENAT:
		return openat(op->fd, op->path, op->flags);
	case LW_IOQ_READ:
		return pread(op->fd, op->buffer, op->size < READ_MAX ? op->size : READ_MAX, op->offset);
	case LW_IOQ_CLOSE:
		return close(op->fd);
	}
	errno = EINVAL;
	return -1;
}

void lw_ioq_run(struct lw_ioq_op *op, struct lw_ioq_cost *cost)
{
	cost->calls++;
	do {
		op->result = call(op);
		if (op->result < 0)
			op->result = -errno;
		cost->syscalls++;
	} while (op->result == -EINTR && op->kind != LW_IOQ_CLOSE);
	/* The descriptor is gone all the same, its number perhaps another's already. */
	if (op->result == -EINTR)
		op->result = 0;
}

void lw_ioq_plain(struct lw_ioq_op *op)
{
	lw_ioq_run(op, &(struct lw_ioq_cost){ 0 });
}

/* The ring */

/* Once in a process: the answer does not change, and asking costs a fork. */
static int ask_once(char *text, size_t size)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* protects these: */
	static bool asked;
	static int answer;
	static char said[LW_URING_TEXT];
	pthread_mutex_lock(&lock);
	if (!asked)
		answer = lw_uring_probe(said, sizeof said);
	asked = true;
	int result = answer;
	snprintf(text, size, "%s", said);
	pthread_mutex_unlock(&lock);
	return result;
}

static const char *remedy(int error)
{
	switch (error) {
	case -EMFILE:
		return "; raise the limit of open files (ulimit -n)";
	case -ENFILE:
		return "; raise fs.file-max";
	case -ENOMEM:
		return "; raise the locked-memory limit (ulimit -l)";
	default:
		return "";
	}
}

/* WHEN: why it is wanted. 0 or -errno; q->why says how it went. */
static int make_ring(lw_ioq *q, const char *when)
{
	char said[LW_URING_TEXT];
	unsigned depth = q->config.depth ? q->config.depth : DEPTH, workers = q->config.threads ? q->config.threads : LW_IOQ_THREADS_MAX;
	int error = ask_once(said, sizeof said);
	if (error) {
		snprintf(q->why, sizeof q->why, "%s, but %s", when, said);
		return error;
	}
	error = lw_ioq_ring_create(depth < DEPTH_MAX ? depth : DEPTH_MAX, workers, &q->ring);
	if (error)
		snprintf(q->why, sizeof q->why, "%s and io_uring works, but no ring could be made: %s%s", when, strerror(-error), remedy(error));
	else
		snprintf(q->why, sizeof q->why, "%s; %s", when, said);
	return error;
}

static void turn_to_ring(lw_ioq *q)
{
	if (!q->ring && make_ring(q, "calls wait")) {
		q->refused = true;
		lw_ioq_pool_allow(q->pool, q->config.threads ? q->config.threads : LW_IOQ_THREADS_MAX);
		return;
	}
	q->use_ring = true;
	/* A whole batch may have been submitted before the first call was made. */
	struct lw_ioq_list back = lw_ioq_pool_take_back(q->pool);
	for (struct lw_ioq_op *op; (op = lw_ioq_take(&back));)
		lw_ioq_ring_submit(q->ring, op);
}

/* AUTO's rule. */
static void choose(lw_ioq *q)
{
	int64_t mean = lw_ioq_pool_mean(q->pool);
	if (q->config.backend != LW_IOQ_AUTO || q->refused)
		return;
	if (!q->use_ring && mean >= LW_IOQ_WAITS_NS)
		turn_to_ring(q);
	else if (q->use_ring && mean < LW_IOQ_WAITS_NS / 2)
		q->use_ring = false;
}

/* What the ring has not begun is the pool's now, and all that comes. */
static void look_after_ring(lw_ioq *q)
{
	int error = q->ring ? lw_ioq_ring_broken(q->ring) : 0;
	if (!error)
		return;
	struct lw_ioq_list back = lw_ioq_ring_take_back(q->ring);
	for (struct lw_ioq_op *op; (op = lw_ioq_take(&back));)
		lw_ioq_pool_submit(q->pool, op);
	if (q->refused)
		return;
	q->refused = true;
	q->use_ring = false;
	lw_ioq_pool_allow(q->pool, q->config.threads ? q->config.threads : LW_IOQ_THREADS_MAX);
	snprintf(q->why, sizeof q->why, "io_uring worked, but failed later: %s", strerror(-error));
}

/* Submitting and reaping */

static bool is_sample(lw_ioq *q)
{
	if (q->config.backend != LW_IOQ_AUTO || ++q->since_sample < SAMPLE)
		return false;
	q->since_sample = 0;
	return true;
}

void lw_ioq_submit(lw_ioq *q, struct lw_ioq_op *op)
{
	assert(op->kind != LW_IOQ_READ || op->offset >= 0);
	if (!q->use_ring || is_sample(q)) {
		lw_ioq_pool_submit(q->pool, op);
		return;
	}
	lw_ioq_ring_submit(q->ring, op);
	look_after_ring(q);
}

static uint64_t outstanding(const lw_ioq *q)
{
	return lw_ioq_pool_outstanding(q->pool) + (q->ring ? lw_ioq_ring_outstanding(q->ring) : 0);
}

/*
 * Beside a sound ring the pool has samples only, which need a look now and then. Otherwise it comes first: waiting for it always gets on, and the ring
 * has nothing, or what it had begun when it broke.
 */
static struct lw_ioq_op *reap_both(lw_ioq *q, bool wait)
{
	struct lw_ioq_op *op = NULL;
	bool pool_first = q->refused || !lw_ioq_ring_outstanding(q->ring);
	if (pool_first || ++q->since_look >= LOOK) {
		q->since_look = 0;
		op = lw_ioq_pool_reap(q->pool, wait && pool_first);
	}
	if (!op)
		op = lw_ioq_ring_reap(q->ring, wait);
	look_after_ring(q);
	return op;
}

struct lw_ioq_op *lw_ioq_reap(lw_ioq *q, bool wait)
{
	struct lw_ioq_op *op;
	do
		op = q->ring ? reap_both(q, wait) : lw_ioq_pool_reap(q->pool, wait);
	while (!op && wait && outstanding(q));
	choose(q);
	return op;
}

void lw_ioq_stats(const lw_ioq *q, struct lw_ioq_stats *stats)
{
	struct lw_ioq_cost pool = { 0 }, ring = { 0 };
	unsigned threads;
	lw_ioq_pool_cost(q->pool, &pool, &threads);
	if (q->ring)
		lw_ioq_ring_cost(q->ring, &ring);
	*stats = (struct lw_ioq_stats){
		.calls = pool.calls + ring.calls,
		.syscalls = pool.syscalls + ring.syscalls,
		.outstanding = outstanding(q),
		.mean_ns = lw_ioq_pool_mean(q->pool),
		.threads = threads ? threads : 1,
		.backend = q->use_ring ? "ring" : "pool",
		.why = q->why,
	};
}

/* Making and ending */

static int begin(lw_ioq *q)
{
	const struct lw_ioq_config *config = &q->config;
	bool grows = config->backend == LW_IOQ_POOL && !config->threads;
	/* AUTO's pool grows when the ring has been refused. */
	q->pool = lw_ioq_pool_create(config->threads ? config->threads : grows ? LW_IOQ_THREADS_MAX : lw_cores(), config->threads != 0);
	if (!q->pool)
		return -ENOMEM;
	snprintf(q->why, sizeof q->why, "%s", config->backend == LW_IOQ_POOL ? "it was asked for" : "calls do not wait; io_uring has not been tried");
	if (config->backend != LW_IOQ_RING)
		return 0;
	int error = make_ring(q, "it was asked for");
	q->use_ring = !error;
	return error;
}

int lw_ioq_create(const struct lw_ioq_config *config, lw_ioq **out, char *why)
{
	lw_ioq *q = calloc(1, sizeof *q);
	if (!q)
		return -ENOMEM;
	q->config = *config;
	q->pid = getpid();
	int error = begin(q);
	if (why)
		snprintf(why, LW_IOQ_WHY, "%s: %s", error ? "no ring" : q->use_ring ? "ring" : "pool", error == -ENOMEM && !q->pool ? "out of memory" : q->why);
	if (error) {
		lw_ioq_pool_destroy(q->pool);
		free(q);
		return error;
	}
	*out = q;
	return 0;
}

/* Of an op that nobody will look at. */
static void undo(const struct lw_ioq_op *op)
{
	if (op->kind == LW_IOQ_OPENAT && op->result >= 0)
		close((int)op->result);
}

static void drain(lw_ioq *q)
{
	lw_ioq_pool_cancel(q->pool);
	if (q->ring)
		lw_ioq_ring_cancel(q->ring);
	q->refused = true;
	for (struct lw_ioq_op *op; (op = lw_ioq_reap(q, true));)
		undo(op);
}

void lw_ioq_destroy(lw_ioq *q)
{
	if (!q)
		return;
	if (q->pid != getpid()) {
		lw_ioq_pool_abandon(q->pool);
		lw_ioq_ring_abandon(q->ring);
	} else {
		drain(q);
		lw_ioq_pool_destroy(q->pool);
		lw_ioq_ring_destroy(q->ring);
	}
	free(q);
}
