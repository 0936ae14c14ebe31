/* SPDX-License-Identifier: MIT */
/*
 * swap: many entries of many dictionaries change in one step.
 *
 *     1. look at all of it     what is there now is held, so that nothing is destroyed, and no Python code run, before the end
 *     2. new keys              may need memory: the only thing that can fail. Undone, all is as it was
 *     3. other values          for keys that are there: cannot fail
 *     4. keys that go          likewise
 *
 * Dictionaries are plain ones, keys plain strings: comparing them runs no Python code. Under the GIL no other thread runs between 2 and 4. Free-threaded,
 * other threads see single steps: whoever must not takes a pin (pins.c).
 */
#include "version.h"

struct change {
	PyObject *dict, *key;	/* borrowed from the list */
	PyObject *value;	/* borrowed; NULL: to be removed */
	PyObject *before;	/* strong, or NULL: it was not there */
};

static int parse(PyObject *item, struct change *change)
{
	Py_ssize_t size = PyTuple_CheckExact(item) ? PyTuple_GET_SIZE(item) : 0;
	if (size != 2 && size != 3)
		goto wrong;
	*change = (struct change){ PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1), size == 3 ? PyTuple_GET_ITEM(item, 2) : NULL, NULL };
	if (!PyDict_CheckExact(change->dict) || !PyUnicode_CheckExact(change->key))
		goto wrong;
#if PY_VERSION_HEX >= 0x030d0000
	return PyDict_GetItemRef(change->dict, change->key, &change->before) < 0 ? -1 : 0; /* free-threaded, somebody else may remove it at this moment */
#else
	change->before = PyDict_GetItemWithError(change->dict, change->key);
	Py_XINCREF(change->before);
	return change->before || !PyErr_Occurred() ? 0 : -1;
#endif
wrong:
	PyErr_SetString(PyExc_TypeError, "changes are (dict, str, value) or, to remove a key, (dict, str)");
	return -1;
}

/* The first COUNT changes have been made if their keys are new: unmake them. */
static void undo(struct change *changes, Py_ssize_t count)
{
	PyObject *type, *value, *traceback;
	PyErr_Fetch(&type, &value, &traceback);
	for (Py_ssize_t i = 0; i < count; i++)
		if (changes[i].value && !changes[i].before && PyDict_DelItem(changes[i].dict, changes[i].key) < 0)
			PyErr_Clear();
	PyErr_Restore(type, value, traceback);
}

static int apply(struct change *changes, Py_ssize_t count)
{
	for (Py_ssize_t i = 0; i < count; i++)
		if (changes[i].value && !changes[i].before && PyDict_SetItem(changes[i].dict, changes[i].key, changes[i].value) < 0) {
			undo(changes, i);
			return -1;
		}
	for (Py_ssize_t i = 0; i < count; i++)
		if (changes[i].value && changes[i].before && PyDict_SetItem(changes[i].dict, changes[i].key, changes[i].value) < 0)
			Py_FatalError("ladewerk: a key that is there could not be given another value");
	for (Py_ssize_t i = 0; i < count; i++)
		if (!changes[i].value && changes[i].before && PyDict_DelItem(changes[i].dict, changes[i].key) < 0)
			PyErr_Clear(); /* free-threaded: somebody else has removed it */
	return 0;
}

static PyObject *swap(PyObject *module, PyObject *args)
{
	PyObject *list, *watched;
	uint64_t version;
	if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &list, &PyDict_Type, &watched) || lw_version(watched, &version) < 0)
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
	int result = 0;
	for (; known < count && !result; known++)
		result = parse(PyList_GET_ITEM(list, known), &changes[known]);
	if (!result)
		result = apply(changes, count);
	if (!result) {
		version = lw_version_now(watched);
		memcpy(PyBytes_AS_STRING(PyTuple_GET_ITEM(versions, 1)), &version, sizeof(version)); /* nobody else has it yet */
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
	{ "swap", swap, METH_VARARGS, "swap([(dict, key, value) | (dict, key), ...], watched): all of these changes in one step, or, without memory, none.\n"
	  "-> the version of dict WATCHED just before and just after." },
	{ "strangers", strangers, METH_VARARGS, "strangers(modules, known): the names in MODULES whose module is not what KNOWN (name -> weak reference or module) says." },
	{ NULL, NULL, 0, NULL },
};

int lw_live_add_swap(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
