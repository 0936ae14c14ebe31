/* SPDX-License-Identifier: MIT */
/*
 * write_folded: folded stacks, for flamegraph.pl (--countname=ns), inferno and speedscope: "a;b;c 1200", importers outside, imported inside, each with its own nanoseconds.
 *
 * Where clocks are there, what an import spent waiting stands beneath it, as a frame in brackets: "a;b;[GIL] 300". Time of imports that are left out is that of whoever imported them: the sum of all
 * lines is the time of all outermost imports, but for those that have nothing around them that is listed. The format has no comments: the ending goes to stderr.
 */
#include "paths.h"
#include "writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct lw_writer {
	struct lw_writer_setup setup;
	lw_paths *paths;
	struct lw_values path_of;	/* by import */
	struct lw_values ns, longest;	/* by path: its own; of an import there, with all in it */
	uint64_t left_out;		/* imports, for want of memory */
};

static const char *const frames[LW_CLASSES] = {
	[LW_CLASS_QUEUE] = "[run queue]", [LW_CLASS_MODULE] = "[module lock]", [LW_CLASS_GLOBAL] = "[global import lock]", [LW_CLASS_GIL] = "[GIL]",
	[LW_CLASS_FUTEX] = "[another lock]", [LW_CLASS_DISK] = "[disk]", [LW_CLASS_SLEEP] = "[sleep]",
};

static void started(void *context, const struct lw_import *import)
{
	lw_writer *w = context;
	uint32_t parent = (uint32_t)lw_values_get(&w->path_of, import->parent);
	uint32_t path = lw_paths_get(w->paths, parent, import->module);
	if (path)
		lw_values_add(&w->path_of, import->id, path);
}

static bool add(lw_writer *w, uint32_t path, uint64_t ns)
{
	return path && lw_values_add(&w->ns, path, ns);
}

/* What of its own time it waited, beneath it; the rest of NS is left. */
static bool add_classes(lw_writer *w, uint32_t path, const struct lw_clock *clock, uint64_t *ns)
{
	for (unsigned i = 0; i < LW_CLASSES; i++) {
		uint64_t part = clock->ns[i] < *ns ? clock->ns[i] : *ns;
		if (!frames[i] || !part)
			continue;
		if (!add(w, lw_paths_get(w->paths, path, frames[i]), part))
			return false;
		*ns -= part;
	}
	return true;
}

static void ended(void *context, const struct lw_import *import)
{
	lw_writer *w = context;
	uint32_t path = (uint32_t)lw_values_get(&w->path_of, import->id);
	uint64_t ns = import->self_ns, longest = lw_values_get(&w->longest, path);
	if (!path || (import->clocked && !add_classes(w, path, &import->self, &ns)) || !add(w, path, ns))
		w->left_out++;
	else if (import->total_ns > longest && !lw_values_add(&w->longest, path, import->total_ns - longest))
		w->left_out++;
}

/* What is left out */

static bool is_class(const lw_writer *w, uint32_t path)
{
	for (unsigned i = 0; i < LW_CLASSES; i++) {
		if (frames[i] && strcmp(frames[i], lw_paths_name(w->paths, path)) == 0)
			return true;
	}
	return false;
}

/* The innermost one around PATH, or itself, that is listed; 0: none. */
static uint32_t listed(const lw_writer *w, uint32_t path)
{
	while (path && !lw_writer_wants(&w->setup, lw_paths_name(w->paths, path), lw_values_get(&w->longest, path)))
		path = lw_paths_parent(w->paths, path);
	return path;
}

static void give_to_listed(lw_writer *w, uint32_t path)
{
	const bool class = is_class(w, path);
	const uint32_t owner = class ? lw_paths_parent(w->paths, path) : path, home = listed(w, owner);
	const uint64_t ns = lw_values_get(&w->ns, path);
	if (!ns || home == owner)
		return;
	w->ns.of[path] = 0;
	if (home && !add(w, class ? lw_paths_get(w->paths, home, lw_paths_name(w->paths, path)) : home, ns))
		w->left_out++;
}

/* A semicolon would be a frame's end. */
static void write_frame(FILE *out, const char *name)
{
	char text[LW_WAIT_LABEL];
	snprintf(text, sizeof(text), "%s", *name ? name : "?");
	for (char *c = text; *c; c++) {
		if (*c == ';')
			*c = ':';
	}
	lw_write_plain(out, text);
}

/* From PATH outwards into STACK, which has room. */
static void write_stack(const lw_writer *w, uint32_t path, uint32_t *stack)
{
	size_t depth = 0;
	for (; path; path = lw_paths_parent(w->paths, path))
		stack[depth++] = path;
	while (depth--) {
		write_frame(w->setup.out, lw_paths_name(w->paths, stack[depth]));
		if (depth)
			fputc(';', w->setup.out);
	}
}

static void end(lw_writer *w, const struct lw_ending *ending)
{
	for (uint32_t path = 1, known = lw_paths_count(w->paths); path <= known; path++)
		give_to_listed(w, path);
	uint32_t count = lw_paths_count(w->paths), *stack = calloc((size_t)count + 1, sizeof(*stack));
	for (uint32_t path = 1; stack && path <= count; path++) {
		uint64_t ns = lw_values_get(&w->ns, path);
		if (!ns)
			continue;
		write_stack(w, path, stack);
		fprintf(w->setup.out, " %" PRIu64 "\n", ns);
	}
	if (w->left_out || !stack)
		fprintf(stderr, "ladewerk trace: not enough memory: the stacks are incomplete\n");
	free(stack);
	lw_write_ending_aside(&w->setup, ending);
}

static void destroy(lw_writer *w)
{
	if (!w)
		return;
	lw_paths_destroy(w->paths);
	free(w->path_of.of);
	free(w->ns.of);
	free(w->longest.of);
	free(w);
}

static int create(const struct lw_writer_setup *setup, lw_writer **out)
{
	lw_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->setup = *setup;
	w->paths = lw_paths_create();
	if (!w->paths) {
		destroy(w);
		return -ENOMEM;
	}
	*out = w;
	return 0;
}

static struct lw_listener listener(lw_writer *writer)
{
	return (struct lw_listener){ .context = writer, .started = started, .import = ended };
}

const struct lw_format lw_format_folded = {
	.option = "folded",
	.help = "folded stacks of self time in nanoseconds, for flame graphs",
	.create = create,
	.listener = listener,
	.end = end,
	.destroy = destroy,
};
