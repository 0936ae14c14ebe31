/* SPDX-License-Identifier: MIT */
/*
 * current: which engine the running code belongs to.
 *
 *   builtins of the running frame          answer
 *   an engine's                            that engine
 *   the interpreter's own                  the context's engine (`with engine:` of this thread or task), else none;
 *                                          but if the frame belongs to the import machinery: what its caller belongs to
 *   somebody's own (exec with a            what the caller of that frame belongs to
 *   `__builtins__` of its own)
 *   no frame                               the context's engine, else none
 *
 * So an engine's functions stay in their engine whoever calls them, and code of nobody's engine follows the `with` statement around it.
 */
#include "engine.h"

/* What builtins lead to, which may be any mapping: borrowed or NULL. Raises nothing: a key of somebody's whose __eq__ does leads nowhere. */
static lw_engine *engine_of(lw_engines *state, PyObject *builtins)
{
	PyObject *engine = builtins && PyDict_Check(builtins) ? PyDict_GetItem(builtins, state->key) : NULL; /* keeps an exception that is on its way */
	return engine && PyObject_TypeCheck(engine, state->engine_type) ? (lw_engine *)engine : NULL;
}

static lw_engine *of_context(lw_engines *state)
{
	PyObject *entry;
	if (!atomic_load_explicit(&state->entered, memory_order_relaxed) || !state->context)
		return NULL;
	if (PyContextVar_Get(state->context, NULL, &entry) < 0) {
		PyErr_Clear();
		return NULL;
	}
	PyObject *engine = entry && PyTuple_CheckExact(entry) && PyTuple_GET_SIZE(entry) == 2 ? PyTuple_GET_ITEM(entry, 0) : NULL;
	Py_XDECREF(entry); /* the context holds it */
	return engine && PyObject_TypeCheck(engine, state->engine_type) ? (lw_engine *)engine : NULL; /* None: `with sysengine:` */
}

static bool is_machinery(const lw_engines *state, PyObject *globals)
{
	return globals == state->bootstrap || globals == state->external;
}

/* From the running frame down to the first one that belongs to somebody. */
static lw_engine *of_callers(lw_engines *state)
{
	PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
	lw_engine *engine = NULL;
	while (frame) {
		PyObject *builtins = PyFrame_GetBuiltins(frame), *globals = PyFrame_GetGlobals(frame);
		bool own = builtins == state->builtins && !is_machinery(state, globals);
		engine = own ? NULL : engine_of(state, builtins); /* held by that frame's builtins */
		Py_XDECREF(builtins);
		Py_XDECREF(globals);
		PyFrameObject *back = own || engine ? NULL : PyFrame_GetBack(frame);
		Py_DECREF(frame);
		frame = back;
	}
	return engine ? engine : of_context(state);
}

/* The running frame itself does not say it: look further, whatever exception is on its way. */
static lw_engine *look_further(lw_engines *state, lw_engine *(*where)(lw_engines *))
{
	PyObject *type, *value, *trace;
	PyErr_Fetch(&type, &value, &trace);
	lw_engine *engine = where(state);
	PyErr_Restore(type, value, trace);
	return engine;
}

lw_engine *lw_engine_current(lw_engines *state)
{
	if (!state || !state->builtins || !state->engine_type)
		return NULL;
	PyObject *builtins = PyEval_GetBuiltins();
	if (builtins == state->builtins) {
		PyObject *globals = PyEval_GetGlobals();
		if (globals && is_machinery(state, globals))
			return look_further(state, of_callers);
		return atomic_load_explicit(&state->entered, memory_order_relaxed) ? look_further(state, of_context) : NULL;
	}
	lw_engine *engine = engine_of(state, builtins);
	return engine ? engine : look_further(state, of_callers);
}

static PyObject *current(PyObject *module, PyObject *ignored)
{
	lw_engine *engine = lw_engine_current(lw_engines_of(module));
	return Py_NewRef(engine ? (PyObject *)engine : Py_None);
}

/* The first `with engine:` says it: from then on the context is asked. */
static PyObject *entered(PyObject *module, PyObject *ignored)
{
	atomic_store_explicit(&lw_engines_of(module)->entered, true, memory_order_relaxed);
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{ "current", current, METH_NOARGS, "The engine that the calling code belongs to, or None." },
	{ "entered", entered, METH_NOARGS, "From now on the context variable is asked." },
	{ NULL, NULL, 0, NULL },
};

int lw_engines_add_current(PyObject *module)
{
	lw_engines *state = lw_engines_of(module);
	state->context = PyContextVar_New("ladewerk.engine", Py_None);
	if (!state->context || PyModule_AddObjectRef(module, "context", state->context) < 0)
		return -1;
	return PyModule_AddFunctions(module, methods);
}
