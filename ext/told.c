/* SPDX-License-Identifier: MIT */
/*
 * told: see told.h. Events go through one callable, which ladewerk._engine._events sets and which knows the listeners.
 */
#include "observe.h"
#include "told.h"

static const char *const event_names[LW_EVENT_COUNT] = { "found", "loading", "loaded", "failed", "reused" };

/* A listener's own imports are not told: it would hear of them without end. */
static _Thread_local bool telling;

static PyObject *listener_of(lw_state *state)
{
	PyObject *listener;
	Py_BEGIN_CRITICAL_SECTION(state->module);
	listener = Py_XNewRef(state->listener);
	Py_END_CRITICAL_SECTION();
	return listener;
}

static PyObject *or_none(PyObject *object)
{
	return Py_NewRef(object ? object : Py_None);
}

static void call(PyObject *listener, enum lw_event event, PyObject *name, PyObject *importer, PyObject *spec, int64_t ns, PyObject *error)
{
	PyObject *done = PyObject_CallFunction(listener, "sONNLN", event_names[event], name, or_none(importer), or_none(spec), (long long)ns, or_none(error));
	if (!done)
		PyErr_WriteUnraisable(listener);
	Py_XDECREF(done);
}

void lw_tell(lw_state *state, enum lw_event event, PyObject *name, PyObject *importer, PyObject *spec, int64_t ns, PyObject *error)
{
	PyObject *listener = lw_wants(state, event) && !telling ? listener_of(state) : NULL;
	if (!listener)
		return;
	telling = true;
	call(listener, event, name, importer, spec, ns, error);
	telling = false;
	Py_DECREF(listener);
}

/* MODULE.__spec__, or NULL; no exception. */
static PyObject *spec_of(lw_state *state, PyObject *module)
{
	PyObject *spec = NULL;
	if (lw_attr_get(module, LW_STR(state, __spec__), &spec) < 0)
		PyErr_Clear();
	if (spec == Py_None)
		Py_CLEAR(spec);
	return spec;
}

void lw_tell_reused(lw_state *state, PyObject *name, PyObject *module)
{
	struct lw_error error;
	if (!lw_wants(state, LW_EVENT_REUSED) || telling)
		return;
	lw_error_save(&error);
	PyObject *importer = lw_importer_name(), *spec = spec_of(state, module);
	lw_tell(state, LW_EVENT_REUSED, name, importer, spec, 0, NULL);
	Py_XDECREF(importer);
	Py_XDECREF(spec);
	lw_error_restore(&error);
}

/* --- importlib._bootstrap._load_unlocked(spec): what was found otherwise than by the fast path --- */

static PyObject *load_unlocked(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	lw_state *state = lw_state_behind(self);
	if (!state || !state->load.original)
		return PyErr_Format(PyExc_ImportError, "ladewerk: the extension has been torn down");
	if (nargs == 1 && !kwnames)
		lw_span_spec(state, args[0]);
	return PyObject_Vectorcall(state->load.original, args, (size_t)nargs, kwnames);
}

static PyMethodDef load_unlocked_def = {
	"_load_unlocked", (PyCFunction)(void (*)(void))load_unlocked, METH_FASTCALL | METH_KEYWORDS, "Load what a spec says."
};

/* --- builtins.__import__: modules that are there --- */

/* What a relative import of code with GLOBALS is relative to, or NULL. No exception. */
static PyObject *package_of(lw_state *state, PyObject *globals)
{
	PyObject *spec, *package = NULL;
	if (lw_dict_get(globals, LW_STR(state, __package__), &package) > 0 && PyUnicode_Check(package))
		return package;
	Py_CLEAR(package);
	if (lw_dict_get(globals, LW_STR(state, __spec__), &spec) > 0 && lw_attr_get(spec, LW_STR(state, parent), &package) > 0 && !PyUnicode_Check(package))
		Py_CLEAR(package);
	Py_XDECREF(spec);
	PyErr_Clear();
	return package;
}

/* The absolute name of NAME, LEVEL packages above PACKAGE's children; NULL if there is none. No exception. */
static PyObject *resolve(PyObject *package, PyObject *name, int level)
{
	Py_ssize_t end = PyUnicode_GET_LENGTH(package);
	for (int up = 1; up < level && end > 0; up++)
		end = PyUnicode_FindChar(package, '.', 0, end, -1);
	PyObject *base = end > 0 ? PyUnicode_Substring(package, 0, end) : NULL;
	if (base && PyUnicode_GET_LENGTH(name))
		Py_XSETREF(base, PyUnicode_FromFormat("%U.%U", base, name));
	PyErr_Clear();
	return base;
}

/* What __import__(*ARGS, **KWARGS) asks for. A new reference or NULL; no exception. */
static PyObject *asked_for(lw_state *state, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = { "name", "globals", "locals", "fromlist", "level", NULL };
	PyObject *name, *globals = NULL, *locals, *fromlist, *package;
	int level = 0;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|OOOi", keywords, &name, &globals, &locals, &fromlist, &level)) {
		PyErr_Clear();
		return NULL;
	}
	if (level <= 0)
		return Py_NewRef(name);
	package = globals && PyDict_Check(globals) ? package_of(state, globals) : NULL;
	PyObject *absolute = package ? resolve(package, name, level) : NULL;
	Py_XDECREF(package);
	return absolute;
}

/* sys.modules[NAME] unless it is None. A new reference or NULL; no exception. */
static PyObject *module_that_is_there(lw_state *state, PyObject *name)
{
	PyObject *modules = lw_modules(state);
	PyObject *module = modules ? PyObject_GetItem(modules, name) : NULL;
	Py_XDECREF(modules);
	if (module == Py_None)
		Py_CLEAR(module);
	PyErr_Clear();
	return module;
}

/* The running code's imports are those of STATE. Code with builtins of its own may have a copy of our function. */
static bool is_of(const lw_state *state)
{
	if (PyEval_GetBuiltins() != state->builtins)
		return false;
	return state != state->home || !state->engines || !state->current_engine(state->engines);
}

static PyObject *import_statement(PyObject *self, PyObject *args, PyObject *kwargs)
{
	lw_state *state = lw_state_behind(self);
	if (!state || !state->statement.original)
		return PyErr_Format(PyExc_ImportError, "ladewerk: the extension has been torn down");
	bool heard = lw_wants(state, LW_EVENT_REUSED) && !telling && is_of(state);
	PyObject *name = heard ? asked_for(state, args, kwargs) : NULL;
	PyObject *module = name ? module_that_is_there(state, name) : NULL;
	PyObject *result = PyObject_Call(state->statement.original, args, kwargs);
	if (result && module)
		lw_tell_reused(state, name, module);
	Py_XDECREF(module);
	Py_XDECREF(name);
	return result;
}

static PyMethodDef import_statement_def = {
	"__import__", (PyCFunction)(void (*)(void))import_statement, METH_VARARGS | METH_KEYWORDS, "Import a module."
};

/* --- wrappers, in and out --- */

static int wrap(lw_state *state, PyObject *dict, PyObject *name, PyMethodDef *def, struct lw_wrap *wrap)
{
	if (wrap->in)
		return 0;
	int result = lw_replace(state, dict, name, def, state->told_self ? state->told_self : state->module, &wrap->original, &wrap->replacement);
	wrap->in = result == 0;
	return result < 0 ? -1 : 0;
}

static void unwrap(lw_state *state, PyObject *dict, PyObject *name, struct lw_wrap *wrap)
{
	if (wrap->in && lw_restore(state, dict, name, wrap->original, wrap->replacement))
		wrap->in = false;
}

static int place_load(lw_state *state)
{
	if (wrap(state, state->bootstrap_dict, LW_STR(state, _load_unlocked), &load_unlocked_def, &state->load) < 0)
		return -1;
	lw_bootstrap_expect(state, LW_STR(state, _load_unlocked), state->load.original, state->load.replacement);
	return 0;
}

int lw_told_place(lw_state *state)
{
	if (!lw_is_heard(state))
		return 0;
	if (place_load(state) < 0 || (!state->told_self && !state->fast && lw_replace_find(state) < 0))
		return -1;
	return lw_wants(state, LW_EVENT_REUSED) ? wrap(state, state->builtins, LW_STR(state, __import__), &import_statement_def, &state->statement) : 0;
}

void lw_told_unplace(lw_state *state)
{
	if (!state->bootstrap_dict)
		return;
	unwrap(state, state->builtins, LW_STR(state, __import__), &state->statement);
	if (!state->told_self && !state->fast)
		lw_restore_find(state);
	unwrap(state, state->bootstrap_dict, LW_STR(state, _load_unlocked), &state->load);
	lw_bootstrap_expect(state, LW_STR(state, _load_unlocked), state->load.replacement, state->load.original);
}

/* EVENTS, a collection of their names, as bits; -1 with an exception. */
static int bits_of(PyObject *events)
{
	int bits = 0;
	for (unsigned i = 0; i < LW_EVENT_COUNT; i++) {
		PyObject *name = PyUnicode_FromString(event_names[i]);
		int among = name ? PySequence_Contains(events, name) : -1;
		Py_XDECREF(name);
		if (among < 0)
			return -1;
		bits |= among << i;
	}
	return bits;
}

PyObject *lw_listen_to(lw_state *state, PyObject *self, PyObject *args)
{
	PyObject *listener, *events;
	if (!PyArg_ParseTuple(args, "OO:listen", &listener, &events))
		return NULL;
	int bits = bits_of(events), result;
	if (bits < 0 || (bits && state == state->home && lw_find_parts(state) < 0))
		return NULL;
	PyObject *before;
	Py_BEGIN_CRITICAL_SECTION(state->module);
	state->told_self = state == state->home ? NULL : self;
	lw_told_unplace(state);
	before = state->listener;
	state->listener = bits ? Py_NewRef(listener) : NULL;
	atomic_store_explicit(&state->told_events, (unsigned)bits, memory_order_relaxed);
	result = lw_told_place(state);
	Py_END_CRITICAL_SECTION();
	Py_XDECREF(before);
	return result < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *lw_listen(PyObject *module, PyObject *args)
{
	return lw_listen_to(lw_state_of(module), module, args);
}
