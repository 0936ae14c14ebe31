/* SPDX-License-Identifier: MIT */
/*
 * adopt: source files that another finder has found.
 *
 * Finders that stand ahead of PathFinder often do no more than ask it, under another name or with another path, and editable installations hand out
 * spec_from_file_location(). Stock loads such a module as any other, so it may be loaded from the pack as any other, by the very spec the finder has
 * made; provided that there is nothing in it or in its loader that PathFinder would not have put there.
 */
#include "state.h"

static bool is_text(PyObject *object)
{
	return object && PyUnicode_CheckExact(object);
}

static bool same_text(PyObject *one, PyObject *other)
{
	return is_text(one) && is_text(other) && PyUnicode_Compare(one, other) == 0;
}

static bool is_empty_list(PyObject *object)
{
	return object && PyList_CheckExact(object) && PyList_GET_SIZE(object) == 0;
}

/* Looking something up in DICT executes nobody's code. */
static bool has_text_keys(PyObject *dict)
{
	PyObject *key, *value;
	Py_ssize_t at = 0;
	while (PyDict_Next(dict, &at, &key, &value))
		if (!PyUnicode_CheckExact(key))
			return false;
	return true;
}

/* The attributes of OBJECT, if they are COUNT. A new reference; NULL, maybe with an exception. */
static PyObject *attributes(lw_state *state, PyObject *object, Py_ssize_t count)
{
	PyObject *dict = PyObject_GetAttr(object, LW_STR(state, __dict__));
	if (dict && (!PyDict_CheckExact(dict) || PyDict_GET_SIZE(dict) != count || !has_text_keys(dict)))
		Py_CLEAR(dict);
	return dict;
}

static bool is_stock_loader(lw_state *state, PyObject *loader, PyObject *name, PyObject *path)
{
	PyObject *dict = loader && (PyObject *)Py_TYPE(loader) == state->source_loader ? attributes(state, loader, 2) : NULL;
	bool is = dict && same_text(PyDict_GetItemWithError(dict, LW_STR(state, name)), name)
		&& same_text(PyDict_GetItemWithError(dict, LW_STR(state, path)), path);
	Py_XDECREF(dict);
	return is;
}

/* All but what is looked at on its own is as in any spec of a file that nobody has used. */
static bool is_usual(lw_state *state, PyObject *dict)
{
	PyObject *const own[] = { LW_STR(state, name), LW_STR(state, loader), LW_STR(state, origin), LW_STR(state, submodule_search_locations),
		LW_STR(state, _uninitialized_submodules) };
	PyObject *key, *value;
	Py_ssize_t at = 0;
	while (PyDict_Next(state->spec_template, &at, &key, &value)) {
		bool apart = false;
		for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
			apart |= key == own[i];
		if (!apart && PyDict_GetItemWithError(dict, key) != value)
			return false;
	}
	return is_empty_list(PyDict_GetItemWithError(dict, LW_STR(state, _uninitialized_submodules)));
}

/* The directory in which a module is found as PATH: the parent's, or of a package, whose LOCATIONS are its own directory, that one's. NULL: not such a path. */
static PyObject *entry_of(PyObject *path, PyObject *locations)
{
	Py_ssize_t slash = PyUnicode_FindChar(path, '/', 0, PyUnicode_GET_LENGTH(path), -1);
	if (slash <= 0 || PyUnicode_READ_CHAR(path, 0) != '/')
		return NULL;
	PyObject *directory = PyUnicode_Substring(path, 0, slash);
	if (locations == Py_None || !directory)
		return directory;
	bool package = PyList_CheckExact(locations) && PyList_GET_SIZE(locations) == 1 && same_text(PyList_GET_ITEM(locations, 0), directory);
	Py_DECREF(directory);
	return package ? entry_of(PyList_GET_ITEM(locations, 0), Py_None) : NULL;
}

/* What a spec says that says nothing else. */
struct said {
	PyObject *path, *entry;	/* strong: the file, and the directory to find it in */
	bool package;
};

static void forget(struct said *said)
{
	Py_CLEAR(said->path);
	Py_CLEAR(said->entry);
}

/* Whether there is nothing else to SPEC: 1 (SAID), 0, -1. Executes nobody's code. */
static int read_spec(lw_state *state, PyObject *name, PyObject *spec, struct said *said)
{
	PyObject *dict = (PyObject *)Py_TYPE(spec) == state->module_spec ? attributes(state, spec, PyDict_GET_SIZE(state->spec_template)) : NULL;
	if (!dict)
		return PyErr_Occurred() ? -1 : 0;
	/* Held, as is the loader: the collector may run when its attributes are asked for, and somebody's finalizer that changes the spec. */
	PyObject *path = Py_XNewRef(PyDict_GetItemWithError(dict, LW_STR(state, origin))), *loader = Py_XNewRef(PyDict_GetItemWithError(dict, LW_STR(state, loader)));
	PyObject *locations = Py_XNewRef(PyDict_GetItemWithError(dict, LW_STR(state, submodule_search_locations)));
	if (is_stock_loader(state, loader, name, path) && is_text(path) && locations && same_text(PyDict_GetItemWithError(dict, LW_STR(state, name)), name) && is_usual(state, dict))
		*said = (struct said){ Py_NewRef(path), entry_of(path, locations), locations != Py_None };
	Py_XDECREF(locations);
	Py_XDECREF(loader);
	Py_XDECREF(path);
	Py_DECREF(dict);
	if (said->entry)
		return 1;
	forget(said);
	return PyErr_Occurred() ? -1 : 0;
}

int lw_adopt(lw_state *state, PyObject *name, PyObject *spec, struct lw_hit *hit)
{
#ifdef Py_GIL_DISABLED
	return 0; /* who made it may change it at this moment */
#endif
	struct said said = { 0 };
	int found = read_spec(state, name, spec, &said);
	if (found > 0)
		found = lw_find_source(state, name, said.entry, said.path, hit);
	forget(&said);
	return found;
}

int lw_is_adopted(lw_state *state, PyObject *name, PyObject *spec, const struct lw_hit *hit)
{
	struct said said = { 0 };
	int found = read_spec(state, name, spec, &said);
	if (found > 0)
		found = said.package == (hit->kind == LW_HIT_PACKAGE) && lw_is_source(state, hit, said.path);
	forget(&said);
	return found;
}
