/* SPDX-License-Identifier: MIT */
#include "artifact.h"

#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ATTEMPTS = 8 };	/* to find one that is not being taken away */

struct lw_artifact {
	char *path;
	char reason[LW_STORE_REASON];
	bool used;
	uint32_t files;
	unsigned count;
	char **root;
};

/* While it is opened. */
struct opening {
	const struct lw_store_config *config;
	lw_artifact *artifact;
	int dir;
	struct stat dir_st, index_st;
	bool trusted;			/* by the rules of cache files */
	struct lw_root *spelling;	/* two for each root */
	unsigned spellings;
};

static const char REBUILD[] = "build it again with `ladewerk index --frozen`, and --lazy for programs that import lazily";

/* --- the file --- */

static int refuse_open(struct opening *opening, int error, const char *name)
{
	const char *path = opening->artifact->path, *slash = *name ? "/" : "";
	if (error == -ENOENT)
		lw_reason_set(opening->artifact->reason, "not used: there is no %.280s%s%s; %s", path, slash, name, REBUILD);
	else if (error == -ELOOP || error == -ENOTDIR)
		lw_reason_set(opening->artifact->reason, "not used: %.280s%s%s is %s; %s", path, slash, name, *name ? "a link" : "no directory", REBUILD);
	else
		lw_reason_set(opening->artifact->reason, "not used: %.280s%s%s cannot be opened (%s); make it readable", path, slash, name, strerror(-error));
	return error;
}

/* Neither O_CREAT nor a wait for the writer of a FIFO. */
static int open_index_file(struct opening *opening)
{
	int fd = openat(opening->dir, LW_ARTIFACT_INDEX, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &opening->index_st) == 0)
		return fd;
	int error = -errno;
	if (fd >= 0)
		close(fd);
	return refuse_open(opening, error, LW_ARTIFACT_INDEX);
}

static bool is_closed_to_others(struct opening *opening, const struct stat *st, const char *tail)
{
	if (!lw_place_open_to_others(st))
		return true;
	lw_reason_set(opening->artifact->reason, "not used: others may write to %.280s%s; run chmod go-w on it", opening->artifact->path, tail);
	return false;
}

static int open_index(struct opening *opening, lw_index **index)
{
	lw_reason why = NULL;
	int fd = open_index_file(opening);
	if (fd < 0)
		return fd;
	int error = is_closed_to_others(opening, &opening->dir_st, "") && is_closed_to_others(opening, &opening->index_st, "/" LW_ARTIFACT_INDEX) ? 0 : -EPERM;
	if (!error)
		error = lw_index_open_relative(fd, &opening->config->key, index, &why);
	close(fd);
	if (error == -EFBIG)
		lw_reason_set(opening->artifact->reason, "not used: %.280s lies on a network file system, where files beyond 32 MB are not read; copy it to a local disk",
			opening->artifact->path);
	else if (why)
		lw_reason_set(opening->artifact->reason, "not used: %.280s/" LW_ARTIFACT_INDEX ": %s; %s", opening->artifact->path, why, REBUILD);
	return error;
}

/* --- its roots --- */

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool leads_to(const char *path, const struct stat *root)
{
	struct stat st;
	return stat(*path ? path : "/", &st) == 0 && is_same(&st, root);
}

/* PATH, normalised, is one that root I is known by. 0 or -ENOMEM. */
static int spell(struct opening *opening, unsigned i, const char *path)
{
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	opening->spelling[opening->spellings++] = (struct lw_root){ .path = copy, .len = (uint32_t)strlen(copy), .number = i };
	if (!opening->artifact->root[i])
		opening->artifact->root[i] = strdup(*copy ? copy : "/");
	return opening->artifact->root[i] ? 0 : -ENOMEM;
}

static int leave_out(struct opening *opening, unsigned i, const char *why)
{
	lw_reason_set(opening->artifact->reason, "%.280s/" LW_ARTIFACT_ROOT "%u is left out: %s; `ln -sfn` leads it to where the root is", opening->artifact->path, i, why);
	return 0;
}

static int distrust(struct opening *opening, unsigned i)
{
	unsigned uid = opening->dir_st.st_uid;
	if (lw_place_trusts_uid(opening->config, uid))
		uid = opening->index_st.st_uid;
	lw_reason_set(opening->artifact->reason, "%.200s/" LW_ARTIFACT_ROOT "%u is left out: the index belongs to uid %u, and that root does not; build it as yourself, as "
		"root or as the owner of the root, or set LADEWERK_TRUST_UID=%u if that user may run code as you", opening->artifact->path, i, uid, uid);
	return 0;
}

/* The path of root I's link, for system calls and for the text: DIR/rootN. */
static int link_path(const struct opening *opening, unsigned i, char *out, size_t size)
{
	int len = snprintf(out, size, "%s/" LW_ARTIFACT_ROOT "%u", opening->artifact->path, i);
	return (size_t)len < size ? 0 : -ENAMETOOLONG;
}

/* Where root I is by the text of its link: DIR/TEXT, or TEXT. */
static int spelt_path(const struct opening *opening, const char *name, char *out, size_t size)
{
	char text[PATH_MAX], joined[2 * PATH_MAX];
	ssize_t len = readlinkat(opening->dir, name, text, sizeof(text) - 1);
	if (len < 0)
		return -errno;
	text[len] = '\0';
	if ((size_t)snprintf(joined, sizeof(joined), "%s%s%s", *text == '/' ? "" : opening->artifact->path, *text == '/' ? "" : "/", text) >= sizeof(joined))
		return -ENAMETOOLONG;
	return lw_roots_normalise(joined, out, size);
}

static int spell_all(struct opening *opening, unsigned i, const char *name, const struct stat *root)
{
	char path[PATH_MAX] = "", link[PATH_MAX], real[PATH_MAX];
	unsigned before = opening->spellings;
	int error = spelt_path(opening, name, path, sizeof(path)) == 0 && leads_to(path, root) ? spell(opening, i, path) : 0;
	bool has_real = !error && link_path(opening, i, link, sizeof(link)) == 0 && realpath(link, real) && leads_to(real, root);
	if (has_real && strcmp(real, "/") == 0)
		*real = '\0';
	if (has_real && !(opening->spellings > before && strcmp(real, path) == 0))
		error = spell(opening, i, real);
	if (error || opening->spellings > before)
		return error;
	return leave_out(opening, i, "its path cannot be told");
}

static int bind_root(struct opening *opening, unsigned i)
{
	char name[32];
	struct stat st, link;
	snprintf(name, sizeof(name), LW_ARTIFACT_ROOT "%u", i);
	if (fstatat(opening->dir, name, &link, AT_SYMLINK_NOFOLLOW) || !S_ISLNK(link.st_mode))
		return leave_out(opening, i, "there is no such link");
	if (fstatat(opening->dir, name, &st, 0))
		return leave_out(opening, i, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return leave_out(opening, i, "it leads to no directory");
	if (!opening->trusted && (st.st_uid != opening->dir_st.st_uid || st.st_uid != opening->index_st.st_uid))
		return distrust(opening, i);
	return spell_all(opening, i, name, &st);
}

static int bind_roots(struct opening *opening, unsigned count)
{
	int error = 0;
	opening->artifact->root = calloc(count, sizeof(char *));
	opening->spelling = calloc(2 * (size_t)count, sizeof(*opening->spelling));
	if (!opening->artifact->root || !opening->spelling)
		return -ENOMEM;
	opening->artifact->count = count;
	for (unsigned i = 0; i < count && !error; i++)
		error = bind_root(opening, i);
	return error ? error : opening->spellings ? 0 : -ENOENT;
}

static int bind_index(struct opening *opening, lw_index *index)
{
	int error = bind_roots(opening, lw_index_head(index)->roots);
	lw_roots *roots = error ? NULL : lw_roots_create(opening->spelling, opening->spellings);
	if (roots)
		lw_index_bind(index, roots);
	for (unsigned i = 0; i < opening->spellings; i++)
		free((char *)opening->spelling[i].path);
	free(opening->spelling);
	return error || roots ? error : -ENOMEM;
}

/* --- all of it --- */

static bool trusts(const struct lw_store_config *config, const struct opening *opening)
{
	return lw_place_trusts_uid(config, opening->dir_st.st_uid) && lw_place_trusts_uid(config, opening->index_st.st_uid);
}

static int open_all(struct opening *opening, lw_index **index)
{
	opening->dir = open(opening->artifact->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (opening->dir < 0 || fstat(opening->dir, &opening->dir_st))
		return refuse_open(opening, -errno, "");
	int error = open_index(opening, index);
	if (error)
		return error;
	opening->trusted = trusts(opening->config, opening);
	error = bind_index(opening, *index);
	if (!error)
		opening->artifact->files = lw_index_file_count(*index);
	return error;
}

/* *REPLACED: something is missing in it, and another DIR is there by now, whose writer is taking this one away. */
static int open_once(const struct lw_store_config *config, lw_artifact *artifact, lw_index **index, bool *replaced)
{
	struct opening opening = { .config = config, .artifact = artifact, .dir = -1 };
	struct stat now;
	int error = open_all(&opening, index);
	*replaced = *artifact->reason && opening.dir >= 0 && stat(artifact->path, &now) == 0 && !is_same(&now, &opening.dir_st);
	if (opening.dir >= 0)
		close(opening.dir);
	return error;
}

/* What open_once() has left; the path stays. */
static void forget(lw_artifact *artifact, lw_index **index)
{
	for (unsigned i = 0; i < artifact->count; i++)
		free(artifact->root[i]);
	free(artifact->root);
	lw_index_close(*index);
	*index = NULL;
	*artifact = (lw_artifact){ .path = artifact->path };
}

int lw_artifact_open(const struct lw_store_config *config, const char *path, lw_index **index, lw_artifact **out)
{
	*index = NULL;
	*out = calloc(1, sizeof(**out));
	if (!*out || !((*out)->path = strdup(path)))
		goto no_memory;
	int error = -EINVAL;
	bool replaced = *path == '/';
	if (!replaced)
		lw_reason_set((*out)->reason, "not used: LADEWERK_INDEX must be an absolute path, not '%.280s'", path);
	for (unsigned attempt = 0; replaced && attempt < ATTEMPTS; attempt++) {
		forget(*out, index);
		error = open_once(config, *out, index, &replaced);
	}
	(*out)->used = !error;
	if (!error)
		return 0;
	lw_index_close(*index);
	*index = NULL;
	if (error != -ENOMEM)
		return 0;
no_memory:
	lw_artifact_destroy(*out);
	*out = NULL;
	return -ENOMEM;
}

void lw_artifact_destroy(lw_artifact *artifact)
{
	if (!artifact)
		return;
	for (unsigned i = 0; i < artifact->count; i++)
		free(artifact->root[i]);
	free(artifact->root);
	free(artifact->path);
	free(artifact);
}

const char *lw_artifact_path(const lw_artifact *artifact)
{
	return artifact->path;
}

bool lw_artifact_used(const lw_artifact *artifact)
{
	return artifact->used;
}

const char *lw_artifact_reason(const lw_artifact *artifact)
{
	return artifact->reason;
}

const char *const *lw_artifact_roots(const lw_artifact *artifact, unsigned *count)
{
	*count = artifact->count;
	return (const char *const *)artifact->root;
}

uint32_t lw_artifact_files(const lw_artifact *artifact)
{
	return artifact->files;
}
