/* SPDX-License-Identifier: MIT */
#include "publish.h"

#include "place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DRAFT_TAIL ".tmp-"
enum { NAME_SIZE = 32, DRAFT_DIGITS = 16, DRAFT_AGE = 60 };

/* --- what may be there --- */

/* Whether NAME is that of a link to a root: *NUMBER. */
static bool is_root_name(const char *name, unsigned *number)
{
	char again[NAME_SIZE];
	return sscanf(name, LW_ARTIFACT_ROOT "%u", number) == 1 && snprintf(again, sizeof(again), LW_ARTIFACT_ROOT "%u", *number) > 0
		&& strcmp(name, again) == 0;
}

static bool is_own_name(const char *name)
{
	unsigned number;
	return strcmp(name, LW_ARTIFACT_INDEX) == 0 || strcmp(name, LW_ARTIFACT_ABOUT) == 0 || is_root_name(name, &number);
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* Call EACH for the names in DIR until it returns something else than 0, which is then the result. */
static int for_each_name(int dir, int (*each)(int dir, const char *name, void *arg), void *arg)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;
	DIR *names = fd < 0 ? NULL : fdopendir(fd);
	if (!names) {
		result = -errno;
		if (fd >= 0)
			close(fd);
		return result;
	}
	for (struct dirent *entry; !result && (entry = readdir(names)); )
		result = is_dots(entry->d_name) ? 0 : each(dir, entry->d_name, arg);
	closedir(names);
	return result;
}

struct found {
	bool any, index;
	char other[NAME_MAX + 1];
};

static int look_at(int dir, const char *name, void *arg)
{
	struct found *found = arg;
	found->any = true;
	found->index |= strcmp(name, LW_ARTIFACT_INDEX) == 0;
	if (!is_own_name(name) && !*found->other)
		snprintf(found->other, sizeof(found->other), "%s", name);
	return 0;
}

static int open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int check_names(int dir, const char *path, char *reason)
{
	struct found found = { 0 };
	int error = for_each_name(dir, look_at, &found);
	if (error || !found.any || (found.index && !*found.other))
		return error;
	lw_reason_set(reason, "%.280s holds something else (%.100s); give a directory that is empty, or not there yet", path,
		*found.other ? found.other : "no " LW_ARTIFACT_INDEX);
	return -EEXIST;
}

/* Whether DIR, which was opened at PATH, is what is there. */
static bool is_at(int dir, const char *path)
{
	struct stat ours, there;
	return fstat(dir, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* *REPLACED: somebody has put another one there meanwhile, and may be taking this one to pieces. */
static int check_dir(const char *path, bool *replaced, char *reason)
{
	struct stat st;
	if (lstat(path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (S_ISLNK(st.st_mode)) {
		lw_reason_set(reason, "%.280s is a link; give the directory that it leads to", path);
		return -EEXIST;
	}
	int dir = open_dir(path);
	if (dir < 0)
		return dir;
	int error = check_names(dir, path, reason);
	*replaced = error && !is_at(dir, path);
	close(dir);
	return error;
}

int lw_publish_check(const char *path, char *reason)
{
	enum { ATTEMPTS = 1000 };
	bool replaced = true;
	int error = 0;
	for (unsigned attempt = 0; attempt < ATTEMPTS && replaced; attempt++) {
		reason[0] = '\0';
		replaced = false;
		error = check_dir(path, &replaced, reason);
	}
	return error;
}

/* --- links --- */

/* From directory DIR to PATH, both normalised. 0 or -ENAMETOOLONG. */
static int relative(const char *dir, const char *path, char *out, size_t size)
{
	size_t same = 0, len = 0;
	for (size_t i = 0; ; i++) {
		bool ends = (!dir[i] || dir[i] == '/') && (!path[i] || path[i] == '/');
		same = ends ? i : same;
		if (!dir[i] || !path[i] || dir[i] != path[i])
			break;
	}
	for (const char *at = dir + same; *at; at++) {
		if (*at == '/' && len + 3 >= size)
			return -ENAMETOOLONG;
		len += *at == '/' ? (size_t)snprintf(out + len, size - len, "%s..", len ? "/" : "") : 0;
	}
	const char *rest = path + same + (path[same] == '/');
	int more = snprintf(out + len, size - len, "%s%s", len && *rest ? "/" : "", len || *rest ? rest : ".");
	return more < 0 || (size_t)more >= size - len ? -ENAMETOOLONG : 0;
}

/* Whether TEXT, as a link in a directory beside DIR (which is where it will be), leads to ROOT. */
static bool leads_to(const char *dir, const char *text, const char *root)
{
	char joined[2 * PATH_MAX], parent[PATH_MAX];
	struct stat there, wanted;
	/* DIR itself may not exist: its name and the first ".." cancel out. */
	const char *slash = strrchr(dir, '/');
	if (strncmp(text, "..", 2) != 0 || (text[2] && text[2] != '/'))
		snprintf(joined, sizeof(joined), "%s/%s", dir, text);
	else {
		snprintf(parent, sizeof(parent), "%.*s", (int)(slash - dir), dir);
		snprintf(joined, sizeof(joined), "%s/.%s", parent, text + 2);
	}
	return stat(joined, &there) == 0 && stat(root, &wanted) == 0 && there.st_dev == wanted.st_dev && there.st_ino == wanted.st_ino;
}

/* The real path of DIR, which may not exist, while what it lies in does. 0 or -errno. */
static int real_dir(const char *dir, char *out, size_t size)
{
	char parent[PATH_MAX], real[PATH_MAX];
	const char *slash = strrchr(dir, '/');
	snprintf(parent, sizeof(parent), "%.*s", (int)(slash - dir), dir);
	if (!realpath(*parent ? parent : "/", real))
		return -errno;
	int len = snprintf(out, size, "%s%s", strcmp(real, "/") ? real : "", slash);
	return len < 0 || (size_t)len >= size ? -ENAMETOOLONG : 0;
}

int lw_publish_link(const char *dir, const char *root, char *out, size_t size)
{
	char from[PATH_MAX], to[PATH_MAX], real[PATH_MAX];
	int error = lw_roots_normalise(dir, from, sizeof(from));
	if (!error)
		error = lw_roots_normalise(root, to, sizeof(to));
	if (!error)
		error = relative(from, to, out, size);
	if (error || leads_to(from, out, *to ? to : "/"))
		return error;
	error = real_dir(from, real, sizeof(real));
	if (!error)
		error = realpath(*to ? to : "/", from) ? 0 : -errno;
	if (!error)
		error = relative(real, strcmp(from, "/") ? from : "", out, size);
	return error;
}

/* --- writing --- */

static int remove_name(int dir, const char *name, void *arg)
{
	return is_own_name(name) && unlinkat(dir, name, 0) && errno != ENOENT ? -errno : 0;
}

struct draft {
	char path[PATH_MAX];
	int dir;
};

/*
 * A draft is locked (flock) as long as somebody works on it. What is not, and has not changed for a minute, belongs to nobody any more: its writer was killed, before it
 * took its place or after, when it holds what it has replaced.
 */
static bool is_forgotten(int dir)
{
	struct stat st;
	return flock(dir, LOCK_EX | LOCK_NB) == 0 && fstat(dir, &st) == 0 && st.st_uid == geteuid() && time(NULL) - st.st_mtime > DRAFT_AGE;
}

static bool is_draft_of(const char *name, const char *base)
{
	size_t len = strlen(base);
	return strncmp(name, base, len) == 0 && strncmp(name + len, DRAFT_TAIL, strlen(DRAFT_TAIL)) == 0
		&& strspn(name + len + strlen(DRAFT_TAIL), "0123456789abcdef") == DRAFT_DIGITS && strlen(name) == len + strlen(DRAFT_TAIL) + DRAFT_DIGITS;
}

static int sweep_one(int parent, const char *name, void *base)
{
	int dir = is_draft_of(name, base) ? openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (dir < 0)
		return 0;
	if (is_forgotten(dir)) {
		for_each_name(dir, remove_name, NULL);
		unlinkat(parent, name, AT_REMOVEDIR); /* unless it holds what is not ours */
	}
	close(dir);
	return 0;
}

/* Failures are ignored: the next one tries again. */
static void sweep_drafts(const char *path)
{
	char parent[PATH_MAX];
	const char *slash = strrchr(path, '/');
	snprintf(parent, sizeof(parent), "%.*s/", (int)(slash - path), path);
	int dir = open_dir(parent);
	if (dir < 0)
		return;
	for_each_name(dir, sweep_one, (void *)(slash + 1));
	close(dir);
}

static int open_draft(struct draft *draft)
{
	draft->dir = open_dir(draft->path);
	if (draft->dir < 0)
		return draft->dir;
	flock(draft->dir, LOCK_EX | LOCK_NB); /* a file system without locks: then nobody finds it forgotten */
	return 0;
}

static int create_draft(const char *path, struct draft *draft)
{
	for (unsigned attempt = 0; attempt < 100; attempt++) {
		uint64_t number;
		if (getrandom(&number, sizeof(number), 0) != sizeof(number))
			return -EIO;
		if ((size_t)snprintf(draft->path, sizeof(draft->path), "%s" DRAFT_TAIL "%016llx", path, (unsigned long long)number) >= sizeof(draft->path))
			return -ENAMETOOLONG;
		if (mkdir(draft->path, 0755) == 0)
			return open_draft(draft);
		draft->path[0] = '\0'; /* not ours */
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

static int create_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	return fd < 0 ? -errno : fd;
}

/* close() may be where a network file system says that there is no space. */
static int closed(int fd, int error)
{
	return close(fd) && !error ? -errno : error;
}

static int write_about(int dir, const char *text)
{
	size_t len = strlen(text);
	int fd = create_file(dir, LW_ARTIFACT_ABOUT), error = 0;
	for (size_t done = 0; fd >= 0 && done < len && !error; ) {
		ssize_t put = write(fd, text + done, len - done);
		if (put < 0 && errno != EINTR)
			error = -errno;
		done += put > 0 ? (size_t)put : 0;
	}
	return fd < 0 ? fd : closed(fd, error);
}

static int write_index(int dir, const struct lw_publication *publication, lw_build *build)
{
	int fd = create_file(dir, LW_ARTIFACT_INDEX);
	return fd < 0 ? fd : closed(fd, lw_build_write_relative(build, fd, publication->key, publication->count));
}

static int write_links(int dir, const struct lw_publication *publication)
{
	int error = 0;
	for (unsigned i = 0; i < publication->count && !error; i++) {
		char text[PATH_MAX], name[NAME_SIZE];
		snprintf(name, sizeof(name), LW_ARTIFACT_ROOT "%u", i);
		error = lw_publish_link(publication->path, publication->root[i], text, sizeof(text));
		if (!error && symlinkat(text, dir, name))
			error = -errno;
	}
	return error;
}

static void remove_dir(const char *path)
{
	int dir = open_dir(path);
	if (dir < 0)
		return;
	for_each_name(dir, remove_name, NULL);
	close(dir);
	rmdir(path);
}

/* --- taking its place --- */

struct move {
	int to;
	unsigned count;		/* links to roots beyond these belong to the old one */
	bool index;
};

static int move_name(int dir, const char *name, void *arg)
{
	const struct move *move = arg;
	bool is_index = strcmp(name, LW_ARTIFACT_INDEX) == 0;
	return is_index == move->index && renameat(dir, name, move->to, name) ? -errno : 0;
}

static int remove_surplus(int dir, const char *name, void *arg)
{
	unsigned number;
	return is_root_name(name, &number) && number >= ((struct move *)arg)->count && unlinkat(dir, name, 0) ? -errno : 0;
}

static int move_files(const struct draft *draft, const char *path, unsigned count)
{
	struct move move = { .to = open_dir(path), .count = count };
	if (move.to < 0)
		return move.to;
	int error = for_each_name(draft->dir, move_name, &move);
	move.index = true;
	if (!error)
		error = for_each_name(draft->dir, move_name, &move);
	if (!error)
		error = for_each_name(move.to, remove_surplus, &move);
	close(move.to);
	return error;
}

/* What the errno alone does not tell. */
static int explain(int error, const char *path, char *reason)
{
	if (error == -EBUSY)
		lw_reason_set(reason, "%.280s is a mount point, which cannot change its place; give a directory in it", path);
	return error;
}

static int take_place(const struct draft *draft, const char *path, unsigned count, char *reason)
{
	for (unsigned attempt = 0; attempt < 2; attempt++) {
		if (renameat2(AT_FDCWD, draft->path, AT_FDCWD, path, RENAME_EXCHANGE) == 0)
			return 0;
		if (errno != ENOENT)
			break;
		/* Not there yet; unless somebody else's first one gets there before ours. */
		if (rename(draft->path, path) == 0)
			return 0;
		if (errno != ENOTEMPTY && errno != EEXIST)
			break;
	}
	if (errno == EINVAL || errno == ENOSYS || errno == EXDEV)
		return move_files(draft, path, count);
	return explain(-errno, path, reason);
}

static int write_all(const struct draft *draft, const struct lw_publication *publication, lw_build *build)
{
	int error = write_index(draft->dir, publication, build);
	if (!error)
		error = write_about(draft->dir, publication->about);
	return error ? error : write_links(draft->dir, publication);
}

int lw_publish(const struct lw_publication *publication, lw_build *build, char *reason)
{
	struct draft draft = { .dir = -1 };
	int error = lw_publish_check(publication->path, reason);
	if (error)
		return error;
	sweep_drafts(publication->path);
	error = create_draft(publication->path, &draft);
	if (error == -EACCES || error == -EPERM || error == -EROFS)
		lw_reason_set(reason, "cannot write beside %.280s, where it is made before it takes its place (%s)", publication->path, strerror(-error));
	if (!error)
		error = write_all(&draft, publication, build);
	if (!error)
		error = take_place(&draft, publication->path, publication->count, reason);
	if (draft.dir >= 0)
		close(draft.dir);
	if (*draft.path)
		remove_dir(draft.path); /* of an error, of the old one, of nothing */
	return error;
}
