/* SPDX-License-Identifier: MIT */
/*
 * statloop: the bare loop of one statx for each path of a list: what checking the stamps of all directories of an index cannot beat with these calls.
 *
 *     bench_statloop [--threads N] LIST        (1)
 *
 * LIST is a file of paths, each ended by NUL. The time printed does not contain reading it. Prints one line of JSON.
 */
#include "bench.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { CHUNK = 64, MAX_THREADS = 256 };

static char **paths;
static size_t count;
/* The first path that nobody has taken; relaxed: each number is handed out once, nothing else is concluded from it. */
static _Atomic size_t next;

static char *read_file(const char *name, size_t *size)
{
	struct stat st;
	FILE *file = fopen(name, "re");
	check(file && fstat(fileno(file), &st) == 0, name);
	char *text = malloc((size_t)st.st_size + 1);
	check(text && fread(text, 1, (size_t)st.st_size, file) == (size_t)st.st_size, name);
	fclose(file);
	*size = (size_t)st.st_size;
	text[*size] = '\0';
	return text;
}

static void split(char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		count += text[i] == '\0';
	paths = calloc(count + 1, sizeof(*paths));
	check(paths, "memory");
	for (size_t i = 0; i < count; i++) {
		paths[i] = text;
		text += strlen(text) + 1;
	}
}

static void *work(void *arg)
{
	const unsigned mask = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID | STATX_MTIME | STATX_CTIME | STATX_INO | STATX_SIZE;
	struct statx st;
	size_t at;
	while ((at = atomic_fetch_add_explicit(&next, CHUNK, memory_order_relaxed)) < count)
		for (size_t i = at; i < at + CHUNK && i < count; i++)
			check(statx(AT_FDCWD, paths[i], 0, mask, &st) == 0, paths[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned threads = argc == 4 && strcmp(argv[1], "--threads") == 0 ? (unsigned)atoi(argv[2]) : 1;
	pthread_t thread[MAX_THREADS];
	size_t size;
	if ((argc != 2 && argc != 4) || argv[argc - 1][0] == '-' || !threads || threads > MAX_THREADS) {
		fprintf(stderr, "usage: bench_statloop [--threads N] LIST\n");
		return 2;
	}
	char *text = read_file(argv[argc - 1], &size);
	split(text, size);
	int64_t start = now_ns();
	for (unsigned i = 1; i < threads; i++)
		check(pthread_create(&thread[i], NULL, work, NULL) == 0, "a thread");
	work(NULL);
	for (unsigned i = 1; i < threads; i++)
		pthread_join(thread[i], NULL);
	printf("{\"directories\": %zu, \"threads\": %u, \"seconds\": %.6f}\n", count, threads, (double)(now_ns() - start) / 1e9);
	free(paths);
	free(text);
	return 0;
}
