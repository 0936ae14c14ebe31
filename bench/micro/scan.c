/* SPDX-License-Identifier: MIT */
/*
 * scan: the scanner of the C library alone, as `ladewerk index --dry-run` uses it, but without an interpreter's start.
 *
 *     bench_scan [--threads N] [--backend auto|pool|ring] ROOT        (0: as the scanner chooses)
 *
 * Every listing and every source's stat is handed over and dropped. Prints one line of JSON.
 */
#include "scan.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int drop(void *arg, const struct lw_scan_dir *dir)
{
	if (!dir->error)
		lw_listing_destroy(dir->listing);
	return 0;
}

static void print(const struct lw_scan_stats *stats)
{
	printf("{\"entries\": %llu, \"directories\": %llu, \"modules\": %llu, \"sources\": %llu, \"unreadable\": %llu, \"syscalls\": %llu, "
		"\"threads\": %u, \"backend\": \"%s\", \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
		(unsigned long long)stats->entries, (unsigned long long)stats->directories, (unsigned long long)stats->modules,
		(unsigned long long)stats->sources, (unsigned long long)stats->unreadable, (unsigned long long)stats->syscalls,
		stats->threads, stats->backend, (double)stats->wall_ns / 1e9, (double)stats->cpu_ns / 1e9);
}

static bool parse_backend(const char *name, enum lw_ioq_backend *backend)
{
	static const char *const names[] = { [LW_IOQ_AUTO] = "auto", [LW_IOQ_POOL] = "pool", [LW_IOQ_RING] = "ring" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(name, names[i]) == 0) {
			*backend = (enum lw_ioq_backend)i;
			return true;
		}
	return false;
}

static int usage(void)
{
	fprintf(stderr, "usage: bench_scan [--threads N] [--backend auto|pool|ring] ROOT\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const char *const extension[] = { ".cpython-311-x86_64-linux-gnu.so", ".abi3.so", ".so" };
	struct lw_suffixes suffixes;
	struct lw_scan_config config = { .suffixes = &suffixes };
	struct lw_scan_stats stats;
	unsigned failed;
	int at = 1;
	for (; at + 2 < argc; at += 2) {
		if (strcmp(argv[at], "--threads") == 0)
			config.threads = (unsigned)atoi(argv[at + 1]);
		else if (strcmp(argv[at], "--backend") != 0 || !parse_backend(argv[at + 1], &config.backend))
			return usage();
	}
	if (at + 1 != argc || argv[at][0] == '-' || lw_suffixes_init(&suffixes, extension, 3) != 0)
		return usage();
	char *root = realpath(argv[at], NULL);
	const char *const roots[] = { root };
	int error = root ? lw_scan(&config, roots, 1, drop, NULL, &stats, &failed, NULL) : -1;
	free(root);
	if (error) {
		fprintf(stderr, "bench_scan: %s: %s\n", argv[at], error == -1 ? "no such directory" : strerror(-error));
		return 1;
	}
	print(&stats);
	return 0;
}
