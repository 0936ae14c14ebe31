/* SPDX-License-Identifier: MIT */
/*
 * lazy_below: submodules that would be attributes of their package by now.
 *
 * `import requests` is enough for requests.adapters, since modules of requests import it: as it is imported, it becomes an attribute. While imports wait it is none.
 * So before a package has no attribute of the name of a submodule that is there, but not loaded:
 *
 *   a name waits for it, anywhere     the statement has been executed: the submodule is imported
 *   names wait in the package         they are resolved, then those in the modules below it, and those anywhere that wait for a module below it, until the submodule is loaded,
 *                                     or nothing of that kind waits any more: that is how far these imports would have come
 *
 * If it is not loaded then, the package has no such attribute, as in stock Python. Nor has it while it is being imported itself, or something of it is that stock
 * Python would have imported before (lazy_underway.c).
 */
#include "lazy_scope.h"

/* What threads are looking for. What is imported on the way may ask for other submodules, which are looked for as well; asked for the same, there is none. */
struct lw_look {
	PyObject *dict, *name;			/* strong; dict: of the package */
	struct lw_who who;
	struct lw_look *next;
};

struct request {
	lw_state *state;
	PyObject *package, *name, *full;	/* full: package.name */
	PyObject *dict;				/* of the package */
	struct lw_underway underway;
};

/* To import TARGET is to import the submodule. */
static bool aims_at(const struct request *request, PyObject *target)
{
	PyObject *module = PyTuple_GET_ITEM(target, LW_TARGET_MODULE), *attribute = PyTuple_GET_ITEM(target, LW_TARGET_ATTRIBUTE);
	return lw_lazy_is_within(module, request->full)
		|| (attribute != Py_None && PyUnicode_Compare(attribute, request->name) == 0 && PyUnicode_Compare(module, request->package) == 0);
}

static bool waits_in(const struct request *request, const lw_scope *scope)
{
	PyObject *name, *targets;
	for (Py_ssize_t at = 0; PyDict_Next(scope->waiting, &at, &name, &targets);)
		for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(targets); i++)
			if (aims_at(request, PyTuple_GET_ITEM(targets, i)) && lw_lazy_counts(&request->underway, scope, PyTuple_GET_ITEM(targets, i)))
				return true;
	return false;
}

static bool waits_anywhere(const struct request *request)
{
	const struct lw_lazy_table *table = request->state->lazy.table;
	for (size_t i = 0; i < table->room; i++)
		if (table->slot[i] && waits_in(request, table->slot[i]))
			return true;
	return false;
}

/* The submodule, if it is loaded and bound in its package: a new reference, or NULL. */
static PyObject *bound(const struct request *request)
{
	return Py_XNewRef(PyDict_GetItemWithError(request->dict, request->name));
}

/* TARGETS are what a name waits in SCOPE for: one is the package, or a module below it; and all count. */
static bool leads_below(const struct request *request, const lw_scope *scope, PyObject *targets)
{
	bool below = false;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(targets); i++) {
		PyObject *target = PyTuple_GET_ITEM(targets, i);
		if (!lw_lazy_counts(&request->underway, scope, target))
			return false;
		below |= lw_lazy_is_within(PyTuple_GET_ITEM(target, LW_TARGET_MODULE), request->package);
	}
	return below;
}

/* Names wait in SCOPE that are to be resolved. */
static bool is_wanted(const struct request *request, const lw_scope *scope)
{
	PyObject *name, *targets;
	if (lw_lazy_is_within(scope->name, request->package))
		return true;
	for (Py_ssize_t at = 0; PyDict_Next(scope->waiting, &at, &name, &targets);)
		if (leads_below(request, scope, targets))
			return true;
	return false;
}

/* The dictionaries of the package, of modules below it, and of others in which names wait that lead there: a list, the package's first. */
static PyObject *dictionaries(const struct request *request)
{
	const struct lw_lazy_table *table = request->state->lazy.table;
	PyObject *list = PyList_New(0);
	for (size_t i = 0; list && i < table->room; i++) {
		const lw_scope *scope = table->slot[i];
		PyObject *dict = scope && is_wanted(request, scope) ? lw_scope_dict(scope) : NULL;
		if (dict && PyList_Insert(list, dict == request->dict ? 0 : PyList_GET_SIZE(list), dict) < 0)
			Py_CLEAR(list);
	}
	return list;
}

/* Resolve what waits in DICT until the submodule is bound. False with an exception. */
static bool resolve_in(const struct request *request, PyObject *dict)
{
	PyObject *names = lw_lazy_names_in(request->state, dict);
	bool good = names != NULL;
	for (Py_ssize_t i = 0; good && i < PyList_GET_SIZE(names) && !PyDict_Contains(request->dict, request->name); i++) {
		PyObject *name = PyList_GET_ITEM(names, i);
		const lw_scope *scope = lw_scope_of(request->state, dict); /* what was resolved before may have taken it away */
		PyObject *targets = scope ? PyDict_GetItemWithError(scope->waiting, name) : NULL;
		bool wanted = targets && (lw_lazy_is_within(scope->name, request->package) || leads_below(request, scope, targets));
		PyObject *value = wanted ? lw_lazy_resolve(request->state, dict, name) : NULL;
		Py_XDECREF(value);
		good = lw_lazy_forgive();
	}
	Py_XDECREF(names);
	return good;
}

/* One round; what is imported may make more names wait. False: nothing has been resolved, or there is an exception. */
static bool resolve_below(const struct request *request)
{
	uint64_t before = request->state->lazy.resolved;
	PyObject *list = dictionaries(request);
	bool good = list != NULL;
	for (Py_ssize_t i = 0; good && i < PyList_GET_SIZE(list) && !PyDict_Contains(request->dict, request->name); i++)
		good = resolve_in(request, PyList_GET_ITEM(list, i));
	Py_XDECREF(list);
	return good && request->state->lazy.resolved != before;
}

static PyObject *look(const struct request *request)
{
	if (waits_anywhere(request)) {
		struct lw_use *use = lw_use_begins(request->state);
		PyObject *module = PyImport_Import(request->full);
		lw_use_ends(use);
		Py_XDECREF(module);
		return lw_lazy_forgive() ? bound(request) : NULL;
	}
	while (!PyDict_Contains(request->dict, request->name) && resolve_below(request))
		;
	return PyErr_Occurred() ? NULL : bound(request);
}

/* A package that is wholly there. */
static bool is_package(lw_state *state, PyObject *module, PyObject *dict)
{
	return PyDict_GetItemWithError(dict, LW_STR(state, __path__)) && lw_is_initializing(state, module) == 0;
}

/* Nobody's __name__; a name that a file may have. */
static bool may_be_submodule(PyObject *name)
{
	return PyUnicode_IsIdentifier(name) > 0 && !(PyUnicode_GET_LENGTH(name) > 1 && PyUnicode_READ_CHAR(name, 0) == '_' && PyUnicode_READ_CHAR(name, 1) == '_');
}

enum had { LOADED, TO_BE_LOADED, BEING_LOADED, NOT_THERE };

/* Whether the submodule can be had. LOADED: whoever removed it from its package does not want it there; BEING_LOADED by another thread. NOT_THERE, perhaps with an exception. */
static enum had is_to_be_had(const struct request *request)
{
	int others = lw_lazy_is_others(request->state, request->full); /* first, as to look for the module is to wait for it */
	if (others)
		return others < 0 ? NOT_THERE : BEING_LOADED;
	PyObject *module = PyImport_GetModule(request->full);
	Py_XDECREF(module);
	if (PyErr_Occurred())
		return NOT_THERE;
	return module ? LOADED : lw_lazy_is_there(request->state, request->full) ? TO_BE_LOADED : NOT_THERE;
}

/* Some import that waits would have loaded it by now. */
static bool is_owed(const struct request *request)
{
	PyObject *list = waits_anywhere(request) ? NULL : dictionaries(request);
	bool owed = !list || PyList_GET_SIZE(list) > 0;
	Py_XDECREF(list);
	return owed && !PyErr_Occurred();
}

/* The submodule, once that other thread is through with it. */
static PyObject *wait_for(const struct request *request)
{
	PyObject *function;
	int found = lw_dict_get(request->state->bootstrap_dict, LW_STR(request->state, _lock_unlock_module), &function);
	PyObject *done = found > 0 ? PyObject_CallOneArg(function, request->full) : NULL;
	Py_XDECREF(done);
	Py_XDECREF(function);
	return lw_lazy_forgive() ? bound(request) : NULL;
}

/* Nothing is half made that would not survive it. */
static bool may_import(struct request *request)
{
	if (lw_lazy_underway(request->state, request->package, &request->underway) == 0)
		return !request->underway.native;
	lw_lazy_forgive();
	return false;
}

static bool is_looked_for(const lw_state *state, PyObject *dict, PyObject *name)
{
	for (const struct lw_look *look = state->lazy.table->looks; look; look = look->next)
		if (look->dict == dict && lw_who_is_me(state, look->who) && PyUnicode_Compare(look->name, name) == 0)
			return true;
	return false;
}

static struct lw_look *begin_look(lw_state *state, PyObject *dict, PyObject *name)
{
	struct lw_look *look = PyMem_Malloc(sizeof(*look));
	if (!look)
		return NULL;
	*look = (struct lw_look){ Py_NewRef(dict), Py_NewRef(name), lw_who_am_i(state), state->lazy.table->looks };
	return state->lazy.table->looks = look;
}

/* In any order, as greenlets switch. */
static void end_look(lw_state *state, struct lw_look *look)
{
	struct lw_look **link = state->lazy.table ? &state->lazy.table->looks : NULL; /* torn down meanwhile */
	while (link && *link && *link != look)
		link = &(*link)->next;
	if (link && *link)
		*link = look->next;
	Py_DECREF(look->dict);
	Py_DECREF(look->name);
	PyMem_Free(look);
}

PyObject *lw_lazy_submodule(lw_state *state, PyObject *module, PyObject *name)
{
	PyObject *dict = PyModule_GetDict(module), *package, *result = NULL;
	if (!state->lazy.table || !state->lazy.table->used || !may_be_submodule(name) || is_looked_for(state, dict, name))
		return NULL;
	package = PyDict_GetItemWithError(dict, LW_STR(state, __name__));
	struct request request = { .state = state, .package = Py_XNewRef(package), .name = name, .dict = Py_NewRef(dict) };
	if (package && PyUnicode_CheckExact(package) && is_package(state, module, dict))
		request.full = PyUnicode_FromFormat("%U.%U", request.package, name);
	PyErr_Clear();
	struct lw_look *at = request.full ? begin_look(state, dict, name) : NULL;
	enum had had = at ? is_to_be_had(&request) : NOT_THERE;
	if ((had == TO_BE_LOADED || had == BEING_LOADED) && may_import(&request))
		result = had == TO_BE_LOADED ? look(&request) : is_owed(&request) ? wait_for(&request) : NULL;
	if (at)
		end_look(state, at);
	Py_XDECREF(request.underway.top);
	Py_XDECREF(request.full);
	Py_DECREF(request.dict);
	Py_XDECREF(request.package);
	return result;
}
