/* SPDX-License-Identifier: MIT */
/*
 * graph: `GraphBuilder` finds a stored graph of some roots that still holds, or makes and stores a new one; `Graph` answers questions.
 *
 * A Graph never changes, but for sections that are read when they are first needed (under its mutex, without Python); any number of
 * threads may ask it. A GraphBuilder is for one thread at a time, and says so.
 */
#include "attach.h"
#include "client.h"
#include "edges.h"
#include "graph_build.h"
#include "graph_fresh.h"
#include "graph_store.h"
#include "pyc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <marshal.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char *const node_kinds[LW_GRAPH_KINDS] = { "module", "package", "namespace", "extension", "bytecode", "external" };
static const char *const states[] = { "read", "broken", "unreadable" };
enum { ALL_KINDS = (1 << LW_EDGE_KINDS) - 1 };
_Static_assert((int)LW_EDGE_KINDS <= (int)LW_GRAPH_EDGE_KINDS, "a bit for each");

static PyObject *os_error(int error, PyObject *path)
{
	if (error == -ENOMEM)
		return PyErr_NoMemory();
	errno = -error;
	return path ? PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path) : PyErr_SetFromErrno(PyExc_OSError);
}

/* --- Graph --- */

typedef struct {
	PyObject_HEAD
	pthread_mutex_t mutex;	/* around loading */
	_Atomic unsigned loaded;	/* sections: whoever sees them here need not wait, not even in the child of a fork during a load */
	lw_graph *graph;
} graph_object;

static void graph_dealloc(PyObject *object)
{
	graph_object *self = (graph_object *)object;
	PyTypeObject *type = Py_TYPE(object);
	lw_graph_close(self->graph);
	pthread_mutex_destroy(&self->mutex);
	type->tp_free(object);
	Py_DECREF(type);
}

/* Takes GRAPH. TYPE is Graph. */
static PyObject *graph_wrap(PyTypeObject *type, lw_graph *graph)
{
	graph_object *self = (graph_object *)type->tp_alloc(type, 0);
	if (!self) {
		lw_graph_close(graph);
		return NULL;
	}
	pthread_mutex_init(&self->mutex, NULL);
	self->graph = graph;
	return (PyObject *)self;
}

/* 0, or -1 with an exception. */
static int need(graph_object *self, unsigned sections)
{
	int error;
	if ((atomic_load_explicit(&self->loaded, memory_order_acquire) & sections) == sections)	/* with the store below */
		return 0;
	Py_BEGIN_ALLOW_THREADS
	pthread_mutex_lock(&self->mutex);
	error = lw_graph_load(self->graph, sections);
	if (!error)
		atomic_fetch_or_explicit(&self->loaded, sections, memory_order_release);
	pthread_mutex_unlock(&self->mutex);
	Py_END_ALLOW_THREADS
	if (error)
		os_error(error, NULL);
	return error ? -1 : 0;
}

static unsigned for_edges(bool back)
{
	return back ? LW_GRAPH_FOR_IMPORTERS : LW_GRAPH_FOR_IMPORTS;
}

static PyObject *decode(const char *text, Py_ssize_t len)
{
	return PyUnicode_DecodeFSDefaultAndSize(text, len);
}

/* The nodes; *COUNT of them. NULL with an exception. */
static const struct lw_graph_node *nodes_of(graph_object *self, uint32_t *count)
{
	const struct lw_graph_node *nodes;
	if (need(self, LW_GRAPH_FOR_NAMES) < 0)
		return NULL;
	*count = lw_graph_nodes(self->graph, &nodes);
	return nodes;
}

/* The node NUMBER; NULL with an exception. */
static const struct lw_graph_node *node_at(graph_object *self, Py_ssize_t number)
{
	uint32_t count;
	const struct lw_graph_node *nodes = nodes_of(self, &count);
	if (nodes && (number < 0 || number >= (Py_ssize_t)count)) {
		PyErr_Format(PyExc_IndexError, "no node %zd", number);
		return NULL;
	}
	return nodes ? &nodes[number] : NULL;
}

static Py_ssize_t graph_length(PyObject *object)
{
	uint32_t count;
	return nodes_of((graph_object *)object, &count) ? (Py_ssize_t)count : -1;
}

/* Of the node called NAME, or LW_GRAPH_NONE; -1 with an exception. */
static int64_t find(graph_object *self, PyObject *name)
{
	PyObject *bytes = NULL;
	uint32_t count;
	if (!PyUnicode_Check(name)) {
		PyErr_Format(PyExc_TypeError, "a name is a str, not %.100s", Py_TYPE(name)->tp_name);
		return -1;
	}
	if (!nodes_of(self, &count))
		return -1;
	bytes = PyUnicode_EncodeFSDefault(name);
	if (!bytes && PyErr_ExceptionMatches(PyExc_UnicodeError)) {
		PyErr_Clear();
		return LW_GRAPH_NONE;
	}
	int64_t found = bytes ? (int64_t)lw_graph_find(self->graph, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)) : -1;
	Py_XDECREF(bytes);
	return found;
}

static PyObject *graph_find(PyObject *object, PyObject *name)
{
	int64_t found = find((graph_object *)object, name);
	return found < 0 ? NULL : PyLong_FromLongLong(found == LW_GRAPH_NONE ? -1 : found);
}

static PyObject *name_of(const graph_object *self, uint32_t number)
{
	const struct lw_graph_node *nodes;
	lw_graph_nodes(self->graph, &nodes);
	return decode(lw_graph_string(self->graph, nodes[number].name), nodes[number].name_len);
}

/* SOURCE's path, or None. */
static PyObject *path_of(const graph_object *self, uint32_t source)
{
	const struct lw_graph_source *sources;
	const struct lw_graph_dir *dirs;
	if (source == LW_GRAPH_NONE)
		Py_RETURN_NONE;
	lw_graph_sources(self->graph, &sources);
	lw_graph_dirs(self->graph, &dirs);
	const struct lw_graph_source *one = &sources[source];
	const struct lw_graph_dir *dir = &dirs[one->dir];
	const char *at = lw_graph_string(self->graph, dir->path);
	PyObject *path = decode(at, dir->path_len), *name = path ? decode(lw_graph_string(self->graph, one->name), one->name_len) : NULL;
	PyObject *whole = name ? PyUnicode_FromFormat("%U%s%U.py", path, dir->path_len && at[dir->path_len - 1] == '/' ? "" : "/", name) : NULL;
	Py_XDECREF(path);
	Py_XDECREF(name);
	return whole;
}

/* The node that the int NUMBER stands for; NULL with an exception. */
static const struct lw_graph_node *node_of(graph_object *self, PyObject *number)
{
	Py_ssize_t at = PyNumber_AsSsize_t(number, PyExc_IndexError);
	return at == -1 && PyErr_Occurred() ? NULL : node_at(self, at);
}

static PyObject *graph_node(PyObject *object, PyObject *number)
{
	graph_object *self = (graph_object *)object;
	const struct lw_graph_source *sources;
	const struct lw_graph_node *node = node_of(self, number);
	if (!node)
		return NULL;
	lw_graph_sources(self->graph, &sources);
	PyObject *name = decode(lw_graph_string(self->graph, node->name), node->name_len), *path = name ? path_of(self, node->source) : NULL;
	uint8_t state = node->source != LW_GRAPH_NONE ? sources[node->source].state : 0;
	if (!path) {
		Py_XDECREF(name);
		return NULL;
	}
	return Py_BuildValue("(NsNs)", name, node_kinds[node->kind], path, state < Py_ARRAY_LENGTH(states) ? states[state] : "unreadable");
}

static PyObject *graph_name(PyObject *object, PyObject *number)
{
	const graph_object *self = (const graph_object *)object;
	const struct lw_graph_node *node = node_of((graph_object *)object, number);
	return node ? decode(lw_graph_string(self->graph, node->name), node->name_len) : NULL;
}

static PyObject *graph_kind(PyObject *object, PyObject *number)
{
	const struct lw_graph_node *node = node_of((graph_object *)object, number);
	return node ? PyUnicode_InternFromString(node_kinds[node->kind]) : NULL;
}

static PyObject *graph_edges(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "number", "back", "kinds", NULL };
	graph_object *self = (graph_object *)object;
	Py_ssize_t number;
	int back = false;
	unsigned kinds = ALL_KINDS;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|pI:edges", names, &number, &back, &kinds) || !node_at(self, number) || need(self, for_edges(back)) < 0)
		return NULL;
	const struct lw_graph_edge *edge;
	uint32_t count = lw_graph_edges(self->graph, (uint32_t)number, back, &edge);
	PyObject *list = PyList_New(0);
	for (uint32_t i = 0; list && i < count; i++) {
		if (!(edge[i].kinds & kinds))
			continue;
		PyObject *item = Py_BuildValue("(III)", (unsigned)edge[i].node, (unsigned)edge[i].kinds, (unsigned)edge[i].line);
		if (!item || PyList_Append(list, item) < 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	return list;
}

struct reached {
	uint32_t *via, *order, count;	/* one allocation */
};

static int reach(graph_object *self, uint32_t from, bool back, unsigned kinds, struct reached *out)
{
	const struct lw_graph_node *nodes;
	uint32_t count = lw_graph_nodes(self->graph, &nodes);
	out->via = PyMem_RawMalloc(((size_t)count + 1) * 2 * sizeof(uint32_t));
	if (!out->via) {
		PyErr_NoMemory();
		return -1;
	}
	out->order = out->via + count;
	Py_BEGIN_ALLOW_THREADS
	out->count = lw_graph_reach(self->graph, from, back, kinds, out->via, out->order);
	Py_END_ALLOW_THREADS
	return 0;
}

static PyObject *graph_reach(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "number", "back", "kinds", NULL };
	graph_object *self = (graph_object *)object;
	Py_ssize_t number;
	int back = false;
	unsigned kinds = ALL_KINDS;
	struct reached found;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|pI:reach", names, &number, &back, &kinds) || !node_at(self, number) || need(self, for_edges(back)) < 0)
		return NULL;
	if (reach(self, (uint32_t)number, back, kinds, &found) < 0)
		return NULL;
	PyObject *list = PyList_New(found.count);
	for (uint32_t i = 0; list && i < found.count; i++) {
		PyObject *item = Py_BuildValue("(II)", (unsigned)found.order[i], (unsigned)found.via[found.order[i]]);
		if (item)
			PyList_SET_ITEM(list, i, item);
		else
			Py_CLEAR(list);
	}
	PyMem_RawFree(found.via);
	return list;
}

/* The names of what is imported by, or imports, NAME. */
static PyObject *related(graph_object *self, PyObject *args, PyObject *kwargs, bool back)
{
	static char *names[] = { "name", "transitive", "kinds", NULL };
	PyObject *name;
	int transitive = false;
	unsigned kinds = ALL_KINDS;
	struct reached found = { 0 };
	const struct lw_graph_edge *edge = NULL;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|pI:importers", names, &name, &transitive, &kinds))
		return NULL;
	int64_t number = find(self, name);
	if (number < 0 || need(self, for_edges(back)) < 0)
		return NULL;
	if (number == LW_GRAPH_NONE) {
		PyErr_SetObject(PyExc_KeyError, name);
		return NULL;
	}
	if (transitive && reach(self, (uint32_t)number, back, kinds, &found) < 0)
		return NULL;
	uint32_t count = transitive ? found.count : lw_graph_edges(self->graph, (uint32_t)number, back, &edge);
	PyObject *list = PyList_New(0);
	for (uint32_t i = 0; list && i < count; i++) {
		if (!transitive && !(edge[i].kinds & kinds))
			continue;
		PyObject *item = name_of(self, transitive ? found.order[i] : edge[i].node);
		if (!item || PyList_Append(list, item) < 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	PyMem_RawFree(found.via);
	return list;
}

static PyObject *graph_imports(PyObject *object, PyObject *args, PyObject *kwargs)
{
	return related((graph_object *)object, args, kwargs, false);
}

static PyObject *graph_importers(PyObject *object, PyObject *args, PyObject *kwargs)
{
	return related((graph_object *)object, args, kwargs, true);
}

static PyObject *numbers(const uint32_t *number, int64_t count)
{
	PyObject *list = PyList_New((Py_ssize_t)count);
	for (int64_t i = 0; list && i < count; i++) {
		PyObject *item = PyLong_FromUnsignedLong(number[i]);
		if (item)
			PyList_SET_ITEM(list, (Py_ssize_t)i, item);
		else
			Py_CLEAR(list);
	}
	return list;
}

/* (members, a shortest cycle through the first) of the component that node FIRST is the first of. */
static PyObject *cycle_of(const graph_object *self, unsigned kinds, const uint32_t *component, uint32_t first, uint32_t nodes, uint32_t *room)
{
	uint32_t count = 0;
	for (uint32_t i = first; i < nodes; i++)
		if (component[i] == component[first])
			room[count++] = i;
	PyObject *members = numbers(room, count);
	int64_t len = members ? lw_graph_cycle_through(self->graph, kinds, component, first, room) : 0;
	PyObject *path = members ? len < 0 ? PyErr_NoMemory() : numbers(room, len) : NULL;
	if (!path) {
		Py_XDECREF(members);
		return NULL;
	}
	return Py_BuildValue("(NN)", members, path);
}

static PyObject *graph_cycles(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "kinds", NULL };
	graph_object *self = (graph_object *)object;
	unsigned kinds = 1 << LW_EDGE_MODULE;
	uint32_t nodes, count = 0, next = 0;
	int error;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|I:cycles", names, &kinds) || !nodes_of(self, &nodes) || need(self, LW_GRAPH_FOR_IMPORTS) < 0)
		return NULL;
	uint32_t *component = PyMem_RawMalloc(((size_t)nodes + 1) * 2 * sizeof(uint32_t));
	if (!component)
		return PyErr_NoMemory();
	Py_BEGIN_ALLOW_THREADS
	error = lw_graph_cycles(self->graph, kinds, component, &count);
	Py_END_ALLOW_THREADS
	PyObject *list = error ? PyErr_NoMemory() : PyList_New(0);
	for (uint32_t i = 0; list && next < count && i < nodes; i++) {
		if (component[i] != next)
			continue;
		PyObject *item = cycle_of(self, kinds, component, i, nodes, component + nodes);
		if (!item || PyList_Append(list, item) < 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
		next++;
	}
	PyMem_RawFree(component);
	return list;
}

PyDoc_STRVAR(graph_find_doc, "find($self, name, /)\n--\n\nThe number of the node NAME, or -1.");
PyDoc_STRVAR(graph_node_doc, "node($self, number, /)\n--\n\n(name, kind, path or None, 'read', 'broken' or 'unreadable') of node NUMBER. KIND is 'module', 'package', 'namespace',\n"
	"'extension', 'bytecode' or 'external'.");
PyDoc_STRVAR(graph_name_doc, "name($self, number, /)\n--\n\nThe first of these.");
PyDoc_STRVAR(graph_kind_doc, "kind($self, number, /)\n--\n\nThe second.");
PyDoc_STRVAR(graph_edges_doc, "edges($self, number, back=False, kinds=63)\n--\n\n"
	"Whom node NUMBER imports, or BACK, who imports it, directly, by statements of KINDS (bits, numbered as in EDGE_KINDS): [(node, kinds, line), ...].");
PyDoc_STRVAR(graph_reach_doc, "reach($self, number, back=False, kinds=63)\n--\n\nThe same, and so on, and the packages that modules are in: [(node, the one it was reached by), ...], nearest first.");
PyDoc_STRVAR(graph_imports_doc, "imports($self, name, transitive=False, kinds=63)\n--\n\nThe names of what module NAME imports. KeyError: there is no such name.");
PyDoc_STRVAR(graph_importers_doc, "importers($self, name, transitive=False, kinds=63)\n--\n\nThe names of what imports module NAME. KeyError: there is no such name.");
PyDoc_STRVAR(graph_cycles_doc, "cycles($self, kinds=1)\n--\n\n[(nodes that import each other, a shortest cycle through the first of them), ...]");
PyDoc_STRVAR(graph_doc, "Who imports whom below some roots; made by GraphBuilder. len(): of names.");

#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef graph_methods[] = {
	{ "find", graph_find, METH_O, graph_find_doc },
	{ "node", graph_node, METH_O, graph_node_doc },
	{ "name", graph_name, METH_O, graph_name_doc },
	{ "kind", graph_kind, METH_O, graph_kind_doc },
	{ "edges", KEYWORDS(graph_edges), METH_VARARGS | METH_KEYWORDS, graph_edges_doc },
	{ "reach", KEYWORDS(graph_reach), METH_VARARGS | METH_KEYWORDS, graph_reach_doc },
	{ "imports", KEYWORDS(graph_imports), METH_VARARGS | METH_KEYWORDS, graph_imports_doc },
	{ "importers", KEYWORDS(graph_importers), METH_VARARGS | METH_KEYWORDS, graph_importers_doc },
	{ "cycles", KEYWORDS(graph_cycles), METH_VARARGS | METH_KEYWORDS, graph_cycles_doc },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot graph_slots[] = {
	{ Py_tp_dealloc, graph_dealloc },
	{ Py_tp_methods, graph_methods },
	{ Py_sq_length, graph_length },
	{ Py_tp_doc, (void *)graph_doc },
	{ 0, NULL },
};

static PyType_Spec graph_spec = {
	.name = "ladewerk._live.Graph",
	.basicsize = sizeof(graph_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = graph_slots,
};

/* --- GraphBuilder --- */

typedef struct {
	PyObject_HEAD
	atomic_flag busy;
	PyTypeObject *graph_type;
	PyObject *roots;		/* a tuple of bytes */
	const char **root;
	unsigned count;
	struct lw_hash128 key;
	struct lw_suffixes suffixes;
	PyObject *kept;			/* what STORE's texts point into; NULL: nothing is stored */
	struct lw_store_config store;
	lw_graph *old;
	lw_graph_build *build;
	bool looked;			/* for OLD */
} builder;

static bool begin(builder *self)
{
	if (!atomic_flag_test_and_set_explicit(&self->busy, memory_order_acquire))	/* with end() */
		return true;
	PyErr_SetString(PyExc_RuntimeError, "this GraphBuilder is at work in another thread");
	return false;
}

static void end(builder *self)
{
	atomic_flag_clear_explicit(&self->busy, memory_order_release);
}

static int take_suffixes(builder *self)
{
	const char *suffix[LW_SUFFIX_MAX];
	PyObject *imp = PyImport_ImportModule("_imp"), *list = imp ? PyObject_CallMethod(imp, "extension_suffixes", NULL) : NULL;
	int result = list && PyList_Check(list) && PyList_GET_SIZE(list) <= LW_SUFFIX_MAX ? 0 : -1;
	for (Py_ssize_t i = 0; !result && i < PyList_GET_SIZE(list); i++)
		result = (suffix[i] = PyUnicode_AsUTF8(PyList_GET_ITEM(list, i))) ? 0 : -1;
	if (!result && lw_suffixes_init(&self->suffixes, suffix, (unsigned)PyList_GET_SIZE(list)))
		result = -1;
	Py_XDECREF(imp);
	Py_XDECREF(list);
	if (result && !PyErr_Occurred())
		PyErr_SetString(PyExc_RuntimeError, "this interpreter's suffixes cannot be expressed");
	return result;
}

/* LIST is a tuple. */
static int take_roots(builder *self, PyObject *list)
{
	Py_ssize_t count = PyTuple_GET_SIZE(list);
	if (count < 1 || count > 4096) {
		PyErr_SetString(PyExc_ValueError, "one root is needed, and no more than 4096");
		return -1;
	}
	self->roots = PyTuple_New(count);
	self->root = PyMem_Calloc((size_t)count, sizeof(*self->root));
	if (!self->roots || !self->root) {
		PyErr_NoMemory();
		return -1;
	}
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *bytes;
		if (!PyUnicode_FSConverter(PyTuple_GET_ITEM(list, i), &bytes))
			return -1;
		PyTuple_SET_ITEM(self->roots, i, bytes);
		self->root[i] = PyBytes_AS_STRING(bytes);
		if (self->root[i][0] != '/') {
			PyErr_SetString(PyExc_ValueError, "roots are absolute paths");
			return -1;
		}
	}
	self->count = (unsigned)count;
	self->key = lw_graph_key(self->root, self->count);
	return 0;
}

/* (place, key, about, read-only, owner of sys.prefix, user to be trusted or None) */
static int take_store(builder *self, PyObject *store)
{
	const char *digits;
	PyObject *place, *trusted;
	int readonly;
	unsigned long long owner;
	char half[17] = "";
	if (!PyArg_ParseTuple(store, "O&sspKO;store", PyUnicode_FSConverter, &place, &digits, &self->store.about, &readonly, &owner, &trusted))
		return -1;
	self->kept = Py_BuildValue("(NO)", place, store);
	if (!self->kept)
		return -1;
	if (strlen(digits) != 32 || strspn(digits, "0123456789abcdef") != 32) {
		PyErr_SetString(PyExc_ValueError, "a key is 32 hexadecimal digits");
		return -1;
	}
	memcpy(half, digits, 16);
	self->store.key.hi = strtoull(half, NULL, 16);
	self->store.key.lo = strtoull(digits + 16, NULL, 16);
	self->store.place = PyBytes_AS_STRING(place);
	self->store.readonly = readonly;
	self->store.prefix_owner = (uid_t)owner;
	self->store.trust_uid_set = trusted != Py_None;
	if (self->store.trust_uid_set)
		self->store.trust_uid = (uid_t)PyLong_AsUnsignedLong(trusted);
	return PyErr_Occurred() ? -1 : 0;
}

static PyTypeObject *graph_type_of(PyTypeObject *type)
{
	PyObject *module = PyType_GetModule(type);
	return module ? (PyTypeObject *)PyObject_GetAttrString(module, "Graph") : NULL;
}

static PyObject *builder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "roots", "store", NULL };
	PyObject *roots, *store = Py_None;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|O:GraphBuilder", names, &PyList_Type, &roots, &store))
		return NULL;
	builder *self = (builder *)type->tp_alloc(type, 0);
	if (!self)
		return NULL;
	atomic_flag_clear(&self->busy);
	self->graph_type = graph_type_of(type);
	/* A list may change while we read it. */
	PyObject *copy = self->graph_type ? PyList_AsTuple(roots) : NULL;
	if (!copy || take_suffixes(self) < 0 || take_roots(self, copy) < 0 || (store != Py_None && take_store(self, store) < 0))
		Py_CLEAR(self);
	Py_XDECREF(copy);
	return (PyObject *)self;
}

static void builder_dealloc(PyObject *object)
{
	builder *self = (builder *)object;
	PyTypeObject *type = Py_TYPE(object);
	lw_graph_build_destroy(self->build);
	lw_graph_close(self->old);
	PyMem_Free(self->root);
	Py_XDECREF(self->roots);
	Py_XDECREF(self->kept);
	Py_XDECREF(self->graph_type);
	type->tp_free(object);
	Py_DECREF(type);
}

/* The store, which changes nothing unless it is to be WRITTEN; NULL: there is none. */
static lw_store *open_store(const builder *self, bool written)
{
	char reason[LW_STORE_REASON];
	struct lw_store_config config = self->store;
	lw_store *store = NULL;
	if (!self->kept)
		return NULL;
	config.readonly |= !written;
	return lw_store_open(&config, &store, reason) ? NULL : store;
}

/* What is stored, if it can be used at all. */
static void look(builder *self)
{
	lw_store *store = self->looked ? NULL : open_store(self, false);
	self->looked = true;
	if (store && lw_graph_store_open(store, self->key, &self->old))
		self->old = NULL;
	lw_store_close(store);
}

static void hear(void *arg, const struct lw_change *change)
{
}

/* The daemon that looks after the tree, if it can tell right now; NULL: everything is compared. */
static lw_fresh *ask_daemon(const builder *self, bool use_env)
{
	struct sockaddr_un address;
	lw_fresh *client = lw_attach_address(&self->suffixes, use_env, false, &address) ? NULL : lw_client_create(&self->suffixes, &address);
	if (client && lw_client_attach(client) && lw_fresh_check(client, hear, NULL))
		return client;
	lw_fresh_destroy(client);
	return NULL;
}

/* The sources that must be as they were for whom ONLY imports (KINDS: and so on); *ASKED NULL: all. 0 or -errno. */
static int sources_asked(lw_graph *graph, const char *only, unsigned kinds, bool **asked)
{
	const struct lw_graph_node *nodes;
	const struct lw_graph_source *sources;
	*asked = NULL;
	if (!only)
		return lw_graph_load(graph, LW_GRAPH_FOR_FRESH);
	int error = lw_graph_load(graph, LW_GRAPH_FOR_IMPORTS);
	if (error)
		return error;
	lw_graph_nodes(graph, &nodes);
	uint32_t node = lw_graph_find(graph, only, strlen(only));
	/* A name without a source is there because of who imports it, as likely as not. */
	if (node == LW_GRAPH_NONE || nodes[node].source == LW_GRAPH_NONE)
		return 0;
	*asked = calloc((size_t)lw_graph_sources(graph, &sources) + 1, sizeof(**asked));
	return *asked ? lw_graph_rests_on(graph, node, kinds, *asked) : -ENOMEM;
}

static int find_fresh(builder *self, unsigned threads, const char *only, unsigned kinds, bool daemon, bool use_env)
{
	bool *asked = NULL;
	look(self);
	int result = self->old ? sources_asked(self->old, only, kinds, &asked) : -ENOENT;
	if (!result) {
		lw_fresh *fresh = daemon ? ask_daemon(self, use_env) : NULL;
		result = lw_graph_fresh(self->old, asked, fresh, threads);
		lw_fresh_destroy(fresh);
	}
	free(asked);
	return result == -ENOMEM || result > 0 ? result : 0;
}

static PyObject *builder_stored(PyObject *object, PyObject *args)
{
	builder *self = (builder *)object;
	unsigned threads = 0;
	const char *only = NULL;
	unsigned kinds = 0;
	int fresh, daemon = false, use_env = false;
	if (!PyArg_ParseTuple(args, "|IzppI:stored", &threads, &only, &daemon, &use_env, &kinds) || !begin(self))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	fresh = find_fresh(self, threads, only, kinds, daemon, use_env);
	Py_END_ALLOW_THREADS
	PyObject *result = fresh < 0 ? os_error(fresh, NULL) : Py_NewRef(Py_None);
	if (fresh > 0) {
		Py_SETREF(result, graph_wrap(self->graph_type, self->old));
		self->old = NULL;
		self->looked = false;
	}
	end(self);
	return result;
}

static int scan(builder *self, unsigned threads, unsigned *failed)
{
	look(self);
	if (self->old && lw_graph_load(self->old, LW_GRAPH_FOR_BUILD)) {
		lw_graph_close(self->old);
		self->old = NULL;
	}
	lw_graph_build_destroy(self->build);
	self->build = lw_graph_build_create(&self->suffixes, self->old);
	*failed = self->count;
	int error = self->build ? lw_graph_build_scan(self->build, self->root, self->count, threads, failed) : -ENOMEM;
	if (error) {
		lw_graph_build_destroy(self->build);
		self->build = NULL;
	}
	return error;
}

static PyObject *builder_scan(PyObject *object, PyObject *args)
{
	builder *self = (builder *)object;
	unsigned threads = 0, failed;
	int error;
	if (!PyArg_ParseTuple(args, "|I:scan", &threads) || !begin(self))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	error = scan(self, threads, &failed);
	Py_END_ALLOW_THREADS
	uint32_t left = 0;
	for (uint32_t i = 0; !error && i < lw_graph_build_sources(self->build); i++)
		left += lw_graph_build_source(self->build, i, NULL, 0) == 1;
	PyObject *result = NULL;
	if (!error) {
		result = PyLong_FromUnsignedLong(left);
	} else {
		PyObject *path = failed < self->count ? PyUnicode_DecodeFSDefault(self->root[failed]) : NULL;
		os_error(error, path);
		Py_XDECREF(path);
	}
	end(self);
	return result;
}

/* --- statements --- */

struct raw {
	char *data;
	size_t size, room;
};

static int append(struct raw *raw, const void *data, size_t size)
{
	if (raw->room - raw->size < size) {
		size_t room = 2 * raw->room + size + 256;
		char *larger = PyMem_Realloc(raw->data, room);
		if (!larger) {
			PyErr_NoMemory();
			return -1;
		}
		raw->data = larger;
		raw->room = room;
	}
	memcpy(raw->data + raw->size, data, size);
	raw->size += size;
	return 0;
}

/* 1: what cannot be the name of a module that is a file is left out. */
static int append_name(struct raw *raw, PyObject *name)
{
	PyObject *bytes = PyUnicode_Check(name) ? PyUnicode_EncodeFSDefault(name) : NULL;
	if (!bytes) {
		if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_UnicodeError))
			return -1;
		PyErr_Clear();
		return 1;
	}
	Py_ssize_t size = PyBytes_GET_SIZE(bytes);
	uint16_t len = (uint16_t)size;
	int result = size > LW_RAW_NAME ? 1 : append(raw, &len, sizeof(len)) || append(raw, PyBytes_AS_STRING(bytes), len) ? -1 : 0;
	Py_DECREF(bytes);
	return result;
}

static int kind_of(const char *text)
{
	for (int i = 0; i < LW_EDGE_KINDS; i++)
		if (!strcmp(text, lw_edge_kinds[i]))
			return i;
	return -1;
}

/* Names FROM .. TO of FROMLIST (None: a plain import). 0, or -1 with an exception. */
static int append_statement(struct raw *raw, int kind, int level, PyObject *name, PyObject *fromlist, Py_ssize_t from, Py_ssize_t to, int line)
{
	const size_t begun = raw->size;
	uint16_t count = fromlist == Py_None ? LW_RAW_PLAIN : 0;
	const unsigned char head[8] = { (unsigned char)kind, (unsigned char)level };
	int result = append(raw, head, sizeof(head)) ? -1 : append_name(raw, name);
	for (Py_ssize_t i = from; !result && i < to; i++) {
		size_t size = raw->size;
		result = append_name(raw, PyTuple_GET_ITEM(fromlist, i));
		count += !result;
		if (result > 0) {
			raw->size = size;
			result = 0;
		}
	}
	if (result) {
		raw->size = begun;
		return result < 0 ? -1 : 0;
	}
	uint32_t where = line > 0 ? (uint32_t)line : 0;
	memcpy(raw->data + begun + 2, &count, sizeof(count));
	memcpy(raw->data + begun + 4, &where, sizeof(where));
	return 0;
}

static int append_edge(struct raw *raw, PyObject *edge)
{
	enum { MOST = 60000 };
	const char *text;
	PyObject *name, *fromlist;
	int level, line, kind;
	if (!PyTuple_Check(edge) || !PyArg_ParseTuple(edge, "iOOsi;an edge", &level, &name, &fromlist, &text, &line)) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_TypeError, "an edge is a tuple");
		return -1;
	}
	if ((kind = kind_of(text)) < 0 || (fromlist != Py_None && !PyTuple_Check(fromlist))) {
		PyErr_SetString(PyExc_ValueError, "no edge, as edges() returns them");
		return -1;
	}
	if (level < 0 || level > LW_RAW_LEVELS)
		return 0;
	Py_ssize_t count = fromlist == Py_None ? 0 : PyTuple_GET_SIZE(fromlist), at = 0;
	int result;
	do {
		Py_ssize_t to = count - at > MOST ? at + MOST : count;
		result = append_statement(raw, kind, level, name, fromlist, at, to, line);
		at = to;
	} while (!result && at < count);
	return result;
}

/* EDGES (None: it did not compile, or STATE) of source NUMBER. 0, or -1 with an exception. */
static int put(builder *self, uint32_t number, PyObject *edges, enum lw_graph_state state)
{
	struct raw raw = { 0 };
	PyObject *copy = edges != Py_None ? PyList_AsTuple(edges) : PyTuple_New(0);
	int result = copy ? append(&raw, "", 0) : -1, error = 0;
	for (Py_ssize_t i = 0; !result && i < PyTuple_GET_SIZE(copy); i++)
		result = append_edge(&raw, PyTuple_GET_ITEM(copy, i));
	Py_XDECREF(copy);
	if (!result)
		error = lw_graph_build_put(self->build, number, raw.data, raw.size, state);
	if (error)
		os_error(error, NULL);
	PyMem_Free(raw.data);
	return result || error ? -1 : 0;
}

static int need_build(const builder *self, Py_ssize_t number)
{
	if (!self->build)
		PyErr_SetString(PyExc_RuntimeError, "scan() comes first");
	else if (number < 0 || number >= (Py_ssize_t)lw_graph_build_sources(self->build))
		PyErr_Format(PyExc_IndexError, "no source %zd", number);
	else
		return 0;
	return -1;
}

static PyObject *builder_put(PyObject *object, PyObject *args)
{
	builder *self = (builder *)object;
	Py_ssize_t number;
	PyObject *edges;
	int readable = true;
	if (!PyArg_ParseTuple(args, "nO|p:put", &number, &edges, &readable) || !begin(self))
		return NULL;
	int result = need_build(self, number);
	if (!result && edges != Py_None && !PyList_Check(edges)) {
		PyErr_SetString(PyExc_TypeError, "edges are a list, or None");
		result = -1;
	}
	if (!result)
		result = put(self, (uint32_t)number, edges, edges != Py_None ? LW_GRAPH_READ : readable ? LW_GRAPH_BROKEN : LW_GRAPH_UNREADABLE);
	end(self);
	return result ? NULL : Py_NewRef(Py_None);
}

static PyObject *builder_observe(PyObject *object, PyObject *args)
{
	builder *self = (builder *)object;
	PyObject *importer = NULL, *imported = NULL, *result = NULL;
	if (!PyArg_ParseTuple(args, "O&O&:observe", PyUnicode_FSConverter, &importer, PyUnicode_FSConverter, &imported))
		return NULL;
	if (begin(self)) {
		int error = 0;
		if (!self->build)
			PyErr_SetString(PyExc_RuntimeError, "scan() comes first");
		else
			error = lw_graph_build_observe(self->build, LW_EDGE_OBSERVED, PyBytes_AS_STRING(importer), PyBytes_AS_STRING(imported));
		result = error ? os_error(error, NULL) : self->build ? Py_NewRef(Py_None) : NULL;
		end(self);
	}
	Py_DECREF(importer);
	Py_DECREF(imported);
	return result;
}

/* --- code that was kept --- */

struct codes {
	lw_store *store;
	lw_index **index;
	unsigned count;
	const char *tail;	/* of .pyc files; NULL: they are elsewhere */
	uint32_t magic;
};

static PyObject *unmarshal(const void *data, size_t size)
{
	PyObject *code = size <= PY_SSIZE_T_MAX ? PyMarshal_ReadObjectFromString(data, (Py_ssize_t)size) : NULL;
	if (code && !PyCode_Check(code))
		Py_CLEAR(code);
	PyErr_Clear();
	return code;
}

/* The newest index that knows the source speaks for it. */
static PyObject *from_index(const struct codes *codes, const char *path, uint64_t stamp)
{
	const size_t len = strlen(path);
	const struct lw_hash128 key = lw_hash128(path, len);
	for (unsigned i = 0; stamp && i < codes->count; i++) {
		const struct lw_file_record *record;
		const void *data;
		size_t size;
		if (lw_index_find_path(codes->index[i], path, len, key, &record) != LW_OK)
			continue;
		return record->stamp == stamp && lw_index_code(codes->index[i], record, &data, &size) == LW_OK ? unmarshal(data, size) : NULL;
	}
	return NULL;
}

static PyObject *from_pyc(const struct codes *codes, const char *path, uint64_t stamp)
{
	char pyc[PATH_MAX];
	struct lw_stat st;
	void *data;
	size_t size;
	const char *slash = strrchr(path, '/');
	if (!codes->tail || !slash || !stamp || lw_stat_at(AT_FDCWD, path, &st) || lw_stamp(&st) != stamp)
		return NULL;
	int len = snprintf(pyc, sizeof(pyc), "%.*s/__pycache__/%.*s%s", (int)(slash - path), path, (int)strlen(slash + 1) - 3, slash + 1, codes->tail);
	if (len < 0 || (size_t)len >= sizeof(pyc) || lw_pyc_read(pyc, codes->magic, &st, &data, &size) != LW_PYC_GOOD)
		return NULL;
	PyObject *code = unmarshal((char *)data + LW_PYC_HEADER, size - LW_PYC_HEADER);
	free(data);
	return code;
}

/* Put what is known of source NUMBER; what is not goes to LEFT. 0, or -1 with an exception. */
static int gather_one(builder *self, const struct codes *codes, uint32_t number, PyObject *left)
{
	char path[PATH_MAX];
	int wanted = lw_graph_build_source(self->build, number, path, sizeof(path));
	if (wanted == -ENAMETOOLONG)
		return put(self, number, Py_None, LW_GRAPH_UNREADABLE);
	if (wanted != 1)
		return 0;
	uint64_t stamp = lw_graph_build_stamp(self->build, number);
	PyObject *code = from_index(codes, path, stamp), *edges = NULL;
	if (!code)
		code = from_pyc(codes, path, stamp);
	if (code && !(edges = lw_edges(code)))
		PyErr_Clear();
	Py_XDECREF(code);
	int result = -1;
	if (edges) {
		result = put(self, number, edges, LW_GRAPH_READ);
	} else {
		PyObject *item = Py_BuildValue("(IN)", (unsigned)number, PyUnicode_DecodeFSDefault(path));
		result = item ? PyList_Append(left, item) : -1;
		Py_XDECREF(item);
	}
	Py_XDECREF(edges);
	return result;
}

static PyObject *gather(builder *self, const char *tail)
{
	char reason[LW_STORE_REASON];
	unsigned refused;
	const long magic = PyImport_GetMagicNumber();
	if (magic == -1 && PyErr_Occurred())
		return NULL;
	struct codes codes = { .tail = tail, .magic = (uint32_t)magic, .store = open_store(self, false) };
	if (codes.store && lw_store_load(codes.store, &codes.index, &codes.count, &refused, reason))
		codes.count = 0;
	PyObject *left = PyList_New(0);
	for (uint32_t i = 0; left && i < lw_graph_build_sources(self->build); i++)
		if (gather_one(self, &codes, i, left) < 0 || (i % 1024 == 0 && PyErr_CheckSignals() < 0))
			Py_CLEAR(left);
	for (unsigned i = 0; i < codes.count; i++)
		lw_index_close(codes.index[i]);
	free(codes.index);
	lw_store_close(codes.store);
	return left;
}

static PyObject *builder_gather(PyObject *object, PyObject *args)
{
	builder *self = (builder *)object;
	const char *tail;
	if (!PyArg_ParseTuple(args, "z:gather", &tail) || !begin(self))
		return NULL;
	PyObject *left = self->build ? gather(self, tail) : NULL;
	if (!left && !PyErr_Occurred())
		PyErr_SetString(PyExc_RuntimeError, "scan() comes first");
	end(self);
	return left;
}

static int store_image(const builder *self, const void *image, size_t size)
{
	lw_store *store = open_store(self, true);
	int error = store ? lw_graph_store_put(store, self->key, image, size) : -ENOENT;
	lw_store_close(store);
	return error;
}

static PyObject *builder_finish(PyObject *object, PyObject *unused)
{
	builder *self = (builder *)object;
	lw_graph *graph = NULL;
	void *image;
	size_t size;
	int error, unstored = 0;
	if (!begin(self))
		return NULL;
	if (!self->build) {
		PyErr_SetString(PyExc_RuntimeError, "scan() comes first");
		end(self);
		return NULL;
	}
	Py_BEGIN_ALLOW_THREADS
	error = lw_graph_build_finish(self->build, self->key, &image, &size);
	if (!error) {
		unstored = store_image(self, image, size);
		error = lw_graph_open_memory(image, size, self->key, &graph);
	}
	lw_graph_build_destroy(self->build);
	self->build = NULL;
	lw_graph_close(self->old);
	self->old = NULL;
	self->looked = false;
	Py_END_ALLOW_THREADS
	end(self);
	if (error)
		return os_error(error, NULL);
	PyObject *wrapped = graph_wrap(self->graph_type, graph);
	return wrapped ? Py_BuildValue("(Ni)", wrapped, -unstored) : NULL;
}

PyDoc_STRVAR(builder_stored_doc, "stored($self, threads=0, only=None, daemon=False, use_env=False, kinds=0, /)\n--\n\n"
	"The stored Graph if it still says what is in the tree, else None. ONLY: as far as the imports of this name go, and with KINDS (bits) those that reach() finds\n"
	"for it. DAEMON: a `ladewerk watch` may answer for what it looks after, the one that LADEWERK_WATCH names if USE_ENV.");
PyDoc_STRVAR(builder_scan_doc, "scan($self, threads=0, /)\n--\n\nWalk the roots. Returns how many sources must be read. Raises OSError for a root that cannot be listed.");
PyDoc_STRVAR(builder_gather_doc, "gather($self, tail, /)\n--\n\nTake what it can from the cache and from .pyc files, whose names end with TAIL (None: they are elsewhere). Returns [(number, path), ...]\n"
	"of the sources that must be compiled.");
PyDoc_STRVAR(builder_put_doc, "put($self, number, edges, readable=True, /)\n--\n\nWhat edges() says of source NUMBER; None: it does not compile, or cannot be read.");
PyDoc_STRVAR(builder_observe_doc, "observe($self, importer, imported, /)\n--\n\nThe module IMPORTER was seen to import IMPORTED. That is kept until its source changes.");
PyDoc_STRVAR(builder_finish_doc, "finish($self)\n--\n\n(Graph, the errno that kept it from being stored, or 0).");
PyDoc_STRVAR(builder_doc, "GraphBuilder(roots, store=None)\n--\n\nFor the graph of ROOTS (absolute paths). STORE: (place, key, about, read-only, owner of sys.prefix, another user to be\n"
	"trusted or None); None: nothing is stored.");

static PyMethodDef builder_methods[] = {
	{ "stored", builder_stored, METH_VARARGS, builder_stored_doc },
	{ "scan", builder_scan, METH_VARARGS, builder_scan_doc },
	{ "gather", builder_gather, METH_VARARGS, builder_gather_doc },
	{ "put", builder_put, METH_VARARGS, builder_put_doc },
	{ "observe", builder_observe, METH_VARARGS, builder_observe_doc },
	{ "finish", builder_finish, METH_NOARGS, builder_finish_doc },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot builder_slots[] = {
	{ Py_tp_new, builder_new },
	{ Py_tp_dealloc, builder_dealloc },
	{ Py_tp_methods, builder_methods },
	{ Py_tp_doc, (void *)builder_doc },
	{ 0, NULL },
};

static PyType_Spec builder_spec = {
	.name = "ladewerk._live.GraphBuilder",
	.basicsize = sizeof(builder),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = builder_slots,
};

static int add_type(PyObject *module, PyType_Spec *spec)
{
	PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
	int result = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
	Py_XDECREF(type);
	return result;
}

int lw_live_add_graph(PyObject *module)
{
	PyObject *kinds = PyTuple_New(LW_EDGE_KINDS);
	for (int i = 0; kinds && i < LW_EDGE_KINDS; i++) {
		PyObject *kind = PyUnicode_FromString(lw_edge_kinds[i]);
		if (kind)
			PyTuple_SET_ITEM(kinds, i, kind);
		else
			Py_CLEAR(kinds);
	}
	int result = kinds ? PyModule_AddObjectRef(module, "EDGE_KINDS", kinds) : -1;
	Py_XDECREF(kinds);
	if (!result)
		result = add_type(module, &graph_spec);
	return result ? result : add_type(module, &builder_spec);
}
