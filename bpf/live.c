/* SPDX-License-Identifier: MIT */
/* live: see live.h. A picture is made in memory, line by line, and written at once, so that nothing flickers. */
#include "live.h"
#include "screen.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	PERIOD_MS = 500,
	LINE = 1024,		/* bytes */
	DOING = 5,		/* imports under way that are shown */
	FEW_ROWS = 12,		/* with fewer, none of them is */
	WIDE = 96,		/* columns; with fewer, there is no room for classes of time */
};

/* An import that is not over. */
struct doing {
	uint64_t id, parent, begin_ns;
	const char *module, *importer;
	uint32_t pid, tid;
	unsigned within;	/* imports that it waits for */
};

struct lw_live {
	struct lw_writer_setup setup;
	enum lw_order order;
	bool reversed, held, quit;
	bool redraw;
	uint64_t drawn_ns;
	struct doing *doing;	/* in order of beginning */
	size_t count, room;
};

/* What is under way */

static struct doing *find(lw_live *live, uint64_t id)
{
	for (size_t i = live->count; id && i--;) {
		if (live->doing[i].id == id)
			return &live->doing[i];
	}
	return NULL;
}

static void started(void *context, const struct lw_import *import)
{
	lw_live *live = context;
	if (live->count == live->room) {
		size_t room = live->room ? 2 * live->room : 64;
		struct doing *doing = reallocarray(live->doing, room, sizeof(*doing));
		if (!doing)
			return;
		live->doing = doing;
		live->room = room;
	}
	struct doing *parent = find(live, import->parent);
	if (parent)
		parent->within++;
	live->doing[live->count++] = (struct doing){
		.id = import->id, .parent = import->parent, .begin_ns = import->begin_ns, .module = import->module, .importer = import->importer,
		.pid = import->pid, .tid = import->tid,
	};
}

static void ended(void *context, const struct lw_import *import)
{
	lw_live *live = context;
	struct doing *doing = find(live, import->id);
	if (!doing)
		return;
	struct doing *parent = find(live, doing->parent);
	if (parent && parent->within)
		parent->within--;
	memmove(doing, doing + 1, (size_t)(live->doing + live->count - (doing + 1)) * sizeof(*doing));
	live->count--;
}

/* Those that are under way for the longest time and wait for no other, oldest first. */
static unsigned oldest(const lw_live *live, const struct doing *found[DOING])
{
	unsigned count = 0;
	for (size_t i = 0; i < live->count && count < DOING; i++) {
		if (!live->doing[i].within)
			found[count++] = &live->doing[i];
	}
	return count;
}

/* Lines */

struct picture {
	FILE *out;
	unsigned rows, columns;	/* rows: that are free yet */
	bool colour, begun;
};

/* The first COLUMNS characters. */
static void write_cut(FILE *out, const char *text, unsigned columns)
{
	const char *end = text;
	for (size_t size; columns && (size = lw_text_character(end)); columns--)
		end += size;
	fwrite(text, 1, (size_t)(end - text), out);
}

/* STYLE: numbers for SGR, or NULL. TEXT is plain. */
static void put_line(struct picture *picture, const char *style, const char *text)
{
	if (!picture->rows)
		return;
	picture->rows--;
	if (picture->begun)
		fputs("\r\n", picture->out);
	picture->begun = true;
	if (style && picture->colour)
		fprintf(picture->out, "\033[%sm", style);
	write_cut(picture->out, text, picture->columns);
	if (style && picture->colour)
		fputs("\033[m", picture->out);
	fputs("\033[K", picture->out);
}

/* A line that is written piece by piece, by a FILE. What does not fit is left out. */
struct line {
	char text[LINE];
	FILE *out;
};

static FILE *begin_line(struct line *line)
{
	memset(line->text, 0, sizeof(line->text));
	line->out = fmemopen(line->text, sizeof(line->text) - 1, "w");
	return line->out;
}

static void end_line(struct picture *picture, struct line *line, const char *style)
{
	fclose(line->out);
	put_line(picture, style, line->text);
}

/* Head */

static uint64_t sum_of(const uint64_t histogram[LW_HISTOGRAM])
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < LW_HISTOGRAM; i++)
		sum += histogram[i];
	return sum;
}

static const char *plural(uint64_t number)
{
	return number == 1 ? "" : "s";
}

static void draw_state(const lw_live *live, struct picture *picture, const struct lw_live_state *state, uint64_t failed)
{
	struct line line;
	uint64_t imports = sum_of(lw_totals_imports(live->setup.totals)), ns = state->now_ns > live->setup.begin_ns ? state->now_ns - live->setup.begin_ns : 0;
	FILE *out = begin_line(&line);
	if (!out)
		return;
	fprintf(out, "ladewerk trace  %.1f s, %u process%s: %" PRIu64 " import%s", (double)ns / 1e9, state->processes, state->processes == 1 ? "" : "es", imports, plural(imports));
	if (failed)
		fprintf(out, " (%" PRIu64 " failed)", failed);
	fprintf(out, "%s", live->held ? "  [held: p]" : "");
	end_line(picture, &line, "1");

	const struct lw_capture_counts *counts = &state->counts;
	out = begin_line(&line);
	if (!out)
		return;
	fprintf(out, "events %" PRIu64 ", lost %" PRIu64 ", overhead ", counts->events, counts->lost);
	if (state->target_cpu_ns)
		fprintf(out, "%.2f %%", 100.0 * (double)counts->overhead_ns / (double)state->target_cpu_ns);
	else
		fprintf(out, "%.1f ms", (double)counts->overhead_ns / 1e6);
	end_line(picture, &line, counts->lost ? "31" : NULL);
}

static void draw_locks(const lw_live *live, struct picture *picture)
{
	static const struct {
		enum lw_class kind;
		const char *name;
	} kinds[] = { { LW_CLASS_MODULE, "module locks" }, { LW_CLASS_GLOBAL, "global import lock" }, { LW_CLASS_GIL, "GIL" }, { LW_CLASS_FUTEX, "other locks" } };
	struct line line;
	FILE *out = begin_line(&line);
	if (!out)
		return;
	const char *comma = "waited for ";
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct lw_lock_total *total = lw_totals_lock(live->setup.totals, kinds[i].kind);
		if (!total->waits)
			continue;
		fprintf(out, "%s%s %" PRIu64 " time%s, %.1f ms (longest %.1f)", comma, kinds[i].name, total->waits, plural(total->waits), (double)total->waited_ns / 1e6, (double)total->longest_ns / 1e6);
		comma = "; ";
	}
	bool any = comma[0] == ';';
	if (any) {
		end_line(picture, &line, NULL);
		return;
	}
	fclose(out);
	put_line(picture, NULL, "no waits for locks");
}

static void write_task(const lw_live *live, FILE *out, uint32_t number)
{
	lw_write_task_as(out, number, live->setup.inner ? live->setup.inner((pid_t)number) : 0);
}

static void draw_doing(const lw_live *live, struct picture *picture, uint64_t now_ns)
{
	const struct doing *found[DOING];
	unsigned count = picture->rows >= FEW_ROWS ? oldest(live, found) : 0;
	for (unsigned i = 0; i < count; i++) {
		struct line line;
		FILE *out = begin_line(&line);
		if (!out)
			return;
		fprintf(out, "now: %.1f s ", now_ns > found[i]->begin_ns ? (double)(now_ns - found[i]->begin_ns) / 1e9 : 0.0);
		lw_write_plain(out, *found[i]->module ? found[i]->module : "?");
		fputs(" (thread ", out);
		write_task(live, out, found[i]->tid);
		fputs(" of ", out);
		write_task(live, out, found[i]->pid);
		if (found[i]->importer[0]) {
			fputs(", for ", out);
			lw_write_plain(out, found[i]->importer);
		}
		fputc(')', out);
		end_line(picture, &line, "33");
	}
}

/* Modules */

static bool is_clocked(const struct lw_module_total *modules, long count)
{
	for (long i = 0; i < count; i++) {
		for (unsigned class = 0; class < LW_CLASSES; class++) {
			if (modules[i].self.ns[class])
				return true;
		}
	}
	return false;
}

/* The column that orders is in capitals. */
static void draw_titles(const lw_live *live, struct picture *picture, bool clocked)
{
	struct line line;
	FILE *out = begin_line(&line);
	if (!out)
		return;
	enum lw_order order = live->order;
	fprintf(out, "%7s %7s %6s %7s ", order == LW_ORDER_SELF ? "SELF" : "self", order == LW_ORDER_TOTAL ? "TOTAL" : "total", order == LW_ORDER_COUNT ? "COUNT" : "count",
		order == LW_ORDER_WAITED ? "WAITED" : "waited");
	if (clocked)
		fprintf(out, "%7s %7s %7s %7s %7s %7s ", "cpu", "queue", "locks", "gil", "disk", "sleep");
	fputs(order == LW_ORDER_NAME ? "MODULE" : "module", out);
	if (live->reversed)
		fputs("  (reversed)", out);
	end_line(picture, &line, "7");
}

static void write_duration(FILE *out, uint64_t ns)
{
	char text[LW_DURATION];
	fprintf(out, "%7s ", ns ? lw_text_duration(ns, text) : "-");
}

/* Of any kind but the GIL. */
static uint64_t locks_of(const struct lw_clock *clock)
{
	return clock->ns[LW_CLASS_MODULE] + clock->ns[LW_CLASS_GLOBAL] + clock->ns[LW_CLASS_FUTEX];
}

static void draw_module(struct picture *picture, const struct lw_module_total *module, bool clocked)
{
	struct line line;
	FILE *out = begin_line(&line);
	if (!out)
		return;
	write_duration(out, module->self_ns);
	write_duration(out, module->total_ns);
	fprintf(out, "%6" PRIu64 " ", module->count);
	write_duration(out, module->waited_ns);
	const __u64 *self = module->self.ns;
	const uint64_t classes[] = { self[LW_CLASS_CPU], self[LW_CLASS_QUEUE], locks_of(&module->self), self[LW_CLASS_GIL], self[LW_CLASS_DISK], self[LW_CLASS_SLEEP] };
	for (unsigned i = 0; clocked && i < sizeof(classes) / sizeof(classes[0]); i++)
		write_duration(out, classes[i]);
	lw_write_plain(out, *module->module ? module->module : "?");
	if (module->failed)
		fprintf(out, " (%" PRIu64 " failed)", module->failed);
	if (module->importer && module->importer[0]) {
		fputs("  < ", out);
		lw_write_plain(out, module->importer);
	}
	end_line(picture, &line, NULL);
}

static void draw_modules(const lw_live *live, struct picture *picture, const struct lw_module_total *modules, long count)
{
	bool clocked = picture->columns >= WIDE && is_clocked(modules, count);
	draw_titles(live, picture, clocked);
	for (long i = 0; i < count && picture->rows; i++) {
		const struct lw_module_total *module = &modules[live->reversed ? count - 1 - i : i];
		if (lw_writer_wants(&live->setup, module->module, module->total_ns))
			draw_module(picture, module, clocked);
	}
}

static uint64_t failed_of(const struct lw_module_total *modules, long count)
{
	uint64_t failed = 0;
	for (long i = 0; i < count; i++)
		failed += modules[i].failed;
	return failed;
}

static void draw_picture(const lw_live *live, struct picture *picture, const struct lw_live_state *state)
{
	struct lw_module_total *modules = NULL;
	long count = lw_totals_modules(live->setup.totals, live->order, &modules);
	/* The last row is for the keys. */
	picture->rows--;
	draw_state(live, picture, state, failed_of(modules, count));
	draw_locks(live, picture);
	draw_doing(live, picture, state->now_ns);
	draw_modules(live, picture, modules, count);
	free(modules);
	while (picture->rows)
		put_line(picture, NULL, "");
	picture->rows++;
	put_line(picture, "7", "order: s self, t total, c count, w waited, n name, r reverse   p hold   q quit");
}

/* Without memory there is no picture, this time. False: the terminal is gone. */
static bool draw(lw_live *live, const struct lw_live_state *state)
{
	char *text = NULL;
	size_t size = 0;
	struct picture picture = { .out = open_memstream(&text, &size), .colour = live->setup.colour };
	lw_screen_size(&picture.rows, &picture.columns);
	if (!picture.out)
		return true;
	draw_picture(live, &picture, state);
	bool good = fclose(picture.out) != 0 || lw_screen_show(text, size);
	free(text);
	return good;
}

/* The user */

static void obey(lw_live *live, int key)
{
	static const char orders[LW_ORDERS] = { [LW_ORDER_SELF] = 's', [LW_ORDER_TOTAL] = 't', [LW_ORDER_COUNT] = 'c', [LW_ORDER_WAITED] = 'w', [LW_ORDER_NAME] = 'n' };
	live->redraw = true;
	for (unsigned order = 0; order < LW_ORDERS; order++) {
		if (key == orders[order]) {
			live->order = order;
			live->reversed = false;
		}
	}
	if (key == 'r')
		live->reversed = !live->reversed;
	else if (key == 'p')
		live->held = !live->held;
	else if (key == 'q' || key == 'Q' || key == 4 /* ^D */)
		live->quit = true;
}

bool lw_live_tick(lw_live *live, const struct lw_live_state *state)
{
	int key;
	while ((key = lw_screen_key()) > 0)
		obey(live, key);
	if (key < 0 || live->quit)
		return false;
	bool due = !live->held && state->now_ns - live->drawn_ns >= (uint64_t)PERIOD_MS * 1000000;
	if (!lw_screen_changed() && !live->redraw && !due)
		return true;
	live->redraw = false;
	live->drawn_ns = state->now_ns;
	return draw(live, state);
}

struct lw_listener lw_live_listener(lw_live *live)
{
	return (struct lw_listener){ .context = live, .started = started, .import = ended };
}

int lw_live_create(const struct lw_writer_setup *setup, int in, int out, lw_live **result)
{
	lw_live *live = calloc(1, sizeof(*live));
	if (!live)
		return -ENOMEM;
	live->setup = *setup;
	int error = lw_screen_take(in, out);
	if (error) {
		free(live);
		return error;
	}
	*result = live;
	return 0;
}

void lw_live_destroy(lw_live *live)
{
	if (!live)
		return;
	lw_screen_give_back();
	free(live->doing);
	free(live);
}
