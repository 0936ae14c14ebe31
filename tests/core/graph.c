/* SPDX-License-Identifier: MIT */
/*
 * graph: names mean what a program would find; statements become the edges they are; what changed in the tree makes a stored graph stale, and what did not is not read
 * again; reach and cycles against the slow way on random graphs; a damaged or hostile file is refused and never a wrong answer.
 */
#include "facts.h"
#include "graph_build.h"
#include "graph_fresh.h"
#include "graph_store.h"
#include "tree.h"

#include <criterion/criterion.h>
#include <errno.h>

static char root[PATH_MAX];
static const char *roots[2];
static unsigned root_count;
static struct lw_suffixes suffixes;

static void setup(void)
{
	const char *const extension[] = { ".so" };
	cr_assert_eq(lw_suffixes_init(&suffixes, extension, 1), 0);
	tree_create(root, sizeof root);
	roots[0] = root;
	root_count = 1;
}

static void teardown(void)
{
	tree_destroy(root);
}

TestSuite(graph, .init = setup, .fini = teardown);

/* Old enough to be believed. */
static void settle(void)
{
	usleep(50 * 1000);
}

static void put_file(const char *name, const char *text)
{
	char path[2 * PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", root, name);
	for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')); at++) {
		*at = 0;
		mkdir(path, 0755);
		*at = '/';
	}
	tree_write(AT_FDCWD, path, text);
}

/* --- statements: the text of a source is what its RAW is made from: lines "KIND LEVEL NAME[:FROM,FROM]" --- */

static size_t put_text(char *out, const char *text, size_t len)
{
	uint16_t size = (uint16_t)len;
	memcpy(out, &size, 2);
	memcpy(out + 2, text, len);
	return 2 + len;
}

static size_t raw_line(char *out, const char *line, size_t len, uint32_t number)
{
	const char *name = line + 4, *end = line + len, *colon = memchr(name, ':', (size_t)(end - name));
	uint16_t count = LW_RAW_PLAIN;
	size_t at = 8;
	out[0] = (char)(line[0] - '0');
	out[1] = (char)(line[2] - '0');
	memcpy(out + 4, &number, 4);
	at += put_text(out + at, name, (size_t)((colon ? colon : end) - name));
	for (count = colon ? 0 : count; colon && colon < end; count++) {
		const char *from = colon + 1, *next = memchr(from, ',', (size_t)(end - from));
		at += put_text(out + at, from, (size_t)((next ? next : end) - from));
		colon = next;
	}
	memcpy(out + 2, &count, 2);
	return at;
}

static size_t raw_of(const char *text, char *out)
{
	size_t size = 0;
	uint32_t number = 1;
	for (const char *line = text; *line; number++) {
		size_t len = strcspn(line, "\n");
		if (len >= 4)
			size += raw_line(out + size, line, len, number);
		line += len + (line[len] == '\n');
	}
	return size;
}

static unsigned was_read;	/* sources that the last build had to read */

static void read_sources(lw_graph_build *build)
{
	static char path[2 * PATH_MAX], text[1 << 16], raw[1 << 18];
	was_read = 0;
	for (uint32_t i = 0; i < lw_graph_build_sources(build); i++) {
		if (lw_graph_build_source(build, i, path, sizeof path) != 1)
			continue;
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
		cr_assert(size >= 0, "%s", path);
		close(fd);
		text[size] = 0;
		was_read++;
		cr_assert_eq(lw_graph_build_put(build, i, raw, raw_of(text, raw), LW_GRAPH_READ), 0);
	}
}

static struct lw_hash128 key(void)
{
	return lw_graph_key(roots, root_count);
}

static void make_image(const lw_graph *old, void **image, size_t *size)
{
	unsigned failed;
	lw_graph_build *build = lw_graph_build_create(&suffixes, old);
	cr_assert_eq(lw_graph_build_scan(build, roots, root_count, 2, &failed), 0);
	read_sources(build);
	cr_assert_eq(lw_graph_build_finish(build, key(), image, size), 0);
	lw_graph_build_destroy(build);
}

static lw_graph *make(const lw_graph *old)
{
	void *image;
	size_t size;
	lw_graph *graph;
	make_image(old, &image, &size);
	cr_assert_eq(lw_graph_open_memory(image, size, key(), &graph), 0);
	cr_assert_eq(lw_graph_load(graph, (1 << LW_GRAPH_SECTIONS) - 1), 0);
	return graph;
}

static void write_edge(char *out, size_t size, const lw_graph *graph, uint32_t i, const struct lw_graph_edge *edge)
{
	const struct lw_graph_node *node;
	lw_graph_nodes(graph, &node);
	size_t at = strlen(out);
	snprintf(out + at, size - at, "%s>%s:%x@%u ", lw_graph_string(graph, node[i].name), lw_graph_string(graph, node[edge->node].name), edge->kinds, edge->line);
}

/* All edges in one line, those that lead back as well, which must be the same ones. */
static const char *edges_of(const lw_graph *graph)
{
	static char text[1 << 16];
	const struct lw_graph_node *node;
	const struct lw_graph_edge *edge, *back;
	uint32_t total = 0, backwards = 0;
	*text = 0;
	for (uint32_t i = 0; i < lw_graph_nodes(graph, &node); i++) {
		uint32_t count = lw_graph_edges(graph, i, false, &edge);
		total += count;
		backwards += lw_graph_edges(graph, i, true, &back);
		for (uint32_t j = 0; j < count; j++) {
			write_edge(text, sizeof text, graph, i, &edge[j]);
			bool found = false;
			uint32_t others = lw_graph_edges(graph, edge[j].node, true, &back);
			for (uint32_t k = 0; k < others; k++)
				found |= back[k].node == i && back[k].kinds == edge[j].kinds && back[k].line == edge[j].line;
			cr_assert(found);
		}
	}
	cr_assert_eq(total, backwards);
	return text;
}

static const char *nodes_of(const lw_graph *graph)
{
	static const char letters[] = "mpneb-";
	static char text[1 << 16];
	const struct lw_graph_node *node;
	size_t at = 0;
	*text = 0;
	for (uint32_t i = 0; i < lw_graph_nodes(graph, &node); i++) {
		const char *name = lw_graph_string(graph, node[i].name);
		cr_assert_eq(lw_graph_find(graph, name, node[i].name_len), i);
		at += (size_t)snprintf(text + at, sizeof text - at, "%s:%c ", name, letters[node[i].kind]);
	}
	return text;
}

/* --- what names mean --- */

Test(graph, names_are_what_a_program_finds)
{
	put_file("top.py", "");
	put_file("pkg/__init__.py", "");
	put_file("pkg/inner.py", "");
	put_file("pkg.py", "");			/* loses to the package */
	put_file("both.py", "");
	put_file("both.so", "");		/* wins */
	put_file("old.pyc", "");
	put_file("space/part.py", "");
	put_file("lost/part.py", "");		/* loses to lost.py */
	put_file("lost.py", "");
	put_file("data/readme.txt", "");	/* nothing to import */
	put_file("data/more/readme.txt", "");
	put_file("cext/__init__.so", "");
	put_file("__pycache__/x.py", "");
	put_file("a-b.py", "");			/* sorts between pkg and pkg.x in plain byte order, if it were called pkg-b */
	put_file("pkg-b.py", "");
	lw_graph *graph = make(NULL);
	cr_assert_str_eq(nodes_of(graph), "a-b:m both:e cext:p lost:m old:b pkg:p pkg.inner:m pkg-b:m space:n space.part:m top:m ");
	cr_assert_eq(lw_graph_find(graph, "data", 4), LW_GRAPH_NONE);
	cr_assert_eq(lw_graph_find(graph, "pk", 2), LW_GRAPH_NONE);
	cr_assert_eq(lw_graph_find(graph, "", 0), LW_GRAPH_NONE);
	lw_graph_close(graph);
}

Test(graph, the_first_root_wins_and_namespaces_merge)
{
	char first[2 * PATH_MAX], second[2 * PATH_MAX];
	put_file("r1/x.py", "");
	put_file("r2/x/__init__.py", "");
	put_file("r2/x/never.py", "");
	put_file("r1/space/one.py", "");
	put_file("r2/space/two.py", "");
	put_file("r1/mixed/gone.py", "");	/* a portion, which a package on a later entry beats */
	put_file("r2/mixed/__init__.py", "");
	put_file("r2/mixed/there.py", "");
	put_file("r1/deep/ns/a.py", "");
	put_file("r2/deep.py", "");		/* a module beats a portion as well */
	put_file("r1/outer/__init__.py", "");
	put_file("r1/outer/in/a.py", "");
	put_file("r2/outer/in/b.py", "");	/* outer is the first root's: not reached */
	snprintf(first, sizeof first, "%s/r1", root);
	snprintf(second, sizeof second, "%s/r2", root);
	roots[0] = first;
	roots[1] = second;
	root_count = 2;
	lw_graph *graph = make(NULL);
	cr_assert_str_eq(nodes_of(graph), "deep:m mixed:p mixed.there:m outer:p outer.in:n outer.in.a:m space:n space.one:m space.two:m x:m ");
	lw_graph_close(graph);
}

Test(graph, statements_become_edges)
{
	put_file("a/__init__.py", "0 1 :b\n0 0 a.c\n");		/* from . import b; import a.c */
	put_file("a/b.py", "0 1 c:x\n0 1 :x,c\n0 2 top:y\n");		/* from .c import x; from . import x, c; from ..top: above the root */
	put_file("a/c.py", "3 0 os.path\n1 0 top:*\n0 0 top\n");	/* the most certain kind counts for the line */
	put_file("top.py", "0 0 top\n0 0 a:b,c\n2 0 a.missing\n0 0 ns\n");
	put_file("ns/x.py", "0 1 :nothing\n0 0 a..b\n0 0 \n");
	lw_graph *graph = make(NULL);
	cr_assert_str_eq(edges_of(graph), "a>a.b:1@1 a>a.c:1@2 a.b>a:1@2 a.b>a.c:1@1 a.c>os.path:8@1 a.c>top:3@3 ns.x>ns:1@1 top>a.b:1@2 top>a.c:1@2 top>a.missing:4@3 top>ns:1@4 ");
	cr_assert_str_eq(nodes_of(graph), "a:p a.b:m a.c:m a.missing:- ns:n ns.x:m os.path:- top:m ");
	lw_graph_close(graph);
}

Test(graph, what_was_seen_stays_until_the_source_changes)
{
	unsigned failed;
	void *image;
	size_t size;
	lw_graph *graph, *next;
	put_file("a.py", "0 0 b\n");
	put_file("b.py", "");
	settle();
	lw_graph_build *build = lw_graph_build_create(&suffixes, NULL);
	cr_assert_eq(lw_graph_build_scan(build, roots, 1, 1, &failed), 0);
	read_sources(build);
	cr_assert_eq(lw_graph_build_observe(build, 5, "a", "b"), 0);
	cr_assert_eq(lw_graph_build_observe(build, 5, "a", "b"), 0);
	cr_assert_eq(lw_graph_build_observe(build, 5, "b", "zlib"), 0);
	cr_assert_eq(lw_graph_build_observe(build, 5, "nobody", "zlib"), 0);
	cr_assert_eq(lw_graph_build_observe(build, 5, "a", "..b"), -EINVAL);
	cr_assert_eq(lw_graph_build_observe(build, 8, "a", "b"), -EINVAL);
	cr_assert_eq(lw_graph_build_finish(build, key(), &image, &size), 0);
	lw_graph_build_destroy(build);
	cr_assert_eq(lw_graph_open_memory(image, size, key(), &graph), 0);
	cr_assert_eq(lw_graph_load(graph, (1 << LW_GRAPH_SECTIONS) - 1), 0);
	cr_assert_str_eq(edges_of(graph), "a>b:21@1 b>zlib:20@0 ");
	put_file("b.py", "0 0 os\n");
	next = make(graph);
	cr_assert_str_eq(edges_of(next), "a>b:21@1 b>os:1@1 ");
	lw_graph_close(graph);
	lw_graph_close(next);
}

Test(graph, crafted_statements_are_refused)
{
	unsigned failed;
	char raw[64];
	put_file("a.py", "");
	lw_graph_build *build = lw_graph_build_create(&suffixes, NULL);
	cr_assert_eq(lw_graph_build_scan(build, roots, 1, 1, &failed), 0);
	size_t size = raw_of("0 0 b:c\n", raw);
	for (size_t cut = 1; cut < size; cut++)
		cr_assert_eq(lw_graph_build_put(build, 0, raw, cut, LW_GRAPH_READ), -EINVAL, "%zu", cut);
	raw[0] = LW_GRAPH_EDGE_KINDS;
	cr_assert_eq(lw_graph_build_put(build, 0, raw, size, LW_GRAPH_READ), -EINVAL);
	cr_assert_eq(lw_graph_build_put(build, 0, raw, 0, LW_GRAPH_READ), 0);
	lw_graph_build_destroy(build);
}

Test(graph, a_root_that_is_not_there_is_named)
{
	char missing[PATH_MAX + 16];
	unsigned failed;
	snprintf(missing, sizeof missing, "%s/missing", root);
	roots[1] = missing;
	lw_graph_build *build = lw_graph_build_create(&suffixes, NULL);
	cr_assert_eq(lw_graph_build_scan(build, roots, 2, 1, &failed), -ENOENT);
	cr_assert_eq(failed, 1);
	lw_graph_build_destroy(build);
}

/* --- freshness --- */

static void add_tree(void)
{
	put_file("a/__init__.py", "0 0 b.c\n");
	put_file("b/c.py", "0 0 d\n");
	put_file("b/e.py", "");
	put_file("d.py", "");
	put_file("empty/readme", "");
	settle();
}

static const struct change {
	const char *from, *to, *text;	/* rename, remove (no TO), write (no FROM) */
} changes[] = {
	{ NULL, "d.py", "0 0 x\n" },
	{ NULL, "b/c.py", "0 0 e\n" },	/* as long as it was */
	{ NULL, "b/new.py", "" },
	{ NULL, "empty/first.py", "" },
	{ NULL, "x/y/z.py", "" },
	{ NULL, "b/c.so", "" },
	{ "b/c.py", NULL, NULL },
	{ "b/c.py", "b/f.py", NULL },
	{ "b", "g", NULL },
	{ "b/e.py", "b/c.py", NULL },
};

static void change(const struct change *one)
{
	char from[2 * PATH_MAX], to[2 * PATH_MAX];
	snprintf(from, sizeof from, "%s/%s", root, one->from ? one->from : "");
	snprintf(to, sizeof to, "%s/%s", root, one->to ? one->to : "");
	if (!one->from)
		put_file(one->to, one->text);
	else
		cr_assert_eq(one->to ? rename(from, to) : unlink(from), 0);
}

Test(graph, each_change_is_noticed_and_only_what_changed_is_read)
{
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		teardown();
		setup();
		add_tree();
		lw_graph *graph = make(NULL);
		cr_assert_eq(was_read, 4);
		for (unsigned threads = 1; threads < 4; threads++)
			cr_assert_eq(lw_graph_fresh(graph, NULL, NULL, threads), 1);
		lw_graph *same = make(graph);
		cr_assert_eq(was_read, 0);
		cr_assert_str_eq(edges_of(same), "a>b.c:1@1 b.c>d:1@1 ");
		change(&changes[i]);
		settle();
		for (unsigned threads = 1; threads < 4; threads++)
			cr_assert_eq(lw_graph_fresh(same, NULL, NULL, threads), 0, "%zu", i);
		lw_graph *next = make(same);
		cr_assert_leq(was_read, 2, "%zu: %u", i, was_read);
		char *edges = strdup(edges_of(next)), *nodes = strdup(nodes_of(next));
		lw_graph *anew = make(NULL);
		cr_assert_str_eq(edges, edges_of(anew), "%zu", i);
		cr_assert_str_eq(nodes, nodes_of(anew), "%zu", i);
		cr_assert_eq(lw_graph_fresh(next, NULL, NULL, 2), 1, "%zu", i);
		free(edges);
		free(nodes);
		lw_graph_close(graph);
		lw_graph_close(same);
		lw_graph_close(next);
		lw_graph_close(anew);
	}
}

/* Whether it says so of whom NAME imports, KINDS as in lw_graph_rests_on(). */
static int fresh_for(const lw_graph *graph, const char *name, unsigned kinds)
{
	const struct lw_graph_source *source;
	bool *asked = calloc(lw_graph_sources(graph, &source) + 1, sizeof *asked);
	TREE_CHECK(asked && lw_graph_rests_on(graph, lw_graph_find(graph, name, strlen(name)), kinds, asked) == 0);
	int result = lw_graph_fresh(graph, asked, NULL, 2);
	free(asked);
	return result;
}

/* a imports b.c, which imports d. */
Test(graph, what_one_module_imports)
{
	add_tree();
	lw_graph *graph = make(NULL);
	put_file("d.py", "0 0 a\n");
	cr_assert_eq(fresh_for(graph, "a", 0), 1);
	cr_assert_eq(fresh_for(graph, "a", 2), 1, "b.c imports d by another kind");
	cr_assert_eq(fresh_for(graph, "a", 1), 0);
	cr_assert_eq(fresh_for(graph, "b.c", 0), 0, "d may be broken by now");
	cr_assert_eq(fresh_for(graph, "d", 0), 0);
	put_file("empty/new.py", "");
	cr_assert_eq(fresh_for(graph, "a", 0), 0);
	lw_graph_close(graph);
}

Test(graph, what_is_too_young_is_not_believed)
{
	put_file("a.py", "");
	for (unsigned i = 0; i < 3; i++) {
		/* Less than a tick ago, unless the machine stands still: then it may be old enough. */
		put_file("a.py", "0 0 b\n");
		lw_graph *graph = make(NULL);
		put_file("a.py", "0 0 c\n");
		cr_assert_eq(lw_graph_fresh(graph, NULL, NULL, 1), 0);
		lw_graph_close(graph);
	}
}

Test(graph, what_changes_while_it_is_read_makes_it_stale)
{
	unsigned failed;
	void *image;
	size_t size;
	lw_graph *graph;
	add_tree();
	lw_graph_build *build = lw_graph_build_create(&suffixes, NULL);
	cr_assert_eq(lw_graph_build_scan(build, roots, 1, 1, &failed), 0);
	put_file("d.py", "0 0 new\n");
	read_sources(build);
	cr_assert_eq(lw_graph_build_finish(build, key(), &image, &size), 0);
	lw_graph_build_destroy(build);
	cr_assert_eq(lw_graph_open_memory(image, size, key(), &graph), 0);
	cr_assert_eq(lw_graph_load(graph, LW_GRAPH_FOR_FRESH), 0);
	cr_assert_eq(lw_graph_fresh(graph, NULL, NULL, 1), 0);
	lw_graph_close(graph);
}

/* --- somebody looks after the tree --- */

static struct {
	const lw_graph *graph;
	struct lw_dir_record record;
	struct lw_entry entry;
	const char *silent;	/* about this directory or source; "": about nothing */
	unsigned asked;
} keeper;

static bool ends_with(const char *path, size_t len, const char *end)
{
	return *end && len >= strlen(end) && !memcmp(path + len - strlen(end), end, strlen(end));
}

/* What the graph says. */
static bool keeper_dir(lw_fresh *fresh, const char *path, size_t len, struct lw_index_dir *out)
{
	const struct lw_graph_dir *dir;
	for (uint32_t i = lw_graph_dirs(keeper.graph, &dir); i-- > 0; ) {
		if (dir[i].path_len != len || memcmp(lw_graph_string(keeper.graph, dir[i].path), path, len) || ends_with(path, len, keeper.silent))
			continue;
		keeper.record = (struct lw_dir_record){ .stamp = dir[i].stamp, .count = 0 };
		*out = (struct lw_index_dir){ .record = &keeper.record, .entries = &keeper.entry };
		keeper.asked++;
		return true;
	}
	return false;
}

static const struct lw_fresh_ops keeper_ops = { .dir = keeper_dir };

Test(graph, what_is_looked_after_is_not_looked_at)
{
	lw_fresh fresh = { .ops = &keeper_ops };
	add_tree();
	keeper.graph = make(NULL);
	keeper.silent = "";
	/* Of directories without sources he says enough; the others' sources he does not know, so they are compared. */
	put_file("empty/new.py", "");
	cr_assert_eq(lw_graph_fresh(keeper.graph, NULL, NULL, 2), 0);
	cr_assert_eq(lw_graph_fresh(keeper.graph, NULL, &fresh, 2), 1);
	cr_assert_eq(keeper.asked, 4);
	keeper.silent = "/empty";
	cr_assert_eq(lw_graph_fresh(keeper.graph, NULL, &fresh, 2), 0);
	keeper.silent = "";
	put_file("d.py", "0 0 x\n");
	cr_assert_eq(lw_graph_fresh(keeper.graph, NULL, &fresh, 2), 0);
	lw_graph_close((lw_graph *)(uintptr_t)keeper.graph);
}

/* --- questions --- */

enum { MODULES = 24, ROUNDS = 150 };

static void random_modules(uint64_t *seed)
{
	for (unsigned i = 0; i < MODULES; i++) {
		char name[32], text[512] = "";
		/* m0 is a package, in which the last three are. */
		snprintf(name, sizeof name, i == 0 ? "m0/__init__.py" : i >= MODULES - 3 ? "m0/m%u.py" : "m%u.py", i);
		for (unsigned j = tree_random(seed) % 4; j; j--) {
			unsigned to = tree_random(seed) % MODULES;
			size_t at = strlen(text);
			snprintf(text + at, sizeof text - at, "%u 0 %sm%u\n", tree_random(seed) % 3, to >= MODULES - 3 ? "m0." : "", to);
		}
		put_file(name, text);
	}
}

/* needs[i][j]: I imports J by KINDS, or (PACKAGES) is in it. */
static void matrix(const lw_graph *graph, unsigned kinds, bool packages, bool needs[MODULES][MODULES])
{
	const struct lw_graph_node *node;
	const struct lw_graph_edge *edge;
	memset(needs, 0, sizeof(bool[MODULES][MODULES]));
	for (uint32_t i = 0; i < lw_graph_nodes(graph, &node); i++) {
		uint32_t count = lw_graph_edges(graph, i, false, &edge);
		for (uint32_t j = 0; j < count; j++)
			needs[i][edge[j].node] |= edge[j].kinds & kinds;
		if (packages && node[i].parent != LW_GRAPH_NONE)
			needs[i][node[i].parent] = true;
	}
}

static void close_over(bool needs[MODULES][MODULES])
{
	for (unsigned k = 0; k < MODULES; k++)
		for (unsigned i = 0; i < MODULES; i++)
			for (unsigned j = 0; j < MODULES; j++)
				needs[i][j] |= needs[i][k] && needs[k][j];
}

static void check_reach(const lw_graph *graph, unsigned kinds)
{
	static bool needs[MODULES][MODULES];
	uint32_t via[MODULES], order[MODULES];
	matrix(graph, kinds, true, needs);
	close_over(needs);
	for (unsigned from = 0; from < MODULES; from++) {
		for (unsigned back = 0; back < 2; back++) {
			unsigned expected = 0, found = lw_graph_reach(graph, from, back, kinds, via, order);
			for (unsigned to = 0; to < MODULES; to++) {
				bool reached = to != from && (back ? needs[to][from] : needs[from][to]);
				expected += reached;
				cr_assert_eq(reached || to == from, via[to] != LW_GRAPH_NONE);
			}
			cr_assert_eq(found, expected);
		}
	}
}

static void check_cycles(const lw_graph *graph, unsigned kinds)
{
	static bool needs[MODULES][MODULES], direct[MODULES][MODULES];
	uint32_t component[MODULES], path[MODULES], count, seen = 0;
	matrix(graph, kinds, false, needs);
	memcpy(direct, needs, sizeof needs);
	close_over(needs);
	cr_assert_eq(lw_graph_cycles(graph, kinds, component, &count), 0);
	for (unsigned i = 0; i < MODULES; i++) {
		cr_assert_eq(component[i] != LW_GRAPH_NONE, needs[i][i]);
		for (unsigned j = 0; j < MODULES; j++)
			cr_assert_eq(needs[i][j] && needs[j][i], component[i] != LW_GRAPH_NONE && component[i] == component[j]);
		if (component[i] == LW_GRAPH_NONE)
			continue;
		/* Numbered by their first nodes. */
		cr_assert_leq(component[i], seen);
		seen += component[i] == seen;
		int64_t len = lw_graph_cycle_through(graph, kinds, component, i, path);
		cr_assert_geq(len, 2);
		cr_assert_eq(path[0], i);
		for (int64_t j = 0; j < len; j++)
			cr_assert(direct[path[j]][path[(j + 1) % len]]);
	}
	cr_assert_eq(seen, count);
}

Test(graph, reach_and_cycles_are_what_the_slow_way_says, .timeout = 120)
{
	uint64_t seed = 11;
	const struct lw_graph_node *node;
	for (unsigned i = 0; i < ROUNDS; i++) {
		random_modules(&seed);
		lw_graph *graph = make(NULL);
		cr_assert_eq(lw_graph_nodes(graph, &node), MODULES);
		for (unsigned kinds = 1; kinds < 8; kinds += 3) {
			check_reach(graph, kinds);
			check_cycles(graph, kinds);
		}
		lw_graph_close(graph);
	}
}

Test(graph, a_cycle_of_a_hundred_thousand_needs_no_stack, .timeout = 60)
{
	enum { MANY = 100000 };
	size_t size = sizeof(struct lw_graph_head);
	struct lw_graph_head head = { .magic = LW_GRAPH_MAGIC, .format = LW_GRAPH_FORMAT, .head_size = sizeof head, .roots = key() };
	const uint64_t sizes[LW_GRAPH_SECTIONS] = { MANY * 8, 0, 0, (MANY + 1) * sizeof(struct lw_graph_node), MANY * sizeof(struct lw_graph_edge), MANY * sizeof(struct lw_graph_edge), 0 };
	for (unsigned i = 0; i < LW_GRAPH_SECTIONS; i++) {
		head.section[i].offset = (size + 7) / 8 * 8;
		head.section[i].size = sizes[i];
		size = head.section[i].offset + sizes[i];
	}
	head.file_size = size;
	char *image = calloc(1, size), *strings = image + head.section[LW_GRAPH_STRINGS].offset;
	struct lw_graph_node *node = (void *)(image + head.section[LW_GRAPH_NODES].offset);
	struct lw_graph_edge *edge = (void *)(image + head.section[LW_GRAPH_EDGES].offset), *back = (void *)(image + head.section[LW_GRAPH_BACK].offset);
	for (uint32_t i = 0; i <= MANY; i++) {
		node[i] = (struct lw_graph_node){ .name = 8 * i, .name_len = 6, .source = LW_GRAPH_NONE, .parent = LW_GRAPH_NONE, .edges = i, .back = i };
		if (i == MANY)
			break;
		snprintf(strings + 8 * i, 8, "m%05u", i);
		edge[i] = (struct lw_graph_edge){ (i + 1) % MANY, 1, 1 };
		back[i] = (struct lw_graph_edge){ (i + MANY - 1) % MANY, 1, 1 };
	}
	for (unsigned i = 0; i < LW_GRAPH_SECTIONS; i++)
		head.section[i].hash = lw_hash64(image + head.section[i].offset, head.section[i].size);
	head.head_hash = lw_hash64(&head, offsetof(struct lw_graph_head, head_hash));
	memcpy(image, &head, sizeof head);
	lw_graph *graph;
	uint32_t *component = malloc(2 * MANY * sizeof *component), count;
	cr_assert_eq(lw_graph_open_memory(image, size, key(), &graph), 0);
	cr_assert_eq(lw_graph_load(graph, LW_GRAPH_FOR_IMPORTS | LW_GRAPH_FOR_IMPORTERS), 0);
	cr_assert_eq(lw_graph_cycles(graph, 1, component, &count), 0);
	cr_assert_eq(count, 1);
	cr_assert_eq(lw_graph_cycle_through(graph, 1, component, 5, component + MANY), MANY);
	cr_assert_eq(lw_graph_cycles(graph, 2, component, &count), 0);
	cr_assert_eq(count, 0);
	free(component);
	lw_graph_close(graph);
}

/* --- damage --- */

/* Whatever is in it. */
static void use_all(const lw_graph *graph)
{
	const struct lw_graph_node *node;
	const struct lw_graph_edge *edge;
	uint32_t count = lw_graph_nodes(graph, &node), components, *via = calloc(2 * (size_t)count + 1, sizeof *via);
	for (uint32_t i = 0; i < count; i++) {
		cr_assert_eq(lw_graph_find(graph, lw_graph_string(graph, node[i].name), node[i].name_len), i);
		for (unsigned back = 0; back < 2; back++) {
			uint32_t edges = lw_graph_edges(graph, i, back, &edge);
			for (uint32_t j = 0; j < edges; j++)
				cr_assert_lt(edge[j].node, count);
			cr_assert_lt(lw_graph_reach(graph, i, back, 255, via, via + count), count);
		}
	}
	cr_assert_eq(lw_graph_cycles(graph, 255, via, &components), 0);
	for (uint32_t i = 0; i < count; i++)
		if (via[i] != LW_GRAPH_NONE)
			cr_assert_leq(lw_graph_cycle_through(graph, 255, via, i, via + count), count);
	lw_graph_fresh(graph, NULL, NULL, 1);
	free(via);
}

/* 0, or what kept all of it from being used. */
static int try_all(const void *image, size_t size)
{
	lw_graph *graph;
	char *copy = malloc(size + !size);
	memcpy(copy, image, size);
	int error = lw_graph_open_memory(copy, size, key(), &graph);
	if (!error) {
		error = lw_graph_load(graph, (1 << LW_GRAPH_SECTIONS) - 1);
		if (!error)
			use_all(graph);
		lw_graph_close(graph);
	}
	return error;
}

Test(graph, each_bit_that_is_used_counts, .timeout = 120)
{
	void *image;
	size_t size;
	add_tree();
	make_image(NULL, &image, &size);
	char *bytes = image;
	const struct lw_graph_head *head = image;
	cr_assert_eq(try_all(bytes, size), 0);
	for (size_t cut = 0; cut < size; cut++)
		cr_assert_neq(try_all(bytes, cut), 0, "%zu", cut);
	for (size_t i = 0; i < size; i++) {
		bool used = i < sizeof *head;
		for (unsigned s = 0; s < LW_GRAPH_SECTIONS; s++)
			used |= i >= head->section[s].offset && i < head->section[s].offset + head->section[s].size;
		for (unsigned bit = 0; bit < 8; bit++) {
			bytes[i] = (char)(bytes[i] ^ 1 << bit);
			cr_assert_eq(try_all(bytes, size) != 0, used, "%zu.%u", i, bit);
			bytes[i] = (char)(bytes[i] ^ 1 << bit);
		}
	}
	free(image);
}

static void seal(char *image)
{
	struct lw_graph_head *head = (void *)image;
	for (unsigned s = 0; s < LW_GRAPH_SECTIONS; s++)
		head->section[s].hash = lw_hash64(image + head->section[s].offset, head->section[s].size);
	head->head_hash = lw_hash64(head, offsetof(struct lw_graph_head, head_hash));
}

/* Sound sums over nonsense: refused, or harmless (ASan watches). */
Test(graph, hostile_files_do_no_harm, .timeout = 120)
{
	void *image;
	size_t size;
	uint64_t seed = 5;
	unsigned refused = 0;
	add_tree();
	make_image(NULL, &image, &size);
	const struct lw_graph_head *head = image;
	char *copy = malloc(size);
	for (unsigned i = 0; i < 20000; i++) {
		memcpy(copy, image, size);
		for (unsigned n = tree_random(&seed) % 3; n < 3; n++) {
			unsigned s = tree_random(&seed) % LW_GRAPH_RAW;
			if (!head->section[s].size)
				continue;
			uint64_t at = head->section[s].offset + tree_random(&seed) % head->section[s].size / 4 * 4;
			uint32_t value = tree_random(&seed) % 2 ? tree_random(&seed) : tree_random(&seed) % 16;
			memcpy(copy + at, &value, size - at < 4 ? size - at : 4);
		}
		seal(copy);
		refused += try_all(copy, size) != 0;
	}
	cr_assert_gt(refused, 10000);
	free(copy);
	free(image);
}

Test(graph, files_of_others_are_refused)
{
	void *image;
	size_t size;
	lw_graph *graph;
	add_tree();
	make_image(NULL, &image, &size);
	const char *const other[] = { "/elsewhere" };
	char *copy = malloc(size);
	memcpy(copy, image, size);
	cr_assert_eq(lw_graph_open_memory(copy, size, lw_graph_key(other, 1), &graph), -ESTALE);
	((struct lw_graph_head *)image)->format++;
	cr_assert_eq(lw_graph_open_memory(image, size, key(), &graph), -EPROTO);
	const char *const one[] = { "/a", "/b" }, *const two[] = { "/b", "/a" };
	cr_assert_neq(lw_graph_key(one, 2).lo, lw_graph_key(two, 2).lo);
}

/* A program that closes all descriptors it does not know: ours is somebody else's then. */
Test(graph, a_descriptor_that_was_taken_away)
{
	char path[PATH_MAX + 16];
	void *image;
	size_t size;
	lw_graph *graph;
	add_tree();
	make_image(NULL, &image, &size);
	snprintf(path, sizeof path, "%s/graph", root);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_eq(write(fd, image, size), (ssize_t)size);
	cr_assert_eq(lw_graph_open(fd, key(), &graph), 0);
	cr_assert_eq(lw_graph_load(graph, LW_GRAPH_FOR_NAMES), 0);
	int other = open(root, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(dup2(other, fd), fd);
	cr_assert_eq(lw_graph_load(graph, LW_GRAPH_FOR_IMPORTS), -EBADF);
	cr_assert_neq(lw_graph_find(graph, "b.c", 3), LW_GRAPH_NONE);
	lw_graph_close(graph);
	cr_assert_geq(fcntl(fd, F_GETFD), 0);
	close(fd);
	close(other);
	free(image);
}

/* --- the store --- */

Test(graph, it_comes_back_from_the_store, .timeout = 60)
{
	char place[PATH_MAX + 16], path[2 * PATH_MAX], reason[LW_STORE_REASON];
	void *image;
	size_t size;
	lw_store *store;
	lw_graph *graph;
	add_tree();
	make_image(NULL, &image, &size);
	snprintf(place, sizeof place, "%s/.cache", root);
	const struct lw_store_config config = { .place = place, .key = { 1, 2 }, .about = "test", .prefix_owner = geteuid() };
	cr_assert_eq(lw_store_open(&config, &store, reason), 0);
	cr_assert_eq(lw_graph_store_open(store, key(), &graph), -ENOENT);
	cr_assert_eq(lw_graph_store_put(store, key(), image, size), 0);
	cr_assert_eq(lw_graph_store_put(store, key(), image, size), 0);
	cr_assert_eq(lw_graph_store_open(store, key(), &graph), 0);
	cr_assert_eq(lw_graph_load(graph, LW_GRAPH_FOR_IMPORTS), 0);
	/* What is cut short after it was opened is refused, and nothing else. */
	snprintf(path, sizeof path, "%s/00000000000000010000000000000002/graph-%016lx", place, (unsigned long)key().lo);
	cr_assert_eq(truncate(path, (off_t)size / 2), 0);
	cr_assert_eq(lw_graph_load(graph, LW_GRAPH_FOR_IMPORTERS), -EBADMSG);
	cr_assert_eq(lw_graph_load(graph, LW_GRAPH_FOR_IMPORTS), -EBADMSG);
	lw_graph_close(graph);
	cr_assert_eq(lw_graph_store_open(store, key(), &graph), -EBADMSG);
	/* Others may not write to what is believed. */
	cr_assert_eq(lw_graph_store_put(store, key(), image, size), 0);
	cr_assert_eq(chmod(path, 0666), 0);
	cr_assert_lt(lw_graph_store_open(store, key(), &graph), 0);
	/* No more than so many. */
	for (unsigned i = 0; i < LW_GRAPH_FILES + 4; i++)
		cr_assert_eq(lw_graph_store_put(store, (struct lw_hash128){ 0, i }, image, size), 0);
	unsigned kept = 0;
	for (unsigned i = 0; i < LW_GRAPH_FILES + 4; i++) {
		snprintf(path, sizeof path, "%s/00000000000000010000000000000002/graph-%016x", place, i);
		kept += access(path, F_OK) == 0;
	}
	cr_assert_leq(kept, LW_GRAPH_FILES);
	cr_assert_geq(kept, LW_GRAPH_FILES - 1);
	lw_store_close(store);
	free(image);
}
