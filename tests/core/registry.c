/* SPDX-License-Identifier: MIT */
/* Who destroys a snapshot, and when. Indexes are stand-ins that count how often they are closed. */
#include "registry.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct lw_index {
	unsigned closed;
};

void lw_index_close(lw_index *index)
{
	index->closed++;
}

static void publish(lw_registry *registry, lw_index *index)
{
	lw_index **array = malloc(sizeof(*array));
	array[0] = index;
	cr_assert_eq(lw_registry_publish(registry, array, 1), 0);
}

Test(registry, starts_empty_and_counts_generations)
{
	lw_registry *registry = lw_registry_create();
	const struct lw_snapshot *first = lw_registry_enter(registry);
	cr_assert_eq(first->count, 0);
	cr_assert_eq(first->generation, 1);
	lw_registry_exit(registry, first);

	for (uint64_t generation = 2; generation < 6; generation++) {
		cr_assert_eq(lw_registry_publish(registry, NULL, 0), 0);
		const struct lw_snapshot *snapshot = lw_registry_enter(registry);
		cr_assert_eq(snapshot->generation, generation);
		lw_registry_exit(registry, snapshot);
	}
	lw_registry_destroy(registry);
	lw_registry_destroy(NULL);
}

Test(registry, order_of_indexes_is_kept)
{
	lw_index index[3] = {{0}};
	lw_registry *registry = lw_registry_create();
	lw_index **array = malloc(3 * sizeof(*array));
	for (int i = 0; i < 3; i++)
		array[i] = &index[i];
	cr_assert_eq(lw_registry_publish(registry, array, 3), 0);
	const struct lw_snapshot *snapshot = lw_registry_enter(registry);
	cr_assert_eq(snapshot->count, 3);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(snapshot->index[i], &index[i]);
	lw_registry_exit(registry, snapshot);
	lw_registry_destroy(registry);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(index[i].closed, 1);
}

Test(registry, unused_snapshot_goes_at_once)
{
	lw_index old = {0}, new = {0};
	lw_registry *registry = lw_registry_create();
	publish(registry, &old);
	publish(registry, &new);
	cr_assert_eq(old.closed, 1);
	cr_assert_eq(new.closed, 0);
	lw_registry_destroy(registry);
	cr_assert_eq(old.closed, 1);
	cr_assert_eq(new.closed, 1);
}

Test(registry, current_snapshot_survives_its_readers)
{
	lw_index index = {0};
	lw_registry *registry = lw_registry_create();
	publish(registry, &index);
	for (int i = 0; i < 3; i++)
		lw_registry_exit(registry, lw_registry_enter(registry));
	cr_assert_eq(index.closed, 0);
	lw_registry_destroy(registry);
}

Test(registry, the_last_reader_destroys)
{
	lw_index old = {0}, new = {0}, newest = {0};
	lw_registry *registry = lw_registry_create();
	publish(registry, &old);
	const struct lw_snapshot *outer = lw_registry_enter(registry);
	const struct lw_snapshot *inner = lw_registry_enter(registry);
	cr_assert_eq(outer, inner);
	publish(registry, &new);
	const struct lw_snapshot *other = lw_registry_enter(registry);
	cr_assert_neq(other, outer, "a reader that nests sees the new snapshot");
	publish(registry, &newest);

	lw_registry_exit(registry, inner);
	cr_assert_eq(old.closed, 0);
	lw_registry_exit(registry, other);
	cr_assert_eq(new.closed, 1);
	cr_assert_eq(old.closed, 0);
	cr_assert_eq(outer->index[0], &old);
	lw_registry_exit(registry, outer);
	cr_assert_eq(old.closed, 1);
	lw_registry_destroy(registry);
	cr_assert_eq(newest.closed, 1);
}

struct leaver {
	lw_registry *registry;
	const struct lw_snapshot *snapshot;
};

static void *leave(void *arg)
{
	struct leaver *leaver = arg;
	lw_registry_exit(leaver->registry, leaver->snapshot);
	return NULL;
}

Test(registry, another_thread_may_leave)
{
	lw_index old = {0}, new = {0};
	lw_registry *registry = lw_registry_create();
	publish(registry, &old);
	struct leaver leaver = { registry, lw_registry_enter(registry) };
	publish(registry, &new);
	pthread_t thread;
	pthread_create(&thread, NULL, leave, &leaver);
	pthread_join(thread, NULL);
	cr_assert_eq(old.closed, 1);
	lw_registry_destroy(registry);
}

/* A thread hammers the mutex while another forks: without prepare/done a child would sooner or later inherit it locked. */
struct hammer {
	lw_registry *registry;
	_Atomic bool stop;
};

static void *hammer(void *arg)
{
	struct hammer *h = arg;
	while (!atomic_load_explicit(&h->stop, memory_order_relaxed))
		lw_registry_exit(h->registry, lw_registry_enter(h->registry));
	return NULL;
}

static int use_in_child(lw_registry *registry, const struct lw_snapshot *mine)
{
	lw_index fresh = {0};
	alarm(10);
	if (mine->generation != 2)
		return 1;
	lw_registry_exit(registry, mine);
	publish(registry, &fresh);
	const struct lw_snapshot *snapshot = lw_registry_enter(registry);
	int bad = snapshot->generation != 3 || snapshot->index[0] != &fresh;
	lw_registry_exit(registry, snapshot);
	return bad;
}

Test(registry, child_can_go_on_after_fork)
{
	lw_index index = {0};
	struct hammer h = { .registry = lw_registry_create() };
	publish(h.registry, &index);
	pthread_t thread;
	pthread_create(&thread, NULL, hammer, &h);
	for (int i = 0; i < 200; i++) {
		const struct lw_snapshot *mine = lw_registry_enter(h.registry);
		lw_registry_fork_prepare(h.registry);
		pid_t pid = fork();
		lw_registry_fork_done(h.registry, pid == 0);
		if (pid == 0)
			_exit(use_in_child(h.registry, mine));
		int status;
		waitpid(pid, &status, 0);
		cr_assert_eq(status, 0, "round %d: status %x", i, (unsigned)status);
		lw_registry_exit(h.registry, mine);
	}
	atomic_store_explicit(&h.stop, true, memory_order_relaxed);
	pthread_join(thread, NULL);
	cr_assert_eq(index.closed, 0);
	lw_registry_destroy(h.registry);
	cr_assert_eq(index.closed, 1);
}
