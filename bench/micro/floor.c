/* SPDX-License-Identifier: MIT */
/*
 * floor: the bare loop of system calls that every scan of a source tree has to make, and nothing else: what a scanner cannot beat with these calls.
 *
 *     bench_floor [--threads N] ROOT        (1)
 *
 * For each directory but __pycache__, node_modules and dot directories: openat relative to its parent, getdents64 until it has no more, statx of each
 * "*.py" (the mask that core/stamp.c asks for), close. Nothing is kept but counts, no name is copied but those of subdirectories. Links are not
 * followed; a file system that does not tell the type of an entry is not for this program.
 *
 * Work is shared in the simplest way: a thread descends by itself and gives a subdirectory away, by its path, when another thread has nothing to do.
 *
 * Prints one line of JSON.
 */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 256 * 1024, MAX_THREADS = 256 };

/* A directory that one thread gave away. */
struct gift {
	struct gift *next;
	char path[];
};

struct count {
	uint64_t entries, directories, sources, syscalls;
};

struct walker {
	pthread_t thread;
	struct count count;
	char path[PATH_MAX];	/* of the directory that is being visited */
	char *names;		/* subdirectories still to be visited, on all levels, one terminated name after the other */
	size_t used, room;
	_Alignas(struct dirent64) char buffer[BUFFER];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* gifts, waiting, queued */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static struct gift *gifts;
static unsigned waiting, queued, threads = 1;
/* waiting - queued, for a look without the lock; relaxed: a look that is late gives one directory more, or one less. */
static _Atomic int hungry;

/* Under the lock. */
static void tell_hunger(void)
{
	atomic_store_explicit(&hungry, (int)waiting - (int)queued, memory_order_relaxed);
}

static void give(const char *path, const char *name)
{
	size_t head = strlen(path), tail = strlen(name) + 1;
	struct gift *gift = malloc(sizeof(*gift) + head + 1 + tail);
	check(gift, "memory");
	memcpy(gift->path, path, head);
	gift->path[head] = '/';
	memcpy(gift->path + head + 1, name, tail);
	pthread_mutex_lock(&lock);
	gift->next = gifts;
	gifts = gift;
	queued++;
	tell_hunger();
	pthread_cond_signal(&wake);
	pthread_mutex_unlock(&lock);
}

/* NULL when all threads have come here and nothing is left. */
static struct gift *receive(void)
{
	pthread_mutex_lock(&lock);
	waiting++;
	tell_hunger();
	while (!gifts && waiting < threads)
		pthread_cond_wait(&wake, &lock);
	struct gift *gift = gifts;
	if (gift) {
		gifts = gift->next;
		queued--;
		waiting--;
		tell_hunger();
	} else {
		pthread_cond_broadcast(&wake);
	}
	pthread_mutex_unlock(&lock);
	return gift;
}

static bool is_skipped(const char *name)
{
	return name[0] == '.' || strcmp(name, "__pycache__") == 0 || strcmp(name, "node_modules") == 0;
}

static void remember(struct walker *walker, const char *name, size_t len)
{
	if (walker->used + len + 1 > walker->room) {
		walker->room = 2 * (walker->room + len + 1);
		walker->names = realloc(walker->names, walker->room);
		check(walker->names, "memory");
	}
	memcpy(walker->names + walker->used, name, len + 1);
	walker->used += len + 1;
}

static void look_at(struct walker *walker, int fd, const struct dirent64 *entry)
{
	const unsigned mask = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID | STATX_MTIME | STATX_CTIME | STATX_INO | STATX_SIZE;
	const char *name = entry->d_name;
	struct statx st;
	size_t len = strlen(name);
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return;
	walker->count.entries++;
	if (entry->d_type == DT_DIR) {
		if (!is_skipped(name))
			remember(walker, name, len);
	} else if (entry->d_type == DT_REG && len > 3 && memcmp(name + len - 3, ".py", 3) == 0) {
		check(statx(fd, name, 0, mask, &st) == 0, name);
		walker->count.sources++;
		walker->count.syscalls++;
	}
}

static void read_entries(struct walker *walker, int fd)
{
	ssize_t got;
	while ((got = getdents64(fd, walker->buffer, BUFFER)) > 0) {
		walker->count.syscalls++;
		for (ssize_t at = 0; at < got;) {
			const struct dirent64 *entry = (const struct dirent64 *)(walker->buffer + at);
			look_at(walker, fd, entry);
			at += entry->d_reclen;
		}
	}
	check(got == 0, walker->path);
}

static int open_directory(int at, const char *path)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(fd >= 0, path);
	return fd;
}

static void visit(struct walker *walker, int fd)
{
	size_t from = walker->used, end = strlen(walker->path);
	read_entries(walker, fd);
	for (size_t at = from, len; at < walker->used; at += len + 1) {
		len = strlen(walker->names + at);
		check(end + 1 + len < PATH_MAX, "a path");
		if (atomic_load_explicit(&hungry, memory_order_relaxed) > 0) {
			give(walker->path, walker->names + at);
			continue;
		}
		walker->path[end] = '/';
		memcpy(walker->path + end + 1, walker->names + at, len + 1);
		size_t here = walker->used;
		visit(walker, open_directory(fd, walker->names + at));
		walker->used = here;
		walker->path[end] = '\0';
	}
	walker->used = from;
	walker->count.directories++;
	walker->count.syscalls += 3; /* openat, the getdents64 that found nothing more, close */
	close(fd);
}

static void *work(void *arg)
{
	struct walker *walker = arg;
	struct gift *gift;
	while ((gift = receive())) {
		check(snprintf(walker->path, PATH_MAX, "%s", gift->path) < PATH_MAX, "a path");
		free(gift);
		visit(walker, open_directory(AT_FDCWD, walker->path));
	}
	return NULL;
}

static struct count run(struct walker **walkers)
{
	struct count sum = { 0 };
	for (unsigned i = 1; i < threads; i++)
		check(pthread_create(&walkers[i]->thread, NULL, work, walkers[i]) == 0, "a thread");
	work(walkers[0]);
	for (unsigned i = 0; i < threads; i++) {
		if (i)
			pthread_join(walkers[i]->thread, NULL);
		sum.entries += walkers[i]->count.entries;
		sum.directories += walkers[i]->count.directories;
		sum.sources += walkers[i]->count.sources;
		sum.syscalls += walkers[i]->count.syscalls;
	}
	return sum;
}

static const char *parse(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "--threads") == 0)
		threads = (unsigned)atoi(argv[2]);
	if ((argc == 2 || argc == 4) && argv[argc - 1][0] != '-' && threads && threads <= MAX_THREADS)
		return argv[argc - 1];
	fprintf(stderr, "usage: bench_floor [--threads N] ROOT\n");
	exit(2);
}

int main(int argc, char **argv)
{
	const char *root = parse(argc, argv);
	struct walker *walkers[MAX_THREADS];
	struct gift *first = malloc(sizeof(*first) + strlen(root) + 1);
	check(first, "memory");
	int64_t start = now_ns();
	strcpy(first->path, root);
	first->next = NULL;
	gifts = first;
	queued = 1;
	for (unsigned i = 0; i < threads; i++) {
		walkers[i] = malloc(sizeof(**walkers));
		check(walkers[i], "memory");
		walkers[i]->count = (struct count){ 0 };
		walkers[i]->names = NULL;
		walkers[i]->used = walkers[i]->room = 0;
	}
	struct count sum = run(walkers);
	printf("{\"entries\": %llu, \"directories\": %llu, \"sources\": %llu, \"syscalls\": %llu, \"threads\": %u, \"seconds\": %.6f}\n",
		(unsigned long long)sum.entries, (unsigned long long)sum.directories, (unsigned long long)sum.sources,
		(unsigned long long)sum.syscalls, threads, (double)(now_ns() - start) / 1e9);
	return 0;
}
