/* SPDX-License-Identifier: MIT */
/*
 * lazy_foretold: submodules that stock Python would have bound in their package by now.
 *
 *     # package/__init__.py
 *     from .retry import base     waits; at once it would have bound package.retry, the module,
 *     def retry(): ...            over which this is bound
 *
 * When the submodule is imported at last, it must not be bound over what came after it. So it is noted, as the statement is registered, that a name of a package that is
 * loaded is free, and will be a submodule's; what is found under it then has come later, and stays.
 */
#include "lazy_scope.h"

/* What the dictionary of package NAME, if it is loaded, says of CHILD, if that is not: 1: its name is free, which is noted; 0: something else is there, or waits; -1. */
static int foretell_child(lw_state *state, PyObject *name, PyObject *child)
{
	PyObject *package = PyImport_GetModule(name), *full = package && PyModule_Check(package) ? PyUnicode_FromFormat("%U.%U", name, child) : NULL;
	PyObject *module = full ? PyImport_GetModule(full) : NULL, *dict = full ? PyModule_GetDict(package) : NULL, *weak = NULL;
	int result = PyErr_Occurred() ? -1 : 1;
	if (dict && !module && result > 0) {
		int there = PyDict_Contains(dict, child);
		if (!there)
			there = lw_lazy_has_rival(state, dict, child);
		if (there)
			result = there < 0 ? -1 : 0;
		else if (!lw_lazy_waits(state, dict, child))	/* else it waits for something of the submodule */
			result = (weak = PyWeakref_NewRef(package, NULL)) && PyDict_SetItem(state->lazy.table->foretold, full, weak) == 0 ? 1 : -1;
	}
	Py_XDECREF(weak);
	Py_XDECREF(module);
	Py_XDECREF(full);
	Py_XDECREF(package);
	return result;
}

int lw_lazy_foretell(lw_state *state, PyObject *absolute)
{
	Py_ssize_t len = PyUnicode_GET_LENGTH(absolute), dot = PyUnicode_FindChar(absolute, '.', 0, len, 1);
	int result = 1;
	while (result > 0 && dot > 0) {
		Py_ssize_t next = PyUnicode_FindChar(absolute, '.', dot + 1, len, 1);
		PyObject *name = PyUnicode_Substring(absolute, 0, dot), *child = PyUnicode_Substring(absolute, dot + 1, next < 0 ? len : next);
		result = name && child ? foretell_child(state, name, child) : -1;
		Py_XDECREF(name);
		Py_XDECREF(child);
		dot = next;
	}
	return result;
}

int lw_lazy_came_after(lw_state *state, PyObject *dict, PyObject *full, PyObject *child)
{
	PyObject *foretold = state->lazy.table ? state->lazy.table->foretold : NULL, *weak = foretold ? PyDict_GetItemWithError(foretold, full) : NULL;
	if (!weak)
		return PyErr_Occurred() ? -1 : 0;
	PyObject *package = lw_weak_referent(weak);
	bool same = package && PyModule_Check(package) && PyModule_GetDict(package) == dict;
	if (PyDict_DelItem(foretold, full) < 0)
		return -1;
	return same ? PyDict_Contains(dict, child) : 0;
}
