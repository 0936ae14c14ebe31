/* SPDX-License-Identifier: MIT */
/* cgroup: see cgroup.h. */
#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DEEPEST = 32 };

static int open_directory(const char *path)
{
	int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return directory < 0 ? -errno : directory;
}

int lw_cgroup_open(const char *path)
{
	char mounted[PATH_MAX];
	int directory = open_directory(path);
	if (directory < 0) {
		int written = snprintf(mounted, sizeof(mounted), "/sys/fs/cgroup/%s", path);
		int other = written > 0 && (size_t)written < sizeof(mounted) ? open_directory(mounted) : -ENOENT;
		if (other < 0)
			return directory;
		directory = other;
	}
	if (faccessat(directory, "cgroup.procs", R_OK, 0)) {
		int error = errno == ENOENT ? -EINVAL : -errno;
		close(directory);
		return error;
	}
	return directory;
}

static int each_here(int directory, int (*sink)(void *context, pid_t pid), void *context)
{
	int fd = openat(directory, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file) {
		int error = -errno;
		if (fd >= 0)
			close(fd);
		return error;
	}
	int pid, result = 0;
	while (!result && fscanf(file, "%d", &pid) == 1) {
		if (pid > 0)
			result = sink(context, pid);
	}
	fclose(file);
	return result;
}

static int walk(int directory, unsigned depth, int (*sink)(void *context, pid_t pid), void *context)
{
	int result = each_here(directory, sink, context), copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = copy < 0 ? NULL : fdopendir(copy);
	if (!entries) {
		if (copy >= 0)
			close(copy);
		return result;
	}
	/* One beneath may have no processes of its own to show (a threaded one), or be removed meanwhile. */
	if (result == -EOPNOTSUPP || result == -ENODEV || (depth && result == -ENOENT))
		result = 0;
	for (struct dirent *entry; !result && depth < DEEPEST && (entry = readdir(entries));) {
		if (entry->d_type != DT_DIR || !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		int beneath = openat(copy, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (beneath < 0)
			continue;
		result = walk(beneath, depth + 1, sink, context);
		close(beneath);
	}
	closedir(entries);
	return result;
}

int lw_cgroup_each(int directory, int (*sink)(void *context, pid_t pid), void *context)
{
	return walk(directory, 0, sink, context);
}
