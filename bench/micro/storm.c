/* SPDX-License-Identifier: MIT */
/*
 * storm: many files made as fast as possible, by several processes at once.
 *
 *     bench_storm FILES PROCESSES < DIRECTORIES (one a line)
 *
 * Each file is created under another name, written, and renamed to storm_NUMBER.py. Three of four come to the directories named; the fourth to a new one, made on the way, with some
 * others of its kind. Prints the seconds that it took on standard error, and the path of each file.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DIRECTORIES_MAX = 1 << 16, IN_NEW = 64 };

static char *directory[DIRECTORIES_MAX];
static unsigned directories;

static void read_directories(void)
{
	char line[PATH_MAX];
	while (directories < DIRECTORIES_MAX && fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = '\0';
		directory[directories] = strdup(line);
		check(directory[directories++], "memory");
	}
}

/* Where file NUMBER comes to; of IN_NEW in a row, those that come to a new directory come to the same. */
static void place(unsigned number, char *out, bool *is_new)
{
	*is_new = number % 4 == 3;
	if (*is_new)
		snprintf(out, PATH_MAX, "%.3000s/storm_%u", directory[number / IN_NEW % directories], number / IN_NEW);
	else
		snprintf(out, PATH_MAX, "%.3000s", directory[number % directories]);
}

static void make(unsigned number)
{
	char where[PATH_MAX], draft[PATH_MAX + 32], path[PATH_MAX + 32], text[32];
	bool is_new;
	place(number, where, &is_new);
	if (is_new)
		check(mkdir(where, 0755) == 0 || errno == EEXIST, where);
	snprintf(draft, sizeof draft, "%s/storm_%u.tmp", where, number);
	snprintf(path, sizeof path, "%s/storm_%u.py", where, number);
	int len = snprintf(text, sizeof text, "NUMBER = %u\n", number);
	int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	check(fd >= 0, draft);
	check(write(fd, text, (size_t)len) == len, draft);
	close(fd);
	check(rename(draft, path) == 0, path);
}

static void wait_for_all(unsigned processes)
{
	for (unsigned i = 0; i < processes; i++) {
		int status;
		check(wait(&status) > 0, "wait");
		if (status)
			exit(1);
	}
}

int main(int argc, char **argv)
{
	unsigned files = argc == 3 ? (unsigned)atoi(argv[1]) : 0, processes = argc == 3 ? (unsigned)atoi(argv[2]) : 0;
	if (!files || !processes) {
		fprintf(stderr, "usage: bench_storm FILES PROCESSES < DIRECTORIES\n");
		return 2;
	}
	read_directories();
	check(directories, "no directories");
	int64_t begun = now_ns();
	for (unsigned process = 0; process < processes; process++) {
		pid_t pid = fork();
		check(pid >= 0, "fork");
		for (unsigned number = process; !pid && number < files; number += processes)
			make(number);
		if (!pid)
			_exit(0);
	}
	wait_for_all(processes);
	fprintf(stderr, "%.6f\n", (double)(now_ns() - begun) / 1e9);
	for (unsigned number = 0; number < files; number++) {
		char where[PATH_MAX];
		bool is_new;
		place(number, where, &is_new);
		printf("%s/storm_%u.py\n", where, number);
	}
	return 0;
}
