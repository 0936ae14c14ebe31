/* SPDX-License-Identifier: MIT */
/*
 * scan: see scan.h. Threads share one stack of directories still to be visited; a visit reads a directory, stats its
 * sources, reports it and pushes its subdirectories. The calling thread is one of the pool.
 *
 *     todo      nodes that wait
 *     open      nodes that wait or are being visited; 0 means the walk is over
 *     result    the first error or callback result; non-zero means stop
 *
 * Directories are opened by path, one descriptor per thread: a kept parent descriptor would save the kernel some
 * components and cost a bound on how wide and deep a tree may be. A visited node stays while it has descendants, for
 * they look for loops in the chain of their parents. Above each root that chain goes on with nodes for the directories
 * it lies in: nobody visits them, a link back up ends there.
 *
 * What is opened below a root is opened as no link first (O_NOFOLLOW): the kernel says which one it is at the moment
 * it matters, whatever the listing said, and only links pay for a second attempt.
 */
#include "scan.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_THREADS = 8, MAX_THREADS = 64 };

struct node {
	struct node *next;	/* in todo, or in a batch */
	struct node *parent;	/* counted; for a root the directory above it; NULL at the top */
	_Atomic unsigned refs;	/* one for the visit, one per child */
	bool root;
	bool doubt;		/* may turn out not to be a directory at all */
	/* Owned by the visitor until children exist, then constant. */
	bool linked;		/* a link lies on the way down from the root */
	uint64_t dev, ino;
	size_t path_len;
	char path[];
};

/* Children of one directory, linked so that they are pushed in one step. */
struct batch {
	struct node *first, *last;
	uint64_t count;
};

struct scan {
	const struct lw_scan_config *config;
	lw_scan_callback *callback;
	void *arg;
	_Atomic uint64_t *progress;

	pthread_mutex_t lock;	/* protects what follows */
	pthread_cond_t wake;	/* todo, open or result has changed */
	struct node *todo;
	uint64_t open;
	int result;
};

struct worker {
	struct scan *scan;
	pthread_t thread;
	struct lw_scan_stats stats;		/* its own share */
	struct lw_scan_source *sources;		/* reused from directory to directory */
	uint32_t room;
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

/* Nodes */

static struct node *node_create(struct node *parent, const char *name, size_t len, bool doubt)
{
	size_t head = parent ? parent->path_len : 0;
	while (head && parent->path[head - 1] == '/')
		head--;
	struct node *node = malloc(sizeof *node + head + 1 + len + 1);
	if (!node)
		return NULL;
	*node = (struct node){ .parent = parent, .doubt = doubt, .linked = parent && parent->linked };
	atomic_init(&node->refs, 1);
	if (parent) {
		/* Relaxed: our own reference keeps the parent alive meanwhile. */
		atomic_fetch_add_explicit(&parent->refs, 1, memory_order_relaxed);
		memcpy(node->path, parent->path, head);
		node->path[head++] = '/';
	}
	memcpy(node->path + head, name, len);
	node->path_len = head + len;
	node->path[node->path_len] = '\0';
	return node;
}

/* Not recursive: a chain of parents can be thousands long. */
static void node_release(struct node *node)
{
	/* Release what we did with the node; acquire what the others did, before it is freed. */
	while (node && atomic_fetch_sub_explicit(&node->refs, 1, memory_order_acq_rel) == 1) {
		struct node *parent = node->parent;
		free(node);
		node = parent;
	}
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

static void batch_add(struct batch *batch, struct node *node)
{
	node->next = batch->first;
	batch->first = node;
	if (!batch->last)
		batch->last = node;
	batch->count++;
}

static void release_list(struct node *node)
{
	while (node) {
		struct node *next = node->next;
		node_release(node);
		node = next;
	}
}

/* The shared list */

static struct node *take(struct scan *scan)
{
	pthread_mutex_lock(&scan->lock);
	while (!scan->todo && scan->open && !scan->result)
		pthread_cond_wait(&scan->wake, &scan->lock);
	struct node *node = scan->result ? NULL : scan->todo;
	if (node)
		scan->todo = node->next;
	pthread_mutex_unlock(&scan->lock);
	return node;
}

/* A visit is over: its children wait now, and RESULT, if any, ends the walk. */
static void finish(struct scan *scan, const struct batch *children, int result)
{
	pthread_mutex_lock(&scan->lock);
	if (children->count) {
		children->last->next = scan->todo;
		scan->todo = children->first;
	}
	scan->open += children->count;
	scan->open--;
	if (!scan->result)
		scan->result = result;
	/* The visitor takes one child itself. */
	if (scan->result || !scan->open || children->count > 1)
		pthread_cond_broadcast(&scan->wake);
	pthread_mutex_unlock(&scan->lock);
}

static bool stopped(struct scan *scan)
{
	pthread_mutex_lock(&scan->lock);
	bool stop = scan->result != 0;
	pthread_mutex_unlock(&scan->lock);
	return stop;
}

/* Visits */

static int open_dir(const char *path, int flags)
{
	int fd;
	do
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

/* No directory, or a second link: which of the two decides whether we leave something out. Always an error. */
static int leave(struct worker *worker, struct visit *visit)
{
	struct lw_stat st;
	worker->stats.syscalls++;
	int error = lw_stat_at(AT_FDCWD, visit->node->path, &st);
	visit->left = !error && S_ISDIR(st.mode);
	return error ? error : visit->left ? -ELOOP : -ENOTDIR;
}

/* A root whatever leads to it, everything else through one link at most. */
static int open_node(struct worker *worker, struct visit *visit)
{
	struct node *node = visit->node;
	worker->stats.syscalls++;
	int fd = open_dir(node->path, node->root ? 0 : O_NOFOLLOW);
	/* ENOTDIR for a link as well, since it is not one. */
	if (fd != -ENOTDIR)
		return fd;
	if (node->linked)
		return leave(worker, visit);
	node->linked = true;
	worker->stats.syscalls++;
	return open_dir(node->path, 0);
}

/* Hand the directory, and its listing, to the callback. */
static int report(struct worker *worker, const struct lw_scan_dir *dir)
{
	if (stopped(worker->scan)) {
		lw_listing_destroy(dir->listing);
		return 0;
	}
	return worker->scan->callback(worker->scan->arg, dir);
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
	visit->fd = open_node(worker, visit);
	if (visit->fd < 0)
		return visit->fd;
	int error = lw_listing_read_cost(visit->fd, worker->scan->config->suffixes, &visit->dir.listing, &visit->dir.stat, &cost);
	worker->stats.syscalls += cost.syscalls;
	worker->stats.entries += cost.entries;
	/* Relaxed: a number to look at, nothing is concluded from it. */
	if (worker->scan->progress)
		atomic_fetch_add_explicit(worker->scan->progress, cost.entries, memory_order_relaxed);
	return error;
}

static int make_room(struct worker *worker, uint32_t count)
{
	if (count <= worker->room)
		return 0;
	free(worker->sources);
	worker->sources = calloc(count, sizeof *worker->sources);
	worker->room = worker->sources ? count : 0;
	return worker->sources ? 0 : -ENOMEM;
}

/* Whether ENTRY's source is there and a regular file; then *OUT describes it. */
static bool stat_source(struct worker *worker, const struct visit *visit, const struct lw_entry *entry,
		struct lw_scan_source *out)
{
	char name[UINT8_MAX + sizeof ".py"];
	memcpy(name, visit->dir.listing->names + entry->name, entry->len);
	memcpy(name + entry->len, ".py", sizeof ".py");
	worker->stats.syscalls++;
	if (lw_stat_at(visit->fd, name, &out->stat) != 0 || !S_ISREG(out->stat.mode))
		return false;
	out->name = entry->name;
	out->len = entry->len;
	out->racy = lw_stat_racy(&out->stat, visit->now_ns);
	return true;
}

static uint32_t count_kind(const struct lw_listing *listing, lw_kinds kind)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < listing->count; i++)
		count += (listing->entries[i].kinds & kind) != 0;
	return count;
}

static int stat_sources(struct worker *worker, struct visit *visit)
{
	const struct lw_listing *listing = visit->dir.listing;
	const lw_kinds source = LW_KIND_SUFFIX(worker->scan->config->suffixes->source);
	unsigned found = 0;
	int error = make_room(worker, count_kind(listing, source));
	if (error)
		return error;
	for (uint32_t i = 0; i < listing->count; i++)
		if (listing->entries[i].kinds & source)
			found += stat_source(worker, visit, &listing->entries[i], &worker->sources[found]);
	visit->dir.sources = worker->sources;
	visit->dir.source_count = found;
	worker->stats.sources += found;
	return 0;
}

static bool is_name(const char *name, size_t len, const char *text)
{
	return len == strlen(text) && memcmp(name, text, len) == 0;
}

static int push_children(const struct visit *visit, struct batch *children)
{
	const struct lw_listing *listing = visit->dir.listing;
	for (uint32_t i = 0; i < listing->count; i++) {
		const struct lw_entry *entry = &listing->entries[i];
		const char *name = listing->names + entry->name;
		if (!(entry->kinds & LW_KIND_DIR) || is_name(name, entry->len, "__pycache__")
				|| is_name(name, entry->len, "node_modules"))
			continue;
		struct node *child = node_create(visit->node, name, entry->len, entry->flags & LW_ENTRY_DOUBT);
		if (!child)
			return -ENOMEM;
		batch_add(children, child);
	}
	return 0;
}

/* What a directory holds, now that it is open and read. Takes over the listing. */
static int digest_dir(struct worker *worker, struct visit *visit, struct batch *children)
{
	struct lw_scan_dir *dir = &visit->dir;
	worker->stats.directories++;
	worker->stats.modules += dir->listing->count;
	node_identify(visit->node, &dir->stat);
	dir->racy = lw_stat_racy(&dir->stat, visit->now_ns);
	int error = stat_sources(worker, visit);
	if (!error)
		error = push_children(visit, children);
	if (!error)
		return report(worker, dir);
	lw_listing_destroy(dir->listing);
	return error;
}

static int visit_node(struct worker *worker, struct node *node, struct batch *children)
{
	struct visit visit = {
		.node = node, .fd = -1, .now_ns = lw_now_ns(), .dir = { .path = node->path, .path_len = node->path_len },
	};
	int result, error = read_dir(worker, &visit);
	if (error) {
		result = report_failure(worker, &visit, -error);
	} else if (is_loop(node, &visit.dir.stat)) {
		worker->stats.loops++;
		lw_listing_destroy(visit.dir.listing);
		result = 0;
	} else {
		result = digest_dir(worker, &visit, children);
	}
	if (visit.fd >= 0) {
		worker->stats.syscalls++;
		close(visit.fd);
	}
	return result;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	int64_t start = thread_cpu_ns();
	struct node *node;
	while ((node = take(worker->scan))) {
		struct batch children = { 0 };
		int result = visit_node(worker, node, &children);
		finish(worker->scan, &children, result);
		node_release(node);
	}
	free(worker->sources);
	worker->stats.cpu_ns = thread_cpu_ns() - start;
	return NULL;
}

/* The pool */

static unsigned choose_threads(unsigned wanted)
{
	cpu_set_t set;
	if (wanted)
		return wanted < MAX_THREADS ? wanted : MAX_THREADS;
	/* A machine with more processors than the set has bits refuses. */
	unsigned cores = sched_getaffinity(0, sizeof set, &set) ? DEFAULT_THREADS : (unsigned)CPU_COUNT(&set);
	return cores < DEFAULT_THREADS ? cores : DEFAULT_THREADS;
}

/* Start up to COUNT workers beside the caller; a system that gives fewer threads gets a slower walk. */
static unsigned start_workers(struct worker *workers, unsigned count)
{
	sigset_t all, old;
	unsigned started = 0;
	/* The program's signals are for the program's threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (started < count && pthread_create(&workers[started].thread, NULL, work, &workers[started]) == 0)
		started++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return started;
}

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
}

/* workers[0] is the caller. */
static void run_pool(struct worker *workers, unsigned count, struct lw_scan_stats *stats)
{
	unsigned started = start_workers(workers + 1, count - 1);
	work(&workers[0]);
	for (unsigned i = 1; i <= started; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned i = 0; i <= started; i++)
		add_stats(stats, &workers[i].stats);
	stats->threads = started + 1;
}

static int walk(struct scan *scan, struct lw_scan_stats *stats)
{
	unsigned count = choose_threads(scan->config->threads);
	struct worker *workers = calloc(count, sizeof *workers);
	if (!workers)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++)
		workers[i].scan = scan;
	run_pool(workers, count, stats);
	free(workers);
	return scan->result;
}

/* The roots */

/* Whether the directory's first entries can be read. */
static int check_entries(int fd)
{
	_Alignas(struct dirent64) char buffer[1024];
	return getdents64(fd, buffer, sizeof buffer) < 0 && errno != EINTR ? -errno : 0;
}

/* From the directory *FD, which is BELOW's, to the one that holds it: its node becomes BELOW's parent. 0 at the top. */
static int step_up(int *fd, struct node *below)
{
	struct lw_stat st;
	int up = openat(*fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* A root that may not be searched has nothing below it either; above it, only ways through /proc come here. */
	if (up < 0)
		return errno == EACCES ? 0 : -errno;
	close(*fd);
	*fd = up;
	int error = lw_stat_fd(up, &st);
	/* The top is above itself. (A mount on its own mount point's parent looks alike: then some loops cost a listing more.) */
	if (error || (st.dev == below->dev && st.ino == below->ino))
		return error;
	below->parent = node_create(NULL, "", 0, false);
	if (!below->parent)
		return -ENOMEM;
	node_identify(below->parent, &st);
	return 1;
}

/* By "..", not by name: right for every path that can be opened, however long and whatever the links in it. */
static int find_above(int *fd, struct node *root)
{
	struct lw_stat st;
	int result = lw_stat_fd(*fd, &st);
	if (result)
		return result;
	node_identify(root, &st);
	for (struct node *at = root; (result = step_up(fd, at)) > 0; at = at->parent)
		;
	return result;
}

static int open_root(struct node *root)
{
	int fd = open_dir(root->path, 0);
	if (fd < 0)
		return fd;
	int error = check_entries(fd);
	if (!error)
		error = find_above(&fd, root);
	close(fd);
	return error;
}

static int add_root(struct batch *batch, const char *path)
{
	assert(path[0] == '/');
	struct node *root = node_create(NULL, path, strlen(path), false);
	if (!root)
		return -ENOMEM;
	root->root = true;
	int error = open_root(root);
	if (error)
		node_release(root);
	else
		batch_add(batch, root);
	return error;
}

static int add_roots(struct scan *scan, const char *const *roots, unsigned count, unsigned *failed)
{
	struct batch batch = { 0 };
	int error = 0;
	for (unsigned i = 0; i < count && !error; i++) {
		error = add_root(&batch, roots[i]);
		/* Memory is no root's fault. */
		if (error && error != -ENOMEM)
			*failed = i;
	}
	/* On errors too: whoever called releases them. */
	scan->todo = batch.first;
	scan->open = batch.count;
	return error;
}

int lw_scan(const struct lw_scan_config *config, const char *const *roots, unsigned count,
		lw_scan_callback *callback, void *arg, struct lw_scan_stats *stats, unsigned *failed,
		_Atomic uint64_t *progress)
{
	struct scan scan = {
		.config = config, .callback = callback, .arg = arg, .progress = progress,
		.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER,
	};
	int64_t start = lw_monotonic_ns();
	*stats = (struct lw_scan_stats){ .backend = "pool" };
	*failed = count;
	int result = add_roots(&scan, roots, count, failed);
	if (!result)
		result = walk(&scan, stats);
	release_list(scan.todo);
	pthread_cond_destroy(&scan.wake);
	pthread_mutex_destroy(&scan.lock);
	stats->wall_ns = lw_monotonic_ns() - start;
	return result;
}
