/* SPDX-License-Identifier: MIT */
/*
 * crowd: what a write into a watched directory costs the writer, with many processes that want to know of it.
 *
 *     bench_crowd SUFFIXES attached|inotify PROCESSES FILE [WRITES]        (400)
 *
 * attached: each is a client of the daemon that watches FILE's directory. inotify: each watches that directory itself, and reads what it is told. Writes are 2 ms apart, so that
 * everybody has been told of the one before. Prints JSON: us per write on the clock, and CPU of the writer.
 */
#include "attached.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { WRITES_MAX = 100000, PROCESSES_MAX = 1000, APART_US = 2000, MASK = IN_CREATE | IN_DELETE | IN_MOVE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE };

static const char *directory;
static struct lw_suffixes suffixes;

static void say(int to, char what)
{
	check(write(to, &what, 1) == 1, "pipe");
}

static _Noreturn void be_attached(int ready)
{
	lw_fresh *client = attach(&suffixes);
	say(ready, client ? 'y' : 'n');
	for (;;)
		pause();
}

static _Noreturn void be_watching(int ready)
{
	char events[4096];
	int fd = inotify_init1(IN_CLOEXEC);
	if (fd < 0 || inotify_add_watch(fd, directory, MASK) < 0) {
		say(ready, errno == EMFILE ? 'l' : 'n');
		_exit(1);
	}
	say(ready, 'y');
	while (read(fd, events, sizeof events) > 0)
		;
	_exit(0);
}

static pid_t start(bool attached, int ready)
{
	pid_t pid = fork();
	check(pid >= 0, "fork");
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (attached)
		be_attached(ready);
	be_watching(ready);
}

static void end(pid_t *crowd, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		kill(crowd[i], SIGKILL);
	for (unsigned i = 0; i < count; i++)
		waitpid(crowd[i], NULL, 0);
}

/* 0, or why not everybody is there. */
static const char *gather(pid_t *crowd, unsigned count, bool attached)
{
	const char *wrong = NULL;
	int ready[2];
	char said;
	check(pipe2(ready, O_CLOEXEC) == 0, "pipe");
	for (unsigned i = 0; i < count; i++)
		crowd[i] = start(attached, ready[1]);
	close(ready[1]);
	for (unsigned i = 0; i < count && !wrong; i++)
		if (read(ready[0], &said, 1) != 1 || said != 'y')
			wrong = said == 'l' ? "the user has no inotify instance left (fs.inotify.max_user_instances)" : "a process could not be started";
	close(ready[0]);
	return wrong;
}

static int64_t cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void print(const char *name, const double *us, unsigned count, const char *end)
{
	printf("\"%s\": [", name);
	for (unsigned i = 0; i < count; i++)
		printf("%s%.3f", i ? ", " : "", us[i]);
	printf("]%s", end);
}

static void write_often(const char *path, unsigned writes)
{
	static double wall[WRITES_MAX], cpu[WRITES_MAX];
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	check(fd >= 0, path);
	for (unsigned i = 0; i < writes; i++) {
		usleep(APART_US);
		int64_t used = cpu_ns(), begun = now_ns();
		check(pwrite(fd, "#", 1, 0) == 1, path);
		wall[i] = (double)(now_ns() - begun) / 1e3;
		cpu[i] = (double)(cpu_ns() - used) / 1e3;
	}
	close(fd);
	printf("{");
	print("wall_us", wall, writes, ", ");
	print("cpu_us", cpu, writes, "}\n");
}

int main(int argc, char **argv)
{
	static pid_t crowd[PROCESSES_MAX];
	char parent[PATH_MAX];
	unsigned count = argc > 4 ? (unsigned)atoi(argv[3]) : 0, writes = argc > 5 ? (unsigned)atoi(argv[5]) : 400;
	bool attached = argc > 2 && strcmp(argv[2], "attached") == 0;
	if (argc < 5 || argc > 6 || (!attached && strcmp(argv[2], "inotify")) || count > PROCESSES_MAX || !writes || writes > WRITES_MAX) {
		fprintf(stderr, "usage: bench_crowd SUFFIXES attached|inotify PROCESSES FILE [WRITES]\n");
		return 2;
	}
	take_suffixes(argv[1], &suffixes);
	snprintf(parent, sizeof parent, "%s", argv[4]);
	directory = dirname(parent);
	const char *wrong = gather(crowd, count, attached);
	if (!wrong)
		write_often(argv[4], writes);
	end(crowd, count);
	if (wrong)
		fprintf(stderr, "bench_crowd: %s\n", wrong);
	return wrong != NULL;
}
