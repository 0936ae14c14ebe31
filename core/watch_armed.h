/* SPDX-License-Identifier: MIT */
/*
 * watch_armed: what a path that the kernel names means to those who armed another one.
 *
 *     armed /srv/current/lib      real /srv/r7/lib      links /srv/current
 *
 *     something in /srv/r7/lib/a           is told as      /srv/current/lib/a
 *     /srv/current, /srv or /srv/r7/lib turned, moved      all of /srv/current/lib is in doubt
 *
 * A root stands for its directory and all below it that is reached without a further link and without leaving its mount: 100,000 armed directories of one
 * tree are one root. Real paths have neither links nor dots. All paths are without a trailing slash; "" is the root of everything.
 *
 * Whoever calls sees to it that one thread does at a time.
 */
#ifndef LW_WATCH_ARMED_H
#define LW_WATCH_ARMED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lw_armed lw_armed;

enum { LW_ARMED_PATH, LW_ARMED_REAL, LW_ARMED_TABLES };

struct lw_armed_root {
	struct lw_armed_root *next;	/* in a list that was taken out */
	struct lw_armed_root *chain[LW_ARMED_TABLES];	/* watch_armed.c's own */
	uint64_t hash[LW_ARMED_TABLES];	/* of the armed path, of the real one */
	uint64_t place;			/* of the real directory; the caller's */
	uint32_t len, real_len, links_len;
	char text[];			/* the armed path, the real one, what else lies on the way; each terminated */
};

static inline const char *lw_armed_real(const struct lw_armed_root *root)
{
	return root->text + root->len + 1;
}

/** 0 or -ENOMEM. */
int lw_armed_create(lw_armed **out);
/** NULL is allowed. */
void lw_armed_destroy(lw_armed *armed);

/** PATH is really REAL; what else its meaning rests on (links, real paths) is in LINKS, LINKS_LEN bytes, each terminated. It must not be a root yet. 0 or -ENOMEM. */
int lw_armed_add(lw_armed *armed, const char *path, size_t len, const char *real, size_t real_len, const char *links, size_t links_len, uint64_t place);

/** The root whose armed path has this hash (lw_path_hash()), or NULL. */
const struct lw_armed_root *lw_armed_find(const lw_armed *armed, uint64_t hash);

typedef void lw_armed_each(void *arg, const struct lw_armed_root *root);
/** The roots at and above the real path REAL. */
void lw_armed_above(const lw_armed *armed, const char *real, size_t len, lw_armed_each *each, void *arg);

/** Take out the roots whose way leads over the real path REAL, their own directory included; a list, which is the caller's to lw_armed_free(). */
struct lw_armed_root *lw_armed_broken(lw_armed *armed, const char *real, size_t len);
/** Take out the roots armed at PATH and below. */
struct lw_armed_root *lw_armed_below(lw_armed *armed, const char *path, size_t len);
/** A whole list. NULL is allowed. */
void lw_armed_free(struct lw_armed_root *list);

/** Hashes of paths, one component after the other; "" has the hash 0. */
static inline uint64_t lw_path_hash_below(uint64_t above, uint64_t component)
{
	return ((above << 23 | above >> 41) ^ component) * 0x9e3779b97f4a7c15u;
}
uint64_t lw_path_hash(const char *path, size_t len);

#endif
