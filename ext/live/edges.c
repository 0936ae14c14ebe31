/* SPDX-License-Identifier: MIT */
/*
 * edges: see edges.h.
 */
#include "edges.h"

#include "code.h"

#include <string.h>

const char *const lw_edge_kinds[LW_EDGE_KINDS] = { "module", "conditional", "lazy", "function", "typing", "observed" };

struct place {
	enum lw_edge_kind outside;	/* where the code object itself stands */
	uint32_t passed;		/* what lies before that can be jumped over */
	uint32_t typing;		/* what lies before that is for type checkers */
};

static enum lw_edge_kind kind_at(struct place *place, struct body *body, const struct step *step)
{
	if (place->outside == LW_EDGE_TYPING || step->at < place->typing)
		return LW_EDGE_TYPING;
	if (place->outside != LW_EDGE_MODULE)
		return place->outside;
	return !step->reached || step->at < place->passed || step->at < lw_body_rejoin(body, step) ? LW_EDGE_CONDITIONAL : LW_EDGE_MODULE;
}

static void go_past(struct place *place, struct body *body, uint32_t number)
{
	const struct step *step = &body->step[number];
	enum act act = lw_body_act(body, number);
	if (!step->reached)
		return;
	if (lw_body_rejoin(body, step) > place->passed)
		place->passed = lw_body_rejoin(body, step);
	if (act == RETURN)
		place->passed = NOWHERE;
	else if ((act == GOTO || act == BRANCH) && step->target > place->passed)
		place->passed = step->target;
	uint32_t test = lw_body_before(body, number);
	if (body->ops->if_false[step->op] && test != number && lw_body_loads(body, test, "TYPE_CHECKING") && step->target > place->typing)
		place->typing = step->target;
}

/* --- edges --- */

/* Takes FROMLIST. 0, or -1 with an exception. */
static int add_edge(PyObject *edges, long level, PyObject *name, PyObject *fromlist, enum lw_edge_kind kind, const struct body *body, const struct step *step)
{
	PyObject *edge = fromlist && name ? Py_BuildValue("(lONsi)", level, name, fromlist, lw_edge_kinds[kind], PyCode_Addr2Line((PyCodeObject *)body->code, 2 * (int)step->at)) : NULL;
	int result = edge ? PyList_Append(edges, edge) : -1;
	Py_XDECREF(edge);
	return result;
}

static int add_statement(PyObject *edges, const struct body *body, uint32_t number, enum lw_edge_kind kind)
{
	struct import import;
	if (!lw_body_import(body, number, &import))
		return 0;
	if (import.lazy && (kind == LW_EDGE_MODULE || kind == LW_EDGE_CONDITIONAL))
		kind = LW_EDGE_LAZY;
	return add_edge(edges, import.level, import.name, Py_NewRef(import.fromlist), kind, body, &body->step[number]);
}

/* import_module("x"), __import__("x"), import_module(".x", __package__). */
static int add_call(PyObject *edges, const struct body *body, uint32_t number, enum lw_edge_kind kind)
{
	uint32_t count = body->step[number].arg, text = lw_body_before(body, number);
	bool relative = count == 2 && text != number && lw_body_loads(body, text, "__package__");
	if (count != 1 && !relative)
		return 0;
	if (relative)
		text = lw_body_before(body, text);
	uint32_t function = lw_body_before(body, text);
	PyObject *name = text != number && function != text ? lw_body_const(body, text) : NULL;
	if (!name || !PyUnicode_Check(name) || PyUnicode_GET_LENGTH(name) == 0 || !(lw_body_loads(body, function, "import_module") || (!relative && lw_body_loads(body, function, "__import__"))))
		return 0;
	Py_ssize_t dots = 0, len = PyUnicode_GET_LENGTH(name);
	while (dots < len && PyUnicode_READ_CHAR(name, dots) == '.')
		dots++;
	if (!dots != !relative)
		return 0;	/* that raises, or ignores the package */
	PyObject *rest = PyUnicode_Substring(name, dots, len);
	int result = add_edge(edges, (long)dots, rest, rest ? Py_NewRef(Py_None) : NULL, kind, body, &body->step[number]);
	Py_XDECREF(rest);
	return result;
}

static int add_edges(PyObject *edges, const struct ops *ops, PyObject *code, enum lw_edge_kind outside);

/* A code object that is made where KIND says. */
static int add_inner(PyObject *edges, const struct ops *ops, PyObject *code, enum lw_edge_kind kind)
{
	int here = lw_code_runs_in_place(code);
	if (here < 0)
		return -1;
	if (!here && kind != LW_EDGE_TYPING)
		kind = LW_EDGE_FUNCTION;
	if (Py_EnterRecursiveCall(" while reading code"))
		return -1;
	int result = add_edges(edges, ops, code, kind);
	Py_LeaveRecursiveCall();
	return result;
}

static int add_step(PyObject *edges, const struct body *body, uint32_t number, enum lw_edge_kind kind)
{
	switch (lw_body_act(body, number)) {
	case IMPORT:
		return add_statement(edges, body, number, kind);
	case CALL:
		return add_call(edges, body, number, kind);
	case CONST: {
		PyObject *constant = lw_body_const(body, number);
		return constant && PyCode_Check(constant) ? add_inner(edges, body->ops, constant, kind) : 0;
	}
	default:
		return 0;
	}
}

static int add_edges(PyObject *edges, const struct ops *ops, PyObject *code, enum lw_edge_kind outside)
{
	struct body body;
	struct place place = { .outside = outside };
	int result = lw_body_read(&body, ops, code) < 0 ? -1 : lw_body_flow(&body);
	for (uint32_t i = 0; !result && i < body.steps; i++) {
		result = add_step(edges, &body, i, kind_at(&place, &body, &body.step[i]));
		go_past(&place, &body, i);
	}
	lw_body_clear(&body);
	return result;
}

PyDoc_STRVAR(edges_doc, "edges(code, /)\n--\n\n"
	"The imports that CODE and the code within it would make: a list of (level, name, fromlist or None, kind, line), as they stand. LEVEL counts the dots of a\n"
	"relative import. KIND is 'module', 'conditional', 'lazy', 'function' or 'typing'. Nothing is executed.");

PyObject *lw_edges(PyObject *code)
{
	if (!PyCode_Check(code))
		return PyErr_Format(PyExc_TypeError, "a code object is needed, not %.100s", Py_TYPE(code)->tp_name);
	const struct ops *ops = lw_ops();
	PyObject *list = ops ? PyList_New(0) : NULL;
	if (list && add_edges(list, ops, code, LW_EDGE_MODULE) < 0)
		Py_CLEAR(list);
	return list;
}

static PyObject *edges(PyObject *module, PyObject *code)
{
	return lw_edges(code);
}

static PyMethodDef functions[] = {
	{ "edges", edges, METH_O, edges_doc },
	{ NULL, NULL, 0, NULL },
};

int lw_live_add_edges(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
