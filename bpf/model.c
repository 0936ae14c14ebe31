/* SPDX-License-Identifier: MIT */
/*
 * model: see model.h, and model_private.h for its files.
 *
 * Which open span an end belongs to, and which one a start is within, is not always the innermost:
 *
 *     greenlets     A begins, [switch] B begins, [switch] A ends, B ends        one thread, and ends in any order
 *     lost events   A begins, (its end is lost), B begins                       A would be around everything that follows
 *
 * The name decides on ends, and the place on the stack where two have it. A start at the place of an open span, or above (stacks grow downwards), says that the span's
 * call is over or switched away: it is no longer around what begins. If its end comes yet, all is well; if it never does, it is taken to have lasted until then.
 *
 * Self time is exact however spans overlap: a span's time is taken from the one that it is within, and when that one ends first, what follows from the next one around.
 */
#include "model_private.h"

#include <stdlib.h>
#include <string.h>

/* --- names --- */

const char *lw_model_name(const lw_model *model, uint32_t name)
{
	return name <= LW_NAMES && model->name[name] ? model->name[name] : model->unknown;
}

static void on_name(lw_model *model, const struct lw_event_name *record, size_t size)
{
	static const char more[] = "...";
	char text[LW_NAME_SIZE + sizeof(more)];
	size_t room = size - sizeof(record->head), len = strnlen(record->text, room < LW_NAME_SIZE ? room : LW_NAME_SIZE);
	if (!len || !record->head.name || record->head.name > LW_NAMES) {
		model->senseless++;
		return;
	}
	memcpy(text, record->text, len);
	if (record->head.flags & LW_EVENT_CUT) {
		memcpy(text + len, more, sizeof(more) - 1);
		len += sizeof(more) - 1;
	}
	const char *kept = lw_interned_text(model->texts, text, len);
	if (kept)
		model->name[record->head.name] = kept;
	else
		model->dropped++;
}

/* --- clocks --- */

static bool clock_went_on(const struct lw_clock *begin, const struct lw_clock *end)
{
	for (unsigned i = 0; i < LW_CLASSES; i++)
		if (end->ns[i] < begin->ns[i])
			return false;
	return true;
}

static void clock_add(struct lw_clock *sum, const struct lw_clock *begin, const struct lw_clock *end)
{
	for (unsigned i = 0; i < LW_CLASSES; i++)
		sum->ns[i] += lw_since(end->ns[i], begin->ns[i]);
}

static struct lw_clock clock_less(const struct lw_clock *clock, const struct lw_clock *part)
{
	struct lw_clock rest;
	for (unsigned i = 0; i < LW_CLASSES; i++)
		rest.ns[i] = lw_since(clock->ns[i], part->ns[i]);
	return rest;
}

/* --- spans --- */

struct span **lw_model_bucket(lw_model *model, uint32_t pid, const char *module)
{
	uintptr_t sum = ((uintptr_t)module >> 4) * 31 + pid * 2654435761u;
	return &model->span[(sum ^ sum >> 12) % SPAN_BUCKETS];
}

/* Ended ones are kept until RECENT others have ended. */
static void retire(lw_model *model, struct span *span)
{
	span->newer = NULL;
	span->outer = span->from = NULL;
	if (model->recent_last)
		model->recent_last->newer = span;
	else
		model->recent = span;
	model->recent_last = span;
	if (++model->recent_count <= RECENT)
		return;
	struct span *oldest = model->recent, **at = lw_model_bucket(model, oldest->pid, oldest->module);
	model->recent = oldest->newer;
	model->recent_count--;
	while (*at != oldest)
		at = &(*at)->same;
	*at = oldest->same;
	free(oldest);
}

/* In the order of enum lw_how of ext/observe.h. */
static const char *outcome_of(const struct span *span)
{
	static const char *const names[] = { "failed", "stock", "pack", "pyc", "compiled", "stock_loader", "builtin", "namespace", "finder", "waited" };
	return span->taken && span->outcome < sizeof(names) / sizeof(names[0]) ? names[span->outcome] : "";
}

static struct lw_import import_of(const struct span *span)
{
	return (struct lw_import){
		.id = span->id, .parent = span->parent, .module = span->module, .importer = span->importer, .pid = span->pid, .tid = span->tid,
		.depth = span->depth, .begin_ns = span->begin_ns, .outcome = "",
	};
}

static bool is_within_itself(const struct span *span)
{
	for (const struct span *outer = span->outer; outer; outer = outer->outer)
		if (outer->module == span->module && !outer->silent)
			return true;
	return false;
}

static void tell_import(lw_model *model, const struct span *span, const struct lw_clock *clock, bool cut)
{
	struct lw_import import = import_of(span);
	import.total_ns = lw_since(span->end_ns, span->begin_ns);
	import.self_ns = lw_since(import.total_ns, span->inner_ns);
	import.again = is_within_itself(span);
	import.cut = cut;
	import.failed = span->verdict == VERDICT_FAILED;
	import.unknown = span->verdict == VERDICT_UNKNOWN;
	import.outcome = outcome_of(span);
	if (clock && span->clocked && clock_went_on(&span->begin_clock, clock)) {
		import.clocked = true;
		clock_add(&import.total, &span->begin_clock, clock);
		import.self = clock_less(&import.total, &span->inner_clock);
	}
	TELL(model, import, &import);
}

/* INNER's time up to now is taken from the span it is within. */
static void charge(struct span *inner, uint64_t ns, const struct lw_clock *clock)
{
	if (!inner->from)
		return;
	inner->from->inner_ns += lw_since(ns, inner->from_ns);
	if (clock && inner->clocked)
		clock_add(&inner->from->inner_clock, &inner->from_clock, clock);
}

/* SPAN ends at NS; CLOCK: its thread's, NULL if that is not known. */
static void finish(lw_model *model, struct thread *thread, struct span *span, uint64_t ns, const struct lw_clock *clock, bool cut)
{
	struct span **at = &thread->innermost;
	for (; *at != span; at = &(*at)->outer) {
		/* Begun within it, and goes on: from here on within what is around it. */
		struct span *inner = *at;
		if (inner->from != span)
			continue;
		charge(inner, ns, clock);
		inner->from = span->from;
		inner->from_ns = ns;
		if (clock)
			inner->from_clock = *clock;
	}
	span->end_ns = cut && span->left_ns ? span->left_ns : ns;
	charge(span, span->end_ns, clock);
	if (!span->silent)
		tell_import(model, span, clock, cut);
	*at = span->outer;
	thread->open--;
	retire(model, span);
}

void lw_model_cut(lw_model *model, struct thread *thread, uint64_t ns)
{
	while (thread->innermost)
		finish(model, thread, thread->innermost, ns, NULL, true);
}

/* A thread of so many open spans has lost most of the ends. */
static void cut_outermost(lw_model *model, struct thread *thread, uint64_t ns)
{
	struct span *span = thread->innermost;
	while (span->outer)
		span = span->outer;
	finish(model, thread, span, ns, NULL, true);
}

/* --- starts --- */

/* Open spans whose place on the stack RECORD's call has now are left (probes of one source are in one function; places of others do not compare). The innermost that is not left; NULL: none. */
static struct span *around(struct thread *thread, const struct lw_event_span *record)
{
	struct span *outer = NULL;
	for (struct span *span = thread->innermost; span; span = span->outer) {
		const struct probe *probe = &span->by[record->head.source];
		if (!span->left_ns && probe->open && probe->frame && probe->frame <= record->frame)
			span->left_ns = record->head.ns ? record->head.ns : 1;
		if (!span->left_ns && !outer)
			outer = span;
	}
	return outer;
}

static void seen_by(struct span *span, const struct lw_event_span *record)
{
	struct probe *probe = &span->by[record->head.source];
	if (!probe->open++)
		probe->frame = record->frame;
	span->latest = record->head.source;
}

/* A span on top of THREAD's. NULL without memory. */
static struct span *push(lw_model *model, struct thread *thread, const char *module, struct span *outer, uint64_t ns)
{
	struct span *span = calloc(1, sizeof(*span)), **bucket = lw_model_bucket(model, thread->pid, module);
	if (!span)
		return NULL;
	if (thread->open == OPEN_MOST) {
		if (outer && !outer->outer)
			outer = NULL;
		cut_outermost(model, thread, ns);
	}
	*span = (struct span){
		.outer = thread->innermost, .same = *bucket, .id = ++model->spans, .module = module, .importer = outer ? outer->module : "", .pid = thread->pid, .tid = thread->tid,
		.begin_ns = ns, .from = outer, .from_ns = ns, .parent = outer ? outer->id : 0, .depth = outer ? outer->depth + 1 : 0,
	};
	*bucket = span;
	thread->innermost = span;
	thread->open++;
	return span;
}

static void on_start(lw_model *model, const struct lw_event_span *record)
{
	const struct lw_event_head *head = &record->head;
	struct thread *thread = lw_thread_enter(model, head->pid, head->tid, head->ns);
	const char *module = lw_model_name(model, head->name), *importer = lw_model_name(model, record->importer);
	struct span *span = thread ? around(thread, record) : NULL;
	/* Another kind of probe sees the same import. */
	const bool again = span && span->module == module && lw_model_knows(model, module) && span->latest != head->source && !span->silent;
	if (!again)
		span = thread ? push(model, thread, module, span, head->ns) : NULL;
	if (!span) {
		model->dropped++;
		return;
	}
	if (lw_model_knows(model, importer))
		span->importer = importer;
	seen_by(span, record);
	if (again)
		return;
	span->source = head->source;
	if (head->flags & LW_EVENT_CLOCKED) {
		span->clocked = true;
		span->begin_clock = span->from_clock = record->clock;
	}
	const struct lw_import import = import_of(span);
	TELL(model, started, &import);
}

/* --- ends --- */

static bool is_at(const struct span *span, uint8_t source, uint64_t frame)
{
	return frame && span->by[source].open && span->by[source].frame == frame;
}

/* The innermost span of that name, the one at this place first; where one side has no name, the place alone. */
static struct span *ended(const lw_model *model, const struct thread *thread, const struct lw_event_span *record)
{
	const uint8_t source = record->head.source;
	const char *module = lw_model_name(model, record->head.name);
	struct span *named = NULL, *placed = NULL;
	const bool nameless = record->head.flags & LW_EVENT_NAMELESS || !lw_model_knows(model, module);
	for (struct span *span = thread->innermost; span; span = span->outer) {
		if (!span->by[source].open)
			continue;
		const bool here = is_at(span, source, record->frame);
		if (here && (nameless || span->module == module))
			return span;
		if (here && !placed && !lw_model_knows(model, span->module))
			placed = span;
		if (!nameless && !named && span->module == module)
			named = span;
	}
	return named ? named : placed;
}

static void on_done(lw_model *model, const struct lw_event_span *record)
{
	const struct lw_event_head *head = &record->head;
	struct thread *thread = lw_thread_find(model, head->tid);
	struct span *span = thread && thread->pid == head->pid ? ended(model, thread, record) : NULL;
	if (!span) {
		model->senseless++;
		return;
	}
	if (!(head->flags & LW_EVENT_UNKNOWN))
		span->verdict = head->flags & LW_EVENT_FAILED ? VERDICT_FAILED : VERDICT_FOUND;
	if (head->source == LW_SOURCE_LADEWERK) {
		span->taken = true;
		span->outcome = head->detail;
	}
	struct probe *probe = &span->by[head->source];
	probe->open = is_at(span, head->source, record->frame) ? 0 : probe->open - 1;
	span->latest = span->source;
	if (head->source == span->source && !probe->open)
		finish(model, thread, span, head->ns, head->flags & LW_EVENT_CLOCKED ? &record->clock : NULL, false);
}

/* --- processes --- */

/* The child goes on within the imports that the forking thread is in. */
static bool inherit(lw_model *model, struct thread *child, const struct span *span, uint64_t ns)
{
	if (!span)
		return true;
	if (!inherit(model, child, span->outer, ns))
		return false;
	struct span *copy = push(model, child, span->module, child->innermost, ns);
	if (!copy)
		return false;
	copy->id = span->id;
	copy->parent = span->parent;
	copy->importer = span->importer;
	copy->depth = span->depth;
	copy->source = span->source;
	copy->latest = span->latest;
	copy->left_ns = span->left_ns;
	memcpy(copy->by, span->by, sizeof(copy->by));
	copy->silent = true;
	return true;
}

static void on_fork(lw_model *model, const struct lw_event_head *record)
{
	if (!record->name) {
		model->senseless++;
		return;
	}
	/* First the child: a thread that had its number is dropped. */
	struct thread *child = lw_thread_enter(model, record->name, record->name, record->ns);
	const struct thread *parent = lw_thread_find(model, record->tid);
	if (!child)
		model->dropped++;
	else if (parent && parent->pid == record->pid && parent != child && !child->innermost && !inherit(model, child, parent->innermost, record->ns))
		model->dropped++;
}

static void on_exec(lw_model *model, const struct lw_event_head *record)
{
	struct process *process = lw_process_find(model, record->pid);
	while (process && process->threads)
		lw_thread_leave(model, process->threads, record->ns);
}

static void on_ended(lw_model *model, const struct lw_event_head *record)
{
	struct process *process = lw_process_find(model, record->pid);
	struct thread *thread = lw_thread_find(model, record->tid);
	if (process && record->tid == record->pid)
		lw_process_leave(model, process, record->ns);
	else if (thread && thread->pid == record->pid)
		lw_thread_leave(model, thread, record->ns);
}

/* --- outside --- */

lw_model *lw_model_create(const struct lw_listener *listeners, unsigned count)
{
	lw_model *model = calloc(1, sizeof(*model));
	if (!model)
		return NULL;
	model->texts = lw_interned_create();
	model->listener = calloc(count + 1, sizeof(*listeners));
	model->unknown = model->texts ? lw_interned_text(model->texts, "?", 1) : NULL;
	if (!model->listener || !model->unknown) {
		lw_model_destroy(model);
		return NULL;
	}
	if (count)
		memcpy(model->listener, listeners, count * sizeof(*listeners));
	model->listeners = count;
	return model;
}

void lw_model_destroy(lw_model *model)
{
	if (!model)
		return;
	for (unsigned i = 0; i < SPAN_BUCKETS; i++)
		for (struct span *span = model->span[i], *next; span; span = next) {
			next = span->same;
			free(span);
		}
	lw_threads_free(model);
	lw_interned_destroy(model->texts);
	free(model->listener);
	free(model);
}

/* Least size of a record of its kind; SIZE_MAX: there is no such kind. */
static size_t least_size(const struct lw_event_head *record)
{
	switch (record->kind) {
	case LW_EVENT_NAME: return offsetof(struct lw_event_name, text) + 2;
	case LW_EVENT_START:
	case LW_EVENT_DONE:
		if (record->source >= PROBES)
			return SIZE_MAX;
		return record->flags & LW_EVENT_CLOCKED ? sizeof(struct lw_event_span) : LW_EVENT_SPAN_SHORT;
	case LW_EVENT_WAIT: return sizeof(struct lw_event_wait);
	case LW_EVENT_PROCESS:
	case LW_EVENT_FORK:
	case LW_EVENT_EXEC:
	case LW_EVENT_EXIT: return sizeof(*record);
	default: return SIZE_MAX;
	}
}

void lw_model_event(void *context, const struct lw_event_head *record, size_t size)
{
	lw_model *model = context;
	if (size < sizeof(*record) || size < least_size(record)) {
		model->senseless++;
		return;
	}
	switch (record->kind) {
	case LW_EVENT_NAME: on_name(model, (const struct lw_event_name *)record, size); break;
	case LW_EVENT_START: on_start(model, (const struct lw_event_span *)record); break;
	case LW_EVENT_DONE: on_done(model, (const struct lw_event_span *)record); break;
	case LW_EVENT_WAIT: lw_model_wait(model, (const struct lw_event_wait *)record); break;
	case LW_EVENT_FORK: on_fork(model, record); break;
	case LW_EVENT_EXEC: on_exec(model, record); break;
	case LW_EVENT_EXIT: on_ended(model, record); break;
	default: break;		/* of LW_EVENT_PROCESS the loader decides */
	}
}

void lw_model_end(lw_model *model, uint64_t ns)
{
	for (unsigned i = 0; i < THREAD_BUCKETS; i++)
		for (struct thread *thread = model->thread[i]; thread; thread = thread->next)
			lw_model_cut(model, thread, ns);
}

void lw_model_faults(const lw_model *model, uint64_t *senseless, uint64_t *dropped)
{
	*senseless = model->senseless;
	*dropped = model->dropped;
}
