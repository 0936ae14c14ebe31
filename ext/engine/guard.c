/* SPDX-License-Identifier: MIT */
/*
 * guard: rules. May the running code have a module? Asked where CPython's C code hands one out, for engines that have rules.
 */
#include "engine.h"

int lw_engine_guard(lw_engines *state, lw_engine *engine, PyObject *name)
{
	PyObject *guard = Py_NewRef(engine->guard);
	PyObject *answer = PyObject_CallOneArg(guard, name);
	Py_DECREF(guard);
	Py_XDECREF(answer);
	return answer ? 0 : -1;
}
