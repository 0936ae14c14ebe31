/* SPDX-License-Identifier: MIT */
/*
 * single: what a C module is, and which object of a single-phase module its C code finds.
 *
 * A multi-phase module (PEP 489) is a definition from which any number of objects are made. A single-phase module is made by its init function, once; loaded again, CPython
 * gives it another object with the same contents (state size -1), or calls the init function again. Either way the new object takes the one place at which the
 * module's C code finds "its" module (PyState_FindModule): the process's functions would work with an engine's object. restore_state() puts the former one back. The new
 * object of the first kind does not know the definition (it is made as a dictionary is copied), so both functions take the object that the init function made.
 */
#include "engine.h"

#ifndef Py_mod_multiple_interpreters
#define Py_mod_multiple_interpreters 3 /* of 3.12: no definition has it before */
#endif

/* What DEF says about objects of its own in other interpreters: -1 nothing, else the value of the slot. */
static long declared(const struct PyModuleDef *def)
{
	for (const PyModuleDef_Slot *slot = def->m_slots; slot && slot->slot; slot++)
		if (slot->slot == Py_mod_multiple_interpreters)
			return (long)(intptr_t)slot->value;
	return -1;
}

static PyObject *module_kind(PyObject *module, PyObject *object)
{
	struct PyModuleDef *def = PyModule_Check(object) ? PyModule_GetDef(object) : NULL;
	if (!def) {
		PyErr_Clear(); /* a module that no C code has made */
		Py_RETURN_NONE;
	}
	return Py_BuildValue("(inl)", def->m_slots ? 2 : 1, def->m_size, declared(def));
}

/* The definition of a single-phase module, or NULL. */
static struct PyModuleDef *single_def(PyObject *object)
{
	struct PyModuleDef *def = PyModule_Check(object) ? PyModule_GetDef(object) : NULL;
	if (!def)
		PyErr_Clear();
	return def && !def->m_slots ? def : NULL;
}

/* What the C code of the definition that OBJECT was made from finds, or None. */
static PyObject *state_of(PyObject *module, PyObject *object)
{
	struct PyModuleDef *def = single_def(object);
	PyObject *found = def ? PyState_FindModule(def) : NULL;
	return Py_NewRef(found ? found : Py_None);
}

static PyObject *restore_state(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
	if (nargs != 2 || !PyModule_Check(args[1]))
		return PyErr_Format(PyExc_TypeError, "restore_state(object, module) takes an object and a module");
	struct PyModuleDef *def = single_def(args[0]);
	PyObject *found = def ? PyState_FindModule(def) : NULL;
	if (!found || found == args[1])
		Py_RETURN_FALSE;
	if (PyState_RemoveModule(def) < 0 || PyState_AddModule(args[1], def) < 0)
		return NULL;
	Py_RETURN_TRUE;
}

static PyMethodDef methods[] = {
	{ "module_kind", module_kind, METH_O, "(phases, size of its state, what it declares about other interpreters or -1) of a C module, else None." },
	{ "state_of", state_of, METH_O, "The module that the C code of OBJECT, a single-phase module, finds as its own; or None." },
	{ "restore_state", (PyCFunction)(void (*)(void))restore_state, METH_FASTCALL,
		"restore_state(object, module): let the C code of OBJECT find MODULE again, what state_of() gave. Says whether it found another one." },
	{ NULL, NULL, 0, NULL },
};

int lw_engines_add_single(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
