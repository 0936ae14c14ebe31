/* SPDX-License-Identifier: MIT */
/*
 * fresh: this process's own watch. Nobody else reads its queue, so an empty queue proves that every change has been told; what is in it is drained by the check.
 *
 *     program                               check
 *     write(f) returns: event is queued
 *                                           the descriptor is ours still (F_GETSIG), or everything is lost
 *                                           poll: not empty -> drain, tell, poll again
 *                                           poll: empty -> all changes before this poll have been told
 *
 * A mount over a directory is no event: the mount table's own descriptor is polled beside the queue.
 */
#include "fresh.h"
#include "hash.h"
#include "instances.h"
#include "mounts.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ROUNDS: of draining in one check, so many events each. Whoever writes faster than that is not waited for. */
enum { ROUNDS = 16, EVENTS = 1024 };

struct own {
	struct lw_fresh fresh;
	lw_watch *watch;		/* NULL: not needed yet, or not to be had */
	lw_mounts *mounts;
	int instance;			/* our share of the user's limit; -1: none */
	bool gone;			/* no watch, now or later */
	char why[LW_WATCH_WHY];
};

struct telling {
	struct own *own;
	lw_fresh_sink *sink;
	void *arg;
};

static void give_up(struct own *own, const char *why)
{
	snprintf(own->why, sizeof own->why, "%s", why);
	lw_watch_destroy(own->watch);
	lw_mounts_close(own->mounts);
	lw_watch_close_fd(own->instance);
	own->watch = NULL;
	own->mounts = NULL;
	own->instance = -1;
	own->gone = true;
}

static void tell(struct telling *telling, const struct lw_change *change)
{
	telling->own->fresh.stats.changes++;
	telling->sink(telling->arg, change);
}

static void tell_path(struct telling *telling, uint64_t hash)
{
	tell(telling, &(struct lw_change){ .kind = LW_CHANGE_PATH, .hash = hash });
}

static void tell_name(struct telling *telling, const struct lw_watch_event *event)
{
	tell_path(telling, lw_hash64_below(event->path, event->len, event->name, event->name_len));
}

static void on_event(void *arg, const struct lw_watch_event *event)
{
	struct telling *telling = arg;
	switch (event->kind) {
	case LW_WATCH_NAMES:
		tell_path(telling, lw_hash64(event->path, event->len));
		/* fallthrough */
	case LW_WATCH_FILE:
		if (event->name_len)
			tell_name(telling, event);
		return;
	case LW_WATCH_SUBTREE:
		tell(telling, &(struct lw_change){ .kind = LW_CHANGE_SUBTREE, .path = event->path, .len = event->len });
		return;
	case LW_WATCH_ALL:
		tell(telling, &(struct lw_change){ .kind = LW_CHANGE_ALL });
		return;
	}
}

/* Other directories may have any path now: the point is a real path, and what was armed may have been reached by links. */
static void on_mount(void *arg, const char *point, size_t len)
{
	struct telling *telling = arg;
	lw_watch_disarm(telling->own->watch, "", 0);
	tell(telling, &(struct lw_change){ .kind = LW_CHANGE_ALL });
}

/* Whether nobody has closed our descriptors behind our back and given their numbers to something else. Those who do close all that they find. */
static bool are_ours(const struct own *own)
{
	return lw_watch_owns_fd(lw_watch_fd(own->watch));
}

/* 1: something is to be told. 0: nothing. -1: cannot tell. */
static int look(const struct own *own)
{
	struct pollfd fds[] = {
		{ .fd = lw_watch_fd(own->watch), .events = POLLIN },
		{ .fd = lw_mounts_fd(own->mounts), .events = POLLPRI },
	};
	int count = poll(fds, 2, 0);
	return count < 0 && errno == EINTR ? 1 : count;
}

static bool own_check(lw_fresh *fresh, lw_fresh_sink *sink, void *arg)
{
	struct own *own = (struct own *)fresh;
	struct telling telling = { .own = own, .sink = sink, .arg = arg };
	if (!own->watch)
		return false;
	if (!are_ours(own)) {
		give_up(own, "the descriptor of the watch was closed by the program");
		return false;
	}
	for (unsigned round = 0; round < ROUNDS; round++) {
		int found = look(own);
		if (found <= 0)
			return found == 0;
		if (lw_mounts_changed(own->mounts, on_mount, &telling) < 0 || lw_watch_drain(own->watch, EVENTS, on_event, &telling) < 0) {
			give_up(own, "the queue of events cannot be read");
			return false;
		}
	}
	return false;
}

/* 0, or -errno and WHY. */
static int open_watch(struct own *own, char *why)
{
	int error = lw_instance_take(&own->instance);
	if (error == -EMFILE)
		snprintf(why, LW_WATCH_WHY, "programs that watch for themselves have taken half of the inotify instances of this user; raise fs.inotify.max_user_instances "
			"(sysctl), or run `ladewerk watch`, which is one for all");
	else if (error)
		snprintf(why, LW_WATCH_WHY, "no place in the user's runtime directory (XDG_RUNTIME_DIR): %s", strerror(-error));
	/* Marked as ours first: what is not is not given back. */
	if (!error)
		error = lw_watch_prepare_fd(own->instance);
	return error ? error : lw_watch_create(LW_WATCH_INOTIFY, NULL, 0, &own->watch, why);
}

static bool start(struct own *own)
{
	char why[LW_WATCH_WHY] = "";
	int error = open_watch(own, why);
	if (!error)
		error = lw_mounts_open(&own->mounts);
	if (error)
		give_up(own, *why ? why : strerror(-error));
	return !error;
}

/* A link that leads nowhere would come to life without an event above it. */
static bool is_link(const char *path)
{
	struct stat st;
	return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

static int arm_above(struct own *own, const char *path, size_t len)
{
	char above[PATH_MAX];
	const char *slash = memrchr(path, '/', len);
	size_t above_len = slash ? (size_t)(slash - path) : 0;
	if (!slash || above_len >= sizeof above)
		return -EOPNOTSUPP;
	memcpy(above, path, above_len);
	above[above_len] = '\0';
	int error = lw_watch_arm(own->watch, above, above_len);
	return error ? error : is_link(path) ? -EOPNOTSUPP : 0;
}

static enum lw_armed own_arm(lw_fresh *fresh, const char *path, size_t len)
{
	struct own *own = (struct own *)fresh;
	if (own->gone || (!own->watch && !start(own)))
		return LW_ARMED_NOT;
	int error = lw_watch_arm(own->watch, path, len);
	if (!error)
		return LW_ARMED;
	if ((error == -ENOENT || error == -ENOTDIR) && arm_above(own, path, len) == 0)
		return LW_ARMED_ABOVE;
	/* What is not there, and nothing above it, needs no remedy. */
	if (error != -ENOENT && error != -ENOTDIR)
		snprintf(own->why, sizeof own->why, "%.300s: %s", *path ? path : "/", lw_watch_remedy(error));
	return LW_ARMED_NOT;
}

static void own_forked(lw_fresh *fresh)
{
	/* The queue is the parent's too: who reads from it takes from the other. */
	give_up((struct own *)fresh, "a forked child has no watch of its own");
}

static void own_destroy(lw_fresh *fresh)
{
	give_up((struct own *)fresh, "");
	free(fresh);
}

static const struct lw_fresh_ops own_ops = { .check = own_check, .arm = own_arm, .forked = own_forked, .destroy = own_destroy };

lw_fresh *lw_fresh_own(void)
{
	struct own *own = calloc(1, sizeof *own);
	if (!own)
		return NULL;
	*own = (struct own){ .fresh = { .ops = &own_ops, .stats = { .by = "process", .backend = "inotify" } }, .instance = -1 };
	own->fresh.stats.why = own->why;
	return &own->fresh;
}
