/* SPDX-License-Identifier: MIT */
/*
 * ioq's pool: one owner keeps a window of ops going, threads take chunks, make the calls and give the chunks back:
 *
 *     thread A                          thread B                       owner
 *     finished: X                       finished: X                    takes finished
 *     X.last->next = its ops
 *                                       X.last->next = its ops         (A's are lost, or come twice)
 *
 * Every op must come back exactly once, with the result of its own call. Pools of several sizes, pools that grow, and pools that end with work
 * outstanding. The control is ioq_pool.c built once more, with chunks given back before the lock is taken. The program runs itself with
 * it and expects the sanitizer to object; without one a lost op would keep the control waiting, so it is skipped.
 */
#include "ioq_private.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* The sound one is the library's. */
static const struct protocol {
	struct lw_ioq_pool *(*create)(unsigned threads, bool fixed);
	void (*destroy)(struct lw_ioq_pool *pool);
	void (*submit)(struct lw_ioq_pool *pool, struct lw_ioq_op *op);
	struct lw_ioq_op *(*reap)(struct lw_ioq_pool *pool, bool wait);
	void (*cancel)(struct lw_ioq_pool *pool);
} sound = { lw_ioq_pool_create, lw_ioq_pool_destroy, lw_ioq_pool_submit, lw_ioq_pool_reap, lw_ioq_pool_cancel };

#define lw_ioq_pool_create broken_create
#define lw_ioq_pool_destroy broken_destroy
#define lw_ioq_pool_abandon broken_abandon
#define lw_ioq_pool_submit broken_submit
#define lw_ioq_pool_reap broken_reap
#define lw_ioq_pool_take_back broken_take_back
#define lw_ioq_pool_cancel broken_cancel
#define lw_ioq_pool_allow broken_allow
#define lw_ioq_pool_mean broken_mean
#define lw_ioq_pool_outstanding broken_outstanding
#define lw_ioq_pool_cost broken_cost
#define LW_IOQ_COME_BACK(pool, job) (finish_job(pool, job), pthread_mutex_lock(&(pool)->lock))
struct lw_ioq_pool *broken_create(unsigned threads, bool fixed);
void broken_destroy(struct lw_ioq_pool *pool);
void broken_abandon(struct lw_ioq_pool *pool);
void broken_submit(struct lw_ioq_pool *pool, struct lw_ioq_op *op);
struct lw_ioq_op *broken_reap(struct lw_ioq_pool *pool, bool wait);
struct lw_ioq_list broken_take_back(struct lw_ioq_pool *pool);
void broken_cancel(struct lw_ioq_pool *pool);
void broken_allow(struct lw_ioq_pool *pool, unsigned threads);
int64_t broken_mean(const struct lw_ioq_pool *pool);
uint64_t broken_outstanding(const struct lw_ioq_pool *pool);
void broken_cost(const struct lw_ioq_pool *pool, struct lw_ioq_cost *cost, unsigned *threads);
#include "../../core/ioq_pool.c"

static const struct protocol broken = { broken_create, broken_destroy, broken_submit, broken_reap, broken_cancel };

enum { WINDOW = 500, OPS = 20000, ROUNDS = 4, SKIPPED = 77 };

static struct lw_ioq_op op[WINDOW];
static struct statx st[WINDOW];
static bool out[WINDOW];

/* Each third fails; whose result it is shows in the bytes. */
static void send(const struct protocol *protocol, struct lw_ioq_pool *pool, unsigned slot, unsigned number)
{
	op[slot] = (struct lw_ioq_op){ .kind = LW_IOQ_STATX, .fd = AT_FDCWD, .path = number % 3 ? "/" : "/absent", .mask = STATX_TYPE, .statx = &st[slot],
		.result = 1, .data = (void *)(uintptr_t)(number % 3) };
	st[slot].stx_mode = 0;
	out[slot] = true;
	protocol->submit(pool, &op[slot]);
}

static bool is_right(const struct lw_ioq_op *done)
{
	unsigned slot = (unsigned)(done - op);
	if (slot >= WINDOW || !out[slot])
		return false;
	out[slot] = false;
	return done->data ? done->result == 0 && S_ISDIR(done->statx->stx_mode) : done->result < 0;
}

static bool keep_going(const struct protocol *protocol, struct lw_ioq_pool *pool)
{
	unsigned sent = 0, back = 0;
	for (; sent < WINDOW; sent++)
		send(protocol, pool, sent, sent);
	while (back < OPS) {
		struct lw_ioq_op *done = protocol->reap(pool, back % 5 != 0);
		if (!done)
			continue;
		if (!is_right(done))
			return false;
		back++;
		if (sent < OPS)
			send(protocol, pool, (unsigned)(done - op), sent++);
	}
	return !protocol->reap(pool, true);
}

/* Ended in the middle: each op comes back once, done or not. */
static bool end_early(const struct protocol *protocol, struct lw_ioq_pool *pool)
{
	unsigned back = 0;
	for (unsigned i = 0; i < WINDOW; i++)
		send(protocol, pool, i, i);
	protocol->cancel(pool);
	for (struct lw_ioq_op *done; (done = protocol->reap(pool, true)); back++)
		out[done - op] = false;
	return back == WINDOW;
}

static int race(const struct protocol *protocol)
{
	static const struct { unsigned threads; bool fixed; } pools[] = { { 1, true }, { 2, true }, { 8, true }, { 64, true }, { 64, false } };
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
			struct lw_ioq_pool *pool = protocol->create(pools[i].threads, pools[i].fixed);
			bool good = pool && keep_going(protocol, pool) && end_early(protocol, pool);
			if (!good) {
				fprintf(stderr, "ioq: an op of a pool of %u was lost, came twice, or with another's result\n", pools[i].threads);
				return 1;
			}
			protocol->destroy(pool);
		}
	}
	return 0;
}

/* Whether OUTPUT (a pipe that is read to its end) holds a sanitizer's report. */
static bool reported(int output)
{
	static char text[1 << 16];
	size_t fill = 0;
	ssize_t n;

	while ((n = read(output, text + fill, sizeof(text) - 1 - fill)) > 0)
		fill += (size_t)n;
	while (read(output, (char[4096]){0}, 4096) > 0)
		;
	text[fill] = 0;
	return strstr(text, "data race") || strstr(text, "was lost");
}

static int control(const char *self)
{
	int fd[2], status;

	if (!SANITIZED) {
		printf("ioq: control skipped: no sanitizer in this build would see a data race\n");
		return 0;
	}
	if (pipe(fd))
		return 1;
	pid_t pid = fork();
	if (pid == 0) {
		/* Its report must not reach our own output: there it would count as a failure. */
		dup2(fd[1], 1);
		dup2(fd[1], 2);
		close(fd[0]);
		close(fd[1]);
		setenv("TSAN_OPTIONS", "halt_on_error=1", 1);
		alarm(250);
		execl(self, self, "control", (char *)NULL);
		_exit(127);
	}
	close(fd[1]);
	bool seen = reported(fd[0]);
	close(fd[0]);
	waitpid(pid, &status, 0);
	printf("ioq: control %s\n", seen && status ? "caught" : "NOT caught");
	return !(seen && status);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !SANITIZED)
		return SKIPPED;
	if (argc > 1)
		return race(&broken);
	return race(&sound) | control("/proc/self/exe");
}
