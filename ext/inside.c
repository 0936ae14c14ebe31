/* SPDX-License-Identifier: MIT */
/*
 * inside: imports of an engine from the index.
 *
 * An engine has import state of its own: modules, path, meta_path, hooks, the cache of path finders, locks. What the file system holds, and the code in the
 * cache, is the same for all: so an engine has a lw_state of its own that looks into the engine's dictionaries and calls the engine's functions, over the one
 * session of the process and over what was found and verified for the interpreter ("home"): classes, guards, the collector, counters, the record.
 *
 *   lw_state             of the interpreter (home)            of an engine
 *   sys_dict             sys.__dict__                         the engine's names: modules, path, meta_path, path_hooks, path_importer_cache
 *   bootstrap_dict       importlib._bootstrap's               the engine's functions: _get_module_lock, _load_unlocked, ...
 *   builtins             importlib's                          the engine's, which lead imports of its modules to it
 *   path_finder          PathFinder                           the engine's
 *   original             stock _find_and_load                 the engine's own, in Python
 *   views                of sys.path and package paths        of the engine's
 *
 * The object is called in the place of the engine's _find_and_load. It holds nothing while home is not installed, and steps aside then.
 *
 * Threads: fields of the state are set once, under the object's critical section, when the first import comes after home was installed.
 */
#include "state.h"

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
	PyObject *sys, *bootstrap, *own_builtins, *finder, *stock;	/* strong: what makes the engine's state its own */
	bool ready;		/* the state below is filled in */
	lw_state state;
} inside_object;

/* What an engine shares with home. */
#define SHARED(X) LW_BOOTSTRAP_OBJECTS(X) X(view_type) X(cache_tag) X(pycache_prefix) X(pyc_tail)
#define OWN(X) X(original) X(views_single) X(views_multi)

static void drop_state(inside_object *self)
{
	lw_state *state = &self->state;
	self->ready = false;
	lw_watch_end(state);
#define X(field) Py_CLEAR(state->field);
	SHARED(X)
	OWN(X)
#undef X
	for (unsigned i = 0; i < LW_STR_COUNT; i++)
		Py_CLEAR(state->str[i]);
}

static void share(lw_state *state, const lw_state *home)
{
#define X(field) state->field = Py_XNewRef(home->field);
	SHARED(X)
#undef X
	for (unsigned i = 0; i < LW_STR_COUNT; i++)
		state->str[i] = Py_XNewRef(home->str[i]);
	memcpy(state->suffix_counts, home->suffix_counts, sizeof(state->suffix_counts));
	state->builtin_table = home->builtin_table;
	state->frozen_table = home->frozen_table;
	state->flavour = home->flavour;
	state->session = home->session;
}

/* Under the object's critical section. 0 or -1. */
static int fill(inside_object *self, lw_state *home)
{
	lw_state *state = &self->state;
	share(state, home);
	Py_XSETREF(state->sys_dict, Py_NewRef(self->sys));
	Py_XSETREF(state->bootstrap_dict, Py_NewRef(self->bootstrap));
	Py_XSETREF(state->builtins, Py_NewRef(self->own_builtins));
	Py_XSETREF(state->path_finder, Py_NewRef(self->finder));
	state->original = Py_NewRef(self->stock);
	state->views_single = PyDict_New();
	state->views_multi = PyList_New(0);
	if (!state->views_single || !state->views_multi || lw_watch_importers(state) < 0) {
		drop_state(self);
		return -1;
	}
	state->installed = state->fast = true;
	self->ready = true;
	return 0;
}

/* The engine's state, if home serves imports: 1, 0, -1. */
static int state_of(inside_object *self, lw_state **state)
{
	lw_state *home = lw_state_of(self->native);
	int result = 1;
	*state = &self->state;
	if (!home || !home->installed || !home->fast)
		return 0;
	Py_BEGIN_CRITICAL_SECTION(self);
	if (!self->ready)
		result = fill(self, home) < 0 ? -1 : 1;
	Py_END_CRITICAL_SECTION();
	return result;
}

static PyObject *inside_call(PyObject *object, PyObject *const *args, size_t flags, PyObject *kwnames)
{
	inside_object *self = (inside_object *)object;
	lw_state *state;
	Py_ssize_t nargs = PyVectorcall_NARGS(flags);
	if (!self->stock)
		return PyErr_Format(PyExc_ImportError, "ladewerk: the engine has been torn down");
	int served = state_of(self, &state);
	if (served < 0)
		return NULL;
	return served ? lw_find_and_load(state, args, nargs, kwnames) : PyObject_Vectorcall(self->stock, args, (size_t)nargs, kwnames);
}

static PyObject *inside_find_spec(PyObject *object, PyObject *args)
{
	inside_object *self = (inside_object *)object;
	lw_state *state;
	PyObject *name, *path;
	if (!PyArg_ParseTuple(args, "UO:find_spec", &name, &path))
		return NULL;
	int served = state_of(self, &state);
	if (served <= 0)
		return served < 0 ? NULL : Py_NewRef(Py_None);
	return lw_find_spec(state, name, path);
}

/* --- life --- */

static PyObject *inside_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "find_and_load", "sys", "bootstrap", "builtins", "path_finder", NULL };
	PyObject *stock, *sys, *bootstrap, *builtins, *finder;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!O!O!O:Inside", names, &stock, &PyDict_Type, &sys, &PyDict_Type, &bootstrap, &PyDict_Type, &builtins,
			&finder))
		return NULL;
	PyObject *native = PyType_GetModule(type);
	inside_object *self = native ? (inside_object *)type->tp_alloc(type, 0) : NULL;
	if (!self)
		return NULL;
	self->call = inside_call;
	self->native = Py_NewRef(native);
	self->stock = Py_NewRef(stock);
	self->sys = Py_NewRef(sys);
	self->bootstrap = Py_NewRef(bootstrap);
	self->own_builtins = Py_NewRef(builtins);
	self->finder = Py_NewRef(finder);
	self->state.home = lw_state_of(native);
	self->state.module = native;
	self->state.watcher = -1;
	return (PyObject *)self;
}

static int inside_traverse(PyObject *object, visitproc visit, void *arg)
{
	inside_object *self = (inside_object *)object;
	Py_VISIT(Py_TYPE(object));
	Py_VISIT(self->native);
	Py_VISIT(self->stock);
	Py_VISIT(self->sys);
	Py_VISIT(self->bootstrap);
	Py_VISIT(self->own_builtins);
	Py_VISIT(self->finder);
#define X(field) Py_VISIT(self->state.field);
	SHARED(X)
	OWN(X)
#undef X
	for (unsigned i = 0; i < LW_WATCHED; i++)
		Py_VISIT(self->state.watched[i]);
	return 0;
}

static int inside_clear(PyObject *object)
{
	inside_object *self = (inside_object *)object;
	drop_state(self);
	Py_CLEAR(self->stock);
	Py_CLEAR(self->sys);
	Py_CLEAR(self->bootstrap);
	Py_CLEAR(self->own_builtins);
	Py_CLEAR(self->finder);
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

PyDoc_STRVAR(find_spec_doc, "find_spec(fullname, path, /)\n--\n\n"
	"The spec that the engine's PathFinder would find, or None: there is none, or it had better look itself.");

static PyMethodDef inside_methods[] = {
	{ "find_spec", inside_find_spec, METH_VARARGS, find_spec_doc },
	{ NULL, NULL, 0, NULL },
};

static PyMemberDef inside_members[] = {
	{ "__vectorcalloffset__", Py_T_PYSSIZET, offsetof(inside_object, call), Py_READONLY },
	{ NULL, 0, 0, 0 },
};

PyDoc_STRVAR(inside_doc, "Inside(find_and_load, sys, bootstrap, builtins, path_finder)\n--\n\n"
	"Called as _find_and_load(name, import_): imports of an engine, from the index where Ladewerk serves imports, else by FIND_AND_LOAD.\n"
	"SYS: a dict with the engine's modules, path, meta_path, path_hooks, path_importer_cache; BOOTSTRAP: a dict with its functions of importlib's names;\n"
	"BUILTINS: what its modules get; PATH_FINDER: what stands for PathFinder in its meta_path.");

static PyType_Slot inside_slots[] = {
	{ Py_tp_new, inside_new },
	{ Py_tp_call, PyVectorcall_Call },
	{ Py_tp_methods, inside_methods },
	{ Py_tp_members, inside_members },
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
