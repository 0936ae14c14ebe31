/* SPDX-License-Identifier: MIT */
/*
 * names: what a directory entry can mean to `import`.
 *
 * CPython's FileFinder tries, for a name NAME inside a directory, in this order:
 *
 *     NAME/__init__<suffix>     for every suffix, in order
 *     NAME<suffix>              for every suffix, in order
 *     NAME/                     (a namespace portion)
 *
 * The suffixes are the interpreter's extension suffixes, then ".py", then ".pyc".
 * An entry of a directory is therefore one of: "NAME<suffix i>" (kind bit i+1), a
 * plain "NAME" that may be a directory (kind bit 0), or nothing an import can reach.
 * A name with a dot in it can never be reached: import splits names at dots.
 */
#ifndef LW_NAMES_H
#define LW_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LW_SUFFIX_MAX = 12, LW_SUFFIX_LEN = 63 };

/** Bit set over LW_KIND_DIR and LW_KIND_SUFFIX(i). */
typedef uint16_t lw_kinds;
#define LW_KIND_DIR ((lw_kinds)1)
#define LW_KIND_SUFFIX(i) ((lw_kinds)(2u << (i)))

/** The suffixes of one interpreter, in FileFinder's order. Plain data, copy freely. */
struct lw_suffixes {
	unsigned count;
	/** Index of ".py"; ".pyc" is source + 1; everything below source is an extension suffix. */
	unsigned source;
	struct {
		uint8_t len;
		char text[LW_SUFFIX_LEN + 1];
	} item[LW_SUFFIX_MAX];
};

/**
 * Fill from the interpreter's extension suffixes (".py" and ".pyc" are appended).
 * Returns 0, -E2BIG (too many), -EINVAL (empty, too long, or not starting with a dot).
 */
int lw_suffixes_init(struct lw_suffixes *suffixes, const char *const *extension, unsigned count);

/**
 * Classify the directory entry NAME (LEN bytes, not terminated) of type D_TYPE (DT_*).
 * Returns exactly one kind bit and the length of its stem, or 0 when no import can reach
 * the entry. Links and entries of unknown type get the benefit of the doubt; a regular
 * file without suffix and a directory named like a source file get 0.
 */
lw_kinds lw_names_classify(const struct lw_suffixes *suffixes, const char *name, size_t len,
		unsigned char d_type, size_t *stem);

/** Whether NAME can be one component of a module name: not empty, no '.', '/' or NUL. */
bool lw_names_importable(const char *name, size_t len);

/** Whether trees are walked below a directory of that name: it is importable, and not "__pycache__" or "node_modules". */
bool lw_names_entered(const char *name, size_t len);

/**
 * The dotted name of file PATH below root ROOT: "a/b/c.py" -> "a.b.c", "a/b/__init__.py" -> "a.b".
 * Writes a terminated string of at most SIZE bytes. Returns its length, -EINVAL when no import
 * statement can reach it (or when it is the root's own __init__: it has no name below the root), -ENAMETOOLONG when it does not fit. PATH is relative to the root.
 */
int lw_names_dotted(const struct lw_suffixes *suffixes, const char *path, size_t len, char *out, size_t size);

/** The reverse: "a.b.c" -> "a/b/c" (no suffix). Returns the length, -EINVAL or -ENAMETOOLONG. */
int lw_names_path(const char *dotted, size_t len, char *out, size_t size);

#endif
