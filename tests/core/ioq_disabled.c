/* SPDX-License-Identifier: MIT */
/*
 * ioq where an administrator has switched io_uring off: kernel.io_uring_disabled=2, set for real and put back. Alone in its program, and run
 * alone (tests/CMakeLists.txt): others would see it too.
 */
#include "ioq.h"
#include "forbid.h"
#include "tree.h"
#include "uring.h"

#include <criterion/criterion.h>
#include <sys/stat.h>

static const char *const SWITCH = "/proc/sys/kernel/io_uring_disabled";

static bool turn(const char *to, char *was, size_t size)
{
	int fd = open(SWITCH, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t got = was ? read(fd, was, size - 1) : 0;
	if (was)
		was[got > 0 ? got : 0] = '\0';
	bool done = pwrite(fd, to, strlen(to), 0) == (ssize_t)strlen(to);
	close(fd);
	return done;
}

/* In a child: the switch is put back whatever becomes of it. What AUTO does then is in the test of ioq. */
static int body(const char *why_has)
{
	char why[LW_IOQ_WHY];
	lw_ioq *q;
	int error = lw_ioq_create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING }, &q, why);
	if (error != -EPERM || !strstr(why, why_has)) {
		fprintf(stderr, "%d: %s\n", error, why);
		return 1;
	}
	if (lw_ioq_create(&(struct lw_ioq_config){ .backend = LW_IOQ_AUTO }, &q, why))
		return 2;
	struct statx st;
	struct lw_ioq_op op = { .kind = LW_IOQ_STATX, .fd = AT_FDCWD, .path = "/", .mask = STATX_INO, .statx = &st };
	lw_ioq_submit(q, &op);
	bool good = lw_ioq_reap(q, true) == &op && op.result == 0;
	lw_ioq_destroy(q);
	return good ? 0 : 3;
}

Test(ioq_disabled, by_the_administrator)
{
	char was[16], text[LW_URING_TEXT];
	int status = -1;
	FORBID_NEEDS(geteuid() == 0, "only root can switch io_uring off");
	FORBID_NEEDS(lw_uring_probe(text, sizeof text) == 0, "%s", text);
	bool off = turn("2", was, sizeof was);
	FORBID_NEEDS(off, "this kernel has no kernel.io_uring_disabled, or it cannot be written");
	pid_t pid = fork();
	if (pid == 0)
		_exit(body("sysctl kernel.io_uring_disabled=0"));
	if (pid > 0)
		waitpid(pid, &status, 0);
	bool back = turn(was, NULL, 0);
	cr_assert(back, "kernel.io_uring_disabled was %s", was);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%d", status);
	cr_expect_eq(lw_uring_probe(text, sizeof text), 0, "%s", text);
}
