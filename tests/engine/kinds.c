/* SPDX-License-Identifier: MIT */
/*
 * kinds: C modules of each kind, for test_c_modules.py, in one file that is there under each name.
 *
 *   declared   multi-phase, says (3.12 and later) that it may be loaded more than once
 *   silent     multi-phase, says nothing; imports `partner` when it is executed
 *   once       multi-phase, refuses a second object
 *   single     single-phase, state size -1: loaded again, its dictionary is copied
 *   sized      single-phase with a state: loaded again, its init function is called
 *   generated  as Cython 3 writes them: one object that is never freed, which enters itself into the interpreter's modules dictionary, past its methods
 *   refusing   single-phase with a state, whose init function refuses to be called again
 *
 * All but `generated` have freed(), how many module objects of the kind have been freed, and load(name), PyImport_ImportModule(); the single-phase ones find(), PyState_FindModule().
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define KIND(kind) \
	static struct PyModuleDef kind##_def; \
	static int kind##_count; \
	static PyObject *kind##_freed(PyObject *module, PyObject *ignored) \
	{ \
		return PyLong_FromLong(kind##_count); \
	} \
	static void kind##_free(void *module) \
	{ \
		kind##_count++; \
	}
#define METHODS(kind, ...) \
	static PyMethodDef kind##_methods[] = { \
		{ "freed", kind##_freed, METH_NOARGS, NULL }, { "load", load, METH_O, NULL }, __VA_ARGS__ { NULL, NULL, 0, NULL } \
	};
#define DEFINITION(kind, size, slots) \
	static struct PyModuleDef kind##_def = { \
		PyModuleDef_HEAD_INIT, .m_name = #kind, .m_size = size, .m_methods = kind##_methods, .m_slots = slots, .m_free = kind##_free \
	};

static PyObject *load(PyObject *module, PyObject *name)
{
	return PyImport_ImportModule(PyUnicode_AsUTF8(name));
}

static int import_partner(PyObject *module)
{
	PyObject *partner = PyImport_ImportModule("partner");
	int result = partner ? PyModule_AddObjectRef(module, "partner", partner) : -1;
	Py_XDECREF(partner);
	return result;
}

static int only_once(PyObject *module)
{
	static int loaded;
	if (loaded++) {
		PyErr_SetString(PyExc_ImportError, "once per process");
		return -1;
	}
	return 0;
}

KIND(declared)
METHODS(declared)
static PyModuleDef_Slot declared_slots[] = {
#if PY_VERSION_HEX >= 0x030c0000
	{ Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED },
#endif
#ifdef Py_mod_gil
	{ Py_mod_gil, Py_MOD_GIL_NOT_USED },
#endif
	{ 0, NULL },
};
DEFINITION(declared, 8, declared_slots)
PyMODINIT_FUNC PyInit_declared(void)
{
	return PyModuleDef_Init(&declared_def);
}

KIND(silent)
METHODS(silent)
static PyModuleDef_Slot silent_slots[] = {
	{ Py_mod_exec, import_partner },
#ifdef Py_mod_gil
	{ Py_mod_gil, Py_MOD_GIL_NOT_USED },
#endif
	{ 0, NULL },
};
DEFINITION(silent, 8, silent_slots)
PyMODINIT_FUNC PyInit_silent(void)
{
	return PyModuleDef_Init(&silent_def);
}

KIND(once)
METHODS(once)
static PyModuleDef_Slot once_slots[] = {
	{ Py_mod_exec, only_once },
#ifdef Py_mod_gil
	{ Py_mod_gil, Py_MOD_GIL_NOT_USED },
#endif
	{ 0, NULL },
};
DEFINITION(once, 8, once_slots)
PyMODINIT_FUNC PyInit_once(void)
{
	return PyModuleDef_Init(&once_def);
}

#define FIND(kind) \
	static PyObject *kind##_find(PyObject *module, PyObject *ignored) \
	{ \
		PyObject *found = PyState_FindModule(&kind##_def); \
		return Py_NewRef(found ? found : Py_None); \
	}

KIND(single)
FIND(single)
METHODS(single, { "find", single_find, METH_NOARGS, NULL }, )
DEFINITION(single, -1, NULL)
PyMODINIT_FUNC PyInit_single(void)
{
	PyObject *module = PyModule_Create(&single_def);
	PyObject *contents = module ? PyList_New(0) : NULL;
	if (module && (!contents || PyModule_AddObjectRef(module, "contents", contents) < 0))
		Py_CLEAR(module);
	Py_XDECREF(contents);
	return module;
}

KIND(sized)
FIND(sized)
METHODS(sized, { "find", sized_find, METH_NOARGS, NULL }, )
DEFINITION(sized, 8, NULL)
PyMODINIT_FUNC PyInit_sized(void)
{
	return PyModule_Create(&sized_def);
}

KIND(refusing)
FIND(refusing)
METHODS(refusing, { "find", refusing_find, METH_NOARGS, NULL }, )
DEFINITION(refusing, 8, NULL)
PyMODINIT_FUNC PyInit_refusing(void)
{
	static int loaded;
	if (loaded++) {
		PyErr_SetString(PyExc_ImportError, "once per process");
		return NULL;
	}
	return PyModule_Create(&refusing_def);
}

/* --- generated: its import statements, and other ways of C code to get at modules. All but capsule() return the module. --- */

static PyObject *generated_m, *generated_b;

/* `import NAME` in a function of its. */
static PyObject *generated_statement(PyObject *module, PyObject *name)
{
	PyObject *locals = PyDict_New();
	PyObject *found = locals ? PyImport_ImportModuleLevelObject(name, PyModule_GetDict(generated_m), locals, NULL, 0) : NULL;
	Py_XDECREF(locals);
	return found;
}

/* `from NAME import STATE`. */
static PyObject *generated_from(PyObject *module, PyObject *name)
{
	PyObject *names = Py_BuildValue("[s]", "STATE");
	PyObject *found = names ? PyImport_ImportModuleLevelObject(name, PyModule_GetDict(generated_m), NULL, names, 0) : NULL;
	Py_XDECREF(names);
	return found;
}

static PyObject *generated_import(PyObject *module, PyObject *name)
{
	return PyImport_Import(name);
}

static PyObject *generated_module(PyObject *module, PyObject *name)
{
	return PyImport_ImportModule(PyUnicode_AsUTF8(name));
}

static PyObject *generated_get(PyObject *module, PyObject *name)
{
	PyObject *found = PyImport_GetModule(name);
	return found || PyErr_Occurred() ? found : Py_NewRef(Py_None);
}

static PyObject *generated_add(PyObject *module, PyObject *name)
{
	return Py_XNewRef(PyImport_AddModule(PyUnicode_AsUTF8(name)));
}

/* A capsule `holder.API` that leads to OBJECT. */
static PyObject *generated_make(PyObject *module, PyObject *object)
{
	return PyCapsule_New(Py_NewRef(object), "holder.API", NULL);
}

static PyObject *generated_capsule(PyObject *module, PyObject *name)
{
	return Py_XNewRef((PyObject *)PyCapsule_Import(PyUnicode_AsUTF8(name), 0));
}

static PyMethodDef generated_methods[] = {
	{ "statement", generated_statement, METH_O, NULL }, { "from_statement", generated_from, METH_O, NULL }, { "PyImport_Import", generated_import, METH_O, NULL },
	{ "PyImport_ImportModule", generated_module, METH_O, NULL }, { "PyImport_GetModule", generated_get, METH_O, NULL },
	{ "PyImport_AddModule", generated_add, METH_O, NULL }, { "make", generated_make, METH_O, NULL }, { "capsule", generated_capsule, METH_O, NULL },
	{ NULL, NULL, 0, NULL }
};

static PyObject *generated_create(PyObject *spec, PyModuleDef *def)
{
	if (generated_m)
		return Py_NewRef(generated_m);
	PyObject *name = PyObject_GetAttrString(spec, "name");
	PyObject *module = name ? PyModule_NewObject(name) : NULL;
	Py_XDECREF(name);
	return module;
}

static int generated_exec(PyObject *module)
{
	if (generated_m) {
		PyErr_SetString(PyExc_RuntimeError, "Module 'generated' has already been imported. Re-initialisation is not supported.");
		return -1;
	}
	generated_m = Py_NewRef(module);
	generated_b = Py_XNewRef(PyImport_AddModule("builtins"));
	PyObject *modules = PyImport_GetModuleDict();
	if (!generated_b || PyObject_SetAttrString(module, "__builtins__", generated_b) < 0)
		return -1;
	return PyDict_GetItemString(modules, "generated") ? 0 : PyDict_SetItemString(modules, "generated", module);
}

static PyModuleDef_Slot generated_slots[] = {
	{ Py_mod_create, generated_create },
	{ Py_mod_exec, generated_exec },
#ifdef Py_mod_gil
	{ Py_mod_gil, Py_MOD_GIL_NOT_USED },
#endif
	{ 0, NULL },
};
static struct PyModuleDef generated_def = {
	PyModuleDef_HEAD_INIT, .m_name = "generated", .m_size = 0, .m_methods = generated_methods, .m_slots = generated_slots
};
PyMODINIT_FUNC PyInit_generated(void)
{
	return PyModuleDef_Init(&generated_def);
}
