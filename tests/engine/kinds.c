/* SPDX-License-Identifier: MIT */
/*
 * kinds: C modules of each kind, for test_c_modules.py, in one file that is there under each name.
 *
 *   declared   multi-phase, says (3.12 and later) that it may be loaded more than once
 *   silent     multi-phase, says nothing; imports `partner` when it is executed
 *   once       multi-phase, refuses a second object
 *   single     single-phase, state size -1: loaded again, its dictionary is copied
 *   sized      single-phase with a state: loaded again, its init function is called
 *   refusing   single-phase with a state, whose init function refuses to be called again
 *
 * All have freed(), how many module objects of the kind have been freed, and load(name), PyImport_ImportModule(); the single-phase ones find(), PyState_FindModule().
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
