/* SPDX-License-Identifier: MIT */
/*
 * roots: which root a path lies below, what it is called there, and paths as text.
 */
#include "roots.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct lw_root root_at(const char *path, uint32_t number)
{
	return (struct lw_root){ .path = path, .len = (uint32_t)strlen(path), .number = number };
}

static const char *translate(const lw_roots *roots, const char *path)
{
	static char out[LW_ROOTS_PATH + 1];
	size_t len = lw_roots_translate(roots, path, strlen(path), out);
	out[len] = '\0';
	return len ? out : NULL;
}

Test(roots, the_longest_root_counts)
{
	const struct lw_root root[] = { root_at("/srv/app", 0), root_at("/srv/app/lib/python", 1), root_at("/s", 12), root_at("/srv/app", 7) };
	static const struct { const char *path, *name; } expected[] = {
		{ "/srv/app", "0" }, { "/srv/app/pkg", "0/pkg" }, { "/srv/app/lib", "0/lib" }, { "/srv/app/lib/pythons", "0/lib/pythons" },
		{ "/srv/app/lib/python", "1" }, { "/srv/app/lib/python/x/y.py", "1/x/y.py" }, { "/s", "12" }, { "/s/x", "12/x" },
		{ "/srv", NULL }, { "/srv/apple", NULL }, { "/srv/ap", NULL }, { "", NULL }, { "/", NULL }, { "/sr/x", NULL }, { "/S/x", NULL },
		{ "/srv/app/..", NULL }, { "/srv/app/../lib", NULL }, { "/srv/app/pkg/../x", NULL }, { "/srv/app/lib/python/../../x", NULL },
		{ "/srv/app/..x", "0/..x" }, { "/srv/app/x../y", "0/x../y" }, { "/srv/app/..x/..", NULL }, { "/srv/app/...", "0/..." }, { "/srv/../srv/app", NULL },
	};
	lw_roots *roots = lw_roots_create(root, 4);
	for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
		const char *name = translate(roots, expected[i].path);
		cr_assert((!name && !expected[i].name) || (name && expected[i].name && strcmp(name, expected[i].name) == 0), "%s: %s", expected[i].path, name);
		cr_assert_eq(lw_roots_hold(roots, expected[i].path, strlen(expected[i].path)), expected[i].name != NULL, "%s", expected[i].path);
	}
	lw_roots_destroy(roots);
}

Test(roots, the_root_directory_may_be_one)
{
	const struct lw_root root[] = { root_at("", 0), root_at("/usr", 1) };
	lw_roots *roots = lw_roots_create(root, 2);
	cr_assert_str_eq(translate(roots, "/srv/x"), "0/srv/x");
	cr_assert_str_eq(translate(roots, ""), "0");
	cr_assert_str_eq(translate(roots, "/usr/lib"), "1/lib");
	cr_assert_str_eq(translate(roots, "/usrs"), "0/usrs");
	lw_roots_destroy(roots);
}

Test(roots, none_hold_nothing)
{
	lw_roots *roots = lw_roots_create(NULL, 0);
	cr_assert(!lw_roots_hold(roots, "/srv", 4) && !lw_roots_hold(roots, "", 0));
	lw_roots_destroy(roots);
	lw_roots_destroy(NULL);
}

/* Against a search of them all. */
Test(roots, many)
{
	enum { COUNT = LW_ROOTS_MAX };
	struct lw_root *root = calloc(COUNT, sizeof(*root));
	for (unsigned i = 0; i < COUNT; i++) {
		char *path = NULL;
		cr_assert_gt(asprintf(&path, "/r%u%s/%u", i % 7, i % 3 ? "" : "/deep/er", i), 0);
		root[i] = root_at(path, i);
	}
	lw_roots *roots = lw_roots_create(root, COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		char path[64], name[64];
		snprintf(path, sizeof(path), "%s/pkg/m%u.py", root[i].path, i);
		snprintf(name, sizeof(name), "%u/pkg/m%u.py", i, i);
		cr_assert_str_eq(translate(roots, path), name);
		path[root[i].len] = 'x';
		cr_assert(!translate(roots, path));
	}
	lw_roots_destroy(roots);
	for (unsigned i = 0; i < COUNT; i++)
		free((char *)root[i].path);
	free(root);
}

Test(roots, what_is_too_long_is_answered_by_nobody)
{
	const struct lw_root root = root_at("/a", 123456789);
	lw_roots *roots = lw_roots_create(&root, 1);
	static char path[LW_ROOTS_PATH * 2], out[LW_ROOTS_PATH];
	memset(path, 'x', sizeof(path));
	memcpy(path, "/a/", 3);
	for (size_t len = LW_ROOTS_PATH - 40; len < sizeof(path); len++) {
		size_t got = lw_roots_translate(roots, path, len, out);
		cr_assert(got == 0 ? len > 4096 : got == len + 7 && got <= LW_ROOTS_PATH, "%zu: %zu", len, got);
	}
	lw_roots_destroy(roots);
}

Test(roots, paths_as_text)
{
	static const struct { const char *path, *normal; } expected[] = {
		{ "/", "" }, { "//", "" }, { "/.", "" }, { "/..", "" }, { "/../../a", "/a" }, { "/a", "/a" }, { "/a/", "/a" }, { "//a//b//", "/a/b" },
		{ "/a/./b", "/a/b" }, { "/a/../b", "/b" }, { "/a/b/../../c", "/c" }, { "/a/...", "/a/..." }, { "/a/.b", "/a/.b" }, { "/a/..b/c", "/a/..b/c" }, { "/a/b/..", "/a" },
	};
	char out[16];
	for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
		cr_assert_eq(lw_roots_normalise(expected[i].path, out, sizeof(out)), 0);
		cr_assert_str_eq(out, expected[i].normal, "%s", expected[i].path);
	}
	cr_assert_eq(lw_roots_normalise("a/b", out, sizeof(out)), -EINVAL);
	cr_assert_eq(lw_roots_normalise("", out, sizeof(out)), -EINVAL);
	cr_assert_eq(lw_roots_normalise("/234567890123456", out, sizeof(out)), -ENAMETOOLONG);
	cr_assert_eq(lw_roots_normalise("/23456789012345", out, sizeof(out)), 0);
}
