/* SPDX-License-Identifier: MIT */
/*
 * lazy_language: the lazy imports that the language has from 3.15 on (PEP 810), led by the same modes and rules.
 *
 * In its mode `all` the interpreter asks a filter about every import statement that may wait: at the top level of a module, not in a try or with, no star. Ours answers
 * with what the policy says. A statement that says `lazy` itself is its author's business: it waits. As on the versions before `__main__` is eager, and so is `import a`
 * whose name the module never uses: it is there for what it does, and would never be done; and, in a package, `from .a import a`: the submodule, once it is imported, would
 * be bound over the name.
 *
 * Whoever has set a filter keeps it: then there is nothing of this, and lazy.reason says so.
 *
 * Threads: the policy is never written to, and lives as long as the filter: so in free-threaded builds as well.
 */
#include "lazy.h"

#if PY_VERSION_HEX >= 0x030f0000

#include <opcode.h>

static const char POLICY[] = "ladewerk lazy policy";

/* The statement that is being executed says `lazy`: the lowest bit of its instruction's argument. */
static bool is_explicit(PyFrameObject *frame, PyCodeObject *code)
{
	const int at = PyFrame_GetLasti(frame);
	return at >= 0 && ((const unsigned char *)code->co_code_adaptive)[at + 1] & 1;
}

/* --- names that are used --- */

struct reader {
	const unsigned char *code;
	Py_ssize_t size, at;
	int op;
	unsigned arg;
};

static bool next(struct reader *reader)
{
	for (reader->arg = 0; reader->at + 1 < reader->size; reader->arg <<= 8) {
		reader->op = reader->code[reader->at];
		reader->arg |= reader->code[reader->at + 1];
		reader->at += 2;
		if (reader->op != EXTENDED_ARG)
			return true;
	}
	return false;
}

/* The name that the statement whose IMPORT_NAME stands at AT stores: an index into co_names, or -1. */
static long stored(const struct reader *all, Py_ssize_t at)
{
	struct reader reader = { .code = all->code, .size = all->size, .at = at };
	while (next(&reader))
		if (reader.op == STORE_NAME || reader.op == STORE_GLOBAL)
			return (long)reader.arg;
	return -1;
}

static bool loads(struct reader reader, long name)
{
	while (next(&reader))
		if ((reader.op == LOAD_NAME && reader.arg == name) || (reader.op == LOAD_GLOBAL && reader.arg >> 1 == name))
			return true;
	return false;
}

/* CODE, or code within it, has NAME among its names. */
static bool mentions(PyCodeObject *code, PyObject *name)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_names); i++)
		if (PyUnicode_Compare(PyTuple_GET_ITEM(code->co_names, i), name) == 0)
			return true;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts); i++) {
		PyObject *constant = PyTuple_GET_ITEM(code->co_consts, i);
		if (PyCode_Check(constant) && mentions((PyCodeObject *)constant, name))
			return true;
	}
	return false;
}

static bool mentioned_within(PyCodeObject *code, PyObject *name)
{
	bool found = false;
	for (Py_ssize_t i = 0; !found && i < PyTuple_GET_SIZE(code->co_consts); i++) {
		PyObject *constant = PyTuple_GET_ITEM(code->co_consts, i);
		found = PyCode_Check(constant) && mentions((PyCodeObject *)constant, name);
	}
	return found;
}

/* What the statement at AT of a module's CODE binds is loaded there, or may be within. */
static bool is_used(PyCodeObject *code, Py_ssize_t at)
{
	PyObject *bytes = PyCode_GetCode(code); /* the compiler's, without the interpreter's shortcuts */
	if (!bytes)
		return false;
	struct reader reader = { .code = (const unsigned char *)PyBytes_AS_STRING(bytes), .size = PyBytes_GET_SIZE(bytes) };
	long name = stored(&reader, at);
	bool used = name >= 0 && name < PyTuple_GET_SIZE(code->co_names) && (loads(reader, name) || mentioned_within(code, PyTuple_GET_ITEM(code->co_names, name)));
	Py_DECREF(bytes);
	return used;
}

/* --- the filter --- */

/* __file__ of the module that FRAME executes; "" where there is none. */
static PyObject *file_of(PyFrameObject *frame)
{
	PyObject *globals = PyFrame_GetGlobals(frame), *file = NULL;
	if (!globals || PyDict_GetItemStringRef(globals, "__file__", &file) < 0)
		PyErr_Clear();
	Py_XDECREF(globals);
	if (file && PyUnicode_Check(file))
		return file;
	Py_XDECREF(file);
	return PyUnicode_FromString("");
}

/* FROMLIST: what is taken of TARGET, or None. One name that may not wait keeps the others from it. */
static bool allows(const lw_lazy_policy *policy, const char *importer, const char *file, const char *target, PyObject *fromlist)
{
	struct lw_lazy_importer what = lw_lazy_policy_importer(policy, importer, file);
	if (!PyTuple_Check(fromlist))
		return lw_lazy_policy_allows(policy, importer, what, target, NULL);
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(fromlist); i++) {
		const char *name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(fromlist, i));
		if (!name || !lw_lazy_policy_allows(policy, importer, what, target, name))
			return false;
	}
	return true;
}

/* IMPORTER takes of its own submodule TARGET what is called as the submodule is. */
static bool clashes(const char *importer, const char *target, PyObject *fromlist)
{
	const size_t size = strlen(importer);
	if (strncmp(target, importer, size) != 0 || target[size] != '.' || !PyTuple_Check(fromlist))
		return false;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(fromlist); i++)
		if (PyUnicode_EqualToUTF8(PyTuple_GET_ITEM(fromlist, i), target + size + 1))
			return true;
	return false;
}

static bool may_wait(const lw_lazy_policy *policy, PyFrameObject *frame, PyCodeObject *code, PyObject *const *args)
{
	const char *importer = PyUnicode_AsUTF8(args[0]), *target = PyUnicode_AsUTF8(args[1]);
	if (is_explicit(frame, code))
		return true;
	if (!importer || !target || strcmp(importer, "__main__") == 0)
		return false;
	PyObject *file = file_of(frame);
	const char *path = file ? PyUnicode_AsUTF8(file) : NULL;
	bool may = path && !clashes(importer, target, args[2]) && allows(policy, importer, path, target, args[2]) && !lw_lazy_is_tainted(policy, (PyObject *)code, args[0])
		&& (args[2] != Py_None || is_used(code, PyFrame_GetLasti(frame)));
	Py_XDECREF(file);
	return may;
}

/* (importer, target, fromlist or None): whether it may wait. Never raises. */
static PyObject *filter(PyObject *capsule, PyObject *const *args, Py_ssize_t count)
{
	const lw_lazy_policy *policy = PyCapsule_GetPointer(capsule, POLICY);
	PyFrameObject *frame = PyEval_GetFrame();
	PyCodeObject *code = frame ? PyFrame_GetCode(frame) : NULL;
	bool may = policy && code && count == 3 && PyUnicode_Check(args[0]) && PyUnicode_Check(args[1]) && may_wait(policy, frame, code, args);
	Py_XDECREF(code);
	PyErr_Clear();
	return PyBool_FromLong(may);
}

static PyMethodDef filter_def = { "ladewerk_lazy_filter", (PyCFunction)(void (*)(void))filter, METH_FASTCALL, NULL };

static void drop_policy(PyObject *capsule)
{
	lw_lazy_policy_destroy(PyCapsule_GetPointer(capsule, POLICY));
}

/* The filter that is set, if it is ours: borrowed from the interpreter, which keeps it; else NULL. *ANY: there is one. */
static bool is_ours(bool *any)
{
	PyObject *set = PyImport_GetLazyImportsFilter();
	bool ours = set && PyCFunction_Check(set) && PyCFunction_GET_FUNCTION(set) == filter_def.ml_meth;
	*any = set && set != Py_None;
	Py_XDECREF(set);
	PyErr_Clear();
	return ours;
}

static int refuse(lw_state *state)
{
	state->lazy.mode = LW_LAZY_OFF;
	state->lazy.reason = "somebody has set a filter for lazy imports (sys.set_lazy_imports_filter)";
	return 0;
}

int lw_lazy_hooks_begin(lw_state *state)
{
	bool any;
	if (!is_ours(&any) && any)
		return refuse(state);
	PyObject *capsule = PyCapsule_New(state->lazy.policy, POLICY, drop_policy);
	if (!capsule)
		return -1;
	state->lazy.policy = NULL; /* it is the capsule's */
	PyObject *function = PyCFunction_New(&filter_def, capsule);
	Py_DECREF(capsule);
	int result = function && PyImport_SetLazyImportsFilter(function) == 0 ? PyImport_SetLazyImportsMode(PyImport_LAZY_ALL) : -1;
	Py_XDECREF(function);
	return result;
}

void lw_lazy_hooks_end(lw_state *state)
{
	bool any;
	if (!is_ours(&any))
		return;
	if (PyImport_SetLazyImportsMode(PyImport_LAZY_NORMAL) < 0 || PyImport_SetLazyImportsFilter(NULL) < 0)
		PyErr_Clear();
}

#endif
