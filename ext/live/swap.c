/* SPDX-License-Identifier: MIT */
/*
 * swap: many entries of many dictionaries, and contents of functions and classes, change in one step.
 *
 *     1. look at all of it     what is there now is held, so that nothing is destroyed, and no Python code run, before the end
 *     2. classes               may fail: undone in reverse order, all is as it was
 *     3. new keys              may need memory: likewise
 *     4. functions, other values for keys that are there, keys that go: cannot fail
 *     5. calls                 Python code may run again
 *
 * Dictionaries are plain ones, keys plain strings: comparing them runs no Python code. Under the GIL no other thread runs between 2 and 5. Free-threaded,
 * other threads see single steps: whoever must not takes a pin (pins.c).
 */
#include "live.h"
#include "patch.h"

enum kind {
	ENTRY,		/* (dict, key, value), (dict, key) */
	ATTRIBUTE,	/* (class, name, value), (class, name) */
	BASES,		/* (class, bases) */
	FUNCTION,	/* (function, the one whose contents it takes) */
	CALL,		/* (function of no arguments,) */
};

struct change {
	enum kind kind;
	PyObject *target, *key;	/* borrowed from the list; a key only where there is one */
	PyObject *value;	/* borrowed; NULL: to be removed */
	PyObject *before;	/* strong, or NULL: it was not there */
};

static int wrong(void)
{
	PyErr_SetString(PyExc_TypeError, "changes are (dict or class, str, value) or, to remove a key, (dict or class, str); (class, bases), (function, function) or (callable,)");
	return -1;
}

static int held(struct change *change, PyObject *before)
{
	change->before = before;
	return before || !PyErr_Occurred() ? 0 : -1;
}

static int entry(struct change *change)
{
	if (!PyDict_CheckExact(change->target) || !PyUnicode_CheckExact(change->key))
		return wrong();
#if PY_VERSION_HEX >= 0x030d0000
	return PyDict_GetItemRef(change->target, change->key, &change->before) < 0 ? -1 : 0; /* free-threaded, somebody else may remove it at this moment */
#else
	return held(change, Py_XNewRef(PyDict_GetItemWithError(change->target, change->key)));
#endif
}

static int of_class(struct change *change)
{
	if (!PyType_HasFeature((PyTypeObject *)change->target, Py_TPFLAGS_HEAPTYPE))
		return wrong();
	if (PyUnicode_CheckExact(change->key)) {
		change->kind = ATTRIBUTE;
		return held(change, lw_type_get(change->target, change->key));
	}
	if (!PyTuple_CheckExact(change->key) || change->value)
		return wrong();
	change->kind = BASES;
	change->value = change->key;
	return held(change, Py_NewRef(((PyTypeObject *)change->target)->tp_bases));
}

static int parse(PyObject *item, struct change *change)
{
	Py_ssize_t size = PyTuple_CheckExact(item) ? PyTuple_GET_SIZE(item) : 0;
	if (size < 1 || size > 3)
		return wrong();
	*change = (struct change){ ENTRY, PyTuple_GET_ITEM(item, 0), size > 1 ? PyTuple_GET_ITEM(item, 1) : NULL, size == 3 ? PyTuple_GET_ITEM(item, 2) : NULL, NULL };
	if (size == 1) {
		change->kind = CALL;
		return PyCallable_Check(change->target) ? 0 : wrong();
	}
	if (PyType_Check(change->target))
		return of_class(change);
	if (!PyFunction_Check(change->target))
		return entry(change);
	if (size != 2 || !PyFunction_Check(change->key))
		return wrong();
	change->kind = FUNCTION;
	change->value = change->key;
	return held(change, lw_function_contents(change->target));
}

static int patch_class(struct change *change, PyObject *value)
{
	return change->kind == BASES ? lw_type_rebase(change->target, value) : lw_type_set(change->target, change->key, value);
}

static int is_of_class(const struct change *change)
{
	return change->kind == ATTRIBUTE || change->kind == BASES;
}

static int is_new_key(const struct change *change)
{
	return change->kind == ENTRY && change->value && !change->before;
}

/* Of the first COUNTs the changes of classes, and new keys, have been made: unmake them. */
static void undo(struct change *changes, Py_ssize_t classes, Py_ssize_t keys)
{
	PyObject *type, *value, *traceback;
	PyErr_Fetch(&type, &value, &traceback);
	for (Py_ssize_t i = 0; i < keys; i++)
		if (is_new_key(&changes[i]) && PyDict_DelItem(changes[i].target, changes[i].key) < 0)
			PyErr_Clear();
	while (classes-- > 0)
		if (is_of_class(&changes[classes]) && patch_class(&changes[classes], changes[classes].before) < 0)
			PyErr_Clear();
	PyErr_Restore(type, value, traceback);
}

static int apply_fallible(struct change *changes, Py_ssize_t count)
{
	for (Py_ssize_t i = 0; i < count; i++)
		if (is_of_class(&changes[i]) && patch_class(&changes[i], changes[i].value) < 0) {
			undo(changes, i + 1, 0); /* the one that failed may have been made in part */
			return -1;
		}
	for (Py_ssize_t i = 0; i < count; i++)
		if (is_new_key(&changes[i]) && PyDict_SetItem(changes[i].target, changes[i].key, changes[i].value) < 0) {
			undo(changes, count, i);
			return -1;
		}
	return 0;
}

static void apply_rest(struct change *changes, Py_ssize_t count)
{
	for (Py_ssize_t i = 0; i < count; i++)
		if (changes[i].kind == FUNCTION)
			lw_function_take(changes[i].target, changes[i].value);
	for (Py_ssize_t i = 0; i < count; i++)
		if (changes[i].kind == ENTRY && changes[i].value && changes[i].before && PyDict_SetItem(changes[i].target, changes[i].key, changes[i].value) < 0)
			Py_FatalError("ladewerk: a key that is there could not be given another value");
	for (Py_ssize_t i = 0; i < count; i++)
		if (changes[i].kind == ENTRY && !changes[i].value && changes[i].before && PyDict_DelItem(changes[i].target, changes[i].key) < 0)
			PyErr_Clear(); /* free-threaded: somebody else has removed it */
}

static void call(PyObject *function)
{
	PyObject *result = PyObject_CallNoArgs(function);
	if (!result)
		PyErr_WriteUnraisable(function);
	Py_XDECREF(result);
}

#ifdef Py_GIL_DISABLED
/* Another thread may have read what was there and not counted its reference yet: it is held until the next swap. */
static int retire(PyObject *module, struct change *changes, Py_ssize_t count)
{
	PyObject *list = PyList_New(0);
	int result = list ? 0 : -1;
	for (Py_ssize_t i = 0; i < count && !result; i++)
		if (changes[i].before && changes[i].kind != ENTRY)
			result = PyList_Append(list, changes[i].before);
	if (!result && PyList_GET_SIZE(list))
		result = PyObject_SetAttrString(module, "_retired", list);
	Py_XDECREF(list);
	return result;
}
#else
static int retire(PyObject *module, struct change *changes, Py_ssize_t count)
{
	return 0;
}
#endif

static PyObject *swap(PyObject *module, PyObject *list)
{
	if (!PyList_CheckExact(list))
		return PyErr_Format(PyExc_TypeError, "changes are a list");
	Py_ssize_t count = PyList_GET_SIZE(list), known = 0;
	struct change *changes = PyMem_Calloc((size_t)count + 1, sizeof *changes);
	if (!changes)
		return PyErr_NoMemory();
	int result = 0;
	for (; known < count && !result; known++)
		result = parse(PyList_GET_ITEM(list, known), &changes[known]);
	if (!result)
		result = retire(module, changes, count);
	if (!result)
		result = apply_fallible(changes, count);
	if (!result) {
		apply_rest(changes, count);
		for (Py_ssize_t i = 0; i < count; i++)
			if (changes[i].kind == CALL)
				call(changes[i].target);
	}
	for (Py_ssize_t i = 0; i < known; i++)
		Py_XDECREF(changes[i].before);
	PyMem_Free(changes);
	return result < 0 ? NULL : Py_NewRef(Py_None);
}

/* --- what is new in sys.modules --- */

/* Whether KNOWN, a weak reference or the object itself, is MODULE. */
static int is_known(PyObject *known, PyObject *module)
{
	if (!PyWeakref_Check(known))
		return known == module;
#if PY_VERSION_HEX >= 0x030d0000
	PyObject *referent;
	if (PyWeakref_GetRef(known, &referent) < 0)
		return -1;
	Py_XDECREF(referent);
	return referent == module;
#else
	return PyWeakref_GetObject(known) == module;
#endif
}

static PyObject *strangers(PyObject *self, PyObject *args)
{
	PyObject *modules, *known, *name, *module;
	if (!PyArg_ParseTuple(args, "O!O!", &PyDict_Type, &modules, &PyDict_Type, &known))
		return NULL;
	PyObject *result = PyList_New(0);
	if (!result)
		return NULL;
	Py_ssize_t at = 0;
	int failed = 0;
#ifdef Py_GIL_DISABLED
	PyObject *copy = PyDict_Copy(modules);
	if (!copy) {
		Py_DECREF(result);
		return NULL;
	}
	modules = copy;
#endif
	while (!failed && PyDict_Next(modules, &at, &name, &module)) {
		if (!PyUnicode_CheckExact(name))
			continue;
		PyObject *seen = PyDict_GetItemWithError(known, name);
		int same = seen ? is_known(seen, module) : PyErr_Occurred() ? -1 : 0;
		failed = same < 0 || (!same && PyList_Append(result, name) < 0);
	}
#ifdef Py_GIL_DISABLED
	Py_DECREF(copy);
#endif
	if (failed)
		Py_CLEAR(result);
	return result;
}

static PyMethodDef methods[] = {
	{ "swap", swap, METH_O, "swap([(dict or class, key, value) | (dict or class, key) | (class, bases) | (function, function) | (callable,), ...]): all of these changes in one step, or, if one "
	  "of a class fails or there is no memory, none. A function takes the contents of the other; callables are called when all is done." },
	{ "strangers", strangers, METH_VARARGS, "strangers(modules, known): the names in MODULES whose module is not what KNOWN (name -> weak reference or module) says." },
	{ NULL, NULL, 0, NULL },
};

int lw_live_add_swap(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
