/* SPDX-License-Identifier: MIT */
/*
 * lazy_asker: what the running code wants of the dictionary it asks for.
 *
 * Whoever gets the dictionary of a module in which names wait may look for any of them, so all are resolved. Two kinds of code are known to look for less:
 *
 *   what uses it at once     the instructions behind the one that asks say how: sys._getframe(1).f_globals["__name__"], globals().get("x"), vars(m).update(...). The
 *                            compiler's own code is read (PyCode_GetCode()), of which the interpreter's shortcuts and tracers change nothing.
 *   the standard library     functions that hand it to eval() or exec() alone, where what is mentioned is resolved, or look for __name__ and __loader__; by file and name
 *
 * Anything that cannot be told is taken for one that may look for all.
 */
#include "lazy.h"

#if LW_LAZY_BUILT

#include <frameobject.h>
#include <opcode.h>
#include <string.h>

/* --- code --- */

struct reader {
	const uint8_t *code;
	Py_ssize_t len, at;	/* in bytes */
	unsigned op, arg;	/* of the instruction last read */
};

/* The next instruction: false at the end. */
static bool next(struct reader *reader)
{
	unsigned arg = 0;
	while (reader->at + 1 < reader->len) {
		reader->op = reader->code[reader->at];
		reader->arg = arg | reader->code[reader->at + 1];
		reader->at += 2;
		if (reader->op == EXTENDED_ARG)
			arg = reader->arg << 8;
		else if (reader->op != CACHE)
			return true;
	}
	return false;
}

/* The instruction that runs, which is AT: with its EXTENDED_ARGs before it. */
static bool current(struct reader *reader)
{
	for (unsigned i = 0; i < 3 && reader->at >= 2 && reader->code[reader->at - 2] == EXTENDED_ARG; i++)
		reader->at -= 2;
	return next(reader);
}

static PyObject *constant(PyCodeObject *code, const struct reader *reader)
{
	bool loads = reader->op == LOAD_CONST && reader->arg < (unsigned)PyTuple_GET_SIZE(code->co_consts);
	return loads ? PyTuple_GET_ITEM(code->co_consts, reader->arg) : NULL;
}

/* The attribute that is loaded, as a method or not; NULL. Borrowed. */
static PyObject *attribute(PyCodeObject *code, const struct reader *reader)
{
#if PY_VERSION_HEX >= 0x030c0000
	bool loads = reader->op == LOAD_ATTR;
	unsigned index = reader->arg >> 1;
#else
	bool loads = reader->op == LOAD_ATTR || reader->op == LOAD_METHOD;
	unsigned index = reader->arg;
#endif
	return loads && index < (unsigned)PyTuple_GET_SIZE(code->co_names) ? PyTuple_GET_ITEM(code->co_names, index) : NULL;
}

/* READER is at a call of COUNT arguments. (3.11: two instructions, of which the interpreter may skip the second.) */
static bool is_call(struct reader *reader, unsigned count)
{
#if PY_VERSION_HEX < 0x030c0000
	if (reader->op == PRECALL && !next(reader))
		return false;
#endif
	return reader->op == CALL && reader->arg == count;
}

static bool is_subscript(const struct reader *reader)
{
#if PY_VERSION_HEX >= 0x030e0000
	return (reader->op == BINARY_OP && reader->arg == NB_SUBSCR) || reader->op == DELETE_SUBSCR;
#else
	return reader->op == BINARY_SUBSCR || reader->op == DELETE_SUBSCR;
#endif
}

/* Something that is pushed, and does nothing else. */
static bool is_plain(PyCodeObject *code, const struct reader *reader)
{
#if PY_VERSION_HEX >= 0x030c0000
	if (reader->op == LOAD_FAST_CHECK)
		return true;
#endif
#if PY_VERSION_HEX >= 0x030e0000
	if (reader->op == LOAD_SMALL_INT || reader->op == LOAD_FAST_BORROW)
		return true;
#endif
	return reader->op == LOAD_FAST || constant(code, reader) != NULL;
}

static struct lw_asked one(PyObject *name)
{
	return (struct lw_asked){ PyUnicode_Check(name) ? LW_ASKED_NAME : LW_ASKED_NOTHING, Py_NewRef(name) };
}

static bool is(PyObject *name, const char *text)
{
	return PyUnicode_CompareWithASCIIString(name, text) == 0;
}

/* .get("name"), .get("name", otherwise) and their like; .update(...), which looks for nothing. */
static struct lw_asked used_by_method(PyCodeObject *code, struct reader *reader, PyObject *method)
{
	const struct lw_asked all = { LW_ASKED_ALL, NULL };
	if (is(method, "update"))
		return (struct lw_asked){ LW_ASKED_NOTHING, NULL };
	if (!is(method, "get") && !is(method, "setdefault") && !is(method, "pop"))
		return all;
	PyObject *name = next(reader) ? constant(code, reader) : NULL;
	if (!name || !next(reader))
		return all;
	unsigned count = is_plain(code, reader) ? 2 : 1;
	if ((count == 2 && !next(reader)) || !is_call(reader, count))
		return all;
	return one(name);
}

/* What is done with the value that the instruction before READER has left on the stack. */
static struct lw_asked used(PyCodeObject *code, struct reader *reader)
{
	const struct lw_asked all = { LW_ASKED_ALL, NULL }, nothing = { LW_ASKED_NOTHING, NULL };
	if (!next(reader))
		return all;
	if (reader->op == IS_OP)
		return nothing;
	PyObject *method = attribute(code, reader);
	if (method)
		return used_by_method(code, reader, method);
	PyObject *key = constant(code, reader);
	if (!key || !next(reader))
		return all;
	if (reader->op == STORE_SUBSCR)
		return nothing;
	return is_subscript(reader) ? one(key) : all;
}

static bool is_star(const struct reader *reader)
{
#if PY_VERSION_HEX >= 0x030c0000
	return reader->op == CALL_INTRINSIC_1 && reader->arg == 2; /* INTRINSIC_IMPORT_STAR */
#else
	return reader->op == IMPORT_STAR;
#endif
}

static const char *const doors[] = { [LW_DOOR_DICT] = "__dict__", [LW_DOOR_FUNCTION] = "__globals__", [LW_DOOR_FRAME] = "f_globals", [LW_DOOR_LOCALS] = "f_locals" };

static struct lw_asked read_code(PyCodeObject *code, PyObject *bytes, Py_ssize_t at, enum lw_door door)
{
	struct reader reader = { (const uint8_t *)PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes), at, 0, 0 };
	const struct lw_asked all = { LW_ASKED_ALL, NULL };
	if (at < 0 || !current(&reader))
		return all;
	if (door == LW_DOOR_CALL)
		return is_call(&reader, 0) ? used(code, &reader) : all;
	if (is_star(&reader))
		return (struct lw_asked){ LW_ASKED_STAR, NULL };
	PyObject *name = attribute(code, &reader);
	return name && is(name, doors[door]) ? used(code, &reader) : all;
}

/* --- the standard library --- */

enum { DICT = 1 << LW_DOOR_DICT, FUNCTION = 1 << LW_DOOR_FUNCTION, FRAME = 1 << LW_DOOR_FRAME };

static const struct known {
	const char *file, *function;
	unsigned doors;
	const char *text;	/* the local variable that says which names; NULL: none are looked for here */
	bool copies_typed;	/* with type parameters it goes on with a copy, which nobody would see */
} known[] = {
	/* exec() of methods, whose source mentions what they need */
	{ "dataclasses.py", "_process_class", DICT, NULL, false },
	/* is the annotation, a string, a ClassVar or InitVar? */
	{ "dataclasses.py", "_is_type", DICT, "annotation", false },
	/* eval() of annotations that are strings */
#if PY_VERSION_HEX >= 0x030e0000
	{ "annotationlib.py", "get_annotations", DICT | FUNCTION, NULL, false },
#else
	{ "inspect.py", "get_annotations", DICT | FUNCTION, NULL, false },
	{ "typing.py", "get_type_hints", DICT | FUNCTION, NULL, true },
#endif
	/* __name__, __loader__ and __spec__, in case a source is to be shown */
	{ "traceback.py", "StackSummary._extract_from_extended_frame_gen", FRAME, NULL, false },
	{ "inspect.py", "findsource", DICT, NULL, false },
	/* `original = target.__dict__[name]` */
	{ "unittest/mock.py", "_patch.get_original", DICT, "name", false },
	/* exec() of the module's code */
	{ "<frozen importlib._bootstrap_external>", "_LoaderBasics.exec_module", DICT, NULL, false },
};

/* CODE comes from FILE of the standard library. */
static bool comes_from(PyCodeObject *code, const char *file)
{
	Py_ssize_t len, prefix;
	const char *path = PyUnicode_AsUTF8AndSize(code->co_filename, &len);
	PyObject *stdlib = PySys_GetObject("_stdlib_dir");
	const char *directory = stdlib && PyUnicode_Check(stdlib) ? PyUnicode_AsUTF8AndSize(stdlib, &prefix) : NULL;
	PyErr_Clear();
	if (path && *file == '<')
		return strcmp(path, file) == 0;
	return path && directory && len > prefix && memcmp(path, directory, (size_t)prefix) == 0 && path[prefix] == '/' && strcmp(path + prefix + 1, file) == 0;
}

static const struct known *find_known(PyCodeObject *code, enum lw_door door)
{
	for (size_t i = 0; i < Py_ARRAY_LENGTH(known); i++)
		if ((known[i].doors & 1u << door) && is(code->co_qualname, known[i].function) && comes_from(code, known[i].file))
			return &known[i];
	return NULL;
}

/* Local variable NAME of FRAME: a new reference, or NULL. */
static PyObject *local(PyFrameObject *frame, const char *name)
{
	PyObject *locals = PyFrame_GetLocals(frame);
	PyObject *value = locals ? PyMapping_GetItemString(locals, name) : NULL;
	Py_XDECREF(locals);
	PyErr_Clear();
	return value;
}

/* OBJ, or a base of it, has type parameters. */
static bool is_typed(PyObject *obj)
{
	PyObject *mro = obj ? PyObject_GetAttrString(obj, "__mro__") : NULL;
	PyErr_Clear();
	bool typed = !obj;
	Py_ssize_t count = mro && PyTuple_Check(mro) ? PyTuple_GET_SIZE(mro) : 1;
	for (Py_ssize_t i = 0; !typed && i < count; i++) {
		PyObject *base = mro && PyTuple_Check(mro) ? PyTuple_GET_ITEM(mro, i) : obj;
		PyObject *parameters = PyObject_GetAttrString(base, "__type_params__");
		typed = parameters && PyObject_IsTrue(parameters) != 0;
		Py_XDECREF(parameters);
		PyErr_Clear();
	}
	Py_XDECREF(mro);
	return typed;
}

static struct lw_asked by_known(PyFrameObject *frame, const struct known *function)
{
	const struct lw_asked all = { LW_ASKED_ALL, NULL };
	if (function->copies_typed) {
		PyObject *obj = local(frame, "obj");
		bool typed = is_typed(obj);
		Py_XDECREF(obj);
		if (typed)
			return all;
	}
	if (!function->text)
		return (struct lw_asked){ LW_ASKED_NOTHING, NULL };
	PyObject *text = local(frame, function->text);
	if (text && PyUnicode_Check(text))
		return (struct lw_asked){ LW_ASKED_TEXT, text };
	Py_XDECREF(text);
	return all;
}

struct lw_asked lw_lazy_asked(enum lw_door door)
{
	struct lw_asked asked = { LW_ASKED_ALL, NULL };
	PyFrameObject *frame = PyEval_GetFrame();
	PyCodeObject *code = frame ? PyFrame_GetCode(frame) : NULL;
	if (!code)
		return asked;
	const struct known *function = find_known(code, door);
	if (function) {
		Py_INCREF(frame);
		asked = by_known(frame, function);
		Py_DECREF(frame);
	} else {
		PyObject *bytes = PyCode_GetCode(code);
		if (bytes)
			asked = read_code(code, bytes, PyFrame_GetLasti(frame), door);
		Py_XDECREF(bytes);
		PyErr_Clear();
	}
	Py_DECREF(code);
	return asked;
}

bool lw_lazy_asked_by_importlib(void)
{
	PyFrameObject *frame = PyEval_GetFrame();
	PyCodeObject *code = frame ? PyFrame_GetCode(frame) : NULL;
	bool asks = code && is(code->co_name, "_handle_fromlist") && comes_from(code, "<frozen importlib._bootstrap>");
	Py_XDECREF(code);
	return asks;
}

#endif
