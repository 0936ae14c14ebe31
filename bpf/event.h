/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * event: what the BPF programs and the loader tell each other. Included by both sides: no header of libc here.
 *
 *     site      an address at which a uprobe sits, and where its arguments are       loader -> spans
 *     layout    where an interpreter keeps what a walk of its frames needs           loader -> sched
 *     clock     what a thread has spent its time on since it was first seen          sched  -> spans
 *     event     a record of the ring buffer; kinds differ in length                  both   -> loader
 *
 * Process and thread numbers are those of the loader's PID namespace. Times are CLOCK_MONOTONIC in nanoseconds. Records of different CPUs may be out of order by
 * the time that a program takes: the reader sorts by `ns` within a thread never, across threads where it matters (a thread's own records are in order).
 */
#ifndef LW_BPF_EVENT_H
#define LW_BPF_EVENT_H

#include <linux/types.h>

enum {
	LW_NAME_SIZE = 256,	/* of a module's name, with the terminator; longer ones are cut, and LW_EVENT_CUT says so */
	LW_SITE_ARGUMENTS = 3,
	LW_SITES = 1024,	/* all binaries together */
	LW_NAMES = 16384,	/* distinct names that get a number; what comes later has number 0 and is counted as lost */
};

/* --- sites --- */

/* What it means that a thread comes to a site. */
enum lw_site_kind {
	LW_SITE_START,		/* arguments: module */
	LW_SITE_DONE,		/* arguments: module, whether it was found (0 failed) */
	LW_SITE_CALL,		/* the call of _find_and_load() where there is no USDT; arguments: module (a str object) */
	LW_SITE_RETURN,		/* behind that call, in the same function; arguments: result (NULL failed), or none if it is not known any more */
	LW_SITE_OWN_START,	/* Ladewerk's probes; arguments: module, importer */
	LW_SITE_OWN_DONE,	/* module, importer, outcome (enum lw_how of ext/observe.h) */
	LW_SITE_OWN_WAIT,	/* a module lock that somebody else holds: module, importer */
	LW_SITE_OWN_GOT,	/* and now it is ours */
};

enum lw_place { LW_PLACE_NONE, LW_PLACE_CONSTANT, LW_PLACE_REGISTER, LW_PLACE_MEMORY /* at register + offset */ };
enum lw_form { LW_FORM_NUMBER, LW_FORM_CHARS /* char * */, LW_FORM_OBJECT /* PyObject * of a compact str */ };

struct lw_argument {
	__u8 place;		/* enum lw_place */
	__u8 form;		/* enum lw_form */
	__u8 size;		/* bytes; of the number, or of the pointer */
	__u8 is_signed;
	__u16 reg;		/* offset of the register in struct pt_regs (struct user_pt_regs on aarch64) */
	__u16 _pad;
	__s64 offset;		/* of PLACE_MEMORY; value of PLACE_CONSTANT */
};

/* The cookie of a uprobe is the index of its site. */
struct lw_site {
	__u8 kind;		/* enum lw_site_kind */
	__u8 _pad[3];
	__u32 layout;		/* index of the binary's struct lw_layout */
	struct lw_argument argument[LW_SITE_ARGUMENTS];
};

/* --- layout: one per binary; where things are within the objects of this interpreter. Offsets in bytes. --- */

struct lw_layout {
	__u16 version;		/* 0x030b for 3.11 */
	__u8 free_threaded;
	__u8 has_gil;
	__u32 runtime_size;	/* of _PyRuntime: a futex within it is the GIL's */
	/* _PyRuntime, PyInterpreterState, PyThreadState */
	__u16 runtime_interpreters;
	__u16 _pad1;
	__u32 interpreter_next, interpreter_threads;
	__u16 thread_next, thread_id /* pthread_t */, thread_native, thread_frame;
	__u16 cframe_frame;	/* 3.11, 3.12: thread_frame leads to a _PyCFrame, this to the frame; else 0xffff */
	/* _PyInterpreterFrame, PyCodeObject */
	__u16 frame_previous, frame_code, frame_locals, frame_owner;
	__u8 frame_owner_c;	/* value of owner in frames that have no code (shims); 0xff: there are none */
	__u8 tag_mask;		/* low bits that are no part of a pointer, in frame_code and frame_locals */
	__u16 code_name, code_filename;
	/* str: state, length, data of compact ASCII, data of other compact ones. utf8, if it was ever asked for, is at str_ascii + 8, its length at str_ascii */
	__u16 str_state, str_length, str_ascii, str_compact;
	__u8 str_kind;		/* bit of `state` (32 bits) at which kind (3 bits: bytes per character), compact and ascii begin */
	__u8 _pad;
};

/* --- clocks --- */

enum lw_class {
	LW_CLASS_CPU,
	LW_CLASS_QUEUE,		/* ready, and no processor free */
	LW_CLASS_MODULE,	/* the lock of a module */
	LW_CLASS_GLOBAL,	/* the global import lock (_imp.acquire_lock) */
	LW_CLASS_GIL,
	LW_CLASS_FUTEX,		/* another lock */
	LW_CLASS_DISK,		/* uninterruptible, or in iowait */
	LW_CLASS_SLEEP,		/* anything else: sockets, pipes, timers */
	LW_CLASSES
};

struct lw_clock {
	__u64 ns[LW_CLASSES];
};

/* --- events --- */

enum lw_event_kind {
	LW_EVENT_NAME,		/* struct lw_event_name: `name` means this text from now on */
	LW_EVENT_START,		/* struct lw_event_span */
	LW_EVENT_DONE,		/* struct lw_event_span */
	LW_EVENT_WAIT,		/* struct lw_event_wait: a wait that is over */
	LW_EVENT_PROCESS,	/* struct lw_event_head: first sight of a process that is neither followed nor left alone: the loader decides */
	LW_EVENT_EXEC,		/* struct lw_event_head: a followed process executes another program from here on */
	LW_EVENT_FORK,		/* struct lw_event_head: followed `pid` has the child `name` (a process number here) */
	LW_EVENT_EXIT,		/* struct lw_event_head: thread `tid` is gone; if tid == pid, the process */
};

/* Who saw it. */
enum lw_source { LW_SOURCE_USDT, LW_SOURCE_CALL, LW_SOURCE_LADEWERK, LW_SOURCE_SCHED };

enum lw_event_flag {
	LW_EVENT_FAILED = 1,	/* of DONE: the import raised */
	LW_EVENT_UNKNOWN = 2,	/* of DONE: whether it failed is not known */
	LW_EVENT_CUT = 4,	/* of NAME: longer than LW_NAME_SIZE */
	LW_EVENT_CLOCKED = 8,	/* of START and DONE: a struct lw_clock is there */
	LW_EVENT_NAMELESS = 16,	/* of DONE: ends what began with the same `frame` */
};

struct lw_event_head {
	__u8 kind, source, flags;
	__u8 detail;		/* of DONE by Ladewerk: outcome; of WAIT: enum lw_class */
	__u32 pid, tid;
	__u32 name;		/* number of the module's name; 0: not known */
	__u64 ns;
};

struct lw_event_name {
	struct lw_event_head head;
	char text[LW_NAME_SIZE];	/* terminated; only what is needed is sent */
};

struct lw_event_span {
	struct lw_event_head head;
	__u32 importer;		/* number of a name; 0: not known */
	__u32 _pad;
	__u64 frame;		/* stack pointer at the site: call and return of one import have the same, on the same stack */
	struct lw_clock clock;	/* of this thread; only with LW_EVENT_CLOCKED (the record is shorter without) */
};

struct lw_event_wait {
	struct lw_event_head head;	/* ns: when it began; name: of the module, if the lock is one's */
	__u64 wait_ns;		/* blocked */
	__u64 queue_ns;		/* and then ready, until it ran */
	__u32 waker;		/* thread that ended it; 0: a timer or an interrupt */
	__u32 _pad;
};

#define LW_EVENT_SPAN_SHORT (sizeof(struct lw_event_span) - sizeof(struct lw_clock))

#endif
