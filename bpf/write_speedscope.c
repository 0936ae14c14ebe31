/* SPDX-License-Identifier: MIT */
/*
 * write_speedscope: the file format of speedscope.app: one profile per thread, of frames that open and close. Written as a whole at the end.
 *
 * Frames must close in the opposite order of opening. Where an import ends while one that began after it goes on (greenlets), the later one is closed before it and opened
 * again at the same time: times and order stay true.
 *
 *     began   a  b  .  .              O a  O b  .  .   .   .
 *     ended   .  .  a  b     becomes  .    .    C b C a  O b   C b
 */
#include "lanes.h"
#include "paths.h"
#include "writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* An import or a wait. */
struct span {
	uint64_t begin, end;	/* since the trace began */
	uint64_t number;	/* among those that begin at the same time, outer ones have lower ones */
	uint32_t frame;
};

/* lw_lane.own */
struct profile {
	size_t count, room;
	pid_t inner_pid, inner_tid;	/* when it is written the thread is gone */
	struct span spans[];
};

struct lw_writer {
	struct lw_writer_setup setup;
	lw_lanes *lanes;
	lw_paths *frames;
	uint64_t left_out;	/* for want of memory */
};

/* What happens to a thread */

static pid_t inner_of(const lw_writer *w, uint32_t number)
{
	return w->setup.inner ? w->setup.inner((pid_t)number) : 0;
}

static bool make_room(const lw_writer *w, struct lw_lane *lane)
{
	struct profile *profile = lane->own;
	size_t room = profile ? profile->room : 0;
	if (profile && profile->count < room)
		return true;
	size_t larger = room ? 2 * room : 64;
	struct profile *moved = realloc(profile, sizeof(*moved) + larger * sizeof(struct span));
	if (!moved)
		return false;
	if (!profile)
		*moved = (struct profile){ .inner_pid = inner_of(w, lane->pid), .inner_tid = inner_of(w, lane->tid) };
	moved->room = larger;
	lane->own = moved;
	return true;
}

static uint64_t since_begin(const lw_writer *w, uint64_t ns)
{
	return ns > w->setup.begin_ns ? ns - w->setup.begin_ns : 0;
}

static void add_span(lw_writer *w, uint32_t pid, uint32_t tid, const char *name, struct span span)
{
	struct lw_lane *lane = lw_lanes_get(w->lanes, pid, tid, NULL);
	span.frame = lw_paths_get(w->frames, 0, name);
	if (!lane || !span.frame || !make_room(w, lane)) {
		w->left_out++;
		return;
	}
	struct profile *profile = lane->own;
	profile->spans[profile->count++] = span;
}

static void imported(void *context, const struct lw_import *import)
{
	lw_writer *w = context;
	if (!lw_writer_wants(&w->setup, import->module, import->total_ns))
		return;
	add_span(w, import->pid, import->tid, import->module, (struct span){
		.begin = since_begin(w, import->begin_ns), .end = since_begin(w, import->begin_ns + import->total_ns), .number = import->id,
	});
}

static void waited(void *context, const struct lw_wait *wait)
{
	lw_writer *w = context;
	if (!lw_writer_wants_wait(&w->setup, wait))
		return;
	char label[LW_WAIT_LABEL], name[LW_WAIT_LABEL + 2];
	lw_wait_label(wait, label, sizeof(label));
	snprintf(name, sizeof(name), "[%s]", label);
	add_span(w, wait->pid, wait->tid, name, (struct span){
		.begin = since_begin(w, wait->begin_ns), .end = since_begin(w, wait->begin_ns + wait->wait_ns + wait->queue_ns), .number = UINT64_MAX,
	});
}

/* Writing */

static int compare(const void *one, const void *other)
{
	const struct span *a = one, *b = other;
	if (a->begin != b->begin)
		return a->begin < b->begin ? -1 : 1;
	return a->number == b->number ? 0 : a->number < b->number ? -1 : 1;
}

/* Frames that are open, outermost first. */
struct stack {
	const struct span **spans;
	size_t count;
	FILE *out;
	const char *comma;
};

static void write_event(struct stack *stack, char type, const struct span *span, uint64_t at)
{
	fprintf(stack->out, "%s\n{\"type\":\"%c\",\"frame\":%" PRIu32 ",\"at\":%" PRIu64 "}", stack->comma, type, span->frame - 1, at);
	stack->comma = ",";
}

/* The one that ends first; of several, the innermost. */
static size_t first_to_end(const struct stack *stack)
{
	size_t first = stack->count - 1;
	for (size_t i = first; i--;) {
		if (stack->spans[i]->end < stack->spans[first]->end)
			first = i;
	}
	return first;
}

static void close_frame(struct stack *stack, size_t which)
{
	uint64_t at = stack->spans[which]->end;
	for (size_t i = stack->count; i-- > which;)
		write_event(stack, 'C', stack->spans[i], at);
	stack->count--;
	for (size_t i = which; i < stack->count; i++) {
		stack->spans[i] = stack->spans[i + 1];
		write_event(stack, 'O', stack->spans[i], at);
	}
}

static void close_until(struct stack *stack, uint64_t at)
{
	while (stack->count) {
		size_t first = first_to_end(stack);
		if (stack->spans[first]->end > at)
			return;
		close_frame(stack, first);
	}
}

/* PROFILE is sorted. False: no memory. */
static bool write_events(FILE *out, const struct profile *profile)
{
	struct stack stack = { .spans = calloc(profile->count, sizeof(*stack.spans)), .out = out, .comma = "" };
	if (!stack.spans)
		return false;
	for (size_t i = 0; i < profile->count; i++) {
		const struct span *span = &profile->spans[i];
		close_until(&stack, span->begin);
		write_event(&stack, 'O', span, span->begin);
		stack.spans[stack.count++] = span;
	}
	close_until(&stack, UINT64_MAX);
	free(stack.spans);
	return true;
}

/* When the first span of all threads begins, and the last one ends: profiles have one time axis, without what was before anything happened. */
static void find_range(const lw_writer *w, uint64_t *begin, uint64_t *end)
{
	*begin = UINT64_MAX;
	*end = 0;
	for (const struct lw_lane *lane = lw_lanes_first(w->lanes); lane; lane = lane->next) {
		const struct profile *profile = lane->own;
		for (size_t i = 0; profile && i < profile->count; i++) {
			*begin = profile->spans[i].begin < *begin ? profile->spans[i].begin : *begin;
			*end = profile->spans[i].end > *end ? profile->spans[i].end : *end;
		}
	}
}

static void write_profile(lw_writer *w, const struct lw_lane *lane, const char *comma, uint64_t begin, uint64_t end)
{
	struct profile *profile = lane->own;
	qsort(profile->spans, profile->count, sizeof(*profile->spans), compare);
	fprintf(w->setup.out, "%s\n{\"type\":\"evented\",\"name\":\"process ", comma);
	lw_write_task_as(w->setup.out, lane->pid, profile->inner_pid);
	fputs(", thread ", w->setup.out);
	lw_write_task_as(w->setup.out, lane->tid, profile->inner_tid);
	fprintf(w->setup.out, "\",\"unit\":\"nanoseconds\",\"startValue\":%" PRIu64 ",\"endValue\":%" PRIu64 ",\"events\":[", begin, end);
	if (!write_events(w->setup.out, profile))
		w->left_out += profile->count;
	fputs("]}", w->setup.out);
}

static void write_frames(const lw_writer *w)
{
	for (uint32_t frame = 1; frame <= lw_paths_count(w->frames); frame++) {
		const char *name = lw_paths_name(w->frames, frame);
		fputs(frame > 1 ? ",\n{\"name\":\"" : "\n{\"name\":\"", w->setup.out);
		lw_write_json_text(w->setup.out, *name ? name : "?");
		fputs("\"}", w->setup.out);
	}
}

static void end(lw_writer *w, const struct lw_ending *ending)
{
	fputs("{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\"name\":\"imports\",\"exporter\":\"ladewerk trace\",\"shared\":{\"frames\":[", w->setup.out);
	write_frames(w);
	fputs("]},\"profiles\":[", w->setup.out);
	const char *comma = "";
	uint64_t first, last;
	find_range(w, &first, &last);
	for (const struct lw_lane *lane = lw_lanes_first(w->lanes); lane; lane = lane->next) {
		if (!lane->own)
			continue;
		write_profile(w, lane, comma, first, last);
		comma = ",";
	}
	fputs("],\"ladewerk\":{", w->setup.out);
	if (w->left_out)
		fprintf(w->setup.out, "\"left_out_without_memory\":%" PRIu64 ",", w->left_out);
	lw_write_json_ending(w->setup.out, ending);
	fputs("}}\n", w->setup.out);
}

static void destroy(lw_writer *w)
{
	if (!w)
		return;
	lw_lanes_destroy(w->lanes);
	lw_paths_destroy(w->frames);
	free(w);
}

static int create(const struct lw_writer_setup *setup, lw_writer **out)
{
	lw_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	*w = (lw_writer){ .setup = *setup, .lanes = lw_lanes_create(), .frames = lw_paths_create() };
	if (!w->lanes || !w->frames) {
		destroy(w);
		return -ENOMEM;
	}
	*out = w;
	return 0;
}

static struct lw_listener listener(lw_writer *writer)
{
	return (struct lw_listener){ .context = writer, .import = imported, .wait = waited };
}

const struct lw_format lw_format_speedscope = {
	.option = "speedscope",
	.help = "for speedscope.app, one profile per thread",
	.create = create,
	.listener = listener,
	.end = end,
	.destroy = destroy,
};
