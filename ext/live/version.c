/* SPDX-License-Identifier: MIT */
/*
 * version: a number that says whether a dictionary has changed since somebody looked at it, so that nobody has to go through it.
 *
 *     3.11      the dictionary has one of its own
 *     3.12 on   PyDict_Watch(): CPython calls on_change() before each change of a watched dictionary; the calls are counted, for all of them together
 *
 * Nothing runs between on_change() and the change while there is a GIL. Free-threaded, another thread may ask and look just then: there, and where no watcher
 * is to be had, every answer is a new one.
 */
#include "version.h"

#include <stdatomic.h>

#if PY_VERSION_HEX < 0x030c0000

uint64_t lw_version_now(PyObject *dict)
{
	return ((PyDictObject *)dict)->ma_version_tag;
}

int lw_version(PyObject *dict, uint64_t *version)
{
	*version = lw_version_now(dict);
	return 0;
}

#else

/* Only compared with what it was: no order is needed. */
static _Atomic(uint64_t) changes;

#ifdef Py_GIL_DISABLED

uint64_t lw_version_now(PyObject *dict)
{
	return atomic_fetch_add_explicit(&changes, 1, memory_order_relaxed);
}

int lw_version(PyObject *dict, uint64_t *version)
{
	*version = lw_version_now(dict);
	return 0;
}

#else

uint64_t lw_version_now(PyObject *dict)
{
	return atomic_load_explicit(&changes, memory_order_relaxed);
}

static int on_change(PyDict_WatchEvent event, PyObject *dict, PyObject *key, PyObject *value)
{
	atomic_fetch_add_explicit(&changes, 1, memory_order_relaxed);
	return 0;
}

/* *WATCHER is this interpreter's; -1: it has none left for us. 0, or -1 with an exception. */
static int watcher_of_interpreter(int *watcher)
{
	PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get()), *key = PyUnicode_InternFromString("ladewerk._live.version");
	PyObject *known = dict && key ? PyDict_GetItemWithError(dict, key) : NULL;
	int result = dict && key && !PyErr_Occurred() ? 0 : -1;
	*watcher = known ? (int)PyLong_AsLong(known) : -1;
	if (!result && !known) {
		*watcher = PyDict_AddWatcher(on_change);
		if (*watcher < 0)
			PyErr_Clear();
		known = PyLong_FromLong(*watcher);
		result = known ? PyDict_SetItem(dict, key, known) : -1;
		Py_XDECREF(known);
	}
	Py_XDECREF(key);
	if (result && !PyErr_Occurred())
		PyErr_NoMemory();
	return result;
}

int lw_version(PyObject *dict, uint64_t *version)
{
	int watcher;
	if (watcher_of_interpreter(&watcher) < 0)
		return -1;
	if (watcher < 0)
		atomic_fetch_add_explicit(&changes, 1, memory_order_relaxed);
	else if (PyDict_Watch(watcher, dict) < 0)
		return -1;
	*version = lw_version_now(dict);
	return 0;
}

#endif
#endif

static PyObject *version(PyObject *module, PyObject *dict)
{
	if (!PyDict_Check(dict))
		return PyErr_Format(PyExc_TypeError, "a dict is needed, not %.100s", Py_TYPE(dict)->tp_name);
	uint64_t number;
	return lw_version(dict, &number) < 0 ? NULL : PyBytes_FromStringAndSize((const char *)&number, sizeof(number));
}

static PyMethodDef methods[] = {
	{ "version", version, METH_O, "version(dict), opaque: as long as it stays the same, so have DICT's keys and values since the first call. It may change without." },
	{ NULL, NULL, 0, NULL },
};

int lw_live_add_version(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
