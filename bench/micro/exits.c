/* SPDX-License-Identifier: MIT */
/*
 * exits: how long the end of a process takes that was a client of the daemon, or watched by itself.
 *
 *     bench_exits SUFFIXES ROUNDS DIRECTORY ...        (absolute)
 *
 * In turns, forked children that have nothing; are attached; have an inotify instance with a watch on each DIRECTORY. Prints JSON: for each round the us from before _exit until the
 * parent knows of it.
 */
#include "attached.h"

#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { ROUNDS_MAX = 10000, KINDS = 3, MASK = IN_CREATE | IN_DELETE | IN_MOVE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE };

static struct lw_suffixes suffixes;
static char **directory;
static unsigned directories;

static void be_nothing(void)
{
}

static void be_attached(void)
{
	attach(&suffixes);
}

static void be_watching(void)
{
	int fd = inotify_init1(IN_CLOEXEC);
	check(fd >= 0, "inotify instance");
	for (unsigned i = 0; i < directories; i++)
		check(inotify_add_watch(fd, directory[i], MASK) >= 0, directory[i]);
}

static const struct {
	const char *name;
	void (*be)(void);
} kinds[KINDS] = { { "nothing", be_nothing }, { "attached", be_attached }, { "inotify", be_watching } };

/* us; ENDING: shared with the child. */
static double time_exit(void (*be)(void), volatile int64_t *ending)
{
	int status;
	pid_t pid = fork();
	check(pid >= 0, "fork");
	if (!pid) {
		be();
		*ending = now_ns();
		_exit(0);
	}
	check(waitpid(pid, &status, 0) == pid, "wait");
	int64_t ended = now_ns();
	if (status)
		exit(1);
	return (double)(ended - *ending) / 1e3;
}

int main(int argc, char **argv)
{
	static double us[KINDS][ROUNDS_MAX];
	unsigned rounds = argc > 3 ? (unsigned)atoi(argv[2]) : 0;
	if (!rounds || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench_exits SUFFIXES ROUNDS DIRECTORY ...\n");
		return 2;
	}
	take_suffixes(argv[1], &suffixes);
	directory = argv + 3;
	directories = (unsigned)argc - 3;
	int64_t *ending = mmap(NULL, sizeof *ending, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(ending != MAP_FAILED, "memory");
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned i = 0; i < KINDS; i++) {
			unsigned kind = (i + round) % KINDS; /* who comes first changes */
			us[kind][round] = time_exit(kinds[kind].be, ending);
		}
	for (unsigned kind = 0; kind < KINDS; kind++) {
		printf("%s\"%s\": [", kind ? ", " : "{", kinds[kind].name);
		for (unsigned round = 0; round < rounds; round++)
			printf("%s%.1f", round ? ", " : "", us[kind][round]);
		printf("]");
	}
	printf("}\n");
	return 0;
}
