/* SPDX-License-Identifier: MIT */
/*
 * roots: see roots.h. A hash table of root paths, asked for each beginning of a path that can be a root, the longest first: one or two look-ups
 * for roots of similar length, whatever their number.
 */
#include "roots.h"

#include "hash.h"

#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

struct lw_roots {
	uint32_t shortest, longest;	/* lengths of paths */
	uint32_t mask;			/* slots - 1 */
	struct slot {
		uint64_t hash;
		struct lw_root root;	/* path NULL: free */
	} slot[];
};

static struct slot *find(lw_roots *roots, uint64_t hash, const char *path, size_t len)
{
	for (uint32_t i = (uint32_t)hash & roots->mask;; i = (i + 1) & roots->mask) {
		struct slot *slot = &roots->slot[i];
		if (!slot->root.path || (slot->hash == hash && slot->root.len == len && memcmp(slot->root.path, path, len) == 0))
			return slot;
	}
}

static void add(lw_roots *roots, const struct lw_root *root, char **text)
{
	uint64_t hash = lw_hash64(root->path, root->len);
	struct slot *slot = find(roots, hash, root->path, root->len);
	if (slot->root.path)
		return;
	*slot = (struct slot){ .hash = hash, .root = { .path = memcpy(*text, root->path, root->len), .len = root->len, .number = root->number } };
	*text += root->len;
	if (root->len < roots->shortest)
		roots->shortest = root->len;
	if (root->len > roots->longest)
		roots->longest = root->len;
}

lw_roots *lw_roots_create(const struct lw_root *root, unsigned count)
{
	size_t slots = 2, bytes = 1;
	for (unsigned i = 0; i < count; i++)
		bytes += root[i].len;
	while (slots < 2 * (size_t)count)
		slots *= 2;
	lw_roots *roots = calloc(1, sizeof(*roots) + slots * sizeof(*roots->slot) + bytes);
	if (!roots)
		return NULL;
	*roots = (lw_roots){ .shortest = UINT32_MAX, .mask = (uint32_t)slots - 1 };
	char *text = (char *)(roots->slot + slots);
	for (unsigned i = 0; i < count; i++)
		add(roots, &root[i], &text);
	return roots;
}

void lw_roots_destroy(lw_roots *roots)
{
	free(roots);
}

/* Whether REST, what follows a root in a path, goes up: where that leads only the file system knows, perhaps out of the root. */
static bool goes_up(const char *rest, size_t len)
{
	const char *end = rest + len;
	for (const char *at = rest; (at = memmem(at, (size_t)(end - at), "/..", 3)); at += 3)
		if (at + 3 == end || at[3] == '/')
			return true;
	return false;
}

/* The longest root that PATH is or lies below, or NULL. */
static const struct lw_root *root_of(const lw_roots *roots, const char *path, size_t len)
{
	for (size_t end = len + 1; end-- > roots->shortest; ) {
		if (end > roots->longest || (end < len && path[end] != '/'))
			continue;
		const struct slot *slot = find((lw_roots *)roots, lw_hash64(path, end), path, end);
		if (slot->root.path)
			return goes_up(path + end, len - end) ? NULL : &slot->root;
	}
	return NULL;
}

bool lw_roots_hold(const lw_roots *roots, const char *path, size_t len)
{
	return root_of(roots, path, len) != NULL;
}

size_t lw_roots_translate(const lw_roots *roots, const char *path, size_t len, char *out)
{
	const struct lw_root *root = root_of(roots, path, len);
	char number[16];
	if (!root)
		return 0;
	size_t head = (size_t)snprintf(number, sizeof(number), "%u", (unsigned)root->number), rest = len - root->len;
	if (rest > LW_ROOTS_PATH - sizeof(number))
		return 0;
	memcpy(out, number, head);
	memcpy(out + head, path + root->len, rest);
	return head + rest;
}

/* Where the last component of the LEN bytes at OUT begins. */
static size_t without_last(const char *out, size_t len)
{
	while (len && out[--len] != '/')
		;
	return len;
}

int lw_roots_normalise(const char *path, char *out, size_t size)
{
	size_t len = 0;
	if (path[0] != '/' || !size)
		return -EINVAL;
	for (const char *at = path; *at; ) {
		size_t part = strcspn(at += strspn(at, "/"), "/");
		if (part == 2 && at[0] == '.' && at[1] == '.') {
			len = without_last(out, len);
		} else if (part && !(part == 1 && at[0] == '.')) {
			if (part + 1 >= size - len)
				return -ENAMETOOLONG;
			out[len++] = '/';
			memcpy(out + len, at, part);
			len += part;
		}
		at += part;
	}
	out[len] = '\0';
	return 0;
}
