/* SPDX-License-Identifier: MIT */
/*
 * scan: see scan.h. A visit reads a directory, stats its sources, reports it and gives its subdirectories to the crew (crew.h).
 *
 * What is opened is named relative to its parent's descriptor where the thread still has it, which spares the kernel the way there: the subdirectories of
 * what a thread has just read are what it visits next. So a thread keeps the descriptors on its way down, DESCRIPTORS at most; what it stole, or what lies
 * deeper than that, it opens by its path. Each thread but the caller's has a table of descriptors to itself
 * (close_range(2)): in a table of several threads each system call on a descriptor pays for two atomic operations on shared lines, each open for a lock.
 * Where that cannot be had nothing is kept, since 64 threads would fill the one table.
 *
 * Nodes are never freed before the end: descendants look for loops in the chain of their parents. They lie in arenas, one for each thread. Above each root
 * that chain goes on with nodes for the directories it lies in: nobody visits them, a link back up ends there.
 *
 * Measured (bench/scan.sh; two virtual cores, 1,000,000 entries, warm, 2 threads, n = 7): 0.96 times the wall time and 1.01 times the CPU time of the bare loop of
 * the same calls, of which this makes one more for each directory (its stamp); 0.5 ms per request, 40,000 entries: 1.13 times the bare loop on 64 threads.
 *
 * What is opened below a root is opened as no link first (O_NOFOLLOW): the kernel says which one it is at the moment
 * it matters, whatever the listing said, and only links pay for a second attempt.
 */
#include "scan.h"
#include "crew.h"
#include "statq.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* PATIENCE: how often a thread that finds the table of descriptors full tries again, a millisecond apart. */
enum { DESCRIPTORS = 32, BLOCK = 64 * 1024, PATIENCE = 1000 };
/*
 * PIECE: how many sources a lone thread asks for before it looks at the clock. From LW_IOQ_WAITS_NS per plain call on it takes the ring; below RING_WAITS_NS per call
 * through the ring (many at once; 2 us where nothing waits) it makes plain calls again.
 */
enum { PIECE = 256, RING_WAITS_NS = 4 * 1000 };

struct node {
	struct node *parent;	/* for a root the directory above it; NULL at the top */
	uint64_t dev, ino;	/* set by the visitor before there are children */
	uint32_t path_len;
	uint16_t depth;		/* below the root; saturates */
	bool root;
	bool doubt;		/* may turn out not to be a directory at all */
	bool linked;		/* a link lies on the way down from the root; set like dev */
	char name[];		/* of a root its path; terminated */
};

/* Memory that is given back as a whole. */
struct arena {
	struct block *block;
	size_t left;
};

struct block {
	struct block *next;
	_Alignas(struct node) char space[];
};

struct scan {
	const struct lw_scan_config *config;
	lw_scan_callback *callback;
	void *arg;
	_Atomic uint64_t *progress;
	struct arena arena;			/* of the roots */
	pthread_mutex_t lock;			/* protects what follows */
	struct block *blocks;			/* of threads that have ended */
	struct lw_scan_stats stats;
};

/* A descriptor that may be named as the parent of what is opened. */
struct kept {
	const struct node *node;
	int fd;
};

struct visit;

/* What a thread has. */
struct worker {
	struct scan *scan;
	struct lw_crew_worker *crew;
	struct lw_scan_stats stats;		/* its own share */
	struct lw_listing_reader *reader;
	struct lw_scan_source *sources;		/* reused from directory to directory */
	uint32_t room;
	struct node **children;			/* so is this */
	uint32_t children_room;
	lw_statq *statq;			/* NULL: not needed yet, or not to be had */
	bool no_statq;				/* do not try again */
	bool waits;				/* a lone thread's stats do, of late: they are worth a ring */
	struct visit *asking;			/* whose sources it is asked for */
	struct arena arena;
	bool keeps;				/* has a table of descriptors to itself */
	unsigned kept_count;
	struct kept kept[DESCRIPTORS];		/* each below the one before */
	int64_t begun_cpu_ns;
	char path[PATH_MAX + UINT8_MAX + 1];	/* of the node being visited; one that is too long by its last name is reported */
};

/* Those numbered FROM to below TO, of which the first is found from ENTRY of the listing on. */
struct sources {
	uint32_t *entry;
	uint32_t from, to;
};

/* A directory being visited. */
struct visit {
	struct node *node;
	int fd;			/* -1: not open */
	bool left;		/* a directory behind a second link */
	int64_t now_ns;		/* before anything was looked at */
	struct lw_scan_dir dir;
};

static int64_t thread_cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Arenas */

static void *arena_alloc(struct arena *arena, size_t size)
{
	size = (size + _Alignof(struct node) - 1) / _Alignof(struct node) * _Alignof(struct node);
	if (size > arena->left) {
		size_t space = size > BLOCK ? size : BLOCK;
		struct block *block = malloc(sizeof *block + space);
		if (!block)
			return NULL;
		block->next = arena->block;
		arena->block = block;
		arena->left = space;
	}
	/* From the end, so that there is nothing to remember but how much is left. */
	arena->left -= size;
	return arena->block->space + arena->left;
}

static void free_blocks(struct block *block)
{
	while (block) {
		struct block *next = block->next;
		free(block);
		block = next;
	}
}

/* Nodes */

/* A path that has a name put behind it. */
static size_t stem_len(const struct node *node)
{
	size_t len = node->path_len;
	/* Only a root's path can end so. */
	while (node->root && len && node->name[len - 1] == '/')
		len--;
	return len;
}

static struct node *node_create(struct arena *arena, struct node *parent, const char *name, size_t len)
{
	struct node *node = arena_alloc(arena, sizeof *node + len + 1);
	if (!node)
		return NULL;
	*node = (struct node){ .parent = parent, .path_len = (uint32_t)len };
	if (parent) {
		node->path_len = (uint32_t)(stem_len(parent) + 1 + len);
		node->depth = parent->depth < UINT16_MAX ? parent->depth + 1 : UINT16_MAX;
		node->linked = parent->linked;
	}
	memcpy(node->name, name, len);
	node->name[len] = '\0';
	return node;
}

/* The path of NODE. */
static void write_path(const struct node *node, char *out)
{
	size_t end = node->path_len;
	out[end] = '\0';
	for (; !node->root; node = node->parent) {
		size_t len = end - stem_len(node->parent) - 1;
		end -= len;
		memcpy(out + end, node->name, len);
		out[--end] = '/';
	}
	memcpy(out, node->name, end);
}

static void node_identify(struct node *node, const struct lw_stat *st)
{
	node->dev = st->dev;
	node->ino = st->ino;
}

static bool is_loop(const struct node *node, const struct lw_stat *st)
{
	/* What was asked for is walked, even where a mount has put it below itself. */
	if (node->root)
		return false;
	for (const struct node *up = node->parent; up; up = up->parent)
		if (up->dev == st->dev && up->ino == st->ino)
			return true;
	return false;
}

/* Kept descriptors */

static void close_counted(struct worker *worker, int fd)
{
	worker->stats.syscalls++;
	close(fd);
}

static void let_go(struct worker *worker)
{
	while (worker->kept_count)
		close_counted(worker, worker->kept[--worker->kept_count].fd);
}

/* Close what is not on the way to NODE. Off the way altogether (stolen, too deep): all, and a new way begins. */
static void let_go_for(struct worker *worker, const struct node *node)
{
	while (worker->kept_count && worker->kept[worker->kept_count - 1].node->depth >= node->depth)
		close_counted(worker, worker->kept[--worker->kept_count].fd);
	if (worker->kept_count && worker->kept[worker->kept_count - 1].node != node->parent)
		let_go(worker);
}

/* Whether FD, NODE's, is kept for its children. */
static bool keep(struct worker *worker, const struct node *node, int fd)
{
	if (!worker->keeps || worker->kept_count == DESCRIPTORS)
		return false;
	worker->kept[worker->kept_count++] = (struct kept){ .node = node, .fd = fd };
	return true;
}

/* How to name what is visited. */
struct place {
	int fd;
	const char *name;
};

static struct place place_of(const struct worker *worker, const struct node *node)
{
	if (!worker->kept_count)
		return (struct place){ .fd = AT_FDCWD, .name = worker->path };
	return (struct place){ .fd = worker->kept[worker->kept_count - 1].fd, .name = node->name };
}

/* Visits */

static int open_dir(struct place place, int flags)
{
	int fd;
	do
		fd = openat(place.fd, place.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

/* Who asked, if it was not the pool alone. */
static void note_backend(struct worker *worker)
{
	struct lw_ioq_stats stats;
	if (!worker->statq)
		return;
	lw_statq_stats(worker->statq, &stats);
	bool ring = worker->scan->config->backend == LW_IOQ_RING;
	worker->stats.backend = strcmp(stats.backend, "ring") ? NULL : ring ? "ring" : "hybrid";
	snprintf(worker->stats.why, sizeof worker->stats.why, "%s", stats.why);
}

/* All but what is being worked on; and none from now on. */
static void make_do_without(struct worker *worker)
{
	let_go(worker);
	worker->keeps = false;
	note_backend(worker);
	lw_statq_destroy(worker->statq);
	worker->statq = NULL;
	worker->no_statq = true;
}

static int open_counted(struct worker *worker, const struct node *node, int flags)
{
	worker->stats.syscalls++;
	int fd = open_dir(place_of(worker, node), flags);
	if (fd == -EMFILE && (worker->kept_count || worker->statq)) {
		make_do_without(worker);
		worker->stats.syscalls++;
		fd = open_dir(place_of(worker, node), flags);
	}
	/* In a table that threads share the others have theirs for a moment only. */
	for (unsigned i = 0; fd == -EMFILE && i < PATIENCE && !lw_crew_stopped(worker->crew); i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000 * 1000 }, NULL);
		worker->stats.syscalls++;
		fd = open_dir(place_of(worker, node), flags);
	}
	return fd;
}

/* No directory, or a second link: which of the two decides whether we leave something out. Always an error. */
static int leave(struct worker *worker, struct visit *visit)
{
	struct lw_stat st;
	struct place place = place_of(worker, visit->node);
	worker->stats.syscalls++;
	int error = lw_stat_at(place.fd, place.name, &st);
	visit->left = !error && S_ISDIR(st.mode);
	return error ? error : visit->left ? -ELOOP : -ENOTDIR;
}

/* A root whatever leads to it, everything else through one link at most. */
static int open_node(struct worker *worker, struct visit *visit)
{
	struct node *node = visit->node;
	int fd = open_counted(worker, node, node->root ? 0 : O_NOFOLLOW);
	/* ENOTDIR for a link as well, since it is not one. */
	if (fd != -ENOTDIR)
		return fd;
	if (node->linked)
		return leave(worker, visit);
	node->linked = true;
	return open_counted(worker, node, 0);
}

/* Hand the directory, and its listing, to the callback. */
static int report(struct worker *worker, const struct lw_scan_dir *dir)
{
	if (lw_crew_stopped(worker->crew)) {
		lw_listing_destroy(dir->listing);
		return 0;
	}
	/* It may wait for a lock: that is no call that waits. */
	int64_t begun = lw_monotonic_ns();
	int result = worker->scan->callback(worker->scan->arg, dir);
	worker->crew->aside_ns += lw_monotonic_ns() - begun;
	return result;
}

static int report_failure(struct worker *worker, struct visit *visit, int error)
{
	bool gone = error == ENOENT || error == ENOTDIR;
	if (visit->left) {
		worker->stats.links_left++;
		return 0;
	}
	/* Short of memory, we know nothing about the directory. */
	if (error == ENOMEM)
		return -ENOMEM;
	/* A dangling link, a link to a file: nobody said it was a directory. */
	if (visit->node->doubt && (gone || error == ELOOP))
		return 0;
	worker->stats.vanished += gone;
	worker->stats.unreadable += !gone;
	visit->dir.error = error;
	return report(worker, &visit->dir);
}

static int read_dir(struct worker *worker, struct visit *visit)
{
	struct lw_listing_cost cost = { 0 };
	/* Nobody could import from there, whatever we could open step by step. */
	if (visit->node->path_len >= PATH_MAX)
		return -ENAMETOOLONG;
	visit->fd = open_node(worker, visit);
	if (visit->fd < 0)
		return visit->fd;
	int error = lw_listing_reader_read(worker->reader, visit->fd, &visit->dir.listing, &visit->dir.stat, &cost);
	worker->stats.syscalls += cost.syscalls;
	worker->stats.entries += cost.entries;
	/* Relaxed: a number to look at, nothing is concluded from it. */
	if (worker->scan->progress)
		atomic_fetch_add_explicit(worker->scan->progress, cost.entries, memory_order_relaxed);
	return error;
}

/* Room for COUNT items of SIZE bytes; what was there is lost. */
static int make_room(void **items, uint32_t *room, uint32_t count, size_t size)
{
	if (count <= *room)
		return 0;
	free(*items);
	*items = calloc(count, size);
	*room = *items ? count : 0;
	return *items ? 0 : -ENOMEM;
}

static void write_source_name(const struct lw_listing *listing, const struct lw_entry *entry, char *name)
{
	memcpy(name, listing->names + entry->name, entry->len);
	memcpy(name + entry->len, ".py", sizeof ".py");
}

/* ST is what ENTRY's source is, if there is ERROR no more. LEN 0: no regular file, left out later. */
static void fill_source(struct lw_scan_source *out, const struct visit *visit, const struct lw_entry *entry, int error, const struct lw_stat *st)
{
	*out = (struct lw_scan_source){ .name = entry->name };
	if (error || !S_ISREG(st->mode))
		return;
	out->len = entry->len;
	out->stat = *st;
	out->racy = lw_stat_racy(st, visit->now_ns);
}

static uint32_t count_kind(const struct lw_listing *listing, lw_kinds kind)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < listing->count; i++)
		count += (listing->entries[i].kinds & kind) != 0;
	return count;
}

/* Sources are numbered by their place in worker->sources; NAME, until the answer, is that of their entry. */
static void take_answer(void *arg, uint32_t number, int error, const struct lw_stat *st)
{
	struct worker *worker = arg;
	struct lw_scan_source *source = &worker->sources[number];
	fill_source(source, worker->asking, &worker->asking->dir.listing->entries[source->name], error, st);
}

/* Where others may be started, they are what waiting calls get. */
static bool is_alone(const struct worker *worker)
{
	return worker->scan->config->threads == 1 && worker->scan->config->backend == LW_IOQ_AUTO;
}

static lw_statq *get_statq(struct worker *worker)
{
	const struct lw_scan_config *config = worker->scan->config;
	enum lw_ioq_backend backend = is_alone(worker) ? LW_IOQ_RING : config->backend;
	const struct lw_ioq_config wanted = { .backend = backend, .threads = backend == LW_IOQ_RING ? 0 : config->threads };
	if (!worker->statq && !worker->no_statq)
		worker->no_statq = lw_statq_create(&wanted, take_answer, worker, &worker->statq, worker->stats.why) != 0;
	return worker->statq;
}

static bool is_for_statq(const struct worker *worker, uint32_t count)
{
	return is_alone(worker) ? worker->waits : count > 1 && (count > LW_SCAN_MANY || worker->scan->config->backend == LW_IOQ_RING);
}

/* The next entry of KIND from *AT on, and the file that it stands for. There is one. */
static const struct lw_entry *next_source(const struct visit *visit, lw_kinds kind, uint32_t *at, char *name)
{
	const struct lw_listing *listing = visit->dir.listing;
	while (!(listing->entries[*at].kinds & kind))
		++*at;
	const struct lw_entry *entry = &listing->entries[(*at)++];
	write_source_name(listing, entry, name);
	return entry;
}

static void ask_many(struct worker *worker, const struct visit *visit, lw_kinds kind, struct sources range)
{
	struct lw_ioq_stats stats;
	lw_statq_stats(worker->statq, &stats);
	uint64_t before = stats.syscalls; /* what the queue calls is ours */
	for (uint32_t i = range.from; i < range.to; i++) {
		char name[UINT8_MAX + sizeof ".py"];
		next_source(visit, kind, range.entry, name);
		worker->sources[i].name = *range.entry - 1;
		lw_statq_ask(worker->statq, visit->fd, name, i);
	}
	lw_statq_finish(worker->statq);
	lw_statq_stats(worker->statq, &stats);
	worker->stats.syscalls += stats.syscalls - before;
}

static void ask_each(struct worker *worker, const struct visit *visit, lw_kinds kind, struct sources range)
{
	for (uint32_t i = range.from; i < range.to; i++) {
		char name[UINT8_MAX + sizeof ".py"];
		struct lw_stat st;
		const struct lw_entry *entry = next_source(visit, kind, range.entry, name);
		int error = lw_stat_at(visit->fd, name, &st);
		fill_source(&worker->sources[i], visit, entry, error, &st);
	}
	worker->stats.syscalls += range.to - range.from;
}

/* How often this thread has gone to sleep by itself. Neighbours that want the core do not count. */
static long sleeps(void)
{
	struct rusage usage;
	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

static void ask(struct worker *worker, struct visit *visit, lw_kinds kind, struct sources range)
{
	bool many = is_for_statq(worker, range.to - range.from) && get_statq(worker);
	worker->asking = visit;
	(many ? ask_many : ask_each)(worker, visit, kind, range);
}

/* A lone thread's next sources go by how long these took. */
static void ask_alone(struct worker *worker, struct visit *visit, lw_kinds kind, struct sources range)
{
	int64_t bound = worker->waits ? RING_WAITS_NS : LW_IOQ_WAITS_NS, begun = lw_monotonic_ns();
	long slept = sleeps();
	ask(worker, visit, kind, range);
	bool slow = lw_monotonic_ns() - begun > bound * (range.to - range.from);
	worker->waits = slow && sleeps() > slept;
}

static unsigned drop_missing(struct lw_scan_source *sources, uint32_t count)
{
	unsigned kept = 0;
	for (uint32_t i = 0; i < count; i++)
		if (sources[i].len)
			sources[kept++] = sources[i];
	return kept;
}

static int stat_sources(struct worker *worker, struct visit *visit)
{
	const lw_kinds kind = LW_KIND_SUFFIX(worker->scan->config->suffixes->source);
	uint32_t count = count_kind(visit->dir.listing, kind);
	void *sources = worker->sources;
	int error = make_room(&sources, &worker->room, count, sizeof *worker->sources);
	worker->sources = sources;
	if (error)
		return error;
	bool alone = is_alone(worker);
	uint32_t entry = 0, piece = alone ? PIECE : count;
	for (uint32_t from = 0; from < count; from += piece)
		(alone ? ask_alone : ask)(worker, visit, kind,
				(struct sources){ .entry = &entry, .from = from, .to = count - from < piece ? count : from + piece });
	visit->dir.sources = worker->sources;
	visit->dir.source_count = drop_missing(worker->sources, count);
	worker->stats.sources += visit->dir.source_count;
	return 0;
}

/* The subdirectories, in worker->children. */
static int find_children(struct worker *worker, const struct visit *visit, uint32_t *count)
{
	const struct lw_listing *listing = visit->dir.listing;
	void *children = worker->children;
	int error = make_room(&children, &worker->children_room, count_kind(listing, LW_KIND_DIR), sizeof *worker->children);
	worker->children = children;
	*count = 0;
	for (uint32_t i = 0; i < listing->count && !error; i++) {
		const struct lw_entry *entry = &listing->entries[i];
		const char *name = listing->names + entry->name;
		if (!(entry->kinds & LW_KIND_DIR) || !lw_names_entered(name, entry->len))
			continue;
		struct node *child = node_create(&worker->arena, visit->node, name, entry->len);
		if (!child)
			return -ENOMEM;
		child->doubt = entry->flags & LW_ENTRY_DOUBT;
		worker->children[(*count)++] = child;
	}
	return error;
}

/* What a directory holds, now that it is open and read. Takes over the listing, and the descriptor if it is kept. */
static int digest_dir(struct worker *worker, struct visit *visit)
{
	struct lw_scan_dir *dir = &visit->dir;
	uint32_t children = 0;
	worker->stats.directories++;
	worker->stats.modules += dir->listing->count;
	node_identify(visit->node, &dir->stat);
	dir->racy = lw_stat_racy(&dir->stat, visit->now_ns);
	int error = stat_sources(worker, visit);
	if (!error)
		error = find_children(worker, visit, &children);
	if (error) {
		lw_listing_destroy(dir->listing);
		return error;
	}
	error = report(worker, dir);
	if (error || !children)
		return error;
	if (keep(worker, visit->node, visit->fd))
		visit->fd = -1;
	return lw_crew_push(worker->crew, (void *const *)worker->children, children);
}

/* Where a link leads nobody goes if links are left. */
static bool is_entered(const struct worker *worker, const struct node *node)
{
	struct stat st;
	return !worker->scan->config->linked || !node->doubt || (lstat(worker->path, &st) == 0 && S_ISDIR(st.st_mode));
}

static int visit_node(void *arg, struct lw_crew_worker *crew, void *piece)
{
	struct worker *worker = crew->own;
	struct node *node = piece;
	struct visit visit = { .node = node, .fd = -1, .now_ns = lw_now_ns(), .dir = { .path = worker->path, .path_len = node->path_len } };
	let_go_for(worker, node);
	write_path(node, worker->path);
	if (worker->scan->config->before && is_entered(worker, node))
		visit.dir.before = worker->scan->config->before(worker->scan->arg, worker->path, node->path_len, !node->root && !node->doubt);
	int result, error = read_dir(worker, &visit);
	if (error) {
		result = report_failure(worker, &visit, -error);
	} else if (is_loop(node, &visit.dir.stat)) {
		worker->stats.loops++;
		lw_listing_destroy(visit.dir.listing);
		result = 0;
	} else {
		result = digest_dir(worker, &visit);
	}
	if (visit.fd >= 0)
		close_counted(worker, visit.fd);
	crew->calls = worker->stats.syscalls;
	return result;
}

/* Threads */

static void add_stats(struct lw_scan_stats *to, const struct lw_scan_stats *from)
{
	to->entries += from->entries;
	to->directories += from->directories;
	to->modules += from->modules;
	to->sources += from->sources;
	to->unreadable += from->unreadable;
	to->vanished += from->vanished;
	to->loops += from->loops;
	to->links_left += from->links_left;
	to->syscalls += from->syscalls;
	to->cpu_ns += from->cpu_ns;
	if (from->backend)
		to->backend = from->backend;
	if (*from->why)
		memcpy(to->why, from->why, sizeof to->why);
}

/* ThreadSanitizer takes equal numbers for the same descriptor. */
#if defined(__SANITIZE_THREAD__)
enum { ONE_TABLE = 1 };
#else
enum { ONE_TABLE = 0 };
#endif

/* A table of descriptors without the program's, but for the standard ones: somebody may have something to say. WHOLE: with them. */
static bool separate_descriptors(bool whole)
{
	if (ONE_TABLE)
		return false;
	return whole ? unshare(CLONE_FILES) == 0 : close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_UNSHARE) == 0;
}

static void *enter(void *arg, struct lw_crew_worker *crew)
{
	struct scan *scan = arg;
	struct worker *worker = malloc(sizeof *worker);
	if (!worker)
		return NULL;
	/* Not the path. */
	memset(worker, 0, offsetof(struct worker, path));
	worker->begun_cpu_ns = thread_cpu_ns();
	worker->scan = scan;
	worker->crew = crew;
	worker->keeps = crew->number == 0 || separate_descriptors(scan->config->before);
	worker->reader = lw_listing_reader_create(scan->config->suffixes);
	if (!worker->reader) {
		free(worker);
		return NULL;
	}
	return worker;
}

static void bequeath_blocks(struct scan *scan, struct block *block)
{
	while (block) {
		struct block *next = block->next;
		block->next = scan->blocks;
		scan->blocks = block;
		block = next;
	}
}

static void leave_crew(void *arg, struct lw_crew_worker *crew)
{
	struct scan *scan = arg;
	struct worker *worker = crew->own;
	let_go(worker);
	note_backend(worker);
	lw_statq_destroy(worker->statq);
	lw_listing_reader_destroy(worker->reader);
	free(worker->sources);
	free(worker->children);
	worker->stats.cpu_ns = thread_cpu_ns() - worker->begun_cpu_ns;
	pthread_mutex_lock(&scan->lock);
	add_stats(&scan->stats, &worker->stats);
	/* Others may still look at our nodes. */
	bequeath_blocks(scan, worker->arena.block);
	pthread_mutex_unlock(&scan->lock);
	free(worker);
}

/* The roots */

/* Whether the directory's first entries can be read. */
static int check_entries(int fd)
{
	_Alignas(struct dirent64) char buffer[1024];
	return getdents64(fd, buffer, sizeof buffer) < 0 && errno != EINTR ? -errno : 0;
}

/* From the directory *FD, which is BELOW's, to the one that holds it: its node becomes BELOW's parent. 0 at the top. */
static int step_up(struct scan *scan, int *fd, struct node *below)
{
	struct lw_stat st;
	int up = open_dir((struct place){ .fd = *fd, .name = ".." }, O_PATH);
	/* A root that may not be searched has nothing below it either; above it, only ways through /proc come here. */
	if (up < 0)
		return up == -EACCES ? 0 : up;
	close(*fd);
	*fd = up;
	int error = lw_stat_fd(up, &st);
	/* The top is above itself. (A mount on its own mount point's parent looks alike: then some loops cost a listing more.) */
	if (error || (st.dev == below->dev && st.ino == below->ino))
		return error;
	below->parent = node_create(&scan->arena, NULL, "", 0);
	if (!below->parent)
		return -ENOMEM;
	node_identify(below->parent, &st);
	return 1;
}

/* By "..", not by name: right for every path that can be opened, however long and whatever the links in it. */
static int find_above(struct scan *scan, int *fd, struct node *root)
{
	struct lw_stat st;
	int result = lw_stat_fd(*fd, &st);
	if (result)
		return result;
	node_identify(root, &st);
	for (struct node *at = root; (result = step_up(scan, fd, at)) > 0; at = at->parent)
		;
	return result;
}

static int open_root(struct scan *scan, struct node *root)
{
	int fd = open_dir((struct place){ .fd = AT_FDCWD, .name = root->name }, 0);
	if (fd < 0)
		return fd;
	int error = check_entries(fd);
	if (!error)
		error = find_above(scan, &fd, root);
	close(fd);
	return error;
}

static int add_root(struct scan *scan, const char *path, struct node **out)
{
	assert(path[0] == '/');
	*out = node_create(&scan->arena, NULL, path, strlen(path));
	if (!*out)
		return -ENOMEM;
	(*out)->root = true;
	(*out)->linked = scan->config->linked;
	return open_root(scan, *out);
}

/* The last one is visited first. */
static int add_roots(struct scan *scan, const char *const *paths, unsigned count, struct node **roots, unsigned *failed)
{
	int error = 0;
	for (unsigned i = 0; i < count && !error; i++) {
		error = add_root(scan, paths[i], &roots[i]);
		/* Memory is no root's fault. */
		if (error && error != -ENOMEM)
			*failed = i;
	}
	return error;
}

/* Who asks for the ring and cannot have it is told. */
static int check_backend(struct scan *scan)
{
	const struct lw_ioq_config wanted = { .backend = scan->config->backend };
	lw_ioq *queue;
	if (wanted.backend != LW_IOQ_RING)
		return 0;
	int error = lw_ioq_create(&wanted, &queue, scan->stats.why);
	if (!error)
		scan->stats.backend = "ring";
	lw_ioq_destroy(error ? NULL : queue);
	return error;
}

static int walk(struct scan *scan, struct node **roots, unsigned count)
{
	const struct lw_crew_job job = {
		.arg = scan, .threads = scan->config->threads, .enter = enter, .visit = visit_node, .leave = leave_crew,
	};
	return lw_crew_run(&job, (void *const *)roots, count, &scan->stats.threads);
}

int lw_scan(const struct lw_scan_config *config, const char *const *roots, unsigned count,
		lw_scan_callback *callback, void *arg, struct lw_scan_stats *stats, unsigned *failed,
		_Atomic uint64_t *progress)
{
	struct scan scan = {
		.config = config, .callback = callback, .arg = arg, .progress = progress, .lock = PTHREAD_MUTEX_INITIALIZER, .stats.backend = "pool",
	};
	int64_t start = lw_monotonic_ns();
	*failed = count;
	struct node **nodes = calloc(count + 1, sizeof *nodes);
	int result = nodes ? add_roots(&scan, roots, count, nodes, failed) : -ENOMEM;
	if (!result)
		result = check_backend(&scan);
	if (!result)
		result = walk(&scan, nodes, count);
	free(nodes);
	free_blocks(scan.arena.block);
	free_blocks(scan.blocks);
	pthread_mutex_destroy(&scan.lock);
	*stats = scan.stats;
	stats->wall_ns = lw_monotonic_ns() - start;
	return result;
}
