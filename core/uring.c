/* SPDX-License-Identifier: MIT */
/*
 * uring: see uring.h. The child sets up a ring, asks it what it can do and runs one STATX through it; its answer comes
 * back through a pipe. No answer means that the child was killed. Between fork and _exit it calls nothing that allocates
 * or takes a lock: the parent may have threads.
 */
#include "uring.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifndef LW_HAVE_URING

int lw_uring_probe(char *text, size_t size)
{
	snprintf(text, size, "this Ladewerk was built without liburing; rebuild it where liburing's headers are found");
	return -ENOTSUP;
}

#else

#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
	int op;
	const char *name;
} wanted[] = {
	{ IORING_OP_STATX, "STATX" }, { IORING_OP_OPENAT, "OPENAT" }, { IORING_OP_READ, "READ" }, { IORING_OP_CLOSE, "CLOSE" },
};
enum { WANTED = sizeof wanted / sizeof *wanted, ALL = (1 << WANTED) - 1, PATIENCE = 5 };

struct answer {
	int result;
	unsigned ops;		/* bit i: wanted[i] */
	bool defer_taskrun;
};

static int ask_ops(struct io_uring *ring, unsigned *ops)
{
	union {
		struct io_uring_probe probe;
		char space[sizeof(struct io_uring_probe) + 256 * sizeof(struct io_uring_probe_op)];
	} u;
	memset(&u, 0, sizeof u);
	int error = io_uring_register_probe(ring, &u.probe, 256);
	if (error < 0)
		return error;
	for (int i = 0; i < WANTED; i++)
		if (wanted[i].op <= u.probe.last_op && (u.probe.ops[wanted[i].op].flags & IO_URING_OP_SUPPORTED))
			*ops |= 1u << i;
	return 0;
}

/* Setting up a ring can be allowed and using it forbidden. */
static int run_statx(struct io_uring *ring)
{
	struct statx st;
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	io_uring_prep_statx(sqe, AT_FDCWD, "/", 0, STATX_INO, &st);
	int error = io_uring_submit(ring);
	if (error < 0)
		return error;
	error = io_uring_wait_cqe(ring, &cqe);
	return error < 0 ? error : cqe->res;
}

static bool can_defer_taskrun(void)
{
	struct io_uring ring;
	if (io_uring_queue_init(4, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) < 0)
		return false;
	io_uring_queue_exit(&ring);
	return true;
}

static struct answer try_ring(void)
{
	struct answer answer = { 0 };
	struct io_uring ring;
	answer.result = io_uring_queue_init(4, &ring, 0);
	if (answer.result < 0)
		return answer;
	answer.result = ask_ops(&ring, &answer.ops);
	if (answer.result == 0)
		answer.result = (answer.ops & ALL) == ALL ? run_statx(&ring) : -EOPNOTSUPP;
	io_uring_queue_exit(&ring);
	answer.defer_taskrun = can_defer_taskrun();
	return answer;
}

/* In the child. */
_Noreturn static void answer_through(int fd)
{
	sigset_t none;
	/* A filter that kills should not leave a core file behind. */
	prctl(PR_SET_DUMPABLE, 0);
	signal(SIGALRM, SIG_DFL);
	signal(SIGSYS, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	alarm(PATIENCE);
	struct answer answer = try_ring();
	_exit(write(fd, &answer, sizeof answer) != sizeof answer);
}

/* 0 and *ANSWER; else -errno, *KILLER being the signal that ended the child, or 0. */
static int ask_child(struct answer *answer, int *killer)
{
	int pipefd[2], status = 0;
	if (pipe2(pipefd, O_CLOEXEC) != 0)
		return -errno;
	pid_t pid = fork();
	if (pid == 0)
		answer_through(pipefd[1]);
	int error = pid < 0 ? -errno : 0;
	close(pipefd[1]);
	if (!error) {
		ssize_t got;
		do
			got = read(pipefd[0], answer, sizeof *answer);
		while (got < 0 && errno == EINTR);
		/* Where SIGCHLD is ignored nobody tells how it ended: then the missing answer is all we know. */
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		*killer = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
		if (got != sizeof *answer)
			error = *killer == SIGALRM ? -ETIMEDOUT : -EPERM;
	}
	close(pipefd[0]);
	return error;
}

static int read_number(const char *path)
{
	char text[16] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t got = read(fd, text, sizeof text - 1);
	close(fd);
	return got > 0 ? atoi(text) : 0;
}

static void explain_success(const struct answer *answer, char *text, size_t size)
{
	struct utsname name;
	int at = snprintf(text, size, "io_uring works: ");
	for (int i = 0; i < WANTED && at < (int)size; i++)
		at += snprintf(text + at, size - (size_t)at, "%s%s", i ? ", " : "", wanted[i].name);
	if (at < (int)size)
		at += snprintf(text + at, size - (size_t)at, "; %sDEFER_TASKRUN", answer->defer_taskrun ? "" : "no ");
	if (at < (int)size && uname(&name) == 0)
		snprintf(text + at, size - (size_t)at, " (Linux %.32s)", name.release);
}

static void explain_eperm(char *text, size_t size)
{
	int disabled = read_number("/proc/sys/kernel/io_uring_disabled");
	if (disabled)
		snprintf(text, size, "io_uring is switched off by kernel.io_uring_disabled=%d; `sysctl kernel.io_uring_disabled=0` allows it",
				disabled);
	else
		snprintf(text, size, "io_uring is forbidden by a seccomp filter, as container runtimes install one; "
				"allow io_uring_setup, io_uring_enter and io_uring_register in its profile");
}

static void explain_killed(int killer, char *text, size_t size)
{
	if (killer == SIGALRM)
		snprintf(text, size, "io_uring gave no answer within %d seconds", PATIENCE);
	else if (killer)
		snprintf(text, size, "trying io_uring was answered by signal %d (%s)%s", killer, strsignal(killer),
				killer == SIGSYS ? ": a seccomp filter kills instead of refusing; add @io-uring to the service's "
				"SystemCallFilter or set SystemCallErrorNumber=EPERM" : "");
	else
		snprintf(text, size, "trying io_uring ended the process that tried; a seccomp filter may forbid it");
}

static void explain_error(int error, char *text, size_t size)
{
	if (error == -ENOSYS)
		snprintf(text, size, "io_uring is not there: the kernel was built without it or a filter hides it; "
				"it takes Linux 5.6 with CONFIG_IO_URING");
	else if (error == -EPERM)
		explain_eperm(text, size);
	else if (error == -EOPNOTSUPP)
		snprintf(text, size, "io_uring is there but lacks an operation of STATX, OPENAT, READ, CLOSE; it takes Linux 5.6");
	else
		snprintf(text, size, "io_uring fails: %s%s", strerror(-error),
				error == -ENOMEM ? "; raise the locked-memory limit (ulimit -l)" : "");
}

int lw_uring_probe(char *text, size_t size)
{
	struct answer answer = { 0 };
	int killer = 0;
	int error = ask_child(&answer, &killer);
	if (error && (killer || error == -EPERM)) {
		explain_killed(killer, text, size);
		return error;
	}
	if (!error)
		error = answer.result;
	if (error)
		explain_error(error, text, size);
	else
		explain_success(&answer, text, size);
	return error;
}

#endif
