/* SPDX-License-Identifier: MIT */
/*
 * instances, runtime: never more slots than half the limit, over processes and within one; free again when whoever had one is dead, killed, or has called exec;
 * a child of fork neither loses the parent's nor keeps it once it has closed it. Control: the older record locks lose theirs. The directory is believed only if it is ours.
 */
#include "instances.h"
#include "runtime.h"
#include "tree.h"

#include <criterion/criterion.h>
#include <signal.h>

enum { MOST = 500 };

static char root[PATH_MAX];

static void set_up(void)
{
	if (lw_instance_limit() > MOST)
		cr_skip_test("too many instances are allowed to use them all up");
	tree_create(root, sizeof root);
	setenv("XDG_RUNTIME_DIR", root, 1);
}

static void tear_down(void)
{
	if (*root)
		tree_destroy(root);
}

TestSuite(instances, .init = set_up, .fini = tear_down, .timeout = 60);

static unsigned limit(void)
{
	unsigned most = lw_instance_limit();
	TREE_CHECK(most > 2);
	return most;
}

/* Take all; how many those were. Kept in SLOT. */
static unsigned take_all(int *slot)
{
	unsigned count = 0;
	while (count <= limit() && lw_instance_take(&slot[count]) == 0)
		count++;
	return count;
}

static unsigned count_free(void)
{
	int slot[MOST + 1];
	unsigned count = take_all(slot);
	for (unsigned i = 0; i < count; i++)
		close(slot[i]);
	return count;
}

Test(instances, half)
{
	int slot[MOST + 1], other;
	unsigned user;
	FILE *f = fopen("/proc/sys/fs/inotify/max_user_instances", "r");
	TREE_CHECK(f && fscanf(f, "%u", &user) == 1);
	fclose(f);
	cr_assert(limit() <= user / 2);
	unsigned count = take_all(slot);
	cr_assert_eq(count, limit());
	cr_assert_eq(lw_instance_take(&other), -EMFILE);
	cr_assert_eq(other, -1);
	cr_assert(fcntl(slot[0], F_GETFD) & FD_CLOEXEC);
	close(slot[3]);
	cr_assert_eq(lw_instance_take(&other), 0, "what is given back can be taken");
	close(other);
	for (unsigned i = 0; i < count; i++)
		close(slot[i]);
}

enum way_out { EXITS, IS_KILLED, EXECUTES, CLOSES, WAYS_OUT };

/* A process with a slot of its own, whose end of the pipe tells when it has it. */
static pid_t start_holder(enum way_out out, int *ready)
{
	int ends[2], slot;
	TREE_CHECK(pipe2(ends, O_CLOEXEC) == 0);
	pid_t pid = fork();
	TREE_CHECK(pid >= 0);
	if (pid)
		return close(ends[1]), *ready = ends[0], pid;
	if (lw_instance_take(&slot) || write(ends[1], "x", 1) != 1)
		_exit(1);
	raise(SIGSTOP);
	if (out == EXECUTES)
		execlp("sleep", "sleep", "60", (char *)NULL);
	if (out == CLOSES)
		close(slot);
	if (out != EXITS)
		pause();
	_exit(0);
}

/* Slots come back within a moment. */
static bool comes_back(unsigned wanted)
{
	for (int i = 0; i < 2000; i++, usleep(1000))
		if (count_free() == wanted)
			return true;
	return false;
}

Test(instances, processes)
{
	for (enum way_out out = EXITS; out < WAYS_OUT; out++) {
		char byte;
		int ready, status;
		pid_t pid = start_holder(out, &ready);
		cr_assert_eq(read(ready, &byte, 1), 1);
		close(ready);
		TREE_CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
		cr_assert_eq(count_free(), limit() - 1);
		TREE_CHECK(kill(pid, out == IS_KILLED ? SIGKILL : SIGCONT) == 0);
		cr_assert(comes_back(limit()), "%d", (int)out);
		kill(pid, SIGKILL);
		TREE_CHECK(waitpid(pid, &status, 0) == pid);
	}
}

/* A child that does BODY with the parent's slot and then waits. */
static pid_t fork_with(int slot, bool closes)
{
	int ends[2];
	char byte;
	TREE_CHECK(pipe2(ends, O_CLOEXEC) == 0);
	pid_t pid = fork();
	TREE_CHECK(pid >= 0);
	if (pid == 0) {
		if (closes)
			close(slot);
		if (write(ends[1], "x", 1) == 1)
			pause();
		_exit(0);
	}
	TREE_CHECK(read(ends[0], &byte, 1) == 1);
	close(ends[0]);
	close(ends[1]);
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	TREE_CHECK(waitpid(pid, NULL, 0) == pid);
}

Test(instances, fork_keeps_and_gives_back)
{
	int slot;
	cr_assert_eq(lw_instance_take(&slot), 0);
	/* The child closes its own: the parent's stays. */
	pid_t pid = fork_with(slot, true);
	cr_assert_eq(count_free(), limit() - 1);
	close(slot);
	cr_assert_eq(count_free(), limit(), "a child that lives on does not keep it");
	end_child(pid);
	/* It does not: slot and instance live as long as it does, no longer. */
	cr_assert_eq(lw_instance_take(&slot), 0);
	pid = fork_with(slot, false);
	close(slot);
	cr_assert_eq(count_free(), limit() - 1);
	end_child(pid);
	cr_assert(comes_back(limit()));
}

/* Control: record locks of the process go with any descriptor of the file. */
Test(instances, control_locks_of_the_process)
{
	char path[PATH_MAX + 16];
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	snprintf(path, sizeof path, "%s/locks", root);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), other = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_eq(fcntl(fd, F_SETLK, &lock), 0);
	close(other);
	other = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_eq(fcntl(other, F_OFD_SETLK, &lock), 0, "it was lost");
	close(other);
	close(fd);
}

Test(instances, directory)
{
	char path[PATH_MAX], place[PATH_MAX + 16];
	struct stat st;
	int fd = lw_runtime_open(true, path);
	cr_assert_geq(fd, 0);
	snprintf(place, sizeof place, "%s/ladewerk", root);
	cr_assert_str_eq(path, place);
	cr_assert(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0700);
	close(fd);
	/* Open to others. */
	TREE_CHECK(chmod(place, 0750) == 0);
	cr_assert_eq(lw_runtime_open(true, path), -EPERM);
	TREE_CHECK(chmod(place, 0700) == 0);
	/* Somebody else's. */
	if (geteuid() == 0) {
		TREE_CHECK(chown(place, 12345, 0) == 0);
		cr_assert_eq(lw_runtime_open(true, path), -EPERM);
		TREE_CHECK(chown(place, 0, 0) == 0);
	}
	/* A link, and no directory. */
	TREE_CHECK(rmdir(place) == 0);
	TREE_CHECK(symlink(root, place) == 0);
	cr_assert_eq(lw_runtime_open(true, path), -EPERM);
	TREE_CHECK(unlink(place) == 0);
	tree_write(AT_FDCWD, place, "");
	cr_assert_eq(lw_runtime_open(true, path), -EPERM);
	int slot;
	cr_assert_eq(lw_instance_take(&slot), -EPERM);
	/* A place that is not ours is not taken: the next one is. */
	TREE_CHECK(chmod(root, 0777) == 0);
	fd = lw_runtime_open(true, path);
	cr_assert_neq(strncmp(path, root, strlen(root)), 0);
	if (fd >= 0)
		close(fd);
	rmdir(path); /* unless somebody uses it */
}

/* In the slot's file a fifo, or a link to elsewhere. */
Test(instances, file)
{
	char path[PATH_MAX], file[PATH_MAX + 16];
	int slot, fd = lw_runtime_open(true, path);
	close(fd);
	snprintf(file, sizeof file, "%s/inotify", path);
	TREE_CHECK(mkfifo(file, 0600) == 0);
	cr_assert_eq(lw_instance_take(&slot), -EPERM);
	TREE_CHECK(unlink(file) == 0 && symlink("/dev/null", file) == 0);
	cr_assert_eq(lw_instance_take(&slot), -ELOOP);
}
