/* SPDX-License-Identifier: MIT */
/*
 * edges: see edges.h. The numbers of opcodes differ between versions of CPython, so they are asked of the module `opcode`, once in a process. `co_code`
 * gives the code as the compiler made it, whatever the interpreter has specialised or instrumented since.
 */
#include "edges.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

const char *const lw_edge_kinds[LW_EDGE_KINDS] = { "module", "conditional", "lazy", "function", "typing", "observed" };

/* --- what an opcode does, as far as we care --- */

enum act { OTHER, EXTEND, IGNORE, CONST, COMMON, SMALL_INT, NAME, NAME_SHIFTED, IMPORT, CALL, RETURN, RAISE, GOTO, BRANCH };

#define NOWHERE UINT32_MAX

struct ops {
	uint8_t act[256];
	uint8_t caches[256];
	bool back[256];		/* it jumps backwards */
	bool if_false[256];
	uint32_t common_none;	/* the argument of LOAD_COMMON_CONSTANT that means None (3.15); NOWHERE: none does */
	unsigned import_shift;	/* of the name in the argument of IMPORT_NAME: 3.15 has flags below it */
};

static const struct { const char *name; enum act act; } acts[] = {
	{ "EXTENDED_ARG", EXTEND }, { "CACHE", IGNORE }, { "NOP", IGNORE }, { "PUSH_NULL", IGNORE }, { "PRECALL", IGNORE }, { "NOT_TAKEN", IGNORE },
	{ "TO_BOOL", IGNORE }, { "LOAD_CONST", CONST }, { "LOAD_COMMON_CONSTANT", COMMON }, { "LOAD_SMALL_INT", SMALL_INT }, { "LOAD_NAME", NAME }, { "LOAD_FROM_DICT_OR_GLOBALS", NAME },
	{ "LOAD_METHOD", NAME }, { "LOAD_GLOBAL", NAME_SHIFTED },
	{ "LOAD_ATTR", PY_VERSION_HEX >= 0x030c0000 ? NAME_SHIFTED : NAME },
	{ "IMPORT_NAME", IMPORT }, { "CALL", CALL }, { "RETURN_VALUE", RETURN }, { "RETURN_CONST", RETURN }, { "RAISE_VARARGS", RAISE }, { "RERAISE", RAISE },
	{ "JUMP_FORWARD", GOTO }, { "JUMP_BACKWARD", GOTO }, { "JUMP_BACKWARD_NO_INTERRUPT", GOTO },
};

/* *NUMBER is that of opcode NAME, -1 if there is none. 0, or -1 with an exception. */
static int number_of(PyObject *opmap, const char *name, int *number)
{
	PyObject *value = PyMapping_Check(opmap) ? PyMapping_GetItemString(opmap, name) : NULL;
	*number = -1;
	if (!value) {
		if (!PyErr_Occurred() || !PyErr_ExceptionMatches(PyExc_KeyError))
			return -1;
		PyErr_Clear();
		return 0;
	}
	long found = PyLong_AsLong(value);
	Py_DECREF(value);
	if (found == -1 && PyErr_Occurred())
		return -1;
	if (found >= 0 && found < 256)
		*number = (int)found;
	return 0;
}

static int take_acts(struct ops *ops, PyObject *opmap)
{
	int number;
	for (size_t i = 0; i < Py_ARRAY_LENGTH(acts); i++) {
		if (number_of(opmap, acts[i].name, &number) < 0)
			return -1;
		if (number >= 0)
			ops->act[number] = (uint8_t)acts[i].act;
	}
	return 0;
}

/* All that jump and are not named above may also not jump. */
static int take_jumps(struct ops *ops, PyObject *opcode)
{
	PyObject *names = PyObject_GetAttrString(opcode, "opname"), *jumps = PyObject_GetAttrString(opcode, "hasjrel");
	int result = names && jumps && PyList_Check(names) && PyList_Check(jumps) ? 0 : -1;
	for (Py_ssize_t i = 0; !result && i < PyList_GET_SIZE(jumps); i++) {
		long number = PyLong_AsLong(PyList_GET_ITEM(jumps, i));
		if (number < 0 || number > 255 || number >= PyList_GET_SIZE(names))
			continue;
		const char *name = PyUnicode_AsUTF8(PyList_GET_ITEM(names, number));
		if (!name) {
			result = -1;
			break;
		}
		if (ops->act[number] == OTHER)
			ops->act[number] = BRANCH;
		ops->back[number] = strstr(name, "BACKWARD") != NULL;
		ops->if_false[number] = strstr(name, "POP_JUMP") && strstr(name, "IF_FALSE");
	}
	Py_XDECREF(names);
	Py_XDECREF(jumps);
	if (result && !PyErr_Occurred())
		PyErr_SetString(PyExc_RuntimeError, "the module opcode is not as it should be");
	return result;
}

/* How many cache entries follow: a list by number (up to 3.12), or a dict by name. */
static int take_caches(struct ops *ops, PyObject *opcode, PyObject *opmap)
{
	PyObject *entries = PyObject_GetAttrString(opcode, "_inline_cache_entries");
	int result = entries ? 0 : -1;
	if (entries && PyList_Check(entries)) {
		for (Py_ssize_t i = 0; i < PyList_GET_SIZE(entries) && i < 256; i++)
			ops->caches[i] = (uint8_t)PyLong_AsLong(PyList_GET_ITEM(entries, i));
	} else if (entries) {
		PyObject *items = PyMapping_Items(entries);	/* 3.15 has it frozen */
		result = items ? 0 : -1;
		int number;
		for (Py_ssize_t i = 0; !result && i < PyList_GET_SIZE(items); i++) {
			PyObject *item = PyList_GET_ITEM(items, i);
			const char *name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(item, 0));
			result = name ? number_of(opmap, name, &number) : -1;
			if (!result && number >= 0)
				ops->caches[number] = (uint8_t)PyLong_AsLong(PyTuple_GET_ITEM(item, 1));
		}
		Py_XDECREF(items);
	}
	Py_XDECREF(entries);
	return result || PyErr_Occurred() ? -1 : 0;
}

/* Of the constants that code objects need not have themselves, None is the only one that says something of an import. */
static int take_common(struct ops *ops, PyObject *opcode)
{
	PyObject *constants = PyObject_GetAttrString(opcode, "_common_constants");
	ops->common_none = NOWHERE;
	if (!constants) {
		if (!PyErr_ExceptionMatches(PyExc_AttributeError))
			return -1;
		PyErr_Clear();
		return 0;
	}
	for (Py_ssize_t i = 0; PyList_Check(constants) && i < PyList_GET_SIZE(constants); i++)
		if (PyList_GET_ITEM(constants, i) == Py_None)
			ops->common_none = (uint32_t)i;
	Py_DECREF(constants);
	return 0;
}

/* "import a, b" as this interpreter compiles it: what stands for name 1? */
static int take_shift(struct ops *ops)
{
	PyObject *code = Py_CompileString("import a, b", "", Py_file_input), *bytes = code ? PyObject_GetAttrString(code, "co_code") : NULL;
	unsigned last = 1;
	if (bytes && PyBytes_Check(bytes)) {
		const unsigned char *unit = (const unsigned char *)PyBytes_AS_STRING(bytes);
		for (Py_ssize_t i = 0; i + 1 < PyBytes_GET_SIZE(bytes); i += 2)
			if (ops->act[unit[i]] == IMPORT)
				last = unit[i + 1];
	}
	for (ops->import_shift = 0; last >> ops->import_shift > 1; ops->import_shift++)
		;
	Py_XDECREF(code);
	Py_XDECREF(bytes);
	return bytes ? 0 : -1;
}

static struct ops *read_ops(void)
{
	struct ops *ops = PyMem_RawCalloc(1, sizeof(*ops));
	PyObject *opcode = ops ? PyImport_ImportModule("opcode") : PyErr_NoMemory(), *opmap = opcode ? PyObject_GetAttrString(opcode, "opmap") : NULL;
	if (!opmap || take_acts(ops, opmap) < 0 || take_jumps(ops, opcode) < 0 || take_caches(ops, opcode, opmap) < 0 || take_common(ops, opcode) < 0 ||
	    take_shift(ops) < 0) {
		PyMem_RawFree(ops);
		ops = NULL;
	}
	Py_XDECREF(opcode);
	Py_XDECREF(opmap);
	return ops;
}

/* One for all interpreters of the process; never freed. NULL with an exception. */
static const struct ops *ops_of_this_version(void)
{
	static _Atomic(struct ops *) known;
	struct ops *ops = atomic_load_explicit(&known, memory_order_acquire), *none = NULL;	/* with the exchange below */
	if (ops)
		return ops;
	ops = read_ops();
	if (ops && !atomic_compare_exchange_strong_explicit(&known, &none, ops, memory_order_acq_rel, memory_order_acquire)) {
		PyMem_RawFree(ops);
		ops = none;
	}
	return ops;
}

/* --- one code object, decoded --- */

struct step {
	uint32_t at, next;	/* in code units; caches belong to what is before them */
	uint32_t arg;
	uint32_t target;	/* of jumps */
	uint8_t op;
	bool reached;		/* without an exception */
};

struct body {
	const struct ops *ops;
	PyObject *code;		/* borrowed, as it is immutable */
	PyObject *bytes, *names, *consts;
	struct step *step;
	uint32_t steps, units;
	uint32_t *step_at;	/* of each unit; NOWHERE: none begins there */
	uint32_t *handler;	/* of each unit: where an exception leads; NOWHERE: out of the code */
	uint32_t *rejoin;	/* of each unit that is a handler: how far from it what is reached without an exception goes on; NOWHERE: not known yet */
	uint32_t *seen, *todo;	/* for searches: of each step, the last one that met it; room for three entries per step */
	uint32_t searches;
	uint64_t effort;	/* that may still be spent on them */
};
static enum act act_of(const struct body *body, uint32_t step)
{
	return (enum act)body->ops->act[body->step[step].op];
}

static void decode(struct body *body)
{
	const unsigned char *unit = (const unsigned char *)PyBytes_AS_STRING(body->bytes);
	uint32_t extended = 0, from = NOWHERE;
	for (uint32_t at = 0; at < body->units; ) {
		uint8_t op = unit[2 * at];
		uint32_t arg = extended << 8 | unit[2 * at + 1];
		if (from == NOWHERE)
			from = at;
		body->step_at[at] = body->steps;	/* a jump may lead to the instruction or to its EXTENDED_ARG */
		if (body->ops->act[op] == EXTEND) {
			extended = arg;
			at++;
			continue;
		}
		struct step *step = &body->step[body->steps++];
		uint64_t next = (uint64_t)at + 1 + body->ops->caches[op];
		*step = (struct step){ .at = from, .next = next < body->units ? (uint32_t)next : body->units, .arg = arg, .op = op };
		step->target = !body->ops->back[op] ? (arg < body->units - step->next ? step->next + arg : body->units) : arg <= step->next ? step->next - arg : 0;
		at = step->next;
		extended = 0;
		from = NOWHERE;
	}
}

/* A number of the exception table; false at its end. */
static bool take_number(const unsigned char **at, const unsigned char *end, uint64_t *out)
{
	*out = 0;
	for (unsigned i = 0; *at < end && i < 6; i++) {
		unsigned char byte = *(*at)++;
		*out = *out << 6 | (byte & 63);
		if (!(byte & 64))
			return true;
	}
	return false;
}

/* No two ranges of a table overlap; where they do, it is damaged, and what comes then is left out. */
static void decode_handlers(struct body *body, PyObject *table)
{
	const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(table), *end = at + PyBytes_GET_SIZE(table);
	uint64_t start, size, target, depth, left = body->units;
	while (take_number(&at, end, &start) && take_number(&at, end, &size) && take_number(&at, end, &target) && take_number(&at, end, &depth)) {
		if (start >= body->units || size > body->units - start || size > left)
			continue;
		left -= size;
		for (uint64_t i = start; i < start + size; i++)
			body->handler[i] = target < body->units ? (uint32_t)target : NOWHERE;
	}
}

/* The units to which STEP leads without an exception, NOWHERE for none. */
static void leads_to(const struct body *body, const struct step *step, uint32_t to[2])
{
	enum act act = (enum act)body->ops->act[step->op];
	to[0] = act == GOTO || act == BRANCH ? step->target : NOWHERE;
	to[1] = act == GOTO || act == RETURN || act == RAISE ? NOWHERE : step->next;
}

static uint32_t step_of(const struct body *body, uint32_t unit)
{
	return unit < body->units ? body->step_at[unit] : NOWHERE;
}

/* Mark what can be reached without an exception. */
static void reach(struct body *body)
{
	uint32_t waiting = 0, to[2];
	if (body->steps)
		body->todo[waiting++] = 0;
	while (waiting) {
		struct step *step = &body->step[body->todo[--waiting]];
		if (step->reached)
			continue;
		step->reached = true;
		leads_to(body, step, to);
		for (unsigned i = 0; i < 2; i++) {
			uint32_t next = step_of(body, to[i]);
			if (next < body->steps && !body->step[next].reached)
				body->todo[waiting++] = next;
		}
	}
}

/*
 * An exception that is handled leads from a `try` block over its handler to behind it. Which is how far from HANDLER the code goes on that is
 * reached without an exception as well; 0: nowhere, it is raised again. A handler that returns goes on behind everything.
 */
static uint32_t search_rejoin(struct body *body, uint32_t handler)
{
	uint32_t waiting = 0, far = 0, search = ++body->searches, first = step_of(body, handler);
	if (first < body->steps)
		body->todo[waiting++] = first;
	while (waiting) {
		uint32_t number = body->todo[--waiting], to[2];
		const struct step *step = &body->step[number];
		if (body->seen[number] == search)
			continue;
		if (!body->effort)
			return NOWHERE - 1;	/* nobody writes such code: nothing is certain in it */
		body->effort--;
		body->seen[number] = search;
		if (step->reached) {
			far = step->at > far ? step->at : far;
			continue;
		}
		if (body->ops->act[step->op] == RETURN)
			return NOWHERE - 1;
		leads_to(body, step, to);
		const uint32_t all[] = { to[0], to[1], body->handler[step->at] };
		for (unsigned i = 0; i < 3; i++)
			if (step_of(body, all[i]) < body->steps && body->seen[step_of(body, all[i])] != search)
				body->todo[waiting++] = step_of(body, all[i]);
	}
	return far;
}

/* How far an exception in STEP goes on; 0: it ends the code. */
static uint32_t rejoin_of(struct body *body, const struct step *step)
{
	uint32_t handler = body->handler[step->at];
	if (handler == NOWHERE)
		return 0;
	if (body->rejoin[handler] == NOWHERE)
		body->rejoin[handler] = search_rejoin(body, handler);
	return body->rejoin[handler];
}

static void body_clear(struct body *body)
{
	Py_CLEAR(body->bytes);
	Py_CLEAR(body->names);
	Py_CLEAR(body->consts);
	PyMem_Free(body->step);
	PyMem_Free(body->step_at);
	PyMem_Free(body->seen);
}

static int body_allocate(struct body *body)
{
	const Py_ssize_t units = PyBytes_GET_SIZE(body->bytes) / 2;
	body->units = units < INT32_MAX / 16 ? (uint32_t)units : 0;
	const size_t room = (size_t)body->units + 1;
	body->step = PyMem_Calloc(room, sizeof(*body->step));
	body->step_at = PyMem_Malloc(3 * room * sizeof(*body->step_at));
	body->seen = PyMem_Calloc(4 * room, sizeof(*body->seen));
	if (!body->step || !body->step_at || !body->seen) {
		PyErr_NoMemory();
		return -1;
	}
	memset(body->step_at, 0xff, 3 * room * sizeof(*body->step_at));
	body->todo = body->seen + room;
	body->handler = body->step_at + room;
	body->rejoin = body->handler + room;
	body->effort = 64 * (uint64_t)room + (1 << 20);
	return 0;
}

/* 0, or -1 with an exception; body_clear() it in any case. */
static int body_read(struct body *body, const struct ops *ops, PyObject *code)
{
	PyObject *table = PyObject_GetAttrString(code, "co_exceptiontable");
	*body = (struct body){ .ops = ops, .code = code };
	body->bytes = PyObject_GetAttrString(code, "co_code");
	body->names = PyObject_GetAttrString(code, "co_names");
	body->consts = PyObject_GetAttrString(code, "co_consts");
	int result = table && body->bytes && body->names && body->consts ? 0 : -1;
	if (!result && (!PyBytes_Check(table) || !PyBytes_Check(body->bytes) || !PyTuple_Check(body->names) || !PyTuple_Check(body->consts))) {
		PyErr_SetString(PyExc_ValueError, "the code object is damaged");
		result = -1;
	}
	if (!result)
		result = body_allocate(body);
	if (!result) {
		decode(body);
		decode_handlers(body, table);
		reach(body);
	}
	Py_XDECREF(table);
	return result;
}

/* --- what stands where --- */

static PyObject *const_of(const struct body *body, uint32_t step)
{
	uint32_t at = body->step[step].arg;
	if (act_of(body, step) == COMMON)
		return at == body->ops->common_none ? Py_None : NULL;
	return act_of(body, step) == CONST && at < (size_t)PyTuple_GET_SIZE(body->consts) ? PyTuple_GET_ITEM(body->consts, at) : NULL;
}

static PyObject *name_at(const struct body *body, uint32_t at)
{
	PyObject *name = at < (size_t)PyTuple_GET_SIZE(body->names) ? PyTuple_GET_ITEM(body->names, at) : NULL;
	return name && PyUnicode_Check(name) ? name : NULL;
}

/* Whether STEP loads something that is called so, or an attribute of that name. */
static bool loads(const struct body *body, uint32_t step, const char *text)
{
	enum act act = act_of(body, step);
	if (act != NAME && act != NAME_SHIFTED)
		return false;
	PyObject *name = name_at(body, body->step[step].arg >> (act == NAME_SHIFTED));
	return name && PyUnicode_CompareWithASCIIString(name, text) == 0;
}

/* The step before STEP that does something, or STEP itself: there is none. */
static uint32_t before(const struct body *body, uint32_t step)
{
	for (uint32_t i = step; i-- > 0; )
		if (act_of(body, i) != IGNORE)
			return i;
	return step;
}

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
	return !step->reached || step->at < place->passed || step->at < rejoin_of(body, step) ? LW_EDGE_CONDITIONAL : LW_EDGE_MODULE;
}

static void go_past(struct place *place, struct body *body, uint32_t number)
{
	const struct step *step = &body->step[number];
	enum act act = act_of(body, number);
	if (!step->reached)
		return;
	if (rejoin_of(body, step) > place->passed)
		place->passed = rejoin_of(body, step);
	if (act == RETURN)
		place->passed = NOWHERE;
	else if ((act == GOTO || act == BRANCH) && step->target > place->passed)
		place->passed = step->target;
	uint32_t test = before(body, number);
	if (body->ops->if_false[step->op] && test != number && loads(body, test, "TYPE_CHECKING") && step->target > place->typing)
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

static bool is_names(PyObject *tuple)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++)
		if (!PyUnicode_Check(PyTuple_GET_ITEM(tuple, i)))
			return false;
	return true;
}

/* An import statement: its level and names were loaded just before. */
static int add_statement(PyObject *edges, const struct body *body, uint32_t number, enum lw_edge_kind kind)
{
	const struct step *step = &body->step[number];
	uint32_t from = before(body, number), first = before(body, from), arg = step->arg;
	PyObject *fromlist = const_of(body, from), *level = const_of(body, first), *name = name_at(body, arg >> body->ops->import_shift);
	long levels = act_of(body, first) == SMALL_INT ? (long)body->step[first].arg : -1;
	if (first == number || from == number || first == from || !name || !fromlist || (fromlist != Py_None && (!PyTuple_Check(fromlist) || !is_names(fromlist))))
		return 0;
	if (levels < 0 && level && PyLong_Check(level))
		levels = PyLong_AsLong(level);
	if (levels < 0) {
		PyErr_Clear();
		return 0;
	}
	if (body->ops->import_shift == 2 && (arg & 1) && (kind == LW_EDGE_MODULE || kind == LW_EDGE_CONDITIONAL))
		kind = LW_EDGE_LAZY;
	return add_edge(edges, levels, name, Py_NewRef(fromlist), kind, body, step);
}

/* import_module("x"), __import__("x"), import_module(".x", __package__). */
static int add_call(PyObject *edges, const struct body *body, uint32_t number, enum lw_edge_kind kind)
{
	uint32_t count = body->step[number].arg, text = before(body, number);
	bool relative = count == 2 && text != number && loads(body, text, "__package__");
	if (count != 1 && !relative)
		return 0;
	if (relative)
		text = before(body, text);
	uint32_t function = before(body, text);
	PyObject *name = text != number && function != text ? const_of(body, text) : NULL;
	if (!name || !PyUnicode_Check(name) || PyUnicode_GET_LENGTH(name) == 0 || !(loads(body, function, "import_module") || (!relative && loads(body, function, "__import__"))))
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

/* A code object that is made where KIND says: the body of a class runs there, and so does what its type parameters live in. */
static int add_inner(PyObject *edges, const struct ops *ops, PyObject *code, enum lw_edge_kind kind)
{
	PyCodeObject *inner = (PyCodeObject *)code;
	const char *name = PyUnicode_AsUTF8(inner->co_name);
	if (!name && !PyErr_ExceptionMatches(PyExc_UnicodeError))
		return -1;
	if (!name)
		PyErr_Clear();
	bool here = !(inner->co_flags & CO_OPTIMIZED) || (name && strncmp(name, "<generic parameters of ", 23) == 0);
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
	switch (act_of(body, number)) {
	case IMPORT:
		return add_statement(edges, body, number, kind);
	case CALL:
		return add_call(edges, body, number, kind);
	case CONST: {
		PyObject *constant = const_of(body, number);
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
	int result = body_read(&body, ops, code);
	for (uint32_t i = 0; !result && i < body.steps; i++) {
		result = add_step(edges, &body, i, kind_at(&place, &body, &body.step[i]));
		go_past(&place, &body, i);
	}
	body_clear(&body);
	return result;
}

PyDoc_STRVAR(edges_doc, "edges(code, /)\n--\n\n"
	"The imports that CODE and the code within it would make: a list of (level, name, fromlist or None, kind, line), as they stand. LEVEL counts the dots of a\n"
	"relative import. KIND is 'module', 'conditional', 'lazy', 'function' or 'typing'. Nothing is executed.");

PyObject *lw_edges(PyObject *code)
{
	if (!PyCode_Check(code))
		return PyErr_Format(PyExc_TypeError, "a code object is needed, not %.100s", Py_TYPE(code)->tp_name);
	const struct ops *ops = ops_of_this_version();
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
