/* SPDX-License-Identifier: MIT */
/*
 * write_prometheus: Prometheus's text format 0.0.4, as the textfile collector of its node exporter reads it: counters and log2 histograms, in seconds.
 *
 * As many series as are asked for at most: the modules with the most time of their own have a label, all others are one, "other" (with them a module of that name, and those
 * whose names had to be changed, since two series must not have the same labels). No label has numbers of processes or threads.
 */
#include "writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char OTHER[] = "other";

struct lw_writer {
	struct lw_writer_setup setup;
	uint64_t imports_ns;	/* of what the histogram of imports counts */
};

/* Numbers */

static void write_seconds(FILE *out, uint64_t ns)
{
	fprintf(out, "%" PRIu64 ".%09u\n", ns / 1000000000, (unsigned)(ns % 1000000000));
}

static void write_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP ladewerk_%s %s\n# TYPE ladewerk_%s %s\n", name, help, name, type);
}

static void write_number(FILE *out, const char *name, const char *type, const char *help, uint64_t number)
{
	write_head(out, name, type, help);
	fprintf(out, "ladewerk_%s %" PRIu64 "\n", name, number);
}

static void write_time(FILE *out, const char *name, const char *type, const char *help, uint64_t ns)
{
	write_head(out, name, type, help);
	fprintf(out, "ladewerk_%s ", name);
	write_seconds(out, ns);
}

/* Histograms */

/* LABEL is `kind="gil",` or "". The last bucket is without a bound. */
static void write_histogram(FILE *out, const char *name, const char *kind, const uint64_t *buckets, uint64_t sum_ns)
{
	char label[64] = "", alone[64] = "";
	if (kind) {
		snprintf(label, sizeof(label), "kind=\"%s\",", kind);
		snprintf(alone, sizeof(alone), "{kind=\"%s\"}", kind);
	}
	uint64_t count = 0;
	for (unsigned i = 0; i < LW_HISTOGRAM - 1; i++) {
		uint64_t bound = (uint64_t)1 << i;
		count += buckets[i];
		fprintf(out, "ladewerk_%s_bucket{%sle=\"%" PRIu64 ".%06u\"} %" PRIu64 "\n", name, label, bound / 1000000, (unsigned)(bound % 1000000), count);
	}
	count += buckets[LW_HISTOGRAM - 1];
	fprintf(out, "ladewerk_%s_bucket{%sle=\"+Inf\"} %" PRIu64 "\n", name, label, count);
	fprintf(out, "ladewerk_%s_sum%s ", name, alone);
	write_seconds(out, sum_ns);
	fprintf(out, "ladewerk_%s_count%s %" PRIu64 "\n", name, alone, count);
}

static void write_waits(const lw_writer *w)
{
	static const enum lw_class kinds[] = { LW_CLASS_MODULE, LW_CLASS_GLOBAL, LW_CLASS_GIL, LW_CLASS_FUTEX };
	write_head(w->setup.out, "import_lock_wait_seconds", "histogram", "Waits of threads for locks, by kind of lock.");
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct lw_lock_total *total = lw_totals_lock(w->setup.totals, kinds[i]);
		write_histogram(w->setup.out, "import_lock_wait_seconds", lw_wait_kind(kinds[i]), total->histogram, total->waited_ns);
	}
}

/* Modules */

/* Which numbers of a module there are. */
static const struct {
	const char *name, *help;
	size_t offset;
	bool is_time;
} series[] = {
	{ "imports_total", "Imports, failed ones too.", offsetof(struct lw_module_total, count), false },
	{ "import_failures_total", "Imports that raised.", offsetof(struct lw_module_total, failed), false },
	{ "import_cumulative_seconds_total", "Time of imports, with what they import.", offsetof(struct lw_module_total, total_ns), true },
	{ "import_self_seconds_total", "Time of imports, without what they import.", offsetof(struct lw_module_total, self_ns), true },
	{ "import_lock_waits_total", "Waits of threads for the lock of the module.", offsetof(struct lw_module_total, waits), false },
	{ "import_lock_waited_seconds_total", "How long threads waited for the lock of the module.", offsetof(struct lw_module_total, waited_ns), true },
};
enum { SERIES = sizeof(series) / sizeof(series[0]) };

static uint64_t number_of(const struct lw_module_total *module, unsigned i)
{
	uint64_t number;
	memcpy(&number, (const char *)module + series[i].offset, sizeof(number));
	return number;
}

static void write_module(FILE *out, unsigned i, const char *module, uint64_t number)
{
	fprintf(out, "ladewerk_%s{module=\"", series[i].name);
	lw_write_label(out, module);
	fputs("\"} ", out);
	if (series[i].is_time)
		write_seconds(out, number);
	else
		fprintf(out, "%" PRIu64 "\n", number);
}

static bool has_label(const lw_writer *w, const struct lw_module_total *module)
{
	return strcmp(module->module, OTHER) != 0 && lw_text_is_plain(module->module) && lw_writer_wants(&w->setup, module->module, module->total_ns);
}

/* Those with labels of their own come first. How many they are. */
static long put_labelled_first(const lw_writer *w, struct lw_module_total *modules, long count)
{
	long labelled = 0;
	for (long i = 0; i < count && labelled < (long)w->setup.labels; i++) {
		if (!has_label(w, &modules[i]))
			continue;
		struct lw_module_total module = modules[i];
		modules[i] = modules[labelled];
		modules[labelled++] = module;
	}
	return labelled;
}

static void write_modules(const lw_writer *w, const struct lw_module_total *modules, long count, long labelled)
{
	for (unsigned s = 0; s < SERIES; s++) {
		write_head(w->setup.out, series[s].name, "counter", series[s].help);
		uint64_t rest = 0;
		for (long i = 0; i < count; i++) {
			if (i < labelled)
				write_module(w->setup.out, s, modules[i].module, number_of(&modules[i], s));
			else
				rest += number_of(&modules[i], s);
		}
		write_module(w->setup.out, s, OTHER, rest);
	}
}

static void write_classes(const lw_writer *w, const struct lw_module_total *modules, long count)
{
	write_head(w->setup.out, "import_class_seconds_total", "counter", "What threads that imported spent their time on.");
	for (unsigned class = 0; class < LW_CLASSES; class++) {
		uint64_t sum = 0;
		for (long i = 0; i < count; i++)
			sum += modules[i].self.ns[class];
		fprintf(w->setup.out, "ladewerk_import_class_seconds_total{class=\"%s\"} ", lw_class_name(class));
		write_seconds(w->setup.out, sum);
	}
}

/* The whole */

static void imported(void *context, const struct lw_import *import)
{
	lw_writer *w = context;
	w->imports_ns += import->total_ns;
}

static void write_trace(const lw_writer *w, const struct lw_ending *ending)
{
	FILE *out = w->setup.out;
	const struct lw_capture_counts *counts = &ending->counts;
	write_time(out, "trace_seconds", "gauge", "How long was traced.", ending->end_ns > w->setup.begin_ns ? ending->end_ns - w->setup.begin_ns : 0);
	write_time(out, "trace_target_cpu_seconds_total", "counter", "CPU time of the traced processes meanwhile.", ending->target_cpu_ns);
	write_number(out, "trace_events_total", "counter", "Events.", counts->events);
	write_number(out, "trace_lost_events_total", "counter", "Events that were lost. If there are any, the other numbers are too small.", counts->lost);
	write_time(out, "trace_overhead_seconds_total", "counter", "CPU time that tracing cost the traced processes, estimated.", counts->overhead_ns);
}

static void end(lw_writer *w, const struct lw_ending *ending)
{
	struct lw_module_total *modules = NULL;
	long count = lw_totals_modules(w->setup.totals, LW_ORDER_SELF, &modules);
	write_head(w->setup.out, "import_seconds", "histogram", "Time of imports, with what they import.");
	write_histogram(w->setup.out, "import_seconds", NULL, lw_totals_imports(w->setup.totals), w->imports_ns);
	write_waits(w);
	if (count >= 0) {
		long labelled = put_labelled_first(w, modules, count);
		write_modules(w, modules, count, labelled);
		write_classes(w, modules, count);
	} else {
		fputs("# not enough memory for the numbers of modules\n", w->setup.out);
	}
	free(modules);
	write_trace(w, ending);
	lw_write_ending(w->setup.out, "# ", ending);
}

static int create(const struct lw_writer_setup *setup, lw_writer **out)
{
	lw_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->setup = *setup;
	*out = w;
	return 0;
}

static struct lw_listener listener(lw_writer *writer)
{
	return (struct lw_listener){ .context = writer, .import = imported };
}

static void destroy(lw_writer *w)
{
	free(w);
}

const struct lw_format lw_format_prometheus = {
	.option = "prometheus",
	.help = "Prometheus's text format: counters per module and log2 histograms",
	.create = create,
	.listener = listener,
	.end = end,
	.destroy = destroy,
};
