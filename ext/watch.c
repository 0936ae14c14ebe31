/* SPDX-License-Identifier: MIT */
/*
 * watch: whether one of a few dictionaries has changed since we looked, without looking at what is in it.
 *
 * 3.11 has a version tag in each dict. Since 3.12 there are watchers: one of the eight that an interpreter has is ours, its callback counts the changes to all
 * dictionaries that it watches. Free-threaded builds cannot tell: watchers are called before the change, and another thread may look in between.
 */
#include "state.h"

#if PY_VERSION_HEX >= 0x030c0000
static _Atomic uint64_t changes = 1; /* of all interpreters: a change too many costs a comparison */

static int on_event(PyDict_WatchEvent event, PyObject *dict, PyObject *key, PyObject *value)
{
	lw_count(&changes);
	return 0;
}

/* Each (once); without a free watcher we compare. */
int lw_watch_begin(lw_state *state)
{
	PyObject *const dicts[LW_WATCHED] = { lw_importer_cache(state), Py_NewRef(state->bootstrap_dict), Py_NewRef(state->external_dict) };
	if (!dicts[0] && PyErr_Occurred())
		goto done;
	if (state->watcher < 0)
		state->watcher = PyDict_AddWatcher(on_event);
	for (unsigned i = 0; state->watcher >= 0 && i < LW_WATCHED; i++)
		if (dicts[i] && !state->watched[i] && PyDict_Watch(state->watcher, dicts[i]) == 0)
			state->watched[i] = Py_NewRef(dicts[i]);
	PyErr_Clear();
done:
	for (unsigned i = 0; i < LW_WATCHED; i++)
		Py_XDECREF(dicts[i]);
	return PyErr_Occurred() ? -1 : 0;
}

void lw_watch_end(lw_state *state)
{
	for (unsigned i = 0; i < LW_WATCHED; i++) {
		if (state->watched[i] && state->home->watcher >= 0 && PyDict_Unwatch(state->home->watcher, state->watched[i]) < 0)
			PyErr_Clear();
		Py_CLEAR(state->watched[i]);
	}
	if (state->watcher >= 0 && PyDict_ClearWatcher(state->watcher) < 0)
		PyErr_Clear();
	state->watcher = -1;
}

int lw_watch_importers(lw_state *state)
{
	PyObject *cache = lw_importer_cache(state);
	if (cache && !state->watched[0] && state->home->watcher >= 0 && PyDict_Watch(state->home->watcher, cache) == 0)
		state->watched[0] = Py_NewRef(cache);
	if (cache)
		PyErr_Clear();
	Py_XDECREF(cache);
	return PyErr_Occurred() ? -1 : 0;
}
#else
int lw_watch_importers(lw_state *state)
{
	return 0;
}

int lw_watch_begin(lw_state *state)
{
	return 0;
}

void lw_watch_end(lw_state *state)
{
}
#endif

uint64_t lw_watch_version(lw_state *state, PyObject *dict)
{
#if defined(Py_GIL_DISABLED)
	return 0;
#elif PY_VERSION_HEX >= 0x030c0000
	for (unsigned i = 0; i < LW_WATCHED; i++)
		if (dict == state->watched[i])
			return atomic_load_explicit(&changes, memory_order_relaxed);
	return 0;
#else
	return ((PyDictObject *)dict)->ma_version_tag;
#endif
}
