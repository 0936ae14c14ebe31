/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * shared: values of the BPF maps that the two BPF objects and capture.c share. Included by both sides.
 *
 *     map         key                  value              written by
 *     sites       index (the cookie)   struct lw_site     capture, before the probe is there
 *     layouts     index                struct lw_layout   capture, before a process refers to it
 *     processes   process number       struct lw_process  capture decides; spans enters those that nobody knows, counts imports; sched reads
 *     threads     thread number        struct lw_thread   spans enters a thread; sched keeps its clock, and drops it when the thread ends
 *     names       text                 number             both (lw_intern)
 *     counts      0                    struct lw_tally    both, per CPU
 *     ring        -                    event.h            both
 *
 * Numbers of processes and threads are those of the loader's PID namespace, in keys as in events.
 */
#ifndef LW_BPF_SHARED_H
#define LW_BPF_SHARED_H

#include "event.h"

enum {
	LW_LAYOUTS = 64,
	LW_PROCESSES = 8192,
	LW_THREADS = 16384,
	LW_WAKE_BYTES = 256 << 10,	/* in the ring buffer: the loader is woken; it looks ten times a second anyway */
};

enum lw_follow { LW_UNDECIDED /* first seen by spans; its events are sent until the loader has decided */, LW_FOLLOWED, LW_LEFT_ALONE };

struct lw_process {
	__u32 follow;		/* enum lw_follow */
	__u32 layout;		/* index; of no meaning while runtime is 0 */
	__u64 runtime;		/* address of its _PyRuntime; 0: its frames cannot be walked */
	__s32 active;		/* imports that are open, of all its threads; not above 0: none. Changed atomically by spans; may drift where ends are not seen, never below the truth for long */
	__u32 _pad;
};

struct lw_thread {
	struct lw_clock clock;	/* written by sched when the thread is switched in and out */
	__u64 since;		/* when the current stretch began, which `clock` does not hold yet */
	__u64 wait_ns;		/* Ladewerk waits for a module lock since then; 0: it does not */
	__u32 lock;		/* and that is the lock of this module (number of a name) */
	__u32 pid;
	/* sched's own, of the current or last wait */
	__u64 woken;		/* when it was woken; 0: not yet */
	__u32 waker;
	__u32 class;		/* enum lw_class of the stretch; while it runs LW_CLASS_CPU */
	__u32 name;		/* of the module whose lock it waits for */
	__u32 _pad;
};

struct lw_tally {
	__u64 hits, switches, events, lost;
};

/* Read-only data of both objects, set before they are loaded. */
struct lw_setting {
	__u64 pidns_dev, pidns_ino;	/* of the loader's PID namespace; ino 0: it is the initial one */
	__u32 pidns_level;		/* how many namespaces deep that is */
	__u8 everybody;			/* processes that nobody knows are followed */
	__u8 clocks;			/* sched is there */
	__u8 _pad[2];
	__u64 wait_ns;			/* waits for the GIL and for locks that are no import's are told from this length on */
};

#endif
