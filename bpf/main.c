/* SPDX-License-Identifier: MIT */
/*
 * ladewerk-trace: what `ladewerk trace` executes.
 *
 *     options.c     the command line
 *     targets.c     whom to trace: processes, their children, those to come     targets_asked.c: the ways to ask; processes.c, procfs.c, cgroup.c
 *       tracees.c   a command, stopped where its programs begin
 *       finder.c    Pythons that a process has mapped; nearby.c: or will; mappings.c
 *       program.c   where the probes of a Python go: usdt.c, calls.c (x86.c), elffile.c; layout.c: how it is laid out
 *     capture.c     BPF programs, probes, ring buffer            spans.bpf.c: imports; sched.bpf.c: waits
 *       probes.c, calibrate.c, rights.c; standing.c: what threads were in the middle of
 *     model.c       events -> imports and waits                  totals.c: sums of them
 *     write_*.c     a format each; live.c: a terminal's view     writer.c, text.c, lanes.c, paths.c: what they share
 *
 * One thread, one loop: read events, look after the targets, renew the view; until a signal, the time that was given, the last target's end, or q.
 * Dying at any moment harms nobody: the kernel takes the probes away with the descriptors.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "capture.h"
#include "live.h"
#include "model.h"
#include "options.h"
#include "rights.h"
#include "targets.h"
#include "totals.h"
#include "writer.h"

enum { EX_OK = 0, EX_FAILED = 1, EX_USAGE = 2, EX_IMPOSSIBLE = 77, EX_SIGNAL = 128 };
enum { LOOK_MS = 100 };

struct session {
	const struct lw_options *options;
	lw_capture *capture;
	lw_targets *targets;
	lw_totals *totals;
	lw_model *model;
	const struct lw_format *format;	/* NULL: the live view */
	lw_writer *writer;
	lw_live *live;
	struct lw_writer_setup setup;
	char *buffer;			/* of setup.out */
	pid_t child;
	uint64_t begin_ns;
};

/* --- signals: which came, and how often we were asked to stop --- */

enum { PATIENCE = 3 };

static volatile sig_atomic_t interrupts, terminations, requests;

/* Whoever asks for the third time gets it at once: output may go to somebody who does not read it. */
static void on_signal(int number)
{
	if (number == SIGCHLD)
		return;
	if (number == SIGINT)
		interrupts++;
	else
		terminations = number;
	if (++requests >= PATIENCE) {
		signal(number, SIG_DFL);
		raise(number);
	}
}

/* SIGCHLD only wakes. What is ignored (nohup) stays ignored. Writes go on: what stdio has not written because of a signal would be lost. poll() does not. */
static void catch_signals(void)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGCHLD };
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		struct sigaction old, action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
		sigemptyset(&action.sa_mask);
		if (numbers[i] != SIGCHLD && sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN)
			continue;
		sigaction(numbers[i], &action, NULL);
	}
}

/* --- words --- */

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Reasons have names of files and processes in them, which are not to be trusted with a terminal. */
static void say(const char *text)
{
	fputs("ladewerk trace: ", stderr);
	lw_write_plain(stderr, text);
	fputc('\n', stderr);
}

static int fail(int status, const char *text)
{
	say(text);
	return status;
}

static int status_of(int error)
{
	return error == -EPERM || error == -ENOSYS ? EX_IMPOSSIBLE : EX_FAILED;
}

/* --- beginning --- */

static struct lw_capture_options wanted(const struct lw_options *options)
{
	return (struct lw_capture_options){
		.sched = !options->no_sched,
		.sched_needed = options->sched_needed,
		.everybody = options->binary_count && !options->pid_count && !options->cgroup_count,
		.ring_kib = options->ring_kib,
	};
}

static int open_capture(struct session *session)
{
	char why[LW_CAPTURE_WHY];
	struct lw_capture_options options = wanted(session->options);
	int error = lw_capture_open(&options, &session->capture, why);
	if (error)
		return fail(error == -ENOENT ? EX_IMPOSSIBLE : status_of(error), why);
	const char *note = lw_capture_note(session->capture);
	if (note && !session->options->quiet)
		say(note);
	return 0;
}

static int add_targets(struct session *session)
{
	const struct lw_options *options = session->options;
	char why[LW_CAPTURE_WHY] = "";
	int error = lw_targets_create(session->capture, !options->no_children, &session->targets);
	for (unsigned i = 0; i < options->binary_count && !error; i++)
		error = lw_targets_binary(session->targets, options->binaries[i], why);
	for (unsigned i = 0; i < options->cgroup_count && !error; i++)
		error = lw_targets_cgroup(session->targets, options->cgroups[i], why);
	for (unsigned i = 0; i < options->pid_count && !error; i++)
		error = lw_targets_pid(session->targets, options->pids[i], why);
	if (options->command && !error)
		error = lw_targets_command(session->targets, options->command, &session->child, why);
	if (error)
		return fail(status_of(error), why[0] ? why : strerror(-error));
	return 0;
}

static struct lw_targets *inner_targets;

static pid_t inner(pid_t pid)
{
	return lw_targets_inner(inner_targets, pid);
}

static void measure_terminal(struct lw_writer_setup *setup)
{
	struct winsize size;
	const char *off = getenv("NO_COLOR"), *term = getenv("TERM");
	int fd = fileno(setup->out);
	if (!isatty(fd))
		return;
	setup->width = ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
	setup->colour = !(off && *off) && !(term && strcmp(term, "dumb") == 0);
}

/* Whether a live view is what was asked for; false if it was, and there is no terminal for it, is for the caller to find out. */
static bool wants_live(const struct lw_options *options)
{
	if (options->live)
		return true;
	const char *term = getenv("TERM");
	return !options->format && !options->file && !options->command && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
}

static int open_output(struct session *session)
{
	const struct lw_options *options = session->options;
	struct lw_writer_setup *setup = &session->setup;
	*setup = (struct lw_writer_setup){
		.out = options->file ? fopen(options->file, "we") : stdout,
		.totals = session->totals,
		.threshold_ns = options->threshold_ns,
		.globs = options->globs,
		.glob_count = options->glob_count,
		.labels = options->labels,
		.quiet = options->quiet,
		.begin_ns = now_ns(),
		.inner = inner,
	};
	if (!setup->out) {
		fprintf(stderr, "ladewerk trace: cannot write %s: %s\n", options->file, strerror(errno));
		return EX_FAILED;
	}
	measure_terminal(setup);
	session->format = lw_format_find(options->format ? options->format : "table");
	return session->format ? 0 : fail(EX_FAILED, "this build lacks that format");
}

/* What listens to the model: sums, the format, the view. Formats begin to write here: nothing is written of a trace that cannot be. */
static int open_model(struct session *session)
{
	struct lw_listener listeners[3];
	unsigned count = 0;
	if (session->format->create(&session->setup, &session->writer))
		return fail(EX_FAILED, "out of memory");
	listeners[count++] = lw_totals_listener(session->totals);
	listeners[count++] = session->format->listener(session->writer);
	if (session->live)
		listeners[count++] = lw_live_listener(session->live);
	session->model = lw_model_create(listeners, count);
	return session->model ? 0 : fail(EX_FAILED, "out of memory");
}

static int open_live(struct session *session)
{
	if (!wants_live(session->options))
		return 0;
	int error = lw_live_create(&session->setup, STDIN_FILENO, STDOUT_FILENO, &session->live);
	if (error == -ENOTTY && session->options->live)
		return fail(EX_USAGE, "--live needs a terminal; --table, --tree and --json do not");
	return error && error != -ENOTTY ? fail(EX_FAILED, strerror(-error)) : 0;
}

/* All of it, from the cheap things that can go wrong to the expensive ones. */
static int begin(struct session *session)
{
	session->totals = lw_totals_create();
	if (!session->totals)
		return fail(EX_FAILED, "out of memory");
	int status = open_output(session);
	if (!status)
		status = open_capture(session);
	if (!status)
		status = add_targets(session);
	inner_targets = session->targets;
	if (!status)
		status = open_live(session);
	if (!status)
		status = open_model(session);
	session->begin_ns = now_ns();
	if (!status && !session->options->quiet && !session->live && !session->child)
		fprintf(stderr, "ladewerk trace: tracing, %s\n", session->options->duration_ns ? "until the time is up, or Ctrl-C" : "until Ctrl-C");
	return status;
}

/* --- the loop --- */

static void on_record(void *context, const struct lw_event_head *record, size_t size)
{
	struct session *session = context;
	if (lw_targets_event(session->targets, record))
		lw_model_event(session->model, record, size);
}

/* The end of a process that the kernel did not tell. */
static void on_end(void *context, const struct lw_event_head *record, size_t size)
{
	struct session *session = context;
	if (session->model)
		lw_model_event(session->model, record, size);
}

/* A command gets the interrupts of its terminal as well: it decides what becomes of it, unless it is asked twice. What only we got is passed on. */
static bool asked_to_end(struct session *session)
{
	if (!session->child)
		return interrupts || terminations;
	if (terminations) {
		kill(session->child, terminations);
		terminations = 0;
	}
	return interrupts > 1;
}

static bool time_is_up(const struct session *session)
{
	return session->options->duration_ns && now_ns() - session->begin_ns >= session->options->duration_ns;
}

static int until_look(const struct session *session)
{
	uint64_t duration = session->options->duration_ns, gone = now_ns() - session->begin_ns;
	if (!duration || gone + LOOK_MS * 1000000ull < duration)
		return LOOK_MS;
	return gone < duration ? (int)((duration - gone) / 1000000) + 1 : 0;
}

static bool renew(struct session *session)
{
	struct lw_live_state state = { .now_ns = now_ns() };
	if (session->format->live && fflush(session->setup.out))
		return false;
	if (!session->live)
		return true;
	state.processes = lw_targets_count(session->targets, &state.target_cpu_ns);
	lw_capture_count(session->capture, &state.counts);
	return lw_live_tick(session->live, &state);
}

static void run(struct session *session)
{
	struct pollfd fds[] = { { .fd = lw_capture_fd(session->capture), .events = POLLIN }, { .fd = session->live ? STDIN_FILENO : -1, .events = POLLIN } };
	int ignored;
	bool going = true;
	lw_targets_ends(session->targets, on_end, session);
	while (going && !asked_to_end(session) && !time_is_up(session)) {
		(void)poll(fds, 2, until_look(session));
		lw_capture_read(session->capture, 0, on_record, session);
		lw_targets_tend(session->targets);
		going = renew(session) && !lw_targets_ended(session->targets, &ignored);
	}
	(void)lw_capture_stop(session->capture, on_record, session);
	lw_targets_tend(session->targets);
}

/* --- end --- */

static int write_end(struct session *session)
{
	struct lw_ending ending = { .end_ns = now_ns(), .note = lw_capture_note(session->capture) };
	lw_capture_count(session->capture, &ending.counts);
	(void)lw_targets_count(session->targets, &ending.target_cpu_ns);
	lw_model_end(session->model, ending.end_ns);
	lw_model_faults(session->model, &ending.senseless, &ending.dropped);
	lw_live_destroy(session->live);
	session->live = NULL;
	session->format->end(session->writer, &ending);
	bool bad = fflush(session->setup.out) || ferror(session->setup.out);
	if (bad)
		fprintf(stderr, "ladewerk trace: writing %s failed: %s\n", session->options->file ? session->options->file : "standard output", strerror(errno));
	return bad ? EX_FAILED : EX_OK;
}

/* The command goes on if only our time was up; whoever started us waits for it. */
static int await_command(struct session *session)
{
	int status = 0;
	while (!lw_targets_ended(session->targets, &status)) {
		if (interrupts > 1)
			return EX_SIGNAL + SIGINT;
		if (terminations) {
			kill(session->child, terminations);
			terminations = 0;
		}
		(void)poll(NULL, 0, LOOK_MS);
		lw_targets_tend(session->targets);
	}
	return WIFSIGNALED(status) ? EX_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

static void destroy(struct session *session)
{
	lw_live_destroy(session->live);
	if (session->writer)
		session->format->destroy(session->writer);
	lw_model_destroy(session->model);
	lw_totals_destroy(session->totals);
	lw_targets_destroy(session->targets);
	lw_capture_close(session->capture);
	if (session->setup.out && session->setup.out != stdout)
		fclose(session->setup.out);
}

static int trace(const struct lw_options *options)
{
	struct session session = { .options = options };
	catch_signals();
	int status = begin(&session);
	if (!status) {
		run(&session);
		status = write_end(&session);
		const char *idle = options->quiet ? NULL : lw_targets_idle(session.targets);
		if (idle)
			say(idle);
		if (session.child) {
			int command = await_command(&session);
			status = command ? command : status;
		}
	}
	destroy(&session);
	return status;
}

/* --- what is possible here --- */

static int check(void)
{
	char why[LW_CAPTURE_WHY];
	struct lw_capture_options options = { .sched = true };
	lw_capture *capture;
	int error = lw_capture_open(&options, &capture, why);
	if (error)
		return fail(status_of(error), why);
	const char *note = lw_capture_note(capture);
	printf("imports can be traced%s%s\n", note ? "; " : ", and what threads wait for meanwhile", note ? note : "");
	lw_capture_close(capture);
	return EX_OK;
}

int main(int argc, char **argv)
{
	struct lw_options options;
	setlocale(LC_CTYPE, "");
	int status = lw_options_read(argc, argv, &options, stderr) ? EX_USAGE : EX_OK;
	if (!status) {
		switch (options.action) {
		case LW_HELP: lw_options_help(stdout); break;
		case LW_VERSION: puts("ladewerk " LADEWERK_VERSION); break;
		case LW_CHECK: status = check(); break;
		case LW_TRACE: status = trace(&options); break;
		}
	}
	lw_options_free(&options);
	return status;
}
