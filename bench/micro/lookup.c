/* SPDX-License-Identifier: MIT */
/*
 * lookup: what finding a module costs in the C library, without any Python: DIRECTORIES of MODULES sources each, made in $TMPDIR, learnt by one
 * session and looked up, in random order, by fresh ones.
 *
 *     bench_lookup [DIRECTORIES [MODULES]]        (1000 50)
 *
 * Prints the index's size per name, and the median of 21 passes over all names in ns per lookup: in a path list of one entry and of all,
 * `frozen` and `stat` (window 10 ms). `stat` asks the kernel for the file each time, `frozen` asks nothing.
 */
#include "session.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PASSES = 21, WINDOW_MS = 10, NAME = 32, PATH = 512 };
static const int64_t MS = 1000000;

static char root[PATH / 2], place[PATH];
static unsigned directories = 1000, modules = 50;
static struct lw_path_entry *entry;

static void check(bool holds, const char *what)
{
	if (holds)
		return;
	perror(what);
	exit(1);
}

static char *print(const char *format, unsigned a, unsigned b)
{
	char *text = malloc(PATH);
	check(text && snprintf(text, PATH, format, root, a, b) < PATH, "memory");
	return text;
}

static void make_tree(void)
{
	entry = calloc(directories, sizeof(*entry));
	check(entry, "memory");
	for (unsigned d = 0; d < directories; d++) {
		char *path = print("%s/d%04u", d, 0);
		check(mkdir(path, 0755) == 0, path);
		entry[d] = (struct lw_path_entry){ path, (uint32_t)strlen(path) };
		for (unsigned m = 0; m < modules; m++) {
			char *file = print("%s/d%04u/module_%07u.py", d, d * modules + m);
			int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
			check(fd >= 0, file);
			close(fd);
			free(file);
		}
	}
	usleep(50 * 1000); /* what is younger than a tick of the clock is not stored */
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static lw_session *open_session(enum lw_freshness freshness)
{
	static const char *const extension[] = { ".cpython-311-x86_64-linux-gnu.so", ".abi3.so", ".so" };
	struct lw_session_config config = {
		.freshness = freshness, .window_ns = WINDOW_MS * MS,
		.store = { .place = place, .key = { 1, 2 }, .about = "bench", .prefix_owner = geteuid() },
	};
	char reason[LW_STORE_REASON];
	lw_session *session;
	check(lw_suffixes_init(&config.suffixes, extension, 3) == 0 && lw_session_open(&config, &session, reason) == 0, "session");
	return session;
}

/* Names in random order, the same each time. */
static unsigned *shuffled(unsigned count)
{
	unsigned *order = calloc(count, sizeof(*order));
	uint64_t seed = 7;
	check(order, "memory");
	for (unsigned i = 0; i < count; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		unsigned j = (unsigned)((seed >> 33) % (i + 1));
		order[i] = order[j];
		order[j] = i;
	}
	return order;
}

/* ns per lookup of COUNT names, the first of which is FIRST, in one pass. */
static double pass(lw_session *session, lw_view *view, const unsigned *order, unsigned count, unsigned first)
{
	struct lw_hit hit;
	char name[NAME];
	int64_t ns = 0;
	for (unsigned i = 0; i < count; i++) {
		int len = snprintf(name, sizeof(name), "module_%07u", first + order[i]);
		int64_t start = lw_monotonic_ns();
		int error = lw_session_resolve(session, view, 0, name, (size_t)len, &hit);
		ns += lw_monotonic_ns() - start;
		check(!error && hit.kind == LW_HIT_MODULE, name);
	}
	return (double)ns / count;
}

static int ascending(const void *a, const void *b)
{
	double one = *(const double *)a, other = *(const double *)b;
	return (one > other) - (one < other);
}

static double clock_ns(void)
{
	int64_t start = lw_monotonic_ns();
	for (unsigned i = 0; i < 100000; i++)
		(void)lw_monotonic_ns();
	return (double)(lw_monotonic_ns() - start) / 100000;
}

static void measure(const char *what, enum lw_freshness freshness, bool long_list)
{
	unsigned last = directories - 1, count = long_list ? directories * modules : modules;
	unsigned *order = shuffled(count);
	double taken[PASSES];
	lw_session *session = open_session(freshness);
	lw_view *view = long_list ? lw_session_view(session, entry, directories, false) : lw_session_view(session, &entry[last], 1, false);
	check(view, "view");
	pass(session, view, order, count, long_list ? 0 : last * modules);
	for (unsigned i = 0; i < PASSES; i++)
		taken[i] = pass(session, view, order, count, long_list ? 0 : last * modules);
	qsort(taken, PASSES, sizeof(*taken), ascending);
	printf("%-24s %8.0f ns\n", what, taken[PASSES / 2]);
	lw_session_view_destroy(session, view);
	lw_session_close(session);
	free(order);
}

static void learn(void)
{
	lw_session *session = open_session(LW_STAT);
	lw_view *view = lw_session_view(session, entry, directories, false);
	struct lw_hit hit;
	char reason[LW_STORE_REASON];
	check(view && lw_session_resolve(session, view, 0, "no_such_module", 14, &hit) == 0, "resolve");
	check(lw_session_flush(session) == 0, "flush");
	uint64_t bytes = 0;
	lw_index **index;
	unsigned count, refused;
	struct lw_store_config config = { .place = place, .key = { 1, 2 }, .prefix_owner = geteuid() };
	lw_store *store;
	check(lw_store_open(&config, &store, reason) == 0 && lw_store_load(store, &index, &count, &refused, reason) == 0, "store");
	for (unsigned i = 0; i < count; i++) {
		bytes += lw_index_head(index[i])->file_size;
		lw_index_close(index[i]);
	}
	free(index);
	lw_store_close(store);
	printf("%u directories, %u names: index of %.1f MB, %.1f bytes a name, the table of the list included\n", directories, directories * modules,
		(double)bytes / 1e6, (double)bytes / (directories * modules));
	lw_session_view_destroy(session, view);
	lw_session_close(session);
}

int main(int argc, char **argv)
{
	const char *base = getenv("TMPDIR");
	if (argc > 1)
		directories = (unsigned)atoi(argv[1]);
	if (argc > 2)
		modules = (unsigned)atoi(argv[2]);
	if (argc > 3 || directories <= LW_VIEW_LINEAR || directories > 9999 || !modules || (uint64_t)directories * modules > 9999999) {
		fprintf(stderr, "usage: bench_lookup [DIRECTORIES (33 to 9999) [MODULES]]\n");
		return 2;
	}
	snprintf(root, sizeof(root), "%.200s/ladewerk-bench-XXXXXX", base && *base ? base : "/tmp");
	check(mkdtemp(root), root);
	snprintf(place, sizeof(place), "%s/cache", root);
	make_tree();
	learn();
	printf("reading the clock, in each figure: %.0f ns\n", clock_ns());
	measure("frozen, one entry", LW_FROZEN, false);
	measure("frozen, all entries", LW_FROZEN, true);
	measure("stat, one entry", LW_STAT, false);
	measure("stat, all entries", LW_STAT, true);
	for (unsigned d = 0; d < directories; d++)
		free((void *)entry[d].path);
	free(entry);
	return nftw(root, remove_one, 32, FTW_DEPTH | FTW_PHYS) ? 1 : 0;
}
