/* SPDX-License-Identifier: MIT */
/*
 * resolve: what FileFinder would find for a name in one directory.
 *
 * The order is FileFinder's: package directory with an __init__ (suffixes in order), module file (suffixes in order), namespace
 * portion. In `stat` the directories and the file that make up the answer are compared with what is there; in `frozen` only
 * what is in doubt (links, entries of unknown type) is asked.
 */
#ifndef LW_RESOLVE_H
#define LW_RESOLVE_H

#include "dirs.h"

/** Longest path we answer for; longer ones are the stock machinery's business (-ENAMETOOLONG). */
enum { LW_PATH_SIZE = 4096 };

enum lw_hit_kind {
	LW_HIT_NONE,		/* no such name */
	LW_HIT_MODULE,		/* a file: path[0..len) */
	LW_HIT_PACKAGE,		/* a directory path[0..base_len) with an __init__ file path[0..len) */
	LW_HIT_PORTION,		/* a directory without __init__: path[0..len), a namespace portion */
	LW_HIT_FOREIGN,		/* path lists only: entry ENTRY is not a directory, ask its finder (view.h) */
};

struct lw_hit {
	enum lw_hit_kind kind;
	unsigned suffix;	/* of the file: index in lw_suffixes */
	uint32_t entry;		/* path lists only: the path entry it was found in */
	bool asked;		/* STAT is the file's, as of now */
	uint64_t stamp;		/* not asked: the file's as of now; 0: nobody has asked (`frozen`) */
	int64_t asked_ns;	/* lw_now_ns() before that */
	struct lw_stat stat;
	uint32_t base_len;
	uint32_t len;
	char path[LW_PATH_SIZE];	/* terminated */
};

/** Resolve NAME (one component) in DIR. 0 or -errno, when the stock machinery had better look itself. */
int lw_resolve(struct lw_dirs *dirs, struct lw_dir *dir, const char *name, size_t len, struct lw_hit *hit);

/** The same, where DIR has been made fresh by the caller. */
int lw_resolve_fresh(struct lw_dirs *dirs, struct lw_dir *dir, const char *name, size_t len, struct lw_hit *hit);

#endif
