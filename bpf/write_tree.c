/* SPDX-License-Identifier: MIT */
/*
 * write_tree: for people: each outermost import as a tree, when it is over, importers above what they imported; with waits for import locks where they happened.
 *
 *     process 4711, thread 4711
 *       total ms     self ms      cpu    locks      gil    other  module
 *         12.345       1.234    1.100    0.100    0.034    0.000  a
 *          8.000       8.000    8.000    0.000    0.000    0.000  ├─ a.b
 *          3.111       3.111    0.111    3.000    0.000    0.000  └─ a.c
 *                                                                    3.000 ms for lock of a.c, held by thread 4712
 *
 * The classes are there where waits are told apart, and are those of the time that the import spent itself.
 */
#include "writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct lw_writer {
	struct lw_writer_setup setup;
	lw_forest *forest;
	uint32_t pid, tid;	/* whose tree was written last */
	bool clocked;		/* and its columns */
};

static void write_head(lw_writer *writer, uint32_t pid, uint32_t tid, bool clocked)
{
	FILE *out = writer->setup.out;
	if (writer->pid == pid && writer->tid == tid && writer->clocked == clocked)
		return;
	fputs(writer->pid ? "\nprocess " : "process ", out);
	lw_write_task(&writer->setup, pid);
	fputs(", thread ", out);
	lw_write_task(&writer->setup, tid);
	fprintf(out, "\n  total ms     self ms%s  module\n", clocked ? "      cpu    locks      gil    other" : "");
	writer->pid = pid;
	writer->tid = tid;
	writer->clocked = clocked;
}

static void write_times(const lw_writer *writer, const struct lw_import *import)
{
	FILE *out = writer->setup.out;
	const __u64 *self = import->self.ns;
	fprintf(out, "%10.3f  %10.3f", lw_ms(import->total_ns), lw_ms(import->self_ns));
	if (import->clocked)
		fprintf(out, " %8.3f %8.3f %8.3f %8.3f", lw_ms(self[LW_CLASS_CPU]), lw_ms(self[LW_CLASS_MODULE] + self[LW_CLASS_GLOBAL]), lw_ms(self[LW_CLASS_GIL]),
			lw_ms(self[LW_CLASS_QUEUE] + self[LW_CLASS_FUTEX] + self[LW_CLASS_DISK] + self[LW_CLASS_SLEEP]));
	else if (writer->clocked)
		fprintf(out, " %8s %8s %8s %8s", "-", "-", "-", "-");
	fputs("  ", out);
}

/* What stands before the lines below NODE. */
static void write_stems(FILE *out, const struct lw_node *node)
{
	if (!node->parent)
		return;
	write_stems(out, node->parent);
	fputs(node->parent->last_shown == node ? "   " : "│  ", out);
}

static void write_module(const lw_writer *writer, const struct lw_node *node)
{
	FILE *out = writer->setup.out;
	const struct lw_import *import = &node->import;
	const bool red = import->failed && writer->setup.colour;
	if (red)
		fputs("\033[31m", out);
	lw_write_plain(out, import->module);
	/* Elsewhere it is the line that this one hangs on. */
	if (!node->parent && *import->importer) {
		fputs(" <- ", out);
		lw_write_plain(out, import->importer);
	}
	if (*import->outcome && !import->failed)
		fprintf(out, " (%s)", import->outcome);
	if (import->failed)
		fputs(" [failed]", out);
	if (import->cut)
		fputs(" [not over]", out);
	if (red)
		fputs("\033[0m", out);
	fputc('\n', out);
}

static void write_wait(const lw_writer *writer, const struct lw_wait *wait)
{
	FILE *out = writer->setup.out;
	char label[LW_WAIT_LABEL];
	lw_wait_label(wait, label, sizeof(label));
	fprintf(out, "%.3f ms for ", lw_ms(wait->wait_ns));
	lw_write_plain(out, label);
	if (wait->holder) {
		fputs(", held by thread ", out);
		lw_write_task(&writer->setup, wait->holder);
	}
	fputc('\n', out);
}

static void write_node(const lw_writer *writer, const struct lw_node *node)
{
	FILE *out = writer->setup.out;
	if (!node->shown)
		return;
	write_times(writer, &node->import);
	if (node->parent) {
		write_stems(out, node->parent);
		fputs(node->parent->last_shown == node ? "└─ " : "├─ ", out);
	}
	write_module(writer, node);
	for (const struct lw_node_wait *entry = node->waits; entry; entry = entry->next) {
		if (!lw_writer_wants_wait(&writer->setup, &entry->wait))
			continue;
		fprintf(out, "%*s", writer->clocked ? 60 : 24, "");
		write_stems(out, node);
		fputs(node->last_shown ? "│  " : "   ", out);
		write_wait(writer, &entry->wait);
	}
	for (const struct lw_node *child = node->first; child; child = child->next)
		write_node(writer, child);
}

static void on_tree(void *context, struct lw_node *root)
{
	lw_writer *writer = context;
	if (!lw_writer_choose(&writer->setup, root))
		return;
	write_head(writer, root->import.pid, root->import.tid, root->import.clocked);
	write_node(writer, root);
	if (root->left_out)
		fprintf(writer->setup.out, "%24s%u imports within it are left out: more than %d\n", "", root->left_out, LW_TREE_MOST);
}

static void on_stray(void *context, const struct lw_wait *wait)
{
	lw_writer *writer = context;
	if (!lw_writer_wants_wait(&writer->setup, wait))
		return;
	write_head(writer, wait->pid, wait->tid, false);
	fprintf(writer->setup.out, "%24s", "");
	write_wait(writer, wait);
}

static void tree_destroy(lw_writer *writer)
{
	if (!writer)
		return;
	lw_forest_destroy(writer->forest);
	free(writer);
}

static int tree_create(const struct lw_writer_setup *setup, lw_writer **out)
{
	lw_writer *writer = calloc(1, sizeof(*writer));
	if (!writer)
		return -ENOMEM;
	writer->setup = *setup;
	writer->forest = lw_forest_create(&(struct lw_forest_sink){ .context = writer, .tree = on_tree, .stray = on_stray });
	if (!writer->forest) {
		tree_destroy(writer);
		return -ENOMEM;
	}
	*out = writer;
	return 0;
}

static struct lw_listener tree_listener(lw_writer *writer)
{
	return lw_forest_listener(writer->forest);
}

static void tree_end(lw_writer *writer, const struct lw_ending *ending)
{
	lw_write_contention(&writer->setup);
	fputc('\n', writer->setup.out);
	lw_write_ending(writer->setup.out, "", ending);
}

const struct lw_format lw_format_tree = {
	.option = "tree", .help = "what imported what, as it happens, and where time went", .live = true,
	.create = tree_create, .listener = tree_listener, .end = tree_end, .destroy = tree_destroy,
};
