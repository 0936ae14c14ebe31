/* SPDX-License-Identifier: MIT */
/*
 * watch by inotify: every operation and every turn of the way of watch_ops.h, with the controls that show that less would not do; full queues, limits, file systems
 * that are not believed; numbers that are given again.
 */
#include "watch_ops.h"
#include "watch_private.h"

#include <linux/magic.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

static char root[PATH_MAX];

static void set_up(void)
{
	tree_create(root, sizeof root);
	TREE_CHECK(chdir(root) == 0);
}

static void tear_down(void)
{
	TREE_CHECK(chdir("/") == 0);
	tree_destroy(root);
}

TestSuite(watch_inotify, .init = set_up, .fini = tear_down, .timeout = 120);

/* For many directories, where there is one: on a disk they take their time. */
static void set_up_in_memory(void)
{
	struct statfs fs;
	if (statfs("/dev/shm", &fs) == 0 && fs.f_type == TMPFS_MAGIC && access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 1);
	set_up();
}

static void begin(const char *name)
{
	TREE_CHECK(mkdir(name, 0755) == 0 && chdir(name) == 0);
}

static void end(void)
{
	TREE_CHECK(chdir(root) == 0);
}

static lw_watch *create(void)
{
	return watch_create(LW_WATCH_INOTIFY);
}

static struct lw_watch_stats stats_of(lw_watch *watch)
{
	struct lw_watch_stats stats;
	lw_watch_stats(watch, &stats);
	return stats;
}

/* --- what happens --- */

Test(watch_inotify, operations)
{
	for (size_t i = 0; i < WATCH_OPS; i++) {
		char name[16];
		if (watch_ops[i].ring && !forbid_have_ring())
			continue;
		for (int both = 0; both < 2; both++) {
			snprintf(name, sizeof name, "%zu.%d", i, both);
			begin(name);
			watch_check_op(LW_WATCH_INOTIFY, &watch_ops[i], both);
			end();
		}
	}
}

Test(watch_inotify, way)
{
	for (size_t i = 0; i < WATCH_TURNS; i++) {
		begin(watch_turns[i].name);
		watch_check_turn(LW_WATCH_INOTIFY, &watch_turns[i]);
		end();
	}
}

/* --- controls: less would miss turns --- */

enum { ALL_OF_IT = IN_CREATE | IN_DELETE | IN_MOVE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF, ITSELF = IN_DELETE_SELF | IN_MOVE_SELF };

/* A plain watch on PATH; and, with WAY, one for ITSELF on each of its ancestors and links. */
static int plain_watch(const char *path, bool way)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	char up[PATH_MAX];
	strcpy(up, path);
	WATCH_OK(fd);
	WATCH_OK(inotify_add_watch(fd, path, ALL_OF_IT));
	for (char *slash; way && (slash = strrchr(up, '/')) && slash != up; *slash = '\0')
		WATCH_OK(inotify_add_watch(fd, up, ITSELF | IN_MASK_ADD | IN_DONT_FOLLOW));
	return fd;
}

/* How many turns it does not notice. */
static unsigned count_missed(bool way)
{
	unsigned missed = 0;
	for (size_t i = 0; i < WATCH_TURNS; i++) {
		begin(watch_turns[i].name);
		turn_held = watch_turns[i].held;
		watch_turns[i].prepare();
		int fd = plain_watch(watch_path(watch_turns[i].path), way);
		TREE_CHECK(watch_turns[i].act() == 0);
		missed += !watch_readable(fd);
		close(fd);
		close(op_fd);
		end();
		watch_remove(watch_turns[i].name);
	}
	return missed;
}

Test(watch_inotify, control_without_the_way)
{
	/* Every turn but those of the directory itself, and there the removal of what is open. */
	unsigned missed = count_missed(false);
	cr_assert_geq(missed, WATCH_TURNS * 2 / 3, "%u of %d", missed, (int)WATCH_TURNS);
}

Test(watch_inotify, control_without_the_names_on_the_way)
{
	/* Ancestors and links themselves: what is open is not told of its removal, and targets are not on the way. */
	unsigned missed = count_missed(true);
	cr_assert_geq(missed, 3, "%u of %d", missed, (int)WATCH_TURNS);
	cr_assert_lt(missed, WATCH_TURNS / 2, "%u of %d", missed, (int)WATCH_TURNS);
}

Test(watch_inotify, control_arm_after_read)
{
	lw_watch *watch = create();
	WATCH_OK(mkdir("d", 0755));
	/* The directory is read here: empty. */
	op_write("d/new", "");
	cr_assert_eq(watch_arm(watch, "d"), 0);
	cr_assert(watch_tells_nothing(watch));
	lw_watch_destroy(watch);
}

/* --- what turns while it is armed --- */

/* Something that is done after one of the next calls of inotify_add_watch, which is this program's own. */
static void (*meanwhile)(void);
static unsigned calls_before;

int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	int wd = (int)syscall(SYS_inotify_add_watch, fd, path, mask), error = errno;
	if (meanwhile && !calls_before--) {
		void (*now)(void) = meanwhile;
		meanwhile = NULL;
		now();
		errno = error;
	}
	return wd;
}

static const struct watch_turn *turning;
static lw_watch *turned_watch;

static void turn(void)
{
	TREE_CHECK(turning->act() == 0);
}

static void turn_and_drain(void)
{
	turn();
	watch_drain(turned_watch);
}

/* Turn the way within call CALL of arming. False: there are not so many calls. */
static bool turn_within(const struct watch_turn *it, unsigned call, void (*how)(void))
{
	char path[PATH_MAX], name[PATH_MAX + 8];
	turning = it;
	turn_held = it->held;
	it->prepare();
	strcpy(path, watch_path(it->path));
	snprintf(name, sizeof name, "%s/new", it->path);
	lw_watch *watch = turned_watch = create();
	meanwhile = how;
	calls_before = call;
	int error = lw_watch_arm(watch, path, strlen(path));
	bool done = !meanwhile;
	meanwhile = NULL;
	/* Whoever reads now reads what the path leads to now: it is watched, or in the queue. */
	bool covered = error || watch_covers(watch_drain(watch), path);
	if (!covered && access(it->path, F_OK) == 0) {
		op_write(name, "");
		covered = watch_covers(watch_drain(watch), watch_path(name));
	} else if (!covered) {
		fprintf(stderr, "%s has gone\n", it->path);
	}
	cr_assert(covered, "%s, in call %u", it->name, call);
	/* And again, when nothing turns any more. */
	error = access(it->path, F_OK) ? 0 : lw_watch_arm(watch, path, strlen(path));
	cr_assert_eq(error, 0, "%s, in call %u", it->name, call);
	if (op_fd >= 0)
		close(op_fd);
	lw_watch_destroy(watch);
	return done;
}

Test(watch_inotify, turns_while_it_is_armed, .init = set_up_in_memory)
{
	static void (*const how[])(void) = { turn, turn_and_drain };
	unsigned most = 0;
	for (size_t i = 0; i < 2 * WATCH_TURNS; i++) {
		bool more = true;
		for (unsigned call = 0; more; call++) {
			char name[32];
			snprintf(name, sizeof name, "%zu.%u", i, call);
			begin(name);
			more = turn_within(&watch_turns[i / 2], call, how[i % 2]);
			end();
			most = call > most ? call : most;
		}
	}
	cr_assert_gt(most, 10, "there were calls to meddle with");
}

/* --- several things at once --- */

Test(watch_inotify, gone_and_back)
{
	lw_watch *watch = create();
	make_new("top", "top/d", "top/d/sub");
	cr_assert(watch_arm(watch, "top/d") == 0 && watch_arm(watch, "top/d/sub") == 0);
	/* Moved away and back before anybody looks: who has read meanwhile may have read something else. */
	WATCH_OK(rename("top/d", "top/x"));
	WATCH_OK(rename("top/x", "top/d"));
	cr_assert(watch_covers(watch_drain(watch), watch_path("top/d/sub")));
	cr_assert(watch_arm(watch, "top/d") == 0 && watch_arm(watch, "top/d/sub") == 0);
	op_write("top/d/sub/new", "");
	cr_assert(watch_covers(watch_drain(watch), watch_path("top/d/sub/new")));
	/* Moved away, and looked at before it is back: no longer armed. */
	WATCH_OK(rename("top/d", "top/x"));
	cr_assert(watch_covers(watch_drain(watch), watch_path("top/d/sub")));
	WATCH_OK(rename("top/x", "top/d"));
	watch_drain(watch);
	cr_assert_eq(stats_of(watch).armed, 0);
	cr_assert_eq(stats_of(watch).watches, 0);
	op_write("top/d/sub/other", "");
	cr_assert(watch_tells_nothing(watch));
	/* Armed again it is watched again. */
	cr_assert_eq(watch_arm(watch, "top/d/sub"), 0);
	op_write("top/d/sub/third", "");
	cr_assert(watch_covers(watch_drain(watch), watch_path("top/d/sub/third")));
	lw_watch_destroy(watch);
}

/* Armed already, it is armed without a look; and what is read then is what stands in its place for a moment. */
Test(watch_inotify, read_while_it_is_away)
{
	static const char *const ways[][3] = { { "top/way", "top/aside", "top/other" }, { "link", "aside", "other_link" } };
	make_new("top", "top/way", "top/way/d");
	make_new("top/other", "top/other/d", NULL);
	WATCH_OK(symlink("top/way", "link"));
	WATCH_OK(symlink("top/other", "other_link"));
	op_write("top/other/d/only_here", "");
	for (size_t i = 0; i < 4; i++) {
		lw_watch *watch = create();
		const char *const *way = ways[i / 2];
		char path[64], read[80];
		snprintf(path, sizeof path, "%s/d", way[0]);
		snprintf(read, sizeof read, "%s/d/only_here", way[0]);
		cr_assert_eq(watch_arm(watch, path), 0);
		watch_drain(watch);
		/* By three renames, or by two exchanges. */
		if (i % 2)
			WATCH_OK(rename(way[0], way[1]) == 0 ? rename(way[2], way[0]) : -1);
		else
			WATCH_OK(renameat2(AT_FDCWD, way[0], AT_FDCWD, way[2], RENAME_EXCHANGE));
		cr_assert(watch_arm(watch, path) == 0 && access(read, F_OK) == 0);
		if (i % 2)
			WATCH_OK(rename(way[0], way[2]) == 0 ? rename(way[1], way[0]) : -1);
		else
			WATCH_OK(renameat2(AT_FDCWD, way[0], AT_FDCWD, way[2], RENAME_EXCHANGE));
		cr_assert(access(read, F_OK) != 0 && watch_covers(watch_drain(watch), watch_path(read)), "%zu", i);
		lw_watch_destroy(watch);
	}
}

Test(watch_inotify, replaced_in_one_batch)
{
	lw_watch *watch = create();
	make_new("top", "top/d", "top/d/sub");
	cr_assert(watch_arm(watch, "top") == 0 && watch_arm(watch, "top/d") == 0 && watch_arm(watch, "top/d/sub") == 0);
	for (int i = 0; i < 3; i++) {
		WATCH_OK(rmdir("top/d/sub"));
		WATCH_OK(rmdir("top/d"));
		make_new("top/d", "top/d/sub", NULL);
	}
	const struct watch_seen *seen = watch_drain(watch);
	cr_assert(watch_covers(seen, watch_path("top/d/sub/x")));
	cr_assert_eq(stats_of(watch).armed, 1);
	cr_assert(watch_arm(watch, "top/d") == 0 && watch_arm(watch, "top/d/sub") == 0);
	cr_assert(watch_tells_nothing(watch), "what was late has been read");
	op_write("top/d/sub/new", "");
	cr_assert(watch_covers(watch_drain(watch), watch_path("top/d/sub/new")));
	lw_watch_destroy(watch);
}

/* Armed, replaced and armed again before anybody looks: it is the new one, and the old one is reported. */
Test(watch_inotify, replaced_between_arms)
{
	lw_watch *watch = create();
	make_new("top", "top/way", "top/way/d");
	cr_assert_eq(watch_arm(watch, "top/way/d"), 0);
	WATCH_OK(rename("top/way", "top/old"));
	make_new("top/way", "top/way/d", NULL);
	cr_assert_eq(watch_arm(watch, "top/way"), 0);
	cr_assert(watch_covers(watch_drain(watch), watch_path("top/way/d")));
	cr_assert(watch_arm(watch, "top/way") == 0 && watch_arm(watch, "top/way/d") == 0);
	watch_drain(watch);
	cr_assert_eq(stats_of(watch).armed, 2);
	op_write("top/way/d/new", "");
	cr_assert(watch_covers(watch_drain(watch), watch_path("top/way/d/new")));
	op_write("top/old/d/new", "");
	cr_assert(watch_tells_nothing(watch));
	lw_watch_destroy(watch);
}

/* A sink that arms again what it is told of. */
static void arm_again(void *arg, const struct lw_watch_event *event)
{
	const char *path = watch_path("p/c");
	lw_watch_arm(arg, path, strlen(path));
}

Test(watch_inotify, sink_arms)
{
	lw_watch *watch = create();
	make_new("p", "p/c", NULL);
	cr_assert(watch_arm(watch, "p") == 0 && watch_arm(watch, "p/c") == 0);
	for (int i = 0; i < 100; i++) {
		WATCH_OK(mkdir("p/d", 0755));
		WATCH_OK(i % 3 ? rename("p/d", "p/c") : renameat2(AT_FDCWD, "p/d", AT_FDCWD, "p/c", RENAME_EXCHANGE));
		if (i % 3 == 0)
			WATCH_OK(rmdir("p/d"));
		TREE_CHECK(lw_watch_drain(watch, i % 2, arm_again, watch) > 0);
		while (watch_readable(lw_watch_fd(watch)))
			TREE_CHECK(lw_watch_drain(watch, 0, arm_again, watch) >= 0);
		cr_assert_eq(stats_of(watch).armed, 2, "round %d", i);
		op_write("p/c/x", "");
		cr_assert(watch_covers(watch_drain(watch), watch_path("p/c/x")), "round %d", i);
		WATCH_OK(unlink("p/c/x"));
		watch_drain(watch);
	}
	lw_watch_destroy(watch);
}

/* --- one directory under several paths --- */

Test(watch_inotify, several_paths)
{
	static const char *const paths[] = { "real/d", "one/d", "two/d", "real/../one/d", "real//d", "one" };
	lw_watch *watch = create();
	make_new("real", "real/d", NULL);
	WATCH_OK(symlink("real", "one"));
	WATCH_OK(symlink("one", "two"));
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		cr_assert_eq(watch_arm(watch, paths[i]), 0, "%s", paths[i]);
	cr_assert_eq(stats_of(watch).armed, sizeof paths / sizeof *paths);
	op_write("real/d/new", "");
	const struct watch_seen *seen = watch_drain(watch);
	for (size_t i = 0; i + 1 < sizeof paths / sizeof *paths; i++) {
		char path[PATH_MAX];
		snprintf(path, sizeof path, "%s/new", paths[i]);
		cr_assert(watch_covers(seen, watch_path(path)), "%s", path);
	}
	op_write("real/new", "");
	cr_assert(watch_covers(watch_drain(watch), watch_path("one/new")));
	/* The second link goes: the others stay. */
	WATCH_OK(unlink("two"));
	cr_assert(watch_covers(watch_drain(watch), watch_path("two/d")));
	cr_assert_eq(stats_of(watch).armed, 5);
	/* The first one, with all that leads through it. */
	WATCH_OK(unlink("one"));
	seen = watch_drain(watch);
	cr_assert(watch_covers(seen, watch_path("one/d")) && watch_covers(seen, watch_path("real/../one/d")));
	cr_assert(!watch_covers(seen, watch_path("real/d")));
	cr_assert_eq(stats_of(watch).armed, 2);
	lw_watch_destroy(watch);
}

Test(watch_inotify, disarm)
{
	lw_watch *watch = create();
	make_new("top", "top/d", "top/e");
	WATCH_OK(symlink("top/d", "link"));
	cr_assert(watch_arm(watch, "top/d") == 0 && watch_arm(watch, "top/e") == 0 && watch_arm(watch, "link") == 0);
	const char *path = watch_path("top/e");
	lw_watch_disarm(watch, path, strlen(path));
	lw_watch_disarm(watch, path, strlen(path));
	op_write("top/e/new", "");
	cr_assert(!watch_covers(watch_drain(watch), watch_path("top/e/new")));
	path = watch_path("link");
	lw_watch_disarm(watch, path, strlen(path));
	op_write("top/d/new", "");
	const struct watch_seen *seen = watch_drain(watch);
	cr_assert(watch_covers(seen, watch_path("top/d/new")) && !watch_covers(seen, watch_path("link/new")));
	/* Nothing is left over, neither nodes nor watches. */
	lw_watch_disarm(watch, "", 0);
	watch_drain(watch);
	cr_assert_eq(stats_of(watch).armed, 0);
	cr_assert_eq(stats_of(watch).watches, 0);
	lw_watch_destroy(watch);
}

/* What leads to a directory that is disarmed loses its way, and is told so. */
Test(watch_inotify, disarm_of_a_target)
{
	lw_watch *watch = create();
	make_new("top", "top/d", NULL);
	WATCH_OK(symlink("top/d", "link"));
	cr_assert(watch_arm(watch, "link") == 0 && watch_arm(watch, "top") == 0);
	const char *path = watch_path("top");
	lw_watch_disarm(watch, path, strlen(path));
	cr_assert(watch_readable(lw_watch_fd(watch)));
	cr_assert(watch_covers(watch_drain(watch), watch_path("link")));
	cr_assert_eq(watch_arm(watch, "link"), 0);
	op_write("top/d/new", "");
	cr_assert(watch_covers(watch_drain(watch), watch_path("link/new")));
	lw_watch_destroy(watch);
}

/* --- refusals --- */

Test(watch_inotify, errors)
{
	lw_watch *watch = create();
	char chain[64], long_path[PATH_MAX + 8];
	make_new("d", NULL, NULL);
	op_write("file", "");
	WATCH_OK(symlink("self", "self"));
	WATCH_OK(symlink("b/x", "a"));
	WATCH_OK(symlink("a/x", "b"));
	WATCH_OK(symlink("nowhere", "dangling"));
	WATCH_OK(symlink("file", "to_file"));
	WATCH_OK(symlink("d", "l0"));
	for (int i = 1; i < 60; i++) {
		char target[16];
		snprintf(chain, sizeof chain, "l%d", i);
		snprintf(target, sizeof target, "l%d", i - 1);
		WATCH_OK(symlink(target, chain));
	}
	cr_assert_eq(watch_arm(watch, "none"), -ENOENT);
	cr_assert_eq(watch_arm(watch, "none/d"), -ENOENT);
	cr_assert_eq(watch_arm(watch, "file"), -ENOTDIR);
	cr_assert_eq(watch_arm(watch, "file/d"), -ENOTDIR);
	cr_assert_eq(watch_arm(watch, "to_file"), -ENOTDIR);
	cr_assert_eq(watch_arm(watch, "dangling"), -ENOENT);
	cr_assert_eq(watch_arm(watch, "self"), -ELOOP);
	cr_assert_eq(watch_arm(watch, "a/d"), -ELOOP);
	cr_assert_eq(watch_arm(watch, "l59"), -ELOOP);
	cr_assert_eq(watch_arm(watch, "l30"), 0);
	memset(long_path, 'x', sizeof long_path);
	long_path[0] = '/';
	cr_assert_eq(lw_watch_arm(watch, long_path, PATH_MAX), -ENAMETOOLONG);
	cr_assert_eq(lw_watch_arm(watch, "/proc/self", 10), -EOPNOTSUPP);
	struct lw_watch_stats stats = stats_of(watch);
	cr_assert(stats.refused == 11 && stats.last_error == EOPNOTSUPP, "%u", (unsigned)stats.refused);
	cr_assert_eq(stats.armed, 1);
	/* What was tried and refused is not watched. */
	const char *path = watch_path("l30");
	lw_watch_disarm(watch, path, strlen(path));
	watch_drain(watch);
	cr_assert_eq(stats_of(watch).watches, 0);
	lw_watch_destroy(watch);
}

/* Run BODY in a mount namespace of its own; skipped where that is not allowed. */
static void in_namespace(int flags, void (*body)(void))
{
	fflush(NULL);
	int status;
	pid_t pid = fork();
	TREE_CHECK(pid >= 0);
	if (pid == 0) {
		if (unshare(flags))
			_exit(77);
		if (flags & CLONE_NEWNS && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
			_exit(77);
		body();
		_exit(0);
	}
	TREE_CHECK(waitpid(pid, &status, 0) == pid);
	FORBID_NEEDS(!(WIFEXITED(status) && WEXITSTATUS(status) == 77), "namespaces cannot be made here");
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
}

static void mounted_in_armed(void)
{
	lw_watch *watch = create();
	make_new("d", "d/tmp", "d/proc");
	make_new("d/later", "d/bound", "aside");
	WATCH_OK(symlink("d", "link"));
	TREE_CHECK(mount("none", "d/tmp", "tmpfs", 0, NULL) == 0 && mount("none", "d/proc", "proc", 0, NULL) == 0);
	TREE_CHECK(watch_arm(watch, "d") == 0 && watch_arm(watch, "link") == 0);
	TREE_CHECK(watch_arm(watch, "d/tmp") == 0 && watch_arm(watch, "link/tmp") == 0);
	TREE_CHECK(watch_arm(watch, "d/proc") == -EOPNOTSUPP && watch_arm(watch, "link/proc") == -EOPNOTSUPP);
	/* Below a link a path does not tell. */
	make_new("d/deep", "d/deep/proc", NULL);
	TREE_CHECK(mount("none", "d/deep/proc", "proc", 0, NULL) == 0 && watch_arm(watch, "link/deep") == 0 && watch_arm(watch, "link/deep/proc") == -EOPNOTSUPP);
	/* Mounts are known as they come. */
	TREE_CHECK(mount("none", "d/later", "proc", 0, NULL) == 0);
	TREE_CHECK(watch_arm(watch, "d/later") == -EOPNOTSUPP && watch_arm(watch, "link/later") == -EOPNOTSUPP);
	TREE_CHECK(umount("d/later") == 0 && watch_arm(watch, "d/later") == 0);
	/* The same directory in two places. */
	TREE_CHECK(mount("aside", "d/bound", NULL, MS_BIND, NULL) == 0);
	TREE_CHECK(watch_arm(watch, "d/bound") == 0 && watch_arm(watch, "aside") == 0);
	watch_drain(watch);
	op_write("aside/new", "");
	const struct watch_seen *seen = watch_drain(watch);
	TREE_CHECK(watch_covers(seen, watch_path("d/bound/new")) && watch_covers(seen, watch_path("aside/new")));
	/* An unmounted file system is gone. */
	make_new("d/tmp/sub", NULL, NULL);
	watch_drain(watch);
	TREE_CHECK(watch_arm(watch, "d/tmp/sub") == 0);
	TREE_CHECK(umount("d/tmp") == 0 && watch_readable(lw_watch_fd(watch)));
	seen = watch_drain(watch);
	TREE_CHECK(watch_covers(seen, watch_path("d/tmp/sub")) && watch_covers(seen, watch_path("link/tmp")));
	TREE_CHECK(!watch_covers(seen, watch_path("d/bound")));
	TREE_CHECK(watch_arm(watch, "d/tmp") == 0);
	op_write("d/tmp/new", "");
	TREE_CHECK(watch_covers(watch_drain(watch), watch_path("d/tmp/new")));
	lw_watch_destroy(watch);
}

static int arm_listed(lw_watch *watch, const char *name)
{
	const char *path = watch_path(name);
	return lw_watch_arm_listed(watch, path, strlen(path));
}

static void disarm(lw_watch *watch, const char *name)
{
	const char *path = watch_path(name);
	lw_watch_disarm(watch, path, strlen(path));
}

/* What a listing calls a directory is armed without a look at the mounts: those from before the watch, and from before something was disarmed, are known. */
static void mounted_over_listed(void)
{
	make_new("d", "d/before", "d/later");
	WATCH_OK(symlink("d", "link"));
	TREE_CHECK(mount("none", "d/before", "proc", 0, NULL) == 0);
	lw_watch *watch = create();
	TREE_CHECK(watch_arm(watch, "d") == 0 && watch_arm(watch, "link") == 0);
	TREE_CHECK(arm_listed(watch, "d/before") == -EOPNOTSUPP && arm_listed(watch, "link/before") == -EOPNOTSUPP);
	TREE_CHECK(arm_listed(watch, "d/later") == 0 && arm_listed(watch, "link/later") == 0);
	TREE_CHECK(mount("none", "d/later", "proc", 0, NULL) == 0);
	disarm(watch, "d");
	disarm(watch, "link");
	TREE_CHECK(watch_arm(watch, "d") == 0 && watch_arm(watch, "link") == 0);
	TREE_CHECK(arm_listed(watch, "d/later") == -EOPNOTSUPP && arm_listed(watch, "link/later") == -EOPNOTSUPP);
	lw_watch_destroy(watch);
}

Test(watch_inotify, mounts_over_listed)
{
	in_namespace(CLONE_NEWNS, mounted_over_listed);
}

Test(watch_inotify, mounts)
{
	in_namespace(CLONE_NEWNS, mounted_in_armed);
}

static void write_limit(const char *path, unsigned limit)
{
	char text[16];
	int len = snprintf(text, sizeof text, "%u", limit), fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, (size_t)len) != len)
		_exit(77);
	close(fd);
}

static void too_many_watches(void)
{
	write_limit("/proc/sys/user/max_inotify_watches", 20);
	lw_watch *watch = create();
	char name[16];
	int error = 0, armed = 0;
	for (; !error && armed < 30; armed += !error) {
		snprintf(name, sizeof name, "%d", armed);
		WATCH_OK(mkdir(name, 0755));
		error = watch_arm(watch, name);
	}
	TREE_CHECK(error == -ENOSPC && armed > 5);
	TREE_CHECK(stats_of(watch).last_error == ENOSPC && stats_of(watch).armed == (unsigned)armed);
	TREE_CHECK(strstr(lw_watch_remedy(error), "max_user_watches"));
	/* What is armed stays so, and what is disarmed makes room. */
	op_write("0/new", "");
	TREE_CHECK(watch_covers(watch_drain(watch), watch_path("0/new")));
	const char *path = watch_path("0");
	lw_watch_disarm(watch, path, strlen(path));
	TREE_CHECK(watch_arm(watch, name) == 0);
	lw_watch_destroy(watch);
}

Test(watch_inotify, too_many_watches)
{
	in_namespace(CLONE_NEWUSER, too_many_watches);
}

static void too_many_instances(void)
{
	lw_watch *watch;
	char why[LW_WATCH_WHY];
	write_limit("/proc/sys/user/max_inotify_instances", 2);
	lw_watch *first = create(), *second = create();
	TREE_CHECK(lw_watch_create(LW_WATCH_INOTIFY, NULL, 0, &watch, why) == -EMFILE && !watch);
	TREE_CHECK(strstr(why, "fs.inotify.max_user_instances") && strpbrk(why, "123456789"));
	/* It is not what this process may open. */
	struct rlimit none = { 0, 0 };
	lw_watch_destroy(first);
	TREE_CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
	TREE_CHECK(lw_watch_create(LW_WATCH_INOTIFY, NULL, 0, &watch, why) == -EMFILE && strstr(why, "ulimit"));
	lw_watch_destroy(second);
}

Test(watch_inotify, too_many_instances)
{
	in_namespace(CLONE_NEWUSER, too_many_instances);
}

/* --- full queue --- */

static unsigned queue_length(void)
{
	unsigned length = 0;
	FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
	TREE_CHECK(f && fscanf(f, "%u", &length) == 1);
	fclose(f);
	return length;
}

/* Make more events than there is room for. */
static void overflow(const char *dir)
{
	char name[2][PATH_MAX];
	snprintf(name[0], PATH_MAX, "%s/x", dir);
	snprintf(name[1], PATH_MAX, "%s/y", dir);
	op_write(name[0], "");
	for (unsigned i = 0; i <= queue_length() / 2; i++)
		WATCH_OK(rename(name[i % 2], name[1 - i % 2]));
}

Test(watch_inotify, overflow)
{
	lw_watch *watch = create();
	make_new("d", "d/kept", "d/moved");
	make_new("d/moved/sub", "storm", "old");
	WATCH_OK(symlink("d", "link"));
	static const char *const paths[] = { "d", "d/kept", "d/moved", "d/moved/sub", "storm", "link", "link/moved" };
	for (size_t i = 0; i < 7; i++)
		cr_assert_eq(watch_arm(watch, paths[i]), 0);
	overflow("storm");
	/* What nobody is told of. */
	WATCH_OK(rename("d/moved", "old/moved"));
	make_new("d/moved", "d/moved/sub", NULL);
	cr_assert(watch_readable(lw_watch_fd(watch)));
	const struct watch_seen *seen = watch_drain(watch);
	cr_assert_eq(seen->all, 1);
	cr_assert_eq(stats_of(watch).overflows, 1);
	/* Armed again, everything is what its path leads to. */
	for (size_t i = 0; i < 7; i++)
		cr_assert_eq(watch_arm(watch, paths[i]), 0);
	watch_drain(watch);
	cr_assert_eq(stats_of(watch).armed, 7);
	op_write("d/moved/sub/new", "");
	cr_assert(watch_covers(watch_drain(watch), watch_path("d/moved/sub/new")));
	op_write("d/moved/new", "");
	cr_assert(watch_covers(watch_drain(watch), watch_path("link/moved/new")));
	op_write("old/moved/sub/new", "");
	cr_assert(watch_tells_nothing(watch), "the old one is not watched");
	/* What was not armed again since is forgotten with the next one. */
	overflow("storm");
	watch_drain(watch);
	cr_assert_eq(watch_arm(watch, "d/kept"), 0);
	overflow("storm");
	watch_drain(watch);
	cr_assert_eq(stats_of(watch).armed, 2, "it, and what was looked at on its way");
	op_write("d/kept/new", "");
	cr_assert(watch_covers(watch_drain(watch), watch_path("d/kept/new")));
	lw_watch_destroy(watch);
}

/* A large tree is let go without another overflow: its removals are events too. */
Test(watch_inotify, large_subtree_goes, .init = set_up_in_memory)
{
	enum { MANY = 20000 };
	lw_watch *watch = create();
	char name[32];
	make_new("top", "top/d", NULL);
	cr_assert_eq(watch_arm(watch, "top/d"), 0);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "top/d/%d", i);
		WATCH_OK(mkdir(name, 0755));
		cr_assert_eq(watch_arm(watch, name), 0);
		if (i % 5000 == 0)
			watch_drain(watch);
	}
	watch_drain(watch);
	cr_assert_eq(stats_of(watch).armed, MANY + 1);
	WATCH_OK(rename("top", "old"));
	const struct watch_seen *seen = watch_drain(watch);
	cr_assert(!seen->all && seen->count == 1, "%u", seen->count);
	cr_assert_eq(stats_of(watch).overflows, 0);
	cr_assert_eq(stats_of(watch).watches, 0);
	cr_assert_gt(stats_of(watch).dropped, MANY - 1);
	lw_watch_destroy(watch);
}

/* --- the descriptor --- */

Test(watch_inotify, limit)
{
	lw_watch *watch = create();
	static struct watch_seen seen;
	make_new("d", NULL, NULL);
	cr_assert_eq(watch_arm(watch, "d"), 0);
	overflow("d");
	int64_t got = lw_watch_drain(watch, 1000, watch_see, &seen);
	cr_assert(got > 100 && got <= 1000 && watch_readable(lw_watch_fd(watch)), "%d", (int)got);
	cr_assert(lw_watch_drain(watch, 1, watch_see, &seen) > 0);
	cr_assert_eq(seen.all, 0);
	lw_watch_destroy(watch);
}

Test(watch_inotify, fork_leaves_the_queue)
{
	lw_watch *watch = create();
	make_new("d", NULL, NULL);
	cr_assert_eq(watch_arm(watch, "d"), 0);
	op_write("d/new", "");
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		lw_watch_destroy(watch);
		_exit(0);
	}
	TREE_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	cr_assert(watch_readable(lw_watch_fd(watch)));
	cr_assert(watch_covers(watch_drain(watch), watch_path("d/new")));
	op_write("d/more", "");
	cr_assert(watch_covers(watch_drain(watch), watch_path("d/more")));
	lw_watch_destroy(watch);
}

Test(watch_inotify, descriptor_closed_behind_our_back)
{
	lw_watch *watch = create();
	int fd = lw_watch_fd(watch), ends[2];
	static struct watch_seen seen;
	cr_assert_eq(fcntl(fd, F_GETSIG), lw_watch_signal());
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC && fcntl(fd, F_GETFL) & O_NONBLOCK);
	WATCH_OK(pipe(ends));
	WATCH_OK(dup2(ends[0], fd));
	WATCH_OK(write(ends[1], "x", 1));
	cr_assert_eq(lw_watch_drain(watch, 0, watch_see, &seen), -EBADF);
	cr_assert_lt(watch_arm(watch, ""), 0);
	lw_watch_destroy(watch);
	char byte;
	cr_assert_eq(read(fd, &byte, 1), 1, "somebody else's file is neither read nor closed");
}

/* A number that was let go is given again, as after 2^31 of them: what is late of its first life does no harm. */
Test(watch_inotify, numbers_given_again)
{
	lw_watch *watch = create();
	make_new("d", "e", NULL);
	cr_assert_eq(watch_arm(watch, "d"), 0);
	for (int wd = 1; wd < 40; wd++) {
		op_write("d/x", "");
		const char *path = watch_path("d");
		lw_watch_disarm(watch, path, strlen(path));
		FORBID_NEEDS(ioctl(lw_watch_fd(watch), _IOW('I', 0, int32_t), wd) == 0, "the kernel is without INOTIFY_IOC_SETNEXTWD");
		cr_assert_eq(watch_arm(watch, "e"), 0);
		op_write("e/new", "");
		cr_assert(watch_covers(watch_drain(watch), watch_path("e/new")));
		while (watch_arm(watch, "e") == 0 && watch_readable(lw_watch_fd(watch)))
			watch_drain(watch);
		op_write("e/other", "");
		cr_assert(watch_covers(watch_drain(watch), watch_path("e/other")), "%d", wd);
		path = watch_path("e");
		lw_watch_disarm(watch, path, strlen(path));
		watch_drain(watch);
		cr_assert(watch_arm(watch, "d") == 0 && unlink("d/x") == 0);
		cr_assert(watch_covers(watch_drain(watch), watch_path("d/x")));
	}
	lw_watch_destroy(watch);
}
