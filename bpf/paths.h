/* SPDX-License-Identifier: MIT */
/* paths: numbers for names beneath names (stacks), from 1; and sums, by number. */
#ifndef LW_BPF_PATHS_H
#define LW_BPF_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lw_paths lw_paths;

/** NULL without memory. */
lw_paths *lw_paths_create(void);
void lw_paths_destroy(lw_paths *paths);
/** Number of NAME beneath PARENT (0: beneath nothing), always the same. 0 without memory. */
uint32_t lw_paths_get(lw_paths *paths, uint32_t parent, const char *name);
/** How many there are; each from 1 to that is one. */
uint32_t lw_paths_count(const lw_paths *paths);
/** NUMBER must be one. */
uint32_t lw_paths_parent(const lw_paths *paths, uint32_t number);
const char *lw_paths_name(const lw_paths *paths, uint32_t number);

/* Sums by key (number of a path, id of an import); 0 where nothing was added. Begin with zeros; free(values->of). */
struct lw_values {
	uint64_t *of;
	size_t room;
};
/** False: no memory. */
bool lw_values_add(struct lw_values *values, uint64_t key, uint64_t value);
uint64_t lw_values_get(const struct lw_values *values, uint64_t key);

#endif
