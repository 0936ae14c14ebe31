/* SPDX-License-Identifier: MIT */
/*
 * listing: see listing.h. A directory is stat'ed, then read with getdents64 in large steps; what can be imported is
 * collected in growing arrays, sorted, entries of one stem merged, and packed into one block.
 */
#include "listing.h"
#include "hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	BUFFER = 64 * 1024,	/* for getdents64: a directory of a thousand names in one call */
	KEPT = 64 * 1024,	/* entries: beyond that a reader gives its memory back */
	FEW = 48,		/* entries that are sorted by insertion, without qsort_r()'s calls */
};

/* On the heap: it runs on whatever stack the caller's thread has. */
struct lw_listing_reader {
	int fd;
	const struct lw_suffixes *suffixes;
	struct lw_entry *entries;
	char *names;
	uint32_t count, room;
	uint32_t names_len, names_room;
	struct lw_listing_cost cost;
	_Alignas(struct dirent64) char buffer[BUFFER];
};

uint32_t lw_name_hash(const char *name, size_t len)
{
	return (uint32_t)lw_hash64(name, len);
}

static int compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
	return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_entries(const void *left, const void *right, void *names)
{
	const struct lw_entry *a = left, *b = right;
	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return compare_names((const char *)names + a->name, a->len, (const char *)names + b->name, b->len);
}

/* Grow *BLOCK of *ROOM items of SIZE bytes until it holds NEEDED. */
static int grow(void **block, uint32_t *room, uint64_t needed, size_t size)
{
	if (needed <= *room)
		return 0;
	if (needed > UINT32_MAX)
		return -EOVERFLOW;
	uint64_t wanted = *room < 64 ? 128 : 2 * (uint64_t)*room;
	if (wanted < needed)
		wanted = needed;
	if (wanted > UINT32_MAX)
		wanted = UINT32_MAX;
	void *larger = realloc(*block, (size_t)wanted * size);
	if (!larger)
		return -ENOMEM;
	*block = larger;
	*room = (uint32_t)wanted;
	return 0;
}

static int append(struct lw_listing_reader *r, const char *stem, size_t len, lw_kinds kind, uint8_t flags)
{
	void *entries = r->entries, *names = r->names;
	int error = grow(&entries, &r->room, (uint64_t)r->count + 1, sizeof *r->entries);
	r->entries = entries;
	if (error)
		return error;
	error = grow(&names, &r->names_room, (uint64_t)r->names_len + len, 1);
	r->names = names;
	if (error)
		return error;

	r->entries[r->count++] = (struct lw_entry){
		.hash = lw_name_hash(stem, len), .name = r->names_len, .len = (uint8_t)len, .flags = flags, .kinds = kind,
	};
	memcpy(r->names + r->names_len, stem, len);
	r->names_len += (uint32_t)len;
	return 0;
}

/* The type of an entry whose file system does not tell; still unknown when it cannot be asked. */
static unsigned char ask_type(struct lw_listing_reader *r, const char *name)
{
	struct stat st;
	r->cost.syscalls++;
	return fstatat(r->fd, name, &st, AT_SYMLINK_NOFOLLOW) ? DT_UNKNOWN : IFTODT(st.st_mode);
}

static int add(struct lw_listing_reader *r, const struct dirent64 *d)
{
	size_t len = strlen(d->d_name), stem;
	unsigned char type = d->d_type;
	lw_kinds kind = lw_names_classify(r->suffixes, d->d_name, len, type, &stem);
	if (kind && type == DT_UNKNOWN) {
		type = ask_type(r, d->d_name);
		kind = lw_names_classify(r->suffixes, d->d_name, len, type, &stem);
	}
	if (!kind)
		return 0;
	/* FUSE lets longer names pass. To leave one out would deny a module that exists. */
	if (stem > UINT8_MAX)
		return -ENAMETOOLONG;
	/* A link's target can change while this directory does not: its type today is no fact about the directory. */
	bool doubt = type == DT_LNK || type == DT_UNKNOWN;
	return append(r, d->d_name, stem, kind, doubt ? LW_ENTRY_DOUBT : 0);
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static int add_all(struct lw_listing_reader *r, size_t size)
{
	for (size_t at = 0; at < size;) {
		const struct dirent64 *d = (const void *)(r->buffer + at);
		int error = add(r, d);
		if (error)
			return error;
		r->cost.entries += !is_dots(d->d_name);
		at += d->d_reclen;
	}
	return 0;
}

static int read_all(struct lw_listing_reader *r)
{
	for (;;) {
		ssize_t size = getdents64(r->fd, r->buffer, sizeof r->buffer);
		r->cost.syscalls++;
		if (size == 0)
			return 0;
		if (size < 0 && errno != EINTR)
			return -errno;
		int error = size < 0 ? 0 : add_all(r, (size_t)size);
		if (error)
			return error;
	}
}

/* Merge neighbours of one name. Their spare copies of it are left behind by lw_listing_copy(). */
static void merge(struct lw_listing_reader *r)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < r->count; i++) {
		struct lw_entry *last = kept ? &r->entries[kept - 1] : NULL;
		if (!last || compare_entries(last, &r->entries[i], r->names) != 0) {
			r->entries[kept++] = r->entries[i];
			continue;
		}
		last->kinds |= r->entries[i].kinds;
		last->flags |= r->entries[i].flags;
	}
	r->count = kept;
}

/* Directories are small, and this needs no call to compare two hashes. */
static void sort_few(struct lw_listing_reader *r)
{
	for (uint32_t i = 1; i < r->count; i++) {
		struct lw_entry entry = r->entries[i];
		uint32_t at = i;
		for (; at > 0 && compare_entries(&r->entries[at - 1], &entry, r->names) > 0; at--)
			r->entries[at] = r->entries[at - 1];
		r->entries[at] = entry;
	}
}

static void sort(struct lw_listing_reader *r)
{
	if (r->count <= FEW)
		sort_few(r);
	else
		qsort_r(r->entries, r->count, sizeof *r->entries, compare_entries, r->names);
}

static int collect(struct lw_listing_reader *r, struct lw_listing **out)
{
	int error = read_all(r);
	if (error)
		return error;
	sort(r);
	merge(r);
	*out = lw_listing_copy(r->entries, r->count, r->names);
	return *out ? 0 : -ENOMEM;
}

struct lw_listing_reader *lw_listing_reader_create(const struct lw_suffixes *suffixes)
{
	struct lw_listing_reader *r = malloc(sizeof *r);
	if (!r)
		return NULL;
	/* Not the buffer: zeros would cost more than a small directory. */
	memset(r, 0, offsetof(struct lw_listing_reader, buffer));
	r->suffixes = suffixes;
	return r;
}

void lw_listing_reader_destroy(struct lw_listing_reader *r)
{
	if (!r)
		return;
	free(r->entries);
	free(r->names);
	free(r);
}

/* For the next directory. */
static void rewind_reader(struct lw_listing_reader *r)
{
	if (r->room > KEPT) {
		free(r->entries);
		free(r->names);
		r->entries = NULL;
		r->names = NULL;
		r->room = r->names_room = 0;
	}
	r->count = r->names_len = 0;
	r->cost = (struct lw_listing_cost){ 0 };
}

int lw_listing_reader_read(struct lw_listing_reader *r, int fd, struct lw_listing **out, struct lw_stat *st, struct lw_listing_cost *cost)
{
	/* Before reading: what changes later then shows as a difference. */
	int error = lw_stat_fd(fd, st);
	cost->syscalls++;
	if (error)
		return error;
	r->fd = fd;
	error = collect(r, out);
	cost->entries += r->cost.entries;
	cost->syscalls += r->cost.syscalls;
	rewind_reader(r);
	return error;
}

static int read_once(int fd, const struct lw_suffixes *suffixes, struct lw_listing **out, struct lw_stat *st)
{
	struct lw_listing_cost cost = { 0 };
	struct lw_listing_reader *reader = lw_listing_reader_create(suffixes);
	int error = reader ? lw_listing_reader_read(reader, fd, out, st, &cost) : -ENOMEM;
	lw_listing_reader_destroy(reader);
	return error;
}

int lw_listing_read_fd(int fd, const struct lw_suffixes *suffixes, struct lw_listing **out, struct lw_stat *st)
{
	/* Half a listing would deny modules that exist. */
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return read_once(fd, suffixes, out, st);
}

int lw_listing_read(const char *path, const struct lw_suffixes *suffixes, struct lw_listing **out, struct lw_stat *st)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = read_once(fd, suffixes, out, st);
	close(fd);
	return error;
}

struct lw_listing *lw_listing_copy(const struct lw_entry *entries, uint32_t count, const char *names)
{
	uint64_t names_len = 0;
	for (uint32_t i = 0; i < count; i++)
		names_len += entries[i].len;
	if (names_len > UINT32_MAX)
		return NULL;
	struct lw_listing *listing = malloc(sizeof *listing + (size_t)count * sizeof *entries + (size_t)names_len);
	if (!listing)
		return NULL;

	struct lw_entry *to = (struct lw_entry *)(listing + 1);
	char *text = (char *)(to + count);
	*listing = (struct lw_listing){ .count = count, .names_len = (uint32_t)names_len, .entries = to, .names = text };
	uint32_t at = 0;
	for (uint32_t i = 0; i < count; i++) {
		to[i] = entries[i];
		to[i].name = at;
		memcpy(text + at, names + entries[i].name, entries[i].len);
		at += entries[i].len;
	}
	return listing;
}

void lw_listing_destroy(struct lw_listing *listing)
{
	free(listing);
}

/* In [FIRST, FIRST + COUNT], by halving. */
static uint32_t lower_bound(const struct lw_entry *entries, uint32_t first, uint32_t count, uint32_t hash)
{
	while (count) {
		uint32_t half = count / 2;
		if (entries[first + half].hash < hash) {
			first += half + 1;
			count -= half + 1;
		} else {
			count = half;
		}
	}
	return first;
}

/*
 * Hashes are uniform: where a hash belongs follows from its value, give or take the square root of their number. So a few steps from there are tried first;
 * halving would miss the cache and mispredict at nearly each of its own. Tables that are not uniform are halved.
 */
uint32_t lw_listing_lower_bound(const struct lw_entry *entries, uint32_t count, uint32_t hash)
{
	enum { NEAR = 16 };
	uint32_t at = (uint32_t)((uint64_t)hash * count >> 32), steps = 0;
	if (at < count && entries[at].hash < hash) {
		while (++at < count && entries[at].hash < hash)
			if (++steps == NEAR)
				return lower_bound(entries, at + 1, count - at - 1, hash);
		return at;
	}
	for (; at > 0 && entries[at - 1].hash >= hash; at--)
		if (++steps == NEAR)
			return lower_bound(entries, 0, at, hash);
	return at;
}

const struct lw_entry *lw_listing_find(const struct lw_listing *listing, const char *name, size_t len)
{
	uint32_t hash = lw_name_hash(name, len);
	uint32_t i = lw_listing_lower_bound(listing->entries, listing->count, hash);
	for (; i < listing->count && listing->entries[i].hash == hash; i++) {
		const struct lw_entry *entry = &listing->entries[i];
		if (compare_names(listing->names + entry->name, entry->len, name, len) == 0)
			return entry;
	}
	return NULL;
}
