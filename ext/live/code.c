/* SPDX-License-Identifier: MIT */
/*
 * code: see code.h. The numbers of opcodes differ between versions of CPython, so they are asked of the module `opcode`, once in a process. `co_code`
 * gives the code as the compiler made it, whatever the interpreter has specialised or instrumented since.
 */
#include "code.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* --- what an opcode does, as far as we care --- */

static const struct { const char *name; enum act act; } acts[] = {
	{ "EXTENDED_ARG", EXTEND }, { "CACHE", IGNORE }, { "NOP", IGNORE }, { "PUSH_NULL", IGNORE }, { "PRECALL", IGNORE }, { "NOT_TAKEN", IGNORE },
	{ "TO_BOOL", IGNORE }, { "LOAD_CONST", CONST }, { "LOAD_COMMON_CONSTANT", COMMON }, { "LOAD_SMALL_INT", SMALL_INT }, { "LOAD_NAME", NAME }, { "LOAD_FROM_DICT_OR_GLOBALS", NAME },
	{ "LOAD_GLOBAL", NAME_SHIFTED }, { "LOAD_METHOD", ATTRIBUTE },
	{ "LOAD_ATTR", PY_VERSION_HEX >= 0x030c0000 ? ATTRIBUTE_SHIFTED : ATTRIBUTE },
	{ "LOAD_FAST", LOCAL }, { "LOAD_FAST_CHECK", LOCAL }, { "LOAD_FAST_BORROW", LOCAL }, { "LOAD_DEREF", LOCAL }, { "LOAD_CLASSDEREF", LOCAL }, { "LOAD_FROM_DICT_OR_DEREF", LOCAL },
	{ "LOAD_FAST_LOAD_FAST", LOCAL_LAST }, { "LOAD_FAST_BORROW_LOAD_FAST_BORROW", LOCAL_LAST }, { "STORE_FAST_LOAD_FAST", LOCAL_LAST },
	{ "IMPORT_NAME", IMPORT }, { "IMPORT_FROM", FROM }, { "STORE_NAME", STORE }, { "STORE_GLOBAL", STORE }, { "CALL", CALL }, { "RETURN_VALUE", RETURN }, { "RETURN_CONST", RETURN }, { "RAISE_VARARGS", RAISE }, { "RERAISE", RAISE },
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

const struct ops *lw_ops(void)
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

static void decode(struct body *body)
{
	const unsigned char *unit = (const unsigned char *)PyBytes_AS_STRING(body->bytes);
	uint32_t extended = 0, from = NOWHERE;
	for (uint32_t at = 0; at < body->units; ) {
		uint8_t op = unit[2 * at];
		uint32_t arg = extended << 8 | unit[2 * at + 1];
		if (from == NOWHERE)
			from = at;
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

uint32_t lw_body_rejoin(struct body *body, const struct step *step)
{
	uint32_t handler = body->handler[step->at];
	if (handler == NOWHERE)
		return 0;
	if (body->rejoin[handler] == NOWHERE)
		body->rejoin[handler] = search_rejoin(body, handler);
	return body->rejoin[handler];
}

void lw_body_clear(struct body *body)
{
	Py_CLEAR(body->bytes);
	Py_CLEAR(body->names);
	Py_CLEAR(body->consts);
	PyMem_Free(body->step);
	PyMem_Free(body->step_at);
	PyMem_Free(body->seen);
}

static int allocate_flow(struct body *body)
{
	const size_t room = (size_t)body->units + 1;
	body->step_at = PyMem_Malloc(3 * room * sizeof(*body->step_at));
	body->seen = PyMem_Calloc(4 * room, sizeof(*body->seen));
	if (!body->step_at || !body->seen) {
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

int lw_body_read(struct body *body, const struct ops *ops, PyObject *code)
{
	*body = (struct body){ .ops = ops, .code = code };
	body->bytes = PyObject_GetAttrString(code, "co_code");
	body->names = PyObject_GetAttrString(code, "co_names");
	body->consts = PyObject_GetAttrString(code, "co_consts");
	if (!body->bytes || !body->names || !body->consts)
		return -1;
	if (!PyBytes_Check(body->bytes) || !PyTuple_Check(body->names) || !PyTuple_Check(body->consts)) {
		PyErr_SetString(PyExc_ValueError, "the code object is damaged");
		return -1;
	}
	const Py_ssize_t units = PyBytes_GET_SIZE(body->bytes) / 2;
	body->units = units < INT32_MAX / 16 ? (uint32_t)units : 0;
	body->step = PyMem_Calloc((size_t)body->units + 1, sizeof(*body->step));
	if (!body->step) {
		PyErr_NoMemory();
		return -1;
	}
	decode(body);
	return 0;
}

/* A jump may lead to an instruction or to its EXTENDED_ARGs. */
static void number_units(struct body *body)
{
	const unsigned char *unit = (const unsigned char *)PyBytes_AS_STRING(body->bytes);
	for (uint32_t i = 0; i < body->steps; i++) {
		uint32_t at = body->step[i].at;
		for (body->step_at[at] = i; body->ops->act[unit[2 * at]] == EXTEND; body->step_at[at] = i)
			at++;
	}
}

int lw_body_flow(struct body *body)
{
	PyObject *table = PyObject_GetAttrString(body->code, "co_exceptiontable");
	int result = table ? 0 : -1;
	if (table && !PyBytes_Check(table)) {
		PyErr_SetString(PyExc_ValueError, "the code object is damaged");
		result = -1;
	}
	if (!result)
		result = allocate_flow(body);
	if (!result) {
		number_units(body);
		decode_handlers(body, table);
		reach(body);
	}
	Py_XDECREF(table);
	return result;
}

/* --- what stands where --- */

PyObject *lw_body_const(const struct body *body, uint32_t step)
{
	uint32_t at = body->step[step].arg;
	if (lw_body_act(body, step) == COMMON)
		return at == body->ops->common_none ? Py_None : NULL;
	return lw_body_act(body, step) == CONST && at < (size_t)PyTuple_GET_SIZE(body->consts) ? PyTuple_GET_ITEM(body->consts, at) : NULL;
}

static PyObject *str_of(PyObject *tuple, uint32_t at)
{
	PyObject *name = PyTuple_Check(tuple) && at < (size_t)PyTuple_GET_SIZE(tuple) ? PyTuple_GET_ITEM(tuple, at) : NULL;
	return name && PyUnicode_Check(name) ? name : NULL;
}

PyObject *lw_body_name(const struct body *body, uint32_t step)
{
	const uint32_t arg = body->step[step].arg;
	switch (lw_body_act(body, step)) {
	case NAME:
	case ATTRIBUTE:
	case FROM:
	case STORE:
		return str_of(body->names, arg);
	case NAME_SHIFTED:
	case ATTRIBUTE_SHIFTED:
		return str_of(body->names, arg >> 1);
	case LOCAL:
		return str_of(((PyCodeObject *)body->code)->co_localsplusnames, arg);
	case LOCAL_LAST:
		return str_of(((PyCodeObject *)body->code)->co_localsplusnames, arg & 15);
	default:
		return NULL;
	}
}

static bool is_load_by_name(enum act act)
{
	return act == NAME || act == NAME_SHIFTED || act == ATTRIBUTE || act == ATTRIBUTE_SHIFTED;
}

bool lw_body_loads(const struct body *body, uint32_t step, const char *text)
{
	PyObject *name = is_load_by_name(lw_body_act(body, step)) ? lw_body_name(body, step) : NULL;
	return name && PyUnicode_CompareWithASCIIString(name, text) == 0;
}

uint32_t lw_body_before(const struct body *body, uint32_t step)
{
	for (uint32_t i = step; i-- > 0; )
		if (lw_body_act(body, i) != IGNORE)
			return i;
	return step;
}

static bool is_names(PyObject *tuple)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++)
		if (!PyUnicode_Check(PyTuple_GET_ITEM(tuple, i)))
			return false;
	return true;
}

/* The number that STEP loads; -1: none. */
static long number_at(const struct body *body, uint32_t step)
{
	PyObject *constant = lw_body_const(body, step);
	long number = lw_body_act(body, step) == SMALL_INT ? (long)body->step[step].arg : constant && PyLong_Check(constant) ? PyLong_AsLong(constant) : -1;
	if (number < 0)
		PyErr_Clear();
	return number;
}

/* Its level and names were loaded just before. */
bool lw_body_import(const struct body *body, uint32_t step, struct import *import)
{
	const uint32_t arg = body->step[step].arg, from = lw_body_before(body, step), first = lw_body_before(body, from);
	if (from == step || first == from)
		return false;
	*import = (struct import){ number_at(body, first), str_of(body->names, arg >> body->ops->import_shift), lw_body_const(body, from), body->ops->import_shift == 2 && (arg & 1) };
	PyObject *names = import->fromlist;
	return import->level >= 0 && import->name && names && (names == Py_None || (PyTuple_Check(names) && is_names(names)));
}

int lw_code_runs_in_place(PyObject *inner)
{
	PyCodeObject *code = (PyCodeObject *)inner;
	const char *name = PyUnicode_AsUTF8(code->co_name);
	if (!name && !PyErr_ExceptionMatches(PyExc_UnicodeError))
		return -1;
	if (!name)
		PyErr_Clear();
	return !(code->co_flags & CO_OPTIMIZED) || (name && strncmp(name, "<generic parameters of ", 23) == 0);
}
