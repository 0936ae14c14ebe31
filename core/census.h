/* SPDX-License-Identifier: MIT */
/*
 * census: the newest fact about each directory that a snapshot's indexes know, in an order in which the kernel likes to be asked.
 *
 * Records lie in an index by the hash of their paths. Here they come by where their paths lie in STRINGS, which is the order in which they were
 * added: neighbours have most of their way in common.
 */
#ifndef LW_CENSUS_H
#define LW_CENSUS_H

#include "registry.h"

#include <stddef.h>

/** A record, as far as it is of use without its entries: the records themselves lie in another order, each one a cache miss. */
struct lw_census_item {
	const char *path;		/* verified; PATH_LEN bytes, not terminated; "" is the root directory */
	const lw_index *index;
	uint64_t stamp;
	uint32_t at;			/* of the path, in STRINGS */
	uint16_t path_len;
	uint16_t flags;			/* LW_DIR_* */
};

struct lw_census {
	struct lw_census_item *items;
	size_t count;
	uint64_t damaged;		/* records that were left out: damaged, or no absolute path of less than PATH_MAX bytes */
};

/** Of what lies in one of ROOTS (all, if there is none), the roots themselves included. Good as long as SNAPSHOT. 0 or -ENOMEM. */
int lw_census_take(const struct lw_snapshot *snapshot, const char *const *roots, unsigned count, struct lw_census *out);
void lw_census_free(struct lw_census *census);

/** The newest record of PATH (absolute, no trailing slash), or NULL. */
const struct lw_dir_record *lw_census_find(const struct lw_snapshot *snapshot, const char *path, size_t len);

/** Whether PATH is ROOT or lies below it. Trailing slashes of either do not matter. */
bool lw_census_below(const char *path, size_t len, const char *root);

#endif
