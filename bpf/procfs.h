/* SPDX-License-Identifier: MIT */
/* procfs: what /proc says of processes, by their numbers in our PID namespace. A process may be gone, and its number another's, at any moment: callers live with that. */
#ifndef LW_BPF_PROCFS_H
#define LW_BPF_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct lw_proc {
	pid_t process;		/* of which it is a thread; itself, if it is the first */
	pid_t parent;		/* 0: in another namespace, or none */
	pid_t inner;		/* its number in its own PID namespace */
	bool dead;		/* zombie */
};

/** 0; -ESRCH, -ENOMEM, ... */
int lw_proc_read(pid_t pid, struct lw_proc *out);
/** The file it executes. False: gone, a thread of the kernel, or not permitted. */
bool lw_proc_executes(pid_t pid, dev_t *dev, ino_t *ino);
/** Its name; PATH is empty if that is not known. */
void lw_proc_executable(pid_t pid, char *path, size_t size);
/** Its first argument, as it was called; empty if not known. */
void lw_proc_argument(pid_t pid, char *text, size_t size);
/** CPU time of all its threads so far, those that ended too. 0: gone. */
uint64_t lw_proc_cpu_ns(pid_t pid);
/** SINK is called with each process's number. Not 0: ends the walk. What it said, or -errno. */
int lw_proc_each(int (*sink)(void *context, pid_t pid), void *context);

#endif
