/* SPDX-License-Identifier: MIT */
/*
 * mounts: real mounts, each test in a mount namespace of its own.
 *
 * A change while the table is read, drawn:
 *
 *     lw_mounts_changed        somebody
 *     poll: news
 *     read the table
 *                              mount /there
 *     poll: news               -> read again. Without that the news is used up, and nobody ever tells of /there
 *
 * It is forced by a read(2) of ours that stands before the kernel's (tests/CMakeLists.txt); the control takes the second poll's answer away.
 */
#include "mounts.h"
#include "forbid.h"
#include "tree.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>

ssize_t __real_read(int fd, void *buffer, size_t size);
ssize_t __wrap_read(int fd, void *buffer, size_t size);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);

enum { POINTS = 16 };

static char top[256];
static lw_mounts *mounts;
static char told[POINTS][PATH_MAX];
static unsigned told_count;
static bool told_root;

/* Others of this machine's mounts may be told whenever the table changes. */
static void note(void *arg, const char *point, size_t len)
{
	cr_assert_eq(strlen(point), len);
	told_root |= len == 0;
	if (strncmp(point, top, strlen(top)) != 0)
		return;
	if (told_count < POINTS)
		strcpy(told[told_count], point);
	told_count++;
}

static int ask(void)
{
	told_count = 0;
	return lw_mounts_changed(mounts, note, NULL);
}

static bool was_told(const char *path)
{
	for (unsigned i = 0; i < told_count && i < POINTS; i++)
		if (strcmp(told[i], path) == 0)
			return true;
	return false;
}

/* TOP, a mount in a mount namespace of this test alone, and the table as it is. */
static void set_up(void)
{
	FORBID_NEEDS(unshare(CLONE_NEWNS) == 0, "no mount namespace of one's own (CAP_SYS_ADMIN)");
	TREE_CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	tree_create(top, sizeof top);
	TREE_CHECK(mount("none", top, "tmpfs", 0, NULL) == 0);
	TREE_CHECK(lw_mounts_open(&mounts) == 0);
}

static void tear_down(void)
{
	lw_mounts_close(mounts);
	if (*top) {
		TREE_CHECK(umount2(top, MNT_DETACH) == 0 || errno == EINVAL);
		tree_destroy(top);
	}
}

static char *below(const char *name)
{
	static char path[8][PATH_MAX];
	static unsigned next;
	char *out = path[next++ % 8];
	snprintf(out, PATH_MAX, "%s/%s", top, name);
	return out;
}

static char *make(const char *name)
{
	char *path = below(name);
	TREE_CHECK(mkdir(path, 0755) == 0);
	return path;
}

static void mount_tmpfs(const char *path)
{
	TREE_CHECK(mount("none", path, "tmpfs", 0, "size=1m") == 0);
}

TestSuite(mounts, .init = set_up, .fini = tear_down);

Test(mounts, nothing)
{
	cr_expect_eq(ask(), 0);
	make("directory");
	cr_expect_eq(ask(), 0, "directories are no mounts");
	cr_expect_eq(told_count, 0);
}

Test(mounts, each_kind)
{
	char *a = make("a"), *b = make("b"), *c = make("c");
	mount_tmpfs(a);
	cr_expect(ask() == 1 && told_count == 1 && was_told(a), "mounted: %u told", told_count);
	TREE_CHECK(mount(a, b, NULL, MS_BIND, NULL) == 0);
	cr_expect(ask() == 1 && told_count == 1 && was_told(b), "bound: %u told", told_count);
	mount_tmpfs(b);
	cr_expect(ask() == 1 && told_count == 1 && was_told(b), "over another: %u told", told_count);
	TREE_CHECK(mount(a, c, NULL, MS_MOVE, NULL) == 0);
	cr_expect(ask() == 1 && told_count == 2 && was_told(a) && was_told(c), "moved: %u told", told_count);
	TREE_CHECK(mount(NULL, c, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0);
	cr_expect(ask() == 1 && told_count == 0, "options: %u told", told_count);
	TREE_CHECK(umount2(b, MNT_DETACH) == 0);
	cr_expect(ask() == 1 && told_count == 1 && was_told(b), "detached: %u told", told_count);
	TREE_CHECK(umount(b) == 0 && umount(c) == 0);
	cr_expect(ask() == 1 && told_count == 2 && was_told(b) && was_told(c), "gone: %u told", told_count);
	cr_expect_eq(ask(), 0);
}

/* mountinfo writes some bytes as octal numbers, and others as they are. */
Test(mounts, names)
{
	const char *const names[] = { "a b", "a\tb", "a\nb", "a\\b", "a\\040b", "#a", "\xff\xfe", "\xc3\xa4", " - tmpfs", "\\134" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char *path = make(names[i]);
		mount_tmpfs(path);
		cr_expect(ask() == 1 && told_count == 1 && was_told(path), "%zu: %s", i, told[0]);
		TREE_CHECK(umount(path) == 0);
		cr_expect(ask() == 1 && told_count == 1 && was_told(path), "%zu: %s", i, told[0]);
	}
}

static void read_lines(char *text, size_t size)
{
	int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t got;
	while ((got = __real_read(fd, text + used, size - 1 - used)) > 0)
		used += (size_t)got;
	text[used] = '\0';
	close(fd);
}

/* Another mount in its place, between two questions. The control: line by line the table is the same, as the kernel uses its numbers again. */
Test(mounts, replaced)
{
	static char was[256 * 1024], is[256 * 1024];
	unsigned same = 0;
	char *path = make("a");
	mount_tmpfs(path);
	ask();
	for (int i = 0; i < 20; i++) {
		read_lines(was, sizeof was);
		TREE_CHECK(umount(path) == 0);
		mount_tmpfs(path);
		read_lines(is, sizeof is);
		same += strcmp(was, is) == 0;
		cr_expect(ask() == 1 && was_told(path), "round %d", i);
	}
	cr_expect_gt(same, 0, "control: the lines never were the same");
}

/* Whoever sleeps on the descriptor takes nothing from whoever asks. The control: on one descriptor the news is told once. */
Test(mounts, sleepers)
{
	char *path = make("a");
	int one = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	struct pollfd sleeper = { .fd = lw_mounts_fd(mounts), .events = POLLPRI }, control = { .fd = one, .events = POLLPRI };
	cr_expect_eq(poll(&sleeper, 1, 0), 0);
	mount_tmpfs(path);
	cr_expect_eq(poll(&sleeper, 1, 0), 1);
	cr_expect(sleeper.revents & POLLPRI);
	cr_expect_eq(poll(&sleeper, 1, 0), 0);
	cr_expect(ask() == 1 && was_told(path));
	cr_expect_eq(poll(&control, 1, 0), 1);
	cr_expect_eq(poll(&control, 1, 0), 0, "control: one descriptor would have been enough");
	close(one);
}

Test(mounts, thousands)
{
	enum { MANY = 1500 };
	make("from");
	for (int i = 0; i < MANY; i++) {
		char name[32];
		snprintf(name, sizeof name, "%d", i);
		TREE_CHECK(mount(below("from"), make(name), NULL, MS_BIND, NULL) == 0);
	}
	cr_expect(ask() == 1);
	cr_expect_eq(told_count, MANY, "%u", told_count);
	TREE_CHECK(umount(below("77")) == 0);
	cr_expect(ask() == 1 && told_count == 1 && was_told(below("77")), "%u", told_count);
	TREE_CHECK(umount2(top, MNT_DETACH) == 0);
	cr_expect(ask() == 1);
	cr_expect_eq(told_count, MANY, "%u", told_count);
}

/* A kernel that does not number mounts once and for all: what may have been replaced is told. */
static int without_numbers(void)
{
	char *a = make("a"), *b = make("b");
	lw_mounts_close(mounts);
	mounts = NULL;
	mount_tmpfs(a);
	if (forbid(SYS_statx, SECCOMP_RET_ERRNO | EPERM) || lw_mounts_open(&mounts))
		return 2;
	if (ask() != 0)
		return 3;
	mount_tmpfs(b);
	if (ask() != 1 || !was_told(a) || !was_told(b) || told_root)
		return 4;
	return ask() == 0 ? 0 : 5;
}

Test(mounts, old_kernels)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(without_numbers());
	TREE_CHECK(waitpid(pid, &status, 0) == pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%d", WEXITSTATUS(status));
}

/* What happens right after the table was read to its end. */
static const char *mount_then;
static bool then, lie;

ssize_t __wrap_read(int fd, void *buffer, size_t size)
{
	ssize_t got = __real_read(fd, buffer, size);
	if (got == 0 && mount_then) {
		mount_tmpfs(mount_then);
		mount_then = NULL;
		then = true;
	}
	return got;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	int ready = __real_poll(fds, count, timeout);
	bool silent = lie && then;
	then = false;
	if (silent)
		fds->revents = 0;
	return silent ? 0 : ready;
}

static bool sees_what_comes_while_it_reads(const char *path, bool control)
{
	char *other = make(control ? "other control" : "other");
	bool seen;
	mount_tmpfs(other);
	mount_then = path;
	lie = control;
	seen = ask() == 1 && was_told(path);
	cr_expect_null(mount_then, "the table was not read");
	seen = seen || (ask() == 1 && was_told(path));
	lie = false;
	return seen;
}

Test(mounts, while_it_is_read)
{
	char *a = make("a"), *b = make("b");
	cr_expect(sees_what_comes_while_it_reads(a, false));
	cr_expect_not(sees_what_comes_while_it_reads(b, true), "control: nothing depends on the second poll");
}

/* Numbers that were closed by somebody and belong to another file now. */
Test(mounts, taken_over)
{
	int null = open("/dev/null", O_RDONLY), fd = lw_mounts_fd(mounts);
	TREE_CHECK(null >= 0 && dup2(null, fd) == fd && dup2(null, fd + 1) == fd + 1);
	cr_expect_eq(ask(), -EBADF);
	lw_mounts_close(mounts);
	mounts = NULL;
	cr_expect(fcntl(fd, F_GETFD) >= 0 && fcntl(fd + 1, F_GETFD) >= 0);
}

/* A table that is not to be had is not taken for one that has not changed. */
Test(mounts, not_readable)
{
	char *path = make("a");
	struct rlimit { unsigned long now, most; } limit = { 0, 0 };
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		lw_mounts *none = (void *)1;
		TREE_CHECK(syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, &limit, NULL) == 0);
		_exit(lw_mounts_open(&none) == -EMFILE && !none ? 0 : 1);
	}
	TREE_CHECK(waitpid(pid, &status, 0) == pid);
	cr_expect_eq(status, 0);
	mount_tmpfs(path);
	cr_expect(ask() == 1 && was_told(path));
}
