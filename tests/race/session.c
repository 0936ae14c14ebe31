/* SPDX-License-Identifier: MIT */
/*
 * Four threads import, learn, flush and invalidate through one session while a fifth edits the sources by renaming new ones over them, and
 * the main thread forks. Every source says which version it is, and so does its code:
 *
 *     importer                         editor
 *     resolve -> stamp S
 *                                      rename version 8 over version 7
 *     code of stamp S -> "7"
 *     stat -> not S: proves nothing
 *     stat -> S: the source must say 7 as well
 *
 * In the child only the forking thread exists: it must find no lock held by those that do not, nothing to store, and go on.
 *
 * The control is the same run with the session's mutex left out: session.c is compiled into this program with a lock that can be
 * switched off. The program runs itself so and expects the sanitizer to object; without one it is skipped.
 */
#include "../core/tree.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sched.h>
#include <sys/wait.h>

static bool unlocked;	/* constant once threads run */
#define pthread_mutex_lock(mutex) (unlocked ? 0 : pthread_mutex_lock(mutex))
#define pthread_mutex_unlock(mutex) (unlocked ? 0 : pthread_mutex_unlock(mutex))
#include "../../core/session.c"
#undef pthread_mutex_lock
#undef pthread_mutex_unlock

#if defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { THREADS = 4, FILES = 8, LONG = 40, FORKS = 25, ROUNDS = 1500, LIMIT_S = 280 };

static char root[PATH_MAX];
static lw_session *session;
static struct lw_path_entry entry[LONG];	/* the first holds the sources */
static _Atomic bool stop;
static _Atomic unsigned resolved, served, proven, wrong, edits, frozen;

static void write_version(unsigned file, unsigned version)
{
	char temporary[PATH_MAX + 32], path[PATH_MAX + 32], text[32];
	snprintf(temporary, sizeof temporary, "%s/.new", entry[0].path);
	snprintf(path, sizeof path, "%s/m%u.py", entry[0].path, file);
	snprintf(text, sizeof text, "%08u", version);
	tree_write(AT_FDCWD, temporary, text);
	TREE_CHECK(rename(temporary, path) == 0);
}

/* The version that the source at PATH has while its stamp is STAMP; false if it has another by now. */
static bool version_under(const char *path, uint64_t stamp, char text[9])
{
	struct lw_stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool same = lw_stat_fd(fd, &st) == 0 && lw_stamp(&st) == stamp && read(fd, text, 8) == 8;
	close(fd);
	text[8] = '\0';
	return same;
}

static void check_code(const struct lw_hit *hit, const struct lw_code *code)
{
	char text[9];
	atomic_fetch_add_explicit(&served, 1, memory_order_relaxed);
	if (!version_under(hit->path, lw_stamp(&hit->stat), text))
		return;
	atomic_fetch_add_explicit(&proven, 1, memory_order_relaxed);
	if (code->len == 8 && memcmp(code->data, text, 8) == 0)
		return;
	fprintf(stderr, "%s says %s, its code %.*s\n", hit->path, text, (int)code->len, (const char *)code->data);
	atomic_fetch_add_explicit(&wrong, 1, memory_order_relaxed);
}

static lw_view *create_view(bool long_list)
{
	lw_session_enter(session);
	lw_view *view = lw_session_view(session, entry, long_list ? LONG : 3, false);
	lw_session_leave(session);
	return view;
}

static void destroy_view(lw_view *view)
{
	lw_session_enter(session);
	lw_session_view_destroy(session, view);
	lw_session_leave(session);
}

static bool is_pending(void)
{
	lw_session_enter(session);
	bool pending = lw_session_pending(session);
	lw_session_leave(session);
	return pending;
}

static int resolve_name(lw_view *view, const char *name, size_t len, struct lw_hit *hit)
{
	lw_session_enter(session);
	int error = lw_session_resolve_quickly(session, view, 0, name, len, hit);
	lw_session_leave(session);
	return error == -EAGAIN ? lw_session_resolve(session, view, 0, name, len, hit) : error;
}

/* As the extension does: by the stamp, else by other means, else compile and learn. */
static void import(lw_view *view, unsigned file)
{
	char name[16], text[9];
	struct lw_hit hit;
	struct lw_code code;
	bool stock;
	int len = snprintf(name, sizeof name, "m%u", file);
	if (resolve_name(view, name, (size_t)len, &hit) || hit.kind != LW_HIT_MODULE) {
		fprintf(stderr, "%s was not found\n", name);
		atomic_fetch_add_explicit(&wrong, 1, memory_order_relaxed);
		return;
	}
	atomic_fetch_add_explicit(&resolved, 1, memory_order_relaxed);
	/* Frozen does not ask: the code is right by definition. */
	bool asked = hit.asked;
	lw_session_enter(session);
	int result = lw_session_code(session, &hit, &code);
	lw_session_leave(session);
	if (result != LW_OK)
		result = lw_session_acquire(session, &hit, NULL, &code, &stock);
	if (result == LW_OK && asked)
		check_code(&hit, &code);
	lw_session_release(session, &code);
	if (result == LW_OK || !hit.asked || !version_under(hit.path, lw_stamp(&hit.stat), text))
		return;
	lw_session_enter(session);
	lw_session_learn(session, &hit, 0, text, 8);
	lw_session_leave(session);
}

static void miss(lw_view *view)
{
	struct lw_hit hit;
	if (resolve_name(view, "absent", 6, &hit) || hit.kind != LW_HIT_NONE)
		atomic_fetch_add_explicit(&wrong, 1, memory_order_relaxed);
}

static void administer(uint64_t *seed)
{
	struct lw_session_stats stats;
	switch (tree_random(seed) % 16) {
	case 0:
		lw_session_enter(session);
		lw_session_invalidate(session);
		lw_session_leave(session);
		break;
	case 1:
		lw_session_flush(session);
		break;
	case 2:
		lw_session_enter(session);
		lw_session_stats(session, &stats);
		lw_session_leave(session);
		break;
	case 3:
		lw_session_set_freshness(session, LW_FROZEN, false, 0);
		sched_yield();
		lw_session_set_freshness(session, LW_STAT, false, 1000000);
		break;
	case 4:
		lw_session_enter(session);
		atomic_fetch_add_explicit(&frozen, lw_session_freshness(session) == LW_FROZEN, memory_order_relaxed);
		lw_session_leave(session);
		break;
	default:
		if (is_pending())
			lw_session_quiet(session);
	}
}

static void *importer(void *arg)
{
	uint64_t seed = (uintptr_t)arg;
	for (unsigned i = 0; i < ROUNDS || !atomic_load_explicit(&stop, memory_order_relaxed); i++) {
		lw_view *view = create_view(tree_random(&seed) % 2);
		import(view, tree_random(&seed) % FILES);
		import(view, tree_random(&seed) % FILES);
		miss(view);
		destroy_view(view);
		administer(&seed);
	}
	return NULL;
}

/* Pauses let sources grow old enough to be learnt. Every second edit brings version 0 back, which is stored: right by its content. */
static void *editor(void *arg)
{
	for (unsigned version = 1; !atomic_load_explicit(&stop, memory_order_relaxed); version++) {
		write_version(version / 2 % FILES, version % 2 ? version : 0);
		atomic_fetch_add_explicit(&edits, 1, memory_order_relaxed);
		usleep(15 * 1000);
	}
	return NULL;
}

static void import_all(void)
{
	lw_view *view = create_view(true);
	for (unsigned i = 0; i < FILES; i++)
		import(view, i);
	destroy_view(view);
}

static void child(void)
{
	alarm(LIMIT_S);
	if (is_pending())
		_exit(2);
	import_all();
	lw_session_flush(session);
	_exit(atomic_load_explicit(&wrong, memory_order_relaxed) ? 3 : 0);
}

static unsigned fork_often(void)
{
	unsigned bad = 0;
	for (unsigned i = 0; i < FORKS; i++) {
		int status;
		usleep(20 * 1000);
		pid_t pid = fork();
		TREE_CHECK(pid >= 0);
		if (pid == 0)
			child();
		TREE_CHECK(waitpid(pid, &status, 0) == pid);
		if (status) {
			fprintf(stderr, "child %u ended with status %x\n", i, (unsigned)status);
			bad++;
		}
	}
	return bad;
}

static void open_session(void)
{
	static const char *const extension[] = { ".so" };
	static char place[PATH_MAX + 16], reason[LW_STORE_REASON];
	struct lw_session_config config = { .freshness = LW_STAT, .window_ns = 1000000, .pyc_magic = 1, .entry = 1 };
	snprintf(place, sizeof place, "%s/cache", root);
	config.store = (struct lw_store_config){ .place = place, .key = { 1, 2 }, .about = "race", .prefix_owner = geteuid() };
	TREE_CHECK(lw_suffixes_init(&config.suffixes, extension, 1) == 0);
	TREE_CHECK(lw_session_open(&config, &session, reason) == 0);
}

/* In a session of its own: learns what is new, is served what the one before has stored. */
static void import_all_anew(void)
{
	open_session();
	import_all();
	lw_session_close(session);
}

static void set_up(void)
{
	tree_create(root, sizeof root);
	for (unsigned i = 0; i < LONG; i++) {
		char *path;
		TREE_CHECK(asprintf(&path, "%s/d%u", root, i) > 0);
		TREE_CHECK(mkdir(path, 0755) == 0);
		entry[i] = (struct lw_path_entry){ path, (uint32_t)strlen(path) };
	}
	for (unsigned i = 0; i < FILES; i++)
		write_version(i, 0);
	usleep(40 * 1000);
}

static void tear_down(void)
{
	for (unsigned i = 0; i < LONG; i++)
		free((void *)entry[i].path);
	tree_destroy(root);
}

static int race(void)
{
	pthread_t thread[THREADS], editing;
	unsigned bad = 0;
	alarm(LIMIT_S);
	set_up();
	import_all_anew();
	open_session();
	for (uintptr_t i = 0; i < THREADS; i++)
		TREE_CHECK(pthread_create(&thread[i], NULL, importer, (void *)(i + 1)) == 0);
	TREE_CHECK(pthread_create(&editing, NULL, editor, NULL) == 0);
	if (!unlocked)
		bad = fork_often();
	else
		usleep(500 * 1000);
	atomic_store_explicit(&stop, true, memory_order_relaxed);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	pthread_join(editing, NULL);

	struct lw_session_stats stats;
	lw_session_stats(session, &stats);
	lw_session_close(session);
	import_all_anew();
	tear_down();
	unsigned errors = atomic_load_explicit(&wrong, memory_order_relaxed);
	printf("session: %u resolved, %u served, %u of them provably right, %u wrong, %u edits; %llu learnt, %llu dropped, %llu segments, %llu errors; "
		"%u bad children\n", atomic_load_explicit(&resolved, memory_order_relaxed), atomic_load_explicit(&served, memory_order_relaxed),
		atomic_load_explicit(&proven, memory_order_relaxed), errors, atomic_load_explicit(&edits, memory_order_relaxed),
		(unsigned long long)stats.learnt_files, (unsigned long long)stats.dropped, (unsigned long long)stats.segments_written,
		(unsigned long long)stats.write_errors, bad);
	return errors || bad || !stats.learnt_files || !stats.segments_written || !stats.code_content;
}

/* Whether OUTPUT (a pipe that is read to its end) holds a sanitizer's report. */
static bool reported(int output)
{
	static char text[1 << 16];
	size_t fill = 0;
	ssize_t n;
	while ((n = read(output, text + fill, sizeof text - 1 - fill)) > 0)
		fill += (size_t)n;
	while (read(output, (char[4096]){ 0 }, 4096) > 0)
		;
	text[fill] = '\0';
	return strstr(text, "data race") || strstr(text, "use-after-free");
}

static int control(void)
{
	int out[2], status;
	if (!SANITIZED) {
		printf("session: control skipped: without a thread sanitizer a missing lock goes unnoticed\n");
		return 0;
	}
	TREE_CHECK(pipe(out) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		/* Its report must not reach our own output: there it would count as a failure. */
		dup2(out[1], 1);
		dup2(out[1], 2);
		close(out[0]);
		close(out[1]);
		execl("/proc/self/exe", "session", "control", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	bool seen = reported(out[0]);
	close(out[0]);
	waitpid(pid, &status, 0);
	printf("session: control %s\n", seen && status ? "caught" : "NOT caught");
	return !(seen && status);
}

int main(int argc, char **argv)
{
	setlinebuf(stdout);
	unlocked = argc > 1;
	return race() | (unlocked ? 0 : control());
}
