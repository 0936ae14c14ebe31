/* SPDX-License-Identifier: MIT */
/* runtime: see runtime.h. */
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether there is a directory PATH that only we can put anything into. */
static bool is_ours(const char *path)
{
	struct stat st;
	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

static int find(char *path)
{
	unsigned uid = (unsigned)geteuid();
	char run[64];
	const char *given = secure_getenv("XDG_RUNTIME_DIR");
	int len;
	snprintf(run, sizeof run, "/run/user/%u", uid);
	if (given && *given == '/' && is_ours(given))
		len = snprintf(path, PATH_MAX, "%s/ladewerk", given);
	else if (is_ours(run))
		len = snprintf(path, PATH_MAX, "%s/ladewerk", run);
	else
		len = snprintf(path, PATH_MAX, "/tmp/ladewerk-%u", uid);
	return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int lw_runtime_open(bool create, char *path)
{
	char own[PATH_MAX];
	struct stat st;
	path = path ? path : own;
	int error = find(path);
	if (error)
		return error;
	if (create && mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	/* In /tmp anybody may have been first: what was opened is what is looked at, and no link is followed. */
	int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP || errno == ENOTDIR ? -EPERM : -errno;
	if (fstat(fd, &st))
		error = -errno;
	else if (st.st_uid != geteuid() || st.st_mode & (S_IRWXG | S_IRWXO))
		error = -EPERM;
	if (!error)
		return fd;
	close(fd);
	return error;
}
