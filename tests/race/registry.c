/* SPDX-License-Identifier: MIT */
/*
 * Four readers, one writer that publishes. Every index carries its number in many words and is wiped and freed when
 * closed; a reader checks all words twice while it is inside, so a snapshot that is destroyed under it shows as a wrong
 * word, and as a use after free to a sanitizer:
 *
 *     reader                         writer
 *     enter -> generation 7
 *     read words == 7                publish 8: finds 7 in the reader's slot, leaves it
 *                                    (a control destroys 7 here)
 *     read words == 7, again
 *     exit
 *                                    publish 9: destroys 7
 *
 * Two readers do just that. One enters once more before it leaves, and leaves the older one first; one turns what it entered into a hold. Every
 * snapshot is a new index in front of one that several snapshots have. All of it once more with membarrier(2) forbidden.
 *
 * The controls are registry.c built once more, with one thing wrong: slots are emptied without release ordering (a data race: ThreadSanitizer's business),
 * or what is replaced is destroyed without a look at the slots. The program runs itself with each and expects the sanitizer to object; without one
 * they would read freed memory unnoticed, so they are skipped. (That a missing membarrier is caught needs a model: ../model.)
 */
#include "registry.h"

#include "../core/forbid.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define RACES 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACES 1
#endif
#endif
#ifndef RACES
#define RACES 0
#endif
#if RACES || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* The sound one is the library's. */
static const struct protocol {
	lw_registry *(*create)(void);
	void (*destroy)(lw_registry *registry);
	const struct lw_snapshot *(*enter)(lw_registry *registry);
	void (*exit)(lw_registry *registry, const struct lw_snapshot *snapshot);
	void (*hold_on)(lw_registry *registry, const struct lw_snapshot *snapshot);
	void (*unhold)(lw_registry *registry, const struct lw_snapshot *snapshot);
	int (*publish)(lw_registry *registry, lw_index **index, unsigned count);
	void (*stats)(lw_registry *registry, struct lw_registry_stats *stats);
} sound = { lw_registry_create, lw_registry_destroy, lw_registry_enter, lw_registry_exit, lw_registry_hold_on, lw_registry_unhold,
	lw_registry_publish, lw_registry_stats };

#define lw_registry_create broken_create
#define lw_registry_destroy broken_destroy
#define lw_registry_enter broken_enter
#define lw_registry_exit broken_exit
#define lw_registry_hold broken_hold
#define lw_registry_hold_on broken_hold_on
#define lw_registry_unhold broken_unhold
#define lw_registry_publish broken_publish
#define lw_registry_stats(registry, stats) broken_stats(registry, stats)	/* the structure keeps its name */
#define lw_registry_fork_prepare broken_fork_prepare
#define lw_registry_fork_done broken_fork_done
lw_registry *broken_create(void);
void broken_destroy(lw_registry *registry);
const struct lw_snapshot *broken_enter(lw_registry *registry);
void broken_exit(lw_registry *registry, const struct lw_snapshot *snapshot);
const struct lw_snapshot *broken_hold(lw_registry *registry);
void broken_hold_on(lw_registry *registry, const struct lw_snapshot *snapshot);
void broken_unhold(lw_registry *registry, const struct lw_snapshot *snapshot);
int broken_publish(lw_registry *registry, lw_index **index, unsigned count);
void broken_stats(lw_registry *registry, struct lw_registry_stats *stats);
void broken_fork_prepare(lw_registry *registry);
void broken_fork_done(lw_registry *registry, bool child);

static enum { RELAXED, UNSEEN } mutant;

/* Not an order in a variable: compilers take that for the strongest one. */
#define LW_REGISTRY_LEAVE(slot) \
	do { \
		if (mutant == RELAXED) \
			atomic_store_explicit(slot, NULL, memory_order_relaxed); \
		else \
			atomic_store_explicit(slot, NULL, memory_order_release); \
	} while (0)
#define LW_REGISTRY_IN_USE(held) (mutant != UNSEEN && (held)->in_use)
#include "../../core/registry.c"

static const struct protocol broken = { broken_create, broken_destroy, broken_enter, broken_exit, broken_hold_on, broken_unhold,
	broken_publish, broken_stats };

enum { READERS = 4, WORDS = 64, MIN_READS = 20000, BASE_LIFE = 8 };

struct lw_index {
	uint64_t word[WORDS];
};

static _Atomic unsigned opened, closed;

static lw_index *index_create(uint64_t number)
{
	lw_index *index = malloc(sizeof(*index));
	for (unsigned i = 0; i < WORDS; i++)
		index->word[i] = number;
	atomic_fetch_add_explicit(&opened, 1, memory_order_relaxed);
	return index;
}

void lw_index_close(lw_index *index)
{
	memset(index, 0, sizeof(*index));
	free(index);
	atomic_fetch_add_explicit(&closed, 1, memory_order_relaxed);
}

struct run {
	const struct protocol *protocol;
	lw_registry *registry;
	_Atomic unsigned readers;	/* that have started */
	_Atomic bool stop;
	_Atomic unsigned reads, wrong;
};

static bool holds_only(const lw_index *index, uint64_t number)
{
	for (unsigned w = 0; w < WORDS; w++)
		if (index->word[w] != number)
			return false;
	return true;
}

/* The first index has the snapshot's number, the second that of the snapshot it came with. */
static bool intact(const struct lw_snapshot *snapshot)
{
	if (!snapshot->count)
		return snapshot->generation == 1;
	uint64_t born = snapshot->generation / BASE_LIFE * BASE_LIFE;
	return holds_only(snapshot->index[0], snapshot->generation) && holds_only(snapshot->index[1], born > 2 ? born : 2);
}

static bool plain(struct run *run, uint64_t *last)
{
	const struct lw_snapshot *snapshot = run->protocol->enter(run->registry);
	bool good = snapshot->generation >= *last && intact(snapshot) && intact(snapshot);
	*last = snapshot->generation;
	run->protocol->exit(run->registry, snapshot);
	return good;
}

static bool nested(struct run *run, uint64_t *last)
{
	const struct lw_snapshot *outer = run->protocol->enter(run->registry);
	bool good = outer->generation >= *last && intact(outer);
	const struct lw_snapshot *inner = run->protocol->enter(run->registry);
	good &= inner->generation >= outer->generation && intact(inner) && intact(outer);
	*last = inner->generation;
	run->protocol->exit(run->registry, outer);
	good &= intact(inner);
	run->protocol->exit(run->registry, inner);
	return good;
}

static bool held(struct run *run, uint64_t *last)
{
	const struct lw_snapshot *snapshot = run->protocol->enter(run->registry);
	bool good = snapshot->generation >= *last && intact(snapshot);
	*last = snapshot->generation;
	run->protocol->hold_on(run->registry, snapshot);
	run->protocol->exit(run->registry, snapshot);
	good &= intact(snapshot);
	run->protocol->unhold(run->registry, snapshot);
	return good;
}

static void *reader(void *arg)
{
	static bool (*const way[READERS])(struct run *, uint64_t *) = { plain, plain, nested, held };
	struct run *run = arg;
	unsigned mine = atomic_fetch_add_explicit(&run->readers, 1, memory_order_relaxed);
	uint64_t last = 0;

	while (!atomic_load_explicit(&run->stop, memory_order_relaxed)) {
		if (!way[mine](run, &last))
			atomic_fetch_add_explicit(&run->wrong, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&run->reads, 1, memory_order_relaxed);
	}
	return NULL;
}

static void publish_one(struct run *run, uint64_t generation, lw_index **base)
{
	lw_index **array = malloc(2 * sizeof(*array));
	if (!*base || generation % BASE_LIFE == 0)
		*base = index_create(generation);
	array[0] = index_create(generation);
	array[1] = *base;
	if (run->protocol->publish(run->registry, array, 2))
		abort();
}

static bool enough(struct run *run, uint64_t generation)
{
	unsigned publications = getenv("LADEWERK_LONG") ? 300000 : 20000;
	return generation > publications && atomic_load_explicit(&run->reads, memory_order_relaxed) > MIN_READS;
}

static int race(const struct protocol *protocol, bool fenced)
{
	struct run run = { .protocol = protocol, .registry = protocol->create() };
	pthread_t thread[READERS];
	lw_index *base = NULL;

	for (unsigned i = 0; i < READERS; i++)
		pthread_create(&thread[i], NULL, reader, &run);
	for (uint64_t generation = 2; !enough(&run, generation); generation++)
		publish_one(&run, generation, &base);
	atomic_store_explicit(&run.stop, true, memory_order_relaxed);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(thread[i], NULL);
	struct lw_registry_stats stats;
	protocol->stats(run.registry, &stats);
	protocol->destroy(run.registry);

	unsigned wrong = atomic_load(&run.wrong), left = atomic_load(&opened) - atomic_load(&closed);
	printf("registry%s: %u indexes published, %u reads, %u wrong, %u snapshots retired in the end, %u indexes never closed\n",
		stats.fenced ? ", without membarrier" : "", atomic_load(&opened), atomic_load(&run.reads), wrong, (unsigned)stats.retired, left);
	if (fenced && !stats.fenced)
		printf("registry: membarrier was not forbidden\n");
	return wrong || left || (fenced && !stats.fenced);
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
	return strstr(text, "use-after-free") || strstr(text, "data race") || strstr(text, "double-free");
}

/* Whether the sanitizer objects to one run. */
static bool is_caught(const char *name)
{
	int out[2], status;
	if (pipe(out))
		return false;
	pid_t pid = fork();
	if (pid == 0) {
		/* Its report must not reach our own output: there it would count as a failure. */
		dup2(out[1], 1);
		dup2(out[1], 2);
		close(out[0]);
		close(out[1]);
		execl("/proc/self/exe", "registry", name, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	bool seen = reported(out[0]);
	close(out[0]);
	waitpid(pid, &status, 0);
	return seen && status;
}

/* On a busy machine the two sides may not meet in one run. */
static int control(const char *name, bool possible)
{
	if (!possible) {
		printf("registry: control %s skipped: no sanitizer in this build would see it\n", name);
		return 0;
	}
	bool caught = false;
	for (unsigned run = 0; run < 10 && !caught; run++)
		caught = is_caught(name);
	printf("registry: control %s %s\n", name, caught ? "caught" : "NOT caught");
	return !caught;
}

static int fenced(void)
{
	int status;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "registry", "fenced", (char *)NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return status != 0;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "fenced") == 0)
		return forbid(__NR_membarrier, SECCOMP_RET_ERRNO | ENOSYS) || race(&sound, true);
	if (argc > 1) {
		mutant = strcmp(argv[1], "relaxed") == 0 ? RELAXED : UNSEEN;
		return race(&broken, false);
	}
	return race(&sound, false) | fenced() | control("relaxed", RACES) | control("unseen", SANITIZED);
}
