/* SPDX-License-Identifier: MIT */
/* watch_armed: random roots are added and taken out, and every answer is compared with that of a plain list. */
#include "watch_armed.h"
#include "tree.h"

#include <criterion/criterion.h>

enum { ROOTS = 3000 };

/* As a list would have it. */
struct plain {
	bool live;
	char path[64], real[64], link[2][64];
	unsigned links;
};
static struct plain plain[ROOTS];
static unsigned plains;

static void any_path(uint64_t *seed, char out[64])
{
	static const char *const names[] = { "a", "b", "c", "ab", "aa", "." };
	*out = '\0';
	for (unsigned depth = tree_random(seed) % 7; depth; depth--) {
		strcat(out, "/");
		strcat(out, TREE_PICK(seed, names));
	}
}

static bool is_below(const char *path, const char *above)
{
	size_t len = strlen(above);
	return strncmp(path, above, len) == 0 && (!path[len] || path[len] == '/');
}

static struct plain *find_plain(const char *path)
{
	for (unsigned i = 0; i < plains; i++)
		if (plain[i].live && strcmp(plain[i].path, path) == 0)
			return &plain[i];
	return NULL;
}

static void add(lw_armed *armed, uint64_t *seed)
{
	struct plain *new = &plain[plains];
	char links[128];
	size_t len = 0;
	any_path(seed, new->path);
	any_path(seed, new->real);
	new->links = tree_random(seed) % 3;
	for (unsigned i = 0; i < new->links; i++) {
		any_path(seed, new->link[i]);
		strcpy(links + len, new->link[i]);
		len += strlen(links + len) + 1;
	}
	if (find_plain(new->path))
		return;
	cr_assert_eq(lw_armed_add(armed, new->path, strlen(new->path), new->real, strlen(new->real), links, len, plains), 0);
	new->live = true;
	plains++;
}

/* Each that is told is crossed off. */
static bool told[ROOTS];

static void cross_off(void *arg, const struct lw_armed_root *root)
{
	struct plain *of = &plain[root->place];
	cr_assert(of->live && root->place < plains && !told[root->place]);
	cr_assert(strcmp(root->text, of->path) == 0 && strcmp(lw_armed_real(root), of->real) == 0);
	told[root->place] = true;
}

static bool leads_over(const struct plain *root, const char *path)
{
	bool over = is_below(root->real, path);
	for (unsigned i = 0; i < root->links; i++)
		over |= is_below(root->link[i], path);
	return over;
}

static void check_taken(struct lw_armed_root *list, const char *path, bool ways)
{
	memset(told, 0, sizeof told);
	for (struct lw_armed_root *root = list; root; root = root->next)
		cross_off(NULL, root);
	for (unsigned i = 0; i < plains; i++) {
		bool expected = plain[i].live && (ways ? leads_over(&plain[i], path) : is_below(plain[i].path, path));
		cr_assert_eq(told[i], expected, "%s: %s", path, plain[i].path);
		plain[i].live &= !expected;
	}
	lw_armed_free(list);
}

static void check_answers(const lw_armed *armed, const char *path)
{
	const struct plain *known = find_plain(path);
	const struct lw_armed_root *root = lw_armed_find(armed, lw_path_hash(path, strlen(path)));
	cr_assert(known ? root && strcmp(root->text, path) == 0 : !root, "%s", path);
	memset(told, 0, sizeof told);
	lw_armed_above(armed, path, strlen(path), cross_off, NULL);
	for (unsigned i = 0; i < plains; i++)
		cr_assert_eq(told[i], plain[i].live && is_below(path, plain[i].real), "%s: %s", path, plain[i].real);
}

Test(watch_armed, as_a_list)
{
	uint64_t seed = 1;
	lw_armed *armed;
	char path[64];
	cr_assert_eq(lw_armed_create(&armed), 0);
	while (plains < ROOTS - 1) {
		for (unsigned i = 0; i < 20 && plains < ROOTS - 1; i++)
			add(armed, &seed);
		for (unsigned i = 0; i < 5; i++) {
			any_path(&seed, path);
			check_answers(armed, path);
		}
		/* Rarely one at the top: then hardly anything would be left. */
		do
			any_path(&seed, path);
		while (strlen(path) < 6 && tree_random(&seed) % 50);
		if (tree_random(&seed) % 2)
			check_taken(lw_armed_broken(armed, path, strlen(path)), path, true);
		else
			check_taken(lw_armed_below(armed, path, strlen(path)), path, false);
	}
	lw_armed_destroy(armed);
}

/* Paths are told apart by their hashes alone. */
Test(watch_armed, hashes)
{
	static const char *const paths[] = { "", "/", "/a", "/b", "/a/b", "/b/a", "/ab", "/a/a", "/a/a/a", "//", "//a", "/a/b/c", "/a/bc" };
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		for (size_t j = 0; j < i; j++)
			cr_expect_neq(lw_path_hash(paths[i], strlen(paths[i])), lw_path_hash(paths[j], strlen(paths[j])), "%s %s", paths[i], paths[j]);
}
