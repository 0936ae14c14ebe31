/* SPDX-License-Identifier: MIT */
/*
 * revalidate: what checking all directories of an index costs, beside the bare loop of statx over the same paths.
 *
 *     bench_revalidate [DIRECTORIES [ROUNDS]]        (72000 11)
 *
 * Makes DIRECTORIES directories of 2 modules, depth 6, in $TMPDIR, indexes them, and lets both take turns on 1 and 2 threads: the loop gives its threads
 * 64 paths at a time, in the order in which they were made. Prints the medians in ms, and of the ratios formed within each round the median and
 * the extremes. Then, for the record: one thread through io_uring, and the loop in the order of the index's records.
 */
#include "build.h"
#include "revalidate.h"
#include "scan.h"
#include "stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH = 512, MODULES = 2, WIDTH = 9, DEPTH = 5, GRAIN = 64, ROUNDS_MAX = 1001 };

static char root[PATH / 2];
static unsigned directories = 72000, rounds = 11, made;
static char **path;
static struct lw_suffixes suffixes;
static lw_build *build;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void check(bool holds, const char *what)
{
	if (holds)
		return;
	perror(what);
	exit(1);
}

static void make_dir(const char *where, unsigned depth)
{
	char name[PATH];
	path[made] = strdup(where);
	check(path[made++] && mkdir(where, 0755) == 0, where);
	for (unsigned m = 0; m < MODULES; m++) {
		snprintf(name, sizeof name, "%.400s/module_%u.py", where, m);
		int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		check(fd >= 0, name);
		close(fd);
	}
	for (unsigned d = 0; depth && d < WIDTH + 1 && made < directories; d++) {
		snprintf(name, sizeof name, "%.400s/package_%u", where, d);
		make_dir(name, depth - 1);
	}
}

static int add(void *arg, const struct lw_scan_dir *dir)
{
	pthread_mutex_lock(&lock);
	int error = dir->error ? -dir->error : lw_build_dir(build, dir->path, dir->path_len, lw_stamp(&dir->stat),
		lw_stat_public(&dir->stat) ? LW_DIR_PUBLIC : 0, dir->listing);
	pthread_mutex_unlock(&lock);
	lw_listing_destroy(dir->listing);
	return error;
}

static lw_index *make_index(void)
{
	static const char *const extension[] = { ".cpython-311-x86_64-linux-gnu.so", ".abi3.so", ".so" };
	struct lw_scan_config config = { .suffixes = &suffixes };
	struct lw_scan_stats stats;
	const char *roots[] = { root };
	unsigned failed;
	lw_index *index;
	FILE *file = tmpfile();
	check(file, "temporary file");
	check(lw_suffixes_init(&suffixes, extension, 3) == 0 && (build = lw_build_create()), "build");
	check(lw_scan(&config, roots, 1, add, NULL, &stats, &failed, NULL) == 0, "scan");
	check(lw_build_write(build, fileno(file), (struct lw_hash128){ 1, 2 }, geteuid(), 1) == 0, "index");
	check(lw_index_open(fileno(file), NULL, &index, NULL) == 0, "index");
	fclose(file);
	lw_build_destroy(build);
	return index;
}

/* --- the loop --- */

struct loop {
	char **path;
	unsigned count;
	_Atomic unsigned next;
};

static void *stat_some(void *arg)
{
	struct loop *loop = arg;
	struct statx st;
	for (;;) {
		unsigned at = atomic_fetch_add_explicit(&loop->next, GRAIN, memory_order_relaxed);
		for (unsigned i = at; i < at + GRAIN && i < loop->count; i++)
			check(statx(AT_FDCWD, loop->path[i], 0, LW_STAT_MASK, &st) == 0, loop->path[i]);
		if (at >= loop->count)
			return NULL;
	}
}

static double loop_ms(char **paths, unsigned threads)
{
	struct loop loop = { .path = paths, .count = made };
	pthread_t thread;
	int64_t begun = lw_monotonic_ns();
	check(threads < 2 || pthread_create(&thread, NULL, stat_some, &loop) == 0, "thread");
	stat_some(&loop);
	if (threads > 1)
		pthread_join(thread, NULL);
	return (double)(lw_monotonic_ns() - begun) / 1e6;
}

/* --- ours --- */

static int unexpected(void *arg, const struct lw_revalidate_dir *dir)
{
	fprintf(stderr, "%s has changed\n", dir->path);
	return -EINVAL;
}

static double our_ms(const struct lw_snapshot *snapshot, enum lw_ioq_backend backend, unsigned threads)
{
	struct lw_revalidate_config config = { .suffixes = &suffixes, .snapshot = snapshot, .backend = backend, .threads = threads };
	struct lw_revalidate_stats stats;
	int error = lw_revalidate(&config, unexpected, NULL, &stats);
	if (error == -ENOTSUP || error == -EPERM || error == -ENOSYS)
		return 0;
	check(error == 0 && stats.unchanged == made, "revalidate");
	return (double)stats.wall_ns / 1e6;
}

/* --- results --- */

static int ascending(const void *a, const void *b)
{
	double one = *(const double *)a, other = *(const double *)b;
	return (one > other) - (one < other);
}

static double median(double *of)
{
	qsort(of, rounds, sizeof *of, ascending);
	return of[rounds / 2];
}

static void compare(const char *what, lw_index *index, enum lw_ioq_backend backend, unsigned threads, char **theirs)
{
	const struct lw_snapshot snapshot = { .count = 1, .index = &index, .generation = 1 };
	static double loop[ROUNDS_MAX], ours[ROUNDS_MAX], ratio[ROUNDS_MAX];
	for (unsigned i = 0; i < rounds; i++) {
		/* Who comes first changes from round to round. */
		if (i % 2)
			loop[i] = loop_ms(path, threads);
		ours[i] = theirs ? loop_ms(theirs, threads) : our_ms(&snapshot, backend, threads);
		if (i % 2 == 0)
			loop[i] = loop_ms(path, threads);
		ratio[i] = ours[i] / loop[i];
	}
	double loop_median = median(loop), our_median = median(ours), ratio_median = median(ratio);
	printf("%-28s %8.1f %8.1f %8.3f  [%.3f, %.3f]\n", what, loop_median, our_median, ratio_median, ratio[0], ratio[rounds - 1]);
}

static char **record_order(const lw_index *index)
{
	char **order = calloc(made, sizeof *order);
	const struct lw_dir_record *record;
	const char *text;
	check(order, "memory");
	for (unsigned i = 0; i < made; i++) {
		check(lw_index_dir_record_at(index, i, &record, &text) == LW_OK, "record");
		order[i] = strndup(text, record->path_len);
	}
	return order;
}

static int remove_one(const char *what, const struct stat *st, int type, struct FTW *at)
{
	return remove(what);
}

int main(int argc, char **argv)
{
	const char *base = getenv("TMPDIR");
	if (argc > 1)
		directories = (unsigned)atoi(argv[1]);
	if (argc > 2)
		rounds = (unsigned)atoi(argv[2]);
	if (argc > 3 || !directories || directories > 1000000 || !rounds || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench_revalidate [DIRECTORIES (to 1000000) [ROUNDS]]\n");
		return 2;
	}
	path = calloc(directories + 1, sizeof *path);
	snprintf(root, sizeof root, "%.200s/ladewerk-bench-XXXXXX", base && *base ? base : "/tmp");
	check(path && mkdtemp(root) && rmdir(root) == 0, root);
	make_dir(root, DEPTH);
	usleep(50 * 1000); /* what is younger than a tick of the clock proves nothing */
	lw_index *index = make_index();
	char **order = record_order(index);
	printf("%u directories                loop ms  ours ms    ratio\n", made);
	compare("1 thread", index, LW_IOQ_POOL, 1, NULL);
	compare("2 threads", index, LW_IOQ_POOL, 2, NULL);
	compare("2 threads, the loop twice", index, LW_IOQ_POOL, 2, path);
	compare("ring against 1 thread", index, LW_IOQ_RING, 1, NULL);
	compare("loop in order of records", index, LW_IOQ_POOL, 2, order);
	lw_index_close(index);
	for (unsigned i = 0; i < made; i++) {
		free(path[i]);
		free(order[i]);
	}
	free(path);
	free(order);
	return nftw(root, remove_one, 32, FTW_DEPTH | FTW_PHYS) ? 1 : 0;
}
