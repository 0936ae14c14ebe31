/* SPDX-License-Identifier: MIT */
/*
 * keydir: names of cache files.
 *
 * A name is taken for ours only if printing what was read from it gives the same name again.
 */
#include "keydir.h"
#include "mark.h"
#include "stamp.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/random.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DIRENTS = 32 * 1024, HOUR = 60 * 60, DAY = 24 * HOUR };
#define TEMP_PREFIX ".tmp-"

/* What getdents64 fills in. */
struct dirent_head {
	uint64_t ino;
	int64_t offset;
	unsigned short size;
	unsigned char type;
	char name[];
};

static void print_name(char out[LW_KEYDIR_NAME], enum lw_keydir_kind kind, uint64_t time, int pid, unsigned n)
{
	snprintf(out, LW_KEYDIR_NAME, "%s-%016" PRIx64 "-%d-%u.lwi", kind == LW_KEYDIR_BASE ? "base" : "seg", time, pid, n);
}

static bool parse_file(const char *name, struct lw_keydir_entry *entry)
{
	char same[LW_KEYDIR_NAME];
	unsigned n;

	entry->kind = name[0] == 'b' ? LW_KEYDIR_BASE : LW_KEYDIR_SEGMENT;
	const char *numbers = strchr(name, '-');
	if (!numbers || sscanf(numbers, "-%16" SCNx64 "-%d-%u.lwi", &entry->time, &entry->pid, &n) != 3 || entry->pid <= 0)
		return false;
	print_name(same, entry->kind, entry->time, entry->pid, n);
	return strcmp(name, same) == 0;
}

static bool parse_name(const char *name, struct lw_keydir_entry *entry)
{
	const size_t prefix = sizeof(TEMP_PREFIX) - 1;

	*entry = (struct lw_keydir_entry){0};
	/* Most of what is not for us is told by its first letter. */
	if (strlen(name) >= sizeof(entry->name) || !strchr("bs.", name[0]))
		return false;
	strcpy(entry->name, name);
	if (parse_file(name, entry))
		return true;
	if (strncmp(name, TEMP_PREFIX, prefix) == 0 && parse_file(name + prefix, entry)) {
		entry->kind = LW_KEYDIR_TEMP;
		return true;
	}
	entry->kind = LW_KEYDIR_MARK;
	return lw_mark_parse(name, &entry->pid);
}

static int add(struct lw_keydir *list, const struct lw_keydir_entry *entry)
{
	if (list->count == list->capacity) {
		unsigned capacity = list->capacity ? 2 * list->capacity : 16;
		struct lw_keydir_entry *larger = realloc(list->entry, capacity * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		list->entry = larger;
		list->capacity = capacity;
	}
	list->entry[list->count++] = *entry;
	list->segments += entry->kind == LW_KEYDIR_SEGMENT;
	list->bases += entry->kind == LW_KEYDIR_BASE;
	list->files = list->segments + list->bases;
	return 0;
}

static int add_all(struct lw_keydir *list, const char *buffer, size_t size)
{
	struct lw_keydir_entry entry;
	int err = 0;

	for (size_t at = 0; !err && at < size; ) {
		const struct dirent_head *dirent = (const void *)(buffer + at);
		at += dirent->size;
		if (strcmp(dirent->name, "ok") == 0)
			list->ok = true;
		else if (parse_name(dirent->name, &entry))
			err = add(list, &entry);
	}
	return err;
}

static int compare(const void *a, const void *b)
{
	const struct lw_keydir_entry *x = a, *y = b;
	bool x_file = x->kind <= LW_KEYDIR_BASE, y_file = y->kind <= LW_KEYDIR_BASE;

	if (x_file != y_file)
		return x_file ? -1 : 1;
	if (x->time != y->time)
		return x->time > y->time ? -1 : 1;
	return strcmp(y->name, x->name);
}

int lw_keydir_read(int fd, struct lw_keydir *list)
{
	_Alignas(struct dirent_head) char buffer[DIRENTS];
	long size;
	int err = 0;

	*list = (struct lw_keydir){0};
	while (!err && (size = syscall(SYS_getdents64, fd, buffer, sizeof(buffer))) != 0)
		err = size < 0 ? -errno : add_all(list, buffer, (size_t)size);
	if (err)
		lw_keydir_clear(list);
	else if (list->count)
		qsort(list->entry, list->count, sizeof(list->entry[0]), compare);
	return err;
}

void lw_keydir_clear(struct lw_keydir *list)
{
	free(list->entry);
	*list = (struct lw_keydir){0};
}

DIR *lw_keydir_names(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *names = copy < 0 ? NULL : fdopendir(copy);

	if (!names && copy >= 0)
		close(copy);
	return names;
}

uint64_t lw_keydir_time(const struct lw_keydir *list)
{
	uint64_t now = (uint64_t)lw_now_ns();

	if (!list->files || list->entry[0].time < now)
		return now;
	return list->entry[0].time == UINT64_MAX ? UINT64_MAX : list->entry[0].time + 1;
}

/* Early in the life of a machine there are no random numbers: then the name being taken must be noticed. */
static unsigned next_number(void)
{
	static _Atomic unsigned serial;
	unsigned random = 0;

	syscall(SYS_getrandom, &random, sizeof(random), GRND_NONBLOCK);
	return random + atomic_fetch_add_explicit(&serial, 1, memory_order_relaxed);
}

static void new_name(char out[LW_KEYDIR_NAME], const struct lw_keydir_draft *draft)
{
	print_name(out, draft->kind, draft->time, getpid(), next_number());
}

int lw_keydir_draft(int dir, enum lw_keydir_kind kind, uint64_t time, struct lw_keydir_draft *draft)
{
	const size_t prefix = sizeof(TEMP_PREFIX) - 1;

	*draft = (struct lw_keydir_draft){ .kind = kind, .time = time, .name = TEMP_PREFIX };
	do {
		char name[LW_KEYDIR_NAME];
		new_name(name, draft);
		memcpy(draft->name + prefix, name, sizeof(name) - prefix);
		draft->fd = openat(dir, draft->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	} while (draft->fd < 0 && errno == EEXIST);
	return draft->fd < 0 ? -errno : 0;
}

/* -EEXIST: TO is taken. */
static int rename_new(int dir, const char *from, const char *to)
{
	struct stat st;

	if (syscall(SYS_renameat2, dir, from, dir, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (fstatat(dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(dir, from, dir, to) ? -errno : 0;
}

static int give_name(int dir, const struct lw_keydir_draft *draft)
{
	char name[LW_KEYDIR_NAME];
	int err;

	do {
		new_name(name, draft);
		err = rename_new(dir, draft->name, name);
	} while (err == -EEXIST);
	return err;
}

int lw_keydir_finish(int dir, struct lw_keydir_draft *draft, int err)
{
	/* Some file systems report a full disk or quota only now. */
	if (close(draft->fd) && !err && errno != EINTR)
		err = -errno;
	if (!err)
		err = give_name(dir, draft);
	if (err)
		unlinkat(dir, draft->name, 0);
	return err;
}

static bool abandoned(int dir, const struct lw_keydir_entry *entry)
{
	struct stat st;

	if (entry->kind != LW_KEYDIR_TEMP || fstatat(dir, entry->name, &st, AT_SYMLINK_NOFOLLOW))
		return false;
	time_t age = time(NULL) - st.st_mtime;
	/* Small pids, those of containers, are always somebody's. */
	return age > DAY || (age > HOUR && kill(entry->pid, 0) && errno == ESRCH);
}

void lw_keydir_sweep(int dir, const struct lw_keydir *list)
{
	for (unsigned i = list->files; i < list->count; i++)
		if (abandoned(dir, &list->entry[i]))
			unlinkat(dir, list->entry[i].name, 0);
}
