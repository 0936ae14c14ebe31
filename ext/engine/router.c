/* SPDX-License-Identifier: MIT */
/*
 * router: the interpreter's modules dictionary and bootstrap functions, which answer for the current engine.
 *
 * CPython's C code (the import statement, PyImport_Import, PyCapsule_Import, pickle, Cython) reads one dictionary per interpreter. When the first engine is made, that
 * dictionary gets another type: a subtype of dict of the same size, whose methods look at the current engine first (current.c) and go on to that engine's modules, or
 * to the dictionary itself. It is no exact dict any more, so C code uses the mapping protocol, and with it these methods. What it holds stays where it was.
 *
 * For a module that is not there, C code looks up `_find_and_load` in _frozen_importlib, for one that is being initialised `_lock_unlock_module`: both are
 * replaced by functions that go on to the current engine's, or to what was there.
 */
#include "engine.h"

#include <stddef.h>

#include <structmember.h>

/* What the running code's modules are in: an engine's (a new reference), or NULL: SELF itself. *ENGINE, if it is wanted, is borrowed. */
static PyObject *modules_of(PyObject *self, lw_engine **engine)
{
	lw_engine *current = lw_engine_current(lw_engines_of_type(Py_TYPE(self)));
	if (engine)
		*engine = current;
	return current ? lw_field((PyObject *)current, &current->modules) : NULL;
}

/* DICT[KEY] of a dict's own storage: a new reference; NULL with or without an exception. */
static PyObject *stored(PyObject *dict, PyObject *key)
{
#if PY_VERSION_HEX >= 0x030d0000
	PyObject *value;
	return PyDict_GetItemRef(dict, key, &value) > 0 ? value : NULL;
#else
	return Py_XNewRef(PyDict_GetItemWithError(dict, key));
#endif
}

/* modules[key]: a new reference; NULL with or without an exception. */
static PyObject *look_up(PyObject *self, PyObject *key)
{
	lw_engine *engine;
	PyObject *modules = modules_of(self, &engine);
	if (!modules)
		return engine ? NULL : stored(self, key);
	bool refused = PyUnicode_Check(key) && lw_engine_guard(engine, key) < 0;
	PyObject *value = refused ? NULL : PyDict_Check(modules) ? stored(modules, key) : PyObject_GetItem(modules, key);
	Py_DECREF(modules);
	return value;
}

static PyObject *router_subscript(PyObject *self, PyObject *key)
{
	PyObject *value = look_up(self, key);
	if (!value && !PyErr_Occurred()) {
		PyObject *args = PyTuple_Pack(1, key); /* a key that is a tuple is no argument list */
		if (args)
			PyErr_SetObject(PyExc_KeyError, args);
		Py_XDECREF(args);
	}
	return value;
}

static int router_ass_subscript(PyObject *self, PyObject *key, PyObject *value)
{
	lw_engine *engine;
	PyObject *modules = modules_of(self, &engine);
	if (!modules)
		return PyDict_Type.tp_as_mapping->mp_ass_subscript(self, key, value);
	int result = value ? PyObject_SetItem(modules, key, value) : PyObject_DelItem(modules, key);
	Py_DECREF(modules);
	return result;
}

static int router_contains(PyObject *self, PyObject *key)
{
	lw_engine *engine;
	PyObject *modules = modules_of(self, &engine);
	if (!modules)
		return PyDict_Contains(self, key);
	int result = PySequence_Contains(modules, key);
	Py_DECREF(modules);
	return result;
}

static Py_ssize_t router_length(PyObject *self)
{
	PyObject *modules = modules_of(self, NULL);
	if (!modules)
		return PyDict_Size(self);
	Py_ssize_t length = PyObject_Size(modules);
	Py_DECREF(modules);
	return length;
}

static PyObject *router_iter(PyObject *self)
{
	PyObject *modules = modules_of(self, NULL);
	if (!modules)
		return PyDict_Type.tp_iter(self);
	PyObject *iterator = PyObject_GetIter(modules);
	Py_DECREF(modules);
	return iterator;
}

static PyObject *router_repr(PyObject *self)
{
	PyObject *modules = modules_of(self, NULL);
	if (!modules)
		return PyDict_Type.tp_repr(self);
	PyObject *text = PyObject_Repr(modules);
	Py_DECREF(modules);
	return text;
}

static PyObject *router_compare(PyObject *self, PyObject *other, int op)
{
	PyObject *modules = modules_of(self, NULL);
	if (!modules)
		return PyDict_Type.tp_richcompare(self, other, op);
	PyObject *result = PyObject_RichCompare(modules, other, op);
	Py_DECREF(modules);
	return result;
}

static PyObject *router_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	if (nargs < 1 || nargs > 2)
		return PyErr_Format(PyExc_TypeError, "get expected %s argument%s, got %zd", nargs < 1 ? "at least 1" : "at most 2", nargs < 1 ? "" : "s", nargs);
	PyObject *value = look_up(self, args[0]);
	if (!value && !PyErr_Occurred())
		value = Py_NewRef(nargs == 2 ? args[1] : Py_None);
	return value;
}

/* Any other method NAME of dict. */
static PyObject *call(PyObject *self, const char *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	PyObject *modules = modules_of(self, NULL), *target = modules ? modules : self;
	PyObject *method = PyObject_GetAttrString(modules ? (PyObject *)Py_TYPE(modules) : (PyObject *)&PyDict_Type, name);
	Py_ssize_t count = nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
	PyObject **all = method ? PyMem_New(PyObject *, count + 1) : NULL;
	PyObject *result = NULL;
	if (method && !all)
		PyErr_NoMemory();
	if (all) {
		all[0] = target;
		for (Py_ssize_t i = 0; i < count; i++)
			all[i + 1] = args[i];
		result = PyObject_Vectorcall(method, all, (size_t)nargs + 1, kwnames);
	}
	PyMem_Free(all);
	Py_XDECREF(method);
	Py_XDECREF(modules);
	return result;
}

#define METHODS(X) \
	X(setdefault) X(pop) X(popitem) X(keys) X(values) X(items) X(update) X(clear) X(copy) X(__reversed__) X(__sizeof__)
#define X(name) \
	static PyObject *router_##name(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) \
	{ \
		return call(self, #name, args, nargs, kwnames); \
	}
METHODS(X)
#undef X

/* A copy is a plain dict, as dict's own methods make one. */
static PyObject *router_fromkeys(PyObject *type, PyObject *const *args, Py_ssize_t nargs)
{
	PyObject *method = PyObject_GetAttrString((PyObject *)&PyDict_Type, "fromkeys");
	PyObject *result = method ? PyObject_Vectorcall(method, args, (size_t)nargs, NULL) : NULL;
	Py_XDECREF(method);
	return result;
}

static PyMethodDef methods[] = {
	{ "__copy__", (PyCFunction)(void (*)(void))router_copy, METH_FASTCALL | METH_KEYWORDS, NULL },
	{ "fromkeys", (PyCFunction)(void (*)(void))router_fromkeys, METH_FASTCALL | METH_CLASS, NULL },
	{ "get", (PyCFunction)(void (*)(void))router_get, METH_FASTCALL, NULL },
#define X(name) { #name, (PyCFunction)(void (*)(void))router_##name, METH_FASTCALL | METH_KEYWORDS, NULL },
	METHODS(X)
#undef X
	{ NULL, NULL, 0, NULL },
};

/* One operand at least is a router: what it stands for. */
static PyObject *or_operand(PyObject *operand)
{
	bool is_router = Py_TYPE(operand)->tp_iter == router_iter;
	PyObject *modules = is_router ? modules_of(operand, NULL) : NULL;
	return modules ? modules : Py_NewRef(operand);
}

static PyObject *router_or(PyObject *a, PyObject *b)
{
	PyObject *left = or_operand(a), *right = or_operand(b);
	PyObject *result = PyDict_Type.tp_as_number->nb_or(left, right);
	Py_DECREF(left);
	Py_DECREF(right);
	return result;
}

static PyObject *router_inplace_or(PyObject *self, PyObject *other)
{
	PyObject *done = call(self, "update", &other, 1, NULL);
	Py_XDECREF(done);
	return done ? Py_NewRef(self) : NULL;
}

static int router_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	return PyDict_Type.tp_traverse(self, visit, arg);
}

static int clear_storage(PyObject *self)
{
	return PyDict_Type.tp_clear(self);
}

static PyType_Slot slots[] = {
	{ Py_tp_doc, "A modules dictionary that answers for the engine of whoever asks." },
	{ Py_mp_subscript, router_subscript },
	{ Py_mp_ass_subscript, router_ass_subscript },
	{ Py_mp_length, router_length },
	{ Py_sq_contains, router_contains },
	{ Py_tp_iter, router_iter },
	{ Py_tp_repr, router_repr },
	{ Py_tp_richcompare, router_compare },
	{ Py_nb_or, router_or },
	{ Py_nb_inplace_or, router_inplace_or },
	{ Py_tp_traverse, router_traverse },
	{ Py_tp_clear, clear_storage },
	{ Py_tp_methods, methods },
	{ 0, NULL },
};

static PyType_Spec spec = {
	.name = "ladewerk._engines.Modules",
	.basicsize = sizeof(PyDictObject),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = slots,
};

/* --- the bootstrap functions --- */

/*
 * What the process has, or the engine of whoever asks: the fields at these offsets of lw_engines and of lw_engine. Either may be replaced or emptied meanwhile: close(), or
 * ladewerk.uninstall(), in a module body. (Rules are asked by the engine's function itself.)
 */
static PyObject *dispatch(PyObject *module, size_t of_process, size_t of_engine, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	lw_engines *state = lw_engines_of(module);
	lw_engine *engine = lw_engine_current(state);
	PyObject *owner = Py_NewRef(engine ? (PyObject *)engine : module), *result = NULL;
	PyObject *function = lw_field(owner, (PyObject **)(engine ? (char *)engine + of_engine : (char *)state + of_process));
	if (function)
		result = PyObject_Vectorcall(function, args, (size_t)nargs, kwnames);
	else if (engine)
		PyErr_Format(PyExc_ImportError, "%R is closed", owner);
	else
		PyErr_SetString(PyExc_ImportError, "ladewerk: the extension has been torn down");
	Py_XDECREF(function);
	Py_DECREF(owner);
	return result;
}

static PyObject *dispatch_load(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	return dispatch(module, offsetof(lw_engines, find_and_load), offsetof(lw_engine, find_and_load), args, nargs, kwnames);
}

static PyObject *dispatch_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	return dispatch(module, offsetof(lw_engines, wait), offsetof(lw_engine, wait), args, nargs, kwnames);
}

static PyMethodDef dispatchers[] = {
	{ "_find_and_load", (PyCFunction)(void (*)(void))dispatch_load, METH_FASTCALL | METH_KEYWORDS, "Find and load the module, for the engine of whoever asks." },
	{ "_lock_unlock_module", (PyCFunction)(void (*)(void))dispatch_wait, METH_FASTCALL | METH_KEYWORDS, "Wait until the module of whoever asks is initialised." },
};

/* Put OURS in the place of the bootstrap's function NAME, which goes to *WAS; once. */
static int replace(lw_engines *state, const char *name, PyObject *ours, PyObject **was)
{
	if (*was)
		return 0;
	*was = Py_XNewRef(PyDict_GetItemString(state->bootstrap, name));
	if (!*was)
		return PyErr_Format(PyExc_ImportError, "import engines: this interpreter's import system has no %s", name), -1;
	if (PyDict_SetItemString(state->bootstrap, name, ours) == 0)
		return 0;
	Py_CLEAR(*was);
	return -1;
}

static int route_alone(lw_engines *state)
{
	if (state->modules)
		return 0;
	PyObject *modules = PyImport_GetModuleDict();
	if (!modules || !PyDict_CheckExact(modules))
		return PyErr_Format(PyExc_ImportError, "import engines: the interpreter's modules are not in a dict"), -1;
	if (replace(state, dispatchers[0].ml_name, state->dispatch_load, &state->find_and_load) < 0
			|| replace(state, dispatchers[1].ml_name, state->dispatch_wait, &state->wait) < 0)
		return -1;
	state->modules = Py_NewRef(modules);
	Py_INCREF(state->router_type);
	Py_SET_TYPE(modules, state->router_type);
	return 0;
}

int lw_route(lw_engines *state)
{
	lw_lock(&state->routing);
	int result = route_alone(state);
	lw_unlock(&state->routing);
	return result;
}

static PyObject *route(PyObject *module, PyObject *ignored)
{
	return lw_route(lw_engines_of(module)) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef functions[] = {
	{ "route", route, METH_NOARGS, "Lead the interpreter's import statements to the engine of whoever imports. Once; the first engine does it." },
	{ NULL, NULL, 0, NULL },
};

int lw_engines_add_router(PyObject *module)
{
	lw_engines *state = lw_engines_of(module);
	state->router_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, (PyObject *)&PyDict_Type);
	state->dispatch_load = PyCFunction_NewEx(&dispatchers[0], module, NULL);
	state->dispatch_wait = PyCFunction_NewEx(&dispatchers[1], module, NULL);
	return state->router_type && state->dispatch_load && state->dispatch_wait ? PyModule_AddFunctions(module, functions) : -1;
}
