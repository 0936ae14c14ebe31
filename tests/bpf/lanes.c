/* SPDX-License-Identifier: MIT */
/* lanes, paths: what is open in a thread when ends come in any order; numbers that stay the same. */
#include "lanes.h"
#include "paths.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

Test(lanes, ends_in_any_order)
{
	lw_lanes *lanes = lw_lanes_create();
	struct lw_lane *lane = lw_lanes_get(lanes, 1, 2, NULL);
	for (uint64_t id = 1; id <= 100; id++)
		cr_assert(lw_lane_open(lane, id));
	cr_assert_eq(lw_lane_above(lane, 100), 0);
	cr_assert_eq(lw_lane_above(lane, 1), 99);
	cr_assert_eq(lw_lane_above(lane, 1000), 0);
	lw_lane_close(lane, 1000);
	cr_assert_eq(lane->count, 100);
	lw_lane_close(lane, 50);
	lw_lane_close(lane, 50);
	cr_assert_eq(lane->count, 99);
	cr_assert_eq(lw_lane_above(lane, 1), 98);
	cr_assert_eq(lw_lane_above(lane, 51), 49);
	for (uint64_t id = 1; id <= 100; id++)
		lw_lane_close(lane, id);
	cr_assert_eq(lane->count, 0);
	lw_lane_close(lane, 1);
	lw_lanes_destroy(lanes);
}

Test(lanes, one_per_thread)
{
	lw_lanes *lanes = lw_lanes_create();
	bool is_new;
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t thread = 0; thread < 300; thread++) {
			struct lw_lane *lane = lw_lanes_get(lanes, thread / 100, thread % 150, &is_new);
			cr_assert_eq(is_new, !round);
			cr_assert(lane->pid == thread / 100 && lane->tid == thread % 150);
			cr_assert_eq(lane->first, thread % 100 == 0);
		}
	}
	unsigned count = 0;
	for (const struct lw_lane *lane = lw_lanes_first(lanes); lane; lane = lane->next)
		cr_assert_eq(lane->tid, count++ % 150);
	cr_assert_eq(count, 300);
	lw_lanes_destroy(lanes);
	lw_lanes_destroy(NULL);
}

Test(paths, names_beneath_names)
{
	lw_paths *paths = lw_paths_create();
	char name[16];
	uint32_t numbers[20][20];
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 20; i++) {
			snprintf(name, sizeof(name), "m%u", i);
			uint32_t outer = lw_paths_get(paths, 0, name);
			for (unsigned j = 0; j < 20; j++) {
				snprintf(name, sizeof(name), "m%u", j);
				uint32_t inner = lw_paths_get(paths, outer, name);
				cr_assert(inner && lw_paths_parent(paths, inner) == outer);
				cr_assert_str_eq(lw_paths_name(paths, inner), name);
				cr_assert(!round || numbers[i][j] == inner);
				numbers[i][j] = inner;
			}
		}
		cr_assert_eq(lw_paths_count(paths), 420);
	}
	lw_paths_destroy(paths);
	lw_paths_destroy(NULL);
}

Test(paths, sums)
{
	struct lw_values values = { 0 };
	cr_assert_eq(lw_values_get(&values, 5), 0);
	for (uint64_t key = 1; key < 100000; key = key * 3 + 1) {
		cr_assert(lw_values_add(&values, key, key));
		cr_assert(lw_values_add(&values, key, 1));
		cr_assert_eq(lw_values_get(&values, key), key + 1);
		cr_assert_eq(lw_values_get(&values, key + 1), 0);
	}
	cr_assert_eq(lw_values_get(&values, 1), 2);
	cr_assert_not(lw_values_add(&values, UINT64_MAX, 1), "no such memory");
	cr_assert_eq(lw_values_get(&values, UINT64_MAX), 0);
	free(values.of);
}
