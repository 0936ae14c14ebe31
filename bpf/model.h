/* SPDX-License-Identifier: MIT */
/*
 * model: imports and waits, made of events. Plain C, no BPF: fed with records, it calls a writer's functions.
 *
 * An import is a span of a thread; those that begin before it ends are within it (unless the stack says otherwise: model.c). Spans of one thread end in any order (greenlets): an end belongs to the innermost open span of that name.
 * The same import seen by two kinds of probes (a span of the same module directly within) is one. What a thread spends on a span is what its clock says, less what spans within it took.
 * A wait for a module's lock was for the thread that had an open span of that module in the same process; where none was seen, for the head of the chain of wakers.
 */
#ifndef LW_BPF_MODEL_H
#define LW_BPF_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event.h"

typedef struct lw_model lw_model;

struct lw_import {
	uint64_t id, parent;		/* numbers in order of beginning, from 1; parent 0: none on this thread */
	const char *module;		/* "?": its name could not be read */
	const char *importer;		/* module whose code imported it, as far as is known; "" if not */
	uint32_t pid, tid;
	unsigned depth;			/* 0: outermost of its thread */
	uint64_t begin_ns;		/* CLOCK_MONOTONIC */
	uint64_t total_ns, self_ns;
	bool clocked;			/* the next two are there */
	struct lw_clock total, self;	/* by class */
	bool failed, unknown;		/* raised; it is not known whether it did */
	bool cut;			/* its end was not seen (end of the trace, thread gone): total is up to then, or to when its place on the stack was used by others */
	bool again;			/* within an import of the same module, on the same thread */
	const char *outcome;		/* of Ladewerk: "pack", "pyc", ...; "" otherwise */
};

struct lw_wait {
	enum lw_class kind;		/* MODULE, GLOBAL, GIL, FUTEX */
	const char *module;		/* whose lock; "" if none or not known */
	uint32_t pid, tid;
	uint32_t holder;		/* thread that held it when the wait began; 0: not known */
	uint32_t waker;
	const char *importer;		/* module whose import this thread was in; "" if none */
	uint64_t within;		/* number of the innermost import that this thread was in, be it the one for which it waits; 0: none */
	uint64_t begin_ns, wait_ns, queue_ns;
};

/*
 * Whoever is told; every function may be NULL. Strings are valid until the model is destroyed; equal names of modules (but "") have equal addresses. An import is told when it ends, so inner ones
 * first, unless greenlets end them in another order. Of a forked process, imports that were under way in its parent are told as the parent's only.
 */
struct lw_listener {
	void *context;
	void (*started)(void *context, const struct lw_import *import);	/* times are 0 yet */
	void (*import)(void *context, const struct lw_import *import);
	void (*wait)(void *context, const struct lw_wait *wait);
	void (*process)(void *context, uint32_t pid, bool alive);
};

/** NULL without memory. LISTENERS (COUNT of them) is copied, contexts must live as long. */
lw_model *lw_model_create(const struct lw_listener *listeners, unsigned count);
void lw_model_destroy(lw_model *model);
/** A record; of a wrong size or kind: ignored and counted. A lw_capture_sink. */
void lw_model_event(void *model, const struct lw_event_head *record, size_t size);
/** End of the trace at NS: open spans are told, `cut`. */
void lw_model_end(lw_model *model, uint64_t ns);
/** Records that made no sense (ends without beginnings, as of imports that were under way when the trace began; wrong sizes), and what had no memory. */
void lw_model_faults(const lw_model *model, uint64_t *senseless, uint64_t *dropped);

#endif
