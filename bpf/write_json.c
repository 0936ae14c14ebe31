/* SPDX-License-Identifier: MIT */
/*
 * write_json: a JSON object a line, as things happen. For programs: members may be added, their meaning does not change.
 *
 *     {"event":"begin","version":1,"clock":"monotonic","begin_ns":N}
 *     {"event":"process","pid":N,"alive":true}
 *     {"event":"import","module":S,"importer":S|null,"pid":N,"tid":N,"id":N,"parent":N|null,"depth":N,"begin_ns":N,"total_ns":N,"self_ns":N,
 *      "failed":true|false|null,"cut":false,"outcome":S|null,"total":{CLASS_ns:N,...},"self":{...}}
 *     {"event":"lock_wait","kind":"module"|"global"|"gil"|"other","module":S|null,"importer":S|null,"pid":N,"tid":N,"holder_tid":N|null,"waker_tid":N|null,
 *      "begin_ns":N,"wait_ns":N,"queue_ns":N}
 *     {"event":"end","events":N,"lost":N,...}
 *
 * null: not known. "total" and "self" by class are there if waits are told apart. "ns_pid" and "ns_tid" are there where the process's own PID namespace has other
 * numbers. An import is told when it ends, after those within it; one with "cut" had not ended when the trace or its thread did.
 */
#include "writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct lw_writer {
	struct lw_writer_setup setup;
};

static void put_text(FILE *out, const char *key, const char *text)
{
	fprintf(out, ",\"%s\":", key);
	if (!*text) {
		fputs("null", out);
		return;
	}
	fputc('"', out);
	lw_write_json_text(out, text);
	fputc('"', out);
}

static void put_number(FILE *out, const char *key, uint64_t number)
{
	fprintf(out, ",\"%s\":%" PRIu64, key, number);
}

/* 0: not known. */
static void put_known(FILE *out, const char *key, uint64_t number)
{
	if (number)
		put_number(out, key, number);
	else
		fprintf(out, ",\"%s\":null", key);
}

static void put_clock(FILE *out, const char *key, const struct lw_clock *clock)
{
	fprintf(out, ",\"%s\":{", key);
	for (unsigned i = 0; i < LW_CLASSES; i++)
		fprintf(out, "%s\"%s_ns\":%" PRIu64, i ? "," : "", lw_class_name(i), (uint64_t)clock->ns[i]);
	fputc('}', out);
}

static void put_inner(const lw_writer *writer, const char *key, uint32_t outer)
{
	pid_t inner = writer->setup.inner ? writer->setup.inner((pid_t)outer) : 0;
	if (inner > 0 && (uint32_t)inner != outer)
		put_number(writer->setup.out, key, (uint64_t)inner);
}

static void put_thread(const lw_writer *writer, uint32_t pid, uint32_t tid)
{
	put_number(writer->setup.out, "pid", pid);
	put_number(writer->setup.out, "tid", tid);
	put_inner(writer, "ns_pid", pid);
	put_inner(writer, "ns_tid", tid);
}

static void on_import(void *context, const struct lw_import *import)
{
	const lw_writer *writer = context;
	FILE *out = writer->setup.out;
	if (!lw_writer_wants(&writer->setup, import->module, import->total_ns))
		return;
	fputs("{\"event\":\"import\"", out);
	put_text(out, "module", import->module);
	put_text(out, "importer", import->importer);
	put_thread(writer, import->pid, import->tid);
	put_number(out, "id", import->id);
	put_known(out, "parent", import->parent);
	put_number(out, "depth", import->depth);
	put_number(out, "begin_ns", import->begin_ns);
	put_number(out, "total_ns", import->total_ns);
	put_number(out, "self_ns", import->self_ns);
	fprintf(out, ",\"failed\":%s,\"cut\":%s", import->failed ? "true" : import->unknown ? "null" : "false", import->cut ? "true" : "false");
	put_text(out, "outcome", import->outcome);
	if (import->clocked) {
		put_clock(out, "total", &import->total);
		put_clock(out, "self", &import->self);
	}
	fputs("}\n", out);
}

static void on_wait(void *context, const struct lw_wait *wait)
{
	const lw_writer *writer = context;
	FILE *out = writer->setup.out;
	if (!lw_writer_wants_wait(&writer->setup, wait))
		return;
	fprintf(out, "{\"event\":\"lock_wait\",\"kind\":\"%s\"", lw_wait_kind(wait->kind));
	put_text(out, "module", wait->module);
	put_text(out, "importer", wait->importer);
	put_thread(writer, wait->pid, wait->tid);
	put_known(out, "holder_tid", wait->holder);
	put_known(out, "waker_tid", wait->waker);
	put_number(out, "begin_ns", wait->begin_ns);
	put_number(out, "wait_ns", wait->wait_ns);
	put_number(out, "queue_ns", wait->queue_ns);
	fputs("}\n", out);
}

static void on_process(void *context, uint32_t pid, bool alive)
{
	const lw_writer *writer = context;
	fputs("{\"event\":\"process\"", writer->setup.out);
	put_number(writer->setup.out, "pid", pid);
	put_inner(writer, "ns_pid", pid);
	fprintf(writer->setup.out, ",\"alive\":%s}\n", alive ? "true" : "false");
}

static int json_create(const struct lw_writer_setup *setup, lw_writer **out)
{
	lw_writer *writer = malloc(sizeof(*writer));
	if (!writer)
		return -ENOMEM;
	writer->setup = *setup;
	fprintf(setup->out, "{\"event\":\"begin\",\"version\":1,\"clock\":\"monotonic\",\"begin_ns\":%" PRIu64 "}\n", setup->begin_ns);
	*out = writer;
	return 0;
}

static struct lw_listener json_listener(lw_writer *writer)
{
	return (struct lw_listener){ .context = writer, .import = on_import, .wait = on_wait, .process = on_process };
}

static void json_end(lw_writer *writer, const struct lw_ending *ending)
{
	fputs("{\"event\":\"end\",", writer->setup.out);
	lw_write_json_ending(writer->setup.out, ending);
	fputs("}\n", writer->setup.out);
}

static void json_destroy(lw_writer *writer)
{
	free(writer);
}

const struct lw_format lw_format_json = {
	.option = "json", .help = "a JSON object a line, as things happen", .live = true,
	.create = json_create, .listener = json_listener, .end = json_end, .destroy = json_destroy,
};
