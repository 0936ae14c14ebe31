/* SPDX-License-Identifier: MIT */
/*
 * lazy_resolve: what a name waits for is imported, and bound.
 *
 * Importing is what the statement would have done for that one name: builtins.__import__ as the module has it, by the absolute name; then the attribute, or the module
 * that sys.modules has under that name, or ImportError in the interpreter's own words (they are had from a statement that is executed for them).
 *
 * Threads. Nothing is locked here: the module's own lock, which the import takes, orders those who import the same. Whoever comes back first binds; the others
 * find it bound. Binding is one step under the GIL: the name still waits for what was imported, and nothing is bound under it.
 *
 * Circles. While a thread resolves a name, readers from outside on the same thread do not see it wait (__import__ itself asks a package whether it has an attribute): they
 * find what stock Python would have had at that time, nothing. Loads import once more, and get what is there of a module that is being imported.
 */
#include "lazy_scope.h"

#include "stamp.h"

/* --- importing --- */

/* __import__(NAME, globals, locals, FROMLIST, 0), as DICT's builtins have it. */
static PyObject *call_import(PyObject *dict, PyObject *name, PyObject *fromlist)
{
	PyObject *builtins = PyDict_GetItemString(dict, "__builtins__"), *function = NULL, *result = NULL;
	if (builtins && PyModule_Check(builtins))
		builtins = PyModule_GetDict(builtins);
	if (builtins && PyDict_Check(builtins))
		function = Py_XNewRef(PyDict_GetItemString(builtins, "__import__"));
	if (!function)
		return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ImportError, "__import__ not found");
	result = PyObject_CallFunction(function, "OOOOi", name, dict, dict, fromlist, 0);
	Py_DECREF(function);
	return result;
}

/* sys.modules[f"{module.__name__}.{attribute}"]: a new reference; NULL: there is none, or an exception. */
static PyObject *module_below(PyObject *module, PyObject *attribute)
{
	PyObject *name = PyObject_GetAttrString(module, "__name__");
	PyObject *full = name && PyUnicode_Check(name) ? PyUnicode_FromFormat("%U.%U", name, attribute) : NULL;
	PyObject *result = full ? PyImport_GetModule(full) : NULL;
	Py_XDECREF(name);
	Py_XDECREF(full);
	if (!result && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_AttributeError))
		PyErr_Clear();
	return result;
}

/* The traceback begins with the frame of a statement that is not in any file. */
static void drop_first_entry(void)
{
	struct lw_error error;
	lw_error_save(&error);
	PyObject *traceback = error.value ? PyException_GetTraceback(error.value) : NULL;
	PyObject *next = traceback ? PyObject_GetAttrString(traceback, "tb_next") : NULL;
	PyErr_Clear();
	if (next && PyException_SetTraceback(error.value, next) < 0)
		PyErr_Clear();
	Py_XDECREF(traceback);
	Py_XDECREF(next);
	lw_error_restore(&error);
}

/* `from MODULE import ATTRIBUTE`, executed: it raises what there is to raise. If it does not, what it has found. */
static PyObject *execute_statement(PyObject *dict, PyObject *module, PyObject *attribute)
{
	PyObject *text = PyUnicode_FromFormat("from %U import %U", module, attribute), *found = NULL;
	const char *source = text ? PyUnicode_AsUTF8(text) : NULL;
	PyObject *code = source ? Py_CompileString(source, "<lazy import>", Py_file_input) : NULL;
	PyObject *scratch = code ? Py_BuildValue("{sOsO}", "__builtins__", PyDict_GetItemString(dict, "__builtins__"), "__name__", PyDict_GetItemString(dict, "__name__")) : NULL;
	PyObject *done = scratch ? PyEval_EvalCode(code, scratch, scratch) : NULL;
	if (done)
		found = Py_XNewRef(PyDict_GetItemWithError(scratch, attribute));
	else if (scratch)
		drop_first_entry();
	Py_XDECREF(done);
	Py_XDECREF(scratch);
	Py_XDECREF(code);
	Py_XDECREF(text);
	return found;
}

/* What IMPORT_FROM takes of MODULE, which was imported by NAME. */
static PyObject *take_from(PyObject *dict, PyObject *module, PyObject *name, PyObject *attribute)
{
	PyObject *value;
	int found = lw_attr_get(module, attribute, &value);
	if (found)
		return found < 0 ? NULL : value;
	value = module_below(module, attribute);
	return value || PyErr_Occurred() ? value : execute_statement(dict, name, attribute);
}

/* `import a.b.c as d`: from TOP, which is a, down to c. Steals TOP. */
static PyObject *go_down(PyObject *dict, PyObject *top, PyObject *name)
{
	Py_ssize_t len = PyUnicode_GET_LENGTH(name), dot = PyUnicode_FindChar(name, '.', 0, len, 1);
	while (top && dot > 0) {
		Py_ssize_t next = PyUnicode_FindChar(name, '.', dot + 1, len, 1);
		PyObject *above = PyUnicode_Substring(name, 0, dot), *part = PyUnicode_Substring(name, dot + 1, next < 0 ? len : next);
		Py_SETREF(top, above && part ? take_from(dict, top, above, part) : NULL);
		Py_XDECREF(above);
		Py_XDECREF(part);
		dot = next;
	}
	return top;
}

static PyObject *import_target(PyObject *dict, PyObject *target)
{
	PyObject *name = PyTuple_GET_ITEM(target, LW_TARGET_MODULE), *attribute = PyTuple_GET_ITEM(target, LW_TARGET_ATTRIBUTE);
	if (attribute == Py_None) {
		PyObject *top = call_import(dict, name, Py_None);
		return PyTuple_GET_ITEM(target, LW_TARGET_AS) == Py_True ? go_down(dict, top, name) : top;
	}
	PyObject *fromlist = PyTuple_Pack(1, attribute);
	PyObject *module = fromlist ? call_import(dict, name, fromlist) : NULL, *value = module ? take_from(dict, module, name, attribute) : NULL;
	Py_XDECREF(fromlist);
	Py_XDECREF(module);
	return value;
}

/* The exception says where the import stands. */
static void add_note(const lw_scope *scope, PyObject *target)
{
	struct lw_error error;
	lw_error_save(&error);
	PyObject *note = PyUnicode_FromFormat("imported lazily by %U, line %S", scope->file, PyTuple_GET_ITEM(target, LW_TARGET_LINE));
	PyObject *done = note && error.value ? PyObject_CallMethod(error.value, "add_note", "O", note) : NULL;
	Py_XDECREF(done);
	Py_XDECREF(note);
	PyErr_Clear();
	lw_error_restore(&error);
}

/* All of TARGETS; the last one's value. */
static PyObject *import_targets(lw_state *state, const lw_scope *scope, PyObject *dict, PyObject *targets)
{
	PyObject *value = NULL;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(targets); i++) {
		PyObject *target = PyTuple_GET_ITEM(targets, i);
		int64_t began = state && state->lazy.recording ? lw_monotonic_ns() : 0;
		Py_XSETREF(value, import_target(dict, target));
		if (state)
			lw_census_ended(state, target, value ? "resolved" : "failed", began);
		if (!value) {
			add_note(scope, target);
			return NULL;
		}
	}
	return value;
}

/* --- who is at it --- */

static struct lw_busy *begin(lw_state *state, lw_scope *scope, PyObject *name)
{
	struct lw_busy *busy = PyMem_Malloc(sizeof(*busy));
	if (!busy) {
		PyErr_NoMemory();
		return NULL;
	}
	*busy = (struct lw_busy){ Py_NewRef(name), lw_who_am_i(state), scope->busy };
	return scope->busy = busy;
}

/* In any order: greenlets switch stacks while modules are imported. */
static void end(lw_scope *scope, struct lw_busy *busy)
{
	struct lw_busy **link = &scope->busy;
	while (*link && *link != busy)
		link = &(*link)->next;
	if (*link)
		*link = busy->next;
	Py_DECREF(busy->name);
	PyMem_Free(busy);
}

/* --- binding --- */

/* VALUE is what was bound under NAME as a submodule, while NAME was being resolved: the statement would have bound its own value after that. */
static bool is_child(const lw_scope *scope, PyObject *name, PyObject *value)
{
	PyObject *address = scope->children ? PyDict_GetItemWithError(scope->children, name) : NULL;
	return address && PyLong_AsVoidPtr(address) == value;
}

/* VALUE came of TARGETS, which NAME waited for: bound, unless somebody else has bound something. What is bound now: a new reference; NULL with an exception. Steals VALUE. */
static PyObject *bind(lw_state *state, lw_scope *scope, PyObject *dict, PyObject *name, PyObject *targets, PyObject *value)
{
	PyObject *there = PyDict_GetItemWithError(dict, name);
	bool ours = PyDict_GetItemWithError(scope->waiting, name) == targets && (!there || is_child(scope, name, there));
	if (!ours && !PyErr_Occurred())
		Py_SETREF(value, Py_NewRef(there ? there : value));
	if (PyErr_Occurred() || (ours && PyDict_SetItem(dict, name, value) < 0))
		Py_CLEAR(value);
	if (!value || !ours)
		return value;
	lw_scope_forget(state, scope, name, NULL);
	if (scope->children && PyDict_GetItemWithError(scope->children, name) && PyDict_DelItem(scope->children, name) < 0)
		PyErr_Clear();
	if (state)
		state->lazy.resolved++;
	return value;
}

PyObject *lw_scope_resolve(lw_state *state, lw_scope *scope, PyObject *dict, PyObject *name)
{
	PyObject *targets, *value = NULL;
	Py_INCREF(scope);
	Py_INCREF(dict);
	Py_INCREF(name);
	struct lw_use *use = lw_use_begins(state);
	while ((targets = Py_XNewRef(PyDict_GetItemWithError(scope->waiting, name)))) {
		Py_CLEAR(value);
		struct lw_busy *busy = begin(state, scope, name);
		value = busy ? import_targets(state, scope, dict, targets) : NULL;
		if (busy)
			end(scope, busy);
		if (value)
			value = bind(state, scope, dict, name, targets, value);
		bool again = value && PyDict_GetItemWithError(scope->waiting, name) && !PyDict_Contains(dict, name);
		Py_DECREF(targets);
		if (!again)
			break; /* else it waits for more since */
	}
	if (!targets && !value && !PyErr_Occurred())
		value = Py_XNewRef(PyDict_GetItemWithError(dict, name));
	lw_use_ends(use);
	Py_DECREF(scope);
	Py_DECREF(dict);
	Py_DECREF(name);
	return value;
}

int lw_scope_load(lw_scope *scope, PyObject *dict, PyObject *name)
{
	lw_state *state = lw_scope_state((PyObject *)scope);
	if (PyDict_GetItemWithError(scope->waiting, name) && !PyDict_Contains(dict, name)) {
		PyObject *value = lw_scope_resolve(state, scope, dict, name);
		if (!value && PyErr_Occurred())
			return -1;
		Py_XDECREF(value);
	}
	return PyDict_Contains(dict, name);
}

/* --- for readers from outside --- */

PyObject *lw_lazy_resolve(lw_state *state, PyObject *dict, PyObject *name)
{
	lw_scope *scope = lw_scope_of(state, dict);
	if (!scope)
		return NULL;
	Py_INCREF(scope); /* a key or a name may have code of its own */
	bool waits = lw_scope_targets(state, scope, dict, name) && !lw_scope_is_busy_here(state, scope, name);
	PyObject *value = waits ? lw_scope_resolve(state, scope, dict, name) : NULL;
	Py_DECREF(scope);
	return value;
}

/*
 * NAME waits for what a module will have that is being imported. In stock Python the statement would be at it as well, and would not have bound NAME yet: who takes
 * all there is (`from package import *` in a module that the package's own import is for) goes without.
 */
static bool is_early(lw_state *state, PyObject *dict, PyObject *name)
{
	lw_scope *scope = lw_scope_of(state, dict);
	PyObject *targets = scope ? Py_XNewRef(PyDict_GetItemWithError(scope->waiting, name)) : NULL;
	PyObject *target = targets ? PyTuple_GET_ITEM(targets, PyTuple_GET_SIZE(targets) - 1) : NULL;
	PyObject *module = target ? PyImport_GetModule(PyTuple_GET_ITEM(target, LW_TARGET_MODULE)) : NULL;
	bool early = module && lw_is_initializing(state, module) > 0;
	Py_XDECREF(module);
	Py_XDECREF(targets);
	return early;
}

bool lw_lazy_forgive(void)
{
	if (!PyErr_Occurred())
		return true;
	if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_RecursionError) || PyErr_ExceptionMatches(PyExc_MemoryError))
		return false;
	PyErr_Clear();
	return true;
}

/* Exceptions that a module may end with are let go of: 0; anything else: -1. STRICT: only that of a name that is asked for too early. */
static int forgive(lw_state *state, PyObject *dict, PyObject *name, bool strict)
{
	if (!strict)
		return lw_lazy_forgive() ? 0 : -1;
	if (!PyErr_ExceptionMatches(PyExc_ImportError))
		return -1;
	struct lw_error error;
	lw_error_save(&error);
	bool forgiven = is_early(state, dict, name);
	PyErr_Clear();
	lw_error_restore(&error);
	if (!forgiven)
		return -1;
	PyErr_Clear();
	return 0;
}

static int resolve_one(lw_state *state, PyObject *dict, PyObject *name, bool strict)
{
	PyObject *value = lw_lazy_resolve(state, dict, name);
	bool failed = !value && PyErr_Occurred();
	Py_XDECREF(value);
	return failed ? forgive(state, dict, name, strict) : 0;
}

int lw_lazy_resolve_all(lw_state *state, PyObject *dict, bool strict)
{
	PyObject *names = lw_lazy_any(state, dict) ? lw_lazy_names_in(state, dict) : PyList_New(0);
	int result = names ? 0 : -1;
	Py_INCREF(dict);
	for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(names); i++)
		result = resolve_one(state, dict, PyList_GET_ITEM(names, i), strict);
	Py_DECREF(dict);
	Py_XDECREF(names);
	return result;
}

/* The dictionaries of modules in which names wait: a list, or NULL. */
static PyObject *dictionaries(const lw_state *state)
{
	const struct lw_lazy_table *table = state->lazy.table;
	PyObject *list = PyList_New(0);
	for (size_t i = 0; list && table && i < table->room; i++) {
		PyObject *dict = table->slot[i] ? lw_scope_dict(table->slot[i]) : NULL;
		if (dict && PyList_Append(list, dict) < 0)
			Py_CLEAR(list);
	}
	return list;
}

int lw_lazy_resolve_everywhere(lw_state *state)
{
	PyObject *list = dictionaries(state);
	int result = list ? 0 : -1;
	for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(list); i++)
		result = lw_lazy_resolve_all(state, PyList_GET_ITEM(list, i), false);
	Py_XDECREF(list);
	return result;
}

/* NAME is among the names of CODE, or of what is within it: 1, 0, -1. */
static int is_mentioned(PyObject *code, PyObject *name)
{
	PyObject *names = ((PyCodeObject *)code)->co_names, *constants = ((PyCodeObject *)code)->co_consts;
	int found = PySequence_Contains(names, name);
	for (Py_ssize_t i = 0; !found && i < PyTuple_GET_SIZE(constants); i++)
		if (PyCode_Check(PyTuple_GET_ITEM(constants, i)))
			found = is_mentioned(PyTuple_GET_ITEM(constants, i), name);
	return found;
}

/* NAME is somewhere in the text SOURCE, str or a buffer: 1, 0, -1. */
static int is_in_text(PyObject *source, PyObject *name)
{
	if (PyUnicode_Check(source))
		return PyUnicode_Contains(source, name);
	Py_buffer view;
	Py_ssize_t len;
	const char *text = PyUnicode_AsUTF8AndSize(name, &len);
	if (!text || PyObject_GetBuffer(source, &view, PyBUF_SIMPLE) < 0)
		return -1;
	int found = memmem(view.buf, (size_t)view.len, text, (size_t)len) != NULL;
	PyBuffer_Release(&view);
	return found;
}

int lw_lazy_resolve_mentioned(lw_state *state, PyObject *dict, PyObject *code, PyObject *source)
{
	if (!lw_lazy_any(state, dict))
		return 0;
	PyObject *names = lw_lazy_names_in(state, dict);
	int result = names ? 0 : -1;
	Py_INCREF(dict);
	for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(names); i++) {
		PyObject *name = PyList_GET_ITEM(names, i);
		int found = code ? is_mentioned(code, name) : 0;
		if (!found && source)
			found = is_in_text(source, name);
		result = found > 0 ? resolve_one(state, dict, name, false) : found;
	}
	Py_DECREF(dict);
	Py_XDECREF(names);
	return result;
}

/* --- submodules --- */

/* TARGET is submodule FULL itself: `from . import child`, or `import package.child as child` */
static bool is_the_child(PyObject *target, PyObject *full)
{
	PyObject *attribute = PyTuple_GET_ITEM(target, LW_TARGET_ATTRIBUTE), *module = PyTuple_GET_ITEM(target, LW_TARGET_MODULE);
	if (attribute == Py_None)
		return PyTuple_GET_ITEM(target, LW_TARGET_AS) == Py_True && PyUnicode_Compare(module, full) == 0;
	PyObject *name = PyUnicode_FromFormat("%U.%U", module, attribute);
	bool same = name && PyUnicode_Compare(name, full) == 0;
	Py_XDECREF(name);
	return same;
}

/* What CHILD waits for in DICT, the one that counts: borrowed; NULL: it does not. *FULL: the submodule's name, strong. */
static PyObject *rival_of(lw_state *state, PyObject *dict, PyObject *child, PyObject **full)
{
	lw_scope *scope = lw_scope_of(state, dict);
	PyObject *targets = scope ? PyDict_GetItemWithError(scope->waiting, child) : NULL;
	*full = targets ? PyUnicode_FromFormat("%U.%U", scope->name, child) : NULL;
	return *full ? PyTuple_GET_ITEM(targets, PyTuple_GET_SIZE(targets) - 1) : NULL;
}

/*
 * RIVAL is something of submodule FULL, by the same name. With stock Python nobody sees the submodule bound there: its body was executed, with all that it imports, and then
 * what was taken of it was bound at once.
 */
static bool is_taken_of(PyObject *rival, PyObject *full)
{
	return !is_the_child(rival, full) && PyUnicode_Compare(PyTuple_GET_ITEM(rival, LW_TARGET_MODULE), full) == 0;
}

int lw_lazy_has_rival(lw_state *state, PyObject *dict, PyObject *child)
{
	PyObject *full, *rival = rival_of(state, dict, child, &full);
	bool first = rival && !is_the_child(rival, full) && !lw_lazy_is_within(PyTuple_GET_ITEM(rival, LW_TARGET_MODULE), full);
	Py_XDECREF(full);
	return PyErr_Occurred() ? -1 : first;
}

int lw_lazy_before_child(lw_state *state, PyObject *dict, PyObject *child)
{
	int first = lw_lazy_has_rival(state, dict, child);
	return first > 0 ? resolve_one(state, dict, child, false) : first;
}

static int note_child(lw_scope *scope, PyObject *child, PyObject *module)
{
	PyObject *address = PyLong_FromVoidPtr(module);
	if (!scope->children)
		scope->children = PyDict_New();
	int result = address && scope->children ? PyDict_SetItem(scope->children, child, address) : -1;
	Py_XDECREF(address);
	return result;
}

int lw_lazy_binds_child(lw_state *state, PyObject *dict, PyObject *child, PyObject *module)
{
	PyObject *full, *rival = rival_of(state, dict, child, &full);
	if (!rival)
		return PyErr_Occurred() ? -1 : 1;
	lw_scope *scope = lw_scope_of(state, dict);
	bool same = is_the_child(rival, full);
	int result = 0;
	if (lw_scope_is_busy(scope, child) && !is_taken_of(rival, full)) {
		result = note_child(scope, child, module) < 0 ? -1 : 1; /* whoever resolves it binds over it */
	} else if (same) {
		lw_scope_forget(state, scope, child, "resolved");
		state->lazy.resolved++;
		result = 1;
	}
	Py_DECREF(full);
	return result;
}

/* MODULE was bound as CHILD in DICT: not if that waits for what stock would have bound over it by now. */
static int put_right(lw_state *state, PyObject *dict, PyObject *child, PyObject *module)
{
	PyObject *full, *rival = rival_of(state, dict, child, &full);
	bool over = rival && !is_the_child(rival, full) && lw_lazy_is_within(PyTuple_GET_ITEM(rival, LW_TARGET_MODULE), full);
	if (over && lw_scope_is_busy(lw_scope_of(state, dict), child))
		over = is_taken_of(rival, full);
	Py_XDECREF(full);
	if (!over || PyDict_GetItemWithError(dict, child) != module)
		return PyErr_Occurred() ? -1 : 0;
	return PyDict_DelItem(dict, child);
}

PyObject *lw_lazy_after_stock(lw_state *state, PyObject *name, PyObject *module)
{
	Py_ssize_t len = PyUnicode_GET_LENGTH(name), dot = module && state->lazy.table && state->lazy.table->used ? PyUnicode_FindChar(name, '.', 0, len, -1) : -1;
	if (dot <= 0)
		return module;
	PyObject *above = PyUnicode_Substring(name, 0, dot), *child = PyUnicode_Substring(name, dot + 1, len);
	PyObject *parent = above && child ? PyImport_GetModule(above) : NULL;
	if (PyErr_Occurred() || (parent && PyModule_Check(parent) && put_right(state, PyModule_GetDict(parent), child, module) < 0))
		Py_CLEAR(module);
	Py_XDECREF(parent);
	Py_XDECREF(above);
	Py_XDECREF(child);
	return module;
}
