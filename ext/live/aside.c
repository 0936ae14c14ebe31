/* SPDX-License-Identifier: MIT */
/*
 * aside: what one thread sees of modules that are being replaced, while all others see them as they were.
 *
 *     sys.modules["shop.a"] -> old module, its __class__ StandIn
 *
 *         any other thread          old.VERSION        what the old module has
 *         the reloading thread      old.VERSION        what the new module has: asked for by get("shop.a")
 *                                   shop.a             the new module, where package shop stays and its child a does not
 *
 * So a module body that is executed aside may say sys.modules[__name__], as dataclasses and typing do, and never touches the module that others use. What
 * import statements and importlib.import_module() give is the new module itself: Detour stands where these two begin, and lets every other thread pass.
 *
 * The transaction under way is a variable of its thread: nothing is shared, nothing is locked.
 */
#include "live.h"

#include <stdbool.h>
#include <structmember.h>

typedef struct {
	PyObject_HEAD
	PyObject *get;		/* get(full name) -> module */
	PyObject *import;	/* what stands for builtins.__import__, and for importlib._bootstrap._gcd_import, on this thread */
	PyObject *gcd_import;
	PyObject *concerned;	/* set: names of modules that are to this thread others than sys.modules has, or may be */
	PyObject *standins;	/* dict: old module -> its name */
	PyObject *children;	/* dict: package -> dict: attribute -> full name */
	PyObject *classes;	/* dict: module -> (its own class, the one it has meanwhile), for those that are not plain modules */
	PyObject *standin_type;
	PyInterpreterState *interp;
} aside;

/* (this thread) Borrowed: begin() and end() hold a reference. */
static _Thread_local aside *current;

static aside *current_aside(void)
{
	return current && current->interp == PyInterpreterState_Get() ? current : NULL;
}

/* --- StandIn: the __class__ of modules meanwhile --- */

/* The new module that MODULE stands for: strong; NULL without exception if for none. */
static PyObject *stands_for(aside *tx, PyObject *module)
{
	PyObject *name = PyDict_GetItemWithError(tx->standins, module);
	if (!name)
		return NULL;
	PyObject *get = Py_NewRef(tx->get);
	Py_INCREF(name);
	PyObject *other = PyObject_CallOneArg(get, name);
	Py_DECREF(name);
	Py_DECREF(get);
	if (other == module)
		Py_CLEAR(other);
	return other;
}

/* The new child NAME of PACKAGE, likewise. */
static PyObject *new_child(aside *tx, PyObject *package, PyObject *name)
{
	PyObject *children = PyDict_GetItemWithError(tx->children, package);
	PyObject *full = children ? PyDict_GetItemWithError(children, name) : NULL;
	if (!full)
		return NULL;
	Py_INCREF(full);
	PyObject *child = PyObject_CallOneArg(tx->get, full);
	Py_DECREF(full);
	return child;
}

/* What this thread finds as SELF.NAME: strong; NULL without exception if what the old module has. */
static PyObject *instead_get(PyObject *self, PyObject *name)
{
	aside *tx = current_aside();
	if (!tx)
		return NULL;
	Py_INCREF(tx);
	PyObject *other = stands_for(tx, self);
	PyObject *result = other ? PyObject_GetAttr(other, name) : PyErr_Occurred() ? NULL : new_child(tx, self, name);
	Py_XDECREF(other);
	Py_DECREF(tx);
	return result;
}

/* SELF.NAME = VALUE (NULL: del) in this thread: 1: done; 0: that is for the old module; -1. */
static int instead_set(PyObject *self, PyObject *name, PyObject *value)
{
	aside *tx = current_aside();
	if (!tx)
		return 0;
	Py_INCREF(tx);
	PyObject *other = stands_for(tx, self);
	int result = other ? PyObject_SetAttr(other, name, value) < 0 ? -1 : 1 : PyErr_Occurred() ? -1 : 0;
	Py_XDECREF(other);
	Py_DECREF(tx);
	return result;
}

static PyObject *standin_getattro(PyObject *self, PyObject *name)
{
	PyObject *result = instead_get(self, name);
	return result || PyErr_Occurred() ? result : PyModule_Type.tp_getattro(self, name);
}

static int standin_setattro(PyObject *self, PyObject *name, PyObject *value)
{
	int done = instead_set(self, name, value);
	return done ? done < 0 ? -1 : 0 : PyModule_Type.tp_setattro(self, name, value);
}

/* The same for classes made in Python, whose base is a module's own class. */
static PyObject *instead(PyObject *unused, PyObject *args)
{
	PyObject *module, *name;
	if (!PyArg_ParseTuple(args, "OU", &module, &name))
		return NULL;
	PyObject *found = instead_get(module, name);
	if (!found)
		return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
	PyObject *result = PyTuple_Pack(1, found);
	Py_DECREF(found);
	return result;
}

static PyObject *set_instead(PyObject *unused, PyObject *args)
{
	PyObject *module, *name, *value = NULL;
	if (!PyArg_ParseTuple(args, "OU|O", &module, &name, &value))
		return NULL;
	int done = instead_set(module, name, value);
	return done < 0 ? NULL : PyBool_FromLong(done);
}

static PyMethodDef functions[] = {
	{ "instead", instead, METH_VARARGS, "instead(module, name): (what this thread finds there,), or None: what MODULE itself has." },
	{ "set_instead", set_instead, METH_VARARGS, "set_instead(module, name[, value]): set it, or delete it, if this thread does so in another module. Whether it did." },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot standin_slots[] = {
	{ Py_tp_getattro, standin_getattro },
	{ Py_tp_setattro, standin_setattro },
	{ Py_tp_doc, "A module while a reload is under way: the new one to the thread that reloads, the old one to all others." },
	{ 0, NULL },
};

static PyType_Spec standin_spec = {
	.name = "ladewerk._live.StandIn",
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = standin_slots,
};

static int set_class(PyObject *module, PyObject *class)
{
	PyObject *name = PyUnicode_InternFromString("__class__");
	int result = name ? PyObject_GenericSetAttr(module, name, class) : -1;
	Py_XDECREF(name);
	return result;
}

/* MODULE, of a class of its own, gets CLASS: 1, 0 (it does not want it), -1. */
static int dress(aside *self, PyObject *module, PyObject *class)
{
	PyObject *own = Py_NewRef(Py_TYPE(module));
	PyObject *both = PyTuple_Pack(2, own, class);
	int result = both ? 1 : -1;
	if (both && (set_class(module, class) < 0 || Py_TYPE(module) != (PyTypeObject *)class)) {
		PyErr_Clear();
		result = 0;
	} else if (both && PyDict_SetItem(self->classes, module, both) < 0) {
		PyObject *type, *value, *traceback;
		PyErr_Fetch(&type, &value, &traceback);
		set_class(module, own);
		PyErr_Restore(type, value, traceback);
		result = -1;
	}
	Py_XDECREF(both);
	Py_DECREF(own);
	return result;
}

/* CLASS is for modules with a class of their own; these are left alone without: 1, 0 (left alone), -1. */
static int become_standin(aside *self, PyObject *module, PyObject *class)
{
	if (Py_TYPE(module) == (PyTypeObject *)self->standin_type || Py_TYPE(module) == (PyTypeObject *)class)
		return 1;
	if (!PyModule_CheckExact(module))
		return PyModule_Check(module) && class && PyType_Check(class) ? dress(self, module, class) : 0;
	return set_class(module, self->standin_type) < 0 ? -1 : 1;
}

/* --- Aside: a transaction --- */

static int aside_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "get", "import_", "gcd_import", "concerned", NULL };
	aside *self = (aside *)object;
	PyObject *get, *import, *gcd_import, *concerned;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO!", names, &get, &import, &gcd_import, &PySet_Type, &concerned))
		return -1;
	Py_XSETREF(self->get, Py_NewRef(get));
	Py_XSETREF(self->import, Py_NewRef(import));
	Py_XSETREF(self->gcd_import, Py_NewRef(gcd_import));
	Py_XSETREF(self->concerned, Py_NewRef(concerned));
	Py_XSETREF(self->standins, PyDict_New());
	Py_XSETREF(self->children, PyDict_New());
	Py_XSETREF(self->classes, PyDict_New());
	self->interp = PyInterpreterState_Get();
	PyObject *type = (PyObject *)Py_TYPE(object);
	Py_XSETREF(self->standin_type, PyObject_GetAttrString(type, "StandIn"));
	return self->standins && self->children && self->classes && self->standin_type ? 0 : -1;
}

static int aside_traverse(PyObject *object, visitproc visit, void *arg)
{
	aside *self = (aside *)object;
	Py_VISIT(Py_TYPE(object));
	Py_VISIT(self->get);
	Py_VISIT(self->import);
	Py_VISIT(self->gcd_import);
	Py_VISIT(self->concerned);
	Py_VISIT(self->standins);
	Py_VISIT(self->children);
	Py_VISIT(self->classes);
	Py_VISIT(self->standin_type);
	return 0;
}

static int aside_clear(PyObject *object)
{
	aside *self = (aside *)object;
	Py_CLEAR(self->get);
	Py_CLEAR(self->import);
	Py_CLEAR(self->gcd_import);
	Py_CLEAR(self->concerned);
	Py_CLEAR(self->standins);
	Py_CLEAR(self->children);
	Py_CLEAR(self->classes);
	Py_CLEAR(self->standin_type);
	return 0;
}

static void aside_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);
	PyObject_GC_UnTrack(object);
	aside_clear(object);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyObject *aside_stand_in(PyObject *object, PyObject *args)
{
	aside *self = (aside *)object;
	PyObject *module, *name, *class = NULL;
	if (!PyArg_ParseTuple(args, "OU|O", &module, &name, &class))
		return NULL;
	int can = become_standin(self, module, class);
	if (can < 0 || (can && PyDict_SetItem(self->standins, module, name) < 0))
		return NULL;
	return PyBool_FromLong(can);
}

static PyObject *aside_replace_child(PyObject *object, PyObject *args)
{
	aside *self = (aside *)object;
	PyObject *package, *attribute, *name, *class = NULL;
	if (!PyArg_ParseTuple(args, "OUU|O", &package, &attribute, &name, &class))
		return NULL;
	int can = become_standin(self, package, class);
	if (can <= 0)
		return can < 0 ? NULL : PyBool_FromLong(0);
	PyObject *children = PyDict_GetItemWithError(self->children, package);
	Py_XINCREF(children);
	if (!children && !PyErr_Occurred() && (children = PyDict_New()) && PyDict_SetItem(self->children, package, children) < 0)
		Py_CLEAR(children);
	int result = children ? PyDict_SetItem(children, attribute, name) : -1;
	Py_XDECREF(children);
	return result < 0 ? NULL : PyBool_FromLong(1);
}

static PyObject *aside_begin(PyObject *object, PyObject *unused)
{
	if (current)
		return PyErr_Format(PyExc_RuntimeError, "this thread is reloading already");
	current = (aside *)Py_NewRef(object);
	Py_RETURN_NONE;
}

static int classes_back(PyObject *modules, PyObject *type)
{
	PyObject *list = PyDict_Keys(modules);
	if (!list)
		return -1;
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
		PyObject *module = PyList_GET_ITEM(list, i);
		if (Py_TYPE(module) == (PyTypeObject *)type && set_class(module, (PyObject *)&PyModule_Type) < 0) {
			Py_DECREF(list);
			return -1;
		}
	}
	Py_DECREF(list);
	return 0;
}

static int own_classes_back(PyObject *classes)
{
	PyObject *list = PyDict_Items(classes);
	if (!list)
		return -1;
	int result = 0;
	for (Py_ssize_t i = 0; !result && i < PyList_GET_SIZE(list); i++) {
		PyObject *item = PyList_GET_ITEM(list, i), *module = PyTuple_GET_ITEM(item, 0), *both = PyTuple_GET_ITEM(item, 1);
		if (Py_TYPE(module) == (PyTypeObject *)PyTuple_GET_ITEM(both, 1))
			result = set_class(module, PyTuple_GET_ITEM(both, 0));
	}
	Py_DECREF(list);
	return result;
}

static PyObject *aside_end(PyObject *object, PyObject *unused)
{
	aside *self = (aside *)object;
	if (current == self) {
		current = NULL;
		Py_DECREF(object);
	}
	if (classes_back(self->standins, self->standin_type) < 0 || classes_back(self->children, self->standin_type) < 0 || own_classes_back(self->classes) < 0)
		return NULL;
	PyDict_Clear(self->standins);
	PyDict_Clear(self->children);
	PyDict_Clear(self->classes);
	Py_RETURN_NONE;
}

static PyMethodDef aside_methods[] = {
	{ "stand_in", aside_stand_in, METH_VARARGS, "stand_in(module, name[, class]): to this thread MODULE is get(NAME). False: it has a class of its own, and cannot have CLASS." },
	{ "replace_child", aside_replace_child, METH_VARARGS, "replace_child(package, attribute, name[, class]): to this thread package.ATTRIBUTE is get(NAME). False: likewise." },
	{ "begin", aside_begin, METH_NOARGS, "From here on, for this thread." },
	{ "end", aside_end, METH_NOARGS, "Modules are to this thread what they are to others. May be called again." },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot aside_slots[] = {
	{ Py_tp_init, aside_init },
	{ Py_tp_traverse, aside_traverse },
	{ Py_tp_clear, aside_clear },
	{ Py_tp_dealloc, aside_dealloc },
	{ Py_tp_methods, aside_methods },
	{ Py_tp_doc, "What the calling thread sees of modules that are being replaced." },
	{ 0, NULL },
};

static PyType_Spec aside_spec = {
	.name = "ladewerk._live.Aside",
	.basicsize = sizeof(aside),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = aside_slots,
};

/* --- Detour: in the place of __import__ and _gcd_import meanwhile --- */

typedef struct {
	PyObject_HEAD
	PyObject *original;
	int gcd_import;
} detour;

static int detour_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "original", "gcd_import", NULL };
	detour *self = (detour *)object;
	PyObject *original;
	int gcd_import = 0;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|p", names, &original, &gcd_import))
		return -1;
	Py_XSETREF(self->original, Py_NewRef(original));
	self->gcd_import = gcd_import;
	return 0;
}

/* Whether NAME, or a package above it, is one of CONCERNED: 1, 0, -1. */
static int is_concerned(PyObject *concerned, PyObject *name)
{
	int found = PySet_Contains(concerned, name);
	Py_ssize_t len = PyUnicode_GET_LENGTH(name);
	for (Py_ssize_t dot = 0; !found && (dot = PyUnicode_FindChar(name, '.', dot, len, 1)) >= 0; dot++) {
		PyObject *above = PyUnicode_Substring(name, 0, dot);
		found = above ? PySet_Contains(concerned, above) : -1;
		Py_XDECREF(above);
	}
	return found;
}

/* Whether `from MODULE import NAMES` imports nothing, and gives nothing that is concerned: 1, 0, -1. */
static int has_all(aside *tx, PyObject *full, PyObject *module, PyObject *names)
{
	PyObject *own = PyModule_CheckExact(module) ? PyModule_GetDict(module) : NULL;
	if (!own || !PyTuple_CheckExact(names))
		return 0;
	int package = PyDict_GetItemString(own, "__path__") || PyDict_GetItemString(own, "__getattr__"), result = 1;
	for (Py_ssize_t i = 0; result > 0 && i < PyTuple_GET_SIZE(names); i++) {
		PyObject *name = PyTuple_GET_ITEM(names, i);
		if (!PyUnicode_CheckExact(name))
			return 0;
		if (package && (result = PyDict_Contains(own, name)) <= 0)
			break;
		PyObject *child = PyUnicode_FromFormat("%U.%U", full, name);
		int concerned = child ? PySet_Contains(tx->concerned, child) : -1;
		Py_XDECREF(child);
		result = concerned < 0 ? -1 : !concerned;
	}
	return result;
}

/*
 * Whether this call of __import__ does what it does for other threads: an absolute import of a module that is there, and that nothing under way concerns.
 * So most imports of a body take the short way. 1; 0 (maybe not); -1.
 */
static int is_ordinary(aside *tx, PyObject *args, PyObject *kwargs)
{
	Py_ssize_t count = PyTuple_GET_SIZE(args);
	PyObject *name = count ? PyTuple_GET_ITEM(args, 0) : NULL, *names = count > 3 ? PyTuple_GET_ITEM(args, 3) : Py_None;
	if (!name || kwargs || !PyUnicode_CheckExact(name) || (count > 4 && (!PyLong_CheckExact(PyTuple_GET_ITEM(args, 4)) || PyLong_AsLong(PyTuple_GET_ITEM(args, 4)) != 0))) {
		PyErr_Clear();
		return 0;
	}
	/* First: of one that is concerned nothing may be asked (whether it is being initialized, say) by those who forget exceptions. */
	int concerned = is_concerned(tx->concerned, name);
	if (concerned)
		return concerned < 0 ? -1 : 0;
	PyObject *module = PyImport_GetModule(name);
	if (!module)
		return PyErr_Occurred() ? -1 : 0;
	int result = module != Py_None;
	if (result && names != Py_None)
		result = has_all(tx, name, module, names);
	Py_DECREF(module);
	return result;
}

static PyObject *detour_call(PyObject *object, PyObject *args, PyObject *kwargs)
{
	detour *self = (detour *)object;
	aside *tx = current_aside();
	int ordinary = !tx ? 1 : self->gcd_import ? 0 : is_ordinary(tx, args, kwargs);
	if (ordinary < 0)
		return NULL;
	PyObject *target = ordinary ? self->original : self->gcd_import ? tx->gcd_import : tx->import;
	if (!target)
		return PyErr_Format(PyExc_ImportError, "ladewerk: a detour that leads nowhere");
	Py_INCREF(target);
	PyObject *result = PyObject_Call(target, args, kwargs);
	Py_DECREF(target);
	return result;
}

static int detour_traverse(PyObject *object, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(object));
	Py_VISIT(((detour *)object)->original);
	return 0;
}

static int detour_clear(PyObject *object)
{
	Py_CLEAR(((detour *)object)->original);
	return 0;
}

static void detour_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);
	PyObject_GC_UnTrack(object);
	detour_clear(object);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyMemberDef detour_members[] = {
	{ "original", T_OBJECT, offsetof(detour, original), READONLY, "where other threads go" },
	{ NULL, 0, 0, 0, NULL },
};

static PyType_Slot detour_slots[] = {
	{ Py_tp_init, detour_init },
	{ Py_tp_call, detour_call },
	{ Py_tp_traverse, detour_traverse },
	{ Py_tp_clear, detour_clear },
	{ Py_tp_dealloc, detour_dealloc },
	{ Py_tp_members, detour_members },
	{ Py_tp_doc, "A function that leads the thread of an Aside to its own." },
	{ 0, NULL },
};

static PyType_Spec detour_spec = {
	.name = "ladewerk._live.Detour",
	.basicsize = sizeof(detour),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = detour_slots,
};

int lw_live_add_aside(PyObject *module)
{
	PyObject *bases = PyTuple_Pack(1, (PyObject *)&PyModule_Type);
	PyObject *standin = bases ? PyType_FromModuleAndSpec(module, &standin_spec, bases) : NULL;
	PyObject *type = standin ? PyType_FromModuleAndSpec(module, &aside_spec, NULL) : NULL;
	PyObject *turn = type ? PyType_FromModuleAndSpec(module, &detour_spec, NULL) : NULL;
	int result = turn ? PyObject_SetAttrString(type, "StandIn", standin) : -1;
	if (!result)
		result = PyModule_AddFunctions(module, functions);
	if (!result)
		result = PyModule_AddObjectRef(module, "StandIn", standin);
	if (!result)
		result = PyModule_AddObjectRef(module, "Aside", type);
	if (!result)
		result = PyModule_AddObjectRef(module, "Detour", turn);
	Py_XDECREF(bases);
	Py_XDECREF(standin);
	Py_XDECREF(type);
	Py_XDECREF(turn);
	return result;
}
