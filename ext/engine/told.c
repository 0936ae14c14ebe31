/* SPDX-License-Identifier: MIT */
/*
 * told: the event that only C code sees: the running code got a module that was there already.
 */
#include "engine.h"

void lw_engine_reused(lw_engines *state, lw_engine *engine, PyObject *name, PyObject *module)
{
	PyObject *type, *value, *trace;
	PyErr_Fetch(&type, &value, &trace);
	PyObject *told = Py_NewRef(engine->told), *args[] = { name, module };
	PyObject *done = PyObject_Vectorcall(told, args, 2, NULL);
	if (!done)
		PyErr_WriteUnraisable(told);
	Py_XDECREF(done);
	Py_DECREF(told);
	PyErr_Restore(type, value, trace);
}
