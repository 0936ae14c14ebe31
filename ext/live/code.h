/* SPDX-License-Identifier: MIT */
/*
 * code: a code object's bytecode, decoded as far as imports need it: edges.c asks when an import happens, statements.c what it binds. Nothing is executed.
 *
 *     struct body body;
 *     lw_body_read(&body, ops, code)   instructions in order, with their arguments and where they jump to
 *     lw_body_flow(&body)              and what can be reached, and where exceptions lead
 *     lw_body_clear(&body)             in any case
 *
 * Code that no compiler has made (damaged, crafted) gives some instructions or a ValueError. A body belongs to one thread.
 */
#ifndef LW_LIVE_CODE_H
#define LW_LIVE_CODE_H

#include "live.h"

#include <stdbool.h>
#include <stdint.h>

/* *_SHIFTED: its argument has a flag below the name. LOCAL: a variable of a function; LOCAL_LAST: one of two, the one that is loaded last. */
enum act {
	OTHER, EXTEND, IGNORE, CONST, COMMON, SMALL_INT, NAME, NAME_SHIFTED, ATTRIBUTE, ATTRIBUTE_SHIFTED, LOCAL, LOCAL_LAST,
	IMPORT, FROM, STORE, CALL, RETURN, RAISE, GOTO, BRANCH
};

#define NOWHERE UINT32_MAX

/** What each opcode of this interpreter does, as far as we care. */
struct ops {
	uint8_t act[256];
	uint8_t caches[256];
	bool back[256];		/* it jumps backwards */
	bool if_false[256];
	uint32_t common_none;	/* the argument of LOAD_COMMON_CONSTANT that means None (3.15); NOWHERE: none does */
	unsigned import_shift;	/* of the name in the argument of IMPORT_NAME: 3.15 has flags below it */
};

struct step {
	uint32_t at, next;	/* in code units; caches belong to what is before them */
	uint32_t arg;
	uint32_t target;	/* of jumps */
	uint8_t op;
	bool reached;		/* without an exception; lw_body_flow() finds out */
};

struct body {
	const struct ops *ops;
	PyObject *code;		/* borrowed, as it is immutable */
	PyObject *bytes, *names, *consts;
	struct step *step;
	uint32_t steps, units;
	/* lw_body_flow(): */
	uint32_t *step_at;	/* of each unit; NOWHERE: none begins there */
	uint32_t *handler;	/* of each unit: where an exception leads; NOWHERE: out of the code */
	uint32_t *rejoin;	/* of each unit that is a handler: how far from it what is reached without an exception goes on; NOWHERE: not known yet */
	uint32_t *seen, *todo;	/* for searches: of each step, the last one that met it; room for three entries per step */
	uint32_t searches;
	uint64_t effort;	/* that may still be spent on them */
};

/** One for all interpreters of the process; never freed. NULL with an exception. */
const struct ops *lw_ops(void);

/** 0, or -1 with an exception. */
int lw_body_read(struct body *body, const struct ops *ops, PyObject *code);
int lw_body_flow(struct body *body);
void lw_body_clear(struct body *body);

/** How far an exception in STEP goes on; 0: it ends the code. */
uint32_t lw_body_rejoin(struct body *body, const struct step *step);

static inline enum act lw_body_act(const struct body *body, uint32_t step)
{
	return (enum act)body->ops->act[body->step[step].op];
}

/** The step before STEP that does something, or STEP itself: there is none. */
uint32_t lw_body_before(const struct body *body, uint32_t step);

/** What STEP loads, if that is a constant; the name that it loads, reads as an attribute, takes from a module or stores, if it does. Borrowed; NULL: none. */
PyObject *lw_body_const(const struct body *body, uint32_t step);
PyObject *lw_body_name(const struct body *body, uint32_t step);

/** Whether STEP loads something that is called so, or an attribute of that name. */
bool lw_body_loads(const struct body *body, uint32_t step, const char *text);

/** An import statement; borrowed. FROMLIST is None or a tuple of str. */
struct import {
	long level;
	PyObject *name, *fromlist;
	bool lazy;
};

/** Whether STEP, an IMPORT, is one that a compiler has made. */
bool lw_body_import(const struct body *body, uint32_t step, struct import *import);

/** Whether the code object INNER runs where it stands: the body of a class does, and what its type parameters live in. Functions do not. 1, 0, -1. */
int lw_code_runs_in_place(PyObject *inner);

#endif
