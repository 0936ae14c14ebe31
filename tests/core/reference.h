/* SPDX-License-Identifier: MIT */
/*
 * reference: what names, listings and scans must say, worked out the plain way: readdir, stat, string comparison.
 * A result is a sorted set of lines, so that the two sides can come in any order:
 *
 *     D path errno              a directory
 *     E path/stem kinds doubt   one of its entries
 *     S path/stem stamp         one of its sources
 */
#ifndef LW_TEST_REFERENCE_H
#define LW_TEST_REFERENCE_H

#include "listing.h"
#include "tree.h"

#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>

static const char *const REF_EXTENSIONS[] = { ".cpython-311-x86_64-linux-gnu.so", ".abi3.so", ".so" };

static inline struct lw_suffixes ref_suffixes(void)
{
	struct lw_suffixes suffixes;
	TREE_CHECK(lw_suffixes_init(&suffixes, REF_EXTENSIONS, 3) == 0);
	return suffixes;
}

/* FileFinder asks, for a module name, whether name + suffix is in the directory: so try every split of NAME. */
static inline lw_kinds ref_classify(const struct lw_suffixes *suffixes, const char *name, size_t len, unsigned char type,
		size_t *stem)
{
	const bool open = type == DT_LNK || type == DT_UNKNOWN;
	for (size_t split = 1; split <= len; split++) {
		lw_kinds kind = split == len && (type == DT_DIR || open) ? LW_KIND_DIR : 0;
		for (unsigned i = 0; i < suffixes->count && !kind; i++)
			if (len - split == suffixes->item[i].len && !memcmp(name + split, suffixes->item[i].text, len - split)
					&& (type == DT_REG || open))
				kind = LW_KIND_SUFFIX(i);
		bool component = true;
		for (size_t i = 0; i < split; i++)
			component = component && name[i] != '.' && name[i] != '/' && name[i];
		*stem = split;
		if (kind && component)
			return kind;
	}
	return 0;
}

struct ref_lines {
	pthread_mutex_t lock;	/* protects the rest */
	char **line;
	size_t count, room;
};
#define REF_LINES { .lock = PTHREAD_MUTEX_INITIALIZER }

static inline void ref_add(struct ref_lines *lines, const char *format, ...)
{
	va_list args;
	char *line;
	va_start(args, format);
	TREE_CHECK(vasprintf(&line, format, args) >= 0);
	va_end(args);
	pthread_mutex_lock(&lines->lock);
	if (lines->count == lines->room) {
		lines->room = lines->room ? 2 * lines->room : 256;
		lines->line = realloc(lines->line, lines->room * sizeof *lines->line);
		TREE_CHECK(lines->line);
	}
	lines->line[lines->count++] = line;
	pthread_mutex_unlock(&lines->lock);
}

static inline void ref_clear(struct ref_lines *lines)
{
	for (size_t i = 0; i < lines->count; i++)
		free(lines->line[i]);
	free(lines->line);
	lines->line = NULL;
	lines->count = lines->room = 0;
}

static inline int ref_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static inline void ref_sort(struct ref_lines *lines)
{
	if (lines->count)
		qsort(lines->line, lines->count, sizeof *lines->line, ref_compare);
}

/* Sorts both. LOUD: say on stderr what differs first. */
static inline bool ref_equal(struct ref_lines *is, struct ref_lines *should, bool loud)
{
	ref_sort(is);
	ref_sort(should);
	for (size_t i = 0; i < is->count || i < should->count; i++) {
		const char *a = i < is->count ? is->line[i] : "(end)", *b = i < should->count ? should->line[i] : "(end)";
		if (strcmp(a, b) == 0)
			continue;
		if (loud)
			fprintf(stderr, "line %zu is     %s\n         should %s\n", i, a, b);
		return false;
	}
	return true;
}

static inline uint64_t ref_stamp(const struct stat *st)
{
	return lw_stamp(&(struct lw_stat){
		.dev = (uint64_t)major(st->st_dev) << 32 | minor(st->st_dev), .ino = st->st_ino, .size = (uint64_t)st->st_size,
		.mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
		.ctime_ns = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec, .mode = st->st_mode,
	});
}

struct ref_entry {
	char stem[NAME_MAX + 1];
	lw_kinds kinds;
	bool doubt;
};

static inline int ref_compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct ref_entry *)a)->stem, ((const struct ref_entry *)b)->stem);
}

/* The entries of an open directory, one per stem; *SEEN counts what is in it. The array is the caller's. */
static inline struct ref_entry *ref_read(DIR *dir, const struct lw_suffixes *suffixes, size_t *count, uint64_t *seen)
{
	struct ref_entry *list = NULL;
	size_t room = 0, n = 0, kept = 0;
	for (struct dirent *d; (d = readdir(dir));) {
		struct stat st;
		size_t stem;
		*seen += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
		bool known = fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0;
		unsigned char type = known ? IFTODT(st.st_mode) : d->d_type;
		lw_kinds kind = ref_classify(suffixes, d->d_name, strlen(d->d_name), type, &stem);
		if (!kind)
			continue;
		if (n == room) {
			room = room ? 2 * room : 64;
			list = realloc(list, room * sizeof *list);
			TREE_CHECK(list);
		}
		list[n] = (struct ref_entry){ .kinds = kind, .doubt = type == DT_LNK || type == DT_UNKNOWN };
		memcpy(list[n++].stem, d->d_name, stem);
	}
	if (n)
		qsort(list, n, sizeof *list, ref_compare_entries);
	for (size_t i = 0; i < n; i++) {
		if (kept && strcmp(list[kept - 1].stem, list[i].stem) == 0) {
			list[kept - 1].kinds |= list[i].kinds;
			list[kept - 1].doubt |= list[i].doubt;
		} else {
			list[kept++] = list[i];
		}
	}
	*count = kept;
	return list;
}

struct ref_walk {
	const struct lw_suffixes *suffixes;
	struct ref_lines lines;
	uint64_t entries, directories, modules, sources, unreadable, vanished, loops, links_left;
	bool all_links;		/* a control: links within what links lead to are followed as well */
};

struct ref_way {
	const struct ref_way *up;
	dev_t dev;
	ino_t ino;
};

/* How one directory was come upon. */
struct ref_from {
	const struct ref_way *up;	/* what must not be entered again; NULL: nothing */
	bool doubt;			/* a link or of unknown type, or something of its name is */
	bool linked;			/* through a link */
};

static inline void ref_walk_dir(struct ref_walk *walk, const struct ref_from *from, const char *path);

static inline void ref_walk_failed(struct ref_walk *walk, const char *path, bool doubt)
{
	bool gone = errno == ENOENT || errno == ENOTDIR;
	if (doubt && (gone || errno == ELOOP))
		return;
	walk->vanished += gone;
	walk->unreadable += !gone;
	ref_add(&walk->lines, "D %s %d", path, errno);
}

/* An entry that may be a directory; FROM says how its own directory was come upon. */
static inline void ref_walk_child(struct ref_walk *walk, const struct ref_way *way, const struct ref_from *from, int fd,
		const char *path, const struct ref_entry *entry)
{
	struct stat st;
	bool link = fstatat(fd, entry->stem, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
	bool sound = link && fstatat(fd, entry->stem, &st, 0) == 0;
	if (link && from->linked && !walk->all_links) {
		if (sound && S_ISDIR(st.st_mode))
			walk->links_left++;
		else if (!sound)
			ref_walk_failed(walk, path, entry->doubt);
		return;
	}
	ref_walk_dir(walk, &(struct ref_from){ .up = way, .doubt = entry->doubt, .linked = from->linked || link }, path);
}

static inline void ref_walk_entry(struct ref_walk *walk, const struct ref_way *way, const struct ref_from *from, int fd,
		const char *path, const struct ref_entry *entry)
{
	struct stat st;
	char *child;
	const char *slash = strcmp(path, "/") == 0 ? "" : "/";
	ref_add(&walk->lines, "E %s%s%s %x %d", path, slash, entry->stem, entry->kinds, entry->doubt);
	TREE_CHECK(asprintf(&child, "%s%s%s", path, slash, entry->stem) >= 0);
	if (entry->kinds & LW_KIND_SUFFIX(walk->suffixes->source)) {
		char file[NAME_MAX + 4];
		snprintf(file, sizeof file, "%s.py", entry->stem);
		if (fstatat(fd, file, &st, 0) == 0 && S_ISREG(st.st_mode)) {
			walk->sources++;
			ref_add(&walk->lines, "S %s %016llx", child, (unsigned long long)ref_stamp(&st));
		}
	}
	if ((entry->kinds & LW_KIND_DIR) && strcmp(entry->stem, "__pycache__") != 0 && strcmp(entry->stem, "node_modules") != 0)
		ref_walk_child(walk, way, from, fd, child, entry);
	free(child);
}

static inline void ref_walk_dir(struct ref_walk *walk, const struct ref_from *from, const char *path)
{
	struct stat st;
	const struct ref_way *up = from->up;
	DIR *dir = opendir(path);
	if (!dir) {
		ref_walk_failed(walk, path, from->doubt);
		return;
	}
	TREE_CHECK(fstat(dirfd(dir), &st) == 0);
	struct ref_way way = { .up = up, .dev = st.st_dev, .ino = st.st_ino };
	size_t count;
	struct ref_entry *list = ref_read(dir, walk->suffixes, &count, &walk->entries);
	for (; up; up = up->up) {
		if (up->dev == way.dev && up->ino == way.ino) {
			walk->loops++;
			count = 0;
			break;
		}
	}
	if (!up) {
		walk->directories++;
		walk->modules += count;
		ref_add(&walk->lines, "D %s 0", path);
	}
	/* One descriptor at a time would do; a copy of it keeps deep trees below the limit. */
	int fd = count ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	closedir(dir);
	for (size_t i = 0; i < count; i++)
		ref_walk_entry(walk, &way, from, fd, path, &list[i]);
	if (fd >= 0)
		close(fd);
	free(list);
}

/* PATH from the root, with all that lies above it: REAL, its real path, is cut shorter from step to step. */
static inline void ref_walk_below(struct ref_walk *walk, const struct ref_way *up, const char *path, char *real)
{
	struct stat st;
	char *slash = strrchr(real, '/');
	if (!real[1]) {
		ref_walk_dir(walk, &(struct ref_from){ .up = up }, path);
		return;
	}
	slash[slash == real] = '\0';
	TREE_CHECK(stat(real, &st) == 0);
	ref_walk_below(walk, &(struct ref_way){ .up = up, .dev = st.st_dev, .ino = st.st_ino }, path, real);
}

static inline void ref_walk_root(struct ref_walk *walk, const char *path)
{
	char *real = realpath(path, NULL);
	TREE_CHECK(real);
	ref_walk_below(walk, NULL, path, real);
	free(real);
}

#endif
