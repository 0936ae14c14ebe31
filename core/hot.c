/* SPDX-License-Identifier: MIT */
/* hot: see hot.h. Sets of blocks are bitmaps while they are worked on, ranges in the file. */
#include "hot.h"
#include "hash.h"
#include "keydir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	GAP = 8,			/* so many blocks between two ranges cost less than a request of their own */
	SAMPLES = 4,
	UNCOVERED = 8,			/* a share of what was touched */
	REMOVALS = 4,			/* at one time */
	HOUR = 60 * 60,
	NAME_SIZE = 32,
};
#define PREFIX "hot-"
#define TEMP_PREFIX ".tmp-hot-"

_Static_assert(sizeof(struct lw_hot_head) == 40 && sizeof(struct lw_hot_range) == 16, "both are part of the format");

/* ---- reading ---- */

static bool head_holds(const struct lw_hot_head *head, size_t size, uint64_t entry)
{
	return memcmp(head->magic, LW_HOT_MAGIC, sizeof(head->magic)) == 0 && head->format == LW_HOT_FORMAT
		&& head->head_hash == lw_hash64(head, offsetof(struct lw_hot_head, head_hash)) && head->entry == entry
		&& head->count <= LW_HOT_RANGES && size == sizeof(*head) + head->count * sizeof(struct lw_hot_range);
}

int lw_hot_decode(const void *data, size_t size, uint64_t entry, struct lw_hot *hot)
{
	struct lw_hot_head head;
	if (size < sizeof(head))
		return -EBADMSG;
	memcpy(&head, data, sizeof(head));
	const char *ranges = (const char *)data + sizeof(head);
	if (!head_holds(&head, size, entry) || head.hash != lw_hash64(ranges, size - sizeof(head)))
		return -EBADMSG;
	struct lw_hot_range *copy = malloc(size - sizeof(head) + !head.count);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, ranges, size - sizeof(head));
	*hot = (struct lw_hot){ .entry = entry, .range = copy, .count = head.count };
	return 0;
}

static void print_name(char out[NAME_SIZE], const char *prefix, uint64_t entry)
{
	snprintf(out, NAME_SIZE, "%s%016" PRIx64, prefix, entry);
}

static void read_stored(struct lw_hot *hot, uint64_t entry, const lw_store *store)
{
	/* One byte more than it can have. */
	char name[NAME_SIZE], data[sizeof(struct lw_hot_head) + LW_HOT_RANGES * sizeof(struct lw_hot_range) + 1];
	print_name(name, PREFIX, entry);
	int fd = lw_store_open_file(store, name);
	if (fd < 0)
		return;
	ssize_t size = read(fd, data, sizeof(data));
	close(fd);
	if (size > 0)
		lw_hot_decode(data, (size_t)size, entry, hot);
}

static lw_index *find(const struct lw_snapshot *snapshot, uint64_t file)
{
	for (unsigned i = 0; i < snapshot->count; i++)
		if (lw_index_head(snapshot->index[i])->roots_hash == file)
			return snapshot->index[i];
	return NULL;
}

/* How many blocks of INDEX a range has: files may be hostile. */
static uint64_t extent(const lw_index *index, const struct lw_hot_range *range)
{
	uint64_t blocks = index ? lw_index_blocks(index) : 0;
	if (range->first >= blocks)
		return 0;
	return range->count < blocks - range->first ? range->count : blocks - range->first;
}

/* Range I's file, given that of the one before. */
static const lw_index *index_of(const struct lw_hot *hot, const struct lw_snapshot *snapshot, uint32_t i, const lw_index *before)
{
	return i && hot->range[i].file == hot->range[i - 1].file ? before : find(snapshot, hot->range[i].file);
}

static uint64_t live_blocks(const struct lw_hot *hot, const struct lw_snapshot *snapshot)
{
	const lw_index *index = NULL;
	uint64_t blocks = 0;
	for (uint32_t i = 0; i < hot->count; i++)
		blocks += extent(index = index_of(hot, snapshot, i, index), &hot->range[i]);
	return blocks;
}

static long major_faults(void)
{
	struct rusage usage;
	return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_majflt;
}

/* Whether SAMPLES blocks, spread evenly over the LIVE ones, are in memory. Those from the first that is not on are not touched. */
static bool warm(const struct lw_hot *hot, const struct lw_snapshot *snapshot, uint64_t live)
{
	const lw_index *index = NULL;
	const long before = major_faults();
	uint64_t passed = 0, at;
	unsigned sample = 0;
	for (uint32_t i = 0; i < hot->count; i++) {
		index = index_of(hot, snapshot, i, index);
		uint64_t count = extent(index, &hot->range[i]);
		for (; (at = live * (2 * sample + 1) / (2 * SAMPLES)) < passed + count; sample++) {
			lw_index_peek(index, hot->range[i].first + at - passed);
			if (major_faults() != before)
				return false;
		}
		passed += count;
	}
	return true;
}

uint64_t lw_hot_read_ahead(const struct lw_hot *hot, const struct lw_snapshot *snapshot)
{
	const lw_index *index = NULL;
	uint64_t live = live_blocks(hot, snapshot), asked = 0;
	if (!live || warm(hot, snapshot, live))
		return 0;
	for (uint32_t i = 0; i < hot->count && asked < LW_HOT_MOST; i++) {
		index = index_of(hot, snapshot, i, index);
		uint64_t count = extent(index, &hot->range[i]), left = LW_HOT_MOST - asked;
		if (!count)
			continue;
		lw_index_read_ahead(index, hot->range[i].first, count < left ? count : left);
		asked += count < left ? count : left;
	}
	return asked;
}

uint64_t lw_hot_open(struct lw_hot *hot, uint64_t entry, const lw_store *store, const struct lw_snapshot *snapshot)
{
	*hot = (struct lw_hot){ .entry = entry };
	if (entry)
		read_stored(hot, entry, store);
	uint64_t asked = lw_hot_read_ahead(hot, snapshot);
	if (!lw_store_writable(store))
		lw_hot_close(hot);
	return asked;
}

void lw_hot_close(struct lw_hot *hot)
{
	free(hot->range);
	*hot = (struct lw_hot){ 0 };
}

/* ---- what was touched ---- */

/* One cache file, as it is now. */
struct part {
	uint64_t file, words;
	uint64_t *touched, *stored;	/* bits; one allocation */
};

static uint64_t count_bits(uint64_t word)
{
	return (uint64_t)__builtin_popcountll(word);
}

static void set_all(uint64_t *bits, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++)
		bits[i / 64] |= UINT64_C(1) << (i % 64);
}

/* USED is the same file, as far as this process has used it; NULL: it has not, and if the file is its OWN all of it counts as touched. */
static bool part_init(struct part *part, const lw_index *index, const lw_index *used, bool own, const struct lw_hot *hot)
{
	*part = (struct part){ .file = lw_index_head(index)->roots_hash, .words = lw_index_blocks(index) / 64 + 1 };
	part->touched = calloc(2 * part->words, sizeof(uint64_t));
	if (!part->touched)
		return false;
	part->stored = part->touched + part->words;
	for (uint64_t i = 0; used && i < part->words; i++)
		part->touched[i] = lw_index_touched_word(used, i);
	if (!used && own)
		set_all(part->touched, 1, lw_index_blocks(index) - 1);
	for (uint32_t i = 0; i < hot->count; i++)
		if (hot->range[i].file == part->file)
			set_all(part->stored, hot->range[i].first, extent(index, &hot->range[i]));
	return true;
}

static void parts_destroy(struct part *part, unsigned count)
{
	for (unsigned i = 0; part && i < count; i++)
		free(part[i].touched);
	free(part);
}

static struct part *parts_create(const struct lw_snapshot *files, const struct lw_snapshot *used, bool own, const struct lw_hot *hot)
{
	struct part *part = calloc(files->count + 1, sizeof(*part));
	for (unsigned i = 0; part && i < files->count; i++) {
		const lw_index *index = files->index[i];
		if (!part_init(&part[i], index, find(used, lw_index_head(index)->roots_hash), own, hot)) {
			parts_destroy(part, i);
			return NULL;
		}
	}
	return part;
}

struct sums {
	uint64_t touched, missing, more;	/* blocks touched, of these not stored, stored beside these */
};

static struct sums sum_up(const struct part *part, unsigned count)
{
	struct sums sums = { 0 };
	for (unsigned i = 0; i < count; i++) {
		for (uint64_t w = 0; w < part[i].words; w++) {
			uint64_t touched = part[i].touched[w], stored = part[i].stored[w];
			sums.touched += count_bits(touched);
			sums.missing += count_bits(touched & ~stored);
			sums.more += count_bits(stored & ~touched);
		}
	}
	return sums;
}

static bool append(struct lw_hot *set, uint64_t file, uint64_t block, uint64_t gap)
{
	struct lw_hot_range *last = set->count ? &set->range[set->count - 1] : NULL;
	if (last && last->file == file && block - (last->first + last->count) <= gap) {
		last->count = (uint32_t)(block - last->first + 1);
		return true;
	}
	if (set->count == LW_HOT_RANGES)
		return false;
	set->range[set->count++] = (struct lw_hot_range){ file, (uint32_t)block, 1 };
	return true;
}

/* The touched blocks, and those stored if they are to be KEPT, as ranges with more than GAP blocks between them. False: too many. */
static bool to_ranges(struct lw_hot *set, const struct part *part, unsigned count, bool kept, uint64_t gap)
{
	set->count = 0;
	for (unsigned i = 0; i < count; i++)
		for (uint64_t w = 0; w < part[i].words; w++)
			for (uint64_t bits = part[i].touched[w] | (kept ? part[i].stored[w] : 0); bits; bits &= bits - 1)
				if (!append(set, part[i].file, w * 64 + (uint64_t)__builtin_ctzll(bits), gap))
					return false;
	return true;
}

static int make_set(struct lw_hot *set, uint64_t entry, const struct part *part, unsigned count, bool kept)
{
	*set = (struct lw_hot){ .entry = entry, .range = malloc(LW_HOT_RANGES * sizeof(struct lw_hot_range)) };
	if (!set->range)
		return -ENOMEM;
	uint64_t gap = GAP;
	while (!to_ranges(set, part, count, kept, gap) && gap < UINT32_MAX)
		gap *= 2;
	return 0;
}

/* ---- writing ---- */

static int write_all(int fd, const struct lw_hot *set)
{
	struct lw_hot_head head = { .format = LW_HOT_FORMAT, .count = set->count, .entry = set->entry };
	const size_t size = set->count * sizeof(*set->range);
	memcpy(head.magic, LW_HOT_MAGIC, sizeof(head.magic));
	head.hash = lw_hash64(set->range, size);
	head.head_hash = lw_hash64(&head, offsetof(struct lw_hot_head, head_hash));
	if (write(fd, &head, sizeof(head)) != (ssize_t)sizeof(head) || write(fd, set->range, size) != (ssize_t)size)
		return errno ? -errno : -ENOSPC;
	return 0;
}

static int write_file(int dir, const struct lw_hot *set)
{
	char temp[NAME_SIZE], name[NAME_SIZE];
	print_name(temp, TEMP_PREFIX, set->entry);
	print_name(name, PREFIX, set->entry);
	int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int err = fd < 0 ? -errno : 0;
	/* A dead process left it; or a living one is about to rename it, and will find nothing, which does no harm. */
	if (err == -EEXIST)
		unlinkat(dir, temp, 0);
	if (err)
		return err;
	errno = 0;
	err = write_all(fd, set);
	if (close(fd) && !err && errno != EINTR)
		err = -errno;
	if (!err && renameat(dir, temp, dir, name))
		err = -errno;
	if (err)
		unlinkat(dir, temp, 0);
	return err;
}

static bool is_hot_name(const char *name)
{
	const size_t prefix = sizeof(PREFIX) - 1;
	return strncmp(name, PREFIX, prefix) == 0 && strlen(name) == prefix + 16 && strspn(name + prefix, "0123456789abcdef") == 16;
}

static bool is_older(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* How many hot files there are, and the name of the oldest. Removes what dead writers have left. */
static unsigned look_around(DIR *list, char oldest[NAME_SIZE])
{
	struct timespec age = { 0 };
	unsigned count = 0;
	struct stat st;
	rewinddir(list);
	for (struct dirent *entry; (entry = readdir(list)); ) {
		bool hot = is_hot_name(entry->d_name), temp = strncmp(entry->d_name, TEMP_PREFIX, sizeof(TEMP_PREFIX) - 1) == 0;
		if ((!hot && !temp) || fstatat(dirfd(list), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		if (temp && time(NULL) - st.st_mtime > HOUR)
			unlinkat(dirfd(list), entry->d_name, 0);
		if (hot && (count++ == 0 || is_older(&st.st_mtim, &age))) {
			age = st.st_mtim;
			strcpy(oldest, entry->d_name);
		}
	}
	return count;
}

static void remove_oldest(int dir)
{
	char oldest[NAME_SIZE];
	DIR *list = lw_keydir_names(dir);
	if (!list)
		return;
	for (unsigned i = 0; i < REMOVALS && look_around(list, oldest) > LW_HOT_FILES; i++)
		unlinkat(dir, oldest, 0);
	closedir(list);
}

static int write_set(const lw_store *store, const struct lw_hot *set, bool another)
{
	int dir = lw_store_open_directory(store);
	if (dir < 0)
		return dir;
	int err = write_file(dir, set);
	if (!err && another)
		remove_oldest(dir);
	close(dir);
	return err;
}

/* ---- when ---- */

static uint64_t touched(const struct lw_snapshot *used)
{
	uint64_t blocks = 0;
	for (unsigned i = 0; i < used->count; i++)
		blocks += lw_index_touched(used->index[i]);
	return blocks;
}

bool lw_hot_due(const struct lw_hot *hot, const struct lw_snapshot *used)
{
	if (!hot->entry)
		return false;
	uint64_t blocks = touched(used);
	return blocks >= LW_HOT_LEAST && blocks / 3 > hot->noted / 2;
}

static int store_parts(struct lw_hot *hot, const lw_store *store, const struct part *part, unsigned count)
{
	struct sums sums = sum_up(part, count);
	struct lw_hot set;
	if (sums.touched < LW_HOT_LEAST || sums.missing <= sums.touched / UNCOVERED)
		return 0;
	int err = make_set(&set, hot->entry, part, count, sums.more <= sums.touched);
	if (err)
		return err;
	err = write_set(store, &set, !hot->count);
	set.noted = hot->noted;
	free(hot->range);
	*hot = set;
	return err ? err : 1;
}

/* FILES are those that there are now, of which USED have been in use; the others are our OWN, or not. */
static int store(struct lw_hot *hot, const lw_store *store, const struct lw_snapshot *files, const struct lw_snapshot *used, bool own)
{
	hot->noted = touched(used);
	struct part *part = parts_create(files, used, own, hot);
	int result = part ? store_parts(hot, store, part, files->count) : -ENOMEM;
	parts_destroy(part, files->count);
	if (result < 0)
		lw_hot_close(hot);
	return result;
}

int lw_hot_store(struct lw_hot *hot, const lw_store *where, const struct lw_snapshot *used)
{
	return hot->entry ? store(hot, where, used, used, false) : 0;
}

/* Whether at least half of what is in the new files can be what was learnt, or was touched before it was merged. */
static bool mostly_own(const struct lw_snapshot *files, const struct lw_snapshot *used, uint64_t learnt)
{
	uint64_t fresh = 0;
	for (unsigned i = 0; i < files->count; i++)
		if (!find(used, lw_index_head(files->index[i])->roots_hash))
			fresh += lw_index_blocks(files->index[i]);
	return fresh / 2 <= learnt / LW_BLOCK + touched(used);
}

int lw_hot_store_learnt(struct lw_hot *hot, lw_store *where, const struct lw_snapshot *used, uint64_t learnt)
{
	char reason[LW_STORE_REASON];
	unsigned count = 0, refused;
	lw_index **index = NULL;
	if (!hot->entry || lw_store_load(where, &index, &count, &refused, reason))
		return 0;
	/* The artifact is what it was. */
	lw_index *artifact = lw_snapshot_artifact(used);
	lw_index **more = artifact ? realloc(index, (count + 1) * sizeof(*more)) : NULL;
	if (more)
		(index = more)[count] = artifact;
	const struct lw_snapshot files = { .count = count + (more != NULL), .index = index };
	int result = store(hot, where, &files, used, mostly_own(&files, used, learnt));
	for (unsigned i = 0; i < count; i++)
		lw_index_close(index[i]);
	free(index);
	return result;
}
