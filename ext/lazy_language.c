/* SPDX-License-Identifier: MIT */
/*
 * lazy_language: the lazy imports that the language has from 3.15 on (PEP 810), led by the same modes and rules.
 *
 * In its mode `all` the interpreter asks a filter about every import statement that may wait: at the top level of a module, not in a try or with, no star. Ours answers
 * with what the policy says. A statement that says `lazy` itself is its author's business: it waits. As on the versions before `__main__` is eager, and so is `import a`
 * whose name the module never uses: it is there for what it does, and would never be done; what a method __del__ uses; and, in a package, `from .a import a`: the submodule, once
 * it is imported, would be bound over the name, and `from .a import b` where `a` is used and not bound.
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

/* The instruction needs a name of the module to be bound: its index into co_names, or -1. */
static long needed(const struct reader *reader)
{
	switch (reader->op) {
	case LOAD_NAME:
	case LOAD_FROM_DICT_OR_GLOBALS:
	case DELETE_NAME:
	case DELETE_GLOBAL:
		return (long)reader->arg;
	case LOAD_GLOBAL:
		return (long)(reader->arg >> 1);
	default:
		return -1;
	}
}

static bool needs(struct reader reader, long name)
{
	while (next(&reader))
		if (needed(&reader) == name)
			return true;
	return false;
}

static bool stores(struct reader reader, long name)
{
	while (next(&reader))
		if ((reader.op == STORE_NAME || reader.op == STORE_GLOBAL) && (long)reader.arg == name)
			return true;
	return false;
}

/* Index of NAME among CODE's names, or -1. */
static long index_of(PyCodeObject *code, PyObject *name)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_names); i++)
		if (PyUnicode_Compare(PyTuple_GET_ITEM(code->co_names, i), name) == 0)
			return (long)i;
	return -1;
}

typedef bool asked(PyCodeObject *code, PyObject *name);

/* Some code within CODE is as ASKED. */
static bool any_within(PyCodeObject *code, asked *asked, PyObject *name)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts); i++) {
		PyObject *constant = PyTuple_GET_ITEM(code->co_consts, i);
		if (PyCode_Check(constant) && (asked((PyCodeObject *)constant, name) || any_within((PyCodeObject *)constant, asked, name)))
			return true;
	}
	return false;
}

/* CODE has NAME among its names. */
static bool mentions(PyCodeObject *code, PyObject *name)
{
	return index_of(code, name) >= 0;
}

/* CODE is a method __del__ that mentions NAME, or has code that does: it may run when the interpreter ends, and nothing can be imported any more. */
static bool finalises(PyCodeObject *code, PyObject *name)
{
	return PyUnicode_EqualToUTF8(code->co_name, "__del__") && (mentions(code, name) || any_within(code, mentions, name));
}

/* To be read is BYTES, the compiler's, without the interpreter's shortcuts: a new reference, or NULL with an exception. */
static struct reader reader_of(PyCodeObject *code, PyObject **bytes)
{
	*bytes = PyCode_GetCode(code);
	if (!*bytes)
		return (struct reader){ 0 };
	return (struct reader){ .code = (const unsigned char *)PyBytes_AS_STRING(*bytes), .size = PyBytes_GET_SIZE(*bytes) };
}

/* CODE does with NAME what TOLD says. */
static bool does(PyCodeObject *code, bool (*told)(struct reader reader, long name), PyObject *name)
{
	PyObject *bytes = NULL;
	long index = index_of(code, name);
	bool found = index >= 0 && told(reader_of(code, &bytes), index);
	Py_XDECREF(bytes);
	return found;
}

/* CODE needs NAME, a global one, and has not bound it itself. */
static bool needs_unbound(PyCodeObject *code, PyObject *name)
{
	return does(code, needs, name) && !does(code, stores, name);
}

/* The next name that the import statement which READER is in stores: its index, or -1. FROM: it may be several. */
static long next_stored(struct reader *reader, bool from)
{
	while (next(reader) && !(from && reader->op == POP_TOP))
		if (reader->op == STORE_NAME || reader->op == STORE_GLOBAL)
			return (long)reader->arg;
	return -1;
}

/* What the statement at AT of a module's CODE binds may be needed there or within, if it is the module itself (not FROM), and by no method __del__. */
static bool may_be_bound_late(PyCodeObject *code, Py_ssize_t at, bool from)
{
	PyObject *bytes;
	const struct reader all = reader_of(code, &bytes);
	struct reader statement = { .code = all.code, .size = all.size, .at = at };
	long name = next_stored(&statement, from);
	bool may = from || (name >= 0 && name < PyTuple_GET_SIZE(code->co_names) && (needs(all, name) || any_within(code, mentions, PyTuple_GET_ITEM(code->co_names, name))));
	for (; may && name >= 0 && name < PyTuple_GET_SIZE(code->co_names); name = from ? next_stored(&statement, from) : -1)
		may = !any_within(code, finalises, PyTuple_GET_ITEM(code->co_names, name));
	may &= bytes != NULL;
	Py_XDECREF(bytes);
	return may;
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

/* TARGET relative to the package IMPORTER, below which it is; or NULL. */
static const char *below(const char *importer, const char *target)
{
	const size_t size = strlen(importer);
	return strncmp(target, importer, size) == 0 && target[size] == '.' ? target + size + 1 : NULL;
}

/*
 * Importing TARGET, below IMPORTER whose CODE it is, binds a submodule there besides. That is called as something that is taken of it, over which it would be bound later; or the code needs it
 * by its name, which nothing else binds.
 */
static bool clashes(PyCodeObject *code, const char *importer, const char *target, PyObject *fromlist)
{
	const char *path = below(importer, target);
	if (!path)
		return false;
	for (Py_ssize_t i = 0; PyTuple_Check(fromlist) && i < PyTuple_GET_SIZE(fromlist); i++)
		if (PyUnicode_EqualToUTF8(PyTuple_GET_ITEM(fromlist, i), path))
			return true;
	PyObject *name = PyUnicode_FromStringAndSize(path, (Py_ssize_t)strcspn(path, "."));
	bool clash = name && !does(code, stores, name) && (does(code, needs, name) || any_within(code, needs_unbound, name));
	Py_XDECREF(name);
	return clash;
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
	bool may = path && !clashes(code, importer, target, args[2]) && allows(policy, importer, path, target, args[2]) && !lw_lazy_is_tainted(policy, (PyObject *)code, args[0])
		&& may_be_bound_late(code, PyFrame_GetLasti(frame), args[2] != Py_None);
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
