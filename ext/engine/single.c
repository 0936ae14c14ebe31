/* SPDX-License-Identifier: MIT */
/*
 * single: what a C module is, and which object of a single-phase module its C code finds.
 *
 * A multi-phase module (PEP 489) is a definition from which any number of objects are made. A single-phase module is made by its init function, once; loaded again, CPython
 * gives it another object with the same contents (state size -1), or calls the init function again. Either way the new object takes the one place at which the
 * module's C code finds "its" module (PyState_FindModule): the process's functions would work with an engine's object. keep_state() puts the former one back.
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
	return def && !def->m_slots ? def : NULL;
}

static PyObject *keep_state(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
	if (nargs != 2)
		return PyErr_Format(PyExc_TypeError, "keep_state(module, former) takes 2 arguments, got %zd", nargs);
	struct PyModuleDef *def = single_def(args[0]);
	if (!def || args[0] == args[1] || single_def(args[1]) != def || PyState_FindModule(def) != args[0])
		Py_RETURN_FALSE;
	if (PyState_RemoveModule(def) < 0 || PyState_AddModule(args[1], def) < 0)
		return NULL;
	Py_RETURN_TRUE;
}

/* For tests: what the C code of a single-phase module finds. */
static PyObject *state_of(PyObject *module, PyObject *object)
{
	struct PyModuleDef *def = single_def(object);
	PyObject *found = def ? PyState_FindModule(def) : NULL;
	return Py_NewRef(found ? found : Py_None);
}

static PyMethodDef methods[] = {
	{ "module_kind", module_kind, METH_O, "(phases, size of its state, what it declares about other interpreters or -1) of a C module, else None." },
	{ "keep_state", (PyCFunction)(void (*)(void))keep_state, METH_FASTCALL,
		"keep_state(module, former): let the C code of a single-phase module find FORMER again, if it finds MODULE. Says whether it did." },
	{ "state_of", state_of, METH_O, "The object that the C code of a single-phase module finds, or None." },
	{ NULL, NULL, 0, NULL },
};

int lw_engines_add_single(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
