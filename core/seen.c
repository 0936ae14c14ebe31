/* SPDX-License-Identifier: MIT */
/* seen: see seen.h. What is forgotten keeps its slot, so that chains hold, until the table grows. */
#include "seen.h"

#include <stdlib.h>

enum { FIRST_CAPACITY = 256 };

static struct lw_seen_file *slot_of(const struct lw_seen *seen, uint64_t hash)
{
	uint32_t mask = seen->capacity - 1;
	for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask)
		if (!seen->file[i].hash || seen->file[i].hash == hash)
			return &seen->file[i];
}

const struct lw_seen_file *lw_seen_find(const struct lw_seen *seen, uint64_t hash)
{
	const struct lw_seen_file *file = seen->capacity ? slot_of(seen, hash) : NULL;
	return file && file->hash && file->by ? file : NULL;
}

static uint32_t count_living(const struct lw_seen *seen)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < seen->capacity; i++)
		count += seen->file[i].hash && seen->file[i].by;
	return count;
}

/* A larger table, unless most of what is in this one was forgotten. */
static bool grow(struct lw_seen *seen)
{
	uint32_t larger = count_living(seen) >= seen->capacity / 4 ? seen->capacity * 2 : seen->capacity;
	struct lw_seen bigger = { .capacity = seen->capacity ? larger : FIRST_CAPACITY };
	bigger.file = calloc(bigger.capacity, sizeof *bigger.file);
	if (!bigger.file)
		return false;
	for (uint32_t i = 0; i < seen->capacity; i++) {
		if (!seen->file[i].hash || !seen->file[i].by)
			continue;
		*slot_of(&bigger, seen->file[i].hash) = seen->file[i];
		bigger.used++;
	}
	free(seen->file);
	*seen = bigger;
	return true;
}

void lw_seen_add(struct lw_seen *seen, const struct lw_seen_file *file)
{
	if (seen->used >= seen->capacity / 2 && !grow(seen))
		return;
	struct lw_seen_file *slot = slot_of(seen, file->hash);
	seen->used += !slot->hash;
	*slot = *file;
}

void lw_seen_forget(struct lw_seen *seen, uint64_t hash)
{
	struct lw_seen_file *slot = seen->capacity ? slot_of(seen, hash) : NULL;
	if (slot)
		slot->by = 0;
}

void lw_seen_clear(struct lw_seen *seen)
{
	free(seen->file);
	*seen = (struct lw_seen){ 0 };
}
