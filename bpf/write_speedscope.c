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

struct event {
	uint64_t at;		/* since the trace began */
	uint64_t import;	/* 0: a wait */
	uint32_t frame;
	bool open;
};

/* lw_lane.own */
struct profile {
	size_t count, room;
	uint64_t last;		/* times never go back */
	bool broken;		/* for want of memory: not written */
	struct event events[];
};

struct lw_writer {
	struct lw_writer_setup setup;
	lw_lanes *lanes;
	lw_paths *frames;
	struct lw_values frame_of;	/* by import */
	struct lw_values wanted;
	uint64_t left_out;		/* threads */
};

/* What happens to a thread */

static struct profile *profile_of(struct lw_lane *lane)
{
	struct profile *profile = lane->own;
	size_t room = profile ? profile->room : 0;
	if (profile && (profile->broken || profile->count < room))
		return profile;
	size_t larger = room ? 2 * room : 64;
	struct profile *moved = realloc(profile, sizeof(*moved) + larger * sizeof(struct event));
	if (!moved) {
		if (profile)
			profile->broken = true;
		return profile;
	}
	if (!profile)
		*moved = (struct profile){ 0 };
	moved->room = larger;
	return lane->own = moved;
}

static void add_event(const lw_writer *w, struct lw_lane *lane, uint64_t ns, struct event event)
{
	struct profile *profile = profile_of(lane);
	if (!profile || profile->broken)
		return;
	event.at = ns > w->setup.begin_ns ? ns - w->setup.begin_ns : 0;
	if (event.at < profile->last)
		event.at = profile->last;
	profile->last = event.at;
	profile->events[profile->count++] = event;
}

static void add_import(const lw_writer *w, struct lw_lane *lane, uint64_t ns, uint64_t id, bool open)
{
	add_event(w, lane, ns, (struct event){ .import = id, .frame = (uint32_t)lw_values_get(&w->frame_of, id), .open = open });
}

/* Not drawn: else what follows would be out of balance. */
static void break_lane(lw_writer *w, struct lw_lane *lane)
{
	struct profile *profile = lane ? profile_of(lane) : NULL;
	if (profile)
		profile->broken = true;
	else
		w->left_out++;
}

static void started(void *context, const struct lw_import *import)
{
	lw_writer *w = context;
	struct lw_lane *lane = lw_lanes_get(w->lanes, import->pid, import->tid, NULL);
	uint32_t frame = lw_paths_get(w->frames, 0, import->module);
	if (!lane || !frame || !lw_values_add(&w->frame_of, import->id, frame) || !lw_lane_open(lane, import->id))
		break_lane(w, lane);
	else
		add_import(w, lane, import->begin_ns, import->id, true);
}

static void ended(void *context, const struct lw_import *import)
{
	lw_writer *w = context;
	struct lw_lane *lane = lw_lanes_get(w->lanes, import->pid, import->tid, NULL);
	if (!lane || !lw_values_get(&w->frame_of, import->id))
		return;
	if (lw_writer_wants(&w->setup, import->module, import->total_ns) && !lw_values_add(&w->wanted, import->id, 1))
		break_lane(w, lane);
	uint64_t ns = import->begin_ns + import->total_ns;
	size_t above = lw_lane_above(lane, import->id);
	for (size_t i = 0; i < above; i++)
		add_import(w, lane, ns, lane->open[lane->count - 1 - i], false);
	add_import(w, lane, ns, import->id, false);
	lw_lane_close(lane, import->id);
	for (size_t i = above; i; i--)
		add_import(w, lane, ns, lane->open[lane->count - i], true);
}

static void waited(void *context, const struct lw_wait *wait)
{
	lw_writer *w = context;
	if (!lw_writer_wants_wait(&w->setup, wait))
		return;
	char label[LW_WAIT_LABEL], name[LW_WAIT_LABEL + 2];
	lw_wait_label(wait, label, sizeof(label));
	snprintf(name, sizeof(name), "[%s]", label);
	struct lw_lane *lane = lw_lanes_get(w->lanes, wait->pid, wait->tid, NULL);
	uint32_t frame = lw_paths_get(w->frames, 0, name);
	if (!lane || !frame) {
		break_lane(w, lane);
		return;
	}
	add_event(w, lane, wait->begin_ns, (struct event){ .frame = frame, .open = true });
	add_event(w, lane, wait->begin_ns + wait->wait_ns + wait->queue_ns, (struct event){ .frame = frame });
}

/* Writing */

static void write_number(const lw_writer *w, const char *what, uint32_t number)
{
	pid_t inner = w->setup.inner ? w->setup.inner((pid_t)number) : 0;
	fprintf(w->setup.out, "%s %" PRIu32, what, number);
	if (inner > 0 && (uint32_t)inner != number)
		fprintf(w->setup.out, " (%ld in its namespace)", (long)inner);
}

static void write_events(const lw_writer *w, const struct profile *profile)
{
	const char *comma = "";
	for (size_t i = 0; i < profile->count; i++) {
		const struct event *event = &profile->events[i];
		if (event->import && !lw_values_get(&w->wanted, event->import))
			continue;
		fprintf(w->setup.out, "%s\n{\"type\":\"%c\",\"frame\":%" PRIu32 ",\"at\":%" PRIu64 "}", comma, event->open ? 'O' : 'C', event->frame - 1, event->at);
		comma = ",";
	}
}

static void write_profile(const lw_writer *w, const struct lw_lane *lane, const char *comma, uint64_t end_ns)
{
	const struct profile *profile = lane->own;
	uint64_t at = end_ns > w->setup.begin_ns ? end_ns - w->setup.begin_ns : 0;
	fprintf(w->setup.out, "%s\n{\"type\":\"evented\",\"name\":\"", comma);
	write_number(w, "process", lane->pid);
	write_number(w, ", thread", lane->tid);
	fprintf(w->setup.out, "\",\"unit\":\"nanoseconds\",\"startValue\":0,\"endValue\":%" PRIu64 ",\"events\":[", at > profile->last ? at : profile->last);
	write_events(w, profile);
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
	for (const struct lw_lane *lane = lw_lanes_first(w->lanes); lane; lane = lane->next) {
		const struct profile *profile = lane->own;
		if (!profile)
			continue;
		if (profile->broken) {
			w->left_out++;
			continue;
		}
		write_profile(w, lane, comma, ending->end_ns);
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
	free(w->frame_of.of);
	free(w->wanted.of);
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
	return (struct lw_listener){ .context = writer, .started = started, .import = ended, .wait = waited };
}

const struct lw_format lw_format_speedscope = {
	.option = "speedscope",
	.help = "for speedscope.app, one profile per thread",
	.create = create,
	.listener = listener,
	.end = end,
	.destroy = destroy,
};
