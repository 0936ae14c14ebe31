/* SPDX-License-Identifier: MIT */
/*
 * hot: what was touched is stored, comes back, and is read ahead. What is stored may be damaged, hostile, or about files that are no more: then it is as if there
 * were nothing. Whether a disk really reads ahead is asked with mincore(), which a test may use.
 */
#include "facts.h"
#include "hot.h"
#include "store.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

enum { ENTRY = 0xe, PAIRS = 100, CODE_SIZE = 2 * LW_BLOCK };
#define HOT_NAME "hot-000000000000000e"

static char root[PATH_MAX], place[PATH_MAX + 16], keydir[PATH_MAX + 64];
static char reason[LW_STORE_REASON];
static struct lw_store_config config;
static lw_store *store;
static struct lw_snapshot files;
static lw_index **opened;

static void setup(void)
{
	tree_create(root, sizeof root);
	snprintf(place, sizeof place, "%s/cache", root);
	snprintf(keydir, sizeof keydir, "%s/00000000000000010000000000000002", place);
	config = (struct lw_store_config){ .place = place, .key = facts_key, .about = "test", .prefix_owner = geteuid() };
	cr_assert_eq(lw_store_open(&config, &store, reason), 0);
}

static void unload(void)
{
	for (unsigned i = 0; i < files.count; i++)
		lw_index_close(opened[i]);
	free(opened);
	opened = NULL;
	files = (struct lw_snapshot){ 0 };
}

static void teardown(void)
{
	unload();
	lw_store_close(store);
	tree_destroy(root);
}

TestSuite(hot, .init = setup, .fini = teardown);

#define SKIP_IF(condition, why) do { if (condition) { teardown(); cr_skip_test(why); } } while (0)

static struct lw_hash128 key_of(unsigned i)
{
	return lw_hash128(&i, sizeof i);
}

/* A cache file with the code of files FIRST .. FIRST + COUNT - 1, SIZE bytes each, in this order. */
static void add_file(unsigned first, unsigned count, size_t size)
{
	lw_build *build = lw_build_create();
	char *code = calloc(count, size);
	for (unsigned i = 0; i < count; i++) {
		memcpy(code + i * size, &i, sizeof i);
		cr_assert_eq(lw_build_file(build, key_of(first + i), 1, 1, LW_FILE_PUBLIC, code + i * size, size, false), 0);
	}
	cr_assert_eq(lw_store_append(store, build), 0);
	lw_build_destroy(build);
	free(code);
}

static void load(void)
{
	unsigned refused;
	unload();
	cr_assert_eq(lw_store_load(store, &opened, &files.count, &refused, reason), 0);
	files.index = opened;
}

/* Use the code of files FIRST .. FIRST + COUNT - 1. */
static void use(unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++) {
		const struct lw_file_record *record;
		const void *code;
		size_t len;
		unsigned found = 0;
		for (unsigned f = 0; f < files.count; f++)
			if (lw_index_find_file(files.index[f], key_of(i), &record) == LW_OK)
				found += lw_index_code(files.index[f], record, &code, &len) == LW_OK;
		cr_assert_eq(found, 1);
	}
}

static struct lw_hot open_hot(uint64_t entry)
{
	struct lw_hot hot;
	lw_hot_open(&hot, entry, store, &files);
	return hot;
}

/* As a new process would: what ENTRY has stored is looked at, then what was touched here is. */
static int store_for(uint64_t entry)
{
	struct lw_hot hot = open_hot(entry);
	int result = lw_hot_store(&hot, store, &files);
	lw_hot_close(&hot);
	return result;
}

static bool covers(const struct lw_hot *hot, const lw_index *index, uint64_t block)
{
	for (uint32_t i = 0; i < hot->count; i++)
		if (hot->range[i].file == lw_index_head(index)->roots_hash && block >= hot->range[i].first
				&& block < hot->range[i].first + (uint64_t)hot->range[i].count)
			return true;
	return false;
}

struct cover {
	uint64_t touched, missing, more;
};

static struct cover cover_of(const struct lw_hot *hot)
{
	struct cover cover = { 0 };
	for (unsigned f = 0; f < files.count; f++) {
		for (uint64_t block = 0; block < lw_index_blocks(files.index[f]); block++) {
			bool touched = lw_index_touched_word(files.index[f], block / 64) >> block % 64 & 1;
			bool covered = covers(hot, files.index[f], block);
			cover.touched += touched;
			cover.missing += touched && !covered;
			cover.more += covered && !touched;
		}
	}
	return cover;
}

static struct cover stored_cover(void)
{
	struct lw_hot hot = open_hot(ENTRY);
	struct cover cover = cover_of(&hot);
	lw_hot_close(&hot);
	return cover;
}

static const char *hot_path(void)
{
	return facts_join(keydir, HOT_NAME);
}

static bool exists(const char *name)
{
	return faccessat(AT_FDCWD, facts_join(keydir, name), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- what is stored, and when ---- */

Test(hot, what_was_touched_comes_back)
{
	struct stat before, after;
	add_file(0, 2 * PAIRS, CODE_SIZE);
	load();
	cr_assert_eq(stored_cover().more, 0, "the control: nothing is stored yet");
	use(PAIRS, PAIRS);
	cr_assert_eq(store_for(ENTRY), 1);
	struct cover cover = stored_cover();
	cr_assert_geq(cover.touched, 2 * PAIRS);
	cr_assert_eq(cover.missing, 0);
	cr_assert_lt(cover.more, 40, "small gaps only");
	cr_assert_eq(stat(hot_path(), &before), 0);
	cr_assert_eq(before.st_mode, S_IFREG | 0600);

	cr_assert_eq(store_for(ENTRY), 0, "nothing new: nothing written");
	cr_assert_eq(stat(hot_path(), &after), 0);
	cr_assert_eq(before.st_ino, after.st_ino);
	use(PAIRS - PAIRS / 16, PAIRS / 16);
	cr_assert_eq(store_for(ENTRY), 0, "hardly anything new");
	use(0, PAIRS);
	cr_assert_eq(store_for(ENTRY), 1);
	cr_assert_eq(stored_cover().missing, 0);
	cr_assert_eq(store_for(ENTRY + 1), 1, "another entry point's is its own");
	cr_assert_eq(store_for(0), 0, "no entry point");
}

Test(hot, little_is_not_worth_it)
{
	add_file(0, 2 * PAIRS, CODE_SIZE);
	load();
	use(0, LW_HOT_LEAST / 2 - 8);
	struct lw_hot hot = open_hot(ENTRY);
	cr_assert_not(lw_hot_due(&hot, &files));
	cr_assert_eq(lw_hot_store(&hot, store, &files), 0);
	cr_assert_not(exists(HOT_NAME));
	use(0, LW_HOT_LEAST / 2 + 8);
	cr_assert(lw_hot_due(&hot, &files));
	cr_assert_eq(lw_hot_store(&hot, store, &files), 1);
	lw_hot_close(&hot);
}

/* Quiet moments: looked at whenever half as much again was touched, whether that had to be written or not. */
Test(hot, due_when_half_as_much_again_was_touched)
{
	add_file(0, 4 * PAIRS, CODE_SIZE);
	load();
	struct lw_hot hot = open_hot(ENTRY);
	unsigned looks = 0, writes = 0;
	for (unsigned i = 0; i < 4 * PAIRS; i++) {
		use(i, 1);
		if (!lw_hot_due(&hot, &files))
			continue;
		looks++;
		writes += lw_hot_store(&hot, store, &files) == 1;
		cr_assert_not(lw_hot_due(&hot, &files));
	}
	struct cover cover = cover_of(&hot);
	cr_assert_eq(looks, writes);
	cr_assert(looks >= 4 && looks <= 8, "%u", looks);
	cr_assert_leq(cover.missing, cover.touched / 3 + 1);
	lw_hot_close(&hot);

	load();
	hot = open_hot(ENTRY);
	use(0, PAIRS);
	cr_assert(lw_hot_due(&hot, &files));
	cr_assert_eq(lw_hot_store(&hot, store, &files), 0);
	cr_assert_not(lw_hot_due(&hot, &files));
	lw_hot_close(&hot);
	cr_assert_not(lw_hot_due(&hot, &files), "closed");
}

Test(hot, one_entry_point_may_have_several_uses)
{
	add_file(0, 4 * PAIRS, CODE_SIZE);
	load();
	use(0, PAIRS);
	cr_assert_eq(store_for(ENTRY), 1);
	load();
	use(3 * PAIRS, PAIRS);
	cr_assert_eq(store_for(ENTRY), 1);
	cr_assert_geq(stored_cover().more, 2 * PAIRS - 8, "both");
	load();
	use(0, PAIRS);
	cr_assert_eq(store_for(ENTRY), 0);

	/* More than what is touched now is not kept. */
	load();
	use(2 * PAIRS - PAIRS / 2, PAIRS / 2);
	cr_assert_eq(store_for(ENTRY), 1);
	struct cover cover = stored_cover();
	cr_assert_eq(cover.missing, 0);
	cr_assert_lt(cover.more, 40);
}

/* So many small pieces that they must be joined. */
Test(hot, scattered_blocks_fit)
{
	enum { PIECES = 1200, APART = 10 };
	add_file(0, PIECES, APART * LW_BLOCK);
	load();
	for (unsigned block = 1; block / APART < PIECES; block += APART) {
		/* The sums alone bring one block after the other. */
		const struct lw_file_record *record;
		const void *code;
		size_t len;
		cr_assert_eq(lw_index_find_file(files.index[0], key_of(block / APART), &record), LW_OK);
		struct lw_file_record first = *record;
		first.code_len = 16;
		cr_assert_eq(lw_index_code(files.index[0], &first, &code, &len), LW_OK);
	}
	cr_assert_lt(lw_index_touched(files.index[0]), 2 * PIECES);
	cr_assert_eq(store_for(ENTRY), 1);
	struct lw_hot hot = open_hot(ENTRY);
	struct cover cover = cover_of(&hot);
	cr_assert(hot.count > 0 && hot.count <= LW_HOT_RANGES);
	cr_assert_eq(cover.missing, 0);
	cr_assert_gt(cover.more, cover.touched);
	lw_hot_close(&hot);
}

/* ---- files that come and go ---- */

Test(hot, what_was_merged_away_is_meant_no_longer)
{
	add_file(0, PAIRS, CODE_SIZE);
	add_file(PAIRS, PAIRS, CODE_SIZE);
	load();
	use(0, 2 * PAIRS);
	cr_assert_eq(store_for(ENTRY), 1);
	cr_assert_geq(stored_cover().touched, 4 * PAIRS);
	cr_assert_eq(stored_cover().missing, 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	load();
	cr_assert_eq(files.count, 1);
	use(0, 2 * PAIRS);
	struct cover cover = stored_cover();
	cr_assert_eq(cover.missing, cover.touched);
	cr_assert_eq(store_for(ENTRY), 1);
	cr_assert_eq(stored_cover().missing, 0);
	struct lw_hot hot = open_hot(ENTRY);
	for (uint32_t i = 0; i < hot.count; i++)
		cr_assert_eq(hot.range[i].file, lw_index_head(files.index[0])->roots_hash);
	lw_hot_close(&hot);
}

/* A process that has learnt leaves files which it has never opened: they are its own if what it has learnt is half of them. */
Test(hot, what_was_learnt_counts_as_touched)
{
	static const struct { unsigned learnt; int result; } row[] = { { 0, 0 }, { PAIRS / 4, 0 }, { PAIRS, 1 } };
	for (unsigned i = 0; i < 3; i++) {
		load();
		struct lw_hot hot = open_hot(ENTRY);
		add_file(i * PAIRS, PAIRS, CODE_SIZE);
		cr_assert_eq(lw_hot_store_learnt(&hot, store, &files, row[i].learnt * (uint64_t)CODE_SIZE), row[i].result, "%u", i);
		cr_assert_eq(exists(HOT_NAME), row[i].result);
		lw_hot_close(&hot);
	}
	load();
	struct lw_hot hot = open_hot(ENTRY);
	cr_assert_eq(files.count, 3);
	cr_assert_eq(cover_of(&hot).more, lw_index_blocks(files.index[0]) - 1, "all of the newest but its head");
	lw_hot_close(&hot);
}

/* ---- damage and distrust ---- */

static struct { char data[20000]; size_t size; } sound;

static void read_sound(void)
{
	add_file(0, 2 * PAIRS, CODE_SIZE);
	load();
	use(0, 10);
	use(50, 10);
	use(100, 40);
	cr_assert_eq(store_for(ENTRY), 1);
	int fd = open(hot_path(), O_RDONLY | O_CLOEXEC);
	ssize_t size = read(fd, sound.data, sizeof sound.data);
	close(fd);
	cr_assert(size > (ssize_t)sizeof(struct lw_hot_head) && size < (ssize_t)sizeof sound.data);
	sound.size = (size_t)size;
}

/* Exactly as large as said, so that AddressSanitizer sees a byte too far. */
static int decode(const char *data, size_t size, uint64_t entry)
{
	char *copy = malloc(size + !size);
	struct lw_hot hot = { 0 };
	memcpy(copy, data, size);
	int result = lw_hot_decode(copy, size, entry, &hot);
	cr_assert(result || hot.count);
	cr_assert(!result || !hot.range);
	free(copy);
	lw_hot_close(&hot);
	return result;
}

Test(hot, any_damage_is_found)
{
	read_sound();
	cr_assert_eq(decode(sound.data, sound.size, ENTRY), 0, "the control");
	cr_assert_eq(decode(sound.data, sound.size, ENTRY + 1), -EBADMSG);
	for (size_t bit = 0; bit < 8 * sound.size; bit++) {
		sound.data[bit / 8] ^= (char)(1 << bit % 8);
		cr_assert_eq(decode(sound.data, sound.size, ENTRY), -EBADMSG, "bit %zu", bit);
		sound.data[bit / 8] ^= (char)(1 << bit % 8);
	}
	for (size_t size = 0; size < sound.size; size++)
		cr_assert_eq(decode(sound.data, size, ENTRY), -EBADMSG, "size %zu", size);
	cr_assert_eq(decode(sound.data, sound.size + 1, ENTRY), -EBADMSG);
	cr_assert_eq(decode(sound.data, sound.size, ENTRY), 0, "the control");
}

static bool is_read(void)
{
	struct lw_hot hot = open_hot(ENTRY);
	bool read = hot.count > 0;
	cr_assert_eq(hot.entry, ENTRY);
	lw_hot_close(&hot);
	return read;
}

Test(hot, only_what_is_trusted_is_read)
{
	read_sound();
	cr_assert(is_read(), "the control");
	cr_assert_eq(chmod(hot_path(), 0620), 0);
	cr_assert_not(is_read(), "others may write to it");
	cr_assert_eq(chmod(hot_path(), 0600), 0);
	cr_assert(is_read());
	cr_assert_eq(truncate(hot_path(), (off_t)sound.size - 1), 0);
	cr_assert_not(is_read());
	cr_assert_eq(rename(hot_path(), facts_join(keydir, "moved")), 0);
	cr_assert_not(is_read());
	cr_assert_eq(symlink("moved", hot_path()), 0);
	cr_assert_not(is_read(), "a link");
	cr_assert_eq(unlink(hot_path()), 0);
	cr_assert_eq(mkfifo(hot_path(), 0600), 0);
	cr_assert_not(is_read(), "a fifo, which is not waited for either");
	cr_assert_eq(unlink(hot_path()), 0);
	cr_assert_eq(mkdir(hot_path(), 0700), 0);
	cr_assert_not(is_read(), "a directory");
	use(0, 2 * PAIRS);
	cr_assert_lt(store_for(ENTRY), 0, "which cannot be replaced");
	cr_assert_not(exists(".tmp-" HOT_NAME));
	cr_assert_eq(rmdir(hot_path()), 0);
	cr_assert_eq(store_for(ENTRY), 1);
	cr_assert(is_read());
	if (geteuid() == 0) {
		cr_assert_eq(chown(hot_path(), FACTS_STRANGER, 0), 0);
		cr_assert_not(is_read(), "a stranger's");
	}
}

/* Sound sums around ranges that nobody would write. */
Test(hot, hostile_ranges_stay_inside)
{
	add_file(0, PAIRS, CODE_SIZE);
	load();
	use(0, PAIRS);
	const uint64_t file = lw_index_head(files.index[0])->roots_hash, blocks = lw_index_blocks(files.index[0]);
	struct lw_hot_range range[] = {
		{ file, 0, UINT32_MAX }, { file, UINT32_MAX, UINT32_MAX }, { file, (uint32_t)blocks, 1 }, { file, (uint32_t)blocks - 1, 2 }, { file, 5, 0 },
		{ ~file, 0, UINT32_MAX }, { file, 3, 3 }, { file, 3, 3 },
	};
	const uint32_t count = sizeof range / sizeof *range;
	for (uint32_t i = 0; i <= count; i++) {
		/* Each alone, then all together. */
		struct lw_hot hot = { .entry = ENTRY, .range = malloc(sizeof range), .count = i < count ? 1 : count };
		memcpy(hot.range, i < count ? &range[i] : range, hot.count * sizeof *range);
		lw_hot_read_ahead(&hot, &files);
		cr_assert_geq(lw_hot_store(&hot, store, &files), 0);
		cr_assert_eq(cover_of(&hot).missing > 1, false, "%u", i);
		lw_hot_close(&hot);
	}
}

/* ---- where nothing can be written, and how much is kept ---- */

Test(hot, a_read_only_store_is_read)
{
	add_file(0, PAIRS, CODE_SIZE);
	load();
	use(0, PAIRS);
	lw_store_close(store);
	config.readonly = true;
	cr_assert_eq(lw_store_open(&config, &store, reason), 0);
	struct lw_hot hot = open_hot(ENTRY);
	cr_assert_not(lw_hot_due(&hot, &files));
	cr_assert_eq(lw_hot_store(&hot, store, &files), 0);
	cr_assert_not(exists(HOT_NAME));
	lw_hot_close(&hot);
}

static int writes_to_a_full_disk(void *arg)
{
	signal(SIGXFSZ, SIG_IGN);
	FACTS_EXPECT(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 20, 20 }) == 0);
	struct lw_hot hot = open_hot(ENTRY);
	FACTS_EXPECT(hot.count);
	FACTS_EXPECT(lw_hot_store(&hot, store, &files) < 0);
	FACTS_EXPECT(!hot.entry && lw_hot_store(&hot, store, &files) == 0);
	lw_hot_close(&hot);
	return 0;
}

Test(hot, a_full_disk_leaves_what_was_there)
{
	read_sound();
	use(0, 2 * PAIRS);
	cr_assert_eq(facts_as(0, writes_to_a_full_disk, NULL), 0);
	cr_assert(is_read());
	cr_assert_not(exists(".tmp-" HOT_NAME));
	cr_assert_eq(store_for(ENTRY), 1, "the control: it was to be written");
}

static void set_age(const char *name, time_t seconds)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = time(NULL) - seconds } };
	cr_assert_eq(utimensat(AT_FDCWD, facts_join(keydir, name), times, 0), 0);
}

static unsigned count_names(const char *prefix)
{
	unsigned count = 0;
	DIR *dir = opendir(keydir);
	for (struct dirent *d; (d = readdir(dir));)
		count += strncmp(d->d_name, prefix, strlen(prefix)) == 0;
	closedir(dir);
	return count;
}

Test(hot, what_dead_writers_have_left_is_removed)
{
	add_file(0, PAIRS, CODE_SIZE);
	load();
	use(0, PAIRS);
	tree_write(AT_FDCWD, facts_join(keydir, ".tmp-" HOT_NAME), "half");
	tree_write(AT_FDCWD, facts_join(keydir, ".tmp-hot-000000000000000a"), "half");
	tree_write(AT_FDCWD, facts_join(keydir, ".tmp-hot-000000000000000b"), "half");
	set_age(".tmp-hot-000000000000000a", 2 * 60 * 60);
	cr_assert_eq(store_for(ENTRY), -EEXIST);
	cr_assert_eq(store_for(ENTRY), 1);
	cr_assert_eq(count_names(".tmp-"), 1);
	cr_assert(exists(".tmp-hot-000000000000000b"), "which may be in use");
}

Test(hot, the_oldest_make_room)
{
	add_file(0, PAIRS, CODE_SIZE);
	load();
	use(0, PAIRS);
	tree_write(AT_FDCWD, facts_join(keydir, "hot-nobody"), "");
	tree_write(AT_FDCWD, facts_join(keydir, "hot-000000000000000G"), "");
	for (unsigned i = 1; i <= LW_HOT_FILES; i++) {
		char name[32];
		cr_assert_eq(store_for(i), 1);
		snprintf(name, sizeof name, "hot-%016x", i);
		set_age(name, i == 7 ? 1000 : i == 9 ? 900 : 100);
	}
	cr_assert_eq(count_names("hot-"), LW_HOT_FILES + 2);
	cr_assert(exists("hot-0000000000000007"), "the control");
	cr_assert_eq(store_for(1000), 1);
	cr_assert_not(exists("hot-0000000000000007"));
	cr_assert(exists("hot-0000000000000009"));
	cr_assert_eq(store_for(1001), 1);
	cr_assert_not(exists("hot-0000000000000009"));
	cr_assert_eq(count_names("hot-"), LW_HOT_FILES + 2);
	cr_assert_eq(count_names("seg-"), 1);
}

/* ---- the disk ---- */

/* Whether file 0 is out of memory now: not where there is no disk beneath, or somebody else uses it. */
static bool evict(void)
{
	const uint64_t size = lw_index_head(files.index[0])->file_size;
	bool gone = true;
	unload();
	DIR *dir = opendir(keydir);
	for (struct dirent *d; (d = readdir(dir));) {
		int fd = strncmp(d->d_name, "seg-", 4) ? -1 : open(facts_join(keydir, d->d_name), O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		cr_assert_eq(fsync(fd), 0);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
		unsigned char *there = calloc(1, size / 4096 + 1);
		cr_assert_eq(mincore(map, size, there), 0);
		for (uint64_t i = 0; i < size / 4096; i++)
			gone &= !(there[i] & 1);
		free(there);
		munmap(map, size);
		close(fd);
	}
	closedir(dir);
	return gone;
}

/* How many of COUNT pages from FIRST on of file 0 are in memory, at the latest in a few seconds, or right now. */
static unsigned resident(uint64_t first, unsigned count, bool wait)
{
	unsigned char there[4096];
	unsigned found = 0;
	DIR *dir = opendir(keydir);
	struct dirent *d;
	while ((d = readdir(dir)) && strncmp(d->d_name, "seg-", 4))
		;
	int fd = open(facts_join(keydir, d->d_name), O_RDONLY | O_CLOEXEC);
	void *map = mmap(NULL, count * 4096ul, PROT_READ, MAP_SHARED, fd, (off_t)(first * 4096));
	cr_assert(map != MAP_FAILED && count <= sizeof there);
	for (unsigned tries = 0; tries < (wait ? 500 : 1) && found < count; tries++) {
		usleep(tries ? 10000 : 0);
		cr_assert_eq(mincore(map, count * 4096ul, there), 0);
		found = 0;
		for (unsigned i = 0; i < count; i++)
			found += there[i] & 1;
	}
	munmap(map, count * 4096ul);
	close(fd);
	closedir(dir);
	return found;
}

/*
 * A file of 48 MiB, of which the code of a few files here and of a few there is hot. Opening it brings its ends into memory, and a fault what is around it, with a
 * large read-ahead window MiBs of it. What is hot elsewhere is there only if it was asked for.
 */
Test(hot, a_cold_start_reads_ahead_and_a_warm_one_does_not)
{
	enum { MANY = 48, HERE = 12, THERE = 30, SIZE = 1 << 20, PAGES = 3 * SIZE / 4096 };
	struct lw_hot hot;
	SKIP_IF(sysconf(_SC_PAGESIZE) != 4096, "it counts in pages of 4 KiB");
	add_file(0, MANY, SIZE);
	load();
	use(HERE, 4);
	use(THERE, 4);
	cr_assert_eq(store_for(ENTRY), 1);
	const uint64_t there = lw_index_head(files.index[0])->section[LW_SEC_CODE].offset / LW_BLOCK + (THERE + 1) * (SIZE / LW_BLOCK);

	SKIP_IF(!evict(), "this file system keeps files in memory");
	load();
	cr_assert_geq(lw_hot_open(&hot, ENTRY, store, &files), 8 * SIZE / LW_BLOCK);
	cr_assert_eq(resident(there, PAGES, true), PAGES);
	lw_hot_close(&hot);
	load();
	cr_assert_eq(lw_hot_open(&hot, ENTRY, store, &files), 0, "what is there already is not asked for");
	lw_hot_close(&hot);

	SKIP_IF(!evict(), "this file system keeps files in memory");
	load();
	cr_assert_eq(lw_hot_open(&hot, ENTRY + 1, store, &files), 0);
	use(HERE, 4);
	usleep(300 * 1000);
	cr_assert_lt(resident(there, PAGES, false), PAGES, "the control: of itself it does not get there");
	lw_hot_close(&hot);
}
