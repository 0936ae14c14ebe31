/* SPDX-License-Identifier: MIT */
/*
 * paths: lists of path entries as core views.
 *
 * sys.path and __path__ are plain lists that anybody changes at any time, so a view is found again by content: the item pointers (strings are immutable) and,
 * where an item's meaning can change, by what it means now: '' by the working directory, a relative entry by the FileFinder
 * that sys.path_importer_cache holds for it (which fixed the directory when it was made).
 *
 * An entry for which sys.path_importer_cache holds anything but a plain FileFinder is not ours; nor is one that turns out to be
 * no directory (core says so): the stock finder is asked for those, in their turn. A cached None is not believed: stock remembers a missing directory until
 * invalidate_caches(), we look.
 */
#include "state.h"

#include <stddef.h>

enum { MULTI_VIEWS = 16 };

/* --- the view object --- */

static int view_traverse(PyObject *self, visitproc visit, void *arg)
{
	lw_view_object *view = (lw_view_object *)self;
	Py_VISIT(Py_TYPE(self));
	for (Py_ssize_t i = 0; i < view->count; i++)
		Py_VISIT(view->finder[i]);
	Py_VISIT(view->importer_cache);
	return 0;
}

static int view_clear(PyObject *self)
{
	lw_view_object *view = (lw_view_object *)self;
	for (Py_ssize_t i = 0; i < view->count; i++)
		Py_CLEAR(view->finder[i]);
	Py_CLEAR(view->importer_cache);
	return 0;
}

static void view_dealloc(PyObject *self)
{
	lw_view_object *view = (lw_view_object *)self;
	PyTypeObject *type = Py_TYPE(self);
	PyObject_GC_UnTrack(self);
	view_clear(self);
	for (Py_ssize_t i = 0; i < view->count; i++)
		Py_XDECREF(view->item[i]);
	if (view->view) {
		lw_enter(view->session);
		lw_session_view_destroy(view->session, view->view);
		lw_session_leave(view->session);
	}
	PyMem_Free(view->item);
	PyMem_Free(view->finder);
	PyMem_Free(view->item_of);
	Py_XDECREF(view->cwd);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyType_Slot view_slots[] = {
	{ Py_tp_traverse, view_traverse },
	{ Py_tp_clear, view_clear },
	{ Py_tp_dealloc, view_dealloc },
	{ Py_tp_doc, "A path list as Ladewerk searches it (internal)." },
	{ 0, NULL },
};

PyType_Spec lw_view_spec = {
	.name = "ladewerk._native._View",
	.basicsize = sizeof(lw_view_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = view_slots,
};

static lw_view_object *view_alloc(lw_state *state, PyObject *list)
{
	PyTypeObject *type = (PyTypeObject *)state->view_type;
	lw_view_object *view = (lw_view_object *)type->tp_alloc(type, 0);
	if (!view)
		return NULL;
	Py_ssize_t count = PyList_GET_SIZE(list); /* not before: the collector may have run, and somebody's finalizer that changes the list */
	view->session = state->session;
	view->item = PyMem_Calloc((size_t)count + 1, sizeof(*view->item));
	view->finder = PyMem_Calloc((size_t)count + 1, sizeof(*view->finder));
	view->item_of = PyMem_Calloc((size_t)count + 1, sizeof(*view->item_of));
	if (!view->item || !view->finder || !view->item_of) {
		Py_DECREF(view);
		PyErr_NoMemory();
		return NULL;
	}
	view->count = count;
	for (Py_ssize_t i = 0; i < count; i++)
		view->item[i] = Py_NewRef(PyList_GET_ITEM(list, i));
	return view;
}

/* --- one entry --- */

static PyObject *working_directory(void)
{
	char buffer[LW_PATH_SIZE];
	if (!getcwd(buffer, sizeof(buffer)))
		return NULL;
	return PyUnicode_DecodeFSDefault(buffer);
}

static bool is_absolute(PyObject *entry)
{
	return PyUnicode_GET_LENGTH(entry) > 0 && PyUnicode_READ_CHAR(entry, 0) == '/';
}

/* FINDER, a FileFinder, has what __init__() gives it and no more: a method of its own, for one. 1, 0, -1. */
static int has_usual_attributes(lw_state *state, PyObject *finder)
{
	enum { USUAL = 5 };
	PyObject *dict = PyObject_GetAttr(finder, LW_STR(state, __dict__));
	if (!dict)
		return -1;
	bool usual = PyDict_CheckExact(dict) && PyDict_GET_SIZE(dict) == USUAL;
	Py_DECREF(dict);
	return usual;
}

/* A FileFinder as the stock hook makes it: the type itself, with the usual loaders. */
static int is_plain_file_finder(lw_state *state, PyObject *finder)
{
	int usual = (PyObject *)Py_TYPE(finder) == state->file_finder ? has_usual_attributes(state, finder) : 0;
	if (usual <= 0)
		return usual;
	PyObject *loaders = PyObject_GetAttr(finder, LW_STR(state, _loaders));
	if (!loaders)
		return -1;
	int same = PyObject_RichCompareBool(loaders, state->loader_details, Py_EQ);
	Py_DECREF(loaders);
	return same;
}

struct entries {
	struct lw_path_entry *entry;
	PyObject *kept;		/* list: owners of the encoded paths */
};

static int keep(struct entries *entries, PyObject *owner)
{
	return PyList_Append(entries->kept, owner);
}

/* The bytes of TEXT, which stay for as long as ENTRIES: 1, 0 (there are none), -1. The file system encoding is UTF-8 (activate.c). */
static int encode_text(struct entries *entries, PyObject *text, const char **path, size_t *len)
{
	if (PyUnicode_IS_COMPACT_ASCII(text)) {
		*path = (const char *)PyUnicode_1BYTE_DATA(text);
		*len = (size_t)PyUnicode_GET_LENGTH(text);
		return keep(entries, text) < 0 ? -1 : 1;
	}
	PyObject *bytes = PyUnicode_EncodeFSDefault(text);
	if (!bytes) {
		PyErr_Clear();
		return 0;
	}
	int result = keep(entries, bytes) < 0 ? -1 : 1;
	*path = PyBytes_AS_STRING(bytes);
	*len = (size_t)PyBytes_GET_SIZE(bytes);
	Py_DECREF(bytes);
	return result;
}

/* Encode TEXT as a directory path: 1, 0 (not something we answer for), -1. */
static int encode(struct entries *entries, PyObject *text, struct lw_path_entry *entry)
{
	const char *path;
	size_t len;
	int result = encode_text(entries, text, &path, &len);
	if (result <= 0)
		return result;
	if (memchr(path, '\0', len) || path[0] != '/')
		return 0;
	while (len && path[len - 1] == '/')
		len--;
	if (len >= LW_PATH_SIZE)
		return 0;
	*entry = (struct lw_path_entry){ .path = path, .len = (uint32_t)len };
	return 1;
}

static int encode_finder_path(struct entries *entries, PyObject *finder, struct lw_path_entry *entry)
{
	PyObject *path = PyObject_GetAttrString(finder, "path");
	if (!path)
		return -1;
	int result = PyUnicode_CheckExact(path) ? encode(entries, path, entry) : 0;
	Py_DECREF(path);
	return result;
}

/*
 * What item I of VIEW means. 1: *ENTRY filled in (path NULL: foreign); 0: step aside; -1: exception; 2: leave it out (as PathFinder does).
 */
static int classify(lw_state *state, lw_view_object *view, Py_ssize_t i, struct entries *entries, struct lw_path_entry *entry)
{
	PyObject *item = view->item[i], *key = item, *finder = NULL;
	*entry = (struct lw_path_entry){ 0 };
	if (!PyUnicode_Check(item))
		return 2;
	if (!PyUnicode_CheckExact(item))
		return 0;
	if (PyUnicode_GET_LENGTH(item) == 0) {
		if (!view->uses_cwd)
			view->cwd = working_directory();
		PyErr_Clear();
		view->uses_cwd = true;
		if (!view->cwd)
			return 2;
		key = view->cwd;
	}
	int found = lw_dict_get(view->importer_cache, key, &finder);
	if (found < 0)
		return -1;
	if (finder == Py_None)
		Py_CLEAR(finder);
	if (!finder && !is_absolute(key))
		return 1; /* its directory is fixed when the stock finder is made: in its turn, not before */
	int result = 1;
	if (!finder) {
		result = encode(entries, key, entry);
	} else {
		int plain = is_plain_file_finder(state, finder);
		if (plain > 0)
			result = encode_finder_path(entries, finder, entry);
		else if (plain < 0)
			result = -1;
	}
	view->finder[i] = finder;
	return result;
}

PyObject *lw_importer_cache(lw_state *state)
{
	PyObject *cache;
	if (lw_dict_get(state->sys_dict, LW_STR(state, path_importer_cache), &cache) < 0)
		return NULL;
	if (cache && !PyDict_CheckExact(cache))
		Py_CLEAR(cache);
	return cache;
}

/* --- building --- */

static lw_view_object *build(lw_state *state, PyObject *list, bool hooks, enum lw_aside *why)
{
	*why = LW_ASIDE_PATH;
	lw_view_object *view = view_alloc(state, list);
	if (!view)
		return NULL;
	struct entries entries = { 0 };
	int result = -1;
	view->hooks = hooks;
	view->importer_cache = lw_importer_cache(state);
	view->importer_cache_version = view->importer_cache ? lw_watch_version(state, view->importer_cache) : 0;
	entries.entry = PyMem_Calloc((size_t)view->count + 1, sizeof(*entries.entry));
	entries.kept = PyList_New(0);
	if (!entries.entry || !entries.kept)
		goto done;
	result = view->importer_cache ? 1 : PyErr_Occurred() ? -1 : 0;
	for (Py_ssize_t i = 0; i < view->count && result > 0; i++) {
		result = classify(state, view, i, &entries, &entries.entry[view->entries]);
		if (result == 1)
			view->item_of[view->entries++] = (uint32_t)i;
	}
	if (result > 0) {
		lw_enter(state->session);
		view->view = lw_session_view(state->session, entries.entry, view->entries, hooks);
		lw_session_leave(state->session);
		result = view->view != NULL;
	}
done:
	PyMem_Free(entries.entry);
	Py_XDECREF(entries.kept);
	if (result <= 0)
		Py_CLEAR(view);
	if (result < 0 && !PyErr_Occurred())
		PyErr_NoMemory();
	return view;
}

/* --- finding it again --- */

static bool same_items(const lw_view_object *view, PyObject *list)
{
	return PyList_GET_SIZE(list) == view->count
		&& memcmp(((PyListObject *)list)->ob_item, view->item, (size_t)view->count * sizeof(*view->item)) == 0;
}

/* FINDER, a FileFinder, searches the directory PATH: 1, 0, -1. */
static int is_finder_of(PyObject *finder, PyObject *path)
{
	PyObject *its = PyObject_GetAttrString(finder, "path");
	int same = its ? PyUnicode_CheckExact(its) && PyUnicode_Compare(its, path) == 0 : -1;
	Py_XDECREF(its);
	return same;
}

/* Whether item I gets the same finder as when VIEW was built: 1, 0, -1. */
static int same_finder(lw_state *state, const lw_view_object *view, PyObject *cache, Py_ssize_t i)
{
	PyObject *item = view->item[i], *finder;
	if (!PyUnicode_CheckExact(item))
		return 1;
	PyObject *key = PyUnicode_GET_LENGTH(item) ? item : view->cwd;
	if (!key)
		return 1;
	if (lw_dict_get(cache, key, &finder) < 0)
		return -1;
	int same = finder == view->finder[i] || (finder == Py_None && !view->finder[i]);
	/* An absolute entry that we search by path has got its stock finder meanwhile: a plain one changes nothing. */
	if (!same && finder && !view->finder[i] && is_absolute(key))
		same = is_plain_file_finder(state, finder) > 0 ? is_finder_of(finder, key) : PyErr_Occurred() ? -1 : 0;
	Py_XDECREF(finder);
	return same;
}

static bool importer_cache_changed(lw_view_object *view, PyObject *cache, uint64_t version)
{
	bool changed;
	Py_BEGIN_CRITICAL_SECTION(view);
	changed = !version || cache != view->importer_cache || version != view->importer_cache_version;
	Py_END_CRITICAL_SECTION();
	return changed;
}

static void remember_importer_cache(lw_view_object *view, PyObject *cache, uint64_t version)
{
	PyObject *before = NULL;
	Py_BEGIN_CRITICAL_SECTION(view);
	if (view->importer_cache != cache) {
		before = view->importer_cache;
		view->importer_cache = Py_NewRef(cache);
	}
	view->importer_cache_version = version;
	Py_END_CRITICAL_SECTION();
	Py_XDECREF(before);
}

/* Whether VIEW still means what it meant: 1, 0, -1. */
static int still_holds(lw_state *state, lw_view_object *view, bool hooks)
{
	if (view->hooks != hooks)
		return 0;
	PyObject *cache = lw_importer_cache(state);
	if (!cache)
		return PyErr_Occurred() ? -1 : 0;
	int same = 1;
	uint64_t version = lw_watch_version(state, cache); /* before we look: what changes meanwhile is seen next time */
	/* Short lists always: a finder's list of loaders may have been changed in place, which the cache does not show. */
	if (view->count <= LW_VIEW_LINEAR || importer_cache_changed(view, cache, version)) {
		for (Py_ssize_t i = 0; i < view->count && same > 0; i++)
			same = same_finder(state, view, cache, i);
		if (same > 0)
			remember_importer_cache(view, cache, version);
	}
	Py_DECREF(cache);
	return same;
}

static bool same_directory(const lw_view_object *view)
{
	if (!view->uses_cwd)
		return true;
	PyObject *now = working_directory();
	PyErr_Clear();
	bool same = now == view->cwd || (now && view->cwd && PyUnicode_Compare(now, view->cwd) == 0);
	Py_XDECREF(now);
	return same;
}

static int usable(lw_state *state, lw_view_object *view, bool hooks)
{
	if (!same_directory(view))
		return 0;
	return still_holds(state, view, hooks);
}

static lw_view_object *single(lw_state *state, PyObject *list, bool hooks, enum lw_aside *why)
{
	PyObject *item = PyList_GET_ITEM(list, 0), *found;
	if (!PyUnicode_CheckExact(item))
		return build(state, list, hooks, why);
	if (lw_dict_get(state->views_single, item, &found) < 0)
		return NULL;
	if (found) {
		int ok = usable(state, (lw_view_object *)found, hooks);
		if (ok > 0)
			return (lw_view_object *)found;
		Py_DECREF(found);
		if (ok < 0)
			return NULL;
	}
	lw_view_object *view = build(state, list, hooks, why);
	/* Unless the list was changed meanwhile. */
	if (view && view->count == 1 && view->item[0] == item && PyDict_SetItem(state->views_single, view->item[0], (PyObject *)view) < 0)
		Py_CLEAR(view);
	return view;
}

static lw_view_object *multi(lw_state *state, PyObject *list, bool hooks, enum lw_aside *why)
{
	PyObject *views = state->views_multi;
	for (Py_ssize_t i = 0; i < MULTI_VIEWS; i++) {
		lw_view_object *view = (lw_view_object *)lw_list_item(views, i);
		if (!view)
			break;
		int ok = same_items(view, list) ? usable(state, view, hooks) : 0;
		if (ok > 0)
			return view;
		Py_DECREF(view);
		if (ok < 0)
			return NULL;
	}
	lw_view_object *view = build(state, list, hooks, why);
	if (!view)
		return NULL;
	Py_ssize_t size = PyList_GET_SIZE(views);
	if (PyList_Insert(views, 0, (PyObject *)view) < 0 || (size >= MULTI_VIEWS && PyList_SetSlice(views, MULTI_VIEWS, size + 1, NULL) < 0))
		Py_CLEAR(view);
	return view;
}

/* A list that nobody changes while we look at it: itself under the GIL (but for what finalizers do, when something is allocated), else a copy. */
static PyObject *stable(PyObject *list)
{
#ifdef Py_GIL_DISABLED
	return PyList_GetSlice(list, 0, PY_SSIZE_T_MAX);
#else
	return Py_NewRef(list);
#endif
}

/* PATH as a list of our own or an unchanged exact list. NULL without exception: not one. */
static PyObject *as_list(lw_state *state, PyObject *path)
{
	if (!path) {
		PyObject *sys_path;
		if (lw_dict_get(state->sys_dict, LW_STR(state, path), &sys_path) < 0)
			return NULL;
		if (sys_path && !PyList_CheckExact(sys_path))
			Py_CLEAR(sys_path);
		if (sys_path)
			Py_SETREF(sys_path, stable(sys_path));
		return sys_path;
	}
	if (PyList_CheckExact(path))
		return stable(path);
	if (PyTuple_CheckExact(path) || (PyObject *)Py_TYPE(path) == state->namespace_path)
		return PySequence_List(path);
	return NULL;
}

/* --- hooks that come later --- */

/* Any plain FileFinder that is in the cache from the start, and its entry. */
int lw_paths_begin(lw_state *state)
{
	PyObject *cache = lw_importer_cache(state), *items = cache ? PyDict_Items(cache) : NULL;
	Py_CLEAR(state->first_entry);
	Py_CLEAR(state->first_finder);
	for (Py_ssize_t i = 0; items && !state->first_finder && i < PyList_GET_SIZE(items); i++) {
		PyObject *entry = PyTuple_GET_ITEM(PyList_GET_ITEM(items, i), 0), *finder = PyTuple_GET_ITEM(PyList_GET_ITEM(items, i), 1);
		int plain = PyUnicode_CheckExact(entry) ? is_plain_file_finder(state, finder) : 0;
		if (plain > 0) {
			state->first_entry = Py_NewRef(entry);
			state->first_finder = Py_NewRef(finder);
		}
		if (plain < 0)
			break;
	}
	Py_XDECREF(items);
	Py_XDECREF(cache);
	return PyErr_Occurred() ? -1 : 0;
}

/* CACHE is as ever, but for what has come since: 1, 0, -1. */
static int was_kept(lw_state *state, PyObject *cache)
{
	PyObject *finder = NULL;
	int found = state->first_finder ? lw_dict_get(cache, state->first_entry, &finder) : 0;
	if (found > 0)
		found = finder == state->first_finder;
	Py_XDECREF(finder);
	return found;
}

/* What the stock hooks say of ENTRY, into CACHE, unless it has something for it. 0 or -1. */
static int give_finder(lw_state *state, PyObject *cache, PyObject *entry)
{
	int has = PyDict_Contains(cache, entry);
	if (has)
		return has < 0 ? -1 : 0;
	PyObject *finder = PyObject_CallOneArg(state->file_hook, entry);
	if (!finder && PyErr_ExceptionMatches(PyExc_ImportError)) {
		PyErr_Clear();
		finder = Py_NewRef(Py_None);
	}
	int result = finder ? PyDict_SetItem(cache, entry, finder) : -1;
	Py_XDECREF(finder);
	return result;
}

static int give_finders(lw_state *state, PyObject *cache, const lw_view_object *view)
{
	int result = 0;
	for (uint32_t entry = 0; entry < view->reached && result == 0; entry++) {
		PyObject *item = view->item[view->item_of[entry]], *key = PyUnicode_CheckExact(item) && !PyUnicode_GET_LENGTH(item) ? view->cwd : item;
		if (key && PyUnicode_CheckExact(key) && is_absolute(key))
			result = give_finder(state, cache, key);
	}
	return result;
}

/* Somebody has put a hook ahead of the stock ones. Of entries that were searched before stock has finders, and does not ask it: unless the cache was cleared. 0 or -1. */
static int give_all_finders(lw_state *state)
{
	PyObject *cache = lw_importer_cache(state), *views = NULL;
	int result = cache ? was_kept(state, cache) : PyErr_Occurred() ? -1 : 0;
	if (result > 0) {
		views = PyDict_Values(state->views_single);
		result = views && PyList_SetSlice(views, 0, 0, state->views_multi) == 0 ? 0 : -1;
		for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(views); i++)
			result = give_finders(state, cache, (lw_view_object *)PyList_GET_ITEM(views, i));
	}
	Py_XDECREF(views);
	Py_XDECREF(cache);
	return result;
}

lw_view_object *lw_paths_view(lw_state *state, PyObject *path, enum lw_aside *why)
{
	*why = LW_ASIDE_HOOKS;
	bool hooks;
	int usual = lw_bootstrap_hooks(state, &hooks);
	bool late = usual == 0 && !state->hooks_ahead;
	state->hooks_ahead = usual == 0;
	if (usual < 0 || (late && give_all_finders(state) < 0) || usual == 0)
		return NULL;
	*why = LW_ASIDE_PATH;
	PyObject *list = as_list(state, path);
	if (!list)
		return NULL;
	lw_view_object *view = PyList_GET_SIZE(list) == 1 ? single(state, list, hooks, why) : multi(state, list, hooks, why);
	Py_DECREF(list);
	return view;
}
