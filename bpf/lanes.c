/* SPDX-License-Identifier: MIT */
/* lanes: see lanes.h. */
#include "lanes.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

struct lw_lanes {
	void *tree;		/* of tsearch(3): the lanes, by numbers */
	struct lw_lane *first, **end;
};

static int compare(const void *one, const void *other)
{
	const struct lw_lane *a = one, *b = other;
	if (a->tid != b->tid)
		return a->tid < b->tid ? -1 : 1;
	return a->pid == b->pid ? 0 : a->pid < b->pid ? -1 : 1;
}

lw_lanes *lw_lanes_create(void)
{
	lw_lanes *lanes = calloc(1, sizeof(*lanes));
	if (lanes)
		lanes->end = &lanes->first;
	return lanes;
}

static void destroy_lane(void *node)
{
	struct lw_lane *lane = node;
	free(lane->open);
	free(lane->own);
	free(lane);
}

void lw_lanes_destroy(lw_lanes *lanes)
{
	if (!lanes)
		return;
	tdestroy(lanes->tree, destroy_lane);
	free(lanes);
}

static bool has_process(const lw_lanes *lanes, uint32_t pid)
{
	for (const struct lw_lane *lane = lanes->first; lane; lane = lane->next) {
		if (lane->pid == pid)
			return true;
	}
	return false;
}

static struct lw_lane *add(lw_lanes *lanes, uint32_t pid, uint32_t tid)
{
	struct lw_lane *lane = calloc(1, sizeof(*lane));
	if (!lane)
		return NULL;
	*lane = (struct lw_lane){ .pid = pid, .tid = tid, .first = !has_process(lanes, pid) };
	if (!tsearch(lane, &lanes->tree, compare)) {
		free(lane);
		return NULL;
	}
	*lanes->end = lane;
	lanes->end = &lane->next;
	return lane;
}

struct lw_lane *lw_lanes_get(lw_lanes *lanes, uint32_t pid, uint32_t tid, bool *is_new)
{
	const struct lw_lane key = { .pid = pid, .tid = tid };
	struct lw_lane *const *found = tfind(&key, &lanes->tree, compare);
	struct lw_lane *lane = found ? *found : add(lanes, pid, tid);
	if (is_new)
		*is_new = lane && !found;
	return lane;
}

struct lw_lane *lw_lanes_first(lw_lanes *lanes)
{
	return lanes->first;
}

bool lw_lane_open(struct lw_lane *lane, uint64_t id)
{
	if (lane->count == lane->room) {
		size_t room = lane->room ? 2 * lane->room : 16;
		uint64_t *open = reallocarray(lane->open, room, sizeof(*open));
		if (!open)
			return false;
		lane->open = open;
		lane->room = room;
	}
	lane->open[lane->count++] = id;
	return true;
}

size_t lw_lane_above(const struct lw_lane *lane, uint64_t id)
{
	for (size_t above = 0; above < lane->count; above++) {
		if (lane->open[lane->count - 1 - above] == id)
			return above;
	}
	return 0;
}

void lw_lane_close(struct lw_lane *lane, uint64_t id)
{
	size_t above = lw_lane_above(lane, id);
	if (above >= lane->count || lane->open[lane->count - 1 - above] != id)
		return;
	memmove(&lane->open[lane->count - 1 - above], &lane->open[lane->count - above], above * sizeof(*lane->open));
	lane->count--;
}
