/* SPDX-License-Identifier: MIT */
/* pace: the rule on made-up intervals; that an interval is judged once; that sleeping is waiting, and queueing for a core is not. */
#include "pace.h"
#include "stamp.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

enum { MS = 1000 * 1000 };

/* An interval of 10 ms: CALLS that waited WAIT_NS each. */
static unsigned judge(struct lw_pace *pace, uint64_t calls, uint64_t wait_ns)
{
	struct lw_pace_interval interval = { .calls = calls, .waited_ns = calls * wait_ns, .elapsed_ns = 10 * MS };
	unsigned wanted = lw_pace_judge(pace, &interval);
	atomic_store(&pace->wanted, wanted);
	return wanted;
}

Test(pace, calls_that_do_not_wait_need_no_more_than_the_cores)
{
	struct lw_pace pace;
	lw_pace_init(&pace, 2, 64);
	cr_expect_eq(lw_pace_wanted(&pace), 2);
	for (unsigned i = 0; i < 20; i++)
		cr_expect_eq(judge(&pace, 10000, 2000), 2);
}

Test(pace, waiting_calls_get_more_threads_up_to_the_most)
{
	static const unsigned steps[] = { 16, 16, 16, 64, 64, 64, 64 };
	struct lw_pace pace;
	lw_pace_init(&pace, 2, 64);
	for (unsigned i = 0; i < 7; i++)
		cr_expect_eq(judge(&pace, 100u << i, 500000), steps[i], "step %u", i);
}

Test(pace, growth_that_does_not_pay_is_taken_back)
{
	struct lw_pace pace;
	lw_pace_init(&pace, 2, 64);
	cr_expect_eq(judge(&pace, 100, 200000), 16);
	cr_expect_eq(judge(&pace, 20, 800000), 16, "those who have just begun have nothing to report");
	cr_expect_eq(judge(&pace, 90, 800000), 16);
	cr_expect_eq(judge(&pace, 105, 800000), 2, "eight times the threads, the same rate");
	for (unsigned i = 1; i < 32; i++)
		cr_expect_eq(judge(&pace, 100, 200000), 2, "held back, interval %u", i);
	cr_expect_eq(judge(&pace, 100, 200000), 16, "tried again");
	judge(&pace, 100, 200000);
	judge(&pace, 100, 200000);
	cr_expect_eq(judge(&pace, 780, 210000), 64, "now it pays");
}

Test(pace, shrinks_when_calls_are_answered_from_memory_again)
{
	struct lw_pace pace;
	lw_pace_init(&pace, 2, 64);
	atomic_store(&pace.wanted, 64);
	cr_expect_eq(judge(&pace, 10000, 100), 32);
	cr_expect_eq(judge(&pace, 10000, 0), 16);
	cr_expect_eq(judge(&pace, 10000, 2000), 16, "in between nothing changes");
	for (unsigned i = 0; i < 5; i++)
		judge(&pace, 10000, 0);
	cr_expect_eq(lw_pace_wanted(&pace), 2, "not below the lowest");
}

/* Spin for MS_WANTED of CPU time. */
static void spin(int64_t ms_wanted)
{
	struct timespec ts;
	int64_t end = 0, cpu;
	do {
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
		cpu = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
		end = end ? end : cpu + ms_wanted * MS;
	} while (cpu < end);
}

static void *spin_on(void *arg)
{
	while (!atomic_load((_Atomic bool *)arg))
		spin(1);
	return NULL;
}

Test(pace, sleeping_is_waiting_and_queueing_for_a_core_is_not)
{
	struct lw_pace_thread thread;
	_Atomic bool over = false;
	pthread_t rivals[64];
	unsigned count = lw_cores() * 3 < 64 ? lw_cores() * 3 : 64;
	lw_pace_thread_begin(&thread);
	usleep(50 * 1000);
	cr_expect_geq(lw_pace_thread_waited(&thread, lw_monotonic_ns()), 40 * MS);
	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(pthread_create(&rivals[i], NULL, spin_on, &over), 0);
	/* When the rivals get their share is the scheduler's business. */
	int64_t elapsed = 0, waited = 0;
	for (unsigned i = 0; i < 100 && elapsed < 2 * 20 * MS; i++) {
		int64_t begun = lw_monotonic_ns();
		lw_pace_thread_waited(&thread, begun);
		spin(20);
		elapsed = lw_monotonic_ns() - begun;
		waited = lw_pace_thread_waited(&thread, begun + elapsed);
	}
	atomic_store(&over, true);
	for (unsigned i = 0; i < count; i++)
		pthread_join(rivals[i], NULL);
	if (thread.schedstat < 0)
		cr_skip_test("this kernel tells nothing of queues");
	cr_expect(elapsed >= 2 * 20 * MS && waited < elapsed / 4, "%d ms for 20 of CPU, %d waited", (int)(elapsed / MS), (int)(waited / MS));
	lw_pace_thread_end(&thread);
	cr_expect_eq(thread.schedstat, -1);
}

Test(pace, nothing_is_concluded_from_nothing)
{
	struct lw_pace pace;
	lw_pace_init(&pace, 3, 64);
	cr_expect_eq(judge(&pace, 0, 0), 3);
	const struct lw_pace_interval backwards = { .calls = 1, .waited_ns = 1000000, .elapsed_ns = -1 };
	cr_expect_eq(lw_pace_judge(&pace, &backwards), 3);
}

Test(pace, an_interval_is_judged_when_it_is_over_and_once)
{
	struct lw_pace pace;
	lw_pace_init(&pace, 2, 64);
	int64_t start = atomic_load(&pace.due) - LW_PACE_INTERVAL;
	cr_expect_not(lw_pace_note(&pace, 5, 5 * MS, start + LW_PACE_INTERVAL - 1), "not over yet");
	cr_expect(lw_pace_note(&pace, 5, 5 * MS, start + LW_PACE_INTERVAL));
	cr_expect_eq(lw_pace_wanted(&pace), 16);
	cr_expect_not(lw_pace_note(&pace, 5, 5 * MS, start + LW_PACE_INTERVAL + 1), "the next one has begun");
	cr_expect_eq(atomic_load(&pace.due), start + 2 * LW_PACE_INTERVAL);
}

Test(pace, cores)
{
	cr_expect_geq(lw_cores(), 1);
	cr_expect_leq(lw_cores(), (unsigned)sysconf(_SC_NPROCESSORS_CONF));
}
