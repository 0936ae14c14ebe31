/* SPDX-License-Identifier: MIT */
/*
 * mirror: an engine's own sys module.
 *
 * It is a real module (type(sys) is what `types.ModuleType` is made from). The import state in it is the engine's; everything else is the interpreter's, in both directions:
 * stdout assigned inside is assigned outside.
 *
 *   3.12 and newer   The dictionaries of all sys modules have the same contents but for the own names: they are watched (PyDict_Watch), and what is written to one is written
 *                    to the others first. Since each of them holds the old value as well, none of it is freed within the callback, where no Python code may run.
 *   3.11             There are no watchers. Functions and constants are copied when the engine is made; anything else is not in the dictionary, so the module's
 *                    `__getattr__` gets it. Assignments to attributes of modules go through the type's slot: that is where they are seen. It gets the function that
 *                    looks up `__setattr__` and `__delattr__`, as if they were written in Python, and the type methods of that name: with a C function of ours in
 *                    it, CPython would refuse object.__setattr__(module, ...), by which importlib.util.LazyLoader and others get past overrides. (In newer versions
 *                    it would not do: an interpreter assigns to modules while it is made, before there is anything to look up.)
 */
#include "engine.h"
#include "../module.h"

/* Marks the modules made here; they have no state of their own. */
static struct PyModuleDef_Slot mirror_slots[] = {
	LW_MODULE_SLOTS
	{ 0, NULL },
};
static struct PyModuleDef mirror_def = { PyModuleDef_HEAD_INIT, .m_name = "sys", .m_slots = mirror_slots };

static const char state_key[] = "ladewerk._engines";

/* The state of this interpreter; NULL without an exception if there is none (any more). */
static lw_engines *state_here(void)
{
	PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());
	PyObject *module = dict ? PyDict_GetItemString(dict, state_key) : NULL;
	lw_engines *state = module ? lw_engines_of(module) : NULL;
	return state && state->real_sys ? state : NULL;
}

#if PY_VERSION_HEX >= 0x030c0000

/* --- dictionaries that are kept the same --- */

static _Thread_local bool writing; /* this thread is in write_to_others() */

/* 0, -1: VALUE under NAME in DICT, or nothing if VALUE is NULL. */
static int put(PyObject *dict, PyObject *name, PyObject *value)
{
	if (value)
		return PyDict_SetItem(dict, name, value);
	int there = PyDict_Contains(dict, name);
	return there > 0 ? PyDict_DelItem(dict, name) : there;
}

static int write_to_others(lw_engines *state, PyObject *origin, PyObject *name, PyObject *value)
{
	PyObject *real = PyModule_GetDict(state->real_sys), *mirrors = PyList_GetSlice(state->mirrors, 0, PY_SSIZE_T_MAX);
	int result = !mirrors ? -1 : real == origin ? 0 : put(real, name, value);
	for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(mirrors); i++) {
		PyObject *mirror = PyObject_CallNoArgs(PyList_GET_ITEM(mirrors, i));
		PyObject *dict = mirror && mirror != Py_None ? PyModule_GetDict(mirror) : NULL;
		result = !mirror ? -1 : !dict || dict == origin ? 0 : put(dict, name, value);
		Py_XDECREF(mirror);
	}
	Py_XDECREF(mirrors);
	return result;
}

/* Called before one of the dictionaries changes. When one is cleared as a whole its module ends. */
static int written(PyDict_WatchEvent event, PyObject *dict, PyObject *name, PyObject *value)
{
	if (writing || !name || !PyUnicode_Check(name) || (event != PyDict_EVENT_ADDED && event != PyDict_EVENT_MODIFIED && event != PyDict_EVENT_DELETED))
		return 0;
	PyObject *type, *error, *trace;
	PyErr_Fetch(&type, &error, &trace);
	writing = true;
	lw_engines *state = state_here();
	int own = state ? PySet_Contains(state->own_names, name) : 1;
	int result = own ? (own < 0 ? -1 : 0) : write_to_others(state, dict, name, event == PyDict_EVENT_DELETED ? NULL : value);
	writing = false;
	if (result < 0)
		PyErr_WriteUnraisable(name);
	PyErr_Restore(type, error, trace);
	return 0;
}

static int fill(lw_engines *state, PyObject *dict)
{
	PyObject *real = PyDict_Copy(PyModule_GetDict(state->real_sys)), *name, *value;
	int result = real ? 0 : -1;
	for (Py_ssize_t at = 0; result == 0 && PyDict_Next(real, &at, &name, &value);) {
		int own = PySet_Contains(state->own_names, name);
		if (own < 0 || (!own && PyDict_SetItem(dict, name, value) < 0))
			result = -1;
	}
	Py_XDECREF(real);
	return result;
}

/* From now on what is written to SYS, a new one, and to the others is the same. 0, -1. */
static int see_assignments(lw_engines *state, PyObject *sys)
{
	int watcher;
	Py_BEGIN_CRITICAL_SECTION(state->module);
	if (!state->sees)
		state->watcher = PyDict_AddWatcher(written);
	watcher = state->watcher;
	state->sees = watcher >= 0;
	Py_END_CRITICAL_SECTION();
	return watcher < 0 || PyDict_Watch(watcher, PyModule_GetDict(state->real_sys)) < 0 ? -1 : PyDict_Watch(watcher, PyModule_GetDict(sys));
}

#else

/* --- the slot of the module type --- */

static setattrofunc stock_setattr; /* of the module type; written once, before the slot is */
static struct PyModuleDef *sys_def; /* of the real sys, the same in all interpreters; likewise */

/* Copies of NAME in all engines: gone, so that they are read anew. 0, -1. */
static int forget_copies(lw_engines *state, PyObject *name)
{
	PyObject *mirrors = PyList_GetSlice(state->mirrors, 0, PY_SSIZE_T_MAX);
	int result = mirrors ? 0 : -1;
	for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(mirrors); i++) {
		PyObject *mirror = PyObject_CallNoArgs(PyList_GET_ITEM(mirrors, i));
		PyObject *dict = mirror && mirror != Py_None ? PyModule_GetDict(mirror) : NULL;
		if (!mirror) {
			result = -1;
		} else if (dict && PyDict_DelItem(dict, name) < 0) {
			if (PyErr_ExceptionMatches(PyExc_KeyError))
				PyErr_Clear();
			else
				result = -1;
		}
		Py_XDECREF(mirror);
	}
	Py_XDECREF(mirrors);
	return result;
}

/* An assignment to the real sys. */
static int set_real(PyObject *sys, PyObject *name, PyObject *value)
{
	int result = stock_setattr(sys, name, value);
	lw_engines *state = result == 0 ? state_here() : NULL;
	if (!state || sys != state->real_sys)
		return result;
	int own = PySet_Contains(state->own_names, name);
	return own ? (own < 0 ? -1 : 0) : forget_copies(state, name);
}

static int set_mirrored(PyObject *sys, PyObject *name, PyObject *value)
{
	lw_engines *state = state_here();
	int own = state ? PySet_Contains(state->own_names, name) : 1;
	if (own)
		return own < 0 ? -1 : stock_setattr(sys, name, value);
	return set_real(state->real_sys, name, value);
}

static int set_attribute(PyObject *self, PyObject *name, PyObject *value)
{
	if (Py_IS_TYPE(self, &PyModule_Type) && PyUnicode_Check(name)) {
		struct PyModuleDef *def = PyModule_GetDef(self);
		if (def == &mirror_def)
			return set_mirrored(self, name, value);
		if (def && def == sys_def)
			return set_real(self, name, value);
	}
	return stock_setattr(self, name, value);
}

static PyObject *module_setattr(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	if (nargs != 2)
		return PyErr_Format(PyExc_TypeError, "expected 2 arguments, got %zd", nargs);
	return set_attribute(self, args[0], args[1]) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *module_delattr(PyObject *self, PyObject *name)
{
	return set_attribute(self, name, NULL) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Methods of the module type. */
static PyMethodDef accessors[] = {
	{ "__setattr__", (PyCFunction)(void (*)(void))module_setattr, METH_FASTCALL, "Implement setattr(self, name, value)." },
	{ "__delattr__", module_delattr, METH_O, "Implement delattr(self, name)." },
};

static PyObject *get(PyObject *real, PyObject *name)
{
	return PyObject_GetAttr(real, name);
}

static PyObject *dir(PyObject *real, PyObject *ignored)
{
	return PyObject_Dir(real);
}

static PyMethodDef methods[] = {
	{ "__getattr__", get, METH_O, "What is not an engine's own is the interpreter's." },
	{ "__dir__", dir, METH_NOARGS, NULL },
};

/* What does not change in the life of a program: VALUE may be copied. */
static bool is_constant(PyObject *value)
{
	return PyCFunction_Check(value) || PyUnicode_CheckExact(value) || PyLong_CheckExact(value) || PyBytes_CheckExact(value) || PyTuple_Check(value)
		|| PyFloat_CheckExact(value);
}

static int fill(lw_engines *state, PyObject *dict)
{
	PyObject *real = PyDict_Copy(PyModule_GetDict(state->real_sys)), *name, *value;
	int result = real ? 0 : -1;
	for (Py_ssize_t at = 0; result == 0 && PyDict_Next(real, &at, &name, &value);) {
		int own = PySet_Contains(state->own_names, name);
		if (own < 0 || (!own && is_constant(value) && PyDict_SetItem(dict, name, value) < 0))
			result = -1;
	}
	Py_XDECREF(real);
	for (unsigned i = 0; result == 0 && i < Py_ARRAY_LENGTH(methods); i++) {
		PyObject *function = PyCFunction_NewEx(&methods[i], state->real_sys, NULL);
		result = function ? PyDict_SetItemString(dict, methods[i].ml_name, function) : -1;
		Py_XDECREF(function);
	}
	return result;
}

/* The function that looks up `__setattr__`: what CPython gives any class that defines one. NULL with an exception. */
static setattrofunc looking_up(void)
{
	PyObject *type = PyObject_CallFunction((PyObject *)&PyType_Type, "s(){s:O}", "defines", "__setattr__", Py_None);
	setattrofunc slot = type ? ((PyTypeObject *)type)->tp_setattro : NULL;
	Py_XDECREF(type);
	return slot;
}

/*
 * From now on assignments to modules come here, in all interpreters: they have one module type. 0, -1.
 *
 * The methods outlive the interpreter that makes them. So they are not in the lists of its collector, and never freed.
 */
static int see_assignments(lw_engines *state, PyObject *ignored)
{
	static bool seen;
	if (seen)
		return 0;
	setattrofunc slot = looking_up();
	PyObject *dict = slot ? PyModule_Type.tp_dict : NULL;
	int result = dict ? 0 : -1;
	if (dict && !stock_setattr) {
		sys_def = PyModule_GetDef(state->real_sys);
		stock_setattr = PyModule_Type.tp_setattro;
	}
	for (unsigned i = 0; result == 0 && i < Py_ARRAY_LENGTH(accessors); i++) {
		PyObject *method = PyDescr_NewMethod(&PyModule_Type, &accessors[i]);
		result = method ? PyDict_SetItemString(dict, accessors[i].ml_name, method) : -1;
		if (method)
			PyObject_GC_UnTrack(method);
	}
	if (result == 0) {
		PyType_Modified(&PyModule_Type);
		PyModule_Type.tp_setattro = slot;
		seen = true;
	}
	return result;
}

#endif

/* --- making one --- */

/* Remember SYS, weakly, until it goes. The list may be asked for and changed by any thread: each step is one of list's own methods. */
static int remember(lw_engines *state, PyObject *sys)
{
	PyObject *forget = PyObject_GetAttrString(state->mirrors, "remove");
	PyObject *weak = forget ? PyWeakref_NewRef(sys, forget) : NULL;
	int result = weak ? PyList_Append(state->mirrors, weak) : -1;
	Py_XDECREF(forget);
	Py_XDECREF(weak);
	return result;
}

static PyObject *make_sys(PyObject *module, PyObject *ignored)
{
	lw_engines *state = lw_engines_of(module);
	PyObject *spec = PyObject_GetAttrString(state->real_sys, "__spec__");
	PyObject *sys = spec ? PyModule_FromDefAndSpec(&mirror_def, spec) : NULL;
	Py_XDECREF(spec);
	if (!sys)
		return NULL;
	if (fill(state, PyModule_GetDict(sys)) < 0 || remember(state, sys) < 0 || see_assignments(state, sys) < 0) {
		Py_DECREF(sys);
		return NULL;
	}
	return sys;
}

static PyMethodDef functions[] = {
	{ "make_sys", make_sys, METH_NOARGS, "A sys module for an engine, without its import state." },
	{ NULL, NULL, 0, NULL },
};

int lw_engines_add_mirror(PyObject *module)
{
	lw_engines *state = lw_engines_of(module);
	static const char *const names[] = {
		"modules", "path", "meta_path", "path_hooks", "path_importer_cache", "lazy_modules",
		"__name__", "__doc__", "__spec__", "__loader__", "__package__", "__getattr__", "__dir__",
	};
	PyObject *own = PySet_New(NULL);
	for (unsigned i = 0; own && i < Py_ARRAY_LENGTH(names); i++) {
		PyObject *name = PyUnicode_InternFromString(names[i]);
		if (!name || PySet_Add(own, name) < 0)
			Py_CLEAR(own);
		Py_XDECREF(name);
	}
	state->own_names = own ? PyFrozenSet_New(own) : NULL;
	Py_XDECREF(own);
	state->real_sys = PyImport_ImportModule("sys");
	state->mirrors = PyList_New(0);
	PyObject *here = PyInterpreterState_GetDict(PyInterpreterState_Get());
	if (!state->own_names || !state->real_sys || !state->mirrors || !here || PyDict_SetItemString(here, state_key, module) < 0)
		return -1;
	return PyModule_AddFunctions(module, functions);
}
