/* SPDX-License-Identifier: MIT */
/*
 * census: see census.h. Records are sorted by hash in each index, so what newer indexes know is found by going through all of them side by side: no
 * lookup for each. Where a damaged table is not sorted an older fact comes up as well: somebody looks once too often.
 */
#include "census.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1 << 14 };

static size_t without_slashes(const char *path, size_t len)
{
	while (len && path[len - 1] == '/')
		len--;
	return len;
}

bool lw_census_below(const char *path, size_t len, const char *root)
{
	size_t root_len = without_slashes(root, strlen(root));
	len = without_slashes(path, len);
	return len >= root_len && memcmp(path, root, root_len) == 0 && (len == root_len || path[root_len] == '/');
}

static bool wanted(const struct lw_census_item *item, const char *const *roots, unsigned count)
{
	bool found = count == 0;
	for (unsigned i = 0; i < count && !found; i++)
		found = lw_census_below(item->path, item->path_len, roots[i]);
	return found;
}

static bool is_path(const struct lw_census_item *item)
{
	size_t len = item->path_len;
	return len == 0 || (len < PATH_MAX && item->path[0] == '/' && !memchr(item->path, '\0', len));
}

/* A newer index, and how far it has been gone through. */
struct newer {
	const lw_index *index;
	uint32_t at, count;
};

static bool same_path(const struct lw_census_item *item, const struct lw_dir_record *record, const char *path)
{
	return record->path_len == item->path_len && memcmp(path, item->path, record->path_len) == 0;
}

/* Whether it knows ITEM's directory, whose path has this HASH. What it passes by has a smaller hash than all that is asked for later. */
static bool knows(struct newer *newer, const struct lw_census_item *item, uint64_t hash)
{
	const struct lw_dir_record *record;
	const char *path;
	for (uint32_t i = newer->at; i < newer->count; i++) {
		int got = lw_index_dir_record_at(newer->index, i, &record, &path);
		if (got == LW_OK && record->hash > hash)
			return false;
		if (got == LW_OK && record->hash == hash && same_path(item, record, path))
			return true;
		newer->at += i == newer->at && (got != LW_OK || record->hash < hash);
	}
	return false;
}

/*
 * The facts of index number N of the snapshot that no newer one has. Paths are not looked at, for here they come in random order: that would cost
 * more than the rest.
 */
static void take_index(const struct lw_snapshot *snapshot, unsigned n, struct newer *newer, struct lw_census *census)
{
	const lw_index *index = snapshot->index[n];
	uint32_t records = lw_index_dir_count(index);
	for (unsigned j = 0; j < n; j++)
		newer[j].at = 0;
	for (uint32_t i = 0; i < records; i++) {
		struct lw_census_item *item = &census->items[census->count];
		const struct lw_dir_record *record;
		const char *path;
		if (lw_index_dir_record_at(index, i, &record, &path) != LW_OK) {
			census->damaged++;
			continue;
		}
		*item = (struct lw_census_item){
			.path = path, .index = index, .stamp = record->stamp, .at = record->path, .path_len = record->path_len, .flags = record->flags,
		};
		bool hidden = false;
		for (unsigned j = 0; j < n && !hidden; j++)
			hidden = knows(&newer[j], item, record->hash);
		census->count += !hidden;
	}
	newer[n] = (struct newer){ .index = index, .count = records };
}

/* Near enough: by the upper bits of where the path lies. */
static void sort_by_path(const struct lw_census_item *from, size_t count, struct lw_census_item *to, uint32_t *bucket)
{
	uint32_t most = 0;
	unsigned shift = 0;
	memset(bucket, 0, (BUCKETS + 1) * sizeof *bucket);
	for (size_t i = 0; i < count; i++)
		most = from[i].at > most ? from[i].at : most;
	while (most >> shift >= BUCKETS)
		shift++;
	for (size_t i = 0; i < count; i++)
		bucket[(from[i].at >> shift) + 1]++;
	for (size_t b = 1; b <= BUCKETS; b++)
		bucket[b] += bucket[b - 1];
	for (size_t i = 0; i < count; i++)
		to[bucket[from[i].at >> shift]++] = from[i];
}

static int sort_all(struct lw_census *census)
{
	struct lw_census_item *sorted = calloc(census->count + 1, sizeof *sorted);
	uint32_t *bucket = malloc((BUCKETS + 1) * sizeof *bucket);
	size_t begin = 0, end;
	int error = sorted && bucket ? 0 : -ENOMEM;
	for (; !error && begin < census->count; begin = end) {
		for (end = begin; end < census->count && census->items[end].index == census->items[begin].index; end++)
			;
		sort_by_path(census->items + begin, end - begin, sorted + begin, bucket);
	}
	free(bucket);
	free(error ? sorted : census->items);
	if (!error)
		census->items = sorted;
	return error;
}

/* What is no path is left out, and what is not wanted. */
static void choose(struct lw_census *census, const char *const *roots, unsigned count)
{
	size_t kept = 0;
	for (size_t i = 0; i < census->count; i++) {
		const struct lw_census_item *item = &census->items[i];
		bool good = is_path(item);
		census->damaged += !good;
		if (good && wanted(item, roots, count))
			census->items[kept++] = *item;
	}
	census->count = kept;
}

int lw_census_take(const struct lw_snapshot *snapshot, const char *const *roots, unsigned count, struct lw_census *out)
{
	size_t most = 1;
	for (unsigned n = 0; n < snapshot->count; n++)
		most += lw_index_dir_count(snapshot->index[n]);
	struct newer *newer = calloc(snapshot->count + 1, sizeof *newer);
	*out = (struct lw_census){ .items = calloc(most, sizeof *out->items) };
	int error = newer && out->items ? 0 : -ENOMEM;
	for (unsigned n = 0; n < snapshot->count && !error; n++)
		take_index(snapshot, n, newer, out);
	if (!error)
		error = sort_all(out);
	free(newer);
	if (error)
		lw_census_free(out);
	else
		choose(out, roots, count);
	return error;
}

void lw_census_free(struct lw_census *census)
{
	free(census->items);
	*census = (struct lw_census){ 0 };
}

const struct lw_dir_record *lw_census_find(const struct lw_snapshot *snapshot, const char *path, size_t len)
{
	const struct lw_dir_record *record = NULL;
	int got = LW_ABSENT;
	for (unsigned n = 0; n < snapshot->count && got == LW_ABSENT; n++)
		got = lw_index_find_dir_record(snapshot->index[n], path, len, &record);
	return got == LW_OK ? record : NULL;
}
