/* SPDX-License-Identifier: MIT */
/*
 * lazy_statement: an import statement, asked whether it waits.
 *
 * It does if policy allows, nobody traces, and what it imports is there for sure, as far as that can be told without executing anything: a module that is missing is
 * to be missed where it is imported. What has been loaded already is bound at once. In all other cases the answer is no, and the statement does, and raises, what it
 * always did.
 *
 *     import a          a is loaded: no                           else found: a waits
 *     import a.b        a.b is loaded: no, unless a waits         else found: a waits, for a.b as well as for what it waited for
 *     from m import x   m is loaded and has x: no                 m is found, or loaded and x may yet come: x waits
 *
 * "Found": in the index or by PathFinder's rules, along the whole dotted path; finders that stand ahead of PathFinder are not asked. A name that builtins know too does
 * not wait: a load of it would find that one.
 *
 * One thing is looser than in stock Python: `from m import x` where m is being imported, and has no x yet. Stock raises; here x waits, since in another order of imports,
 * which is what laziness makes, the circle may well come out right.
 */
#include "lazy_scope.h"

typedef struct {
	PyObject_HEAD
	lw_scope *scope;
	PyObject *module, *binds;	/* as in lw_lazy_transform()'s description */
	long level, line;
	bool as;
} statement_object;

/* What a statement asks about, worked out once. */
struct question {
	lw_state *state;
	statement_object *statement;
	lw_scope *scope;
	PyObject *dict;		/* of the importing module */
	PyObject *absolute;	/* what it imports: strong */
};

static PyObject *attribute_of(PyObject *bind)
{
	PyObject *attribute = PyTuple_GET_ITEM(bind, 0);
	return attribute == Py_None ? NULL : attribute;
}

static PyObject *name_of(PyObject *bind)
{
	return PyTuple_GET_ITEM(bind, 1);
}

/* `from m import ...` */
static bool is_from(const statement_object *statement)
{
	return attribute_of(PyTuple_GET_ITEM(statement->binds, 0)) != NULL;
}

/* `import a`, `import a.b`: it binds the first part. */
static bool binds_first_part(const statement_object *statement)
{
	return !is_from(statement) && !statement->as;
}

/* --- who imports --- */

/* The package of the importing module, if its __package__ and __spec__ are usual ones: a new reference, or NULL, perhaps with an exception. */
static PyObject *usual_package(const struct question *question)
{
	PyObject *parent = NULL, *spec = Py_XNewRef(PyDict_GetItemWithError(question->dict, LW_STR(question->state, __spec__)));
	PyObject *package = Py_XNewRef(PyDict_GetItemWithError(question->dict, LW_STR(question->state, __package__)));
	bool usual = package && PyUnicode_CheckExact(package) && spec && lw_attr_get(spec, LW_STR(question->state, parent), &parent) > 0
		&& PyUnicode_Check(parent) && PyUnicode_Compare(parent, package) == 0;
	Py_XDECREF(parent);
	Py_XDECREF(spec);
	if (!usual)
		Py_CLEAR(package);
	return package;
}

/* PACKAGE without its last LEVEL - 1 parts, and NAME in it. NULL: it does not go up so far, or an exception. */
static PyObject *in_package(PyObject *package, PyObject *name, long level)
{
	Py_ssize_t end = PyUnicode_GET_LENGTH(package);
	for (; level > 1 && end > 0; level--)
		end = PyUnicode_FindChar(package, '.', 0, end, -1);
	if (end <= 0)
		return NULL;
	PyObject *base = PyUnicode_Substring(package, 0, end);
	PyObject *result = !base || !PyUnicode_GET_LENGTH(name) ? Py_XNewRef(base) : PyUnicode_FromFormat("%U.%U", base, name);
	Py_XDECREF(base);
	return result;
}

static PyObject *absolute_name(const struct question *question)
{
	const statement_object *statement = question->statement;
	PyObject *package = usual_package(question), *name = NULL;
	if (package)
		name = statement->level ? in_package(package, statement->module, statement->level) : Py_NewRef(statement->module);
	Py_XDECREF(package);
	return name;
}

/* builtins.__import__ of the module is the stock one, or ours around it (told.h): who has put another in its place decides what an import statement does. */
static bool imports_as_stock(const struct question *question, PyObject *builtins)
{
	const lw_state *state = question->state;
	PyObject *function = PyDict_GetItemWithError(builtins, LW_STR(state, __import__));
	return function && (function == state->lazy.table->import || function == state->statement.replacement);
}

static PyObject *builtins_of(lw_state *state, PyObject *dict)
{
	PyObject *builtins = PyDict_GetItemWithError(dict, LW_STR(state, __builtins__));
	if (builtins && PyModule_Check(builtins))
		builtins = PyModule_GetDict(builtins);
	return builtins && PyDict_CheckExact(builtins) ? builtins : NULL;
}

/* A load of NAME would find it in builtins, or may later: `_` is put there by gettext, and by every prompt. */
static bool is_builtin(PyObject *builtins, PyObject *name)
{
	return PyUnicode_CompareWithASCIIString(name, "_") == 0 || PyDict_Contains(builtins, name) != 0;
}

static bool names_may_wait(const struct question *question)
{
	PyObject *builtins = builtins_of(question->state, question->dict), *binds = question->statement->binds;
	if (!builtins || !imports_as_stock(question, builtins))
		return false;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(binds); i++)
		if (is_builtin(builtins, name_of(PyTuple_GET_ITEM(binds, i))))
			return false;
	return true;
}

static bool policy_allows_name(const struct question *question, PyObject *bind)
{
	const lw_lazy_policy *policy = question->state->lazy.policy;
	const char *importer = PyUnicode_AsUTF8(question->scope->name), *target = importer ? PyUnicode_AsUTF8(question->absolute) : NULL;
	PyObject *attribute = attribute_of(bind);
	const char *name = attribute ? PyUnicode_AsUTF8(attribute) : NULL;
	PyErr_Clear();
	return target && policy && (name || !attribute) && lw_lazy_policy_allows(policy, importer, question->scope->what, target, name);
}

static bool takes_apart(const struct question *question)
{
	return question->state->lazy.policy && lw_lazy_policy_takes_apart(question->state->lazy.policy);
}

/* Where one of several names may not wait, none does; unless they are taken apart. */
static bool policy_allows(const struct question *question)
{
	PyObject *binds = question->statement->binds;
	Py_ssize_t count = PyTuple_GET_SIZE(binds), allowed = 0;
	for (Py_ssize_t i = 0; i < count; i++)
		allowed += policy_allows_name(question, PyTuple_GET_ITEM(binds, i));
	return allowed == count || (allowed && takes_apart(question));
}

/* --- what is imported --- */

/* Paths for the submodules of SPEC's module: a list, or None. A new reference or NULL. */
static PyObject *paths_of(lw_state *state, PyObject *spec)
{
	PyObject *locations = PyObject_GetAttr(spec, LW_STR(state, submodule_search_locations));
	if (locations && Py_IS_TYPE(locations, (PyTypeObject *)state->namespace_path))
		Py_SETREF(locations, PyObject_GetAttrString(locations, "_path")); /* as found: asking it would ask for the parent, which is not loaded */
	return locations;
}

static PyObject *package_paths(const struct lw_hit *hit)
{
	return hit->kind == LW_HIT_PACKAGE ? Py_BuildValue("[N]", PyUnicode_DecodeFSDefaultAndSize(hit->path, (Py_ssize_t)hit->base_len)) : Py_NewRef(Py_None);
}

static bool is_given(lw_state *state, PyObject *name)
{
	return (state->builtin_names && PySet_Contains(state->builtin_names, name) > 0) || (state->frozen_names && PySet_Contains(state->frozen_names, name) > 0);
}

/* Look for NAME on PATH (NULL: sys.path): paths for its submodules, or None. A new reference; NULL: not found, or an exception. */
static PyObject *look_for(lw_state *state, PyObject *name, PyObject *path)
{
	enum lw_aside why;
	PyObject *spec = NULL, *paths = NULL;
	struct lw_hit *hit = PyMem_RawMalloc(sizeof(*hit));
	if (!hit)
		return NULL;
	switch (lw_bootstrap_intact(state, &why) > 0 ? lw_glance(state, name, path, hit, &spec, &why) : LW_FOUND_ASIDE) {
	case LW_FOUND_SOURCE:
	case LW_FOUND_FILE:
		paths = package_paths(hit);
		break;
	case LW_FOUND_SPEC:
		paths = paths_of(state, spec);
		break;
	case LW_FOUND_MISS:
		paths = is_given(state, name) ? Py_NewRef(Py_None) : NULL;
		break;
	case LW_FOUND_ASIDE:
	case LW_FOUND_ERROR:
		break;
	}
	Py_XDECREF(spec);
	PyMem_RawFree(hit);
	return paths;
}

/* The __path__ of MODULE, which is loaded; None if it has none. */
static PyObject *path_of_loaded(lw_state *state, PyObject *module)
{
	PyObject *path = module != Py_None && PyModule_Check(module) ? PyDict_GetItemWithError(PyModule_GetDict(module), LW_STR(state, __path__)) : NULL;
	return Py_NewRef(path ? path : Py_None);
}

/*
 * Module NAME is there, loaded or not, and so are those above it: the paths for its submodules, or None. A new reference; NULL: it is not, or cannot be told; perhaps with
 * an exception.
 */
static PyObject *locate(lw_state *state, PyObject *name)
{
	PyObject *found = state->lazy.table->found, *module = PyImport_GetModule(name), *parent = NULL, *path = NULL, *result = NULL;
	if (module) {
		result = module == Py_None ? NULL : path_of_loaded(state, module);
		Py_DECREF(module);
		return result;
	}
	PyObject *known = PyErr_Occurred() ? NULL : PyDict_GetItemWithError(found, name);
	if (known || PyErr_Occurred())
		return Py_XNewRef(known);
	Py_ssize_t dot = PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), -1);
	if (dot > 0) {
		parent = PyUnicode_Substring(name, 0, dot);
		path = parent ? locate(state, parent) : NULL;
	}
	if (dot < 0 || (path && path != Py_None))
		result = look_for(state, name, path);
	if (result && state->lazy.table && PyDict_SetItem(found, name, result) < 0)
		Py_CLEAR(result);
	Py_XDECREF(parent);
	Py_XDECREF(path);
	return result;
}

bool lw_lazy_is_there(lw_state *state, PyObject *name)
{
	PyObject *paths = locate(state, name);
	Py_XDECREF(paths);
	PyErr_Clear();
	return paths != NULL;
}

static bool is_submodule(lw_state *state, PyObject *package, PyObject *name)
{
	PyObject *full = PyUnicode_FromFormat("%U.%U", package, name);
	bool result = full && lw_lazy_is_there(state, full);
	Py_XDECREF(full);
	return result;
}

/* MODULE, loaded or being so, has no ATTRIBUTE: whether it may be there when it is asked for. */
static bool may_come(const struct question *question, PyObject *module, PyObject *attribute)
{
	lw_state *state = question->state;
	PyObject *dict = PyModule_GetDict(module);
	if (lw_lazy_waits(state, dict, attribute) > 0 || PyDict_GetItemString(dict, "__getattr__") || !PyModule_CheckExact(module))
		return true;
	if (is_submodule(state, question->absolute, attribute))
		return true;
	return dict != question->dict && lw_is_initializing(state, module) > 0;
}

enum answer { IMPORT_NOW, WAIT };

/* `from m import ...`, and m is loaded, or being so. */
static enum answer about_attributes(const struct question *question, PyObject *module)
{
	PyObject *binds = question->statement->binds;
	enum answer answer = IMPORT_NOW;
	if (!PyModule_Check(module))
		return IMPORT_NOW;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(binds); i++) {
		PyObject *attribute = attribute_of(PyTuple_GET_ITEM(binds, i));
		if (PyDict_GetItemWithError(PyModule_GetDict(module), attribute))
			continue;
		if (!may_come(question, module, attribute))
			return IMPORT_NOW; /* which raises */
		answer = WAIT;
	}
	return answer;
}

/* What NAME waits for already, if that is all of the kind `import a.b`: borrowed, or NULL. */
static PyObject *parts_waiting(const struct question *question, PyObject *name)
{
	PyObject *targets = lw_scope_targets(question->state, question->scope, question->dict, name);
	PyObject *last = targets ? PyTuple_GET_ITEM(targets, PyTuple_GET_SIZE(targets) - 1) : NULL;
	bool parts = last && PyTuple_GET_ITEM(last, LW_TARGET_ATTRIBUTE) == Py_None && PyTuple_GET_ITEM(last, LW_TARGET_AS) == Py_False;
	return parts ? targets : NULL;
}

static enum answer decide(const struct question *question)
{
	const statement_object *statement = question->statement;
	PyObject *module = PyImport_GetModule(question->absolute), *name = name_of(PyTuple_GET_ITEM(statement->binds, 0));
	enum answer answer;
	if (PyErr_Occurred())
		answer = IMPORT_NOW;
	else if (!module)
		answer = lw_lazy_is_there(question->state, question->absolute) ? WAIT : IMPORT_NOW;
	else if (is_from(statement))
		answer = about_attributes(question, module);
	else
		answer = binds_first_part(statement) && parts_waiting(question, name) ? WAIT : IMPORT_NOW;
	Py_XDECREF(module);
	PyErr_Clear();
	return answer;
}

/* --- the names --- */

static PyObject *target_of(const struct question *question, PyObject *bind)
{
	const statement_object *statement = question->statement;
	Py_ssize_t record = lw_census_registered(question->state, question->scope, statement->line, question->absolute, PyTuple_GET_ITEM(bind, 0), name_of(bind));
	return Py_BuildValue("(OOOlnK)", question->absolute, PyTuple_GET_ITEM(bind, 0), statement->as ? Py_True : Py_False, statement->line, record,
		(unsigned long long)question->state->lazy.registered);
}

/* What NAME waits for from now on: TARGET (stolen), behind those BEFORE (borrowed) if there are any. */
static PyObject *targets_with(PyObject *before, PyObject *target)
{
	PyObject *one = target ? PyTuple_Pack(1, target) : NULL;
	PyObject *all = one && before ? PySequence_Concat(before, one) : Py_XNewRef(one);
	Py_XDECREF(one);
	Py_XDECREF(target);
	return all;
}

/* NAME is not in the dictionary while it waits: 0 or -1. */
static int unbind(PyObject *dict, PyObject *name)
{
	PyObject *value;
	int there = lw_dict_get(dict, name, &value);
	int result = there > 0 ? PyDict_DelItem(dict, name) : there;
	Py_XDECREF(value);
	return result;
}

static int wait_for(const struct question *question, PyObject *bind)
{
	PyObject *name = name_of(bind), *before = binds_first_part(question->statement) ? Py_XNewRef(parts_waiting(question, name)) : NULL;
	if (!before)
		lw_scope_forget(question->state, question->scope, name, "overwritten");
	PyObject *targets = targets_with(before, target_of(question, bind));
	int result = targets ? lw_scope_register(question->state, question->scope, name, targets) : -1;
	Py_XDECREF(before);
	Py_XDECREF(targets);
	question->state->lazy.registered += result == 0;
	return result < 0 ? -1 : unbind(question->dict, name);
}

/* One of several names that is there already, while others are not: bound at once, as the statement would have done. 1, 0 (it is not there), -1. */
static int bind_now(const struct question *question, PyObject *bind)
{
	PyObject *module = is_from(question->statement) ? PyImport_GetModule(question->absolute) : NULL, *value = NULL;
	int there = 0;
	if (module && PyModule_Check(module))
		there = lw_dict_get(PyModule_GetDict(module), attribute_of(bind), &value);
	if (there > 0)
		lw_scope_forget(question->state, question->scope, name_of(bind), "overwritten");
	if (there > 0 && PyDict_SetItem(question->dict, name_of(bind), value) < 0)
		there = -1;
	Py_XDECREF(value);
	Py_XDECREF(module);
	return PyErr_Occurred() ? -1 : there;
}

/* All names wait: those that may not, since the statement is taken apart, are imported now. 1 or -1. */
static int resolve_those_apart(const struct question *question)
{
	PyObject *binds = question->statement->binds;
	for (Py_ssize_t i = 0; takes_apart(question) && i < PyTuple_GET_SIZE(binds); i++) {
		PyObject *bind = PyTuple_GET_ITEM(binds, i), *name = name_of(bind);
		bool now = !policy_allows_name(question, bind) && lw_lazy_waits(question->state, question->dict, name) > 0;
		PyObject *resolved = now ? lw_scope_resolve(question->state, question->scope, question->dict, name) : NULL;
		if (!resolved && PyErr_Occurred())
			return -1;
		Py_XDECREF(resolved);
	}
	return 1;
}

/* 1 or -1. */
static int register_names(const struct question *question)
{
	PyObject *binds = question->statement->binds;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(binds); i++) {
		PyObject *bind = PyTuple_GET_ITEM(binds, i);
		int bound = bind_now(question, bind);
		if (bound < 0 || (!bound && wait_for(question, bind) < 0))
			return -1;
	}
	return resolve_those_apart(question);
}

/* The statement is about to bind names that wait for something else: parts of a package are imported first, as they would have been; what is replaced is not. 0 or -1. */
static int give_way(const struct question *question)
{
	PyObject *binds = question->statement->binds;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(binds); i++) {
		PyObject *name = name_of(PyTuple_GET_ITEM(binds, i));
		PyObject *parts = binds_first_part(question->statement) ? parts_waiting(question, name) : NULL;
		PyObject *resolved = parts ? lw_scope_resolve(question->state, question->scope, question->dict, name) : Py_NewRef(Py_None);
		if (!resolved)
			return -1;
		Py_DECREF(resolved);
		lw_scope_forget(question->state, question->scope, name, "overwritten");
	}
	return 0;
}

/* 1: it waits; 0; -1. */
static int ask(statement_object *statement)
{
	struct question question = { .state = lw_scope_state((PyObject *)statement), .statement = statement, .scope = statement->scope, .dict = PyEval_GetGlobals() };
	lw_state *state = question.state;
	if (!state || !question.dict || !lw_scope_is_of(state, question.scope, question.dict) || PyEval_GetLocals() != question.dict)
		return 0; /* somebody executes the code elsewhere */
	bool may = state->installed && lw_lazy_is_on(&state->lazy) && !lw_lazy_is_traced(state) && names_may_wait(&question);
	question.absolute = may ? absolute_name(&question) : NULL;
	PyErr_Clear();
	may = question.absolute && policy_allows(&question);
	PyErr_Clear();
	int waits = may && decide(&question) == WAIT ? lw_lazy_foretell(state, question.absolute) : 0;
	int result = waits < 0 ? -1 : waits ? register_names(&question) : give_way(&question);
	state->lazy.eager += result == 0;
	Py_XDECREF(question.absolute);
	return result;
}

/* --- the constant --- */

static int statement_bool(PyObject *self)
{
	PyObject *alive = Py_NewRef(self); /* the code may be let go of by what runs meanwhile */
	int result = ask((statement_object *)self);
	Py_DECREF(alive);
	return result;
}

static PyObject *statement_repr(PyObject *self)
{
	const statement_object *statement = (statement_object *)self;
	return PyUnicode_FromFormat("<import of %U that may wait, in %U, line %ld>", statement->module, statement->scope->name, statement->line);
}

static void statement_dealloc(PyObject *self)
{
	statement_object *statement = (statement_object *)self;
	PyTypeObject *type = Py_TYPE(self);
	Py_XDECREF(statement->scope);
	Py_XDECREF(statement->module);
	Py_XDECREF(statement->binds);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef statement_methods[] = {
	{ "__reduce__", lw_scope_reduce, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot statement_slots[] = {
	{ Py_nb_bool, statement_bool },
	{ Py_tp_repr, statement_repr },
	{ Py_tp_dealloc, statement_dealloc },
	{ Py_tp_methods, statement_methods },
	{ Py_bf_getbuffer, lw_scope_buffer },
	{ 0, NULL },
};

PyType_Spec lw_statement_spec = {
	.name = "ladewerk._native.Statement",
	.basicsize = sizeof(statement_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = statement_slots,
};

/* BINDS are pairs of an attribute or None, and a name; at least one, and all of a kind. */
static bool are_binds(PyObject *binds)
{
	bool good = PyTuple_CheckExact(binds) && PyTuple_GET_SIZE(binds) > 0;
	for (Py_ssize_t i = 0; good && i < PyTuple_GET_SIZE(binds); i++) {
		PyObject *bind = PyTuple_GET_ITEM(binds, i);
		good = PyTuple_CheckExact(bind) && PyTuple_GET_SIZE(bind) == 2 && PyUnicode_CheckExact(name_of(bind))
			&& (PyTuple_GET_ITEM(bind, 0) == Py_None ? PyTuple_GET_SIZE(binds) == 1 : PyUnicode_CheckExact(PyTuple_GET_ITEM(bind, 0)));
	}
	return good;
}

/* DESCRIPTION is one: (slot, level, module, binds, as, line). A program may have a constant that looks like a description at first sight. */
static bool is_description(PyObject *description)
{
	return PyTuple_CheckExact(description) && PyTuple_GET_SIZE(description) == 6 && PyLong_CheckExact(PyTuple_GET_ITEM(description, 0))
		&& PyLong_CheckExact(PyTuple_GET_ITEM(description, 1)) && PyUnicode_CheckExact(PyTuple_GET_ITEM(description, 2))
		&& are_binds(PyTuple_GET_ITEM(description, 3)) && PyBool_Check(PyTuple_GET_ITEM(description, 4)) && PyLong_CheckExact(PyTuple_GET_ITEM(description, 5));
}

PyObject *lw_statement_create(lw_state *state, lw_scope *scope, PyObject *description)
{
	PyTypeObject *type = (PyTypeObject *)state->lazy.statement_type;
	int too_large, larger;
	if (!is_description(description))
		return NULL;
	long level = PyLong_AsLongAndOverflow(PyTuple_GET_ITEM(description, 1), &too_large), line = PyLong_AsLongAndOverflow(PyTuple_GET_ITEM(description, 5), &larger);
	statement_object *statement = too_large || larger ? NULL : (statement_object *)type->tp_alloc(type, 0);
	if (!statement)
		return NULL;
	statement->scope = (lw_scope *)Py_NewRef(scope);
	statement->module = Py_NewRef(PyTuple_GET_ITEM(description, 2));
	statement->binds = Py_NewRef(PyTuple_GET_ITEM(description, 3));
	statement->level = level;
	statement->line = line;
	statement->as = PyTuple_GET_ITEM(description, 4) == Py_True;
	return (PyObject *)statement;
}
