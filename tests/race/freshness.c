/* SPDX-License-Identifier: MIT */
/*
 * A daemon (core/daemon.c) in a process of its own, which is killed and started again; somebody else who changes files; and a program that changes files as well,
 * and looks its modules up (dirs.h) as a client (core/client.c) while all that goes on:
 *
 *     change: number := begun            look up: LEAST := done
 *             one system call                     lw_dirs_begin(), ...: what is found, without a look at it if the daemon is believed
 *             number := done                      MOST := begun
 *
 * What each file is like after its Nth change is known (its size is N, mostly). So what was found must be what some number from LEAST to MOST stands for: all changes that had returned
 * before the lookup began are seen. Of files that the program changes itself there is one such number.
 *
 * The controls break one thing each, here or in the daemon, and open the window in which that matters. Each must be caught.
 */
#include "build.h"
#include "dirs.h"
#include "journal.h"
#include "keeper.h"
#include "stamp.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../core/tree.h"

enum broken { SOUND, ODD_LATE, NO_POLL, NO_GENERATION, OVERFLOW_IGNORED, ARM_LATE, NO_RESCAN, FAILED_AS_NOW, TOLD_EARLY, BROKEN, RACY_BELIEVED };
static const char *const names[] = {
	[ODD_LATE] = "generation odd after the read", [NO_POLL] = "generation without poll", [NO_GENERATION] = "poll without generation",
	[OVERFLOW_IGNORED] = "overflow ignored", [ARM_LATE] = "armed after the read", [NO_RESCAN] = "no rescan after a crash",
	[FAILED_AS_NOW] = "a snapshot that failed counts as new", [TOLD_EARLY] = "told within the batch",
	[RACY_BELIEVED] = "stamps of directories believed that were changed within the same tick",
};
static enum broken broken;
enum { WINDOW_US = 300, FEW = 20000, MANY = 1000000 };

static char scratch[PATH_MAX];

/* The sources under test, with what stands between them and what they call. */

struct lw_journal;
/* What happens between the client's looks at the generation and at the records. */
static void (*meanwhile)(const struct lw_journal *journal);

static bool is_even(const struct lw_journal *journal, uint64_t generation)
{
	bool even = broken == NO_GENERATION || generation % 2 == 0;
	if (even && meanwhile)
		meanwhile(journal);
	return even;
}
#define LW_JOURNAL_IS_EVEN(generation) is_even(journal, generation)
#define LW_JOURNAL_SIZE (64 * 1024)
#include "../../core/journal.c"

static int arm_it(lw_watch *watch, const char *path, size_t len);
static int arm_listed(lw_watch *watch, const char *path, size_t len);
static int build_dir(lw_build *build, const char *path, size_t len, uint64_t stamp, uint16_t flags, const struct lw_listing *listing, const uint64_t *stamps);
#define fold keeper_fold
#define create keeper_create
#define map keeper_map
#define lw_watch_arm arm_it
#define lw_watch_arm_listed arm_listed
#define lw_build_dir_stamped build_dir
#include "../../core/keeper.c"
#undef fold
#undef create
#undef map
#undef lw_watch_arm
#undef lw_watch_arm_listed
#undef lw_build_dir_stamped

static lw_journal *late; /* a generation that should be odd by now */
static lw_watch *armed_late;

static void odd_at_last(lw_journal *journal)
{
	if (late != journal)
		return;
	usleep(WINDOW_US);
	lw_journal_begin(journal);
	late = NULL;
}

static void begin_batch(lw_journal *journal)
{
	if (broken == ODD_LATE)
		late = journal;
	else
		lw_journal_begin(journal);
}

static void add_change(lw_journal *journal, const struct lw_change *change)
{
	odd_at_last(journal);
	if (broken == NO_GENERATION)
		usleep(WINDOW_US);
	lw_journal_add(journal, change);
	if (broken == TOLD_EARLY)
		atomic_store_explicit(&journal->head->end, journal->end, memory_order_release);
}

static void end_journal(lw_journal *journal)
{
	odd_at_last(journal);
	lw_journal_end(journal);
}

static int arm_it(lw_watch *watch, const char *path, size_t len)
{
	armed_late = watch;
	return broken == ARM_LATE ? 0 : lw_watch_arm(watch, path, len);
}

static int build_dir(lw_build *build, const char *path, size_t len, uint64_t stamp, uint16_t flags, const struct lw_listing *listing, const uint64_t *stamps)
{
	if (broken == ARM_LATE) {
		usleep(WINDOW_US);
		lw_watch_arm(armed_late, path, len);
	}
	return lw_build_dir_stamped(build, path, len, stamp, broken == RACY_BELIEVED ? flags & (uint16_t)~LW_DIR_RACY : flags, listing, stamps);
}

struct listener {
	lw_watch_sink *sink;
	void *arg;
};

static void pass_on(void *arg, const struct lw_watch_event *event)
{
	const struct listener *to = arg;
	if (event->kind != LW_WATCH_ALL)
		to->sink(to->arg, event);
}

static int64_t drain(lw_watch *watch, unsigned limit, lw_watch_sink *sink, void *arg)
{
	struct listener to = { sink, arg };
	int64_t count = broken == OVERFLOW_IGNORED ? lw_watch_drain(watch, limit, pass_on, &to) : lw_watch_drain(watch, limit, sink, arg);
	if (broken == TOLD_EARLY && count)
		usleep(10 * WINDOW_US); /* there is more to come in this batch */
	return count;
}

/* The last snapshot, for the next daemon. */

static const char *saved_path(void)
{
	static char path[PATH_MAX + 8];
	snprintf(path, sizeof path, "%s/saved", scratch);
	return path;
}

static void copy_file(int from, int to)
{
	char data[1 << 14];
	ssize_t got;
	for (off_t at = 0; (got = pread(from, data, sizeof data, at)) > 0; at += got)
		TREE_CHECK(pwrite(to, data, (size_t)got, at) == got);
}

/* As a whole or not at all: we may be killed meanwhile. */
static void save(const struct file *file)
{
	char draft[PATH_MAX + 16];
	snprintf(draft, sizeof draft, "%s.new", saved_path());
	int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	TREE_CHECK(fd >= 0);
	copy_file(file->fd, fd);
	close(fd);
	TREE_CHECK(rename(draft, saved_path()) == 0);
}

static void restore(const lw_keeper *keeper, struct file *file)
{
	int fd = open(saved_path(), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	file_close(file);
	file->fd = memfd_create("old", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	copy_file(fd, file->fd);
	close(fd);
	TREE_CHECK(seal(file->fd) == 0 && lw_index_open(file->fd, &keeper->config.key, &file->index, NULL) == 0);
}

static unsigned folds; /* of this daemon */

/* Some fail, after everything has been read. */
static int fold_or_fail(lw_keeper *keeper)
{
	int error = lw_keeper_fold(keeper);
	if (!error && ++folds % 5 == 0) {
		file_close(keeper->replaces_base ? &keeper->new_base : &keeper->new_delta);
		keeper->failed = true;
		return -EIO;
	}
	if (error || !keeper->replaces_base)
		return error;
	if (broken == NO_RESCAN && folds == 1)
		restore(keeper, &keeper->new_base);
	save(&keeper->new_base);
	return 0;
}

/* The marks of the work that failed are kept, so that only the position is wrong. */
static bool end_or_fail(lw_keeper *keeper)
{
	bool done = lw_keeper_end(keeper);
	return done || (broken == FAILED_AS_NOW && keeper->base.index);
}

#define lw_journal_begin begin_batch
#define lw_journal_add add_change
#define lw_journal_end end_journal
#define lw_watch_drain drain
#define lw_keeper_fold fold_or_fail
#define lw_keeper_end end_or_fail
#define LW_DAEMON_PEACE_NS (1 * MS)
#define LW_DAEMON_IMPATIENCE_NS (3 * MS)
#define client daemons_client
#define on_mount daemons_on_mount
#include "../../core/daemon.c"
#undef client
#undef on_mount
#undef lw_journal_begin
#undef lw_journal_add
#undef lw_journal_end

/* What the daemon's watch has to say is not asked for; it comes first of two. */
static int poll_some(struct pollfd *fds, nfds_t count, int ms)
{
	int found = poll(fds, count, ms);
	if (broken == NO_POLL && count == 2 && fds[0].revents) {
		fds[0].revents = 0;
		found--;
	}
	return found;
}
#define poll poll_some
#include "../../core/client.c"
#undef poll

/* Files, and what they are like after so many changes */

enum { PLAIN = 8, MOVING = 4, FILES = PLAIN + MOVING, OWN = 2, LEN = 64 };
/* ABOUT_READ: is removed just before a daemon reads its directory, and is there again just after. */
enum { ABSENT = -1, ABOUT_READ = 0 };

static struct shared {
	_Atomic uint64_t begun[FILES], done[FILES];
} *shared;

/* Every second file is the program's own. */
static bool is_own(unsigned i)
{
	return i % OWN == 0;
}

static const char *dir_of(unsigned i)
{
	static char path[FILES][PATH_MAX + LEN];
	if (i < PLAIN)
		snprintf(path[i], sizeof path[i], "%s/tree/%s", scratch, is_own(i) ? "own" : "other");
	else
		snprintf(path[i], sizeof path[i], "%s/tree/moving%u", scratch, i);
	return path[i];
}

static const char *name_of(unsigned i)
{
	static char name[FILES][LEN];
	snprintf(name[i], sizeof name[i], "m%u", i);
	return name[i];
}

static const char *path_of(unsigned i)
{
	static char path[FILES][PATH_MAX + 3 * LEN];
	snprintf(path[i], sizeof path[i], "%.4100s/%.60s.py", dir_of(i), name_of(i));
	return path[i];
}

static int64_t size_after(unsigned i, uint64_t n)
{
	if (i >= PLAIN)
		return n % 4 == 2 ? 0 : ABSENT;
	return n % 8 == 6 ? ABSENT : n % 8 == 7 ? 0 : (int64_t)n;
}

static void write_file(const char *path, int flags, uint64_t size)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);
	TREE_CHECK(fd >= 0);
	TREE_CHECK(!size || pwrite(fd, "#", 1, (off_t)size - 1) == 1);
	close(fd);
}

static void write_aside(unsigned i, uint64_t size)
{
	char aside[PATH_MAX + 2 * LEN];
	snprintf(aside, sizeof aside, "%s/%u.new", dir_of(i), i);
	write_file(aside, O_CREAT | O_TRUNC, size);
	TREE_CHECK(rename(aside, path_of(i)) == 0);
}

static void change_plain(unsigned i, uint64_t n)
{
	switch (n % 8) {
	case 5:
		return write_aside(i, n);
	case 6:
		TREE_CHECK(unlink(path_of(i)) == 0);
		return;
	case 7:
		return write_file(path_of(i), O_CREAT | O_EXCL, 0);
	default:
		return write_file(path_of(i), 0, n);
	}
}

static void change_moving(unsigned i, uint64_t n)
{
	switch (n % 4) {
	case 1:
		TREE_CHECK(mkdir(dir_of(i), 0755) == 0);
		return;
	case 2:
		return write_file(path_of(i), O_CREAT | O_EXCL, 0);
	case 3:
		TREE_CHECK(unlink(path_of(i)) == 0);
		return;
	default:
		TREE_CHECK(rmdir(dir_of(i)) == 0);
	}
}

static void change(unsigned i)
{
	uint64_t n = 1 + atomic_load_explicit(&shared->begun[i], memory_order_relaxed);
	atomic_store_explicit(&shared->begun[i], n, memory_order_seq_cst);
	if (i < PLAIN)
		change_plain(i, n);
	else
		change_moving(i, n);
	atomic_store_explicit(&shared->done[i], n, memory_order_seq_cst);
}

static bool is_ready; /* in a daemon */

/* The first walk is about to read it. */
static int arm_listed(lw_watch *watch, const char *path, size_t len)
{
	const char *dir = dir_of(ABOUT_READ);
	if (broken == RACY_BELIEVED && !is_ready && len == strlen(dir) && memcmp(path, dir, len) == 0)
		change(ABOUT_READ);
	return lw_watch_arm_listed(watch, path, len);
}

static void make_files(void)
{
	char path[PATH_MAX + LEN];
	for (const char *const *name = (const char *const[]){ "", "/own", "/other", NULL }; *name; name++) {
		snprintf(path, sizeof path, "%s/tree%s", scratch, *name);
		TREE_CHECK(mkdir(path, 0755) == 0);
	}
	memset(shared, 0, sizeof *shared);
	for (unsigned i = 0; i < PLAIN; i++)
		write_file(path_of(i), O_CREAT | O_EXCL, 0);
}

/* Other processes */

/* None outlives us. */
static pid_t spawn(void)
{
	pid_t pid = fork();
	TREE_CHECK(pid >= 0);
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void end_it(pid_t pid)
{
	kill(pid, SIGKILL);
	TREE_CHECK(waitpid(pid, NULL, 0) == pid);
}

static pid_t start_writer(void)
{
	uint64_t seed = 7;
	pid_t pid = spawn();
	while (pid == 0) {
		unsigned i = tree_random(&seed) % FILES;
		if (!is_own(i))
			change(i);
		if (tree_random(&seed) % 4 == 0)
			usleep(tree_random(&seed) % 500);
		if (tree_random(&seed) % 128 == 0)
			usleep(10000); /* nobody tells of what was missed before */
	}
	return pid;
}

static struct sockaddr_un address = { .sun_family = AF_UNIX };
static struct lw_suffixes suffixes;

static void say_ready(void *arg, const lw_daemon *daemon)
{
	is_ready = true;
	TREE_CHECK(write(*(int *)arg, "", 1) == 1);
}

static int listen_anew(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	unlink(address.sun_path);
	TREE_CHECK(fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 16) == 0);
	return fd;
}

static int be_daemon(enum lw_watch_backend backend, int ready)
{
	char root[PATH_MAX + LEN], why[LW_WATCH_WHY];
	int stop[2];
	lw_daemon *daemon;
	snprintf(root, sizeof root, "%s/tree", scratch);
	const char *const roots[] = { root };
	const struct lw_daemon_config config = { .suffixes = &suffixes, .backend = backend, .roots = roots, .count = 1, .threads = 1, .listener = listen_anew(),
		.ready = say_ready, .arg = &ready };
	TREE_CHECK(pipe(stop) == 0);
	int error = lw_daemon_create(&config, &daemon, why);
	if (!error)
		error = lw_daemon_run(daemon, stop[0]);
	fprintf(stderr, "freshness: the daemon has failed: %s\n", strerror(-error));
	return 1;
}

static pid_t start_daemon(enum lw_watch_backend backend)
{
	int ready[2];
	char byte;
	TREE_CHECK(pipe(ready) == 0);
	pid_t pid = spawn();
	if (pid == 0)
		_exit(be_daemon(backend, ready[1]));
	close(ready[1]);
	TREE_CHECK(read(ready[0], &byte, 1) == 1);
	close(ready[0]);
	return pid;
}

/* The program */

struct program {
	enum lw_watch_backend backend;
	struct lw_dirs dirs;
	pid_t daemon, writer;
	uint64_t seed, rounds, stale, kills, floods;
	uint64_t lookups, looks;	/* LOOKS: those that were answered by a look at the file system */
};

static struct client *client_of(struct program *p)
{
	return (struct client *)p->dirs.fresh[LW_BY_DAEMON];
}

static unsigned below(struct program *p, unsigned most)
{
	return tree_random(&p->seed) % most;
}

/* Its size, as an import would find it. *STAMP: as the daemon has it, 0: it has not. */
static int64_t find_file(struct program *p, unsigned i, uint64_t *stamp)
{
	const char *place = dir_of(i), *name = name_of(i), *path = path_of(i);
	struct lw_dir *dir = lw_dirs_get(&p->dirs, place, strlen(place));
	const struct lw_entry *entry;
	struct lw_stat st;
	int64_t asked_ns;
	TREE_CHECK(dir && lw_dirs_fresh(&p->dirs, dir) == 0 && lw_dir_find(&p->dirs, dir, name, strlen(name), &entry) == 0);
	if (!entry)
		return ABSENT;
	*stamp = lw_dirs_file_stamp(&p->dirs, dir, entry, path, strlen(path));
	return lw_dirs_file(&p->dirs, dir, path, strlen(path), entry->flags & LW_ENTRY_DOUBT, &st, &asked_ns) ? ABSENT : (int64_t)st.size;
}

static bool could_be(unsigned i, int64_t size, uint64_t least, uint64_t most)
{
	for (uint64_t n = least; n <= most; n++)
		if (size_after(i, n) == size)
			return true;
	return false;
}

/* Only of what nobody has touched meanwhile anything is known. */
static bool is_stamp_wrong(unsigned i, uint64_t stamp, uint64_t least)
{
	struct lw_stat st;
	if (!stamp || lw_stat_at(AT_FDCWD, path_of(i), &st))
		return false;
	return lw_stamp(&st) != stamp && atomic_load_explicit(&shared->begun[i], memory_order_seq_cst) == least;
}

/* Whether the daemon was believed. */
static bool look_up(struct program *p, unsigned i)
{
	uint64_t least = atomic_load_explicit(&shared->done[i], memory_order_seq_cst), stamp = 0;
	lw_dirs_begin(&p->dirs);
	uint64_t looks = p->dirs.stats.statx + p->dirs.stats.listings;
	int64_t size = find_file(p, i, &stamp);
	uint64_t most = atomic_load_explicit(&shared->begun[i], memory_order_seq_cst);
	p->lookups += p->dirs.stats.statx + p->dirs.stats.listings == looks;
	p->looks += p->dirs.stats.statx + p->dirs.stats.listings != looks;
	p->stale += !could_be(i, size, least, most) || is_stamp_wrong(i, stamp, least);
	return p->dirs.trusted;
}

/* Until the daemon has seen it. It need not. And then everything. */
static void look_until_told(struct program *p, unsigned i)
{
	for (unsigned tries = 0; tries < 200 && !look_up(p, i); tries++)
		if (tries % 8 == 7)
			sched_yield();
	for (i = 0; i < FILES; i++)
		look_up(p, i);
}

/* Attach anew, so that a newer snapshot is believed. */
static void start_over(struct program *p)
{
	lw_dirs_clear(&p->dirs);
	drop(client_of(p));
	client_of(p)->retry_ns = 0;
	lw_client_attach(p->dirs.fresh[LW_BY_DAEMON]);
}

static unsigned queue_length(void)
{
	unsigned length = 16384;
	FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
	TREE_CHECK(!file || fscanf(file, "%u", &length) == 1);
	if (file)
		fclose(file);
	return length;
}

/* More than the queue takes, while nobody reads it; and then a change. */
static void flood(struct program *p)
{
	int fd[2];
	char path[PATH_MAX + 2 * LEN];
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/flood%u", dir_of(0), i);
		TREE_CHECK((fd[i] = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) >= 0);
	}
	kill(p->daemon, SIGSTOP);
	TREE_CHECK(waitpid(p->daemon, NULL, WUNTRACED) == p->daemon);
	for (unsigned i = 0, most = queue_length() + 100; i < most; i++)
		TREE_CHECK(pwrite(fd[i % 2], "#", 1, 0) == 1);
	close(fd[0]);
	close(fd[1]);
	change(0);
	look_up(p, 0);
	kill(p->daemon, SIGCONT);
	look_until_told(p, 0);
	p->floods++;
}

/* At any moment of its life. */
static void crash(struct program *p)
{
	usleep(below(p, 3000));
	change(0);
	end_it(p->daemon);
	for (unsigned i = 0; i < FILES; i++) {
		look_up(p, i);
		if (is_own(i))
			change(i);
		look_up(p, i);
	}
	p->daemon = start_daemon(p->backend);
	p->kills++;
	start_over(p);
}

/* Somebody changes the first file, and the daemon is at work. */
static void change_meanwhile(const struct lw_journal *journal)
{
	uint64_t end = lw_journal_position(journal);
	meanwhile = NULL;
	change(0);
	for (unsigned i = 0; i < 100 && lw_journal_position(journal) == end; i++)
		usleep(WINDOW_US / 10);
}

/* Told of it, the program looks; then it is changed once more, in the same batch. */
static void change_twice(struct program *p)
{
	meanwhile = change_meanwhile;
	look_until_told(p, 0);
	meanwhile = NULL;
	change(0);
	look_until_told(p, 0);
}

/* With luck all within a tick. */
static void change_about_read(struct program *p)
{
	end_it(p->daemon);
	while (atomic_load_explicit(&shared->done[ABOUT_READ], memory_order_relaxed) % 8 != 5)
		change(ABOUT_READ);
	p->daemon = start_daemon(p->backend);
	start_over(p);
	look_up(p, ABOUT_READ);
	change(ABOUT_READ);
	look_up(p, ABOUT_READ);
}

static void one_round(struct program *p)
{
	unsigned i = below(p, FILES), often = broken ? 25 : 500;
	p->rounds++;
	/* Without waiting: the next lookup may ask it. */
	client_of(p)->retry_ns = 0;
	if (p->rounds % 16 == 0)
		start_over(p);
	if (p->rounds % often == 0 && (!broken || broken == OVERFLOW_IGNORED))
		flood(p);
	if (p->rounds % often == often / 2 && (!broken || broken == NO_RESCAN))
		crash(p);
	if (p->rounds % 8 == 4 && (!broken || broken == TOLD_EARLY))
		change_twice(p);
	if (broken == RACY_BELIEVED)
		change_about_read(p);
	if (!is_own(i))
		return (void)look_up(p, i);
	if (i >= PLAIN && below(p, 2))
		usleep(below(p, 2000));
	change(i);
	look_until_told(p, i);
}

static void set_up_program(struct program *p, enum lw_watch_backend backend)
{
	*p = (struct program){ .backend = backend, .seed = 42 };
	tree_create(scratch, sizeof scratch);
	snprintf(address.sun_path, sizeof address.sun_path, "%.90s/socket", scratch);
	make_files();
	p->daemon = start_daemon(backend);
	p->writer = start_writer();
	TREE_CHECK(lw_dirs_init(&p->dirs, &suffixes, LW_WATCH) == 0);
	TREE_CHECK((p->dirs.fresh[LW_BY_DAEMON] = lw_client_create(&suffixes, &address)));
}

static void tear_down_program(struct program *p)
{
	end_it(p->writer);
	end_it(p->daemon);
	lw_dirs_destroy(&p->dirs);
	lw_fresh_destroy(p->dirs.fresh[LW_BY_DAEMON]);
	tree_destroy(scratch);
}

/* Until so many lookups were answered without a look, or one that is stale was found. */
static void run(struct program *p, enum lw_watch_backend backend, uint64_t lookups, int64_t most_ns)
{
	int64_t until = lw_monotonic_ns() + most_ns;
	set_up_program(p, backend);
	while (p->lookups < lookups && !p->stale && lw_monotonic_ns() < until)
		one_round(p);
	tear_down_program(p);
}

static bool is_to_be_had(enum lw_watch_backend backend)
{
	lw_watch *watch;
	char root[] = "/tmp", why[LW_WATCH_WHY];
	const char *const paths[] = { root };
	int error = lw_watch_create(backend, paths, 1, &watch, why);
	if (error)
		printf("freshness: %s is not to be had: %s\n", backend == LW_WATCH_FANOTIFY ? "fanotify" : "inotify", *why ? why : strerror(-error));
	lw_watch_destroy(watch);
	return !error;
}

static bool all_is_fresh(enum lw_watch_backend backend, uint64_t lookups)
{
	struct program p;
	broken = SOUND;
	/* fanotify's queue is seldom empty while others write to the same file system. */
	run(&p, backend, lookups, lookups > FEW ? INT64_MAX / 2 : 60 * INT64_C(1000000000));
	printf("freshness: %s: %llu lookups without a look, %llu with one; %llu kills, %llu floods: %llu stale\n", backend == LW_WATCH_FANOTIFY ? "fanotify" : "inotify",
		(unsigned long long)p.lookups, (unsigned long long)p.looks, (unsigned long long)p.kills, (unsigned long long)p.floods, (unsigned long long)p.stale);
	return !p.stale && p.kills && p.floods && p.lookups >= FEW / 4;
}

static bool is_caught(enum lw_watch_backend backend, enum broken how)
{
	struct program p;
	broken = how;
	run(&p, backend, UINT64_MAX, 120 * INT64_C(1000000000));
	printf("freshness: control (%s): %s, after %llu rounds\n", names[how], p.stale ? "caught" : "NOT caught", (unsigned long long)p.rounds);
	return p.stale;
}

/* Whether two changes in a row may leave the times of a directory as they are. */
static bool counts_ticks(const char *place)
{
	bool same = false;
	struct lw_stat st[2];
	int dir = tree_open(AT_FDCWD, place);
	for (unsigned i = 0; i < 100 && !same; i++) {
		for (unsigned n = 0; n < 2; n++) {
			TREE_CHECK(n ? unlinkat(dir, "x", 0) == 0 : mknodat(dir, "x", S_IFREG | 0600, 0) == 0);
			TREE_CHECK(lw_stat_fd(dir, &st[n]) == 0);
		}
		same = lw_stamp(&st[0]) == lw_stamp(&st[1]);
	}
	close(dir);
	return same;
}

/* Where daemon and program do not get through a round within a tick, the control is hardly ever caught. */
#ifdef __SANITIZE_THREAD__
enum { IS_SLOW = true };
#else
enum { IS_SLOW = false };
#endif

/* Where times count in ticks (ramfs, older kernels), what has the same stamp may be another state. */
static bool is_fresh_in_ticks(uint64_t lookups)
{
	char place[PATH_MAX];
	tree_create(place, sizeof place);
	bool mounted = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount("ramfs", place, "ramfs", 0, NULL) == 0, good = true;
	if (mounted && counts_ticks(place)) {
		setenv("TMPDIR", place, 1);
		good = all_is_fresh(LW_WATCH_INOTIFY, lookups) && (IS_SLOW || is_caught(LW_WATCH_INOTIFY, RACY_BELIEVED));
	} else {
		printf("freshness: no file system whose times count in ticks is to be had\n");
	}
	if (mounted)
		umount2(place, MNT_DETACH);
	rmdir(place);
	return good;
}

int main(void)
{
	const char *wish = getenv("LADEWERK_LONG");
	const uint64_t lookups = wish && *wish && *wish != '0' ? MANY : FEW;
	static const char *const extensions[] = { ".so" };
	bool good = lw_suffixes_init(&suffixes, extensions, 1) == 0;
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TREE_CHECK(shared != MAP_FAILED);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (enum lw_watch_backend backend = LW_WATCH_FANOTIFY; backend <= LW_WATCH_INOTIFY; backend++) {
		if (!is_to_be_had(backend))
			continue;
		good &= all_is_fresh(backend, lookups);
		/* The controls break what all backends share; with fanotify some need more luck, for it sees the whole file system. */
		for (enum broken how = SOUND + 1; how < BROKEN && backend == LW_WATCH_INOTIFY; how++)
			good &= is_caught(backend, how);
	}
	if (is_to_be_had(LW_WATCH_INOTIFY))
		good &= is_fresh_in_ticks(lookups);
	return !good;
}
