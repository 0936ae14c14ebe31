/* SPDX-License-Identifier: MIT */
/*
 * find: PathFinder's turn, taken from the index.
 *
 * The loop is PathFinder's: entry after entry, the first regular module wins, namespace portions are collected on the way. Entries that core cannot answer
 * for (foreign path hooks, zip files) are put to their own stock finder, in their turn and under the
 * import lock, as stock does.
 */
#include "observe.h"

/* The last component of NAME as file system bytes: a borrowed buffer, or *KEEP holds it. NULL: not a name we answer for, or an exception. */
static const char *tail_of(PyObject *name, size_t *len, PyObject **keep)
{
	Py_ssize_t size;
	const char *text;
	*keep = NULL;
	if (PyUnicode_IS_COMPACT_ASCII(name)) {
		text = PyUnicode_AsUTF8AndSize(name, &size);
		if (!text)
			return NULL;
	} else {
		*keep = PyUnicode_EncodeFSDefault(name);
		if (!*keep) {
			PyErr_Clear();
			return NULL;
		}
		text = PyBytes_AS_STRING(*keep);
		size = PyBytes_GET_SIZE(*keep);
	}
	const char *dot = memrchr(text, '.', (size_t)size);
	const char *tail = dot ? dot + 1 : text;
	*len = (size_t)(text + size - tail);
	if (lw_names_importable(tail, *len))
		return tail;
	Py_CLEAR(*keep);
	return NULL;
}

/* GLANCE: is it there at all? */
static int resolve(lw_state *state, lw_view_object *view, bool glance, uint32_t start, const char *tail, size_t len, struct lw_hit *hit)
{
	lw_enter(state->session);
	int error = lw_session_resolve_quickly(state->session, view->view, start, tail, len, hit);
	lw_session_leave(state->session);
	if (error != -EAGAIN)
		return error;
	Py_BEGIN_ALLOW_THREADS
	error = (glance ? lw_session_glance : lw_session_resolve)(state->session, view->view, start, tail, len, hit);
	Py_END_ALLOW_THREADS
	return error;
}

/* What the stock finder of ITEM says; TARGET: what is to be reloaded, or None. 1: *SPEC (may be None); 0: it has no find_spec; -1. */
static int ask_foreign(lw_state *state, PyObject *item, PyObject *name, PyObject *target, PyObject **spec)
{
	PyObject *find_spec = NULL;
	int result = -1;
	if (lw_import_lock(state) < 0)
		return -1;
	PyObject *finder = PyObject_CallMethodOneArg(state->path_finder, LW_STR(state, _path_importer_cache), item);
	if (!finder)
		goto done;
	if (finder == Py_None) {
		*spec = Py_NewRef(Py_None);
		result = 1;
		goto done;
	}
	result = lw_attr_get(finder, LW_STR(state, find_spec), &find_spec);
	if (result > 0) {
		PyObject *args[] = { name, target };
		*spec = PyObject_Vectorcall(find_spec, args, 2, NULL);
		if (!*spec)
			result = -1;
	}
done:
	Py_XDECREF(finder);
	Py_XDECREF(find_spec);
	lw_import_unlock(state);
	return result;
}

/* Fold what a foreign finder said into PORTIONS. 1: *SPEC settles it; 0: go on; -1. */
static int take_foreign(lw_state *state, PyObject **spec, PyObject *portions)
{
	if (*spec == Py_None) {
		Py_CLEAR(*spec);
		return 0;
	}
	PyObject *loader = PyObject_GetAttr(*spec, LW_STR(state, loader));
	if (!loader)
		return -1;
	bool settled = loader != Py_None;
	Py_DECREF(loader);
	if (settled)
		return 1;
	PyObject *more = PyObject_GetAttr(*spec, LW_STR(state, submodule_search_locations));
	Py_CLEAR(*spec);
	if (more == Py_None) {
		PyErr_SetString(PyExc_ImportError, "spec missing loader");
		Py_DECREF(more);
		return -1;
	}
	PyObject *none = more ? PyObject_CallMethod(portions, "extend", "O", more) : NULL;
	Py_XDECREF(more);
	Py_XDECREF(none);
	return none ? 0 : -1;
}

static int add_portion(PyObject *portions, const struct lw_hit *hit)
{
	PyObject *path = PyUnicode_DecodeFSDefaultAndSize(hit->path, (Py_ssize_t)hit->len);
	int result = path ? PyList_Append(portions, path) : -1;
	Py_XDECREF(path);
	return result;
}

static PyObject *namespace_spec(lw_state *state, PyObject *name, PyObject *portions)
{
	PyObject *args[] = { name, Py_None };
	PyObject *spec = PyObject_Vectorcall(state->module_spec, args, 2, NULL);
	PyObject *get_spec = spec ? PyObject_GetAttr(state->path_finder, LW_STR(state, _get_spec)) : NULL;
	PyObject *path = get_spec ? PyObject_CallFunctionObjArgs(state->namespace_path, name, portions, get_spec, NULL) : NULL;
	if (!path || PyObject_SetAttr(spec, LW_STR(state, submodule_search_locations), path) < 0)
		Py_CLEAR(spec);
	Py_XDECREF(get_spec);
	Py_XDECREF(path);
	return spec;
}

static enum lw_found aside(enum lw_aside *why, enum lw_aside reason)
{
	*why = reason;
	return LW_FOUND_ASIDE;
}

static enum lw_found walk(lw_state *state, lw_view_object *view, bool glance, PyObject *name, PyObject *target, const char *tail, size_t len, struct lw_hit *hit,
		PyObject **spec, PyObject **portions, enum lw_aside *why)
{
	for (uint32_t start = 0;; start = hit->entry + 1) {
		int error = resolve(state, view, glance, start, tail, len, hit);
		if (error)
			return aside(why, LW_ASIDE_ERROR);
		if (view->entries)
			lw_view_reached(view, hit->kind == LW_HIT_NONE ? view->entries - 1 : hit->entry);
		if (hit->kind == LW_HIT_MODULE || hit->kind == LW_HIT_PACKAGE) {
			if (hit->suffix == lw_session_suffixes(state->session)->source)
				return LW_FOUND_SOURCE;
			*spec = lw_make_spec(state, name, hit);
			return *spec ? LW_FOUND_FILE : LW_FOUND_ERROR;
		}
		if (hit->kind == LW_HIT_NONE)
			break;
		if (!*portions && !(*portions = PyList_New(0)))
			return LW_FOUND_ERROR;
		if (hit->kind == LW_HIT_PORTION) {
			if (add_portion(*portions, hit) < 0)
				return LW_FOUND_ERROR;
			continue;
		}
		int asked = ask_foreign(state, view->item[view->item_of[hit->entry]], name, target, spec);
		if (asked == 0)
			return aside(why, LW_ASIDE_LEGACY);
		int settled = asked < 0 ? -1 : take_foreign(state, spec, *portions);
		if (settled < 0)
			return LW_FOUND_ERROR;
		if (settled > 0) {
			lw_served(state, LW_SERVED_FOREIGN);
			lw_span_how(LW_HOW_FOREIGN);
			return LW_FOUND_SPEC;
		}
	}
	if (!*portions || !PyList_GET_SIZE(*portions))
		return LW_FOUND_MISS;
	*spec = namespace_spec(state, name, *portions);
	lw_served(state, LW_SERVED_NAMESPACE);
	lw_span_how(LW_HOW_NAMESPACE);
	return *spec ? LW_FOUND_SPEC : LW_FOUND_ERROR;
}

static enum lw_found find(lw_state *state, PyObject *name, PyObject *path, PyObject *target, bool glance, struct lw_hit *hit, PyObject **spec, enum lw_aside *why)
{
	PyObject *keep, *portions = NULL;
	size_t len;
	*spec = NULL;
	const char *tail = tail_of(name, &len, &keep);
	if (!tail)
		return PyErr_Occurred() ? LW_FOUND_ERROR : aside(why, LW_ASIDE_NAME);
	lw_view_object *view = lw_paths_view(state, path, why);
	enum lw_found found;
	if (view)
		found = walk(state, view, glance, name, target, tail, len, hit, spec, &portions, why);
	else
		found = PyErr_Occurred() ? LW_FOUND_ERROR : LW_FOUND_ASIDE;
	if (found == LW_FOUND_ERROR)
		Py_CLEAR(*spec);
	Py_XDECREF(portions);
	Py_XDECREF(keep);
	Py_XDECREF(view);
	return found;
}

enum lw_found lw_find(lw_state *state, PyObject *name, PyObject *path, struct lw_hit *hit, PyObject **spec, enum lw_aside *why)
{
	return find(state, name, path, Py_None, false, hit, spec, why);
}

enum lw_found lw_glance(lw_state *state, PyObject *name, PyObject *path, struct lw_hit *hit, PyObject **spec, enum lw_aside *why)
{
	return find(state, name, path, Py_None, true, hit, spec, why);
}

bool lw_is_source(lw_state *state, const struct lw_hit *hit, PyObject *path)
{
	if ((hit->kind != LW_HIT_MODULE && hit->kind != LW_HIT_PACKAGE) || hit->suffix != lw_session_suffixes(state->session)->source)
		return false;
	PyObject *there = PyUnicode_DecodeFSDefaultAndSize(hit->path, (Py_ssize_t)hit->len);
	bool same = there && PyUnicode_Compare(there, path) == 0;
	Py_XDECREF(there);
	PyErr_Clear();
	return same;
}

int lw_find_source(lw_state *state, PyObject *name, PyObject *entry, PyObject *path, struct lw_hit *hit)
{
	enum lw_aside why;
	PyObject *keep, *list;
	size_t len;
	int result = 0;
	const char *tail = tail_of(name, &len, &keep);
	if (!tail)
		return PyErr_Occurred() ? -1 : 0;
	list = PyList_New(1);
	if (list)
		PyList_SET_ITEM(list, 0, Py_NewRef(entry));
	lw_view_object *view = list ? lw_paths_view(state, list, &why) : NULL;
	if (view)
		result = resolve(state, view, false, 0, tail, len, hit) == LW_OK && lw_is_source(state, hit, path);
	else if (PyErr_Occurred())
		result = -1;
	Py_XDECREF(view);
	Py_XDECREF(list);
	Py_XDECREF(keep);
	return result;
}

/* --- the finder on sys.meta_path --- */

typedef struct {
	PyObject_HEAD
	PyObject *module;	/* keeps the state alive */
} finder_object;

/* Whether our finder stands directly ahead of PathFinder in sys.meta_path, so that its turn is PathFinder's: 1, 0, -1. */
static int in_place(lw_state *state)
{
	PyObject *meta_path;
	int result = lw_dict_get(state->sys_dict, LW_STR(state, meta_path), &meta_path);
	if (result <= 0)
		return result;
	result = 0;
	for (Py_ssize_t i = 0; PyList_CheckExact(meta_path) && i + 1 < PyList_GET_SIZE(meta_path); i++)
		if (PyList_GET_ITEM(meta_path, i) == state->finder && PyList_GET_ITEM(meta_path, i + 1) == state->path_finder)
			result = 1;
	Py_DECREF(meta_path);
	return result;
}

PyObject *lw_find_spec(lw_state *state, PyObject *name, PyObject *path, PyObject *target)
{
	enum lw_aside why = LW_ASIDE_META_PATH;
	struct lw_hit hit;
	PyObject *spec;
	int intact = in_place(state);
	if (intact > 0)
		intact = lw_bootstrap_intact(state, &why);
	if (intact < 0)
		return NULL;
	enum lw_found found = intact ? find(state, name, path == Py_None ? NULL : path, target, false, &hit, &spec, &why) : LW_FOUND_ASIDE;
	switch (found) {
	case LW_FOUND_ERROR:
		return NULL;
	case LW_FOUND_ASIDE:
		lw_stepped_aside(state, why);
		Py_RETURN_NONE;
	case LW_FOUND_MISS:
		Py_RETURN_NONE;
	case LW_FOUND_SOURCE:
		spec = lw_make_spec(state, name, &hit);
		break;
	case LW_FOUND_FILE:
	case LW_FOUND_SPEC:
		break;
	}
	lw_served(state, LW_SERVED_SPEC);
	return spec;
}

int lw_find_spec_arguments(PyObject *args, PyObject *kwargs, PyObject **name, PyObject **path, PyObject **target, PyObject **engine)
{
	static char *names[] = { "fullname", "path", "target", "engine", NULL };
	*path = *target = *engine = Py_None;
	return PyArg_ParseTupleAndKeywords(args, kwargs, "U|OOO:find_spec", names, name, path, target, engine) ? 0 : -1;
}

static PyObject *finder_find_spec(PyObject *self, PyObject *args, PyObject *kwargs)
{
	PyObject *name, *path, *target, *engine;
	if (lw_find_spec_arguments(args, kwargs, &name, &path, &target, &engine) < 0)
		return NULL;
	if (engine != Py_None)
		Py_RETURN_NONE; /* this is the interpreter's path; engines have a finder of their own (inside.c) */
	lw_state *state = lw_state_of(((finder_object *)self)->module);
	if (!state || !state->path_finder)
		Py_RETURN_NONE;
	/* Removed while somebody walks along sys.meta_path: PathFinder has slid into the place that was just passed. */
	if (!state->installed)
		return PyObject_CallMethod(state->path_finder, "find_spec", "OOO", name, path, target);
	return lw_find_spec(state, name, path, target);
}

void lw_invalidate_caches(lw_state *state)
{
	if (state && state->session) {
		lw_enter(state->session);
		lw_session_invalidate(state->session);
		lw_session_leave(state->session);
	}
}

static PyObject *finder_invalidate_caches(PyObject *self, PyObject *unused)
{
	lw_invalidate_caches(lw_state_of(((finder_object *)self)->module));
	Py_RETURN_NONE;
}

static PyObject *finder_repr(PyObject *self)
{
	return PyUnicode_FromString("<ladewerk finder>");
}

static int finder_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(((finder_object *)self)->module);
	return 0;
}

static int finder_clear(PyObject *self)
{
	Py_CLEAR(((finder_object *)self)->module);
	return 0;
}

static void finder_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	PyObject_GC_UnTrack(self);
	finder_clear(self);
	type->tp_free(self);
	Py_DECREF(type);
}

const char lw_find_spec_doc[] = "find_spec($self, fullname, path=None, target=None, engine=None)\n--\n\n"
	"The spec PathFinder would find, with the stock loader; None if there is none, or if PathFinder had better look itself.";
const char lw_invalidate_caches_doc[] = "invalidate_caches($self)\n--\n\nCompare everything with the file system again before it is used.";

static PyMethodDef finder_methods[] = {
	{ "find_spec", (PyCFunction)(void (*)(void))finder_find_spec, METH_VARARGS | METH_KEYWORDS, lw_find_spec_doc },
	{ "invalidate_caches", finder_invalidate_caches, METH_NOARGS, lw_invalidate_caches_doc },
	{ NULL, NULL, 0, NULL },
};

PyDoc_STRVAR(finder_doc, "The meta path finder that takes PathFinder's turn.");

static PyType_Slot finder_slots[] = {
	{ Py_tp_methods, finder_methods },
	{ Py_tp_repr, finder_repr },
	{ Py_tp_traverse, finder_traverse },
	{ Py_tp_clear, finder_clear },
	{ Py_tp_dealloc, finder_dealloc },
	{ Py_tp_doc, (void *)finder_doc },
	{ 0, NULL },
};

PyType_Spec lw_finder_spec = {
	.name = "ladewerk._native.Finder",
	.basicsize = sizeof(finder_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = finder_slots,
};

PyObject *lw_finder_create(lw_state *state)
{
	PyTypeObject *type = (PyTypeObject *)state->finder_type;
	finder_object *finder = (finder_object *)type->tp_alloc(type, 0);
	if (finder)
		finder->module = Py_NewRef(state->module);
	return (PyObject *)finder;
}
