/* SPDX-License-Identifier: MIT */
/*
 * capture: the BPF side, from here: loads the two objects, attaches probes to programs, says which processes count, and reads the ring buffer.
 *
 *     spans    every import's start and end. Needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN), a kernel of 5.15, no BTF
 *     sched    what threads wait for meanwhile. Needs BTF in addition
 *
 * One thread uses a capture. fork: the child must not.
 */
#ifndef LW_BPF_CAPTURE_H
#define LW_BPF_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "event.h"
#include "program.h"

typedef struct lw_capture lw_capture;

enum { LW_CAPTURE_WHY = 1024 };

struct lw_capture_options {
	bool sched;		/* with classes of waits */
	bool sched_needed;	/* and fail without; else capture goes on without, and lw_capture_note() says why */
	bool everybody;		/* processes that are not known are followed (all processes of a binary) */
	bool one_by_one;		/* probes as kernels before 6.6 have them, a perf event each */
	unsigned ring_kib;	/* 0: 4096. A power of two */
};

/** 0, or -errno, and WHY (LW_CAPTURE_WHY bytes) says what is missing and what would help: -EPERM (capability), -ENOSYS (kernel, uprobes), -ENOENT (BTF, where needed), -ENOMEM. */
int lw_capture_open(const struct lw_capture_options *options, lw_capture **out, char *why);
/** Detaches; NULL is allowed. */
void lw_capture_close(lw_capture *capture);
/** What is not as asked for, a sentence; NULL: nothing. */
const char *lw_capture_note(const lw_capture *capture);

/** Probes into PROGRAM (again: nothing happens). All its processes run into them; which count is said by lw_capture_follow(). -errno and WHY. */
int lw_capture_attach(lw_capture *capture, const struct lw_program *program, char *why);
/** Process PID counts (FOLLOW) or does not. RUNTIME: address of its _PyRuntime, 0 if unknown or a program without layout. LAYOUT: index given by lw_capture_layout(). */
int lw_capture_follow(lw_capture *capture, pid_t pid, bool follow, uint64_t runtime, const struct lw_program *python);
/** It is gone. */
void lw_capture_forget(lw_capture *capture, pid_t pid);

/** Called for every record, in order of arrival. RECORD is valid during the call; SIZE says which fields are there. */
typedef void lw_capture_sink(void *context, const struct lw_event_head *record, size_t size);
/** For poll(2). */
int lw_capture_fd(const lw_capture *capture);
/** What is in the ring buffer; waits up to TIMEOUT_MS (0: not) or until there is much. Number of records or -errno (-EINTR). Not for ever, though targets may send more meanwhile. */
int lw_capture_read(lw_capture *capture, int timeout_ms, lw_capture_sink *sink, void *context);

/**
 * No probe is there any more, and SINK has had every record: one that a thread was about to send, having lost its CPU meanwhile, is waited for, and so are those behind it. May take
 * tenths of a second. 0; -ETIMEDOUT if records are missing (their number is in `lost`).
 */
int lw_capture_stop(lw_capture *capture, lw_capture_sink *sink, void *context);

struct lw_capture_counts {
	uint64_t hits;		/* of uprobes, by all processes */
	uint64_t strangers;	/* those of them by processes that do not count */
	uint64_t switches;	/* seen by the sched part */
	uint64_t events;	/* put into the ring buffer */
	uint64_t lost;		/* because it, or the table of names, was full */
	uint64_t program_ns;	/* CPU time within BPF programs; 0 if the kernel does not say */
	uint64_t overhead_ns;	/* estimate of the CPU time that processes which count lost: traps and programs, as measured on this machine when capture opened */
};
void lw_capture_count(lw_capture *capture, struct lw_capture_counts *out);

#endif
