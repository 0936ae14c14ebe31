/* SPDX-License-Identifier: MIT */
/*
 * scan under ThreadSanitizer: many threads walk, somebody reads the progress counter, walks are stopped in the middle,
 * two walks run at once. Results are compared with a plain walk. The control forks a child whose callback counts
 * without any protection: callbacks do run at the same time, and the sanitizer must say so.
 */
#include "scan.h"
#include "../core/reference.h"

#include <stdatomic.h>

#if defined(__SANITIZE_THREAD__)
enum { UNDER_TSAN = 1 };
#else
enum { UNDER_TSAN = 0 };
#endif

enum { THREADS = 8, ROUNDS = 12 };

static char root[PATH_MAX];
static struct lw_suffixes suffixes;
static _Atomic uint64_t progress;
static _Atomic bool over;

struct collected {
	struct ref_lines lines;
	_Atomic unsigned calls;
	unsigned stop_at;
};

static int collect(void *arg, const struct lw_scan_dir *d)
{
	struct collected *c = arg;
	unsigned call = 1 + atomic_fetch_add_explicit(&c->calls, 1, memory_order_relaxed);
	ref_add(&c->lines, "D %s %d", d->path, d->error);
	for (uint32_t i = 0; d->listing && i < d->listing->count; i++) {
		const struct lw_entry *e = &d->listing->entries[i];
		ref_add(&c->lines, "E %s/%.*s %x %d", d->path, e->len, d->listing->names + e->name, e->kinds, e->flags);
	}
	for (unsigned i = 0; i < d->source_count; i++)
		ref_add(&c->lines, "S %s/%.*s %016llx", d->path, d->sources[i].len, d->listing->names + d->sources[i].name,
				(unsigned long long)lw_stamp(&d->sources[i].stat));
	lw_listing_destroy(d->listing);
	return c->stop_at && call >= c->stop_at ? 7 : 0;
}

static int scan(lw_scan_callback *callback, void *arg, struct lw_scan_stats *stats)
{
	const struct lw_scan_config config = { .suffixes = &suffixes, .threads = THREADS };
	const char *path = root;
	unsigned failed;
	return lw_scan(&config, &path, 1, callback, arg, stats, &failed, &progress);
}

static void *read_progress(void *arg)
{
	uint64_t last = 0;
	while (!atomic_load_explicit(&over, memory_order_relaxed)) {
		uint64_t now = atomic_load_explicit(&progress, memory_order_relaxed);
		TREE_CHECK(now >= last);
		last = now;
		usleep(100);
	}
	return NULL;
}

static void *walk_and_compare(void *arg)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct collected is = { .lines = REF_LINES };
		struct ref_walk should = { .suffixes = &suffixes, .lines = REF_LINES };
		struct lw_scan_stats stats;
		TREE_CHECK(scan(collect, &is, &stats) == 0);
		ref_walk_root(&should, root);
		TREE_CHECK(ref_equal(&is.lines, &should.lines, true));
		TREE_CHECK(stats.entries == should.entries && stats.sources == should.sources && stats.loops == should.loops
				&& stats.links_left == should.links_left);
		ref_clear(&is.lines);
		ref_clear(&should.lines);
	}
	return NULL;
}

static void *stop_in_the_middle(void *arg)
{
	for (unsigned i = 0; i < 4 * ROUNDS; i++) {
		struct collected c = { .lines = REF_LINES, .stop_at = 1 + 5 * i };
		struct lw_scan_stats stats;
		TREE_CHECK(scan(collect, &c, &stats) == (c.calls >= c.stop_at ? 7 : 0));
		ref_clear(&c.lines);
	}
	return NULL;
}

static int count_unprotected(void *arg, const struct lw_scan_dir *d)
{
	lw_listing_destroy(d->listing);
	++*(unsigned *)arg;
	usleep(100);
	return 0;
}

/* Forked before there are threads. Its report goes nowhere: the test as a whole must stay silent. */
static bool control_is_caught(void)
{
	int status;
	pid_t pid = fork();
	TREE_CHECK(pid >= 0);
	if (pid == 0) {
		unsigned count = 0;
		struct lw_scan_stats stats;
		TREE_CHECK(freopen("/dev/null", "w", stderr));
		exit(scan(count_unprotected, &count, &stats) ? 1 : 0);
	}
	TREE_CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status) != 0;
}

int main(void)
{
	uint64_t seed = 31;
	pthread_t reader, walker, stopper;
	suffixes = ref_suffixes();
	tree_create(root, sizeof root);
	int dir = tree_open(AT_FDCWD, root);
	for (char c = 'a'; c <= 'p'; c++) {
		int fd = tree_mkdir(dir, (char[]){ c, '\0' });
		tree_random_fill(fd, &seed, 20, 3);
		close(fd);
	}
	close(dir);
	bool caught = control_is_caught();
	TREE_CHECK(pthread_create(&reader, NULL, read_progress, NULL) == 0);
	TREE_CHECK(pthread_create(&walker, NULL, walk_and_compare, NULL) == 0);
	TREE_CHECK(pthread_create(&stopper, NULL, stop_in_the_middle, NULL) == 0);
	pthread_join(walker, NULL);
	pthread_join(stopper, NULL);
	atomic_store_explicit(&over, true, memory_order_relaxed);
	pthread_join(reader, NULL);
	tree_destroy(root);
	if (UNDER_TSAN && !caught) {
		fprintf(stderr, "the control was not caught\n");
		return 1;
	}
	return 0;
}
