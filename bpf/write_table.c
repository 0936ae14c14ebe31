/* SPDX-License-Identifier: MIT */
/*
 * write_table: for people: a line per module, those that took most first, when the trace is over; then who waited for locks. Classes are those of a module's own
 * time, as far as there are any; "waited" is how long others waited for its lock.
 */
#include "writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct lw_writer {
	struct lw_writer_setup setup;
};

/* Widths of: what stands before the classes and "waited"; a class; and what names should have at least. */
enum { NUMBERS = 52, CLASS = 10, NAMES = 18 };

/* Classes that have anything in them, as bits: lines are long enough. On a terminal, as many as have room, those with the most; *LEFT_OUT: the others. */
static unsigned classes_of(const struct lw_writer_setup *setup, const struct lw_module_total *module, long count, unsigned *left_out)
{
	uint64_t sum[LW_CLASSES] = { 0 };
	for (long i = 0; i < count; i++)
		for (unsigned class = 0; class < LW_CLASSES; class++)
			sum[class] += module[i].self.ns[class];
	const unsigned least = NUMBERS + NAMES;
	unsigned classes = 0, room = !setup->width ? LW_CLASSES : setup->width > least ? (setup->width - least) / CLASS : 0;
	*left_out = 0;
	for (unsigned n = 0; n < LW_CLASSES; n++) {
		unsigned most = 0;
		for (unsigned class = 1; class < LW_CLASSES; class++)
			most = sum[class] > sum[most] ? class : most;
		if (sum[most])
			*(n < room ? &classes : left_out) |= 1u << most;
		sum[most] = 0;
	}
	return classes;
}

static void write_left_out(FILE *out, unsigned classes)
{
	const char *before = "no room here for ";
	for (unsigned i = 0; i < LW_CLASSES; i++)
		if (classes & 1u << i) {
			fprintf(out, "%s%s", before, lw_class_name(i));
			before = ", ";
		}
	if (classes)
		fputs(": a wider terminal has, or --output\n", out);
}

static void write_heading(FILE *out, unsigned classes)
{
	fputs("   count  failed     self ms    total ms", out);
	for (unsigned i = 0; i < LW_CLASSES; i++)
		if (classes & 1u << i)
			fprintf(out, " %9s", lw_class_name(i));
	fputs("    waited  module <- importer\n", out);
}

static void write_module(FILE *out, const struct lw_module_total *module, unsigned classes)
{
	fprintf(out, "%8" PRIu64 " %7" PRIu64 " %11.3f %11.3f", module->count, module->failed, lw_ms(module->self_ns), lw_ms(module->total_ns));
	for (unsigned i = 0; i < LW_CLASSES; i++)
		if (classes & 1u << i)
			fprintf(out, " %9.3f", lw_ms(module->self.ns[i]));
	fprintf(out, " %9.3f  ", lw_ms(module->waited_ns));
	lw_write_plain(out, module->module);
	if (*module->importer) {
		fputs(" <- ", out);
		lw_write_plain(out, module->importer);
	}
	fputc('\n', out);
}

static void write_modules(const lw_writer *writer)
{
	struct lw_module_total *module;
	const long count = lw_totals_modules(writer->setup.totals, LW_ORDER_SELF, &module);
	if (count < 0) {
		fputs("not enough memory for a list of modules\n", writer->setup.out);
		return;
	}
	unsigned without;
	const unsigned classes = classes_of(&writer->setup, module, count, &without);
	uint64_t left_out = 0;
	write_heading(writer->setup.out, classes);
	for (long i = 0; i < count; i++) {
		const uint64_t longest = module[i].total_ns > module[i].longest_wait_ns ? module[i].total_ns : module[i].longest_wait_ns;
		if (lw_writer_wants(&writer->setup, module[i].module, longest))
			write_module(writer->setup.out, &module[i], classes);
		else
			left_out++;
	}
	if (left_out)
		fprintf(writer->setup.out, "and %" PRIu64 " modules that --threshold or --module leave out\n", left_out);
	write_left_out(writer->setup.out, without);
	free(module);
}

static int table_create(const struct lw_writer_setup *setup, lw_writer **out)
{
	lw_writer *writer = malloc(sizeof(*writer));
	if (!writer)
		return -ENOMEM;
	writer->setup = *setup;
	*out = writer;
	return 0;
}

static struct lw_listener table_listener(lw_writer *writer)
{
	return (struct lw_listener){ .context = writer };
}

static void table_end(lw_writer *writer, const struct lw_ending *ending)
{
	write_modules(writer);
	lw_write_contention(&writer->setup);
	fputc('\n', writer->setup.out);
	lw_write_ending(writer->setup.out, "", ending);
}

static void table_destroy(lw_writer *writer)
{
	free(writer);
}

const struct lw_format lw_format_table = {
	.option = "table", .help = "a line per module, and who waited for locks, at the end",
	.create = table_create, .listener = table_listener, .end = table_end, .destroy = table_destroy,
};
