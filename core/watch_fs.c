/* SPDX-License-Identifier: MIT */
/* watch_fs: see watch_fs.h. */
#include "watch_fs.h"
#include "hash.h"
#include "watch_private.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Everything that FD has, terminated; NULL when that fails. */
static char *read_all(int fd)
{
	size_t size = 0, capacity = 16384;
	char *text = NULL;
	for (ssize_t got = 1; got; size += (size_t)got) {
		char *more = realloc(text, capacity = size + 1 < capacity / 2 ? capacity : capacity * 2);
		if (!more || (text = more, got = pread(fd, text + size, capacity - size - 1, (off_t)size)) < 0) {
			free(text);
			return NULL;
		}
	}
	text[size] = '\0';
	return text;
}

/* Undo the kernel's \ooo in place. The length. */
static size_t unescape(char *text, size_t len)
{
	size_t out = 0;
	for (size_t i = 0; i < len; i++, out++) {
		text[out] = text[i];
		if (text[i] != '\\' || i + 3 >= len)
			continue;
		text[out] = (char)((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
		i += 3;
	}
	return out;
}

static uint64_t hash_of(const char *path, size_t len)
{
	return lw_hash64(path, len == 1 ? 0 : len); /* the root is "" here */
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

/* The fifth field of each line. */
static size_t parse(char *text, uint64_t *point)
{
	size_t count = 0;
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		char *field = line, *space = line;
		for (int i = 0; i < 4 && space; i++) {
			space = memchr(field, ' ', (size_t)(end - field));
			field = space ? space + 1 : field;
		}
		if (space)
			point[count++] = hash_of(field, unescape(field, strcspn(field, " \n")));
	}
	qsort(point, count, sizeof *point, compare);
	return count;
}

static bool load(struct lw_watch_fs *fs)
{
	char *text = lw_watch_owns_fd(fs->fd) ? read_all(fs->fd) : NULL;
	size_t lines = 1;
	for (const char *at = text; at && (at = strchr(at, '\n')); at++)
		lines++;
	free(fs->point);
	fs->point = text ? malloc(lines * sizeof *fs->point) : NULL;
	fs->count = fs->point ? parse(text, fs->point) : 0;
	free(text);
	return fs->point;
}

/* From here on every directory is asked. */
static void give_up(struct lw_watch_fs *fs)
{
	lw_watch_close_fd(fs->fd);
	fs->fd = -1;
}

void lw_watch_fs_init(struct lw_watch_fs *fs)
{
	*fs = (struct lw_watch_fs){ .fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC) };
	/* Opened before it is read: what changes meanwhile makes it readable. */
	if (fs->fd >= 0 && (lw_watch_prepare_fd(fs->fd) || !load(fs)))
		give_up(fs);
}

void lw_watch_fs_free(struct lw_watch_fs *fs)
{
	give_up(fs);
	free(fs->point);
	*fs = (struct lw_watch_fs){ .fd = -1 };
}

void lw_watch_fs_refresh(struct lw_watch_fs *fs)
{
	struct pollfd changed = { .fd = fs->fd, .events = POLLPRI };
	if (fs->fd >= 0 && poll(&changed, 1, 0) != 0 && !load(fs))
		give_up(fs);
}

bool lw_watch_fs_may_be_mount(struct lw_watch_fs *fs, const char *path, size_t len)
{
	lw_watch_fs_refresh(fs);
	return lw_watch_fs_may_have_been_mount(fs, path, len);
}

bool lw_watch_fs_may_have_been_mount(const struct lw_watch_fs *fs, const char *path, size_t len)
{
	if (fs->fd < 0)
		return true;
	uint64_t hash = lw_hash64(path, len);
	return bsearch(&hash, fs->point, fs->count, sizeof hash, compare);
}
