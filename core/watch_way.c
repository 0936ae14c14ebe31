/* SPDX-License-Identifier: MIT */
/*
 * watch_way: see watch_way.h.
 *
 * What is left of the path is kept in a buffer; the target of a link is put in front of it.
 */
#include "watch_way.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct walk {
	struct lw_watch_way *way;
	lw_watch_way_visit *visit;
	void *arg;
	unsigned links;
	size_t at;		/* where what is left begins: up to the end of REST */
	char rest[2 * PATH_MAX];
};

uint64_t lw_watch_place(const struct statx *st)
{
	/* The kernel's numbers of mounts have 31 bits, its major numbers 12, the minor ones 20. */
	return st->stx_mnt_id << 32 | (uint64_t)st->stx_dev_major << 20 | st->stx_dev_minor;
}

/* Put TEXT in front of what is left. */
static int push(struct walk *walk, const char *text, size_t len)
{
	if (walk->at < len + 1)
		return -ENAMETOOLONG;
	walk->rest[--walk->at] = '/';
	walk->at -= len;
	memcpy(walk->rest + walk->at, text, len);
	return 0;
}

/* The next component, slashes skipped; NULL: none is left. */
static const char *pop(struct walk *walk, size_t *len)
{
	while (walk->at < sizeof walk->rest && walk->rest[walk->at] == '/')
		walk->at++;
	const char *component = walk->rest + walk->at;
	if (walk->at == sizeof walk->rest)
		return NULL;
	*len = (size_t)((const char *)memchr(component, '/', sizeof walk->rest - walk->at) - component);
	walk->at += *len;
	return component;
}

/* The meaning of the path rests on REAL/NAME (NAME_LEN 0: on REAL), too. */
static int note(struct lw_watch_way *way, const char *name, size_t name_len)
{
	size_t need = way->len + 1 + name_len + 1;
	if (way->links_room - way->links_len < need) {
		size_t room = way->links_room + need + 256;
		char *links = realloc(way->links, room);
		if (!links)
			return -ENOMEM;
		way->links = links;
		way->links_room = room;
	}
	char *to = way->links + way->links_len;
	memcpy(to, way->real, way->len);
	to += way->len;
	if (name_len) {
		*to++ = '/';
		memcpy(to, name, name_len);
		to += name_len;
	}
	*to++ = '\0';
	way->links_len = (size_t)(to - way->links);
	return 0;
}

/* The walk goes on in the directory FD, which is its from now on. */
static int enter(struct walk *walk, int fd, const struct statx *st)
{
	struct lw_watch_way *way = walk->way;
	if (way->fd >= 0)
		close(way->fd);
	way->fd = fd;
	way->place = lw_watch_place(st);
	return walk->visit(walk->arg, way);
}

static int look(int fd, struct statx *st)
{
	return statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MNT_ID, st) ? -errno : 0;
}

static int open_at(int dirfd, const char *name, struct statx *st)
{
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int error = fd < 0 ? -errno : look(fd, st);
	if (error && fd >= 0)
		close(fd);
	return error ? error : fd;
}

static int start_over(struct walk *walk)
{
	struct statx st;
	int fd = open_at(AT_FDCWD, "/", &st);
	if (fd < 0)
		return fd;
	walk->way->len = 0;
	walk->way->real[0] = '\0';
	return enter(walk, fd, &st);
}

static int go_up(struct walk *walk)
{
	struct lw_watch_way *way = walk->way;
	struct statx st;
	if (!way->len)
		return 0;
	int error = note(way, NULL, 0);
	if (error)
		return error;
	int fd = open_at(way->fd, "..", &st);
	if (fd < 0)
		return fd;
	way->len = (size_t)(strrchr(way->real, '/') - way->real);
	way->real[way->len] = '\0';
	return enter(walk, fd, &st);
}

static int go_down(struct walk *walk, int fd, const char *name, size_t len, const struct statx *st)
{
	struct lw_watch_way *way = walk->way;
	if (way->len + 1 + len + 1 > sizeof way->real) {
		close(fd);
		return -ENAMETOOLONG;
	}
	way->real[way->len] = '/';
	memcpy(way->real + way->len + 1, name, len + 1);
	way->len += 1 + len;
	return enter(walk, fd, st);
}

static int follow(struct walk *walk, int fd, const char *name, size_t len)
{
	char target[PATH_MAX];
	int error = ++walk->links > LW_WAY_LINKS ? -ELOOP : note(walk->way, name, len);
	ssize_t size = error ? 0 : readlinkat(fd, "", target, sizeof target);
	if (size < 0)
		error = -errno;
	else if (size == sizeof target)
		error = -ENAMETOOLONG;
	close(fd);
	if (!error)
		error = push(walk, target, (size_t)size);
	return error || *target != '/' ? error : start_over(walk);
}

static int step(struct walk *walk, const char *name, size_t len)
{
	struct statx st;
	if (strcmp(name, ".") == 0)
		return 0;
	if (strcmp(name, "..") == 0)
		return go_up(walk);
	int fd = open_at(walk->way->fd, name, &st);
	if (fd < 0)
		return fd;
	if (S_ISLNK(st.stx_mode))
		return follow(walk, fd, name, len);
	if (S_ISDIR(st.stx_mode))
		return go_down(walk, fd, name, len, &st);
	close(fd);
	return -ENOTDIR;
}

static int walk_on(struct walk *walk)
{
	const char *component;
	size_t len;
	int error = 0;
	while (!error && (component = pop(walk, &len))) {
		char name[NAME_MAX + 1];
		if (len >= sizeof name)
			return -ENAMETOOLONG;
		memcpy(name, component, len);
		name[len] = '\0';
		error = step(walk, name, len);
	}
	return error;
}

int lw_watch_way(const char *path, size_t len, lw_watch_way_visit *visit, void *arg, struct lw_watch_way *way)
{
	struct walk walk = { .way = way, .visit = visit, .arg = arg, .at = sizeof walk.rest };
	*way = (struct lw_watch_way){ .fd = -1 };
	int error = push(&walk, path, len);
	if (!error)
		error = start_over(&walk);
	if (!error)
		error = walk_on(&walk);
	if (error)
		lw_watch_way_end(way);
	return error;
}

void lw_watch_way_end(struct lw_watch_way *way)
{
	if (way->fd >= 0)
		close(way->fd);
	free(way->links);
	way->fd = -1;
	way->links = NULL;
}
