/* SPDX-License-Identifier: MIT */
/* mappings: see mappings.h. */
#include "mappings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/sysmacros.h>

/* start-end perms offset major:minor inode   path */
bool lw_mapping_parse(char *line, struct lw_mapping *out)
{
	char permissions[5];
	unsigned major, minor;
	uint64_t ino;
	int path = 0;
	line[strcspn(line, "\n")] = 0;
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 " %n", &out->start, &out->end, permissions, &out->offset, &major, &minor, &ino, &path) != 7)
		return false;
	out->executable = strchr(permissions, 'x');
	out->dev = makedev(major, minor);
	out->ino = ino;
	out->path = line + path;
	return path && *out->path == '/' && ino && out->end > out->start;
}

int lw_mappings_read(pid_t pid, lw_mapping_sink *sink, void *context)
{
	char name[32], *line = NULL;
	size_t room = 0;
	snprintf(name, sizeof(name), "/proc/%d/maps", pid);
	FILE *file = fopen(name, "re");
	if (!file)
		return errno == ENOENT ? -ESRCH : -errno;
	int result = 0;
	bool any = false;
	errno = 0;
	while (!result && getline(&line, &room, file) >= 0) {
		struct lw_mapping mapping;
		any = true;
		if (lw_mapping_parse(line, &mapping))
			result = sink(context, &mapping);
	}
	if (!result && ferror(file))
		result = errno ? -errno : -EIO;
	if (!result && !any)
		result = -ESRCH;
	free(line);
	fclose(file);
	return result;
}
