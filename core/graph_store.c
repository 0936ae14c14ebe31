/* SPDX-License-Identifier: MIT */
/*
 * graph_store: see graph_store.h.
 */
#include "graph_store.h"
#include "keydir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PREFIX "graph-"
#define TEMP_PREFIX ".tmp-graph-"
enum { NAME_SIZE = 64, HOUR = 60 * 60, REMOVALS = 8 };

int lw_graph_store_open(const lw_store *store, struct lw_hash128 roots, lw_graph **out)
{
	char name[NAME_SIZE];
	snprintf(name, sizeof(name), PREFIX "%016" PRIx64, roots.lo);
	*out = NULL;
	int fd = lw_store_open_file(store, name);
	return fd < 0 ? fd : lw_graph_open(fd, roots, out);
}

static int write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t done = write(fd, data, size);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -ENOSPC;
		data += done;
		size -= (size_t)done;
	}
	return 0;
}

static int write_file(int dir, const char *name, const char *temp, const void *image, size_t size)
{
	int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int error = fd < 0 ? -errno : write_all(fd, image, size);
	if (fd < 0 && error == -EEXIST)
		unlinkat(dir, temp, 0);	/* of a dead process with our pid */
	if (fd < 0)
		return error;
	if (close(fd) && !error && errno != EINTR)
		error = -errno;
	if (!error && renameat(dir, temp, dir, name))
		error = -errno;
	if (error)
		unlinkat(dir, temp, 0);
	return error;
}

/* How many graphs there are, and the name of the oldest. Removes what dead writers have left. */
static unsigned look_around(DIR *list, char oldest[NAME_SIZE])
{
	struct timespec age = { 0 };
	unsigned count = 0;
	struct stat st;
	rewinddir(list);
	for (struct dirent *entry; (entry = readdir(list)); ) {
		bool graph = !strncmp(entry->d_name, PREFIX, sizeof(PREFIX) - 1) && strlen(entry->d_name) < NAME_SIZE;
		bool temp = !strncmp(entry->d_name, TEMP_PREFIX, sizeof(TEMP_PREFIX) - 1);
		if ((!graph && !temp) || fstatat(dirfd(list), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		if (temp && time(NULL) - st.st_mtime > HOUR)
			unlinkat(dirfd(list), entry->d_name, 0);
		if (!graph)
			continue;
		bool older = st.st_mtim.tv_sec != age.tv_sec ? st.st_mtim.tv_sec < age.tv_sec : st.st_mtim.tv_nsec < age.tv_nsec;
		if (count++ == 0 || older) {
			age = st.st_mtim;
			strcpy(oldest, entry->d_name);
		}
	}
	return count;
}

static void remove_oldest(int dir)
{
	char oldest[NAME_SIZE];
	DIR *list = lw_keydir_names(dir);
	if (!list)
		return;
	for (unsigned i = 0; i < REMOVALS && look_around(list, oldest) > LW_GRAPH_FILES; i++)
		unlinkat(dir, oldest, 0);
	closedir(list);
}

int lw_graph_store_put(const lw_store *store, struct lw_hash128 roots, const void *image, size_t size)
{
	char name[NAME_SIZE], temp[NAME_SIZE];
	int dir = lw_store_open_directory(store);
	if (dir < 0)
		return dir;
	snprintf(name, sizeof(name), PREFIX "%016" PRIx64, roots.lo);
	snprintf(temp, sizeof(temp), TEMP_PREFIX "%016" PRIx64 "-%d", roots.lo, (int)getpid());
	int error = write_file(dir, name, temp, image, size);
	if (!error)
		remove_oldest(dir);
	close(dir);
	return error;
}
