/* SPDX-License-Identifier: MIT */
/*
 * statements: what code says of modules: its import statements with the names that they bind, and dotted names (`shop.cart.Cart`) by which it reaches what is in
 * a package. A reload and the registry ask; see code.h. When an import happens is in edges.c.
 */
#include "code.h"

static int add_imports(PyObject *list, const struct ops *ops, PyObject *code, bool functions, bool inside);

/* What `from m import n as k` at NUMBER binds: ((n, k), ...), as far as these are names of a module or of a class. */
static PyObject *bindings(const struct body *body, uint32_t number)
{
	PyObject *list = PyList_New(0), *taken = NULL;
	for (uint32_t i = number + 1; list && i < body->steps; i++) {
		enum act act = lw_body_act(body, i);
		PyObject *name = lw_body_name(body, i);
		if (act == FROM && name) {
			taken = name;
		} else if (act == STORE && name && taken) {
			PyObject *pair = PyTuple_Pack(2, taken, name);
			if (!pair || PyList_Append(list, pair) < 0)
				Py_CLEAR(list);
			Py_XDECREF(pair);
			taken = NULL;
		} else if (act != IGNORE) {
			break;
		}
	}
	PyObject *tuple = list ? PyList_AsTuple(list) : NULL;
	Py_XDECREF(list);
	return tuple;
}

/* What `import m` at NUMBER binds: ((m, k),); k is the name, or the first part of m. */
static PyObject *binding(const struct body *body, uint32_t number, PyObject *name)
{
	for (uint32_t i = number + 1; i < body->steps; i++) {
		enum act act = lw_body_act(body, i);
		PyObject *stored = act == STORE ? lw_body_name(body, i) : NULL;
		if (stored)
			return Py_BuildValue("((OO))", name, stored);
		/* `import a.b.c as k` takes its way through the packages. */
		if (act != IGNORE && act != FROM && act != OTHER)
			break;
	}
	return PyTuple_New(0);
}

static int add_import(PyObject *list, const struct body *body, uint32_t number, bool inside)
{
	struct import import;
	if (!lw_body_import(body, number, &import))
		return 0;
	PyObject *bound = import.fromlist == Py_None ? binding(body, number, import.name) : bindings(body, number);
	PyObject *item = bound ? Py_BuildValue("(lOONO)", import.level, import.name, import.fromlist, bound, inside ? Py_True : Py_False) : NULL;
	int result = item ? PyList_Append(list, item) : -1;
	Py_XDECREF(item);
	return result;
}

/* FUNCTIONS: go into them; INSIDE: we are in one. */
static int add_inner_imports(PyObject *list, const struct ops *ops, PyObject *inner, bool functions, bool inside)
{
	int here = lw_code_runs_in_place(inner);
	if (here <= 0 && (here < 0 || !functions))
		return here;
	if (Py_EnterRecursiveCall(" while reading code"))
		return -1;
	int result = add_imports(list, ops, inner, functions, inside || !here);
	Py_LeaveRecursiveCall();
	return result;
}

static int add_imports(PyObject *list, const struct ops *ops, PyObject *code, bool functions, bool inside)
{
	struct body body;
	int result = lw_body_read(&body, ops, code);
	for (uint32_t i = 0; !result && i < body.steps; i++) {
		enum act act = lw_body_act(&body, i);
		PyObject *inner = act == CONST ? lw_body_const(&body, i) : NULL;
		if (act == IMPORT)
			result = add_import(list, &body, i, inside);
		else if (inner && PyCode_Check(inner))
			result = add_inner_imports(list, ops, inner, functions, inside);
	}
	lw_body_clear(&body);
	return result;
}

/* --- dotted names --- */

static bool is_root(enum act act)
{
	return act == NAME || act == NAME_SHIFTED || act == LOCAL || act == LOCAL_LAST;
}

/* The dotted names that begin with the name which STEP loads. 0, or -1 with an exception. */
static int add_dotted(PyObject *set, const struct body *body, uint32_t step)
{
	PyObject *dotted = Py_NewRef(lw_body_name(body, step));
	int result = 0;
	while (!result && ++step < body->steps) {
		enum act act = lw_body_act(body, step);
		PyObject *name = act == ATTRIBUTE || act == ATTRIBUTE_SHIFTED ? lw_body_name(body, step) : NULL;
		if (act == IGNORE)
			continue;
		if (!name)
			break;
		PyObject *longer = PyUnicode_FromFormat("%U.%U", dotted, name);
		Py_XSETREF(dotted, longer);
		result = dotted ? PySet_Add(set, dotted) : -1;
	}
	Py_XDECREF(dotted);
	return result;
}

static int add_all_dotted(PyObject *set, const struct ops *ops, PyObject *code, PyObject *roots)
{
	struct body body;
	int result = Py_EnterRecursiveCall(" while reading code") ? -1 : 0;
	if (result)
		return result;
	result = lw_body_read(&body, ops, code);
	for (uint32_t i = 0; !result && i < body.steps; i++) {
		enum act act = lw_body_act(&body, i);
		PyObject *name = is_root(act) ? lw_body_name(&body, i) : NULL, *inner = act == CONST ? lw_body_const(&body, i) : NULL;
		int wanted = name ? PySet_Contains(roots, name) : 0;
		if (wanted)
			result = wanted < 0 ? -1 : add_dotted(set, &body, i);
		else if (inner && PyCode_Check(inner))
			result = add_all_dotted(set, ops, inner, roots);
	}
	lw_body_clear(&body);
	Py_LeaveRecursiveCall();
	return result;
}

/* --- for Python --- */

static PyObject *statements(PyObject *module, PyObject *args)
{
	PyObject *code;
	int functions = 1;
	if (!PyArg_ParseTuple(args, "O!|p", &PyCode_Type, &code, &functions))
		return NULL;
	const struct ops *ops = lw_ops();
	PyObject *list = ops ? PyList_New(0) : NULL;
	if (list && add_imports(list, ops, code, functions, false) < 0)
		Py_CLEAR(list);
	return list;
}

static PyObject *dotted(PyObject *module, PyObject *args)
{
	PyObject *code, *roots;
	if (!PyArg_ParseTuple(args, "O!O!", &PyCode_Type, &code, &PySet_Type, &roots))
		return NULL;
	const struct ops *ops = lw_ops();
	PyObject *set = ops ? PySet_New(NULL) : NULL;
	if (set && add_all_dotted(set, ops, code, roots) < 0)
		Py_CLEAR(set);
	return set;
}

static PyMethodDef functions[] = {
	{ "statements", statements, METH_VARARGS,
	  "statements(code, functions=True, /)\n--\n\n"
	  "The import statements of CODE, and of the functions in it: a list of (level, name, fromlist or None, ((name, bound as), ...), in a function?). Only\n"
	  "names of modules and classes are given as bound; `import a.b` binds ('a.b', 'a')." },
	{ "dotted", dotted, METH_VARARGS,
	  "dotted(code, roots, /)\n--\n\n"
	  "The dotted names in CODE, and in the functions in it, whose first part is in ROOTS, and what they begin with: `a.b.c` gives 'a.b' and 'a.b.c'." },
	{ NULL, NULL, 0, NULL },
};

int lw_live_add_statements(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
