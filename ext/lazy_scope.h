/* SPDX-License-Identifier: MIT */
/*
 * lazy_scope: the names that wait in one dictionary, that of a module.
 *
 * A scope is made when a module is armed, and is the object in the place of <pending> in its code. Who keeps it: that code; and, while names wait, the table of the
 * interpreter, by the address of the dictionary, until the module is gone and nobody else has the scope. It keeps neither the module nor the dictionary: code is not
 * traversed by the garbage collector, so that what refers back to them from there would keep them for ever. So the address alone does not say that it is still
 * the dictionary it was: the module is asked, if it lives, else the __spec__ that the dictionary had (lw_scope_is_of()).
 *
 * No object here takes part in garbage collection: they refer to strings, tuples of these, and weak references.
 *
 * Threads: the GIL. Whoever calls something that runs code of others looks again afterwards.
 */
#ifndef LW_EXT_LAZY_SCOPE_H
#define LW_EXT_LAZY_SCOPE_H

#include "lazy.h"

/* A target: what a name waits for. A tuple, and what is at these places in it. */
enum {
	LW_TARGET_MODULE,	/* its absolute name */
	LW_TARGET_ATTRIBUTE,	/* of it, str; None: the module itself, */
	LW_TARGET_AS,		/* True: itself indeed (`import a.b as c`); False: the first part of its name (`import a.b`) */
	LW_TARGET_LINE,		/* of the statement */
	LW_TARGET_RECORD,	/* its place in the census, or -1 */
	LW_TARGET_ORDER,	/* how many names had been registered before */
	LW_TARGET_SIZE
};

/* A thread, and in which process: how many forks after the one that loaded us. */
struct lw_who {
	uint64_t thread;	/* a number of ours, not used again */
	uint64_t forks;
	uint64_t ident;		/* what importlib takes it for: one of its greenlets, where gevent has patched that; 0: it was not asked */
};

/* A name that is being resolved, and by whom. A name whose resolution asks for it again is not waited for. */
struct lw_busy {
	PyObject *name;		/* strong */
	struct lw_who who;
	struct lw_busy *next;
};

typedef struct {
	PyObject_HEAD
	PyObject *dict;		/* of the module: an address */
	PyObject *module, *spec;	/* weak references */
	PyObject *name, *file;	/* of the module */
	PyObject *waiting;	/* dict, in the order of registration: name -> tuple of targets, all of which are to be imported; the last is what is bound */
	PyObject *children;	/* dict: name -> address of a submodule that was bound under it while it was being resolved; or NULL */
	struct lw_busy *busy;
	struct lw_lazy_importer what;	/* the policy's word on the module */
} lw_scope;

/* What waits in an interpreter. */
struct lw_lazy_table {
	lw_scope **slot;	/* strong: the scopes in which names wait, by the addresses of their dictionaries */
	size_t room, used;	/* slots: a power of two, or none yet */
	PyObject *found;	/* dict: absolute name of a module that is there, though not loaded -> list of paths for its submodules, or None */
	PyObject *foretold;	/* dict: absolute name of a submodule -> weak reference to its package, in which its name was free (lazy_foretold.c) */
	PyObject *began;	/* dict: name of a module that may have statements that wait -> how many names had been registered when its body began */
	PyObject *import;	/* builtins.__import__, the stock one; NULL: it was not there any more */
	PyObject *census;	/* list of lists, see lw_lazy_census() */
	struct lw_look *looks;	/* lazy_below.c */
};

extern PyType_Spec lw_scope_spec, lw_statement_spec;

/** What WEAK, a weak reference, refers to: borrowed; NULL: it has gone, or WEAK is NULL. */
PyObject *lw_weak_referent(PyObject *weak);
/** The state behind an instance of ours; NULL (no exception): the extension has been torn down. */
lw_state *lw_scope_state(PyObject *self);
/** DICT is, still, the dictionary that the scope is of. STATE may be NULL. */
bool lw_scope_is_of(const lw_state *state, const lw_scope *scope, PyObject *dict);
/** That of its module, borrowed; NULL: the module has gone. */
PyObject *lw_scope_dict(const lw_scope *scope);
/** The scope of DICT in which names wait, or NULL: borrowed. No exception, a pending one stays. */
lw_scope *lw_scope_of(const lw_state *state, PyObject *dict);
/** Let go of all of them. */
void lw_scope_clear(struct lw_lazy_table *table);
/** NAME waits, and is not in DICT: its targets, borrowed; NULL: it does not. What was bound by others meanwhile waits no longer. No exception. */
PyObject *lw_scope_targets(lw_state *state, lw_scope *scope, PyObject *dict, PyObject *name);
/** Somebody resolves NAME. */
bool lw_scope_is_busy(const lw_scope *scope, PyObject *name);
/** This thread does. */
bool lw_scope_is_busy_here(lw_state *state, const lw_scope *scope, PyObject *name);
/** From now on NAME waits for TARGETS. 0 or -1. */
int lw_scope_register(lw_state *state, lw_scope *scope, PyObject *name, PyObject *targets);
/** It does not wait any more; HOW: for the census, or NULL. */
void lw_scope_forget(lw_state *state, lw_scope *scope, PyObject *name, const char *how);

/** What both kinds of constants are to marshal (a buffer is written as bytes), and to pickle and its kin: b"", as they are stored. */
int lw_scope_buffer(PyObject *self, Py_buffer *view, int flags);
PyObject *lw_scope_reduce(PyObject *self, PyObject *unused);
/** The statement, as a constant for the code of SCOPE's module: a new reference; NULL with an exception, or without: DESCRIPTION is not as in lw_lazy_transform(). */
PyObject *lw_statement_create(lw_state *state, lw_scope *scope, PyObject *description);

/** A load of NAME has failed in a frame whose globals are DICT: 1: it is there now; 0: it does not wait; -1. */
int lw_scope_load(lw_scope *scope, PyObject *dict, PyObject *name);
/** The pending exception, one that a module may end with, is let go of: true; any other stays. Also what says nothing about the module, as memory or the stack being at its end. */
bool lw_lazy_forgive(void);
/** Import all that NAME waits for, and bind it, whoever else is at it. What it is now: a new reference or NULL with an exception. */
PyObject *lw_scope_resolve(lw_state *state, lw_scope *scope, PyObject *dict, PyObject *name);

/* How many names had been registered before TARGET was. */
static inline uint64_t lw_target_order(PyObject *target)
{
	return PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(target, LW_TARGET_ORDER));
}

/** Module NAME is ABOVE, or below it. */
static inline bool lw_lazy_is_within(PyObject *name, PyObject *above)
{
	Py_ssize_t len = PyUnicode_GET_LENGTH(above);
	return PyUnicode_Tailmatch(name, above, 0, len, -1) > 0 && (PyUnicode_GET_LENGTH(name) == len || PyUnicode_READ_CHAR(name, len) == '.');
}

/* --- what is being imported meanwhile: lazy_underway.c --- */

struct lw_underway {
	PyObject *top;		/* the top-level package: strong, the caller's; NULL with an exception */
	bool native;		/* this thread initialises a module below it that is not written in Python: nothing below it is to be imported for whoever asks */
	uint64_t from, to;	/* what modules elsewhere have registered in between, by its order, comes after the statements that what is being initialised is imported by */
};
/** What this thread is importing below the top-level package of PACKAGE. 0, or -1 with an exception. */
int lw_lazy_underway(lw_state *state, PyObject *package, struct lw_underway *underway);
/** This thread imports something, whatever it is: 1, 0, -1. */
int lw_lazy_imports_here(lw_state *state);
/** What importlib takes for the number of this thread: with gevent, say, that of the greenlet. No exception. */
uint64_t lw_lazy_ident(lw_state *state);
/** Another thread imports module NAME: 1, 0, -1. */
int lw_lazy_is_others(lw_state *state, PyObject *name);
/** Stock Python would have executed by now the statement that has registered TARGET in SCOPE. */
bool lw_lazy_counts(const struct lw_underway *underway, const lw_scope *scope, PyObject *target);

/* --- forks, while threads resolve: lazy_fork.c --- */

/** Around what imports for a name. Begins: may wait, without the GIL; NULL (STATE is, or without memory) does no harm. No exception. */
struct lw_use *lw_use_begins(lw_state *state);
void lw_use_ends(struct lw_use *use);
/** STATE may be NULL, and then is when asked whether that is me. No exception. */
struct lw_who lw_who_am_i(lw_state *state);
bool lw_who_is_me(lw_state *state, struct lw_who who);
/** No fork has lost that thread. */
bool lw_who_is_alive(struct lw_who who);

/* --- the census, while it is wanted: lazy_census.c --- */

/** A new record: its place, or -1. No exception. */
Py_ssize_t lw_census_registered(lw_state *state, const lw_scope *scope, long line, PyObject *module, PyObject *attribute, PyObject *name);
/** What became of TARGET. BEGAN: time of lw_monotonic_ns() or 0. Keeps a pending exception. */
void lw_census_ended(lw_state *state, PyObject *target, const char *how, int64_t began);

#endif
