/* SPDX-License-Identifier: MIT */
/* uring: the probe's answer where io_uring is allowed, and where a seccomp filter really refuses, hides or kills. */
#include "uring.h"
#include "forbid.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct answer {
	int result;
	char text[LW_URING_TEXT];
	unsigned children, fds;		/* that the probe left behind */
};

static bool built_without(void)
{
	char text[LW_URING_TEXT];
	return lw_uring_probe(text, sizeof text) == -ENOTSUP && strstr(text, "without liburing");
}

static unsigned count_fds(void)
{
	unsigned count = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		count++;
	closedir(d);
	return count;
}

/* Probe in a child that has forbidden itself NUMBER (0: nothing). */
static struct answer probe_under(long number, unsigned action, bool ignore_children)
{
	struct answer answer = { .result = 1 };
	int fd[2], status;
	cr_assert_eq(pipe(fd), 0);
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		if (ignore_children)
			signal(SIGCHLD, SIG_IGN);
		if (number && forbid(number, action))
			_exit(1);
		unsigned fds = count_fds();
		answer.result = lw_uring_probe(answer.text, sizeof answer.text);
		answer.children = waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD;
		answer.fds = count_fds() - fds;
		_exit(write(fd[1], &answer, sizeof answer) != sizeof answer);
	}
	close(fd[1]);
	cr_assert_eq(read(fd[0], &answer, sizeof answer), sizeof answer, "the prober itself ended");
	close(fd[0]);
	cr_assert(waitpid(pid, &status, 0) == pid && status == 0);
	cr_expect(answer.children == 0 && answer.fds == 0, "nothing is left behind");
	return answer;
}

Test(uring, as_it_is_here)
{
	struct answer answer = probe_under(0, 0, false);
	cr_log_info("%s", answer.text);
	if (answer.result)
		cr_skip_test("%s", answer.text);
	const char *const words[] = { "io_uring works", "STATX, OPENAT, READ, CLOSE; ", "DEFER_TASKRUN", "(Linux " };
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		cr_expect(strstr(answer.text, words[i]), "%s", answer.text);
}

Test(uring, forbidden)
{
	const struct { long number; unsigned action; int result; const char *word; } table[] = {
		{ SYS_io_uring_setup, SECCOMP_RET_ERRNO | EPERM, -EPERM, "seccomp" },
		{ SYS_io_uring_setup, SECCOMP_RET_ERRNO | ENOSYS, -ENOSYS, "Linux 5.6" },
		{ SYS_io_uring_setup, SECCOMP_RET_ERRNO | EMFILE, -EMFILE, "open files" },
		{ SYS_io_uring_setup, SECCOMP_RET_KILL_PROCESS, -EPERM, "signal 31" },
		{ SYS_io_uring_setup, SECCOMP_RET_KILL_THREAD, -EPERM, "SystemCallErrorNumber" },
		{ SYS_io_uring_setup, SECCOMP_RET_TRAP, -EPERM, "seccomp" },
		{ SYS_io_uring_enter, SECCOMP_RET_ERRNO | EPERM, -EPERM, "seccomp" },
		{ SYS_io_uring_enter, SECCOMP_RET_KILL_PROCESS, -EPERM, "seccomp" },
		{ SYS_io_uring_register, SECCOMP_RET_ERRNO | EPERM, -EPERM, "seccomp" },
	};
	if (built_without())
		cr_skip_test("built without liburing");
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		bool free_otherwise = probe_under(0, 0, false).result == 0;
		struct answer answer = probe_under(table[i].number, table[i].action, false);
		/* Where a filter is at work already, the stricter one of the two answers. */
		if (!free_otherwise)
			cr_skip_test("io_uring is forbidden here by others");
		cr_expect_eq(answer.result, table[i].result, "case %zu: %d, %s", i, answer.result, answer.text);
		cr_expect(strstr(answer.text, table[i].word), "case %zu: %s", i, answer.text);
	}
}

Test(uring, children_ignored)
{
	if (built_without())
		cr_skip_test("built without liburing");
	struct answer killed = probe_under(SYS_io_uring_setup, SECCOMP_RET_KILL_PROCESS, true);
	cr_expect_eq(killed.result, -EPERM);
	cr_expect(strstr(killed.text, "seccomp"), "%s", killed.text);
	cr_expect_eq(probe_under(0, 0, true).result, probe_under(0, 0, false).result);
}

Test(uring, little_room)
{
	char text[LW_URING_TEXT];
	for (size_t size = 1; size < sizeof text; size += 7) {
		memset(text, 'x', sizeof text);
		lw_uring_probe(text, size);
		cr_expect_lt(strnlen(text, size), size);
		for (size_t i = size; i < sizeof text; i++)
			cr_assert_eq(text[i], 'x', "byte %zu of %zu", i, size);
	}
}
