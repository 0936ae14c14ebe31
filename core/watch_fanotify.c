/* SPDX-License-Identifier: MIT */
/*
 * watch, by fanotify: one mark for each file system, which sees every change on it, under whatever mount it is made.
 *
 * Arming is bookkeeping. A way is walked once (watch_way.h); each file system that it enters is marked before a name is looked up there. What lies plainly
 * below costs one statx, to know that it is no link and no other mount, or none if the caller knows, and is remembered only as long as a small cache holds it. A root stands for all
 * below it (watch_armed.h): changes in directories that nobody armed are told, too.
 *
 * An event carries the handle of a directory and a name in it. The handle is turned into the path that the directory has now (watch_handles.h), the path
 * into armed ones. Why a path of now will do for an event of then: if it is another, a directory above has been moved or removed since, and that is an event
 * that is still to come, under a path that is a prefix of the old one; should that one not be right any more either, the same holds further up. At last
 * there is one that is, and all below it is put in doubt.
 *
 *     mv /r/a /r/b      seen as /r: "a" went, "b" came      SUBTREE /r/a, SUBTREE /r/b
 *     rm -r /r/a        seen as /r: "a" went                SUBTREE /r/a; events in /r/a itself have a handle that opens no more, and are dropped
 *
 * A link that is turned and an ancestor that is moved are entries that come and go in directories of marked file systems, and roots know what their way leads
 * over. No event tells of mounts (mounts.h).
 *
 * The queue keeps its limit (fs.fanotify.max_queued_events): one without would let kernel memory grow for as long as nobody drains it, as when the daemon is
 * stopped; being told that events were lost costs a rescan.
 *
 * Order: an arm holds the lock from before the mark until the root is in the table, and an event is matched under the lock. So a change that the arm may have
 * missed is matched against the root, or came before the mark and the arm has seen what it led to.
 */
#include "mounts.h"
#include "watch_armed.h"
#include "watch_handles.h"
#include "watch_private.h"
#include "watch_way.h"
#include "hash.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* KNOWN: paths remembered as armed. DEPTH: components of a path whose prefixes are looked at. Events: in bytes. */
enum { KNOWN = 4096, DEPTH = 128, BUFFER = 32 * 1024, LARGEST_EVENT = 512, SMALLEST_EVENT = 48, COMPARED = 16 };

static const uint64_t CAME_OR_WENT = FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO;
/* What stands there is not what stood there. FAN_CREATE does not belong to them: what is created was not there before, or there is an event of how it went. */
static const uint64_t REPLACED = FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO;
static const uint64_t WRITTEN = FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE_WRITE;

/* Of an armed directory: the mount and device that it is on, and the hash of its real path. */
struct spot {
	uint64_t place, real;
};

/* A path that is plainly below a root. */
struct known {
	uint64_t hash;
	struct spot spot;
};

/* What is to be told of one event, once the lock is free again. */
struct report {
	enum lw_watch_kind kind;
	uint32_t path, len;	/* in the text */
};

struct fan {
	lw_watch watch;
	pthread_mutex_t lock;		/* of everything down to the statistics */
	lw_armed *armed;
	lw_handles *handles;
	struct known known[KNOWN];
	uint64_t epoch;			/* goes into KNOWN's hashes */
	uint64_t *points;		/* hashes of what were mount points when they were last looked at, sorted; NULL: not known */
	size_t point_count;
	size_t excess;			/* by how much a real path is longer than the armed one, at most */
	struct lw_watch_stats stats;

	struct report *report;		/* these are the drain's */
	char *text;
	uint32_t reports, report_room;
	size_t used, text_room;
	bool lost;			/* not everything could be noted */
	_Alignas(8) char buffer[BUFFER];
};

/* Reports */

static char *grow_text(struct fan *fan, size_t size)
{
	if (fan->text_room - fan->used < size) {
		size_t room = 2 * fan->text_room + size + 1024;
		char *text = room < UINT32_MAX ? realloc(fan->text, room) : NULL;
		if (!text)
			return NULL;
		fan->text = text;
		fan->text_room = room;
	}
	return fan->text + fan->used;
}

static struct report *grow_reports(struct fan *fan)
{
	if (fan->reports == fan->report_room) {
		uint32_t room = 2 * fan->report_room + 16;
		struct report *report = realloc(fan->report, room * sizeof *report);
		if (!report)
			return NULL;
		fan->report = report;
		fan->report_room = room;
	}
	return &fan->report[fan->reports];
}

/* Roots within roots say the same. Saying it twice does no harm: only a few are compared. */
static bool is_noted(const struct fan *fan, enum lw_watch_kind kind, const char *path, size_t len)
{
	for (uint32_t i = fan->reports > COMPARED ? fan->reports - COMPARED : 0; i < fan->reports; i++)
		if (fan->report[i].kind == kind && fan->report[i].len == len && memcmp(fan->text + fan->report[i].path, path, len) == 0)
			return true;
	return false;
}

/* The path is ABOVE with REST behind it. */
static void note(struct fan *fan, enum lw_watch_kind kind, const char *above, size_t above_len, const char *rest, size_t rest_len)
{
	size_t len = above_len + rest_len;
	char *to = grow_text(fan, len + 1);
	struct report *report = grow_reports(fan);
	if (!to || !report) {
		fan->lost = true;
		return;
	}
	memcpy(to, above, above_len);
	memcpy(to + above_len, rest, rest_len);
	to[len] = '\0';
	if (is_noted(fan, kind, to, len))
		return;
	*report = (struct report){ .kind = kind, .path = (uint32_t)fan->used, .len = (uint32_t)len };
	fan->reports++;
	fan->used += len + 1;
}

static void forget_known(struct fan *fan)
{
	fan->epoch++;
}

/* Whose way it was is armed no longer. */
static void note_broken(struct fan *fan, const char *real, size_t len)
{
	struct lw_armed_root *list = lw_armed_broken(fan->armed, real, len);
	if (list)
		forget_known(fan);
	for (const struct lw_armed_root *root = list; root; root = root->next)
		note(fan, LW_WATCH_SUBTREE, root->text, root->len, "", 0);
	lw_armed_free(list);
}

/* Events */

/* One event, taken apart. */
struct change {
	struct fan *fan;
	uint64_t mask;
	const char *name;	/* "": the directory itself */
	size_t name_len;
	const char *path;	/* of the directory, really */
	size_t len;
	bool interesting;
};

static void match_root(void *arg, const struct lw_armed_root *root)
{
	struct change *change = arg;
	const char *rest = change->path + root->real_len;
	size_t rest_len = change->len - root->real_len;
	change->interesting = true;
	if (change->mask & CAME_OR_WENT || !change->name_len)
		note(change->fan, LW_WATCH_NAMES, root->text, root->len, rest, rest_len);
	if (change->mask & WRITTEN && change->name_len)
		note(change->fan, LW_WATCH_FILE, root->text, root->len, rest, rest_len);
}

/* The directory NAME in it is another one, or gone. */
static void match_subtree(void *arg, const struct lw_armed_root *root)
{
	struct change *change = arg;
	note(change->fan, LW_WATCH_SUBTREE, root->text, root->len, change->path + root->real_len, change->len - root->real_len);
}

static void match_replaced(struct change *change)
{
	struct fan *fan = change->fan;
	char path[PATH_MAX + NAME_MAX + 2];
	if (change->len + 1 + change->name_len >= sizeof path)
		return;
	memcpy(path, change->path, change->len);
	path[change->len] = '/';
	memcpy(path + change->len + 1, change->name, change->name_len);
	struct change below = *change;
	below.path = path;
	below.len = change->len + 1 + change->name_len;
	if (change->mask & FAN_ONDIR)
		lw_armed_above(fan->armed, below.path, below.len, match_subtree, &below);
	uint32_t before = fan->reports;
	note_broken(fan, below.path, below.len);
	change->interesting |= fan->reports != before;
}

static void match(void *arg, const char *path, size_t len)
{
	struct change *change = arg;
	change->path = path;
	change->len = len;
	lw_armed_above(change->fan->armed, path, len, match_root, change);
	if (change->mask & REPLACED && change->name_len)
		match_replaced(change);
}

static void forget_what_moved(struct fan *fan, uint64_t mask)
{
	if (mask & FAN_ONDIR && mask & REPLACED)
		forget_known(fan);
	if (mask & FAN_ONDIR && mask & (FAN_MOVED_FROM | FAN_MOVED_TO))
		lw_handles_moved(fan->handles);
}

static void note_gone_mounts(struct fan *fan)
{
	char *point;
	while ((point = lw_handles_gone(fan->handles))) {
		forget_known(fan);
		note_broken(fan, point, strlen(point));
		free(point);
	}
}

/* The one record that an event has: the directory and the name. */
struct info {
	uint64_t fsid;
	struct file_handle *handle;
	const char *name;
};

static bool find_info(char *at, char *end, struct info *info)
{
	struct fanotify_event_info_header head;
	for (; (size_t)(end - at) >= sizeof(struct fanotify_event_info_fid) + sizeof *info->handle; at += head.len) {
		memcpy(&head, at, sizeof head);
		if (head.len < sizeof head || head.len > (size_t)(end - at))
			return false;
		if (head.info_type != FAN_EVENT_INFO_TYPE_DFID_NAME)
			continue;
		memcpy(&info->fsid, at + offsetof(struct fanotify_event_info_fid, fsid), sizeof info->fsid);
		info->handle = (void *)(at + offsetof(struct fanotify_event_info_fid, handle));
		info->name = (char *)info->handle->f_handle + info->handle->handle_bytes;
		return info->name < at + head.len;
	}
	return false;
}

/* "." is the directory itself. */
static bool is_self(const char *name)
{
	return strcmp(name, ".") == 0;
}

static void take_change(struct fan *fan, uint64_t mask, const struct info *info)
{
	struct change change = { .fan = fan, .mask = mask, .name = info->name, .name_len = is_self(info->name) ? 0 : strlen(info->name) };
	forget_what_moved(fan, mask);
	if (lw_handles_paths(fan->handles, info->fsid, info->handle, match, &change))
		fan->lost = true;
	note_gone_mounts(fan);
	fan->stats.dropped += !change.interesting;
}

static void take_event(struct fan *fan, const struct fanotify_event_metadata *head, char *event, struct info *info)
{
	fan->stats.events++;
	fan->stats.overflows += !!(head->mask & FAN_Q_OVERFLOW);
	if (head->mask & FAN_Q_OVERFLOW)
		fan->lost = true;
	else if (find_info(event + head->metadata_len, event + head->event_len, info))
		take_change(fan, head->mask, info);
	else
		fan->stats.dropped++;
}

static void tell(struct fan *fan, const char *name, lw_watch_sink *sink, void *arg)
{
	const size_t name_len = is_self(name) ? 0 : strlen(name);
	if (fan->lost)
		sink(arg, &(struct lw_watch_event){ .kind = LW_WATCH_ALL, .path = "", .name = "" });
	for (uint32_t i = 0; i < fan->reports; i++) {
		const struct report *report = &fan->report[i];
		struct lw_watch_event event = { .kind = report->kind, .path = fan->text + report->path, .len = report->len, .name = name };
		event.name_len = report->kind == LW_WATCH_SUBTREE ? 0 : name_len;
		sink(arg, &event);
	}
}

/* Every change that is not known any more may have been of a way: nothing is armed. */
static void lose(struct fan *fan)
{
	lw_armed_free(lw_armed_below(fan->armed, "", 0));
	forget_known(fan);
	lw_handles_moved(fan->handles);
	fan->reports = 0;
}

static void consume(struct fan *fan, char *event, lw_watch_sink *sink, void *arg)
{
	struct fanotify_event_metadata head;
	struct info info = { .name = "" };
	memcpy(&head, event, sizeof head);
	fan->reports = 0;
	fan->used = 0;
	fan->lost = false;
	pthread_mutex_lock(&fan->lock);
	take_event(fan, &head, event, &info);
	if (fan->lost)
		lose(fan);
	pthread_mutex_unlock(&fan->lock);
	tell(fan, info.name, sink, arg);
}

static int64_t consume_all(struct fan *fan, size_t size, lw_watch_sink *sink, void *arg)
{
	struct fanotify_event_metadata head;
	int64_t count = 0;
	for (size_t at = 0; at < size; at += head.event_len, count++) {
		if (size - at < sizeof head)
			return -EPROTO;
		memcpy(&head, fan->buffer + at, sizeof head);
		if (head.vers != FANOTIFY_METADATA_VERSION || head.event_len < sizeof head || head.event_len > size - at)
			return -EPROTO;
		consume(fan, fan->buffer + at, sink, arg);
	}
	return count;
}

/* So many bytes that no more events than LEFT fit in, or but a few. */
static size_t room_for(int64_t left)
{
	if (left <= 0 || left >= BUFFER / SMALLEST_EVENT)
		return BUFFER;
	return left * SMALLEST_EVENT > LARGEST_EVENT ? (size_t)left * SMALLEST_EVENT : LARGEST_EVENT;
}

static int64_t fan_drain(lw_watch *watch, unsigned limit, lw_watch_sink *sink, void *arg)
{
	struct fan *fan = (struct fan *)watch;
	int64_t count = 0, more = 0;
	if (!lw_watch_owns_fd(watch->fd))
		return -EBADF;
	while (more >= 0 && (!limit || count < limit)) {
		ssize_t size = read(watch->fd, fan->buffer, room_for(limit - count));
		if (size < 0 && errno == EINTR)
			continue;
		if (size <= 0) {
			more = size < 0 && errno != EAGAIN ? -errno : 0;
			break;
		}
		more = consume_all(fan, (size_t)size, sink, arg);
		count += more > 0 ? more : 0;
	}
	pthread_mutex_lock(&fan->lock);
	lw_handles_rest(fan->handles);
	pthread_mutex_unlock(&fan->lock);
	return more < 0 ? more : count;
}

/* Arming */

/* Mark each file system before anything in it is looked at. */
struct marker {
	struct fan *fan;
	uint64_t place;		/* where the walk was last */
	bool somewhere;
	char *why;		/* may be NULL */
};

static int say(const struct marker *marker, const struct lw_watch_way *way, const struct statfs *st, const char *what, int error)
{
	if (marker->why)
		snprintf(marker->why, LW_WATCH_WHY, "%.300s (file system type 0x%lx) %s: %s", *way->real ? way->real : "/", (unsigned long)st->f_type, what,
			 strerror(-error));
	return error;
}

static uint64_t number_of(const struct statfs *st)
{
	uint64_t fsid;
	memcpy(&fsid, &st->f_fsid, sizeof fsid);
	return fsid;
}

/* Always, and not only where no mark is known: a file system that was unmounted and mounted again has lost it. */
static int mark(const struct fan *fan, int fd)
{
	const uint64_t mask = CAME_OR_WENT | WRITTEN | FAN_ONDIR;
	if (fanotify_mark(fan->watch.fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM | FAN_MARK_ONLYDIR, mask, fd, ".") == 0)
		return 0;
	return errno == ENODEV || errno == EINVAL ? -EOPNOTSUPP : -errno;
}

static int enter(void *arg, const struct lw_watch_way *way)
{
	struct marker *marker = arg;
	struct statfs st;
	if (marker->somewhere && marker->place == way->place)
		return 0;
	marker->somewhere = true;
	marker->place = way->place;
	if (fstatfs(way->fd, &st))
		return -errno;
	if (!lw_watch_reports((uint64_t)st.f_type))
		return say(marker, way, &st, "is not known to report every change", -EOPNOTSUPP);
	int error = mark(marker->fan, way->fd);
	if (error)
		return say(marker, way, &st, error == -EPERM ? "cannot be marked without CAP_SYS_ADMIN" : "cannot be marked", error);
	error = lw_handles_mount(marker->fan->handles, way, number_of(&st));
	if (error)
		say(marker, way, &st, error == -EPERM ? "tells no paths without CAP_DAC_READ_SEARCH" : "tells no paths (open_by_handle_at)", error);
	return error;
}

static int arm_way(struct fan *fan, const char *path, size_t len, char *why)
{
	struct marker marker = { .fan = fan, .why = why };
	struct lw_watch_way way;
	int error = lw_watch_way(path, len, enter, &marker, &way);
	if (error)
		return error;
	error = lw_armed_add(fan->armed, path, len, way.real, way.len, way.links, way.links_len, way.place);
	if (!error && way.len > len && way.len - len > fan->excess)
		fan->excess = way.len - len;
	lw_watch_way_end(&way);
	return error;
}

static struct known *known_at(struct fan *fan, uint64_t hash)
{
	return &fan->known[hash % KNOWN];
}

/* Of a path, as it is remembered now. */
static uint64_t known_hash(const struct fan *fan, uint64_t hash)
{
	return lw_path_hash_below(hash, fan->epoch + 1);
}

static bool is_known(struct fan *fan, uint64_t hash, struct spot *spot)
{
	const struct lw_armed_root *root = lw_armed_find(fan->armed, hash);
	const uint64_t key = known_hash(fan, hash);
	const struct known *known = known_at(fan, key);
	if (!root && known->hash != key)
		return false;
	*spot = root ? (struct spot){ root->place, root->hash[LW_ARMED_REAL] } : known->spot;
	return true;
}

static void keep_known(struct fan *fan, uint64_t hash, const struct spot *spot)
{
	const uint64_t key = known_hash(fan, hash);
	*known_at(fan, key) = (struct known){ .hash = key, .spot = *spot };
}

/* The prefixes of a path, and their hashes. */
struct prefixes {
	unsigned count;
	bool plain;	/* no dots, no slash too many, not too many components */
	uint64_t hash[DEPTH], last[DEPTH];	/* of the prefix, of its last component */
	uint16_t len[DEPTH];
};

static bool has_meaning(const char *component, size_t len)
{
	return len == 0 || (len == 1 && *component == '.') || (len == 2 && component[0] == '.' && component[1] == '.');
}

static void split(const char *path, size_t len, struct prefixes *prefixes)
{
	prefixes->hash[0] = 0;
	prefixes->len[0] = 0;
	prefixes->count = 1;
	prefixes->plain = true;
	for (size_t at = 0; at < len && prefixes->count < DEPTH; prefixes->count++) {
		const char *component = path + at + 1;
		const char *slash = memchr(component, '/', len - at - 1);
		size_t size = slash ? (size_t)(slash - component) : len - at - 1;
		prefixes->plain &= !has_meaning(component, size);
		at += 1 + size;
		prefixes->last[prefixes->count] = lw_hash64(component, size);
		prefixes->hash[prefixes->count] = lw_path_hash_below(prefixes->hash[prefixes->count - 1], prefixes->last[prefixes->count]);
		prefixes->len[prefixes->count] = (uint16_t)at;
	}
	prefixes->plain &= prefixes->len[prefixes->count - 1] == len;
}

/* 1: a directory on the mount at PLACE, and no link to one. 0: not for certain, or something else. */
static int is_plain(const char *path, size_t len, uint64_t place)
{
	char prefix[PATH_MAX];
	struct statx st;
	memcpy(prefix, path, len);
	prefix[len] = '\0';
	if (statx(AT_FDCWD, prefix, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MNT_ID, &st))
		return -errno;
	return S_ISDIR(st.stx_mode) && lw_watch_place(&st) == place;
}

/* 1: armed, as it lies plainly below what is. 0: its way has to be walked. */
static int arm_below(struct fan *fan, const char *path, const struct prefixes *prefixes)
{
	struct spot spot;
	unsigned i = prefixes->count;
	while (i && !is_known(fan, prefixes->hash[i - 1], &spot))
		i--;
	for (int plain = 1; i && i < prefixes->count; i++) {
		plain = is_plain(path, prefixes->len[i], spot.place);
		if (plain <= 0)
			return plain;
		spot.real = lw_path_hash_below(spot.real, prefixes->last[i]);
		keep_known(fan, prefixes->hash[i], &spot);
	}
	return i != 0;
}

static int compare_hashes(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* Right below what is known; that it is a directory, the caller knows. */
static bool arm_right_below(struct fan *fan, const struct prefixes *prefixes)
{
	struct spot spot;
	unsigned i = prefixes->count - 1;
	if (!i || !fan->points || !is_known(fan, prefixes->hash[i - 1], &spot))
		return false;
	spot.real = lw_path_hash_below(spot.real, prefixes->last[i]);
	if (bsearch(&spot.real, fan->points, fan->point_count, sizeof spot.real, compare_hashes))
		return false;
	keep_known(fan, prefixes->hash[i], &spot);
	return true;
}

static int arm_locked(struct fan *fan, const char *path, size_t len, bool listed)
{
	struct prefixes prefixes;
	struct spot spot;
	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	split(path, len, &prefixes);
	if (is_known(fan, prefixes.plain ? prefixes.hash[prefixes.count - 1] : lw_path_hash(path, len), &spot))
		return 0;
	/* Where the real path may be too long, its way is walked to the end. */
	bool plain = prefixes.plain && len + fan->excess < PATH_MAX;
	int armed = plain && listed ? arm_right_below(fan, &prefixes) : 0;
	if (!armed && plain)
		armed = arm_below(fan, path, &prefixes);
	int error = armed ? (armed < 0 ? armed : 0) : arm_way(fan, path, len, NULL);
	fan->stats.armed += !error;
	return error;
}

static int arm(lw_watch *watch, const char *path, size_t len, bool listed)
{
	struct fan *fan = (struct fan *)watch;
	pthread_mutex_lock(&fan->lock);
	int error = arm_locked(fan, path, len, listed);
	if (error) {
		fan->stats.refused++;
		fan->stats.last_error = -error;
	}
	pthread_mutex_unlock(&fan->lock);
	return error;
}

static int fan_arm(lw_watch *watch, const char *path, size_t len)
{
	return arm(watch, path, len, false);
}

static int fan_arm_listed(lw_watch *watch, const char *path, size_t len)
{
	return arm(watch, path, len, true);
}

static void add_point(void *arg, const char *point, size_t len)
{
	struct fan *fan = arg;
	if (fan->points)
		fan->points[fan->point_count] = lw_path_hash(point, len);
	fan->point_count++;
}

static int read_points(struct fan *fan)
{
	lw_mounts *mounts;
	free(fan->points);
	fan->points = NULL;
	fan->point_count = 0;
	int error = lw_mounts_open(&mounts);
	if (error)
		return error;
	lw_mounts_each(mounts, add_point, fan);
	fan->points = malloc((fan->point_count + 1) * sizeof *fan->points);
	fan->point_count = 0;
	if (fan->points) {
		lw_mounts_each(mounts, add_point, fan);
		qsort(fan->points, fan->point_count, sizeof *fan->points, compare_hashes);
	}
	lw_mounts_close(mounts);
	return fan->points ? 0 : -ENOMEM;
}

static void fan_disarm(lw_watch *watch, const char *path, size_t len)
{
	struct fan *fan = (struct fan *)watch;
	pthread_mutex_lock(&fan->lock);
	lw_armed_free(lw_armed_below(fan->armed, path, len));
	forget_known(fan);
	read_points(fan); /* that failed: every directory is looked at */
	pthread_mutex_unlock(&fan->lock);
}

static void fan_stats(lw_watch *watch, struct lw_watch_stats *stats)
{
	struct fan *fan = (struct fan *)watch;
	pthread_mutex_lock(&fan->lock);
	fan->stats.backend = stats->backend;
	fan->stats.watches = lw_handles_count(fan->handles);
	*stats = fan->stats;
	pthread_mutex_unlock(&fan->lock);
}

/* Creating */

static void fan_destroy(lw_watch *watch)
{
	struct fan *fan = (struct fan *)watch;
	if (lw_watch_owns_fd(watch->fd))
		close(watch->fd);
	lw_armed_destroy(fan->armed);
	lw_handles_destroy(fan->handles);
	pthread_mutex_destroy(&fan->lock);
	free(fan->points);
	free(fan->report);
	free(fan->text);
	free(fan);
}

static int open_queue(struct fan *fan, char *why)
{
	fan->watch.fd = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY);
	int error = fan->watch.fd < 0 ? -errno : lw_watch_prepare_fd(fan->watch.fd);
	if (!error)
		return 0;
	const char *remedy = error == -EPERM  ? "needs CAP_SYS_ADMIN"
			   : error == -EINVAL ? "needs Linux 5.9"
			   : error == -EMFILE ? "no group is left; raise fs.fanotify.max_user_groups (sysctl)"
					      : "this kernel or container has none";
	snprintf(why, LW_WATCH_WHY, "%s: %s", strerror(-error), remedy);
	return error == -EINVAL ? -ENOSYS : error;
}

/* Of one of the paths. What no backend could watch, or is not there, says nothing about this one. */
static int try_path(struct fan *fan, const char *path, bool *works, char *why)
{
	struct statfs st;
	size_t len = strlen(path);
	len -= len && path[len - 1] == '/';
	if (statfs(*path ? path : "/", &st) || !lw_watch_reports((uint64_t)st.f_type))
		return 0;
	int error = arm_way(fan, path, len, why);
	lw_armed_free(lw_armed_below(fan->armed, "", 0));
	*works |= !error;
	return error;
}

static int try_paths(struct fan *fan, const char *const *paths, unsigned count, char *why)
{
	static const char *const root[] = { "/" };
	bool works = false;
	int error = 0;
	paths = count ? paths : root;
	count = count ? count : 1;
	for (unsigned i = 0; i < count && !error; i++)
		error = try_path(fan, paths[i], &works, why);
	if (error || works)
		return error;
	snprintf(why, LW_WATCH_WHY, "%s is not on a file system that is known to report every change", paths[0]);
	return -EOPNOTSUPP;
}

static int fan_create(const char *const *paths, unsigned count, lw_watch **out, char *why)
{
	struct fan *fan = calloc(1, sizeof *fan);
	if (!fan)
		return -ENOMEM;
	fan->watch = (lw_watch){ .ops = &lw_watch_fanotify_ops, .fd = -1 };
	pthread_mutex_init(&fan->lock, NULL);
	int error = lw_armed_create(&fan->armed);
	if (!error)
		error = lw_handles_create(&fan->handles);
	if (!error)
		error = open_queue(fan, why);
	if (!error)
		error = read_points(fan);
	if (!error)
		error = try_paths(fan, paths, count, why);
	if (error) {
		fan_destroy(&fan->watch);
		return error;
	}
	snprintf(why, LW_WATCH_WHY, "one mark for each file system");
	*out = &fan->watch;
	return 0;
}

const struct lw_watch_ops lw_watch_fanotify_ops = {
	.name = "fanotify",
	.create = fan_create,
	.destroy = fan_destroy,
	.arm = fan_arm,
	.arm_listed = fan_arm_listed,
	.disarm = fan_disarm,
	.drain = fan_drain,
	.stats = fan_stats,
};
