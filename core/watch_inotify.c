/* SPDX-License-Identifier: MIT */
/*
 * watch_inotify: one watch per directory. See watch.h for what is promised, watch_tree.h for how paths are kept.
 *
 * Who says that a path has come to mean something else? Both the thing itself (MOVE_SELF, DELETE_SELF) and the directory that holds its name (DELETE, MOVED_TO, so
 * on the way too): a directory that somebody has open, or sits in, is not told that it was removed until it is let go.
 *
 * That something came under a name may be outdated when it is read. So it is looked at: does the name lead to the watched inode? inotify itself answers, by the
 * number that it gives to a watch on that name: the same inode has the same number.
 *
 * Arming, without the lock during system calls:
 *
 *     lock, what is there? CHANGES?, unlock    watch the first name that is not there, WD    lock, CHANGES as before? then WD is its number: the next one
 *
 * CHANGES counts what makes the answer worthless: a node removed, an event of a number that nobody knows (it may be WD's, which is about to be known).
 * It starts all over then. Names are watched from the top down: what turns afterwards is in the queue.
 *
 * A number whose last node is removed is doomed: its watch is removed in drain, and a few at a time, as each removal is an event too (IGNORED) and would
 * overflow the queue. Should somebody be about to make it a node's number again, that node will get the IGNORED, which reports it.
 */
#include "watch_fs.h"
#include "watch_private.h"
#include "watch_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/statfs.h>
#include <unistd.h>

enum {
	NONE = LW_WATCH_NONE,
	ITSELF = IN_MOVE_SELF | IN_DELETE_SELF,
	NAME_GONE = IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO,
	NAMES = NAME_GONE | IN_CREATE,
	/* Masks; inotify replaces what is there unless told to add. Never OPEN, ACCESS: our own reads would be reported. */
	LINK = ITSELF | IN_DONT_FOLLOW | IN_MASK_ADD,
	/* Without ATTRIB, which would tell of each file in /tmp that is touched. */
	WAY = ITSELF | IN_DELETE | IN_MOVED_TO | IN_ONLYDIR | IN_DONT_FOLLOW | IN_MASK_ADD,
	ARMED = WAY | NAMES | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE,

	MAX_LINKS = 40,		/* followed for one arm; the kernel's own limit */
	PATIENCE = 4,		/* attempts without the lock */
	MAX_ATTEMPTS = 1000,
	DOOMED_AT_ONCE = 4096,	/* a quarter of the queue's default length */
	BUFFER = 16384,
	LARGEST_EVENT = sizeof(struct inotify_event) + NAME_MAX + 1,
};

/* What is to be told. */
struct report {
	enum lw_watch_kind kind;
	uint32_t name_len;
	size_t path, len;	/* in TEXT */
	const char *name;
};

struct reports {
	struct report *report;
	size_t count, capacity;
	char *text;
	size_t size, text_capacity;
	int32_t last;		/* its path is the text's end */
	bool lost;		/* no memory: everything */
};

struct numbers {
	int32_t *number;
	size_t count, capacity;
};

/* Where the last arm ended: most come directory by directory. */
struct recent {
	uint64_t changes;
	int32_t node;		/* of TEXT; good while CHANGES has not changed */
	size_t len;
	char text[PATH_MAX];
};

struct inotify {
	struct lw_watch base;
	pthread_mutex_t lock;		/* of everything but what drain owns */
	struct lw_watch_tree tree;
	struct lw_watch_fs fs;
	struct reports pending;
	struct numbers doomed;		/* watches without a node, perhaps */
	struct numbers idle;		/* nodes that may have become useless */
	struct recent recent;
	uint64_t changes;
	uint64_t events, dropped, overflows, refused;
	int last_error;
	/* drain's */
	struct reports telling;
	_Alignas(struct inotify_event) char buffer[BUFFER];
};

/* --- small things --- */

/* Room for one more; false: no memory. */
static bool has_room(void *array, size_t *capacity, size_t count, size_t size)
{
	void **at = array;
	if (count <= *capacity)
		return true;
	size_t more = count + count / 2 + 16;
	void *grown = realloc(*at, more * size);
	if (!grown)
		return false;
	*at = grown;
	*capacity = more;
	return true;
}

static bool push(struct numbers *numbers, int32_t number)
{
	if (!has_room(&numbers->number, &numbers->capacity, numbers->count + 1, sizeof number))
		return false;
	numbers->number[numbers->count++] = number;
	return true;
}

static struct lw_watch_node *node_at(struct inotify *w, int32_t node)
{
	return &w->tree.node[node];
}

/* --- reports --- */

static bool add_path(struct inotify *w, struct reports *r, int32_t node, size_t *len)
{
	*len = lw_watch_tree_path(&w->tree, node, NULL);
	if (!has_room(&r->text, &r->text_capacity, r->size + *len + 1, 1))
		return false;
	lw_watch_tree_path(&w->tree, node, r->text + r->size);
	r->text[r->size + *len] = '\0';
	r->size += *len + 1;
	return true;
}

static void report(struct inotify *w, enum lw_watch_kind kind, int32_t node, const char *name, uint32_t name_len)
{
	struct reports *r = &w->pending;
	size_t len = r->count ? r->report[r->count - 1].len : 0;
	if (!has_room(&r->report, &r->capacity, r->count + 1, sizeof *r->report) || (r->last != node && !add_path(w, r, node, &len))) {
		r->lost = true;
		return;
	}
	r->last = node;
	r->report[r->count++] = (struct report){ .kind = kind, .path = r->size - len - 1, .len = len, .name = name, .name_len = name_len };
}

static void tell(struct reports *r, lw_watch_sink *sink, void *arg)
{
	for (size_t i = 0; i < r->count; i++) {
		const struct report *it = &r->report[i];
		sink(arg, &(struct lw_watch_event){ it->kind, r->text + it->path, it->len, it->name ? it->name : "", it->name_len });
	}
	if (r->lost)
		sink(arg, &(struct lw_watch_event){ .kind = LW_WATCH_ALL, .path = "", .name = "" });
	r->count = r->size = 0;
	r->last = NONE;
	r->lost = false;
}

static void reports_free(struct reports *r)
{
	free(r->report);
	free(r->text);
}

/* --- nodes that go --- */

/* WD may have lost its last node. */
static void release(struct inotify *w, int32_t wd)
{
	if (wd >= 0 && lw_watch_tree_first(&w->tree, wd) == NONE && !push(&w->doomed, wd))
		inotify_rm_watch(w->base.fd, wd);
}

static void remove_doomed(struct inotify *w)
{
	struct numbers *doomed = &w->doomed;
	for (unsigned i = 0; i < DOOMED_AT_ONCE && doomed->count; i++) {
		int32_t wd = doomed->number[--doomed->count];
		if (lw_watch_tree_first(&w->tree, wd) == NONE)
			inotify_rm_watch(w->base.fd, wd); /* fails if its inode has gone */
	}
}

/* A node without children. */
static void remove_node(struct inotify *w, int32_t node)
{
	int32_t wd = node_at(w, node)->wd, target = node_at(w, node)->target;
	if (w->pending.last == node)
		w->pending.last = NONE;
	lw_watch_tree_remove(&w->tree, node);
	w->changes++;
	release(w, wd);
	if (target != NONE)
		push(&w->idle, target); /* no memory: it stays watched, which does no harm */
}

static bool is_useless(struct inotify *w, int32_t node)
{
	const struct lw_watch_node *n = node_at(w, node);
	return (n->flags & (LW_WATCH_LIVE | LW_WATCH_ARMED)) == LW_WATCH_LIVE && n->wd >= 0 && n->child == NONE && n->first_link == NONE;
}

/* NODE and what is above it, as far as nothing needs them. */
static void prune(struct inotify *w, int32_t node)
{
	push(&w->idle, node);
	while (w->idle.count) {
		node = w->idle.number[--w->idle.count];
		while (node != NONE && is_useless(w, node)) {
			int32_t parent = node_at(w, node)->parent;
			remove_node(w, node);
			node = parent;
		}
	}
}

/* NODE and all below. */
static void drop(struct inotify *w, int32_t node)
{
	for (int32_t at = node, up = NONE; at != NONE; at = at == node ? NONE : up) {
		while (node_at(w, at)->child != NONE)
			at = node_at(w, at)->child;
		up = node_at(w, at)->parent;
		remove_node(w, at);
	}
}

/* What NODE and all below it stand for holds no longer: say so. */
static void lose_one(struct inotify *w, int32_t node)
{
	if (lw_watch_tree_is_behind(&w->tree, node))
		node = node_at(w, node)->parent;
	int32_t up = node_at(w, node)->parent;
	uint32_t armed = w->tree.armed;
	size_t reports = w->pending.count;
	report(w, LW_WATCH_SUBTREE, node, NULL, 0);
	drop(w, node);
	if (w->tree.armed == armed)
		w->pending.count = reports;
	w->pending.last = NONE;
	prune(w, up);
}

/* The links that led to what has gone. */
static void lose_links(struct inotify *w)
{
	int32_t link;
	while ((link = node_at(w, LW_WATCH_NOWHERE)->first_link) != NONE)
		lose_one(w, link);
}

static void lose(struct inotify *w, int32_t node)
{
	lose_one(w, node);
	lose_links(w);
}

/* --- looking --- */

static uint32_t follow_if(bool behind, uint32_t mask)
{
	return behind ? mask & ~(uint32_t)IN_DONT_FOLLOW : mask;
}

static int watch_path(struct inotify *w, const char *path, uint32_t mask)
{
	int wd = inotify_add_watch(w->base.fd, *path ? path : "/", mask);
	return wd < 0 ? -errno : wd;
}

/* The path of NODE, terminated. False: it is longer than any path. */
static bool write_path(struct inotify *w, int32_t node, char *path)
{
	size_t len = lw_watch_tree_path(&w->tree, node, NULL);
	if (len >= PATH_MAX)
		return false;
	lw_watch_tree_path(&w->tree, node, path);
	path[len] = '\0';
	return true;
}

/* Does the path of NODE lead to what is watched? */
static bool in_place(struct inotify *w, int32_t node)
{
	char path[PATH_MAX];
	if (!write_path(w, node, path))
		return false;
	const struct lw_watch_node *n = node_at(w, node);
	int wd = watch_path(w, path, n->flags & LW_WATCH_LINK ? LINK : follow_if(lw_watch_tree_is_behind(&w->tree, node), WAY));
	if (wd != n->wd)
		release(w, wd);
	return wd == n->wd;
}

/* --- events --- */

/* The queue was too long. Whatever was not armed again since it was so before is not wanted any longer; the rest is to be. */
static void overflow(struct inotify *w)
{
	w->overflows++;
	w->changes++;
	for (int32_t i = LW_WATCH_NOWHERE + 1; i < w->tree.size; i++)
		if ((node_at(w, i)->flags & (LW_WATCH_LIVE | LW_WATCH_SURE)) == LW_WATCH_LIVE)
			drop(w, i);
	while (node_at(w, LW_WATCH_NOWHERE)->first_link != NONE)
		drop(w, node_at(w, LW_WATCH_NOWHERE)->first_link);
	for (int32_t i = 0; i < w->tree.size; i++)
		node_at(w, i)->flags &= (uint8_t)~LW_WATCH_SURE;
	w->pending.lost = true;
}

/*
 * NAME below a node of WD came or went. What WENT is lost even if it is back by now: in between somebody may have armed, without a look, and read, what was in
 * its place.
 */
static bool lose_moved_name(struct inotify *w, int32_t wd, const char *name, size_t len, bool went)
{
	for (int32_t i = lw_watch_tree_first(&w->tree, wd); i != NONE; i = lw_watch_tree_next(&w->tree, i)) {
		int32_t child = lw_watch_tree_find(&w->tree, i, name, len);
		if (child == NONE || (!went && in_place(w, child)))
			continue;
		lose(w, child);
		return true; /* perhaps more than that went: again */
	}
	return false;
}

/* Tell of each armed node of WD. Whether there was one. */
static bool report_each(struct inotify *w, int32_t wd, enum lw_watch_kind kind, const char *name, size_t len)
{
	bool any = false;
	for (int32_t i = lw_watch_tree_first(&w->tree, wd); i != NONE; i = lw_watch_tree_next(&w->tree, i)) {
		if (!(node_at(w, i)->flags & LW_WATCH_ARMED))
			continue;
		report(w, kind, i, name, (uint32_t)len);
		any = true;
	}
	return any;
}

/* Of a name in a directory. Whether it was of interest. */
static bool take_named(struct inotify *w, const struct inotify_event *e)
{
	size_t len = strnlen(e->name, e->len), lost = 0;
	/* A directory's attributes are the business of its own watch; where there is none, of whoever reads the listing. */
	bool names = e->mask & (NAMES | IN_ISDIR);
	while ((e->mask & NAME_GONE) && lose_moved_name(w, e->wd, e->name, len, e->mask & (IN_DELETE | IN_MOVED_FROM)))
		lost++;
	return report_each(w, e->wd, names ? LW_WATCH_NAMES : LW_WATCH_FILE, e->name, len) || lost;
}

static bool may_search(struct inotify *w, int32_t node)
{
	char path[PATH_MAX];
	return write_path(w, node, path) && faccessat(AT_FDCWD, *path ? path : "/", X_OK, AT_EACCESS) == 0;
}

/* What is below a directory that we may no longer search is not there for us. (Times change more often than rights: so it is asked.) */
static bool lose_barred(struct inotify *w, int32_t wd)
{
	for (int32_t i = lw_watch_tree_first(&w->tree, wd); i != NONE; i = lw_watch_tree_next(&w->tree, i)) {
		if (may_search(w, i))
			continue;
		lose(w, i);
		return true;
	}
	return false;
}

/* Of what is watched itself. What was moved is lost even if it is back by now, for the same reason as a name that went. */
static bool take_own(struct inotify *w, const struct inotify_event *e)
{
	size_t lost = 0;
	if (e->mask & (IN_MOVE_SELF | IN_DELETE_SELF | IN_UNMOUNT | IN_IGNORED))
		for (int32_t i; (i = lw_watch_tree_first(&w->tree, e->wd)) != NONE; lost++)
			lose(w, i);
	while ((e->mask & IN_ATTRIB) && lose_barred(w, e->wd))
		lost++;
	return lost || ((e->mask & IN_ATTRIB) && report_each(w, e->wd, LW_WATCH_NAMES, "", 0));
}

static bool take(struct inotify *w, const struct inotify_event *e)
{
	if (e->mask & IN_Q_OVERFLOW) {
		overflow(w);
		return true;
	}
	if (lw_watch_tree_first(&w->tree, e->wd) == NONE) {
		w->changes++;
		return false;
	}
	return e->len ? take_named(w, e) : take_own(w, e);
}

static int64_t take_all(struct inotify *w, size_t size)
{
	int64_t events = 0;
	const struct inotify_event *e;
	for (size_t at = 0; at < size; at += sizeof *e + e->len, events++) {
		e = (const void *)(w->buffer + at);
		w->dropped += !take(w, e);
	}
	w->events += (uint64_t)events;
	return events;
}

/* Bytes, 0 when the queue is empty, -errno. An event without a name is the smallest: so many are no more than LIMIT, but for what makes one long name fit. */
static ssize_t fill(struct inotify *w, uint64_t limit)
{
	size_t size = limit < BUFFER / sizeof(struct inotify_event) ? (size_t)limit * sizeof(struct inotify_event) : BUFFER;
	ssize_t got;
	do
		got = read(w->base.fd, w->buffer, size < LARGEST_EVENT ? LARGEST_EVENT : size);
	while (got < 0 && errno == EINTR);
	return got >= 0 ? got : errno == EAGAIN ? 0 : -errno;
}

static void swap_reports(struct inotify *w)
{
	struct reports pending = w->pending;
	w->pending = w->telling;
	w->telling = pending;
}

static int64_t inotify_drain(lw_watch *watch, unsigned limit, lw_watch_sink *sink, void *arg)
{
	struct inotify *w = (struct inotify *)watch;
	uint64_t most = limit ? limit : UINT64_MAX, total = 0;
	bool more = true;
	if (!lw_watch_owns_fd(w->base.fd))
		return -EBADF;
	while (more && total < most) {
		ssize_t got = fill(w, most - total);
		if (got < 0)
			return got;
		pthread_mutex_lock(&w->lock);
		total += (uint64_t)take_all(w, (size_t)got);
		more = got || w->doomed.count || w->pending.count || w->pending.lost;
		remove_doomed(w);
		swap_reports(w);
		pthread_mutex_unlock(&w->lock);
		tell(&w->telling, sink, arg);
	}
	return (int64_t)total;
}

/* --- arm --- */

struct walk {
	struct inotify *w;
	uint64_t changes;
	unsigned links;		/* followed */
	bool held;		/* the lock, all the time */
	bool listed;		/* what is armed, see struct place */
};

/* A name to be looked at: NAME_LEN bytes, the last of the first LEN of PATH (of the root and of what is behind a link: none of them), below node PARENT. */
struct place {
	const char *path, *name;
	size_t len, name_len;
	int32_t parent;
	bool armed, behind;
	bool listed;		/* our caller looks for mounts himself */
};

/* What is there. */
struct seen {
	int wd;
	char *target;		/* of a link */
};

static int see_link(struct inotify *w, const char *path, struct seen *seen)
{
	seen->wd = watch_path(w, path, LINK);
	if (seen->wd < 0)
		return seen->wd;
	seen->target = malloc(PATH_MAX);
	if (!seen->target)
		return -ENOMEM;
	ssize_t len = readlink(path, seen->target, PATH_MAX);
	if (len < 0 || len == PATH_MAX)
		return len < 0 ? errno == EINVAL ? -ENOTDIR : -errno : -ENAMETOOLONG;
	seen->target[len] = '\0';
	return 0;
}

/* Watch it, and ask for its file system unless that is KNOWN. Not inlined: links nest, and its buffer must not. */
__attribute__((noinline)) static int see(struct inotify *w, const struct place *at, bool known, struct seen *seen)
{
	struct statfs fs;
	char path[PATH_MAX];
	memcpy(path, at->path, at->len);
	path[at->len] = '\0';
	seen->wd = watch_path(w, path, follow_if(at->behind, at->armed ? ARMED : WAY));
	if (seen->wd == -ENOTDIR && !at->behind)
		return see_link(w, path, seen);
	if (seen->wd < 0)
		return seen->wd;
	if (known)
		return 0;
	if (statfs(at->len ? path : "/", &fs))
		return -errno;
	return lw_watch_reports((uint64_t)fs.f_type) ? 0 : -EOPNOTSUPP;
}

/* Look without the lock. */
static int look(struct walk *walk, const struct place *at, bool known, struct seen *seen)
{
	struct inotify *w = walk->w;
	if (!walk->held)
		pthread_mutex_unlock(&w->lock);
	int error = see(w, at, known, seen);
	if (!walk->held)
		pthread_mutex_lock(&w->lock);
	if (w->changes != walk->changes)
		error = -EAGAIN;
	if (error)
		release(w, seen->wd);
	return error;
}

/* Whether it is on its parent's side of every link: its path tells then whether it is a mount point. */
static bool is_plain(struct inotify *w, const struct place *at)
{
	bool dots = *at->name == '.' && (at->name_len == 1 || (at->name_len == 2 && at->name[1] == '.'));
	return at->parent != NONE && (node_at(w, at->parent)->flags & LW_WATCH_PLAIN) && at->name_len && !at->behind && !dots;
}

/* A directory in an armed one is on the same file system unless it is a mount point. */
static bool fs_is_known(struct inotify *w, const struct place *at)
{
	if (!at->armed)
		return true;
	if (!is_plain(w, at) || !(node_at(w, at->parent)->flags & LW_WATCH_ARMED))
		return false;
	return at->listed ? !lw_watch_fs_may_have_been_mount(&w->fs, at->path, at->len) : !lw_watch_fs_may_be_mount(&w->fs, at->path, at->len);
}

/* NODE's watch is not on what its path leads to now. Its events are in the queue, or have been lost. */
static int replaced(struct inotify *w, int32_t node)
{
	if (node_at(w, node)->flags & LW_WATCH_SURE)
		lose(w, node);
	else
		drop(w, node);
	lose_links(w);
	remove_doomed(w); /* which makes an event: somebody will drain */
	return -EAGAIN;
}

/* *NODE (NONE: a new one) is what was seen. */
static int note(struct inotify *w, const struct place *at, const struct seen *seen, int32_t *node)
{
	if (*node != NONE && node_at(w, *node)->wd >= 0 && node_at(w, *node)->wd != seen->wd)
		return replaced(w, *node);
	int32_t added = *node != NONE ? *node : lw_watch_tree_add(&w->tree, at->parent, at->name, at->name_len);
	if (added < 0)
		return added;
	*node = added;
	if (node_at(w, added)->wd < 0)
		lw_watch_tree_set_wd(&w->tree, added, seen->wd);
	node_at(w, added)->flags |= seen->target ? LW_WATCH_LINK : is_plain(w, at) ? LW_WATCH_SURE | LW_WATCH_PLAIN : LW_WATCH_SURE;
	if (at->armed && !seen->target)
		lw_watch_tree_arm(&w->tree, added);
	return 0;
}

static int reach(struct walk *walk, const char *path, size_t len, bool armed, int32_t *out);

/* OUT (PATH_MAX bytes): TARGET as an absolute path, of a link in the first LEN bytes of PATH. Its length. */
static int resolve(const char *path, size_t len, const char *target, char *out)
{
	size_t size = *target == '/' ? 0 : len;
	memcpy(out, path, size);
	while (*(target += strspn(target, "/"))) {
		size_t name = strcspn(target, "/");
		if (size + name + 2 > PATH_MAX)
			return -ENAMETOOLONG;
		out[size++] = '/';
		memcpy(out + size, target, name);
		size += name;
		target += name;
	}
	return (int)size;
}

/* Watch the way to what node LINK, which was found at AT, leads to. */
static int follow(struct walk *walk, int32_t link, const struct place *at, const char *target)
{
	int32_t node;
	if (++walk->links > MAX_LINKS)
		return -ELOOP;
	char *text = malloc(PATH_MAX);
	if (!text)
		return -ENOMEM;
	int size = resolve(at->path, at->len - at->name_len - 1, target, text);
	int error = size < 0 ? size : reach(walk, text, (size_t)size, false, &node);
	free(text);
	if (error)
		return error;
	lw_watch_tree_set_target(&walk->w->tree, link, node);
	node_at(walk->w, link)->flags |= LW_WATCH_SURE;
	return 0;
}

static int32_t find_place(struct inotify *w, const struct place *at)
{
	return at->parent == NONE ? LW_WATCH_ROOT : lw_watch_tree_find(&w->tree, at->parent, at->name, at->name_len);
}

/* *NODE: AT's, unless it fails before there is one. */
static int step(struct walk *walk, const struct place *at, int32_t *node)
{
	struct inotify *w = walk->w;
	struct seen seen = { .wd = -1 };
	*node = find_place(w, at);
	uint8_t flags = *node == NONE ? 0 : node_at(w, *node)->flags;
	if ((flags & LW_WATCH_SURE) && (!at->armed || (flags & (LW_WATCH_ARMED | LW_WATCH_LINK))))
		return 0;
	int error = look(walk, at, fs_is_known(w, at), &seen);
	*node = find_place(w, at); /* somebody may have been faster */
	if (!error)
		error = note(w, at, &seen, node);
	if (!error && seen.target)
		error = follow(walk, *node, at, seen.target);
	free(seen.target);
	return error;
}

/* The name after AT in the first LEN bytes of its path. */
static struct place next_place(const struct place *at, int32_t node, size_t len, bool armed)
{
	const char *name = at->path + at->len + 1, *slash = memchr(name, '/', len - at->len - 1);
	size_t end = slash ? (size_t)(slash - at->path) : len;
	return (struct place){ .path = at->path, .len = end, .name = name, .name_len = end - at->len - 1, .parent = node, .armed = armed && end == len };
}

/* The directory that holds PATH, which was reached: *NODE. Its length, or 0. */
static size_t start_at_recent(struct inotify *w, const char *path, size_t len, int32_t *node)
{
	const struct recent *recent = &w->recent;
	if (recent->changes != w->changes || !recent->len || len <= recent->len || path[recent->len] != '/' || memcmp(path, recent->text, recent->len))
		return 0;
	*node = recent->node;
	return recent->len;
}

static void remember_recent(struct inotify *w, const struct place *at)
{
	struct recent *recent = &w->recent;
	if (at->behind || at->parent == NONE || (recent->changes == w->changes && recent->node == at->parent))
		return;
	recent->changes = w->changes;
	recent->node = at->parent;
	recent->len = at->len - at->name_len - 1;
	memcpy(recent->text, at->path, recent->len);
}

/* Watch the first LEN bytes of PATH and the way; *OUT: its node. Called and left with the lock held. */
static int reach(struct walk *walk, const char *path, size_t len, bool armed, int32_t *out)
{
	struct place at = { .path = path, .name = "", .parent = NONE, .armed = armed && !len };
	int error = 0;
	at.len = start_at_recent(walk->w, path, len, out);
	if (!at.len)
		error = step(walk, &at, out);
	while (!error && at.len < len) {
		at = next_place(&at, *out, len, armed);
		at.listed = at.armed && walk->listed;
		error = step(walk, &at, out);
	}
	if (!error && armed && (node_at(walk->w, *out)->flags & LW_WATCH_LINK)) {
		at = (struct place){ .path = path, .len = len, .name = LW_WATCH_BEHIND, .name_len = 1, .parent = *out, .armed = true, .behind = true };
		error = step(walk, &at, out);
	}
	if (error && error != -EAGAIN) {
		prune(walk->w, at.parent);
		prune(walk->w, *out);
	} else if (!error) {
		remember_recent(walk->w, &at);
	}
	return error;
}

/* Something may turn while we look: again then. */
static int arm(struct inotify *w, const char *path, size_t len, bool listed)
{
	int error = -EAGAIN;
	int32_t node;
	for (unsigned i = 0; i < MAX_ATTEMPTS && error == -EAGAIN; i++) {
		struct walk walk = { .w = w, .changes = w->changes, .held = i >= PATIENCE, .listed = listed };
		error = reach(&walk, path, len, true, &node);
	}
	return error;
}

static int arm_counted(struct inotify *w, const char *path, size_t len, bool listed)
{
	pthread_mutex_lock(&w->lock);
	int error = len < PATH_MAX ? arm(w, path, len, listed) : -ENAMETOOLONG;
	if (error) {
		w->refused++;
		w->last_error = -error;
	}
	pthread_mutex_unlock(&w->lock);
	return error;
}

static int inotify_arm(lw_watch *watch, const char *path, size_t len)
{
	return arm_counted((struct inotify *)watch, path, len, false);
}

static int inotify_arm_listed(lw_watch *watch, const char *path, size_t len)
{
	return arm_counted((struct inotify *)watch, path, len, true);
}

static int32_t find_path(struct inotify *w, const char *path, size_t len)
{
	int32_t node = LW_WATCH_ROOT;
	for (struct place at = { .path = path }; node != NONE && at.len < len; ) {
		at = next_place(&at, node, len, false);
		node = lw_watch_tree_find(&w->tree, node, at.name, at.name_len);
	}
	return node;
}

/* Links from elsewhere that lead to it lose their way: that is reported, and they can be armed again. */
static void inotify_disarm(lw_watch *watch, const char *path, size_t len)
{
	struct inotify *w = (struct inotify *)watch;
	pthread_mutex_lock(&w->lock);
	lw_watch_fs_refresh(&w->fs); /* for what is armed without a look at the mounts */
	int32_t node = find_path(w, path, len);
	if (node != NONE) {
		int32_t up = node_at(w, node)->parent;
		drop(w, node);
		prune(w, up);
		lose_links(w);
		remove_doomed(w);
	}
	pthread_mutex_unlock(&w->lock);
}

/* --- the rest --- */

static unsigned limit_of(const char *path)
{
	unsigned limit = 0;
	FILE *f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%u", &limit) != 1)
			limit = 0;
		fclose(f);
	}
	return limit;
}

/* EMFILE may mean either; a process that is out of descriptors cannot read a limit either. */
static void explain(int error, char *why)
{
	int spare = error == -EMFILE ? open("/", O_PATH | O_CLOEXEC) : -1;
	if (spare >= 0)
		snprintf(why, LW_WATCH_WHY, "all inotify instances of this user are taken (%u, fs.inotify.max_user_instances): raise it (sysctl), "
			"or end programs that watch files", limit_of("/proc/sys/fs/inotify/max_user_instances"));
	else if (error == -EMFILE)
		snprintf(why, LW_WATCH_WHY, "this process has too many files open: raise its limit (ulimit -n)");
	else
		snprintf(why, LW_WATCH_WHY, "inotify_init1: %s. %s", strerror(-error), lw_watch_remedy(error));
	if (spare >= 0)
		close(spare);
}

static void inotify_destroy(lw_watch *watch)
{
	struct inotify *w = (struct inotify *)watch;
	lw_watch_close_fd(w->base.fd);
	lw_watch_fs_free(&w->fs);
	/* In a child of fork somebody who does not exist here may have been at work: what he left is not touched. */
	if (pthread_mutex_trylock(&w->lock))
		return;
	pthread_mutex_unlock(&w->lock);
	pthread_mutex_destroy(&w->lock);
	lw_watch_tree_free(&w->tree);
	reports_free(&w->pending);
	reports_free(&w->telling);
	free(w->doomed.number);
	free(w->idle.number);
	free(w);
}

static int prepare(struct inotify *w)
{
	w->base = (struct lw_watch){ .ops = &lw_watch_inotify_ops, .fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC) };
	if (w->base.fd < 0)
		return -errno;
	int error = lw_watch_prepare_fd(w->base.fd);
	if (!error)
		error = lw_watch_tree_init(&w->tree);
	if (error) {
		close(w->base.fd);
		return error;
	}
	pthread_mutex_init(&w->lock, NULL);
	lw_watch_fs_init(&w->fs);
	w->pending.last = w->telling.last = NONE;
	return 0;
}

static int inotify_create(const char *const *paths, unsigned count, lw_watch **out, char *why)
{
	struct inotify *w = calloc(1, sizeof *w);
	int error = w ? prepare(w) : -ENOMEM;
	if (error) {
		explain(error, why);
		free(w);
		return error;
	}
	snprintf(why, LW_WATCH_WHY, "a watch per directory, of %u (fs.inotify.max_user_watches)", limit_of("/proc/sys/fs/inotify/max_user_watches"));
	*out = &w->base;
	return 0;
}

static void inotify_stats(lw_watch *watch, struct lw_watch_stats *stats)
{
	struct inotify *w = (struct inotify *)watch;
	pthread_mutex_lock(&w->lock);
	stats->armed = w->tree.armed;
	stats->watches = w->tree.watches;
	stats->events = w->events;
	stats->dropped = w->dropped;
	stats->overflows = w->overflows;
	stats->refused = w->refused;
	stats->last_error = w->last_error;
	pthread_mutex_unlock(&w->lock);
}

const struct lw_watch_ops lw_watch_inotify_ops = {
	.name = "inotify",
	.create = inotify_create,
	.destroy = inotify_destroy,
	.arm = inotify_arm,
	.arm_listed = inotify_arm_listed,
	.disarm = inotify_disarm,
	.drain = inotify_drain,
	.stats = inotify_stats,
};
