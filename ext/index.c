/* SPDX-License-Identifier: MIT */
/*
 * index: the Builder behind `ladewerk index`: scan roots, take code from .pyc files that can be believed, let Python compile the rest, store.
 *
 * Code is held in memory up to a bound; beyond it, what there is goes to the cache as a segment, which the last write merges.
 */
#include "state.h"

#include "pyc.h"
#include "scan.h"

#include <pthread.h>
#include <sys/stat.h>

enum { SETTLE_NS = 30 * 1000 * 1000, HELD_MAX = 256 << 20 };

/* A source found by the scan. */
struct source {
	char *path;		/* malloc'ed */
	struct lw_stat stat;	/* when its content was hashed */
	uint64_t content;
	bool compile;		/* no .pyc to take its code from */
};

typedef struct {
	PyObject_HEAD
	lw_store *store;
	lw_build *build;
	struct lw_suffixes suffixes;
	char *pyc_prefix;		/* malloc'ed or NULL: sys.pycache_prefix */
	char pyc_tail[128];
	uint32_t magic;
	pthread_mutex_t mutex;		/* everything below, while scanning */
	struct source *source;
	size_t count, capacity;
	char **racy;			/* directories to be read again */
	size_t racy_count, racy_capacity;
	struct lw_scan_stats stats;
	_Atomic uint64_t progress;
	uint64_t from_pyc, compiled, skipped, code_bytes;
	uint64_t held, held_max;	/* bytes of code in build */
	uint64_t spilled;		/* segments written before their time */
} builder;

/* --- scanning (pool threads) --- */

static int push(void **array, size_t *count, size_t *capacity, size_t size)
{
	if (*count < *capacity)
		return 0;
	size_t bigger = *capacity ? *capacity * 2 : 1024;
	void *grown = realloc(*array, bigger * size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*capacity = bigger;
	return 0;
}

static int add_source(builder *self, const struct lw_scan_dir *dir, const struct lw_scan_source *source)
{
	int error = push((void **)&self->source, &self->count, &self->capacity, sizeof(*self->source));
	if (error)
		return error;
	char *path = malloc(dir->path_len + 1 + source->len + sizeof(".py"));
	if (!path)
		return -ENOMEM;
	sprintf(path, "%s/%.*s.py", dir->path_len > 1 ? dir->path : "", source->len, dir->listing->names + source->name);
	self->source[self->count++] = (struct source){ .path = path };
	return 0;
}

static int remember_racy(builder *self, const char *path)
{
	int error = push((void **)&self->racy, &self->racy_count, &self->racy_capacity, sizeof(*self->racy));
	char *copy = error ? NULL : strdup(path);
	if (copy)
		self->racy[self->racy_count++] = copy;
	return copy ? 0 : -ENOMEM;
}

static size_t stored_len(const char *path, size_t len)
{
	while (len && path[len - 1] == '/')
		len--;
	return len;
}

static int store_dir(builder *self, const char *path, size_t len, const struct lw_stat *st, const struct lw_listing *listing)
{
	uint16_t flags = listing ? (lw_stat_public(st) ? LW_DIR_PUBLIC : 0) : LW_DIR_UNREADABLE;
	return lw_build_dir(self->build, path, stored_len(path, len), lw_stamp(st), flags, listing);
}

static int on_dir(void *arg, const struct lw_scan_dir *dir)
{
	builder *self = arg;
	int error = 0;
	pthread_mutex_lock(&self->mutex);
	if (dir->error && dir->error != EACCES)
		self->skipped++; /* it vanished, or is odd: nothing is known of it */
	else if (dir->racy)
		error = remember_racy(self, dir->path);
	else
		error = store_dir(self, dir->path, dir->path_len, &dir->stat, dir->listing);
	for (unsigned i = 0; !error && !dir->error && i < dir->source_count; i++)
		error = add_source(self, dir, &dir->sources[i]);
	pthread_mutex_unlock(&self->mutex);
	lw_listing_destroy(dir->listing);
	return error;
}

/* Read the directories again that had just been changed when the scan met them. */
static int settle_racy(builder *self)
{
	if (!self->racy_count)
		return 0;
	nanosleep(&(struct timespec){ .tv_nsec = SETTLE_NS }, NULL);
	for (size_t i = 0; i < self->racy_count; i++) {
		struct lw_listing *listing;
		struct lw_stat st;
		int64_t now = lw_now_ns();
		if (lw_listing_read(self->racy[i], &self->suffixes, &listing, &st))
			continue;
		int error = lw_stat_racy(&st, now) ? 0 : store_dir(self, self->racy[i], strlen(self->racy[i]), &st, listing);
		self->skipped += lw_stat_racy(&st, now);
		lw_listing_destroy(listing);
		if (error)
			return error;
	}
	return 0;
}

/* --- code --- */

static bool pyc_path(const builder *self, const char *source, char *out, size_t size)
{
	const char *slash = strrchr(source, '/');
	int stem = (int)strlen(slash + 1) - 3, head = (int)(slash - source);
	int len = self->pyc_prefix ? snprintf(out, size, "%s%.*s/%.*s%s", self->pyc_prefix, head, source, stem, slash + 1, self->pyc_tail)
		: snprintf(out, size, "%.*s/__pycache__/%.*s%s", head, source, stem, slash + 1, self->pyc_tail);
	return (size_t)len < size;
}

/* Store what has been gathered so far, and go on with nothing. */
static int spill(builder *self)
{
	int error = lw_store_append(self->store, self->build);
	lw_build *fresh = error ? NULL : lw_build_create();
	if (!fresh)
		return error ? error : -ENOMEM;
	lw_build_destroy(self->build);
	self->build = fresh;
	self->held = 0;
	self->spilled++;
	return 0;
}

static int keep_code(builder *self, const struct source *source, const void *code, size_t len)
{
	int error = lw_build_file(self->build, lw_hash128(source->path, strlen(source->path)), lw_stamp(&source->stat), source->content,
		lw_stat_public(&source->stat) ? LW_FILE_PUBLIC : 0, code, len, true);
	if (error)
		return error;
	self->code_bytes += len;
	self->held += len;
	return self->held > self->held_max ? spill(self) : 0;
}

static int gather_one(builder *self, struct source *source)
{
	char pyc[LW_PATH_SIZE];
	void *data;
	size_t size;
	int64_t now = lw_now_ns();
	if (lw_content_hash(source->path, &source->stat, &source->content) || lw_stat_racy(&source->stat, now) || !pyc_path(self, source->path, pyc, sizeof(pyc))) {
		self->skipped++;
		return 0;
	}
	switch (lw_pyc_read(pyc, self->magic, &source->stat, &data, &size)) {
	case LW_PYC_HASHED:
		self->skipped++;
		return 0;
	case LW_PYC_NONE:
	case LW_PYC_DOUBTED:
		source->compile = true;
		return 0;
	case LW_PYC_GOOD:
		break;
	}
	int error = keep_code(self, source, (const char *)data + LW_PYC_HEADER, size - LW_PYC_HEADER);
	free(data);
	self->from_pyc++;
	return error;
}

static int gather_all(builder *self)
{
	int error = settle_racy(self);
	atomic_store_explicit(&self->progress, 0, memory_order_relaxed);
	for (size_t i = 0; !error && i < self->count; i++) {
		error = gather_one(self, &self->source[i]);
		atomic_fetch_add_explicit(&self->progress, 1, memory_order_relaxed);
	}
	return error;
}

/* --- Python --- */

static PyObject *os_error(int error, PyObject *path)
{
	errno = -error;
	return path ? PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path) : PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *builder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "cache", "memory", NULL };
	const char *cache = NULL;
	unsigned long long held_max = HELD_MAX;
	char reason[LW_STORE_REASON];
	struct lw_store_config config;
	PyObject *about = NULL;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|zK:Builder", names, &cache, &held_max))
		return NULL;
	PyObject *module = PyType_GetModule(type);
	lw_state *state = module ? lw_state_of(module) : NULL;
	if (!state)
		return NULL;
	builder *self = (builder *)type->tp_alloc(type, 0);
	if (!self)
		return NULL;
	pthread_mutex_init(&self->mutex, NULL);
	self->magic = (uint32_t)PyImport_GetMagicNumber();
	self->held_max = held_max;
	self->build = lw_build_create();
	if (!self->build) {
		PyErr_NoMemory();
		goto fail;
	}
	if (lw_store_settings(state, cache, &self->suffixes, &config, &about) < 0)
		goto fail;
	snprintf(self->pyc_tail, sizeof(self->pyc_tail), "%s", PyUnicode_AsUTF8(state->pyc_tail));
	PyObject *prefix = PySys_GetObject("pycache_prefix");
	if (prefix && PyUnicode_Check(prefix) && !(self->pyc_prefix = strdup(PyUnicode_AsUTF8(prefix))))
		goto fail;
	int error = lw_store_open(&config, &self->store, reason);
	if (error == -EHOSTDOWN) {
		PyErr_SetString(PyExc_RuntimeError, reason);
		goto fail;
	}
	if (error || !lw_store_writable(self->store)) {
		PyErr_SetString(PyExc_OSError, *reason ? reason : "the cache cannot be written to");
		goto fail;
	}
	Py_XDECREF(about);
	return (PyObject *)self;
fail:
	Py_XDECREF(about);
	Py_DECREF(self);
	return NULL;
}

static void builder_dealloc(PyObject *object)
{
	builder *self = (builder *)object;
	PyTypeObject *type = Py_TYPE(self);
	for (size_t i = 0; i < self->count; i++)
		free(self->source[i].path);
	for (size_t i = 0; i < self->racy_count; i++)
		free(self->racy[i]);
	free(self->source);
	free(self->racy);
	free(self->pyc_prefix);
	lw_build_destroy(self->build);
	lw_store_close(self->store);
	pthread_mutex_destroy(&self->mutex);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyObject *stats_dict(const builder *self)
{
	const struct lw_scan_stats *s = &self->stats;
	return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsdsdsIsssKsKsKsKsKsK}", "entries", (unsigned long long)s->entries, "directories",
		(unsigned long long)s->directories, "modules", (unsigned long long)s->modules, "sources", (unsigned long long)s->sources, "unreadable",
		(unsigned long long)s->unreadable, "vanished", (unsigned long long)s->vanished,
		"loops", (unsigned long long)s->loops, "links_left", (unsigned long long)s->links_left, "syscalls", (unsigned long long)s->syscalls,
		"seconds", (double)s->wall_ns / 1e9, "cpu_seconds", (double)s->cpu_ns / 1e9, "threads", s->threads, "backend", s->backend ? s->backend : "",
		"from_pyc", (unsigned long long)self->from_pyc, "compiled", (unsigned long long)self->compiled, "skipped", (unsigned long long)self->skipped,
		"code_bytes", (unsigned long long)self->code_bytes, "spilled", (unsigned long long)self->spilled, "index_bytes", (unsigned long long)lw_build_size(self->build));
}

static PyObject *builder_scan(PyObject *object, PyObject *args)
{
	builder *self = (builder *)object;
	PyObject *roots, *result = NULL, *kept = NULL;
	unsigned threads = 0, failed = 0;
	if (!PyArg_ParseTuple(args, "O!|I:scan", &PyList_Type, &roots, &threads))
		return NULL;
	Py_ssize_t count = PyList_GET_SIZE(roots);
	const char **root = PyMem_Calloc((size_t)count + 1, sizeof(*root));
	kept = PyList_New(0);
	if (!root || !kept)
		goto done;
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *bytes;
		if (!PyUnicode_FSConverter(PyList_GET_ITEM(roots, i), &bytes))
			goto done;
		root[i] = PyBytes_AS_STRING(bytes);
		int appended = PyList_Append(kept, bytes);
		Py_DECREF(bytes);
		if (appended < 0)
			goto done;
	}
	struct lw_scan_config config = { .suffixes = &self->suffixes, .threads = threads };
	int error;
	Py_BEGIN_ALLOW_THREADS
	error = lw_scan(&config, root, (unsigned)count, on_dir, self, &self->stats, &failed, &self->progress);
	Py_END_ALLOW_THREADS
	result = error ? os_error(error, failed < count ? PyList_GET_ITEM(roots, failed) : NULL) : stats_dict(self);
done:
	PyMem_Free(root);
	Py_XDECREF(kept);
	return result;
}

static PyObject *builder_gather(PyObject *object, PyObject *unused)
{
	builder *self = (builder *)object;
	int error;
	Py_BEGIN_ALLOW_THREADS
	error = gather_all(self);
	Py_END_ALLOW_THREADS
	if (error)
		return os_error(error, NULL);
	PyObject *list = PyList_New(0);
	for (size_t i = 0; list && i < self->count; i++) {
		if (!self->source[i].compile)
			continue;
		PyObject *item = Py_BuildValue("nN", (Py_ssize_t)i, PyUnicode_DecodeFSDefault(self->source[i].path));
		if (!item || PyList_Append(list, item) < 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	return list;
}

static PyObject *builder_add(PyObject *object, PyObject *args)
{
	builder *self = (builder *)object;
	Py_ssize_t i;
	unsigned long long content;
	const char *code, *source;
	Py_ssize_t len, source_len;
	if (!PyArg_ParseTuple(args, "ny#y#:add", &i, &source, &source_len, &code, &len))
		return NULL;
	if (i < 0 || (size_t)i >= self->count)
		return PyErr_Format(PyExc_IndexError, "no source %zd", i);
	content = lw_hash64(source, (size_t)source_len);
	if (content != self->source[i].content) {
		self->skipped++; /* it changed while we compiled */
		Py_RETURN_FALSE;
	}
	int error = keep_code(self, &self->source[i], code, (size_t)len);
	self->compiled++;
	if (error)
		return os_error(error, NULL);
	Py_RETURN_TRUE;
}

static PyObject *builder_write(PyObject *object, PyObject *unused)
{
	builder *self = (builder *)object;
	int error;
	/* Whoever holds the lock may do so for long: Ctrl-C must end the waiting, other signals must not. */
	do {
		Py_BEGIN_ALLOW_THREADS
		error = lw_store_rebuild(self->store, self->build);
		Py_END_ALLOW_THREADS
		if (error == -EINTR && PyErr_CheckSignals() < 0)
			return NULL;
	} while (error == -EINTR);
	if (error)
		return os_error(error, NULL);
	return PyUnicode_DecodeFSDefault(lw_store_path(self->store));
}

static PyObject *builder_progress(PyObject *object, void *unused)
{
	return PyLong_FromUnsignedLongLong(atomic_load_explicit(&((builder *)object)->progress, memory_order_relaxed));
}

static PyObject *builder_stats(PyObject *object, PyObject *unused)
{
	return stats_dict((builder *)object);
}

PyDoc_STRVAR(scan_doc, "scan($self, roots, threads=0, /)\n--\n\nWalk the directories ROOTS (absolute paths). Returns stats(). Raises OSError for a root that cannot be listed.");
PyDoc_STRVAR(gather_doc, "gather($self)\n--\n\nTake code from .pyc files. Returns [(number, path), ...] of the sources that must be compiled.");
PyDoc_STRVAR(add_doc, "add($self, number, source, code, /)\n--\n\nThe marshalled CODE (bytes) compiled from SOURCE (bytes). False if the file has changed meanwhile.");
PyDoc_STRVAR(write_doc, "write($self)\n--\n\nStore it, merged with what is in the cache. Returns the directory.");
PyDoc_STRVAR(builder_stats_doc, "stats($self)\n--\n\nCounts and times as a dict.");
PyDoc_STRVAR(builder_doc, "Builder(cache=None, memory=256 << 20)\n--\n\nBuilds an index of whole source trees, holding MEMORY bytes of code at most. Raises OSError if there is no cache to write to.");

static PyMethodDef builder_methods[] = {
	{ "scan", builder_scan, METH_VARARGS, scan_doc },
	{ "gather", builder_gather, METH_NOARGS, gather_doc },
	{ "add", builder_add, METH_VARARGS, add_doc },
	{ "write", builder_write, METH_NOARGS, write_doc },
	{ "stats", builder_stats, METH_NOARGS, builder_stats_doc },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef builder_getset[] = {
	{ "progress", builder_progress, NULL, "Entries scanned or sources gathered so far; may be read from another thread.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot builder_slots[] = {
	{ Py_tp_new, builder_new },
	{ Py_tp_dealloc, builder_dealloc },
	{ Py_tp_methods, builder_methods },
	{ Py_tp_getset, builder_getset },
	{ Py_tp_doc, (void *)builder_doc },
	{ 0, NULL },
};

PyType_Spec lw_builder_spec = {
	.name = "ladewerk._native.Builder",
	.basicsize = sizeof(builder),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = builder_slots,
};
