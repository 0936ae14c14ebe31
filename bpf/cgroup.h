/* SPDX-License-Identifier: MIT */
/* cgroup: who is in a control group, or in one beneath it, by its directory (version 1 or 2). */
#ifndef LW_BPF_CGROUP_H
#define LW_BPF_CGROUP_H

#include <sys/types.h>

/** A descriptor of the directory at PATH, or at /sys/fs/cgroup/PATH. -ENOENT, -EACCES, -ENOTDIR; -EINVAL: it is no cgroup's. */
int lw_cgroup_open(const char *path);
/** SINK is called with every process's number, those of other PID namespaces excepted. Not 0: ends the walk. What it said, or -errno. */
int lw_cgroup_each(int directory, int (*sink)(void *context, pid_t pid), void *context);

#endif
