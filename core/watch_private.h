/* SPDX-License-Identifier: MIT */
/* watch: what a backend is to watch.c. */
#ifndef LW_WATCH_PRIVATE_H
#define LW_WATCH_PRIVATE_H

#include "watch.h"

#include <stdint.h>

/** As the functions of watch.h of the same name; a backend's own struct begins with a struct lw_watch. */
struct lw_watch_ops {
	const char *name;
	int (*create)(const char *const *paths, unsigned count, lw_watch **out, char *why);
	void (*destroy)(lw_watch *watch);
	int (*arm)(lw_watch *watch, const char *path, size_t len);
	int (*arm_listed)(lw_watch *watch, const char *path, size_t len);	/* NULL: arm */
	void (*disarm)(lw_watch *watch, const char *path, size_t len);
	int64_t (*drain)(lw_watch *watch, unsigned limit, lw_watch_sink *sink, void *arg);
	void (*stats)(lw_watch *watch, struct lw_watch_stats *stats);	/* but for the name */
};

extern const struct lw_watch_ops lw_watch_fanotify_ops, lw_watch_inotify_ops;

struct lw_watch {
	const struct lw_watch_ops *ops;
	int fd;
};

/** Whether every change on a file system of this type (statfs f_type) is reported. */
bool lw_watch_reports(uint64_t type);

#endif
