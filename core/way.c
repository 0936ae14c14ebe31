/* SPDX-License-Identifier: MIT */
/* way: see way.h. */
#include "way.h"
#include "stamp.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* PATH without its last component; "/" at last. */
static void cut(char *path)
{
	char *slash = strrchr(path, '/');
	slash[slash == path] = '\0';
}

static bool is_link(const char *path, uint64_t *syscalls)
{
	struct stat st;
	++*syscalls;
	return fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

static bool is_dir(const char *path, struct lw_stat *st, uint64_t *syscalls)
{
	++*syscalls;
	return lw_stat_at(AT_FDCWD, path, st) == 0 && S_ISDIR(st->mode);
}

static bool is_same(const struct lw_stat *a, const struct lw_stat *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

/* Whether one of the components between the root and PATH is a link. */
static bool link_above(const char *path, size_t root_len, uint64_t *syscalls)
{
	char up[PATH_MAX];
	strcpy(up, path);
	for (cut(up); strlen(up) > root_len && up[1]; cut(up))
		if (is_link(up, syscalls))
			return true;
	return false;
}

/* Above the root: where it really is, by "..". */
static bool is_above(char *root, const struct lw_stat *st, uint64_t *syscalls)
{
	struct lw_stat up, below = { 0 };
	size_t len = strlen(root);
	while (len + 4 <= PATH_MAX && is_dir(root, &up, syscalls)) {
		if (is_same(&up, st))
			return true;
		if (is_same(&up, &below))
			return false; /* the top is above itself */
		below = up;
		strcpy(root + len, "/..");
		len += 3;
	}
	return false;
}

static bool is_loop(const char *path, size_t root_len, const struct lw_stat *st, uint64_t *syscalls)
{
	char up[PATH_MAX];
	struct lw_stat other;
	strcpy(up, path);
	for (cut(up); strlen(up) > root_len && up[1]; cut(up))
		if (is_dir(up, &other, syscalls) && is_same(&other, st))
			return true;
	return is_above(up, st, syscalls);
}

bool lw_way_enters(const char *path, size_t root_len, bool *linked, uint64_t *syscalls)
{
	struct lw_stat st;
	if (!is_dir(path, &st, syscalls))
		return false;
	bool link = is_link(path, syscalls), above = link_above(path, root_len, syscalls);
	*linked = link || above;
	if (link && above)
		return false;
	return !is_loop(path, root_len, &st, syscalls);
}
