/* SPDX-License-Identifier: MIT */
/*
 * gather: for every backend exactly what lw_content_hash() and lw_pyc_read() say of the same files, one after the other, in the same order; with few
 * descriptors, little memory, system calls that fail and files that change while they are read.
 */
#include "gather.h"
#include "forbid.h"
#include "hash.h"
#include "tree.h"
#include "uring.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/resource.h>

enum { MAGIC = 0x0a0d0dcb, HEADER = LW_PYC_HEADER };

/* --- the calls, which can fail and do things --- */

enum call { STATX, OPENAT, PREAD, CLOSE, CALLS };
static struct {
	_Atomic bool on;
	enum call call;
	unsigned every;			/* each so-many-th call fails; 0: none */
	int error;			/* 0: reads give 3 bytes at most */
	_Atomic unsigned made[CALLS];
	_Atomic int open_now, open_most;
	void (*before_read)(int fd, off_t offset);
} play;

static bool fails(enum call call)
{
	if (!atomic_load(&play.on))
		return false;
	unsigned number = 1 + atomic_fetch_add(&play.made[call], 1);
	errno = play.error;
	return play.every && call == play.call && number % play.every == 0;
}

int statx(int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict out)
{
	return fails(STATX) ? -1 : (int)syscall(SYS_statx, fd, path, flags, mask, out);
}

int openat(int at, const char *path, int flags, ...)
{
	va_list more;
	va_start(more, flags);
	mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
	va_end(more);
	if (fails(OPENAT))
		return -1;
	int fd = (int)syscall(SYS_openat, at, path, flags, mode);
	if (atomic_load(&play.on) && fd >= 0) {
		int now = 1 + atomic_fetch_add(&play.open_now, 1), most = atomic_load(&play.open_most);
		while (now > most && !atomic_compare_exchange_weak(&play.open_most, &most, now))
			;
	}
	return fd;
}

ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
	if (play.before_read)
		play.before_read(fd, offset);
	bool failing = fails(PREAD);
	if (failing && errno)
		return -1;
	return syscall(SYS_pread64, fd, buffer, failing && size > 3 ? 3 : size, offset);
}

int close(int fd)
{
	atomic_fetch_sub(&play.open_now, atomic_load(&play.on));
	return (int)syscall(SYS_close, fd);
}

static void play_failing(enum call call, unsigned every, int error)
{
	memset((void *)play.made, 0, sizeof play.made);
	atomic_store(&play.open_now, 0);
	atomic_store(&play.open_most, 0);
	play.call = call;
	play.every = every;
	play.error = error;
	atomic_store(&play.on, true);
}

static void play_over(void)
{
	atomic_store(&play.on, false);
	play.every = 0;
	play.before_read = NULL;
}

/* --- backends --- */

static const struct backend {
	enum lw_ioq_backend backend;
	unsigned threads;
} backends[] = { { LW_IOQ_POOL, 1 }, { LW_IOQ_POOL, 2 }, { LW_IOQ_POOL, 16 }, { LW_IOQ_POOL, 0 }, { LW_IOQ_AUTO, 0 }, { LW_IOQ_RING, 0 }, { LW_IOQ_RING, 1 } };
enum { BACKENDS = sizeof backends / sizeof *backends, POOLS = 5 };

static size_t usable(void)
{
	return forbid_have_ring() ? BACKENDS : POOLS;
}

/* --- sources --- */

enum { SOURCES = 1500 };
static char root[PATH_MAX];
static int dir;
static char *source[SOURCES], *pyc[SOURCES];
static size_t count;

static const char *path_of(void *arg, size_t number)
{
	return source[number];
}

static int pyc_of(void *arg, size_t number, char *out, size_t size)
{
	if (strlen(pyc[number]) >= size)
		return -ENAMETOOLONG;
	strcpy(out, pyc[number]);
	return 0;
}

static char *join(const char *name, const char *tail)
{
	char *path;
	TREE_CHECK(asprintf(&path, "%s/%s%s", root, name, tail) > 0);
	return path;
}

/* A source NAME, whether it is there or not. */
static size_t add(const char *name)
{
	TREE_CHECK(count < SOURCES);
	source[count] = join(name, ".py");
	pyc[count] = join(name, ".pyc");
	return count++;
}

static void write_file(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	TREE_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

static void write_source(size_t number, size_t size, int fill)
{
	char *data = malloc(size + 1);
	memset(data, fill, size);
	write_file(source[number], data, size);
	free(data);
}

/* Of SIZE bytes, header included. */
static void write_pyc(size_t number, uint32_t magic, uint32_t flags, size_t size)
{
	struct stat st;
	char *data = calloc(1, size + HEADER);
	TREE_CHECK(data && stat(source[number], &st) == 0);
	const uint32_t header[4] = { magic, flags, (uint32_t)st.st_mtim.tv_sec, (uint32_t)st.st_size };
	memcpy(data, header, sizeof header);
	memset(data + HEADER, (int)('A' + number % 26), size);
	write_file(pyc[number], data, size);
	free(data);
}

enum kind {
	GOOD, BIG, NO_PYC, OTHER_MAGIC, HASHED, OTHER_SOURCE, SHORT, EMPTY_PYC, PYC_IS_DIR, PYC_IS_FIFO, PYC_DANGLES, DOUBTED,
	MISSING, IS_DIR, IS_FIFO, DANGLES, EMPTY, HUGE, HUGE_PYC, HEADER_ONLY, LONG_PYC_PATH, KINDS
};

/* Things that a source and its .pyc can be, before they have come of age ... */
static void make_source(enum kind kind, size_t number)
{
	switch (kind) {
	case MISSING:
		break;
	case IS_DIR:
		TREE_CHECK(mkdir(source[number], 0755) == 0);
		break;
	case IS_FIFO:
		TREE_CHECK(mkfifo(source[number], 0644) == 0);
		break;
	case DANGLES:
		TREE_CHECK(symlink("nowhere", source[number]) == 0);
		break;
	case EMPTY:
		write_source(number, 0, 0);
		break;
	case BIG:
		write_source(number, 700000, (int)('a' + number % 26));
		break;
	case HUGE:
		write_source(number, 1, 'x');
		TREE_CHECK(truncate(source[number], (off_t)LW_PYC_LIMIT + 1) == 0);
		break;
	default:
		write_source(number, 10 + number, (int)('a' + number % 26));
	}
	if (kind == DOUBTED)
		write_pyc(number, MAGIC, 0, 200);
}

/* ... and after. */
static void make_pyc(enum kind kind, size_t number)
{
	switch (kind) {
	case GOOD:
	case EMPTY:
		write_pyc(number, MAGIC, 0, 300 + number);
		break;
	case BIG:
		write_pyc(number, MAGIC, 0, 500000);
		break;
	case OTHER_MAGIC:
		write_pyc(number, MAGIC + 1, 0, 200);
		break;
	case HASHED:
		write_pyc(number, MAGIC, 1, 200);
		break;
	case OTHER_SOURCE:
		write_pyc(number, MAGIC, 0, 200);
		TREE_CHECK(pwrite(open(pyc[number], O_WRONLY | O_CLOEXEC), "x", 1, 12) == 1);
		break;
	case SHORT:
		write_pyc(number, MAGIC, 0, 15);
		break;
	case EMPTY_PYC:
		write_pyc(number, MAGIC, 0, 0);
		break;
	case HEADER_ONLY:
		write_pyc(number, MAGIC, 0, 16);
		break;
	case PYC_IS_DIR:
		TREE_CHECK(mkdir(pyc[number], 0755) == 0);
		break;
	case PYC_IS_FIFO:
		TREE_CHECK(mkfifo(pyc[number], 0644) == 0);
		break;
	case PYC_DANGLES:
		TREE_CHECK(symlink("nowhere", pyc[number]) == 0);
		break;
	case HUGE_PYC:
		write_pyc(number, MAGIC, 0, 200);
		TREE_CHECK(truncate(pyc[number], (off_t)LW_PYC_LIMIT + 1) == 0);
		break;
	case LONG_PYC_PATH:
		pyc[number] = realloc(pyc[number], 2 * PATH_MAX);
		memset(pyc[number], 'x', PATH_MAX + 10);
		pyc[number][PATH_MAX + 10] = '\0';
		break;
	default:
		break;
	}
}

/* COUNT of them at random, each kind among them; the names are not all UTF-8. */
static void make_sources(size_t number, uint64_t *seed)
{
	static enum kind kind[SOURCES];
	for (size_t i = 0; i < number; i++) {
		char name[32];
		kind[i] = i < KINDS ? (enum kind)i : tree_random(seed) % 3 ? GOOD : (enum kind)(tree_random(seed) % KINDS);
		snprintf(name, sizeof name, i % 5 ? "m%zu" : "\xff\xe4%zu", i);
		make_source(kind[i], add(name));
	}
	/* A .pyc is believed when it is younger by 50 ms and 2 us for each byte. */
	usleep(2 * 1000 * 1000);
	for (size_t i = 0; i < number; i++)
		make_pyc(kind[i], i);
	usleep(50 * 1000);
}

static void set_up(void)
{
	tree_create(root, sizeof root);
	dir = tree_open(AT_FDCWD, root);
}

static void tear_down(void)
{
	while (count) {
		free(source[--count]);
		free(pyc[count]);
	}
	close(dir);
	tree_destroy(root);
}

TestSuite(gather, .init = set_up, .fini = tear_down, .timeout = 120);

/* --- results --- */

struct outcome {
	int error;
	bool racy;
	uint64_t stamp, content, code;	/* of the code its hash */
	enum lw_pyc_verdict verdict;
	size_t code_size;
};

static struct outcome expected[SOURCES], got[SOURCES];
static size_t delivered;
static size_t stop_at;

static int deliver(void *arg, const struct lw_gather_result *result)
{
	if (result->number != delivered)
		abort();
	struct outcome *to = &got[delivered++];
	*to = (struct outcome){ .error = result->error, .racy = result->racy, .verdict = LW_PYC_NONE };
	if (!result->error) {
		to->stamp = lw_stamp(&result->stat);
		to->content = result->content;
	}
	if (!result->error && !result->racy)
		to->verdict = result->verdict;
	if (result->code) {
		to->code = lw_hash64(result->code, result->code_size);
		to->code_size = result->code_size;
	}
	return stop_at && delivered == stop_at ? 7 : 0;
}

/* As the index is built without any of this. */
static void one_after_the_other(void)
{
	for (size_t i = 0; i < count; i++) {
		struct outcome *to = &expected[i];
		struct lw_stat st;
		int64_t now = lw_now_ns();
		char path[PATH_MAX];
		void *data;
		size_t size;
		*to = (struct outcome){ .verdict = LW_PYC_NONE };
		to->error = lw_content_hash(source[i], &st, &to->content);
		if (to->error) {
			to->content = 0;
			continue;
		}
		to->stamp = lw_stamp(&st);
		to->racy = lw_stat_racy(&st, now);
		if (to->racy)
			continue;
		to->error = pyc_of(NULL, i, path, sizeof path);
		if (to->error) {
			to->stamp = to->content = 0;
			continue;
		}
		to->verdict = lw_pyc_read(path, MAGIC, &st, &data, &size);
		if (to->verdict == LW_PYC_GOOD) {
			to->code = lw_hash64((char *)data + HEADER, size - HEADER);
			to->code_size = size - HEADER;
			free(data);
		}
	}
}

static struct lw_gather_job job_for(const struct backend *backend)
{
	delivered = 0;
	return (struct lw_gather_job){ .backend = backend->backend, .threads = backend->threads, .magic = MAGIC, .count = count, .source = path_of, .pyc = pyc_of,
		.deliver = deliver };
}

static unsigned differences(const char *what)
{
	unsigned different = 0;
	for (size_t i = 0; i < count; i++) {
		const struct outcome *a = &got[i], *b = &expected[i];
		bool same = a->error == b->error && a->racy == b->racy && a->stamp == b->stamp && a->content == b->content && a->verdict == b->verdict
			&& a->code == b->code && a->code_size == b->code_size;
		if (!same && !different)
			fprintf(stderr, "%s: %s: error %d, verdict %d, should be %d, %d\n", what, source[i], a->error, a->verdict, b->error, b->verdict);
		different += !same;
	}
	return different;
}

static unsigned count_fds(void)
{
	unsigned fds = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		fds++;
	closedir(d);
	return fds;
}

Test(gather, as_one_after_the_other)
{
	uint64_t seed = 5;
	unsigned verdicts[4] = { 0 }, errors = 0;
	make_sources(600, &seed);
	one_after_the_other();
	for (size_t i = 0; i < count; i++) {
		verdicts[expected[i].verdict]++;
		errors += expected[i].error != 0;
	}
	cr_assert(verdicts[LW_PYC_GOOD] > 200 && verdicts[LW_PYC_NONE] > 20 && verdicts[LW_PYC_DOUBTED] > 3 && verdicts[LW_PYC_HASHED] > 3 && errors > 10,
		"the sources are what they should be: %u %u %u %u %u", verdicts[0], verdicts[1], verdicts[2], verdicts[3], errors);
	for (size_t b = 0; b < usable(); b++) {
		static const unsigned windows[] = { 0, 1, 2, 7, 4096, 100000 };
		for (size_t w = 0; w < sizeof windows / sizeof *windows; w++) {
			struct lw_gather_job job = job_for(&backends[b]);
			struct lw_gather_stats stats;
			unsigned fds = count_fds();
			job.window = windows[w];
			cr_assert_eq(lw_gather(&job, &stats), 0);
			cr_assert_eq(stats.delivered, count);
			cr_expect_eq(differences("as one after the other"), 0, "backend %zu, window %u", b, windows[w]);
			cr_expect(stats.descriptors <= (windows[w] ? windows[w] : 128) && stats.descriptors >= 1);
			cr_expect_eq(count_fds(), fds);
			cr_expect_str_eq(stats.backend, backends[b].backend == LW_IOQ_RING ? "ring" : "pool");
			memset(got, 0xee, sizeof got);
		}
	}
}

Test(gather, no_sources)
{
	struct lw_gather_stats stats;
	for (size_t b = 0; b < usable(); b++) {
		struct lw_gather_job job = job_for(&backends[b]);
		cr_expect(lw_gather(&job, &stats) == 0 && stats.delivered == 0);
	}
}

Test(gather, racy)
{
	/* Written this moment: the reference says so as well, unless the machine is slow. */
	struct lw_gather_stats stats;
	for (size_t b = 0; b < usable(); b++) {
		bool racy = false;
		if (!count)
			add("m");
		for (int try = 0; try < 50 && !racy; try++) {
			struct lw_gather_job job = job_for(&backends[b]);
			write_source(0, 100, 'a' + try % 26);
			cr_assert_eq(lw_gather(&job, &stats), 0);
			cr_assert(got[0].error == 0 && got[0].verdict == LW_PYC_NONE);
			racy = got[0].racy;
		}
		cr_expect(racy);
	}
}

/* --- bounds --- */

Test(gather, few_descriptors)
{
	uint64_t seed = 6;
	make_sources(400, &seed);
	one_after_the_other();
	for (size_t b = 0; b < usable(); b++) {
		for (unsigned room = 3; room < 40; room += 12) {
			struct lw_gather_job job = job_for(&backends[b]);
			struct lw_gather_stats stats;
			struct rlimit old, low;
			/* A ring has two of its own. */
			unsigned free_ones = 0, wanted = room + (backends[b].backend == LW_IOQ_RING ? 3 : 0);
			getrlimit(RLIMIT_NOFILE, &old);
			low = old;
			for (low.rlim_cur = 0; free_ones < wanted; low.rlim_cur++)
				free_ones += fcntl((int)low.rlim_cur, F_GETFD) < 0;
			setrlimit(RLIMIT_NOFILE, &low);
			int result = lw_gather(&job, &stats);
			setrlimit(RLIMIT_NOFILE, &old);
			cr_assert_eq(result, 0, "backend %zu: %d, %s", b, result, stats.why);
			cr_expect_eq(differences("few descriptors"), 0, "backend %zu, %u descriptors", b, room);
			/* One counts as open until it is known to be closed. */
			cr_expect_leq(stats.window, wanted + 4, "%u of %u", stats.window, wanted);
		}
	}
}

Test(gather, no_descriptor_at_all)
{
	uint64_t seed = 7;
	make_sources(60, &seed);
	for (size_t b = 0; b < POOLS; b++) {
		struct lw_gather_job job = job_for(&backends[b]);
		struct lw_gather_stats stats;
		play_failing(OPENAT, 1, EMFILE);
		int result = lw_gather(&job, &stats);
		play_over();
		cr_assert_eq(result, 0);
		for (size_t i = 0; i < count; i++)
			cr_expect_eq(got[i].error, -EMFILE, "%zu: %d", i, got[i].error);
		cr_expect_eq(stats.window, 1);
	}
}

Test(gather, little_memory)
{
	enum { EACH = 1 << 20, MEMORY = 5 << 20 };
	for (size_t i = 0; i < 60; i++) {
		char name[8];
		snprintf(name, sizeof name, "m%zu", i);
		write_source(add(name), i % 3 ? EACH : 1000, 'a' + (int)i % 26);
	}
	usleep(2500 * 1000);
	for (size_t i = 0; i < count; i++)
		write_pyc(i, MAGIC, 0, i % 4 ? EACH : 500);
	one_after_the_other();
	cr_assert_eq(expected[1].verdict, LW_PYC_GOOD);
	for (size_t b = 0; b < usable(); b++) {
		static const size_t memories[] = { 1, 3 * EACH, MEMORY };
		for (size_t m = 0; m < sizeof memories / sizeof *memories; m++) {
			struct lw_gather_job job = job_for(&backends[b]);
			struct lw_gather_stats stats;
			job.memory = memories[m];
			cr_assert_eq(lw_gather(&job, &stats), 0);
			cr_expect_eq(differences("little memory"), 0, "backend %zu, memory %zu", b, memories[m]);
			cr_expect_leq(stats.memory, memories[m] + 2 * (EACH + HEADER + 1), "%zu bytes held", stats.memory);
		}
		struct lw_gather_job job = job_for(&backends[b]);
		struct lw_gather_stats stats;
		cr_assert_eq(lw_gather(&job, &stats), 0);
		cr_expect_gt(stats.memory, MEMORY + 3 * EACH, "the control: without a bound more is held, %zu", stats.memory);
	}
}

Test(gather, little_memory_and_few_descriptors)
{
	enum { EACH = 200000 };
	for (size_t i = 0; i < 100; i++) {
		char name[8];
		snprintf(name, sizeof name, "m%zu", i);
		write_source(add(name), EACH, 'a' + (int)i % 26);
	}
	usleep(600 * 1000);
	for (size_t i = 0; i < count; i++)
		write_pyc(i, MAGIC, 0, EACH);
	one_after_the_other();
	for (size_t b = 0; b < POOLS; b++) {
		for (unsigned every = 2; every < 5; every++) {
			struct lw_gather_job job = job_for(&backends[b]);
			struct lw_gather_stats stats;
			job.memory = 2 * EACH;
			play_failing(OPENAT, every, EMFILE);
			int result = lw_gather(&job, &stats);
			play_over();
			cr_assert_eq(result, 0);
			unsigned failed = 0;
			/* The last try of one can fail as well, where nothing of ours is open. */
			for (size_t i = 0; i < count; i++) {
				bool same = got[i].error == -EMFILE || got[i].verdict == LW_PYC_NONE || memcmp(&got[i].content, &expected[i].content, sizeof got[i].content) == 0;
				cr_assert(same);
				failed += got[i].error != 0;
			}
			cr_expect_lt(failed, count / 2);
		}
	}
}

/* --- stopping and failing --- */

Test(gather, stopped)
{
	uint64_t seed = 8;
	make_sources(300, &seed);
	for (size_t b = 0; b < usable(); b++) {
		for (stop_at = 1; stop_at < 300; stop_at += 61) {
			struct lw_gather_job job = job_for(&backends[b]);
			struct lw_gather_stats stats;
			unsigned fds = count_fds();
			cr_expect_eq(lw_gather(&job, &stats), 7);
			cr_expect(stats.delivered == stop_at && delivered == stop_at);
			cr_expect_eq(count_fds(), fds, "backend %zu leaves descriptors", b);
		}
		stop_at = 0;
	}
}

Test(gather, failing_calls)
{
	static const struct { enum call call; int error; } table[] = {
		{ OPENAT, EIO }, { OPENAT, EACCES }, { OPENAT, ENOMEM }, { STATX, EIO }, { STATX, ENOMEM }, { PREAD, EIO }, { PREAD, ENOMEM }, { PREAD, ESTALE },
	};
	uint64_t seed = 9;
	make_sources(200, &seed);
	one_after_the_other();
	for (size_t t = 0; t < sizeof table / sizeof *table; t++) {
		for (size_t b = 0; b < POOLS; b++) {
			struct lw_gather_job job = job_for(&backends[b]);
			struct lw_gather_stats stats;
			unsigned failed = 0, spared = 0;
			unsigned fds = count_fds();
			play_failing(table[t].call, 7, table[t].error);
			int result = lw_gather(&job, &stats);
			play_over();
			cr_assert(result == 0 && delivered == count);
			for (size_t i = 0; i < count; i++) {
				bool hit = got[i].error == -table[t].error && expected[i].error != got[i].error;
				/* Of a .pyc that cannot be read nothing is believed. */
				bool lost = !got[i].error && got[i].content == expected[i].content && got[i].verdict == LW_PYC_NONE && expected[i].verdict != LW_PYC_NONE;
				bool same = got[i].error == expected[i].error && got[i].content == expected[i].content && got[i].code == expected[i].code;
				cr_assert(hit || lost || same, "case %zu, %s: error %d", t, source[i], got[i].error);
				failed += hit || lost;
				spared += same;
			}
			cr_expect(failed > 5 && spared > 50, "case %zu: %u failed, %u did not", t, failed, spared);
			cr_expect_eq(count_fds(), fds);
		}
	}
}

Test(gather, interrupted_and_short)
{
	static const struct { enum call call; int error; unsigned every; } table[] = {
		{ OPENAT, EINTR, 2 }, { STATX, EINTR, 2 }, { PREAD, EINTR, 2 }, { PREAD, 0, 5 },
	};
	uint64_t seed = 10;
	make_sources(100, &seed);
	one_after_the_other();
	for (size_t t = 0; t < sizeof table / sizeof *table; t++) {
		for (size_t b = 0; b < POOLS; b++) {
			struct lw_gather_job job = job_for(&backends[b]);
			struct lw_gather_stats stats;
			play_failing(table[t].call, table[t].every, table[t].error);
			int result = lw_gather(&job, &stats);
			play_over();
			cr_assert_eq(result, 0);
			cr_expect_eq(differences("interrupted or short"), 0, "case %zu, backend %zu", t, b);
		}
	}
}

/* --- files that change --- */

static void edit_in_place(int fd, off_t offset)
{
	char path[64], target[PATH_MAX] = "";
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ssize_t len = readlink(path, target, sizeof target - 1);
	/* Of every third source the content, between stat and read. Its size stays. */
	if (len < 3 || strcmp(target + len - 3, ".py") != 0 || offset || target[len - 4] % 3)
		return;
	int other = (int)syscall(SYS_openat, AT_FDCWD, target, O_WRONLY | O_CLOEXEC, 0);
	TREE_CHECK(other >= 0 && pwrite(other, "edited", 6, 0) == 6);
	syscall(SYS_close, other);
}

static bool grows_late;
static void grow_in_place(int fd, off_t offset)
{
	char path[64], target[PATH_MAX] = "";
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ssize_t len = readlink(path, target, sizeof target - 1);
	if (len < 4 || strcmp(target + len - 4, ".pyc") != 0 || !offset == grows_late)
		return;
	int other = (int)syscall(SYS_openat, AT_FDCWD, target, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
	TREE_CHECK(other >= 0 && write(other, "more", 4) == 4);
	syscall(SYS_close, other);
}

static void make_plain_sources(size_t number)
{
	for (size_t i = 0; i < number; i++) {
		char name[16];
		snprintf(name, sizeof name, "m%zu", i);
		write_source(add(name), 1000, 'a' + (int)i % 26);
	}
	usleep(100 * 1000);
	for (size_t i = 0; i < number; i++)
		write_pyc(i, MAGIC, 0, 2000);
	usleep(50 * 1000);
}

Test(gather, edited_between_stat_and_read)
{
	struct lw_gather_stats stats;
	make_plain_sources(90);
	struct lw_gather_job job = job_for(&backends[1]);
	play.before_read = edit_in_place;
	int result = lw_gather(&job, &stats);
	play_over();
	cr_assert_eq(result, 0);
	for (size_t i = 0; i < count; i++) {
		char last = source[i][strlen(source[i]) - 4];
		cr_expect_eq(got[i].error, last % 3 ? 0 : -ESTALE, "%s: %d", source[i], got[i].error);
		cr_expect_eq(got[i].verdict, last % 3 ? LW_PYC_GOOD : LW_PYC_NONE);
	}
}

Test(gather, grown_while_read)
{
	struct lw_gather_stats stats;
	make_plain_sources(30);
	/* Before it is read, and when all that was expected has been. */
	for (int late = 0; late < 2; late++) {
		for (size_t i = 0; i < count; i++)
			write_pyc(i, MAGIC, 0, 2000);
		struct lw_gather_job job = job_for(&backends[2]);
		grows_late = late;
		play.before_read = grow_in_place;
		int result = lw_gather(&job, &stats);
		play_over();
		cr_assert_eq(result, 0);
		for (size_t i = 0; i < count; i++)
			cr_expect(got[i].error == 0 && got[i].verdict == LW_PYC_NONE, "%zu", i);
	}
}

static _Atomic bool over;
static void *edit_all_the_time(void *arg)
{
	for (int fill = 'a'; !atomic_load(&over); fill = fill == 'z' ? 'a' : fill + 1) {
		char data[1000];
		memset(data, fill, sizeof data);
		for (size_t i = 0; i < count; i += 2) {
			/* In one write: content is of one letter. */
			int fd = (int)syscall(SYS_openat, AT_FDCWD, source[i], O_WRONLY | O_CLOEXEC, 0);
			TREE_CHECK(fd >= 0 && pwrite(fd, data, sizeof data, 0) == sizeof data);
			syscall(SYS_close, fd);
		}
	}
	return NULL;
}

Test(gather, edited_all_the_time)
{
	struct lw_gather_stats stats;
	pthread_t thread;
	unsigned found_out = 0;
	make_plain_sources(60);
	one_after_the_other();
	cr_assert_eq(pthread_create(&thread, NULL, edit_all_the_time, NULL), 0);
	for (unsigned round = 0; round < 10; round++) {
		for (size_t b = 0; b < usable(); b++) {
			struct lw_gather_job job = job_for(&backends[b]);
			cr_assert_eq(lw_gather(&job, &stats), 0);
			for (size_t i = 0; i < count; i++) {
				bool noticed = got[i].error == -ESTALE || got[i].racy;
				found_out += i % 2 == 0 && noticed;
				/* What is handed out as settled is what it was when its stamp was taken: nobody had edited it yet, or not any more. */
				cr_assert(i % 2 == 0 || (!noticed && got[i].content == expected[i].content && got[i].verdict == LW_PYC_GOOD));
				cr_assert(i % 2 || noticed || got[i].verdict != LW_PYC_GOOD || got[i].stamp == expected[i].stamp);
			}
		}
	}
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	cr_expect_gt(found_out, 100);
}

/* --- the ring --- */

static int ring_forbidden(void)
{
	struct lw_gather_stats stats;
	struct lw_gather_job job = job_for(&(struct backend){ LW_IOQ_RING, 0 });
	if (forbid(SYS_io_uring_setup, SECCOMP_RET_ERRNO | EPERM) || lw_gather(&job, &stats) != -EPERM || !strstr(stats.why, "seccomp") || delivered)
		return 1;
	job = job_for(&(struct backend){ LW_IOQ_AUTO, 0 });
	return lw_gather(&job, &stats) || differences("AUTO where the ring is forbidden");
}

Test(gather, the_ring_is_forbidden)
{
	uint64_t seed = 11;
	int status;
	FORBID_NEEDS(forbid_have_ring(), "io_uring cannot be used here");
	make_sources(100, &seed);
	one_after_the_other();
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(ring_forbidden());
	cr_assert(waitpid(pid, &status, 0) == pid && status == 0, "%d", status);
}
