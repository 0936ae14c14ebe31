/* SPDX-License-Identifier: MIT */
/*
 * model: any records at all, through the model to everything that listens: all formats, totals, trees. Twelve bytes a record:
 *
 *     kind, source, flags, detail, process, thread, name, importer or waker, time (2), place on the stack, size
 *
 * Few processes, threads and names, so that records concern each other. What is told must hold together whatever comes in.
 */
#include "writer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition) ((condition) ? (void)0 : abort())

enum { STEP = 12, NAMES = 8, FORMATS = 16 };

struct heard {
	uint64_t started, imports, waits;
	int processes;
};

static void on_started(void *context, const struct lw_import *import)
{
	struct heard *heard = context;
	heard->started++;
	MUST(import->id && import->parent < import->id && *import->module);
}

static void on_import(void *context, const struct lw_import *import)
{
	struct heard *heard = context;
	heard->imports++;
	MUST(heard->imports <= heard->started);
	MUST(import->self_ns <= import->total_ns);
	for (unsigned i = 0; import->clocked && i < LW_CLASSES; i++)
		MUST(import->self.ns[i] <= import->total.ns[i]);
	MUST((import->depth == 0) == (import->parent == 0));
}

static void on_wait(void *context, const struct lw_wait *wait)
{
	struct heard *heard = context;
	heard->waits++;
	MUST(!wait->holder || wait->holder != wait->tid);
	MUST(wait->module && wait->importer);
}

static void on_process(void *context, uint32_t pid, bool alive)
{
	struct heard *heard = context;
	heard->processes += alive ? 1 : -1;
	MUST(heard->processes >= 0);
}

/* As it comes from the ring buffer: exactly as large as said, so that a byte too far is seen. */
static void send(lw_model *model, const void *record, size_t size)
{
	void *copy = malloc(size + !size);
	MUST(copy);
	memcpy(copy, record, size);
	lw_model_event(model, copy, size);
	free(copy);
}

static void send_made(lw_model *model, const uint8_t *d, uint64_t *now)
{
	union {
		struct lw_event_head head;
		struct lw_event_name name;
		struct lw_event_span span;
		struct lw_event_wait wait;
	} record = { .head = {
		.kind = d[0] % 10, .source = d[1] % 5, .flags = d[2], .detail = d[3] % 10, .pid = 1 + d[4] % 4, .tid = 1 + d[5] % 8, .name = d[6] % (NAMES + 2), .ns = 0,
	} };
	static const size_t sizes[] = {
		[LW_EVENT_NAME] = sizeof(record.name), [LW_EVENT_START] = sizeof(record.span), [LW_EVENT_DONE] = sizeof(record.span), [LW_EVENT_WAIT] = sizeof(record.wait),
	};
	const uint64_t passed = d[8] | (uint64_t)d[9] << 8;
	*now += passed;
	record.head.ns = *now;
	switch (record.head.kind) {
	case LW_EVENT_NAME:
		for (unsigned i = 0; i < 6; i++)
			record.name.text[i] = (char)d[3 + i];
		break;
	case LW_EVENT_START:
	case LW_EVENT_DONE:
		record.span.importer = d[7] % (NAMES + 2);
		record.span.frame = d[10] ? 4096 - 16 * (uint64_t)d[10] : 0;
		for (unsigned i = 0; i < LW_CLASSES; i++)
			record.span.clock.ns[i] = *now / (i + 1 + d[11] % 3);
		break;
	case LW_EVENT_WAIT:
		record.wait.wait_ns = passed * (1 + d[10]);
		record.head.ns = *now > record.wait.wait_ns ? *now - record.wait.wait_ns : 0;
		record.wait.waker = d[7] % 10;
		break;
	default:
		break;
	}
	const size_t whole = record.head.kind < sizeof(sizes) / sizeof(sizes[0]) ? sizes[record.head.kind] : sizeof(record.head);
	send(model, &record, d[11] == 255 ? whole / 2 : whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static FILE *null;
	if (!null)
		null = fopen("/dev/null", "w");
	struct heard heard = { 0 };
	lw_totals *totals = lw_totals_create();
	MUST(null && totals);
	const struct lw_writer_setup setup = { .out = null, .totals = totals, .labels = 4, .threshold_ns = size % 3 ? 0 : 1000 };
	struct lw_listener listeners[FORMATS + 2] = { lw_totals_listener(totals), { &heard, on_started, on_import, on_wait, on_process } };
	const struct lw_format *format;
	lw_writer *writers[FORMATS];
	unsigned formats = 0;
	/* One format at a time is told the rest, so that there are many runs a second; with each of them trees, sums and so on. */
	while ((format = lw_format_at(formats)))
		formats++;
	MUST(formats && formats <= FORMATS);
	const unsigned chosen = size ? data[0] % formats : 0;
	format = lw_format_at(chosen);
	MUST(format->create(&setup, &writers[chosen]) == 0);
	listeners[2] = format->listener(writers[chosen]);
	lw_model *model = lw_model_create(listeners, 3);
	MUST(model);
	uint64_t now = 1000;
	for (uint32_t i = 1; i <= NAMES; i++) {
		struct lw_event_name name = { .head = { .kind = LW_EVENT_NAME, .name = i }, .text = { 'm', (char)('0' + i) } };
		send(model, &name, sizeof(name.head) + 3);
	}
	for (size_t at = 1; at + STEP <= size; at += STEP)
		send_made(model, data + at, &now);
	/* And as bytes. */
	if (size > 1)
		send(model, data + 1, size - 1);
	lw_model_end(model, now + 1000);
	MUST(heard.started == heard.imports);
	struct lw_ending ending = { .end_ns = now, .note = "n" };
	lw_model_faults(model, &ending.senseless, &ending.dropped);
	MUST(!ending.dropped);
	struct lw_chain chain[8];
	for (unsigned i = 0, count = lw_totals_chains(totals, chain, 8); i < count; i++)
		MUST(chain[i].length >= 2 && chain[i].length <= LW_CHAIN_MOST && (!i || chain[i].waited_ns <= chain[i - 1].waited_ns));
	format->end(writers[chosen], &ending);
	format->destroy(writers[chosen]);
	lw_model_destroy(model);
	lw_totals_destroy(totals);
	return 0;
}
