/* SPDX-License-Identifier: MIT */
#include "learn.h"

#include "pyc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const int64_t FAILURE_NS = 1000 * 1000 * 1000; /* a full disk is not tried again for a while */
enum { BUDGET_NS = 8 * 1000 * 1000, SHARE = 50, BYTES_LIMIT = 8 << 20 };

/* One block: this, the code, the path. */
struct lw_learnt_file {
	struct lw_learnt_file *next;
	uint64_t stamp, content;
	bool readable;
	size_t len;		/* of the code */
	size_t path_len;
	char data[];
};

void lw_learner_init(struct lw_learner *learner, bool off)
{
	*learner = (struct lw_learner){ .begun_ns = lw_monotonic_ns(), .off = off };
	learner->last = &learner->first;
}

void lw_learner_forget(struct lw_learner *learner)
{
	while (learner->first) {
		struct lw_learnt_file *file = learner->first;
		learner->first = file->next;
		free(file);
	}
	learner->last = &learner->first;
	learner->bytes = 0;
}

void lw_learner_destroy(struct lw_learner *learner)
{
	lw_learner_forget(learner);
	free(learner->taken);
	learner->taken = NULL;
	learner->taken_count = learner->taken_capacity = 0;
}

static uint64_t *taken_slot(uint64_t *taken, uint32_t capacity, uint64_t fact)
{
	uint32_t i = (uint32_t)fact & (capacity - 1);
	while (taken[i] && taken[i] != fact)
		i = (i + 1) & (capacity - 1);
	return &taken[i];
}

static bool grow_taken(struct lw_learner *learner)
{
	uint32_t capacity = learner->taken_capacity ? learner->taken_capacity * 2 : 256;
	uint64_t *taken = calloc(capacity, sizeof(*taken));
	if (!taken)
		return false;
	for (uint32_t i = 0; i < learner->taken_capacity; i++)
		if (learner->taken[i])
			*taken_slot(taken, capacity, learner->taken[i]) = learner->taken[i];
	free(learner->taken);
	learner->taken = taken;
	learner->taken_capacity = capacity;
	return true;
}

/* Whether this process has learnt the same before; notes it. Without memory it is learnt twice. */
static bool taken_before(struct lw_learner *learner, const struct lw_hit *hit, uint64_t stamp)
{
	const uint64_t parts[] = { lw_hash64(hit->path, hit->len), stamp };
	uint64_t fact = lw_hash64(parts, sizeof(parts));
	if (learner->taken_count >= learner->taken_capacity / 2 && !grow_taken(learner))
		return false;
	uint64_t *slot = taken_slot(learner->taken, learner->taken_capacity, fact);
	bool before = *slot == fact;
	learner->taken_count += !before;
	*slot = fact;
	return before;
}

void lw_learner_add(struct lw_learner *learner, const struct lw_hit *hit, uint64_t stamp, uint64_t content, const void *code, size_t len, bool readable)
{
	if (learner->off || len >= 1u << LW_FILE_LEN_BITS)
		return;
	struct lw_learnt_file *file = malloc(sizeof(*file) + len + hit->len + 1);
	if (!file)
		return;
	if (taken_before(learner, hit, stamp)) {
		free(file);
		return;
	}
	*file = (struct lw_learnt_file){ .stamp = stamp, .content = content, .readable = readable, .len = len, .path_len = hit->len };
	memcpy(file->data, code, len);
	memcpy(file->data + len, hit->path, hit->len + 1);
	*learner->last = file;
	learner->last = &file->next;
	learner->bytes += sizeof(*file) + len + hit->len;
}

bool lw_learner_pending(const struct lw_learner *learner, const struct lw_dirs *dirs, lw_view *const *view, unsigned views)
{
	if (learner->off)
		return false;
	if (learner->first || dirs->dirty)
		return true;
	for (unsigned i = 0; i < views; i++)
		if (lw_view_unlearnt(view[i]))
			return true;
	return false;
}

bool lw_learner_time(const struct lw_learner *learner)
{
	if (learner->bytes > BYTES_LIMIT)
		return true;
	int64_t budget = BUDGET_NS + (lw_monotonic_ns() - learner->begun_ns) / SHARE;
	return learner->spent_ns + learner->cost_ns <= budget;
}

/* Whether the source is still what the code was taken from; fills in its content hash. */
static bool still_holds(struct lw_learnt_file *file)
{
	struct lw_stat st;
	uint64_t expected = file->content;
	return lw_content_hash(file->data + file->len, &st, &file->content) == 0 && lw_stamp(&st) == file->stamp
		&& (!expected || expected == file->content);
}

static int build_files(struct lw_learner *learner, lw_build *build, struct lw_session_stats *stats)
{
	for (struct lw_learnt_file *file = learner->first; file; file = file->next) {
		if (!still_holds(file)) {
			stats->dropped++;
			continue;
		}
		int error = lw_build_file(build, lw_hash128(file->data + file->len, file->path_len), file->stamp, file->content,
				file->readable ? LW_FILE_PUBLIC : 0, file->data, file->len, false);
		if (error)
			return error;
		stats->learnt_files++;
		stats->learnt_bytes += file->len;
	}
	return 0;
}

/* Whether the directory is still what was read: an old process must not overrule what somebody has stored since. */
static bool dir_holds(const struct lw_dir *dir)
{
	uint64_t token;
	bool weak;
	return lw_token_now(dir->path, &token, &weak) == 0 && token == lw_dir_token(dir);
}

static int build_dirs(struct lw_dirs *dirs, lw_build *build, struct lw_session_stats *stats)
{
	for (uint32_t i = 0; dirs->dirty && i < dirs->capacity; i++) {
		for (struct lw_dir *dir = dirs->table[i]; dir; dir = dir->next) {
			if (!dir->dirty)
				continue;
			bool holds = dir_holds(dir);
			int error = holds ? lw_build_dir(build, dir->path, dir->len, dir->stamp, dir->flags, dir->listing) : 0;
			if (error)
				return error;
			lw_dirs_stored(dirs, dir);
			stats->learnt_dirs += holds;
			stats->dropped += !holds;
		}
	}
	return 0;
}

static int build_views(lw_build *build, lw_view *const *view, unsigned views)
{
	for (unsigned i = 0; i < views; i++) {
		int error = lw_view_learn(view[i], build);
		if (error)
			return error;
		lw_view_learnt(view[i]);
	}
	return 0;
}

int lw_learner_flush(struct lw_learner *learner, struct lw_dirs *dirs, lw_view *const *view, unsigned views, lw_store *store, struct lw_session_stats *stats)
{
	if (!lw_learner_pending(learner, dirs, view, views))
		return 0;
	int64_t start = lw_monotonic_ns();
	int error;
	lw_build *build = lw_build_create();
	if (!build)
		return -ENOMEM;
	error = build_dirs(dirs, build, stats);
	if (!error)
		error = build_views(build, view, views);
	if (!error)
		error = build_files(learner, build, stats);
	if (!error && !lw_build_empty(build)) {
		error = lw_store_append(store, build);
		stats->segments_written += !error;
	}
	lw_build_destroy(build);
	if (error) {
		stats->write_errors++;
		stats->last_write_error = -error;
		learner->spent_ns += FAILURE_NS;
	}
	lw_learner_forget(learner);
	learner->cost_ns = lw_monotonic_ns() - start;
	learner->spent_ns += learner->cost_ns;
	return error;
}
