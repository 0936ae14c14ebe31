/* SPDX-License-Identifier: MIT */
/*
 * core: the type Engine. What an engine consists of is put into it by ladewerk._engine._loading; the rest of C reads it here.
 */
#include "engine.h"

#include <structmember.h>
#include <stddef.h>

#define LW_ENGINE_OBJECTS(X) \
	X(modules) X(sys) X(builtins) X(imp) X(bootstrap) X(external) X(find_and_load) X(wait) X(guard)

static int engine_traverse(PyObject *self, visitproc visit, void *arg)
{
	lw_engine *engine = (lw_engine *)self;
#define X(field) Py_VISIT(engine->field);
	LW_ENGINE_OBJECTS(X)
#undef X
	Py_VISIT(engine->dict);
	Py_VISIT(Py_TYPE(self));
	return 0;
}

static int engine_clear(PyObject *self)
{
	lw_engine *engine = (lw_engine *)self;
#define X(field) Py_CLEAR(engine->field);
	LW_ENGINE_OBJECTS(X)
#undef X
	Py_CLEAR(engine->dict);
	return 0;
}

static void engine_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	PyObject_GC_UnTrack(self);
	if (((lw_engine *)self)->weaklist)
		PyObject_ClearWeakRefs(self);
	engine_clear(self);
	type->tp_free(self);
	Py_DECREF(type);
}

/* Members: reading one that is NULL is an AttributeError for what an engine always has, None for what it may have. */
static PyMemberDef members[] = {
	{ "modules", T_OBJECT_EX, offsetof(lw_engine, modules), 0, "The modules of this engine, by name: what sys.modules is inside." },
	{ "sys", T_OBJECT_EX, offsetof(lw_engine, sys), 0, "What `import sys` gives inside." },
	{ "builtins", T_OBJECT_EX, offsetof(lw_engine, builtins), 0, "What `import builtins` gives inside." },
	{ "_imp", T_OBJECT_EX, offsetof(lw_engine, imp), 0, "What `import _imp` gives inside." },
	{ "_bootstrap", T_OBJECT_EX, offsetof(lw_engine, bootstrap), 0, "This engine's _frozen_importlib." },
	{ "_external", T_OBJECT_EX, offsetof(lw_engine, external), 0, "This engine's _frozen_importlib_external." },
	{ "_find_and_load", T_OBJECT_EX, offsetof(lw_engine, find_and_load), 0, "Called (name, import_) for a module that is not there." },
	{ "_wait", T_OBJECT_EX, offsetof(lw_engine, wait), 0, "Called (name) for a module that is being initialised." },
	{ "_guard", T_OBJECT, offsetof(lw_engine, guard), 0, "Asked before a module is handed out, or None." },
	{ "__dictoffset__", T_PYSSIZET, offsetof(lw_engine, dict), READONLY, NULL },
	{ "__weaklistoffset__", T_PYSSIZET, offsetof(lw_engine, weaklist), READONLY, NULL },
	{ NULL, 0, 0, 0, NULL },
};

static PyType_Slot slots[] = {
	{ Py_tp_doc, "One import state. ladewerk.ImportEngine is what users make." },
	{ Py_tp_members, members },
	{ Py_tp_traverse, engine_traverse },
	{ Py_tp_clear, engine_clear },
	{ Py_tp_dealloc, engine_dealloc },
	{ 0, NULL },
};

static PyType_Spec spec = {
	.name = "ladewerk._engines.Engine",
	.basicsize = sizeof(lw_engine),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = slots,
};

int lw_engines_add_core(PyObject *module)
{
	lw_engines *state = lw_engines_of(module);
	state->engine_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
	return state->engine_type ? PyModule_AddType(module, state->engine_type) : -1;
}
