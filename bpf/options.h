/* SPDX-License-Identifier: MIT */
/* options: the command line of `ladewerk trace`. */
#ifndef LW_BPF_OPTIONS_H
#define LW_BPF_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum lw_action { LW_TRACE, LW_CHECK, LW_HELP, LW_VERSION };

struct lw_options {
	enum lw_action action;
	/* Whom. Lists are the options' own, strings are argv's. */
	pid_t *pids;
	const char **binaries, **cgroups, **globs;
	unsigned pid_count, binary_count, cgroup_count, glob_count;
	char *const *command;		/* NULL: none */
	bool no_children;
	/* What */
	bool no_sched, sched_needed;
	uint64_t duration_ns;		/* 0: until it is ended */
	uint64_t threshold_ns;
	unsigned ring_kib;		/* 0: as capture thinks */
	/* How */
	const char *format;		/* NULL: none was asked for */
	const char *file;		/* NULL: standard output */
	unsigned labels;
	bool live, quiet;
};

/** 0; or -1, and what is wrong has been written to COMPLAINTS. Either way OUT is to be freed. */
int lw_options_read(int argc, char **argv, struct lw_options *out, FILE *complaints);
void lw_options_free(struct lw_options *options);
void lw_options_help(FILE *out);

/** TEXT ("1.5s", "200us", "3": seconds) in nanoseconds. False: it is no such time, or one beyond 10,000 days. */
bool lw_options_time(const char *text, uint64_t *ns);

#endif
