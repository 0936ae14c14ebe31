/* SPDX-License-Identifier: MIT */
/* Who destroys a snapshot, and when. Indexes are stand-ins that count how often they are closed. */
#include "registry.h"
#include "forbid.h"
#include "slots.h"
#include <criterion/criterion.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct lw_index {
	_Atomic unsigned closed;
};

void lw_index_close(lw_index *index)
{
	atomic_fetch_add_explicit(&index->closed, 1, memory_order_relaxed);
}

static int try_publish(lw_registry *registry, lw_index *one, lw_index *two)
{
	lw_index **array = malloc(2 * sizeof(*array));
	array[0] = one;
	array[1] = two;
	return lw_registry_publish(registry, array, two ? 2 : 1);
}

static void publish(lw_registry *registry, lw_index *index)
{
	cr_assert_eq(try_publish(registry, index, NULL), 0);
}

static uint64_t retired(lw_registry *registry)
{
	struct lw_registry_stats stats;
	lw_registry_stats(registry, &stats);
	return stats.retired;
}

static bool fenced(lw_registry *registry)
{
	struct lw_registry_stats stats;
	lw_registry_stats(registry, &stats);
	return stats.fenced;
}

static bool have_membarrier(void)
{
	long commands = syscall(__NR_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
	return commands > 0 && commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED;
}

static unsigned records(void)
{
	unsigned count = 0;
	for (struct lw_slots *slots = lw_slots_first(); slots; slots = slots->next)
		count++;
	return count;
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
	cr_assert_eq(old.closed, have_membarrier());
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
	for (int i = 0; i < 3; i++)
		lw_registry_unhold(registry, lw_registry_hold(registry));
	cr_assert_eq(index.closed, 0);
	lw_registry_destroy(registry);
}

/* The next to publish destroys what the last reader has left. */
Test(registry, nested_in_any_order)
{
	FORBID_NEEDS(have_membarrier(), "membarrier(2) is not to be had here");
	lw_index index[5] = {{0}};
	lw_registry *registry = lw_registry_create();
	publish(registry, &index[0]);
	const struct lw_snapshot *outer = lw_registry_enter(registry);
	const struct lw_snapshot *inner = lw_registry_enter(registry);
	cr_assert_eq(outer, inner);
	publish(registry, &index[1]);
	const struct lw_snapshot *other = lw_registry_enter(registry);
	cr_assert_neq(other, outer, "a reader that nests sees the new snapshot");
	publish(registry, &index[2]);
	cr_assert_eq(retired(registry), 2);

	lw_registry_exit(registry, inner);
	publish(registry, &index[3]);
	cr_assert_eq(index[0].closed + index[1].closed, 0);
	cr_assert_eq(index[2].closed, 1);

	lw_registry_exit(registry, outer);
	publish(registry, &index[4]);
	cr_assert_eq(index[0].closed, 1);
	cr_assert_eq(index[1].closed, 0);
	cr_assert_eq(other->index[0], &index[1]);
	lw_registry_exit(registry, other);
	lw_registry_destroy(registry);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(index[i].closed, 1);
}

/* More of them at once than there are slots, in the orders first in first out and last in first out, of one registry and of two. */
Test(registry, deeper_than_there_are_slots)
{
	FORBID_NEEDS(have_membarrier(), "membarrier(2) is not to be had here");
	enum { DEEP = 3 * LW_SLOTS };
	for (int backwards = 0; backwards < 2; backwards++) {
		static lw_index index[2][DEEP], last[2];
		const struct lw_snapshot *inside[2][DEEP];
		lw_registry *registry[2] = { lw_registry_create(), lw_registry_create() };
		memset(index, 0, sizeof(index));
		memset(last, 0, sizeof(last));
		for (int i = 0; i < DEEP; i++) {
			for (int r = 0; r < 2; r++) {
				publish(registry[r], &index[r][i]);
				inside[r][i] = lw_registry_enter(registry[r]);
			}
		}
		for (int i = 0; i < DEEP; i++) {
			int at = backwards ? DEEP - 1 - i : i;
			for (int r = 0; r < 2; r++) {
				cr_assert_eq(inside[r][at]->index[0], &index[r][at]);
				cr_assert_eq(index[r][at].closed, 0);
				lw_registry_exit(registry[r], inside[r][at]);
			}
		}
		for (int r = 0; r < 2; r++) {
			publish(registry[r], &last[r]);
			for (int i = 0; i < DEEP; i++)
				cr_assert_eq(index[r][i].closed, 1, "registry %d, snapshot %d", r, i);
			cr_assert_eq(retired(registry[r]), 0);
			lw_registry_destroy(registry[r]);
		}
	}
}

/* --- indexes that several snapshots have --- */

Test(registry, a_delta_in_front_of_a_base)
{
	FORBID_NEEDS(have_membarrier(), "membarrier(2) is not to be had here");
	lw_index base = {0}, delta = {0}, newer = {0}, folded = {0};
	lw_registry *registry = lw_registry_create();
	publish(registry, &base);
	cr_assert_eq(try_publish(registry, &delta, &base), 0);
	const struct lw_snapshot *reader = lw_registry_enter(registry);
	cr_assert_eq(base.closed, 0, "shared with the snapshot that was replaced");
	cr_assert_eq(try_publish(registry, &newer, &base), 0);
	cr_assert_eq(delta.closed + base.closed, 0, "a reader is inside");
	cr_assert_eq(reader->index[0], &delta);
	cr_assert_eq(reader->index[1], &base);
	lw_registry_exit(registry, reader);
	publish(registry, &folded);
	cr_assert_eq(delta.closed, 1);
	cr_assert_eq(newer.closed, 1);
	cr_assert_eq(base.closed, 1);
	lw_registry_destroy(registry);
	cr_assert_eq(folded.closed, 1);
	cr_assert_eq(base.closed, 1);
}

Test(registry, what_is_held_can_be_published_again)
{
	FORBID_NEEDS(have_membarrier(), "membarrier(2) is not to be had here");
	lw_index one = {0}, two = {0};
	lw_registry *registry = lw_registry_create();
	publish(registry, &one);
	const struct lw_snapshot *held = lw_registry_hold(registry);
	publish(registry, &two);
	cr_assert_eq(try_publish(registry, &one, &one), 0, "out of a retired one, and twice");
	cr_assert_eq(two.closed, 1);
	lw_registry_unhold(registry, held);
	cr_assert_eq(one.closed, 0);
	cr_assert_eq(retired(registry), 0);
	lw_registry_destroy(registry);
	cr_assert_eq(one.closed, 1);
}

/* --- holds --- */

struct leaver {
	lw_registry *registry;
	const struct lw_snapshot *snapshot;
};

static void *let_go(void *arg)
{
	struct leaver *leaver = arg;
	lw_registry_unhold(leaver->registry, leaver->snapshot);
	return NULL;
}

Test(registry, another_thread_may_let_go)
{
	FORBID_NEEDS(have_membarrier(), "membarrier(2) is not to be had here");
	lw_index old = {0}, new = {0};
	lw_registry *registry = lw_registry_create();
	publish(registry, &old);
	const struct lw_snapshot *entered = lw_registry_enter(registry);
	lw_registry_hold_on(registry, entered);
	lw_registry_exit(registry, entered);
	lw_registry_hold_on(registry, entered);
	struct leaver leaver = { registry, entered };
	publish(registry, &new);
	cr_assert_eq(old.closed, 0);
	pthread_t thread;
	for (unsigned i = 0; i < 2; i++) {
		pthread_create(&thread, NULL, let_go, &leaver);
		pthread_join(thread, NULL);
		cr_assert_eq(old.closed, i, "the last hold destroys, without another publication");
	}
	lw_registry_destroy(registry);
}

/* A hold that ends while a reader is inside leaves the snapshot to that reader. */
Test(registry, holds_and_readers_of_one_snapshot)
{
	FORBID_NEEDS(have_membarrier(), "membarrier(2) is not to be had here");
	lw_index index[3] = {{0}};
	lw_registry *registry = lw_registry_create();
	publish(registry, &index[0]);
	const struct lw_snapshot *held = lw_registry_hold(registry), *entered = lw_registry_enter(registry);
	publish(registry, &index[1]);
	lw_registry_unhold(registry, held);
	cr_assert_eq(index[0].closed, 0);
	lw_registry_exit(registry, entered);
	publish(registry, &index[2]);
	cr_assert_eq(index[0].closed, 1);
	lw_registry_destroy(registry);
}

/* --- threads --- */

struct guest {
	lw_registry *registry;
	pthread_barrier_t *inside, *leave;
	bool exits;
};

static void *visit(void *arg)
{
	struct guest *guest = arg;
	const struct lw_snapshot *snapshot = lw_registry_enter(guest->registry);
	pthread_barrier_wait(guest->inside);
	pthread_barrier_wait(guest->leave);
	if (guest->exits)
		lw_registry_exit(guest->registry, snapshot);
	return NULL;
}

/* Each of many threads is inside a snapshot that is replaced; they leave, or end without leaving: either way the list drains and records are reused. */
Test(registry, many_threads_and_their_ends)
{
	FORBID_NEEDS(have_membarrier(), "membarrier(2) is not to be had here");
	enum { THREADS = 40, ROUNDS = 10 };
	for (int round = 0; round < ROUNDS; round++) {
		lw_index index[3] = {{0}};
		pthread_barrier_t inside, leave;
		struct guest guest = { lw_registry_create(), &inside, &leave, .exits = round % 2 };
		pthread_t thread[THREADS];
		pthread_barrier_init(&inside, NULL, THREADS + 1);
		pthread_barrier_init(&leave, NULL, THREADS + 1);
		publish(guest.registry, &index[0]);
		for (int i = 0; i < THREADS; i++)
			pthread_create(&thread[i], NULL, visit, &guest);
		pthread_barrier_wait(&inside);
		publish(guest.registry, &index[1]);
		cr_assert_eq(index[0].closed, 0);
		pthread_barrier_wait(&leave);
		for (int i = 0; i < THREADS; i++)
			pthread_join(thread[i], NULL);
		publish(guest.registry, &index[2]);
		cr_assert_eq(index[0].closed, 1);
		cr_assert_eq(index[1].closed, 1);
		cr_assert_eq(retired(guest.registry), 0);
		cr_assert_leq(records(), THREADS + 1, "threads that have ended give their records back");
		lw_registry_destroy(guest.registry);
		pthread_barrier_destroy(&inside);
		pthread_barrier_destroy(&leave);
	}
}

/* --- fork --- */

struct hammer {
	lw_registry *registry;
	_Atomic bool stop;
	_Atomic unsigned inside;
};

static void *hammer(void *arg)
{
	struct hammer *h = arg;
	while (!atomic_load_explicit(&h->stop, memory_order_relaxed)) {
		lw_registry_exit(h->registry, lw_registry_enter(h->registry));
		lw_registry_unhold(h->registry, lw_registry_hold(h->registry));
	}
	return NULL;
}

static int use_in_child(lw_registry *registry, const struct lw_snapshot *mine)
{
	lw_index fresh = {0};
	alarm(10);
	if (mine->generation != 2)
		return 1;
	lw_registry_exit(registry, mine);
	if (try_publish(registry, &fresh, NULL))
		return 2;
	const struct lw_snapshot *snapshot = lw_registry_enter(registry);
	int bad = snapshot->generation != 3 || snapshot->index[0] != &fresh;
	lw_registry_exit(registry, snapshot);
	return bad;
}

/* A thread hammers the lock while another forks: without prepare/done a child would sooner or later inherit it locked. */
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

static void *stay(void *arg)
{
	struct hammer *h = arg;
	const struct lw_snapshot *snapshot = lw_registry_enter(h->registry);
	atomic_fetch_add_explicit(&h->inside, 1, memory_order_release);
	while (!atomic_load_explicit(&h->stop, memory_order_acquire))
		sched_yield();
	lw_registry_exit(h->registry, snapshot);
	return NULL;
}

/* What the forking thread is inside stays; what only other threads were inside goes. */
static int child_of_many(lw_registry *registry, lw_index *index, const struct lw_snapshot *mine)
{
	lw_index fresh = {0}, fresher = {0};
	alarm(10);
	if (mine->index[0] != &index[1])
		return 1;
	if (try_publish(registry, &fresh, NULL) || index[0].closed != 1 || index[1].closed != 0 || fenced(registry))
		return 2;
	lw_registry_exit(registry, mine);
	if (try_publish(registry, &fresher, NULL) || index[1].closed != 1 || fresh.closed != 1 || retired(registry))
		return 3;
	lw_registry_destroy(registry);
	return fresher.closed != 1;
}

Test(registry, child_keeps_its_own_slots_alone)
{
	FORBID_NEEDS(have_membarrier(), "membarrier(2) is not to be had here");
	enum { THREADS = 3 };
	lw_index index[2] = {{0}};
	struct hammer h = { .registry = lw_registry_create() };
	pthread_t thread[THREADS];
	publish(h.registry, &index[0]);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, stay, &h);
	while (atomic_load_explicit(&h.inside, memory_order_acquire) < THREADS)
		sched_yield();
	publish(h.registry, &index[1]);
	const struct lw_snapshot *mine = lw_registry_enter(h.registry);
	lw_registry_fork_prepare(h.registry);
	pid_t pid = fork();
	lw_registry_fork_done(h.registry, pid == 0);
	if (pid == 0)
		_exit(child_of_many(h.registry, index, mine));
	int status;
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0, "status %x", (unsigned)status);
	cr_assert_eq(index[0].closed, 0, "the parent's threads are still inside");
	atomic_store_explicit(&h.stop, true, memory_order_release);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	lw_registry_exit(h.registry, mine);
	lw_registry_destroy(h.registry);
}

/* --- without membarrier --- */

/* Publications under the feet of threads that enter and exit; 0 if all but the last few snapshots were destroyed, and none of those twice. */
static int publish_many(lw_registry *registry, unsigned left)
{
	enum { MANY = 200, THREADS = 3 };
	static lw_index index[MANY];
	struct hammer h = { .registry = registry };
	pthread_t thread[THREADS];
	unsigned closed = 0;
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, hammer, &h))
			return 10;
	for (int i = 0; i < MANY; i++)
		if (try_publish(registry, &index[i], NULL))
			return 11;
	atomic_store_explicit(&h.stop, true, memory_order_relaxed);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	if (lw_registry_publish(registry, NULL, 0))
		return 12;
	for (int i = 0; i < MANY; i++) {
		if (index[i].closed > 1)
			return 13;
		closed += index[i].closed;
	}
	return closed + left < MANY ? 14 : 0;
}

static int forbidden_from_the_start(void)
{
	lw_index old = {0};
	if (forbid(__NR_membarrier, SECCOMP_RET_ERRNO | ENOSYS))
		return 1;
	lw_registry *registry = lw_registry_create();
	if (try_publish(registry, &old, NULL) || fenced(registry))
		return 2;
	const struct lw_snapshot *mine = lw_registry_enter(registry);
	int bad = publish_many(registry, 1);
	if (bad || !fenced(registry) || mine->index[0] != &old || old.closed)
		return bad ? bad : 3;
	lw_registry_exit(registry, mine);
	lw_registry_destroy(registry);
	return old.closed != 1;
}

/* A sandbox that is put up while the program runs: two snapshots stay, no more. */
static int forbidden_later(void)
{
	lw_index index[4] = {{0}};
	lw_registry *registry = lw_registry_create();
	for (int i = 0; i < 3; i++)
		if (try_publish(registry, &index[i], NULL))
			return 1;
	if (index[0].closed != 1 || index[1].closed != 1 || fenced(registry))
		return 2;
	if (forbid(__NR_membarrier, SECCOMP_RET_ERRNO | EPERM) || try_publish(registry, &index[3], NULL) || !fenced(registry))
		return 3;
	if (index[2].closed)
		return 4;
	int bad = publish_many(registry, 0);
	if (bad || index[2].closed || index[3].closed || retired(registry) != 2)
		return bad ? bad : 5;
	lw_registry_destroy(registry);
	return index[2].closed != 1 || index[3].closed != 1;
}

/* Filters that kill are common: what publishes once never asks. */
static int forbidden_on_pain_of_death(void)
{
	lw_index index[2] = {{0}};
	if (forbid(__NR_membarrier, SECCOMP_RET_KILL_PROCESS))
		return 1;
	lw_registry *registry = lw_registry_create();
	lw_registry_exit(registry, lw_registry_enter(registry));
	if (try_publish(registry, &index[0], &index[1]))
		return 2;
	lw_registry_exit(registry, lw_registry_enter(registry));
	lw_registry_destroy(registry);
	return index[0].closed != 1;
}

/* The control of the one above. */
static int dies(void)
{
	if (forbid(__NR_membarrier, SECCOMP_RET_KILL_PROCESS))
		return 1;
	lw_registry *registry = lw_registry_create();
	return lw_registry_publish(registry, NULL, 0) || lw_registry_publish(registry, NULL, 0);
}

static int status_of(int (*body)(void))
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		alarm(60);
		_exit(body());
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

Test(registry, membarrier_forbidden)
{
	FORBID_NEEDS(have_membarrier(), "membarrier(2) is not to be had here");
	cr_assert_eq(status_of(forbidden_from_the_start), 0);
	cr_assert_eq(status_of(forbidden_later), 0);
	cr_assert_eq(status_of(forbidden_on_pain_of_death), 0);
	int status = status_of(dies);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "status %x", (unsigned)status);
}

Test(registry, list_drains_while_others_read)
{
	FORBID_NEEDS(have_membarrier(), "membarrier(2) is not to be had here");
	lw_registry *registry = lw_registry_create();
	cr_assert_eq(publish_many(registry, 0), 0);
	cr_assert_eq(retired(registry), 0);
	cr_assert_not(fenced(registry));
	lw_registry_destroy(registry);
}
