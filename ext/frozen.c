/* SPDX-License-Identifier: MIT */
/*
 * frozen: the FrozenBuilder behind `ladewerk index --frozen`: scan roots, let Python compile every source, publish an artifact (artifact.h).
 *
 * What the scan reports in any order is put into the order of its names afterwards; what of it is not the same everywhere is left out: stamps, permissions, the
 * __pycache__ directories, and the artifact itself, if it lies in one of the roots. Code does not come from .pyc files, which another
 * patch level may have written, and is kept in a file without a name until the artifact is written.
 */
#include "lazy.h"

#include "publish.h"
#include "scan.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

struct found_source {
	uint32_t name;		/* offset of the stem in listing->names */
	uint8_t len;
};

/* A directory as it was reported. */
struct found {
	char *path, *name;	/* absolute, and as the index calls it */
	struct lw_listing *listing;
	struct found_source *sources;
	uint64_t dev, ino;
	unsigned source_count;
};

struct frozen_source {
	char *path, *name;
	uint64_t content;
	off_t at;		/* of its code in the spool */
	uint32_t len;		/* 0: none so far */
};

typedef struct {
	PyObject_HEAD
	struct lw_suffixes suffixes;	/* constant, as what follows */
	struct lw_hash128 key;
	bool lazy;			/* for programs that import lazily */
	PyObject *about;
	char **root;
	unsigned roots;
	lw_roots *names;
	char *path;			/* of the artifact */
	struct lw_stat self, above;	/* the directory there, if there is one, and the one it lies in */
	bool exists;
	pthread_mutex_t mutex;		/* found and count, while scanning */
	struct found *found;
	size_t count, capacity;
	lw_build *build;
	struct frozen_source *source;
	size_t sources, source_room;
	int spool;
	off_t spooled;
	struct lw_scan_stats stats;
	_Atomic uint64_t progress;
	uint64_t compiled, index_bytes;
} frozen_builder;

static int push(void **array, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return 0;
	size_t bigger = *capacity ? *capacity * 2 : 256;
	void *grown = realloc(*array, bigger * size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*capacity = bigger;
	return 0;
}

/* --- scanning (pool threads) --- */

static void drop_found(struct found *found)
{
	free(found->path);
	free(found->name);
	free(found->sources);
	lw_listing_destroy(found->listing);
}

static char *name_of(const frozen_builder *self, const char *path, size_t len)
{
	char name[LW_ROOTS_PATH];
	size_t name_len = lw_roots_translate(self->names, path, len, name);
	return strndup(name, name_len);
}

/* Takes the listing. */
static int describe_found(const frozen_builder *self, const struct lw_scan_dir *dir, struct found *found)
{
	size_t len = dir->path_len;
	while (len && dir->path[len - 1] == '/')
		len--;
	*found = (struct found){ .listing = dir->listing, .dev = dir->stat.dev, .ino = dir->stat.ino, .source_count = dir->source_count };
	found->path = strndup(dir->path, len);
	found->name = name_of(self, dir->path, len);
	found->sources = calloc(dir->source_count + 1, sizeof(*found->sources));
	if (!found->path || !found->name || !found->sources)
		return -ENOMEM;
	for (unsigned i = 0; i < dir->source_count; i++)
		found->sources[i] = (struct found_source){ .name = dir->sources[i].name, .len = dir->sources[i].len };
	return 0;
}

static int on_dir(void *arg, const struct lw_scan_dir *dir)
{
	frozen_builder *self = arg;
	struct found found;
	if (dir->error)
		return 0; /* nothing is known of it; counted by the scan */
	int error = describe_found(self, dir, &found);
	pthread_mutex_lock(&self->mutex);
	if (!error)
		error = push((void **)&self->found, self->count, &self->capacity, sizeof(*self->found));
	if (!error)
		self->found[self->count++] = found;
	pthread_mutex_unlock(&self->mutex);
	if (error)
		drop_found(&found);
	return error;
}

/* --- what of it is input, in order --- */

static int order_found(const void *a, const void *b)
{
	return strcmp(((const struct found *)a)->name, ((const struct found *)b)->name);
}

static bool is_text(const char *name, size_t len, const char *text)
{
	return len == strlen(text) && memcmp(name, text, len) == 0;
}

static bool is_self(const frozen_builder *self, const struct found *found)
{
	return strcmp(found->path, self->path) == 0 || (self->exists && found->dev == self->self.dev && found->ino == self->self.ino);
}

static bool lies_below(const char *path, const char *above)
{
	size_t len = strlen(above);
	return strncmp(path, above, len) == 0 && path[len] == '/';
}

/* Whether NAME in FOUND is a directory that is not input. */
static bool is_left_out(const frozen_builder *self, const struct found *found, const char *name, size_t len)
{
	bool above = found->dev == self->above.dev && found->ino == self->above.ino;
	return is_text(name, len, "__pycache__") || (above && is_text(name, len, strrchr(self->path, '/') + 1));
}

/* The listing without what is no input. NULL without memory. */
static struct lw_listing *input_of(const frozen_builder *self, const struct found *found)
{
	const struct lw_listing *all = found->listing;
	struct lw_entry *kept = calloc(all->count + 1, sizeof(*kept));
	uint32_t count = 0;
	for (uint32_t i = 0; kept && i < all->count; i++) {
		struct lw_entry entry = all->entries[i];
		if (is_left_out(self, found, all->names + entry.name, entry.len))
			entry.kinds &= (lw_kinds)~LW_KIND_DIR;
		if (entry.kinds)
			kept[count++] = entry;
	}
	struct lw_listing *listing = kept ? lw_listing_copy(kept, count, all->names) : NULL;
	free(kept);
	return listing;
}

static int order_sources(const void *a, const void *b, void *names)
{
	const struct found_source *x = a, *y = b;
	int order = memcmp((char *)names + x->name, (char *)names + y->name, x->len < y->len ? x->len : y->len);
	return order ? order : x->len - y->len;
}

static int add_source(frozen_builder *self, const struct found *found, const struct found_source *source)
{
	const char *stem = found->listing->names + source->name;
	struct frozen_source *new;
	int error = push((void **)&self->source, self->sources, &self->source_room, sizeof(*self->source));
	if (error)
		return error;
	new = &self->source[self->sources++];
	*new = (struct frozen_source){ 0 };
	if (asprintf(&new->path, "%s/%.*s.py", found->path, source->len, stem) < 0)
		new->path = NULL;
	if (asprintf(&new->name, "%s/%.*s.py", found->name, source->len, stem) < 0)
		new->name = NULL;
	return new->path && new->name ? 0 : -ENOMEM;
}

static int add_found(frozen_builder *self, const struct found *found)
{
	struct lw_listing *listing = input_of(self, found);
	int error = listing ? lw_build_dir(self->build, found->name, strlen(found->name), 0, LW_DIR_PUBLIC, listing) : -ENOMEM;
	lw_listing_destroy(listing);
	qsort_r(found->sources, found->source_count, sizeof(*found->sources), order_sources, (char *)found->listing->names);
	for (unsigned i = 0; i < found->source_count && !error; i++)
		error = add_source(self, found, &found->sources[i]);
	return error;
}

/* Roots within roots have been walked twice: of directories with one name the first counts. Parents come before what is in them. */
static int digest(frozen_builder *self)
{
	const struct found *before = NULL, *left = NULL;
	int error = 0;
	qsort(self->found, self->count, sizeof(*self->found), order_found);
	for (size_t i = 0; i < self->count && !error; i++) {
		const struct found *found = &self->found[i];
		if ((before && strcmp(before->name, found->name) == 0) || (left && lies_below(found->name, left->name)))
			continue;
		before = found;
		if (is_self(self, found))
			left = found;
		else
			error = add_found(self, found);
	}
	for (size_t i = 0; i < self->count; i++)
		drop_found(&self->found[i]);
	self->count = 0;
	return error;
}

/* --- code --- */

/* A file without a name beside the artifact, where there is room for it; else, where there cannot be such a file, in memory. */
static int open_spool(const char *path)
{
	char above[PATH_MAX];
	snprintf(above, sizeof(above), "%.*s/", (int)(strrchr(path, '/') - path), path);
	int fd = open(above, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return fd < 0 ? memfd_create("ladewerk", MFD_CLOEXEC) : fd;
}

static int spool_code(frozen_builder *self, struct frozen_source *source, const char *code, size_t len)
{
	if (len >> LW_FILE_LEN_BITS)
		return -E2BIG;
	for (size_t done = 0; done < len; ) {
		ssize_t put = pwrite(self->spool, code + done, len - done, self->spooled + (off_t)done);
		if (put < 0 && errno != EINTR)
			return -errno;
		done += put > 0 ? (size_t)put : 0;
	}
	source->at = self->spooled;
	source->len = (uint32_t)len;
	self->spooled += (off_t)len;
	return 0;
}

static int add_code(frozen_builder *self, const char *code)
{
	int error = 0;
	for (size_t i = 0; i < self->sources && !error; i++) {
		const struct frozen_source *source = &self->source[i];
		if (source->len)
			error = lw_build_file(self->build, lw_hash128(source->name, strlen(source->name)), 0, source->content, LW_FILE_PUBLIC,
				code + source->at, source->len, false);
	}
	return error;
}

static int publish(frozen_builder *self, const char *about, char *reason)
{
	const struct lw_publication publication = { .path = self->path, .key = self->key, .about = about,
		.root = (const char *const *)self->root, .count = self->roots };
	size_t size = (size_t)self->spooled;
	void *code = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, self->spool, 0) : NULL;
	if (code == MAP_FAILED)
		return -errno;
	int error = add_code(self, code);
	self->index_bytes = lw_build_size(self->build);
	if (!error)
		error = lw_publish(&publication, self->build, reason);
	lw_build_destroy(self->build); /* rests on the code */
	self->build = NULL;
	if (code)
		munmap(code, size);
	return error;
}

/* --- Python --- */

static PyObject *os_error(int error, PyObject *path)
{
	errno = -error;
	return path ? PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path) : PyErr_SetFromErrno(PyExc_OSError);
}

/* A copy of PATH, a str, as the file system has it; malloc'ed. NULL with an exception. */
static char *path_of(PyObject *path)
{
	PyObject *bytes;
	if (!PyUnicode_FSConverter(path, &bytes))
		return NULL;
	char *copy = strdup(PyBytes_AS_STRING(bytes));
	Py_DECREF(bytes);
	if (!copy)
		PyErr_NoMemory();
	else if (*copy != '/')
		PyErr_Format(PyExc_ValueError, "not absolute: %s", copy);
	if (copy && *copy != '/') {
		free(copy);
		return NULL;
	}
	return copy;
}

static int take_roots(frozen_builder *self, PyObject *list)
{
	Py_ssize_t count = PyList_GET_SIZE(list);
	struct lw_root *roots = PyMem_Calloc((size_t)count + 1, sizeof(*roots));
	self->root = calloc((size_t)count + 1, sizeof(*self->root));
	if (count < 1 || count > LW_ROOTS_MAX)
		PyErr_Format(PyExc_ValueError, "there must be from 1 to %d roots", LW_ROOTS_MAX);
	else if (!roots || !self->root)
		PyErr_NoMemory();
	for (Py_ssize_t i = 0; !PyErr_Occurred() && i < count; i++) {
		char *path = self->root[self->roots] = path_of(PyList_GET_ITEM(list, i));
		if (!path)
			break;
		size_t len = strlen(path);
		roots[self->roots] = (struct lw_root){ .path = path, .len = (uint32_t)(len == 1 ? 0 : len), .number = self->roots };
		self->roots++;
	}
	if (!PyErr_Occurred() && !(self->names = lw_roots_create(roots, self->roots)))
		PyErr_NoMemory();
	PyMem_Free(roots);
	return PyErr_Occurred() ? -1 : 0;
}

static int refuse(int error, const char *reason, PyObject *path)
{
	if (*reason)
		PyErr_SetString(PyExc_ValueError, reason);
	else
		os_error(error, path);
	return -1;
}

/* Whether an artifact may be where it is wanted, and what is there now. */
static int take_place(frozen_builder *self, PyObject *path)
{
	char reason[LW_STORE_REASON], above[PATH_MAX];
	self->path = path_of(path);
	if (!self->path)
		return -1;
	int error = lw_publish_check(self->path, reason);
	if (error)
		return refuse(error, reason, path);
	self->exists = lw_stat_at(AT_FDCWD, self->path, &self->self) == 0;
	snprintf(above, sizeof(above), "%.*s/", (int)(strrchr(self->path, '/') - self->path), self->path);
	error = lw_stat_at(AT_FDCWD, above, &self->above);
	return error ? refuse(error, "", path) : 0;
}

static PyObject *frozen_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "path", "roots", NULL };
	struct lw_store_config config;
	PyObject *path, *roots;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UO!:FrozenBuilder", names, &path, &PyList_Type, &roots))
		return NULL;
	PyObject *module = PyType_GetModule(type);
	lw_state *state = module ? lw_state_of(module) : NULL;
	frozen_builder *self = state ? (frozen_builder *)type->tp_alloc(type, 0) : NULL;
	if (!self)
		return NULL;
	pthread_mutex_init(&self->mutex, NULL);
	self->spool = -1;
	if (take_roots(self, roots) < 0 || take_place(self, path) < 0 || lw_store_settings(state, NULL, &self->suffixes, &config, &self->about) < 0)
		goto fail;
	self->key = config.key;
	self->lazy = lw_lazy_is_on(&state->lazy);
	self->build = lw_build_create();
	self->spool = open_spool(self->path);
	if (self->build && self->spool >= 0)
		return (PyObject *)self;
	os_error(self->build ? -errno : -ENOMEM, path);
fail:
	Py_DECREF(self);
	return NULL;
}

static void frozen_dealloc(PyObject *object)
{
	frozen_builder *self = (frozen_builder *)object;
	PyTypeObject *type = Py_TYPE(self);
	for (size_t i = 0; i < self->count; i++)
		drop_found(&self->found[i]);
	for (size_t i = 0; i < self->sources; i++) {
		free(self->source[i].path);
		free(self->source[i].name);
	}
	for (unsigned i = 0; i < self->roots; i++)
		free(self->root[i]);
	free(self->found);
	free(self->source);
	free(self->root);
	free(self->path);
	lw_roots_destroy(self->names);
	lw_build_destroy(self->build);
	if (self->spool >= 0)
		close(self->spool);
	Py_XDECREF(self->about);
	pthread_mutex_destroy(&self->mutex);
	type->tp_free(object);
	Py_DECREF(type);
}

static bool is_over(const frozen_builder *self)
{
	if (!self->build)
		PyErr_SetString(PyExc_ValueError, "it was written");
	return !self->build;
}

static PyObject *stats_dict(const frozen_builder *self)
{
	const struct lw_scan_stats *s = &self->stats;
	return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsdsdsIsssKsKsK}", "entries", (unsigned long long)s->entries, "directories",
		(unsigned long long)s->directories, "modules", (unsigned long long)s->modules, "sources", (unsigned long long)self->sources, "unreadable",
		(unsigned long long)s->unreadable, "vanished", (unsigned long long)s->vanished, "loops", (unsigned long long)s->loops, "links_left",
		(unsigned long long)s->links_left, "syscalls", (unsigned long long)s->syscalls, "seconds", (double)s->wall_ns / 1e9, "cpu_seconds",
		(double)s->cpu_ns / 1e9, "threads", s->threads, "backend", s->backend ? s->backend : "", "compiled", (unsigned long long)self->compiled,
		"code_bytes", (unsigned long long)self->spooled, "index_bytes", (unsigned long long)self->index_bytes);
}

static PyObject *source_list(const frozen_builder *self)
{
	PyObject *list = PyList_New(0);
	for (size_t i = 0; list && i < self->sources; i++) {
		PyObject *item = Py_BuildValue("nNN", (Py_ssize_t)i, PyUnicode_DecodeFSDefault(self->source[i].path), PyUnicode_DecodeFSDefault(self->source[i].name));
		if (!item || PyList_Append(list, item) < 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	return list;
}

static PyObject *frozen_scan(PyObject *object, PyObject *args)
{
	frozen_builder *self = (frozen_builder *)object;
	unsigned threads = 0, failed = 0;
	const char *backend = "auto";
	int error;
	if (!PyArg_ParseTuple(args, "|Is:scan", &threads, &backend) || is_over(self))
		return NULL;
	struct lw_scan_config config = { .suffixes = &self->suffixes, .threads = threads };
	if (lw_parse_backend(backend, &config.backend) < 0)
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	error = lw_scan(&config, (const char *const *)self->root, self->roots, on_dir, self, &self->stats, &failed, &self->progress);
	if (!error)
		error = digest(self);
	Py_END_ALLOW_THREADS
	if (!error)
		return source_list(self);
	if (error != -ENOMEM && failed == self->roots && *self->stats.why)
		return PyErr_SetString(PyExc_OSError, self->stats.why), NULL;
	PyObject *root = failed < self->roots ? PyUnicode_DecodeFSDefault(self->root[failed]) : NULL;
	PyErr_Clear();
	os_error(error, root);
	Py_XDECREF(root);
	return NULL;
}

static PyObject *frozen_add(PyObject *object, PyObject *args)
{
	frozen_builder *self = (frozen_builder *)object;
	Py_ssize_t i, len, source_len;
	const char *code, *source;
	if (!PyArg_ParseTuple(args, "ny#y#:add", &i, &source, &source_len, &code, &len) || is_over(self))
		return NULL;
	if (i < 0 || (size_t)i >= self->sources)
		return PyErr_Format(PyExc_IndexError, "no source %zd", i);
	int error = spool_code(self, &self->source[i], code, (size_t)len);
	if (error)
		return os_error(error, NULL);
	self->source[i].content = lw_hash64(source, (size_t)source_len);
	self->compiled++;
	Py_RETURN_NONE;
}

static PyObject *frozen_write(PyObject *object, PyObject *unused)
{
	frozen_builder *self = (frozen_builder *)object;
	char reason[LW_STORE_REASON] = "";
	const char *about = PyUnicode_AsUTF8(self->about);
	int error;
	if (!about || is_over(self))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	error = publish(self, about, reason);
	Py_END_ALLOW_THREADS
	if (!error)
		Py_RETURN_NONE;
	refuse(error, reason, NULL);
	return NULL;
}

static PyObject *frozen_progress(PyObject *object, void *unused)
{
	return PyLong_FromUnsignedLongLong(atomic_load_explicit(&((frozen_builder *)object)->progress, memory_order_relaxed));
}

static PyObject *frozen_lazy(PyObject *object, void *unused)
{
	return PyBool_FromLong(((frozen_builder *)object)->lazy);
}

static PyObject *frozen_stats(PyObject *object, PyObject *unused)
{
	return stats_dict((frozen_builder *)object);
}

PyDoc_STRVAR(scan_doc, "scan($self, threads=0, backend=\"auto\", /)\n--\n\n"
	"Walk the roots. Returns [(number, path, name in the index), ...] of the sources. Raises OSError for a root that cannot be listed.");
PyDoc_STRVAR(add_doc, "add($self, number, source, code, /)\n--\n\nThe marshalled, canonical CODE (bytes) compiled from SOURCE (bytes).");
PyDoc_STRVAR(write_doc, "write($self)\n--\n\nPut the artifact in its place.");
PyDoc_STRVAR(stats_doc, "stats($self)\n--\n\nCounts and times as a dict.");
PyDoc_STRVAR(frozen_doc, "FrozenBuilder(path, roots)\n--\n\n"
	"Builds an artifact of the directories ROOTS (absolute paths) in the directory PATH. Raises ValueError if something else is there.");

static PyMethodDef frozen_methods[] = {
	{ "scan", frozen_scan, METH_VARARGS, scan_doc },
	{ "add", frozen_add, METH_VARARGS, add_doc },
	{ "write", frozen_write, METH_NOARGS, write_doc },
	{ "stats", frozen_stats, METH_NOARGS, stats_doc },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef frozen_getset[] = {
	{ "progress", frozen_progress, NULL, "Entries scanned so far; may be read from another thread.", NULL },
	{ "lazy", frozen_lazy, NULL, "Whether it is for programs that import lazily: CODE is to be ready for that.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot frozen_slots[] = {
	{ Py_tp_new, frozen_new },
	{ Py_tp_dealloc, frozen_dealloc },
	{ Py_tp_methods, frozen_methods },
	{ Py_tp_getset, frozen_getset },
	{ Py_tp_doc, (void *)frozen_doc },
	{ 0, NULL },
};

PyType_Spec lw_frozen_builder_spec = {
	.name = "ladewerk._native.FrozenBuilder",
	.basicsize = sizeof(frozen_builder),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = frozen_slots,
};
