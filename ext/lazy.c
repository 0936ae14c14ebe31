/* SPDX-License-Identifier: MIT */
/*
 * lazy: names that wait: where they are kept, and what switches all of it on.
 */
#include "lazy_scope.h"


/* --- modules --- */

static lw_scope *create_scope(lw_state *state, PyObject *module, PyObject *name, PyObject *file)
{
	PyTypeObject *type = (PyTypeObject *)state->lazy.pending_type;
	PyObject *dict = PyModule_GetDict(module), *spec = PyDict_GetItemWithError(dict, LW_STR(state, __spec__));
	lw_scope *scope = spec ? (lw_scope *)type->tp_alloc(type, 0) : NULL;
	if (!scope)
		return NULL;
	scope->dict = dict;
	scope->name = Py_NewRef(name);
	scope->file = Py_NewRef(file);
	scope->module = PyWeakref_NewRef(module, NULL);
	scope->spec = scope->module ? PyWeakref_NewRef(spec, NULL) : NULL;
	scope->waiting = scope->spec ? PyDict_New() : NULL;
	if (!scope->waiting)
		Py_CLEAR(scope);
	return scope;
}

/* The number in NUMBER, an int that is not negative, or -1. */
static Py_ssize_t index_of(PyObject *number)
{
	int overflow;
	long index = PyLong_CheckExact(number) ? PyLong_AsLongAndOverflow(number, &overflow) : -1;
	return index < 0 ? -1 : index;
}

/* CONSTANT in place of the b"" in SLOT of CODE's constants. No: there is none, whatever the description says, which may be a program's own constant. */
static bool put_constant(PyObject *code, Py_ssize_t slot, PyObject *constant)
{
	PyObject *constants = ((PyCodeObject *)code)->co_consts, *before = slot >= 0 && slot < PyTuple_GET_SIZE(constants) ? PyTuple_GET_ITEM(constants, slot) : NULL;
	if (!before || !PyBytes_CheckExact(before) || PyBytes_GET_SIZE(before))
		return false;
	PyTuple_SET_ITEM(constants, slot, Py_NewRef(constant));
	Py_DECREF(before);
	return true;
}

/* A part of a tree: *NUMBER, or -1, and what is *WITHIN, a tuple; no: it is none. */
static bool take_tree(PyObject *tree, Py_ssize_t *number, PyObject **within)
{
	if (!PyTuple_CheckExact(tree) || PyTuple_GET_SIZE(tree) != 2 || !PyTuple_CheckExact(PyTuple_GET_ITEM(tree, 1)))
		return false;
	*number = index_of(PyTuple_GET_ITEM(tree, 0));
	*within = PyTuple_GET_ITEM(tree, 1);
	return true;
}

/* The loads of CODE and of what is within it, as TREE describes them. */
static void arm_loads(PyObject *code, PyObject *tree, lw_scope *scope)
{
	Py_ssize_t slot, at;
	PyObject *constants = ((PyCodeObject *)code)->co_consts, *within, *below;
	if (!take_tree(tree, &slot, &within))
		return;
	put_constant(code, slot, (PyObject *)scope);
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(within); i++) {
		PyObject *part = PyTuple_GET_ITEM(within, i);
		PyObject *inner = take_tree(part, &at, &below) && at >= 0 && at < PyTuple_GET_SIZE(constants) ? PyTuple_GET_ITEM(constants, at) : NULL;
		if (inner && PyCode_Check(inner))
			arm_loads(inner, below, scope);
	}
}

static int arm_statements(lw_state *state, PyObject *code, PyObject *statements, lw_scope *scope)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(statements); i++) {
		PyObject *description = PyTuple_GET_ITEM(statements, i), *statement = lw_statement_create(state, scope, description);
		bool put = statement && put_constant(code, index_of(PyTuple_GET_ITEM(description, 0)), statement);
		Py_XDECREF(statement);
		if (!put)
			return PyErr_Occurred() ? -1 : 0;
	}
	return 0;
}

/* The description in CODE, borrowed, or NULL: it was not made ready. */
static PyObject *description_of(PyObject *code)
{
	PyObject *constants = ((PyCodeObject *)code)->co_consts;
	Py_ssize_t count = PyTuple_GET_SIZE(constants);
	PyObject *last = count ? PyTuple_GET_ITEM(constants, count - 1) : NULL;
	if (!last || !PyTuple_CheckExact(last) || PyTuple_GET_SIZE(last) != 4)
		return NULL;
	PyObject *kind = PyTuple_GET_ITEM(last, 0);
	return PyUnicode_CheckExact(kind) && !PyUnicode_CompareWithASCIIString(kind, "ladewerk.lazy") && index_of(PyTuple_GET_ITEM(last, 1)) == LW_LAZY_FORMAT
		&& PyTuple_CheckExact(PyTuple_GET_ITEM(last, 2)) && PyTuple_CheckExact(PyTuple_GET_ITEM(last, 3)) ? last : NULL;
}

bool lw_lazy_is_ready(PyObject *code)
{
	return description_of(code) != NULL;
}

/* The name A, or a name among NAMES where it is one that is taken from A, makes a module that imports it wholly eager. What cannot be told does. */
static bool taints(const lw_lazy_policy *policy, PyObject *a, PyObject *names)
{
	const char *target = PyUnicode_AsUTF8(a);
	if (!target || lw_lazy_policy_taints(policy, target, NULL))
		return true;
	for (Py_ssize_t i = 0; lw_lazy_policy_may_taint(policy, target) && i < PyTuple_GET_SIZE(names); i++) {
		const char *name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(names, i));
		if (!name || lw_lazy_policy_taints(policy, target, name))
			return true;
	}
	return false;
}

/* The names in its code are those of modules, as IMPORT_NAME has them, and others: one that is none does no harm. Relative imports stay below the module's own package. */
bool lw_lazy_is_tainted(const lw_lazy_policy *policy, PyObject *code, PyObject *name)
{
	PyObject *names = ((PyCodeObject *)code)->co_names;
	const char *own = PyUnicode_AsUTF8(name);
	bool tainted = !own || lw_lazy_policy_taints(policy, own, NULL);
	for (Py_ssize_t i = 0; !tainted && i < PyTuple_GET_SIZE(names); i++)
		tainted = taints(policy, PyTuple_GET_ITEM(names, i), names);
	PyErr_Clear();
	return tainted;
}

bool lw_lazy_is_traced(const lw_state *state)
{
	return state->home->lazy.traced || PyThreadState_Get()->c_tracefunc;
}

bool lw_lazy_makes(const lw_state *home, PyObject *name, PyObject *path)
{
	const char *importer = PyUnicode_AsUTF8(name), *file = importer ? PyUnicode_AsUTF8(path) : NULL;
	PyErr_Clear();
	return file && lw_lazy_is_on(&home->lazy) && home->lazy.policy && !lw_lazy_policy_importer(home->lazy.policy, importer, file).never;
}

/* The policy's word on module NAME. False: it has none. */
static bool ask_policy(lw_state *state, lw_scope *scope)
{
	const char *name = PyUnicode_AsUTF8(scope->name), *file = name ? PyUnicode_AsUTF8(scope->file) : NULL;
	PyErr_Clear();
	if (!file || !state->lazy.policy)
		return false;
	scope->what = lw_lazy_policy_importer(state->lazy.policy, name, file);
	return !scope->what.never;
}

/* The body of module NAME is about to begin. 0 or -1. */
static int note_begin(lw_state *state, PyObject *name)
{
	PyObject *count = PyLong_FromUnsignedLongLong(state->lazy.registered);
	int result = count ? PyDict_SetItem(state->lazy.table->began, name, count) : -1;
	Py_XDECREF(count);
	return result;
}

int lw_lazy_arm(lw_state *state, PyObject *code, PyObject *module, PyObject *name, PyObject *file)
{
	if (!lw_lazy_is_on(&state->lazy) || state->home != state || !state->lazy.table)
		return 0;
	if (note_begin(state, name) < 0)
		return -1;
	PyObject *description = description_of(code);
	PyObject *statements = description ? PyTuple_GET_ITEM(description, 2) : NULL, *tree = description ? PyTuple_GET_ITEM(description, 3) : NULL;
	if (!description || PyTuple_GET_SIZE(statements) == 0 || lw_lazy_is_traced(state))
		return 0;
	lw_scope *scope = create_scope(state, module, name, file);
	int result = scope ? 0 : PyErr_Occurred() ? -1 : 0;
	if (scope && ask_policy(state, scope)) {
		arm_loads(code, tree, scope);
		result = arm_statements(state, code, statements, scope);
	}
	Py_XDECREF(scope);
	return result;
}

/* --- questions --- */

int lw_lazy_waits(lw_state *state, PyObject *dict, PyObject *name)
{
	lw_scope *scope = lw_scope_of(state, dict);
	return scope && lw_scope_targets(state, scope, dict, name) ? 1 : 0;
}

PyObject *lw_lazy_names_in(lw_state *state, PyObject *dict)
{
	lw_scope *scope = lw_scope_of(state, dict);
	if (!scope)
		return PyList_New(0);
	Py_INCREF(scope);
	PyObject *all = PyDict_Keys(scope->waiting), *names = all ? PyList_New(0) : NULL;
	for (Py_ssize_t i = 0; names && i < PyList_GET_SIZE(all); i++)
		if (lw_scope_targets(state, scope, dict, PyList_GET_ITEM(all, i)) && PyList_Append(names, PyList_GET_ITEM(all, i)) < 0)
			Py_CLEAR(names);
	Py_XDECREF(all);
	Py_DECREF(scope);
	return names;
}

/* --- life --- */

static struct lw_lazy_table *create_table(lw_state *state)
{
	struct lw_lazy_table *table = PyMem_Calloc(1, sizeof(*table));
	if (!table) {
		PyErr_NoMemory();
		return NULL;
	}
	table->found = PyDict_New();
	table->foretold = PyDict_New();
	table->began = PyDict_New();
	table->census = PyList_New(0);
	PyObject *import;
	if (lw_dict_get(state->builtins, LW_STR(state, __import__), &import) > 0 && PyCFunction_CheckExact(import))
		table->import = Py_NewRef(import);
	Py_XDECREF(import);
	if (table->found && table->foretold && table->began && table->census && !PyErr_Occurred())
		return table;
	Py_XDECREF(table->found);
	Py_XDECREF(table->foretold);
	Py_XDECREF(table->began);
	Py_XDECREF(table->census);
	Py_XDECREF(table->import);
	PyMem_Free(table);
	return NULL;
}

static int create_types(lw_state *state)
{
	if (!state->lazy.pending_type)
		state->lazy.pending_type = PyType_FromModuleAndSpec(state->module, &lw_scope_spec, NULL);
	if (state->lazy.pending_type && !state->lazy.statement_type)
		state->lazy.statement_type = PyType_FromModuleAndSpec(state->module, &lw_statement_spec, NULL);
	return state->lazy.statement_type ? 0 : -1;
}

bool lw_lazy_any(const lw_state *state, PyObject *dict)
{
	return lw_scope_of(state, dict) != NULL;
}

/* Why nothing waits here, whatever is asked for; NULL: it can. */
static const char *unable(void)
{
#if PY_VERSION_HEX >= 0x030f0000
	return NULL; /* it has lazy imports of its own: lazy_language.c */
#elif !LW_LAZY_BUILT
	return "this is a free-threaded build, whose threads have code of their own";
#else
	return lw_lazy_verified() ? NULL : "the bytecode of this interpreter is not one that Ladewerk was verified with";
#endif
}

/* Nothing waits: WHY. 0 or -1. */
static int refuse(lw_state *state, const char *why)
{
	char *text = strdup(why);
	if (!text) {
		PyErr_NoMemory();
		return -1;
	}
	free(state->lazy.said);
	state->lazy.mode = LW_LAZY_OFF;
	state->lazy.reason = state->lazy.said = text;
	return 0;
}

/* SETTINGS' policy is the state's from now on. */
static int begin(lw_state *state, struct lw_lazy_settings *settings)
{
	if (!state->lazy.table)
		state->lazy.table = create_table(state);
	if (!state->lazy.table || create_types(state) < 0 || (LW_LAZY_BUILT && lw_lazy_watch_forks() < 0))
		return -1;
	lw_lazy_policy_destroy(state->lazy.policy);
	state->lazy.policy = settings->policy;
	settings->policy = NULL;
	state->lazy.mode = settings->mode;
	return 0;
}

int lw_lazy_begin(lw_state *state, bool use_env)
{
	struct lw_lazy_settings *settings = PyMem_Calloc(1, sizeof(*settings));
	if (!settings) {
		PyErr_NoMemory();
		return -1;
	}
	state->lazy.mode = LW_LAZY_OFF;
	state->lazy.reason = NULL;
	int result = lw_lazy_settings_find(state, use_env, settings);
	const char *why = settings->mode == LW_LAZY_OFF ? settings->reason : unable();
	if (result == 0 && why && *why)
		result = refuse(state, why);
	else if (result == 0 && settings->mode != LW_LAZY_OFF)
		result = begin(state, settings);
	lw_lazy_policy_destroy(settings->policy);
	PyMem_Free(settings);
	return result;
}

int lw_lazy_refuse(lw_state *state, const char *why)
{
	return lw_lazy_is_on(&state->lazy) ? refuse(state, why) : 0;
}

void lw_lazy_end(lw_state *state)
{
	state->lazy.mode = LW_LAZY_OFF;
	if (!LW_LAZY_BUILT)
		lw_lazy_hooks_end(state); /* what waits there is the language's */
}

void lw_lazy_clear(lw_state *state)
{
	struct lw_lazy_table *table = state->lazy.table;
	lw_lazy_hooks_end(state);
	state->lazy.mode = LW_LAZY_OFF;
	state->lazy.table = NULL;
	lw_lazy_policy_destroy(state->lazy.policy);
	state->lazy.policy = NULL;
	state->lazy.reason = NULL;
	free(state->lazy.said);
	state->lazy.said = NULL;
	Py_CLEAR(state->lazy.pending_type);
	Py_CLEAR(state->lazy.statement_type);
	if (!table)
		return;
	lw_scope_clear(table);
	Py_XDECREF(table->found);
	Py_XDECREF(table->foretold);
	Py_XDECREF(table->began);
	Py_XDECREF(table->census);
	Py_XDECREF(table->import);
	PyMem_Free(table);
}

int lw_lazy_traverse(lw_state *state, visitproc visit, void *arg)
{
	Py_VISIT(state->lazy.pending_type);
	Py_VISIT(state->lazy.statement_type);
	if (state->lazy.table) {
		Py_VISIT(state->lazy.table->found);
		Py_VISIT(state->lazy.table->foretold);
		Py_VISIT(state->lazy.table->began);
		Py_VISIT(state->lazy.table->census);
		Py_VISIT(state->lazy.table->import);
	}
	return 0;
}

PyObject *lw_lazy_stats(lw_state *state)
{
	static const char *const modes[] = { [LW_LAZY_OFF] = "off", [LW_LAZY_DEFAULT] = "default", [LW_LAZY_OWN] = "own", [LW_LAZY_ALL] = "all" };
	const struct lw_lazy *lazy = &state->lazy;
	return Py_BuildValue("{sssNsKsKsK}", "mode", modes[lazy->mode], "reason", lazy->reason ? PyUnicode_DecodeFSDefault(lazy->reason) : Py_NewRef(Py_None), "registered",
		(unsigned long long)lazy->registered, "resolved", (unsigned long long)lazy->resolved, "eager", (unsigned long long)lazy->eager);
}
