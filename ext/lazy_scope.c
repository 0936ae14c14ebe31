/* SPDX-License-Identifier: MIT */
/*
 * lazy_scope: the names that wait in the dictionary of a module.
 */
#include "lazy_scope.h"

/* --- whose it is --- */

lw_state *lw_scope_state(PyObject *self)
{
	lw_state *state = PyType_GetModuleState(Py_TYPE(self));
	if (!state)
		PyErr_Clear();
	return state && state->lazy.table ? state : NULL;
}

PyObject *lw_weak_referent(PyObject *weak)
{
	PyObject *object = NULL;
#if PY_VERSION_HEX >= 0x030d0000
	if (weak && PyWeakref_GetRef(weak, &object) > 0)
		Py_DECREF(object); /* the GIL is held: for an address, that is enough */
#else
	if (weak)
		object = PyWeakref_GET_OBJECT(weak);
#endif
	return object == Py_None ? NULL : object;
}

PyObject *lw_scope_dict(const lw_scope *scope)
{
	PyObject *module = lw_weak_referent(scope->module);
	PyObject *dict = module && PyModule_Check(module) ? PyModule_GetDict(module) : NULL;
	return dict == scope->dict ? dict : NULL;
}

/* Its module is still there. */
static bool lives(const lw_scope *scope)
{
	return lw_weak_referent(scope->module) != NULL;
}

bool lw_scope_is_of(const lw_state *state, const lw_scope *scope, PyObject *dict)
{
	if (scope->dict != dict)
		return false;
	PyObject *spec = lw_weak_referent(scope->spec);
	if (lw_scope_dict(scope))
		return true;
	return spec && state && PyDict_GetItemWithError(dict, LW_STR(state, __spec__)) == spec;
}

/* --- the scopes of an interpreter, by the addresses of their dictionaries --- */

/* Open addressing; there is always a free slot. */
enum { FIRST_ROOM = 64 };

static size_t home_of(const struct lw_lazy_table *table, const PyObject *dict)
{
	uintptr_t address = (uintptr_t)dict >> 4;
	return (size_t)((uint64_t)address * 0x9e3779b97f4a7c15 >> 32) & (table->room - 1);
}

/* The slot of DICT, or the free one where it belongs. The table has room. */
static lw_scope **slot_of(const struct lw_lazy_table *table, const PyObject *dict)
{
	size_t i = home_of(table, dict);
	while (table->slot[i] && table->slot[i]->dict != dict)
		i = (i + 1) & (table->room - 1);
	return &table->slot[i];
}

/* Empty SLOT, and move what had to make way for it. The reference is the caller's. */
static void empty(struct lw_lazy_table *table, lw_scope **slot)
{
	size_t mask = table->room - 1, hole = (size_t)(slot - table->slot);
	for (size_t i = (hole + 1) & mask; table->slot[i]; i = (i + 1) & mask) {
		size_t home = home_of(table, table->slot[i]->dict);
		if (((i - home) & mask) < ((i - hole) & mask))
			continue; /* it is between its home and here */
		table->slot[hole] = table->slot[i];
		hole = i;
	}
	table->slot[hole] = NULL;
	table->used--;
}

/* Modules that are gone, and of whose code nothing is left. */
static void sweep(struct lw_lazy_table *table)
{
	for (size_t i = 0; i < table->room; i++) {
		lw_scope *scope = table->slot[i];
		if (!scope || Py_REFCNT(scope) > 1 || lives(scope))
			continue;
		empty(table, &table->slot[i--]); /* what has moved here is next */
		Py_DECREF(scope);
	}
}

/* Room for one more. 0 or -1. */
static int make_room(struct lw_lazy_table *table)
{
	if (table->used < table->room / 2)
		return 0;
	sweep(table);
	if (table->used < table->room / 4)
		return 0;
	struct lw_lazy_table larger = { .room = table->room ? 2 * table->room : FIRST_ROOM };
	larger.slot = PyMem_Calloc(larger.room, sizeof(*larger.slot));
	if (!larger.slot) {
		PyErr_NoMemory();
		return -1;
	}
	for (size_t i = 0; i < table->room; i++)
		if (table->slot[i])
			*slot_of(&larger, table->slot[i]->dict) = table->slot[i];
	PyMem_Free(table->slot);
	table->slot = larger.slot;
	table->room = larger.room;
	return 0;
}

lw_scope *lw_scope_of(const lw_state *state, PyObject *dict)
{
	const struct lw_lazy_table *table = state->home->lazy.table;
	lw_scope *scope = table && table->used ? *slot_of(table, dict) : NULL;
	return scope && lw_scope_is_of(state, scope, dict) ? scope : NULL;
}

/* In the place of one that had the address before, if need be. 0 or -1. */
static int enlist(struct lw_lazy_table *table, lw_scope *scope)
{
	if (make_room(table) < 0)
		return -1;
	lw_scope **slot = slot_of(table, scope->dict), *before = *slot;
	*slot = (lw_scope *)Py_NewRef(scope);
	table->used += !before;
	Py_XDECREF(before);
	return 0;
}

/* Nothing waits there any more. The scope may go with it. */
static void delist(struct lw_lazy_table *table, lw_scope *scope)
{
	lw_scope **slot = table->used ? slot_of(table, scope->dict) : NULL;
	if (!slot || *slot != scope)
		return;
	empty(table, slot);
	Py_DECREF(scope);
}

void lw_scope_clear(struct lw_lazy_table *table)
{
	lw_scope **slot = table->slot;
	size_t room = table->room;
	table->slot = NULL;
	table->room = table->used = 0;
	for (size_t i = 0; i < room; i++)
		Py_XDECREF(slot[i]);
	PyMem_Free(slot);
}

/* --- names --- */

int lw_scope_register(lw_state *state, lw_scope *scope, PyObject *name, PyObject *targets)
{
	if (PyDict_SetItem(scope->waiting, name, targets) < 0)
		return -1;
	if (PyDict_GET_SIZE(scope->waiting) > 1 || enlist(state->lazy.table, scope) == 0)
		return 0;
	PyDict_Clear(scope->waiting); /* it is of one name */
	return -1;
}

void lw_scope_forget(lw_state *state, lw_scope *scope, PyObject *name, const char *how)
{
	struct lw_error error;
	lw_error_save(&error);
	PyObject *targets = Py_XNewRef(PyDict_GetItemWithError(scope->waiting, name));
	if (targets && how && state)
		for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(targets); i++)
			lw_census_ended(state, PyTuple_GET_ITEM(targets, i), how, 0);
	Py_INCREF(scope);
	if (targets && PyDict_DelItem(scope->waiting, name) < 0)
		PyErr_Clear();
	if (targets && state && !PyDict_GET_SIZE(scope->waiting))
		delist(state->lazy.table, scope);
	Py_DECREF(scope);
	Py_XDECREF(targets);
	PyErr_Clear();
	lw_error_restore(&error);
}

bool lw_scope_is_busy(const lw_scope *scope, PyObject *name)
{
	for (const struct lw_busy *busy = scope->busy; busy; busy = busy->next)
		if (PyUnicode_Compare(busy->name, name) == 0 && lw_who_is_alive(busy->who))
			return true;
	return false;
}

bool lw_scope_is_busy_here(lw_state *state, const lw_scope *scope, PyObject *name)
{
	for (const struct lw_busy *busy = scope->busy; busy; busy = busy->next)
		if (PyUnicode_Compare(busy->name, name) == 0 && lw_who_is_me(state, busy->who))
			return true;
	return false;
}

PyObject *lw_scope_targets(lw_state *state, lw_scope *scope, PyObject *dict, PyObject *name)
{
	if (!PyDict_GetItemWithError(scope->waiting, name)) {
		PyErr_Clear();
		return NULL;
	}
	Py_INCREF(scope); /* keys of the dictionary may have code of their own, */
	int there = PyDict_Contains(dict, name);
	PyErr_Clear();
	PyObject *targets = there ? NULL : PyDict_GetItemWithError(scope->waiting, name); /* by which it waits no longer */
	if (there && !lw_scope_is_busy(scope, name)) /* else whoever resolves it decides */
		lw_scope_forget(state, scope, name, "overwritten");
	Py_DECREF(scope);
	return targets;
}

/* The load itself has raised ERROR, not something that it has called, the namespace of a class, say: to load again would be to raise again. */
static bool is_of_this_frame(PyObject *error)
{
	PyObject *traceback = PyException_GetTraceback(error);
	bool of_this = traceback && ((PyTracebackObject *)traceback)->tb_next == NULL;
	Py_XDECREF(traceback);
	return of_this;
}

static int is_equal(lw_scope *scope, PyObject *other)
{
	PyObject *dict = PyEval_GetGlobals();
	if ((PyObject *)scope == other)
		return 1;
	if (!Py_IS_TYPE(other, (PyTypeObject *)PyExc_NameError) || !is_of_this_frame(other) || !dict || !lw_scope_is_of(lw_scope_state((PyObject *)scope), scope, dict))
		return 0;
	PyObject *name = PyObject_GetAttrString(other, "name");
	int result = !name ? -1 : PyUnicode_Check(name) ? lw_scope_load(scope, dict, name) : 0;
	Py_XDECREF(name);
	return result;
}

/* What a handler asks: does the exception come from a name that waits? It does not any more, then. */
static PyObject *scope_compare(PyObject *self, PyObject *other, int op)
{
	if (op != Py_EQ)
		Py_RETURN_NOTIMPLEMENTED;
	int equal = is_equal((lw_scope *)self, other);
	return equal < 0 ? NULL : PyBool_FromLong(equal);
}

/* As the constant is stored: for marshal, which writes a buffer as bytes, and for pickle and its kin. */
int lw_scope_buffer(PyObject *self, Py_buffer *view, int flags)
{
	return PyBuffer_FillInfo(view, self, (void *)"", 0, 1, flags);
}

PyObject *lw_scope_reduce(PyObject *self, PyObject *unused)
{
	return Py_BuildValue("(O())", (PyObject *)&PyBytes_Type);
}

static PyObject *scope_repr(PyObject *self)
{
	return PyUnicode_FromFormat("<imports that wait in %U>", ((lw_scope *)self)->name);
}

static void scope_dealloc(PyObject *self)
{
	lw_scope *scope = (lw_scope *)self;
	PyTypeObject *type = Py_TYPE(self);
	Py_XDECREF(scope->module);
	Py_XDECREF(scope->spec);
	Py_XDECREF(scope->name);
	Py_XDECREF(scope->file);
	Py_XDECREF(scope->waiting);
	Py_XDECREF(scope->children);
	type->tp_free(self);
	Py_DECREF(type);
}

static Py_hash_t hash_address(PyObject *self)
{
	return _Py_HashPointer(self);
}

static PyMethodDef constant_methods[] = {
	{ "__reduce__", lw_scope_reduce, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot scope_slots[] = {
	{ Py_tp_richcompare, scope_compare },
	{ Py_tp_hash, hash_address },
	{ Py_tp_repr, scope_repr },
	{ Py_tp_dealloc, scope_dealloc },
	{ Py_tp_methods, constant_methods },
	{ Py_bf_getbuffer, lw_scope_buffer },
	{ 0, NULL },
};

PyType_Spec lw_scope_spec = {
	.name = "ladewerk._native.Pending",
	.basicsize = sizeof(lw_scope),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = scope_slots,
};
