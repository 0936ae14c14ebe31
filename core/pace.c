/* SPDX-License-Identifier: MIT */
/*
 * pace: see pace.h. Sums are added up with relaxed atomics; whoever swaps the time that is due for "being judged" owns the rest until it
 * stores the next one.
 */
#include "pace.h"
#include "stamp.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { WAITING_NS = 4000, RUNNING_NS = 1000, STEP = 8, GRACE = 2, HOLD = 32 };
static const double BETTER = 1.1;

unsigned lw_cores(void)
{
	cpu_set_t set;
	/* A machine with more processors than the set has bits refuses. */
	if (sched_getaffinity(0, sizeof set, &set) == 0)
		return (unsigned)CPU_COUNT(&set);
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	return online > 0 ? (unsigned)online : 1;
}

/* Threads */

static int64_t cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* The second of its three numbers. The first is CPU time as well, but of the last tick. */
static int64_t queued_ns(const struct lw_pace_thread *thread)
{
	char text[128], *second;
	ssize_t len = thread->schedstat < 0 ? 0 : pread(thread->schedstat, text, sizeof text - 1, 0);
	if (len <= 0)
		return 0;
	text[len] = '\0';
	strtoll(text, &second, 10);
	return strtoll(second, NULL, 10);
}

void lw_pace_thread_begin(struct lw_pace_thread *thread)
{
	thread->schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	thread->not_waited_ns = cpu_ns() + queued_ns(thread);
	thread->asked_ns = lw_monotonic_ns();
}

void lw_pace_thread_end(struct lw_pace_thread *thread)
{
	if (thread->schedstat >= 0)
		close(thread->schedstat);
	thread->schedstat = -1;
}

int64_t lw_pace_thread_waited(struct lw_pace_thread *thread, int64_t now_ns)
{
	int64_t not_waited_ns = cpu_ns() + queued_ns(thread);
	int64_t waited_ns = now_ns - thread->asked_ns - (not_waited_ns - thread->not_waited_ns);
	thread->not_waited_ns = not_waited_ns;
	thread->asked_ns = now_ns;
	return waited_ns > 0 ? waited_ns : 0;
}

/* The rule */

void lw_pace_init(struct lw_pace *pace, unsigned low, unsigned high)
{
	*pace = (struct lw_pace){ .low = low, .high = high, .judged_ns = lw_monotonic_ns() };
	atomic_init(&pace->wanted, low);
	atomic_init(&pace->calls, 0);
	atomic_init(&pace->waited_ns, 0);
	atomic_init(&pace->due, pace->judged_ns + LW_PACE_INTERVAL);
}

unsigned lw_pace_wanted(const struct lw_pace *pace)
{
	/* Relaxed: a number to steer by. */
	return atomic_load_explicit(&pace->wanted, memory_order_relaxed);
}

/* Has the last growth paid? If not, what it was before. */
static unsigned judge_growth(struct lw_pace *pace, unsigned wanted, double rate)
{
	unsigned before = pace->before;
	pace->before = 0;
	if (!before || rate >= BETTER * pace->rate)
		return wanted;
	pace->hold = HOLD;
	return before;
}

static unsigned grow(struct lw_pace *pace, unsigned wanted, double rate)
{
	if (wanted >= pace->high || pace->hold)
		return wanted;
	pace->before = wanted;
	pace->rate = rate;
	pace->grace = GRACE;
	return wanted > pace->high / STEP ? pace->high : wanted * STEP;
}

unsigned lw_pace_judge(struct lw_pace *pace, const struct lw_pace_interval *interval)
{
	unsigned wanted = lw_pace_wanted(pace);
	if (!interval->calls || interval->elapsed_ns <= 0)
		return wanted;
	double wait = (double)interval->waited_ns / (double)interval->calls, rate = (double)interval->calls / (double)interval->elapsed_ns;
	pace->hold -= pace->hold > 0;
	if (pace->grace) {
		pace->grace--;
		return wanted;
	}
	wanted = judge_growth(pace, wanted, rate);
	if (wait > WAITING_NS)
		return grow(pace, wanted, rate);
	if (wait < RUNNING_NS)
		return wanted / 2 > pace->low ? wanted / 2 : pace->low;
	return wanted;
}

/* The interval that ends NOW. */
static struct lw_pace_interval close_interval(struct lw_pace *pace, int64_t now_ns)
{
	uint64_t calls = atomic_load_explicit(&pace->calls, memory_order_relaxed);
	uint64_t waited_ns = atomic_load_explicit(&pace->waited_ns, memory_order_relaxed);
	struct lw_pace_interval interval = {
		.calls = calls - pace->calls_seen, .waited_ns = waited_ns - pace->waited_seen_ns, .elapsed_ns = now_ns - pace->judged_ns,
	};
	pace->calls_seen = calls;
	pace->waited_seen_ns = waited_ns;
	pace->judged_ns = now_ns;
	return interval;
}

bool lw_pace_note(struct lw_pace *pace, uint64_t calls, int64_t waited_ns, int64_t now_ns)
{
	atomic_fetch_add_explicit(&pace->calls, calls, memory_order_relaxed);
	atomic_fetch_add_explicit(&pace->waited_ns, (uint64_t)waited_ns, memory_order_relaxed);
	int64_t due = atomic_load_explicit(&pace->due, memory_order_relaxed);
	/* Acquire what the last judge has written; the release below is its partner. */
	if (now_ns < due || !atomic_compare_exchange_strong_explicit(&pace->due, &due, INT64_MAX, memory_order_acquire, memory_order_relaxed))
		return false;
	struct lw_pace_interval interval = close_interval(pace, now_ns);
	unsigned before = lw_pace_wanted(pace), wanted = lw_pace_judge(pace, &interval);
	atomic_store_explicit(&pace->wanted, wanted, memory_order_relaxed);
	atomic_store_explicit(&pace->due, now_ns + LW_PACE_INTERVAL, memory_order_release);
	return wanted != before;
}
