/* SPDX-License-Identifier: MIT */
/*
 * activate: install and uninstall; what the environment says; the one session of the process.
 *
 * Several interpreters of a process share the session (it knows no Python object); each has its own finder and its own replacement.
 */
#include "lazy.h"
#include "observe.h"
#include "told.h"

#include <marshal.h>
#include <pthread.h>
#include <sys/stat.h>

static pthread_mutex_t session_mutex = PTHREAD_MUTEX_INITIALIZER;
static lw_session *process_session;		/* session_mutex; made once, lives until exit */
static char session_reason[LW_STORE_REASON];	/* session_mutex */
static bool session_makes;			/* session_mutex; its store is that of lazy imports */

static int refuse(lw_state *state, const char *format, const char *detail)
{
	PyErr_Clear();
	Py_XSETREF(state->reason, PyUnicode_FromFormat(format, detail));
	return state->reason ? 1 : -1;
}

/* --- what applies --- */

struct options {
	const char *freshness;	/* NULL: the environment, else stat */
	const char *cache;	/* NULL: see store.h */
	bool use_env;
};

static long flag(const char *name)
{
	PyObject *flags = PySys_GetObject("flags");
	PyObject *value = flags ? PyObject_GetAttrString(flags, name) : NULL;
	long result = value ? PyLong_AsLong(value) : 0;
	Py_XDECREF(value);
	PyErr_Clear();
	return result;
}

static const char *variable(const struct options *options, const char *name)
{
	const char *value = options->use_env ? getenv(name) : NULL;
	return value && *value ? value : NULL;
}

static bool is_on(const char *value)
{
	return value && *value && strcmp(value, "0") != 0;
}

static bool is_off(const char *value)
{
	return value && strcmp(value, "0") == 0;
}

/* A whole number up to MAX from the environment; OTHERWISE where it is missing or odd. */
static long long number(const char *value, long long max, long long otherwise)
{
	char *end;
	long long result = value ? strtoll(value, &end, 10) : otherwise;
	return value && (*end || end == value || result < 0 || result > max) ? otherwise : result;
}

static int64_t window_ns(const struct options *options)
{
	const long long day_ms = 24 * 60 * 60 * 1000LL;
	return number(variable(options, "LADEWERK_STAT_WINDOW"), day_ms, 10) * 1000000;
}

/* The string ARGUMENT, or NULL with an exception. */
static const char *text_of(const char *function, const char *name, PyObject *argument)
{
	Py_ssize_t len;
	if (!PyUnicode_Check(argument))
		return PyErr_Format(PyExc_TypeError, "%s() argument '%s' must be str or None, not %s", function, name, Py_TYPE(argument)->tp_name), NULL;
	const char *text = PyUnicode_AsUTF8AndSize(argument, &len);
	if (text && strlen(text) != (size_t)len)
		return PyErr_Format(PyExc_ValueError, "%s() argument '%s' contains a null character", function, name), NULL;
	return text;
}

static int parse_options(const char *function, struct options *options, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	*options = (struct options){ .use_env = !flag("ignore_environment") };
	if (nargs)
		return PyErr_Format(PyExc_TypeError, "%s() takes keyword arguments only", function), -1;
	for (Py_ssize_t i = 0; kwnames && i < PyTuple_GET_SIZE(kwnames); i++) {
		const char *name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(kwnames, i));
		const char **slot = !name ? NULL : !strcmp(name, "freshness") ? &options->freshness : !strcmp(name, "cache") ? &options->cache : NULL;
		if (!slot)
			return PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%s'", function, name ? name : "?"), -1;
		if (args[i] != Py_None && !(*slot = text_of(function, name, args[i])))
			return -1;
	}
	return 0;
}

/* Where nothing is said of it, an artifact is the truth for what is below its roots, and nothing else is. */
static int parse_freshness(const struct options *options, enum lw_freshness *freshness, bool *daemon)
{
	const char *text = options->freshness ? options->freshness : variable(options, "LADEWERK_FRESHNESS");
	*daemon = !text || !strcmp(text, "watch"); /* who says `stat` means it */
	if (!text)
		*freshness = variable(options, "LADEWERK_INDEX") ? LW_FROZEN_HELD : LW_STAT;
	else if (!strcmp(text, "stat"))
		*freshness = LW_STAT;
	else if (!strcmp(text, "frozen"))
		*freshness = LW_FROZEN;
	else if (!strcmp(text, "watch"))
		*freshness = LW_WATCH;
	else
		return PyErr_Format(PyExc_ValueError, "freshness must be 'stat', 'watch' or 'frozen', not '%s'", text), -1;
	return 0;
}

/* --- the key: everything that code or lookups depend on --- */

static int debug_ranges_off(void)
{
	PyObject *options = PySys_GetXOptions();
	const char *off = flag("ignore_environment") ? NULL : getenv("PYTHONNODEBUGRANGES");
	return (options && PyDict_GetItemString(options, "no_debug_ranges")) || (off && *off); /* set to nothing is not set, for Python */
}

static PyObject *describe(lw_state *state)
{
	PyObject *suffixes = PyUnicode_FromString("");
	for (Py_ssize_t i = 0; suffixes && i < state->suffix_counts[0]; i++)
		Py_SETREF(suffixes, PyUnicode_FromFormat("%U %U", suffixes, PyList_GET_ITEM(state->suffix_lists[0], i)));
	if (!suffixes)
		return NULL;
	PyObject *text = PyUnicode_FromFormat("python %s\ntag %U\nmagic %ld\noptimize %ld\ndebug_ranges %d\nsuffixes%U\nformat %d\n", Py_GetVersion(),
		state->cache_tag, PyImport_GetMagicNumber(), flag("optimize"), !debug_ranges_off(), suffixes, LW_INDEX_FORMAT);
	Py_DECREF(suffixes);
	if (text && lw_lazy_is_on(&state->lazy))
		Py_SETREF(text, PyUnicode_FromFormat("%Ulazy %d\n", text, LW_LAZY_FORMAT));
	return text;
}

static int take_suffixes(lw_state *state, struct lw_suffixes *suffixes)
{
	const char *extension[LW_SUFFIX_MAX];
	unsigned count = 0;
	if (state->suffix_counts[0] > LW_SUFFIX_MAX - 2 || state->suffix_counts[1] != 1 || state->suffix_counts[2] != 1)
		return refuse(state, "this interpreter's suffix lists are not the usual ones%s", "");
	for (; count < state->suffix_counts[0]; count++)
		if (!(extension[count] = PyUnicode_AsUTF8(PyList_GET_ITEM(state->suffix_lists[0], count))))
			return -1;
	if (PyUnicode_CompareWithASCIIString(PyList_GET_ITEM(state->suffix_lists[1], 0), ".py")
			|| PyUnicode_CompareWithASCIIString(PyList_GET_ITEM(state->suffix_lists[2], 0), ".pyc")
			|| lw_suffixes_init(suffixes, extension, count))
		return refuse(state, "this interpreter's suffix lists are not the usual ones%s", "");
	return 0;
}

static uid_t prefix_owner(void)
{
	struct stat st;
	PyObject *prefix = PySys_GetObject("prefix");
	PyObject *bytes = prefix ? PyUnicode_EncodeFSDefault(prefix) : NULL;
	uid_t owner = bytes && stat(PyBytes_AS_STRING(bytes), &st) == 0 ? st.st_uid : 0;
	Py_XDECREF(bytes);
	PyErr_Clear();
	return owner;
}

/* ABOUT keeps the text that config->about points to. */
static int store_config(lw_state *state, const struct options *options, struct lw_store_config *config, PyObject **about)
{
	Py_ssize_t len;
	*about = describe(state);
	const char *text = *about ? PyUnicode_AsUTF8AndSize(*about, &len) : NULL;
	if (!text)
		return -1;
	long long trusted = number(variable(options, "LADEWERK_TRUST_UID"), (uid_t)-2, -1);
	*config = (struct lw_store_config){
		.place = options->cache, .key = lw_hash128(text, (size_t)len), .about = text, .readonly = is_on(variable(options, "LADEWERK_READONLY")),
		.use_env = options->use_env, .prefix_owner = prefix_owner(), .trust_uid_set = trusted >= 0, .trust_uid = (uid_t)trusted,
	};
	return 0;
}

/* --- the entry point: what the interpreter was asked to run --- */

/*
 * What ARGUMENT says of the entry point: all of it (a script), or from an 'm' or 'c' among the options on; NULL: it holds options only. *TAKES: the
 * next argument is one of these options' own.
 */
static const char *entry_in(const char *argument, bool *takes)
{
	*takes = strcmp(argument, "--check-hash-based-pycs") == 0;
	if (argument[0] != '-')
		return argument;
	for (const char *letter = argument + 1; argument[1] != '-' && *letter; letter++) {
		if (*letter == 'm' || *letter == 'c')
			return letter;
		if (*letter == 'W' || *letter == 'X') {
			*takes = !letter[1];
			break;
		}
	}
	return NULL;
}

static uint64_t hash_entry(char kind, const char *text, const char *where)
{
	const uint64_t parts[] = { (uint64_t)kind, lw_hash64(text, strlen(text)), where ? lw_hash64(where, strlen(where)) : 0 };
	return lw_hash64(parts, sizeof(parts));
}

/* A relative path means another script in another directory. */
static uint64_t hash_script(const char *path)
{
	char directory[LW_PATH_SIZE];
	return hash_entry('/', path, path[0] == '/' ? NULL : getcwd(directory, sizeof(directory)));
}

/* A module's name, or a text, in this environment. */
static uint64_t hash_named(lw_state *state, char kind, const char *text)
{
	PyObject *prefix = PyDict_GetItemString(state->sys_dict, "prefix");
	const char *where = prefix && PyUnicode_Check(prefix) ? PyUnicode_AsUTF8(prefix) : NULL;
	PyErr_Clear();
	return hash_entry(kind, text, where);
}

static const char *argument_at(PyObject *list, Py_ssize_t i)
{
	PyObject *item = i < PyList_GET_SIZE(list) ? PyList_GET_ITEM(list, i) : NULL;
	const char *text = item && PyUnicode_Check(item) ? PyUnicode_AsUTF8(item) : NULL;
	PyErr_Clear();
	return text;
}

const char *lw_entry_point(lw_state *state, char *kind)
{
	PyObject *list = PyDict_GetItemString(state->sys_dict, "orig_argv");
	const char *argument;
	bool takes;
	if (!list || !PyList_CheckExact(list))
		return NULL;
	for (Py_ssize_t i = 1; (argument = argument_at(list, i)); i += 1 + takes) {
		const char *found = entry_in(argument, &takes);
		*kind = found == argument ? '/' : found ? *found : '\0';
		if (*kind == '/')
			return argument;
		if (*kind)
			return found[1] ? found + 1 : argument_at(list, i + 1);
		if (!strcmp(argument, "-"))
			break;
	}
	return NULL;
}

/* The program's own arguments do not count. 0: a prompt, standard input, or no telling. */
static uint64_t hash_entry_point(lw_state *state)
{
	char kind;
	const char *text = lw_entry_point(state, &kind);
	if (!text)
		return 0;
	return kind == '/' ? hash_script(text) : hash_named(state, kind, text);
}

/* --- session --- */

/* There is one session, and so one cache, for the life of a process: asking for PLACE (or NULL) after it was opened elsewhere is an error. */
static int check_place(const char *place)
{
	pthread_mutex_lock(&session_mutex);
	const char *path = place && process_session ? lw_session_path(process_session) : NULL;
	pthread_mutex_unlock(&session_mutex);
	if (!path)
		return 0;
	size_t len = strlen(place);
	while (len && place[len - 1] == '/')
		len--;
	if (strncmp(path, place, len) == 0 && path[len] == '/')
		return 0;
	return PyErr_Format(PyExc_ValueError, "install() cannot change the cache of a running process, which is %s", path), -1;
}

static void set_freshness(lw_state *state, enum lw_freshness freshness, bool daemon, int64_t window_ns)
{
	Py_BEGIN_ALLOW_THREADS
	lw_session_set_freshness(state->session, freshness, daemon, window_ns);
	Py_END_ALLOW_THREADS
}

static int open_session(lw_state *state, const struct options *options, enum lw_freshness freshness, bool daemon)
{
	struct lw_session_config config = { .freshness = freshness, .daemon = daemon, .pyc_magic = (uint32_t)PyImport_GetMagicNumber(),
		.entry = hash_entry_point(state), .artifact = variable(options, "LADEWERK_INDEX") };
	config.window_ns = window_ns(options);
	config.makes = lw_lazy_is_on(&state->lazy);
	PyObject *about = NULL;
	int result = take_suffixes(state, &config.suffixes);
	if (!result)
		result = store_config(state, options, &config.store, &about);
	if (result)
		goto done;
	pthread_mutex_lock(&session_mutex);
	bool there = process_session != NULL;
	int error = there ? 0 : lw_session_open(&config, &process_session, session_reason);
	state->session = process_session;
	if (!there)
		session_makes = config.makes;
	bool other = config.makes && !session_makes;
	if (error || *session_reason)
		result = refuse(state, "%s", *session_reason ? session_reason : strerror(-error));
	if (!error && result > 0)
		result = 0; /* a remark, not a refusal */
	pthread_mutex_unlock(&session_mutex);
	if (there)
		set_freshness(state, freshness, daemon, config.window_ns);
	if (other && result == 0)
		result = lw_lazy_refuse(state, "this process has opened the cache for eager imports");
done:
	Py_XDECREF(about);
	return result;
}

/* --- the import system --- */

static int verify(lw_state *state)
{
	struct lw_hash128 find, load;
	const char *which;
	int unpatched = lw_bootstrap_unpatched(state, &which);
	if (unpatched <= 0)
		return unpatched < 0 ? -1 : refuse(state, "importlib's %s was changed before Ladewerk could look at it", which);
	if (lw_bootstrap_digests(state, &find, &load) < 0)
		return -1;
	if (!lw_bootstrap_find_known(find) || !lw_bootstrap_load_known(load, &state->flavour))
		return refuse(state, "the import functions of this interpreter (%s) are not ones that Ladewerk was verified against", Py_GetVersion());
	return 0;
}

static int find_parts_alone(lw_state *state)
{
	if (state->pyc_tail)
		return 0; /* the last thing found */
	lw_bootstrap_clear(state);
	int result = lw_bootstrap_find(state);
	if (result)
		return result;
	Py_XSETREF(state->cache_tag, PyObject_GetAttr(state->implementation, LW_STR(state, cache_tag)));
	if (!state->cache_tag || !PyUnicode_Check(state->cache_tag))
		return refuse(state, "sys.implementation.cache_tag is %s", "None");
	Py_XSETREF(state->pycache_prefix, lw_pycache_prefix(state));
	if (!state->pycache_prefix)
		return -1;
	long optimize = flag("optimize");
	Py_XSETREF(state->pyc_tail, optimize ? PyUnicode_FromFormat(".%U.opt-%ld.pyc", state->cache_tag, optimize)
		: PyUnicode_FromFormat(".%U.pyc", state->cache_tag));
	return state->pyc_tail ? 0 : -1;
}

int lw_find_parts_quietly(lw_state *state)
{
	lw_lock(&state->finding);
	int result = find_parts_alone(state);
	lw_unlock(&state->finding);
	return result;
}

static int insert_finder(lw_state *state)
{
	PyObject *meta_path = PyDict_GetItemString(state->sys_dict, "meta_path");
	if (!meta_path || !PyList_CheckExact(meta_path))
		return refuse(state, "sys.meta_path is not a list%s", "");
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(meta_path); i++)
		if (PyList_GET_ITEM(meta_path, i) == state->path_finder)
			return PyList_Insert(meta_path, i, state->finder);
	return refuse(state, "PathFinder is not in sys.meta_path%s", "");
}

/* DICT[NAME] = FUNCTION; where the router of engines has its own there, BEHIND it. 0 or -1. */
static int put_function(lw_state *state, PyObject *dict, PyObject *name, PyObject **behind, PyObject *function)
{
	if (!behind)
		return PyDict_SetItem(dict, name, function);
	lw_put_behind(state->home, behind, function);
	return 0;
}

int lw_replace(lw_state *state, PyObject *dict, PyObject *name, PyMethodDef *def, PyObject *self, PyObject **original, PyObject **replacement)
{
	PyObject *function;
	int found = lw_dict_get(dict, name, &function);
	if (found <= 0)
		return found < 0 ? -1 : 1;
	PyObject **behind = lw_behind_router(state, function);
	if (behind)
		Py_SETREF(function, lw_take_behind(state->home, behind));
	Py_XSETREF(*original, function);
	Py_XSETREF(*replacement, PyCFunction_NewEx(def, self, NULL));
	return *replacement ? put_function(state, dict, name, behind, *replacement) : -1;
}

bool lw_restore(lw_state *state, PyObject *dict, PyObject *name, PyObject *original, PyObject *replacement)
{
	PyObject *function = original ? PyDict_GetItem(dict, name) : NULL;
	PyObject **behind = function ? lw_behind_router(state, function) : NULL;
	return function && (behind ? *behind : function) == replacement && put_function(state, dict, name, behind, original) == 0;
}

int lw_replace_find(lw_state *state)
{
	if (state->find_in)
		return 0;
	int result = lw_replace(state, state->bootstrap_dict, LW_STR(state, _find_and_load), &lw_find_and_load_def, state->module, &state->original,
		&state->replacement);
	state->find_in = result == 0;
	return result < 0 ? -1 : 0;
}

void lw_restore_find(lw_state *state)
{
	if (state->find_in && lw_restore(state, state->bootstrap_dict, LW_STR(state, _find_and_load), state->original, state->replacement))
		state->find_in = false;
}

/* Put a function of ours in the place of importlib._bootstrap.NAME. */
static int replace_function(lw_state *state, PyObject *name, PyMethodDef *def, PyObject **original, PyObject **replacement)
{
	PyObject *function;
	int found = lw_dict_get(state->bootstrap_dict, name, &function);
	if (found <= 0)
		return found < 0 ? -1 : refuse(state, "importlib._bootstrap has no %s", PyUnicode_AsUTF8(name));
	PyObject **behind = lw_behind_router(state, function);
	if (behind)
		Py_SETREF(function, lw_take_behind(state, behind));
	if (!lw_bootstrap_is_stock(function)) {
		Py_DECREF(function);
		return refuse(state, "importlib._bootstrap.%s was replaced by somebody else", PyUnicode_AsUTF8(name));
	}
	Py_DECREF(function);
	return lw_replace(state, state->bootstrap_dict, name, def, state->module, original, replacement);
}

static int replace_functions(lw_state *state)
{
	int result = replace_function(state, LW_STR(state, _find_and_load), &lw_find_and_load_def, &state->original, &state->replacement);
	if (result)
		return result;
	state->fast = state->find_in = true;
	/* Only observers need this one: if it is not the stock function, they see less. */
	PyObject *reason = Py_XNewRef(state->reason);
	result = replace_function(state, LW_STR(state, _lock_unlock_module), &lw_lock_unlock_module_def, &state->original_wait, &state->replacement_wait);
	Py_XSETREF(state->reason, reason);
	return result < 0 ? -1 : 0;
}

static bool file_names_are_utf8(void)
{
	PyObject *function = PySys_GetObject("getfilesystemencoding");
	PyObject *encoding = function ? PyObject_CallNoArgs(function) : NULL;
	bool utf8 = encoding && PyUnicode_Check(encoding) && !PyUnicode_CompareWithASCIIString(encoding, "utf-8");
	Py_XDECREF(encoding);
	PyErr_Clear();
	return utf8;
}

static int install_unheard(lw_state *state, const struct options *options)
{
	enum lw_freshness freshness;
	bool daemon;
	if (parse_freshness(options, &freshness, &daemon) < 0 || check_place(options->cache) < 0)
		return -1;
	if (state->installed) {
		set_freshness(state, freshness, daemon, window_ns(options));
		return 0;
	}
	const char *switched = getenv("LADEWERK");
	if (switched && !strcmp(switched, "0"))
		return refuse(state, "switched off by LADEWERK=%s", "0");
	if (flag("verbose"))
		return refuse(state, "python %s prints what the stock machinery does", "-v");
	if (!file_names_are_utf8())
		return refuse(state, "the file system encoding is not utf-8%s", "");
	Py_CLEAR(state->reason);
	int result = lw_find_parts_quietly(state);
	if (!result)
		result = verify(state);
	if (!result)
		result = lw_lazy_begin(state, options->use_env);
	if (!result)
		result = open_session(state, options, freshness, daemon);
	if (!result && state->installed)
		return 0; /* by another thread, while the GIL was released */
	if (!result)
		result = lw_paths_begin(state);
	if (!result)
		result = lw_watch_begin(state);
	if (!result)
		result = lw_collector_find(state, !is_off(variable(options, "LADEWERK_GC")));
	if (!result)
		lw_unmarshal_find(state, !is_off(variable(options, "LADEWERK_UNMARSHAL")));
	if (!result) {
		Py_XSETREF(state->finder, lw_finder_create(state));
		result = state->finder ? 0 : -1;
	}
	if (!result)
		result = insert_finder(state);
	if (result)
		return result;
	lw_told_unplace(state); /* of a listener that came meanwhile: other threads run while this one waits for the session */
	state->installed = true;
	result = replace_functions(state);
	if (!result && state->lazy.mode != LW_LAZY_OFF)
		result = lw_lazy_hooks_begin(state);
	return result ? result : lw_report_if_asked(state, variable(options, "LADEWERK_REPORT"));
}

static void uninstall_unheard(lw_state *state)
{
	state->installed = state->fast = false;
	lw_lazy_end(state);
	PyObject *meta_path = state->sys_dict ? PyDict_GetItemString(state->sys_dict, "meta_path") : NULL;
	Py_ssize_t at = meta_path && PyList_CheckExact(meta_path) && state->finder ? PySequence_Index(meta_path, state->finder) : -1;
	PyErr_Clear();
	if (at >= 0 && PyList_SetSlice(meta_path, at, at + 1, NULL) < 0)
		PyErr_Clear();
	Py_CLEAR(state->finder);
	if (state->bootstrap_dict) {
		lw_restore_find(state);
		lw_restore(state, state->bootstrap_dict, LW_STR(state, _lock_unlock_module), state->original_wait, state->replacement_wait);
	}
	PyDict_Clear(state->views_single);
	PyList_SetSlice(state->views_multi, 0, PY_SSIZE_T_MAX, NULL);
	lw_unmarshal_clear(state);
}

static void uninstall(lw_state *state)
{
	Py_BEGIN_CRITICAL_SECTION(state->module);
	lw_told_unplace(state);
	uninstall_unheard(state);
	if (lw_told_place(state) < 0)
		PyErr_Clear(); /* without memory: less is told */
	Py_END_CRITICAL_SECTION();
}

/* What a listener needs is out of the way meanwhile: the functions are looked at. */
static int install(lw_state *state, const struct options *options)
{
	int result;
	Py_BEGIN_CRITICAL_SECTION(state->module);
	if (!state->installed)
		lw_told_unplace(state);
	result = install_unheard(state, options);
	if (lw_told_place(state) < 0)
		result = -1;
	Py_END_CRITICAL_SECTION();
	return result;
}

/* After a failed installation; its exception stays. */
static void roll_back(lw_state *state)
{
	struct lw_error error;
	lw_error_save(&error);
	uninstall(state);
	lw_error_restore(&error);
}

PyObject *lw_install(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	lw_state *state = lw_state_of(module);
	struct options options;
	if (parse_options("install", &options, args, nargs, kwnames) < 0)
		return NULL;
	bool active = state->installed;
	int result = install(state, &options);
	if (result && state->installed && !active)
		roll_back(state);
	return result < 0 ? NULL : PyBool_FromLong(result == 0);
}

PyObject *lw_uninstall(PyObject *module, PyObject *unused)
{
	uninstall(lw_state_of(module));
	Py_RETURN_NONE;
}

/* `ladewerk run --lazy`, which somebody has typed, has become this process. */
static bool is_run_lazily(const struct options *options)
{
	const char *pid = variable(options, "LADEWERK_LAZY_PID");
	return pid && atol(pid) == (long)getpid() && PyInterpreterState_Get() == PyInterpreterState_Main();
}

/* One line, where imports are eager although that command asked for lazy ones. Nobody else is told: not who has LADEWERK_LAZY in the environment, nor child processes. */
static void say_why_eager(lw_state *state)
{
	PyObject *file = PySys_GetObject("stderr"), *lazy = state->lazy.reason ? PyUnicode_DecodeFSDefault(state->lazy.reason) : NULL;
	PyObject *why = !state->installed ? state->reason : lazy;
	if (why && file && file != Py_None)
		PySys_FormatStderr("ladewerk: run: imports are eager, despite --lazy: %U; `ladewerk doctor` says more\n", why);
	Py_XDECREF(lazy);
	PyErr_Clear();
}

/* What the .pth files call: never raises, says nothing but why `run --lazy` did not help. ENABLED: this environment was enabled; else only LADEWERK=1 counts. */
PyObject *lw_boot(PyObject *module, PyObject *enabled)
{
	lw_state *state = lw_state_of(module);
	struct options options = { .use_env = !flag("ignore_environment") };
	const char *switched = getenv("LADEWERK");
	int asked = PyObject_IsTrue(enabled) > 0 || (options.use_env && is_on(switched));
	if (asked && !state->installed) {
		int result = install(state, &options);
		if (result && state->installed)
			roll_back(state);
		if (result < 0) {
			struct lw_error error;
			lw_error_save(&error);
			Py_XSETREF(state->reason, PyObject_Str(error.value));
			lw_error_drop(&error);
			PyErr_Clear();
		}
		if (is_run_lazily(&options))
			say_why_eager(state);
	}
	Py_RETURN_NONE;
}

/* --- the cache, for the command line --- */

int lw_find_parts(lw_state *state)
{
	int result = lw_find_parts_quietly(state);
	if (result > 0)
		PyErr_Format(PyExc_RuntimeError, "%U", state->reason);
	return result ? -1 : 0;
}

static int prepare(lw_state *state, const struct options *options, struct lw_store_config *config, PyObject **about)
{
	return lw_find_parts(state) < 0 || (!state->installed && lw_lazy_begin(state, options->use_env) < 0) || store_config(state, options, config, about) < 0 ? -1 : 0;
}

int lw_store_settings(lw_state *state, const char *cache, struct lw_suffixes *suffixes, struct lw_store_config *config, PyObject **about)
{
	struct options options = { .cache = cache, .use_env = !flag("ignore_environment") };
	if (prepare(state, &options, config, about) < 0)
		return -1;
	int result = take_suffixes(state, suffixes);
	if (result > 0)
		PyErr_Format(PyExc_RuntimeError, "%U", state->reason);
	return result ? -1 : 0;
}

PyObject *lw_place(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	struct options options;
	struct lw_store_config config;
	PyObject *about = NULL, *result = NULL;
	char path[LW_PATH_SIZE], key[40];
	if (parse_options("place", &options, args, nargs, kwnames) < 0 || prepare(lw_state_of(module), &options, &config, &about) < 0)
		goto done;
	int error = lw_store_place(&config, path, sizeof(path));
	snprintf(key, sizeof(key), "%016llx%016llx", (unsigned long long)config.key.hi, (unsigned long long)config.key.lo);
	result = Py_BuildValue("NsO", error ? Py_NewRef(Py_None) : PyUnicode_DecodeFSDefault(path), key, about);
done:
	Py_XDECREF(about);
	return result;
}

PyObject *lw_reset(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	struct options options;
	struct lw_store_config config;
	PyObject *about = NULL, *result = NULL;
	char reason[LW_STORE_REASON];
	if (parse_options("reset", &options, args, nargs, kwnames) < 0 || prepare(lw_state_of(module), &options, &config, &about) < 0)
		goto done;
	int removed = lw_store_reset(&config, reason);
	result = removed < 0 ? PyErr_Format(PyExc_OSError, "%s", reason) : PyLong_FromLong(removed);
done:
	Py_XDECREF(about);
	return result;
}
