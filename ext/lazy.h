/* SPDX-License-Identifier: MIT */
/*
 * lazy: import statements that import when what they bind is first used, in programs that know nothing of it (`ladewerk run --lazy`), on 3.11 to 3.14 with a GIL.
 *
 *   lazy_names.c   which import statements of a module may wait, and which loads may meet a name that waits
 *   lazy_emit.c    the code of a module with what these need: nothing in it is moved, all is appended; lazy_tables.c: its tables
 *   lazy.c         what arms the code of a module, and switches all of it on and off
 *   lazy_scope.c   the names that wait in a dictionary; lazy_statement.c: registered by statements; lazy_resolve.c: resolved by loads and others; lazy_census.c: for the report
 *   lazy_language.c  the lazy imports that the language has from 3.15 on
 *   lazy_fork.c    forks, which wait for what other threads are resolving
 *   lazy_hooks.c   readers from outside: attributes of modules, dir(), globals(), eval(), frames; tracing
 *   lazy_below.c   submodules that would be attributes of their package by now
 *   lazy_underway.c  but for what stock Python would have executed later, as a package is being imported
 *   lazy_foretold.c  submodules that would be bound in their package by now, and what was bound over them
 *   lazy_asker.c   what they want of the dictionary of a module: the instructions that follow, or functions of the standard library that are known
 *   lazy_policy.c  whether an import may wait: modes, rules
 *   lazy_project.c   what a project's pyproject.toml says of it
 *   lazy_settings.c  what is asked for, by whom
 *
 * The code. A statement that may wait is led to a block behind the code of the module:
 *
 *     statement:   LOAD_CONST level        becomes   JUMP_FORWARD block
 *                  LOAD_CONST fromlist               NOPs
 *                  IMPORT_NAME ...                   NOPs
 *     block:       LOAD_CONST <statement>; if it is true (3.13 and later: TO_BOOL first), jump over the next; the statement as it was; jump behind where it was
 *
 * where <statement> is a constant: b"" as the code is stored, so that the statement imports as ever; an object of ours once lw_lazy_arm() has seen to it:
 * asked whether it is true, it registers the names, or says no, and the statement imports as ever. (b"" and no number: marshal writes what it does not know, but can
 * read as a buffer, as bytes, and so both constants of ours as what they were.)
 *
 * A load (LOAD_GLOBAL, LOAD_NAME) of such a name raises NameError while the name waits: it is not in the dictionary of the module. Each of these loads has an
 * entry in the exception table of its own, whose handler lies behind the code:
 *
 *     handler:     COPY 1; LOAD_CONST <pending>; COMPARE_OP ==; if true, pop all and jump to the load again (3.12: load here, and jump behind the load); else RERAISE 1
 *
 * <pending> is b"" as stored, which equals no exception; then an object of ours that imports what the name waits for, binds it and equals the exception, or does not
 * equal it: no name of ours. Nothing is written into code that runs, a load that succeeds costs nothing, and specialises as ever; any number of
 * threads may be in a handler. The handled exception (sys.exc_info()) is never touched, as there is no PUSH_EXC_INFO. A NameError that is raised on has one entry for the
 * frame in its traceback, with the place of the load: the handler has its position, and RERAISE adds none.
 *
 * So the code is ordinary code. What marshal or pickle make of it, armed or not, imports eagerly wherever it goes.
 *
 * Threads: with the GIL. Resolving takes the lock of the module that is imported and no other.
 */
#ifndef LW_EXT_LAZY_H
#define LW_EXT_LAZY_H

#include "state.h"
#include <limits.h>

/* Part of the key of the store: transformed code lies beside the code of eager programs, under another key. Changes with the form of the code. */
enum { LW_LAZY_FORMAT = 1 };

/** The version this is built for has a transformation: 3.11 to 3.14 with a GIL. Whether the interpreter is the one, its magic number says at run time. */
#if PY_VERSION_HEX < 0x030f0000 && !defined(Py_GIL_DISABLED)
#define LW_LAZY_BUILT 1
#else
#define LW_LAZY_BUILT 0
#endif

/* --- the code: pure functions of a code object, no state --- */

/** A load of a name that may wait. In code units (2 bytes) from the beginning of the code. */
struct lw_lazy_site {
	uint32_t begin;		/* of the load, its EXTENDED_ARGs included; the handler jumps back to it, on 3.12 to the end. LOAD_FROM_DICT_OR_GLOBALS: of the load of the dictionary before it */
	uint32_t end;		/* behind its inline caches */
	uint32_t depth;		/* of the value stack before it, as in the exception table */
	bool sure;		/* another load of the name has come before it, whatever way led here: it finds what that one has, and needs no handler */
};

/** A statement that may wait. */
struct lw_lazy_statement {
	uint32_t begin;		/* of the LOAD_CONST (or LOAD_SMALL_INT) of the level, its EXTENDED_ARGs included: the line's first instruction but for NOPs */
	uint32_t import;	/* of the IMPORT_NAME, its EXTENDED_ARGs included: everything from begin to here is the two loads */
	uint32_t end;		/* behind the statement, where whoever registers it goes on */
	uint32_t level;
	PyObject *module;	/* borrowed from co_names: what IMPORT_NAME names, relative if level > 0 */
	PyObject *binds;	/* strong: tuple of pairs (attribute or None, name). `import a`, `import a.b`: ((None, 'a'),); `import a.b as c`: ((None, 'c'),) with
				   as = true; `from a import b, c as d`: (('b', 'b'), ('c', 'd')) */
	bool as;		/* `import a.b as c`, `import a as c`: the name is bound to the module itself, not to its first part */
};

/** What is appended to one code object. */
struct lw_lazy_plan {
	struct lw_lazy_site *site;		/* in order; NULL: none */
	uint32_t sites;
	struct lw_lazy_statement *statement;	/* in order; of the module's own code only */
	uint32_t statements;
};

/** This interpreter is one whose code is understood, by its magic number. */
bool lw_lazy_verified(void);

/** The names of a module that may wait, as a set of str. */
typedef PyObject lw_lazy_names;

/**
 * lazy_names.c. What may wait in the module CODE (rules: see there): *PLAN for the module's own code, *NAMES a new reference. 1; 0: nothing may; -1 exception.
 */
int lw_lazy_analyse(PyCodeObject *code, struct lw_lazy_plan *plan, lw_lazy_names **names);
/** The loads of NAMES in CODE, one within a module: as above. *PLAN may come out empty. 0 or -1. */
int lw_lazy_sites(PyCodeObject *code, lw_lazy_names *names, struct lw_lazy_plan *plan);
void lw_lazy_plan_clear(struct lw_lazy_plan *plan);
/**
 * Method of _native, for tests: what may wait in the code of a module. None: nothing; else (names, statements as (begin, import, end, level, module, binds, as), a list
 * of (code, its sites as (begin, end, depth, sure)), the module's own first, others where they have any).
 */
PyObject *lw_lazy_plan_of(PyObject *module, PyObject *code);

/**
 * lazy_emit.c. CODE, that of a module, made ready: a new code object whose last constant is the description
 *
 *     ("ladewerk.lazy", LW_LAZY_FORMAT, statements, tree)
 *     statements: tuple of (slot, level, module, binds, as, line), slot an index into the module's co_consts, whose item is b""
 *     tree: (slot of <pending> or -1, ((index into co_consts, tree of that code), ...)): of the module's code and, within it, those that have sites
 *
 * both of nothing (an empty tuple, -1) where nothing may wait, or something about it is unusual. CODE itself (a new reference) if it is ready, or cannot be made so.
 * NULL with an exception: MemoryError, and nothing else.
 */
PyObject *lw_lazy_transform(PyObject *code);
/** Method of _native, for tests and tools: the same. */
PyObject *lw_lazy_transform_method(PyObject *module, PyObject *code);

/* --- rules: lazy_policy.c; no Python object, so that threads and interpreters may share one --- */

/** "default" (or "1", ""), "own", "all", "0": false for anything else. */
bool lw_lazy_parse_mode(const char *text, enum lw_lazy_mode *mode);
/**
 * RULES: lines (see lazy_rules.txt), later ones win; ROOTS: absolute directories of the user's own code, NULL at the end (for `own`). NULL without memory, or with
 * REASON (SIZE bytes) saying which line cannot be understood.
 */
lw_lazy_policy *lw_lazy_policy_create(enum lw_lazy_mode mode, const char *rules, const char *const *roots, char *reason, size_t size);
void lw_lazy_policy_destroy(lw_lazy_policy *policy);
/** What IMPORTER (its absolute name; FILE: its __file__) may do at all. Once per module. */
struct lw_lazy_importer {
	bool never;	/* all its imports are eager */
	bool own;	/* it is the user's own */
};
struct lw_lazy_importer lw_lazy_policy_importer(const lw_lazy_policy *policy, const char *importer, const char *file);
/** Whether IMPORTER's import of the absolute name TARGET may wait. NAME: what a from-import takes of it, or NULL. */
bool lw_lazy_policy_allows(const lw_lazy_policy *policy, const char *importer, struct lw_lazy_importer what, const char *target, const char *name);
/** Of a from-import some names of which may wait and some may not, those that may do. Else none does. */
bool lw_lazy_policy_takes_apart(const lw_lazy_policy *policy);
/** TARGET, of which a from-import takes NAME (or NULL), is one whose importers are wholly eager: they have their bytecode read, or register what they import. */
bool lw_lazy_policy_taints(const lw_lazy_policy *policy, const char *target, const char *name);
/** Next to never true: TARGET, or something below it, may be one. */
bool lw_lazy_policy_may_taint(const lw_lazy_policy *policy, const char *target);
/** A rule without its comment, LEN bytes: NULL, or what is wrong with it. */
const char *lw_lazy_wrong_rule(const char *line, size_t len);

/* --- what is asked for: lazy_project.c, lazy_settings.c --- */

enum { LW_LAZY_REASON = 4096 + 512 };

/** What a pyproject.toml says. */
struct lw_lazy_project {
	bool there;			/* it has the table [tool.ladewerk.lazy] */
	bool has_mode;			/* and in it, a mode, */
	enum lw_lazy_mode mode;		/* which is this one */
	char *rules;			/* lines, those of `include` behind those of `exclude`; of the project */
	char reason[LW_LAZY_REASON];	/* what is wrong, with its line; then nothing else counts. "" */
};
/** Always followed by lw_lazy_project_clear(). No Python object; any thread. */
void lw_lazy_project_parse(const char *text, struct lw_lazy_project *project);
void lw_lazy_project_clear(struct lw_lazy_project *project);

/** What this process is asked for. */
struct lw_lazy_settings {
	enum lw_lazy_mode mode;		/* LW_LAZY_OFF: nothing waits, */
	char reason[LW_LAZY_REASON];	/* and why, where it was asked for; "": it was not */
	lw_lazy_policy *policy;		/* NULL if OFF; of whoever asked: lw_lazy_policy_destroy() */
	char by[PATH_MAX];		/* who says the mode: a variable or a file; "": nobody */
	char project[PATH_MAX];		/* the pyproject.toml that counts, or cannot be understood; or "" */
};
/** From the environment (unless !USE_ENV), `ladewerk enable` and the project of the current directory. 0; -1 with an exception. Reads a few small files; once per process. */
int lw_lazy_settings_find(lw_state *state, bool use_env, struct lw_lazy_settings *settings);

/** The shipped rules and no others, in the mode that allows most: for what is made for everybody. Of the caller; NULL without memory. */
lw_lazy_policy *lw_lazy_shipped(void);

/** Methods of _native, for the command line and for tests, see lazy_settings.c. */
PyObject *lw_lazy_ask(PyObject *module, PyObject *args);
PyObject *lw_lazy_read_project(PyObject *module, PyObject *argument);
PyObject *lw_lazy_describe(PyObject *module, PyObject *use_env);

/* --- at run time: lazy.c, lazy_resolve.c, lazy_fork.c, lazy_census.c --- */

/** What the environment asks for (LADEWERK_LAZY and the rules): at install(). 0 or -1; what cannot be done is said by state->lazy.reason. */
int lw_lazy_begin(lw_state *state, bool use_env);
/** Once begun: nothing waits after all, WHY. 0 or -1. */
int lw_lazy_refuse(lw_state *state, const char *why);
/** uninstall(): names that wait go on to do so; nothing new waits. */
void lw_lazy_end(lw_state *state);
/** The state goes. */
void lw_lazy_clear(lw_state *state);
int lw_lazy_traverse(lw_state *state, visitproc visit, void *arg);
/** For stats(): a dict, or NULL. */
PyObject *lw_lazy_stats(lw_state *state);
/** Transformed code is wanted: the key of the store says so. */
static inline bool lw_lazy_is_on(const struct lw_lazy *lazy) { return LW_LAZY_BUILT && lazy->mode != LW_LAZY_OFF; }

/**
 * Before CODE (transformed, fresh from its stored form, and nobody else's) is executed as the body of MODULE: put objects into its constants. Without it the body
 * imports eagerly. 0 or -1.
 */
int lw_lazy_arm(lw_state *state, PyObject *code, PyObject *module, PyObject *name, PyObject *file);
/** CODE was made ready by lw_lazy_transform(), and in the form of today. */
bool lw_lazy_is_ready(PyObject *code);
/** From now on forks wait for names that other threads resolve: lazy_fork.c. Once is enough, for all interpreters. 0 or -1. */
int lw_lazy_watch_forks(void);
/** The module NAME (str) with CODE is below something whose importers are wholly eager, down to their bytecode, or imports it. No exception. */
bool lw_lazy_is_tainted(const lw_lazy_policy *policy, PyObject *code, PyObject *name);
/** The code of module NAME from PATH is to be made ready: lazy imports are on, and the policy has not all of its imports eager. No exception. */
bool lw_lazy_makes(const lw_state *home, PyObject *name, PyObject *path);
/** This thread is traced, or somebody has asked for tracing. */
bool lw_lazy_is_traced(const lw_state *state);

/** NAME waits in DICT, and is not in it: 1, 0, -1. */
int lw_lazy_waits(lw_state *state, PyObject *dict, PyObject *name);
/** Resolve it: what it is by now (new reference), bound in DICT; NULL with an exception, or without: it does not wait. May run any code. */
PyObject *lw_lazy_resolve(lw_state *state, PyObject *dict, PyObject *name);
/** Resolve all that waits in DICT; the first exception ends it if STRICT, else what cannot be imported goes on waiting. 0 or -1. */
int lw_lazy_resolve_all(lw_state *state, PyObject *dict, bool strict);
/** Those that are mentioned in CODE, or in what is within it, or in the text SOURCE (either may be NULL). 0 or -1. */
int lw_lazy_resolve_mentioned(lw_state *state, PyObject *dict, PyObject *code, PyObject *source);
/** Something waits in DICT. Raises nothing, and is cheap: every attribute of a module that is not found where it was last time asks. */
bool lw_lazy_any(const lw_state *state, PyObject *dict);
/** Resolve all that waits anywhere; what cannot be imported goes on waiting. 0 or -1. */
int lw_lazy_resolve_everywhere(lw_state *state);
/** Names that wait in DICT, a new list, or NULL. */
PyObject *lw_lazy_names_in(lw_state *state, PyObject *dict);
/**
 * Submodule CHILD of the module with dictionary DICT was imported: whether it is to be bound there. 0: the name waits for something else, which stock would have bound
 * by now. 1: yes (a name that waits for this very module waits no longer). -1.
 */
int lw_lazy_binds_child(lw_state *state, PyObject *dict, PyObject *child, PyObject *module);
/** CHILD waits in DICT, for what has nothing to do with the submodule of that name. 1, 0, -1. */
int lw_lazy_has_rival(lw_state *state, PyObject *dict, PyObject *child);
/**
 * lazy_foretold.c. A statement that imports the module ABSOLUTE is about to wait: the submodules that it would bind, of packages that are loaded, are noted. 1; 0: it may
 * not wait, since it would bind one over what is there now; -1.
 */
int lw_lazy_foretell(lw_state *state, PyObject *absolute);
/** Submodule FULL, CHILD of the module with dictionary DICT, was imported: what is there under its name came after the statement that would have bound it. 1, 0, -1. */
int lw_lazy_came_after(lw_state *state, PyObject *dict, PyObject *full, PyObject *child);
/** The same submodule is about to be loaded: what CHILD waits for, and stock would have imported by now, is imported first, so that the submodule is bound over it. 0 or -1. */
int lw_lazy_before_child(lw_state *state, PyObject *dict, PyObject *child);
/** importlib itself has imported NAME, MODULE (stolen; NULL: it failed), and bound it in its parent, whatever waits there: put right. MODULE, or NULL with an exception. */
PyObject *lw_lazy_after_stock(lw_state *state, PyObject *name, PyObject *module);
/**
 * Method of _native: every name that was registered, in order: list of (importer, file, line, module, attribute or None, name, state, user's file or None, user's
 * line, ns), state one of "waits", "resolved", "overwritten", "failed". While lazy.recording.
 */
PyObject *lw_lazy_census(PyObject *module, PyObject *unused);

/* --- lazy_statement.c, lazy_below.c --- */

/** Module NAME, by its absolute name, can be imported: as far as can be told without executing anything. Raises nothing. */
bool lw_lazy_is_there(lw_state *state, PyObject *name);
/**
 * MODULE has no attribute NAME: if it is a package, and its own imports, which wait, would have loaded a submodule of that name by now, that is loaded: a new reference. NULL,
 * perhaps with an exception that is no Exception. May run any code.
 */
PyObject *lw_lazy_submodule(lw_state *state, PyObject *module, PyObject *name);

/* --- lazy_asker.c --- */

/** How the dictionary of a module gets to Python code. */
enum lw_door { LW_DOOR_DICT, LW_DOOR_FUNCTION, LW_DOOR_FRAME, LW_DOOR_LOCALS, LW_DOOR_CALL };	/* m.__dict__, f.__globals__, frame.f_globals, frame.f_locals, globals() and locals() */
/** What the running code wants of it. */
struct lw_asked {
	enum { LW_ASKED_ALL, LW_ASKED_STAR, LW_ASKED_NOTHING, LW_ASKED_NAME, LW_ASKED_TEXT } what;	/* STAR: all, and what cannot be had is an error */
	PyObject *of;	/* strong; NAME: the name; TEXT: the names are in this str; else NULL or anything */
};
/** Asked from within what is called by the running code. Raises nothing. */
struct lw_asked lw_lazy_asked(enum lw_door door);
/** importlib asks whether a package has an attribute: if not, it imports it. */
bool lw_lazy_asked_by_importlib(void);

/* --- lazy_hooks.c; from 3.15 on lazy_language.c: the language's own lazy imports, led by the same rules --- */

/**
 * Put in place what readers from outside meet. 0, or -1 with an exception; an interpreter with other parts than those known: 0, the mode is OFF and
 * lazy.reason says why. Once per interpreter until lw_lazy_hooks_end(), which takes them out: when the state goes, since names go on waiting after uninstall().
 */
int lw_lazy_hooks_begin(lw_state *state);
void lw_lazy_hooks_end(lw_state *state);

#endif
