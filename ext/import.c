/* SPDX-License-Identifier: MIT */
/*
 * import: the function in the place of importlib._bootstrap._find_and_load.
 *
 * The interpreter's C code and importlib look that name up at every import of a module that is not (wholly) there. This function does what the
 * stock one does, step by step, for modules that come from files, and hands everything else to the stock functions:
 *
 *   module in sys.modules           return it; being initialised, or None: stock
 *   take the module's lock          CPython's own lock object, by its own methods
 *   import the parent, look again   as stock, by version (struct lw_flavour)
 *   ask sys.meta_path in order      finders ahead of ours under the import lock, as stock; BuiltinImporter and FrozenImporter by
 *                                   the same C functions they use; ours: the index; PathFinder: only if ours could not tell
 *   load                            source files here (load.c), whoever has found them (adopt.c); any other spec by stock _load_unlocked()
 *   bind in the parent, unlock
 *
 * After the lock is taken, stepping aside means calling stock _find_and_load_unlocked(). It is decided before any finder has been called, or
 * (ours could not tell) by going on to PathFinder: no finder is ever asked twice.
 *
 * No lock of ours is held while a finder, a loader or a module body runs.
 */
#include "lazy.h"
#include "observe.h"

/* How many of our imports are under way on this thread: the outermost one's return is when imports fall quiet. */
static _Thread_local unsigned depth;

/*
 * Beyond this many within each other stock takes over: its frames are what the recursion limit counts, while ours are on the C stack only.
 * (Stock itself ends at about 160 with the usual limit.)
 */
enum { DEPTH_MAX = 100 };

/*
 * A dict that the PyDict functions may be used on. Once an engine was made, the interpreter's own is of a type that routes what comes by the mapping
 * protocol to the engine that asks; the PyDict functions know what it stores, the interpreter's modules, and whoever got here was routed already.
 */
static bool is_plain(const lw_state *state, PyObject *modules)
{
	return PyDict_CheckExact(modules) || Py_TYPE(modules) == state->home->routing;
}

/* sys.modules; of an engine with rules, what is behind the one that asks them: who got here was asked already. 1, 0, -1. */
static int sys_modules(lw_state *state, PyObject **modules)
{
	int found = lw_dict_get(state->sys_dict, LW_STR(state, modules), modules);
#if !defined(Py_GIL_DISABLED) /* there, both may be replaced at this moment */
	if (found > 0 && *modules == state->shown)
		Py_SETREF(*modules, Py_NewRef(state->stored));
#endif
	return found;
}

static PyObject *modules_dict(lw_state *state)
{
	PyObject *modules;
	if (sys_modules(state, &modules) < 0)
		return NULL;
	if (modules && !is_plain(state, modules))
		Py_CLEAR(modules);
	return modules;
}

PyObject *lw_modules(lw_state *state)
{
	PyObject *modules;
	if (sys_modules(state, &modules) == 0)
		PyErr_SetString(PyExc_RuntimeError, "lost sys.modules");
	return modules;
}

PyObject *lw_modules_get(lw_state *state, PyObject *modules, PyObject *name)
{
	PyObject *module;
	if (!is_plain(state, modules))
		return PyObject_GetItem(modules, name);
	if (lw_dict_get(modules, name, &module) == 0)
		PyErr_SetObject(PyExc_KeyError, name);
	return module;
}

int lw_modules_set(lw_state *state, PyObject *modules, PyObject *name, PyObject *module)
{
	return is_plain(state, modules) ? PyDict_SetItem(modules, name, module) : PyObject_SetItem(modules, name, module);
}

int lw_modules_del(lw_state *state, PyObject *modules, PyObject *name)
{
	return is_plain(state, modules) ? PyDict_DelItem(modules, name) : PyObject_DelItem(modules, name);
}

int lw_is_initializing(lw_state *state, PyObject *module)
{
	PyObject *spec, *flag;
	int found = lw_attr_get(module, LW_STR(state, __spec__), &spec);
	if (found <= 0)
		return found;
	found = spec == Py_None ? 0 : lw_attr_get(spec, LW_STR(state, _initializing), &flag);
	Py_DECREF(spec);
	if (found <= 0)
		return found;
	int truth = PyObject_IsTrue(flag);
	Py_DECREF(flag);
	return truth;
}

static PyObject *call_bootstrap(lw_state *state, PyObject *name, PyObject *a, PyObject *b)
{
	PyObject *function;
	int found = lw_dict_get(state->bootstrap_dict, name, &function);
	if (found <= 0)
		return found < 0 ? NULL : PyErr_Format(PyExc_ImportError, "importlib._bootstrap.%U has gone", name);
	PyObject *args[] = { a, b };
	PyObject *result = PyObject_Vectorcall(function, args, b ? 2 : 1, NULL);
	Py_DECREF(function);
	return result;
}

/* --- finding --- */

enum who { WHO_BUILTIN, WHO_FROZEN, WHO_OURS, WHO_PATH, WHO_OTHER };

static enum who who_is(const lw_state *state, PyObject *finder)
{
	if (finder == state->finder)
		return WHO_OURS;
	if (finder == state->path_finder)
		return WHO_PATH;
	if (finder == state->builtin_importer)
		return WHO_BUILTIN;
	return finder == state->frozen_importer ? WHO_FROZEN : WHO_OTHER;
}

/* sys.meta_path, as stock walks along it, with ours and PathFinder on it. NULL without exception: step aside (*WHY). */
static PyObject *list_of_finders(lw_state *state, enum lw_aside *why)
{
	PyObject *live, *finder;
	*why = LW_ASIDE_META_PATH;
	if (lw_dict_get(state->sys_dict, LW_STR(state, meta_path), &live) < 0)
		return NULL;
	if (live && !PyList_CheckExact(live))
		Py_CLEAR(live);
	if (live && state->flavour.copies_finders)
		Py_SETREF(live, PyList_GetSlice(live, 0, PY_SSIZE_T_MAX));
	bool ours = false, path = false;
	for (Py_ssize_t i = 0; live && (finder = lw_list_item(live, i)); i++) {
		enum who who = who_is(state, finder);
		Py_DECREF(finder);
		ours |= who == WHO_OURS;
		path |= who == WHO_PATH;
	}
	if (!ours || !path)
		Py_CLEAR(live);
	return live;
}

int lw_import_lock(lw_state *state)
{
	PyObject *locked = PyObject_CallNoArgs(state->acquire_lock);
	Py_XDECREF(locked);
	return locked ? 0 : -1;
}

void lw_import_unlock(lw_state *state)
{
	struct lw_error error;
	lw_error_save(&error);
	PyObject *released = PyObject_CallNoArgs(state->release_lock);
	Py_XDECREF(released);
	lw_error_restore(&error);
}

/* Whether a call of FUNCTION is an ordinary one for sure: a function or method in C, or one in Python without a parameter `engine`. Never fails. */
static bool is_ordinary(const lw_state *state, PyObject *function)
{
	if (PyCFunction_Check(function))
		return true;
	if (PyMethod_Check(function))
		function = PyMethod_GET_FUNCTION(function);
	if (!PyFunction_Check(function))
		return false;
	const PyCodeObject *code = (PyCodeObject *)PyFunction_GET_CODE(function);
	for (Py_ssize_t i = 0; i < code->co_argcount + code->co_kwonlyargcount; i++)
		if (PyTuple_GET_ITEM(code->co_localsplusnames, i) == LW_STR(state, engine)) /* names in code are interned */
			return false;
	return true;
}

/* Stock's way with a finder without find_spec(), which it has up to 3.11: 1 (*SPEC), 0 (none), -1. */
static int ask_legacy(lw_state *state, PyObject *finder, PyObject *name, PyObject *path, PyObject **spec)
{
	PyObject *function;
	int found = lw_dict_get(state->bootstrap_dict, LW_STR(state, _find_spec_legacy), &function);
	if (found <= 0)
		return found;
	PyObject *args[] = { finder, name, path };
	*spec = PyObject_Vectorcall(function, args, 3, NULL);
	Py_DECREF(function);
	return 1;
}

/*
 * finder.find_spec(name, path, None) under the import lock. An engine has its own way of asking one that may want more; and one of the process where what it
 * imports would be taken for the engine's (lw_is_diverted()). 1 (*SPEC), 0 (no such method), -1.
 */
static int ask(lw_state *state, PyObject *finder, PyObject *name, PyObject *path, PyObject **spec)
{
	PyObject *find_spec;
	path = path ? path : Py_None;
	if (lw_import_lock(state) < 0)
		return -1;
	bool other = state->asker && who_is(state, finder) == WHO_OTHER;
	int result = lw_attr_get(finder, LW_STR(state, find_spec), &find_spec);
	if (other && result >= 0 && (!result || !is_ordinary(state, find_spec) || lw_is_diverted(state))) {
		PyObject *args[] = { finder, name, path };
		*spec = PyObject_Vectorcall(state->asker, args, 3, NULL);
		result = 1;
	} else if (result > 0) {
		PyObject *args[] = { name, path, Py_None };
		*spec = PyObject_Vectorcall(find_spec, args, 3, NULL);
	} else if (result == 0) {
		result = ask_legacy(state, finder, name, path, spec);
	}
	Py_XDECREF(find_spec);
	if (result > 0 && !*spec)
		result = -1;
	lw_import_unlock(state);
	return result;
}

/* Whether the built-in or frozen importer may know NAME: what its own find_spec() asks first. 1, 0, -1. */
static int may_know(lw_state *state, enum who who, PyObject *name)
{
	bool same_table = who == WHO_BUILTIN ? state->builtin_table == PyImport_Inittab : state->frozen_table == PyImport_FrozenModules;
	PyObject *names = !same_table ? NULL : who == WHO_BUILTIN ? state->builtin_names : state->frozen_names;
	int listed = names ? PySet_Contains(names, name) : 1;
	if (listed <= 0)
		return listed;
	PyObject *answer = PyObject_CallOneArg(who == WHO_BUILTIN ? state->is_builtin : state->find_frozen, name);
	if (!answer)
		return -1;
	int result = who == WHO_BUILTIN ? PyObject_IsTrue(answer) : answer != Py_None;
	Py_DECREF(answer);
	return result;
}

/*
 * A finder imported the module itself while it was asked: stock takes the spec of what is there, if it has one. Replaces *SPEC.
 * FOUND as returned; 1, -1.
 */
static int heed_side_effects(lw_state *state, PyObject *modules, PyObject *name, PyObject **spec, enum lw_found *found)
{
	PyObject *module, *there;
	int present = lw_dict_get(modules, name, &module);
	if (present <= 0)
		return present < 0 ? -1 : 1;
	int has = lw_attr_get(module, LW_STR(state, __spec__), &there);
	Py_DECREF(module);
	if (has < 0)
		return -1;
	if (has && there != Py_None) {
		Py_XSETREF(*spec, there);
		*found = LW_FOUND_SPEC;
	} else if (has) {
		Py_DECREF(there);
	}
	return 1;
}

static uint64_t validating(lw_session *session)
{
	lw_enter(session);
	uint64_t ns = lw_session_validating(session);
	lw_session_leave(session);
	return ns;
}

static enum lw_found timed_find(lw_state *state, PyObject *name, PyObject *path, struct lw_hit *hit, PyObject **spec, enum lw_aside *why)
{
	if (!lw_current_span)
		return lw_find(state, name, path, hit, spec, why);
	uint64_t before = validating(state->session);
	enum lw_phase phase = lw_phase(LW_PHASE_FIND);
	enum lw_found found = lw_find(state, name, path, hit, spec, why);
	lw_phase(phase);
	lw_phase_move(LW_PHASE_FIND, LW_PHASE_VALIDATE, (int64_t)(validating(state->session) - before));
	return found;
}

/* An engine has modules that are not searched for: 1 (*SPEC), 0, -1. */
static int ask_giver(lw_state *state, PyObject *name, PyObject **spec)
{
	Py_ssize_t len = PyUnicode_GET_LENGTH(name), dot = PyUnicode_FindChar(name, '.', 0, len, 1);
	PyObject *first = dot < 0 ? Py_NewRef(name) : PyUnicode_Substring(name, 0, dot);
	int listed = first ? PySet_Contains(state->given_names, first) : -1;
	Py_XDECREF(first);
	if (listed <= 0)
		return listed;
	*spec = PyObject_CallOneArg(state->given, name);
	if (*spec != Py_None)
		return *spec ? 1 : -1;
	Py_CLEAR(*spec);
	return 0;
}

struct request {
	PyObject *name, *import;	/* borrowed */
	PyObject *modules;		/* strong: sys.modules, as last looked at */
	PyObject *parent, *child;	/* strong; NULL for a top-level name */
	PyObject *parent_spec;		/* strong or NULL */
	PyObject *path;			/* strong or NULL */
	bool parent_ran;		/* the parent was imported just now: its body may have changed anything */
	bool asked;			/* and so may a finder that was asked */
};

/* sys.modules may be another one once somebody's code has run: 1; 0: one that we cannot work with; -1. */
static int look_anew(lw_state *state, struct request *request)
{
	PyObject *modules = modules_dict(state);
	if (!modules)
		return PyErr_Occurred() ? -1 : 0;
	Py_SETREF(request->modules, modules);
	return 1;
}

/* Somebody else's finder has found SPEC: SOURCE (HIT), if it is one of ours to load; SPEC; ERROR. */
static enum lw_found found_by_other(lw_state *state, PyObject *name, PyObject *spec, struct lw_hit *hit)
{
	enum lw_aside why;
	int ours = state->asker ? 0 : lw_bootstrap_intact(state, &why); /* an engine's modules have loaders of their own; the finder may have patched stock's */
	if (ours > 0)
		ours = lw_adopt(state, name, spec, hit);
	if (ours)
		return ours < 0 ? LW_FOUND_ERROR : LW_FOUND_SOURCE;
	lw_served(state, LW_SERVED_FOREIGN);
	lw_span_how(LW_HOW_FOREIGN);
	return LW_FOUND_SPEC;
}

/* PathFinder's turn is ours, wherever finders were inserted; ASIDE: it has to be asked itself, as others have patched what we rely on, or we could not tell. */
static enum lw_found take_turn(lw_state *state, const struct request *request, struct lw_hit *hit, PyObject **spec)
{
	enum lw_aside why;
	int intact = request->asked ? lw_bootstrap_intact(state, &why) : 1;
	if (intact < 0)
		return LW_FOUND_ERROR;
	enum lw_found found = intact ? timed_find(state, request->name, request->path, hit, spec, &why) : LW_FOUND_ASIDE;
	if (found == LW_FOUND_ASIDE)
		lw_stepped_aside(state, why);
	return found;
}

/* What FINDER, who is WHO, says itself. MISS: nothing. */
static enum lw_found ask_itself(lw_state *state, PyObject *finder, enum who who, struct request *request, struct lw_hit *hit, PyObject **spec)
{
	request->asked |= who == WHO_OTHER;
	int asked = ask(state, finder, request->name, request->path, spec);
	if (asked < 0)
		return LW_FOUND_ERROR;
	if (asked && *spec == Py_None)
		Py_CLEAR(*spec);
	if (!asked || !*spec)
		return LW_FOUND_MISS;
	if (who == WHO_OTHER)
		return found_by_other(state, request->name, *spec, hit);
	if (who != WHO_PATH)
		lw_stepped_aside(state, LW_ASIDE_BUILTIN);
	lw_span_how(who == WHO_PATH ? LW_HOW_STOCK : LW_HOW_BUILTIN);
	return LW_FOUND_SPEC;
}

/* What FINDER has, whose turn it is. MISS: nothing; *PROVEN: nor has PathFinder. */
static enum lw_found find_by(lw_state *state, PyObject *finder, struct request *request, bool *proven, struct lw_hit *hit, PyObject **spec)
{
	enum who who = who_is(state, finder);
	enum lw_found found = LW_FOUND_ASIDE;
	if (who == WHO_OURS || (who == WHO_PATH && *proven))
		return LW_FOUND_MISS;
	if (who == WHO_BUILTIN || who == WHO_FROZEN) {
		int may = may_know(state, who, request->name);
		if (may <= 0)
			return may < 0 ? LW_FOUND_ERROR : LW_FOUND_MISS;
	}
	if (who == WHO_PATH) {
		found = take_turn(state, request, hit, spec);
		*proven = found == LW_FOUND_MISS;
	}
	return found == LW_FOUND_ASIDE ? ask_itself(state, finder, who, request, hit, spec) : found;
}

/* importlib._bootstrap._find_spec(), for a name that is not in sys.modules. *SPEC: of what SPEC, FILE and, where somebody else has found it, SOURCE say. */
static enum lw_found find(lw_state *state, PyObject *finders, struct request *request, struct lw_hit *hit, PyObject **spec)
{
	bool proven = false;
	PyObject *finder;
	*spec = NULL;
	int given = state->given ? ask_giver(state, request->name, spec) : 0;
	if (given)
		return given < 0 ? LW_FOUND_ERROR : LW_FOUND_SPEC;
	enum lw_found found = LW_FOUND_MISS;
	for (Py_ssize_t i = 0; found == LW_FOUND_MISS && (finder = lw_list_item(finders, i)); i++) {
		found = find_by(state, finder, request, &proven, hit, spec);
		Py_DECREF(finder);
	}
	if (found == LW_FOUND_MISS && proven)
		lw_served(state, LW_SERVED_MISS);
	if (found != LW_FOUND_MISS && found != LW_FOUND_ERROR && (look_anew(state, request) < 0 || heed_side_effects(state, request->modules, request->name, spec, &found) < 0))
		found = LW_FOUND_ERROR;
	if (found == LW_FOUND_ERROR)
		Py_CLEAR(*spec);
	return found;
}

/* --- the parent --- */

static PyObject *no_module(PyObject *name, PyObject *not_a_package)
{
	PyObject *message = not_a_package ? PyUnicode_FromFormat("No module named %R; %R is not a package", name, not_a_package)
		: PyUnicode_FromFormat("No module named %R", name);
	PyObject *args = message ? PyTuple_Pack(1, message) : NULL;
	PyObject *kwargs = args ? Py_BuildValue("{sO}", "name", name) : NULL;
	PyObject *error = kwargs ? PyObject_Call(PyExc_ModuleNotFoundError, args, kwargs) : NULL;
	if (error) {
		if (not_a_package) /* raise ... from None */
			PyException_SetCause(error, NULL);
		PyErr_SetObject(PyExc_ModuleNotFoundError, error);
	}
	Py_XDECREF(message);
	Py_XDECREF(args);
	Py_XDECREF(kwargs);
	Py_XDECREF(error);
	return NULL;
}

/* sys.modules[request->name]: 1 (*MODULE; settles the import), 0, -1. */
static int already_there(lw_state *state, const struct request *request, PyObject **module)
{
	int found = lw_dict_get(request->modules, request->name, module);
	if (found > 0 && *module == Py_None && state->flavour.none_is_absent) {
		Py_CLEAR(*module);
		return 0;
	}
	return found;
}

static int import_parent(struct request *request)
{
	request->parent_ran = true;
	PyObject *imported = PyObject_CallOneArg(request->import, request->parent);
	Py_XDECREF(imported);
	return imported ? 0 : -1;
}

static int wait_for_parent(lw_state *state, struct request *request)
{
	PyObject *flag;
	if (!state->flavour.waits_for_parent)
		return 0;
	int found = lw_attr_get(request->parent_spec, LW_STR(state, _initializing), &flag);
	if (found <= 0)
		return found;
	int truth = PyObject_IsTrue(flag);
	Py_DECREF(flag);
	return truth > 0 ? import_parent(request) : truth;
}

/* Import the parent and take its path and spec: 0; 1 (*MODULE: it is there by now); -1. */
static int prepare_parent(lw_state *state, struct request *request, PyObject **module)
{
	int present = PyDict_Contains(request->modules, request->parent);
	if (present < 0 || (!present && (import_parent(request) < 0 || look_anew(state, request) < 0)))
		return -1;
	int there = already_there(state, request, module);
	if (there)
		return there;
	PyObject *parent_module = lw_modules_get(state, request->modules, request->parent);
	if (!parent_module)
		return -1;
	int result = lw_attr_get(parent_module, LW_STR(state, __path__), &request->path);
	if (result == 0) {
		no_module(request->name, request->parent);
		result = -1;
	}
	if (result > 0) {
		request->parent_spec = PyObject_GetAttr(parent_module, LW_STR(state, __spec__));
		result = request->parent_spec ? wait_for_parent(state, request) : -1;
	}
	bool waits = result >= 0 && PyModule_Check(parent_module) && lw_lazy_any(state, PyModule_GetDict(parent_module));
	if (waits)
		result = lw_lazy_before_child(state->home, PyModule_GetDict(parent_module), request->child);
	Py_DECREF(parent_module);
	if (result < 0 || !(waits || state->flavour.waits_for_parent))
		return result < 0 ? -1 : 0;
	if (look_anew(state, request) < 0)
		return -1;
	return already_there(state, request, module);
}

/* parent_spec._uninitialized_submodules.append(child) or .pop() */
static int track(lw_state *state, const struct request *request, bool enter)
{
	int truth = request->parent_spec ? PyObject_IsTrue(request->parent_spec) : 0;
	if (truth <= 0)
		return truth;
	PyObject *list = PyObject_GetAttr(request->parent_spec, LW_STR(state, _uninitialized_submodules));
	if (!list)
		return -1;
	Py_ssize_t size = PyList_CheckExact(list) ? PyList_GET_SIZE(list) : -1;
	int result;
	if (size >= 0 && enter) {
		result = PyList_Append(list, request->child);
	} else if (size > 0) {
		result = PyList_SetSlice(list, size - 1, size, NULL);
	} else {
		PyObject *done = enter ? PyObject_CallMethod(list, "append", "O", request->child) : PyObject_CallMethod(list, "pop", NULL);
		Py_XDECREF(done);
		result = done ? 0 : -1;
	}
	Py_DECREF(list);
	return result;
}

/* CHILD is to be bound in its PARENT; no: there is, or waits, what stock would have bound over it by now. 1, 0, -1. */
static int child_is_bound(lw_state *state, PyObject *parent, const struct request *request, PyObject *module)
{
	PyObject *dict = PyModule_Check(parent) ? PyModule_GetDict(parent) : NULL;
	int after = dict ? lw_lazy_came_after(state->home, dict, request->name, request->child) : 0;
	if (after)
		return after < 0 ? -1 : 0;
	return dict && lw_lazy_any(state, dict) ? lw_lazy_binds_child(state->home, dict, request->child, module) : 1;
}

static int bind_in_parent(lw_state *state, const struct request *request, PyObject *module)
{
	PyObject *modules = lw_modules(state); /* the body may have put another one there */
	PyObject *parent_module = modules ? lw_modules_get(state, modules, request->parent) : NULL;
	Py_XDECREF(modules);
	if (!parent_module)
		return -1;
	int result = child_is_bound(state, parent_module, request, module);
	if (result > 0)
		result = PyObject_SetAttr(parent_module, request->child, module);
	Py_DECREF(parent_module);
	if (result < 0 && PyErr_ExceptionMatches(PyExc_AttributeError)) {
		PyErr_Clear();
		result = PyErr_WarnFormat(PyExc_ImportWarning, 1, "Cannot set an attribute on %R for child module %R", request->parent, request->child);
	}
	return result;
}

/* 3.15: lazily imported submodules become attributes. */
static int set_lazy_attributes(lw_state *state, const struct request *request, PyObject *module)
{
	if (!state->set_lazy_attributes)
		return 0;
	PyObject *args[] = { module, request->name };
	PyObject *done = PyObject_Vectorcall(state->set_lazy_attributes, args, 2, NULL);
	if (!done && PyErr_ExceptionMatches(PyExc_Exception)) {
		struct lw_error error;
		lw_error_save(&error);
		int result = PyErr_WarnFormat(PyExc_ImportWarning, 1, "Cannot set lazy attributes on %R: %R", request->name, error.value);
		lw_error_drop(&error);
		return result;
	}
	Py_XDECREF(done);
	return done ? 0 : -1;
}

/* --- loading --- */

/* An engine with rules wants to see the package before and after a module of it is executed. 0 or -1. */
static int attend(const lw_state *state, PyObject *name)
{
	PyObject *done = state->attend ? PyObject_CallOneArg(state->attend, name) : Py_NewRef(Py_None);
	Py_XDECREF(done);
	return done ? 0 : -1;
}

/* Whether HIT is still ours to load, by SPEC if somebody else has found it, after others' code may have run: 1, 0, -1. */
static int is_still_ours(lw_state *state, struct request *request, const struct lw_hit *hit, PyObject *spec)
{
	int known = look_anew(state, request);
	return known > 0 && spec ? lw_is_adopted(state, request->name, spec, hit) : known;
}

static PyObject *load_by_stock(lw_state *state, PyObject *spec)
{
	enum lw_phase phase = lw_phase(LW_PHASE_EXECUTE);
	PyObject *module = call_bootstrap(state, LW_STR(state, _load_unlocked), spec, NULL);
	lw_phase(phase);
	return module;
}

/* What was found as HIT (freed), by stock after all: by SPEC, or the one that stands for HIT. */
static PyObject *load_hit_by_stock(lw_state *state, PyObject *name, struct lw_hit *hit, PyObject *spec)
{
	PyObject *theirs = spec ? Py_NewRef(spec) : lw_make_spec(state, name, hit);
	PyMem_RawFree(hit);
	lw_span_how(LW_HOW_STOCK_LOADER);
	lw_served(state, LW_SERVED_STOCK_LOADER);
	PyObject *module = theirs ? load_by_stock(state, theirs) : NULL;
	Py_XDECREF(theirs);
	return module;
}

/* Frees HIT. */
static PyObject *load_source(lw_state *state, struct request *request, struct lw_hit *hit, PyObject *spec)
{
	PyObject *module = NULL;
	int ours = is_still_ours(state, request, hit, spec);
	if (ours > 0)
		module = lw_load_source(state, request->name, hit, spec, request->modules);
	else if (ours == 0)
		module = load_hit_by_stock(state, request->name, hit, spec);
	else
		PyMem_RawFree(hit);
	if (module && attend(state, request->name) < 0)
		Py_CLEAR(module);
	return module;
}

static PyObject *load(lw_state *state, struct request *request, enum lw_found found, struct lw_hit *hit, PyObject *spec)
{
	if ((found == LW_FOUND_SOURCE && attend(state, request->name) < 0) || track(state, request, true) < 0) {
		if (found == LW_FOUND_SOURCE)
			PyMem_RawFree(hit);
		return NULL;
	}
	PyObject *module;
	if (found == LW_FOUND_SOURCE) {
		module = load_source(state, request, hit, spec);
	} else {
		if (found == LW_FOUND_FILE)
			lw_span_how(LW_HOW_STOCK_LOADER);
		module = load_by_stock(state, spec);
		if (module && found == LW_FOUND_FILE)
			lw_served(state, LW_SERVED_STOCK_LOADER);
	}
	struct lw_error error;
	lw_error_save(&error);
	int tracked = track(state, request, false);
	if (lw_error_set(&error))
		lw_error_restore(&error);
	else if (tracked < 0)
		Py_CLEAR(module);
	return module;
}

/*
 * sys.meta_path, and everything as we know it. NULL without exception: step aside (*WHY). Asked when the parent is there: packages
 * add finders and patch loaders for the sake of their submodules.
 */
static PyObject *finders(lw_state *state, const struct request *request, enum lw_aside *why)
{
	int intact = request->parent_ran ? lw_bootstrap_intact(state, why) : 1;
	return intact > 0 ? list_of_finders(state, why) : NULL;
}

static PyObject *stock_unlocked(lw_state *state, const struct request *request, enum lw_aside why)
{
	lw_stepped_aside(state, why);
	PyObject *module = call_bootstrap(state, LW_STR(state, _find_and_load_unlocked), request->name, request->import);
	return lw_lazy_after_stock(state->home, request->name, module);
}

/* importlib._bootstrap._find_and_load_unlocked(). */
static PyObject *find_and_load_unlocked(lw_state *state, struct request *request)
{
	PyObject *module = NULL, *spec;
	enum lw_aside why;
	if (request->parent) {
		int there = prepare_parent(state, request, &module);
		if (there)
			return module;
	}
	PyObject *list = finders(state, request, &why);
	if (!list)
		return PyErr_Occurred() ? NULL : stock_unlocked(state, request, why);
	struct lw_hit *hit = PyMem_RawMalloc(sizeof(*hit));
	if (!hit) {
		Py_DECREF(list);
		return PyErr_NoMemory();
	}
	enum lw_found found = find(state, list, request, hit, &spec);
	Py_DECREF(list);
	if (found != LW_FOUND_SOURCE)
		PyMem_RawFree(hit);
	if (found == LW_FOUND_ERROR)
		return NULL;
	if (found == LW_FOUND_MISS)
		return no_module(request->name, NULL);
	module = load(state, request, found, hit, spec);
	Py_XDECREF(spec);
	if (module && request->parent && bind_in_parent(state, request, module) < 0)
		Py_CLEAR(module);
	if (module && set_lazy_attributes(state, request, module) < 0)
		Py_CLEAR(module);
	return module;
}

static int split_name(struct request *request)
{
	Py_ssize_t len = PyUnicode_GET_LENGTH(request->name);
	Py_ssize_t dot = PyUnicode_FindChar(request->name, '.', 0, len, -1);
	if (dot == -2)
		return -1;
	if (dot <= 0) /* ".x" has an empty parent: a top-level name to stock */
		return dot < 0 ? 0 : 1;
	request->parent = PyUnicode_Substring(request->name, 0, dot);
	request->child = PyUnicode_Substring(request->name, dot + 1, len);
	return request->parent && request->child ? 0 : -1;
}

/* With the module's lock held. */
static PyObject *locked(lw_state *state, PyObject *name, PyObject *import, PyObject *modules)
{
	struct request request = { .name = name, .import = import, .modules = Py_NewRef(modules) };
	int odd = split_name(&request);
	PyObject *module = odd == 0 ? find_and_load_unlocked(state, &request) : odd > 0 ? stock_unlocked(state, &request, LW_ASIDE_NAME) : NULL;
	Py_DECREF(request.modules);
	Py_XDECREF(request.parent);
	Py_XDECREF(request.child);
	Py_XDECREF(request.parent_spec);
	Py_XDECREF(request.path);
	return module;
}

static int release(lw_state *state, PyObject *lock)
{
	struct lw_error error;
	lw_error_save(&error);
	PyObject *released = PyObject_CallMethodNoArgs(lock, LW_STR(state, release));
	Py_XDECREF(released);
	if (lw_error_set(&error)) {
		lw_error_restore(&error);
		return 0;
	}
	return released ? 0 : -1;
}

/* 3.15 raises the event and sees to the parents before it takes the lock. */
static int before_lock(lw_state *state, PyObject *name, PyObject *import)
{
	PyObject *path, *meta_path, *hooks;
	if (!state->flavour.parents_first)
		return 0;
	if (lw_dict_get(state->sys_dict, LW_STR(state, path), &path) < 0 || lw_dict_get(state->sys_dict, LW_STR(state, meta_path), &meta_path) < 0
			|| lw_dict_get(state->sys_dict, LW_STR(state, path_hooks), &hooks) < 0)
		return -1;
	int result = PySys_Audit("import", "OOOOO", name, Py_None, path ? path : Py_None, meta_path ? meta_path : Py_None, hooks ? hooks : Py_None);
	Py_XDECREF(path);
	Py_XDECREF(meta_path);
	Py_XDECREF(hooks);
	if (result < 0)
		return -1;
	PyObject *done = call_bootstrap(state, LW_STR(state, _resolve_parents), name, import);
	Py_XDECREF(done);
	return done ? 0 : -1;
}

/* lock.acquire(), told to observers if somebody else has it. A new reference or NULL. */
static PyObject *call_acquire(lw_state *state, PyObject *lock)
{
	PyObject *owner = NULL;
	if (lw_current_span && lw_attr_get(lock, LW_STR(state, owner), &owner) < 0)
		PyErr_Clear();
	bool waits = owner && owner != Py_None;
	Py_XDECREF(owner);
	if (waits)
		lw_wait_begin(state);
	PyObject *acquired = PyObject_CallMethodNoArgs(lock, LW_STR(state, acquire));
	if (waits) {
		struct lw_error error;
		lw_error_save(&error);
		lw_wait_end(state);
		lw_error_restore(&error);
	}
	return acquired;
}

/* Take the lock: 1; 0: a deadlock was settled by accepting the half-initialised *MODULE (3.15); -1. */
static int acquire(lw_state *state, PyObject *lock, PyObject *modules, PyObject *name, PyObject **module)
{
	PyObject *acquired = call_acquire(state, lock);
	Py_XDECREF(acquired);
	if (acquired)
		return 1;
	if (!state->flavour.parents_first || !PyErr_ExceptionMatches(state->deadlock_error))
		return -1;
	struct lw_error error;
	lw_error_save(&error);
	int there = lw_dict_get(modules, name, module);
	if (there > 0 && *module != Py_None) {
		lw_error_drop(&error);
		return 0;
	}
	Py_CLEAR(*module);
	lw_error_restore(&error);
	return -1;
}

static PyObject *stock(lw_state *state, PyObject *name, PyObject *import)
{
	PyObject *args[] = { name, import };
	return lw_lazy_after_stock(state->home, name, PyObject_Vectorcall(state->original, args, 2, NULL));
}

/*
 * Call FUNCTION, a stock one that waits until another thread has initialised the module that ARGS begin with; if it is this thread that does, it
 * does not wait, and there is nothing to observe.
 */
static PyObject *call_waiting(lw_state *state, PyObject *function, PyObject *const *args, size_t nargs)
{
	struct lw_span *span = lw_observing(state) && !lw_span_within(args[0]) ? lw_span_begin(state, args[0]) : NULL;
	if (span) {
		lw_span_how(LW_HOW_WAITED);
		lw_wait_begin(state);
	}
	PyObject *result = PyObject_Vectorcall(function, args, nargs, NULL);
	if (span) {
		struct lw_error error;
		lw_error_save(&error);
		lw_wait_end(state);
		lw_error_restore(&error);
		lw_span_end(state, span, result);
	} else if (result && result != Py_None) {
		lw_tell_reused(state, args[0], result);
	}
	return result;
}

static PyObject *with_lock(lw_state *state, PyObject *name, PyObject *import, PyObject *modules)
{
	PyObject *module = NULL;
	if (before_lock(state, name, import) < 0)
		return NULL;
	PyObject *lock = call_bootstrap(state, LW_STR(state, _get_module_lock), name, NULL);
	if (!lock)
		return NULL;
	int acquired = acquire(state, lock, modules, name, &module);
	if (acquired <= 0) {
		Py_DECREF(lock);
		return module;
	}
	int there = lw_dict_get(modules, name, &module);
	if (there == 0)
		module = locked(state, name, import, modules);
	if (release(state, lock) < 0)
		Py_CLEAR(module);
	Py_DECREF(lock);
	if (there > 0 && module) {
		/* Another thread was faster: stock waits for it, or finds it done. */
		Py_DECREF(module);
		return stock(state, name, import);
	}
	return module;
}

static void outermost_returned(lw_state *state)
{
	struct lw_error error;
	lw_enter(state->session);
	bool pending = lw_session_pending(state->session);
	lw_session_leave(state->session);
	if (!pending)
		return;
	lw_error_save(&error);
	Py_BEGIN_ALLOW_THREADS
	lw_session_quiet(state->session);
	Py_END_ALLOW_THREADS
	lw_error_restore(&error);
}

/* Whether this import is ours: 1, 0 (counted), -1. */
static int is_ours(lw_state *state, PyObject *modules)
{
	enum lw_aside why = LW_ASIDE_MODULES;
	int ours = modules && depth < DEPTH_MAX ? lw_bootstrap_intact(state, &why) : 0;
	if (depth >= DEPTH_MAX)
		why = LW_ASIDE_DEPTH;
	if (ours == 0)
		lw_stepped_aside(state, why);
	return ours;
}

/* Another thread's failing import may have removed MODULE while we looked at it: 1, 0, -1. */
static int was_replaced(PyObject *modules, PyObject *name, PyObject *module)
{
	PyObject *now;
	int found = lw_dict_get(modules, name, &now);
	Py_XDECREF(now);
	return found < 0 ? -1 : now != module;
}

PyObject *lw_heard_stock(lw_state *state, PyObject *name, PyObject *import)
{
	struct lw_span *span = lw_span_within(name) ? NULL : lw_span_begin(state, name);
	PyObject *module = stock(state, name, import);
	if (span)
		lw_span_end(state, span, module);
	else if (module)
		lw_tell_reused(state, name, module);
	return module;
}

PyObject *lw_find_and_load(lw_state *state, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	if (nargs != 2 || kwnames || !PyUnicode_CheckExact(args[0]))
		return PyObject_Vectorcall(state->original, args, (size_t)nargs, kwnames);
	if (!state->installed)
		return lw_is_heard(state) ? lw_heard_stock(state, args[0], args[1]) : stock(state, args[0], args[1]);

	PyObject *name = args[0], *module;
	PyObject *modules = modules_dict(state);
	if (!modules && PyErr_Occurred())
		return NULL;
	int there = modules ? lw_dict_get(modules, name, &module) : 0;
	if (there > 0) {
		int busy = module == Py_None ? 1 : lw_is_initializing(state, module);
		if (busy == 0 && state->flavour.looks_again)
			busy = was_replaced(modules, name, module);
		Py_DECREF(modules);
		if (busy == 0)
			lw_tell_reused(state, name, module);
		if (busy == 0)
			return module;
		Py_DECREF(module);
		if (busy < 0)
			return NULL;
		lw_stepped_aside(state, LW_ASIDE_INITIALIZING);
		return call_waiting(state, state->original, args, 2);
	}
	struct lw_span *span = there == 0 && lw_observing(state) ? lw_span_begin(state, name) : NULL;
	int ours = there < 0 ? -1 : is_ours(state, modules);
	module = NULL;
	if (ours == 0) {
		module = stock(state, name, args[1]);
	} else if (ours > 0) {
		if (depth++)
			lw_collector_continue(state->home);
		else
			lw_collector_begin(state->home);
		module = with_lock(state, name, args[1], modules);
		if (--depth == 0)
			lw_collector_end(state->home);
	}
	if (span)
		lw_span_end(state, span, module);
	if (ours > 0 && depth == 0)
		outermost_returned(state);
	Py_XDECREF(modules);
	return module;
}

static PyObject *find_and_load(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	lw_state *state = lw_state_of(self);
	if (!state || !state->original)
		return PyErr_Format(PyExc_ImportError, "ladewerk: the extension has been torn down");
	return lw_find_and_load(state, args, nargs, kwnames);
}

PyMethodDef lw_find_and_load_def = {
	"_find_and_load", (PyCFunction)(void (*)(void))find_and_load, METH_FASTCALL | METH_KEYWORDS, "Find and load the module."
};

/* The import statement calls it for a module that is there but is being initialised; here only to be observed. */
static PyObject *lock_unlock_module(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	lw_state *state = lw_state_of(self);
	if (!state || !state->original_wait)
		return PyErr_Format(PyExc_ImportError, "ladewerk: the extension has been torn down");
	if (nargs == 1 && !kwnames && PyUnicode_CheckExact(args[0]))
		return call_waiting(state, state->original_wait, args, 1);
	return PyObject_Vectorcall(state->original_wait, args, (size_t)nargs, kwnames);
}

PyMethodDef lw_lock_unlock_module_def = {
	"_lock_unlock_module", (PyCFunction)(void (*)(void))lock_unlock_module, METH_FASTCALL | METH_KEYWORDS, "Wait until the module is initialised."
};
