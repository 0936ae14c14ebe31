/* SPDX-License-Identifier: MIT */
/* keeper: see keeper.h. */
#include "keeper.h"
#include "build.h"
#include "index.h"
#include "scan.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* SHARE: a delta larger than so-many-th of the base becomes part of it. MARKS: more of them are all. */
enum { SHARE = 8, DELTA_LEAST = 1 << 20, MARKS = 200000, FIRST = 256 };

struct found;

/* A set of paths. */
struct paths {
	struct path **table;		/* chained */
	uint32_t count, capacity;
};

struct path {
	struct path *next;
	uint64_t hash;
	size_t len;
	char text[];			/* terminated */
};

/* What is out of date. */
struct marks {
	struct paths dirs, subtrees;
	bool all;
};

/* An index in sealed memory. */
struct file {
	int fd;				/* -1: none */
	lw_index *index;
	uint64_t sources;		/* whose stamps are known */
};

struct lw_keeper {
	struct lw_keeper_config config;
	struct marks marks;		/* of whoever marks */
	/* Of whoever folds, from begin to end: */
	struct marks work;
	lw_build *build;
	struct found *_Atomic found;	/* the scanner's threads push, */
	atomic_flag busy;		/* and the one that has set this takes, and adds to the builder */
	_Atomic uint64_t unwatched;	/* they count */
	_Atomic int unwatched_error;
	bool failed, forgets;
	int error;			/* errno */
	int64_t took_ns, took_cpu_ns;
	struct file new_base, new_delta;
	bool replaces_base;
	/* Changed by end only: */
	struct file base, delta;
	struct lw_keeper_stats stats;
};

/* Sets of paths */

static struct path **slot_of(const struct paths *paths, const char *path, size_t len, uint64_t hash)
{
	struct path **at = &paths->table[hash & (paths->capacity - 1)];
	while (*at && !((*at)->hash == hash && (*at)->len == len && memcmp((*at)->text, path, len) == 0))
		at = &(*at)->next;
	return at;
}

static bool paths_grow(struct paths *paths)
{
	struct paths bigger = { .capacity = paths->capacity ? paths->capacity * 2 : FIRST, .count = paths->count };
	bigger.table = calloc(bigger.capacity, sizeof *bigger.table);
	if (!bigger.table)
		return false;
	for (uint32_t i = 0; i < paths->capacity; i++) {
		for (struct path *path = paths->table[i], *next; path; path = next) {
			next = path->next;
			path->next = bigger.table[path->hash & (bigger.capacity - 1)];
			bigger.table[path->hash & (bigger.capacity - 1)] = path;
		}
	}
	free(paths->table);
	*paths = bigger;
	return true;
}

static bool paths_add(struct paths *paths, const char *text, size_t len)
{
	uint64_t hash = lw_hash64(text, len);
	if (paths->count >= paths->capacity && !paths_grow(paths))
		return false;
	struct path **at = slot_of(paths, text, len, hash);
	if (*at)
		return true;
	struct path *path = malloc(sizeof *path + len + 1);
	if (!path)
		return false;
	*path = (struct path){ .hash = hash, .len = len };
	memcpy(path->text, text, len);
	path->text[len] = '\0';
	*at = path;
	paths->count++;
	return true;
}

static bool paths_has(const struct paths *paths, const char *text, size_t len)
{
	return paths->capacity && *slot_of(paths, text, len, lw_hash64(text, len));
}

static void paths_clear(struct paths *paths)
{
	for (uint32_t i = 0; i < paths->capacity; i++) {
		for (struct path *path = paths->table[i], *next; path; path = next) {
			next = path->next;
			free(path);
		}
	}
	free(paths->table);
	*paths = (struct paths){ 0 };
}

static void marks_clear(struct marks *marks)
{
	paths_clear(&marks->dirs);
	paths_clear(&marks->subtrees);
	marks->all = false;
}

/* Files in sealed memory */

static void file_close(struct file *file)
{
	lw_index_close(file->index);
	if (file->fd >= 0)
		close(file->fd);
	*file = (struct file){ .fd = -1 };
}

static int seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) ? -errno : 0;
}

static int file_write(lw_keeper *keeper, lw_build *build, struct file *out)
{
	int fd = memfd_create("ladewerk-index", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	int error = lw_build_write(build, fd, keeper->config.key, geteuid(), (uint64_t)lw_now_ns());
	if (!error)
		error = seal(fd);
	if (!error)
		error = lw_index_open(fd, &keeper->config.key, &out->index, NULL);
	if (error) {
		close(fd);
		return error;
	}
	struct lw_build_facts facts;
	lw_build_facts(build, &facts);
	out->fd = fd;
	out->sources = facts.stamps;
	return 0;
}

/* Life */

lw_keeper *lw_keeper_create(const struct lw_keeper_config *config)
{
	lw_keeper *keeper = calloc(1, sizeof *keeper);
	if (!keeper)
		return NULL;
	keeper->config = *config;
	keeper->marks.all = true;
	keeper->base.fd = keeper->delta.fd = keeper->new_base.fd = keeper->new_delta.fd = -1;
	keeper->busy = (atomic_flag)ATOMIC_FLAG_INIT;
	return keeper;
}

void lw_keeper_destroy(lw_keeper *keeper)
{
	if (!keeper)
		return;
	marks_clear(&keeper->marks);
	marks_clear(&keeper->work);
	file_close(&keeper->base);
	file_close(&keeper->delta);
	/* Of a fold that was not ended. */
	file_close(&keeper->new_base);
	file_close(&keeper->new_delta);
	free(keeper);
}

/* Marking */

void lw_keeper_mark_all(lw_keeper *keeper)
{
	marks_clear(&keeper->marks);
	keeper->marks.all = true;
}

static void mark(lw_keeper *keeper, struct paths *paths, const char *path, size_t len)
{
	if (!keeper->marks.all && (paths->count >= MARKS || !paths_add(paths, path, len)))
		lw_keeper_mark_all(keeper);
}

void lw_keeper_mark(lw_keeper *keeper, const struct lw_watch_event *event)
{
	switch (event->kind) {
	case LW_WATCH_NAMES:
	case LW_WATCH_FILE:
		mark(keeper, &keeper->marks.dirs, event->path, event->len);
		return;
	case LW_WATCH_SUBTREE:
		mark(keeper, &keeper->marks.subtrees, event->path, event->len);
		return;
	case LW_WATCH_ALL:
		lw_keeper_mark_all(keeper);
		return;
	}
}

bool lw_keeper_is_marked(const lw_keeper *keeper)
{
	return keeper->marks.all || keeper->marks.dirs.count || keeper->marks.subtrees.count;
}

bool lw_keeper_is_void(const lw_keeper *keeper)
{
	return keeper->marks.all || keeper->work.all || !keeper->base.index;
}

/* What is read goes into the builder */

/*
 * A directory that was read, until it is added: by whichever thread finds the builder free. Threads that took turns at it spent as much on waking each other as on
 * the work.
 */
struct found {
	struct found *next;
	struct lw_listing *listing;
	uint64_t stamp;
	size_t len;
	char *path;			/* behind the stamps */
	uint16_t flags;
	uint64_t stamps[];		/* beside the listing's entries */
};

static size_t stem_len(const struct lw_scan_dir *dir)
{
	size_t len = dir->path_len;
	while (len && dir->path[len - 1] == '/')
		len--;
	return len;
}

/* Changes come under this name only. */
static bool is_told_of(const struct lw_entry *entry, const struct lw_scan_source *source)
{
	return source->stat.nlink == 1 && !(entry->flags & LW_ENTRY_DOUBT);
}

/* Sources come in the order of their entries. */
static void gather_stamps(const struct lw_scan_dir *dir, uint64_t *stamps)
{
	const struct lw_scan_source *source = dir->sources, *end = source + dir->source_count;
	for (uint32_t i = 0; i < dir->listing->count; i++) {
		const struct lw_entry *entry = &dir->listing->entries[i];
		bool is_source = source < end && source->name == entry->name;
		stamps[i] = is_source && is_told_of(entry, source) ? lw_stamp(&source->stat) : 0;
		source += is_source;
	}
	assert(source == end);
}

static void found_free(struct found *found)
{
	lw_listing_destroy(found->listing);
	free(found);
}

/* RACY: what is changed once more within the tick of our reading keeps its stamp. Who is told of that change must not take the stamp for a proof that nothing has changed. */
static uint16_t flags_of(const struct lw_scan_dir *dir)
{
	return (lw_stat_public(&dir->stat) ? LW_DIR_PUBLIC : 0) | (dir->racy ? LW_DIR_RACY : 0);
}

/* Takes the listing, whatever comes of it. */
static struct found *found_create(const struct lw_scan_dir *dir)
{
	size_t len = stem_len(dir), stamps = dir->listing->count * sizeof(uint64_t);
	struct found *found = malloc(sizeof *found + stamps + len);
	if (!found) {
		lw_listing_destroy(dir->listing);
		return NULL;
	}
	*found = (struct found){ .listing = dir->listing, .stamp = lw_stamp(&dir->stat), .flags = flags_of(dir), .len = len };
	found->path = (char *)found->stamps + stamps;
	gather_stamps(dir, found->stamps);
	memcpy(found->path, dir->path, len);
	return found;
}

static int add_found(lw_keeper *keeper, const struct found *found)
{
	return lw_build_dir_stamped(keeper->build, found->path, found->len, found->stamp, found->flags, found->listing, found->stamps);
}

/* All that has been found by now. The builder is the caller's. */
static int take_found(lw_keeper *keeper)
{
	/* Acquire: pairs with the push. */
	struct found *found = atomic_exchange_explicit(&keeper->found, NULL, memory_order_acquire);
	int error = 0;
	while (found) {
		struct found *next = found->next;
		if (!error)
			error = add_found(keeper, found);
		found_free(found);
		found = next;
	}
	return error;
}

static void push_found(lw_keeper *keeper, struct found *found)
{
	found->next = atomic_load_explicit(&keeper->found, memory_order_relaxed);
	/* Release: what is behind it is seen by whoever takes it. */
	while (!atomic_compare_exchange_weak_explicit(&keeper->found, &found->next, found, memory_order_release, memory_order_relaxed))
		;
}

/* Nobody waits: what is pushed while the builder is taken is added by a later one, or when the walk is over. */
static int on_dir(void *arg, const struct lw_scan_dir *dir)
{
	lw_keeper *keeper = arg;
	if (!dir->before || dir->error) {
		lw_listing_destroy(dir->listing);
		return 0;
	}
	struct found *found = found_create(dir);
	if (!found)
		return -ENOMEM;
	push_found(keeper, found);
	/* Acquire, release: the builder, from one thread to the next. */
	if (atomic_flag_test_and_set_explicit(&keeper->busy, memory_order_acquire))
		return 0;
	int error = take_found(keeper);
	atomic_flag_clear_explicit(&keeper->busy, memory_order_release);
	return error;
}

static void note_refused(lw_keeper *keeper, int error)
{
	/* Relaxed: numbers to look at. */
	atomic_fetch_add_explicit(&keeper->unwatched, 1, memory_order_relaxed);
	atomic_store_explicit(&keeper->unwatched_error, -error, memory_order_relaxed);
}

static int arm_dir(lw_keeper *keeper, const char *path, size_t len, bool listed)
{
	while (len && path[len - 1] == '/')
		len--;
	int error = listed ? lw_watch_arm_listed(keeper->config.watch, path, len) : lw_watch_arm(keeper->config.watch, len ? path : "", len);
	/* What has gone meanwhile is no directory that nobody looks after. */
	if (error && error != -ENOENT && error != -ENOTDIR && error != -ELOOP)
		note_refused(keeper, error);
	return error;
}

static bool arm(void *arg, const char *path, size_t len, bool listed)
{
	return !arm_dir(arg, path, len, listed);
}

/* Folding (in the other thread) */

/* No link is followed: what lies behind one changes under another name. */
static int walk(lw_keeper *keeper, const char *path)
{
	struct lw_scan_config config = { .suffixes = keeper->config.suffixes, .threads = keeper->config.threads, .linked = true, .before = arm };
	const char *root = *path ? path : "/";
	struct lw_scan_stats stats;
	unsigned failed;
	int error = lw_scan(&config, &root, 1, on_dir, keeper, &stats, &failed, NULL), left = take_found(keeper);
	if (!error)
		error = left;
	/* It has gone, or cannot be read (whatever keeps us from it, other roots are to be served) unless we are short of something. */
	bool wants = error == -ENOMEM || error == -EMFILE || error == -ENFILE;
	return failed == 0 && !wants ? 0 : error;
}

static bool is_known(const lw_keeper *keeper, const char *path, size_t len)
{
	const struct lw_dir_record *record;
	return lw_build_knows_dir(keeper->build, path, len)
		|| (keeper->delta.index && lw_index_find_dir_record(keeper->delta.index, path, len, &record) == LW_OK)
		|| (keeper->base.index && lw_index_find_dir_record(keeper->base.index, path, len, &record) == LW_OK);
}

static bool is_root(const lw_keeper *keeper, const char *path)
{
	for (unsigned i = 0; i < keeper->config.count; i++)
		if (strcmp(path, keeper->config.roots[i]) == 0)
			return true;
	return false;
}

/* No link is followed but to a root. */
static bool is_real(const lw_keeper *keeper, const char *path)
{
	struct stat st;
	return is_root(keeper, path) || (lstat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

/* Whether PATH lies in a subtree that is read again as a whole. */
static bool is_marked_above(const lw_keeper *keeper, const struct path *path)
{
	for (const char *slash = path->text; (slash = strchr(slash + 1, '/'));)
		if (paths_has(&keeper->work.subtrees, path->text, (size_t)(slash - path->text)))
			return true;
	return false;
}

/* Subdirectories that nobody has read yet, and that a walk would have come to. */
static int walk_new(lw_keeper *keeper, const struct path *dir, const struct lw_listing *listing)
{
	int error = 0;
	for (uint32_t i = 0; i < listing->count && !error; i++) {
		const struct lw_entry *entry = &listing->entries[i];
		const char *name = listing->names + entry->name;
		char path[PATH_MAX + UINT8_MAX + 2];
		if (!(entry->kinds & LW_KIND_DIR) || !lw_names_entered(name, entry->len))
			continue;
		int len = snprintf(path, sizeof path, "%s/%.*s", dir->text, entry->len, name);
		if (!is_known(keeper, path, (size_t)len) && is_real(keeper, path))
			error = walk(keeper, path);
	}
	return error;
}

/* As a scan of this directory alone would have it. SOURCES: room for one for each entry. */
static unsigned ask_sources(lw_keeper *keeper, const struct path *dir, const struct lw_listing *listing, struct lw_scan_source *sources)
{
	const lw_kinds kind = LW_KIND_SUFFIX(keeper->config.suffixes->source);
	unsigned count = 0;
	for (uint32_t i = 0; i < listing->count; i++) {
		const struct lw_entry *entry = &listing->entries[i];
		struct lw_scan_source *source = &sources[count];
		char path[PATH_MAX + UINT8_MAX + sizeof ".py"];
		if (!(entry->kinds & kind))
			continue;
		snprintf(path, sizeof path, "%s/%.*s.py", dir->text, entry->len, listing->names + entry->name);
		*source = (struct lw_scan_source){ .name = entry->name, .len = entry->len };
		count += lw_stat_at(AT_FDCWD, path, &source->stat) == 0 && S_ISREG(source->stat.mode);
	}
	return count;
}

/* What older snapshots say of DIR, which has gone, or cannot be looked after or read any longer, and of what is below it, holds no more. */
static int forget(lw_keeper *keeper, const struct path *dir)
{
	if (!is_known(keeper, dir->text, dir->len))
		return 0;
	keeper->forgets = true;
	return lw_build_cover(keeper->build, dir->text, dir->len, LW_KIND_SUFFIX(keeper->config.suffixes->source), true);
}

/* DIR, which was changed, alone. */
static int read_dir(lw_keeper *keeper, const struct path *dir)
{
	struct lw_scan_dir found = { .path = dir->text, .path_len = dir->len };
	int64_t now = lw_now_ns();
	if (is_marked_above(keeper, dir))
		return 0;
	int error = dir->len < PATH_MAX && is_real(keeper, dir->text) ? arm_dir(keeper, dir->text, dir->len, false) : -ENOENT;
	if (!error)
		error = lw_listing_read(*dir->text ? dir->text : "/", keeper->config.suffixes, &found.listing, &found.stat);
	if (error)
		return forget(keeper, dir);
	struct lw_scan_source *sources = calloc(found.listing->count + 1, sizeof *sources);
	if (!sources) {
		lw_listing_destroy(found.listing);
		return -ENOMEM;
	}
	found.racy = lw_stat_racy(&found.stat, now);
	found.sources = sources;
	found.source_count = ask_sources(keeper, dir, found.listing, sources);
	struct found *one = found_create(&found);
	free(sources);
	if (!one)
		return -ENOMEM;
	error = add_found(keeper, one);
	if (!error)
		error = walk_new(keeper, dir, one->listing);
	found_free(one);
	return error;
}

static int read_roots(lw_keeper *keeper)
{
	int error = 0;
	keeper->unwatched = 0;
	for (unsigned i = 0; i < keeper->config.count && !error; i++)
		error = walk(keeper, keeper->config.roots[i]);
	return error;
}

static bool is_below_root(const lw_keeper *keeper, const char *path, size_t len)
{
	for (unsigned i = 0; i < keeper->config.count; i++) {
		size_t root = strlen(keeper->config.roots[i]);
		if (len >= root && memcmp(path, keeper->config.roots[i], root) == 0 && (len == root || path[root] == '/'))
			return true;
	}
	return false;
}

/* A subtree is read again as a whole; one that holds roots (something on the way to them was moved) means these. */
static int read_subtree(lw_keeper *keeper, const struct path *subtree)
{
	int error = 0;
	if (is_marked_above(keeper, subtree))
		return 0;
	if (is_below_root(keeper, subtree->text, subtree->len)) {
		error = lw_build_cover(keeper->build, subtree->text, subtree->len, 0, true);
		if (error)
			return error;
		return is_real(keeper, subtree->text) ? walk(keeper, subtree->text) : 0;
	}
	for (unsigned i = 0; i < keeper->config.count && !error; i++) {
		const char *root = keeper->config.roots[i];
		size_t len = strlen(root);
		if (len < subtree->len || memcmp(root, subtree->text, subtree->len) || root[subtree->len] != '/')
			continue;
		error = lw_build_cover(keeper->build, root, len, 0, true);
		if (!error)
			error = walk(keeper, root);
	}
	return error;
}

static int for_each(lw_keeper *keeper, const struct paths *paths, int (*work)(lw_keeper *, const struct path *))
{
	int error = 0;
	for (uint32_t i = 0; i < paths->capacity && !error; i++)
		for (const struct path *path = paths->table[i]; path && !error; path = path->next)
			error = work(keeper, path);
	return error;
}

/* Whether what has been read is better made part of a new base. */
static bool needs_base(const lw_keeper *keeper)
{
	uint64_t base = keeper->base.index ? lw_index_head(keeper->base.index)->file_size : 0;
	uint64_t size = lw_build_size(keeper->build);
	return keeper->work.subtrees.count || keeper->forgets || !base || (size > DELTA_LEAST && size > base / SHARE);
}

static int merge(lw_keeper *keeper, const struct file *file)
{
	unsigned skipped;
	return file->index ? lw_build_merge(keeper->build, file->index, &skipped) : 0;
}

static int read_marked(lw_keeper *keeper)
{
	int error = for_each(keeper, &keeper->work.subtrees, read_subtree);
	if (!error)
		error = for_each(keeper, &keeper->work.dirs, read_dir);
	return error ? error : merge(keeper, &keeper->delta);
}

static int fold(lw_keeper *keeper)
{
	bool all = keeper->work.all || !keeper->base.index;
	keeper->forgets = false;
	int error = all ? read_roots(keeper) : read_marked(keeper);
	keeper->replaces_base = all || needs_base(keeper);
	if (!error && keeper->replaces_base && !all)
		error = merge(keeper, &keeper->base);
	return error ? error : file_write(keeper, keeper->build, keeper->replaces_base ? &keeper->new_base : &keeper->new_delta);
}

static int64_t process_cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void lw_keeper_begin(lw_keeper *keeper)
{
	assert(!keeper->build);
	keeper->work = keeper->marks;
	keeper->marks = (struct marks){ 0 };
}

int lw_keeper_fold(lw_keeper *keeper)
{
	int64_t begun = lw_monotonic_ns(), cpu = process_cpu_ns();
	keeper->build = lw_build_create();
	int error = keeper->build ? fold(keeper) : -ENOMEM;
	lw_build_destroy(keeper->build);
	keeper->build = NULL;
	keeper->failed = error != 0;
	keeper->error = -error;
	keeper->took_ns = lw_monotonic_ns() - begun;
	keeper->took_cpu_ns = process_cpu_ns() - cpu;
	/* What was read is worth more to others. */
	if (keeper->replaces_base)
		malloc_trim(0);
	return error;
}

/* What could not be done is still to be done. */
static void mark_again(lw_keeper *keeper)
{
	if (keeper->work.all)
		lw_keeper_mark_all(keeper);
	for (uint32_t i = 0; i < keeper->work.dirs.capacity; i++)
		for (const struct path *path = keeper->work.dirs.table[i]; path; path = path->next)
			mark(keeper, &keeper->marks.dirs, path->text, path->len);
	for (uint32_t i = 0; i < keeper->work.subtrees.capacity; i++)
		for (const struct path *path = keeper->work.subtrees.table[i]; path; path = path->next)
			mark(keeper, &keeper->marks.subtrees, path->text, path->len);
}

bool lw_keeper_end(lw_keeper *keeper)
{
	bool done = !keeper->failed;
	keeper->stats.last_error = keeper->error;
	keeper->stats.fold_ns = keeper->took_ns;
	keeper->stats.fold_cpu_ns = keeper->took_cpu_ns;
	if (keeper->failed) {
		mark_again(keeper);
	} else {
		file_close(&keeper->delta);
		if (keeper->replaces_base) {
			file_close(&keeper->base);
			keeper->base = keeper->new_base;
		} else {
			keeper->delta = keeper->new_delta;
		}
		keeper->new_base = keeper->new_delta = (struct file){ .fd = -1 };
		keeper->stats.folds++;
		keeper->stats.bases += keeper->replaces_base;
	}
	marks_clear(&keeper->work);
	return done;
}

int lw_keeper_base(const lw_keeper *keeper)
{
	return keeper->base.fd;
}

int lw_keeper_delta(const lw_keeper *keeper)
{
	return keeper->delta.fd;
}

static uint64_t count_marks(const struct marks *marks)
{
	return (uint64_t)marks->dirs.count + marks->subtrees.count + marks->all;
}

void lw_keeper_stats(const lw_keeper *keeper, struct lw_keeper_stats *stats)
{
	const struct file *const files[] = { &keeper->base, &keeper->delta };
	*stats = keeper->stats;
	for (unsigned i = 0; i < 2; i++) {
		if (!files[i]->index)
			continue;
		stats->directories += lw_index_dir_count(files[i]->index);
		stats->sources += files[i]->sources;
		stats->bytes += lw_index_head(files[i]->index)->file_size;
	}
	stats->unwatched = keeper->unwatched;
	stats->unwatched_error = keeper->unwatched_error;
	stats->marked = count_marks(&keeper->marks) + count_marks(&keeper->work);
}
