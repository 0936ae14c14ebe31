/* SPDX-License-Identifier: MIT */
/*
 * swap: many entries of many dictionaries, and contents of functions and classes, change in one step.
 *
 *     1. look at all of it     what is there now is held, so that nothing is destroyed, and no Python code run, before the end
 *     2. attributes of classes, new keys, bases of classes
 *                              may need memory, or be refused (bases). Undone, which needs none but for bases, all is as it was
 *     3. functions, other values for keys that are there, attributes and keys that go
 *                              cannot fail
 *     4. calls                 Python code may run again
 *
 * Dictionaries are plain ones, keys plain strings: comparing them runs no Python code. Under the GIL no other thread runs between 2 and 4. Free-threaded,
 * other threads see single steps: whoever must not takes a pin (pins.c).
 */
#include "live.h"
#include "patch.h"
#include "version.h"

#include <stdbool.h>

enum kind {
	ENTRY,		/* (dict, key, value), (dict, key) */
	ATTRIBUTE,	/* (class, name, value), (class, name) */
	BASES,		/* (class, bases) */
	FUNCTION,	/* (function, the one whose contents it takes), and a closure, if it takes another */
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
	PyErr_SetString(PyExc_TypeError, "changes are (dict or class, str, value) or, to remove a key, (dict or class, str); (class, bases), (function, function[, closure]) or (callable,)");
	return -1;
}

static int held(struct change *change, PyObject *before)
{
	change->before = before;
	return before || !PyErr_Occurred() ? 0 : -1;
}

static int entry(struct change *change)
{
	/* Where there are import engines, the interpreter's modules are of a type of their own, whose methods route; what it stores is what is meant here. */
	bool plain = PyDict_CheckExact(change->target) || change->target == PyImport_GetModuleDict();
	if (!plain || !PyUnicode_CheckExact(change->key))
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
	if (!PyFunction_Check(change->key) || (change->value && !lw_is_closure(change->key, change->value)))
		return wrong();
	change->kind = FUNCTION;
	return held(change, lw_function_contents(change->target));
}

/* What may fail, in this order. */
enum stage { SET_ATTRIBUTES, ADD_KEYS, SET_BASES, STAGES };

static int is_in(const struct change *change, enum stage stage)
{
	switch (stage) {
	case SET_ATTRIBUTES: return change->kind == ATTRIBUTE && change->value;
	case ADD_KEYS: return change->kind == ENTRY && change->value && !change->before;
	default: return change->kind == BASES;
	}
}

static int set(const struct change *change, PyObject *value)
{
	switch (change->kind) {
	case ATTRIBUTE: return lw_type_set(change->target, change->key, value);
	case BASES: return lw_type_rebase(change->target, value);
	default: return value ? PyDict_SetItem(change->target, change->key, value) : PyDict_DelItem(change->target, change->key);
	}
}

/* All stages before LAST, and the first COUNT changes in that one, have been made, or the last of these in part: unmake them. */
static void undo(struct change *changes, Py_ssize_t all, enum stage last, Py_ssize_t count)
{
	PyObject *type, *value, *traceback;
	PyErr_Fetch(&type, &value, &traceback);
	for (int stage = last; stage >= 0; stage--)
		for (Py_ssize_t i = stage == (int)last ? count : all; i-- > 0;)
			if (is_in(&changes[i], (enum stage)stage) && set(&changes[i], changes[i].before) < 0)
				PyErr_Clear();
	PyErr_Restore(type, value, traceback);
}

static int apply_fallible(struct change *changes, Py_ssize_t count)
{
	for (int stage = 0; stage < STAGES; stage++)
		for (Py_ssize_t i = 0; i < count; i++)
			if (is_in(&changes[i], (enum stage)stage) && set(&changes[i], changes[i].value) < 0) {
				undo(changes, count, (enum stage)stage, i + 1);
				return -1;
			}
	return 0;
}

static void apply_rest(struct change *changes, Py_ssize_t count)
{
	for (Py_ssize_t i = 0; i < count; i++)
		if (changes[i].kind == FUNCTION)
			lw_function_take(changes[i].target, changes[i].key, changes[i].value);
	for (Py_ssize_t i = 0; i < count; i++)
		if (changes[i].kind == ENTRY && changes[i].value && changes[i].before && PyDict_SetItem(changes[i].target, changes[i].key, changes[i].value) < 0)
			Py_FatalError("ladewerk: a key that is there could not be given another value");
	for (Py_ssize_t i = 0; i < count; i++)
		if ((changes[i].kind == ENTRY || changes[i].kind == ATTRIBUTE) && !changes[i].value && changes[i].before && set(&changes[i], NULL) < 0)
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

static PyObject *swap(PyObject *module, PyObject *args)
{
	PyObject *list, *watched;
	uint64_t version = 0;
	if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &list, &PyDict_Type, &watched))
		return NULL;
	PyObject *versions = Py_BuildValue("(y#y#)", (const char *)&version, (Py_ssize_t)sizeof(version), (const char *)&version, (Py_ssize_t)sizeof(version));
	if (!versions)
		return NULL;
	Py_ssize_t count = PyList_GET_SIZE(list), known = 0;
	struct change *changes = PyMem_Calloc((size_t)count + 1, sizeof *changes);
	if (!changes) {
		Py_DECREF(versions);
		return PyErr_NoMemory();
	}
	/* From here on nothing is allocated that may collect garbage, if all changes are entries. */
	int result = lw_version(watched, &version);
	memcpy(PyBytes_AS_STRING(PyTuple_GET_ITEM(versions, 0)), &version, sizeof(version)); /* nobody else has the tuple yet */
	memcpy(PyBytes_AS_STRING(PyTuple_GET_ITEM(versions, 1)), &version, sizeof(version));
	bool entries = true;	/* setting these runs no other code */
	for (; known < count && !result; known++) {
		result = parse(PyList_GET_ITEM(list, known), &changes[known]);
		entries = entries && changes[known].kind == ENTRY;
	}
	if (!result)
		result = retire(module, changes, count);
	if (!result)
		result = apply_fallible(changes, count);
	if (!result) {
		apply_rest(changes, count);
		version = lw_version_now(watched);
		if (entries)
			memcpy(PyBytes_AS_STRING(PyTuple_GET_ITEM(versions, 1)), &version, sizeof(version));
		for (Py_ssize_t i = 0; i < count; i++)
			if (changes[i].kind == CALL)
				call(changes[i].target);
	}
	for (Py_ssize_t i = 0; i < known; i++)
		Py_XDECREF(changes[i].before);
	PyMem_Free(changes);
	if (result < 0)
		Py_CLEAR(versions);
	return versions;
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

/* --- who has something of what is replaced --- */

struct pair {
	const PyObject *value;	/* borrowed: only compared */
	PyObject *other;	/* borrowed from the dict of them */
};

static int compare_pairs(const void *a, const void *b)
{
	const PyObject *x = ((const struct pair *)a)->value, *y = ((const struct pair *)b)->value;
	return (x > y) - (x < y);
}

/* A dict: identity -> other, sorted by identity; PyMem_Free() it. NULL with an exception. */
static struct pair *sorted_pairs(PyObject *others, size_t *count)
{
	struct pair *pairs = PyMem_Calloc((size_t)PyDict_GET_SIZE(others) + 1, sizeof(*pairs));
	PyObject *identity, *other;
	Py_ssize_t at = 0, room = PyDict_GET_SIZE(others);
	for (*count = 0; pairs && *count < (size_t)room && PyDict_Next(others, &at, &identity, &other); ++*count) {
		pairs[*count] = (struct pair){ PyLong_AsVoidPtr(identity), other };
		if (!pairs[*count].value && PyErr_Occurred()) {
			PyMem_Free(pairs);
			return NULL;
		}
	}
	if (!pairs)
		PyErr_NoMemory();
	else
		qsort(pairs, *count, sizeof(*pairs), compare_pairs);
	return pairs;
}

/* (dict, key, other) for NAMES' values that are among PAIRS. 0, or -1 with an exception. */
static int add_bound(PyObject *result, PyObject *names, const struct pair *pairs, size_t count)
{
	PyObject *key, *value;
	Py_ssize_t at = 0;
	while (PyDict_Next(names, &at, &key, &value)) {
		const struct pair wanted = { value, NULL }, *found = bsearch(&wanted, pairs, count, sizeof(*pairs), compare_pairs);
		if (!found || !PyUnicode_CheckExact(key))
			continue;
		Py_INCREF(key); /* making a tuple may collect garbage */
		PyObject *change = PyTuple_Pack(3, names, key, found->other);
		Py_DECREF(key);
		int failed = change ? PyList_Append(result, change) : -1;
		Py_XDECREF(change);
		if (failed)
			return -1;
	}
	return 0;
}

static PyObject *bound(PyObject *self, PyObject *args)
{
	PyObject *dicts, *others;
	size_t count;
	if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &dicts, &PyDict_Type, &others))
		return NULL;
	struct pair *pairs = sorted_pairs(others, &count);
	PyObject *result = pairs ? PyList_New(0) : NULL;
	int failed = !result;
	for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(dicts); i++) {
		PyObject *names = PyList_GET_ITEM(dicts, i);
		if (!PyDict_Check(names)) {
			PyErr_SetString(PyExc_TypeError, "a list of dicts is needed");
			failed = 1;
			break;
		}
#ifdef Py_GIL_DISABLED
		Py_BEGIN_CRITICAL_SECTION(names);
		failed = add_bound(result, names, pairs, count) < 0;
		Py_END_CRITICAL_SECTION();
#else
		failed = add_bound(result, names, pairs, count) < 0;
#endif
	}
	PyMem_Free(pairs);
	if (failed)
		Py_CLEAR(result);
	return result;
}

static PyMethodDef methods[] = {
	{ "bound", bound, METH_VARARGS, "bound([dict, ...], {id: other}): the changes, for swap(), that give each key OTHER whose value has that id." },
	{ "swap", swap, METH_VARARGS,
	  "swap([(dict or class, key, value) | (dict or class, key) | (class, bases) | (function, function[, closure]) | (callable,), ...], watched): all of these changes in one step, or, if one "
	  "of a class fails or there is no memory, none. A function takes the contents of the other; callables are called when all is done.\n"
	  "-> the version of dict WATCHED just before and just after; twice the former where other code may have run in between." },
	{ "strangers", strangers, METH_VARARGS, "strangers(modules, known): the names in MODULES whose module is not what KNOWN (name -> weak reference or module) says." },
	{ NULL, NULL, 0, NULL },
};

int lw_live_add_swap(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
