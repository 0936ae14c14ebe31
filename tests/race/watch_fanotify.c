/* SPDX-License-Identifier: MIT */
/*
 * watch by fanotify while links are turned. One thread turns a link that others armed and read through; one arms and then reads whatever is in doubt; one
 * drains, and says what is in doubt; one arms, disarms and counts elsewhere.
 *
 *     turner                      armer                        drainer
 *                                 arm: walk: current is r1
 *     current is r2 from now on
 *                                                              "current" was replaced: whose way was that?
 *                                 arm: way noted
 *                                 read current: r2, or r1 if that was before: then it is still to be said that it is in doubt
 *
 * Once the turner rests and nothing is in doubt, what was read last is what is there, and a change behind the link is told. The control, which must be wrong at some time: reading before arming.
 *
 * Exits with 77 where fanotify cannot be used.
 */
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECK(condition) ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno)), abort()))

enum { CERTAIN, IN_DOUBT, BEING_READ };

static char top[64], current[80], fresh[80], path[96], other[80];
static lw_watch *watch;
static _Atomic bool stop;	/* relaxed: a flag, nothing else rests on it */
static _Atomic unsigned drains;	/* that are over; released by the drainer, acquired by who waits for two: one of them began after that */
static _Atomic int state;	/* released by who changes it, acquired by who takes over */
static _Atomic int version;	/* relaxed: what was read last; STATE says when it counts */
static _Atomic bool probed;	/* relaxed: DRAINS says when it counts */
static unsigned lost;		/* probes that were not told; none, however it is read */
static bool read_first;		/* the control */

static void spin(unsigned *seed, unsigned most)
{
	*seed = *seed * 1103515245 + 12345;
	for (volatile unsigned i = (*seed >> 16) % most; i; i--)
		;
}

static int read_version(void)
{
	char text[96];
	ssize_t len = readlink(path, text, sizeof text - 1);
	return len > 0 ? text[0] - '0' : -1;
}

/* Others come in between while a walk has read a link and has not come to its end (tests/CMakeLists.txt). */
ssize_t __real_readlinkat(int dirfd, const char *name, char *text, size_t size);
ssize_t __wrap_readlinkat(int dirfd, const char *name, char *text, size_t size);

ssize_t __wrap_readlinkat(int dirfd, const char *name, char *text, size_t size)
{
	static _Thread_local unsigned count;
	ssize_t len = __real_readlinkat(dirfd, name, text, size);
	if (++count % 4 == 0)
		usleep(300);
	return len;
}

/* --- the armer --- */

static void arm_and_read(unsigned *seed)
{
	if (read_first) {
		atomic_store_explicit(&version, read_version(), memory_order_relaxed);
		spin(seed, 60000);
	}
	char dir[96];
	snprintf(dir, sizeof dir, "%s/d", current);
	CHECK(lw_watch_arm(watch, dir, strlen(dir)) == 0);
	spin(seed, 2000);
	if (!read_first)
		atomic_store_explicit(&version, read_version(), memory_order_relaxed);
}

static void *arm_what_is_in_doubt(void *arg)
{
	unsigned seed = 1;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		int doubt = IN_DOUBT, reading = BEING_READ;
		if (!atomic_compare_exchange_strong_explicit(&state, &doubt, BEING_READ, memory_order_acquire, memory_order_relaxed))
			continue;
		arm_and_read(&seed);
		/* Unless it is in doubt again. */
		atomic_compare_exchange_strong_explicit(&state, &reading, CERTAIN, memory_order_release, memory_order_relaxed);
	}
	return NULL;
}

/* --- the drainer --- */

static void on_event(void *arg, const struct lw_watch_event *event)
{
	bool all = event->kind == LW_WATCH_ALL;
	/* Others may fill the queue: then all is in doubt, the probe as well. */
	if (all || (event->name_len == 5 && memcmp(event->name, "probe", 5) == 0 && event->len == strlen(current) + 2 && memcmp(event->path, path, event->len) == 0))
		atomic_store_explicit(&probed, true, memory_order_relaxed);
	if (all || (event->kind == LW_WATCH_SUBTREE && event->len >= strlen(current) && memcmp(event->path, current, strlen(current)) == 0))
		atomic_store_explicit(&state, IN_DOUBT, memory_order_release);
}

static void *drain(void *arg)
{
	struct pollfd p = { .fd = lw_watch_fd(watch), .events = POLLIN };
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		CHECK(poll(&p, 1, 1) >= 0);
		CHECK(lw_watch_drain(watch, 0, on_event, NULL) >= 0);
		atomic_fetch_add_explicit(&drains, 1, memory_order_release);
	}
	return NULL;
}

/* --- others --- */

static void *bother(void *arg)
{
	struct lw_watch_stats stats;
	char deep[96];
	snprintf(deep, sizeof deep, "%s/deep", other);
	for (unsigned i = 0; !atomic_load_explicit(&stop, memory_order_relaxed); i++) {
		lw_watch_arm(watch, other, strlen(other));
		lw_watch_arm_listed(watch, deep, strlen(deep));
		lw_watch_stats(watch, &stats);
		if (i % 4 == 0)
			lw_watch_disarm(watch, other, strlen(other));
	}
	return NULL;
}

static void turn(int to)
{
	char target[8];
	snprintf(target, sizeof target, "r%d", to);
	CHECK(symlink(target, fresh) == 0 && rename(fresh, current) == 0);
}

/* All that has happened has been drained, and what was in doubt has been read. */
static void wait_until_certain(void)
{
	unsigned before = atomic_load_explicit(&drains, memory_order_acquire);
	while (atomic_load_explicit(&drains, memory_order_acquire) - before < 2)
		usleep(50);
	while (atomic_load_explicit(&state, memory_order_acquire) != CERTAIN)
		usleep(50);
}

/* --- one run --- */

static void make_dir(const char *below, const char *name, int holds)
{
	char whole[128], text[8];
	snprintf(whole, sizeof whole, "%s/%s", below, name);
	CHECK(mkdir(whole, 0755) == 0);
	if (holds < 0)
		return;
	strcat(whole, "/d");
	CHECK(mkdir(whole, 0755) == 0);
	strcat(whole, "/version");
	snprintf(text, sizeof text, "%d", holds);
	CHECK(symlink(text, whole) == 0);
}

static void start(void)
{
	const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(top, sizeof top, "%s/ladewerk-race-XXXXXX", base);
	CHECK(mkdtemp(top));
	snprintf(current, sizeof current, "%s/current", top);
	snprintf(fresh, sizeof fresh, "%s/new", top);
	snprintf(path, sizeof path, "%s/d/version", current);
	snprintf(other, sizeof other, "%s/other", top);
	make_dir(top, "r1", 1);
	make_dir(top, "r2", 2);
	make_dir(top, "other", -1);
	make_dir(other, "deep", -1);
	turn(1);
	const char *const paths[] = { top };
	char why[LW_WATCH_WHY];
	int error = lw_watch_create(LW_WATCH_FANOTIFY, paths, 1, &watch, why);
	if (!error)
		return;
	fprintf(stderr, "skipped: %s\n", why);
	const char *require = getenv("LADEWERK_REQUIRE_KERNEL");
	exit(require && strcmp(require, "0") != 0 ? 1 : 77);
}

static void finish(void)
{
	char command[96];
	lw_watch_destroy(watch);
	snprintf(command, sizeof command, "rm -rf %s", top);
	CHECK(system(command) == 0);
}

/* Whether a file that is written behind the link is told under its name. */
static bool tells_probe(void)
{
	char probe[96];
	snprintf(probe, sizeof probe, "%s/d/probe", current);
	atomic_store_explicit(&probed, false, memory_order_relaxed);
	int fd = open(probe, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
	wait_until_certain();
	return atomic_load_explicit(&probed, memory_order_relaxed);
}

/* How often it was wrong. */
static unsigned run(unsigned rounds)
{
	static void *(*const bodies[])(void *) = { arm_what_is_in_doubt, drain, bother };
	pthread_t thread[3];
	unsigned wrong = 0, seed = 2;
	start();
	atomic_store_explicit(&stop, false, memory_order_relaxed);
	atomic_store_explicit(&state, IN_DOUBT, memory_order_release);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&thread[i], NULL, bodies[i], NULL) == 0);
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 1 + round % 4; i; i--) {
			turn(1 + (int)((round + i) % 2));
			spin(&seed, 60000);
		}
		wait_until_certain();
		wrong += atomic_load_explicit(&version, memory_order_relaxed) != read_version();
		lost += !tells_probe();
	}
	atomic_store_explicit(&stop, true, memory_order_relaxed);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(thread[i], NULL) == 0);
	finish();
	return wrong;
}

int main(void)
{
	const unsigned rounds = getenv("LADEWERK_LONG") ? 20000 : 500;
	unsigned wrong = run(rounds), control = 0;
	read_first = true;
	for (int i = 0; i < 20 && !control; i++)
		control = run(rounds);
	printf("%u rounds: wrong %u times, %u changes lost; reading before arming: wrong %u times\n", rounds, wrong, lost, control);
	return wrong || lost || !control;
}
