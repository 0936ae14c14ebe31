/* SPDX-License-Identifier: MIT */
/*
 * load: spec, loader and module objects as the stock machinery makes them, and the execution of source modules from packed code.
 *
 * Everything a program can see of them is stock: types, attributes, their order, sys.modules while the body runs and after it failed.
 */
#include "lazy.h"
#include "observe.h"

#include "hash.h"

#include <marshal.h>

static PyObject *decode(const char *path, size_t len)
{
	return PyUnicode_DecodeFSDefaultAndSize(path, (Py_ssize_t)len);
}

/* The loader class that FileFinder pairs with suffix I. */
static PyObject *loader_class(lw_state *state, unsigned i)
{
	const struct lw_suffixes *suffixes = lw_session_suffixes(state->session);
	if (i < suffixes->source)
		return state->extension_loader;
	return i == suffixes->source ? state->source_loader : state->sourceless_loader;
}

PyObject *lw_pycache_prefix(lw_state *state)
{
	PyObject *prefix;
	if (lw_dict_get(state->home->sys_dict, LW_STR(state, pycache_prefix), &prefix) < 0)
		return NULL;
	return prefix ? prefix : Py_NewRef(Py_None);
}

/* PATH's directory and stem with "/__pycache__/" between them and TAIL behind; all ASCII. */
static PyObject *join_cached(PyObject *path, Py_ssize_t slash, PyObject *tail)
{
	static const char middle[] = "/__pycache__/";
	const Py_ssize_t middle_len = sizeof(middle) - 1, stem_len = PyUnicode_GET_LENGTH(path) - 3 - (slash + 1), tail_len = PyUnicode_GET_LENGTH(tail);
	PyObject *joined = PyUnicode_New(slash + middle_len + stem_len + tail_len, 127);
	if (!joined)
		return NULL;
	const char *from = (const char *)PyUnicode_1BYTE_DATA(path);
	char *to = (char *)PyUnicode_1BYTE_DATA(joined);
	memcpy(to, from, (size_t)slash);
	memcpy(to += slash, middle, (size_t)middle_len);
	memcpy(to += middle_len, from + slash + 1, (size_t)stem_len);
	memcpy(to + stem_len, PyUnicode_1BYTE_DATA(tail), (size_t)tail_len);
	return joined;
}

/* importlib's _get_cached(): for a source path without sys.pycache_prefix (PREFIX), computed here; else asked. */
static PyObject *cached_path(lw_state *state, PyObject *path, PyObject *prefix)
{
	PyObject *tag = PyObject_GetAttr(state->implementation, LW_STR(state, cache_tag));
	Py_XDECREF(tag);
	Py_ssize_t len = PyUnicode_GET_LENGTH(path);
	Py_ssize_t slash = PyUnicode_FindChar(path, '/', 0, len, -1);
	if (prefix != Py_None || tag != state->cache_tag || slash <= 0) {
		PyErr_Clear();
		PyObject *get_cached;
		if (lw_dict_get(state->external_dict, LW_STR(state, _get_cached), &get_cached) <= 0)
			return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
		PyObject *answer = PyObject_CallOneArg(get_cached, path);
		Py_DECREF(get_cached);
		return answer;
	}
	if (PyUnicode_IS_COMPACT_ASCII(path) && PyUnicode_IS_COMPACT_ASCII(state->pyc_tail))
		return join_cached(path, slash, state->pyc_tail);
	PyObject *head = PyUnicode_Substring(path, 0, slash), *stem = PyUnicode_Substring(path, slash + 1, len - 3);
	PyObject *result = head && stem ? PyUnicode_FromFormat("%U/__pycache__/%U%U", head, stem, state->pyc_tail) : NULL;
	Py_XDECREF(head);
	Py_XDECREF(stem);
	return result;
}

/* What becomes the spec's submodule_search_locations. A new reference or NULL. */
static PyObject *locations_of(const struct lw_hit *hit)
{
	if (hit->kind != LW_HIT_PACKAGE)
		return Py_NewRef(Py_None);
	PyObject *base = decode(hit->path, hit->base_len);
	PyObject *list = base ? PyList_New(1) : NULL;
	if (list)
		PyList_SET_ITEM(list, 0, base);
	else
		Py_XDECREF(base);
	return list;
}

static int set(PyObject *dict, PyObject *key, PyObject *value)
{
	return PyDict_SetItem(dict, key, value);
}

/* An instance of TYPE without its __init__, whose code is verified and does nothing but set attributes: the caller sets them, in the same order. */
static PyObject *bare_instance(PyObject *type)
{
	return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
}

/* The attributes of a new spec: those of any, with what differs from one to the next put in. */
static PyObject *spec_attributes(lw_state *state, PyObject *name, const struct lw_hit *hit, PyObject *path, PyObject *loader, PyObject *cached)
{
	PyObject *locations = locations_of(hit), *submodules = PyList_New(0);
	PyObject *dict = locations && submodules ? PyDict_Copy(state->spec_template) : NULL;
	if (dict && (set(dict, LW_STR(state, name), name) < 0 || set(dict, LW_STR(state, loader), loader) < 0 || set(dict, LW_STR(state, origin), path) < 0
			|| set(dict, LW_STR(state, submodule_search_locations), locations) < 0
			|| set(dict, LW_STR(state, _uninitialized_submodules), submodules) < 0 || (cached && set(dict, LW_STR(state, _cached), cached) < 0)))
		Py_CLEAR(dict);
	Py_XDECREF(locations);
	Py_XDECREF(submodules);
	return dict;
}

static PyObject *make_spec(lw_state *state, PyObject *name, const struct lw_hit *hit, PyObject *path, PyObject *loader, PyObject *cached)
{
	PyObject *dict = spec_attributes(state, name, hit, path, loader, cached);
	PyObject *spec = dict ? bare_instance(state->module_spec) : NULL;
	/* Not PyObject_GenericSetDict(), which 3.13 leaves out of step with the values kept in the object. */
	if (spec && PyObject_SetAttr(spec, LW_STR(state, __dict__), dict) < 0)
		Py_CLEAR(spec);
	Py_XDECREF(dict);
	return spec;
}

static PyObject *make_loader(lw_state *state, PyObject *name, unsigned suffix, PyObject *path)
{
	PyObject *args[] = { name, path }, *class = loader_class(state, suffix);
	if (class != state->source_loader)
		return PyObject_Vectorcall(class, args, 2, NULL);
	PyObject *loader = bare_instance(class);
	if (loader && (PyObject_SetAttr(loader, LW_STR(state, name), name) < 0 || PyObject_SetAttr(loader, LW_STR(state, path), path) < 0))
		Py_CLEAR(loader);
	return loader;
}

PyObject *lw_make_spec(lw_state *state, PyObject *name, const struct lw_hit *hit)
{
	PyObject *spec = NULL, *path = decode(hit->path, hit->len);
	PyObject *loader = path ? make_loader(state, name, hit->suffix, path) : NULL;
	if (loader)
		spec = make_spec(state, name, hit, path, loader, NULL);
	Py_XDECREF(path);
	Py_XDECREF(loader);
	return spec;
}

/* --- code --- */

/* What marshal raises. Anything else was raised by an audit hook, and is the answer. */
static bool is_unreadable(void)
{
	return PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_EOFError) || PyErr_ExceptionMatches(PyExc_TypeError)
		|| PyErr_ExceptionMatches(PyExc_MemoryError);
}

static PyObject *unmarshal(lw_state *state, const struct lw_code *packed, PyObject *path)
{
	enum lw_phase phase = lw_phase(LW_PHASE_UNMARSHAL);
	PyObject *code = lw_unmarshal(state->home, packed->data, packed->len);
	lw_phase(phase);
	if (code && !PyCode_Check(code)) {
		PyErr_SetString(PyExc_ValueError, "not a code object");
		Py_CLEAR(code);
	}
	if (!code || PyUnicode_Compare(((PyCodeObject *)code)->co_filename, path) == 0)
		return code; /* so have all code objects within it */
	PyObject *args[] = { code, path };
	PyObject *none = PyObject_Vectorcall(state->fix_co_filename, args, 2, NULL);
	if (!none)
		Py_CLEAR(code);
	Py_XDECREF(none);
	return code;
}

/* CODE of module NAME, as it is stored, made ready for lazy imports where that is wanted: a new reference to it or to other code in its place. Steals CODE. */
static PyObject *make_ready(lw_state *state, PyObject *name, PyObject *path, PyObject *code)
{
	PyObject *ready = !lw_lazy_is_ready(code) && lw_lazy_makes(state->home, name, path) ? lw_lazy_transform(code) : Py_NewRef(code);
	Py_DECREF(code);
	return ready;
}

static void learn(lw_state *state, const struct lw_hit *hit, PyObject *code, uint64_t content)
{
	PyObject *bytes = PyMarshal_WriteObjectToString(code, Py_MARSHAL_VERSION);
	if (bytes) {
		lw_enter(state->session);
		lw_session_learn(state->session, hit, content, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
		lw_session_leave(state->session);
		Py_DECREF(bytes);
	}
	PyErr_Clear();
}

/* Write the .pyc of CODE anew, as SourceLoader.get_code() does after it has compiled. Failure is not an error there either. */
static int renew_pyc(lw_state *state, PyObject *loader, PyObject *path, PyObject *cached, PyObject *code, const struct lw_stat *st)
{
	PyObject *dont;
	if (lw_dict_get(state->home->sys_dict, LW_STR(state, dont_write_bytecode), &dont) < 0)
		return -1;
	int off = dont ? PyObject_IsTrue(dont) : 1;
	Py_XDECREF(dont);
	PyObject *to_pyc;
	if (off || lw_dict_get(state->external_dict, LW_STR(state, _code_to_timestamp_pyc), &to_pyc) <= 0)
		return off < 0 || PyErr_Occurred() ? -1 : 0;
	PyObject *data = PyObject_CallFunction(to_pyc, "OLK", code, (long long)(st->mtime_ns / 1000000000), (unsigned long long)st->size);
	Py_DECREF(to_pyc);
	PyObject *none = data ? PyObject_CallMethod(loader, "_cache_bytecode", "OOO", path, cached, data) : NULL;
	Py_XDECREF(data);
	Py_XDECREF(none);
	return none ? 0 : -1;
}

/* What SourceLoader.get_code() does without a .pyc. *CONTENT: the hash of what was compiled. */
static PyObject *compile_source(lw_state *state, PyObject *loader, PyObject *name, PyObject *path, PyObject *cached, const struct lw_hit *hit,
		uint64_t *content)
{
	PyObject *source = PyObject_CallMethod(loader, "get_data", "O", path);
	*content = source && PyBytes_Check(source) ? lw_hash64(PyBytes_AS_STRING(source), (size_t)PyBytes_GET_SIZE(source)) : 0;
#if PY_VERSION_HEX >= 0x030f0000
	PyObject *code = source ? PyObject_CallMethod(loader, "source_to_code", "OOO", source, path, name) : NULL;
#else
	PyObject *code = source ? PyObject_CallMethod(loader, "source_to_code", "OO", source, path) : NULL;
#endif
	Py_XDECREF(source);
	if (code && cached != Py_None && renew_pyc(state, loader, path, cached, code, &hit->stat) < 0)
		Py_CLEAR(code);
	return code;
}

/* CODE is in the store as somebody else has left it: made ready, and the store has that from now on. Steals CODE. */
static PyObject *replace_stored(lw_state *state, const struct lw_hit *hit, PyObject *code)
{
	PyObject *ready = lw_lazy_transform(code);
	if (ready && ready != code)
		learn(state, hit, ready, 0);
	Py_DECREF(code);
	return ready;
}

struct code_request {
	PyObject *name, *path, *loader, *cached;
	struct lw_hit *hit;	/* freed before the body runs: imports nest deep */
	bool bytecode_moved;	/* the program has changed sys.pycache_prefix: what is there counts, or it is compiled */
};

static PyObject *from_disk(lw_state *state, const struct code_request *request, enum lw_served *how)
{
	struct lw_code packed;
	bool stock = false;
	uint64_t content = 0;
	int result;
	PyObject *pyc = request->cached && request->cached != Py_None ? PyUnicode_EncodeFSDefault(request->cached) : NULL;
	PyErr_Clear();
	enum lw_phase phase = lw_phase(LW_PHASE_VALIDATE);
	Py_BEGIN_ALLOW_THREADS
	result = lw_session_acquire(state->session, request->hit, pyc ? PyBytes_AS_STRING(pyc) : NULL, &packed, &stock);
	Py_END_ALLOW_THREADS
	lw_phase(phase);
	Py_XDECREF(pyc);
	if (result == LW_OK) {
		PyObject *code = unmarshal(state, &packed, request->path);
		bool makes = packed.learnable && lw_lazy_is_on(&state->home->lazy);
		lw_session_release(state->session, &packed);
		*how = LW_SERVED_PYC;
		if (code)
			code = make_ready(state, request->name, request->path, code);
		if (code && makes)
			learn(state, request->hit, code, 0);
		if (code || !is_unreadable())
			return code;
		PyErr_Clear(); /* stock says what is wrong with it */
		stock = true;
	}
	*how = stock ? LW_SERVED_STOCK_LOADER : LW_SERVED_COMPILED;
	if (stock)
		return PyObject_CallMethodOneArg(request->loader, LW_STR(state, get_code), request->name);
	phase = lw_phase(LW_PHASE_COMPILE);
	PyObject *code = compile_source(state, request->loader, request->name, request->path, request->cached, request->hit, &content);
	lw_phase(phase);
	if (code && PyCode_Check(code)) {
		code = make_ready(state, request->name, request->path, code);
		if (code)
			learn(state, request->hit, code, content);
	}
	if (code || !PyErr_ExceptionMatches(PyExc_OSError))
		return code;
	PyErr_Clear(); /* a source that may not be read: stock may run the .pyc, or says so */
	return PyObject_CallMethodOneArg(request->loader, LW_STR(state, get_code), request->name);
}

static PyObject *get_code(lw_state *state, const struct code_request *request, enum lw_served *how)
{
	struct lw_code packed;
	if (request->bytecode_moved) {
		*how = LW_SERVED_STOCK_LOADER;
		return PyObject_CallMethodOneArg(request->loader, LW_STR(state, get_code), request->name);
	}
	lw_enter(state->session);
	int result = lw_session_code(state->session, request->hit, &packed);
	lw_session_leave(state->session);
	if (result == LW_OK) {
		PyObject *code = unmarshal(state, &packed, request->path);
		bool makes = lw_lazy_is_on(&state->home->lazy) && !packed.artifact;
		lw_session_release(state->session, &packed);
		*how = LW_SERVED_PACK;
		if (code && makes && !lw_lazy_is_ready(code) && lw_lazy_makes(state->home, request->name, request->path))
			code = replace_stored(state, request->hit, code);
		if (code || !is_unreadable())
			return code;
		PyErr_Clear();
	}
	return from_disk(state, request, how);
}

/* --- module --- */

/* What _init_module_attrs() does to a new module. */
static int init_attributes(lw_state *state, PyObject *module, PyObject *spec, PyObject *loader, PyObject *name, PyObject *path,
		PyObject *cached, const struct lw_hit *hit)
{
	PyObject *dict = PyModule_GetDict(module), *package;
	if (hit->kind == LW_HIT_PACKAGE) {
		package = Py_NewRef(name);
	} else {
		Py_ssize_t len = PyUnicode_GET_LENGTH(name), dot = PyUnicode_FindChar(name, '.', 0, len, -1);
		package = PyUnicode_Substring(name, 0, dot < 0 ? 0 : dot);
	}
	int result = package ? 0 : -1;
	if (!result)
		result = set(dict, LW_STR(state, __loader__), loader);
	if (!result)
		result = set(dict, LW_STR(state, __package__), package);
	if (!result)
		result = set(dict, LW_STR(state, __spec__), spec);
	if (!result && hit->kind == LW_HIT_PACKAGE) {
		PyObject *locations = PyObject_GetAttr(spec, LW_STR(state, submodule_search_locations));
		result = locations ? set(dict, LW_STR(state, __path__), locations) : -1;
		Py_XDECREF(locations);
	}
	if (!result)
		result = set(dict, LW_STR(state, __file__), path);
	if (!result && state->flavour.sets_cached && cached && cached != Py_None)
		result = set(dict, LW_STR(state, __cached__), cached);
	Py_XDECREF(package);
	return result;
}

/* exec(code, module.__dict__), with what the builtin does beside evaluating. */
static int execute(lw_state *state, PyObject *code, PyObject *module)
{
	PyObject *dict = PyModule_GetDict(module);
	if (PySys_Audit("exec", "O", code) < 0)
		return -1;
	int has = PyDict_Contains(dict, LW_STR(state, __builtins__));
	if (has < 0 || (!has && PyDict_SetItem(dict, LW_STR(state, __builtins__), state->builtins) < 0))
		return -1;
	PyObject *result = PyEval_EvalCode(code, dict, dict);
	Py_XDECREF(result);
	return result ? 0 : -1;
}

/* CODE is about to be executed as the body of MODULE: so that its imports may wait, or other code in its place (steals it); NULL with an exception. */
static PyObject *arm(lw_state *state, const struct code_request *request, PyObject *code, PyObject *module)
{
	if (lw_lazy_is_ready(code) && state->lazy.policy && lw_lazy_is_tainted(state->lazy.policy, code, request->name))
		Py_SETREF(code, PyObject_CallMethodOneArg(request->loader, LW_STR(state, get_code), request->name));
	else if (lw_lazy_arm(state, code, module, request->name, request->path) < 0)
		Py_CLEAR(code);
	return code;
}

static int run_body(lw_state *state, struct code_request *request, PyObject *module)
{
	enum lw_served how;
	PyObject *code = get_code(state, request, &how);
	PyMem_RawFree(request->hit);
	request->hit = NULL;
	if (!code)
		return -1;
	if (code == Py_None) {
		PyErr_Format(PyExc_ImportError, "cannot load module %R when get_code() returns None", request->name);
		Py_DECREF(code);
		return -1;
	}
	lw_served(state, how);
	lw_span_how(how == LW_SERVED_PACK ? LW_HOW_PACK : how == LW_SERVED_PYC ? LW_HOW_PYC : how == LW_SERVED_COMPILED ? LW_HOW_COMPILED : LW_HOW_STOCK_LOADER);
	enum lw_phase phase = lw_phase(LW_PHASE_EXECUTE);
	code = lw_lazy_is_on(&state->lazy) && PyCode_Check(code) ? arm(state, request, code, module) : code;
	int result = code ? execute(state, code, module) : -1;
	lw_phase(phase);
	Py_XDECREF(code);
	return result;
}

static void drop_failed(lw_state *state, PyObject *modules, PyObject *name)
{
	struct lw_error error;
	lw_error_save(&error);
	if (lw_modules_del(state, modules, name) < 0)
		PyErr_Clear();
	lw_error_restore(&error);
}

/* sys.modules[name] = sys.modules.pop(name): what is there may not be what we put there. */
static PyObject *move_to_end(lw_state *state, PyObject *modules, PyObject *name)
{
	PyObject *module = lw_modules_get(state, modules, name);
	if (module && (lw_modules_del(state, modules, name) < 0 || lw_modules_set(state, modules, name, module) < 0))
		Py_CLEAR(module);
	return module;
}

/* SPEC.ATTRIBUTE, or sys.modules: the body may have changed them. NULL with an exception; a pending one survives. */
static PyObject *now(lw_state *state, PyObject *spec, PyObject *attribute)
{
	struct lw_error error;
	lw_error_save(&error);
	PyObject *value = spec ? PyObject_GetAttr(spec, attribute) : lw_modules(state);
	if (lw_error_set(&error))
		lw_error_restore(&error);
	return value;
}

/* Execute the body of MODULE; what is in MODULES afterwards. */
static PyObject *execute_in_modules(lw_state *state, struct code_request *request, PyObject *spec, PyObject *module, PyObject *modules)
{
	PyObject *loaded = NULL;
	if (PyObject_SetAttr(spec, LW_STR(state, _initializing), Py_True) < 0)
		return NULL;
	if (PyDict_SetItem(modules, request->name, module) == 0) {
		int result = run_body(state, request, module);
		PyObject *name = now(state, spec, LW_STR(state, name)), *live = name ? now(state, NULL, NULL) : NULL;
		if (live && result == 0)
			loaded = move_to_end(state, live, name);
		else if (live)
			drop_failed(state, live, name);
		Py_XDECREF(name);
		Py_XDECREF(live);
	}
	struct lw_error error;
	lw_error_save(&error);
	int done = PyObject_SetAttr(spec, LW_STR(state, _initializing), Py_False);
	if (lw_error_set(&error))
		lw_error_restore(&error);
	else if (done < 0)
		Py_CLEAR(loaded);
	return loaded;
}

/* The loader, path and spec of a module that is to be loaded from its hit: of *SPEC if somebody has found it, else made. 0 or -1. */
static int prepare(lw_state *state, struct code_request *request, PyObject *prefix, PyObject **spec)
{
	PyObject *found = *spec;
	request->path = found ? PyObject_GetAttr(found, LW_STR(state, origin)) : decode(request->hit->path, request->hit->len);
	if (request->path)
		request->loader = found ? PyObject_GetAttr(found, LW_STR(state, loader)) : make_loader(state, request->name, request->hit->suffix, request->path);
	if (request->loader)
		request->cached = cached_path(state, request->path, prefix);
	if (!request->cached)
		return -1;
	PyObject *cached = state->flavour.sets_cached ? request->cached : NULL;
	if (!found)
		*spec = make_spec(state, request->name, request->hit, request->path, request->loader, cached);
	else if (cached && PyObject_SetAttr(found, LW_STR(state, _cached), cached) < 0)
		return -1;
	return *spec ? 0 : -1;
}

PyObject *lw_load_source(lw_state *state, PyObject *name, struct lw_hit *hit, PyObject *found, PyObject *modules)
{
	PyObject *spec = Py_XNewRef(found), *module = NULL, *loaded = NULL;
	struct code_request request = { .name = found ? PyObject_GetAttr(found, LW_STR(state, name)) : Py_NewRef(name), .hit = hit };
	PyObject *prefix = lw_pycache_prefix(state);
	request.bytecode_moved = prefix != state->pycache_prefix;
	if (prefix && request.name && prepare(state, &request, prefix, &spec) == 0)
		module = PyModule_NewObject(request.name);
	if (module && lw_current_span)
		lw_span_spec(state, spec);
	if (module && init_attributes(state, module, spec, request.loader, request.name, request.path, request.cached, hit) == 0)
		loaded = execute_in_modules(state, &request, spec, module, modules);
	Py_XDECREF(module);
	Py_XDECREF(spec);
	Py_XDECREF(request.name);
	Py_XDECREF(request.cached);
	Py_XDECREF(request.loader);
	Py_XDECREF(request.path);
	PyMem_RawFree(request.hit);
	Py_XDECREF(prefix);
	return loaded;
}

/* --- for those who run the bodies of modules themselves --- */

PyObject *lw_source_code(PyObject *module, PyObject *args)
{
	lw_state *state = lw_state_of(module);
	struct code_request request = { 0 };
	PyObject *entry;
	enum lw_aside why;
	enum lw_served how;
	if (!PyArg_ParseTuple(args, "UUUOO:source_code", &request.name, &entry, &request.path, &request.loader, &request.cached))
		return NULL;
	int known = state->installed && !lw_lazy_is_on(&state->lazy) && (PyObject *)Py_TYPE(request.loader) == state->source_loader ? lw_bootstrap_intact(state, &why) : 0;
	PyObject *prefix = known > 0 ? lw_pycache_prefix(state) : NULL, *code = NULL;
	if (known < 0 || (known && !prefix))
		return NULL;
	if (!known)
		Py_RETURN_NONE;
	request.bytecode_moved = prefix != state->pycache_prefix;
	Py_DECREF(prefix);
	request.hit = PyMem_RawMalloc(sizeof(*request.hit));
	if (!request.hit)
		return PyErr_NoMemory();
	known = lw_find_source(state, request.name, entry, request.path, request.hit);
	if (known > 0)
		code = get_code(state, &request, &how);
	if (code && code != Py_None)
		lw_served(state, how);
	PyMem_RawFree(request.hit);
	return known ? code : Py_NewRef(Py_None);
}
