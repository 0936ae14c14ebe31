/* SPDX-License-Identifier: MIT */
/*
 * roots: where the roots of a relative index (index.h) are on this machine, and what a path below them is called in it.
 *
 *     root 0 is /srv/app      /srv/app          "0"
 *                             /srv/app/pkg      "0/pkg"
 *     root 1 is /srv/app/lib  /srv/app/lib/x    "1/x": the longest root that a path lies below counts
 *
 * Paths are compared as text: absolute, without trailing slashes ("" is the root directory). A root that programs may know by several
 * paths is given once for each of them.
 * What has a ".." behind a root lies below none: "/srv/app/../lib" is elsewhere.
 *
 * Threads: immutable once created.
 */
#ifndef LW_ROOTS_H
#define LW_ROOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LW_ROOTS_MAX = 4096,		/* that an index may have */
	LW_ROOTS_PATH = 4096 + 16,	/* what any path that is answered for comes to, terminated */
};

struct lw_root {
	const char *path;
	uint32_t len;
	uint32_t number;
};

typedef struct lw_roots lw_roots;

/** Copies. Of two that have one path the first counts. NULL without memory. */
lw_roots *lw_roots_create(const struct lw_root *root, unsigned count);
void lw_roots_destroy(lw_roots *roots);

/** Whether PATH is a root or lies below one. */
bool lw_roots_hold(const lw_roots *roots, const char *path, size_t len);

/** Write what PATH is called to OUT (LW_ROOTS_PATH bytes, not terminated) and return its length; 0: it lies below no root, or is too long. */
size_t lw_roots_translate(const lw_roots *roots, const char *path, size_t len, char *out);

/**
 * PATH, absolute, without "//", "/." and "/..", as text (links are not looked at), without a trailing slash: "" for the root directory. 0, -EINVAL: it is not
 * absolute, -ENAMETOOLONG: not in SIZE bytes.
 */
int lw_roots_normalise(const char *path, char *out, size_t size);

#endif
