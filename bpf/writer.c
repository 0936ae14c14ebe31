/* SPDX-License-Identifier: MIT */
/* writer: see writer.h. */
#include "writer.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <string.h>

/* In the order in which --help lists them. */
static const struct lw_format *const formats[] = {
	&lw_format_tree, &lw_format_table, &lw_format_json, &lw_format_importtime, &lw_format_chrome, &lw_format_speedscope, &lw_format_folded, &lw_format_prometheus,
};

const struct lw_format *lw_format_at(unsigned index)
{
	return index < sizeof(formats) / sizeof(formats[0]) ? formats[index] : NULL;
}

const struct lw_format *lw_format_find(const char *option)
{
	for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (strcmp(formats[i]->option, option) == 0)
			return formats[i];
	return NULL;
}

bool lw_writer_wants(const struct lw_writer_setup *setup, const char *module, uint64_t ns)
{
	if (ns < setup->threshold_ns)
		return false;
	if (!setup->globs)
		return true;
	for (unsigned i = 0; i < setup->glob_count; i++)
		if (fnmatch(setup->globs[i], module, 0) == 0)
			return true;
	return false;
}

bool lw_writer_wants_wait(const struct lw_writer_setup *setup, const struct lw_wait *wait)
{
	return lw_writer_wants(setup, wait->module[0] ? wait->module : wait->importer, wait->wait_ns);
}

bool lw_writer_choose(const struct lw_writer_setup *setup, struct lw_node *node)
{
	node->shown = lw_writer_wants(setup, node->import.module, node->import.total_ns);
	for (struct lw_node *child = node->first; child; child = child->next)
		if (lw_writer_choose(setup, child)) {
			node->shown = true;
			node->last_shown = child;
		}
	for (const struct lw_node_wait *entry = node->waits; entry; entry = entry->next)
		node->shown |= lw_writer_wants_wait(setup, &entry->wait);
	return node->shown;
}

void lw_write_task_as(FILE *out, uint32_t number, pid_t inner)
{
	fprintf(out, "%" PRIu32, number);
	if (inner > 0 && (uint32_t)inner != number)
		fprintf(out, " (%d inside)", (int)inner);
}

void lw_write_task(const struct lw_writer_setup *setup, uint32_t number)
{
	lw_write_task_as(setup->out, number, setup->inner ? setup->inner((pid_t)number) : 0);
}

/* Per mille of the CPU time that targets used; negative: not known. */
static double overhead_of(const struct lw_ending *ending)
{
	return ending->target_cpu_ns ? 1000.0 * (double)ending->counts.overhead_ns / (double)ending->target_cpu_ns : -1;
}

void lw_write_json_ending(FILE *out, const struct lw_ending *ending)
{
	const struct lw_capture_counts *counts = &ending->counts;
	fprintf(out, "\"events\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"hits\":%" PRIu64 ",\"switches\":%" PRIu64, counts->events, counts->lost, counts->hits, counts->switches);
	fprintf(out, ",\"program_ns\":%" PRIu64 ",\"overhead_ns\":%" PRIu64, counts->program_ns, counts->overhead_ns);
	if (ending->target_cpu_ns)
		fprintf(out, ",\"target_cpu_ns\":%" PRIu64 ",\"overhead\":%.6f", ending->target_cpu_ns, overhead_of(ending) / 1000);
	fprintf(out, ",\"senseless\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"end_ns\":%" PRIu64, ending->senseless, ending->dropped, ending->end_ns);
	if (ending->note) {
		fputs(",\"note\":\"", out);
		lw_write_json_text(out, ending->note);
		fputc('"', out);
	}
}

void lw_write_ending(FILE *out, const char *prefix, const struct lw_ending *ending)
{
	const struct lw_capture_counts *counts = &ending->counts;
	fprintf(out, "%sevents: %" PRIu64 " (probes were hit %" PRIu64 " times, threads switched %" PRIu64 " times)\n", prefix, counts->events, counts->hits, counts->switches);
	fprintf(out, "%slost events: %" PRIu64 "%s\n", prefix, counts->lost, counts->lost ? ": what is said above is incomplete" : "");
	fprintf(out, "%soverhead: about %.3f ms of CPU time", prefix, (double)counts->overhead_ns / 1e6);
	if (ending->target_cpu_ns)
		fprintf(out, ", %.2f %% of what the traced processes used", overhead_of(ending) / 10);
	fputc('\n', out);
	/* Rare ones, which are no news when there are none. */
	if (ending->dropped)
		fprintf(out, "%sout of memory: %" PRIu64 " events were left out\n", prefix, ending->dropped);
	if (ending->note) {
		fprintf(out, "%snote: ", prefix);
		lw_write_plain(out, ending->note);
		fputc('\n', out);
	}
}

void lw_write_ending_aside(const struct lw_writer_setup *setup, const struct lw_ending *ending)
{
	if (!setup->quiet || ending->counts.lost || ending->dropped)
		lw_write_ending(stderr, "# ", ending);
}
