/* SPDX-License-Identifier: MIT */
/*
 * patch: see patch.h.
 *
 * A frame takes code, globals and free variables from its function when it begins, and never looks there again: what runs in a function that takes other contents
 * finishes in the old ones. The interpreter's shortcuts for calls go by the function's version, which PyFunction_SetClosure() resets.
 *
 * Free-threaded, another thread may have read a field and not yet counted its reference: swap.c holds what was there until the next swap.
 */
#include "patch.h"

#include <stddef.h>

/* Fields that are references, besides func_closure. */
static const size_t fields[] = {
	offsetof(PyFunctionObject, func_globals),
	offsetof(PyFunctionObject, func_builtins),
	offsetof(PyFunctionObject, func_name),
	offsetof(PyFunctionObject, func_qualname),
	offsetof(PyFunctionObject, func_code),
	offsetof(PyFunctionObject, func_defaults),
	offsetof(PyFunctionObject, func_kwdefaults),
	offsetof(PyFunctionObject, func_doc),
	offsetof(PyFunctionObject, func_dict),
	offsetof(PyFunctionObject, func_module),
	offsetof(PyFunctionObject, func_annotations),
#if PY_VERSION_HEX >= 0x030c0000
	offsetof(PyFunctionObject, func_typeparams),
#endif
#if PY_VERSION_HEX >= 0x030e0000
	offsetof(PyFunctionObject, func_annotate),
#endif
};

enum { COUNT = sizeof fields / sizeof *fields };

static PyObject **field(PyObject *function, unsigned number)
{
	return (PyObject **)((char *)function + fields[number]);
}

static PyObject *or_none(PyObject *object)
{
	return Py_NewRef(object ? object : Py_None);
}

PyObject *lw_function_contents(PyObject *function)
{
	PyObject *contents = PyTuple_New(COUNT + 1);
	if (!contents)
		return NULL;
	for (unsigned i = 0; i < COUNT; i++)
		PyTuple_SET_ITEM(contents, i, or_none(*field(function, i)));
	PyTuple_SET_ITEM(contents, COUNT, or_none(((PyFunctionObject *)function)->func_closure));
	return contents;
}

/* Resets the version, too. Fails only for what is no tuple. */
static void set_closure(PyObject *function, PyObject *closure)
{
	if (PyFunction_SetClosure(function, closure ? closure : Py_None) < 0)
		PyErr_Clear();
}

int lw_is_closure(PyObject *function, PyObject *closure)
{
	PyCodeObject *code = (PyCodeObject *)PyFunction_GET_CODE(function);
	if (!PyTuple_CheckExact(closure) || PyTuple_GET_SIZE(closure) != PyCode_GetNumFree(code))
		return 0;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(closure); i++)
		if (!PyCell_Check(PyTuple_GET_ITEM(closure, i)))
			return 0;
	return 1;
}

void lw_function_take(PyObject *function, PyObject *other, PyObject *closure)
{
	for (unsigned i = 0; i < COUNT; i++) {
		PyObject **place = field(function, i), *before = *place;
		*place = Py_XNewRef(*field(other, i));
		Py_XDECREF(before);
	}
	set_closure(function, closure ? closure : ((PyFunctionObject *)other)->func_closure);
}

static PyObject *type_dict(PyObject *type)
{
#if PY_VERSION_HEX >= 0x030c0000
	return PyType_GetDict((PyTypeObject *)type);
#else
	return Py_XNewRef(((PyTypeObject *)type)->tp_dict);
#endif
}

PyObject *lw_type_get(PyObject *type, PyObject *name)
{
	PyObject *names = type_dict(type);
	PyObject *found = names ? PyDict_GetItemWithError(names, name) : NULL;
	Py_XINCREF(found);
	Py_XDECREF(names);
	return found;
}

/* Whether what TYPE itself has by NAME decides on assignments. -1 with an exception. */
static int assigns(PyObject *type, PyObject *name)
{
	PyObject *descriptor = lw_type_get(type, name);
	int result = descriptor ? Py_TYPE(descriptor)->tp_descr_set != NULL : PyErr_Occurred() ? -1 : 0;
	Py_XDECREF(descriptor);
	return result;
}

/* Whether it is for type.__setattr__() to keep a slot or a flag in step with the name: __len__, __abstractmethods__. Not so what `type` answers itself, and a
 * class may define for its instances: __class__, __name__. 0, 1, or -1 with an exception. */
static int needs_setattr(PyObject *name)
{
	Py_ssize_t size = PyUnicode_GET_LENGTH(name);
	if (size <= 4 || PyUnicode_READ_CHAR(name, 0) != '_' || PyUnicode_READ_CHAR(name, 1) != '_' || PyUnicode_READ_CHAR(name, size - 1) != '_' ||
	    PyUnicode_READ_CHAR(name, size - 2) != '_')
		return 0;
	if (PyUnicode_CompareWithASCIIString(name, "__abstractmethods__") == 0)
		return 1;
	int found = assigns((PyObject *)&PyType_Type, name);
	if (!found)
		found = assigns((PyObject *)&PyBaseObject_Type, name);
	return found < 0 ? -1 : !found;
}

/* Past the metaclass, which may have a property of that name. */
static int set_plain(PyObject *type, PyObject *name, PyObject *value)
{
	PyObject *names = type_dict(type);
	int result = !names ? -1 : value ? PyDict_SetItem(names, name, value) : PyDict_DelItem(names, name);
	Py_XDECREF(names);
	PyType_Modified((PyTypeObject *)type);
	return result;
}

int lw_type_set(PyObject *type, PyObject *name, PyObject *value)
{
	int needs = needs_setattr(name);
	int result = needs < 0 ? -1 : needs ? PyType_Type.tp_setattro(type, name, value) : set_plain(type, name, value);
	if (result < 0 && !value && (PyErr_ExceptionMatches(PyExc_AttributeError) || PyErr_ExceptionMatches(PyExc_KeyError))) {
		PyErr_Clear();
		return 0;
	}
	return result;
}

int lw_type_rebase(PyObject *type, PyObject *bases)
{
	PyObject *name = PyUnicode_InternFromString("__bases__");
	int result = name ? PyType_Type.tp_setattro(type, name, bases) : -1;
	Py_XDECREF(name);
	return result;
}

/* --- for Python --- */

static PyObject *set_globals(PyObject *module, PyObject *args)
{
	PyObject *function, *globals, *closure = NULL;
	if (!PyArg_ParseTuple(args, "O!O!|O", &PyFunction_Type, &function, &PyDict_Type, &globals, &closure))
		return NULL;
	if (closure && !lw_is_closure(function, closure))
		return PyErr_Format(PyExc_ValueError, "a closure is a tuple of a cell for each free variable");
	PyFunctionObject *self = (PyFunctionObject *)function;
	Py_SETREF(self->func_globals, Py_NewRef(globals));
	set_closure(function, closure ? closure : self->func_closure);
	Py_RETURN_NONE;
}

static PyObject *can_rebase(PyObject *module, PyObject *args)
{
	PyObject *type, *bases;
	if (!PyArg_ParseTuple(args, "O!O!", &PyType_Type, &type, &PyTuple_Type, &bases))
		return NULL;
	PyObject *before = Py_NewRef(((PyTypeObject *)type)->tp_bases);
	int can = lw_type_rebase(type, bases) == 0;
	if (can && lw_type_rebase(type, before) < 0) {
		Py_DECREF(before);
		return NULL;
	}
	Py_DECREF(before);
	PyErr_Clear();
	return PyBool_FromLong(can);
}

static int same_layout(PyTypeObject *a, PyTypeObject *b)
{
#if PY_VERSION_HEX >= 0x030d0000
	if (PyType_HasFeature(a, Py_TPFLAGS_INLINE_VALUES) || PyType_HasFeature(b, Py_TPFLAGS_INLINE_VALUES))
		return 0;
#endif
	return a->tp_basicsize == b->tp_basicsize && a->tp_itemsize == b->tp_itemsize && a->tp_dictoffset == b->tp_dictoffset && a->tp_dealloc == b->tp_dealloc &&
	       a->tp_weaklistoffset == b->tp_weaklistoffset && PyType_HasFeature(a, Py_TPFLAGS_HEAPTYPE) && PyType_HasFeature(b, Py_TPFLAGS_HEAPTYPE) &&
	       PyType_IS_GC(a) == PyType_IS_GC(b);
}

/* For tuples and numbers with attributes, and where bases are about to change, which object.__class__ refuses. */
static int set_type(PyObject *instance, PyTypeObject *class)
{
	PyTypeObject *before = Py_TYPE(instance);
	if (!same_layout(before, class))
		return -1;
	PyErr_Clear();
	if (before->tp_dictoffset) { /* attributes that are no dictionary yet go by the class */
		PyObject *names = PyObject_GenericGetDict(instance, NULL);
		if (!names)
			return -1;
		Py_DECREF(names);
	}
	Py_INCREF(class);
	Py_SET_TYPE(instance, class);
	Py_DECREF(before);
	return 0;
}

static PyObject *set_class(PyObject *module, PyObject *args)
{
	PyObject *instance, *class;
	if (!PyArg_ParseTuple(args, "OO!", &instance, &PyType_Type, &class))
		return NULL;
	PyObject *name = PyUnicode_InternFromString("__class__");
	PyObject *descriptor = name ? lw_type_get((PyObject *)&PyBaseObject_Type, name) : NULL; /* its class may have one of its own */
	Py_XDECREF(name);
	if (!descriptor)
		return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_SystemError, "object has no __class__");
	int result = Py_TYPE(descriptor)->tp_descr_set(descriptor, instance, class);
	Py_DECREF(descriptor);
	if (result < 0 && PyErr_ExceptionMatches(PyExc_TypeError))
		result = set_type(instance, (PyTypeObject *)class);
	return result < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
	{ "set_globals", set_globals, METH_VARARGS, "set_globals(function, dict[, closure]): the function, which no other thread knows, has DICT for its global names." },
	{ "set_class", set_class, METH_VARARGS, "set_class(instance, class): the instance, which no other thread knows, gets another class of the same slots." },
	{ "can_rebase", can_rebase, METH_VARARGS, "can_rebase(class, bases): whether class.__bases__ = BASES would do. Not for metaclasses with an mro() of their own." },
	{ NULL, NULL, 0, NULL },
};

int lw_live_add_patch(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
