/* SPDX-License-Identifier: MIT */
/*
 * registry: what an import asks of the index (is there a fact about this directory, and what does it say of this name?) while snapshots are replaced, beside
 * other ways to share a table. NAMES names, 50 to a directory; random queries, every one a hit.
 *
 *     bench_registry NAMES [ROUNDS [MS [FIRST [CONTENDER]]]]        (5 rounds of 100 ms for each; the FIRST-th begins, then the one after it; all of them)
 *
 * Prints a line of tab-separated fields for each sample: contender, threads, swaps a second, round, lookups, wall ns, cpu ns of the readers, times that
 * readers went to sleep for somebody (voluntary context switches), swaps done. Contenders take turns in each round. registry.py makes a table of it.
 *
 * A swap of ours publishes a snapshot (the same indexes, which snapshots share), one of theirs replaces an entry.
 */
#include "rivals.h"

#include "build.h"
#include "registry.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PER_DIRECTORY = 50, QUERIES = 1 << 16, BATCH = 64, THREADS_MAX = 8, TEXT = 64, DELTA = 20 };

static struct query *queries;
static unsigned milliseconds = 100;

/* --- ours --- */

static lw_registry *registry, *registry_delta;
static lw_index *base, *delta;

static lw_index *index_of(unsigned first, unsigned count)
{
	lw_build *build = lw_build_create();
	struct lw_entry entries[PER_DIRECTORY];
	char names[PER_DIRECTORY * TEXT];
	check(build, "memory");
	for (unsigned d = first; d < first + count; d += PER_DIRECTORY) {
		unsigned n = 0;
		for (; n < PER_DIRECTORY && d + n < fact_count; n++) {
			const struct fact *fact = &facts[d + n];
			struct lw_entry entry = { .hash = lw_name_hash(fact->name, fact->name_len), .name = n * TEXT, .len = (uint8_t)fact->name_len, .kinds = 1 };
			unsigned at = n;
			memcpy(names + n * TEXT, fact->name, fact->name_len);
			for (; at > 0 && entries[at - 1].hash > entry.hash; at--)
				entries[at] = entries[at - 1];
			entries[at] = entry;
		}
		struct lw_listing *listing = lw_listing_copy(entries, n, names);
		check(listing && lw_build_dir(build, facts[d].path, facts[d].path_len, d + 1, 0, listing) == 0, "build");
		lw_listing_destroy(listing);
	}
	int fd = memfd_create("index", MFD_CLOEXEC);
	lw_index *index;
	check(fd >= 0 && lw_build_write(build, fd, (struct lw_hash128){ 1, 2 }, 0, 1) == 0 && lw_index_open(fd, NULL, &index, NULL) == 0, "index");
	close(fd);
	lw_build_destroy(build);
	return index;
}

static void publish(lw_registry *where, lw_index *one, lw_index *two)
{
	lw_index **array = malloc(2 * sizeof(*array));
	array[0] = one;
	array[1] = two;
	check(lw_registry_publish(where, array, two ? 2 : 1) == 0, "publish");
}

static void our_make(void)
{
	registry = lw_registry_create();
	base = index_of(0, fact_count);
	publish(registry, base, NULL);
	registry_delta = lw_registry_create();
	delta = index_of(0, DELTA * PER_DIRECTORY < fact_count ? DELTA * PER_DIRECTORY : fact_count / 2);
	publish(registry_delta, delta, index_of(0, fact_count));
}

static inline unsigned look_up(lw_registry *where, const struct query *query)
{
	const struct lw_snapshot *snapshot = lw_registry_enter(where);
	const struct lw_entry *entry = NULL;
	struct lw_index_dir dir;
	for (unsigned i = 0; i < snapshot->count; i++) {
		if (lw_index_find_dir(snapshot->index[i], query->path, query->path_len, &dir) != LW_OK)
			continue;
		lw_index_dir_find(&dir, query->name, query->name_len, &entry);
		break;
	}
	unsigned found = entry && entry->kinds;
	lw_registry_exit(where, snapshot);
	return found;
}

static unsigned our_find(const struct query *query, unsigned count)
{
	unsigned found = 0;
	for (unsigned i = 0; i < count; i++)
		found += look_up(registry, &query[i]);
	return found;
}

static unsigned delta_find(const struct query *query, unsigned count)
{
	unsigned found = 0;
	for (unsigned i = 0; i < count; i++)
		found += look_up(registry_delta, &query[i]);
	return found;
}

static void our_swap(unsigned i)
{
	publish(registry, base, NULL);
}

static void delta_swap(unsigned i)
{
	const struct lw_snapshot *snapshot = lw_registry_enter(registry_delta);
	lw_index *behind = snapshot->index[1];
	publish(registry_delta, delta, behind);
	lw_registry_exit(registry_delta, snapshot);
}

/* Nothing but the registry. */
static unsigned floor_find(const struct query *query, unsigned count)
{
	unsigned found = 0;
	for (unsigned i = 0; i < count; i++) {
		const struct lw_snapshot *snapshot = lw_registry_enter(registry);
		found += snapshot->count;
		lw_registry_exit(registry, snapshot);
	}
	return found;
}

/* --- who takes part --- */

static void nothing(void)
{
}

static const struct contender {
	const char *name;
	void (*make)(void);
	unsigned (*find)(const struct query *query, unsigned count);
	void (*swap)(unsigned i);
	void (*begin)(void), (*end)(void);	/* of each thread; NULL: nothing */
} contenders[] = {
	{ "ladewerk", our_make, our_find, our_swap, NULL, NULL },
	{ "again", nothing, our_find, our_swap, NULL, NULL }, /* how far a measurement is from itself */
	{ "ladewerk, delta in front", nothing, delta_find, delta_swap, NULL, NULL },
	{ "enter and exit alone", nothing, floor_find, our_swap, NULL, NULL },
	{ "mutex + hash", table_make, mutex_find, mutex_swap, NULL, NULL },
	{ "rwlock + hash", nothing, rwlock_find, rwlock_swap, NULL, NULL },
#ifdef LW_HAVE_URCU
	{ "rculfhash (memb)", lfht_make, lfht_find, lfht_swap, urcu_memb_register_thread, urcu_memb_unregister_thread },
#endif
#ifdef LW_HAVE_PYTHON
	{ "PyDict (GIL)", dict_make, dict_find, dict_swap, NULL, NULL },
#endif
};
enum { CONTENDERS = sizeof(contenders) / sizeof(*contenders) };

/* --- one sample --- */

struct sample {
	const struct contender *contender;
	pthread_barrier_t start;
	_Atomic bool stop;
};

struct reader {
	struct sample *sample;
	pthread_t thread;
	unsigned first;
	uint64_t lookups, missed;
	int64_t wall_ns, cpu_ns;
	long sleeps;
};

static int64_t thread_cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static long sleeps(void)
{
	struct rusage usage;
	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

static void *read_on(void *arg)
{
	struct reader *reader = arg;
	const struct contender *contender = reader->sample->contender;
	if (contender->begin)
		contender->begin();
	unsigned at = reader->first;
	contender->find(&queries[at], BATCH);
	pthread_barrier_wait(&reader->sample->start);
	int64_t wall = now_ns(), cpu = thread_cpu_ns();
	long before = sleeps();
	while (!atomic_load_explicit(&reader->sample->stop, memory_order_relaxed)) {
		reader->missed += BATCH - contender->find(&queries[at], BATCH);
		reader->lookups += BATCH;
		at = (at + BATCH) % QUERIES;
	}
	reader->sleeps = sleeps() - before;
	reader->cpu_ns = thread_cpu_ns() - cpu;
	reader->wall_ns = now_ns() - wall;
	if (contender->end)
		contender->end();
	return NULL;
}

static unsigned swap_for(const struct contender *contender, unsigned swaps)
{
	unsigned done = 0;
	int64_t end = now_ns() + (int64_t)milliseconds * 1000000;
	for (int64_t left; (left = end - now_ns()) > 0;) {
		int64_t us = swaps ? 1000000 / swaps : left / 1000 + 1;
		usleep((useconds_t)(us < left / 1000 + 1 ? us : left / 1000 + 1));
		if (swaps)
			contender->swap(done++);
	}
	return done;
}

static void measure(const struct contender *contender, unsigned threads, unsigned swaps, unsigned round)
{
	struct sample sample = { .contender = contender };
	struct reader reader[THREADS_MAX] = {{0}}, all = {0};
	pthread_barrier_init(&sample.start, NULL, threads + 1);
	for (unsigned i = 0; i < threads; i++) {
		reader[i] = (struct reader){ .sample = &sample, .first = i * (QUERIES / THREADS_MAX) };
		check(pthread_create(&reader[i].thread, NULL, read_on, &reader[i]) == 0, "thread");
	}
	pthread_barrier_wait(&sample.start);
	unsigned done = swap_for(contender, swaps);
	atomic_store_explicit(&sample.stop, true, memory_order_relaxed);
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(reader[i].thread, NULL);
		all.lookups += reader[i].lookups;
		all.missed += reader[i].missed;
		all.cpu_ns += reader[i].cpu_ns;
		all.sleeps += reader[i].sleeps;
		all.wall_ns = reader[i].wall_ns > all.wall_ns ? reader[i].wall_ns : all.wall_ns;
	}
	pthread_barrier_destroy(&sample.start);
	check(all.missed == 0 || contender->find == floor_find, contender->name);
	printf("%s\t%u\t%u\t%u\t%llu\t%lld\t%lld\t%ld\t%u\n", contender->name, threads, swaps, round, (unsigned long long)all.lookups,
		(long long)all.wall_ns, (long long)all.cpu_ns, all.sleeps, done);
	fflush(stdout);
}

/* --- facts and queries --- */

static char *print(const char *format, unsigned a)
{
	char *text = malloc(TEXT);
	check(text, "memory");
	snprintf(text, TEXT, format, a);
	return text;
}

static void make_facts(void)
{
	facts = calloc(fact_count, sizeof(*facts));
	check(facts, "memory");
	const char *path = NULL;
	for (unsigned i = 0; i < fact_count; i++) {
		if (i % PER_DIRECTORY == 0)
			path = print("/usr/lib/python3/site-packages/package_%05u/inner", i / PER_DIRECTORY);
		char *name = print("module_%07u", i);
		facts[i] = (struct fact){ path, name, (uint16_t)strlen(path), (uint16_t)strlen(name), i + 1 };
	}
}

/* The texts lie in the order in which they are asked: reading a question is not what is measured. */
static void make_queries(void)
{
	uint64_t seed = 7;
	char *text = malloc((size_t)QUERIES * 2 * TEXT);
	queries = calloc(QUERIES, sizeof(*queries));
	check(text && queries, "memory");
	for (unsigned i = 0; i < QUERIES; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		const struct fact *fact = &facts[(seed >> 33) % fact_count];
		struct query *query = &queries[i];
		*query = query_of(fact);
		query->path = memcpy(text, fact->path, fact->path_len);
		query->name = memcpy(text + fact->path_len, fact->name, fact->name_len);
		text += fact->path_len + fact->name_len;
#ifdef LW_HAVE_PYTHON
		query->path_str = str(query->path, query->path_len);
		query->name_str = str(query->name, query->name_len);
#endif
	}
}

int main(int argc, char **argv)
{
	static const unsigned threads[] = { 1, 2, THREADS_MAX };
	unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 5;
	fact_count = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
	milliseconds = argc > 3 ? (unsigned)atoi(argv[3]) : milliseconds;
	unsigned first = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
	if (argc > 6 || fact_count < 2 * PER_DIRECTORY || fact_count > 4999999 || fact_count % PER_DIRECTORY || !rounds || !milliseconds) {
		fprintf(stderr, "usage: bench_registry NAMES (100 to 4999950, a multiple of 50) [ROUNDS [MS [FIRST [CONTENDER]]]]\n");
		return 2;
	}
#ifdef LW_HAVE_PYTHON
	Py_InitializeEx(0);
#endif
	make_facts();
	make_queries();
	for (unsigned c = 0; c < CONTENDERS; c++)
		contenders[c].make();
#ifdef LW_HAVE_PYTHON
	PyThreadState *state = PyEval_SaveThread();
#endif
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned t = 0; t < sizeof(threads) / sizeof(*threads); t++)
			for (unsigned swaps = 0; swaps <= 100; swaps += 100)
				for (unsigned c = 0; c < CONTENDERS; c++) {
					const struct contender *turn = &contenders[(c + round + first) % CONTENDERS];
					if (argc < 6 || strcmp(argv[5], turn->name) == 0)
						measure(turn, threads[t], swaps, round);
				}
#ifdef LW_HAVE_PYTHON
	PyEval_RestoreThread(state);
#endif
	return 0;
}
