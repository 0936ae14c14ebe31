/* SPDX-License-Identifier: MIT */
/*
 * inside: imports of an engine from the index.
 *
 * An engine has import state of its own, and a copy of importlib's two modules that works on it. What the file system holds, and the code in the cache, is
 * the same for all. So an engine gets a lw_state of its own, made of its copy as the interpreter's is made of importlib, over the one session of the process; and
 * what belongs to the interpreter stays in the interpreter's state ("home"): the collector, interned strings, counters, the record, our finder.
 *
 * The object is called in the place of the engine's _find_and_load. It steps aside where home does not serve imports, and where the engine's copy is not as
 * the ones that Ladewerk was verified with. Functions that engines have of their own come into the copy when that has been looked at (OWN).
 *
 * Threads: the state is whole when the object is; only what home has since install() is added when the first import comes after it, under the object's critical
 * section.
 */
#include "told.h"

#include "engine/engine.h"

#include <stddef.h>
#if PY_VERSION_HEX < 0x030c0000
#include <structmember.h>
#define Py_T_PYSSIZET T_PYSSIZET
#define Py_READONLY READONLY
#endif

typedef struct {
	PyObject_HEAD
	vectorcallfunc call;
	PyObject *native;	/* strong: the module, home's */
	lw_state *state;	/* NULL once it was torn down; installed: imports are served from it while home serves some */
	bool strange;		/* they never are: the state's reason says why */
	bool stepped_aside;	/* they are not, because the engine finds or loads in a way of its own; it is a finder all the same */
} inside_object;

/* What is in the state beside LW_BOOTSTRAP_OBJECTS. */
#define MORE(X) X(reason) X(finder) X(view_type) X(original) X(views_single) X(views_multi) X(cache_tag) X(pycache_prefix) X(pyc_tail) \
	X(given) X(given_names) X(asker) X(attend) X(shown) X(stored) X(listener) X(load.original) X(load.replacement) X(statement.original) X(statement.replacement)

static void destroy_state(lw_state *state)
{
	if (!state)
		return;
	lw_watch_end(state);
	lw_bootstrap_clear(state);
#define X(field) Py_CLEAR(state->field);
	MORE(X)
#undef X
	for (unsigned i = 0; i < LW_STR_COUNT; i++)
		Py_CLEAR(state->str[i]);
	PyMem_Free(state);
}

/* The engine's copy of importlib is one that we stand in for: 0, 1 (it is not: the state's reason), -1. */
static int verify(lw_state *state)
{
	struct lw_hash128 find, load;
	if (lw_bootstrap_digests(state, &find, &load) < 0)
		return -1;
	if (lw_bootstrap_find_known(find) && lw_bootstrap_load_known(load, &state->flavour))
		return 0;
	Py_XSETREF(state->reason, PyUnicode_FromString("the engine's import functions are not ones that Ladewerk was verified against"));
	return state->reason ? 1 : -1;
}

/* What home has since it was installed. 0 or -1. */
static int adopt(lw_state *state)
{
	lw_state *home = state->home;
	Py_XSETREF(state->cache_tag, Py_XNewRef(home->cache_tag));
	Py_XSETREF(state->pycache_prefix, Py_XNewRef(home->pycache_prefix));
	Py_XSETREF(state->pyc_tail, Py_XNewRef(home->pyc_tail));
	state->session = home->session;
	if (lw_watch_importers(state) < 0)
		return -1;
	lw_count(&home->engines_served);
	state->installed = state->fast = true;
	return 0;
}

/* The engine's state, if imports are served from it: 1, 0, -1. */
static int state_of(inside_object *self, lw_state **state)
{
	const lw_state *home = lw_state_of(self->native);
	int result = 1;
	*state = self->state;
	if (!home || !home->installed || !home->fast || !self->state || self->strange)
		return 0;
	Py_BEGIN_CRITICAL_SECTION(self);
	if (!self->state->installed)
		result = adopt(self->state) < 0 ? -1 : 1;
	Py_END_CRITICAL_SECTION();
	return result;
}

static PyObject *inside_call(PyObject *object, PyObject *const *args, size_t flags, PyObject *kwnames)
{
	inside_object *self = (inside_object *)object;
	lw_state *state;
	Py_ssize_t nargs = PyVectorcall_NARGS(flags);
	if (!self->state)
		return PyErr_Format(PyExc_ImportError, "ladewerk: the engine has been torn down");
	int served = self->stepped_aside ? 0 : state_of(self, &state);
	if (served < 0)
		return NULL;
	if (!served && lw_is_heard(self->state) && nargs == 2 && !kwnames && PyUnicode_CheckExact(args[0]))
		return lw_heard_stock(self->state, args[0], args[1]);
	return served ? lw_find_and_load(state, args, nargs, kwnames) : PyObject_Vectorcall(self->state->original, args, (size_t)nargs, kwnames);
}

/* --- as a finder, ahead of PathFinder in the engine's meta_path --- */

static PyObject *inside_find_spec(PyObject *object, PyObject *args, PyObject *kwargs)
{
	lw_state *state;
	PyObject *name, *path, *target, *engine;
	if (lw_find_spec_arguments(args, kwargs, &name, &path, &target, &engine) < 0)
		return NULL;
	int served = state_of((inside_object *)object, &state);
	if (served <= 0)
		return served < 0 ? NULL : Py_NewRef(Py_None);
	return lw_find_spec(state, name, path, target);
}

static PyObject *inside_invalidate_caches(PyObject *object, PyObject *unused)
{
	lw_invalidate_caches(lw_state_of(((inside_object *)object)->native));
	Py_RETURN_NONE;
}

static PyObject *inside_repr(PyObject *object)
{
	return PyUnicode_FromString("<ladewerk finder of an engine>");
}

/* --- the router --- */

PyObject *lw_routed(PyObject *module, PyObject *engines)
{
	lw_state *home = lw_state_of(module);
	PyObject *capsule = PyObject_GetAttrString(engines, "_api");
	const struct lw_engines_api *api = capsule ? PyCapsule_GetPointer(capsule, LW_ENGINES_API) : NULL;
	if (api) {
		Py_BEGIN_CRITICAL_SECTION(module);
		Py_XSETREF(home->router, Py_NewRef(engines));
		home->routing = api->state->router_type;
		home->current_engine = api->current;
		home->engines = api->state;
		Py_END_CRITICAL_SECTION();
	}
	Py_XDECREF(capsule);
	return api ? Py_NewRef(Py_None) : NULL;
}

PyObject **lw_behind_router(const lw_state *home, PyObject *function)
{
	lw_engines *engines = home->engines;
	if (engines && function == engines->dispatch_load)
		return &engines->find_and_load;
	return engines && function == engines->dispatch_wait ? &engines->wait : NULL;
}

PyObject *lw_take_behind(const lw_state *home, PyObject **behind)
{
	return lw_field(home->router, behind);
}

void lw_put_behind(const lw_state *home, PyObject **behind, PyObject *function)
{
	PyObject *before;
	Py_BEGIN_CRITICAL_SECTION(home->router);
	before = *behind;
	*behind = Py_NewRef(function);
	Py_END_CRITICAL_SECTION();
	Py_XDECREF(before);
}

bool lw_is_diverted(const lw_state *state)
{
	const lw_engines *engines = state->home->engines;
	PyObject *found = NULL;
	if (!engines)
		return false;
	if (atomic_load_explicit(&engines->entered, memory_order_relaxed) && PyContextVar_Get(engines->context, NULL, &found) == 0 && found) {
		bool within = found != Py_None;
		Py_DECREF(found);
		if (within)
			return true;
	}
	bool stock = lw_dict_get(engines->builtins, LW_STR(state, __import__), &found) > 0 && PyCFunction_CheckExact(found);
	Py_XDECREF(found);
	PyErr_Clear();
	return !stock;
}

/* --- life --- */

static lw_state *create_state(PyObject *native, inside_object *self)
{
	lw_state *home = lw_state_of(native), *state = PyMem_Calloc(1, sizeof(*state));
	if (!state) {
		PyErr_NoMemory();
		return NULL;
	}
	state->home = home;
	state->module = native;
	state->watcher = -1;
	state->finder = Py_NewRef(self);
	state->view_type = Py_XNewRef(home->view_type);
	for (unsigned i = 0; i < LW_STR_COUNT; i++)
		state->str[i] = Py_XNewRef(home->str[i]);
	state->views_single = PyDict_New();
	state->views_multi = PyList_New(0);
	if (!state->views_single || !state->views_multi) {
		destroy_state(state);
		return NULL;
	}
	return state;
}

static void count_refused(const lw_state *state)
{
	lw_state *home = state->home;
	PyObject *reason = Py_NewRef(state->reason ? state->reason : Py_None);
	lw_count(&home->engines_refused);
	Py_BEGIN_CRITICAL_SECTION(home->module);
	PyObject *before = home->engine_reason;
	home->engine_reason = reason;
	reason = before;
	Py_END_CRITICAL_SECTION();
	Py_XDECREF(reason);
}

/* Put what the engine has of its own into its copy: OWN into _frozen_importlib, HOOKS into PathFinder. 0, -1. */
static int put_in(lw_state *state, PyObject *own, PyObject *hooks)
{
	PyObject *finder = PyDict_GetItemString(state->external_dict, "PathFinder"), *name, *method;
	Py_ssize_t at = 0;
	int result = PyDict_Update(state->bootstrap_dict, own);
	while (result == 0 && finder && hooks && PyDict_Next(hooks, &at, &name, &method))
		result = PyObject_SetAttr(finder, name, method);
	return result;
}

/* Look at the engine's copy, then put OWN and HOOKS into it. 0; 1: not as known (the state's reason); -1. */
static int look_at(lw_state *state, PyObject *own, PyObject *hooks)
{
	int strange = lw_find_parts_quietly(state->home);
	if (strange > 0)
		Py_XSETREF(state->reason, Py_XNewRef(state->home->reason));
	if (!strange)
		strange = verify(state);
	if (strange < 0 || put_in(state, own, hooks) < 0)
		return -1;
	return strange ? strange : lw_bootstrap_find(state);
}

static PyObject *inside_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "find_and_load", "sys", "bootstrap", "external", "builtins", "own", "given", "names", "ask", "hooks", NULL };
	PyObject *stock, *sys, *bootstrap, *external, *builtins, *own, *given = Py_None, *given_names = NULL, *asker = Py_None, *hooks = NULL;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!O!O!O!O!|OO!OO!:Inside", names, &stock, &PyDict_Type, &sys, &PyDict_Type, &bootstrap, &PyDict_Type,
			&external, &PyDict_Type, &builtins, &PyDict_Type, &own, &given, &PyFrozenSet_Type, &given_names, &asker, &PyDict_Type, &hooks))
		return NULL;
	PyObject *native = PyType_GetModule(type);
	inside_object *self = native ? (inside_object *)type->tp_alloc(type, 0) : NULL;
	lw_state *state = self ? create_state(native, self) : NULL;
	if (!state) {
		Py_XDECREF(self);
		return NULL;
	}
	self->call = inside_call;
	self->native = Py_NewRef(native);
	self->state = state;
	state->sys_dict = Py_NewRef(sys);
	state->bootstrap_dict = Py_NewRef(bootstrap);
	state->external_dict = Py_NewRef(external);
	state->builtins = Py_NewRef(builtins);
	state->original = Py_NewRef(stock);
	if (given != Py_None && given_names) {
		state->given = Py_NewRef(given);
		state->given_names = Py_NewRef(given_names);
	}
	state->asker = asker != Py_None ? Py_NewRef(asker) : NULL;
	int strange = look_at(state, own, hooks);
	self->strange = strange > 0;
	if (strange > 0)
		count_refused(state);
	else if (strange < 0)
		Py_CLEAR(self);
	return (PyObject *)self;
}

static int inside_traverse(PyObject *object, visitproc visit, void *arg)
{
	inside_object *self = (inside_object *)object;
	Py_VISIT(Py_TYPE(object));
	Py_VISIT(self->native);
	if (!self->state)
		return 0;
#define X(field) Py_VISIT(self->state->field);
	LW_BOOTSTRAP_OBJECTS(X)
	MORE(X)
#undef X
	for (unsigned i = 0; i < LW_WATCHED; i++)
		Py_VISIT(self->state->watched[i]);
	return lw_bootstrap_traverse(self->state, visit, arg);
}

static int inside_clear(PyObject *object)
{
	inside_object *self = (inside_object *)object;
	lw_state *state = self->state;
	self->state = NULL;
	destroy_state(state);
	return 0;
}

static void inside_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);
	PyObject_GC_UnTrack(object);
	inside_clear(object);
	Py_CLEAR(((inside_object *)object)->native);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyObject *inside_listen(PyObject *object, PyObject *args)
{
	lw_state *state = ((inside_object *)object)->state;
	return state ? lw_listen_to(state, object, args) : PyErr_Format(PyExc_ImportError, "ladewerk: the engine has been torn down");
}

static PyObject *inside_step_aside(PyObject *object, PyObject *unused)
{
	((inside_object *)object)->stepped_aside = true;
	Py_RETURN_NONE;
}

static PyObject *inside_rule(PyObject *object, PyObject *args)
{
	lw_state *state = ((inside_object *)object)->state;
	PyObject *attend, *replaced, *name, *pair;
	Py_ssize_t at = 0;
	if (!PyArg_ParseTuple(args, "OO!:rule", &attend, &PyDict_Type, &replaced))
		return NULL;
	if (!state)
		return PyErr_Format(PyExc_ImportError, "ladewerk: the engine has been torn down");
	while (PyDict_Next(replaced, &at, &name, &pair)) {
		PyObject *before, *after;
		if (!PyArg_ParseTuple(pair, "OO:rule", &before, &after))
			return NULL;
		lw_bootstrap_expect(state, name, before, after);
	}
	Py_XSETREF(state->attend, Py_NewRef(attend));
	Py_RETURN_NONE;
}

static PyObject *inside_store(PyObject *object, PyObject *args)
{
	lw_state *state = ((inside_object *)object)->state;
	PyObject *shown, *stored;
	if (!PyArg_ParseTuple(args, "OO!:store", &shown, &PyDict_Type, &stored))
		return NULL;
	if (state) {
		Py_XSETREF(state->shown, Py_NewRef(shown));
		Py_XSETREF(state->stored, Py_NewRef(stored));
	}
	Py_RETURN_NONE;
}

static PyObject *inside_failed(PyObject *object, PyObject *args)
{
	lw_state *state = ((inside_object *)object)->state;
	PyObject *name, *importer, *error;
	if (!PyArg_ParseTuple(args, "UOO:failed", &name, &importer, &error))
		return NULL;
	if (state)
		lw_tell(state, LW_EVENT_FAILED, name, importer == Py_None ? NULL : importer, NULL, 0, error);
	Py_RETURN_NONE;
}

lw_state *lw_state_behind(PyObject *self)
{
	return self && !PyModule_Check(self) ? ((inside_object *)self)->state : lw_state_of(self);
}

static PyMethodDef inside_methods[] = {
	{ "step_aside", inside_step_aside, METH_NOARGS, "step_aside($self, /)\n--\n\nFrom now on calls go to FIND_AND_LOAD: the engine finds or loads in a way of its own." },
	{ "rule", inside_rule, METH_VARARGS, "rule($self, attend, replaced, /)\n--\n\nThe engine has rules: ATTEND(name) before and after a module is loaded from its source, and "
		"REPLACED, a dict of (before, after) by name, are its functions in the copy of importlib." },
	{ "store", inside_store, METH_VARARGS, "store($self, shown, stored, /)\n--\n\nSHOWN, in the place of the engine's sys.modules, asks the rules; STORED is behind it." },
	{ "failed", inside_failed, METH_VARARGS, "failed($self, importee, importer, error, /)\n--\n\nTell who listens: an import was refused before it began." },
	{ "listen", inside_listen, METH_VARARGS, "listen($self, listener, events, /)\n--\n\nAs _native.listen(), for imports of this engine." },
	{ "find_spec", (PyCFunction)(void (*)(void))inside_find_spec, METH_VARARGS | METH_KEYWORDS, lw_find_spec_doc },
	{ "invalidate_caches", inside_invalidate_caches, METH_NOARGS, lw_invalidate_caches_doc },
	{ NULL, NULL, 0, NULL },
};

static PyMemberDef inside_members[] = {
	{ "__vectorcalloffset__", Py_T_PYSSIZET, offsetof(inside_object, call), Py_READONLY, NULL },
	{ NULL, 0, 0, 0, NULL },
};

static PyObject *inside_reason(PyObject *object, void *unused)
{
	const lw_state *state = ((inside_object *)object)->state;
	return Py_NewRef(state && state->reason ? state->reason : Py_None);
}

static PyGetSetDef inside_getset[] = {
	{ "reason", inside_reason, NULL, "Why the engine's imports are not served from the index, although the interpreter's are: str or None.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

PyDoc_STRVAR(inside_doc, "Inside(find_and_load, sys, bootstrap, external, builtins, own, given=None, names=frozenset(), ask=None, hooks={})\n--\n\n"
	"Called as _find_and_load(name, import_): imports of an engine, from the index where Ladewerk serves imports, else by FIND_AND_LOAD; and the finder that\n"
	"has to stand ahead of PathFinder in its meta_path for that. SYS to BUILTINS are the dictionaries of the engine's sys, _frozen_importlib,\n"
	"_frozen_importlib_external and builtins; OWN: functions to be put into BOOTSTRAP in the place of the stock ones, once these have been looked at.\n"
	"GIVEN(name): a spec, if no search is to be made for the module; asked where the name up to its first dot is in NAMES.\n"
	"ASK(finder, name, path): what a finder says that is not the bootstrap's own, and has no find_spec() or one that may take an `engine`.\n"
	"HOOKS: methods to be put into PathFinder, likewise.");

static PyType_Slot inside_slots[] = {
	{ Py_tp_new, inside_new },
	{ Py_tp_call, PyVectorcall_Call },
	{ Py_tp_repr, inside_repr },
	{ Py_tp_methods, inside_methods },
	{ Py_tp_members, inside_members },
	{ Py_tp_getset, inside_getset },
	{ Py_tp_traverse, inside_traverse },
	{ Py_tp_clear, inside_clear },
	{ Py_tp_dealloc, inside_dealloc },
	{ Py_tp_doc, (void *)inside_doc },
	{ 0, NULL },
};

PyType_Spec lw_inside_spec = {
	.name = "ladewerk._native.Inside",
	.basicsize = sizeof(inside_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = inside_slots,
};
