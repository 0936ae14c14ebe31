/* SPDX-License-Identifier: MIT */
/*
 * Processes that append, compact, read and are killed in one cache directory at the same time.
 *
 *     appenders   32 processes; every append that was answered with 0 must be found afterwards
 *     compactors  merge the newest files all the while, which leaves older ones; a segment that appears between their list and their removal must survive
 *     readers     load all the while; a fact that was there before must be there in every load, and no file refused
 *     forks       a child that was forked during a compaction must not keep the lock
 *     kills       SIGKILL at each step of a compaction, and at random moments of appending; what is left must be usable
 *
 *     appender                         compactor
 *                                      list {base-1, seg-2}; merge them
 *     rename seg-3
 *                                      rename base-2; unlink base-1, seg-2      (the control lists again here)
 *
 * Controls: a compaction that removes whatever is there when it is done loses appends; one that removes before its base has
 * its name loses everything to a kill, and shows readers an empty directory. Both must be noticed.
 *
 * This file includes store.c, so that it can reach its steps; the library's copy is not linked.
 */
#include "store.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct lw_keydir;
static void at_step(const char *step, int dir, struct lw_keydir *list);
#define LW_STORE_STEP(step, dir, list) at_step(step, dir, (struct lw_keydir *)(list))
#define LW_STORE_FLOOR 4096	/* so that there are tiers: most merges leave the base alone */
#include "../../core/store.c"

enum { APPENDERS = 32, APPENDS = 12, BASE_FACTS = 500, COMPACTORS = 2, READERS = 2, CONTROL_ROUNDS = 20 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { RANDOM_KILLS = 40 };
#else
enum { RANDOM_KILLS = 150 };
#endif

static enum { SOUND, REMOVES_WHAT_IT_HAS_NOT_MERGED, REMOVES_FIRST } variant;
static const char *kill_at;		/* die at this step ... */
static unsigned kill_after;		/* ... the n-th time */
static pid_t *fork_into;		/* fork a child that lives on, in the middle of a compaction */
static char place[256];

/* Shared with the children. */
static struct shared {
	_Atomic bool stop;
	_Atomic unsigned loads, refused, incomplete, compactions, errors;
	_Atomic unsigned acknowledged;	/* by the process that is going to be killed */
} *shared;

static void remove_all_listed_now(int dir)
{
	struct lw_keydir now;
	int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (lw_keydir_read(again, &now))
		abort();
	for (unsigned i = 0; i < now.files; i++)
		if (now.entry[i].kind == LW_KEYDIR_SEGMENT)
			unlinkat(dir, now.entry[i].name, 0);
	lw_keydir_clear(&now);
	close(again);
}

static void at_step(const char *step, int dir, struct lw_keydir *list)
{
	if (variant == REMOVES_WHAT_IT_HAS_NOT_MERGED && strcmp(step, "written") == 0)
		remove_all_listed_now(dir);
	if (variant == REMOVES_FIRST && strcmp(step, "merged") == 0)
		for (unsigned i = 0; i < list->files; i++)
			unlinkat(dir, list->entry[i].name, 0);
	if (fork_into && strcmp(step, "merged") == 0 && (*fork_into = fork()) == 0) {
		alarm(280);	/* should the test end early */
		pause();
		_exit(0);
	}
	if (kill_at && strcmp(step, kill_at) == 0 && --kill_after == 0)
		raise(SIGKILL);
}

/* ---- helpers ---- */

static void die(const char *what, int err)
{
	fprintf(stderr, "store: %s: %s\n", what, strerror(-err));
	_exit(1);
}

static lw_store *open_store(void)
{
	struct lw_store_config config = { .place = place, .key = { 1, 2 }, .prefix_owner = geteuid() };
	char reason[LW_STORE_REASON];
	lw_store *store;
	int err = lw_store_open(&config, &store, reason);

	if (err || !lw_store_writable(store)) {
		fprintf(stderr, "store: %s\n", reason);
		die("open", err);
	}
	return store;
}

static struct lw_hash128 fact_key(unsigned fact)
{
	return lw_hash128(&fact, sizeof(fact));
}

static lw_build *facts(unsigned first, unsigned count)
{
	lw_build *build = lw_build_create();

	for (unsigned fact = first; fact < first + count; fact++) {
		char code[300];
		memset(code, (int)fact, sizeof(code));
		if (lw_build_file(build, fact_key(fact), fact + 1, fact, 0, code, sizeof(code), true))
			abort();
	}
	return build;
}

static bool found(lw_index *const *index, unsigned count, unsigned fact)
{
	const struct lw_file_record *file;
	const void *code;
	size_t len;

	for (unsigned i = 0; i < count; i++)
		if (lw_index_find_file(index[i], fact_key(fact), &file) == LW_OK && file->stamp == fact + 1
		 && lw_index_code(index[i], file, &code, &len) == LW_OK && len == 300 && *(const char *)code == (char)fact)
			return true;
	return false;
}

static unsigned missing(lw_store *store, unsigned first, unsigned count, unsigned *refused)
{
	char reason[LW_STORE_REASON];
	unsigned indexes, lost = 0;
	lw_index **index;
	int err = lw_store_load(store, &index, &indexes, refused, reason);

	if (err)
		die("load", err);
	if (*refused)
		fprintf(stderr, "store: %s\n", reason);
	for (unsigned fact = first; fact < first + count; fact++)
		lost += !found(index, indexes, fact);
	close_all(index, indexes);
	return lost;
}

/* An append that is refused because too many segments wait for compaction may be repeated. */
static void append_facts(lw_store *store, unsigned first, unsigned count)
{
	lw_build *build = facts(first, count);
	int err;

	while ((err = lw_store_append(store, build)) == -EBUSY)
		usleep(1000);
	if (err)
		die("append", err);
	lw_build_destroy(build);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

/* A fresh directory whose base holds facts 0 to BASE_FACTS - 1. */
static void begin(void)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(place, sizeof(place), "%s/ladewerk-race-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(place))
		die("mkdtemp", -errno);
	memset(shared, 0, sizeof(*shared));
	lw_store *store = open_store();
	append_facts(store, 0, BASE_FACTS);
	lw_store_started(store);
	lw_store_close(store);
}

static void end(void)
{
	nftw(place, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

typedef void child_fn(unsigned number);

static pid_t start(child_fn *fn, unsigned number)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid)
		return pid;
	fn(number);
	_exit(0);
}

static void join_child(pid_t pid)
{
	int status;

	waitpid(pid, &status, 0);
	if (status)
		atomic_fetch_add(&shared->errors, 1);
}

/* ---- append, compact and read at the same time ---- */

static void appender(unsigned number)
{
	lw_store *store = open_store();

	for (unsigned i = 0; i < APPENDS; i++)
		append_facts(store, BASE_FACTS + number * APPENDS + i, 1);
	lw_store_close(store);
}

static void compactor(unsigned number)
{
	lw_store *store = open_store();

	while (!atomic_load(&shared->stop)) {
		int err = lw_store_compact(store, number % 2);
		if (err && err != -EWOULDBLOCK)
			die("compact", err);
		atomic_fetch_add(&shared->compactions, !err);
		usleep(500);
	}
	lw_store_close(store);
}

static void reader(unsigned number)
{
	lw_store *store = open_store();
	unsigned refused;

	while (!atomic_load(&shared->stop)) {
		bool incomplete = missing(store, 0, BASE_FACTS, &refused) > 0;
		atomic_fetch_add(&shared->incomplete, incomplete);
		atomic_fetch_add(&shared->refused, refused);
		atomic_fetch_add(&shared->loads, 1);
	}
	lw_store_close(store);
}

/* Returns the number of facts lost. */
static unsigned melee(void)
{
	pid_t busy[APPENDERS], idle[COMPACTORS + READERS];
	unsigned refused;

	begin();
	for (unsigned i = 0; i < COMPACTORS + READERS; i++)
		idle[i] = start(i < COMPACTORS ? compactor : reader, i);
	for (unsigned i = 0; i < APPENDERS; i++)
		busy[i] = start(appender, i);
	for (unsigned i = 0; i < APPENDERS; i++)
		join_child(busy[i]);
	atomic_store(&shared->stop, true);
	for (unsigned i = 0; i < COMPACTORS + READERS; i++)
		join_child(idle[i]);

	lw_store *store = open_store();
	unsigned lost = missing(store, 0, BASE_FACTS + APPENDERS * APPENDS, &refused);
	int err = lw_store_compact(store, true);
	if (err)
		die("last compaction", err);
	unsigned lost_after = missing(store, 0, BASE_FACTS + APPENDERS * APPENDS, &refused);
	lw_store_close(store);
	end();
	return lost > lost_after ? lost : lost_after;
}

static int test_melee(void)
{
	unsigned lost = melee();

	printf("store: %u appends, %u compactions, %u loads: %u lost, %u loads incomplete, %u files refused, %u errors\n",
		APPENDERS * APPENDS, shared->compactions, shared->loads, lost, shared->incomplete, shared->refused, shared->errors);
	return lost || shared->incomplete || shared->refused || shared->errors || !shared->loads || !shared->compactions;
}

static int control_removes_unmerged(void)
{
	unsigned rounds = 0, lost = 0;

	variant = REMOVES_WHAT_IT_HAS_NOT_MERGED;
	while (!lost && rounds++ < CONTROL_ROUNDS)
		lost = melee();
	variant = SOUND;
	printf("store: control that removes what it has not merged: %s (%u rounds, %u lost)\n", lost ? "caught" : "NOT caught", rounds, lost);
	return !lost;
}

/* ---- killed at each step of a compaction ---- */

static void compact_and_die(unsigned number)
{
	lw_store *store = open_store();
	lw_store_compact(store, true);
}

/* Whether a compaction that is killed at STEP (the N-th time) leaves all facts, and the next one works. */
static bool survives(const char *step, unsigned n)
{
	unsigned refused, segments = 5, status;

	begin();
	lw_store *store = open_store();
	for (unsigned i = 0; i < segments; i++)
		append_facts(store, BASE_FACTS + i, 1);
	kill_at = step;
	kill_after = n;
	waitpid(start(compact_and_die, 0), (int *)&status, 0);
	kill_at = NULL;
	if (!WIFSIGNALED(status))
		die("the compaction was not killed", 0);

	bool good = missing(store, 0, BASE_FACTS + segments, &refused) == 0 && !refused;
	variant = SOUND;
	good = good && lw_store_compact(store, true) == 0;
	good = good && missing(store, 0, BASE_FACTS + segments, &refused) == 0 && !refused;
	lw_store_close(store);
	end();
	return good;
}

static int test_kill_steps(void)
{
	static const struct { const char *step; unsigned n; } at[] = {
		{ "merged", 1 }, { "written", 1 }, { "removing", 1 }, { "removing", 3 }, { "removing", 6 },
	};
	int bad = 0;

	for (unsigned i = 0; i < sizeof(at) / sizeof(*at); i++) {
		bool good = survives(at[i].step, at[i].n);
		printf("store: killed at '%s' %u: %s\n", at[i].step, at[i].n, good ? "nothing lost" : "LOST");
		bad |= !good;
	}
	return bad;
}

static int control_removes_first(void)
{
	variant = REMOVES_FIRST;
	bool caught = !survives("merged", 1);
	variant = SOUND;
	printf("store: control that removes first: %s\n", caught ? "caught" : "NOT caught");
	return !caught;
}

/* A worker forked while another thread compacts has the lock's descriptor too, for as long as it lives. */
static int test_fork_during_compaction(void)
{
	pid_t child = 0;

	begin();
	lw_store *store = open_store();
	append_facts(store, BASE_FACTS, 1);
	append_facts(store, BASE_FACTS + 1, 1);
	fork_into = &child;
	int err = lw_store_compact(store, true);
	fork_into = NULL;
	if (!child)
		die("there was nothing to compact", err);
	append_facts(store, BASE_FACTS + 2, 1);
	if (!err)
		err = lw_store_compact(store, false);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	lw_store_close(store);
	end();
	printf("store: compaction while a child forked in the last one lives: %s\n", err ? strerror(-err) : "good");
	return err != 0;
}

/* ---- killed anywhere ---- */

static void append_for_ever(unsigned number)
{
	lw_store *store = open_store();

	for (unsigned i = 0; ; i++) {
		append_facts(store, BASE_FACTS + i, 1);
		atomic_store(&shared->acknowledged, i + 1);
	}
}

/* On a busy machine that takes a while. */
static void await_append(void)
{
	for (unsigned ms = 0; ms < 2000 && !atomic_load(&shared->acknowledged); ms++)
		usleep(1000);
}

static int test_random_kills(void)
{
	unsigned lost = 0, refused = 0, acknowledged = 0;
	unsigned seed = (unsigned)time(NULL);

	for (unsigned i = 0; i < RANDOM_KILLS; i++) {
		unsigned now_refused;
		begin();
		pid_t pid = start(append_for_ever, 0);
		if (i % 2)
			await_append();
		usleep(500 + (unsigned)rand_r(&seed) % 12000);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		lw_store *store = open_store();
		lost += missing(store, 0, BASE_FACTS + shared->acknowledged, &now_refused);
		refused += now_refused;
		acknowledged += shared->acknowledged;
		append_facts(store, 1000000, 1);
		if (lw_store_compact(store, true))
			lost++;
		lost += missing(store, 0, BASE_FACTS + shared->acknowledged, &now_refused);
		lw_store_close(store);
		end();
	}
	printf("store: %u random kills, %u appends before them: %u lost, %u files refused\n", RANDOM_KILLS, acknowledged, lost, refused);
	return lost || refused || !acknowledged;
}

int main(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap", -errno);
	return test_melee() | control_removes_unmerged() | test_kill_steps() | control_removes_first()
		| test_fork_during_compaction() | test_random_kills();
}
