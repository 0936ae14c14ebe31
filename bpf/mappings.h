/* SPDX-License-Identifier: MIT */
/* mappings: what /proc/PID/maps says. Lines of the kernel's that make no sense to us are left out. */
#ifndef LW_BPF_MAPPINGS_H
#define LW_BPF_MAPPINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct lw_mapping {
	uint64_t start, end, offset;
	bool executable;
	dev_t dev;
	ino_t ino;		/* 0: of no file */
	const char *path;	/* as there: newlines are "\012", removed files end in " (deleted)" */
};

/** Called for each mapping of a file, in the order of addresses. `path` is valid during the call. Not 0: ends the walk with that. */
typedef int lw_mapping_sink(void *context, const struct lw_mapping *mapping);

/** What SINK said; -ESRCH (PID is gone, or has no memory: a zombie), -EACCES, -ENOMEM. */
int lw_mappings_read(pid_t pid, lw_mapping_sink *sink, void *context);
/** One LINE of it, which is cut up. False: it makes no sense, or is no file's. */
bool lw_mapping_parse(char *line, struct lw_mapping *out);

#endif
