/* SPDX-License-Identifier: MIT */
/* attach: see attach.h. What client and daemon have in common. */
#include "attach.h"
#include "runtime.h"
#include "watch_way.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct lw_hash128 lw_attach_key(const struct lw_suffixes *suffixes)
{
	char text[LW_SUFFIX_MAX * (LW_SUFFIX_LEN + 1)];
	size_t len = 0;
	for (unsigned i = 0; i < suffixes->count; i++) {
		memcpy(text + len, suffixes->item[i].text, suffixes->item[i].len);
		len += suffixes->item[i].len;
		text[len++] = ' ';
	}
	return lw_hash128(text, len);
}

int lw_attach_identify(const char *path, struct lw_attach_id *id)
{
	struct stat st;
	if (stat(path, &st))
		return -errno;
	*id = (struct lw_attach_id){ .dev = st.st_dev, .ino = st.st_ino };
	return 0;
}

static bool is_below(const char *path, const char *top)
{
	size_t len = strlen(top);
	return strncmp(path, top, len) == 0 && (!path[len] || path[len] == '/');
}

static int is_at_point(void *point, const struct lw_watch_way *way)
{
	return strcmp(way->real, point) == 0;
}

/*
 * What is mounted over a directory on the way decides where the rest of it leads, if anywhere. It does not decide what comes before: whatever the table was before, the
 * way leads to the first of the points on it that have changed.
 */
bool lw_attach_concerns(const char *point, const char *root)
{
	struct lw_watch_way way;
	if (is_below(point, root) || lw_watch_way(root, strlen(root), is_at_point, (void *)point, &way))
		return true;
	bool concerns = is_below(point, way.real);
	lw_watch_way_end(&way);
	return concerns;
}

int lw_attach_here(struct lw_attach_id *mounts, struct lw_attach_id *top)
{
	int error = lw_attach_identify("/proc/self/ns/mnt", mounts);
	return error ? error : lw_attach_identify("/", top);
}

int lw_attach_address(const struct lw_suffixes *suffixes, bool use_env, bool create, struct sockaddr_un *out)
{
	const char *wanted = use_env ? getenv("LADEWERK_WATCH") : NULL;
	char place[PATH_MAX];
	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (wanted && strcmp(wanted, "0") == 0)
		return -ECANCELED;
	if (wanted && *wanted == '/')
		return (size_t)snprintf(out->sun_path, sizeof out->sun_path, "%s", wanted) < sizeof out->sun_path ? 0 : -ENAMETOOLONG;
	int place_fd = lw_runtime_open(create, place);
	struct lw_hash128 key = lw_attach_key(suffixes);
	if (place_fd < 0)
		return place_fd;
	close(place_fd);
	if ((size_t)snprintf(out->sun_path, sizeof out->sun_path, "%s/watch-%016llx", place, (unsigned long long)key.lo) >= sizeof out->sun_path)
		return -ENAMETOOLONG;
	return 0;
}
