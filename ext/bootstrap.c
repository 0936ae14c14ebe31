/* SPDX-License-Identifier: MIT */
/*
 * bootstrap: the stock import system, found, verified and watched.
 *
 * Verified: the code of every stock function that we stand in for is digested (bytecode, names, constants; no line numbers) and looked up in
 * verified.h. An interpreter with other functions is not touched: stock Python runs as it is.
 *
 * Watched: before each import, classes are compared by their version tag (any assignment to a class attribute changes it; then
 * the class dictionaries are compared, so that a patch that was undone is forgiven, and so is an attribute that means nothing to the import system: zope.interface
 * leaves its own on every class it is asked about) and module-level functions by identity.
 */
#include "state.h"

#include "verified.h"

struct lw_guard {
	PyObject *dict;		/* borrowed from the state */
	PyObject *name, *value;	/* strong */
};

struct lw_tag {
	PyTypeObject *type;	/* borrowed from the state */
	unsigned tag;
	PyObject *mro;		/* for the slow comparison: this, and */
	PyObject *dicts;	/* list of (class, copy of its dict) */
};

static int unknown(lw_state *state, const char *what)
{
	PyErr_Clear();
	Py_XSETREF(state->reason, PyUnicode_FromFormat("this interpreter's import system has no %s", what));
	return 1;
}

/* --- finding --- */

static int take(lw_state *state, PyObject *dict, const char *name, PyObject **slot)
{
	PyObject *value = PyDict_GetItemString(dict, name);
	if (!value)
		return unknown(state, name);
	*slot = Py_NewRef(value);
	return 0;
}

/* What exec() in importlib gives to a new module: importlib's own builtins, never those of the importer, which may be restricted. */
static int take_builtins(lw_state *state)
{
	PyObject *builtins = PyDict_GetItemString(state->bootstrap_dict, "__builtins__");
	if (builtins && PyModule_Check(builtins))
		builtins = PyModule_GetDict(builtins);
	if (!builtins || !PyDict_Check(builtins))
		return unknown(state, "__builtins__");
	state->builtins = Py_NewRef(builtins);
	return 0;
}

static int take_dicts(lw_state *state)
{
	PyObject *modules = PyImport_GetModuleDict();
	PyObject *bootstrap = PyDict_GetItemString(modules, "_frozen_importlib");
	PyObject *external = PyDict_GetItemString(modules, "_frozen_importlib_external");
	PyObject *sys = PyDict_GetItemString(modules, "sys");
	if (!bootstrap || !external || !sys)
		return unknown(state, "frozen bootstrap");
	state->bootstrap_dict = Py_NewRef(PyModule_GetDict(bootstrap));
	state->external_dict = Py_NewRef(PyModule_GetDict(external));
	state->sys_dict = Py_NewRef(PyModule_GetDict(sys));
	return take_builtins(state);
}

/* A set of what ITEMS (a new reference or NULL) yields; NULL without an exception if that is not to be had. */
static PyObject *set_of(PyObject *items)
{
	PyObject *set = items ? PyFrozenSet_New(items) : NULL;
	Py_XDECREF(items);
	PyErr_Clear();
	return set;
}

/* The names that the built-in and the frozen importer know: a look at a set instead of a walk through a table. */
static int take_names(lw_state *state, PyObject *imp)
{
	state->builtin_names = set_of(Py_XNewRef(PyDict_GetItemString(state->home->sys_dict, "builtin_module_names")));
	state->frozen_names = set_of(PyObject_CallMethod(imp, "_frozen_module_names", NULL));
	state->builtin_table = PyImport_Inittab;
	state->frozen_table = PyImport_FrozenModules;
	return 0;
}

static int take_functions(lw_state *state)
{
	PyObject *imp = PyDict_GetItemString(state->bootstrap_dict, "_imp");
	if (!imp)
		return unknown(state, "_imp");
	struct { const char *name; PyObject **slot; } const builtin[] = {
		{ "is_builtin", &state->is_builtin }, { "find_frozen", &state->find_frozen },
		{ "acquire_lock", &state->acquire_lock }, { "release_lock", &state->release_lock },
		{ "_fix_co_filename", &state->fix_co_filename },
	};
	for (size_t i = 0; i < Py_ARRAY_LENGTH(builtin); i++) {
		*builtin[i].slot = PyObject_GetAttrString(imp, builtin[i].name);
		if (!*builtin[i].slot)
			return unknown(state, builtin[i].name);
	}
	state->set_lazy_attributes = PyObject_GetAttrString(imp, "_set_lazy_attributes");
	PyErr_Clear(); /* 3.15 and later */
	return take_names(state, imp);
}

static int take_classes(lw_state *state)
{
	struct { const char *name; PyObject *dict, **slot; } const classes[] = {
		{ "BuiltinImporter", state->bootstrap_dict, &state->builtin_importer },
		{ "FrozenImporter", state->bootstrap_dict, &state->frozen_importer },
		{ "ModuleSpec", state->bootstrap_dict, &state->module_spec },
		{ "_DeadlockError", state->bootstrap_dict, &state->deadlock_error },
		{ "PathFinder", state->external_dict, &state->path_finder },
		{ "FileFinder", state->external_dict, &state->file_finder },
		{ "SourceFileLoader", state->external_dict, &state->source_loader },
		{ "SourcelessFileLoader", state->external_dict, &state->sourceless_loader },
		{ "ExtensionFileLoader", state->external_dict, &state->extension_loader },
		{ "_NamespacePath", state->external_dict, &state->namespace_path },
		{ "implementation", state->home->sys_dict, &state->implementation },
	};
	for (size_t i = 0; i < Py_ARRAY_LENGTH(classes); i++) {
		int error = take(state, classes[i].dict, classes[i].name, classes[i].slot);
		if (error)
			return error;
	}
	return 0;
}

/* The closure of FileFinder.path_hook() holds its class and the loader details: (class, suffix list) pairs. */
static PyObject *hook_details(lw_state *state, PyObject *hook)
{
	PyObject *details = NULL;
	PyObject *closure = PyFunction_Check(hook) ? PyFunction_GetClosure(hook) : NULL;
	bool of_file_finder = false;
	for (Py_ssize_t i = 0; closure && i < PyTuple_GET_SIZE(closure); i++) {
		PyObject *value = PyCell_GET(PyTuple_GET_ITEM(closure, i));
		if (value == state->file_finder)
			of_file_finder = true;
		else if (value && PyTuple_Check(value))
			details = value;
	}
	return of_file_finder ? details : NULL;
}

/* The list of (suffix, loader) that FileFinder.__init__ makes of them; remembers the suffix lists, which people extend in place. */
static int expand_details(lw_state *state, PyObject *details)
{
	PyObject *const expected[3] = { state->extension_loader, state->source_loader, state->sourceless_loader };
	if (PyTuple_GET_SIZE(details) != 3)
		return unknown(state, "three kinds of loaders");
	state->loader_details = PyList_New(0);
	if (!state->loader_details)
		return -1;
	for (Py_ssize_t i = 0; i < 3; i++) {
		PyObject *loader, *suffixes;
		if (!PyArg_ParseTuple(PyTuple_GET_ITEM(details, i), "OO", &loader, &suffixes) || loader != expected[i] || !PyList_CheckExact(suffixes))
			return unknown(state, "usual loaders");
		state->suffix_lists[i] = Py_NewRef(suffixes);
		state->suffix_counts[i] = PyList_GET_SIZE(suffixes);
		for (Py_ssize_t j = 0; j < PyList_GET_SIZE(suffixes); j++) {
			PyObject *pair = PyTuple_Pack(2, PyList_GET_ITEM(suffixes, j), loader);
			if (!pair || PyList_Append(state->loader_details, pair) < 0) {
				Py_XDECREF(pair);
				return -1;
			}
			Py_DECREF(pair);
		}
	}
	return 0;
}

/* What every spec of a file has: the attributes that ModuleSpec() sets, and _set_fileattr. */
static int take_template(lw_state *state)
{
	PyObject *spec = PyObject_CallFunction(state->module_spec, "sO", "", Py_None);
	PyObject *dict = spec ? PyObject_GetAttrString(spec, "__dict__") : NULL;
	if (dict && PyDict_CheckExact(dict))
		state->spec_template = PyDict_Copy(dict);
	Py_XDECREF(spec);
	Py_XDECREF(dict);
	if (!state->spec_template || PyDict_SetItem(state->spec_template, LW_STR(state, _set_fileattr), Py_True) < 0)
		return unknown(state, "usual ModuleSpec");
	return 0;
}

static int take_hooks(lw_state *state)
{
	PyObject *hooks = PyDict_GetItemString(state->sys_dict, "path_hooks");
	if (!hooks || !PyList_CheckExact(hooks) || PyList_GET_SIZE(hooks) < 2)
		return unknown(state, "usual sys.path_hooks");
	PyObject *zip = PyList_GET_ITEM(hooks, 0), *file = PyList_GET_ITEM(hooks, 1);
	if (!PyType_Check(zip) || strcmp(((PyTypeObject *)zip)->tp_name, "zipimporter") != 0)
		return unknown(state, "zipimporter ahead of FileFinder in sys.path_hooks");
	PyObject *details = hook_details(state, file);
	if (!details)
		return unknown(state, "FileFinder in sys.path_hooks");
	state->zip_hook = Py_NewRef(zip);
	state->file_hook = Py_NewRef(file);
	return expand_details(state, details);
}

/* --- guards --- */

static int add_guards(lw_state *state)
{
	static const char *const bootstrap[] = {
		"_find_and_load_unlocked", "_find_spec", "_load_unlocked", "module_from_spec", "_new_module", "_init_module_attrs",
		"_call_with_frames_removed", "_get_module_lock", "_handle_fromlist",
	};
	static const char *const external[] = {
		"_path_join", "_path_stat", "_path_isfile", "_path_isdir", "cache_from_source", "_get_cached", "spec_from_file_location",
		"_compile_bytecode", "_validate_timestamp_pyc", "_classify_pyc",
	};
	size_t count = Py_ARRAY_LENGTH(bootstrap) + Py_ARRAY_LENGTH(external);
	state->guards = PyMem_Calloc(count, sizeof(*state->guards));
	if (!state->guards)
		return PyErr_NoMemory(), -1;
	for (size_t i = 0; i < count; i++) {
		bool first = i < Py_ARRAY_LENGTH(bootstrap);
		const char *name = first ? bootstrap[i] : external[i - Py_ARRAY_LENGTH(bootstrap)];
		struct lw_guard *guard = &state->guards[i];
		guard->dict = first ? state->bootstrap_dict : state->external_dict;
		guard->name = PyUnicode_InternFromString(name);
		if (!guard->name)
			return -1;
		state->guard_count++;
		int error = take(state, guard->dict, name, &guard->value);
		if (error)
			return error;
	}
	return 0;
}

static unsigned current_tag(PyTypeObject *type)
{
	return __atomic_load_n(&type->tp_version_tag, __ATOMIC_RELAXED);
}

/* The tag after an assignment is 0 until a lookup in the type (not one that its metatype answers) gives it a new one. */
static unsigned fresh_tag(PyTypeObject *type)
{
	PyObject *nothing = PyObject_GetAttrString((PyObject *)type, "_ladewerk_has_looked");
	Py_XDECREF(nothing);
	PyErr_Clear();
	return current_tag(type);
}

static int remember_class(struct lw_tag *tag, PyTypeObject *type)
{
	tag->type = type;
	tag->mro = Py_NewRef(type->tp_mro);
	tag->dicts = PyList_New(0);
	if (!tag->dicts)
		return -1;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(type->tp_mro); i++) {
		PyObject *class = PyTuple_GET_ITEM(type->tp_mro, i);
		if (class == (PyObject *)&PyBaseObject_Type)
			continue;
		PyObject *proxy = PyObject_GetAttrString(class, "__dict__");
		PyObject *copy = PyDict_New();
		PyObject *pair = proxy && copy && PyDict_Update(copy, proxy) == 0 ? PyTuple_Pack(2, class, copy) : NULL;
		Py_XDECREF(proxy);
		Py_XDECREF(copy);
		if (!pair || PyList_Append(tag->dicts, pair) < 0) {
			Py_XDECREF(pair);
			return -1;
		}
		Py_DECREF(pair);
	}
	tag->tag = fresh_tag(type);
	return 0;
}

static int add_tags(lw_state *state)
{
	PyObject *const classes[] = {
		state->file_finder, state->path_finder, state->source_loader, state->sourceless_loader, state->extension_loader,
		state->module_spec, state->builtin_importer, state->frozen_importer,
	};
	state->tags = PyMem_Calloc(Py_ARRAY_LENGTH(classes), sizeof(*state->tags));
	if (!state->tags)
		return PyErr_NoMemory(), -1;
	for (size_t i = 0; i < Py_ARRAY_LENGTH(classes); i++) {
		state->tag_count++;
		if (remember_class(&state->tags[i], (PyTypeObject *)classes[i]) < 0)
			return -1;
	}
	return 0;
}

/* A __name__ of somebody's: nothing that the import system, or Python on its behalf, looks up. */
static bool is_alien(const char *name)
{
	static const char *const special[] = {
		"__new__", "__init__", "__del__", "__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__slots__", "__class__", "__call__",
		"__abstractmethods__",
	};
	size_t len = strlen(name);
	if (len < 5 || strncmp(name, "__", 2) != 0 || strcmp(name + len - 2, "__") != 0)
		return false;
	for (size_t i = 0; i < Py_ARRAY_LENGTH(special); i++)
		if (strcmp(name, special[i]) == 0)
			return false;
	return true;
}

/*
 * Whether a new attribute NAME of one of TAG's classes may change what its instances do: it is no __name__ of somebody's, hides one of a base class, or Python
 * itself looks it up. 1, 0, -1.
 */
static int matters(const struct lw_tag *tag, PyObject *name)
{
	const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
	if (text && strcmp(text, "_SEP") == 0)
		return 0; /* FrozenImporter's own, when it is asked for the first time */
	if (!text || !is_alien(text))
		return 1;
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(tag->dicts); i++) {
		int known = PyDict_Contains(PyTuple_GET_ITEM(PyList_GET_ITEM(tag->dicts, i), 1), name);
		if (known)
			return known;
	}
	return 0;
}

/* Code of importlib's own: 1, 0. */
static bool is_frozen_code(PyObject *function)
{
	PyObject *file = PyFunction_Check(function) ? ((PyCodeObject *)PyFunction_GET_CODE(function))->co_filename : NULL;
	const char *text = file ? PyUnicode_AsUTF8(file) : NULL;
	return text && strncmp(text, "<frozen importlib.", 18) == 0;
}

/* Whether VALUE, which CLASS has under NAME, is what importlib has put there, or does not matter: 1, 0, -1. */
static int is_stock_attribute(PyTypeObject *class, PyObject *name, PyObject *value)
{
	const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
	if (!text)
		return -1;
	if (PyObject_TypeCheck(value, &PyStaticMethod_Type) || PyObject_TypeCheck(value, &PyClassMethod_Type) || PyObject_TypeCheck(value, &PyProperty_Type)) {
		PyObject *inner = PyObject_GetAttrString(value, PyObject_TypeCheck(value, &PyProperty_Type) ? "fget" : "__func__");
		int stock = inner ? is_frozen_code(inner) : -1;
		Py_XDECREF(inner);
		return stock || is_alien(text) ? (stock < 0 ? -1 : 1) : 0;
	}
	if (PyFunction_Check(value)) {
		PyCodeObject *code = (PyCodeObject *)PyFunction_GET_CODE(value);
		const char *qualified = PyUnicode_AsUTF8(code->co_qualname), *dot = qualified ? strchr(qualified, '.') : NULL;
		const char *bare = strrchr(class->tp_name, '.') ? strrchr(class->tp_name, '.') + 1 : class->tp_name;
		/* Decorated and shared functions have other names. Another class's method would be a swap. */
		bool method = dot && !strchr(qualified, '<');
		if (is_frozen_code(value) && (!method || strncmp(qualified, bare, (size_t)(dot - qualified)) == 0))
			return 1;
		return is_alien(text);
	}
	return !PyCallable_Check(value) || is_alien(text);
}

/* Whether TYPE and its bases are as importlib has made them; patches from before our time look like the original later on: 1, 0, -1. */
static int is_stock_class(PyTypeObject *type)
{
	int stock = 1;
	for (Py_ssize_t i = 0; stock > 0 && i < PyTuple_GET_SIZE(type->tp_mro); i++) {
		PyTypeObject *class = (PyTypeObject *)PyTuple_GET_ITEM(type->tp_mro, i);
		if (class == &PyBaseObject_Type)
			continue;
		PyObject *proxy = PyObject_GetAttrString((PyObject *)class, "__dict__"), *copy = PyDict_New(), *name, *value;
		stock = proxy && copy && PyDict_Update(copy, proxy) == 0 ? 1 : -1;
		for (Py_ssize_t at = 0; stock > 0 && PyDict_Next(copy, &at, &name, &value);)
			stock = is_stock_attribute(class, name, value);
		Py_XDECREF(proxy);
		Py_XDECREF(copy);
	}
	return stock;
}

int lw_bootstrap_unpatched(lw_state *state, const char **which)
{
	for (unsigned i = 0; i < state->tag_count; i++) {
		int stock = is_stock_class(state->tags[i].type);
		*which = state->tags[i].type->tp_name;
		if (stock <= 0)
			return stock;
	}
	return 1;
}

bool lw_bootstrap_is_stock(PyObject *function)
{
	return PyFunction_Check(function) && is_frozen_code(function);
}

/* CLASS has what it had (COPY), and nothing new that matters: 1, 0, -1. */
static int same_dict(const struct lw_tag *tag, PyObject *class, PyObject *copy)
{
	PyObject *proxy = PyObject_GetAttrString(class, "__dict__");
	PyObject *now = PyDict_New(), *key, *value;
	int same = proxy && now && PyDict_Update(now, proxy) == 0 ? 1 : -1;
	for (Py_ssize_t at = 0; same > 0 && PyDict_Next(copy, &at, &key, &value);)
		same = PyDict_GetItem(now, key) == value;
	for (Py_ssize_t at = 0; same > 0 && PyDict_Next(now, &at, &key, &value);) {
		int new = PyDict_Contains(copy, key) ? 0 : matters(tag, key);
		same = new < 0 ? -1 : !new;
	}
	Py_XDECREF(proxy);
	Py_XDECREF(now);
	return same;
}

static int class_intact(struct lw_tag *tag)
{
	unsigned now = current_tag(tag->type);
	if (now && now == __atomic_load_n(&tag->tag, __ATOMIC_RELAXED))
		return 1;
	if (tag->type->tp_mro != tag->mro)
		return 0;
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(tag->dicts); i++) {
		PyObject *pair = PyList_GET_ITEM(tag->dicts, i);
		int same = same_dict(tag, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
		if (same <= 0)
			return same;
	}
	__atomic_store_n(&tag->tag, fresh_tag(tag->type), __ATOMIC_RELAXED);
	return 1;
}

static int guards_in_place(lw_state *state)
{
	const uint64_t now[2] = { lw_watch_version(state, state->bootstrap_dict), lw_watch_version(state, state->external_dict) };
	if (now[0] && now[1] && now[0] == state->guards_seen[0] && now[1] == state->guards_seen[1])
		return 1;
	for (unsigned i = 0; i < state->guard_count; i++) {
		PyObject *value;
		if (lw_dict_get(state->guards[i].dict, state->guards[i].name, &value) < 0)
			return -1;
		Py_XDECREF(value);
		if (value != state->guards[i].value)
			return 0;
	}
	if (now[0] && now[1])
		memcpy(state->guards_seen, now, sizeof(now));
	return 1;
}

int lw_bootstrap_intact(lw_state *state, enum lw_aside *why)
{
	*why = LW_ASIDE_PATCHED;
	for (unsigned i = 0; i < 3; i++)
		if (PyList_GET_SIZE(state->suffix_lists[i]) != state->suffix_counts[i])
			return 0;
	for (unsigned i = 0; i < state->tag_count; i++) {
		int intact = class_intact(&state->tags[i]);
		if (intact <= 0)
			return intact;
	}
	return guards_in_place(state);
}

int lw_bootstrap_hooks(lw_state *state, bool *extra)
{
	PyObject *hooks;
	if (lw_dict_get(state->sys_dict, LW_STR(state, path_hooks), &hooks) < 0)
		return -1;
	bool list = hooks && PyList_CheckExact(hooks);
	PyObject *first = list ? lw_list_item(hooks, 0) : NULL, *second = list ? lw_list_item(hooks, 1) : NULL;
	int usual = first == state->zip_hook && second == state->file_hook;
	Py_XDECREF(first); /* kept alive by the state, if usual */
	Py_XDECREF(second);
	*extra = usual && PyList_GET_SIZE(hooks) > 2;
	Py_XDECREF(hooks);
	return usual;
}

/* An engine's parts, from its own modules. */
static int take_engine_dicts(lw_state *state)
{
	return state->sys_dict && state->bootstrap_dict && state->external_dict && state->builtins ? 0 : unknown(state, "modules");
}

int lw_bootstrap_find(lw_state *state)
{
	int (*const dicts)(lw_state *) = state->home == state ? take_dicts : take_engine_dicts;
	int (*const step[])(lw_state *) = { dicts, take_functions, take_classes, take_template, take_hooks, add_guards, add_tags };
	for (size_t i = 0; i < Py_ARRAY_LENGTH(step); i++) {
		int error = step[i](state);
		if (error)
			return error;
	}
	return 0;
}

int lw_bootstrap_traverse(lw_state *state, visitproc visit, void *arg)
{
	for (unsigned i = 0; i < state->guard_count; i++)
		Py_VISIT(state->guards[i].value);
	for (unsigned i = 0; i < state->tag_count; i++) {
		Py_VISIT(state->tags[i].mro);
		Py_VISIT(state->tags[i].dicts);
	}
	return 0;
}

void lw_bootstrap_clear(lw_state *state)
{
	for (unsigned i = 0; i < state->guard_count; i++) {
		Py_CLEAR(state->guards[i].name);
		Py_CLEAR(state->guards[i].value);
	}
	for (unsigned i = 0; i < state->tag_count; i++) {
		Py_CLEAR(state->tags[i].mro);
		Py_CLEAR(state->tags[i].dicts);
	}
	PyMem_Free(state->guards);
	PyMem_Free(state->tags);
	state->guards = NULL;
	state->tags = NULL;
	state->guard_count = state->tag_count = 0;
#define X(field) Py_CLEAR(state->field);
	LW_BOOTSTRAP_OBJECTS(X)
#undef X
}

void lw_bootstrap_expect(lw_state *state, PyObject *name, PyObject *before, PyObject *after)
{
	for (unsigned i = 0; i < state->guard_count; i++)
		if (before && state->guards[i].value == before && state->guards[i].name == name)
			Py_SETREF(state->guards[i].value, Py_NewRef(after));
}

/* --- digests --- */

struct text {
	char *data;
	size_t len, size;
};

static int put(struct text *text, const void *data, size_t len)
{
	if (len > text->size - text->len) {
		size_t size = (text->size + len) * 2 + 4096;
		char *bigger = PyMem_Realloc(text->data, size);
		if (!bigger)
			return PyErr_NoMemory(), -1;
		text->data = bigger;
		text->size = size;
	}
	memcpy(text->data + text->len, data, len);
	text->len += len;
	return 0;
}

static int put_text(struct text *text, PyObject *string)
{
	Py_ssize_t len;
	const char *utf8 = PyUnicode_AsUTF8AndSize(string, &len);
	return utf8 ? put(text, utf8, (size_t)len + 1) : -1;
}

static int put_repr(struct text *text, PyObject *object)
{
	PyObject *repr = PyObject_Repr(object);
	int result = repr ? put_text(text, repr) : -1;
	Py_XDECREF(repr);
	return result;
}

static int put_code(struct text *text, PyCodeObject *code);

static int put_const(struct text *text, PyObject *value)
{
	if (PyCode_Check(value))
		return put_code(text, (PyCodeObject *)value);
	if (PyUnicode_CheckExact(value))
		return put(text, "\"", 1) < 0 ? -1 : put_text(text, value);
	if (PyTuple_CheckExact(value)) {
		for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); i++)
			if (put_const(text, PyTuple_GET_ITEM(value, i)) < 0)
				return -1;
		return put(text, ")", 2);
	}
	if (PyFrozenSet_CheckExact(value))
		return put(text, "frozenset", 10); /* its order is not fixed */
	return put_repr(text, value);
}

static int put_code(struct text *text, PyCodeObject *code)
{
	const int numbers[] = { code->co_argcount, code->co_kwonlyargcount, code->co_flags };
	PyObject *bytes = PyCode_GetCode(code);
	int result = bytes ? put(text, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)) : -1;
	Py_XDECREF(bytes);
	if (result == 0)
		result = put(text, numbers, sizeof(numbers));
	if (result == 0)
		result = put_const(text, code->co_names);
	if (result == 0)
		result = put_const(text, code->co_localsplusnames);
	return result == 0 ? put_const(text, code->co_consts) : result;
}

/* A function of DICT by its name: a new reference or NULL. For _find_and_load, where ours or the router's stands in its place, the one that was there. */
static PyObject *function_of(const lw_state *state, PyObject *dict, const char *name)
{
	PyObject *function = Py_XNewRef(PyDict_GetItemString(dict, name)), **behind = function ? lw_behind_router(state->home, function) : NULL;
	if (behind)
		Py_SETREF(function, lw_take_behind(state->home, behind));
	if (function && !PyFunction_Check(function) && state->original && dict == state->bootstrap_dict && strcmp(name, "_find_and_load") == 0)
		Py_SETREF(function, Py_NewRef(state->original));
	return function;
}

/* "Class.method" or "function"; what is missing in a version is part of the digest too. */
static int put_function(struct text *text, const lw_state *state, PyObject *dict, const char *name)
{
	const char *dot = strchr(name, '.');
	PyObject *function = NULL;
	if (dot) {
		PyObject *class_name = PyUnicode_FromStringAndSize(name, dot - name);
		PyObject *class = class_name ? PyDict_GetItem(dict, class_name) : NULL;
		PyObject *proxy = class ? PyObject_GetAttrString(class, "__dict__") : NULL;
		function = proxy ? PyMapping_GetItemString(proxy, dot + 1) : NULL;
		Py_XDECREF(class_name);
		Py_XDECREF(proxy);
	} else {
		function = function_of(state, dict, name);
	}
	if (function && !PyFunction_Check(function)) /* staticmethod, classmethod */
		Py_SETREF(function, PyObject_GetAttrString(function, "__func__"));
	PyErr_Clear();
	int result = put(text, name, strlen(name) + 1);
	if (result == 0)
		result = function && PyFunction_Check(function) ? put_code(text, (PyCodeObject *)PyFunction_GET_CODE(function)) : put(text, "?", 2);
	Py_XDECREF(function);
	return result;
}

static int digest(const lw_state *state, PyObject *const dict[2], const char *const *name, struct lw_hash128 *out)
{
	struct text text = { 0 };
	int result = 0;
	for (; *name && result == 0; name++)
		result = put_function(&text, state, dict[**name == '+'], *name + (**name == '+'));
	if (result == 0)
		*out = lw_hash128(text.data, text.len);
	PyMem_Free(text.data);
	return result;
}

int lw_bootstrap_digests(lw_state *state, struct lw_hash128 *find, struct lw_hash128 *load)
{
	/* '+': in _bootstrap_external. */
	static const char *const find_functions[] = {
		"+_path_join", "+_path_stat", "+_path_isfile", "+_path_isdir", "+_path_is_mode_type", "+_path_isabs", "+_path_abspath",
		"+spec_from_file_location", "+FileFinder.__init__", "+FileFinder.find_spec", "+FileFinder._get_spec", "+FileFinder._fill_cache",
		"+FileFinder.path_hook", "+PathFinder.find_spec", "+PathFinder._get_spec", "+PathFinder._path_importer_cache", "+PathFinder._path_hooks",
		NULL,
	};
	static const char *const load_functions[] = {
		"_find_and_load", "_find_and_load_unlocked", "_find_spec", "_load_unlocked", "module_from_spec", "_init_module_attrs",
		"_ImportLockContext.__enter__", "_ImportLockContext.__exit__", "_ModuleLockManager.__enter__", "_ModuleLockManager.__exit__",
		"_is_initializing", "_resolve_parents", "ModuleSpec.__init__", "BuiltinImporter.find_spec", "FrozenImporter.find_spec",
		"+cache_from_source", "+_get_cached", "+_compile_bytecode", "+_LoaderBasics.create_module", "+_LoaderBasics.exec_module",
		"+SourceLoader.get_code", "+SourceFileLoader.path_stats", "+FileLoader.__init__", NULL,
	};
	PyObject *const dict[2] = { state->bootstrap_dict, state->external_dict };
	if (digest(state, dict, find_functions, find) < 0 || digest(state, dict, load_functions, load) < 0)
		return -1;
	return 0;
}

static const struct verified *look_up(const struct verified *table, size_t count, struct lw_hash128 digest)
{
	for (size_t i = 0; i < count; i++)
		if (table[i].hi == digest.hi && table[i].lo == digest.lo)
			return &table[i];
	return NULL;
}

bool lw_bootstrap_find_known(struct lw_hash128 find)
{
	return look_up(verified_find, Py_ARRAY_LENGTH(verified_find), find) != NULL;
}

bool lw_bootstrap_load_known(struct lw_hash128 load, struct lw_flavour *flavour)
{
	const struct verified *known = look_up(verified_load, Py_ARRAY_LENGTH(verified_load), load);
	if (known)
		*flavour = flavours[known->flavour];
	return known != NULL;
}
