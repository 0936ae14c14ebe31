/* SPDX-License-Identifier: MIT */
/*
 * write_importtime: lines as CPython's -X importtime writes them, for tools that read those (tuna): what is imported before its importer, indented by depth, times in
 * microseconds rounded up. Unlike CPython, imports of several threads do not mix: all of an outermost import stands together. The format has no place for a
 * comment: the ending goes to stderr.
 */
#include "writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct lw_writer {
	struct lw_writer_setup setup;
	lw_forest *forest;
	unsigned left_out;
};

static uint64_t micros(uint64_t ns)
{
	return ns / 1000 + (ns % 1000 != 0);
}

static void write_node(FILE *out, const struct lw_node *node, int depth)
{
	if (!node->shown)
		return;
	for (const struct lw_node *child = node->first; child; child = child->next)
		write_node(out, child, depth + 1);
	fprintf(out, "import time: %9" PRIu64 " | %10" PRIu64 " | %*s", micros(node->import.self_ns), micros(node->import.total_ns), 2 * depth, "");
	lw_write_plain(out, node->import.module);
	fputc('\n', out);
}

static void on_tree(void *context, struct lw_node *root)
{
	lw_writer *writer = context;
	lw_writer_choose(&writer->setup, root);
	write_node(writer->setup.out, root, 0);
	writer->left_out += root->left_out;
}

static void importtime_destroy(lw_writer *writer)
{
	if (!writer)
		return;
	lw_forest_destroy(writer->forest);
	free(writer);
}

static int importtime_create(const struct lw_writer_setup *setup, lw_writer **out)
{
	lw_writer *writer = calloc(1, sizeof(*writer));
	if (!writer)
		return -ENOMEM;
	writer->setup = *setup;
	writer->forest = lw_forest_create(&(struct lw_forest_sink){ .context = writer, .tree = on_tree });
	if (!writer->forest) {
		importtime_destroy(writer);
		return -ENOMEM;
	}
	fputs("import time: self [us] | cumulative | imported package\n", setup->out);
	*out = writer;
	return 0;
}

static struct lw_listener importtime_listener(lw_writer *writer)
{
	return lw_forest_listener(writer->forest);
}

static void importtime_end(lw_writer *writer, const struct lw_ending *ending)
{
	if (writer->left_out)
		fprintf(stderr, "# %u imports are left out: more than %d were within one\n", writer->left_out, LW_TREE_MOST);
	lw_write_ending_aside(&writer->setup, ending);
}

const struct lw_format lw_format_importtime = {
	.option = "importtime", .help = "as python -X importtime; tuna opens it", .live = true,
	.create = importtime_create, .listener = importtime_listener, .end = importtime_end, .destroy = importtime_destroy,
};
