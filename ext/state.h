/* SPDX-License-Identifier: MIT */
/*
 * state: what the extension knows per interpreter, and the contracts between its files.
 *
 *   native.c     the module: methods, type, life cycle
 *   bootstrap.c  the stock import system: finding its parts, verifying them, noticing that they were patched
 *   paths.c      path lists (sys.path, __path__) as core views
 *   find.c       what PathFinder would find: hits, specs, proven misses; the finder object
 *   load.c       module, spec and loader objects; code; execution
 *   unmarshal.c  code objects from their marshalled form
 *   import.c     the function in the place of importlib._bootstrap._find_and_load
 *   inside.c     the same for an import engine: a state of its own over what the interpreter's state has found and the process has learnt
 *   watch.c      whether a dictionary has changed
 *   collector.c  the garbage collector while modules are imported
 *   observe.c    USDT probes, and the record behind `ladewerk run --report`
 *   told.c       who listens to imports (`ladewerk.on_import`)
 *   activate.c   install, uninstall, the session
 *   index.c      the Builder behind `ladewerk index`
 *   frozen.c     the FrozenBuilder behind `ladewerk index --frozen`
 *   canonical.c  one marshalled form of code, the same from every process
 *   lazy*.c      imports that wait until what they bind is used (lazy.h)
 *
 * Threads: Python objects here follow the interpreter's rules. Under the GIL it protects the plain fields; in free-threaded builds the
 * fields marked (once) are written by install() only, which takes turns with uninstall() and on_import() by the module's critical section, counters are relaxed atomics, and the caches are Python containers.
 */
#ifndef LW_EXT_STATE_H
#define LW_EXT_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "ioq.h"
#include "session.h"
#include "sections.h"
#include <stdatomic.h>

/* Reasons for stepping aside, in the order of their names in native.c. */
enum lw_aside {
	LW_ASIDE_PATCHED,	/* a stock class or function was replaced */
	LW_ASIDE_HOOKS,		/* sys.path_hooks is not the stock one (ahead of FileFinder) */
	LW_ASIDE_META_PATH,	/* our finder or PathFinder is not in sys.meta_path, or it is not a list */
	LW_ASIDE_MODULES,	/* sys.modules is not a dict */
	LW_ASIDE_PATH,		/* a path that is not a list of strings, or names something we do not answer for */
	LW_ASIDE_NAME,		/* a module name we do not answer for */
	LW_ASIDE_LEGACY,	/* a finder without find_spec */
	LW_ASIDE_ERROR,		/* an unexpected system error: stock looks itself */
	LW_ASIDE_INITIALIZING,	/* the module is being initialised (circular import, another thread) */
	LW_ASIDE_BUILTIN,	/* built-in or frozen: not path-based */
	LW_ASIDE_DEPTH,		/* imports nested so deep that the stock recursion limit must see them */
	LW_ASIDE_COUNT
};

enum lw_served {
	LW_SERVED_PACK,		/* executed from an index */
	LW_SERVED_PYC,		/* executed from a .pyc we read */
	LW_SERVED_COMPILED,	/* compiled, now learnt */
	LW_SERVED_STOCK_LOADER,	/* found by us, loaded by its stock loader (extensions, sourceless, hash-based .pyc) */
	LW_SERVED_NAMESPACE,
	LW_SERVED_MISS,		/* proven: PathFinder was not asked */
	LW_SERVED_SPEC,		/* find_spec() answered (importlib.util.find_spec, pkgutil, reload) */
	LW_SERVED_FOREIGN,	/* found by a finder ahead of or behind ours and not adopted, or by a foreign path hook */
	LW_SERVED_COUNT
};

/** How this interpreter's _find_and_load goes, beside what all versions share. */
struct lw_flavour {
	bool looks_again;	/* a module that is there is looked up again: a failing import may have removed it */
	bool copies_finders;	/* sys.meta_path is copied before they are asked; else what they do to it counts at once */
	bool none_is_absent;	/* in _find_and_load_unlocked, None in sys.modules counts as absent */
	bool waits_for_parent;	/* a parent that is being initialised is imported again, to wait for it */
	bool parents_first;	/* 3.15: audit event here, parents before the lock, deadlocks settled here */
	bool sets_cached;	/* modules get __cached__ */
};

enum { LW_COLLECTOR_LOW = -32 * 1024, LW_WATCHED = 3 };

/** The collector while modules are imported (collector.c). Under the GIL; free-threaded builds leave it alone. */
struct lw_collector {
	int *count, *threshold;		/* (once) of the young generation; NULL: left alone, */
	const char *reason;		/* (once) and why */
	unsigned imports;		/* outermost imports under way, of all threads */
	bool active;			/* grants may be extended */
	int granted;			/* the count when last looked at */
	int64_t used;			/* containers allocated since the last collection, or since the first of these imports began */
	int64_t begun_ns;
	uint64_t bursts;		/* for stats() */
};

/** Interned strings by their bytes; see unmarshal.c. */
struct lw_strings {
	uint64_t *slot;			/* strong references and bits of their hashes; 0: free */
	uint32_t room, used;		/* slots: a power of two, or none yet */
};

/** Reading marshalled code. Under the GIL; free-threaded builds leave it to CPython. */
struct lw_unmarshal {
	enum { LW_UNMARSHAL_OFF, LW_UNMARSHAL_UNPROVEN, LW_UNMARSHAL_PROVEN } state;
	const char *reason;		/* why CPython does it, or NULL */
	struct lw_strings strings;
	uint64_t count;			/* modules, for stats() */
};

enum lw_lazy_mode { LW_LAZY_OFF, LW_LAZY_DEFAULT, LW_LAZY_OWN, LW_LAZY_ALL };

typedef struct lw_lazy_policy lw_lazy_policy;

/** Imports that wait until what they bind is used (lazy.h). Home's; under the GIL. */
struct lw_lazy {
	enum lw_lazy_mode mode;		/* (once) OFF: nothing of this happens, */
	const char *reason;		/* (once) and why, if it was asked for */
	char *said;			/* the text of it, owned */
	lw_lazy_policy *policy;		/* (once) */
	PyObject *pending_type, *statement_type;
	struct lw_lazy_table *table;	/* the dictionaries in which names wait, by their addresses; see lazy.c */
	bool traced;			/* somebody traces or debugs: what is imported from now on is eager */
	bool recording;			/* who resolves is noted, for the report */
	struct lw_lazy_hooks *hooks;
	uint64_t registered, resolved, eager;	/* names that waited; of them, resolved; statements that could have waited and did not */
};

/** A stock function, and ours in its place. */
struct lw_wrap {
	PyObject *original, *replacement;
	bool in;			/* it is there, or within what somebody else put there */
};

typedef struct lw_state lw_state;
struct lw_state {
	lw_state *home;			/* the interpreter's own: this one, or that of an engine's interpreter (inside.c) */
	PyObject *module;		/* borrowed: the state lives in it */
	lw_session *session;		/* (once) of the process; NULL: not active */
	bool installed;			/* (once) */
	bool fast;			/* (once) _find_and_load is replaced */
	struct lw_flavour flavour;	/* (once) */
	PyObject *reason;		/* why it is not active, or not wholly: str or NULL */

	/* The stock import system; (once), strong. */
	PyObject *sys_dict, *implementation;
	PyObject *bootstrap_dict, *external_dict, *builtins;
	PyObject *builtin_importer, *frozen_importer, *path_finder, *file_finder;
	PyObject *source_loader, *sourceless_loader, *extension_loader, *module_spec, *namespace_path;
	PyObject *zip_hook, *file_hook;
	PyObject *loader_details;	/* what every FileFinder's _loaders must equal */
	PyObject *suffix_lists[3];	/* the lists it was made from */
	Py_ssize_t suffix_counts[3];
	PyObject *builtin_names, *frozen_names;	/* sets, or NULL */
	const void *builtin_table, *frozen_table;	/* where they came from */
	PyObject *is_builtin, *find_frozen, *acquire_lock, *release_lock, *fix_co_filename, *set_lazy_attributes;
	PyObject *deadlock_error;
	PyObject *spec_template;	/* dict */
	struct lw_guard *guards;	/* module-level functions that must not have been replaced */
	unsigned guard_count;
	uint64_t guards_seen[2];	/* versions of the dictionaries when the guards were last found in place */
	struct lw_tag *tags;		/* classes that must not have been changed */
	unsigned tag_count;

	PyObject *finder;		/* ours */
	PyObject *finder_type, *view_type;
	PyObject *original, *replacement;	/* _find_and_load */
	PyObject *original_wait, *replacement_wait;	/* _lock_unlock_module */
	bool find_in;			/* the replacement of _find_and_load is in the place of the original, or within what is there */
	struct lw_wrap load, statement;	/* _load_unlocked, builtins.__import__: while somebody listens (told.h) */
	PyObject *first_entry, *first_finder;	/* in sys.path_importer_cache when we came; strong, or NULL */
	bool hooks_ahead;		/* sys.path_hooks was not the usual one when last looked at */
	PyObject *views_single;		/* dict: path string -> view object */
	PyObject *views_multi;		/* list of view objects, most recently used first */
	PyObject *cache_tag;		/* sys.implementation.cache_tag at install() */
	PyObject *pycache_prefix;	/* sys.pycache_prefix at install(), or None */
	PyObject *pyc_tail;		/* ".cpython-311.pyc" or ".cpython-311.opt-1.pyc" */
	PyObject *given, *given_names, *asker;	/* (once) of an engine, see inside.c; NULL */
	PyObject *attend;		/* (once, when the engine gets rules) called with the name of a module before and after it is loaded; NULL */
	PyObject *shown, *stored;	/* of an engine with rules: its sys.modules, which asks them, and the dict behind it; NULL */
	PyObject *str[64];		/* interned names, see LW_STR_* */
	int watcher;			/* (once) see watch.c; -1: none */
	PyObject *watched[LW_WATCHED];	/* (once) strong or NULL */

	PyObject *router;		/* ladewerk._engines, or NULL: there has been no engine yet; and */
	struct lw_engines *engines;	/* its state; and */
	struct lw_engine *(*current_engine)(struct lw_engines *);	/* who knows whose code is running; and */
	PyTypeObject *routing;		/* the type that it has given to the interpreter's modules: strong in its state */

	lw_mutex finding;		/* held by who looks for the stock import system */
	struct lw_recorder *recorder;	/* observe.h; NULL: nothing is recorded */
	PyObject *told_self;		/* borrowed: the Inside whose state this is, if it ever had a listener */
	PyObject *listener;		/* told.h; under the critical section of the module */
	_Atomic unsigned told_events;	/* bits of enum lw_event: what it wants to hear of; 0: nobody listens */
	struct lw_collector collector;
	struct lw_unmarshal unmarshal;
	struct lw_lazy lazy;
	_Atomic uint64_t served[LW_SERVED_COUNT];	/* home's, as is all from the recorder on */
	_Atomic uint64_t aside[LW_ASIDE_COUNT];
	_Atomic uint64_t engines_served, engines_refused;	/* ever, for stats(); */
	PyObject *engine_reason;	/* and why the last of these was: str or NULL; under the critical section of the module */
};

/* What lw_bootstrap_find() fills in. */
#define LW_BOOTSTRAP_OBJECTS(X) \
	X(sys_dict) X(implementation) X(bootstrap_dict) X(external_dict) X(builtins) X(builtin_importer) X(frozen_importer) X(path_finder) \
	X(file_finder) X(source_loader) X(sourceless_loader) X(extension_loader) X(module_spec) X(namespace_path) X(zip_hook) X(file_hook) \
	X(loader_details) X(suffix_lists[0]) X(suffix_lists[1]) X(suffix_lists[2]) X(is_builtin) X(find_frozen) X(acquire_lock) X(release_lock) \
	X(fix_co_filename) X(set_lazy_attributes) X(deadlock_error) X(builtin_names) X(frozen_names) X(spec_template)

/* Interned strings. */
#define LW_STRINGS(X) \
	X(modules) X(meta_path) X(path) X(path_hooks) X(path_importer_cache) X(find_spec) X(loader) X(name) X(origin) X(_set_fileattr) \
	X(_cached) X(submodule_search_locations) X(_initializing) X(_uninitialized_submodules) X(__spec__) X(__path__) X(__file__) \
	X(__cached__) X(__dict__) X(owner) X(__package__) X(__loader__) X(__builtins__) X(acquire) X(release) X(_loaders) X(cache_tag) X(pycache_prefix) \
	X(dont_write_bytecode) X(get_code) X(invalidate_caches) X(_path_importer_cache) X(_get_spec) X(_find_and_load) X(_lock_unlock_module) \
	X(_get_module_lock) X(_load_unlocked) X(_find_and_load_unlocked) X(_resolve_parents) X(_get_cached) X(_code_to_timestamp_pyc) \
	X(__import__) X(__name__) X(parent) X(engine) X(_module_locks) X(_thread) X(get_ident) X(_find_spec_legacy)
enum {
#define X(name) LW_STR_##name,
	LW_STRINGS(X)
#undef X
	LW_STR_COUNT
};
#define LW_STR(state, name) ((state)->str[LW_STR_##name])

static inline void lw_count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

#if LW_BENCH_SLEEP_US /* see CMakeLists.txt. Busy: a real sleep would be longer by the timer's slack, and no CPU time */
#include <time.h>
static inline void lw_bench_sleep(void)
{
	struct timespec start, now;
	clock_gettime(CLOCK_MONOTONIC, &start);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - start.tv_sec) * 1000000000LL + (now.tv_nsec - start.tv_nsec) < LW_BENCH_SLEEP_US * 1000LL);
}
#else
static inline void lw_bench_sleep(void) {}
#endif

static inline void lw_served(lw_state *state, enum lw_served how)
{
	lw_count(&state->home->served[how]);
	lw_bench_sleep();
}

static inline void lw_stepped_aside(lw_state *state, enum lw_aside why)
{
	lw_count(&state->home->aside[why]);
}

lw_state *lw_state_of(PyObject *module);

/*
 * Inside the session, with the GIL held, until lw_session_leave(); nothing of Python is called there. Who has the lock may be waiting for a disk, without
 * the GIL: so it is waited for without the GIL, and given back before the GIL is asked for (see session.h).
 */
static inline void lw_enter(lw_session *session)
{
	while (!lw_session_try_enter(session)) {
		Py_BEGIN_ALLOW_THREADS
		lw_session_enter(session);
		lw_session_leave(session);
		Py_END_ALLOW_THREADS
	}
}

/* A new reference in *VALUE: 1 found, 0 absent (*VALUE NULL), -1 error. DICT is an exact dict. */
static inline int lw_dict_get(PyObject *dict, PyObject *key, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030d0000
	return PyDict_GetItemRef(dict, key, value);
#else
	*value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
	if (*value)
		return 1;
	return PyErr_Occurred() ? -1 : 0;
#endif
}

/* obj.name, *VALUE NULL where there is no such attribute: 1, 0, -1. */
static inline int lw_attr_get(PyObject *obj, PyObject *name, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030d0000
	return PyObject_GetOptionalAttr(obj, name, value);
#else
	*value = PyObject_GetAttr(obj, name);
	if (*value)
		return 1;
	if (!PyErr_ExceptionMatches(PyExc_AttributeError))
		return -1;
	PyErr_Clear();
	return 0;
#endif
}

/* Item I of LIST, a new reference; NULL (no exception) beyond its end. LIST may be changed by others meanwhile. */
static inline PyObject *lw_list_item(PyObject *list, Py_ssize_t i)
{
#if PY_VERSION_HEX >= 0x030d0000
	PyObject *item = PyList_GetItemRef(list, i);
	if (!item)
		PyErr_Clear();
	return item;
#else
	return i < PyList_GET_SIZE(list) ? Py_NewRef(PyList_GET_ITEM(list, i)) : NULL;
#endif
}

/* A pending exception put aside: VALUE is the normalised exception, NULL if there was none. */
struct lw_error {
	PyObject *value;
};
static inline void lw_error_save(struct lw_error *error)
{
#if PY_VERSION_HEX >= 0x030c0000
	error->value = PyErr_GetRaisedException();
#else
	PyObject *type, *traceback;
	PyErr_Fetch(&type, &error->value, &traceback);
	if (type) {
		PyErr_NormalizeException(&type, &error->value, &traceback);
		if (traceback)
			PyException_SetTraceback(error->value, traceback);
	}
	Py_XDECREF(type);
	Py_XDECREF(traceback);
#endif
}
static inline bool lw_error_set(const struct lw_error *error)
{
	return error->value != NULL;
}
/* Replaces whatever is pending. */
static inline void lw_error_restore(struct lw_error *error)
{
#if PY_VERSION_HEX >= 0x030c0000
	PyErr_SetRaisedException(error->value);
#else
	PyObject *value = error->value;
	if (value)
		PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(value)), value, PyException_GetTraceback(value));
	else
		PyErr_Clear();
#endif
	error->value = NULL;
}
static inline void lw_error_drop(struct lw_error *error)
{
	Py_CLEAR(error->value);
}

/* --- bootstrap.c --- */

/**
 * Find the parts of the stock import system; of an engine: of its copy of it, in the four dictionaries that STATE has. 0; 1: something is not as known
 * (state->reason says what); -1: exception.
 */
int lw_bootstrap_find(lw_state *state);
/** Digests of the stock functions we stand in for: find (FileFinder, PathFinder), load (_find_and_load and below). 0 or -1. */
int lw_bootstrap_digests(lw_state *state, struct lw_hash128 *find, struct lw_hash128 *load);
/** Whether the digests are verified ones; fills in state->flavour. */
bool lw_bootstrap_find_known(struct lw_hash128 find);
bool lw_bootstrap_load_known(struct lw_hash128 load, struct lw_flavour *flavour);
/** The classes are as importlib has made them, nobody has patched them before we came: 1, 0 (*WHICH is not), -1. */
int lw_bootstrap_unpatched(lw_state *state, const char **which);
/** FUNCTION is one of importlib's own. */
bool lw_bootstrap_is_stock(PyObject *function);
/** Nothing that we rely on has been replaced or changed since install(): 1, 0 (*WHY set), -1. */
int lw_bootstrap_intact(lw_state *state, enum lw_aside *why);
/** sys.path_hooks begins with the stock hooks: 1 (*EXTRA: others follow), 0, -1. */
int lw_bootstrap_hooks(lw_state *state, bool *extra);
/** What keeps cycles alive, for the module's tp_traverse. */
int lw_bootstrap_traverse(lw_state *state, visitproc visit, void *arg);
/** Drop what lw_bootstrap_find() has found so far. */
void lw_bootstrap_clear(lw_state *state);
/** importlib._bootstrap.NAME, which must not be replaced, was BEFORE and is AFTER now, by our own hand. */
void lw_bootstrap_expect(lw_state *state, PyObject *name, PyObject *before, PyObject *after);

/* --- paths.c --- */

/** A path list as a core view; a Python object, so that threads can share it. */
typedef struct lw_view_object {
	PyObject_HEAD
	lw_session *session;
	lw_view *view;
	Py_ssize_t count;		/* items of the list it stands for */
	PyObject **item;		/* strong */
	PyObject **finder;		/* strong or NULL: the FileFinder that gave the path (relative entries) */
	uint32_t entries;		/* of the view: items that are not strings are left out, as PathFinder does */
	uint32_t *item_of;		/* view entry -> item */
	_Atomic uint32_t reached;	/* entries that have been searched, from the first one on */
	bool hooks;
	bool uses_cwd;			/* an item is '' */
	PyObject *cwd;			/* str: what '' stood for, or NULL */
	PyObject *importer_cache;	/* strong: sys.path_importer_cache when checked, and its version */
	uint64_t importer_cache_version;
} lw_view_object;

extern PyType_Spec lw_view_spec;

/** sys.path_importer_cache if it is a dict. A new reference; NULL without an exception: it is not. */
PyObject *lw_importer_cache(lw_state *state);

/** Entry number ENTRY of VIEW, and all before it, have been searched. */
static inline void lw_view_reached(lw_view_object *view, uint32_t entry)
{
	if (atomic_load_explicit(&view->reached, memory_order_relaxed) <= entry)
		atomic_store_explicit(&view->reached, entry + 1, memory_order_relaxed);
}
/** Remember what shows that nobody has cleared sys.path_importer_cache: at install(). 0 or -1. */
int lw_paths_begin(lw_state *state);
/** View of PATH (list or other iterable; NULL: sys.path). A new reference; NULL with an exception, or without: step aside (*WHY). */
lw_view_object *lw_paths_view(lw_state *state, PyObject *path, enum lw_aside *why);

/* --- find.c --- */

enum lw_found { LW_FOUND_ERROR = -1, LW_FOUND_MISS, LW_FOUND_SOURCE, LW_FOUND_FILE, LW_FOUND_SPEC, LW_FOUND_ASIDE };

/**
 * What PathFinder.find_spec(name, path) would find. SOURCE: HIT is a source file (no spec made yet). FILE (extension, bytecode only) and SPEC
 * (namespace, foreign path hook): *SPEC is a new reference. MISS: proven. ASIDE: *WHY. ERROR: exception.
 */
enum lw_found lw_find(lw_state *state, PyObject *name, PyObject *path, struct lw_hit *hit, PyObject **spec, enum lw_aside *why);

/** The same, where all that matters is whether there is something: HIT is not to be loaded from. */
enum lw_found lw_glance(lw_state *state, PyObject *name, PyObject *path, struct lw_hit *hit, PyObject **spec, enum lw_aside *why);

/** Whether HIT is the source file PATH (str). */
bool lw_is_source(lw_state *state, const struct lw_hit *hit, PyObject *path);
/** Whether the source file PATH (str) is what NAME is in the directory ENTRY (str), by the index alone: HIT. No finder is asked. 1, 0, -1. */
int lw_find_source(lw_state *state, PyObject *name, PyObject *entry, PyObject *path, struct lw_hit *hit);

/** What our finder says of NAME on PATH (None: sys.path): a spec, or None. A new reference or NULL. */
PyObject *lw_find_spec(lw_state *state, PyObject *name, PyObject *path, PyObject *target);
/** (fullname, path=None, target=None, engine=None), borrowed. 0 or -1. */
int lw_find_spec_arguments(PyObject *args, PyObject *kwargs, PyObject **name, PyObject **path, PyObject **target, PyObject **engine);
/** Compare everything with the file system again before it is used. */
void lw_invalidate_caches(lw_state *state);
extern const char lw_find_spec_doc[], lw_invalidate_caches_doc[];

extern PyType_Spec lw_finder_spec;
/** Our finder object. A new reference. */
PyObject *lw_finder_create(lw_state *state);

/* --- import.c --- */

/** The import lock, under which stock asks finders: 0 or -1. */
int lw_import_lock(lw_state *state);
/** Gives it back. A pending exception survives. */
void lw_import_unlock(lw_state *state);
/** spec._initializing of MODULE is true: 1, 0, -1. */
int lw_is_initializing(lw_state *state, PyObject *module);
/** sys.modules, whatever it is by now. A new reference or NULL with an exception. */
PyObject *lw_modules(lw_state *state);
/** MODULES[name], and its changes, with KeyError: of a dict that routes (see routed below), what it stores itself. As the mapping protocol. */
PyObject *lw_modules_get(lw_state *state, PyObject *modules, PyObject *name);
int lw_modules_set(lw_state *state, PyObject *modules, PyObject *name, PyObject *module);
int lw_modules_del(lw_state *state, PyObject *modules, PyObject *name);

/* --- adopt.c --- */

/**
 * Whether SPEC, which somebody else's finder has made for NAME, says no more than PathFinder's would: a source file where modules of that name are, the
 * stock loader and nothing else. Then HIT is that file, and is loaded here as any other (lw_load_source()). 1; 0: stock loads it; -1.
 */
int lw_adopt(lw_state *state, PyObject *name, PyObject *spec, struct lw_hit *hit);
/** Whether SPEC still says HIT and nothing else, after somebody's code may have run. 1, 0, -1. Nobody's runs before it returns. */
int lw_is_adopted(lw_state *state, PyObject *name, PyObject *spec, const struct lw_hit *hit);

/* --- load.c --- */

/** sys.pycache_prefix, None if there is no such attribute. A new reference or NULL. */
PyObject *lw_pycache_prefix(lw_state *state);
/** The spec of HIT as FileFinder makes it. A new reference or NULL. */
PyObject *lw_make_spec(lw_state *state, PyObject *name, const struct lw_hit *hit);
/**
 * Load HIT, a source file (PyMem_RawMalloc; freed in any case), as _load_unlocked() would. FOUND: the spec, where there is one of which lw_is_adopted() was said
 * just now, or NULL. MODULES is sys.modules. A new reference or NULL.
 */
PyObject *lw_load_source(lw_state *state, PyObject *name, struct lw_hit *hit, PyObject *found, PyObject *modules);

/** Method of the module: the code of a source file as an import would have it, see native.c. */
PyObject *lw_source_code(PyObject *module, PyObject *args);

/* --- unmarshal.c --- */

/** Whether code can be read here; if not, or if not WANTED, CPython reads it and state->unmarshal.reason says why. */
void lw_unmarshal_find(lw_state *state, bool wanted);
/** What marshal.loads() makes of DATA, audit event included. A new reference or NULL with an exception. */
PyObject *lw_unmarshal(lw_state *state, const void *data, size_t len);
/** Let go of the strings met so far. */
void lw_unmarshal_clear(lw_state *state);

/* --- import.c --- */

/** What the function in the place of _find_and_load does: (name, import). STATE is alive and has its original. A new reference or NULL. */
PyObject *lw_find_and_load(lw_state *state, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
extern PyMethodDef lw_find_and_load_def, lw_lock_unlock_module_def;

/* --- inside.c --- */

extern PyType_Spec lw_inside_spec;
/** The state behind SELF, the module or an Inside; NULL once it was torn down. */
lw_state *lw_state_behind(PyObject *self);
/** Method of the module: from now on there are engines. */
PyObject *lw_routed(PyObject *module, PyObject *engines);
/** Where the router keeps what its dispatcher FUNCTION stands in front of: strong; NULL: FUNCTION is none of its. */
PyObject **lw_behind_router(const lw_state *home, PyObject *function);
/** What is in BEHIND: a new reference. */
PyObject *lw_take_behind(const lw_state *home, PyObject **behind);
void lw_put_behind(const lw_state *home, PyObject **behind, PyObject *function);

/** Whether imports of the process's code come to an engine: within `with engine:`, or with a function in place of the built-in __import__. STATE is an engine's. Raises nothing. */
bool lw_is_diverted(const lw_state *state);

/* --- watch.c --- */

/** Watch sys.path_importer_cache and the dictionaries of the bootstrap modules, if possible. 0 or -1. */
int lw_watch_begin(lw_state *state);
/** For an engine: its path_importer_cache. 0 or -1. */
int lw_watch_importers(lw_state *state);
void lw_watch_end(lw_state *state);
/** Differs after every change of DICT; 0: cannot tell. Ask before looking into DICT: what changes meanwhile is seen next time. */
uint64_t lw_watch_version(lw_state *state, PyObject *dict);

/* --- collector.c --- */

/** The gc module, without a trace in sys.modules. A new reference or NULL with an exception. */
PyObject *lw_gc_module(lw_state *state);
/** Find the collector's count and prove it; without, or if not WANTED, nothing is postponed and state->collector.reason says why. 0 or -1. */
int lw_collector_find(lw_state *state, bool wanted);
/** An outermost import begins, and is over. */
void lw_collector_begin(lw_state *state);
void lw_collector_end(lw_state *state);
void lw_collector_extend(lw_state *state);

/** An import within it begins: half of the grant should be left. */
static inline void lw_collector_continue(lw_state *state)
{
	if (state->collector.active && *state->collector.count > LW_COLLECTOR_LOW)
		lw_collector_extend(state);
}

/* --- activate.c --- */

PyObject *lw_install(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *lw_uninstall(PyObject *module, PyObject *unused);
/** Find the stock import system, once. 0, or -1 with RuntimeError saying what is not as known. */
int lw_find_parts(lw_state *state);
/** The same; what is not as known is said by state->reason: 0, 1, -1. */
int lw_find_parts_quietly(lw_state *state);
/** Put SELF's function of DEF in the place of DICT[NAME], or behind the router of engines; ORIGINAL and REPLACEMENT keep both. 0; 1: there is none; -1. */
int lw_replace(lw_state *state, PyObject *dict, PyObject *name, PyMethodDef *def, PyObject *self, PyObject **original, PyObject **replacement);
/** And back: true. False: somebody wrapped ours; it stays, and hands everything to the original. */
bool lw_restore(lw_state *state, PyObject *dict, PyObject *name, PyObject *original, PyObject *replacement);
/** The same of _find_and_load, unless it is in already; and out. */
int lw_replace_find(lw_state *state);
void lw_restore_find(lw_state *state);
PyObject *lw_boot(PyObject *module, PyObject *enabled);
PyObject *lw_place(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *lw_reset(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/** What the interpreter was asked to run, by *KIND: the path of a script ('/'), the name of a module ('m') or a text ('c'); NULL: a prompt, standard input, or no telling. */
const char *lw_entry_point(lw_state *state, char *kind);

/** Suffixes and store of this interpreter, for Builder; ABOUT keeps what CONFIG points to. 0, or -1 with an exception. */
int lw_store_settings(lw_state *state, const char *cache, struct lw_suffixes *suffixes, struct lw_store_config *config, PyObject **about);

/* --- index.c --- */

/** "auto", "pool" or "ring". 0, or -1 with ValueError. */
int lw_parse_backend(const char *name, enum lw_ioq_backend *backend);

extern PyType_Spec lw_builder_spec;

/* --- frozen.c --- */

extern PyType_Spec lw_frozen_builder_spec;

/* --- canonical.c --- */

/** DATA (bytes, a marshalled code object) in its canonical form, as bytes. ValueError for what no code holds. */
PyObject *lw_canonical(PyObject *module, PyObject *data);

#endif
