/* SPDX-License-Identifier: MIT */
/*
 * watch by inotify while the tree changes under it. Two threads each make directories as `mkdir -p` does, four levels deep with a file in each, and rename some of them
 * about; one thread drains, arms and then reads what was reported, as the scanner does; two more arm and disarm whatever there is, so that arms meet each other,
 * removals, and events of what is being armed.
 *
 *     maker               drainer
 *     mkdir a             arm top, read top: empty
 *                         NAMES top a -> arm a
 *     mkdir a/b           (here, the control has read a and has not armed it yet)
 *                         read a: b -> arm b, read b ...
 *
 * In the end every file has been seen, and a new one in each directory is reported. The control, which must miss some: reading before arming.
 */
#include "watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAKERS = 2, LEVELS = 4, MAX_NAMES = 1 << 18 };

#define CHECK(condition) ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno)), abort()))

static char top[64];
static lw_watch *watch;
static _Atomic unsigned making;	/* makers at work; released by each when it is done, acquired by who waits for that */
static unsigned rounds;
static bool read_first;		/* the control */
static bool moves;		/* makers rename directories as well */
static bool disarms;		/* and others disarm them */

/* What the drainer has seen: a set of paths. */
static char *seen[MAX_NAMES];
static unsigned seen_count;

static unsigned slot_of(const char *path)
{
	unsigned hash = 5381;
	for (const char *at = path; *at; at++)
		hash = hash * 33 + (unsigned char)*at;
	while (seen[hash % MAX_NAMES] && strcmp(seen[hash % MAX_NAMES], path) != 0)
		hash++;
	return hash % MAX_NAMES;
}

static void see(const char *path)
{
	unsigned slot = slot_of(path);
	if (seen[slot])
		return;
	CHECK(++seen_count < MAX_NAMES / 2);
	CHECK(seen[slot] = strdup(path));
}

static void forget_all(void)
{
	for (unsigned i = 0; i < MAX_NAMES; i++) {
		free(seen[i]);
		seen[i] = NULL;
	}
	seen_count = 0;
}

/* Let the others come in between, now and then. */
static void pause_a_little(unsigned *seed)
{
	*seed = *seed * 1103515245 + 12345;
	struct timespec now, end;
	clock_gettime(CLOCK_MONOTONIC, &now);
	for (end = now; (now.tv_sec - end.tv_sec) * 1000000000L + now.tv_nsec - end.tv_nsec < (long)(*seed >> 16 & 0x7fff); )
		clock_gettime(CLOCK_MONOTONIC, &now);
}

/* --- the drainer --- */

static void look(const char *path);

static void list(const char *path)
{
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d)); ) {
		char name[PATH_MAX];
		if (*e->d_name == '.' || snprintf(name, sizeof name, "%s/%s", path, e->d_name) >= PATH_MAX)
			continue;
		see(name);
		if (e->d_type == DT_DIR)
			look(name);
	}
	if (d)
		closedir(d);
}

/* Arm, then read; the control the other way round. */
static void look(const char *path)
{
	static unsigned seed;
	if (read_first) {
		list(path);
		pause_a_little(&seed);
	}
	int error = lw_watch_arm(watch, path, strlen(path));
	CHECK(error == 0 || error == -ENOENT || error == -ENOTDIR || error == -EAGAIN);
	if (read_first)
		return;
	pause_a_little(&seed);
	list(path);
}

static void on_event(void *arg, const struct lw_watch_event *event)
{
	char path[PATH_MAX];
	struct stat st;
	snprintf(path, sizeof path, "%.*s%s%.*s", (int)event->len, event->path, event->name_len ? "/" : "", (int)event->name_len, event->name);
	if (event->kind == LW_WATCH_ALL || strlen(path) < strlen(top))
		strcpy(path, top);
	if (lstat(path, &st))
		return;
	see(path);
	if (S_ISDIR(st.st_mode))
		look(path);
}

static void drain_all(void)
{
	struct pollfd p = { .fd = lw_watch_fd(watch), .events = POLLIN };
	while (atomic_load_explicit(&making, memory_order_acquire) || poll(&p, 1, 0) == 1) {
		CHECK(poll(&p, 1, 1) >= 0);
		CHECK(lw_watch_drain(watch, 0, on_event, NULL) >= 0);
	}
}

/* --- makers --- */

static void make_file(const char *dir, const char *name)
{
	char path[PATH_MAX];
	CHECK(snprintf(path, sizeof path, "%s/%s", dir, name) < PATH_MAX);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	if (fd >= 0)
		close(fd);
}

static void make_path(unsigned maker, unsigned round)
{
	unsigned seed = maker * 7919 + round;
	char path[PATH_MAX], other[PATH_MAX];
	int len = snprintf(path, sizeof path, "%s/m%u_%u", top, maker, round);
	for (int level = 0; level < LEVELS; level++) {
		CHECK(mkdir(path, 0755) == 0);
		pause_a_little(&seed);
		len += snprintf(path + len, sizeof path - (size_t)len, "/l%d", level);
	}
	/* From the bottom up: the last one is the last to be found. */
	for (int level = LEVELS; level--; ) {
		*strrchr(path, '/') = '\0';
		make_file(path, "file");
	}
	if (!moves || round % 3)
		return;
	snprintf(other, sizeof other, "%s/r%u_%u", top, maker, round);
	CHECK(rename(path, other) == 0);
	CHECK(round % 2 || rename(other, path) == 0);
}

/* Until the drainer has nothing to do, or so: it is to meet the next path while that is made. */
static void wait_for_drainer(void)
{
	struct pollfd p = { .fd = lw_watch_fd(watch), .events = POLLIN };
	for (int i = 0; i < 50 && poll(&p, 1, 0) == 1; i++)
		usleep(100);
}

static void *make(void *arg)
{
	for (unsigned i = 0; i < rounds; i++, wait_for_drainer())
		make_path((unsigned)(uintptr_t)arg, i);
	atomic_fetch_sub_explicit(&making, 1, memory_order_acq_rel);
	return NULL;
}

/* Arms what the makers make, and disarms some if that is what it is for. */
static void *arm_along(void *arg)
{
	const uintptr_t maker = (uintptr_t)arg;
	for (unsigned i = 0; atomic_load_explicit(&making, memory_order_acquire); i++) {
		char path[PATH_MAX];
		int len = snprintf(path, sizeof path, "%s/m%u_%u/l0/l1", top, (unsigned)maker, i % rounds);
		lw_watch_arm(watch, path, (size_t)len);
		path[len - 3] = '\0';
		if (disarms && i % 16 == 0)
			lw_watch_disarm(watch, path, (size_t)len - 3);
		else
			lw_watch_arm(watch, path, (size_t)len - 3);
	}
	return NULL;
}

/* --- the verdict --- */

static unsigned directories;	/* that count_missed() went to */

/* What is there at PATH and below, and has not been seen. PROBE: make a file more in each directory. */
static unsigned count_missed(const char *path, bool probe)
{
	unsigned missed = 0;
	DIR *d = opendir(path);
	CHECK(d);
	directories++;
	for (struct dirent *e; (e = readdir(d)); ) {
		char name[PATH_MAX];
		if (*e->d_name == '.')
			continue;
		CHECK(snprintf(name, sizeof name, "%s/%s", path, e->d_name) < PATH_MAX);
		missed += !seen[slot_of(name)];
		if (e->d_type == DT_DIR)
			missed += count_missed(name, probe);
	}
	closedir(d);
	if (probe)
		make_file(path, "probe");
	return missed;
}

static void start(void)
{
	const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(top, sizeof top, "%s/ladewerk-race-XXXXXX", base);
	CHECK(mkdtemp(top));
	CHECK(lw_watch_create(LW_WATCH_INOTIFY, NULL, 0, &watch, NULL) == 0);
	forget_all();
}

static void finish(void)
{
	char command[PATH_MAX + 16];
	lw_watch_destroy(watch);
	snprintf(command, sizeof command, "rm -rf %s", top);
	CHECK(system(command) == 0);
}

/* *PROBES: of the files that were made in the end how many were not reported. The paths made before that were not seen. */
static unsigned run(unsigned armers, unsigned *probes)
{
	pthread_t thread[2 * MAKERS];
	start();
	look(top);
	atomic_store_explicit(&making, MAKERS, memory_order_release);
	for (uintptr_t i = 0; i < MAKERS; i++)
		CHECK(pthread_create(&thread[i], NULL, make, (void *)i) == 0);
	for (uintptr_t i = 0; i < armers; i++)
		CHECK(pthread_create(&thread[MAKERS + i], NULL, arm_along, (void *)i) == 0);
	drain_all();
	for (unsigned i = 0; i < MAKERS + armers; i++)
		CHECK(pthread_join(thread[i], NULL) == 0);
	drain_all();
	unsigned missed = count_missed(top, false);
	/* Everything is armed again, most of it in vain, and not read. */
	look(top);
	drain_all();
	count_missed(top, true);
	drain_all();
	directories = 0;
	*probes = count_missed(top, false);
	struct lw_watch_stats stats;
	lw_watch_stats(watch, &stats);
	/* Each once, and nothing of what has gone. The ways: of /dev/shm/X or /tmp/X. */
	CHECK(stats.armed == directories && stats.watches <= directories + 3);
	printf("%s%s%s: %u seen, %u missed; %u probes missed; %llu armed, %llu watches, %llu events, %llu overflows\n", read_first ? "read first" : "arm first",
		moves ? ", moves" : "", disarms ? ", disarms" : "", seen_count, missed, *probes, (unsigned long long)stats.armed, (unsigned long long)stats.watches,
		(unsigned long long)stats.events, (unsigned long long)stats.overflows);
	finish();
	return missed;
}

int main(void)
{
	unsigned probes;
	rounds = getenv("LADEWERK_LONG") ? 2000 : 200;
	CHECK(run(0, &probes) == 0 && probes == 0);
	CHECK(run(MAKERS, &probes) == 0 && probes == 0);
	moves = true;
	CHECK(run(0, &probes) == 0 && probes == 0);
	CHECK(run(MAKERS, &probes) == 0 && probes == 0);
	/* What is disarmed by others is not seen; what is armed in the end is. */
	disarms = true;
	run(MAKERS, &probes);
	CHECK(probes == 0);
	moves = disarms = false;
	read_first = true;
	unsigned missed = 0;
	for (int i = 0; i < 20 && !missed; i++)
		missed = run(0, &probes);
	CHECK(missed > 0);
	forget_all();
	return 0;
}
