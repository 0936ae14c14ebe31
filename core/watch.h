/* SPDX-License-Identifier: MIT */
/*
 * watch: what has changed in directories, by the kernel's own events.
 *
 *     lw_watch_arm(w, path)     from here on everything is reported
 *     read what is at PATH      only now: what changes meanwhile is reported
 *     ...
 *     poll(lw_watch_fd(w))      nothing to read: nothing has changed. Every change whose system call has returned is in the queue
 *     lw_watch_drain(w, ...)    what it was
 *
 * One contract, three backends, one file each:
 *
 *     fanotify   one mark for the whole file system (CAP_SYS_ADMIN; not on btrfs subvolumes, overlays, FUSE): arming costs next to nothing
 *     inotify    one watch per directory, of the user's fs.inotify.max_user_watches
 *     rescan     no events: nothing can be armed, and lw_watch_fd() is -1. Whoever uses it compares stamps (revalidate.h)
 *
 * Events are hints: they say where to look, never what is there now. They are merged, and their order across directories means nothing.
 *
 * What is never reported, so nobody may rely on it (tests/core/watch_blind.c shows each): stores through mmap, writes by libaio, a file changed under another
 * of its names (hard links) or through a link that leads to it, changes below an overlay's or FUSE's surface, what is mounted and, by fanotify, unmounted (mounts.h:
 * disarm what is at the mount point, then arm it again).
 * File systems that are not known to report everything are refused (-EOPNOTSUPP).
 *
 * The way. Names on the way to PATH decide what PATH means. Armed with it are all ancestors (moved, removed) and all links on the way (turned, removed), and the
 * way to what they lead to. Not the rights on it: who may go there is asked when somebody goes. Of an armed directory rights are watched, with inotify: where this
 * process may no longer search it, what is below is lost (SUBTREE). (fanotify is root's.)
 *
 * Paths are absolute, without a trailing slash, terminated; "" is the root of everything.
 *
 * Threads: arm, disarm and stats from any; create, drain and destroy from one at a time. The sink runs inside lw_watch_drain() and may arm and disarm.
 * fork: the queue is shared with the parent. The child calls lw_watch_destroy() and nothing else. exec: the descriptor is closed.
 */
#ifndef LW_WATCH_H
#define LW_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lw_watch lw_watch;

enum lw_watch_backend { LW_WATCH_AUTO, LW_WATCH_FANOTIFY, LW_WATCH_INOTIFY, LW_WATCH_RESCAN };
enum { LW_WATCH_WHY = 512 };

/**
 * AUTO: inotify, else fanotify, else rescan. PATHS, COUNT of them, need not be all that will be armed, and may be none. WHY (LW_WATCH_WHY bytes, may be NULL) says which one and why, or what is missing and what would help. 0, or -errno: -EMFILE (no instance left: fs.inotify.max_user_instances), -EPERM, -ENOSYS, -ENOMEM.
 */
int lw_watch_create(enum lw_watch_backend backend, const char *const *paths, unsigned count, lw_watch **out, char *why);
/** NULL is allowed. */
void lw_watch_destroy(lw_watch *watch);

/** For poll(2): readable while something has not been drained. Non-blocking, close-on-exec, signal number lw_watch_signal() set (F_SETSIG). -1 with rescan. */
int lw_watch_fd(const lw_watch *watch);

/**
 * From 0 on, changes in directory PATH and on the way to it are reported. Again: nothing happens, and that is cheap.
 * -EOPNOTSUPP (file system), -ENOSPC (fs.inotify.max_user_watches), -ENOMEM, -ENOENT, -ENOTDIR, -ELOOP, -EACCES, ...: nothing is.
 */
int lw_watch_arm(lw_watch *watch, const char *path, size_t len);

/**
 * The same, for a directory that a listing of the one above it, read after that was armed, calls a directory (DT_DIR): no link, that is. Cheaper: with fanotify no system
 * call is made. For callers who ask mounts.h what has changed since before the watch was created, and disarm that: what has been mounted over PATH since the last
 * lw_watch_disarm(), of any path, is not looked for.
 */
int lw_watch_arm_listed(lw_watch *watch, const char *path, size_t len);

/** Nothing at PATH and below it needs to be reported any longer (what is in the queue may be). Which directories are mount points is looked at again. */
void lw_watch_disarm(lw_watch *watch, const char *path, size_t len);

enum lw_watch_kind {
	/* NAME of directory PATH came, went or was replaced (LEN 0: unknown which one, or the directory's own mode changed): its listing may be another. */
	LW_WATCH_NAMES,
	/* File NAME of directory PATH was written to, or its attributes changed. */
	LW_WATCH_FILE,
	/*
	 * Nothing known of PATH (which may be on the way to what was armed) and of what is below it holds: it was moved, removed, unmounted, a link on the way to it was
	 * turned. It is no longer armed, nor is what is below.
	 */
	LW_WATCH_SUBTREE,
	/* The queue overflowed: nothing holds. Arm again, then read again, all of it: what a path that was armed leads to may be another directory now. */
	LW_WATCH_ALL,
};

/** Pointers are good during the call. NAME is not terminated. */
struct lw_watch_event {
	enum lw_watch_kind kind;
	const char *path;	/* as it was armed; terminated */
	size_t len;
	const char *name;
	size_t name_len;
};

typedef void lw_watch_sink(void *arg, const struct lw_watch_event *event);

/** Read and report until the queue is empty, about LIMIT events at most (0: any number). Events read (0: it was empty), or -errno (the queue is broken: nothing holds any more). */
int64_t lw_watch_drain(lw_watch *watch, unsigned limit, lw_watch_sink *sink, void *arg);

struct lw_watch_stats {
	const char *backend;		/* "fanotify", "inotify", "rescan" */
	uint64_t armed;			/* directories, as asked for (fanotify, which does not remember them: since the start) */
	uint64_t watches;		/* that the kernel holds for them */
	uint64_t events, dropped;	/* read; of them of no interest */
	uint64_t overflows;
	uint64_t refused;		/* arms that failed, */
	int last_error;			/* the last of them with this errno */
};
void lw_watch_stats(lw_watch *watch, struct lw_watch_stats *stats);

/** A sentence on errno value ERROR of create or arm, with the remedy if there is one. Good for as long as that of strerror(). */
const char *lw_watch_remedy(int error);

/**
 * The signal number that marks a descriptor as ours (never sent: no owner is set). A number that was closed behind our back and given to another file
 * has another one: fcntl(fd, F_GETSIG).
 */
int lw_watch_signal(void);

/** Make FD non-blocking, close-on-exec and marked as ours (lw_watch_signal()). 0 or -errno. */
int lw_watch_prepare_fd(int fd);
/** Whether FD is a descriptor of ours still. */
bool lw_watch_owns_fd(int fd);
/** Close FD, if it is. */
void lw_watch_close_fd(int fd);

#endif
