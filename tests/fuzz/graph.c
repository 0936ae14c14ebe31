/* SPDX-License-Identifier: MIT */
/*
 * graph: any bytes at all as a stored graph, and as the statements of a source. The first byte selects how far they get:
 *
 *   0   as they are: almost always refused
 *   1   laid over the sections of a sound graph under sound sums: what is behind the sums
 *   2   as the statements of a source: refused, or a graph comes of them that is taken
 *
 * What is taken is asked everything.
 */
#include "../core/tree.h"
#include "../image.h"
#include "graph_build.h"
#include "graph_fresh.h"

#include <errno.h>
#include <stdbool.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[PATH_MAX];

static void clean(void)
{
	tree_destroy(root);
}

static void plant(void)
{
	char path[PATH_MAX + 64];
	tree_create(root, sizeof(root));
	atexit(clean);
	snprintf(path, sizeof(path), "%s/pkg", root);
	mkdir(path, 0755);
	const char *const files[] = { "a.py", "b.py", "pkg/__init__.py", "pkg/c.py" };
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, files[i]);
		tree_write(AT_FDCWD, path, "");
	}
}

static struct lw_hash128 key(void)
{
	const char *const roots[] = { root };
	return lw_graph_key(roots, 1);
}

/* The image of the tree whose sources all have these statements; NULL: they are none. */
static char *image_of_raw(const void *raw, size_t raw_size, size_t *size)
{
	static const char *const extension[] = { ".so" };
	const char *const roots[] = { root };
	struct lw_suffixes suffixes;
	unsigned failed;
	void *image = NULL;
	MUST(lw_suffixes_init(&suffixes, extension, 1) == 0);
	lw_graph_build *build = lw_graph_build_create(&suffixes, NULL);
	MUST(build && lw_graph_build_scan(build, roots, 1, 1, &failed) == 0);
	int error = 0;
	for (uint32_t i = 0; !error && i < lw_graph_build_sources(build); i++)
		error = lw_graph_build_put(build, i, raw, raw_size, LW_GRAPH_READ);
	MUST(error == 0 || error == -EINVAL);
	MUST(error || lw_graph_build_finish(build, key(), &image, size) == 0);
	lw_graph_build_destroy(build);
	return image;
}

static void ask(const lw_graph *graph)
{
	const struct lw_graph_node *node;
	uint32_t count = lw_graph_nodes(graph, &node), components, *room = calloc(2 * (size_t)count + 1, sizeof(*room));
	MUST(room);
	for (uint32_t i = 0; i < count; i++) {
		MUST(lw_graph_find(graph, lw_graph_string(graph, node[i].name), node[i].name_len) == i);
		MUST(lw_graph_reach(graph, i, false, 255, room, room + count) < count);
		MUST(lw_graph_reach(graph, i, true, 255, room, room + count) < count);
	}
	MUST(lw_graph_cycles(graph, 255, room, &components) == 0);
	for (uint32_t i = 0; i < count; i++)
		MUST(room[i] == LW_GRAPH_NONE || lw_graph_cycle_through(graph, 255, room, i, room + count) <= count);
	MUST(lw_graph_fresh(graph, NULL, NULL, 1) >= 0);
	free(room);
}

/* Takes IMAGE. Whether all of it could be used. */
static bool use(char *image, size_t size)
{
	lw_graph *graph;
	if (lw_graph_open_memory(image, size, key(), &graph))
		return false;
	int error = lw_graph_load(graph, (1 << LW_GRAPH_SECTIONS) - 1);
	MUST(error == 0 || error == -EBADMSG);
	if (!error)
		ask(graph);
	lw_graph_close(graph);
	return !error;
}

/* "import a, pkg; from . import c": 0 level count line len name. */
static const char sound[] = "\0\0\xff\xff\1\0\0\0\1\0a" "\1\0\xff\xff\2\0\0\0\3\0pkg" "\0\1\1\0\3\0\0\0\0\0\1\0c";

static char *overlaid(const uint8_t *data, size_t size, size_t *image_size)
{
	char *image = image_of_raw(sound, sizeof(sound) - 1, image_size);
	struct lw_graph_head *head = (struct lw_graph_head *)image;
	MUST(image);
	for (size_t i = 0; i < size && sizeof(*head) + i < *image_size; i++)
		image[sizeof(*head) + i] = (char)(image[sizeof(*head) + i] ^ data[i]);
	for (unsigned s = 0; s < LW_GRAPH_SECTIONS; s++)
		head->section[s].hash = lw_hash64(image + head->section[s].offset, head->section[s].size);
	head->head_hash = lw_hash64(head, offsetof(struct lw_graph_head, head_hash));
	return image;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const unsigned how = size ? data[0] % 3 : 0;
	size_t image_size = size ? size - 1 : 0;
	char *image;
	if (!*root)
		plant();
	if (how == 1) {
		image = overlaid(data + 1, size - 1, &image_size);
	} else if (how == 2) {
		image = image_of_raw(data + 1, size - 1, &image_size);
		if (!image)
			return 0;
	} else {
		image = malloc(image_size + !image_size);
		MUST(image);
		if (image_size)
			memcpy(image, data + 1, image_size);
	}
	bool used = use(image, image_size);
	MUST(how != 2 || used);
	return 0;
}
