/* SPDX-License-Identifier: MIT */
/*
 * snapshot: is what the daemon says of a tree what a walk finds there?
 *
 *     bench_snapshot SUFFIXES ROOT
 *
 * Attaches, walks ROOT as the daemon does, and asks the client about each directory and each source. Prints JSON: how many were compared, and how many the daemon knows
 * nothing of ("unknown") or something else ("wrong"). To be run when `ladewerk watch --status` has nothing marked.
 */
#include "attached.h"
#include "index.h"
#include "scan.h"

#include <limits.h>

struct comparison {
	lw_fresh *client;
	unsigned directories, sources, unknown_directories, wrong_directories, unknown_sources, wrong_sources;
};

static bool is_same_listing(const struct lw_index_dir *known, const struct lw_listing *listing)
{
	const struct lw_entry *entry;
	if (known->record->count != listing->count)
		return false;
	for (uint32_t i = 0; i < listing->count; i++) {
		const struct lw_entry *there = &listing->entries[i];
		if (lw_index_dir_find(known, listing->names + there->name, there->len, &entry) != LW_OK || !entry || entry->kinds != there->kinds)
			return false;
	}
	return true;
}

/* KNOWN: NULL if the directory is not. */
static uint64_t known_stamp(const struct comparison *comparison, const struct lw_index_dir *known, const char *name, size_t name_len, const char *path, size_t len)
{
	const struct lw_entry *entry;
	if (!known || lw_index_dir_find(known, name, name_len, &entry) != LW_OK || !entry)
		return 0;
	return lw_fresh_file(comparison->client, path, len, known, entry);
}

static void compare_sources(struct comparison *comparison, const struct lw_scan_dir *dir, const struct lw_index_dir *known)
{
	for (unsigned i = 0; i < dir->source_count; i++) {
		const struct lw_scan_source *source = &dir->sources[i];
		char path[PATH_MAX + UINT8_MAX + sizeof ".py"];
		const char *name = dir->listing->names + source->name;
		int len = snprintf(path, sizeof path, "%s/%.*s.py", dir->path, source->len, name);
		uint64_t stamp = known_stamp(comparison, known, name, source->len, path, (size_t)len);
		/* Of these it says nothing, on purpose. */
		if (source->stat.nlink > 1)
			continue;
		comparison->sources++;
		comparison->unknown_sources += !stamp;
		comparison->wrong_sources += stamp && stamp != lw_stamp(&source->stat);
	}
}

/* One thread. */
static int compare(void *arg, const struct lw_scan_dir *dir)
{
	struct comparison *comparison = arg;
	struct lw_index_dir known;
	if (dir->error)
		return 0;
	comparison->directories++;
	bool is_known = lw_fresh_dir(comparison->client, dir->path, dir->path_len, &known);
	comparison->unknown_directories += !is_known;
	if (is_known)
		comparison->wrong_directories += known.record->stamp != lw_stamp(&dir->stat) || !is_same_listing(&known, dir->listing);
	compare_sources(comparison, dir, is_known ? &known : NULL);
	lw_listing_destroy(dir->listing);
	return 0;
}

int main(int argc, char **argv)
{
	struct lw_suffixes suffixes;
	struct lw_scan_stats stats;
	unsigned failed;
	if (argc != 3) {
		fprintf(stderr, "usage: bench_snapshot SUFFIXES ROOT\n");
		return 2;
	}
	take_suffixes(argv[1], &suffixes);
	struct comparison found = { .client = attach(&suffixes) };
	struct lw_scan_config config = { .suffixes = &suffixes, .threads = 1, .linked = true };
	const char *const roots[] = { argv[2] };
	check(lw_scan(&config, roots, 1, compare, &found, &stats, &failed, NULL) == 0, argv[2]);
	printf("{\"directories\": %u, \"unknown_directories\": %u, \"wrong_directories\": %u, \"sources\": %u, \"unknown_sources\": %u, \"wrong_sources\": %u}\n",
		found.directories, found.unknown_directories, found.wrong_directories, found.sources, found.unknown_sources, found.wrong_sources);
	lw_fresh_destroy(found.client);
	return 0;
}
