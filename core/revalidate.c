/* SPDX-License-Identifier: MIT */
/*
 * revalidate: see revalidate.h. Up to three passes over directories:
 *
 *     CHECK    stat each; read what has changed     a crew (or a batch of ioq.h stats them, and READ does the rest)
 *     READ     stat and read again                  a crew
 *     SETTLE   the racy ones, once more             a crew, a little later
 */
#include "revalidate.h"
#include "census.h"
#include "crew.h"
#include "way.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* CHUNK: directories in a crew's piece. WINDOW: in a batch. */
enum { CHUNK = 16, WINDOW = 512, INLINE_PATH = 320, SETTLE_NS = 30 * 1000 * 1000 };

enum pass { CHECK, READ, SETTLE };

struct list {
	struct lw_census_item *items;
	size_t count, room;
};

struct run {
	const struct lw_revalidate_config *config;
	lw_revalidate_callback *callback;
	void *arg;
	/* Constant during a pass. */
	enum pass pass;
	const struct lw_census_item *items;
	size_t count;
	pthread_mutex_t lock;		/* protects what follows, during a pass */
	struct list racy;
	bool forgotten;			/* there was no memory for one of them */
	struct lw_revalidate_stats stats;
};

/* What a thread has. */
struct worker {
	struct run *run;
	struct lw_crew_worker *crew;
	struct lw_listing_reader *reader;
	struct lw_revalidate_stats stats;
	struct list racy;
	char path[PATH_MAX], child[PATH_MAX];
};

static int list_add(struct list *list, const struct lw_census_item *item)
{
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 64;
		struct lw_census_item *items = realloc(list->items, room * sizeof *items);
		if (!items)
			return -ENOMEM;
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = *item;
	return 0;
}

/* What is known, and what is there */

/* As in dirs.c: facts that hold for others need not hold for us. */
static bool seen_by_another(const struct lw_census_item *item)
{
	if (item->flags & LW_DIR_UNREADABLE)
		return true;
	return !(item->flags & LW_DIR_PUBLIC) && lw_index_head(item->index)->writer_uid != geteuid();
}

static uint16_t nothing_there(int error, const struct lw_stat *st)
{
	if (error == -ENOENT || error == -EACCES)
		return LW_DIR_MISSING;
	return error == -ENOTDIR || (!error && !S_ISDIR(st->mode)) ? LW_DIR_NOTDIR : 0;
}

/* ERROR and ST are what a statx of PATH has just said. */
static bool is_unchanged(const struct lw_census_item *item, const char *path, int error, const struct lw_stat *st)
{
	uint16_t nameless = item->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR), now = nothing_there(error, st);
	if (nameless || now || error)
		return now && nameless == now;
	return item->stamp == lw_stamp(st) && !seen_by_another(item) && !lw_stat_weak(st, path);
}

static const char *write_path(const struct lw_census_item *item, char *out)
{
	size_t len = item->path_len;
	memcpy(out, item->path, len);
	strcpy(out + len, len ? "" : "/");
	return out;
}

static bool same_entry(const lw_index *index, const struct lw_entry *a, const struct lw_listing *listing, const struct lw_entry *b)
{
	if (a->hash != b->hash || a->len != b->len || a->flags != b->flags || a->kinds != b->kinds)
		return false;
	const char *name = lw_index_string(index, a->name, a->len);
	return name && memcmp(name, listing->names + b->name, a->len) == 0;
}

static bool same_listing(const struct lw_census_item *item, const struct lw_listing *listing)
{
	struct lw_index_dir known;
	if (lw_index_find_dir(item->index, item->path, item->path_len, &known) != LW_OK || known.record->count != listing->count)
		return false;
	for (uint32_t i = 0; i < listing->count; i++)
		if (!same_entry(item->index, &known.entries[i], listing, &listing->entries[i]))
			return false;
	return true;
}

/* Reading has shown nothing new after all. */
static bool is_known(const struct lw_census_item *item, const struct lw_revalidate_dir *dir)
{
	if (dir->error || dir->racy || item->flags != dir->flags)
		return false;
	if (dir->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR))
		return true;
	return item->stamp == lw_stamp(&dir->stat) && (!dir->listing || same_listing(item, dir->listing));
}

/* Reading */

static int open_dir(struct worker *worker)
{
	int fd;
	do {
		fd = open(worker->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		worker->stats.syscalls++;
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

static int read_listing(struct worker *worker, struct lw_revalidate_dir *dir)
{
	struct lw_listing_cost cost = { 0 };
	int fd = open_dir(worker);
	if (fd < 0)
		return fd;
	int error = lw_listing_reader_read(worker->reader, fd, &dir->listing, &dir->stat, &cost);
	close(fd);
	worker->stats.syscalls += cost.syscalls + 1;
	return error;
}

/* A directory that may not be listed still has a stamp. */
static int stat_unreadable(struct worker *worker, struct lw_revalidate_dir *dir)
{
	int64_t now = lw_now_ns();
	int error = lw_stat_at(AT_FDCWD, worker->path, &dir->stat);
	worker->stats.syscalls++;
	dir->flags = LW_DIR_UNREADABLE;
	dir->racy = !error && lw_stat_racy(&dir->stat, now);
	return error;
}

/* It was a directory a moment ago. */
static void read_dir(struct worker *worker, struct lw_revalidate_dir *dir)
{
	int64_t now = lw_now_ns();
	int error = read_listing(worker, dir);
	if (!error) {
		dir->flags = lw_stat_public(&dir->stat) ? LW_DIR_PUBLIC : 0;
		dir->racy = lw_stat_racy(&dir->stat, now);
		return;
	}
	if (error == -EACCES)
		error = stat_unreadable(worker, dir);
	if (error == -ENOENT || error == -ENOTDIR) {
		dir->flags = LW_DIR_MISSING;
		dir->racy = true; /* it went while we looked */
	} else {
		dir->error = -error;
	}
}

/* Fill DIR after a statx that said ERROR and DIR->stat. */
static void look(struct worker *worker, int error, struct lw_revalidate_dir *dir)
{
	dir->flags = nothing_there(error, &dir->stat);
	if (!dir->flags && !error)
		read_dir(worker, dir);
	else if (!dir->flags)
		dir->error = -error;
	if (dir->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR) || dir->error)
		dir->stat = (struct lw_stat){ 0 };
}

/* Reporting */

static int report(struct worker *worker, const struct lw_revalidate_dir *dir)
{
	if (lw_crew_stopped(worker->crew)) {
		lw_listing_destroy(dir->listing);
		return 0;
	}
	/* It may wait for a lock: that is no call that waits. */
	int64_t begun = lw_monotonic_ns();
	int result = worker->run->callback(worker->run->arg, dir);
	worker->crew->aside_ns += lw_monotonic_ns() - begun;
	return result;
}

/* The root that the walk to PATH began at: the nearest of those given, else the highest directory above it that is known. */
static size_t root_of(const struct run *run, const char *path, size_t len)
{
	size_t best = 0, up = len;
	for (unsigned i = 0; i < run->config->root_count; i++) {
		size_t root_len = strlen(run->config->roots[i]);
		if (lw_census_below(path, len, run->config->roots[i]) && root_len > best)
			best = root_len < len ? root_len : len;
	}
	if (run->config->root_count)
		return best;
	for (best = len; up > 1 && lw_census_find(run->config->snapshot, path, up); ) {
		best = up;
		while (up > 1 && path[--up] != '/')
			;
	}
	return best;
}

static int report_found(struct worker *worker, size_t len, bool linked)
{
	worker->stats.found++;
	return report(worker, &(struct lw_revalidate_dir){ .path = worker->child, .path_len = len, .found = true, .linked = linked });
}

/* A subdirectory of worker->path, of LEN bytes. */
static int look_into(struct worker *worker, size_t len, const char *name, size_t name_len)
{
	len -= worker->path[len - 1] == '/';
	if (len + 1 + name_len >= PATH_MAX)
		return 0;
	memcpy(worker->child, worker->path, len);
	worker->child[len] = '/';
	memcpy(worker->child + len + 1, name, name_len);
	worker->child[len + 1 + name_len] = '\0';
	size_t child_len = len + 1 + name_len;
	if (lw_census_find(worker->run->config->snapshot, worker->child, child_len))
		return 0;
	bool linked;
	if (!lw_way_enters(worker->child, root_of(worker->run, worker->child, len), &linked, &worker->stats.syscalls))
		return 0;
	return report_found(worker, child_len, linked);
}

static int look_for_new(struct worker *worker, const struct lw_revalidate_dir *dir)
{
	int result = 0;
	for (uint32_t i = 0; dir->listing && i < dir->listing->count && !result; i++) {
		const struct lw_entry *entry = &dir->listing->entries[i];
		const char *name = dir->listing->names + entry->name;
		if (entry->kinds & LW_KIND_DIR && lw_names_entered(name, entry->len))
			result = look_into(worker, dir->path_len, name, entry->len);
	}
	return result;
}

static int report_changed(struct worker *worker, const struct lw_census_item *item, const struct lw_revalidate_dir *dir)
{
	const uint16_t nameless = LW_DIR_MISSING | LW_DIR_NOTDIR;
	worker->stats.changed++;
	worker->stats.vanished += !(item->flags & nameless) && dir->flags & nameless;
	worker->stats.unreadable += dir->error || dir->flags & LW_DIR_UNREADABLE;
	worker->stats.racy += dir->racy;
	int result = look_for_new(worker, dir);
	if (!result)
		return report(worker, dir);
	lw_listing_destroy(dir->listing);
	return result;
}

/* Changed, or doubtful: find out and tell. ERROR and ST are what a statx has just said. */
static int examine(struct worker *worker, const struct lw_census_item *item, int error, const struct lw_stat *st)
{
	struct lw_revalidate_dir dir = { .path = worker->path, .path_len = strlen(worker->path), .stat = *st };
	look(worker, error, &dir);
	/* Short of memory, we know nothing. */
	if (dir.error == ENOMEM)
		return -ENOMEM;
	if (!dir.racy || worker->run->pass == SETTLE) {
		if (!is_known(item, &dir))
			return report_changed(worker, item, &dir);
		worker->stats.unchanged++;
		lw_listing_destroy(dir.listing);
		return 0;
	}
	lw_listing_destroy(dir.listing);
	return list_add(&worker->racy, item);
}

static int visit_item(struct worker *worker, const struct lw_census_item *item)
{
	struct lw_stat st = { 0 };
	write_path(item, worker->path);
	int error = lw_stat_at(AT_FDCWD, worker->path, &st);
	worker->stats.syscalls++;
	if (worker->run->pass == CHECK && is_unchanged(item, worker->path, error, &st)) {
		worker->stats.unchanged++;
		return 0;
	}
	return examine(worker, item, error, &st);
}

/* The crew */

static void *enter(void *arg, struct lw_crew_worker *crew)
{
	struct run *run = arg;
	struct worker *worker = malloc(sizeof *worker);
	if (!worker)
		return NULL;
	/* Not the paths. */
	memset(worker, 0, offsetof(struct worker, path));
	worker->run = run;
	worker->crew = crew;
	worker->reader = lw_listing_reader_create(run->config->suffixes);
	if (worker->reader)
		return worker;
	free(worker);
	return NULL;
}

static int visit(void *arg, struct lw_crew_worker *crew, void *piece)
{
	struct worker *worker = crew->own;
	const struct lw_census_item *item = piece, *end = worker->run->items + worker->run->count;
	int result = 0;
	for (unsigned i = 0; i < CHUNK && item < end && !result && !lw_crew_stopped(crew); i++)
		result = visit_item(worker, item++);
	crew->calls = worker->stats.syscalls;
	return result;
}

static void add_stats(struct lw_revalidate_stats *to, const struct lw_revalidate_stats *from)
{
	to->unchanged += from->unchanged;
	to->changed += from->changed;
	to->vanished += from->vanished;
	to->unreadable += from->unreadable;
	to->racy += from->racy;
	to->found += from->found;
	to->syscalls += from->syscalls;
}

static void leave(void *arg, struct lw_crew_worker *crew)
{
	struct run *run = arg;
	struct worker *worker = crew->own;
	pthread_mutex_lock(&run->lock);
	add_stats(&run->stats, &worker->stats);
	for (size_t i = 0; i < worker->racy.count; i++)
		run->forgotten |= list_add(&run->racy, &worker->racy.items[i]) != 0;
	pthread_mutex_unlock(&run->lock);
	free(worker->racy.items);
	lw_listing_reader_destroy(worker->reader);
	free(worker);
}

static int run_pass(struct run *run, enum pass pass, const struct lw_census_item *items, size_t count)
{
	size_t pieces = (count + CHUNK - 1) / CHUNK;
	void **piece = calloc(pieces + 1, sizeof *piece);
	struct lw_crew_job job = { .arg = run, .threads = run->config->threads, .enter = enter, .visit = visit, .leave = leave };
	unsigned threads;
	if (!piece)
		return -ENOMEM;
	/* The newest is done first. */
	for (size_t i = 0; i < pieces; i++)
		piece[pieces - 1 - i] = (void *)(items + i * CHUNK);
	run->pass = pass;
	run->items = items;
	run->count = count;
	int result = lw_crew_run(&job, piece, pieces, &threads);
	if (threads > run->stats.threads)
		run->stats.threads = threads;
	free(piece);
	return result;
}

/* The batch */

struct slot {
	struct lw_ioq_op op;
	struct statx statx;
	const struct lw_census_item *item;
	char *long_path;
	char path[INLINE_PATH];
};

struct batch {
	struct run *run;
	lw_ioq *queue;
	struct slot *slots;
	const struct lw_census_item *next, *end;
	struct list changed;
};

static int send(struct batch *batch, struct slot *slot)
{
	const struct lw_census_item *item = batch->next++;
	size_t size = (size_t)item->path_len + 2;
	slot->item = item;
	slot->long_path = size > INLINE_PATH ? malloc(size) : NULL;
	if (size > INLINE_PATH && !slot->long_path)
		return -ENOMEM;
	slot->op = (struct lw_ioq_op){
		.kind = LW_IOQ_STATX, .fd = AT_FDCWD, .path = write_path(item, slot->long_path ? slot->long_path : slot->path),
		.mask = LW_STAT_MASK, .statx = &slot->statx, .data = slot,
	};
	lw_ioq_submit(batch->queue, &slot->op);
	return 0;
}

static int judge(struct batch *batch, struct slot *slot)
{
	struct lw_stat st = { 0 };
	int error = (int)slot->op.result;
	if (!error)
		lw_stat_of(&slot->statx, &st);
	bool unchanged = is_unchanged(slot->item, slot->op.path, error, &st);
	free(slot->long_path);
	slot->long_path = NULL;
	batch->run->stats.unchanged += unchanged;
	return unchanged ? 0 : list_add(&batch->changed, slot->item);
}

static int check_all(struct batch *batch)
{
	struct lw_ioq_op *op;
	int error = 0;
	for (size_t i = 0; i < WINDOW && batch->next < batch->end && !error; i++)
		error = send(batch, &batch->slots[i]);
	/* On errors too: what is outstanding is reaped. */
	while ((op = lw_ioq_reap(batch->queue, true))) {
		int result = judge(batch, op->data);
		if (!error)
			error = result;
		if (!error && batch->next < batch->end)
			error = send(batch, op->data);
	}
	return error;
}

static void note_queue(struct run *run, const lw_ioq *queue)
{
	struct lw_ioq_stats stats;
	lw_ioq_stats(queue, &stats);
	run->stats.syscalls += stats.syscalls;
	run->stats.threads = stats.threads;
	run->stats.backend = stats.backend;
	strncpy(run->stats.why, stats.why, sizeof run->stats.why - 1);
}

static int run_batch(struct run *run, const struct lw_census *census)
{
	struct batch batch = { .run = run, .next = census->items, .end = census->items + census->count };
	struct lw_ioq_config config = { .backend = run->config->backend, .threads = run->config->threads };
	int error = lw_ioq_create(&config, &batch.queue, run->stats.why);
	if (error)
		return error;
	batch.slots = calloc(WINDOW, sizeof *batch.slots);
	error = batch.slots ? check_all(&batch) : -ENOMEM;
	note_queue(run, batch.queue);
	lw_ioq_destroy(batch.queue);
	free(batch.slots);
	if (!error)
		error = run_pass(run, READ, batch.changed.items, batch.changed.count);
	free(batch.changed.items);
	return error;
}

/* The run */

static int settle(struct run *run)
{
	struct list racy = run->racy;
	if (run->forgotten)
		return -ENOMEM;
	if (!racy.count)
		return 0;
	run->racy = (struct list){ 0 };
	nanosleep(&(struct timespec){ .tv_nsec = SETTLE_NS }, NULL);
	int result = run_pass(run, SETTLE, racy.items, racy.count);
	free(racy.items);
	return result;
}

static int run_all(struct run *run)
{
	const struct lw_revalidate_config *config = run->config;
	bool by_batch = config->backend == LW_IOQ_RING || (config->backend == LW_IOQ_AUTO && config->threads == 1);
	struct lw_census census;
	int result = lw_census_take(config->snapshot, config->roots, config->root_count, &census);
	if (result)
		return result;
	run->stats.damaged = census.damaged;
	result = by_batch ? run_batch(run, &census) : run_pass(run, CHECK, census.items, census.count);
	if (!result)
		result = settle(run);
	lw_census_free(&census);
	return result;
}

static int64_t cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int lw_revalidate(const struct lw_revalidate_config *config, lw_revalidate_callback *callback, void *arg, struct lw_revalidate_stats *stats)
{
	struct run run = {
		.config = config, .callback = callback, .arg = arg, .lock = PTHREAD_MUTEX_INITIALIZER, .stats = { .backend = "pool", .threads = 1 },
	};
	int64_t begun = lw_monotonic_ns(), cpu = cpu_ns();
	int result = run_all(&run);
	free(run.racy.items);
	pthread_mutex_destroy(&run.lock);
	*stats = run.stats;
	stats->directories = stats->unchanged + stats->changed;
	stats->wall_ns = lw_monotonic_ns() - begun;
	stats->cpu_ns = cpu_ns() - cpu;
	return result;
}
