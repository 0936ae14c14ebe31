/* SPDX-License-Identifier: MIT */
/*
 * writer: an output format. One file each (write_*.c); a table of them in writer.c.
 *
 * A writer listens to the model (through `listener`) and is told the end. What it writes goes to `out`, line by line or as a whole at the end, as its format wants; errors of `out` are looked at
 * when it ends (ferror). Strings of targets are hostile: JSON is escaped, bytes that are no UTF-8 are replaced, terminals get no control characters.
 */
#ifndef LW_BPF_WRITER_H
#define LW_BPF_WRITER_H

#include <stdio.h>

#include "capture.h"
#include "forest.h"
#include "model.h"
#include "text.h"
#include "totals.h"

struct lw_writer_setup {
	FILE *out;
	const lw_totals *totals;	/* hears everything before the writer does */
	uint64_t threshold_ns;		/* shorter imports and waits are left out of lists (not of sums) */
	const char *const *globs;	/* only modules that match one of them (fnmatch); NULL: all */
	unsigned glob_count;
	unsigned labels;		/* --prometheus: at most so many modules get a label of their own, the rest is "other" */
	bool colour;
	bool quiet;			/* nothing on stderr but what is wrong */
	unsigned width;			/* of the terminal; 0: it is none */
	uint64_t begin_ns;
	pid_t (*inner)(pid_t);		/* number of a process or thread in the target's own PID namespace */
};

/* What is said at the end of every output, in its own form (a comment where the format has one; on stderr where it has no place for it). */
struct lw_ending {
	struct lw_capture_counts counts;
	uint64_t end_ns;
	uint64_t target_cpu_ns;		/* of the followed processes meanwhile, for the overhead in percent; 0: not known */
	uint64_t senseless, dropped;
	const char *note;		/* of capture; NULL */
};

typedef struct lw_writer lw_writer;

struct lw_format {
	const char *option;		/* "json", "tree", ... : the option --json, --tree */
	const char *help;
	bool live;			/* writes as things happen */
	int (*create)(const struct lw_writer_setup *setup, lw_writer **out);	/* -ENOMEM */
	struct lw_listener (*listener)(lw_writer *writer);
	void (*end)(lw_writer *writer, const struct lw_ending *ending);
	void (*destroy)(lw_writer *writer);
};

extern const struct lw_format lw_format_table, lw_format_tree, lw_format_json, lw_format_importtime, lw_format_chrome, lw_format_speedscope, lw_format_folded, lw_format_prometheus;
/** The INDEXth, from 0; NULL: there are no more. */
const struct lw_format *lw_format_at(unsigned index);
/** By its option; NULL: there is none. */
const struct lw_format *lw_format_find(const char *option);

/** Whether this module is to be listed. */
bool lw_writer_wants(const struct lw_writer_setup *setup, const char *module, uint64_t ns);
static inline double lw_ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

/** NODE and all in it: `shown` if it is to be listed or anything in it is (a line makes no sense without those around it), and `last_shown`. Whether NODE is. */
bool lw_writer_choose(const struct lw_writer_setup *setup, struct lw_node *node);
/** Whether this wait is: by the module whose lock it was, or else the one that was being imported. */
bool lw_writer_wants_wait(const struct lw_writer_setup *setup, const struct lw_wait *wait);
/** A process or thread, by the number it has here, and for itself if that is another one: "4711", "4711 (12 inside)". */
void lw_write_task(const struct lw_writer_setup *setup, uint32_t number);
/** The same, where INNER was asked for while it lived; 0: it is not known. */
void lw_write_task_as(FILE *out, uint32_t number, pid_t inner);
/** What there is to say of waits for locks: most contended modules, longest waits, chains of holders, how waits are distributed. Nothing, if nobody waited. */
void lw_write_contention(const struct lw_writer_setup *setup);
/** ENDING as members of a JSON object, without braces: "events":1,"lost":0,"overhead_ns":2,... */
void lw_write_json_ending(FILE *out, const struct lw_ending *ending);
/** On stderr, for formats that have no place for it: also if all is well, unless quiet. */
void lw_write_ending_aside(const struct lw_writer_setup *setup, const struct lw_ending *ending);
/** The three lines of ENDING, each begun with PREFIX. */
void lw_write_ending(FILE *out, const char *prefix, const struct lw_ending *ending);

#endif
