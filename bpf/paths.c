/* SPDX-License-Identifier: MIT */
/* paths: see paths.h. */
#include "paths.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

struct path {
	uint32_t parent, number;
	char name[];
};

struct lw_paths {
	void *tree;		/* of tsearch(3) */
	struct path **all;	/* by number - 1 */
	uint32_t count, room;
};

struct key {
	uint32_t parent;
	const char *name;
};

/* tfind(3) has the key on the left. */
static int compare_key(const void *left, const void *right)
{
	const struct key *key = left;
	const struct path *path = right;
	if (key->parent != path->parent)
		return key->parent < path->parent ? -1 : 1;
	return strcmp(key->name, path->name);
}

static int compare(const void *left, const void *right)
{
	const struct path *path = left;
	return compare_key(&(struct key){ path->parent, path->name }, right);
}

lw_paths *lw_paths_create(void)
{
	return calloc(1, sizeof(lw_paths));
}

void lw_paths_destroy(lw_paths *paths)
{
	if (!paths)
		return;
	tdestroy(paths->tree, free);
	free(paths->all);
	free(paths);
}

static bool make_room(lw_paths *paths)
{
	if (paths->count < paths->room)
		return true;
	uint32_t room = paths->room ? 2 * paths->room : 64;
	struct path **all = room > paths->room ? reallocarray(paths->all, room, sizeof(*all)) : NULL;
	if (!all)
		return false;
	paths->all = all;
	paths->room = room;
	return true;
}

static uint32_t add(lw_paths *paths, uint32_t parent, const char *name)
{
	if (!make_room(paths))
		return 0;
	size_t size = strlen(name) + 1;
	struct path *path = malloc(sizeof(*path) + size);
	if (!path)
		return 0;
	path->parent = parent;
	path->number = paths->count + 1;
	memcpy(path->name, name, size);
	if (!tsearch(path, &paths->tree, compare)) {
		free(path);
		return 0;
	}
	paths->all[paths->count++] = path;
	return path->number;
}

uint32_t lw_paths_get(lw_paths *paths, uint32_t parent, const char *name)
{
	struct path *const *found = tfind(&(struct key){ parent, name }, &paths->tree, compare_key);
	return found ? (*found)->number : add(paths, parent, name);
}

uint32_t lw_paths_count(const lw_paths *paths)
{
	return paths->count;
}

uint32_t lw_paths_parent(const lw_paths *paths, uint32_t number)
{
	return paths->all[number - 1]->parent;
}

const char *lw_paths_name(const lw_paths *paths, uint32_t number)
{
	return paths->all[number - 1]->name;
}

/* Keys come in order, more or less. */
static bool values_reach(struct lw_values *values, uint64_t key)
{
	if (key < values->room)
		return true;
	if (key > SIZE_MAX / (4 * sizeof(*values->of)))
		return false;
	size_t room = key < 64 ? 64 : 2 * (size_t)key;
	uint64_t *of = reallocarray(values->of, room, sizeof(*of));
	if (!of)
		return false;
	memset(&of[values->room], 0, (room - values->room) * sizeof(*of));
	values->of = of;
	values->room = room;
	return true;
}

bool lw_values_add(struct lw_values *values, uint64_t key, uint64_t value)
{
	if (!values_reach(values, key))
		return false;
	values->of[key] += value;
	return true;
}

uint64_t lw_values_get(const struct lw_values *values, uint64_t key)
{
	return key < values->room ? values->of[key] : 0;
}
