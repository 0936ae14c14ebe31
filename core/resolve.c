/* SPDX-License-Identifier: MIT */
#include "resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static const char INIT[] = "__init__";
enum { INIT_LEN = sizeof(INIT) - 1 };

static int put(struct lw_hit *hit, uint32_t at, const char *text, size_t len)
{
	if (len >= LW_PATH_SIZE - at)
		return -ENAMETOOLONG;
	memcpy(hit->path + at, text, len);
	hit->len = at + (uint32_t)len;
	hit->path[hit->len] = '\0';
	return 0;
}

/* Whether hit->path is a regular file, as FileFinder asks it: any error means no. */
static bool ask_file(struct lw_dirs *dirs, const struct lw_dir *dir, bool doubt, struct lw_hit *hit)
{
	hit->asked = lw_dirs_file(dirs, dir, hit->path, hit->len, doubt, &hit->stat, &hit->asked_ns) == 0 && S_ISREG(hit->stat.mode);
	return hit->asked;
}

/* As somebody else has it. */
static uint64_t get_stamp(struct lw_dirs *dirs, const struct lw_dir *dir, const struct lw_entry *entry, unsigned suffix, const struct lw_hit *hit)
{
	return suffix == dirs->suffixes->source ? lw_dirs_file_stamp(dirs, dir, entry, hit->path, hit->len) : 0;
}

/*
 * Try STEM<suffix> for each suffix in KINDS, hit->path[0..at) being the path up to and including the stem. DIR is where the
 * names were seen, ENTRY the stem's there; NULL, in doubt: it was not seen. Leaves the first that is a file in HIT.
 */
static int try_files(struct lw_dirs *dirs, const struct lw_dir *dir, const struct lw_entry *entry, lw_kinds kinds, bool doubt, struct lw_hit *hit,
		enum lw_hit_kind kind)
{
	uint32_t at = hit->len;
	bool ask = doubt || !lw_dirs_settled(dirs, dir) || dirs->epoch > 0, frozen = !ask && lw_is_frozen(dirs->freshness);
	for (unsigned i = 0; i < dirs->suffixes->count; i++) {
		if (!(kinds & LW_KIND_SUFFIX(i)))
			continue;
		int error = put(hit, at, dirs->suffixes->item[i].text, dirs->suffixes->item[i].len);
		if (error)
			return error;
		hit->asked = false;
		hit->stamp = ask || frozen ? 0 : get_stamp(dirs, dir, entry, i, hit);
		if (frozen || (dirs->glance && !doubt) || hit->stamp || ask_file(dirs, dir, doubt, hit)) {
			hit->kind = kind;
			hit->suffix = i;
			return 0;
		}
	}
	hit->len = at;
	hit->path[at] = '\0';
	return 0;
}

static lw_kinds every_suffix(const struct lw_suffixes *suffixes)
{
	return (lw_kinds)((2u << suffixes->count) - 2);
}

/* hit->path is DIR/NAME, which may be a directory: a package, a portion, or nothing. IN_DOUBT: it may be a link, or lie below one, so ask even in `frozen`. */
static int try_package(struct lw_dirs *dirs, bool in_doubt, struct lw_hit *hit, bool *portion)
{
	struct lw_dir *sub = lw_dirs_get(dirs, hit->path, hit->len);
	if (!sub)
		return -ENOMEM;
	sub->linked |= in_doubt;
	int error = lw_dirs_fresh(dirs, sub);
	if (error)
		return error;
	/* First: where the index is damaged it reads the directory, and what that is shows then only. */
	const struct lw_entry *entry;
	error = lw_dir_find(dirs, sub, INIT, INIT_LEN, &entry);
	if (error || sub->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR))
		return error;

	lw_kinds kinds;
	bool doubt;
	if (sub->flags & LW_DIR_UNREADABLE) {
		/* FileFinder asks for __init__ files by name: they are found in a directory that cannot be listed. */
		kinds = every_suffix(dirs->suffixes);
		doubt = true;
	} else {
		kinds = entry ? entry->kinds : 0;
		doubt = entry && entry->flags & LW_ENTRY_DOUBT;
	}
	*portion = true;
	hit->base_len = hit->len;
	error = put(hit, hit->len, "/__init__", 1 + INIT_LEN);
	if (!error)
		error = try_files(dirs, sub, entry, kinds, doubt, hit, LW_HIT_PACKAGE);
	return error;
}

int lw_resolve_fresh(struct lw_dirs *dirs, struct lw_dir *dir, const char *name, size_t len, struct lw_hit *hit)
{
	hit->kind = LW_HIT_NONE;
	hit->asked = false;
	hit->stamp = 0;
	hit->base_len = 0;
	hit->len = 0;
	const struct lw_entry *entry;
	int error = lw_dir_find(dirs, dir, name, len, &entry);
	if (error || !entry)
		return error;
	lw_kinds kinds = entry->kinds;
	bool doubt = entry->flags & LW_ENTRY_DOUBT;

	error = put(hit, 0, dir->path, dir->len);
	if (!error)
		error = put(hit, hit->len, "/", 1);
	if (!error)
		error = put(hit, hit->len, name, len);
	if (error)
		return error;
	uint32_t stem = hit->len;

	bool portion = false;
	if (kinds & LW_KIND_DIR) {
		error = try_package(dirs, doubt || dir->linked, hit, &portion);
		if (error || hit->kind != LW_HIT_NONE)
			return error;
		hit->len = stem;
		hit->path[stem] = '\0';
	}
	error = try_files(dirs, dir, entry, kinds, doubt, hit, LW_HIT_MODULE);
	if (!error && hit->kind == LW_HIT_NONE && portion)
		hit->kind = LW_HIT_PORTION;
	return error;
}

int lw_resolve(struct lw_dirs *dirs, struct lw_dir *dir, const char *name, size_t len, struct lw_hit *hit)
{
	int error = lw_dirs_fresh(dirs, dir);
	if (error)
		return error;
	return lw_resolve_fresh(dirs, dir, name, len, hit);
}
