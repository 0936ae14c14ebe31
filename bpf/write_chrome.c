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

struct lw_writer {
	struct lw_writer_setup setup;
	FILE *out;
	lw_lanes *lanes;
	bool begun;		/* there is an event before the next */
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

/* lw_lane.own: when it had imports open, at last. An arrow must not end where there is nothing. */
struct busy {
	uint64_t since;			/* 0: it has none */
	uint64_t begin, end;		/* and before that */
};

static struct busy *busy_of(struct lw_lane *lane)
{
	if (!lane->own)
		lane->own = calloc(1, sizeof(struct busy));
	return lane->own;
}

static void note_start(struct lw_lane *lane, uint64_t ns)
{
	struct busy *busy = busy_of(lane);
	if (busy && !busy->since)
		busy->since = ns;
}

static void note_end(struct lw_lane *lane, uint64_t ns)
{
	struct busy *busy = busy_of(lane);
	if (busy && !lane->count)
		*busy = (struct busy){ .begin = busy->since, .end = ns };
}

static bool was_busy(struct lw_lane *lane, uint64_t ns)
{
	const struct busy *busy = busy_of(lane);
	return busy && ((busy->since && busy->since <= ns) || (busy->begin <= ns && ns < busy->end));
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
	if (lane && lw_lane_open(lane, import->id))
		note_start(lane, import->begin_ns);
}

static void ended(void *context, const struct lw_import *import)
{
	lw_writer *w = context;
	struct lw_lane *lane = lane_of(w, import->pid, import->tid);
	/* At the end of the trace all are cut at one time. */
	bool crossing = lane && !import->cut && lw_lane_above(lane, import->id);
	if (lane) {
		lw_lane_close(lane, import->id);
		note_end(lane, import->begin_ns + import->total_ns);
	}
	if (!lw_writer_wants(&w->setup, import->module, import->total_ns))
		return;
	if (!crossing) {
		write_slice(w, import);
		return;
	}
	write_half(w, import, "b", import->begin_ns);
	write_half(w, import, "e", import->begin_ns + import->total_ns);
}

/* Waits */

static void write_arrow_end(lw_writer *w, const struct lw_wait *wait, const char *phase, uint32_t tid)
{
	begin_event(w, phase, wait->pid, tid);
	fprintf(w->out, ",\"id\":\"%" PRIu64 "\",\"name\":\"held\",\"cat\":\"wait\"", w->flows);
	write_micros(w, "ts", wait->begin_ns);
	fputs(*phase == 'f' ? ",\"bp\":\"e\"}" : "}", w->out);
}

static void waited(void *context, const struct lw_wait *wait)
{
	lw_writer *w = context;
	if (!lw_writer_wants_wait(&w->setup, wait))
		return;
	char label[LW_WAIT_LABEL];
	lw_wait_label(wait, label, sizeof(label));
	lane_of(w, wait->pid, wait->tid);
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
	struct lw_lane *holder = wait->holder && wait->holder != wait->tid ? lane_of(w, wait->pid, wait->holder) : NULL;
	if (!holder || !was_busy(holder, wait->begin_ns))
		return;
	w->flows++;
	write_arrow_end(w, wait, "s", wait->tid);
	write_arrow_end(w, wait, "f", wait->holder);
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
