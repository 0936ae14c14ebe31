/* SPDX-License-Identifier: MIT */
/*
 * place: finding the cache directory, creating it, and trusting it.
 *
 * Finding looks at names only, opening checks what is there, creating is done by the first start. The directory that
 * was opened is the one that was checked: stat works on the descriptor, and on its "..". Reading opens it by its path again,
 * which is safe: only its trusted owners may put something else there, and each file is checked by itself.
 */
#include "place.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void lw_reason_set(char *reason, const char *format, ...)
{
	if (reason[0])
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(reason, LW_STORE_REASON, format, args);
	va_end(args);
}

/* DIR plus TAIL. */
static int join(char *out, size_t size, const char *dir, const char *tail)
{
	int len = snprintf(out, size, "%s%s", dir, tail);
	return len < 0 || (size_t)len >= size ? -ENAMETOOLONG : 0;
}

static bool is_directory(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A variable of our caller's choice; NULL when unset or empty. A setuid program has no such caller. */
static const char *variable(const char *name)
{
	const char *value = secure_getenv(name);
	return value && *value ? value : NULL;
}

/* The home directory according to the password database. */
static int passwd_home(char *out, size_t size)
{
	char text[4096];
	struct passwd entry, *found = NULL;

	if (getpwuid_r(geteuid(), &entry, text, sizeof(text), &found) || !found || !found->pw_dir)
		return -ENOENT;
	return join(out, size, found->pw_dir, "");
}

/* ~/.cache/ladewerk, where there is a home: service accounts have "/nonexistent". */
static int under_home(char *out, size_t size)
{
	char home[PATH_MAX];
	const char *given = variable("HOME");
	int err = given ? join(home, sizeof(home), given, "") : passwd_home(home, sizeof(home));

	if (err)
		return err;
	if (home[0] != '/' || !is_directory(home))
		return -ENOENT;
	return join(out, size, home, "/.cache/ladewerk");
}

static int under_run(char *out, size_t size)
{
	char run[64];

	snprintf(run, sizeof(run), "/run/user/%u", (unsigned)geteuid());
	return is_directory(run) ? join(out, size, run, "/ladewerk") : -ENOENT;
}

static int find(const struct lw_store_config *config, char *out, size_t size)
{
	const char *own = config->place ? config->place : config->use_env ? variable("LADEWERK_CACHE") : NULL;
	const char *xdg = config->use_env ? variable("XDG_CACHE_HOME") : NULL;

	if (own)
		return own[0] == '/' ? join(out, size, own, "") : -EINVAL;
	if (xdg && xdg[0] == '/')	/* relative ones are to be ignored, says the XDG specification */
		return join(out, size, xdg, "/ladewerk");
	int err = under_home(out, size);
	return err == -ENOENT ? under_run(out, size) : err;
}

int lw_place_find(const struct lw_store_config *config, char *out, size_t size, char *reason)
{
	int err = find(config, out, size);

	if (err == -EINVAL)
		lw_reason_set(reason, "nothing is kept: LADEWERK_CACHE must be an absolute path");
	else if (err == -ENOENT)
		lw_reason_set(reason, "nothing is kept: there is no usable home directory; set LADEWERK_CACHE to a directory of your own");
	else if (err)
		lw_reason_set(reason, "nothing is kept: the path of the cache is too long; set LADEWERK_CACHE to a shorter one");
	return err;
}

bool lw_place_trusts_uid(const struct lw_store_config *config, uid_t uid)
{
	/* The one that costs a system call comes last. */
	return uid == 0 || uid == config->prefix_owner || (config->trust_uid_set && uid == config->trust_uid)
		|| uid == geteuid();
}

/* No group is nobody: in many containers ordinary users are in root's. */
bool lw_place_open_to_others(const struct stat *st)
{
	return st->st_mode & (S_IWGRP | S_IWOTH);
}

bool lw_place_trusts(const struct lw_store_config *config, const struct stat *st, const char *dir, const char *name, char *reason)
{
	const char *slash = dir ? "/" : "";

	if (!dir)
		dir = "";
	if (!lw_place_trusts_uid(config, st->st_uid)) {
		lw_reason_set(reason, "not used: %.200s%s%.80s belongs to uid %u; set LADEWERK_CACHE to a directory of your own, "
			"or LADEWERK_TRUST_UID=%u if that user may run code as you",
			dir, slash, name, (unsigned)st->st_uid, (unsigned)st->st_uid);
		return false;
	}
	if (lw_place_open_to_others(st)) {
		lw_reason_set(reason, "not used: others may write to %.200s%s%.80s; run chmod go-w on it", dir, slash, name);
		return false;
	}
	return true;
}

static void explain_open(int err, const char *path, char *reason)
{
	if (err == -ENOENT)
		return;
	if (err == -ELOOP || err == -ENOTDIR)
		lw_reason_set(reason, "not used: %.280s, or something on the way to it, is a link or no directory; remove it, or set LADEWERK_CACHE", path);
	else
		lw_reason_set(reason, "not used: %.280s cannot be opened (%s); make it readable, or set LADEWERK_CACHE to a directory of your own",
			path, strerror(-err));
}

int lw_place_open(const struct lw_store_config *config, const char *place, const char *path, struct stat *st, char *reason)
{
	struct stat above;
	int err = 0;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, st) || fstatat(fd, "..", &above, 0)) {
		err = -errno;
		explain_open(err, path, reason);
	} else if (!lw_place_trusts(config, &above, NULL, place, reason) || !lw_place_trusts(config, st, NULL, path, reason)) {
		err = -EPERM;
	}
	if (err && fd >= 0)
		close(fd);
	return err ? err : fd;
}

/* Make sure that PATH is a directory. *ABOVE describes its parent before, itself after. */
static int step_into(const char *path, struct stat *above)
{
	struct stat st;

	if (stat(path, &st)) {
		if (errno != ENOENT)
			return -errno;
		if (above->st_uid != geteuid() && above->st_uid != 0)
			return -EPERM;
		if ((mkdir(path, 0700) && errno != EEXIST) || stat(path, &st))
			return -errno;
	}
	*above = st;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int make_place(const char *place, struct stat *st)
{
	char path[PATH_MAX];
	int err = join(path, sizeof(path), place, "");

	if (!err && stat("/", st))
		err = -errno;
	for (char *end = path; !err && *end; ) {
		end += strspn(end, "/");
		end += strcspn(end, "/");
		char cut = *end;
		*end = 0;
		err = step_into(path, st);
		*end = cut;
	}
	return err;
}

int lw_place_create(const struct lw_store_config *config, const char *place, const char *path, char *reason)
{
	struct stat st;
	int err = make_place(place, &st);

	if (!err && st.st_uid != geteuid()) {
		lw_reason_set(reason, "nothing is kept: %.280s belongs to uid %u, and nothing in it is for this interpreter; "
			"run `ladewerk index` as that user, or set LADEWERK_CACHE to a directory of your own", place, (unsigned)st.st_uid);
		return -EPERM;
	}
	if (!err && !lw_place_trusts(config, &st, NULL, place, reason))
		return -EPERM;
	if (!err && mkdir(path, 0700) && errno != EEXIST)
		err = -errno;
	if (err)
		lw_reason_set(reason, "nothing is kept: %.280s cannot be created (%s); set LADEWERK_CACHE to a directory that you own and may write to",
			path, strerror(-err));
	return err;
}
