/* SPDX-License-Identifier: MIT */
/* collect: see collect.h. It runs when a key is new and after a compaction, never in an ordinary start. */
#include "collect.h"
#include "keydir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_DIGITS = 32, KEYS_MAX = 4096 };

struct key {
	char name[KEY_DIGITS + 1];
	uint64_t bytes;
	struct timespec used;
};

struct keys {
	struct key *key;
	unsigned count;
	uint64_t bytes;
};

typedef void visit_fn(int dir, const char *name, void *arg);

static void for_each_name(int fd, visit_fn *visit, void *arg)
{
	DIR *dir = lw_keydir_names(fd);

	if (!dir)
		return;
	for (struct dirent *entry; (entry = readdir(dir)); )
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			visit(fd, entry->d_name, arg);
	closedir(dir);
}

/* A key directory of ours, or -1. */
static int open_key(int place, const char *name, struct stat *st)
{
	int fd = openat(place, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0 && (fstat(fd, st) || st->st_uid != geteuid())) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void add_size(int dir, const char *name, void *arg)
{
	uint64_t *bytes = arg;
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0)
		*bytes = *bytes + (uint64_t)st.st_size < *bytes ? UINT64_MAX : *bytes + (uint64_t)st.st_size;
}

static void add_key(int place, const char *name, void *arg)
{
	struct keys *keys = arg;
	struct key *key = &keys->key[keys->count];
	struct stat st, ok;

	if (strlen(name) != KEY_DIGITS || strspn(name, "0123456789abcdef") != KEY_DIGITS || keys->count == KEYS_MAX)
		return;
	int fd = open_key(place, name, &st);
	if (fd < 0)
		return;
	*key = (struct key){ .used = st.st_mtim };
	strcpy(key->name, name);
	if (fstatat(fd, "ok", &ok, AT_SYMLINK_NOFOLLOW) == 0)
		key->used = ok.st_mtim;
	for_each_name(fd, add_size, &key->bytes);
	close(fd);
	keys->bytes = keys->bytes + key->bytes < keys->bytes ? UINT64_MAX : keys->bytes + key->bytes;
	keys->count++;
}

static int by_last_use(const void *a, const void *b)
{
	const struct timespec *x = &((const struct key *)a)->used, *y = &((const struct key *)b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec;
}

static void remove_name(int dir, const char *name, void *arg)
{
	unlinkat(dir, name, 0);
}

/* Whoever compacts there holds the lock; whoever waits for it finds the directory gone and gives up. */
static bool remove_key(int place, const char *name)
{
	struct stat st;
	int fd = open_key(place, name, &st);
	if (fd < 0)
		return false;
	int lock = openat(fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool removed = lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0;
	if (removed) {
		for_each_name(fd, remove_name, NULL);
		removed = unlinkat(place, name, AT_REMOVEDIR) == 0;
	}
	if (lock >= 0) {
		flock(lock, LOCK_UN);	/* a child forked meanwhile shares it */
		close(lock);
	}
	close(fd);
	return removed;
}

static void shrink(int place, struct keys *keys, const char *own, uint64_t max_bytes)
{
	qsort(keys->key, keys->count, sizeof(keys->key[0]), by_last_use);
	for (unsigned i = 0; i < keys->count && keys->bytes > max_bytes; i++)
		if (strcmp(keys->key[i].name, own) && remove_key(place, keys->key[i].name))
			keys->bytes -= keys->key[i].bytes;
}

void lw_collect(const char *place, const char *own, uint64_t max_bytes)
{
	struct keys keys = { .key = malloc((KEYS_MAX + 1) * sizeof(struct key)) };
	int fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (keys.key && fd >= 0) {
		for_each_name(fd, add_key, &keys);
		shrink(fd, &keys, own, max_bytes);
	}
	free(keys.key);
	if (fd >= 0)
		close(fd);
}
