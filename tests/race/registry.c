/* SPDX-License-Identifier: MIT */
/*
 * Four readers, one writer that publishes. Every index carries its generation in many words and is wiped and freed when
 * closed; a reader checks all words twice while it is inside, so a snapshot that is destroyed under it shows as a wrong
 * word, and as a use after free to a sanitizer:
 *
 *     reader                         writer
 *     enter -> generation 7
 *     read words == 7                publish 8
 *                                    (the control destroys 7 here)
 *     read words == 7, again
 *     exit -> destroys 7
 *
 * The control is registry.c built once more with "nobody is ever inside". The program runs itself with it and expects
 * the sanitizer to object; without one the control would read freed memory unnoticed, so it is skipped.
 */
#include "registry.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
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
	int (*publish)(lw_registry *registry, lw_index **index, unsigned count);
} sound = { lw_registry_create, lw_registry_destroy, lw_registry_enter, lw_registry_exit, lw_registry_publish };

#define lw_registry_create broken_create
#define lw_registry_destroy broken_destroy
#define lw_registry_enter broken_enter
#define lw_registry_exit broken_exit
#define lw_registry_publish broken_publish
#define lw_registry_fork_prepare broken_fork_prepare
#define lw_registry_fork_done broken_fork_done
lw_registry *broken_create(void);
void broken_destroy(lw_registry *registry);
const struct lw_snapshot *broken_enter(lw_registry *registry);
void broken_exit(lw_registry *registry, const struct lw_snapshot *snapshot);
int broken_publish(lw_registry *registry, lw_index **index, unsigned count);
void broken_fork_prepare(lw_registry *registry);
void broken_fork_done(lw_registry *registry, bool child);
#define LW_REGISTRY_IN_USE(held) ((void)(held), false)
#include "../../core/registry.c"

static const struct protocol broken = { broken_create, broken_destroy, broken_enter, broken_exit, broken_publish };

enum { READERS = 4, WORDS = 64, PUBLICATIONS = 20000, MIN_READS = 20000, SKIPPED = 77 };

struct lw_index {
	uint64_t word[WORDS];
};

static _Atomic unsigned opened, closed;

static lw_index *index_create(uint64_t generation)
{
	lw_index *index = malloc(sizeof(*index));
	for (unsigned i = 0; i < WORDS; i++)
		index->word[i] = generation;
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
	_Atomic bool stop;
	_Atomic unsigned reads, wrong;
};

static bool intact(const struct lw_snapshot *snapshot)
{
	for (unsigned i = 0; i < snapshot->count; i++)
		for (unsigned w = 0; w < WORDS; w++)
			if (snapshot->index[i]->word[w] != snapshot->generation)
				return false;
	return true;
}

static void *reader(void *arg)
{
	struct run *run = arg;
	uint64_t last = 0;

	while (!atomic_load_explicit(&run->stop, memory_order_relaxed)) {
		const struct lw_snapshot *snapshot = run->protocol->enter(run->registry);
		bool good = snapshot->generation >= last && intact(snapshot) && intact(snapshot);
		last = snapshot->generation;
		run->protocol->exit(run->registry, snapshot);
		if (!good)
			atomic_fetch_add_explicit(&run->wrong, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&run->reads, 1, memory_order_relaxed);
	}
	return NULL;
}

static void publish_one(struct run *run, uint64_t generation)
{
	lw_index **array = malloc(2 * sizeof(*array));
	array[0] = index_create(generation);
	array[1] = index_create(generation);
	if (run->protocol->publish(run->registry, array, 2))
		abort();
}

static bool enough(struct run *run, uint64_t generation)
{
	return generation > PUBLICATIONS && atomic_load_explicit(&run->reads, memory_order_relaxed) > MIN_READS;
}

static int race(const struct protocol *protocol)
{
	struct run run = { .protocol = protocol, .registry = protocol->create() };
	pthread_t thread[READERS];

	for (unsigned i = 0; i < READERS; i++)
		pthread_create(&thread[i], NULL, reader, &run);
	for (uint64_t generation = 2; !enough(&run, generation); generation++)
		publish_one(&run, generation);
	atomic_store_explicit(&run.stop, true, memory_order_relaxed);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(thread[i], NULL);
	protocol->destroy(run.registry);

	unsigned wrong = atomic_load(&run.wrong), left = atomic_load(&opened) - atomic_load(&closed);
	printf("registry: %u indexes published, %u reads, %u wrong, %u never closed\n",
		atomic_load(&opened), atomic_load(&run.reads), wrong, left);
	return wrong || left;
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

static int control(const char *self)
{
	int out[2], status;

	if (!SANITIZED) {
		printf("registry: control skipped: no sanitizer in this build would see a use after free\n");
		return 0;
	}
	if (pipe(out))
		return 1;
	pid_t pid = fork();
	if (pid == 0) {
		/* Its report must not reach our own output: there it would count as a failure. */
		dup2(out[1], 1);
		dup2(out[1], 2);
		close(out[0]);
		close(out[1]);
		execl(self, self, "control", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	bool seen = reported(out[0]);
	close(out[0]);
	waitpid(pid, &status, 0);
	printf("registry: control %s\n", seen && status ? "caught" : "NOT caught");
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
