/* SPDX-License-Identifier: MIT */
/*
 * lazy_emit: the code of a module with what lazy imports need (lazy.h has the form). No instruction of the compiler's is moved, and what is not a statement that may wait
 * keeps its bytes: jumps, line numbers and exception handlers stay as they are. All else comes behind the code:
 *
 *     statement:   JUMP_FORWARD block, in its first bytes; NOPs in the others
 *     block:       LOAD_CONST <statement>; (TO_BOOL); if true, over the next; the statement, as it was;
 *                  the same of statements that follow it at once; JUMP_BACKWARD_NO_INTERRUPT behind where they were
 *     handler:     COPY 1; LOAD_CONST <pending>; COMPARE_OP ==; if false, to the last; POP_TOP; POP_TOP; JUMP_BACKWARD_NO_INTERRUPT to the load (3.12: the load, and behind
 *                  it); RERAISE 1
 *
 * A block has the places of its statement, and a handler that of its load, so that tracebacks and tracers see no more than a line they know. Handlers are
 * covered by what covers their load: an exception that they pass on goes where it would have gone. Below the exception is where it was raised (lasti), which RERAISE 1
 * makes the place of the frame again. No line of a program begins with such a stack: who sets frame.f_lineno in an `except` is not led into a handler of ours, which
 * has the line that he wants, and an exception on its stack.
 *
 * What cannot be done in this way (no entry of the exception table may begin or end within a load, say) is done to none of a module: it gets a description, of nothing.
 */
#include "lazy.h"

#include "lazy_tables.h"

#include <opcode.h>
#include <string.h>

#if LW_LAZY_BUILT

/* --- instructions of this version --- */

#if PY_VERSION_HEX < 0x030c0000
enum { IF_TRUE = POP_JUMP_FORWARD_IF_TRUE, IF_FALSE = POP_JUMP_FORWARD_IF_FALSE, IF_CACHES = 0 };
enum { EQUAL = Py_EQ, EQUAL_CACHES = 2 };
#else
enum { IF_TRUE = POP_JUMP_IF_TRUE, IF_FALSE = POP_JUMP_IF_FALSE, IF_CACHES = PY_VERSION_HEX < 0x030d0000 ? 0 : 1 };
/* Below the operator: which results of comparing numbers are wanted (8: equal); since 3.13, 16: as a bool. */
enum { EQUAL = PY_VERSION_HEX < 0x030d0000 ? Py_EQ << 4 | 8 : Py_EQ << 5 | 16 | 8, EQUAL_CACHES = 1 };
#endif

/* Of a variable: local, cell, free. Below: which arguments it takes (3.14), whether it is a comprehension's. */
enum { TO_BOOL_CACHES = 3, VARIABLE = 0xe0 };

/* Units of an instruction with ARG, without caches. */
static uint32_t units_of(uint32_t arg)
{
	return arg > 0xffffff ? 4 : arg > 0xffff ? 3 : arg > 0xff ? 2 : 1;
}

static void put_wide(struct lw_bytes *code, unsigned op, uint32_t arg, uint32_t units)
{
	for (unsigned shift = 8 * (units - 1); shift; shift -= 8) {
		lw_bytes_put(code, EXTENDED_ARG);
		lw_bytes_put(code, arg >> shift & 255);
	}
	lw_bytes_put(code, op);
	lw_bytes_put(code, arg & 255);
}

static void put(struct lw_bytes *code, unsigned op, uint32_t arg, unsigned caches)
{
	put_wide(code, op, arg, units_of(arg));
	for (unsigned i = 0; i < 2 * caches; i++)
		lw_bytes_put(code, CACHE);
}

/* Over DISTANCE units if what is on the stack is what OP says. */
static void put_branch(struct lw_bytes *code, unsigned op, uint32_t distance)
{
#ifdef NOT_TAKEN
	put(code, op, distance + 1, IF_CACHES);
	put(code, NOT_TAKEN, 0, 0);
#else
	put(code, op, distance, IF_CACHES);
#endif
}

/* What a jump from unit AT back to TARGET has for an argument: it counts from behind itself. */
static uint32_t back_from(uint32_t at, uint32_t target)
{
	uint32_t distance = at - target + 1;
	while (at + units_of(distance) - target != distance)
		distance++;
	return distance;
}

/* --- one code object in the making --- */

struct work {
	PyCodeObject *code;
	const struct lw_lazy_plan *plan;
	PyObject *bytes;		/* its code */
	uint32_t units;
	struct lw_place *place;		/* of each unit */
	struct lw_handled *handled;	/* its exception table */
	uint32_t handled_count;
	uint32_t slot;			/* of <pending>; those of statements follow it */
	uint32_t *handler;		/* where that of each site begins; and where the last one ends */
	int last_line;
	struct lw_bytes out, lines, table;
	bool unusual;
};

static uint32_t here(const struct work *work)
{
	return (uint32_t)(work->out.size / 2);
}

static void work_clear(struct work *work)
{
	Py_XDECREF(work->bytes);
	PyMem_Free(work->place);
	PyMem_Free(work->handled);
	PyMem_Free(work->handler);
	PyMem_Free(work->out.data);
	PyMem_Free(work->lines.data);
	PyMem_Free(work->table.data);
}

static bool read_handled(struct work *work)
{
	const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(work->code->co_exceptiontable), *end = at + PyBytes_GET_SIZE(work->code->co_exceptiontable);
	uint32_t from = 0;
	while (at < end) {
		struct lw_handled *entry = &work->handled[work->handled_count++];
		if (!lw_handled_take(&at, end, work->units, entry) || entry->begin < from)
			return false;
		from = entry->end;
	}
	return true;
}

/* 0, or -1 with an exception. Cleared in any case. */
static int work_read(struct work *work, PyCodeObject *code, const struct lw_lazy_plan *plan)
{
	*work = (struct work){ .code = code, .plan = plan, .bytes = PyCode_GetCode(code), .slot = (uint32_t)PyTuple_GET_SIZE(code->co_consts) };
	if (!work->bytes)
		return -1;
	work->units = (uint32_t)(PyBytes_GET_SIZE(work->bytes) / 2);
	work->place = PyMem_Malloc(((size_t)work->units + 1) * sizeof(*work->place));
	work->handled = PyMem_Malloc(((size_t)PyBytes_GET_SIZE(code->co_exceptiontable) + 1) * sizeof(*work->handled));
	work->handler = PyMem_Malloc(((size_t)plan->sites + 1) * sizeof(*work->handler));
	if (!work->place || !work->handled || !work->handler) {
		PyErr_NoMemory();
		return -1;
	}
	work->unusual = !read_handled(work) || !lw_places_read(code, work->place, work->units, &work->last_line);
	lw_bytes_copy(&work->out, PyBytes_AS_STRING(work->bytes), 2 * (size_t)work->units);
	lw_bytes_copy(&work->lines, PyBytes_AS_STRING(code->co_linetable), (size_t)PyBytes_GET_SIZE(code->co_linetable));
	return 0;
}

/* The units put since FROM stand at PLACE. */
static void placed(struct work *work, uint32_t from, struct lw_place place)
{
	lw_places_put(&work->lines, place, here(work) - from, &work->last_line);
}

/* --- statements --- */

/* STATEMENT becomes a jump to BLOCK. */
static void put_lead(struct work *work, const struct lw_lazy_statement *statement, uint32_t block)
{
	struct lw_bytes lead = { .data = NULL };
	uint32_t size = 1;
	while (units_of(block - statement->begin - size) > size)
		size++;
	put_wide(&lead, JUMP_FORWARD, block - statement->begin - size, size);
	const uint32_t room = statement->end - statement->begin;
	if (lead.size > 2 * room || lead.failed || work->out.failed) {
		work->unusual = true;
	} else {
		unsigned char *at = work->out.data + 2 * (size_t)statement->begin;
		memcpy(at, lead.data, lead.size);
		for (size_t i = lead.size; i < 2 * room; i += 2) {
			at[i] = NOP;
			at[i + 1] = 0;
		}
	}
	PyMem_Free(lead.data);
}

static bool is_covered(const struct work *work, uint32_t begin, uint32_t end)
{
	for (uint32_t i = 0; i < work->handled_count; i++)
		if (work->handled[i].begin < end && work->handled[i].end > begin)
			return true;
	return false;
}

static void put_statement(struct work *work, const struct lw_lazy_statement *statement, uint32_t slot)
{
	const uint32_t block = here(work), size = statement->end - statement->begin;
	if (statement->begin >= statement->end || statement->end > work->units || is_covered(work, statement->begin, statement->end)) {
		work->unusual = true;
		return;
	}
	put(&work->out, LOAD_CONST, slot, 0);
#ifdef TO_BOOL
	put(&work->out, TO_BOOL, 0, TO_BOOL_CACHES);
#endif
	put_branch(&work->out, IF_TRUE, size);
	placed(work, block, work->place[statement->begin]);
	lw_bytes_copy(&work->out, PyBytes_AS_STRING(work->bytes) + 2 * (size_t)statement->begin, 2 * (size_t)size);
	for (uint32_t i = 0, next; i < size; i = next) {
		const struct lw_place *place = &work->place[statement->begin + i];
		for (next = i + 1; next < size && memcmp(place, &work->place[statement->begin + next], sizeof(*place)) == 0; next++)
			;
		lw_places_put(&work->lines, *place, next - i, &work->last_line);
	}
	put_lead(work, statement, block);
}

#if PY_VERSION_HEX < 0x030c0000
/* The instruction at UNIT: its operation, *ARG, and what comes behind it. */
static unsigned read_step(const struct work *work, uint32_t unit, uint32_t *arg, uint32_t *next)
{
	const unsigned char *code = (const unsigned char *)PyBytes_AS_STRING(work->bytes);
	for (*arg = 0; code[2 * unit] == EXTENDED_ARG && unit + 1 < work->units; unit++)
		*arg = (*arg | code[2 * unit + 1]) << 8;
	*arg |= code[2 * unit + 1];
	*next = unit + 1;
	return code[2 * unit];
}

/* Other imports, and constants: it does not jump, does not load a name, and has no caches. */
static bool is_plain(unsigned op)
{
	static const unsigned char plain[] = { NOP, LOAD_CONST, IMPORT_NAME, IMPORT_FROM, IMPORT_STAR, STORE_NAME, STORE_GLOBAL, SWAP, POP_TOP, RETURN_VALUE };
	return memchr(plain, (int)op, sizeof(plain));
}

/*
 * To go back to the line that one is on is an event of that line. So what the line has behind a statement is followed, and copied: until another line begins, or
 * statement NEXT (NULL: there is none). Where it goes on; what cannot be copied is unusual. WORK->UNITS: nowhere, it has returned.
 */
static uint32_t put_rest_of_line(struct work *work, uint32_t to, const struct lw_place *place, const struct lw_lazy_statement *next)
{
	while (to < work->units && work->place[to].line == place->line && !(next && next->begin == to)) {
		uint32_t arg, behind;
		const unsigned op = read_step(work, to, &arg, &behind);
		if (op == JUMP_FORWARD) {
			to = behind + arg;
			continue;
		}
		if (!is_plain(op) || is_covered(work, to, behind)) {
			work->unusual = true;
			return to;
		}
		const uint32_t from = here(work);
		lw_bytes_copy(&work->out, PyBytes_AS_STRING(work->bytes) + 2 * (size_t)to, 2 * (size_t)(behind - to));
		placed(work, from, work->place[to]);
		to = op == RETURN_VALUE ? work->units : behind;
	}
	return to;
}
#else
static uint32_t put_rest_of_line(struct work *work, uint32_t to, const struct lw_place *place, const struct lw_lazy_statement *next)
{
	(void)work, (void)place, (void)next;
	return to;
}
#endif

/* Statements that follow each other have one block. */
static void put_statements(struct work *work)
{
	const struct lw_lazy_plan *plan = work->plan;
	const uint32_t first = work->slot + (plan->sites > 0);
	for (uint32_t i = 0; i < plan->statements && !work->unusual; i++) {
		const struct lw_lazy_statement *next = i + 1 < plan->statements ? &plan->statement[i + 1] : NULL;
		put_statement(work, &plan->statement[i], first + i);
		if (work->unusual)
			return;
		const struct lw_place *place = &work->place[plan->statement[i].end - 1];
		const uint32_t to = put_rest_of_line(work, plan->statement[i].end, place, next), from = here(work);
		if (to >= work->units || (next && next->begin == to))
			continue;
		put(&work->out, JUMP_BACKWARD_NO_INTERRUPT, back_from(from, to), 0);
		placed(work, from, *place);
	}
}

/* --- loads --- */

/*
 * 3.12 takes what a jump leads to for the beginning of a line, and forgets which line it was on when a call returns: a load behind a call would begin its line
 * once more for whoever traces. There the handler has a load of its own, and leads behind the site: what runs before that is the load, always.
 */
enum { LOADS_ITSELF = PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030d0000 };

static void put_handler(struct work *work, const struct lw_lazy_site *site)
{
	const uint32_t begin = here(work), load = LOADS_ITSELF ? site->end - site->begin : 0;
	put(&work->out, COPY, 1, 0);
	put(&work->out, LOAD_CONST, work->slot, 0);
	put(&work->out, COMPARE_OP, EQUAL, EQUAL_CACHES);
	/* Behind the branch, which is short: POP_TOP, POP_TOP, the load, the jump. */
	uint32_t jump = here(work) + 1 + IF_CACHES + 2 + load;
#ifdef NOT_TAKEN
	jump++;
#endif
	const uint32_t distance = back_from(jump, LOADS_ITSELF ? site->end : site->begin);
	put_branch(&work->out, IF_FALSE, 2 + load + units_of(distance));
	put(&work->out, POP_TOP, 0, 0);
	put(&work->out, POP_TOP, 0, 0);
	lw_bytes_copy(&work->out, PyBytes_AS_STRING(work->bytes) + 2 * (size_t)site->begin, 2 * (size_t)load);
	put(&work->out, JUMP_BACKWARD_NO_INTERRUPT, distance, 0);
	put(&work->out, RERAISE, 1, 0);
	placed(work, begin, work->place[site->end - 1]);
}

static void put_handlers(struct work *work)
{
	uint32_t behind = 0;
	for (uint32_t i = 0; i < work->plan->sites; i++) {
		const struct lw_lazy_site *site = &work->plan->site[i];
		if (site->begin < behind || site->begin >= site->end || site->end >= work->units) {
			work->unusual = true;
			return;
		}
		behind = site->end;
		work->handler[i] = here(work);
		put_handler(work, site);
	}
	work->handler[work->plan->sites] = here(work);
}

/* --- exceptions --- */

/* What the compiler's table has for [BEGIN, END); *AT is the first entry that is not wholly before it. */
static void keep_handled(struct work *work, uint32_t begin, uint32_t end, uint32_t *at)
{
	while (*at < work->handled_count && work->handled[*at].end <= begin)
		(*at)++;
	for (uint32_t i = *at; i < work->handled_count && work->handled[i].begin < end; i++) {
		struct lw_handled entry = work->handled[i];
		entry.begin = Py_MAX(entry.begin, begin);
		entry.end = Py_MIN(entry.end, end);
		if (entry.begin < entry.end)
			lw_handled_put(&work->table, entry);
	}
}

/* What covers the load SITE, from *AT on; NULL: nothing does. */
static const struct lw_handled *around(struct work *work, const struct lw_lazy_site *site, uint32_t *at)
{
	while (*at < work->handled_count && work->handled[*at].end <= site->begin)
		(*at)++;
	const struct lw_handled *entry = *at < work->handled_count && work->handled[*at].begin < site->end ? &work->handled[*at] : NULL;
	if (entry && (entry->begin > site->begin || entry->end < site->end))
		work->unusual = true;
	return entry;
}

/* The entries of handlers: what covers their loads covers them, in one where it is the same for several that follow each other. */
static void cover_handlers(struct work *work)
{
	const uint32_t sites = work->plan->sites;
	uint32_t at = 0;
	for (uint32_t i = 0, next; i < sites; i = next) {
		const struct lw_handled *outer = around(work, &work->plan->site[i], &at);
		for (next = i + 1; next < sites && around(work, &work->plan->site[next], &at) == outer; next++)
			;
		if (outer)
			lw_handled_put(&work->table, (struct lw_handled){ work->handler[i], work->handler[next], outer->target, outer->depth, outer->lasti });
	}
}

static void put_table(struct work *work)
{
	uint32_t at = 0, from = 0;
	for (uint32_t i = 0; i < work->plan->sites; i++) {
		const struct lw_lazy_site *site = &work->plan->site[i];
		keep_handled(work, from, site->begin, &at);
		lw_handled_put(&work->table, (struct lw_handled){ site->begin, site->end, work->handler[i], site->depth, true });
		from = site->end;
	}
	keep_handled(work, from, work->units, &at);
	cover_handlers(work);
}

/* --- code objects --- */

static PyObject *bytes_of(const struct lw_bytes *bytes)
{
	return bytes->failed ? PyErr_NoMemory() : PyBytes_FromStringAndSize((const char *)bytes->data, (Py_ssize_t)bytes->size);
}

static int stack_size(const PyCodeObject *code, const struct lw_lazy_plan *plan)
{
	int size = code->co_stacksize;
	for (uint32_t i = 0; i < plan->sites; i++)
		size = Py_MAX(size, (int)plan->site[i].depth + 4);	/* where it was raised, the exception, twice, and <pending> */
	return size;
}

/*
 * The maker of code objects is not told all of what is known of variables, such as which are those of an inlined comprehension. They are to be the same in the
 * same order, and then what OLD says of them is right. False: they are not.
 */
static bool keep_variables(const PyCodeObject *old, PyCodeObject *made)
{
	const Py_ssize_t count = PyBytes_GET_SIZE(old->co_localspluskinds);
	if (PyObject_RichCompareBool(old->co_localsplusnames, made->co_localsplusnames, Py_EQ) != 1 || PyBytes_GET_SIZE(made->co_localspluskinds) != count)
		return false;
	const char *was = PyBytes_AS_STRING(old->co_localspluskinds), *is = PyBytes_AS_STRING(made->co_localspluskinds);
	for (Py_ssize_t i = 0; i < count; i++)
		if ((was[i] ^ is[i]) & VARIABLE)
			return false;
	Py_SETREF(made->co_localspluskinds, Py_NewRef(old->co_localspluskinds));
	return true;
}

/* OLD, but for what is given. NULL with an exception, or without: it cannot be made. */
static PyObject *make_code(PyCodeObject *old, PyObject *bytes, PyObject *consts, PyObject *lines, PyObject *table, int stacksize)
{
	PyObject *variables = PyCode_GetVarnames(old), *free = PyCode_GetFreevars(old), *cells = PyCode_GetCellvars(old);
	PyCodeObject *made = NULL;
	if (variables && free && cells && bytes && lines && table)
#if PY_VERSION_HEX < 0x030c0000
		made = PyCode_NewWithPosOnlyArgs(
#else
		made = PyUnstable_Code_NewWithPosOnlyArgs(
#endif
			old->co_argcount, old->co_posonlyargcount, old->co_kwonlyargcount, (int)PyTuple_GET_SIZE(variables), stacksize, old->co_flags, bytes, consts,
			old->co_names, variables, free, cells, old->co_filename, old->co_name, old->co_qualname, old->co_firstlineno, lines, table);
	if (made && !keep_variables(old, made))
		Py_CLEAR(made);
	Py_XDECREF(variables);
	Py_XDECREF(free);
	Py_XDECREF(cells);
	return (PyObject *)made;
}

/* CODE with what PLAN says appended, and with CONSTS. NULL as above. */
static PyObject *emit(PyCodeObject *code, const struct lw_lazy_plan *plan, PyObject *consts)
{
	struct work work;
	PyObject *made = NULL;
	if (work_read(&work, code, plan) < 0) {
		work_clear(&work);
		return NULL;
	}
	put_statements(&work);
	if (!work.unusual)
		put_handlers(&work);
	if (!work.unusual)
		put_table(&work);
	if (!work.unusual) {
		PyObject *bytes = bytes_of(&work.out), *lines = bytes_of(&work.lines), *table = bytes_of(&work.table);
		made = make_code(code, bytes, consts, lines, table, stack_size(code, plan));
		Py_XDECREF(bytes);
		Py_XDECREF(lines);
		Py_XDECREF(table);
	}
	work_clear(&work);
	return made;
}

/* --- a module, and the code within it --- */

/* Loads that cannot fail need nothing. */
static void drop_sure(struct lw_lazy_plan *plan)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < plan->sites; i++)
		if (!plan->site[i].sure)
			plan->site[kept++] = plan->site[i];
	plan->sites = kept;
}

static PyObject *transform_inner(PyCodeObject *code, lw_lazy_names *names, PyObject **tree);

/*
 * A list of the constants of CODE, those that are code transformed; WITHIN, a list, gets (index, tree) of each that is another now. NULL as above.
 */
static PyObject *transform_constants(PyCodeObject *code, lw_lazy_names *names, PyObject *within)
{
	PyObject *consts = PySequence_List(code->co_consts);
	for (Py_ssize_t i = 0; consts && i < PyList_GET_SIZE(consts); i++) {
		PyObject *inner = PyList_GET_ITEM(consts, i), *tree = NULL, *pair = NULL;
		if (!PyCode_Check(inner))
			continue;
		PyObject *made = transform_inner((PyCodeObject *)inner, names, &tree);
		const bool changed = made && made != inner;
		if (changed)
			pair = Py_BuildValue("(nO)", i, tree);
		const bool kept = made && (!changed || (pair && PyList_Append(within, pair) == 0));
		Py_XDECREF(pair);
		Py_XDECREF(tree);
		if (kept)
			PyList_SetItem(consts, i, made);
		else
			Py_CLEAR(consts);
		if (!kept)
			Py_XDECREF(made);
	}
	return consts;
}

/* Behind CONSTS: COUNT times b"". */
static int add_slots(PyObject *consts, uint32_t count)
{
	PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
	int result = empty ? 0 : -1;
	for (uint32_t i = 0; !result && i < count; i++)
		result = PyList_Append(consts, empty);
	Py_XDECREF(empty);
	return result;
}

static PyObject *tree_of(Py_ssize_t slot, PyObject *within)
{
	PyObject *inner = PyList_AsTuple(within), *tree = inner ? Py_BuildValue("(nO)", slot, inner) : NULL;
	Py_XDECREF(inner);
	return tree;
}

static PyObject *emit_with(PyCodeObject *code, const struct lw_lazy_plan *plan, PyObject *consts)
{
	PyObject *tuple = PyList_AsTuple(consts), *made = tuple ? emit(code, plan, tuple) : NULL;
	Py_XDECREF(tuple);
	return made;
}

/* CODE, within a module, and its *TREE; CODE itself: nothing in it loads NAMES. NULL as above. */
static PyObject *transform_inner(PyCodeObject *code, lw_lazy_names *names, PyObject **tree)
{
	struct lw_lazy_plan plan = { .site = NULL };
	PyObject *within = PyList_New(0), *consts = NULL, *made = NULL;
	if (!within || lw_lazy_sites(code, names, &plan) < 0 || !(consts = transform_constants(code, names, within)))
		goto done;
	drop_sure(&plan);
	if (!plan.sites && PyList_GET_SIZE(within) == 0) {
		made = Py_NewRef((PyObject *)code);
		goto done;
	}
	*tree = tree_of(plan.sites ? PyTuple_GET_SIZE(code->co_consts) : -1, within);
	if (*tree && add_slots(consts, plan.sites > 0) == 0)
		made = emit_with(code, &plan, consts);
done:
	lw_lazy_plan_clear(&plan);
	Py_XDECREF(within);
	Py_XDECREF(consts);
	return made;
}

/* What is known of the statements, for whoever registers them; the first has the constant FIRST. */
static PyObject *describe_statements(PyCodeObject *code, const struct lw_lazy_plan *plan, Py_ssize_t first)
{
	PyObject *all = PyTuple_New(plan->statements);
	for (uint32_t i = 0; all && i < plan->statements; i++) {
		const struct lw_lazy_statement *s = &plan->statement[i];
		PyObject *one = Py_BuildValue("(nIOOOi)", first + i, s->level, s->module, s->binds, s->as ? Py_True : Py_False, PyCode_Addr2Line(code, (int)(2 * s->begin)));
		if (one)
			PyTuple_SET_ITEM(all, i, one);
		else
			Py_CLEAR(all);
	}
	return all;
}

static PyObject *describe(PyCodeObject *code, const struct lw_lazy_plan *plan, PyObject *within)
{
	const Py_ssize_t slot = PyTuple_GET_SIZE(code->co_consts);
	PyObject *statements = describe_statements(code, plan, slot + (plan->sites > 0)), *tree = tree_of(plan->sites ? slot : -1, within), *description = NULL;
	if (statements && tree)
		description = Py_BuildValue("(siOO)", "ladewerk.lazy", LW_LAZY_FORMAT, statements, tree);
	Py_XDECREF(statements);
	Py_XDECREF(tree);
	return description;
}

static PyObject *transform_module(PyCodeObject *code, const struct lw_lazy_plan *plan, lw_lazy_names *names)
{
	PyObject *within = PyList_New(0), *consts = within ? transform_constants(code, names, within) : NULL;
	PyObject *description = consts ? describe(code, plan, within) : NULL, *made = NULL;
	if (description && add_slots(consts, (plan->sites > 0) + plan->statements) == 0 && PyList_Append(consts, description) == 0)
		made = emit_with(code, plan, consts);
	Py_XDECREF(description);
	Py_XDECREF(consts);
	Py_XDECREF(within);
	return made;
}

/* CODE with a description that says that nothing of it waits, so that nobody asks again. NULL as above. */
static PyObject *mark(PyCodeObject *code)
{
	const struct lw_lazy_plan none = { .site = NULL };
	PyObject *within = PyList_New(0), *consts = PySequence_List(code->co_consts), *made = NULL;
	PyObject *description = within && consts ? describe(code, &none, within) : NULL;
	if (description && PyList_Append(consts, description) == 0)
		made = emit_with(code, &none, consts);
	Py_XDECREF(description);
	Py_XDECREF(consts);
	Py_XDECREF(within);
	return made;
}

/* What could not be done, other than for want of memory, is no error. */
static bool forgive(void)
{
	const bool forgiven = !PyErr_ExceptionMatches(PyExc_MemoryError);
	if (forgiven)
		PyErr_Clear();
	return forgiven;
}

PyObject *lw_lazy_transform(PyObject *code)
{
	struct lw_lazy_plan plan;
	lw_lazy_names *names;
	PyObject *made = NULL;
	if (!lw_lazy_verified() || lw_lazy_is_ready(code))
		return Py_NewRef(code);
	if (lw_lazy_analyse((PyCodeObject *)code, &plan, &names) > 0) {
		drop_sure(&plan);
		made = transform_module((PyCodeObject *)code, &plan, names);
		lw_lazy_plan_clear(&plan);
		Py_DECREF(names);
	}
	if (!made && forgive())
		made = mark((PyCodeObject *)code);
	return made || !forgive() ? made : Py_NewRef(code);
}

#else

PyObject *lw_lazy_transform(PyObject *code)
{
	return Py_NewRef(code);
}

#endif

PyObject *lw_lazy_transform_method(PyObject *module, PyObject *code)
{
	(void)module;
	if (!PyCode_Check(code))
		return PyErr_Format(PyExc_TypeError, "a code object is wanted, not %.100s", Py_TYPE(code)->tp_name);
	return lw_lazy_transform(code);
}
