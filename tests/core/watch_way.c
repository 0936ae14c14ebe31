/* SPDX-License-Identifier: MIT */
/* watch_way: where paths lead, as realpath(3) has it, and that nothing is looked up before the visit. */
#include "watch_way.h"
#include "tree.h"

#include <criterion/criterion.h>

static unsigned visits;
static char visited[PATH_MAX];

static int visit(void *arg, const struct lw_watch_way *way)
{
	visits++;
	strcpy(visited, way->real);
	return arg && strcmp(way->real, arg) == 0 ? -EPROTO : 0;
}

static int follow(const char *path, struct lw_watch_way *way)
{
	return lw_watch_way(path, strlen(path), visit, NULL, way);
}

static bool rests_on(const struct lw_watch_way *way, const char *path)
{
	for (const char *at = way->links; at < way->links + way->links_len; at += strlen(at) + 1)
		if (strcmp(at, path) == 0)
			return true;
	return false;
}

static void check(const char *path)
{
	struct lw_watch_way way;
	struct stat st;
	char real[PATH_MAX];
	bool is_dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
	int expected = is_dir ? 0 : realpath(path, real) ? -ENOTDIR : -errno;
	visits = 0;
	int error = follow(path, &way);
	cr_assert_eq(error, expected, "%s: %d, not %d", path, error, expected);
	cr_assert_gt(visits, 0);
	if (error)
		return;
	cr_assert(realpath(path, real));
	cr_assert_str_eq(*way.real ? way.real : "/", real, "%s", path);
	cr_assert_str_eq(visited, way.real);
	cr_assert_eq(strlen(way.real), way.len);
	lw_watch_way_end(&way);
}

Test(watch_way, as_realpath)
{
	char top[256], path[600];
	uint64_t seed = 3;
	tree_create(top, sizeof top);
	int fd = tree_open(AT_FDCWD, top);
	for (int i = 0; i < 20; i++)
		tree_random_fill(fd, &seed, 8, 4);
	static const char *const parts[] = { "a", "b", "c", "d", "..", ".", "", "e", "a.py" };
	for (int i = 0; i < 20000; i++) {
		snprintf(path, sizeof path, "%s", top);
		for (unsigned n = tree_random(&seed) % 6; n; n--) {
			strcat(path, "/");
			strcat(path, TREE_PICK(&seed, parts));
		}
		check(path);
	}
	check("/");
	check("/..");
	close(fd);
	tree_destroy(top);
}

Test(watch_way, what_it_rests_on)
{
	char top[256], path[300], here[300];
	struct lw_watch_way way;
	tree_create(top, sizeof top);
	TREE_CHECK(chdir(top) == 0 && mkdir("r1", 0755) == 0 && mkdir("r1/lib", 0755) == 0 && mkdir("x", 0755) == 0);
	TREE_CHECK(symlink("r1", "current") == 0 && symlink("x/../current/lib", "lib") == 0);
	snprintf(path, sizeof path, "%s/lib", top);
	cr_assert_eq(follow(path, &way), 0);
	static const char *const links[] = { "lib", "x", "current" };
	for (int i = 0; i < 3; i++) {
		snprintf(here, sizeof here, "%s/%s", top, links[i]);
		cr_expect(rests_on(&way, here), "%s", here);
	}
	lw_watch_way_end(&way);
	/* Who says no is not asked again. */
	visits = 0;
	cr_expect_eq(lw_watch_way(path, strlen(path), visit, top, &way), -EPROTO);
	cr_expect_str_eq(visited, top);
	TREE_CHECK(chdir("/") == 0);
	tree_destroy(top);
}

Test(watch_way, too_long)
{
	static char path[2 * PATH_MAX];
	struct lw_watch_way way;
	cr_expect_eq(lw_watch_way(path, sizeof path, visit, NULL, &way), -ENAMETOOLONG);
	memset(path, 'x', NAME_MAX + 2);
	*path = '/';
	cr_expect_eq(follow(path, &way), -ENAMETOOLONG);
	for (size_t i = 0; i < PATH_MAX; i++)
		memcpy(path + 2 * i, "/.", 2);
	cr_expect_eq(lw_watch_way(path, PATH_MAX, visit, NULL, &way), 0);
	lw_watch_way_end(&way);
}
