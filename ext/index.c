/* SPDX-License-Identifier: MIT */
/*
 * index: the Builder behind `ladewerk index`: scan roots, take code from .pyc files that can be believed, let Python compile the rest, store.
 *
 * Code is held in memory up to a bound; beyond it, what there is goes to the cache as a segment, which the last write merges.
 *
 * The cache of lazy imports has code that is made ready for these (lazy.h), which takes Python.
 */
#include "lazy.h"

#include "gather.h"
#include "revalidate.h"
#include "scan.h"

#include <fcntl.h>
#include <marshal.h>
#include <pthread.h>
#include <sys/stat.h>

enum { SETTLE_NS = 30 * 1000 * 1000, SETTLE_ROUNDS = 5, LOOK_NS = 20 * 1000 * 1000, HELD_MAX = 256 << 20 };

/* A source found by the scan. */
struct source {
	char *path;		/* malloc'ed */
	struct lw_stat stat;	/* when its content was hashed */
	uint64_t content;
	bool compile;		/* no .pyc to take its code from */
};

struct path_list {
	char **path;			/* malloc'ed, as the array is */
	size_t count, capacity;
};

typedef struct {
	PyObject_HEAD
	lw_store *store;		/* NULL: nothing will be stored */
	lw_index **index;		/* what is stored, newest first */
	unsigned indexes;
	lw_build *build;
	struct lw_suffixes suffixes;
	char *pyc_prefix;		/* malloc'ed or NULL: sys.pycache_prefix */
	char pyc_tail[128];
	uint32_t magic;
	enum lw_ioq_backend backend;	/* of the last scan, for what follows it */
	unsigned threads;
	pthread_mutex_t mutex;		/* everything below, while scanning */
	struct source *source;
	size_t count, capacity;
	struct path_list racy;		/* directories to be read again */
	struct lw_scan_stats stats;
	_Atomic uint64_t progress;
	/* While a scan runs: who called it, and its thread state, put aside. That thread's alone. */
	pthread_t caller;
	PyThreadState *released;
	int64_t look_ns;		/* monotonic; when to look for signals again */
	uint64_t from_pyc, compiled, skipped, code_bytes;
	uint64_t known;			/* sources whose code is in the cache, under the stamps that they have */
	bool news;			/* there is anything that the cache does not hold */
	bool lazy;			/* the cache is that of lazy imports: */
	lw_lazy_policy *shipped;	/* then, the rules that hold for everybody, and */
	PyObject *bases;		/* tuple of str: directories by which modules have their names, as sys.path has them */
	bool partial;			/* what is not in BUILD is not gone: it was not looked at, and stays in the cache as it is */
	struct path_list found[2];	/* directories that revalidate() has met and nobody has read; [1]: behind a link */
	struct lw_revalidate_stats checked;
	uint64_t held, held_max;	/* bytes of code in build */
	uint64_t spilled;		/* segments written before their time */
} builder;

/* --- signals --- */

/* Calls on a slow disk go on for minutes, and Ctrl-C must end them: 0, or -EINTR with an exception. The mutex is not held. */
static int heed_signals(builder *self)
{
	/* The caller's thread is one of those that work. */
	if (!pthread_equal(pthread_self(), self->caller))
		return 0;
	int64_t now = lw_monotonic_ns();
	if (now < self->look_ns)
		return 0;
	self->look_ns = now + LOOK_NS;
	PyEval_RestoreThread(self->released);
	int result = PyErr_CheckSignals();
	self->released = PyEval_SaveThread();
	return result < 0 ? -EINTR : 0;
}

static void release(builder *self)
{
	self->caller = pthread_self();
	self->look_ns = 0;
	self->released = PyEval_SaveThread();
}

static void reclaim(builder *self)
{
	PyEval_RestoreThread(self->released);
}

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

/* SOURCE is /DIR/NAME.py; malloc'ed. */
static char *source_path(const struct lw_scan_dir *dir, const struct lw_scan_source *source)
{
	char *path = malloc(dir->path_len + 1 + source->len + sizeof(".py"));
	if (path)
		sprintf(path, "%s/%.*s.py", dir->path_len > 1 ? dir->path : "", source->len, dir->listing->names + source->name);
	return path;
}

static int remember(struct path_list *list, const char *path)
{
	int error = push((void **)&list->path, &list->count, &list->capacity, sizeof(*list->path));
	char *copy = error ? NULL : strdup(path);
	if (copy)
		list->path[list->count++] = copy;
	return copy ? 0 : -ENOMEM;
}

static void forget_all(struct path_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->path[i]);
	free(list->path);
}

static size_t stored_len(const char *path, size_t len)
{
	while (len && path[len - 1] == '/')
		len--;
	return len;
}

static uint16_t flags_of(const struct lw_stat *st, const struct lw_listing *listing)
{
	return listing ? (lw_stat_public(st) ? LW_DIR_PUBLIC : 0) : LW_DIR_UNREADABLE;
}

static int store_dir(builder *self, const char *path, size_t len, const struct lw_stat *st, const struct lw_listing *listing)
{
	return lw_build_dir(self->build, path, stored_len(path, len), lw_stamp(st), flags_of(st, listing), listing);
}

/* What the cache holds of the file whose path has this key, with code that is not damaged. */
static const struct lw_file_record *find_record(const builder *self, struct lw_hash128 key)
{
	const struct lw_file_record *record;
	int result = LW_ABSENT;
	unsigned i;
	for (i = 0; i < self->indexes && result == LW_ABSENT; i++)
		result = lw_index_find_file(self->index[i], key, &record);
	const void *code;
	size_t len;
	return result == LW_OK && lw_index_code(self->index[i - 1], record, &code, &len) == LW_OK ? record : NULL;
}

/* The source that is still what the cache knows. The merge at the end finds its code. */
static int store_known(builder *self, struct lw_hash128 key, const struct lw_scan_source *source, const struct lw_file_record *record)
{
	self->known++;
	return lw_build_file(self->build, key, record->stamp, record->content, lw_stat_public(&source->stat) ? LW_FILE_PUBLIC : 0, NULL, 0, false);
}

/* Takes PATH. */
static int add_source(builder *self, char *path, const struct lw_scan_source *source)
{
	struct lw_hash128 key = lw_hash128(path, strlen(path));
	const struct lw_file_record *record = source->racy || lw_stat_weak(&source->stat, path) ? NULL : find_record(self, key);
	if (record && record->stamp == lw_stamp(&source->stat)) {
		free(path);
		/* A segment that knew the file without its code would hide the code. */
		return self->partial ? 0 : store_known(self, key, source, record);
	}
	self->news = true;
	int error = push((void **)&self->source, &self->count, &self->capacity, sizeof(*self->source));
	if (error)
		free(path);
	else
		self->source[self->count++] = (struct source){ .path = path };
	return error;
}

static int add_sources(builder *self, const struct lw_scan_dir *dir)
{
	int error = 0;
	for (unsigned i = 0; !error && i < dir->source_count; i++) {
		char *path = source_path(dir, &dir->sources[i]);
		error = path ? add_source(self, path, &dir->sources[i]) : -ENOMEM;
	}
	return error;
}

/* Whether the newest file that knows DIR knows it as it is, as far as stamps can tell. */
static bool is_known(const builder *self, const struct lw_scan_dir *dir)
{
	const struct lw_dir_record *record;
	int result = LW_ABSENT;
	for (unsigned i = 0; i < self->indexes && result == LW_ABSENT; i++)
		result = lw_index_find_dir_record(self->index[i], dir->path, stored_len(dir->path, dir->path_len), &record);
	return result == LW_OK && record->stamp == lw_stamp(&dir->stat) && record->flags == flags_of(&dir->stat, dir->listing)
		&& !(dir->listing && lw_stat_weak(&dir->stat, dir->path));
}

static int add_dir(builder *self, const struct lw_scan_dir *dir)
{
	if (dir->error && dir->error != EACCES) {
		self->skipped++; /* it vanished, or is odd: nothing is known of it */
		return 0;
	}
	self->news |= dir->racy || !is_known(self, dir);
	if (dir->racy)
		return remember(&self->racy, dir->path);
	return store_dir(self, dir->path, dir->path_len, &dir->stat, dir->listing);
}

static int on_dir(void *arg, const struct lw_scan_dir *dir)
{
	builder *self = arg;
	pthread_mutex_lock(&self->mutex);
	int error = add_dir(self, dir);
	if (!error && !dir->error)
		error = add_sources(self, dir);
	pthread_mutex_unlock(&self->mutex);
	lw_listing_destroy(dir->listing);
	return error ? error : heed_signals(self);
}

/* Nothing is kept. */
static int on_dir_count(void *arg, const struct lw_scan_dir *dir)
{
	lw_listing_destroy(dir->listing);
	return heed_signals(arg);
}

/* What a source takes in an index, but for its code. */
static int measure_source(builder *self, const struct lw_scan_dir *dir, const struct lw_scan_source *source)
{
	char *path = source_path(dir, source);
	int error = path ? lw_build_file(self->build, lw_hash128(path, strlen(path)), lw_stamp(&source->stat), 0, 0, NULL, 0, false) : -ENOMEM;
	free(path);
	return error;
}

/* Facts are built, to be measured. */
static int on_dir_measure(void *arg, const struct lw_scan_dir *dir)
{
	builder *self = arg;
	pthread_mutex_lock(&self->mutex);
	int error = store_dir(self, dir->path, dir->path_len, &dir->stat, dir->listing);
	for (unsigned i = 0; !error && !dir->error && i < dir->source_count; i++)
		error = measure_source(self, dir, &dir->sources[i]);
	pthread_mutex_unlock(&self->mutex);
	lw_listing_destroy(dir->listing);
	return error ? error : heed_signals(self);
}

/* --- checking what is stored (threads) --- */

/* The sources of a directory that was read again, as a scan would report them. */
static int add_sources_of(builder *self, const struct lw_revalidate_dir *dir)
{
	const lw_kinds kind = LW_KIND_SUFFIX(self->suffixes.source);
	int error = 0;
	for (uint32_t i = 0; !error && i < dir->listing->count; i++) {
		const struct lw_entry *entry = &dir->listing->entries[i];
		struct lw_scan_source source = { .name = entry->name, .len = entry->len };
		const struct lw_scan_dir scanned = { .path = dir->path, .path_len = dir->path_len, .listing = dir->listing };
		if (!(entry->kinds & kind))
			continue;
		char *path = source_path(&scanned, &source);
		int64_t now = lw_now_ns();
		if (!path)
			return -ENOMEM;
		if (lw_stat_at(AT_FDCWD, path, &source.stat) || !S_ISREG(source.stat.mode)) {
			free(path);
			continue;
		}
		source.racy = lw_stat_racy(&source.stat, now);
		error = add_source(self, path, &source);
	}
	return error;
}

static int add_changed(builder *self, const struct lw_revalidate_dir *dir)
{
	if (dir->found)
		return remember(&self->found[dir->linked], dir->path);
	if (dir->error || dir->racy) {
		self->skipped++;
		return 0;
	}
	self->news = true;
	uint64_t stamp = dir->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR) ? 0 : lw_stamp(&dir->stat);
	int error = lw_build_dir(self->build, dir->path, stored_len(dir->path, dir->path_len), stamp, dir->flags, dir->listing);
	return error || !dir->listing ? error : add_sources_of(self, dir);
}

static int on_changed(void *arg, const struct lw_revalidate_dir *dir)
{
	builder *self = arg;
	int error = 0;
	pthread_mutex_lock(&self->mutex);
	if (self->store)
		error = add_changed(self, dir);
	pthread_mutex_unlock(&self->mutex);
	lw_listing_destroy(dir->listing);
	return error ? error : heed_signals(self);
}

static bool is_stored_dir(const builder *self, const char *path, size_t len)
{
	const struct lw_dir_record *record;
	int result = lw_build_knows_dir(self->build, path, len) ? LW_OK : LW_ABSENT;
	for (unsigned i = 0; i < self->indexes && result == LW_ABSENT; i++)
		result = lw_index_find_dir_record(self->index[i], path, len, &record);
	return result == LW_OK;
}

/* What was found is read like a root, unless somebody has read it by now. One that has gone meanwhile was not found. */
static int scan_found(builder *self, struct path_list *found, bool linked)
{
	struct lw_scan_config config = { .suffixes = &self->suffixes, .threads = self->threads, .backend = self->backend, .linked = linked };
	int error = 0;
	for (size_t i = 0; !error && i < found->count; i++) {
		const char *root = found->path[i];
		struct lw_scan_stats stats;
		unsigned failed;
		if (is_stored_dir(self, root, strlen(root)))
			continue;
		error = lw_scan(&config, &root, 1, on_dir, self, &stats, &failed, &self->progress);
		if (error && !failed && error != -ENOMEM)
			error = 0;
		self->stats.sources += stats.sources;
	}
	forget_all(found);
	*found = (struct path_list){ 0 };
	return error;
}

/* --- directories that had just been changed when the scan met them --- */

/* Subdirectories may not have been there when the scan was. What links lead to is left alone: there may be one on the way already. */
static int note_children(const char *path, const struct lw_listing *listing, struct path_list *found)
{
	int error = 0;
	for (uint32_t i = 0; !error && i < listing->count; i++) {
		const struct lw_entry *entry = &listing->entries[i];
		const char *name = listing->names + entry->name;
		char *child = NULL;
		if (!(entry->kinds & LW_KIND_DIR) || entry->flags & LW_ENTRY_DOUBT || !lw_names_entered(name, entry->len))
			continue;
		int len = asprintf(&child, "%.*s/%.*s", (int)stored_len(path, strlen(path)), path, entry->len, name);
		error = len < 0 ? -ENOMEM : remember(found, child);
		free(child);
	}
	return error;
}

static int settle_one(builder *self, const char *path, struct path_list *found)
{
	struct lw_listing *listing;
	struct lw_stat st;
	int64_t now = lw_now_ns();
	if (lw_listing_read(path, &self->suffixes, &listing, &st))
		return 0;
	int error = 0;
	if (lw_stat_racy(&st, now))
		self->skipped++;
	else
		error = store_dir(self, path, strlen(path), &st, listing);
	if (!error)
		error = note_children(path, listing, found);
	lw_listing_destroy(listing);
	return error;
}

/* Read them again. What is found on the way may have been made just now as well. */
static int settle_racy(builder *self)
{
	int error = 0;
	for (unsigned round = 0; !error && round < SETTLE_ROUNDS && self->racy.count; round++) {
		struct path_list racy = self->racy, found = { 0 };
		self->racy = (struct path_list){ 0 };
		nanosleep(&(struct timespec){ .tv_nsec = SETTLE_NS }, NULL);
		for (size_t i = 0; !error && i < racy.count; i++)
			error = settle_one(self, racy.path[i], &found);
		forget_all(&racy);
		if (!error)
			error = scan_found(self, &found, true);
		forget_all(&found);
	}
	return error;
}

/* --- code --- */

static const char *source_of(void *arg, size_t number)
{
	return ((builder *)arg)->source[number].path;
}

static int pyc_path(void *arg, size_t number, char *out, size_t size)
{
	const builder *self = arg;
	const char *source = self->source[number].path, *slash = strrchr(source, '/');
	int stem = (int)strlen(slash + 1) - 3, head = (int)(slash - source);
	int len = self->pyc_prefix ? snprintf(out, size, "%s%.*s/%.*s%s", self->pyc_prefix, head, source, stem, slash + 1, self->pyc_tail)
		: snprintf(out, size, "%.*s/__pycache__/%.*s%s", head, source, stem, slash + 1, self->pyc_tail);
	return (size_t)len < size ? 0 : -ENAMETOOLONG;
}

/* Store all that there is, and begin anew. */
static int spill_all(builder *self)
{
	lw_build *next = lw_build_create();
	int error = next ? lw_store_append(self->store, self->build) : -ENOMEM;
	if (error) {
		lw_build_destroy(next);
		return error;
	}
	lw_build_destroy(self->build);
	self->build = next;
	return 0;
}

/* Store the code, and go on without it: the merge at the end finds it again. */
static int spill_code(builder *self)
{
	lw_build *code = lw_build_create();
	int error = code ? lw_build_move_code(self->build, code) : -ENOMEM;
	if (!error)
		error = lw_store_append(self->store, code);
	lw_build_destroy(code);
	return error;
}

/* What has been gathered so far goes to the cache before its time. */
static int spill(builder *self)
{
	/* No merge follows then: a segment that knew the files without their code would hide it. */
	int error = self->partial ? spill_all(self) : spill_code(self);
	self->held = 0;
	self->spilled += !error;
	return error;
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

/* BASE lies above PATH, and deeper than LEN bytes: how deep; else LEN. */
static size_t deeper(PyObject *base, const char *path, size_t len)
{
	const char *text = PyUnicode_Check(base) ? PyUnicode_AsUTF8(base) : NULL;
	PyErr_Clear();
	size_t size = text ? strlen(text) : 0;
	return size > len && strncmp(path, text, size) == 0 && path[size] == '/' ? size : len;
}

/* The name of the module whose source is PATH, below the innermost of the bases. False: below none. */
static bool name_of_module(const builder *self, const char *path, char *name, size_t size)
{
	size_t base = 0;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->bases); i++)
		base = deeper(PyTuple_GET_ITEM(self->bases, i), path, base);
	if (!base || (size_t)snprintf(name, size, "%s", path + base + 1) >= size)
		return false;
	char *end = strrchr(name, '.');
	if (!end)
		return false;
	*end = '\0';
	if (end - name > 9 && strcmp(end - 9, "/__init__") == 0)
		end[-9] = '\0';
	for (char *at = name; (at = strchr(at, '/')); at++)
		*at = '.';
	return true;
}

/* As the program does (lw_lazy_makes), but by the rules of everybody only: what a project says is for that project, and the cache is for all. */
static bool makes_ready(const builder *self, const struct source *source)
{
	char name[PATH_MAX];
	return self->lazy && !(self->shipped && name_of_module(self, source->path, name, sizeof(name)) && lw_lazy_policy_importer(self->shipped, name, source->path).never);
}

/* CODE, marshalled, made ready for lazy imports: bytes, or NULL with an exception. */
static PyObject *make_ready(const void *code, size_t len)
{
	PyObject *object = PyMarshal_ReadObjectFromString(code, (Py_ssize_t)len), *ready = NULL;
	if (object && PyCode_Check(object))
		ready = lw_lazy_transform(object);
	else if (object)
		PyErr_SetString(PyExc_ValueError, "not a code object");
	PyObject *bytes = ready ? PyMarshal_WriteObjectToString(ready, Py_MARSHAL_VERSION) : NULL;
	Py_XDECREF(object);
	Py_XDECREF(ready);
	return bytes;
}

/* keep_code(), of code made ready where that is wanted. What cannot be read is for whoever imports it. */
static int keep_ready(builder *self, const struct source *source, const void *code, size_t len)
{
	PyObject *ready = makes_ready(self, source) ? make_ready(code, len) : NULL;
	if (!ready && PyErr_ExceptionMatches(PyExc_MemoryError)) {
		PyErr_Clear();
		return -ENOMEM;
	}
	PyErr_Clear();
	int error = ready ? keep_code(self, source, PyBytes_AS_STRING(ready), (size_t)PyBytes_GET_SIZE(ready)) : keep_code(self, source, code, len);
	Py_XDECREF(ready);
	return error;
}

static int take_gathered(void *arg, const struct lw_gather_result *result)
{
	builder *self = arg;
	struct source *source = &self->source[result->number];
	atomic_fetch_add_explicit(&self->progress, 1, memory_order_relaxed);
	if (result->error || result->racy || result->verdict == LW_PYC_HASHED) {
		self->skipped++;
		return 0;
	}
	source->stat = result->stat;
	source->content = result->content;
	source->compile = result->verdict != LW_PYC_GOOD;
	if (source->compile)
		return 0;
	self->from_pyc++;
	if (!self->lazy)
		return keep_code(self, source, result->code, result->code_size);
	reclaim(self);	/* we are the caller's thread */
	int error = PyErr_CheckSignals() < 0 ? -EINTR : keep_ready(self, source, result->code, result->code_size);
	self->released = PyEval_SaveThread();
	return error;
}

static int gather_all(builder *self)
{
	struct lw_gather_stats stats;
	int error = settle_racy(self);
	if (error)
		return error;
	/* What settled may have brought sources as well. */
	const struct lw_gather_job job = {
		.backend = self->backend, .threads = self->threads, .magic = self->magic, .count = self->count, .arg = self, .source = source_of,
		.pyc = pyc_path, .deliver = take_gathered,
	};
	atomic_store_explicit(&self->progress, 0, memory_order_relaxed);
	return lw_gather(&job, &stats);
}

/* --- Python --- */

static PyObject *os_error(int error, PyObject *path)
{
	errno = -error;
	return path ? PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path) : PyErr_SetFromErrno(PyExc_OSError);
}

/* 0, or -1 with an exception. */
static int open_store(builder *self, const struct lw_store_config *config)
{
	char reason[LW_STORE_REASON];
	int error = lw_store_open(config, &self->store, reason);
	if (!error && lw_store_writable(self->store)) {
		unsigned refused;
		error = lw_store_load(self->store, &self->index, &self->indexes, &refused, reason);
		self->news = refused > 0; /* to be replaced */
		if (!error)
			return 0;
	}
	PyErr_SetString(error == -EHOSTDOWN ? PyExc_RuntimeError : PyExc_OSError, *reason ? reason : "the cache cannot be written to");
	return -1;
}

/* What is stored, without a store to write to; nothing, if it cannot be had. 0, or -1 with an exception. */
static int look_into_store(builder *self, struct lw_store_config config)
{
	char reason[LW_STORE_REASON];
	lw_store *store;
	unsigned refused;
	config.readonly = true;
	int error = lw_store_open(&config, &store, reason);
	if (!error) {
		error = lw_store_load(store, &self->index, &self->indexes, &refused, reason);
		lw_store_close(store);
	}
	if (error != -ENOMEM)
		return 0;
	PyErr_NoMemory();
	return -1;
}

/* It need not be UTF-8. 0, or -1 with an exception. */
static int copy_pyc_prefix(builder *self)
{
	PyObject *prefix = PySys_GetObject("pycache_prefix"), *bytes;
	if (!prefix || !PyUnicode_Check(prefix))
		return 0;
	if (!PyUnicode_FSConverter(prefix, &bytes))
		return -1;
	self->pyc_prefix = strdup(PyBytes_AS_STRING(bytes));
	Py_DECREF(bytes);
	if (!self->pyc_prefix)
		PyErr_NoMemory();
	return self->pyc_prefix ? 0 : -1;
}

static PyObject *builder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "cache", "memory", "dry", "bases", NULL };
	const char *cache = NULL;
	unsigned long long held_max = HELD_MAX;
	int dry = false;
	struct lw_store_config config;
	PyObject *about = NULL, *bases = NULL;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|zK$pO!:Builder", names, &cache, &held_max, &dry, &PyTuple_Type, &bases))
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
	self->bases = bases ? Py_NewRef(bases) : PyTuple_New(0);
	if (!self->build || !self->bases) {
		PyErr_NoMemory();
		goto fail;
	}
	if (lw_store_settings(state, cache, &self->suffixes, &config, &about) < 0)
		goto fail;
	self->lazy = lw_lazy_is_on(&state->lazy);
	self->shipped = self->lazy ? lw_lazy_shipped() : NULL;
	snprintf(self->pyc_tail, sizeof(self->pyc_tail), "%s", PyUnicode_AsUTF8(state->pyc_tail));
	if (copy_pyc_prefix(self) < 0)
		goto fail;
	if (dry ? look_into_store(self, config) < 0 : open_store(self, &config) < 0)
		goto fail;
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
	forget_all(&self->racy);
	forget_all(&self->found[0]);
	forget_all(&self->found[1]);
	free(self->source);
	free(self->pyc_prefix);
	lw_build_destroy(self->build);
	for (unsigned i = 0; i < self->indexes; i++)
		lw_index_close(self->index[i]);
	free(self->index);
	lw_store_close(self->store);
	lw_lazy_policy_destroy(self->shipped);
	Py_XDECREF(self->bases);
	pthread_mutex_destroy(&self->mutex);
	type->tp_free(object);
	Py_DECREF(type);
}

struct number {
	const char *name;
	uint64_t value;
};

/* Takes DICT, or an exception. */
static PyObject *put_numbers(PyObject *dict, const struct number *numbers, size_t count)
{
	for (size_t i = 0; dict && i < count; i++) {
		PyObject *number = PyLong_FromUnsignedLongLong(numbers[i].value);
		if (!number || PyDict_SetItemString(dict, numbers[i].name, number) < 0)
			Py_CLEAR(dict);
		Py_XDECREF(number);
	}
	return dict;
}

static PyObject *stats_dict(const builder *self)
{
	const struct lw_scan_stats *s = &self->stats;
	struct lw_build_facts facts;
	lw_build_facts(self->build, &facts);
	const struct number numbers[] = {
		{ "entries", s->entries }, { "directories", s->directories }, { "modules", s->modules }, { "sources", s->sources },
		{ "unreadable", s->unreadable }, { "vanished", s->vanished }, { "loops", s->loops }, { "links_left", s->links_left },
		{ "syscalls", s->syscalls }, { "threads", s->threads }, { "known", self->known }, { "from_pyc", self->from_pyc }, { "compiled", self->compiled },
		{ "skipped", self->skipped }, { "code_bytes", self->code_bytes }, { "spilled", self->spilled }, { "index_bytes", lw_build_size(self->build) },
		{ "fact_bytes", facts.facts }, { "string_bytes", facts.strings },
	};
	PyObject *dict = Py_BuildValue("{sdsdssss}", "seconds", (double)s->wall_ns / 1e9, "cpu_seconds", (double)s->cpu_ns / 1e9, "backend",
		s->backend ? s->backend : "", "why", s->why);
	return put_numbers(dict, numbers, Py_ARRAY_LENGTH(numbers));
}

/* LIST of str as paths. *KEPT holds what they point to. To be PyMem_Free()d; NULL with an exception. */
static const char **paths_of(PyObject *list, PyObject **kept)
{
	Py_ssize_t count = PyList_GET_SIZE(list);
	const char **path = PyMem_Calloc((size_t)count + 1, sizeof(*path));
	*kept = path ? PyTuple_New(count) : PyErr_NoMemory();
	for (Py_ssize_t i = 0; *kept && i < count; i++) {
		PyObject *bytes;
		if (PyUnicode_FSConverter(PyList_GET_ITEM(list, i), &bytes)) {
			PyTuple_SET_ITEM(*kept, i, bytes);
			path[i] = PyBytes_AS_STRING(bytes);
		} else {
			Py_CLEAR(*kept);
		}
	}
	if (*kept)
		return path;
	PyMem_Free(path);
	return NULL;
}

/* Nothing is left to be said about what lies below ROOT. */
static int cover(builder *self, const char *root)
{
	return lw_build_cover(self->build, root, stored_len(root, strlen(root)), LW_KIND_SUFFIX(self->suffixes.source), false);
}

int lw_parse_backend(const char *name, enum lw_ioq_backend *backend)
{
	static const char *const names[] = { [LW_IOQ_AUTO] = "auto", [LW_IOQ_POOL] = "pool", [LW_IOQ_RING] = "ring" };
	for (*backend = LW_IOQ_AUTO; *backend <= LW_IOQ_RING; (*backend)++)
		if (!strcmp(name, names[*backend]))
			return 0;
	PyErr_Format(PyExc_ValueError, "backend must be 'auto', 'pool' or 'ring', not '%s'", name);
	return -1;
}

static PyObject *scan_error(const builder *self, int error, PyObject *root)
{
	if (PyErr_Occurred())
		return NULL; /* a signal's */
	if (error != -ENOMEM && !root && *self->stats.why)
		return PyErr_SetString(PyExc_OSError, self->stats.why), NULL;
	return os_error(error, root);
}

static PyObject *scan(builder *self, PyObject *roots, unsigned threads, const char *backend, lw_scan_callback *callback)
{
	struct lw_scan_config config = { .suffixes = &self->suffixes, .threads = threads };
	if (lw_parse_backend(backend, &config.backend) < 0)
		return NULL;
	self->backend = config.backend;
	self->threads = threads;
	unsigned count = (unsigned)PyList_GET_SIZE(roots), failed;
	PyObject *kept;
	const char **root = paths_of(roots, &kept);
	if (!root)
		return NULL;
	release(self);
	int error = lw_scan(&config, root, count, callback, self, &self->stats, &failed, &self->progress);
	reclaim(self);
	for (unsigned i = 0; !error && i < count; i++)
		error = cover(self, root[i]);
	PyMem_Free(root);
	Py_DECREF(kept);
	return error ? scan_error(self, error, failed < count ? PyList_GET_ITEM(roots, failed) : NULL) : stats_dict(self);
}

static PyObject *builder_scan(PyObject *object, PyObject *args)
{
	PyObject *roots;
	unsigned threads = 0;
	const char *backend = "auto";
	if (!PyArg_ParseTuple(args, "O!|Is:scan", &PyList_Type, &roots, &threads, &backend))
		return NULL;
	return scan((builder *)object, roots, threads, backend, on_dir);
}

static PyObject *builder_measure(PyObject *object, PyObject *args)
{
	PyObject *roots;
	unsigned threads = 0;
	const char *backend = "auto";
	int build = false;
	if (!PyArg_ParseTuple(args, "O!|Isp:measure", &PyList_Type, &roots, &threads, &backend, &build))
		return NULL;
	return scan((builder *)object, roots, threads, backend, build ? on_dir_measure : on_dir_count);
}

/* 0, or -1 with an exception. */
static int need_store(const builder *self)
{
	if (!self->store)
		PyErr_SetString(PyExc_RuntimeError, "this Builder is dry");
	return self->store ? 0 : -1;
}

static PyObject *checked_dict(const builder *self)
{
	const struct lw_revalidate_stats *s = &self->checked;
	const struct number numbers[] = {
		{ "directories", s->directories }, { "unchanged", s->unchanged }, { "changed", s->changed }, { "vanished", s->vanished },
		{ "unreadable", s->unreadable }, { "racy", s->racy }, { "found", s->found }, { "damaged", s->damaged },
		{ "syscalls", s->syscalls }, { "threads", s->threads },
	};
	PyObject *dict = Py_BuildValue("{sdsdssss}", "seconds", (double)s->wall_ns / 1e9, "cpu_seconds", (double)s->cpu_ns / 1e9, "backend",
		s->backend ? s->backend : "", "why", s->why);
	return put_numbers(dict, numbers, Py_ARRAY_LENGTH(numbers));
}

static int revalidate(builder *self, const char *const *roots, unsigned count, unsigned threads, enum lw_ioq_backend backend)
{
	const struct lw_snapshot snapshot = { .count = self->indexes, .index = self->index };
	const struct lw_revalidate_config config = {
		.suffixes = &self->suffixes, .snapshot = &snapshot, .roots = roots, .root_count = count, .backend = backend, .threads = threads,
	};
	self->partial = true;
	self->backend = backend;
	self->threads = threads;
	int error = lw_revalidate(&config, on_changed, self, &self->checked);
	if (!error)
		error = scan_found(self, &self->found[false], false);
	return error ? error : scan_found(self, &self->found[true], true);
}

static PyObject *builder_revalidate(PyObject *object, PyObject *args)
{
	builder *self = (builder *)object;
	PyObject *roots, *kept;
	unsigned threads = 0;
	const char *name = "auto";
	enum lw_ioq_backend backend;
	if (!PyArg_ParseTuple(args, "O!|Is:revalidate", &PyList_Type, &roots, &threads, &name) || lw_parse_backend(name, &backend) < 0)
		return NULL;
	const char **root = paths_of(roots, &kept);
	if (!root)
		return NULL;
	unsigned count = (unsigned)PyTuple_GET_SIZE(kept);
	release(self);
	int error = revalidate(self, root, count, threads, backend);
	reclaim(self);
	PyMem_Free(root);
	Py_DECREF(kept);
	if (PyErr_Occurred())
		return NULL; /* a signal's */
	if (error && error != -ENOMEM && *self->checked.why)
		return PyErr_SetString(PyExc_OSError, self->checked.why), NULL;
	return error ? os_error(error, NULL) : checked_dict(self);
}

static PyObject *builder_gather(PyObject *object, PyObject *unused)
{
	builder *self = (builder *)object;
	int error;
	if (need_store(self) < 0)
		return NULL;
	release(self);
	error = gather_all(self);
	reclaim(self);
	if (PyErr_Occurred())
		return NULL; /* a signal's */
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
	int error = keep_ready(self, &self->source[i], code, (size_t)len);
	self->compiled++;
	if (error)
		return os_error(error, NULL);
	Py_RETURN_TRUE;
}

static PyObject *builder_write(PyObject *object, PyObject *unused)
{
	builder *self = (builder *)object;
	int error;
	if (need_store(self) < 0)
		return NULL;
	if (!self->news && (self->partial || (self->indexes == 1 && !lw_build_outdates(self->build, self->index[0]))))
		return PyUnicode_DecodeFSDefault(lw_store_path(self->store)); /* it is all there, and nothing else */
	/* Whoever holds the lock may do so for long: Ctrl-C must end the waiting, other signals must not. */
	do {
		Py_BEGIN_ALLOW_THREADS
		error = self->partial ? lw_store_append(self->store, self->build) : lw_store_rebuild(self->store, self->build);
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

static PyObject *builder_lazy(PyObject *object, void *unused)
{
	return PyBool_FromLong(((builder *)object)->lazy);
}

static PyObject *builder_stats(PyObject *object, PyObject *unused)
{
	return stats_dict((builder *)object);
}

PyDoc_STRVAR(scan_doc, "scan($self, roots, threads=0, backend=\"auto\", /)\n--\n\nWalk the directories ROOTS (absolute paths). Returns stats(). Raises OSError for a root that cannot be listed, and\n"
	"for backend \"ring\" where io_uring may not be used.");
PyDoc_STRVAR(measure_doc, "measure($self, roots, threads=0, backend=\"auto\", build=False, /)\n--\n\nscan(), but keep nothing; with BUILD only what a store would hold besides code, for stats().");
PyDoc_STRVAR(revalidate_doc, "revalidate($self, roots, threads=0, backend=\"auto\", /)\n--\n\nCompare the stamps of all directories that the cache knows, below ROOTS if there are any; read again what has\n"
	"changed, and what is new there. Returns counts. write() then adds what is new; dry, nothing is kept.");
PyDoc_STRVAR(gather_doc, "gather($self)\n--\n\nTake code from .pyc files. Returns [(number, path), ...] of the sources that must be compiled.");
PyDoc_STRVAR(add_doc, "add($self, number, source, code, /)\n--\n\nThe marshalled CODE (bytes) compiled from SOURCE (bytes). False if the file has changed meanwhile.");
PyDoc_STRVAR(write_doc, "write($self)\n--\n\nStore it, merged with what is in the cache. Returns the directory.");
PyDoc_STRVAR(builder_stats_doc, "stats($self)\n--\n\nCounts and times as a dict.");
PyDoc_STRVAR(builder_doc, "Builder(cache=None, memory=256 << 20, *, dry=False)\n--\n\nBuilds an index of whole source trees, holding MEMORY bytes of code at most. Raises OSError if there is no cache to write to;\n"
	"with DRY there need not be one, and nothing can be written.");

static PyMethodDef builder_methods[] = {
	{ "scan", builder_scan, METH_VARARGS, scan_doc },
	{ "measure", builder_measure, METH_VARARGS, measure_doc },
	{ "revalidate", builder_revalidate, METH_VARARGS, revalidate_doc },
	{ "gather", builder_gather, METH_NOARGS, gather_doc },
	{ "add", builder_add, METH_VARARGS, add_doc },
	{ "write", builder_write, METH_NOARGS, write_doc },
	{ "stats", builder_stats, METH_NOARGS, builder_stats_doc },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef builder_getset[] = {
	{ "progress", builder_progress, NULL, "Entries scanned or sources gathered so far; may be read from another thread.", NULL },
	{ "lazy", builder_lazy, NULL, "Whether the cache is that of lazy imports.", NULL },
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
