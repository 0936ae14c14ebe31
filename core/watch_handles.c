/* SPDX-License-Identifier: MIT */
/* watch_handles: see watch_handles.h. The cache has one place for each hash: a directory in which much happens soon has its own again. */
#include "watch_handles.h"
#include "hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CACHE = 512 };

struct mount {
	struct mount *next;
	uint64_t place;
	uint64_t serial;	/* its number here, never used again */
	uint64_t fsid;
	int fd;			/* -1: not open */
	bool gone;
	size_t len;
	char point[];
};

struct cached {
	struct lw_hash128 key;
	char *path;
	size_t len;
};

struct lw_handles {
	struct mount *mounts;
	uint64_t serials;
	uint64_t moves;		/* goes into the keys */
	struct cached cache[CACHE];
};

int lw_handles_create(lw_handles **out)
{
	*out = calloc(1, sizeof **out);
	return *out ? 0 : -ENOMEM;
}

void lw_handles_destroy(lw_handles *handles)
{
	if (!handles)
		return;
	lw_handles_rest(handles);
	for (struct mount *mount = handles->mounts, *next; mount; mount = next) {
		next = mount->next;
		free(mount);
	}
	for (unsigned i = 0; i < CACHE; i++)
		free(handles->cache[i].path);
	free(handles);
}

/* Whether handles can be opened there, and have a path. */
static int try_handle(int fd)
{
	struct { struct file_handle head; unsigned char bytes[MAX_HANDLE_SZ]; } handle = { .head.handle_bytes = MAX_HANDLE_SZ };
	char name[64], path[PATH_MAX];
	int mount_id;
	int mount = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int error = mount < 0 || name_to_handle_at(fd, "", &handle.head, &mount_id, AT_EMPTY_PATH) ? -errno : 0;
	int dir = error ? -1 : open_by_handle_at(mount, &handle.head, O_PATH | O_CLOEXEC);
	if (!error && dir < 0)
		error = -errno;
	snprintf(name, sizeof name, "/proc/self/fd/%d", dir);
	if (!error && readlink(name, path, sizeof path) < 0)
		error = -errno;
	if (dir >= 0)
		close(dir);
	if (mount >= 0)
		close(mount);
	return error == -EINVAL ? -EOPNOTSUPP : error;
}

/* A way that comes back to a mount from below is not at its point. */
static bool is_known(const lw_handles *handles, const struct lw_watch_way *way, uint64_t fsid)
{
	for (const struct mount *mount = handles->mounts; mount; mount = mount->next)
		if (mount->place == way->place && mount->fsid == fsid && !mount->gone && way->len >= mount->len &&
		    memcmp(way->real, mount->point, mount->len) == 0 && (way->len == mount->len || way->real[mount->len] == '/'))
			return true;
	return false;
}

int lw_handles_mount(lw_handles *handles, const struct lw_watch_way *way, uint64_t fsid)
{
	if (is_known(handles, way, fsid))
		return 0;
	int error = try_handle(way->fd);
	struct mount *mount = error ? NULL : malloc(sizeof *mount + way->len + 1);
	if (!mount)
		return error ? error : -ENOMEM;
	*mount = (struct mount){ .next = handles->mounts, .place = way->place, .serial = handles->serials++, .fsid = fsid, .fd = -1, .len = way->len };
	memcpy(mount->point, way->real, way->len + 1);
	handles->mounts = mount;
	return 0;
}

static bool is_counted(const struct mount *mount)
{
	for (const struct mount *other = mount->next; other; other = other->next)
		if (other->fsid == mount->fsid)
			return true;
	return false;
}

unsigned lw_handles_count(const lw_handles *handles)
{
	unsigned count = 0;
	for (const struct mount *mount = handles->mounts; mount; mount = mount->next)
		count += !is_counted(mount);
	return count;
}

/* -ENOENT: another one is there now, or none. */
static int check_mount(int fd, const struct mount *mount)
{
	struct statx st;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st))
		return -errno;
	return lw_watch_place(&st) == mount->place ? 0 : -ENOENT;
}

static int open_mount(struct mount *mount)
{
	if (mount->fd >= 0)
		return 0;
	int fd = open(mount->len ? mount->point : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int error = fd < 0 ? -errno : check_mount(fd, mount);
	if (error && fd >= 0)
		close(fd);
	mount->fd = error ? -1 : fd;
	return error;
}

static struct cached *find_cached(lw_handles *handles, const struct mount *mount, const struct file_handle *handle)
{
	unsigned char bytes[2 * sizeof(uint64_t) + sizeof *handle + MAX_HANDLE_SZ];
	const uint64_t salt[2] = { mount->serial, handles->moves };
	size_t size = sizeof *handle + handle->handle_bytes;
	memcpy(bytes, salt, sizeof salt);
	memcpy(bytes + sizeof salt, handle, size);
	struct lw_hash128 key = lw_hash128(bytes, sizeof salt + size);
	struct cached *cached = &handles->cache[key.lo % CACHE];
	if (cached->path && lw_hash128_cmp(cached->key, key) == 0)
		return cached;
	free(cached->path);
	*cached = (struct cached){ .key = key };
	return cached;
}

/* "/" is "", as everywhere. */
static int keep_path(int fd, struct cached *cached)
{
	char name[64], path[PATH_MAX];
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	ssize_t len = readlink(name, path, sizeof path);
	if (len < 0)
		return -errno;
	len = len == 1 ? 0 : len;
	cached->path = malloc((size_t)len + 1);
	if (!cached->path)
		return -ENOMEM;
	memcpy(cached->path, path, (size_t)len);
	cached->path[len] = '\0';
	cached->len = (size_t)len;
	return 0;
}

static int find_path(struct mount *mount, struct file_handle *handle, struct cached *cached)
{
	int error = open_mount(mount);
	if (error) {
		mount->gone = error == -ENOENT || error == -ENOTDIR || error == -ELOOP;
		return mount->gone ? 0 : error;
	}
	int fd = open_by_handle_at(mount->fd, handle, O_PATH | O_CLOEXEC);
	error = fd < 0 ? -errno : keep_path(fd, cached);
	if (fd >= 0)
		close(fd);
	/* It was removed, or lies too deep to have been armed. */
	return error == -ESTALE || error == -ENAMETOOLONG ? 0 : error;
}

int lw_handles_paths(lw_handles *handles, uint64_t fsid, struct file_handle *handle, lw_handles_each *each, void *arg)
{
	if (handle->handle_bytes > MAX_HANDLE_SZ)
		return -EPROTO;
	for (struct mount *mount = handles->mounts; mount; mount = mount->next) {
		if (mount->fsid != fsid || mount->gone)
			continue;
		struct cached *cached = find_cached(handles, mount, handle);
		int error = cached->path ? 0 : find_path(mount, handle, cached);
		if (error)
			return error;
		if (cached->path)
			each(arg, cached->path, cached->len);
	}
	return 0;
}

char *lw_handles_gone(lw_handles *handles)
{
	struct mount **at = &handles->mounts;
	while (*at && !(*at)->gone)
		at = &(*at)->next;
	struct mount *mount = *at;
	char *point = mount ? strdup(mount->point) : NULL;
	if (!point)
		return NULL;
	*at = mount->next;
	free(mount);
	return point;
}

void lw_handles_moved(lw_handles *handles)
{
	handles->moves++;
}

void lw_handles_rest(lw_handles *handles)
{
	for (struct mount *mount = handles->mounts; mount; mount = mount->next) {
		if (mount->fd >= 0)
			close(mount->fd);
		mount->fd = -1;
	}
}
