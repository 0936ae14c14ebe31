/* SPDX-License-Identifier: MIT */
/* scarce: every allocation of the model, of totals, trees and formats fails in turn, and all that follow it. Nothing crashes or leaks; what is told still holds together. */
#include "writer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 1000, FOR_EVER = -1 };

static long left = FOR_EVER;	/* allocations that succeed, and one */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_reallocarray(void *old, size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);

static bool fails(void)
{
	if (left > 0)
		left--;
	return left == 0;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
	return fails() ? NULL : __real_reallocarray(old, count, size);
}

static void send_name(lw_model *model, uint32_t number)
{
	struct lw_event_name record = { .head = { .kind = LW_EVENT_NAME, .name = number }, .text = { 'm', (char)('0' + number) } };
	lw_model_event(model, &record.head, sizeof(record.head) + 3);
}

static void send_span(lw_model *model, uint8_t kind, uint32_t tid, uint32_t name, uint64_t ns)
{
	struct lw_event_span record = { .head = { .kind = kind, .flags = LW_EVENT_CLOCKED, .pid = 1, .tid = tid, .name = name, .ns = ns }, .clock.ns = { ns } };
	lw_model_event(model, &record.head, sizeof(record));
}

static void send_wait(lw_model *model, uint32_t tid, uint64_t ns)
{
	struct lw_event_wait record = { .head = { .kind = LW_EVENT_WAIT, .detail = LW_CLASS_MODULE, .pid = 1, .tid = tid, .name = 2, .ns = ns }, .wait_ns = 5, .waker = 1 };
	lw_model_event(model, &record.head, sizeof(record));
}

static void trace(lw_model *model)
{
	const struct lw_event_head fork = { .kind = LW_EVENT_FORK, .pid = 1, .tid = 1, .name = 9, .ns = 9 };
	for (uint32_t i = 1; i <= 5; i++)
		send_name(model, i);
	for (uint32_t i = 1; i <= 5; i++)
		send_span(model, LW_EVENT_START, 1, i, i);
	send_wait(model, 1, 6);
	send_wait(model, 2, 6);
	lw_model_event(model, &fork, sizeof(fork));
	for (uint32_t i = 5; i; i--)
		send_span(model, LW_EVENT_DONE, 1, i, 20 - i);
	send_span(model, LW_EVENT_START, 3, 1, 30);
	lw_model_end(model, 40);
}

static void check_import(void *started, const struct lw_import *import)
{
	cr_expect(import->id <= *(uint64_t *)started && import->self_ns <= import->total_ns);
}

static void count_started(void *started, const struct lw_import *import)
{
	cr_expect_gt(import->id, *(uint64_t *)started);
	*(uint64_t *)started = import->id;
}

/* Whether every allocation succeeded. */
static bool run(const struct lw_format *format, FILE *out, long allocations)
{
	uint64_t started = 0;
	struct lw_ending ending = { 0 };
	lw_writer *writer = NULL;
	lw_model *model = NULL;
	left = allocations;
	lw_totals *totals = lw_totals_create();
	const struct lw_writer_setup setup = { .out = out, .totals = totals, .labels = 3, .quiet = true };
	if (totals && format->create(&setup, &writer) == 0) {
		const struct lw_listener listeners[] = { lw_totals_listener(totals), format->listener(writer), { .context = &started, .started = count_started, .import = check_import } };
		model = lw_model_create(listeners, 3);
	}
	if (model) {
		trace(model);
		lw_model_faults(model, &ending.senseless, &ending.dropped);
		format->end(writer, &ending);
	}
	const bool enough = left != 0;
	left = FOR_EVER;
	if (writer)
		format->destroy(writer);
	lw_model_destroy(model);
	lw_totals_destroy(totals);
	return enough;
}

Test(scarce, every_allocation_fails_in_turn)
{
	FILE *out = fopen("/dev/null", "w");
	cr_assert(out);
	/* What formats say of it; leaks are reported there again. */
	int before = dup(STDERR_FILENO);
	cr_assert(before >= 0 && dup2(fileno(out), STDERR_FILENO) >= 0);
	const struct lw_format *format;
	for (unsigned i = 0; (format = lw_format_at(i)); i++) {
		cr_expect(!run(format, out, 1));
		for (long allocations = 2; !run(format, out, allocations); allocations++)
			cr_assert_lt(allocations, MOST);
	}
	dup2(before, STDERR_FILENO);
	close(before);
	fclose(out);
}
