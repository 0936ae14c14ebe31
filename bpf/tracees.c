/* SPDX-License-Identifier: MIT */
/*
 * tracees: see tracees.h. PTRACE_SEIZE, so that nobody sees a SIGSTOP or SIGTRAP that was not theirs. Threads are tracees of their own, which are kept apart only while they are being
 * watched for mappings: else there is nothing to remember of one.
 */
#include "tracees.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { SYSCALL_STOP = SIGTRAP | 0x80 };

struct lw_tracees {
	struct lw_tracees_listener listener;
	pid_t command;
	bool began;		/* its first program has been looked at */
	bool ended;
	int status;
	/* those that are stopped at system calls */
	pid_t *loading;
	unsigned loading_count;
	/* every tracee, to let them go in the end */
	pid_t *all;
	unsigned all_count;
};

/* --- sets of numbers --- */

static bool set_has(const pid_t *set, unsigned count, pid_t pid)
{
	for (unsigned i = 0; i < count; i++) {
		if (set[i] == pid)
			return true;
	}
	return false;
}

static bool set_add(pid_t **set, unsigned *count, pid_t pid)
{
	if (set_has(*set, *count, pid))
		return true;
	pid_t *grown = reallocarray(*set, *count + 1, sizeof(*grown));
	if (!grown)
		return false;
	*set = grown;
	grown[(*count)++] = pid;
	return true;
}

static void set_remove(pid_t *set, unsigned *count, pid_t pid)
{
	for (unsigned i = 0; i < *count; i++) {
		if (set[i] == pid) {
			set[i] = set[--*count];
			return;
		}
	}
}

/* --- one that is stopped --- */

static void forget(lw_tracees *tracees, pid_t pid)
{
	set_remove(tracees->loading, &tracees->loading_count, pid);
	set_remove(tracees->all, &tracees->all_count, pid);
}

static void let_go(lw_tracees *tracees, pid_t pid, int signal)
{
	ptrace(PTRACE_DETACH, pid, NULL, (void *)(long)signal);
	forget(tracees, pid);
}

static void go_on(lw_tracees *tracees, pid_t pid, int signal)
{
	bool loading = set_has(tracees->loading, tracees->loading_count, pid);
	ptrace(loading ? PTRACE_SYSCALL : PTRACE_CONT, pid, NULL, (void *)(long)signal);
}

static void look(lw_tracees *tracees, pid_t pid, bool exec)
{
	enum lw_verdict verdict = tracees->listener.program(tracees->listener.context, pid, exec);
	if (pid == tracees->command && verdict != LW_VERDICT_LOADING)
		tracees->began = true;
	if (verdict == LW_VERDICT_LET_GO) {
		let_go(tracees, pid, 0);
		return;
	}
	/* Without memory it is stopped at its next exec only. */
	if (verdict == LW_VERDICT_ON)
		set_remove(tracees->loading, &tracees->loading_count, pid);
	else
		(void)set_add(&tracees->loading, &tracees->loading_count, pid);
	go_on(tracees, pid, 0);
}

/* Whether the system call that PID is about to come back from may have mapped a file. Those of another word size, and kernels before 5.3, do not say: then it may. */
static bool may_have_mapped(pid_t pid)
{
	struct __ptrace_syscall_info info;
	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0)
		return true;
	/* The exit does not say which it was: a result that is an address of a page. */
	return info.op == PTRACE_SYSCALL_INFO_EXIT && !info.exit.is_error && info.exit.rval > 0 && !(info.exit.rval & 0xfff);
}

static bool forks(int event)
{
	return event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE;
}

static void take_child(lw_tracees *tracees, pid_t pid, int event)
{
	unsigned long child = 0;
	if (ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child))
		return;
	(void)set_add(&tracees->all, &tracees->all_count, (pid_t)child);
	if (event != PTRACE_EVENT_CLONE)
		tracees->listener.born(tracees->listener.context, pid, (pid_t)child);
}

static void stopped(lw_tracees *tracees, pid_t pid, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;
	/* Stopped by a signal, and not by us: it was let go. A new one is heard of here first, or from who forked it. */
	if (!event && !set_has(tracees->all, tracees->all_count, pid))
		return;
	(void)set_add(&tracees->all, &tracees->all_count, pid);
	if (event == PTRACE_EVENT_EXEC) {
		look(tracees, pid, true);
	} else if (forks(event)) {
		take_child(tracees, pid, event);
		go_on(tracees, pid, 0);
	} else if (event == PTRACE_EVENT_STOP) {
		/* Stopped by a signal, and to remain so until SIGCONT; or new. */
		if (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU)
			ptrace(PTRACE_LISTEN, pid, NULL, NULL);
		else
			go_on(tracees, pid, 0);
	} else if (signal == SYSCALL_STOP) {
		if (set_has(tracees->loading, tracees->loading_count, pid) && may_have_mapped(pid))
			look(tracees, pid, false);
		else
			go_on(tracees, pid, 0);
	} else {
		go_on(tracees, pid, signal);
	}
}

static void ended(lw_tracees *tracees, pid_t pid, int status)
{
	forget(tracees, pid);
	if (pid != tracees->command)
		return;
	tracees->ended = tracees->began = true;
	tracees->status = status;
}

/* The next change of a child, if there is one, or WAIT for it. False: there is none. */
static bool next(lw_tracees *tracees, bool wait)
{
	siginfo_t info = { 0 };
	int status, options = __WALL | (wait ? 0 : WNOHANG);
	/* Looked at before it is taken: a process that ended keeps its numbers until then. */
	while (waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOWAIT | options)) {
		if (errno != EINTR)
			return false;
	}
	if (!info.si_pid)
		return false;
	if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED)
		tracees->listener.ending(tracees->listener.context, info.si_pid);
	pid_t pid = waitpid(info.si_pid, &status, __WALL | WNOHANG | WUNTRACED);
	if (pid <= 0)
		return true;
	if (WIFSTOPPED(status))
		stopped(tracees, pid, status);
	else
		ended(tracees, pid, status);
	return true;
}

void lw_tracees_tend(lw_tracees *tracees)
{
	while (next(tracees, false))
		;
}

bool lw_tracees_ended(const lw_tracees *tracees, int *status)
{
	*status = tracees->status;
	return tracees->ended;
}

/* --- starting --- */

/* In the child: waits to be seized, then becomes the command. Says on REPORT why it could not. */
__attribute__((noreturn)) static void become(char *const argv[], const sigset_t *mask, int ready, int report)
{
	char byte;
	while (read(ready, &byte, 1) < 0 && errno == EINTR)
		;
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	int error = errno;
	(void)!write(report, &error, sizeof(error));
	_exit(127);
}

/* What REPORT says: 0 if it was closed by an exec. */
static int read_report(int report)
{
	int error = 0;
	ssize_t got;
	while ((got = read(report, &error, sizeof(error))) < 0 && errno == EINTR)
		;
	return got == sizeof(error) ? -error : 0;
}

static int seize(pid_t pid, bool children)
{
	long options = PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD;
	if (children)
		options |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;
	return ptrace(PTRACE_SEIZE, pid, NULL, (void *)options) ? -errno : 0;
}

static int start(lw_tracees *tracees, char *const argv[], const sigset_t *mask, bool children)
{
	int ready[2], report[2];
	if (pipe2(ready, O_CLOEXEC))
		return -errno;
	if (pipe2(report, O_CLOEXEC)) {
		int error = -errno;
		close(ready[0]);
		close(ready[1]);
		return error;
	}
	pid_t pid = fork();
	if (!pid) {
		close(ready[1]);
		become(argv, mask, ready[0], report[1]);
	}
	int error = pid < 0 ? -errno : seize(pid, children);
	tracees->command = pid;
	close(ready[0]);
	close(report[1]);
	if (error && pid > 0)
		kill(pid, SIGKILL);
	close(ready[1]);
	if (!error && !set_add(&tracees->all, &tracees->all_count, pid))
		error = -ENOMEM;
	while (pid > 0 && !tracees->began && next(tracees, true))
		;
	if (!error)
		error = read_report(report[0]);
	close(report[0]);
	return error;
}

int lw_tracees_start(char *const argv[], const sigset_t *mask, bool children, const struct lw_tracees_listener *listener, lw_tracees **out, pid_t *pid)
{
	*out = NULL;
	lw_tracees *tracees = calloc(1, sizeof(*tracees));
	if (!tracees)
		return -ENOMEM;
	tracees->listener = *listener;
	int error = start(tracees, argv, mask, children);
	if (error) {
		lw_tracees_destroy(tracees);
		return error;
	}
	*pid = tracees->command;
	*out = tracees;
	return 0;
}

/* One can be let go only while it is stopped. */
static void stop_and_let_go(lw_tracees *tracees, pid_t pid)
{
	int status;
	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) || waitpid(pid, &status, __WALL) != pid) {
		forget(tracees, pid);
		return;
	}
	if (!WIFSTOPPED(status)) {
		ended(tracees, pid, status);
		return;
	}
	if (forks(status >> 16))
		take_child(tracees, pid, status >> 16);
	/* What it was stopped for, if that was a signal, still reaches it. */
	bool delivery = !(status >> 16) && WSTOPSIG(status) != SYSCALL_STOP;
	let_go(tracees, pid, delivery ? WSTOPSIG(status) : 0);
}

void lw_tracees_destroy(lw_tracees *tracees)
{
	if (!tracees)
		return;
	while (tracees->all_count)
		stop_and_let_go(tracees, tracees->all[tracees->all_count - 1]);
	free(tracees->loading);
	free(tracees->all);
	free(tracees);
}
