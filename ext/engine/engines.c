/* SPDX-License-Identifier: MIT */
/*
 * engines: the extension module ladewerk._engines, put together from its parts, and what it keeps per interpreter.
 */
#include "engine.h"
#include "../module.h"

#define LW_ENGINES_OBJECTS(X) \
	X(engine_type) X(router_type) X(key) X(context) X(builtins) X(bootstrap) X(external) X(modules) X(find_and_load) X(wait) X(dispatch_load) X(dispatch_wait) \
	X(real_sys) X(own_names) X(mirrors)

static struct PyModuleDef engines_module;

lw_engines *lw_engines_of(PyObject *module)
{
	return PyModule_GetState(module);
}

lw_engines *lw_engines_of_type(PyTypeObject *type)
{
	PyObject *module = PyType_GetModuleByDef(type, &engines_module);
	if (!module) {
		PyErr_Clear();
		return NULL;
	}
	return PyModule_GetState(module);
}

/* The dictionary of module NAME of the interpreter itself: a new reference. */
static PyObject *own_dict(const char *name)
{
	PyObject *key = PyUnicode_FromString(name);
	PyObject *module = key ? PyImport_GetModule(key) : NULL;
	PyObject *dict = module ? PyModule_GetDict(module) : NULL;
	Py_XINCREF(dict);
	Py_XDECREF(module);
	Py_XDECREF(key);
	if (!dict && !PyErr_Occurred())
		PyErr_Format(PyExc_ImportError, "import engines: this interpreter has no module %s", name);
	return dict;
}

/* What must be there before the parts are. */
static int begin(lw_engines *state)
{
	state->key = PyUnicode_InternFromString("__ladewerk_engine__");
	state->builtins = own_dict("builtins");
	state->bootstrap = own_dict("_frozen_importlib");
	state->external = own_dict("_frozen_importlib_external");
	return state->key && state->builtins && state->bootstrap && state->external ? 0 : -1;
}

static int add_api(PyObject *module);

static int (*const parts[])(PyObject *module) = {
	lw_engines_add_current,
	lw_engines_add_core,
	lw_engines_add_router,
	lw_engines_add_mirror,
	lw_engines_add_single,
	add_api,
	NULL,
};

static int engines_exec(PyObject *module)
{
	lw_engines *state = lw_engines_of(module);
	state->module = module;
	if (begin(state) < 0)
		return -1;
	for (unsigned i = 0; parts[i]; i++)
		if (parts[i](module) < 0)
			return -1;
	return 0;
}

static void free_api(PyObject *capsule)
{
	PyMem_Free(PyCapsule_GetPointer(capsule, LW_ENGINES_API));
}

static int add_api(PyObject *module)
{
	struct lw_engines_api *api = PyMem_Malloc(sizeof(*api));
	if (!api)
		return PyErr_NoMemory(), -1;
	*api = (struct lw_engines_api){ .state = lw_engines_of(module), .current = lw_engine_current };
	PyObject *capsule = PyCapsule_New(api, LW_ENGINES_API, free_api);
	if (!capsule) {
		PyMem_Free(api);
		return -1;
	}
	int result = PyModule_AddObjectRef(module, "_api", capsule);
	Py_DECREF(capsule);
	return result;
}

static int engines_traverse(PyObject *module, visitproc visit, void *arg)
{
	lw_engines *state = lw_engines_of(module);
#define X(field) Py_VISIT(state->field);
	LW_ENGINES_OBJECTS(X)
#undef X
	return 0;
}

static int engines_clear(PyObject *module)
{
	lw_engines *state = lw_engines_of(module);
#define X(field) Py_CLEAR(state->field);
	LW_ENGINES_OBJECTS(X)
#undef X
	return 0;
}

static void engines_free(void *module)
{
	engines_clear(module);
}

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, engines_exec },
	LW_MODULE_SLOTS
	{ 0, NULL },
};

static struct PyModuleDef engines_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "ladewerk._engines",
	.m_doc = "The C side of import engines.",
	.m_size = sizeof(lw_engines),
	.m_slots = slots,
	.m_traverse = engines_traverse,
	.m_clear = engines_clear,
	.m_free = engines_free,
};

PyMODINIT_FUNC PyInit__engines(void);

PyMODINIT_FUNC PyInit__engines(void)
{
	return PyModuleDef_Init(&engines_module);
}
