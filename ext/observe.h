/* SPDX-License-Identifier: MIT */
/*
 * observe: what imports spend their time on: USDT probes for tracers, and a record for `ladewerk run --report`.
 *
 *     if (lw_observing(state)) span = lw_span_begin(state, name);
 *     ...                                   lw_phase() as the import proceeds, wherever it is
 *     if (span) lw_span_end(state, span, module);
 *
 * Nobody listening costs five loads per import. A span belongs to a thread; its phases are exclusive: an import within it, and a garbage collection,
 * stop its clock. Spans live on the heap and may end in any order, because greenlets switch stacks within module bodies.
 *
 * Probes (provider ladewerk, with semaphores): import__start(importee, importer), import__done(importee, importer, outcome),
 * wait__begin(importee, importer) and wait__end(importee, importer) around a module lock that somebody else holds. Names are UTF-8; importer is the
 * __name__ of the importing globals; outcome is enum lw_how. Where <sys/sdt.h> was missing at build time there are none (`ladewerk doctor` says so).
 */
#ifndef LW_EXT_OBSERVE_H
#define LW_EXT_OBSERVE_H

#include "told.h"

enum lw_phase {
	LW_PHASE_REST,		/* machinery: locks, spec, loader and module objects, binding; finders of others */
	LW_PHASE_FIND,		/* resolving the name */
	LW_PHASE_VALIDATE,	/* asking the file system whether it still holds; reading and hashing where it does not */
	LW_PHASE_COMPILE,	/* source to code, where there was none */
	LW_PHASE_UNMARSHAL,
	LW_PHASE_EXECUTE,	/* the body, without what it imports */
	LW_PHASE_COLLECT,	/* garbage collections */
	LW_PHASE_WAIT,		/* for a module lock */
	LW_PHASE_COUNT
};

/* Outcome of an import; in the order of their names in observe.c. */
enum lw_how {
	LW_HOW_FAILED, LW_HOW_STOCK, LW_HOW_PACK, LW_HOW_PYC, LW_HOW_COMPILED, LW_HOW_STOCK_LOADER, LW_HOW_BUILTIN, LW_HOW_NAMESPACE, LW_HOW_FOREIGN,
	LW_HOW_WAITED,		/* for the import of another thread: no import of its own */
	LW_HOW_COUNT
};

struct lw_span;

/* Semaphores: tracers increment them. */
extern volatile unsigned short ladewerk_import__start_semaphore, ladewerk_import__done_semaphore, ladewerk_wait__begin_semaphore,
	ladewerk_wait__end_semaphore;

static inline bool lw_probes_on(void)
{
	return ladewerk_import__start_semaphore | ladewerk_import__done_semaphore | ladewerk_wait__begin_semaphore | ladewerk_wait__end_semaphore;
}

static inline bool lw_observing(const lw_state *state)
{
	return state->home->recorder || lw_is_heard(state) || lw_probes_on();
}

/** The import of NAME begins on this thread. NULL without memory (no exception). */
struct lw_span *lw_span_begin(lw_state *state, PyObject *name);
/** It is over, and MODULE (NULL: failed; None: was waited for) came of it; frees SPAN. A pending exception survives. */
void lw_span_end(lw_state *state, struct lw_span *span, PyObject *module);
/** SPEC was found, and is about to be loaded: if that is what the innermost span imports, it is told. */
void lw_span_spec(lw_state *state, PyObject *spec);
/** __name__ of the code that imports, importlib.import_module() and the like left out. A new reference or NULL; no exception. */
PyObject *lw_importer_name(void);
/** The innermost span of this thread (if any) is in PHASE from now on. Returns the phase it was in. */
enum lw_phase lw_phase_slow(enum lw_phase phase);
/** NS of what the innermost span spent in phase FROM were really TO's. */
void lw_phase_move(enum lw_phase from, enum lw_phase to, int64_t ns);
/** Whether this thread is within the import of NAME. */
bool lw_span_within(PyObject *name);
/** How the innermost span's module came to be. */
void lw_span_how(enum lw_how how);
/** Around the acquisition of a module LOCK that is not free. */
void lw_wait_begin(lw_state *state);
void lw_wait_end(lw_state *state);

extern _Thread_local struct lw_span *lw_current_span;

static inline enum lw_phase lw_phase(enum lw_phase phase)
{
	return lw_current_span ? lw_phase_slow(phase) : LW_PHASE_REST;
}

/** Whether the build has probes. */
bool lw_has_probes(void);
/**
 * Record, and have ladewerk._report write the report at exit, if LADEWERK_REPORT (VALUE: "pid:...") is meant for this process and not for one of its
 * children. 0 or -1.
 */
int lw_report_if_asked(lw_state *state, const char *value);

/** Python: record(on) and records(). */
PyObject *lw_record(PyObject *module, PyObject *on);
PyObject *lw_records(PyObject *module, PyObject *unused);
/** Drop the record, without a word. */
void lw_record_clear(lw_state *state);

#endif
