/* SPDX-License-Identifier: MIT */
/*
 * lazy_settings: what is asked for, by whom, and the policy that comes of it.
 */
#include "lazy.h"

/* --- for the command line and for tests --- */

/* The roots in SEQUENCE, as C strings that it owns; NULL at the end. NULL with an exception. */
static const char **roots_of(PyObject *sequence)
{
	Py_ssize_t count = PyTuple_GET_SIZE(sequence);
	const char **roots = PyMem_Calloc((size_t)count + 1, sizeof(*roots));
	if (!roots)
		PyErr_NoMemory();
	for (Py_ssize_t i = 0; roots && i < count; i++)
		if (!(roots[i] = PyUnicode_AsUTF8(PyTuple_GET_ITEM(sequence, i)))) {
			PyMem_Free(roots);
			return NULL;
		}
	return roots;
}

/* One question: (importer, its file, target, name or None). */
static PyObject *answer(const lw_lazy_policy *policy, PyObject *question)
{
	const char *importer, *file, *target, *name;
	if (!PyTuple_Check(question))
		return PyErr_Format(PyExc_TypeError, "a question is a tuple, not %s", Py_TYPE(question)->tp_name);
	if (!PyArg_ParseTuple(question, "sssz", &importer, &file, &target, &name))
		return NULL;
	struct lw_lazy_importer what = lw_lazy_policy_importer(policy, importer, file);
	return Py_BuildValue("(NNNN)", PyBool_FromLong(lw_lazy_policy_allows(policy, importer, what, target, name)), PyBool_FromLong(what.never),
		PyBool_FromLong(what.own), PyBool_FromLong(lw_lazy_policy_taints(policy, target, name)));
}

static PyObject *answers(const lw_lazy_policy *policy, PyObject *questions)
{
	PyObject *list = PyList_New(0);
	for (Py_ssize_t i = 0; list && i < PyTuple_GET_SIZE(questions); i++) {
		PyObject *one = answer(policy, PyTuple_GET_ITEM(questions, i));
		if (!one || PyList_Append(list, one) < 0)
			Py_CLEAR(list);
		Py_XDECREF(one);
	}
	return list;
}

PyObject *lw_lazy_ask(PyObject *module, PyObject *args)
{
	enum lw_lazy_mode mode;
	const char *text, *rules;
	char reason[512];
	PyObject *roots, *questions;
	if (!PyArg_ParseTuple(args, "ssO!O!:_lazy_ask", &text, &rules, &PyTuple_Type, &roots, &PyTuple_Type, &questions))
		return NULL;
	if (!lw_lazy_parse_mode(text, &mode))
		return PyErr_Format(PyExc_ValueError, "there is no mode '%s'", text);
	const char **paths = roots_of(roots);
	if (!paths)
		return NULL;
	lw_lazy_policy *policy = lw_lazy_policy_create(mode, rules, paths, reason, sizeof(reason));
	PyMem_Free(paths);
	if (!policy)
		return PyErr_Format(PyExc_ValueError, "%s", reason);
	PyObject *list = answers(policy, questions);
	lw_lazy_policy_destroy(policy);
	return list;
}
