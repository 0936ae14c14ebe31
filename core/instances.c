/* SPDX-License-Identifier: MIT */
/* instances: see instances.h. */
#include "instances.h"
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEFAULT_LIMIT = 128 };

/* The number in a file; ~0 without it. */
static unsigned number_in(const char *path)
{
	unsigned number = ~0u;
	FILE *f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%u", &number) != 1)
			number = ~0u;
		fclose(f);
	}
	return number;
}

unsigned lw_instance_limit(void)
{
	/* The user's, and that of the user namespace. */
	unsigned user = number_in("/proc/sys/fs/inotify/max_user_instances"), space = number_in("/proc/sys/user/max_inotify_instances");
	unsigned least = user < space ? user : space;
	return (least == ~0u ? DEFAULT_LIMIT : least) / 2;
}

static int open_slots(void)
{
	struct stat st;
	int dir = lw_runtime_open(true, NULL);
	if (dir < 0)
		return dir;
	int fd = openat(dir, "inotify", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600), error = fd < 0 ? -errno : 0;
	close(dir);
	if (error)
		return error;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return -EPERM;
}

/* 0, or -errno: -EAGAIN if somebody has it. */
static int lock_slot(int fd, unsigned slot)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1 };
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

int lw_instance_take(int *slot)
{
	*slot = -1;
	int fd = open_slots();
	if (fd < 0)
		return fd;
	unsigned limit = lw_instance_limit(), first = (unsigned)getpid();
	int error = -EAGAIN;
	/* Each starts elsewhere, so that few try in vain. */
	for (unsigned i = 0; i < limit && error == -EAGAIN; i++)
		error = lock_slot(fd, (first + i) % limit);
	if (!error) {
		*slot = fd;
		return 0;
	}
	close(fd);
	return error == -EAGAIN ? -EMFILE : error;
}
