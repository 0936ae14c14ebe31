/* SPDX-License-Identifier: MIT */
/* watch: see watch.h. The choice of a backend, what all have in common, and rescan, which has no events at all. */
#include "watch_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

static const struct lw_watch_ops rescan_ops;

static const struct lw_watch_ops *const backends[] = {
	[LW_WATCH_FANOTIFY] = &lw_watch_fanotify_ops,
	[LW_WATCH_INOTIFY] = &lw_watch_inotify_ops,
	[LW_WATCH_RESCAN] = &rescan_ops,
};

static int create(enum lw_watch_backend backend, const char *const *paths, unsigned count, lw_watch **out, char *why)
{
	return backends[backend]->create(paths, count, out, why);
}

/*
 * The first that works. WHY: what it says, and before it why the better ones do not work.
 *
 * fanotify would be cheaper to set up, and comes second all the same: its queue holds the events of whole file systems. On a machine that wrote 2,000 times a second elsewhere
 * whoever asked found something in it most of the time, and had to look for himself.
 */
static int create_best(const char *const *paths, unsigned count, lw_watch **out, char *why)
{
	static const enum lw_watch_backend order[] = { LW_WATCH_INOTIFY, LW_WATCH_FANOTIFY, LW_WATCH_RESCAN };
	int error = -ENOSYS;
	for (size_t i = 0; i < sizeof order / sizeof *order && error; i++) {
		char said[LW_WATCH_WHY] = "";
		size_t len = strlen(why);
		error = create(order[i], paths, count, out, said);
		snprintf(why + len, LW_WATCH_WHY - len, "%s%s: %s", len ? "; " : "", backends[order[i]]->name, said);
	}
	return error;
}

int lw_watch_create(enum lw_watch_backend backend, const char *const *paths, unsigned count, lw_watch **out, char *why)
{
	char unwanted[LW_WATCH_WHY];
	*out = NULL;
	why = why ? why : unwanted;
	*why = '\0';
	return backend == LW_WATCH_AUTO ? create_best(paths, count, out, why) : create(backend, paths, count, out, why);
}

void lw_watch_destroy(lw_watch *watch)
{
	if (watch)
		watch->ops->destroy(watch);
}

int lw_watch_fd(const lw_watch *watch)
{
	return watch->fd;
}

int lw_watch_arm(lw_watch *watch, const char *path, size_t len)
{
	return watch->ops->arm(watch, path, len);
}

int lw_watch_arm_listed(lw_watch *watch, const char *path, size_t len)
{
	return watch->ops->arm_listed ? watch->ops->arm_listed(watch, path, len) : watch->ops->arm(watch, path, len);
}

void lw_watch_disarm(lw_watch *watch, const char *path, size_t len)
{
	watch->ops->disarm(watch, path, len);
}

int64_t lw_watch_drain(lw_watch *watch, unsigned limit, lw_watch_sink *sink, void *arg)
{
	return watch->ops->drain(watch, limit, sink, arg);
}

void lw_watch_stats(lw_watch *watch, struct lw_watch_stats *stats)
{
	*stats = (struct lw_watch_stats){ .backend = watch->ops->name };
	watch->ops->stats(watch, stats);
}

const char *lw_watch_remedy(int error)
{
	switch (error < 0 ? -error : error) {
	case EOPNOTSUPP:
		return "not every change on this file system is reported (network, FUSE, overlay): it is compared with what is there instead";
	case EXDEV:
		return "fanotify does not report btrfs subvolumes; inotify does";
	case ENOSPC:
		return "no inotify watch is left; raise fs.inotify.max_user_watches (sysctl), or, as root, use fanotify";
	case EMFILE:
		return "no inotify instance is left; raise fs.inotify.max_user_instances (sysctl), or end programs that watch files";
	case EPERM:
		return "not permitted; fanotify needs CAP_SYS_ADMIN";
	case EACCES:
		return "not permitted to read it or a directory above it, without which it cannot be watched";
	case ENOMEM:
		return "no memory left, or beyond the limit of the control group";
	case ENOSYS:
		return "this kernel or container has no such interface";
	default:
		return strerror(error < 0 ? -error : error);
	}
}

int lw_watch_signal(void)
{
	/* Not the first ones, which libc's threads and libraries take. */
	return SIGRTMAX - 3;
}

int lw_watch_prepare_fd(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETSIG, lw_watch_signal()) < 0)
		return -errno;
	return 0;
}

bool lw_watch_owns_fd(int fd)
{
	return fd >= 0 && fcntl(fd, F_GETSIG) == lw_watch_signal();
}

void lw_watch_close_fd(int fd)
{
	if (lw_watch_owns_fd(fd))
		close(fd);
}

bool lw_watch_reports(uint64_t type)
{
	/* Local ones, where each change comes by this kernel's VFS, under the inode that is watched. */
	static const uint32_t known[] = { EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC, F2FS_SUPER_MAGIC, RAMFS_MAGIC };
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (type == known[i])
			return true;
	return false;
}

/* Rescan */

static int rescan_create(const char *const *paths, unsigned count, lw_watch **out, char *why)
{
	lw_watch *watch = calloc(1, sizeof *watch);
	if (!watch)
		return -ENOMEM;
	*watch = (lw_watch){ .ops = &rescan_ops, .fd = -1 };
	snprintf(why, LW_WATCH_WHY, "no events: everything is compared with what is there");
	*out = watch;
	return 0;
}

static void rescan_destroy(lw_watch *watch)
{
	free(watch);
}

static int rescan_arm(lw_watch *watch, const char *path, size_t len)
{
	return -EOPNOTSUPP;
}

static void rescan_disarm(lw_watch *watch, const char *path, size_t len)
{
}

static int64_t rescan_drain(lw_watch *watch, unsigned limit, lw_watch_sink *sink, void *arg)
{
	return 0;
}

static void rescan_stats(lw_watch *watch, struct lw_watch_stats *stats)
{
}

static const struct lw_watch_ops rescan_ops = {
	.name = "rescan",
	.create = rescan_create,
	.destroy = rescan_destroy,
	.arm = rescan_arm,
	.disarm = rescan_disarm,
	.drain = rescan_drain,
	.stats = rescan_stats,
};
