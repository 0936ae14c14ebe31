/* SPDX-License-Identifier: MIT */
/*
 * told: what `ladewerk.on_import()` hears of.
 *
 *     found      a finder has a spec for it                          the module's lock is held, as it is for finders,
 *     loading    its loader begins                                   and for loaders
 *     loaded     the import is over, the module is bound in its parent; no lock is held
 *     failed     the import is over by an exception; no lock is held
 *     reused     the module was there
 *
 * The first four come from spans (observe.h), wherever the import goes: on the fast path, or in the stock functions beneath it. While somebody listens,
 * importlib._bootstrap._load_unlocked is wrapped, and _find_and_load if Ladewerk is not installed. An import statement for a module that is there reaches
 * no function of importlib's: builtins.__import__ is wrapped as well while somebody wants to hear of `reused`. Nobody listening costs nothing.
 *
 * What the listener raises is reported as unraisable, and what it imports itself is not told.
 */
#ifndef LW_EXT_TOLD_H
#define LW_EXT_TOLD_H

#include "state.h"

/* In the order of their names in told.c. */
enum lw_event { LW_EVENT_FOUND, LW_EVENT_LOADING, LW_EVENT_LOADED, LW_EVENT_FAILED, LW_EVENT_REUSED, LW_EVENT_COUNT };

/** Whether somebody wants to hear of EVENT; of any of them. */
static inline bool lw_wants(const lw_state *state, enum lw_event event)
{
	return atomic_load_explicit(&state->told_events, memory_order_relaxed) & 1u << event;
}
static inline bool lw_is_heard(const lw_state *state)
{
	return atomic_load_explicit(&state->told_events, memory_order_relaxed) != 0;
}

/** Tell of EVENT, if somebody wants to hear of it. IMPORTER, SPEC and ERROR (failed) may be NULL; NS: how long it took. No exception may be pending. */
void lw_tell(lw_state *state, enum lw_event event, PyObject *name, PyObject *importer, PyObject *spec, int64_t ns, PyObject *error);
/** NAME was imported: MODULE was there. Keeps a pending exception. */
void lw_tell_reused(lw_state *state, PyObject *name, PyObject *module);

/**
 * Put the wrappers in place that a listener needs, or take away what it does not need (any more). Around changes of what is installed: verification
 * wants to see the stock functions. 0 or -1.
 */
int lw_told_place(lw_state *state);
void lw_told_unplace(lw_state *state);

/** Python: listen(listener or None, events); SELF leads to STATE (the module, or the Inside of an engine). */
PyObject *lw_listen_to(lw_state *state, PyObject *self, PyObject *args);
PyObject *lw_listen(PyObject *module, PyObject *args);
/** _find_and_load(name, import) by the stock function, told of. */
PyObject *lw_heard_stock(lw_state *state, PyObject *name, PyObject *import);

#endif
