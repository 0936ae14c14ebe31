/* SPDX-License-Identifier: MIT */
/*
 * lazy_names: which import statements of a module may wait, and which loads may meet a name that waits. Nothing is executed, and no Python code runs.
 *
 * A statement may wait if all of this holds:
 *
 *     it is one of the module's own code, and compiled as the compiler does   functions, classes: their imports run when these do
 *     no entry of the exception table covers it, the stack is empty           try, with; what depends on conditions only (if, match) may wait
 *     code never comes back to it                                             loops, which rebind what they have bound
 *     it binds names: no star, none of __future__                             what a star binds is not known
 *     no name is bound by anything else in the module, or deleted             def, class, =, for, del, global, except ... as
 *     `import a` without from: the name is loaded somewhere                   else it is there for what it does
 *     no name is a dunder, or _                                               the import system looks for these; _ is put into builtins by gettext
 *     each load of its names can be given a handler                           the depth of the stack there can be told
 *     no submodule that it imports is used by its name, which nothing binds   `from .a import b; del a`: importing the submodule binds that in the package
 *     no name is loaded by a method __del__, or within one                    it may run when the interpreter ends, and nothing can be imported any more
 *
 * If it may not, all others that bind one of its names may not either: what is bound last must be what stock binds last.
 *
 * A name that is in builtins when its statement is executed must not wait: its loads would find that one. This is for whoever registers it to see, as it is
 * that the name is not in the module yet.
 */
#include "lazy.h"
#include "lazy_tables.h"

#include <opcode.h>
#include <string.h>

/* Of verified interpreters: their opcodes, stack effects and exception tables are those that this was tested with. */
bool lw_lazy_verified(void)
{
	static const struct { long version, magic; } verified[] = { { 0x030b, 3495 }, { 0x030c, 3531 }, { 0x030d, 3571 }, { 0x030e, 3627 } };
	for (size_t i = 0; LW_LAZY_BUILT && i < Py_ARRAY_LENGTH(verified); i++)
		if (verified[i].version == PY_VERSION_HEX >> 16)
			return (PyImport_GetMagicNumber() & 0xffff) == verified[i].magic;
	return false;
}

void lw_lazy_plan_clear(struct lw_lazy_plan *plan)
{
	for (uint32_t i = 0; i < plan->statements; i++)
		Py_XDECREF(plan->statement[i].binds);
	PyMem_Free(plan->statement);
	PyMem_Free(plan->site);
	*plan = (struct lw_lazy_plan){ .site = NULL };
}

#if LW_LAZY_BUILT

/* --- a code object, decoded --- */

#define NOWHERE UINT32_MAX

enum { UNKNOWN = -1, UNITS_MAX = 1 << 24, EFFORT_MAX = 1 << 25 };

/* Of a unit of code: a jump or an exception leads there; a jump leads back over it, from behind a loop or from an exception's handler behind everything. */
enum { ENTERED = 1, PASSED = 2 };

struct step {
	uint32_t begin, next;	/* with its EXTENDED_ARGs, and with its caches */
	uint32_t arg;
	uint32_t target;	/* of jumps; NOWHERE: it does not jump */
	int depth;		/* of the stack before it; UNKNOWN: nothing leads there */
	uint8_t op;
};

struct flow {
	PyCodeObject *code;	/* borrowed */
	PyObject *bytes;
	uint32_t units, steps;
	struct step *step;
	uint32_t *step_at;	/* of each unit; NOWHERE: none begins there */
	uint32_t *handler;	/* of each unit: where an exception leads; NOWHERE: out of the code */
	uint32_t *todo;
	uint32_t *seen;		/* of each step: the last search that met it */
	uint8_t *mark;		/* of each unit */
	uint32_t waiting;	/* in todo */
	uint32_t searches;
	uint32_t effort;	/* spent on them */
	bool is_module;		/* its names are global */
	bool odd;		/* not what the compiler makes: its depths are not to be relied on */
};

enum jump { STAYS, FORWARD, BACKWARD };

static enum jump jump_of(uint8_t op)
{
	switch (op) {
	case JUMP_FORWARD:
	case FOR_ITER:
	case SEND:
#if PY_VERSION_HEX < 0x030c0000
	case JUMP_IF_FALSE_OR_POP:
	case JUMP_IF_TRUE_OR_POP:
	case POP_JUMP_FORWARD_IF_FALSE:
	case POP_JUMP_FORWARD_IF_TRUE:
	case POP_JUMP_FORWARD_IF_NONE:
	case POP_JUMP_FORWARD_IF_NOT_NONE:
#else
	case POP_JUMP_IF_FALSE:
	case POP_JUMP_IF_TRUE:
	case POP_JUMP_IF_NONE:
	case POP_JUMP_IF_NOT_NONE:
#endif
		return FORWARD;
	case JUMP_BACKWARD:
	case JUMP_BACKWARD_NO_INTERRUPT:
#if PY_VERSION_HEX < 0x030c0000
	case POP_JUMP_BACKWARD_IF_FALSE:
	case POP_JUMP_BACKWARD_IF_TRUE:
	case POP_JUMP_BACKWARD_IF_NONE:
	case POP_JUMP_BACKWARD_IF_NOT_NONE:
#endif
		return BACKWARD;
	default:
		return STAYS;
	}
}

/* What comes behind it is not reached from it. */
static bool ends(uint8_t op)
{
	switch (op) {
	case RETURN_VALUE:
#ifdef RETURN_CONST
	case RETURN_CONST:
#endif
	case RAISE_VARARGS:
	case RERAISE:
	case JUMP_FORWARD:
	case JUMP_BACKWARD:
	case JUMP_BACKWARD_NO_INTERRUPT:
		return true;
	default:
		return false;
	}
}

static uint32_t target_of(const struct flow *flow, uint8_t op, uint32_t arg, uint32_t next)
{
	switch (jump_of(op)) {
	case FORWARD: return arg < flow->units - next ? next + arg : flow->units;
	case BACKWARD: return arg <= next ? next - arg : flow->units;
	default: return NOWHERE;
	}
}

static void decode(struct flow *flow)
{
	const unsigned char *unit = (const unsigned char *)PyBytes_AS_STRING(flow->bytes);
	for (uint32_t at = 0; at < flow->units; ) {
		struct step *step = &flow->step[flow->steps];
		*step = (struct step){ .begin = at, .depth = UNKNOWN };
		for (; unit[2 * at] == EXTENDED_ARG && at + 1 < flow->units; at++)
			step->arg = (step->arg | unit[2 * at + 1]) << 8;
		step->op = unit[2 * at];
		step->arg |= unit[2 * at + 1];
		for (at++; at < flow->units && unit[2 * at] == CACHE; at++)
			;
		step->next = at;
		step->target = target_of(flow, step->op, step->arg, at);
		flow->step_at[step->begin] = flow->steps++;
	}
}

/* From an exception or a jump, code goes on at UNIT with DEPTH values. */
static void lead(struct flow *flow, uint32_t unit, int depth)
{
	uint32_t number = unit < flow->units ? flow->step_at[unit] : NOWHERE;
	if (number == NOWHERE || depth < 0) {
		flow->odd = true;
		return;
	}
	struct step *step = &flow->step[number];
	if (step->depth == UNKNOWN) {
		step->depth = depth;
		flow->todo[flow->waiting++] = number;
	} else if (step->depth != depth) {
		flow->odd = true;
	}
}

static int effect(const struct step *step, int jump)
{
	/* Whoever starts a generator pushes what is taken here; dis of older versions does not say so. */
	return step->op == RETURN_GENERATOR ? 1 : PyCompile_OpcodeStackEffectWithJump(step->op, (int)step->arg, jump);
}

static void follow(struct flow *flow)
{
	while (flow->waiting && !flow->odd) {
		const struct step *step = &flow->step[flow->todo[--flow->waiting]];
		int stays = effect(step, 0), jumps = effect(step, 1);
		if (stays == PY_INVALID_STACK_EFFECT || jumps == PY_INVALID_STACK_EFFECT) {
			flow->odd = true;
			return;
		}
		if (step->target != NOWHERE)
			lead(flow, step->target, step->depth + jumps);
		if (!ends(step->op))
			lead(flow, step->next, step->depth + stays);
	}
}

static void take_handlers(struct flow *flow)
{
	const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(flow->code->co_exceptiontable), *end = at + PyBytes_GET_SIZE(flow->code->co_exceptiontable);
	struct lw_handled entry;
	while (at < end) {
		if (!lw_handled_take(&at, end, flow->units, &entry)) {
			flow->odd = true;
			return;
		}
		for (uint32_t unit = entry.begin; unit < entry.end; unit++)
			flow->handler[unit] = entry.target;
		/* With the exception, and below it where it came from if that is wanted. */
		lead(flow, entry.target, (int)entry.depth + entry.lasti + 1);
		flow->mark[entry.target] |= ENTERED;
	}
}

static void mark_jumps(struct flow *flow)
{
	for (uint32_t i = 0; i < flow->steps; i++) {
		const struct step *step = &flow->step[i];
		if (step->target >= flow->units)
			continue;
		flow->mark[step->target] |= ENTERED;
		for (uint32_t unit = step->target; unit < step->next && jump_of(step->op) == BACKWARD; unit++)
			flow->mark[unit] |= PASSED;
	}
}

static void search(struct flow *flow, uint32_t unit)
{
	uint32_t number = unit < flow->units ? flow->step_at[unit] : NOWHERE;
	if (number == NOWHERE || flow->seen[number] == flow->searches)
		return;
	flow->seen[number] = flow->searches;
	flow->todo[flow->waiting++] = number;
}

/* Whether code goes on from FROM to TO, by exceptions too; true as well if that takes too long to find out. */
static bool reaches(struct flow *flow, uint32_t from, uint32_t to)
{
	flow->searches++;
	flow->waiting = 0;
	search(flow, from);
	while (flow->waiting) {
		const struct step *step = &flow->step[flow->todo[--flow->waiting]];
		if (step->begin == to || flow->effort == EFFORT_MAX)
			return true;
		flow->effort++;
		search(flow, step->target);
		search(flow, flow->handler[step->begin]);
		if (!ends(step->op))
			search(flow, step->next);
	}
	return false;
}

static void flow_clear(struct flow *flow)
{
	Py_XDECREF(flow->bytes);
	PyMem_Free(flow->step);
	PyMem_Free(flow->step_at);
	PyMem_Free(flow->mark);
}

/* 0, or -1 with an exception. To be cleared in any case. */
static int flow_read(struct flow *flow, PyCodeObject *code)
{
	*flow = (struct flow){ .code = code, .bytes = PyCode_GetCode(code) };
	if (!flow->bytes)
		return -1;
	const size_t units = (size_t)PyBytes_GET_SIZE(flow->bytes) / 2, room = units + 1;
	flow->odd = units == 0 || units > UNITS_MAX;
	flow->units = flow->odd ? 0 : (uint32_t)units;
	flow->step = PyMem_Malloc(room * sizeof(*flow->step));
	flow->step_at = PyMem_Malloc(4 * room * sizeof(*flow->step_at));
	flow->mark = PyMem_Calloc(room, 1);
	if (!flow->step || !flow->step_at || !flow->mark) {
		PyErr_NoMemory();
		return -1;
	}
	flow->handler = flow->step_at + room;
	flow->todo = flow->handler + room;
	flow->seen = flow->todo + room;
	memset(flow->step_at, 0xff, 2 * room * sizeof(*flow->step_at));
	memset(flow->seen, 0, room * sizeof(*flow->seen));
	decode(flow);
	lead(flow, 0, 0);
	take_handlers(flow);
	follow(flow);
	mark_jumps(flow);
	return 0;
}

/* --- what a step is --- */

static PyObject *item(PyObject *tuple, uint32_t at)
{
	return PyTuple_Check(tuple) && at < (size_t)PyTuple_GET_SIZE(tuple) ? PyTuple_GET_ITEM(tuple, at) : NULL;
}

static PyObject *str_at(PyObject *tuple, uint32_t at)
{
	PyObject *text = item(tuple, at);
	return text && PyUnicode_Check(text) ? text : NULL;
}

static const struct step *step_number(const struct flow *flow, uint32_t number)
{
	static const struct step none = { .op = CACHE };
	return number < flow->steps ? &flow->step[number] : &none;
}

static PyObject *constant(const struct flow *flow, uint32_t number)
{
	const struct step *step = step_number(flow, number);
	return step->op == LOAD_CONST ? item(flow->code->co_consts, step->arg) : NULL;
}

/* The name that step NUMBER has, if it is an OP. Borrowed, or NULL. */
static PyObject *name_of(const struct flow *flow, uint32_t number, uint8_t op)
{
	const struct step *step = step_number(flow, number);
	return step->op == op ? str_at(flow->code->co_names, step->arg) : NULL;
}

/* The name that step NUMBER, of a module's own code, binds. STORE_GLOBAL: a function says `global`. Borrowed, or NULL. */
static PyObject *stored_name(const struct flow *flow, uint32_t number)
{
	PyObject *name = name_of(flow, number, STORE_NAME);
	return name ? name : name_of(flow, number, STORE_GLOBAL);
}

/* The global name that it binds or unbinds, wherever it is; in the code of a MODULE names are global. Borrowed, or NULL. */
static PyObject *bound_name(const struct flow *flow, uint32_t number, bool module)
{
	const struct step *step = &flow->step[number];
	switch (step->op) {
	case STORE_NAME:
	case DELETE_NAME:
		if (!module)
			return NULL;
		/* fall through */
	case STORE_GLOBAL:
	case DELETE_GLOBAL:
		return str_at(flow->code->co_names, step->arg);
	default:
		return NULL;
	}
}

/* The name that it loads, maybe from the module. Borrowed, or NULL. */
static PyObject *loaded_name(const struct flow *flow, uint32_t number)
{
	const struct step *step = &flow->step[number];
	switch (step->op) {
	case LOAD_GLOBAL:
		return str_at(flow->code->co_names, step->arg >> 1);
	case LOAD_NAME:
#ifdef LOAD_FROM_DICT_OR_GLOBALS
	case LOAD_FROM_DICT_OR_GLOBALS:
#endif
		return str_at(flow->code->co_names, step->arg);
	default:
		return NULL;
	}
}

/*
 * The site of a load: false if there can be none. What looks into a dictionary first takes that from the stack, where it is no longer when the exception
 * is handled: the site begins where that is loaded.
 */
static bool site_of(const struct flow *flow, uint32_t number, struct lw_lazy_site *site)
{
	const struct step *step = &flow->step[number], *first = step;
#ifdef LOAD_FROM_DICT_OR_GLOBALS
	if (step->op == LOAD_FROM_DICT_OR_GLOBALS) {
		first = number ? step - 1 : step;
		if ((first->op != LOAD_DEREF && first->op != LOAD_LOCALS) || (flow->mark[step->begin] & ENTERED))
			return false;
	}
#endif
	if (flow->odd || first->depth == UNKNOWN)
		return false;
	*site = (struct lw_lazy_site){ .begin = first->begin, .end = step->next, .depth = (uint32_t)first->depth };
	return true;
}

/* --- statements --- */

/* What import statements of a module are, until it is known which may wait. */
struct statements {
	struct lw_lazy_statement *item;
	bool *waits;
	uint32_t count, room;
};

static void statements_clear(struct statements *statements)
{
	for (uint32_t i = 0; i < statements->count; i++)
		Py_XDECREF(statements->item[i].binds);
	PyMem_Free(statements->item);
	PyMem_Free(statements->waits);
}

static bool is_names(PyObject *tuple)
{
	if (!PyTuple_Check(tuple))
		return false;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++)
		if (!PyUnicode_Check(PyTuple_GET_ITEM(tuple, i)))
			return false;
	return PyTuple_GET_SIZE(tuple) > 0;
}

/* Whether step NUMBER loads a number that may be a level; *LEVEL. */
static bool take_level(const struct flow *flow, uint32_t number, uint32_t *level)
{
	const struct step *step = step_number(flow, number);
#ifdef LOAD_SMALL_INT
	if (step->op == LOAD_SMALL_INT) {
		*level = step->arg;
		return true;
	}
#endif
	PyObject *value = step->op == LOAD_CONST ? constant(flow, number) : NULL;
	int overflow;
	long found = value && PyLong_CheckExact(value) ? PyLong_AsLongAndOverflow(value, &overflow) : -1;
	*level = (uint32_t)found;
	return found >= 0 && found < 1000;
}

/* Add (ATTRIBUTE or None, NAME) to LIST. 0, -1. */
static int add_pair(PyObject *list, PyObject *attribute, PyObject *name)
{
	PyObject *pair = PyTuple_Pack(2, attribute ? attribute : Py_None, name);
	int result = pair ? PyList_Append(list, pair) : -1;
	Py_XDECREF(pair);
	return result;
}

/* `from a import b, c as d`, behind the IMPORT_NAME. Steps to behind it, 0: it is none, -1. */
static int take_from(const struct flow *flow, uint32_t number, PyObject *fromlist, PyObject *list)
{
	const uint32_t count = (uint32_t)PyTuple_GET_SIZE(fromlist);
	for (uint32_t i = 0; i < count; i++) {
		PyObject *attribute = name_of(flow, number + 2 * i, IMPORT_FROM), *name = stored_name(flow, number + 2 * i + 1);
		if (!attribute || !name || PyUnicode_Compare(attribute, PyTuple_GET_ITEM(fromlist, i)) != 0)
			return 0;
		if (add_pair(list, attribute, name) < 0)
			return -1;
	}
	return step_number(flow, number + 2 * count)->op == POP_TOP ? (int)(2 * count + 1) : 0;
}

/* `import a.b.c as d`, behind the IMPORT_NAME: IMPORT_FROM b; SWAP; POP_TOP; IMPORT_FROM c; STORE_NAME d; POP_TOP. As above. */
static int take_path(const struct flow *flow, uint32_t number, PyObject *list)
{
	uint32_t at = number;
	while (step_number(flow, at)->op == IMPORT_FROM && step_number(flow, at + 1)->op == SWAP && step_number(flow, at + 2)->op == POP_TOP)
		at += 3;
	PyObject *name = stored_name(flow, at + 1);
	if (step_number(flow, at)->op != IMPORT_FROM || !name || step_number(flow, at + 2)->op != POP_TOP)
		return 0;
	return add_pair(list, NULL, name) < 0 ? -1 : (int)(at + 3 - number);
}

/* `import a`, `import a.b`, `import a as c`: as above. */
static int take_plain(const struct flow *flow, uint32_t number, PyObject *list)
{
	PyObject *name = stored_name(flow, number);
	return !name ? 0 : add_pair(list, NULL, name) < 0 ? -1 : 1;
}

/* NAME is the first part of the dotted MODULE. */
static bool is_first_part(PyObject *name, PyObject *module)
{
	Py_ssize_t length = PyUnicode_GET_LENGTH(name);
	return PyUnicode_Tailmatch(module, name, 0, PY_SSIZE_T_MAX, -1) == 1 &&
		(length == PyUnicode_GET_LENGTH(module) || PyUnicode_READ_CHAR(module, length) == '.');
}

/* The import statement whose first step is NUMBER: steps to behind it, 0: none is there, -1. BINDS of *STATEMENT is a new reference then. */
static int take_statement(const struct flow *flow, uint32_t number, struct lw_lazy_statement *statement)
{
	PyObject *fromlist = constant(flow, number + 1), *module = name_of(flow, number + 2, IMPORT_NAME);
	*statement = (struct lw_lazy_statement){ .begin = step_number(flow, number)->begin, .import = step_number(flow, number + 2)->begin, .module = module };
	if (!module || !fromlist || !take_level(flow, number, &statement->level) || (fromlist != Py_None && !is_names(fromlist)))
		return 0;
	PyObject *list = PyList_New(0);
	const uint32_t behind = number + 3;
	const bool path = step_number(flow, behind)->op == IMPORT_FROM;
	int taken = !list ? -1 : fromlist != Py_None ? take_from(flow, behind, fromlist, list) : path ? take_path(flow, behind, list) : take_plain(flow, behind, list);
	if (taken > 0) {
		statement->end = flow->step[behind + (uint32_t)taken - 1].next;
		statement->binds = PyList_AsTuple(list);
		taken = statement->binds ? taken + 3 : -1;
	}
	if (taken > 0 && fromlist == Py_None)
		statement->as = path || !is_first_part(PyTuple_GET_ITEM(PyTuple_GET_ITEM(statement->binds, 0), 1), module);
	Py_XDECREF(list);
	return taken;
}

static bool is_reserved(PyObject *name)
{
	Py_ssize_t length = PyUnicode_GET_LENGTH(name);
	if (length == 1)
		return PyUnicode_READ_CHAR(name, 0) == '_';
	return length > 4 && PyUnicode_READ_CHAR(name, 0) == '_' && PyUnicode_READ_CHAR(name, 1) == '_' && PyUnicode_READ_CHAR(name, length - 1) == '_' &&
		PyUnicode_READ_CHAR(name, length - 2) == '_';
}

static PyObject *name_bound(const struct lw_lazy_statement *statement, Py_ssize_t i)
{
	return PyTuple_GET_ITEM(PyTuple_GET_ITEM(statement->binds, i), 1);
}

/* What it binds may wait, as far as it is up to the names. */
static bool names_may_wait(const struct lw_lazy_statement *statement)
{
	const Py_ssize_t count = PyTuple_GET_SIZE(statement->binds);
	for (Py_ssize_t i = 0; i < count; i++) {
		if (is_reserved(name_bound(statement, i)))
			return false;
		for (Py_ssize_t j = 0; j < i; j++)	/* `import a as c, b as c` of one module: who would have to be last? */
			if (PyUnicode_Compare(name_bound(statement, i), name_bound(statement, j)) == 0)
				return false;
	}
	return PyUnicode_CompareWithASCIIString(statement->module, "__future__") != 0;
}

/* The place where it stands allows it to wait. */
static bool place_may_wait(struct flow *flow, const struct lw_lazy_statement *statement)
{
	bool passed = false;
	if (flow->step[flow->step_at[statement->begin]].depth != 0)
		return false;
	for (uint32_t unit = statement->begin; unit < statement->end; unit++) {
		if (flow->handler[unit] != NOWHERE || (unit > statement->begin && (flow->mark[unit] & ENTERED)))
			return false;
		passed |= (flow->mark[unit] & PASSED) != 0;
	}
	return !passed || !reaches(flow, statement->end, statement->begin);
}

static int add_statement(struct statements *statements, const struct lw_lazy_statement *statement, bool waits)
{
	if (statements->count == statements->room) {
		uint32_t room = statements->room ? 2 * statements->room : 16;
		void *item = PyMem_Realloc(statements->item, room * sizeof(*statements->item));
		statements->item = item ? item : statements->item;
		void *flags = item ? PyMem_Realloc(statements->waits, room * sizeof(*statements->waits)) : NULL;
		statements->waits = flags ? flags : statements->waits;
		if (!flags) {
			PyErr_NoMemory();
			return -1;
		}
		statements->room = room;
	}
	statements->waits[statements->count] = waits;
	statements->item[statements->count++] = *statement;
	return 0;
}

/* All import statements of a module; names that it binds otherwise are put into BOUND. 0, -1. */
static int take_statements(struct flow *flow, struct statements *statements, PyObject *bound)
{
	struct lw_lazy_statement statement;
	for (uint32_t number = 0; number < flow->steps; ) {
		int taken = take_statement(flow, number, &statement);
		if (taken < 0)
			return -1;
		if (taken > 0) {
			if (add_statement(statements, &statement, !flow->odd && place_may_wait(flow, &statement) && names_may_wait(&statement)) < 0) {
				Py_DECREF(statement.binds);
				return -1;
			}
			number += (uint32_t)taken;
			continue;
		}
		PyObject *name = bound_name(flow, number, true);
		if (name && PySet_Add(bound, name) < 0)
			return -1;
		number++;
	}
	return 0;
}

/* --- the names of a module --- */

/* Whose code it is. */
enum owner { OF_MODULE, OF_OTHER, OF_FINALISER };

/* What a module does with its names. Sets of str. */
struct uses {
	PyObject *candidates;	/* bound by statements that may wait so far */
	PyObject *bound;	/* bound or unbound by anything but import statements that may wait, loaded by a __del__, or of no use otherwise */
	PyObject *loaded;	/* of the candidates */
	PyObject *implied;	/* names of submodules that statements which may wait so far would bind, were this the package */
	PyObject *needed;	/* of these: loaded, or deleted, */
	PyObject *stored;	/* and bound by what stands there */
};

static struct uses uses_new(void)
{
	return (struct uses){ PySet_New(NULL), PySet_New(NULL), PySet_New(NULL), PySet_New(NULL), PySet_New(NULL), PySet_New(NULL) };
}

static bool uses_are_complete(const struct uses *uses)
{
	return uses->candidates && uses->bound && uses->loaded && uses->implied && uses->needed && uses->stored;
}

static void uses_clear(struct uses *uses)
{
	Py_XDECREF(uses->candidates);
	Py_XDECREF(uses->bound);
	Py_XDECREF(uses->loaded);
	Py_XDECREF(uses->implied);
	Py_XDECREF(uses->needed);
	Py_XDECREF(uses->stored);
}

/*
 * What importing STATEMENT's module binds besides, where this is the package: `from .a.b import c` binds a. Of absolute names it may be any part but the first, as it is not
 * known what this module is called. New list.
 */
static PyObject *implied_names(const struct lw_lazy_statement *statement)
{
	PyObject *dot = PyUnicode_FromString("."), *parts = dot ? PyUnicode_Split(statement->module, dot, -1) : NULL;
	const Py_ssize_t ends[] = { PY_SSIZE_T_MAX, 1, 0 };
	PyObject *names = parts ? PyList_GetSlice(parts, statement->level == 0, ends[statement->level < 2 ? statement->level : 2]) : NULL;
	Py_XDECREF(dot);
	Py_XDECREF(parts);
	return names;
}

/* Those of all statements that may wait so far. 0, -1. */
static int collect_implied(const struct statements *statements, PyObject *set)
{
	for (uint32_t i = 0; i < statements->count; i++) {
		PyObject *names = statements->waits[i] ? implied_names(&statements->item[i]) : PyList_New(0);
		int result = names ? 0 : -1;
		for (Py_ssize_t j = 0; result == 0 && j < PyList_GET_SIZE(names); j++)
			result = PySet_Add(set, PyList_GET_ITEM(names, j));
		Py_XDECREF(names);
		if (result < 0)
			return -1;
	}
	return 0;
}

/* The submodule by whose name something is needed is there only if STATEMENT has imported it. 1, 0, -1. */
static int implies_what_is_needed(const struct lw_lazy_statement *statement, const struct uses *uses)
{
	PyObject *names = PySet_GET_SIZE(uses->needed) > 0 ? implied_names(statement) : PyList_New(0);
	int result = names ? 0 : -1;
	for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(names); i++) {
		int stored = PySet_Contains(uses->stored, PyList_GET_ITEM(names, i));
		result = stored ? (stored < 0 ? -1 : 0) : PySet_Contains(uses->needed, PyList_GET_ITEM(names, i));
	}
	Py_XDECREF(names);
	return result;
}

/* 0, -1. */
static int take_implied(const struct flow *flow, uint32_t number, enum owner owner, struct uses *uses)
{
	PyObject *bound = bound_name(flow, number, owner == OF_MODULE), *name = bound ? bound : loaded_name(flow, number);
	int implied = name ? PySet_Contains(uses->implied, name) : 0;
	return implied <= 0 ? implied : PySet_Add(bound && stored_name(flow, number) ? uses->stored : uses->needed, name);
}

/* Whether code mentions one of NAMES at all: most does not. 1, 0, -1. */
static int mentions(PyCodeObject *code, PyObject *names)
{
	int found = 0;
	for (Py_ssize_t i = 0; !found && i < PyTuple_GET_SIZE(code->co_names); i++)
		found = PySet_Contains(names, PyTuple_GET_ITEM(code->co_names, i));
	return found;
}

/* 0, -1. */
static int take_uses(const struct flow *flow, enum owner owner, struct uses *uses)
{
	struct lw_lazy_site site;
	for (uint32_t number = 0; number < flow->steps; number++) {
		PyObject *bound = owner == OF_MODULE ? NULL : bound_name(flow, number, false), *loaded = loaded_name(flow, number);
		int candidate = loaded ? PySet_Contains(uses->candidates, loaded) : 0;
		if (candidate < 0 || take_implied(flow, number, owner, uses) < 0 || (bound && PySet_Add(uses->bound, bound) < 0) || (candidate && PySet_Add(uses->loaded, loaded) < 0))
			return -1;
		if (candidate && (owner == OF_FINALISER || !site_of(flow, number, &site)) && PySet_Add(uses->bound, loaded) < 0)
			return -1;
	}
	return 0;
}

/* Of all code within CODE, which is OWNER's. 0, -1. */
static int take_uses_within(PyCodeObject *code, enum owner owner, struct uses *uses)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts); i++) {
		PyCodeObject *inner = (PyCodeObject *)PyTuple_GET_ITEM(code->co_consts, i);
		if (!PyCode_Check(inner))
			continue;
		enum owner its = owner == OF_FINALISER || PyUnicode_CompareWithASCIIString(inner->co_name, "__del__") == 0 ? OF_FINALISER : OF_OTHER;
		int candidates = mentions(inner, uses->candidates), result = candidates ? candidates : mentions(inner, uses->implied);
		if (result > 0) {
			struct flow flow;
			result = flow_read(&flow, inner) < 0 ? -1 : take_uses(&flow, its, uses);
			flow_clear(&flow);
		}
		if (result < 0 || take_uses_within(inner, its, uses) < 0)
			return -1;
	}
	return 0;
}

/* Put the names of a statement into SET. 0, -1. */
static int add_names(const struct lw_lazy_statement *statement, PyObject *set)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(statement->binds); i++)
		if (PySet_Add(set, name_bound(statement, i)) < 0)
			return -1;
	return 0;
}

/* What is known by now lets it wait. 1, 0, -1. */
static int uses_let_wait(const struct lw_lazy_statement *statement, const struct uses *uses)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(statement->binds); i++) {
		int bound = PySet_Contains(uses->bound, name_bound(statement, i));
		if (bound)
			return bound < 0 ? -1 : 0;
	}
	int implies = implies_what_is_needed(statement, uses);
	if (implies)
		return implies < 0 ? -1 : 0;
	const bool from = PyTuple_GET_ITEM(PyTuple_GET_ITEM(statement->binds, 0), 0) != Py_None;
	return from ? 1 : PySet_Contains(uses->loaded, name_bound(statement, 0));
}

/* Statements that may not wait bind names otherwise, too: until nothing changes. 0, -1. */
static int settle(struct statements *statements, struct uses *uses)
{
	for (bool changed = true; changed; ) {
		changed = false;
		for (uint32_t i = 0; i < statements->count; i++) {
			int waits = statements->waits[i] ? uses_let_wait(&statements->item[i], uses) : 1;
			if (waits < 0)
				return -1;
			if (!waits) {
				statements->waits[i] = false;
				changed = true;
				if (add_names(&statements->item[i], uses->bound) < 0)
					return -1;
			}
		}
	}
	return 0;
}

/* The names of all statements that wait, or do not, into SET. 0, -1. */
static int collect_names(const struct statements *statements, bool waits, PyObject *set)
{
	for (uint32_t i = 0; i < statements->count; i++)
		if (statements->waits[i] == waits && add_names(&statements->item[i], set) < 0)
			return -1;
	return 0;
}

/* Hand those that wait over to PLAN. 0, -1. */
static int keep_waiting(struct statements *statements, struct lw_lazy_plan *plan)
{
	plan->statement = PyMem_Malloc((statements->count + 1) * sizeof(*plan->statement));
	if (!plan->statement) {
		PyErr_NoMemory();
		return -1;
	}
	for (uint32_t i = 0; i < statements->count; i++) {
		if (!statements->waits[i])
			continue;
		plan->statement[plan->statements] = statements->item[i];
		Py_INCREF(plan->statement[plan->statements++].binds);
	}
	return 0;
}

/*
 * Whether NAME, that is loaded by STEP, is in MET, the names loaded since the last place that code may come to from elsewhere; from now on it is. Of global names: those of
 * a class may be deleted from its own. 1, 0, -1.
 */
static int is_sure(const struct flow *flow, const struct step *step, PyObject *name, PyObject *met)
{
	const bool global = step->op == LOAD_GLOBAL || (step->op == LOAD_NAME && flow->is_module);
	int sure = global ? PySet_Contains(met, name) : 0;
	return sure < 0 || (global && !sure && PySet_Add(met, name) < 0) ? -1 : sure;
}

/* A statement that begins at UNIT may have a name wait. */
static bool begins_statement(const struct lw_lazy_plan *plan, uint32_t unit, uint32_t *next)
{
	while (*next < plan->statements && plan->statement[*next].begin < unit)
		(*next)++;
	return *next < plan->statements && plan->statement[*next].begin == unit;
}

/* The loads of NAMES, into PLAN. 0, -1. */
static int take_sites_met(const struct flow *flow, PyObject *names, struct lw_lazy_plan *plan, PyObject *met)
{
	uint32_t statement = 0;
	for (uint32_t number = 0; number < flow->steps; number++) {
		const struct step *step = &flow->step[number];
		if (((flow->mark[step->begin] & ENTERED) || begins_statement(plan, step->begin, &statement)) && PySet_GET_SIZE(met) && PySet_Clear(met) < 0)
			return -1;
		PyObject *name = loaded_name(flow, number);
		struct lw_lazy_site *site = &plan->site[plan->sites];
		int wanted = name ? PySet_Contains(names, name) : 0;
		if (wanted < 0)
			return -1;
		if (!wanted || !site_of(flow, number, site))
			continue;
		int sure = is_sure(flow, step, name, met);
		if (sure < 0)
			return -1;
		site->sure = sure;
		plan->sites++;
	}
	return 0;
}

/* The same, into PLAN, which has its statements. */
static int take_sites(const struct flow *flow, PyObject *names, struct lw_lazy_plan *plan)
{
	PyObject *met = PySet_New(NULL);
	plan->site = PyMem_Malloc(((size_t)flow->steps + 1) * sizeof(*plan->site));
	if (!plan->site)
		PyErr_NoMemory();
	int result = met && plan->site ? take_sites_met(flow, names, plan, met) : -1;
	Py_XDECREF(met);
	return result;
}

/* As lw_lazy_analyse(), of code that is decoded; UNSETTLED and USES are empty. */
static int analyse(struct flow *flow, struct statements *statements, struct uses *uses, struct lw_lazy_plan *plan, PyObject *names)
{
	if (take_statements(flow, statements, uses->bound) < 0 || collect_names(statements, false, uses->bound) < 0 ||
	    collect_names(statements, true, uses->candidates) < 0 || collect_implied(statements, uses->implied) < 0)
		return -1;
	if (PySet_GET_SIZE(uses->candidates) == 0)
		return 0;
	if (take_uses(flow, OF_MODULE, uses) < 0 || take_uses_within(flow->code, OF_MODULE, uses) < 0 || settle(statements, uses) < 0 || collect_names(statements, true, names) < 0)
		return -1;
	if (PySet_GET_SIZE(names) == 0)
		return 0;
	flow->is_module = true;
	return keep_waiting(statements, plan) < 0 || take_sites(flow, names, plan) < 0 ? -1 : 1;
}

int lw_lazy_analyse(PyCodeObject *code, struct lw_lazy_plan *plan, lw_lazy_names **names)
{
	struct flow flow = { .code = NULL };
	struct statements statements = { .item = NULL };
	struct uses uses = uses_new();
	*plan = (struct lw_lazy_plan){ .site = NULL };
	*names = PySet_New(NULL);
	int result = -1;
	if (code->co_flags & (CO_OPTIMIZED | CO_NEWLOCALS | CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR))
		result = 0;	/* no module's */
	else if (*names && uses_are_complete(&uses) && flow_read(&flow, code) == 0)
		result = analyse(&flow, &statements, &uses, plan, *names);
	if (result != 1) {
		lw_lazy_plan_clear(plan);
		Py_CLEAR(*names);
	}
	statements_clear(&statements);
	uses_clear(&uses);
	flow_clear(&flow);
	return result;
}

int lw_lazy_sites(PyCodeObject *code, lw_lazy_names *names, struct lw_lazy_plan *plan)
{
	*plan = (struct lw_lazy_plan){ .site = NULL };
	int result = mentions(code, names);
	if (result <= 0)
		return result;
	struct flow flow;
	result = flow_read(&flow, code) < 0 ? -1 : take_sites(&flow, names, plan);
	if (result < 0)
		lw_lazy_plan_clear(plan);
	flow_clear(&flow);
	return result;
}

#else

int lw_lazy_analyse(PyCodeObject *code, struct lw_lazy_plan *plan, lw_lazy_names **names)
{
	(void)code;
	*plan = (struct lw_lazy_plan){ .site = NULL };
	*names = NULL;
	return 0;
}

int lw_lazy_sites(PyCodeObject *code, lw_lazy_names *names, struct lw_lazy_plan *plan)
{
	(void)code, (void)names;
	*plan = (struct lw_lazy_plan){ .site = NULL };
	return 0;
}

#endif

/* --- for tests --- */

static PyObject *sites_tuple(const struct lw_lazy_plan *plan)
{
	PyObject *tuple = PyTuple_New(plan->sites);
	for (uint32_t i = 0; tuple && i < plan->sites; i++) {
		PyObject *site = Py_BuildValue("(IIIO)", plan->site[i].begin, plan->site[i].end, plan->site[i].depth, plan->site[i].sure ? Py_True : Py_False);
		if (!site)
			Py_CLEAR(tuple);
		else
			PyTuple_SET_ITEM(tuple, i, site);
	}
	return tuple;
}

static PyObject *statements_tuple(const struct lw_lazy_plan *plan)
{
	PyObject *tuple = PyTuple_New(plan->statements);
	for (uint32_t i = 0; tuple && i < plan->statements; i++) {
		const struct lw_lazy_statement *s = &plan->statement[i];
		PyObject *statement = Py_BuildValue("(IIIIOOO)", s->begin, s->import, s->end, s->level, s->module, s->binds, s->as ? Py_True : Py_False);
		if (!statement)
			Py_CLEAR(tuple);
		else
			PyTuple_SET_ITEM(tuple, i, statement);
	}
	return tuple;
}

/* Put (code, sites) of the code within CODE into LIST. 0, -1. */
static int list_sites(PyCodeObject *code, lw_lazy_names *names, PyObject *list)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts); i++) {
		PyObject *inner = PyTuple_GET_ITEM(code->co_consts, i);
		struct lw_lazy_plan plan;
		if (!PyCode_Check(inner))
			continue;
		if (lw_lazy_sites((PyCodeObject *)inner, names, &plan) < 0)
			return -1;
		PyObject *pair = plan.sites ? Py_BuildValue("(ON)", inner, sites_tuple(&plan)) : NULL;
		int result = pair ? PyList_Append(list, pair) : plan.sites ? -1 : 0;
		Py_XDECREF(pair);
		lw_lazy_plan_clear(&plan);
		if (result < 0 || list_sites((PyCodeObject *)inner, names, list) < 0)
			return -1;
	}
	return 0;
}

PyObject *lw_lazy_plan_of(PyObject *module, PyObject *code)
{
	(void)module;
	struct lw_lazy_plan plan;
	lw_lazy_names *names;
	if (!PyCode_Check(code))
		return PyErr_Format(PyExc_TypeError, "a code object is wanted, not %.100s", Py_TYPE(code)->tp_name);
	int result = lw_lazy_analyse((PyCodeObject *)code, &plan, &names);
	if (result <= 0)
		return result < 0 ? NULL : Py_NewRef(Py_None);
	PyObject *list = PyList_New(0), *pair = list ? Py_BuildValue("(ON)", code, sites_tuple(&plan)) : NULL, *all = NULL;
	if (pair && PyList_Append(list, pair) == 0 && list_sites((PyCodeObject *)code, names, list) == 0)
		all = Py_BuildValue("(ONO)", names, statements_tuple(&plan), list);
	Py_XDECREF(pair);
	Py_XDECREF(list);
	Py_DECREF(names);
	lw_lazy_plan_clear(&plan);
	return all;
}
