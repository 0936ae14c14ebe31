/* SPDX-License-Identifier: MIT */
/*
 * mark: crash marks, and who is alive.
 *
 * In doubt a process counts as alive: a mark that is ignored costs one unnoticed crash, a mark that is
 * taken for a dead one's switches us off until somebody resets it.
 */
#include "mark.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct mark {
	int pid;
	uint64_t start;		/* field 22 of /proc/PID/stat; 0: unknown */
	uint64_t space;		/* inode of the pid namespace; 0: unknown */
};

static void print(const struct mark *mark, char name[LW_MARK_NAME])
{
	snprintf(name, LW_MARK_NAME, "start-%d-%" PRIu64 "-%" PRIu64, mark->pid, mark->start, mark->space);
}

static bool parse(const char *name, struct mark *mark)
{
	char same[LW_MARK_NAME];

	if (sscanf(name, "start-%d-%" SCNu64 "-%" SCNu64, &mark->pid, &mark->start, &mark->space) != 3 || mark->pid <= 0)
		return false;
	print(mark, same);
	return strcmp(name, same) == 0;
}

/* Field 22 and the state of a process. Its name (field 2) may hold anything, so fields are counted from the last ')'. */
static int look_up(int pid, uint64_t *start, char *state)
{
	char path[32], text[1024];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len > 0 ? len : 0] = 0;
	const char *rest = strrchr(text, ')');
	if (!rest || sscanf(rest, ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64, state, start) != 2)
		return -EIO;
	return 0;
}

static uint64_t own_space(void)
{
	struct stat st;
	return stat("/proc/self/ns/pid", &st) ? 0 : st.st_ino;
}

static bool process_gone(const struct mark *mark)
{
	uint64_t start;
	char state;

	if (kill(mark->pid, 0) && errno == ESRCH)
		return true;
	if (look_up(mark->pid, &start, &state))
		return false;
	return state == 'Z' || state == 'X' || (mark->start && start != mark->start);
}

static bool older_than_a_day(int dir, const char *name)
{
	struct stat st;
	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && time(NULL) - st.st_mtime > LW_MARK_DAY;
}

void lw_mark_name(char name[LW_MARK_NAME])
{
	struct mark mark = { .pid = getpid(), .space = own_space() };
	char state;

	if (look_up(mark.pid, &mark.start, &state))
		mark.start = 0;
	print(&mark, name);
}

bool lw_mark_parse(const char *name, int *pid)
{
	struct mark mark;

	if (!parse(name, &mark))
		return false;
	if (pid)
		*pid = mark.pid;
	return true;
}

int lw_mark_leave(int dir, const char *name)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

bool lw_mark_dead(int dir, const char *name)
{
	struct mark mark;

	if (!parse(name, &mark))
		return false;
	if (mark.space != own_space())
		return older_than_a_day(dir, name);
	/* Who ends in an orderly way removes it first: so it must be there after the process has gone. */
	return process_gone(&mark) && faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}
