/* SPDX-License-Identifier: MIT */
/*
 * lazy_underway: what of a package this thread is importing, and what stock Python would not have executed by then.
 *
 *     from package import core, html     both wait; core is used first, and asks while it is imported: hasattr(package, "html")
 *
 * In stock Python core is imported by a statement that comes before the one that imports html: it is not there. A module that is not written in Python may rely on that
 * with its life: to import what needs it, while it is half made, ends the process. So while such a one is initialised nothing of its package is imported for it; while
 * one in Python is, what others have said after the statement that it is imported by does not count. What the package's own modules say does: it is how its parts are
 * brought together, in whatever order that is asked for.
 *
 * The order is that in which statements were executed here. Where one was executed late, since an import that leads to it has waited itself, it is taken to be as late.
 *
 * Which modules this thread imports is known by their locks (importlib._bootstrap._module_locks), which go from a module to those above it that it has to wait for.
 */
#include "lazy_scope.h"

/* importlib's locks: a new reference to the dict, name -> weak reference; or NULL. */
static PyObject *dict_of_locks(lw_state *state)
{
	PyObject *found;
	if (lw_dict_get(state->bootstrap_dict, LW_STR(state, _module_locks), &found) <= 0)
		return PyErr_Occurred() ? NULL : PyDict_New();
	if (!PyDict_CheckExact(found)) {
		PyErr_SetString(PyExc_TypeError, "importlib's locks are not in a dict");
		Py_CLEAR(found);
	}
	return found;
}

/* A new list of (name, weak reference), the oldest first, or NULL. */
static PyObject *locks(lw_state *state)
{
	PyObject *dict = dict_of_locks(state), *list = dict ? PyDict_Items(dict) : NULL;
	Py_XDECREF(dict);
	return list;
}

/* A new reference or NULL. */
static PyObject *ident(lw_state *state)
{
	PyObject *module, *result = NULL;
	int found = lw_dict_get(state->bootstrap_dict, LW_STR(state, _thread), &module);
	if (found > 0)
		result = PyObject_CallMethodNoArgs(module, LW_STR(state, get_ident));
	else if (!found)
		result = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
	Py_XDECREF(module);
	return result;
}

uint64_t lw_lazy_ident(lw_state *state)
{
	PyObject *number = ident(state);
	uint64_t result = number ? PyLong_AsUnsignedLongLongMask(number) : 0;
	PyErr_Clear();
	Py_XDECREF(number);
	return result;
}

enum whose { NOBODYS, MINE, OTHERS, UNKNOWN };

/* Whose the lock is that WEAK refers to. UNKNOWN: there is an exception. */
static enum whose whose_is(lw_state *state, PyObject *weak)
{
	enum whose whose = NOBODYS;
	PyObject *lock = PyObject_CallNoArgs(weak), *owner = NULL, *me = NULL;
	int found = lock && lock != Py_None ? lw_attr_get(lock, LW_STR(state, owner), &owner) : lock ? 0 : -1;
	if (found > 0 && owner != Py_None && (me = ident(state)))
		whose = PyObject_RichCompareBool(owner, me, Py_EQ) > 0 ? MINE : OTHERS;
	Py_XDECREF(me);
	Py_XDECREF(owner);
	Py_XDECREF(lock);
	return PyErr_Occurred() ? UNKNOWN : whose;
}

/* The lock that WEAK refers to is this thread's: 1, 0, -1. */
static int is_mine(lw_state *state, PyObject *weak)
{
	enum whose whose = whose_is(state, weak);
	return whose == UNKNOWN ? -1 : whose == MINE;
}

/* A module above NAME comes behind AT in LIST: its own import has not begun. */
static bool waits_for_parent(PyObject *list, Py_ssize_t at, PyObject *name)
{
	for (Py_ssize_t i = at + 1; i < PyList_GET_SIZE(list); i++)
		if (lw_lazy_is_within(name, PyTuple_GET_ITEM(PyList_GET_ITEM(list, i), 0)))
			return true;
	return false;
}

/* MODULE is one in Python: 1, 0, -1. */
static int is_python(lw_state *state, PyObject *module)
{
	PyObject *spec, *loader = NULL;
	int found = lw_attr_get(module, LW_STR(state, __spec__), &spec);
	if (found <= 0)
		return found;
	found = lw_attr_get(spec, LW_STR(state, loader), &loader);
	if (found > 0)
		found = (PyObject *)Py_TYPE(loader) == state->source_loader || (PyObject *)Py_TYPE(loader) == state->sourceless_loader;
	Py_XDECREF(loader);
	Py_DECREF(spec);
	return found;
}

/* TARGET is module NAME, or below it. */
static bool leads_to(PyObject *target, PyObject *name)
{
	PyObject *module = PyTuple_GET_ITEM(target, LW_TARGET_MODULE), *attribute = PyTuple_GET_ITEM(target, LW_TARGET_ATTRIBUTE);
	Py_ssize_t len = PyUnicode_GET_LENGTH(module);
	if (lw_lazy_is_within(module, name))
		return true;
	return attribute != Py_None && PyUnicode_GET_LENGTH(name) == len + 1 + PyUnicode_GET_LENGTH(attribute) && lw_lazy_is_within(name, module)
		&& PyUnicode_Tailmatch(name, attribute, 0, PY_SSIZE_T_MAX, 1) > 0;
}

/* The first statement that waits for module NAME, by its order; UINT64_MAX: none does. */
static uint64_t first_for(const lw_state *state, PyObject *name)
{
	const struct lw_lazy_table *table = state->lazy.table;
	uint64_t first = UINT64_MAX;
	for (size_t i = 0; i < table->room; i++) {
		PyObject *waits, *targets;
		for (Py_ssize_t at = 0; table->slot[i] && PyDict_Next(table->slot[i]->waiting, &at, &waits, &targets);)
			for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(targets); k++)
				if (leads_to(PyTuple_GET_ITEM(targets, k), name))
					first = Py_MIN(first, lw_target_order(PyTuple_GET_ITEM(targets, k)));
	}
	return first;
}

/* How many statements had been registered when the body of module NAME began; UINT64_MAX: that is not known. */
static uint64_t began(const lw_state *state, PyObject *name)
{
	PyObject *count = PyDict_GetItemWithError(state->lazy.table->began, name);
	return count ? PyLong_AsUnsignedLongLong(count) : UINT64_MAX;
}

/* Module NAME, number AT in LIST, is being imported by this thread. 0 or -1. */
static int add(lw_state *state, PyObject *list, Py_ssize_t at, PyObject *name, struct lw_underway *underway)
{
	PyObject *module = PyImport_GetModule(name);
	int result = PyErr_Occurred() ? -1 : 0;
	if (!result && !module)
		underway->native |= !waits_for_parent(list, at, name);	/* it is being created */
	else if (!result && (result = lw_is_initializing(state, module)) > 0 && (result = is_python(state, module)) == 0)
		underway->native = true;
	if (result > 0) {
		underway->from = Py_MIN(underway->from, first_for(state, name));
		underway->to = Py_MAX(underway->to, began(state, name));
	}
	Py_XDECREF(module);
	return result < 0 ? -1 : 0;
}

int lw_lazy_underway(lw_state *state, PyObject *package, struct lw_underway *underway)
{
	*underway = (struct lw_underway){ .native = false, .from = UINT64_MAX };
	Py_ssize_t dot = PyUnicode_FindChar(package, '.', 0, PyUnicode_GET_LENGTH(package), 1);
	underway->top = PyUnicode_Substring(package, 0, dot < 0 ? PyUnicode_GET_LENGTH(package) : dot);
	PyObject *list = underway->top ? locks(state) : NULL;
	int result = list ? 0 : -1;
	for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(list); i++) {
		PyObject *item = PyList_GET_ITEM(list, i), *name = PyTuple_GET_ITEM(item, 0);
		if (!PyUnicode_Check(name) || !lw_lazy_is_within(name, underway->top))
			continue;
		int mine = is_mine(state, PyTuple_GET_ITEM(item, 1));
		result = mine > 0 ? add(state, list, i, name, underway) : mine;
	}
	Py_XDECREF(list);
	return result;
}

int lw_lazy_imports_here(lw_state *state)
{
	PyObject *list = locks(state);
	int result = list ? 0 : -1;
	for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(list); i++)
		result = is_mine(state, PyTuple_GET_ITEM(PyList_GET_ITEM(list, i), 1));
	Py_XDECREF(list);
	return result;
}

int lw_lazy_is_others(lw_state *state, PyObject *name)
{
	PyObject *dict = dict_of_locks(state), *weak = NULL;
	int result = dict ? lw_dict_get(dict, name, &weak) : -1;
	if (result > 0) {
		enum whose whose = whose_is(state, weak);
		result = whose == UNKNOWN ? -1 : whose == OTHERS;
	}
	Py_XDECREF(weak);
	Py_XDECREF(dict);
	return result;
}

bool lw_lazy_counts(const struct lw_underway *underway, const lw_scope *scope, PyObject *target)
{
	uint64_t order = lw_target_order(target);
	return order < underway->from || order >= underway->to || lw_lazy_is_within(scope->name, underway->top);
}
