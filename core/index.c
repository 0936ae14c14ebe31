/* SPDX-License-Identifier: MIT */
/*
 * index: opens and reads index files (see index.h for the format).
 *
 * Two promises hold everywhere below:
 *
 * 1. No byte is used before its block was verified. All reads of the file go through bytes(), which checks the bounds and
 *    then the blocks; a block is checked against its sum, the block of that sum against ROOTS, and ROOTS against
 *    the head, which was checked at open. The head is copied, so the geometry never changes under us.
 * 2. Verified does not mean sane: sums only tell that the file is as it was written, and anybody can compute them.
 *    So counts, offsets and order are believed only as far as memory and running time stay safe: a table that
 *    is not sorted makes lookups miss, nothing else.
 */
#include "index.h"

#include <assert.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "index files are little-endian and used in place"
#endif

_Static_assert(sizeof(struct lw_index_head) == 232, "the head is part of the format");
_Static_assert(sizeof(struct lw_dir_record) == 32, "records are part of the format");
_Static_assert(sizeof(struct lw_file_record) == 40, "records are part of the format");
_Static_assert(sizeof(struct lw_view_record) == 40, "records are part of the format");
_Static_assert(sizeof(struct lw_view_name) == 12, "records are part of the format");
_Static_assert(sizeof(struct lw_entry) == 12, "records are part of the format");

/* Whether a thread was the first to set a bit; what the race test's control replaces. */
#ifndef LW_INDEX_FIRST
#define LW_INDEX_FIRST(before, bit) (!((before) & (bit)))
#endif

/* Of a file that every start must read whole. */
static const uint64_t COPY_MAX = UINT64_C(32) << 20;

/* The only part that changes while an index is open. */
struct seen {
	_Atomic bool damaged;
	_Atomic uint64_t touched;	/* how many bits are set below */
	/* A bit per block: it was verified. Relaxed: the data never changes, so there is nothing to order. */
	_Atomic uint64_t verified[];
};

struct lw_index {
	struct lw_index_head head;
	const unsigned char *data;
	size_t size;
	enum { BORROWED, MAPPED, COPIED } backing;
	struct seen *seen;
	lw_roots *roots;	/* NULL: not relative, or not bound */
};

/* Sections that are arrays of records. */
static const uint32_t record_size[LW_SEC_COUNT] = {
	[LW_SEC_DIRS] = sizeof(struct lw_dir_record),
	[LW_SEC_ENTRIES] = sizeof(struct lw_entry),
	[LW_SEC_STAMPS] = sizeof(uint64_t),
	[LW_SEC_FILES] = sizeof(struct lw_file_record),
	[LW_SEC_VIEWS] = sizeof(struct lw_view_record),
};

/* ---- layout ---- */

static uint64_t to_blocks(uint64_t bytes)
{
	return bytes / LW_BLOCK + (bytes % LW_BLOCK != 0);
}

int lw_index_layout(struct lw_index_head *head)
{
	/* Far beyond what the 32-bit offsets can address, and no sum of these can overflow. */
	const uint64_t limit = UINT64_C(1) << 48;
	uint64_t block = 1;
	for (int s = 0; s < LW_SEC_COUNT; s++) {
		if (head->section[s].size > limit)
			return -E2BIG;
		head->section[s].offset = block * LW_BLOCK;
		block += to_blocks(head->section[s].size);
	}
	head->sums_offset = block * LW_BLOCK;
	head->sums_size = (block - 1) * sizeof(uint64_t);
	block += to_blocks(head->sums_size);
	head->roots_offset = block * LW_BLOCK;
	head->roots_size = to_blocks(head->sums_size) * sizeof(uint64_t);
	head->file_size = head->roots_offset + head->roots_size;
	return 0;
}

/* ---- opening ---- */

static int refuse(lw_reason *why, int error, lw_reason text)
{
	if (why)
		*why = text;
	return error;
}

static bool counts_fit(const struct lw_index_head *head)
{
	for (int s = 0; s < LW_SEC_COUNT; s++) {
		uint64_t size = head->section[s].size, each = record_size[s];
		if (each && (size % each || size / each > UINT32_MAX))
			return false;
	}
	return true;
}

static bool stamps_fit(const struct lw_index_head *head)
{
	uint64_t stamps = head->section[LW_SEC_STAMPS].size / sizeof(uint64_t);
	return !stamps || stamps == head->section[LW_SEC_ENTRIES].size / sizeof(struct lw_entry);
}

static bool layout_holds(const struct lw_index_head *head)
{
	struct lw_index_head expected = *head;
	return lw_index_layout(&expected) == 0 && memcmp(&expected, head, sizeof(expected)) == 0 && counts_fit(head) && stamps_fit(head);
}

static int check_head(const struct lw_index_head *head, size_t size, lw_reason *why)
{
	if (memcmp(head->magic, LW_INDEX_MAGIC, sizeof(head->magic)))
		return refuse(why, -EBADMSG, "not an index file");
	/* Before the checksum, whose place may be another in another version. */
	if (head->format != LW_INDEX_FORMAT || head->head_size != sizeof(*head))
		return refuse(why, -EPROTO, "written in another format version");
	if (head->head_hash != lw_hash64(head, offsetof(struct lw_index_head, head_hash)))
		return refuse(why, -EBADMSG, "the head is damaged");
	if (head->file_size != size)
		return refuse(why, -EBADMSG, "truncated, or longer than it was written");
	if (head->roots > LW_ROOTS_MAX || !layout_holds(head))
		return refuse(why, -EBADMSG, "the head describes an impossible layout");
	return 0;
}

enum kind { ABSOLUTE, RELATIVE, EITHER };

static int check_kind(const struct lw_index_head *head, enum kind wanted, lw_reason *why)
{
	if (wanted == ABSOLUTE && head->roots)
		return refuse(why, -EPROTO, "made by `ladewerk index --frozen`, and no cache file");
	if (wanted == RELATIVE && !head->roots)
		return refuse(why, -EPROTO, "a cache file, and not made by `ladewerk index --frozen`");
	return 0;
}

static int check(const void *data, size_t size, const struct lw_hash128 *key, struct lw_index_head *head, lw_reason *why)
{
	if (size < LW_BLOCK)
		return refuse(why, -EBADMSG, "truncated: shorter than a head");
	memcpy(head, data, sizeof(*head));
	int error = check_head(head, size, why);
	if (error)
		return error;
	if (head->roots_hash != lw_hash64((const unsigned char *)data + head->roots_offset, head->roots_size))
		return refuse(why, -EBADMSG, "the table of checksums is damaged");
	if (key && lw_hash128_cmp(*key, head->key))
		return refuse(why, -ESTALE, "written for another interpreter or other settings");
	return 0;
}

static uint64_t seen_words(const struct lw_index_head *head)
{
	return head->roots_offset / LW_BLOCK / 64 + 1;
}

static struct seen *create_seen(const struct lw_index_head *head)
{
	return calloc(1, sizeof(struct seen) + seen_words(head) * sizeof(uint64_t));
}

/* On success the index owns DATA, as BACKING says. */
static int open_data(const void *data, size_t size, int backing, enum kind kind, const struct lw_hash128 *key, lw_index **out, lw_reason *why)
{
	struct lw_index_head head;
	int error = check(data, size, key, &head, why);
	if (!error)
		error = check_kind(&head, kind, why);
	if (error)
		return error;
	lw_index *index = malloc(sizeof(*index));
	struct seen *seen = create_seen(&head);
	if (!index || !seen) {
		free(index);
		free(seen);
		return refuse(why, -ENOMEM, "out of memory");
	}
	*index = (lw_index){ .head = head, .data = data, .size = size, .backing = backing, .seen = seen };
	*out = index;
	return refuse(why, 0, NULL);
}

static void release(const void *data, size_t size, int backing)
{
	if (backing == MAPPED)
		munmap((void *)data, size);
	else if (backing == COPIED)
		free((void *)data);
}

/*
 * Where nobody but this kernel can shorten a file, a mapping of one that is never truncated cannot fault.
 * Anywhere else (network, FUSE) a read that fails is an error code, a mapping that fails is a SIGBUS.
 */
static bool may_map(int fd)
{
	static const uint32_t local[] = {
		EXT4_SUPER_MAGIC,	/* ext2 and ext3 as well */
		XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, RAMFS_MAGIC,
		SQUASHFS_MAGIC, EROFS_SUPER_MAGIC_V1,
		0x2fc12fc1,		/* zfs, which is not in the kernel's headers */
	};
	struct statfs fs;
	if (fstatfs(fd, &fs))
		return false;
	for (size_t i = 0; i < sizeof(local) / sizeof(*local); i++)
		if ((uint32_t)fs.f_type == local[i])
			return true;
	return false;
}

static int read_whole(int fd, unsigned char *to, size_t size)
{
	for (size_t done = 0; done < size; ) {
		ssize_t got = pread(fd, to + done, size - done, (off_t)done);
		if (got == 0)
			return -EBADMSG;
		if (got < 0 && errno != EINTR)
			return -errno;
		done += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

static int copy_file(int fd, size_t size, const void **data, lw_reason *why)
{
	unsigned char *copy = malloc(size);
	if (!copy)
		return refuse(why, -ENOMEM, "out of memory");
	int error = read_whole(fd, copy, size);
	if (error) {
		free(copy);
		return refuse(why, error, "cannot be read");
	}
	*data = copy;
	return 0;
}

uint64_t lw_index_limit(int fd)
{
	return may_map(fd) ? SIZE_MAX : COPY_MAX;
}

static int load_file(int fd, size_t size, const void **data, int *backing, lw_reason *why)
{
	bool mappable = may_map(fd);
	if (!mappable && size > COPY_MAX)
		return refuse(why, -EFBIG, "it lies on a network file system, where files beyond 32 MB are not read; "
			"set LADEWERK_CACHE to a directory on a local disk");
	void *map = mappable ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
	if (map == MAP_FAILED) {
		*backing = COPIED;
		return copy_file(fd, size, data, why);
	}
	*backing = MAPPED;
	*data = map;
	return 0;
}

static int open_file(int fd, enum kind kind, const struct lw_hash128 *key, lw_index **out, lw_reason *why)
{
	struct stat st;
	if (fstat(fd, &st))
		return refuse(why, -errno, "cannot be examined");
	if (!S_ISREG(st.st_mode))
		return refuse(why, -EBADMSG, "not a regular file");
	if (st.st_size < LW_BLOCK)
		return refuse(why, -EBADMSG, "truncated: shorter than a head");
	if ((uintmax_t)st.st_size > SIZE_MAX)
		return refuse(why, -EFBIG, "larger than the address space; set LADEWERK_CACHE to another directory");

	size_t size = (size_t)st.st_size;
	const void *data;
	int backing;
	int error = load_file(fd, size, &data, &backing, why);
	if (error)
		return error;
	error = open_data(data, size, backing, kind, key, out, why);
	if (error)
		release(data, size, backing);
	return error;
}

int lw_index_open(int fd, const struct lw_hash128 *key, lw_index **out, lw_reason *why)
{
	return open_file(fd, ABSOLUTE, key, out, why);
}

int lw_index_open_relative(int fd, const struct lw_hash128 *key, lw_index **out, lw_reason *why)
{
	return open_file(fd, RELATIVE, key, out, why);
}

int lw_index_open_memory(const void *data, size_t size, const struct lw_hash128 *key, lw_index **out, lw_reason *why)
{
	assert((uintptr_t)data % 8 == 0);
	return open_data(data, size, BORROWED, EITHER, key, out, why);
}

void lw_index_close(lw_index *index)
{
	if (!index)
		return;
	release(index->data, index->size, index->backing);
	lw_roots_destroy(index->roots);
	free(index->seen);
	free(index);
}

void lw_index_bind(lw_index *index, lw_roots *roots)
{
	assert(lw_index_is_relative(index) && !index->roots);
	index->roots = roots;
}

bool lw_index_holds(const lw_index *index, const char *path, size_t len)
{
	return index->roots && lw_roots_hold(index->roots, path, len);
}

bool lw_index_is_root(const lw_index *index, const char *path, size_t len)
{
	char relative[LW_ROOTS_PATH];
	len = index->roots ? lw_roots_translate(index->roots, path, len, relative) : 0;
	return len && !memchr(relative, '/', len);
}

const struct lw_index_head *lw_index_head(const lw_index *index)
{
	return &index->head;
}

bool lw_index_damaged(const lw_index *index)
{
	return atomic_load_explicit(&index->seen->damaged, memory_order_relaxed);
}

/* ---- verified access ---- */

static int bad(const lw_index *index)
{
	atomic_store_explicit(&index->seen->damaged, true, memory_order_relaxed);
	return LW_BAD;
}

static bool is_verified(const lw_index *index, uint64_t block)
{
	uint64_t word = atomic_load_explicit(&index->seen->verified[block / 64], memory_order_relaxed);
	return word >> (block % 64) & 1;
}

static bool verify(const lw_index *index, uint64_t block, uint64_t sum)
{
	if (lw_hash64(index->data + block * LW_BLOCK, LW_BLOCK) != sum)
		return false;
	uint64_t bit = UINT64_C(1) << (block % 64);
	uint64_t before = atomic_fetch_or_explicit(&index->seen->verified[block / 64], bit, memory_order_relaxed);
	if (LW_INDEX_FIRST(before, bit))
		atomic_fetch_add_explicit(&index->seen->touched, 1, memory_order_relaxed);
	return true;
}

static uint64_t sum_at(const lw_index *index, uint64_t offset)
{
	return *(const uint64_t *)(index->data + offset);
}

static bool verify_sums(const lw_index *index, uint64_t block)
{
	uint64_t n = block - index->head.sums_offset / LW_BLOCK;
	return is_verified(index, block) || verify(index, block, sum_at(index, index->head.roots_offset + n * 8));
}

/* BLOCK is one of the sections' (1 .. n): its sum is inside SUMS. */
static bool verify_block(const lw_index *index, uint64_t block)
{
	uint64_t offset = index->head.sums_offset + (block - 1) * 8;
	return verify_sums(index, offset / LW_BLOCK) && verify(index, block, sum_at(index, offset));
}

static __attribute__((noinline)) const void *bytes_of_blocks(const lw_index *index, uint64_t start, uint64_t size)
{
	for (uint64_t block = start / LW_BLOCK; block < to_blocks(start + size); block++) {
		if (!is_verified(index, block) && !verify_block(index, block)) {
			bad(index);
			return NULL;
		}
	}
	return index->data + start;
}

static __attribute__((noinline)) const void *no_bytes(const lw_index *index)
{
	bad(index);
	return NULL;
}

/* SIZE verified bytes of a section, or NULL (and the index is damaged). A lookup asks six times, nearly always for a piece of one block that is verified. */
static inline const void *bytes(const lw_index *index, enum lw_section section, uint64_t offset, uint64_t size)
{
	uint64_t limit = index->head.section[section].size;
	if (offset > limit || size > limit - offset)
		return no_bytes(index);
	uint64_t start = index->head.section[section].offset + offset;
	if (start % LW_BLOCK + size <= LW_BLOCK && is_verified(index, start / LW_BLOCK))
		return index->data + start;
	return bytes_of_blocks(index, start, size);
}

static const char *string(const lw_index *index, uint32_t offset, uint32_t len)
{
	return bytes(index, LW_SEC_STRINGS, offset, len);
}

/* Nothing has an empty name, and nobody is prepared for one. (An empty path is that of the root directory.) */
const char *lw_index_string(const lw_index *index, uint32_t offset, uint32_t len)
{
	if (len)
		return string(index, offset, len);
	bad(index);
	return NULL;
}

static uint32_t count_of(const lw_index *index, enum lw_section section)
{
	return (uint32_t)(index->head.section[section].size / record_size[section]);
}

static const void *record_at(const lw_index *index, enum lw_section section, uint32_t i)
{
	return bytes(index, section, (uint64_t)i * record_size[section], record_size[section]);
}

/* ---- search ---- */

/* Order of the wanted key against a record with the same hash, into *ORDER. LW_OK or LW_BAD. */
typedef int compare_tie(const lw_index *index, const void *record, const void *wanted, int *order);

/* What is still in play: records [lo, hi). */
struct span {
	uint32_t lo, hi;
};

static uint32_t halfway(const struct span *span)
{
	return span->lo + (span->hi - span->lo) / 2;
}

/*
 * Hashes are uniform, so COUNT of them advance by about COUNT / 2^64 a record: from the hash at AT the wanted one is as many records away as their difference
 * says. A multiplication, where interpolating between the ends of the span would divide. Always inside the span, whatever the table holds.
 */
static uint32_t estimate(const struct span *span, uint32_t at, uint64_t found, uint64_t hash, uint32_t count)
{
	if (hash > found) {
		uint64_t forward = 1 + (uint64_t)((unsigned __int128)(hash - found) * count >> 64);
		return forward < span->hi - at ? at + (uint32_t)forward : span->hi - 1;
	}
	uint64_t back = 1 + (uint64_t)((unsigned __int128)(found - hash) * count >> 64);
	return back <= at - span->lo ? at - (uint32_t)back : span->lo;
}

/* Every searched record begins with 64 bits of hash; TIE settles the rest. Beyond the estimates that honest tables need, halving bounds the search for any other. */
static inline int search(const lw_index *index, enum lw_section section, uint64_t hash, compare_tie *tie, const void *wanted,
		const void **out)
{
	enum { ESTIMATES = 12 };
	uint32_t count = count_of(index, section), at = (uint32_t)((unsigned __int128)hash * count >> 64);
	struct span span = { .hi = count };
	for (unsigned step = 0; span.lo < span.hi; step++) {
		const void *record = record_at(index, section, at);
		if (!record)
			return LW_BAD;
		uint64_t found = *(const uint64_t *)record;
		int order = (hash > found) - (hash < found);
		if (order == 0 && tie(index, record, wanted, &order) == LW_BAD)
			return LW_BAD;
		if (order == 0) {
			*out = record;
			return LW_OK;
		}
		if (order < 0)
			span.hi = at;
		else
			span.lo = at + 1;
		at = step < ESTIMATES && hash != found && span.lo < span.hi ? estimate(&span, at, found, hash, count) : halfway(&span);
	}
	return LW_ABSENT;
}

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
	return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* ---- directories ---- */

struct text {
	const char *at;
	size_t len;
};

static int tie_path(const lw_index *index, const void *record, const void *wanted, int *order)
{
	const struct lw_dir_record *dir = record;
	const struct text *path = wanted;
	const char *stored = string(index, dir->path, dir->path_len);
	if (!stored)
		return LW_BAD;
	*order = compare_bytes(path->at, path->len, stored, dir->path_len);
	return LW_OK;
}

static int load_dir(const lw_index *index, const struct lw_dir_record *record, struct lw_index_dir *out)
{
	const uint64_t each = sizeof(struct lw_entry);
	const void *entries = bytes(index, LW_SEC_ENTRIES, record->entries * each, record->count * each);
	if (!entries)
		return LW_BAD;
	*out = (struct lw_index_dir){ .index = index, .record = record, .entries = entries };
	return LW_OK;
}

static int find_stored_dir(const lw_index *index, const char *path, size_t len, const struct lw_dir_record **out)
{
	const struct text wanted = { path, len };
	const void *record = NULL;
	int got = search(index, LW_SEC_DIRS, lw_hash64(path, len), tie_path, &wanted, &record);
	*out = record;
	return got;
}

int lw_index_find_dir_record(const lw_index *index, const char *path, size_t len, const struct lw_dir_record **out)
{
	char relative[LW_ROOTS_PATH];
	if (!lw_index_is_relative(index))
		return find_stored_dir(index, path, len, out);
	len = index->roots ? lw_roots_translate(index->roots, path, len, relative) : 0;
	return len ? find_stored_dir(index, relative, len, out) : LW_ABSENT;
}

int lw_index_find_dir(const lw_index *index, const char *path, size_t len, struct lw_index_dir *out)
{
	const struct lw_dir_record *record;
	int got = lw_index_find_dir_record(index, path, len, &record);
	return got == LW_OK ? load_dir(index, record, out) : got;
}

int lw_index_dir_find(const struct lw_index_dir *dir, const char *name, size_t len, const struct lw_entry **out)
{
	uint32_t hash = lw_name_hash(name, len), count = dir->record->count;
	uint32_t i = lw_listing_lower_bound(dir->entries, count, hash);
	for (; i < count && dir->entries[i].hash == hash; i++) {
		const struct lw_entry *entry = &dir->entries[i];
		const char *stored = lw_index_string(dir->index, entry->name, entry->len);
		if (!stored)
			return LW_BAD;
		if (entry->len == len && memcmp(stored, name, len) == 0) {
			*out = entry;
			return LW_OK;
		}
	}
	return LW_ABSENT;
}

int lw_index_stamps(const struct lw_index_dir *dir, const struct lw_entry *from, uint32_t count, const uint64_t **out)
{
	const uint64_t each = sizeof(**out), first = dir->record->entries + (uint64_t)(from - dir->entries);
	if (!dir->index->head.section[LW_SEC_STAMPS].size)
		return LW_ABSENT;
	*out = bytes(dir->index, LW_SEC_STAMPS, first * each, count * each);
	return *out ? LW_OK : LW_BAD;
}

uint32_t lw_index_dir_count(const lw_index *index)
{
	return count_of(index, LW_SEC_DIRS);
}

int lw_index_dir_record_at(const lw_index *index, uint32_t i, const struct lw_dir_record **out, const char **path)
{
	if (i >= lw_index_dir_count(index))
		return LW_ABSENT;
	const struct lw_dir_record *record = record_at(index, LW_SEC_DIRS, i);
	if (!record)
		return LW_BAD;
	*out = record;
	*path = string(index, record->path, record->path_len);
	return *path ? LW_OK : LW_BAD;
}

int lw_index_dir_at(const lw_index *index, uint32_t i, struct lw_index_dir *out, const char **path)
{
	const struct lw_dir_record *record;
	int got = lw_index_dir_record_at(index, i, &record, path);
	return got == LW_OK ? load_dir(index, record, out) : got;
}

/* ---- files ---- */

/* The half of a 128-bit key that is not the hash; it stands second in files and views alike. */
static int tie_key(const lw_index *index, const void *record, const void *wanted, int *order)
{
	*order = lw_hash128_cmp(*(const struct lw_hash128 *)wanted, *(const struct lw_hash128 *)record);
	return LW_OK;
}

int lw_index_find_file(const lw_index *index, struct lw_hash128 key, const struct lw_file_record **out)
{
	const void *record;
	int got = search(index, LW_SEC_FILES, key.hi, tie_key, &key, &record);
	if (got == LW_OK)
		*out = record;
	return got;
}

int lw_index_find_path(const lw_index *index, const char *path, size_t len, struct lw_hash128 key, const struct lw_file_record **out)
{
	char relative[LW_ROOTS_PATH];
	if (!lw_index_is_relative(index))
		return lw_index_find_file(index, key, out);
	len = index->roots ? lw_roots_translate(index->roots, path, len, relative) : 0;
	return len ? lw_index_find_file(index, lw_hash128(relative, len), out) : LW_ABSENT;
}

uint32_t lw_index_file_count(const lw_index *index)
{
	return count_of(index, LW_SEC_FILES);
}

int lw_index_file_at(const lw_index *index, uint32_t i, const struct lw_file_record **out)
{
	if (i >= lw_index_file_count(index))
		return LW_ABSENT;
	*out = record_at(index, LW_SEC_FILES, i);
	return *out ? LW_OK : LW_BAD;
}

int lw_index_code(const lw_index *index, const struct lw_file_record *file, const void **code, size_t *len)
{
	uint32_t size = LW_FILE_LEN(file);
	if (size == 0)
		return LW_ABSENT;
	*code = bytes(index, LW_SEC_CODE, (uint64_t)file->code * LW_CODE_UNIT, size);
	*len = size;
	return *code ? LW_OK : LW_BAD;
}

/* ---- what was touched, and reading ahead ---- */

uint64_t lw_index_blocks(const lw_index *index)
{
	return index->head.roots_offset / LW_BLOCK;
}

uint64_t lw_index_touched(const lw_index *index)
{
	return atomic_load_explicit(&index->seen->touched, memory_order_relaxed);
}

uint64_t lw_index_touched_word(const lw_index *index, uint64_t word)
{
	return word < seen_words(&index->head) ? atomic_load_explicit(&index->seen->verified[word], memory_order_relaxed) : 0;
}

/*
 * The kernel cuts a request at what the device takes at once or at its read-ahead window, whichever is more, and says nothing: of 16 MiB asked for in one
 * go 1.25 were read (6.18, a disk with default settings). No default of either is below this.
 */
enum { READ_AHEAD = 128 << 10 };

void lw_index_read_ahead(const lw_index *index, uint64_t first, uint64_t count)
{
	uint64_t blocks = lw_index_blocks(index);
	if (index->backing != MAPPED || first >= blocks)
		return;
	/* madvise wants whole pages, which may be larger than our blocks. */
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t at = first * LW_BLOCK / page * page;
	uint64_t end = (first + (count < blocks - first ? count : blocks - first)) * LW_BLOCK;
	for (; at < end; at += READ_AHEAD)
		madvise((void *)(index->data + at), end - at < READ_AHEAD ? end - at : READ_AHEAD, MADV_WILLNEED);
}

void lw_index_trim(const lw_index *index)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), start = index->head.section[LW_SEC_CODE].offset;
	uint64_t first = (start + page - 1) / page * page, end = (start + index->head.section[LW_SEC_CODE].size) / page * page;
	if (index->backing == MAPPED && first < end)
		madvise((void *)(index->data + first), end - first, MADV_DONTNEED);
}

void lw_index_peek(const lw_index *index, uint64_t block)
{
	if (index->backing == MAPPED && block < lw_index_blocks(index))
		(void)*(const volatile unsigned char *)(index->data + block * LW_BLOCK);
}

/* ---- views ---- */

static int load_view(const lw_index *index, const struct lw_view_record *record, struct lw_index_view *out)
{
	if (record->dirs % _Alignof(struct lw_view_dir) || record->names % _Alignof(struct lw_view_name))
		return bad(index);
	const void *dirs = bytes(index, LW_SEC_VIEWDATA, record->dirs, (uint64_t)record->entries * sizeof(struct lw_view_dir));
	const void *names = bytes(index, LW_SEC_VIEWDATA, record->names, (uint64_t)record->count * sizeof(struct lw_view_name));
	if (!dirs || !names)
		return LW_BAD;
	*out = (struct lw_index_view){ .index = index, .record = record, .dirs = dirs, .names = names };
	return LW_OK;
}

int lw_index_find_view(const lw_index *index, struct lw_hash128 key, struct lw_index_view *out)
{
	const void *record;
	int got = search(index, LW_SEC_VIEWS, key.hi, tie_key, &key, &record);
	return got == LW_OK ? load_view(index, record, out) : got;
}

static uint32_t view_lower_bound(const struct lw_index_view *view, uint32_t hash)
{
	uint32_t lo = 0, hi = view->record->count;
	while (lo < hi) {
		uint32_t at = lo + (hi - lo) / 2;
		if (view->names[at].hash < hash)
			lo = at + 1;
		else
			hi = at;
	}
	return lo;
}

int lw_index_view_find(const struct lw_index_view *view, const char *name, size_t len, uint32_t *first)
{
	uint32_t hash = lw_name_hash(name, len), count = view->record->count;
	for (uint32_t i = view_lower_bound(view, hash); i < count && view->names[i].hash == hash; i++) {
		const struct lw_view_name *entry = &view->names[i];
		const char *stored = lw_index_string(view->index, entry->name, entry->len);
		if (!stored)
			return LW_BAD;
		if (entry->len != len || memcmp(stored, name, len))
			continue;
		/* Callers index path entries with it. */
		if (entry->first >= view->record->entries)
			return bad(view->index);
		*first = entry->first;
		return LW_OK;
	}
	return LW_ABSENT;
}

uint32_t lw_index_view_count(const lw_index *index)
{
	return count_of(index, LW_SEC_VIEWS);
}

int lw_index_view_at(const lw_index *index, uint32_t i, struct lw_index_view *out)
{
	if (i >= lw_index_view_count(index))
		return LW_ABSENT;
	const struct lw_view_record *record = record_at(index, LW_SEC_VIEWS, i);
	return record ? load_view(index, record, out) : LW_BAD;
}
