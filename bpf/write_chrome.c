/* SPDX-License-Identifier: MIT */
/*
 * write_chrome: the Trace Event Format, which Perfetto and chrome://tracing open: one lane per thread, imports and waits as slices in it.
 *
 * Slices of a lane must lie within each other. So an import that ends while one that began after it goes on (greenlets that switch in module bodies) is an asynchronous event, which has a
 * track of its own; what is left nests. An arrow leads from the beginning of a wait to what the holder of the lock was importing then.
 *
 * Times are CLOCK_MONOTONIC, in microseconds, so that traces of other programs can be laid beside. Lanes have the numbers of our own PID namespace, which are unique; names have the target's.
 */
#include "lanes.h"
#include "writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* From a wait to the holder of its lock. */
struct arrow {
	struct arrow *next;
	uint32_t pid, from, to;		/* threads */
	uint64_t ns;
};

struct lw_writer {
	struct lw_writer_setup setup;
	FILE *out;
	lw_lanes *lanes;
	bool begun;		/* there is an event before the next */
	struct arrow *arrows;	/* that may lead somewhere yet */
	uint64_t flows;
};

/* Parts of events */

/* Opens an event; what follows are further members, and "}". */
static void begin_event(lw_writer *w, const char *phase, uint32_t pid, uint32_t tid)
{
	fprintf(w->out, "%s{\"ph\":\"%s\",\"pid\":%" PRIu32 ",\"tid\":%" PRIu32, w->begun ? ",\n" : "", phase, pid, tid);
	w->begun = true;
}

static void write_micros(lw_writer *w, const char *member, uint64_t ns)
{
	fprintf(w->out, ",\"%s\":%" PRIu64 ".%03u", member, ns / 1000, (unsigned)(ns % 1000));
}

static void write_text(lw_writer *w, const char *member, const char *text)
{
	fprintf(w->out, ",\"%s\":\"", member);
	lw_write_json_text(w->out, text);
	fputc('"', w->out);
}

static void write_clock(lw_writer *w, const char *member, const struct lw_clock *clock)
{
	fprintf(w->out, ",\"%s\":{", member);
	const char *comma = "";
	for (unsigned i = 0; i < LW_CLASSES; i++) {
		if (!clock->ns[i])
			continue;
		fprintf(w->out, "%s\"%s\":%" PRIu64, comma, lw_class_name(i), (uint64_t)clock->ns[i]);
		comma = ",";
	}
	fputc('}', w->out);
}

/* Lanes */

/* "WHAT 12" */
static void write_name(lw_writer *w, const struct lw_lane *lane, const char *phase_name, const char *what, uint32_t number)
{
	begin_event(w, "M", lane->pid, lane->tid);
	fprintf(w->out, ",\"name\":\"%s\",\"args\":{\"name\":\"%s ", phase_name, what);
	lw_write_task(&w->setup, number);
	fputs("\"}}", w->out);
}

static struct lw_lane *lane_of(lw_writer *w, uint32_t pid, uint32_t tid)
{
	bool is_new;
	struct lw_lane *lane = lw_lanes_get(w->lanes, pid, tid, &is_new);
	if (!lane || !is_new)
		return lane;
	if (lane->first)
		write_name(w, lane, "process_name", "process", pid);
	write_name(w, lane, "thread_name", pid == tid ? "main thread" : "thread", tid);
	return lane;
}

/* lw_lane.own: where it has slices, the last of them; without those within another one. */
enum { DRAWN = 64 };
struct drawn {
	unsigned count;
	struct {
		uint64_t begin, end;
	} slice[DRAWN];
};

static void note_slice(struct lw_lane *lane, uint64_t begin, uint64_t end)
{
	struct drawn *drawn = lane->own;
	if (!drawn)
		drawn = lane->own = calloc(1, sizeof(*drawn));
	if (!drawn)
		return;
	while (drawn->count && drawn->slice[drawn->count - 1].begin >= begin && drawn->slice[drawn->count - 1].end <= end)
		drawn->count--;
	if (drawn->count == DRAWN)
		memmove(drawn->slice, drawn->slice + 1, --drawn->count * sizeof(drawn->slice[0]));
	drawn->slice[drawn->count].begin = begin;
	drawn->slice[drawn->count++].end = end;
}

static bool has_slice(const struct lw_lane *lane, uint64_t at)
{
	const struct drawn *drawn = lane->own;
	for (unsigned i = drawn ? drawn->count : 0; i--;) {
		if (drawn->slice[i].begin <= at && at < drawn->slice[i].end)
			return true;
	}
	return false;
}

/* Whether a slice might overlap one of LANE without being within it or around it: of an import that was taken to have ended long ago. */
static bool crosses_slice(const struct lw_lane *lane, uint64_t begin, uint64_t end)
{
	const struct drawn *drawn = lane->own;
	for (unsigned i = 0; drawn && i < drawn->count; i++) {
		const uint64_t other = drawn->slice[i].begin, other_end = drawn->slice[i].end;
		if ((begin <= other && other < end && end < other_end) || (other < begin && begin < other_end && other_end < end))
			return true;
	}
	/* There may have been others. */
	return drawn && drawn->count == DRAWN && drawn->slice[0].begin >= begin;
}

/* Arrows: one must not end where there is nothing, and which of the imports that are open become slices is not known before they end (those that are short are left out). */

static void write_arrow_end(lw_writer *w, const struct arrow *arrow, const char *phase, uint32_t tid)
{
	begin_event(w, phase, arrow->pid, tid);
	fprintf(w->out, ",\"id\":\"%" PRIu64 "\",\"name\":\"held\",\"cat\":\"wait\"", w->flows);
	write_micros(w, "ts", arrow->ns);
	fputs(*phase == 'f' ? ",\"bp\":\"e\"}" : "}", w->out);
}

static void write_arrow(lw_writer *w, const struct arrow *arrow)
{
	w->flows++;
	write_arrow_end(w, arrow, "s", arrow->from);
	write_arrow_end(w, arrow, "f", arrow->to);
}

static void draw_arrow(lw_writer *w, struct arrow arrow)
{
	struct lw_lane *holder = lane_of(w, arrow.pid, arrow.to);
	if (holder && has_slice(holder, arrow.ns)) {
		write_arrow(w, &arrow);
		return;
	}
	struct arrow *later = holder && holder->count ? malloc(sizeof(*later)) : NULL;
	if (!later)
		return;
	*later = arrow;
	later->next = w->arrows;
	w->arrows = later;
}

/* An import has ended in LANE. */
static void draw_arrows_to(lw_writer *w, const struct lw_lane *lane)
{
	for (struct arrow **at = &w->arrows, *arrow; (arrow = *at);) {
		const bool here = arrow->pid == lane->pid && arrow->to == lane->tid, ends = here && has_slice(lane, arrow->ns);
		if (ends)
			write_arrow(w, arrow);
		if (ends || (here && !lane->count)) {
			*at = arrow->next;
			free(arrow);
		} else {
			at = &arrow->next;
		}
	}
}

/* Slices */

static void write_import_arguments(lw_writer *w, const struct lw_import *import)
{
	fprintf(w->out, ",\"args\":{\"id\":%" PRIu64 ",\"self_ns\":%" PRIu64, import->id, import->self_ns);
	if (import->importer[0])
		write_text(w, "importer", import->importer);
	if (import->outcome[0])
		write_text(w, "outcome", import->outcome);
	if (import->clocked) {
		write_clock(w, "total_by_class_ns", &import->total);
		write_clock(w, "self_by_class_ns", &import->self);
	}
	if (import->failed)
		fputs(",\"failed\":true", w->out);
	if (import->cut)
		fputs(",\"cut\":true", w->out);
	fputc('}', w->out);
}

static void write_slice(lw_writer *w, const struct lw_import *import)
{
	begin_event(w, "X", import->pid, import->tid);
	write_text(w, "name", import->module);
	fputs(",\"cat\":\"import\"", w->out);
	write_micros(w, "ts", import->begin_ns);
	write_micros(w, "dur", import->total_ns);
	write_import_arguments(w, import);
	fputc('}', w->out);
}

/* Half of an asynchronous event. */
static void write_half(lw_writer *w, const struct lw_import *import, const char *phase, uint64_t ns)
{
	begin_event(w, phase, import->pid, import->tid);
	fprintf(w->out, ",\"id\":\"%" PRIu64 "\"", import->id);
	write_text(w, "name", import->module);
	fputs(",\"cat\":\"import\"", w->out);
	write_micros(w, "ts", ns);
	if (*phase == 'b')
		write_import_arguments(w, import);
	fputc('}', w->out);
}

static void started(void *context, const struct lw_import *import)
{
	lw_writer *w = context;
	struct lw_lane *lane = lane_of(w, import->pid, import->tid);
	if (lane)
		lw_lane_open(lane, import->id);
}

static void ended(void *context, const struct lw_import *import)
{
	lw_writer *w = context;
	struct lw_lane *lane = lane_of(w, import->pid, import->tid);
	const uint64_t end = import->begin_ns + import->total_ns;
	bool crossing = lane && (lw_lane_above(lane, import->id) || (import->cut && crosses_slice(lane, import->begin_ns, end)));
	bool wanted = lw_writer_wants(&w->setup, import->module, import->total_ns);
	if (lane)
		lw_lane_close(lane, import->id);
	if (wanted && !crossing) {
		write_slice(w, import);
		if (lane)
			note_slice(lane, import->begin_ns, end);
	} else if (wanted) {
		write_half(w, import, "b", import->begin_ns);
		write_half(w, import, "e", end);
	}
	if (lane)
		draw_arrows_to(w, lane);
}

/* Waits */

static void waited(void *context, const struct lw_wait *wait)
{
	lw_writer *w = context;
	if (!lw_writer_wants_wait(&w->setup, wait))
		return;
	char label[LW_WAIT_LABEL];
	lw_wait_label(wait, label, sizeof(label));
	struct lw_lane *lane = lane_of(w, wait->pid, wait->tid);
	if (lane)
		note_slice(lane, wait->begin_ns, wait->begin_ns + wait->wait_ns + wait->queue_ns);
	begin_event(w, "X", wait->pid, wait->tid);
	write_text(w, "name", label);
	fputs(",\"cat\":\"wait\"", w->out);
	write_micros(w, "ts", wait->begin_ns);
	write_micros(w, "dur", wait->wait_ns + wait->queue_ns);
	fprintf(w->out, ",\"args\":{\"kind\":\"%s\",\"wait_ns\":%" PRIu64 ",\"queue_ns\":%" PRIu64, lw_wait_kind(wait->kind), wait->wait_ns, wait->queue_ns);
	if (wait->holder)
		fprintf(w->out, ",\"holder_tid\":%" PRIu32, wait->holder);
	if (wait->waker)
		fprintf(w->out, ",\"waker_tid\":%" PRIu32, wait->waker);
	fputs("}}", w->out);
	if (wait->holder && wait->holder != wait->tid)
		draw_arrow(w, (struct arrow){ .pid = wait->pid, .from = wait->tid, .to = wait->holder, .ns = wait->begin_ns });
}

/* The whole */

static int create(const struct lw_writer_setup *setup, lw_writer **out)
{
	lw_writer *w = calloc(1, sizeof(*w));
	lw_lanes *lanes = lw_lanes_create();
	if (!w || !lanes) {
		free(w);
		lw_lanes_destroy(lanes);
		return -ENOMEM;
	}
	*w = (lw_writer){ .setup = *setup, .out = setup->out, .lanes = lanes };
	fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", w->out);
	*out = w;
	return 0;
}

static struct lw_listener listener(lw_writer *writer)
{
	return (struct lw_listener){ .context = writer, .started = started, .import = ended, .wait = waited };
}

static void end(lw_writer *w, const struct lw_ending *ending)
{
	fputs("\n],\"otherData\":{\"exporter\":\"ladewerk trace\",", w->out);
	lw_write_json_ending(w->out, ending);
	fputs("}}\n", w->out);
}

static void destroy(lw_writer *w)
{
	if (!w)
		return;
	for (struct arrow *arrow = w->arrows, *next; arrow; arrow = next) {
		next = arrow->next;
		free(arrow);
	}
	lw_lanes_destroy(w->lanes);
	free(w);
}

const struct lw_format lw_format_chrome = {
	.option = "chrome",
	.help = "Trace Event Format, one lane per thread; for ui.perfetto.dev and chrome://tracing",
	.live = true,
	.create = create,
	.listener = listener,
	.end = end,
	.destroy = destroy,
};
