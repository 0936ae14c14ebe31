/* SPDX-License-Identifier: MIT */
/*
 * lazy_census: what was registered, and what became of it, for the report and for tests.
 *
 * A record is a list, which lw_lazy_census() hands out as a tuple: [importer, file, line, module, attribute, name, state, user's file, user's line, ns].
 */
#include "lazy_scope.h"

#include "stamp.h"

enum { RECORD_STATE = 6, RECORD_USER_FILE, RECORD_USER_LINE, RECORD_NS };

Py_ssize_t lw_census_registered(lw_state *state, const lw_scope *scope, long line, PyObject *module, PyObject *attribute, PyObject *name)
{
	PyObject *census = state->lazy.table->census;
	if (!state->lazy.recording)
		return -1;
	PyObject *record = Py_BuildValue("[OOlOOOsOOi]", scope->name, scope->file, line, module, attribute, name, "waits", Py_None, Py_None, 0);
	int result = record ? PyList_Append(census, record) : -1;
	Py_XDECREF(record);
	PyErr_Clear();
	return result < 0 ? -1 : PyList_GET_SIZE(census) - 1;
}

static void put(PyObject *record, Py_ssize_t at, PyObject *value)
{
	if (value)
		PyList_SetItem(record, at, value);
}

/* Who uses it: the innermost frame. */
static void put_user(PyObject *record)
{
	PyFrameObject *frame = PyEval_GetFrame();
	if (!frame)
		return;
	PyCodeObject *code = PyFrame_GetCode(frame);
	put(record, RECORD_USER_FILE, Py_NewRef(code->co_filename));
	put(record, RECORD_USER_LINE, PyLong_FromLong(PyFrame_GetLineNumber(frame)));
	Py_DECREF(code);
}

void lw_census_ended(lw_state *state, PyObject *target, const char *how, int64_t began)
{
	Py_ssize_t at = PyLong_AsSsize_t(PyTuple_GET_ITEM(target, LW_TARGET_RECORD));
	struct lw_lazy_table *table = state->lazy.table;
	if (at < 0 || !table || at >= PyList_GET_SIZE(table->census))
		return;
	struct lw_error error;
	lw_error_save(&error);
	PyObject *record = PyList_GET_ITEM(table->census, at);
	put(record, RECORD_STATE, PyUnicode_FromString(how));
	if (strcmp(how, "overwritten") != 0)
		put_user(record);
	if (began)
		put(record, RECORD_NS, PyLong_FromLongLong(lw_monotonic_ns() - began));
	PyErr_Clear();
	lw_error_restore(&error);
}

PyObject *lw_lazy_census(PyObject *module, PyObject *unused)
{
	lw_state *state = lw_state_of(module);
	PyObject *list = PyList_New(0), *census = state->lazy.table ? state->lazy.table->census : NULL;
	for (Py_ssize_t i = 0; list && census && i < PyList_GET_SIZE(census); i++) {
		PyObject *record = PyList_AsTuple(PyList_GET_ITEM(census, i));
		if (!record || PyList_Append(list, record) < 0)
			Py_CLEAR(list);
		Py_XDECREF(record);
	}
	return list;
}
