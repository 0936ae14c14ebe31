/* SPDX-License-Identifier: MIT */
/*
 * watch by fanotify. A mark sees its whole file system, so each test has one of its own, of each kind there is, and is alone on it: as the root directory of a mount
 * namespace, so that no way leads over another.
 */
#include "watch_ops.h"

#include <dirent.h>
#include <ftw.h>
#include <linux/btrfs.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/ioctl.h>

/* Whether COMMAND succeeds; what it says is not heard. */
static bool run(const char *command)
{
	char line[2048];
	snprintf(line, sizeof line, "PATH=$PATH:/usr/sbin:/sbin; { %s; } >/dev/null 2>&1", command);
	return system(line) == 0;
}

static const struct disk {
	const char *type, *mkfs;	/* NULL: needs no device */
} disks[] = {
	{ "tmpfs", NULL },
	{ "ext4", "mkfs.ext4 -q -F" },
	{ "xfs", "mkfs.xfs -q -f" },
	{ "btrfs", "mkfs.btrfs -q -f" },
};

static bool mount_disk(const struct disk *disk, const char *image, const char *point)
{
	char command[1200];
	if (!disk->mkfs)
		return mount("none", point, disk->type, 0, NULL) == 0;
	snprintf(command, sizeof command, "truncate -s 320M %s && %s %s && mount -t %s -o loop %s %s", image, disk->mkfs, image, disk->type, image, point);
	return run(command);
}

/* The new root directory, which is the working directory, has a "proc"; nothing of the old one is left in sight, nor of the scratch directory. */
static void change_root(const char *scratch, const char *point)
{
	char old[300];
	TREE_CHECK(mkdir("old", 0755) == 0 && mkdir("proc", 0555) == 0 && mount("proc", "proc", "proc", 0, NULL) == 0);
	TREE_CHECK(syscall(SYS_pivot_root, ".", "old") == 0 && chdir("/") == 0);
	snprintf(old, sizeof old, "/old%s", point);
	TREE_CHECK(rmdir(old) == 0);
	snprintf(old, sizeof old, "/old%s", scratch);
	TREE_CHECK(rmdir(old) == 0);
	TREE_CHECK(umount2("/old", MNT_DETACH) == 0 && rmdir("/old") == 0);
}

/* A root directory on a new file system of that kind, which goes away with the test; the working directory is an empty one. */
static void move_to(const struct disk *disk)
{
	char scratch[256], image[280], point[280];
	FORBID_NEEDS(geteuid() == 0 && unshare(CLONE_NEWNS) == 0, "no mount namespace of one's own (CAP_SYS_ADMIN)");
	TREE_CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	tree_create(scratch, sizeof scratch);
	snprintf(image, sizeof image, "%s/image", scratch);
	snprintf(point, sizeof point, "%s/point", scratch);
	TREE_CHECK(mkdir(point, 0755) == 0);
	bool mounted = mount_disk(disk, image, point);
	/* The mount keeps what it needs. */
	unlink(image);
	if (!mounted)
		tree_destroy(scratch);
	FORBID_NEEDS(mounted, "no %s here (mkfs, loop device, kernel)", disk->type);
	TREE_CHECK(chdir(point) == 0);
	change_root(scratch, point);
	TREE_CHECK(mkdir("/scene", 0755) == 0 && chdir("/scene") == 0);
	lw_watch *watch;
	char why[LW_WATCH_WHY];
	int error = lw_watch_create(LW_WATCH_FANOTIFY, NULL, 0, &watch, why);
	FORBID_NEEDS(error == 0, "%s", why);
	lw_watch_destroy(watch);
}

static void in_new_directory(int number)
{
	char name[32];
	snprintf(name, sizeof name, "/scene/%d", number);
	TREE_CHECK(mkdir(name, 0755) == 0 && chdir(name) == 0);
}

static void all_ops(const struct disk *disk)
{
	int number = 0;
	move_to(disk);
	for (int i = 0; i < 2 * WATCH_OPS; i++) {
		if (watch_ops[i / 2].ring && !forbid_have_ring())
			continue;
		in_new_directory(number++);
		watch_check_op(LW_WATCH_FANOTIFY, &watch_ops[i / 2], i % 2);
	}
}

static void all_turns(const struct disk *disk)
{
	move_to(disk);
	for (int i = 0; i < WATCH_TURNS; i++) {
		in_new_directory(i);
		watch_check_turn(LW_WATCH_FANOTIFY, &watch_turns[i]);
	}
}

Test(watch_fanotify, ops_tmpfs) { all_ops(&disks[0]); }
Test(watch_fanotify, ops_ext4) { all_ops(&disks[1]); }
Test(watch_fanotify, ops_xfs) { all_ops(&disks[2]); }
Test(watch_fanotify, ops_btrfs) { all_ops(&disks[3]); }
Test(watch_fanotify, turns_tmpfs) { all_turns(&disks[0]); }
Test(watch_fanotify, turns_ext4) { all_turns(&disks[1]); }
Test(watch_fanotify, turns_xfs) { all_turns(&disks[2]); }
Test(watch_fanotify, turns_btrfs) { all_turns(&disks[3]); }

/* --- what only this backend has to think of --- */

static lw_watch *watch_here(void)
{
	return watch_create(LW_WATCH_FANOTIFY);
}

static int arm_path(lw_watch *watch, const char *path)
{
	return lw_watch_arm(watch, path, strlen(path));
}

static int arm_listed(lw_watch *watch, const char *name)
{
	const char *path = watch_path(name);
	return lw_watch_arm_listed(watch, path, strlen(path));
}

static struct lw_watch_stats stats_of(lw_watch *watch)
{
	struct lw_watch_stats stats;
	lw_watch_stats(watch, &stats);
	return stats;
}

static bool sees_write(lw_watch *watch, const char *file, const char *told_as)
{
	op_write(file, "more");
	return watch_covers(watch_drain(watch), watch_path(told_as));
}

Test(watch_fanotify, descriptor)
{
	move_to(&disks[0]);
	lw_watch *watch = watch_here();
	int fd = lw_watch_fd(watch);
	cr_expect_eq(fcntl(fd, F_GETSIG), lw_watch_signal());
	cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_expect(fcntl(fd, F_GETFL) & O_NONBLOCK);
	cr_expect_eq(lw_watch_drain(watch, 0, watch_see, NULL), 0, "an empty queue does not wait");
	cr_expect_str_eq(stats_of(watch).backend, "fanotify");
	lw_watch_destroy(watch);
}

/* Its number was closed by somebody and belongs to another file now, which is left alone. */
Test(watch_fanotify, taken_over)
{
	int ends[2];
	move_to(&disks[0]);
	lw_watch *watch = watch_here();
	int fd = lw_watch_fd(watch);
	TREE_CHECK(pipe(ends) == 0 && dup2(ends[0], fd) == fd && write(ends[1], "theirs", 6) == 6);
	cr_expect_eq(lw_watch_drain(watch, 0, watch_see, NULL), -EBADF);
	lw_watch_destroy(watch);
	char text[8];
	cr_expect_eq(read(fd, text, sizeof text), 6);
}

/* A directory has as many names as lead to it. */
Test(watch_fanotify, every_name)
{
	move_to(&disks[0]);
	make_new("real", "real/sub", "bound");
	WATCH_OK(symlink("real", "one"));
	WATCH_OK(symlink("one/sub", "two"));
	WATCH_OK(mount("real", "bound", NULL, MS_BIND, NULL));
	lw_watch *watch = watch_here();
	static const char *const names[] = { "real", "one", "bound" };
	for (int i = 0; i < 3; i++)
		cr_assert_eq(watch_arm(watch, names[i]), 0);
	cr_assert_eq(watch_arm(watch, "two"), 0);
	cr_assert_eq(watch_arm(watch, "one/sub"), 0);
	/* By whatever name it is written to: all of them are told. */
	for (int i = 0; i < 3; i++) {
		char file[64];
		snprintf(file, sizeof file, "%s/sub/file", names[i]);
		op_write(file, "text");
		const struct watch_seen *seen = watch_drain(watch);
		cr_expect(watch_covers(seen, watch_path("real/sub/file")), "%s", file);
		cr_expect(watch_covers(seen, watch_path("one/sub/file")), "%s", file);
		cr_expect(watch_covers(seen, watch_path("two/file")), "%s", file);
		cr_expect(watch_covers(seen, watch_path("bound/sub/file")), "%s", file);
		cr_expect_not(watch_covers(seen, watch_path("real/file")), "%s", file);
	}
	/* One name less. */
	WATCH_OK(unlink("one"));
	const struct watch_seen *seen = watch_drain(watch);
	cr_expect(watch_covers(seen, watch_path("one")) && watch_covers(seen, watch_path("two")));
	cr_expect_not(watch_covers(seen, watch_path("real")) || watch_covers(seen, watch_path("bound")));
	cr_expect(sees_write(watch, "real/sub/file", "bound/sub/file"));
	lw_watch_destroy(watch);
}

/* What a root stands for ends at links and mounts. */
Test(watch_fanotify, links_and_mounts_below)
{
	move_to(&disks[0]);
	make_new("d", "d/mount", "d/plain");
	make_new("d/plain/deep", "other", "other/deep");
	WATCH_OK(symlink("../other", "d/link"));
	mount("none", "d/mount", "tmpfs", 0, NULL);
	make_new("d/mount/deep", NULL, NULL);
	lw_watch *watch = watch_here();
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(watch_arm(watch, "d"), 0);
		cr_assert_eq(i ? watch_arm(watch, "d/mount") : arm_listed(watch, "d/mount"), 0);
		cr_assert_eq(i ? watch_arm(watch, "d/mount/deep") : arm_listed(watch, "d/mount/deep"), 0);
		cr_assert_eq(watch_arm(watch, "d/link"), 0);
		cr_assert_eq(i ? watch_arm(watch, "d/link/deep") : arm_listed(watch, "d/link/deep"), 0);
		cr_assert_eq(i ? watch_arm(watch, "d/plain") : arm_listed(watch, "d/plain"), 0);
		cr_assert_eq(i ? watch_arm(watch, "d/plain/deep") : arm_listed(watch, "d/plain/deep"), 0);
		cr_expect_eq(stats_of(watch).watches, 2, "%lu", (unsigned long)stats_of(watch).watches);
		cr_expect(sees_write(watch, "d/mount/deep/file", "d/mount/deep/file"));
		cr_expect(sees_write(watch, "other/deep/file", "d/link/deep/file"));
		cr_expect(sees_write(watch, "d/plain/deep/file", "d/plain/deep/file"));
		WATCH_OK(unlink("d/link"));
		WATCH_OK(symlink("../other", "d/link"));
		cr_expect(watch_covers(watch_drain(watch), watch_path("d/link/deep")));
		lw_watch_disarm(watch, watch_path("d"), strlen(watch_path("d")));
	}
	cr_expect_not(sees_write(watch, "d/plain/deep/file", "d/plain/deep/file"), "disarmed");
	lw_watch_destroy(watch);
}

static void disarm(lw_watch *watch, const char *name)
{
	const char *path = watch_path(name);
	lw_watch_disarm(watch, path, strlen(path));
}

/* Other file systems in what is armed, by its own name and by a link's: one that is watched as well, and one that cannot be. LATER: they come when it is armed. */
static void mounted_in_armed(bool later)
{
	lw_watch *watch = later ? watch_here() : NULL;
	make_new("d", "d/tmp", "d/proc");
	WATCH_OK(symlink("d", "link"));
	cr_assert(!later || (watch_arm(watch, "d") == 0 && watch_arm(watch, "link") == 0));
	WATCH_OK(mount("none", "d/tmp", "tmpfs", 0, NULL));
	WATCH_OK(mount("none", "d/proc", "proc", 0, NULL));
	if (later) {
		disarm(watch, "d");
		disarm(watch, "link");
	} else {
		watch = watch_here();
	}
	cr_assert(watch_arm(watch, "d") == 0 && watch_arm(watch, "link") == 0);
	cr_expect_eq(arm_listed(watch, "d/proc"), -EOPNOTSUPP);
	cr_expect_eq(arm_listed(watch, "link/proc"), -EOPNOTSUPP);
	cr_expect_eq(watch_arm(watch, "link/proc"), -EOPNOTSUPP);
	cr_expect(arm_listed(watch, "d/tmp") == 0 && arm_listed(watch, "link/tmp") == 0);
	cr_expect(sees_write(watch, "d/tmp/file", "d/tmp/file"));
	cr_expect(sees_write(watch, "d/tmp/file", "link/tmp/file"));
	lw_watch_destroy(watch);
}

Test(watch_fanotify, mounted_before)
{
	move_to(&disks[0]);
	mounted_in_armed(false);
}

Test(watch_fanotify, mounted_later)
{
	move_to(&disks[0]);
	mounted_in_armed(true);
}

/* Without looking again at d/plain, which is said to be a directory. */
Test(watch_fanotify, listed_costs_no_call)
{
	int status;
	move_to(&disks[0]);
	make_new("d", "d/plain", "d/plain/deep");
	lw_watch *watch = watch_here();
	cr_assert_eq(watch_arm(watch, "d"), 0);
	char plain[PATH_MAX], deep[PATH_MAX];
	strcpy(plain, watch_path("d/plain"));
	strcpy(deep, watch_path("d/plain/deep"));
	for (int control = 0; control < 2; control++) {
		pid_t pid = fork();
		if (pid == 0) {
			if (forbid(SYS_statx, SECCOMP_RET_ERRNO | EPERM))
				_exit(2);
			int error = control ? arm_path(watch, plain) : lw_watch_arm_listed(watch, plain, strlen(plain));
			_exit(error || lw_watch_arm_listed(watch, deep, strlen(deep)));
		}
		TREE_CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
		cr_expect_eq(WEXITSTATUS(status), control, "%d", WEXITSTATUS(status));
	}
	lw_watch_destroy(watch);
}

/* Mounts: the queue does not tell (mounts.h does); disarm and arm, and all is well. Nobody is kept from unmounting. */
Test(watch_fanotify, unmounted)
{
	move_to(&disks[0]);
	make_new("m", NULL, NULL);
	WATCH_OK(mount("none", "m", "tmpfs", 0, NULL));
	make_new("m/d", NULL, NULL);
	lw_watch *watch = watch_here();
	cr_assert_eq(watch_arm(watch, "m/d"), 0);
	cr_expect(sees_write(watch, "m/d/file", "m/d/file"));
	WATCH_OK(umount("m"));
	WATCH_OK(mount("none", "m", "tmpfs", 0, NULL));
	make_new("m/d", NULL, NULL);
	cr_expect_eq(watch_arm(watch, "m/d"), 0);
	cr_expect_not(sees_write(watch, "m/d/file", "m/d/file"), "control: it would have worked without");
	lw_watch_disarm(watch, watch_path("m"), strlen(watch_path("m")));
	cr_expect_eq(watch_arm(watch, "m/d"), 0);
	cr_expect(sees_write(watch, "m/d/file", "m/d/file"));
	lw_watch_destroy(watch);
}

/* A mount that is no longer where it was is noticed with the next event of its file system. */
Test(watch_fanotify, moved_mount)
{
	move_to(&disks[0]);
	make_new("m", "n", NULL);
	WATCH_OK(mount("none", "m", "tmpfs", 0, NULL));
	make_new("m/d", NULL, NULL);
	lw_watch *watch = watch_here();
	cr_assert_eq(watch_arm(watch, "m/d"), 0);
	WATCH_OK(mount("m", "n", NULL, MS_MOVE, NULL));
	op_write("n/d/file", "text");
	cr_expect(watch_covers(watch_drain(watch), watch_path("m/d")));
	lw_watch_destroy(watch);
}

Test(watch_fanotify, errors)
{
	char path[PATH_MAX + 10];
	move_to(&disks[0]);
	make_new("d", NULL, NULL);
	op_write("d/file", "");
	WATCH_OK(symlink("loop", "d/loop"));
	WATCH_OK(symlink("nowhere", "d/dangling"));
	const struct { const char *name; int error; } table[] = {
		{ "d/none", -ENOENT }, { "d/none/deeper", -ENOENT }, { "d/file", -ENOTDIR }, { "d/file/deeper", -ENOTDIR },
		{ "d/loop", -ELOOP }, { "d/loop/deeper", -ELOOP }, { "d/dangling", -ENOENT }, { "../proc", -EOPNOTSUPP }, { "../proc/self/cwd", -EOPNOTSUPP },
	};
	enum { COUNT = sizeof table / sizeof *table };
	lw_watch *watch = watch_here();
	for (int i = 0; i < 2 * COUNT; i++) {
		/* Below a root, and on a way of its own. */
		if (i == COUNT)
			cr_assert_eq(watch_arm(watch, "d"), 0);
		int error = watch_arm(watch, table[i % COUNT].name);
		cr_expect_eq(error, table[i % COUNT].error, "%s: %d", table[i % COUNT].name, error);
		cr_expect_eq(stats_of(watch).last_error, -error);
	}
	cr_expect_eq(stats_of(watch).refused, 2 * COUNT);
	memset(path, 'x', sizeof path - 1);
	*path = '/';
	path[sizeof path - 1] = '\0';
	cr_expect_eq(arm_path(watch, path), -ENAMETOOLONG);
	for (size_t i = 0; i < 300; i++)
		memcpy(path + 2 * i, "/.", 3);
	cr_expect_eq(arm_path(watch, path), 0, "dots");
	cr_expect_eq(lw_watch_drain(watch, 0, watch_see, NULL), 0);
	lw_watch_destroy(watch);
}

/* Arming "" and paths written oddly: told as they were armed. */
Test(watch_fanotify, as_armed)
{
	static const char *const names[] = { "", "/scene", "/scene/d", "//scene/./d/../d" };
	move_to(&disks[0]);
	make_new("d", NULL, NULL);
	lw_watch *watch = watch_here();
	static const char *const told[] = { "/scene/d/f", "/scene/d/f", "/scene/d/f", "//scene/./d/../d/f" };
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(arm_path(watch, names[i]), 0);
		op_write("d/f", "more");
		cr_expect(watch_covers(watch_drain(watch), told[i]), "%s", names[i]);
		lw_watch_disarm(watch, names[i], strlen(names[i]));
		op_write("d/f", "more");
		cr_expect_not(watch_covers(watch_drain(watch), told[i]), "%s", names[i]);
	}
	lw_watch_destroy(watch);
}

/* What was known of what lies below a link is not true of what it leads to now; nor after disarming. */
Test(watch_fanotify, forgotten)
{
	move_to(&disks[0]);
	make_new("1", "1/sub", "2");
	make_new("other", NULL, NULL);
	WATCH_OK(symlink("../other", "2/sub"));
	WATCH_OK(symlink("1", "current"));
	lw_watch *watch = watch_here();
	cr_assert(watch_arm(watch, "current") == 0 && watch_arm(watch, "current/sub") == 0);
	cr_expect(sees_write(watch, "1/sub/file", "current/sub/file"));
	WATCH_OK(symlink("2", "new"));
	WATCH_OK(rename("new", "current"));
	watch_drain(watch);
	cr_assert(watch_arm(watch, "current") == 0 && watch_arm(watch, "current/sub") == 0);
	cr_expect(sees_write(watch, "other/file", "current/sub/file"));
	cr_assert(watch_arm(watch, "1") == 0 && watch_arm(watch, "1/sub") == 0);
	lw_watch_disarm(watch, watch_path("1"), strlen(watch_path("1")));
	cr_expect_not(sees_write(watch, "1/sub/file", "1/sub/file"));
	cr_assert_eq(watch_arm(watch, "1/sub"), 0);
	cr_expect(sees_write(watch, "1/sub/file", "1/sub/file"));
	lw_watch_destroy(watch);
}

/* A directory that a path goes into and leaves by ".." is a part of it. */
Test(watch_fanotify, up_again)
{
	move_to(&disks[0]);
	make_new("d", "x", "x/y");
	lw_watch *watch = watch_here();
	cr_assert_eq(arm_path(watch, "/scene/x/y/../../d"), 0);
	WATCH_OK(rename("x/y", "x/z"));
	cr_expect(watch_covers(watch_drain(watch), "/scene/x/y/../../d/f"));
	cr_expect_eq(arm_path(watch, "/scene/x/y/../../d"), -ENOENT);
	lw_watch_destroy(watch);
}

Test(watch_fanotify, foreign)
{
	move_to(&disks[0]);
	make_new("d", "other", NULL);
	lw_watch *watch = watch_here();
	cr_assert_eq(watch_arm(watch, "d"), 0);
	op_write("other/file", "text");
	op_write("dd", "text");
	const struct watch_seen *seen = watch_drain(watch);
	cr_expect_eq(seen->count, 0);
	cr_expect_eq(stats_of(watch).dropped, stats_of(watch).events);
	cr_expect_gt(stats_of(watch).events, 0);
	lw_watch_destroy(watch);
}

Test(watch_fanotify, limit)
{
	enum { FILES = 200 };
	move_to(&disks[0]);
	make_new("d", NULL, NULL);
	for (unsigned limit = 1; limit < 300; limit += limit < 20 ? 1 : 50) {
		static struct watch_seen seen;
		lw_watch *watch = watch_here();
		cr_assert_eq(watch_arm(watch, "d"), 0);
		for (int i = 0; i < FILES; i++) {
			char name[32];
			snprintf(name, sizeof name, "d/%d", i);
			WATCH_OK(mknod(name, S_IFREG | 0644, 0));
		}
		int64_t total = 0, more;
		seen.count = 0;
		while ((more = lw_watch_drain(watch, limit, watch_see, &seen)) > 0) {
			cr_expect(more <= limit + 16, "%d for %u", (int)more, limit);
			total += more;
			cr_expect_eq(watch_readable(lw_watch_fd(watch)), total < FILES, "limit %u: %d", limit, (int)total);
		}
		cr_expect(more == 0 && total == FILES && seen.count == FILES, "limit %u: %d, %u", limit, (int)total, seen.count);
		lw_watch_destroy(watch);
		for (int i = 0; i < FILES; i++) {
			char name[32];
			snprintf(name, sizeof name, "d/%d", i);
			WATCH_OK(unlink(name));
		}
	}
}

/* More than the queue holds: it is said, and nothing is armed any more, as a link may have been turned unseen. */
Test(watch_fanotify, overflow)
{
	unsigned limit = 0, told = 0;
	FILE *file = fopen("/proc/sys/fs/fanotify/max_queued_events", "re");
	FORBID_NEEDS(file && fscanf(file, "%u", &limit) == 1 && limit <= 100000, "no fs.fanotify.max_queued_events, or too many");
	fclose(file);
	move_to(&disks[0]);
	make_links();
	lw_watch *watch = watch_here();
	cr_assert_eq(watch_arm(watch, "current/d"), 0);
	make_new("noise", NULL, NULL);
	for (unsigned i = 0; i < limit + 100; i++) {
		char name[32];
		snprintf(name, sizeof name, "noise/%u", i);
		WATCH_OK(mknod(name, S_IFREG | 0644, 0));
	}
	WATCH_OK(turn_flip());
	const struct watch_seen *seen = watch_drain(watch);
	cr_expect_eq(seen->all, 1);
	for (unsigned i = 0; i < seen->count; i++)
		told += seen->event[i].kind != LW_WATCH_ALL;
	cr_expect_eq(told, 0, "control: without ALL the turned link would have been missed");
	cr_expect_eq(stats_of(watch).overflows, 1);
	cr_expect_eq(watch_arm(watch, "current/d"), 0);
	cr_expect(sees_write(watch, "rel/2/d/file", "current/d/file"));
	lw_watch_destroy(watch);
}

/* --- may not, cannot --- */

/* In a child that keeps no capability but KEPT. What it says goes to WHY. */
static int create_with(uint64_t kept, enum lw_watch_backend backend, char *why)
{
	struct { int error; char backend[16], why[LW_WATCH_WHY]; } answer = { .error = 1 };
	int ends[2];
	TREE_CHECK(pipe(ends) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
		struct __user_cap_data_struct data[2] = { { (uint32_t)kept, (uint32_t)kept, 0 }, { 0 } };
		lw_watch *watch;
		TREE_CHECK(syscall(SYS_capset, &head, data) == 0);
		answer.error = lw_watch_create(backend, NULL, 0, &watch, answer.why);
		snprintf(answer.backend, sizeof answer.backend, "%s", answer.error ? "" : stats_of(watch).backend);
		_exit(write(ends[1], &answer, sizeof answer) != sizeof answer);
	}
	TREE_CHECK(read(ends[0], &answer, sizeof answer) == sizeof answer && waitpid(pid, NULL, 0) == pid);
	close(ends[0]);
	close(ends[1]);
	snprintf(why, LW_WATCH_WHY, "%s %.400s", answer.backend, answer.why);
	return answer.error;
}

Test(watch_fanotify, not_permitted)
{
	char why[LW_WATCH_WHY];
	const uint64_t sys_admin = 1ull << CAP_SYS_ADMIN, search = 1ull << CAP_DAC_READ_SEARCH;
	move_to(&disks[0]);
	cr_expect_eq(create_with(sys_admin | search, LW_WATCH_FANOTIFY, why), 0, "control: %s", why);
	cr_expect_eq(create_with(search, LW_WATCH_FANOTIFY, why), -EPERM, "%s", why);
	cr_expect(strstr(why, "cannot be marked") && strstr(why, "CAP_SYS_ADMIN"), "%s", why);
	cr_expect_eq(create_with(sys_admin, LW_WATCH_FANOTIFY, why), -EPERM, "%s", why);
	cr_expect(strstr(why, "tells no paths") && strstr(why, "CAP_DAC_READ_SEARCH"), "%s", why);
	cr_expect_eq(create_with(0, LW_WATCH_AUTO, why), 0, "%s", why);
	cr_expect(strncmp(why, "inotify ", 8) == 0, "%s", why);
}

static int forbidden_body(long number, unsigned error, int expected)
{
	lw_watch *watch;
	char why[LW_WATCH_WHY];
	if (forbid(number, SECCOMP_RET_ERRNO | error))
		return 2;
	int got = lw_watch_create(LW_WATCH_FANOTIFY, NULL, 0, &watch, why);
	if (got != expected || !*why)
		fprintf(stderr, "%d, not %d: %s\n", got, expected, why);
	return got != expected || !*why;
}

Test(watch_fanotify, forbidden)
{
	const struct { long number; unsigned error; int expected; } table[] = {
		{ SYS_fanotify_init, ENOSYS, -ENOSYS }, { SYS_fanotify_init, EINVAL, -ENOSYS }, { SYS_fanotify_init, EMFILE, -EMFILE },
		{ SYS_fanotify_mark, EPERM, -EPERM }, { SYS_fanotify_mark, EXDEV, -EXDEV }, { SYS_fanotify_mark, ENODEV, -EOPNOTSUPP },
		{ SYS_open_by_handle_at, EPERM, -EPERM }, { SYS_open_by_handle_at, ENOSYS, -ENOSYS }, { SYS_name_to_handle_at, EOPNOTSUPP, -EOPNOTSUPP },
	};
	move_to(&disks[0]);
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		int status;
		pid_t pid = fork();
		if (pid == 0)
			_exit(forbidden_body(table[i].number, table[i].error, table[i].expected));
		TREE_CHECK(waitpid(pid, &status, 0) == pid);
		cr_expect_eq(status, 0, "case %zu", i);
	}
}

/* A file system that cannot be marked on the way, or is one itself. */
Test(watch_fanotify, overlay)
{
	lw_watch *watch = NULL;
	char why[LW_WATCH_WHY];
	move_to(&disks[0]);
	make_new("lower", "upper", "scratch");
	make_new("over", "lower/below", "lower/below/d");
	bool mounted = mount("overlay", "over", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=scratch") == 0;
	FORBID_NEEDS(mounted, "no overlayfs");
	WATCH_OK(mount("none", "over/below", "tmpfs", 0, NULL));
	make_new("over/below/d", NULL, NULL);
	const char *paths[] = { "/scene/over/below/d", "/scene/over", "/scene/lower" };
	cr_expect_eq(lw_watch_create(LW_WATCH_FANOTIFY, paths, 1, &watch, why), -EOPNOTSUPP, "%s", why);
	cr_expect(strstr(why, "/scene/over ("), "%s", why);
	cr_expect_null(watch);
	cr_expect_eq(lw_watch_create(LW_WATCH_FANOTIFY, paths + 1, 1, &watch, why), -EOPNOTSUPP, "%s", why);
	/* What no backend would take decides nothing. */
	cr_assert_eq(lw_watch_create(LW_WATCH_FANOTIFY, paths + 1, 2, &watch, why), 0, "%s", why);
	cr_expect_eq(arm_path(watch, paths[0]), -EOPNOTSUPP);
	cr_expect_eq(arm_path(watch, paths[1]), -EOPNOTSUPP);
	cr_expect_eq(arm_path(watch, paths[2]), 0);
	lw_watch_destroy(watch);
}

/* A subvolume's directory is on a device of its own, and cannot be marked; the mark of the whole file system sees it. */
Test(watch_fanotify, subvolume)
{
	move_to(&disks[3]);
	make_new("d", NULL, NULL);
	struct btrfs_ioctl_vol_args args = { .name = "sub" };
	int dir = op_open("d", O_RDONLY | O_DIRECTORY);
	TREE_CHECK(ioctl(dir, BTRFS_IOC_SUBVOL_CREATE, &args) == 0);
	close(dir);
	lw_watch *watch = watch_here();
	cr_expect_eq(watch_arm(watch, "d/sub"), -EXDEV);
	cr_expect(strstr(lw_watch_remedy(-EXDEV), "subvolume"));
	cr_expect_eq(watch_arm(watch, "d"), 0);
	cr_expect_eq(watch_arm(watch, "d/sub"), -EXDEV);
	cr_expect_eq(arm_listed(watch, "d/sub"), 0);
	cr_expect(sees_write(watch, "d/sub/file", "d/sub/file"));
	cr_expect(sees_write(watch, "d/sub/file", "d/sub/file"));
	lw_watch_destroy(watch);
}

/* --- anything at all --- */

/* What is there, by every name: what a walk from DIR finds that follows links, but not within links. */
enum { WALKED = 4096 };
struct walked {
	unsigned count;
	struct {
		char path[256], target[128];
		struct stat st;
		bool armed;
	} entry[WALKED];
};

static void walk(struct walked *all, const char *path, bool linked)
{
	if (all->count == WALKED || lstat(path, &all->entry[all->count].st) != 0)
		return;
	unsigned here = all->count++;
	mode_t mode = all->entry[here].st.st_mode;
	snprintf(all->entry[here].path, sizeof all->entry->path, "%s", path);
	ssize_t len = S_ISLNK(mode) ? readlink(path, all->entry[here].target, sizeof all->entry->target - 1) : 0;
	all->entry[here].target[len > 0 ? len : 0] = '\0';
	if (!S_ISDIR(mode) && (!S_ISLNK(mode) || linked))
		return;
	DIR *dir = opendir(path);
	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		char below[300];
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (snprintf(below, sizeof below, "%s/%s", path, entry->d_name) < 200)
			walk(all, below, linked || S_ISLNK(mode));
	}
	if (dir)
		closedir(dir);
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void walk_all(struct walked *all)
{
	all->count = 0;
	walk(all, "/scene/r", false);
	TREE_CHECK(all->count < WALKED);
	qsort(all->entry, all->count, sizeof *all->entry, compare_paths);
}

/* Of a directory its entries are compared instead. */
static bool is_same(const struct stat *a, const struct stat *b)
{
	if (a->st_ino != b->st_ino || a->st_mode != b->st_mode)
		return false;
	return S_ISDIR(a->st_mode) || (a->st_size == b->st_size && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec);
}

/* What appears in a directory that was not there is told of by that; and behind a link that led nowhere nothing could be armed. */
static bool is_armed_above(const struct walked *was, const char *path)
{
	char above[256];
	snprintf(above, sizeof above, "%s", path);
	*strrchr(above, '/') = '\0';
	const bool *armed = NULL;
	for (unsigned low = 0, high = was->count; low < high && !armed;) {
		unsigned middle = (low + high) / 2;
		int order = strcmp(above, was->entry[middle].path);
		armed = order ? NULL : &was->entry[middle].armed;
		low = order > 0 ? middle + 1 : low;
		high = order < 0 ? middle : high;
	}
	return armed && *armed;
}

/* Entries of which SEEN does not tell although they changed. */
static unsigned missed(const struct walked *was, const struct walked *is, const struct watch_seen *seen)
{
	unsigned i = 0, j = 0, count = 0;
	while (i < was->count || j < is->count) {
		int order = i == was->count ? 1 : j == is->count ? -1 : strcmp(was->entry[i].path, is->entry[j].path);
		const char *path = order <= 0 ? was->entry[i].path : is->entry[j].path;
		bool same = order == 0 && is_same(&was->entry[i].st, &is->entry[j].st) && strcmp(was->entry[i].target, is->entry[j].target) == 0;
		count += !same && is_armed_above(was, path) && !watch_covers(seen, path);
		i += order <= 0;
		j += order >= 0;
	}
	return count;
}

static void arm_all(lw_watch *watch, struct walked *all)
{
	for (unsigned i = 0; i < all->count; i++) {
		struct stat st;
		all->entry[i].armed = stat(all->entry[i].path, &st) == 0 && S_ISDIR(st.st_mode);
		if (all->entry[i].armed)
			TREE_CHECK(arm_path(watch, all->entry[i].path) == 0);
	}
}

static const char *any_path(uint64_t *seed)
{
	static const char *const names[] = { "a", "b", "c" };
	static char path[4][128];
	static unsigned next;
	char *out = path[next++ % 4];
	strcpy(out, TREE_PICK(seed, ((const char *const[]){ "/scene/r", "/scene/r", "/scene/r", "/scene/out" })));
	for (unsigned depth = 1 + tree_random(seed) % 4; depth; depth--) {
		strcat(out, "/");
		strcat(out, TREE_PICK(seed, names));
	}
	return out;
}

static void any_operation(uint64_t *seed)
{
	const char *path = any_path(seed), *other = any_path(seed);
	int fd;
	switch (tree_random(seed) % 12) {
	case 0: case 1: case 2: (void)mkdir(path, 0755); break;
	case 3: case 4: (void)rename(path, other); break;
	case 5: (void)renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE); break;
	case 6: (void)rmdir(path); break;
	case 7: (void)unlink(path); break;
	case 8: (void)symlink(other, path); break;
	default:
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (fd >= 0)
			TREE_CHECK(write(fd, "x", 1) == 1 && close(fd) == 0);
	}
}

/* The control does not look at what is in doubt as a whole. */
static void forget_subtrees(struct watch_seen *seen)
{
	unsigned to = 0;
	for (unsigned i = 0; i < seen->count; i++)
		if (seen->event[i].kind != LW_WATCH_SUBTREE)
			seen->event[to++] = seen->event[i];
	seen->count = to;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	return remove(path);
}

/* It grows otherwise. */
static void start_over(void)
{
	TREE_CHECK(nftw("/scene/r", remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 && nftw("/scene/out", remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
	TREE_CHECK(mkdir("/scene/r", 0755) == 0 && mkdir("/scene/out", 0755) == 0);
}

static unsigned any_operations(const struct disk *disk, bool control)
{
	static struct walked was, is;
	uint64_t seed = control + 4711;
	unsigned count = 0;
	const char *longer = getenv("LADEWERK_LONG");
	const int rounds = control ? 150 : longer && *longer == '1' ? 20000 : 1000;
	lw_watch *watch = watch_here();
	for (int round = 0; round < rounds; round++) {
		if (round % 200 == 0)
			start_over();
		walk_all(&was);
		arm_all(watch, &was);
		watch_drain(watch);
		/* Arming again what the drain has taken away. */
		arm_all(watch, &was);
		for (unsigned i = 1 + tree_random(&seed) % 12; i; i--)
			any_operation(&seed);
		struct watch_seen *seen = (struct watch_seen *)watch_drain(watch);
		cr_assert_lt(seen->count, WATCH_KEPT);
		walk_all(&is);
		if (control)
			forget_subtrees(seen);
		unsigned more = missed(&was, &is, seen);
		cr_assert(control || !more, "%s, round %d: %u missed", disk->type, round, more);
		count += more;
	}
	lw_watch_destroy(watch);
	return count;
}

static void anything(const struct disk *disk)
{
	move_to(disk);
	make_new("r", "out", NULL);
	any_operations(disk, false);
	cr_expect_gt(any_operations(disk, true), 0, "control: nothing depends on what is in doubt as a whole");
}

Test(watch_fanotify, anything_tmpfs) { anything(&disks[0]); }
Test(watch_fanotify, anything_ext4) { anything(&disks[1]); }
Test(watch_fanotify, anything_xfs) { anything(&disks[2]); }
Test(watch_fanotify, anything_btrfs) { anything(&disks[3]); }
