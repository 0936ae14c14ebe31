/* SPDX-License-Identifier: MIT */
/*
 * randread: how long a random read of 4 KiB takes, past the page cache, by N threads at once: shows what a slow disk is like.
 *
 *     bench_randread [--threads N] FILE        (1)
 *
 * One second; prints one line of JSON.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, MAX_THREADS = 256 };
static const int64_t DURATION = 1000000000;

static const char *path;
static uint64_t blocks;

struct reader {
	pthread_t thread;
	uint64_t seed, reads;
};

static void *work(void *arg)
{
	struct reader *reader = arg;
	void *buffer = aligned_alloc(BLOCK, BLOCK);
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	check(buffer && fd >= 0, path);
	for (int64_t end = now_ns() + DURATION; now_ns() < end; reader->reads++) {
		reader->seed = reader->seed * 6364136223846793005u + 1442695040888963407u;
		check(pread(fd, buffer, BLOCK, (off_t)((reader->seed >> 20) % blocks * BLOCK)) == BLOCK, path);
	}
	close(fd);
	free(buffer);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned threads = argc == 4 && strcmp(argv[1], "--threads") == 0 ? (unsigned)atoi(argv[2]) : 1;
	static struct reader reader[MAX_THREADS];
	uint64_t reads = 0;
	if ((argc != 2 && argc != 4) || argv[argc - 1][0] == '-' || !threads || threads > MAX_THREADS) {
		fprintf(stderr, "usage: bench_randread [--threads N] FILE\n");
		return 2;
	}
	path = argv[argc - 1];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd >= 0, path);
	blocks = (uint64_t)lseek(fd, 0, SEEK_END) / BLOCK;
	close(fd);
	errno = EINVAL;
	check(blocks, path);
	for (unsigned i = 0; i < threads; i++) {
		reader[i].seed = i + 1;
		check(pthread_create(&reader[i].thread, NULL, work, &reader[i]) == 0, "a thread");
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(reader[i].thread, NULL);
		reads += reader[i].reads;
	}
	printf("{\"threads\": %u, \"per_second\": %llu, \"mean_ms\": %.3f}\n", threads, (unsigned long long)reads, threads * 1e3 / (double)reads);
	return 0;
}
