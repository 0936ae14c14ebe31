/* SPDX-License-Identifier: MIT */
/* intern: see intern.h. Buckets are fixed: a trace has some ten thousand names at most. */
#include "intern.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096 };

struct entry {
	struct entry *next;
	size_t len;
	char text[];
};

struct lw_interned {
	struct entry *bucket[BUCKETS];
};

lw_interned *lw_interned_create(void)
{
	return calloc(1, sizeof(lw_interned));
}

void lw_interned_destroy(lw_interned *table)
{
	for (unsigned i = 0; table && i < BUCKETS; i++)
		for (struct entry *entry = table->bucket[i], *next; entry; entry = next) {
			next = entry->next;
			free(entry);
		}
	free(table);
}

/* FNV-1a. */
static uint32_t hash(const char *text, size_t len)
{
	uint32_t sum = 2166136261u;
	for (size_t i = 0; i < len; i++)
		sum = (sum ^ (unsigned char)text[i]) * 16777619u;
	return sum ^ sum >> 16;
}

const char *lw_interned_text(lw_interned *table, const char *text, size_t len)
{
	struct entry **bucket = &table->bucket[hash(text, len) % BUCKETS];
	for (struct entry *entry = *bucket; entry; entry = entry->next)
		if (entry->len == len && memcmp(entry->text, text, len) == 0)
			return entry->text;
	struct entry *entry = malloc(sizeof(*entry) + len + 1);
	if (!entry)
		return NULL;
	entry->next = *bucket;
	entry->len = len;
	memcpy(entry->text, text, len);
	entry->text[len] = '\0';
	*bucket = entry;
	return entry->text;
}
