/* SPDX-License-Identifier: MIT */
/*
 * guard: rules. May the running code have a module? Asked where CPython's C code hands one out, for engines that have rules.
 */
#include "engine.h"

int lw_engine_guard(lw_engine *engine, PyObject *name)
{
	PyObject *guard = lw_field((PyObject *)engine, &engine->guard);
	PyObject *answer = guard && guard != Py_None ? PyObject_CallOneArg(guard, name) : Py_NewRef(Py_None);
	Py_XDECREF(guard);
	Py_XDECREF(answer);
	return answer ? 0 : -1;
}
