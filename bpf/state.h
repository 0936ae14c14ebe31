/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * state: what both BPF objects keep in maps. spans has the maps; sched uses the same ones (bpf_map__reuse_fd), by these names:
 *
 *     processes   number of a process here -> struct lw_process     loader decides, through spans, which counts `active`
 *     threads     number of a thread in the kernel -> struct lw_thread
 *     layouts     index -> struct lw_layout                         loader writes
 *     names       hash of a text -> its number                      both
 *     last_name   0 -> the last number given                        both
 *     counts      0 -> struct lw_counts, per CPU                    both
 *     events      the ring buffer                                   both
 *
 * A thread's entry is written by the thread itself (its probes, and where it leaves its CPU), by the scheduler where it gets one, if that is seen, and `woken` and `waker` by whoever
 * wakes it. These cannot meet, but for the wake-up of a thread that has not left yet: that one is not looked at.
 */
#ifndef LW_BPF_STATE_H
#define LW_BPF_STATE_H

#include "event.h"

enum {
	LW_PROCESSES = 4096,
	LW_THREADS = 8192,
	LW_LAYOUTS = 64,
};

enum lw_attention { LW_ASKED /* the loader has been told, and has not answered */, LW_FOLLOWED, LW_LEFT_ALONE };

struct lw_process {
	__u32 attention;	/* enum lw_attention */
	__u32 layout;		/* index; LW_LAYOUTS: none, so its waits are FUTEX or SLEEP */
	__u64 runtime;		/* address of _PyRuntime; 0: not known */
	__u32 active;		/* open spans of all its threads */
	__u32 _pad;
	__u64 recent;		/* when a span was opened or closed last. Its threads are looked at while spans are open, and a while longer */
};

struct lw_thread {
	struct lw_clock clock;	/* up to `since` */
	__u64 since;		/* when what it does now began: running, ready, or blocked */
	__u64 woken;		/* since then it has been ready; 0: it is still blocked */
	__u64 tstate;		/* address of its PyThreadState; 0: not known */
	__u32 pid, tid;		/* here */
	__u32 open;		/* its open spans. Counted by spans */
	__u32 waiting;		/* Ladewerk said that it waits for the lock of this module (number of a name), and has not said that it got it; set by spans */
	__u32 name;		/* number of the module whose lock it is blocked on */
	__u32 waker;
	__u8 now;		/* enum lw_class */
	__u8 misses;		/* thread states were searched in vain so many times: a thread that is not Python's */
	__u8 _pad[6];
};

/* What the loader tells spans, which enters it into the maps: only a program can change a part of an entry that others change as well. */
struct lw_decision {	/* lw_decide */
	__u32 pid, attention, layout, _pad;
	__u64 runtime;
};

struct lw_stand {	/* lw_enter: what a thread is in the middle of */
	__u32 pid, tid;
	__u32 now;		/* enum lw_class */
	__u32 open;		/* imports whose ends will come to a probe */
	__u32 holder;		/* thread that has the lock; 0: not known */
	__u32 length;		/* of the name, without its terminator; 0: none */
	__u64 ns;
	char text[LW_NAME_SIZE];	/* module whose lock it waits for; zeros behind it */
};

struct lw_counts {
	__u64 hits;		/* of uprobes */
	__u64 strangers;	/* those of them by processes that are left alone */
	__u64 switches;		/* of threads that count */
	__u64 events;		/* sent */
	__u64 lost;		/* not sent, or without a name that was there */
};

#endif
