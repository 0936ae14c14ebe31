/* SPDX-License-Identifier: MIT */
/* procfs: see procfs.h. */
#include "procfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/stat.h>

static void take_line(const char *line, struct lw_proc *out)
{
	const char *last = strrchr(line, '\t');
	if (!strncmp(line, "Tgid:", 5))
		out->process = (pid_t)strtol(line + 5, NULL, 10);
	else if (!strncmp(line, "PPid:", 5))
		out->parent = (pid_t)strtol(line + 5, NULL, 10);
	else if (!strncmp(line, "NSpid:", 6) && last)
		out->inner = (pid_t)strtol(last, NULL, 10);
	else if (!strncmp(line, "State:", 6))
		out->dead = strpbrk(line + 6, "ZX");
}

int lw_proc_read(pid_t pid, struct lw_proc *out)
{
	char name[32], line[256];
	*out = (struct lw_proc){ .process = pid, .inner = pid };
	snprintf(name, sizeof(name), "/proc/%d/status", pid);
	FILE *file = fopen(name, "re");
	if (!file)
		return errno == ENOENT ? -ESRCH : -errno;
	bool any = false;
	while (fgets(line, sizeof(line), file)) {
		any = true;
		/* The name of a process is the only text that it chose itself; it comes first, escaped. */
		if (strncmp(line, "Name:", 5))
			take_line(line, out);
	}
	fclose(file);
	return any ? 0 : -ESRCH;
}

bool lw_proc_executes(pid_t pid, dev_t *dev, ino_t *ino)
{
	char name[32];
	struct stat status;
	snprintf(name, sizeof(name), "/proc/%d/exe", pid);
	if (stat(name, &status))
		return false;
	*dev = status.st_dev;
	*ino = status.st_ino;
	return true;
}

void lw_proc_executable(pid_t pid, char *path, size_t size)
{
	char name[32];
	snprintf(name, sizeof(name), "/proc/%d/exe", pid);
	ssize_t length = readlink(name, path, size - 1);
	path[length > 0 ? length : 0] = 0;
}

void lw_proc_argument(pid_t pid, char *text, size_t size)
{
	char name[32];
	snprintf(name, sizeof(name), "/proc/%d/cmdline", pid);
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? 0 : read(fd, text, size - 1);
	text[length > 0 ? length : 0] = 0;
	if (fd >= 0)
		close(fd);
}

uint64_t lw_proc_cpu_ns(pid_t pid)
{
	clockid_t clock;
	struct timespec time;
	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &time))
		return 0;
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

int lw_proc_each(int (*sink)(void *context, pid_t pid), void *context)
{
	DIR *directory = opendir("/proc");
	if (!directory)
		return -errno;
	int result = 0;
	for (struct dirent *entry; !result && (entry = readdir(directory));) {
		if (isdigit((unsigned char)entry->d_name[0]))
			result = sink(context, (pid_t)strtol(entry->d_name, NULL, 10));
	}
	closedir(directory);
	return result;
}
