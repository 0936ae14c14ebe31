/* SPDX-License-Identifier: MIT */
/*
 * index: opening, looking up, and above all what happens to a file that is not as it was written.
 *
 * Damage (any bit) is found by the sums: the open fails with a reason, or an answer is LW_BAD and the index says that
 * it is damaged. A present fact is never answered with a wrong one, nor with LW_ABSENT. The control makes the sums
 * right again after the same damage: then wrong facts are seen, so it is the sums that protect, and they stay
 * within the memory they were given, so it is the bounds checks that protect from crafted files.
 */
#include "../image.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/vfs.h>

/* 0: as it is; else what every file system says that it is. */
static uint32_t pretended_fs;

/* In place of libc's: the tests pretend to be on a network file system. */
int fstatfs(int fd, struct statfs *fs)
{
	memset(fs, 0, sizeof(*fs));
	fs->f_type = pretended_fs ? pretended_fs : TMPFS_MAGIC;
	return 0;
}

/* Two texts of 16 bytes with one 64-bit hash: XXH3 multiplies their masked halves, of which one is 0 here. */
static const char twin_a[] = "\xb9\x39\x42\xea\x7b\x73\x82\x67\x2f\x63\x6f\x6c\x6c\x69\x64\x65";
static const char twin_b[] = "\x73\x0b\x97\xbd\x1e\x8a\xb3\x72\x3a\x52\x96\x09\x3b\xbc\x56\xaf";

/* ---- a small index and all that is known about it ---- */

static const char *const dir_path[] = { "/srv/app", "/srv/lib", "/usr/lib/python3/dist-packages", "/gone", "/srv/app/pkg" };
enum { DIRS = 5, MISSING_DIR = 3, FILES = 6, CODELESS = 4, VIEWS = 2, VIEW_ENTRIES = 3 };
static const char *const name_of[] = { "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta" };
enum { NAMES = 8 };
static const struct lw_view_dir view_dir[VIEW_ENTRIES] = { { 1, 11 }, { 0, 0 }, { 3, 33 } };

static struct lw_hash128 file_key(unsigned i)
{
	return lw_hash128(&i, sizeof(i));
}

static size_t make_code(unsigned i, char *out)
{
	return i == CODELESS ? 0 : (size_t)sprintf(out, "code of file %u%*s", i, (int)(i * 7), "");
}

/* Beside an entry of directory I. In the last one nothing is known of sources. */
static uint64_t stamp_beside(unsigned i, const struct lw_entry *entry)
{
	return i == DIRS - 1 ? 0 : (uint64_t)entry->hash << 8 | i;
}

static void add_small_dirs(lw_build *build)
{
	for (unsigned i = 0; i < DIRS; i++) {
		struct lw_listing *listing = i == MISSING_DIR ? NULL : image_listing(name_of + i, NAMES - i, (lw_kinds)(1 + i));
		uint16_t flags = i == MISSING_DIR ? LW_DIR_MISSING : LW_DIR_PUBLIC;
		uint64_t stamps[NAMES], stamp = i == MISSING_DIR ? 0 : 100 + i;
		for (unsigned n = 0; listing && n < listing->count; n++)
			stamps[n] = stamp_beside(i, &listing->entries[n]);
		if (i < DIRS - 1)
			cr_assert_eq(lw_build_dir_stamped(build, dir_path[i], strlen(dir_path[i]), stamp, flags, listing, stamps), 0);
		else
			cr_assert_eq(lw_build_dir(build, dir_path[i], strlen(dir_path[i]), stamp, flags, listing), 0);
		lw_listing_destroy(listing);
	}
}

static lw_build *build_small(void)
{
	lw_build *build = lw_build_create();
	add_small_dirs(build);
	for (unsigned i = 0; i < FILES; i++) {
		char code[128];
		size_t len = make_code(i, code);
		cr_assert_eq(lw_build_file(build, file_key(i), 200 + i, 300 + i, i % 2 ? LW_FILE_PUBLIC : 0, code, len, true), 0);
	}
	for (unsigned v = 0; v < VIEWS; v++) {
		struct lw_build_name names[NAMES];
		for (unsigned i = 0; i < NAMES; i++)
			names[i] = (struct lw_build_name){ name_of[i], (uint16_t)strlen(name_of[i]), (uint16_t)((i + v) % VIEW_ENTRIES) };
		cr_assert_eq(lw_build_view(build, file_key(1000 + v), view_dir, VIEW_ENTRIES, names, NAMES), 0);
	}
	return build;
}

static struct image small_image(void)
{
	lw_build *build = build_small();
	struct image image = image_of(build);
	lw_build_destroy(build);
	return image;
}

/* What a check of all facts came to. */
struct tally {
	unsigned right, bad, wrong;
};

static bool count(struct tally *tally, int got, int expected)
{
	if (got == LW_BAD)
		tally->bad++;
	else if (got == expected)
		tally->right++;
	else
		tally->wrong++;
	return got == LW_OK && expected == LW_OK;
}

static void holds(struct tally *tally, bool right)
{
	*(right ? &tally->right : &tally->wrong) += 1;
}

static void check_entry(const struct lw_index_dir *dir, unsigned i, const struct lw_entry *entry, struct tally *tally)
{
	const uint64_t *stamp;
	holds(tally, entry->kinds == 1 + i && entry->flags == 0);
	if (count(tally, lw_index_stamps(dir, entry, 1, &stamp), LW_OK))
		holds(tally, *stamp == stamp_beside(i, entry));
}

static void check_dir(const lw_index *index, unsigned i, struct tally *tally)
{
	struct lw_index_dir dir;
	if (!count(tally, lw_index_find_dir(index, dir_path[i], strlen(dir_path[i]), &dir), LW_OK))
		return;
	bool missing = i == MISSING_DIR;
	holds(tally, dir.record->stamp == (missing ? 0 : 100 + i));
	holds(tally, dir.record->flags == (missing ? LW_DIR_MISSING : LW_DIR_PUBLIC));
	holds(tally, dir.record->count == (missing ? 0 : NAMES - i));
	for (unsigned n = 0; n < NAMES; n++) {
		const struct lw_entry *entry;
		int got = lw_index_dir_find(&dir, name_of[n], strlen(name_of[n]), &entry);
		if (count(tally, got, missing || n < i ? LW_ABSENT : LW_OK))
			check_entry(&dir, i, entry, tally);
	}
}

static void check_file(const lw_index *index, unsigned i, struct tally *tally)
{
	const struct lw_file_record *file;
	if (!count(tally, lw_index_find_file(index, file_key(i), &file), LW_OK))
		return;
	holds(tally, file->stamp == 200 + i && file->content == 300 + i);
	holds(tally, !!(file->code_len & LW_FILE_PUBLIC) == i % 2);
	char expected[128];
	size_t expected_len = make_code(i, expected), len;
	const void *code;
	if (count(tally, lw_index_code(index, file, &code, &len), expected_len ? LW_OK : LW_ABSENT))
		holds(tally, len == expected_len && memcmp(code, expected, len) == 0);
}

static void check_view(const lw_index *index, unsigned v, struct tally *tally)
{
	struct lw_index_view view;
	if (!count(tally, lw_index_find_view(index, file_key(1000 + v), &view), LW_OK))
		return;
	holds(tally, view.record->entries == VIEW_ENTRIES && view.record->count == NAMES);
	if (view.record->entries == VIEW_ENTRIES)
		holds(tally, memcmp(view.dirs, view_dir, sizeof(view_dir)) == 0);
	for (unsigned n = 0; n < NAMES; n++) {
		uint32_t first;
		if (count(tally, lw_index_view_find(&view, name_of[n], strlen(name_of[n]), &first), LW_OK))
			holds(tally, first == (n + v) % VIEW_ENTRIES);
	}
	uint32_t first;
	count(tally, lw_index_view_find(&view, "nobody", 6, &first), LW_ABSENT);
}

static struct tally check_facts(const lw_index *index)
{
	struct tally tally = { 0 };
	for (unsigned i = 0; i < DIRS; i++)
		check_dir(index, i, &tally);
	for (unsigned i = 0; i < FILES; i++)
		check_file(index, i, &tally);
	for (unsigned v = 0; v < VIEWS; v++)
		check_view(index, v, &tally);
	struct lw_index_dir dir;
	count(&tally, lw_index_find_dir(index, "/nowhere", 8, &dir), LW_ABSENT);
	const struct lw_file_record *file;
	count(&tally, lw_index_find_file(index, file_key(77), &file), LW_ABSENT);
	return tally;
}

/* Everything that can be iterated over; the sum keeps the reads alive. */
static unsigned walk(const lw_index *index)
{
	unsigned sum = 0;
	for (uint32_t i = 0; i < lw_index_dir_count(index); i++) {
		struct lw_index_dir dir;
		const char *path;
		if (lw_index_dir_at(index, i, &dir, &path) != LW_OK)
			continue;
		for (uint32_t n = 0; n < dir.record->path_len; n++)
			sum += (unsigned char)path[n];
		const uint64_t *stamps;
		bool stamped = lw_index_stamps(&dir, dir.entries, dir.record->count, &stamps) == LW_OK;
		for (uint32_t n = 0; n < dir.record->count; n++)
			sum += dir.entries[n].hash + (stamped ? (unsigned)stamps[n] : 0);
	}
	for (uint32_t i = 0; i < lw_index_file_count(index); i++) {
		const struct lw_file_record *file;
		const void *code;
		size_t len;
		if (lw_index_file_at(index, i, &file) == LW_OK && lw_index_code(index, file, &code, &len) == LW_OK)
			sum += (unsigned)lw_hash64(code, len);
	}
	for (uint32_t i = 0; i < lw_index_view_count(index); i++) {
		struct lw_index_view view;
		if (lw_index_view_at(index, i, &view) != LW_OK)
			continue;
		sum += (unsigned)lw_hash64(view.dirs, view.record->entries * sizeof(*view.dirs));
		sum += (unsigned)lw_hash64(view.names, view.record->count * sizeof(*view.names));
	}
	return sum;
}

/* ---- opening ---- */

/* Of any index: no effect that can be seen here (hot.c has a disk). */
static void read_all_ahead(const lw_index *index)
{
	uint64_t blocks = lw_index_blocks(index);
	lw_index_read_ahead(index, 0, blocks);
	lw_index_read_ahead(index, blocks - 1, UINT64_MAX);
	lw_index_read_ahead(index, blocks, 1);
	lw_index_read_ahead(index, UINT64_MAX, UINT64_MAX);
	lw_index_peek(index, 0);
	lw_index_peek(index, blocks - 1);
	lw_index_peek(index, blocks);
	lw_index_peek(index, UINT64_MAX);
}

Test(index, small_facts)
{
	struct image image = small_image();
	lw_index *index;
	lw_reason why = "unset";
	cr_assert_eq(lw_index_open_memory(image.data, image.size, &image_key, &index, &why), 0);
	cr_assert_null(why);
	struct tally tally = check_facts(index);
	cr_assert_eq(tally.wrong + tally.bad, 0);
	cr_assert_gt(tally.right, 100);
	cr_assert_eq(lw_index_head(index)->writer_uid, 1000);
	cr_assert_eq(lw_index_head(index)->created_ns, 123456789);
	cr_assert_not(lw_index_damaged(index));
	read_all_ahead(index);
	walk(index);
	lw_index_close(index);
	lw_index_close(NULL);
	free(image.data);
}

Test(index, empty)
{
	lw_build *build = lw_build_create();
	cr_assert(lw_build_empty(build));
	struct image image = image_of(build);
	cr_assert_eq(image.size, LW_BLOCK);
	lw_index *index;
	cr_assert_eq(lw_index_open_memory(image.data, image.size, NULL, &index, NULL), 0);
	struct lw_index_dir dir;
	const char *path;
	const struct lw_file_record *file;
	struct lw_index_view view;
	cr_assert_eq(lw_index_find_dir(index, "/x", 2, &dir), LW_ABSENT);
	cr_assert_eq(lw_index_find_file(index, file_key(0), &file), LW_ABSENT);
	cr_assert_eq(lw_index_find_view(index, file_key(0), &view), LW_ABSENT);
	cr_assert_eq(lw_index_dir_at(index, 0, &dir, &path), LW_ABSENT);
	cr_assert_eq(lw_index_file_at(index, 0, &file), LW_ABSENT);
	cr_assert_eq(lw_index_view_at(index, 0, &view), LW_ABSENT);
	cr_assert_not(lw_index_damaged(index));
	cr_assert_null(lw_index_string(index, 0, 1));
	cr_assert(lw_index_damaged(index));
	read_all_ahead(index);
	lw_index_close(index);
	free(image.data);
	lw_build_destroy(build);
}

static void expect_refusal(const struct image *image, size_t size, int error)
{
	/* A copy of exactly this size, so that a read beyond it is seen. */
	unsigned char *copy = malloc(size + !size);
	memcpy(copy, image->data, size);
	lw_index *index;
	lw_reason why = NULL;
	int got = lw_index_open_memory(copy, size, &image_key, &index, &why);
	cr_assert_eq(got, error, "size %zu: %d instead of %d", size, got, error);
	cr_assert_not_null(why);
	free(copy);
}

Test(index, refused)
{
	static const struct {
		size_t at;
		int error;
		bool sealed;	/* the head's hash is right */
	} table[] = {
		{ offsetof(struct lw_index_head, magic), -EBADMSG, true },
		{ offsetof(struct lw_index_head, format), -EPROTO, true },
		{ offsetof(struct lw_index_head, head_size), -EPROTO, true },
		{ offsetof(struct lw_index_head, key), -ESTALE, true },
		{ offsetof(struct lw_index_head, key.lo), -ESTALE, true },
		{ offsetof(struct lw_index_head, key), -EBADMSG, false },
		{ offsetof(struct lw_index_head, file_size), -EBADMSG, true },
		{ offsetof(struct lw_index_head, created_ns), -EBADMSG, false },
		{ offsetof(struct lw_index_head, section[LW_SEC_DIRS].offset), -EBADMSG, true },
		{ offsetof(struct lw_index_head, section[LW_SEC_DIRS].size), -EBADMSG, true },
		{ offsetof(struct lw_index_head, section[LW_SEC_STAMPS].size), -EBADMSG, true },
		{ offsetof(struct lw_index_head, section[LW_SEC_CODE].size) + 7, -EBADMSG, true },
		{ offsetof(struct lw_index_head, sums_offset), -EBADMSG, true },
		{ offsetof(struct lw_index_head, sums_size), -EBADMSG, true },
		{ offsetof(struct lw_index_head, roots_offset), -EBADMSG, true },
		{ offsetof(struct lw_index_head, roots_size), -EBADMSG, true },
		{ offsetof(struct lw_index_head, head_hash), -EBADMSG, false },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct image image = small_image();
		struct lw_index_head layout = *image_head(&image);
		image.data[table[i].at] ^= 1;
		if (table[i].sealed)
			image_reseal(&image, &layout);
		expect_refusal(&image, image.size, table[i].error);
		free(image.data);
	}
}

static void set_stamps(struct image *image, uint64_t size)
{
	struct lw_index_head *head = image_head(image), layout = *head;
	head->section[LW_SEC_STAMPS].size = size;
	image_reseal(image, &layout);
}

/* As many as there are entries, or none. Within the block, so that nothing else is wrong. */
Test(index, stamps_lie_beside_entries)
{
	struct image image = small_image();
	uint64_t size = image_head(&image)->section[LW_SEC_STAMPS].size;
	cr_assert_eq(size / sizeof(uint64_t), image_head(&image)->section[LW_SEC_ENTRIES].size / sizeof(struct lw_entry));
	for (uint64_t other = 8; other <= LW_BLOCK; other += 8) {
		set_stamps(&image, other);
		if (other != size)
			expect_refusal(&image, image.size, -EBADMSG);
	}
	set_stamps(&image, size);
	lw_index *index;
	cr_assert_eq(lw_index_open_memory(image.data, image.size, NULL, &index, NULL), 0);
	cr_assert_eq(check_facts(index).wrong, 0);
	lw_index_close(index);
	free(image.data);
}

/* One block of stamps is damaged: it alone answers so. */
Test(index, damaged_stamps)
{
	enum { MANY = 2 * LW_BLOCK / 8 };
	static char text[MANY][8];
	const char *names[MANY];
	uint64_t stamps[MANY];
	for (unsigned i = 0; i < MANY; i++) {
		sprintf(text[i], "n%u", i);
		names[i] = text[i];
		stamps[i] = i + 1;
	}
	struct lw_listing *listing = image_listing(names, MANY, 1);
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_build_dir_stamped(build, "/d", 2, 1, 0, listing, stamps), 0);
	struct image image = image_of(build);
	((unsigned char *)image_section(&image, LW_SEC_STAMPS))[LW_BLOCK] ^= 1;
	lw_index *index;
	struct lw_index_dir dir;
	const uint64_t *stamp;
	cr_assert_eq(lw_index_open_memory(image.data, image.size, NULL, &index, NULL), 0);
	cr_assert_eq(lw_index_find_dir(index, "/d", 2, &dir), LW_OK);
	for (unsigned i = 0; i < MANY / 2; i++)
		cr_assert(lw_index_stamps(&dir, dir.entries + i, 1, &stamp) == LW_OK && *stamp == i + 1);
	cr_assert_not(lw_index_damaged(index));
	cr_assert_eq(lw_index_stamps(&dir, dir.entries + MANY / 2, 1, &stamp), LW_BAD);
	cr_assert(lw_index_damaged(index));
	cr_assert_eq(lw_index_stamps(&dir, dir.entries, MANY, &stamp), LW_BAD);
	lw_index_close(index);
	free(image.data);
	lw_build_destroy(build);
	lw_listing_destroy(listing);
}

Test(index, truncated_or_longer)
{
	struct image image = small_image();
	for (size_t size = 0; size < image.size; size += LW_BLOCK)
		expect_refusal(&image, size, -EBADMSG);
	srand(7);
	for (int i = 0; i < 2000; i++)
		expect_refusal(&image, (size_t)rand() % image.size, -EBADMSG);
	for (size_t cut = 1; cut < 64; cut++)
		expect_refusal(&image, image.size - cut, -EBADMSG);
	image.data = realloc(image.data, image.size + LW_BLOCK);
	memset(image.data + image.size, 0, LW_BLOCK);
	expect_refusal(&image, image.size + 1, -EBADMSG);
	expect_refusal(&image, image.size + LW_BLOCK, -EBADMSG);
	free(image.data);
}

Test(index, no_regular_file)
{
	lw_index *index;
	lw_reason why = NULL;
	int fds[2];
	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(lw_index_open(fds[0], NULL, &index, &why), -EBADMSG);
	cr_assert_not_null(why);
	why = NULL;
	cr_assert_eq(lw_index_open(-1, NULL, &index, &why), -EBADF);
	cr_assert_not_null(why);
	int fd = memfd_create("short", 0);
	cr_assert_eq(lw_index_open(fd, NULL, &index, &why), -EBADMSG);
	close(fd);
	close(fds[0]);
	close(fds[1]);
}

/* Local file systems map: the file's own pages are seen, verified when first touched and not before. */
Test(index, mapped_and_lazy)
{
	lw_build *build = build_small();
	int fd = image_file(build);
	lw_index *index;
	pretended_fs = EXT4_SUPER_MAGIC;
	cr_assert_eq(lw_index_open(fd, &image_key, &index, NULL), 0);
	read_all_ahead(index);
	struct lw_index_dir dir;
	cr_assert_eq(lw_index_find_dir(index, dir_path[0], strlen(dir_path[0]), &dir), LW_OK);

	uint64_t code = lw_index_head(index)->section[LW_SEC_CODE].offset;
	cr_assert_eq(pwrite(fd, "X", 1, (off_t)code), 1);
	const struct lw_file_record *file;
	const void *bytes;
	size_t len;
	cr_assert_eq(lw_index_find_file(index, file_key(0), &file), LW_OK);
	cr_assert_not(lw_index_damaged(index));
	cr_assert_eq(lw_index_code(index, file, &bytes, &len), LW_BAD);
	cr_assert(lw_index_damaged(index));
	cr_assert_eq(lw_index_code(index, file, &bytes, &len), LW_BAD);
	cr_assert_eq(lw_index_find_dir(index, dir_path[1], strlen(dir_path[1]), &dir), LW_OK);
	lw_index_close(index);

	/* The damage is no reason not to open it again. */
	cr_assert_eq(lw_index_open(fd, &image_key, &index, NULL), 0);
	lw_index_close(index);
	close(fd);
	lw_build_destroy(build);
}

/* The block of a byte of a section, and that of its sum, and no other. */
Test(index, touched_blocks_are_known)
{
	struct image image = small_image();
	lw_index *index;
	cr_assert_eq(lw_index_open_memory(image.data, image.size, &image_key, &index, NULL), 0);
	const struct lw_index_head *head = lw_index_head(index);
	cr_assert_eq(lw_index_blocks(index), head->roots_offset / LW_BLOCK);
	cr_assert_leq(lw_index_blocks(index), 64);
	cr_assert_eq(lw_index_touched(index), 0);
	cr_assert_eq(lw_index_touched_word(index, 0), 0);
	const uint64_t sums = UINT64_C(1) << head->sums_offset / LW_BLOCK;
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_not_null(lw_index_string(index, 0, 1));
		cr_assert_eq(lw_index_touched_word(index, 0), sums | UINT64_C(1) << head->section[LW_SEC_STRINGS].offset / LW_BLOCK);
		cr_assert_eq(lw_index_touched(index), 2);
	}
	walk(index);
	cr_assert_eq(lw_index_touched(index), lw_index_blocks(index) - 1, "all but the head");
	cr_assert_eq(lw_index_touched_word(index, 0), (UINT64_C(1) << lw_index_blocks(index)) - 2);
	cr_assert_eq(lw_index_touched_word(index, 1), 0);
	cr_assert_eq(lw_index_touched_word(index, UINT64_MAX), 0);
	/* A damaged block was of no use. */
	image.data[head->section[LW_SEC_STRINGS].offset] ^= 1;
	lw_index_close(index);
	cr_assert_eq(lw_index_open_memory(image.data, image.size, &image_key, &index, NULL), 0);
	cr_assert_null(lw_index_string(index, 0, 1));
	cr_assert_eq(lw_index_touched_word(index, 0), sums);
	lw_index_close(index);
	free(image.data);
}

/* Minor faults of reading all of CODE, whose bytes are 7. */
static long faults_of_reading(const unsigned char *code, size_t len)
{
	struct rusage before, after;
	uint64_t sum = 0;
	getrusage(RUSAGE_SELF, &before);
	for (size_t i = 0; i < len; i += 512)
		sum += *(const volatile unsigned char *)(code + i);
	getrusage(RUSAGE_SELF, &after);
	cr_assert_eq(sum, 7 * ((len + 511) / 512));
	return after.ru_minflt - before.ru_minflt;
}

Test(index, trimmed_pages_come_back)
{
	enum { LEN = 4 << 20, FEW = 4 };
	unsigned char *code = malloc(LEN);
	memset(code, 7, LEN);
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_build_file(build, file_key(0), 1, 1, 0, code, LEN, false), 0);
	int fd = image_file(build);
	lw_index *index;
	pretended_fs = EXT4_SUPER_MAGIC;
	cr_assert_eq(lw_index_open(fd, &image_key, &index, NULL), 0);
	const struct lw_file_record *file;
	const void *bytes;
	size_t len;
	cr_assert_eq(lw_index_find_file(index, file_key(0), &file), LW_OK);
	cr_assert_eq(lw_index_code(index, file, &bytes, &len), LW_OK);
	cr_assert_eq(len, LEN);
	cr_assert_leq(faults_of_reading(bytes, len), FEW, "the control");
	lw_index_trim(index);
	cr_assert_gt(faults_of_reading(bytes, len), FEW);
	cr_assert_leq(faults_of_reading(bytes, len), FEW);
	lw_index_close(index);
	close(fd);
	lw_build_destroy(build);
	free(code);
}

/* Elsewhere it is read: when the file goes away under us, nothing happens (a mapping would fault). */
Test(index, read_on_network_file_systems)
{
	static const uint32_t remote[] = { NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, 0x65735546 /* fuse */, 1 };
	for (size_t i = 0; i < sizeof(remote) / sizeof(*remote); i++) {
		lw_build *build = build_small();
		int fd = image_file(build);
		lw_index *index;
		pretended_fs = remote[i];
		cr_assert_eq(lw_index_open(fd, &image_key, &index, NULL), 0);
		cr_assert_eq(ftruncate(fd, 0), 0);
		close(fd);
		read_all_ahead(index);
		struct tally tally = check_facts(index);
		cr_assert_eq(tally.wrong + tally.bad, 0);
		lw_index_close(index);
		lw_build_destroy(build);
	}
}

/* What would be read whole by every start has a bound; what is mapped has none. */
Test(index, too_large_to_be_read_whole)
{
	const off_t limit = 32 << 20;
	const struct { uint32_t fs; off_t size; int error; } row[] = {
		{ NFS_SUPER_MAGIC, limit, -EBADMSG },		/* it was read: there are zeros in it */
		{ NFS_SUPER_MAGIC, limit + 1, -EFBIG },
		{ 0x65735546 /* fuse */, 200 << 20, -EFBIG },
		{ TMPFS_MAGIC, limit + 1, -EBADMSG },
	};
	for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
		int fd = memfd_create("large", MFD_CLOEXEC);
		cr_assert_eq(ftruncate(fd, row[i].size), 0);
		pretended_fs = row[i].fs;
		lw_index *index;
		lw_reason why = NULL;
		cr_expect_eq(lw_index_open(fd, NULL, &index, &why), row[i].error, "row %zu", i);
		cr_expect_eq(row[i].error == -EFBIG, strstr(why, "LADEWERK_CACHE") != NULL, "row %zu: %s", i, why);
		cr_expect_eq(lw_index_limit(fd) < (uint64_t)row[i].size, row[i].error == -EFBIG, "row %zu", i);
		close(fd);
	}
}

/* ---- damage ---- */

struct flips {
	unsigned long refused, found, unseen, wrong;
};

static void flip_one(const struct image *image, size_t bit, struct flips *flips)
{
	lw_index *index;
	lw_reason why = NULL;
	if (lw_index_open_memory(image->data, image->size, &image_key, &index, &why)) {
		cr_assert_not_null(why);
		flips->refused++;
		return;
	}
	struct tally tally = check_facts(index);
	flips->wrong += tally.wrong;
	flips->found += tally.bad > 0;
	flips->unseen += tally.bad + tally.wrong == 0;
	cr_assert_eq(tally.bad > 0, lw_index_damaged(index), "bit %zu", bit);
	lw_index_close(index);
}

static struct flips flip_all(bool reseal, size_t step)
{
	struct image image = small_image();
	struct lw_index_head layout = *image_head(&image);
	struct image pristine = small_image();
	struct flips flips = { 0 };
	for (size_t bit = 0; bit < image.size * 8; bit += step) {
		image.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
		if (reseal)
			image_reseal(&image, &layout);
		flip_one(&image, bit, &flips);
		if (reseal)
			memcpy(image.data, pristine.data, image.size);
		else
			image.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	free(pristine.data);
	free(image.data);
	return flips;
}

Test(index, every_bit_flip)
{
	struct flips flips = flip_all(false, 1);
	cr_assert_eq(flips.wrong, 0);
	/* The head's 232 bytes and ROOTS refuse; each used block is found; the head's padding is all that goes unseen. */
	cr_assert_eq(flips.unseen, (LW_BLOCK - sizeof(struct lw_index_head)) * 8);
	cr_assert_eq(flips.refused, (sizeof(struct lw_index_head) + 8) * 8);
	cr_assert_eq(flips.found, 9 * LW_BLOCK * 8);
}

/* The control: without the sums the same flips do yield wrong facts, yet none a wrong memory access. */
Test(index, every_bit_flip_unverified)
{
	struct flips flips = flip_all(true, 1);
	cr_assert_gt(flips.wrong, 1000);
}

/* ---- crafted files: right sums, wrong contents ---- */

/* Where a 32-bit field of the first record of a section lies. */
struct field {
	enum lw_section section;
	size_t at;
};

static const struct field fields[] = {
	{ LW_SEC_DIRS, offsetof(struct lw_dir_record, path) },
	{ LW_SEC_DIRS, offsetof(struct lw_dir_record, entries) },
	{ LW_SEC_DIRS, offsetof(struct lw_dir_record, count) },
	{ LW_SEC_DIRS, offsetof(struct lw_dir_record, path_len) },
	{ LW_SEC_ENTRIES, offsetof(struct lw_entry, name) },
	{ LW_SEC_FILES, offsetof(struct lw_file_record, code) },
	{ LW_SEC_FILES, offsetof(struct lw_file_record, code_len) },
	{ LW_SEC_VIEWS, offsetof(struct lw_view_record, dirs) },
	{ LW_SEC_VIEWS, offsetof(struct lw_view_record, entries) },
	{ LW_SEC_VIEWS, offsetof(struct lw_view_record, names) },
	{ LW_SEC_VIEWS, offsetof(struct lw_view_record, count) },
	{ LW_SEC_VIEWDATA, sizeof(view_dir) + offsetof(struct lw_view_name, name) },
	{ LW_SEC_VIEWDATA, sizeof(view_dir) + offsetof(struct lw_view_name, len) },
};

Test(index, crafted_offsets)
{
	static const uint32_t values[] = {
		0, 1, 2, 3, 4, 7, 8, 16, 255, 256, 4095, 4096, 4097, 65535, 65536, 0x0fffffff, 0x10000000, 0x15555555,
		0x1fffffff, 0x20000000, 0x55555555, 0x55555556, 0x7fffffff, 0x80000000, 0xaaaaaaab, 0xfffffff8, 0xfffffffe, 0xffffffff,
	};
	unsigned caught = 0;
	for (size_t f = 0; f < sizeof(fields) / sizeof(*fields); f++) {
		for (size_t v = 0; v < sizeof(values) / sizeof(*values); v++) {
			struct image image = small_image();
			unsigned char *record = image_section(&image, fields[f].section);
			memcpy(record + fields[f].at, &values[v], sizeof(values[v]));
			image_reseal(&image, image_head(&image));
			lw_index *index;
			cr_assert_eq(lw_index_open_memory(image.data, image.size, NULL, &index, NULL), 0);
			caught += check_facts(index).bad > 0;
			walk(index);
			lw_index_close(index);
			free(image.data);
		}
	}
	cr_assert_gt(caught, 150);
}

/* Callers take FIRST for an index into the view's stamps. */
/* Nobody who is handed a name is prepared for an empty one. The root directory's path is empty, and that is right. */
Test(index, empty_names_are_damage)
{
	static const char *const only[] = { "name" };
	struct lw_listing *listing = image_listing(only, 1, 1);
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_build_dir(build, "", 0, 7, 0, listing), 0);
	struct image image = image_of(build);
	struct lw_index_head layout = *image_head(&image);
	((struct lw_entry *)image_section(&image, LW_SEC_ENTRIES))->len = 0;
	image_reseal(&image, &layout);

	lw_index *index;
	struct lw_index_dir dir;
	const char *path;
	cr_assert_eq(lw_index_open_memory(image.data, image.size, NULL, &index, NULL), 0);
	cr_assert_eq(lw_index_dir_at(index, 0, &dir, &path), LW_OK);
	cr_assert_eq(lw_index_find_dir(index, "", 0, &dir), LW_OK);
	cr_assert_eq(dir.record->count, 1);
	cr_assert_not(lw_index_damaged(index));
	cr_assert_null(lw_index_string(index, dir.entries->name, dir.entries->len));
	cr_assert(lw_index_damaged(index));

	unsigned skipped = 0;
	lw_build *merged = lw_build_create();
	cr_assert_eq(lw_build_merge(merged, index, &skipped), 0);
	cr_assert_eq(skipped, 1);
	cr_assert(lw_build_empty(merged));
	lw_build_destroy(merged);
	lw_index_close(index);
	free(image.data);
	lw_build_destroy(build);
	lw_listing_destroy(listing);
}

Test(index, view_first_is_an_entry)
{
	struct image image = small_image();
	struct lw_view_name *names = (void *)((char *)image_section(&image, LW_SEC_VIEWDATA) + sizeof(view_dir));
	for (unsigned i = 0; i < NAMES; i++)
		names[i].first = VIEW_ENTRIES;
	image_reseal(&image, image_head(&image));
	lw_index *index;
	cr_assert_eq(lw_index_open_memory(image.data, image.size, NULL, &index, NULL), 0);
	struct tally tally = check_facts(index);
	cr_assert_eq(tally.wrong, 0);
	cr_assert_eq(tally.bad, NAMES);
	lw_index_close(index);
	free(image.data);
}

/* ---- searching ---- */

Test(index, equal_hashes)
{
	cr_assert_eq(lw_hash64(twin_a, 16), lw_hash64(twin_b, 16));
	lw_build *build = lw_build_create();
	const char *const both[] = { twin_a, twin_b };
	struct lw_listing *listing = image_listing(both, 2, LW_KIND_DIR);
	cr_assert_eq(lw_build_dir(build, twin_a, 16, 1, 0, listing), 0);
	cr_assert_eq(lw_build_dir(build, twin_b, 16, 2, 0, NULL), 0);
	cr_assert_eq(lw_build_dir(build, "/other", 6, 3, 0, NULL), 0);
	const struct lw_view_dir dirs[] = { { 1, 1 }, { 2, 2 } };
	const struct lw_build_name names[] = { { twin_b, 16, 1 }, { twin_a, 16, 0 } };
	cr_assert_eq(lw_build_view(build, file_key(0), dirs, 2, names, 2), 0);
	struct image image = image_of(build);
	lw_index *index;
	cr_assert_eq(lw_index_open_memory(image.data, image.size, NULL, &index, NULL), 0);

	struct lw_index_dir a, b;
	cr_assert_eq(lw_index_find_dir(index, twin_a, 16, &a), LW_OK);
	cr_assert_eq(lw_index_find_dir(index, twin_b, 16, &b), LW_OK);
	cr_assert_eq(a.record->stamp, 1);
	cr_assert_eq(b.record->stamp, 2);
	struct lw_index_view view;
	cr_assert_eq(lw_index_find_view(index, file_key(0), &view), LW_OK);
	for (unsigned i = 0; i < 2; i++) {
		const struct lw_entry *entry;
		cr_assert_eq(lw_index_dir_find(&a, both[i], 16, &entry), LW_OK);
		cr_assert_eq(memcmp(lw_index_string(index, entry->name, entry->len), both[i], 16), 0);
		uint32_t first = 9;
		cr_assert_eq(lw_index_view_find(&view, both[i], 16, &first), LW_OK);
		cr_assert_eq(first, i);
	}
	lw_index_close(index);
	free(image.data);
	lw_listing_destroy(listing);
	lw_build_destroy(build);
}

/* Keys that are anything but uniform: a search by interpolation alone would walk. */
static struct lw_hash128 skewed_key(unsigned shape, uint64_t i)
{
	switch (shape) {
	case 0: return (struct lw_hash128){ 5, i };
	case 1: return (struct lw_hash128){ i, 0 };
	case 2: return (struct lw_hash128){ UINT64_MAX - i * i, i };
	case 3: return (struct lw_hash128){ UINT64_C(1) << (i % 64), i };
	default: return (struct lw_hash128){ i == 0 ? UINT64_MAX : i * i * i, i };
	}
}

Test(index, skewed_keys)
{
	enum { COUNT = 20000 };
	for (unsigned shape = 0; shape < 5; shape++) {
		lw_build *build = lw_build_create();
		for (uint64_t i = 0; i < COUNT; i++)
			cr_assert_eq(lw_build_file(build, skewed_key(shape, i), i, 0, 0, NULL, 0, false), 0);
		struct image image = image_of(build);
		lw_index *index;
		cr_assert_eq(lw_index_open_memory(image.data, image.size, NULL, &index, NULL), 0);
		for (uint64_t i = 0; i < COUNT; i++) {
			const struct lw_file_record *file;
			cr_assert_eq(lw_index_find_file(index, skewed_key(shape, i), &file), LW_OK);
			cr_assert_eq(file->stamp, i);
			struct lw_hash128 near = skewed_key(shape, i);
			near.lo += COUNT;
			cr_assert_eq(lw_index_find_file(index, near, &file), LW_ABSENT);
		}
		lw_index_close(index);
		free(image.data);
		lw_build_destroy(build);
	}
}

/* Tables in no order at all: lookups may miss, and end. */
Test(index, unsorted_tables)
{
	enum { COUNT = 5000 };
	lw_build *build = lw_build_create();
	for (unsigned i = 0; i < COUNT; i++)
		cr_assert_eq(lw_build_file(build, file_key(i), i, 0, 0, NULL, 0, false), 0);
	struct image image = image_of(build);
	struct lw_file_record *files = image_section(&image, LW_SEC_FILES);
	for (unsigned i = 0; i < COUNT / 2; i++) {
		struct lw_file_record swap = files[i];
		files[i] = files[COUNT - 1 - i];
		files[COUNT - 1 - i] = swap;
	}
	image_reseal(&image, image_head(&image));
	lw_index *index;
	cr_assert_eq(lw_index_open_memory(image.data, image.size, NULL, &index, NULL), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		const struct lw_file_record *file;
		cr_assert_neq(lw_index_find_file(index, file_key(i), &file), LW_BAD);
	}
	lw_index_close(index);
	free(image.data);
	lw_build_destroy(build);
}
