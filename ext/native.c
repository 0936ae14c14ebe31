/* SPDX-License-Identifier: MIT */
/*
 * native: the extension module ladewerk._native. Everything that runs per import is behind it; the Python around it parses arguments and prints.
 */
#include "lazy.h"
#include "module.h"
#include "observe.h"

#include "uring.h"

static PyObject *stats(PyObject *module, PyObject *unused);

static const char *const served_names[LW_SERVED_COUNT] = {
	"pack", "pyc", "compiled", "stock_loader", "namespace", "miss", "find_spec", "foreign_finder",
};

static const char *const aside_names[LW_ASIDE_COUNT] = {
	"patched", "path_hooks", "meta_path", "sys_modules", "path", "name", "legacy_finder", "system_error", "initializing", "builtin", "depth",
};

static struct PyModuleDef native_module;

lw_state *lw_state_of(PyObject *module)
{
	return module ? PyModule_GetState(module) : NULL;
}

/* --- methods --- */

static int put_number(PyObject *dict, const char *name, unsigned long long value)
{
	PyObject *number = PyLong_FromUnsignedLongLong(value);
	int result = number ? PyDict_SetItemString(dict, name, number) : -1;
	Py_XDECREF(number);
	return result;
}

static PyObject *counters(const char *const *names, _Atomic uint64_t *counter, unsigned count)
{
	PyObject *dict = PyDict_New();
	for (unsigned i = 0; dict && i < count; i++)
		if (put_number(dict, names[i], atomic_load_explicit(&counter[i], memory_order_relaxed)) < 0)
			Py_CLEAR(dict);
	return dict;
}

static struct lw_session_stats session_stats(lw_session *session)
{
	struct lw_session_stats stats;
	lw_enter(session);
	lw_session_stats(session, &stats);
	lw_session_leave(session);
	return stats;
}

static enum lw_freshness freshness_of(lw_session *session)
{
	lw_enter(session);
	enum lw_freshness freshness = lw_session_freshness(session);
	lw_session_leave(session);
	return freshness;
}

static int put_session(PyObject *dict, lw_session *session)
{
	struct lw_session_stats s = session_stats(session);
	const struct { const char *name; uint64_t value; } numbers[] = {
		{ "statx", s.dirs.statx }, { "listings_read", s.dirs.listings }, { "listings_from_index", s.dirs.from_index },
		{ "damaged", s.dirs.damaged }, { "code_from_pack", s.code_pack }, { "code_same_content", s.code_content },
		{ "code_from_pyc", s.code_pyc }, { "pyc_distrusted", s.pyc_distrusted }, { "learnt_directories", s.learnt_dirs },
		{ "learnt_files", s.learnt_files }, { "learnt_bytes", s.learnt_bytes }, { "segments_written", s.segments_written },
		{ "write_errors", s.write_errors }, { "dropped", s.dropped }, { "index_files", s.indexes }, { "index_files_refused", s.refused },
		{ "blocks_read_ahead", s.read_ahead }, { "hot_files_written", s.hot_written },
	};
	for (size_t i = 0; i < Py_ARRAY_LENGTH(numbers); i++)
		if (put_number(dict, numbers[i].name, numbers[i].value) < 0)
			return -1;
	PyObject *error = s.last_write_error ? PyUnicode_FromString(strerror(s.last_write_error)) : Py_NewRef(Py_None);
	int result = error ? PyDict_SetItemString(dict, "last_write_error", error) : -1;
	Py_XDECREF(error);
	return result;
}

/* What became of LADEWERK_INDEX: a dict, or None. */
static PyObject *index_dict(const lw_state *state)
{
	unsigned count = 0;
	const lw_artifact *artifact = state->session ? lw_session_artifact(state->session) : NULL;
	if (!artifact)
		return Py_NewRef(Py_None);
	const char *const *root = lw_artifact_roots(artifact, &count), *reason = lw_artifact_reason(artifact);
	PyObject *roots = PyList_New(0);
	for (unsigned i = 0; roots && lw_artifact_used(artifact) && i < count; i++) {
		PyObject *path = root[i] ? PyUnicode_DecodeFSDefault(root[i]) : Py_NewRef(Py_None);
		if (!path || PyList_Append(roots, path) < 0)
			Py_CLEAR(roots);
		Py_XDECREF(path);
	}
	if (!roots)
		return NULL;
	bool frozen = lw_is_frozen(freshness_of(state->session));
	return Py_BuildValue("{sNsNsIsNss}", "path", PyUnicode_DecodeFSDefault(lw_artifact_path(artifact)), "roots", roots, "files",
		lw_artifact_files(artifact), "reason", *reason ? PyUnicode_DecodeFSDefault(reason) : Py_NewRef(Py_None),
		"freshness", frozen ? "frozen" : "stat");
}

static const char *freshness_name(const lw_state *state)
{
	/* What an artifact holds is told apart, in the index's own entry. */
	static const char *const names[] = { [LW_STAT] = "stat", [LW_FROZEN] = "frozen", [LW_FROZEN_HELD] = "stat", [LW_WATCH] = "watch" };
	return state->session ? names[freshness_of(state->session)] : NULL;
}

/* Who looks after what was seen of the file system: a list of dicts. */
static PyObject *watch_of(const struct lw_fresh_stats *watch)
{
	return Py_BuildValue("{sssssKsKsKsKsN}", "by", watch->by, "backend", watch->backend, "checks", (unsigned long long)watch->checks, "distrusted",
		(unsigned long long)watch->distrusted, "changes", (unsigned long long)watch->changes, "refused", (unsigned long long)watch->refused,
		"reason", *watch->why ? PyUnicode_DecodeFSDefault(watch->why) : Py_NewRef(Py_None));
}

static PyObject *watch_list(const lw_state *state)
{
	struct lw_session_stats s = { 0 };
	if (state->session)
		s = session_stats(state->session);
	PyObject *list = PyList_New(0);
	for (unsigned by = 0; list && by < LW_BY_COUNT; by++) {
		PyObject *item = s.watch[by].by ? watch_of(&s.watch[by]) : NULL;
		if (s.watch[by].by && (!item || PyList_Append(list, item) < 0))
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	return list;
}

static PyObject *engines_dict(lw_state *state)
{
	PyObject *reason;
	Py_BEGIN_CRITICAL_SECTION(state->module);
	reason = Py_NewRef(state->engine_reason ? state->engine_reason : Py_None);
	Py_END_CRITICAL_SECTION();
	return Py_BuildValue("{sKsKsN}", "served", (unsigned long long)atomic_load_explicit(&state->engines_served, memory_order_relaxed), "refused",
		(unsigned long long)atomic_load_explicit(&state->engines_refused, memory_order_relaxed), "reason", reason);
}

PyDoc_STRVAR(stats_doc, "stats()\n--\n\n"
	"What Ladewerk did in this interpreter: a dict with the keys active, fast_path, freshness, cache (a path or None), reason,\n"
	"served and aside (counts by kind and by reason), session (counts of the process), collector (outermost imports during which automatic\n"
	"collections were postponed; why none were), unmarshal (modules whose code Ladewerk read itself; why CPython did) and index (what became of\n"
	"LADEWERK_INDEX: its path, where its roots are, files with code, why it or a root is not used, and the freshness of what lies below its roots; None\n"
	"without it) and watch (a list of those who tell of changes, a daemon and this process: how, how often that was asked and could not be trusted,\n"
	"changes told, directories that are not watched, and why) and engines (import engines whose imports were served so far, those whose imports were not, and\n"
	"why the last of these was refused) and lazy (the mode of lazy imports; why there are none although they were asked for; names that waited, those of them that\n"
	"were resolved, and statements that could have waited and did not). What was served to engines is among the counts.");

static PyObject *stats(PyObject *module, PyObject *unused)
{
	lw_state *state = lw_state_of(module);
	PyObject *served = counters(served_names, state->served, LW_SERVED_COUNT);
	PyObject *aside = counters(aside_names, state->aside, LW_ASIDE_COUNT);
	PyObject *session = PyDict_New(), *collector = Py_BuildValue("{sKsz}", "postponed", (unsigned long long)state->collector.bursts,
		"reason", state->collector.reason), *unmarshal = Py_BuildValue("{sKsz}", "modules", (unsigned long long)state->unmarshal.count, "reason",
		state->unmarshal.reason), *result = NULL;
	if (!served || !aside || !session || !collector || !unmarshal || (state->session && put_session(session, state->session) < 0))
		goto done;
	PyObject *index = index_dict(state);
	if (!index)
		goto done;
	PyObject *watch = watch_list(state), *engines = watch ? engines_dict(state) : NULL, *lazy = engines ? lw_lazy_stats(state) : NULL;
	if (!lazy) {
		Py_DECREF(index);
		Py_XDECREF(watch);
		Py_XDECREF(engines);
		goto done;
	}
	result = Py_BuildValue("{sOsOszsNsOsOsOsOsOsOsNsNsNsN}", "active", state->installed ? Py_True : Py_False, "fast_path", state->fast ? Py_True : Py_False,
		"freshness", freshness_name(state),
		"cache", state->session && lw_session_path(state->session) ? PyUnicode_DecodeFSDefault(lw_session_path(state->session)) : Py_NewRef(Py_None),
		"reason", state->reason ? state->reason : Py_None, "served", served, "aside", aside, "session", session, "collector", collector,
		"unmarshal", unmarshal, "index", index, "watch", watch, "engines", engines, "lazy", lazy);
done:
	Py_XDECREF(served);
	Py_XDECREF(aside);
	Py_XDECREF(session);
	Py_XDECREF(collector);
	Py_XDECREF(unmarshal);
	return result;
}

PyDoc_STRVAR(lazy_census_doc, "lazy_census()\n--\n\n"
	"Private: what was registered to be imported lazily while imports were recorded: a list of (importer, file, line, module, attribute or None, name, state,\n"
	"user's file or None, user's line, ns), STATE one of waits, resolved, overwritten, failed.");
PyDoc_STRVAR(flush_doc, "flush()\n--\n\nStore what has been learnt so far. Raises OSError when that fails.");

static PyObject *flush(PyObject *module, PyObject *unused)
{
	lw_state *state = lw_state_of(module);
	int error = 0;
	if (state->session) {
		Py_BEGIN_ALLOW_THREADS
		error = lw_session_flush(state->session);
		Py_END_ALLOW_THREADS
	}
	if (error) {
		errno = -error;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	Py_RETURN_NONE;
}

PyDoc_STRVAR(digests_doc, "digests()\n--\n\nDigests of the stock import functions: (find, load), and whether each is a verified one.");

static PyObject *digests(PyObject *module, PyObject *unused)
{
	lw_state *state = lw_state_of(module);
	struct lw_hash128 find, load;
	struct lw_flavour flavour;
	if (lw_find_parts(state) < 0)
		return NULL;
	if (lw_bootstrap_digests(state, &find, &load) < 0)
		return NULL;
	return Py_BuildValue("((KK)(KK)NN)", (unsigned long long)find.hi, (unsigned long long)find.lo, (unsigned long long)load.hi,
		(unsigned long long)load.lo, PyBool_FromLong(lw_bootstrap_find_known(find)), PyBool_FromLong(lw_bootstrap_load_known(load, &flavour)));
}

PyDoc_STRVAR(unmarshal_doc, "unmarshal(data, /)\n--\n\nWhat marshal.loads(data) makes of bytes, read as the code of modules is read.");

static PyObject *unmarshal(PyObject *module, PyObject *data)
{
	char *bytes;
	Py_ssize_t len;
	return PyBytes_AsStringAndSize(data, &bytes, &len) < 0 ? NULL : lw_unmarshal(lw_state_of(module), bytes, (size_t)len);
}

PyDoc_STRVAR(canonical_doc, "canonical(data, /)\n--\n\n"
	"DATA, a code object as marshal.dumps() makes it, in the form that is the same from every process. Raises ValueError for what code does not hold.");
PyDoc_STRVAR(probe_uring_doc, "probe_uring()\n--\n\nWhether io_uring may be used here, asked in a child process: (errno or 0, text).");

static PyObject *probe_uring(PyObject *module, PyObject *unused)
{
	char text[512];
	int error;
	Py_BEGIN_ALLOW_THREADS
	error = lw_uring_probe(text, sizeof(text));
	Py_END_ALLOW_THREADS
	return Py_BuildValue("is", -error, text);
}

PyDoc_STRVAR(listing_doc, "listing(path, /)\n--\n\n"
	"The importable names of a directory (an absolute path, as bytes), as fresh as an import would have them: a list of (name, may be a directory,\n"
	"suffixes of files, whether one of these is a link or of unknown type). None: Ladewerk is not active, or cannot tell. Raises OSError.");

PyDoc_STRVAR(source_code_doc, "source_code(name, entry, path, loader, cached, /)\n--\n\n"
	"The code of the source file PATH that module NAME is found at in directory ENTRY, as fresh as an import would have it; LOADER is its\n"
	"SourceFileLoader, CACHED its .pyc or None. None: Ladewerk is not active, or stock Python decides.");

static PyObject *suffixes_of(const struct lw_suffixes *suffixes, lw_kinds kinds)
{
	PyObject *list = PyList_New(0);
	for (unsigned i = 0; list && i < suffixes->count; i++) {
		if (!(kinds & LW_KIND_SUFFIX(i)))
			continue;
		PyObject *text = PyUnicode_FromStringAndSize(suffixes->item[i].text, suffixes->item[i].len);
		if (!text || PyList_Append(list, text) < 0)
			Py_CLEAR(list);
		Py_XDECREF(text);
	}
	PyObject *tuple = list ? PyList_AsTuple(list) : NULL;
	Py_XDECREF(list);
	return tuple;
}

static PyObject *list_of(const struct lw_suffixes *suffixes, const struct lw_listing *listing)
{
	PyObject *list = PyList_New(listing->count);
	for (uint32_t i = 0; list && i < listing->count; i++) {
		const struct lw_entry *entry = &listing->entries[i];
		PyObject *name = PyUnicode_DecodeFSDefaultAndSize(listing->names + entry->name, entry->len);
		PyObject *kinds = name ? suffixes_of(suffixes, entry->kinds) : NULL;
		PyObject *item = kinds ? Py_BuildValue("OOOO", name, entry->kinds & LW_KIND_DIR ? Py_True : Py_False, kinds,
			entry->flags & LW_ENTRY_DOUBT ? Py_True : Py_False) : NULL;
		Py_XDECREF(name);
		Py_XDECREF(kinds);
		if (item)
			PyList_SET_ITEM(list, i, item);
		else
			Py_CLEAR(list);
	}
	return list;
}

static PyObject *listing(PyObject *module, PyObject *path)
{
	lw_state *state = lw_state_of(module);
	char *text;
	Py_ssize_t len;
	if (PyBytes_AsStringAndSize(path, &text, &len) < 0)
		return NULL;
	if (!state->session || !state->installed || text[0] != '/' || strlen(text) != (size_t)len)
		Py_RETURN_NONE;
	struct lw_listing *found;
	int error;
	Py_BEGIN_ALLOW_THREADS
	error = lw_session_listing(state->session, text, (size_t)len, &found);
	Py_END_ALLOW_THREADS
	if (error == -ENOENT || error == -ENOTDIR || error == -EACCES) {
		errno = -error;
		return PyErr_SetFromErrnoWithFilename(PyExc_OSError, text);
	}
	if (error)
		Py_RETURN_NONE;
	PyObject *list = list_of(lw_session_suffixes(state->session), found);
	lw_listing_destroy(found);
	return list;
}

PyDoc_STRVAR(install_doc, "install(*, freshness=None, cache=None)\n--\n\n"
	"Serve imports of this interpreter. Returns True if it does; else stats()['reason'] says why not. Idempotent; a second call may change freshness.");
PyDoc_STRVAR(uninstall_doc, "uninstall()\n--\n\nGive the import system back to stock Python.");
PyDoc_STRVAR(boot_doc, "boot(enabled, /)\n--\n\nCalled by .pth files at interpreter start: installs if LADEWERK=1, or if ENABLED and LADEWERK is not 0. Never raises.");
PyDoc_STRVAR(place_doc, "place(*, cache=None)\n--\n\nWhere the cache would be: (directory of all keys or None, the key of this interpreter, what it stands for).");
PyDoc_STRVAR(record_doc, "record(on, /)\n--\n\nBegin to record imports, or stop and drop the record.");
PyDoc_STRVAR(records_doc, "records()\n--\n\n"
	"The imports recorded so far, in the order in which they ended: a list of (name, importer or None, begun, ended, thread, depth, outcome, phases).\n"
	"Times are ns of CLOCK_MONOTONIC; phases is a dict of what the import itself took, without those within it.");
PyDoc_STRVAR(routed_doc, "routed(engines, /)\n--\n\n"
	"Called when ENGINES (ladewerk._engines) has begun to lead the interpreter's imports to the engine of whoever imports.");
PyDoc_STRVAR(listen_doc, "listen(listener, events, /)\n--\n\n"
	"Have LISTENER called as (event, importee, importer or None, spec or None, nanoseconds, error or None) for imports of this interpreter, for what EVENTS\n"
	"names of found, loading, loaded, failed, reused. It replaces the one before; without events nobody listens. Raises RuntimeError where the import system\n"
	"is not as known.");
PyDoc_STRVAR(lazy_settings_doc, "_lazy_settings(use_env, /)\n--\n\n"
	"What a start in this directory is asked for: {'mode', 'reason', 'by': variable or file that says so, 'project': its pyproject.toml, 'shipped': rules}.");
PyDoc_STRVAR(lazy_project_doc, "_lazy_project(text, /)\n--\n\n"
	"What the text of a pyproject.toml says: (whether it has the table, its mode or None, its rules). ValueError for what cannot be understood.");
PyDoc_STRVAR(lazy_ask_doc, "_lazy_ask(mode, rules, roots, questions, /)\n--\n\n"
	"What the policy of a mode, the text of rules and a tuple of the user's own directories says to each of QUESTIONS, tuples (importer, its file, target, name or\n"
	"None): a list of (may wait, importer never waits, importer is the user's own, importers of the target never wait). ValueError for rules that make no sense.");
PyDoc_STRVAR(reset_doc, "reset(*, cache=None)\n--\n\nRemove the marks of starts that died. Returns how many.");

PyDoc_STRVAR(lazy_names_doc, "_lazy_names(namespace, /)\n--\n\nPrivate: the names that wait in the dictionary of a module.");

static PyObject *lazy_names(PyObject *module, PyObject *namespace)
{
	return lw_lazy_names_in(lw_state_of(module), namespace);
}

PyDoc_STRVAR(namespace_doc, "_namespace(module, /)\n--\n\nPrivate: the dictionary of a module as it is. Who asks the module for it has all that waits in it resolved.");

static PyObject *namespace_of(PyObject *module, PyObject *asked)
{
	PyObject *dict = PyModule_Check(asked) ? PyModule_GetDict(asked) : NULL;
	return dict ? Py_NewRef(dict) : PyErr_Format(PyExc_TypeError, "a module is wanted, not %.100s", Py_TYPE(asked)->tp_name);
}

PyDoc_STRVAR(lazy_stop_doc, "_lazy_stop()\n--\n\nPrivate: what is imported from now on is eager. Names that wait go on doing so.");

static PyObject *lazy_stop(PyObject *module, PyObject *unused)
{
	lw_state_of(module)->home->lazy.traced = true;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(lazy_plan_doc, "_lazy_plan(code, /)\n--\n\nPrivate: what may wait in the code of a module (lazy.h).");
PyDoc_STRVAR(lazy_transform_doc, "_lazy_transform(code, /)\n--\n\nPrivate: the code of a module, made ready for lazy imports (lazy.h).");

static PyMethodDef methods[] = {
	{ "install", (PyCFunction)(void (*)(void))lw_install, METH_FASTCALL | METH_KEYWORDS, install_doc },
	{ "uninstall", lw_uninstall, METH_NOARGS, uninstall_doc },
	{ "boot", lw_boot, METH_O, boot_doc },
	{ "stats", stats, METH_NOARGS, stats_doc },
	{ "flush", flush, METH_NOARGS, flush_doc },
	{ "digests", digests, METH_NOARGS, digests_doc },
	{ "unmarshal", unmarshal, METH_O, unmarshal_doc },
	{ "canonical", lw_canonical, METH_O, canonical_doc },
	{ "probe_uring", probe_uring, METH_NOARGS, probe_uring_doc },
	{ "place", (PyCFunction)(void (*)(void))lw_place, METH_FASTCALL | METH_KEYWORDS, place_doc },
	{ "record", lw_record, METH_O, record_doc },
	{ "records", lw_records, METH_NOARGS, records_doc },
	{ "listen", lw_listen, METH_VARARGS, listen_doc },
	{ "listing", listing, METH_O, listing_doc },
	{ "source_code", lw_source_code, METH_VARARGS, source_code_doc },
	{ "routed", lw_routed, METH_O, routed_doc },
	{ "_lazy_settings", lw_lazy_describe, METH_O, lazy_settings_doc },
	{ "_lazy_project", lw_lazy_read_project, METH_O, lazy_project_doc },
	{ "_namespace", namespace_of, METH_O, namespace_doc },
	{ "_lazy_stop", lazy_stop, METH_NOARGS, lazy_stop_doc },
	{ "_lazy_names", lazy_names, METH_O, lazy_names_doc },
	{ "lazy_census", lw_lazy_census, METH_NOARGS, lazy_census_doc },
	{ "_lazy_ask", lw_lazy_ask, METH_VARARGS, lazy_ask_doc },
	{ "_lazy_plan", lw_lazy_plan_of, METH_O, lazy_plan_doc },
	{ "_lazy_transform", lw_lazy_transform_method, METH_O, lazy_transform_doc },
	{ "reset", (PyCFunction)(void (*)(void))lw_reset, METH_FASTCALL | METH_KEYWORDS, reset_doc },
	{ NULL, NULL, 0, NULL },
};

/* --- life --- */

static int intern_strings(lw_state *state)
{
	static const char *const names[] = {
#define X(name) #name,
		LW_STRINGS(X)
#undef X
	};
	for (unsigned i = 0; i < LW_STR_COUNT; i++) {
		state->str[i] = PyUnicode_InternFromString(names[i]);
		if (!state->str[i])
			return -1;
	}
	return 0;
}

static int add_type(PyObject *module, const char *name, PyType_Spec *spec)
{
	PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
	int added = type ? PyModule_AddObjectRef(module, name, type) : -1;
	Py_XDECREF(type);
	return added;
}

static int native_exec(PyObject *module)
{
	lw_state *state = lw_state_of(module);
	state->module = module;
	state->home = state;
	state->watcher = -1;
	if (intern_strings(state) < 0)
		return -1;
	state->finder_type = PyType_FromModuleAndSpec(module, &lw_finder_spec, NULL);
	state->view_type = state->finder_type ? PyType_FromModuleAndSpec(module, &lw_view_spec, NULL) : NULL;
	state->views_single = PyDict_New();
	state->views_multi = PyList_New(0);
	if (!state->view_type || !state->views_single || !state->views_multi)
		return -1;
	if (add_type(module, "Inside", &lw_inside_spec) < 0 || add_type(module, "Builder", &lw_builder_spec) < 0 || add_type(module, "FrozenBuilder", &lw_frozen_builder_spec) < 0)
		return -1;
	if (PyModule_AddObjectRef(module, "has_probes", lw_has_probes() ? Py_True : Py_False) < 0)
		return -1;
	return PyModule_AddStringConstant(module, "__version__", LADEWERK_VERSION);
}

#define EACH_OBJECT(X) \
	LW_BOOTSTRAP_OBJECTS(X) \
	X(listener) X(load.original) X(load.replacement) X(statement.original) X(statement.replacement) \
	X(reason) X(router) X(engine_reason) X(finder) X(finder_type) X(view_type) X(original) X(replacement) X(original_wait) X(replacement_wait) X(views_single) X(views_multi) X(first_entry) X(first_finder) X(cache_tag) X(pycache_prefix) X(pyc_tail)

static int native_traverse(PyObject *module, visitproc visit, void *arg)
{
	lw_state *state = lw_state_of(module);
#define X(field) Py_VISIT(state->field);
	EACH_OBJECT(X)
#undef X
	for (unsigned i = 0; i < LW_WATCHED; i++)
		Py_VISIT(state->watched[i]);
	int stopped = lw_lazy_traverse(state, visit, arg);
	return stopped ? stopped : lw_bootstrap_traverse(state, visit, arg);
}

static int native_clear(PyObject *module)
{
	lw_state *state = lw_state_of(module);
	state->installed = false;
	lw_lazy_clear(state);
	lw_watch_end(state);
	atomic_store_explicit(&state->told_events, 0, memory_order_relaxed);
	lw_record_clear(state);
	lw_unmarshal_clear(state);
	lw_bootstrap_clear(state);
	state->routing = NULL;
	state->engines = NULL;
#define X(field) Py_CLEAR(state->field);
	EACH_OBJECT(X)
#undef X
	for (unsigned i = 0; i < LW_STR_COUNT; i++)
		Py_CLEAR(state->str[i]);
	return 0;
}

static void native_free(void *module)
{
	native_clear(module);
}

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, native_exec },
	LW_MODULE_SLOTS
	{ 0, NULL },
};

static struct PyModuleDef native_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "ladewerk._native",
	.m_doc = "The C side of Ladewerk.",
	.m_size = sizeof(lw_state),
	.m_methods = methods,
	.m_slots = slots,
	.m_traverse = native_traverse,
	.m_clear = native_clear,
	.m_free = native_free,
};

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC PyInit__native(void)
{
	return PyModuleDef_Init(&native_module);
}
