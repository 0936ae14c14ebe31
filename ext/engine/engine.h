/* SPDX-License-Identifier: MIT */
/*
 * engine: what the parts of ladewerk._engines share. That extension is loaded by whoever asks for an import engine, and by nobody else.
 *
 *   engines.c   the module, put together from its parts; what it keeps per interpreter
 *   core.c      the type Engine: one import state
 *   current.c   which engine the running code belongs to
 *   router.c    the interpreter's modules dictionary and bootstrap functions, which answer for the current engine
 *   mirror.c    an engine's own sys module
 *   guard.c     rules: may this importer have that module?
 *   single.c    what a C module is, and which object of a single-phase module its C code finds
 *
 * How the running code is known: every engine has its own `builtins` module; module bodies of an engine run with its dictionary, so every function that they
 * define carries it, whoever calls it, whenever. Under the key `state->key` the dictionary leads to the engine.
 *
 * What an engine consists of is made in Python (ladewerk._engine._loading); here are the places where CPython's C code must be led to it.
 *
 * Threads: under the GIL it protects the plain fields. In free-threaded builds the fields marked (once) are written before the object is shown to anybody; the fields of an
 * engine are under its critical section, in which CPython sets members, and read by lw_field(); those that say so, under the module's critical section or the mutex.
 */
#ifndef LW_ENGINE_H
#define LW_ENGINE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "../sections.h"

typedef struct lw_engine lw_engine;

/** What the extension keeps for one interpreter: the state of its module. */
typedef struct lw_engines {
	PyObject *module;		/* borrowed: the state lives in it */
	PyTypeObject *engine_type, *router_type;
	PyObject *key;			/* (once) interned: where a dictionary of builtins leads to its engine */
	PyObject *context;		/* (once) ContextVar: (engine, what it was before) of `with engine:`, or None */
	PyObject *builtins;		/* (once) the dictionary of the interpreter's own builtins */
	PyObject *bootstrap, *external;	/* (once) the dictionaries of the interpreter's own import machinery */
	lw_mutex routing;		/* held by who leads imports to us */
	PyObject *modules;		/* the interpreter's modules dictionary; NULL until it is routed; under the mutex */
	PyObject *find_and_load, *wait;	/* what was in the place of the dispatchers; under the module's critical section */
	PyObject *dispatch_load, *dispatch_wait;	/* (once) */
	PyObject *real_sys;		/* (once) the interpreter's own */
	PyObject *own_names;		/* (once) frozenset: what is an engine's own in its sys, and not mirrored */
	PyObject *mirrors;		/* list of weak references to engines' sys modules */
	_Atomic bool entered;		/* `with engine:` was used: the context must be asked */
	bool sees;			/* there is a watcher, see mirror.c; 3.12 and newer; both under the module's critical section */
	int watcher;			/* of the dictionaries of sys modules; 3.12 and newer */
} lw_engines;

/**
 * One import state. Its source of truth are Python objects: `path`, `meta_path`, `path_hooks`, `path_importer_cache` are names in `sys`, as they are in the
 * interpreter's own sys. Fields are NULL until the state was made and after close().
 */
struct lw_engine {
	PyObject_HEAD
	PyObject *modules;		/* dict, or a subtype of it: sys.modules */
	PyObject *sys, *builtins, *imp;	/* modules of its own */
	PyObject *bootstrap, *external;	/* its own copies of _frozen_importlib and _frozen_importlib_external: functions that run with its builtins and its sys */
	PyObject *find_and_load;	/* called (name, import_) in place of the bootstrap's */
	PyObject *wait;			/* called (name) in place of the bootstrap's _lock_unlock_module */
	PyObject *guard;		/* rules, asked before a module is handed out; NULL or None: none */
	PyObject *dict, *weaklist;
};

/** What is in FIELD of OBJECT, which another thread may set at this moment under the critical section of OBJECT: a new reference or NULL. */
static inline PyObject *lw_field(PyObject *object, PyObject **field)
{
	PyObject *value;
	Py_BEGIN_CRITICAL_SECTION(object);
	value = Py_XNewRef(*field);
	Py_END_CRITICAL_SECTION();
	return value;
}

lw_engines *lw_engines_of(PyObject *module);
/** The state for an object of a type of ours (Engine, the router, their subclasses); NULL without an exception once the module is gone. */
lw_engines *lw_engines_of_type(PyTypeObject *type);

/**
 * The engine that the running code belongs to; NULL: the interpreter's own state. Borrowed (the running frame or the context holds it). Never fails, raises nothing. See
 * current.c for the rules. Any thread that holds the interpreter.
 */
lw_engine *lw_engine_current(lw_engines *state);

/**
 * Lead the interpreter's modules dictionary and bootstrap functions to the current engine. Done once, by the first engine, and never undone: without an engine they
 * answer as before. 0, -1.
 */
int lw_route(lw_engines *state);

/** May the running code have module NAME (str)? 0; -1 with an ImportError that says which rule forbids it. Asked for `import` of a module that is there, and of one that is not. */
int lw_engine_guard(lw_engine *engine, PyObject *name);

/* --- for the other extensions --- */

#define LW_ENGINES_API "ladewerk._engines._api"
/** Behind the capsule `_engines._api`: for ladewerk._native, which looks it up when an engine is made. */
struct lw_engines_api {
	lw_engines *state;	/* valid while the module lives: hold it */
	lw_engine *(*current)(lw_engines *state);
};

/* What each part adds to the module: 0, or -1 with an exception. */
int lw_engines_add_core(PyObject *module);
int lw_engines_add_current(PyObject *module);
int lw_engines_add_router(PyObject *module);
int lw_engines_add_mirror(PyObject *module);
int lw_engines_add_single(PyObject *module);

#endif
