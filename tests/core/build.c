/* SPDX-License-Identifier: MIT */
/*
 * build: what is put in comes out, the newest fact wins, and a file that could not be written whole is no index.
 */
#include "../image.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

/* How the next writes go: as asked, in pieces of 1 to 7,000 bytes with every third call interrupted, or nowhere. */
static enum { WHOLE, PIECES, NOTHING } writes;
static unsigned write_calls;

/* In place of libc's. */
ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
	write_calls++;
	if (writes == NOTHING)
		return 0;
	if (writes == PIECES && write_calls % 3 == 0) {
		errno = EINTR;
		return -1;
	}
	size_t piece = write_calls * 37 % 7000 + 1;
	return syscall(SYS_pwrite64, fd, data, writes == PIECES && size > piece ? piece : size, at);
}

/* ---- random facts, each a function of its number and a generation ---- */

enum { MAX_NAMES = 40 };

static uint64_t mix(uint64_t kind, uint64_t i, uint64_t generation)
{
	const uint64_t in[] = { kind, i, generation };
	return lw_hash64(in, sizeof(in));
}

static struct lw_hash128 key_of(uint64_t kind, uint64_t i)
{
	const uint64_t in[] = { kind, i };
	return lw_hash128(in, sizeof(in));
}

static size_t path_of(unsigned i, char *out)
{
	return (size_t)sprintf(out, "/site/%x/%u", (unsigned)mix(1, i, 0) & 0xff, i);
}

/* Names come from a small pool, so that directories share them. */
static void name_of(uint64_t n, char *out)
{
	sprintf(out, "name_%u", (unsigned)(mix(2, n, 0) % 3000));
}

/* Distinct names, into TEXT; NAMES point there. */
static uint32_t names_of(uint64_t kind, unsigned i, unsigned generation, char (*text)[16], const char **names)
{
	uint32_t count = (uint32_t)(mix(kind, i, generation) % MAX_NAMES), kept = 0;
	for (uint32_t n = 0; n < count; n++) {
		name_of(mix(kind, i, generation) + n, text[kept]);
		bool again = false;
		for (uint32_t k = 0; k < kept; k++)
			again |= strcmp(text[k], text[kept]) == 0;
		if (!again) {
			names[kept] = text[kept];
			kept++;
		}
	}
	return kept;
}

static uint32_t code_of(unsigned i, unsigned generation, unsigned char *out)
{
	uint32_t len = (uint32_t)(mix(4, i, generation) % 3000);
	for (uint32_t n = 0; n < len; n++)
		out[n] = (unsigned char)(mix(5, i, generation) >> n % 57);
	return len;
}

/* Whether directories are given stamps: half of all, two thirds of those. */
static bool stamped;

static bool is_stamped(unsigned i)
{
	return stamped && i % 2;
}

static uint64_t stamp_of(unsigned i, unsigned generation, const char *name, size_t len)
{
	return mix(13, i, generation) % 3 ? mix(14, i, generation) ^ lw_name_hash(name, len) : 0;
}

static int put_dir(lw_build *build, const char *path, size_t len, unsigned i, unsigned generation, const struct lw_listing *listing)
{
	uint64_t stamps[MAX_NAMES], stamp = mix(7, i, generation);
	for (uint32_t n = 0; n < listing->count; n++)
		stamps[n] = stamp_of(i, generation, listing->names + listing->entries[n].name, listing->entries[n].len);
	return is_stamped(i) ? lw_build_dir_stamped(build, path, len, stamp, (uint16_t)(i & 8), listing, stamps)
		: lw_build_dir(build, path, len, stamp, (uint16_t)(i & 8), listing);
}

static void add_dir(lw_build *build, unsigned i, unsigned generation)
{
	char text[MAX_NAMES][16], path[64];
	const char *names[MAX_NAMES];
	uint32_t count = names_of(3, i, generation, text, names);
	struct lw_listing *listing = image_listing(names, count, (lw_kinds)mix(6, i, generation));
	cr_assert_eq(put_dir(build, path, path_of(i, path), i, generation, listing), 0);
	lw_listing_destroy(listing);
}

static void add_file(lw_build *build, unsigned i, unsigned generation)
{
	unsigned char code[3000];
	uint32_t len = code_of(i, generation, code);
	cr_assert_eq(lw_build_file(build, key_of(1, i), mix(8, i, generation), mix(9, i, generation),
			i % 2 ? LW_FILE_PUBLIC : 0, code, len, true), 0);
}

static void add_view(lw_build *build, unsigned i, unsigned generation)
{
	char text[MAX_NAMES][16];
	const char *names[MAX_NAMES];
	struct lw_build_name view[MAX_NAMES];
	struct lw_view_dir dirs[64];
	uint32_t count = names_of(10, i, generation, text, names), entries = 1 + i % 64;
	for (uint32_t n = 0; n < entries; n++)
		dirs[n] = (struct lw_view_dir){ .path = mix(12, i, n), .token = mix(11, i, generation + n) };
	for (uint32_t n = 0; n < count; n++)
		view[n] = (struct lw_build_name){ names[n], (uint16_t)strlen(names[n]), (uint16_t)(n % entries) };
	cr_assert_eq(lw_build_view(build, key_of(2, i), dirs, entries, view, count), 0);
}

static void add_all(lw_build *build, unsigned from, unsigned to, unsigned generation)
{
	for (unsigned i = from; i < to; i++) {
		add_dir(build, i, generation);
		add_file(build, i, generation);
		if (i % 16 == 0)
			add_view(build, i, generation);
	}
}

static void expect_stamp(const struct lw_index_dir *dir, const struct lw_entry *entry, uint64_t expected)
{
	const uint64_t *stamp;
	bool there = lw_index_head(dir->index)->section[LW_SEC_STAMPS].size;
	cr_assert_eq(lw_index_stamps(dir, entry, 1, &stamp), there ? LW_OK : LW_ABSENT);
	cr_assert_eq(there ? *stamp : 0, expected);
}

static void expect_dir(const lw_index *index, unsigned i, unsigned generation)
{
	char text[MAX_NAMES][16], path[64];
	const char *names[MAX_NAMES];
	uint32_t count = names_of(3, i, generation, text, names);
	struct lw_index_dir dir;
	cr_assert_eq(lw_index_find_dir(index, path, path_of(i, path), &dir), LW_OK);
	cr_assert_eq(dir.record->stamp, mix(7, i, generation));
	cr_assert_eq(dir.record->flags, i & 8);
	cr_assert_eq(dir.record->count, count);
	const struct lw_entry *entry;
	for (uint32_t n = 0; n < count; n++) {
		cr_assert_eq(lw_index_dir_find(&dir, names[n], strlen(names[n]), &entry), LW_OK);
		cr_assert_eq(entry->kinds, (lw_kinds)mix(6, i, generation));
		expect_stamp(&dir, entry, is_stamped(i) ? stamp_of(i, generation, names[n], strlen(names[n])) : 0);
	}
	cr_assert_eq(lw_index_dir_find(&dir, "absent", 6, &entry), LW_ABSENT);
}

static void expect_file(const lw_index *index, unsigned i, unsigned generation)
{
	unsigned char expected[3000];
	uint32_t expected_len = code_of(i, generation, expected);
	const struct lw_file_record *file;
	cr_assert_eq(lw_index_find_file(index, key_of(1, i), &file), LW_OK);
	cr_assert_eq(file->stamp, mix(8, i, generation));
	cr_assert_eq(file->content, mix(9, i, generation));
	cr_assert_eq(!!(file->code_len & LW_FILE_PUBLIC), i % 2);
	const void *code;
	size_t len;
	cr_assert_eq(lw_index_code(index, file, &code, &len), expected_len ? LW_OK : LW_ABSENT);
	if (expected_len) {
		cr_assert_eq(len, expected_len);
		cr_assert_eq(memcmp(code, expected, len), 0);
		cr_assert_eq((uintptr_t)code % LW_CODE_UNIT, 0);
	}
}

static void expect_view(const lw_index *index, unsigned i, unsigned generation)
{
	char text[MAX_NAMES][16];
	const char *names[MAX_NAMES];
	uint32_t count = names_of(10, i, generation, text, names), entries = 1 + i % 64, first;
	struct lw_index_view view;
	cr_assert_eq(lw_index_find_view(index, key_of(2, i), &view), LW_OK);
	cr_assert_eq(view.record->entries, entries);
	cr_assert_eq(view.record->count, count);
	for (uint32_t n = 0; n < entries; n++)
		cr_assert(view.dirs[n].path == mix(12, i, n) && view.dirs[n].token == mix(11, i, generation + n));
	for (uint32_t n = 0; n < count; n++) {
		cr_assert_eq(lw_index_view_find(&view, names[n], strlen(names[n]), &first), LW_OK);
		cr_assert_eq(first, n % entries);
	}
	cr_assert_eq(lw_index_view_find(&view, "absent", 6, &first), LW_ABSENT);
}

static void expect_all(const lw_index *index, unsigned from, unsigned to, unsigned generation)
{
	for (unsigned i = from; i < to; i++) {
		expect_dir(index, i, generation);
		expect_file(index, i, generation);
		if (i % 16 == 0)
			expect_view(index, i, generation);
	}
}

static lw_index *open_image(const struct image *image)
{
	lw_index *index;
	lw_reason why;
	cr_assert_eq(lw_index_open_memory(image->data, image->size, &image_key, &index, &why), 0, "%s", why);
	return index;
}

/* ---- round trips ---- */

Test(build, round_trip)
{
	enum { COUNT = 4000 };
	lw_build *build = lw_build_create();
	cr_assert(lw_build_empty(build));
	add_all(build, 0, COUNT, 0);
	cr_assert_not(lw_build_empty(build));
	int fd = image_file(build);
	cr_assert_eq((uint64_t)lseek(fd, 0, SEEK_END), lw_build_size(build));
	/* What the builder knew must not be needed any more. */
	lw_build_destroy(build);
	lw_index *index;
	cr_assert_eq(lw_index_open(fd, &image_key, &index, NULL), 0);
	close(fd);
	expect_all(index, 0, COUNT, 0);
	cr_assert_eq(lw_index_dir_count(index), COUNT);
	cr_assert_eq(lw_index_file_count(index), COUNT);
	cr_assert_eq(lw_index_view_count(index), COUNT / 16);
	struct lw_index_dir dir;
	const struct lw_file_record *file;
	cr_assert_eq(lw_index_find_dir(index, "/site", 5, &dir), LW_ABSENT);
	cr_assert_eq(lw_index_find_file(index, key_of(1, COUNT), &file), LW_ABSENT);
	cr_assert_not(lw_index_damaged(index));
	lw_index_close(index);
	lw_build_destroy(NULL);
}

static uint64_t stamps_in(const struct image *image)
{
	return image_head(image)->section[LW_SEC_STAMPS].size / sizeof(uint64_t);
}

/* Beside each entry if there are any, else nowhere. What is replaced loses them, or gets some. */
Test(build, stamps)
{
	enum { COUNT = 400 };
	struct lw_build_facts facts;
	lw_build *build = lw_build_create();
	add_all(build, 0, COUNT, 0);
	struct image without = image_of(build);
	cr_assert_eq(stamps_in(&without), 0);
	lw_build_facts(build, &facts);
	cr_assert_eq(facts.stamps, 0);
	uint64_t names = facts.names;

	stamped = true;
	add_all(build, 0, COUNT, 0);
	struct image with = image_of(build);
	cr_assert_eq(stamps_in(&with), names);
	lw_build_facts(build, &facts);
	cr_assert(facts.stamps > names / 4 && facts.stamps < names / 2 && facts.names == names);
	lw_index *index = open_image(&with);
	expect_all(index, 0, COUNT, 0);
	lw_index_close(index);

	stamped = false;
	add_all(build, 0, COUNT, 0);
	lw_build_facts(build, &facts);
	cr_assert(facts.stamps == 0 && facts.names == names);
	lw_build_destroy(build);
	free(with.data);
	free(without.data);
}

/* Code larger than the write buffer, and SUMS of several blocks. */
Test(build, large_code)
{
	const size_t large = 5 << 20;
	unsigned char *code = malloc(large);
	for (size_t i = 0; i < large; i++)
		code[i] = (unsigned char)(i * i >> 8);
	lw_build *build = lw_build_create();
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(lw_build_file(build, key_of(1, i), i, 0, 0, code + i, large - i, false), 0);
	struct image image = image_of(build);
	lw_index *index = open_image(&image);
	cr_assert_gt(lw_index_head(index)->roots_size, 8);
	for (unsigned i = 0; i < 3; i++) {
		const struct lw_file_record *file;
		const void *got;
		size_t len;
		cr_assert_eq(lw_index_find_file(index, key_of(1, i), &file), LW_OK);
		cr_assert_eq(lw_index_code(index, file, &got, &len), LW_OK);
		cr_assert_eq(len, large - i);
		cr_assert_eq(memcmp(got, code + i, len), 0);
	}
	lw_index_close(index);
	free(image.data);
	lw_build_destroy(build);
	free(code);
}

/* The same facts again replace; what was replaced is not in the file. */
Test(build, replace)
{
	enum { COUNT = 300 };
	lw_build *build = lw_build_create(), *fresh = lw_build_create();
	add_all(build, 0, COUNT, 0);
	add_all(build, COUNT / 2, COUNT, 1);
	struct image image = image_of(build);
	lw_index *index = open_image(&image);
	cr_assert_eq(lw_index_dir_count(index), COUNT);
	cr_assert_eq(lw_index_file_count(index), COUNT);
	expect_all(index, 0, COUNT / 2, 0);
	expect_all(index, COUNT / 2, COUNT, 1);

	add_all(fresh, 0, COUNT / 2, 0);
	add_all(fresh, COUNT / 2, COUNT, 1);
	struct image expected = image_of(fresh);
	static const enum lw_section same[] = { LW_SEC_DIRS, LW_SEC_ENTRIES, LW_SEC_STAMPS, LW_SEC_FILES, LW_SEC_VIEWS, LW_SEC_VIEWDATA, LW_SEC_CODE };
	for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++)
		cr_assert_eq(image_head(&image)->section[same[i]].size, image_head(&expected)->section[same[i]].size);
	/* Code in the same order too: a replacement takes the place of what it replaces. */
	cr_assert_eq(memcmp(image_section(&image, LW_SEC_CODE), image_section(&expected, LW_SEC_CODE),
			image_head(&image)->section[LW_SEC_CODE].size), 0);
	lw_index_close(index);
	free(image.data);
	free(expected.data);
	lw_build_destroy(build);
	lw_build_destroy(fresh);
}

Test(build, code_in_order_of_addition)
{
	lw_build *build = lw_build_create();
	const char *const code[] = { "first, of more than one unit", "second", "third" };
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(lw_build_file(build, key_of(1, 2 - i), 0, 0, 0, code[i], strlen(code[i]), false), 0);
	struct image image = image_of(build);
	const char *stored = image_section(&image, LW_SEC_CODE);
	static const unsigned at[] = { 0, 32, 48 };
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(memcmp(stored + at[i], code[i], strlen(code[i])), 0);
	cr_assert_eq(image_head(&image)->section[LW_SEC_CODE].size, 64);
	free(image.data);
	lw_build_destroy(build);
}

Test(build, equal_names_are_shared)
{
	static const char *const names[] = { "one", "two", "three" };
	struct lw_listing *listing = image_listing(names, 3, LW_KIND_DIR);
	lw_build *build = lw_build_create();
	for (unsigned i = 0; i < 100; i++) {
		char path[16];
		cr_assert_eq(lw_build_dir(build, path, (size_t)sprintf(path, "/%03u", i), 1, 0, listing), 0);
	}
	struct image image = image_of(build);
	cr_assert_eq(image_head(&image)->section[LW_SEC_STRINGS].size, 3 + 3 + 5 + 100 * 4);
	free(image.data);
	lw_build_destroy(build);
	lw_listing_destroy(listing);
}

Test(build, deterministic)
{
	struct image image[2];
	for (unsigned i = 0; i < 2; i++) {
		lw_build *build = lw_build_create();
		add_all(build, 0, 500, 0);
		add_all(build, 100, 200, 1);
		int fd = memfd_create("image", 0);
		cr_assert_eq(lw_build_write(build, fd, image_key, i, i), 0);
		image[i] = image_read(fd);
		image_head(&image[i])->created_ns = image_head(&image[i])->writer_uid = 0;
		image_head(&image[i])->head_hash = 0;
		close(fd);
		lw_build_destroy(build);
	}
	cr_assert_eq(image[0].size, image[1].size);
	cr_assert_eq(memcmp(image[0].data, image[1].data, image[0].size), 0);
	free(image[0].data);
	free(image[1].data);
}

/* ---- merging ---- */

static struct image image_of_range(unsigned from, unsigned to, unsigned generation)
{
	lw_build *build = lw_build_create();
	add_all(build, from, to, generation);
	struct image image = image_of(build);
	lw_build_destroy(build);
	return image;
}

Test(build, merge_newest_first)
{
	/* The builder's own facts 0..100, a newer file 50..300, an older one 200..600. */
	struct image newer = image_of_range(50, 300, 1), older = image_of_range(200, 600, 2);
	lw_index *newer_index = open_image(&newer), *older_index = open_image(&older);
	lw_build *build = lw_build_create();
	add_all(build, 0, 100, 0);
	unsigned skipped = 9;
	cr_assert_eq(lw_build_merge(build, newer_index, &skipped), 0);
	cr_assert_eq(skipped, 0);
	cr_assert_eq(lw_build_merge(build, older_index, NULL), 0);
	/* Once more: nothing is lacking. */
	uint64_t size = lw_build_size(build);
	cr_assert_eq(lw_build_merge(build, older_index, NULL), 0);
	cr_assert_eq(lw_build_size(build), size);

	struct image image = image_of(build);
	cr_assert_eq(image.size, size);
	lw_build_destroy(build);
	lw_index_close(newer_index);
	lw_index_close(older_index);
	free(newer.data);
	free(older.data);
	lw_index *index = open_image(&image);
	expect_all(index, 0, 100, 0);
	expect_all(index, 100, 300, 1);
	expect_all(index, 300, 600, 2);
	cr_assert_eq(lw_index_dir_count(index), 600);
	cr_assert_eq(lw_index_file_count(index), 600);
	lw_index_close(index);
	free(image.data);
}

/* Newest first, and from where there are none: none. */
Test(build, merge_carries_stamps)
{
	struct image without = image_of_range(200, 600, 0);
	stamped = true;
	struct image with = image_of_range(50, 300, 1);
	lw_index *newer = open_image(&with), *older = open_image(&without);
	lw_build *build = lw_build_create();
	unsigned skipped;
	add_all(build, 0, 100, 2);
	cr_assert(lw_build_merge(build, newer, &skipped) == 0 && skipped == 0);
	cr_assert(lw_build_merge(build, older, &skipped) == 0 && skipped == 0);
	struct image merged = image_of(build);
	lw_index *index = open_image(&merged);
	cr_assert_eq(stamps_in(&merged), image_head(&merged)->section[LW_SEC_ENTRIES].size / sizeof(struct lw_entry));
	expect_all(index, 0, 100, 2);
	expect_all(index, 100, 300, 1);
	stamped = false;
	expect_all(index, 300, 600, 0);
	lw_build_destroy(build);
	lw_index_close(index);
	lw_index_close(older);
	lw_index_close(newer);
	free(merged.data);
	free(with.data);
	free(without.data);
}

/* Code stays where it is: the merged builder points into the index. */
Test(build, merge_does_not_copy_code)
{
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_build_file(build, key_of(1, 1), 1, 1, 0, "abcd", 4, true), 0);
	struct image image = image_of(build);
	lw_build_destroy(build);
	lw_index *index = open_image(&image);
	build = lw_build_create();
	cr_assert_eq(lw_build_merge(build, index, NULL), 0);
	memcpy(image_section(&image, LW_SEC_CODE), "ABCD", 4);
	struct image merged = image_of(build);
	cr_assert_eq(memcmp(image_section(&merged, LW_SEC_CODE), "ABCD", 4), 0);
	lw_build_destroy(build);
	lw_index_close(index);
	free(image.data);
	free(merged.data);
}

/* ---- covers ---- */

enum { PY = LW_KIND_SUFFIX(2) };

struct tree_dir {
	const char *path;
	const char *names[6];		/* a leading '/': a directory, '@': a link; else a source. "?" alone: it cannot be read */
};

static struct lw_listing *listing_of(const struct tree_dir *dir)
{
	struct lw_listing *parts[6];
	const char *plain[6];
	unsigned count = 0;
	for (; count < 6 && dir->names[count]; count++) {
		char kind = dir->names[count][0];
		plain[count] = dir->names[count] + (kind == '/' || kind == '@');
		parts[count] = image_listing(&plain[count], 1, kind == '/' || kind == '@' ? LW_KIND_DIR : PY);
	}
	/* All in one, for the order; then each its own kinds. */
	struct lw_listing *all = image_listing(plain, count, 0);
	for (uint32_t i = 0; i < all->count; i++)
		for (unsigned n = 0; n < count; n++)
			if (all->entries[i].hash == parts[n]->entries[0].hash) {
				((struct lw_entry *)all->entries)[i].kinds = parts[n]->entries[0].kinds;
				((struct lw_entry *)all->entries)[i].flags = dir->names[n][0] == '@' ? LW_ENTRY_DOUBT : 0;
			}
	for (unsigned n = 0; n < count; n++)
		lw_listing_destroy(parts[n]);
	return all;
}

/* Directories, and a file with code CODE for each of their sources. */
static void add_tree(lw_build *build, const struct tree_dir *dirs, unsigned count, const char *code)
{
	for (unsigned i = 0; i < count; i++) {
		bool closed = dirs[i].names[0] && dirs[i].names[0][0] == '?';
		struct lw_listing *listing = closed ? NULL : listing_of(&dirs[i]);
		cr_assert_eq(lw_build_dir(build, dirs[i].path, strlen(dirs[i].path), 100 + i, closed ? LW_DIR_UNREADABLE : 0, listing), 0);
		lw_listing_destroy(listing);
		for (unsigned n = 0; n < 6 && dirs[i].names[n]; n++) {
			char path[128];
			int len = snprintf(path, sizeof(path), "%s/%s.py", dirs[i].path, dirs[i].names[n]);
			if (strchr("/@?", dirs[i].names[n][0]))
				continue;
			cr_assert_eq(lw_build_file(build, lw_hash128(path, (size_t)len), 7, 8, 0, code, strlen(code), true), 0);
		}
	}
}

static bool knows_dir(const lw_index *index, const char *path)
{
	struct lw_index_dir dir;
	return lw_index_find_dir(index, path, strlen(path), &dir) == LW_OK;
}

static bool knows_file(const lw_index *index, const char *path)
{
	const struct lw_file_record *file;
	return lw_index_find_file(index, lw_hash128(path, strlen(path)), &file) == LW_OK;
}

Test(build, what_is_gone_below_a_cover_is_left_out)
{
	static const struct tree_dir before[] = {
		{ "/r", { "/kept", "/gone", "@link", "/closed", "top", "old" } }, { "/r/kept", { "a", "b" } }, { "/r/gone", { "c", "/deep" } },
		{ "/r/gone/deep", { "d" } }, { "/r/.venv/lib", { "e" } }, { "/r/kept/node_modules/x", { "f" } }, { "/r/link/below", { "g" } },
		{ "/r/link", { "h", "/below" } }, { "/r/closed/inner", { "i" } }, { "/rest", { "j" } }, { "/r/kept/b", { "k" } },
	}, now[] = {
		{ "/r", { "/kept", "@link", "/closed", "top" } }, { "/r/kept", { "a" } }, { "/r/closed", { "?" } },
	};
	lw_build *build = lw_build_create();
	add_tree(build, before, 11, "old");
	struct image older = image_of(build);
	lw_build_destroy(build);
	lw_index *index = open_image(&older);

	build = lw_build_create();
	add_tree(build, now, 3, "new");
	cr_expect_not(lw_build_outdates(build, index), "nothing is covered yet");
	cr_assert_eq(lw_build_cover(build, "/r", 2, PY, false), 0);
	cr_expect(lw_build_outdates(build, index));
	cr_assert_eq(lw_build_merge(build, index, NULL), 0);
	struct image merged = image_of(build);
	lw_build_destroy(build);
	lw_index_close(index);
	index = open_image(&merged);
	static const struct { const char *dir, *file; bool there; } expected[] = {
		{ "/r", "/r/top.py", true }, { "/r", "/r/old.py", false }, { "/r/kept", "/r/kept/a.py", true }, { "/r/kept", "/r/kept/b.py", false },
		{ "/r/gone", "/r/gone/c.py", false }, { "/r/gone/deep", "/r/gone/deep/d.py", false },
		/* Nothing is said about where no walk goes. */
		{ "/r/.venv/lib", "/r/.venv/lib/e.py", true }, { "/r/kept/node_modules/x", "/r/kept/node_modules/x/f.py", true },
		{ "/r/link/below", "/r/link/below/g.py", true }, { "/r/closed/inner", "/r/closed/inner/i.py", true },
		/* A longer name is not below it. */
		{ "/rest", "/rest/j.py", true }, { "/r/kept/b", "/r/kept/b/k.py", false },
	};
	for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
		bool dir_stays = expected[i].there || strcmp(expected[i].dir, "/r") == 0 || strcmp(expected[i].dir, "/r/kept") == 0;
		cr_expect_eq(knows_dir(index, expected[i].dir), dir_stays, "%s", expected[i].dir);
		cr_expect_eq(knows_file(index, expected[i].file), expected[i].there, "%s", expected[i].file);
	}
	lw_index_close(index);
	free(older.data);
	free(merged.data);
}

Test(build, a_cover_of_everything)
{
	static const struct tree_dir before[] = { { "", { "/a" } }, { "/a", { "m" } }, { "/b", { "n" } } }, now[] = { { "", { "/a" } }, { "/a", { "m" } } };
	lw_build *build = lw_build_create();
	add_tree(build, before, 3, "old");
	struct image older = image_of(build);
	lw_build_destroy(build);
	lw_index *index = open_image(&older);
	build = lw_build_create();
	add_tree(build, now, 2, "new");
	cr_assert_eq(lw_build_cover(build, "", 0, PY, false), 0);
	cr_assert_eq(lw_build_merge(build, index, NULL), 0);
	struct image merged = image_of(build);
	lw_build_destroy(build);
	lw_index_close(index);
	index = open_image(&merged);
	cr_expect(knows_dir(index, "") && knows_dir(index, "/a") && !knows_dir(index, "/b"));
	cr_expect(knows_file(index, "/a/m.py") && !knows_file(index, "/b/n.py"));
	lw_index_close(index);
	free(older.data);
	free(merged.data);
}

/* All that was removed is a cover of its own; each directory of the older index is asked for. */
Test(build, tens_of_thousands_of_covers)
{
	enum { DIRS = 40000 };
	char path[64];
	lw_build *build = lw_build_create();
	for (unsigned i = 0; i < DIRS; i++)
		cr_assert_eq(lw_build_dir(build, path, (size_t)sprintf(path, "/srv/packages/%05u/inner", i), 1, 0, NULL), 0);
	struct image older = image_of(build);
	lw_build_destroy(build);
	lw_index *index = open_image(&older);
	build = lw_build_create();
	for (unsigned i = 0; i < DIRS; i += 2)
		cr_assert_eq(lw_build_cover(build, path, (size_t)sprintf(path, "/srv/packages/%05u", i), 0, true), 0);
	clock_t begun = clock();
	cr_assert_eq(lw_build_merge(build, index, NULL), 0);
	cr_expect_lt((double)(clock() - begun) / CLOCKS_PER_SEC, 1.0, "%.2f s", (double)(clock() - begun) / CLOCKS_PER_SEC);
	for (unsigned i = 0; i < DIRS; i++)
		cr_assert_eq(lw_build_knows_dir(build, path, (size_t)sprintf(path, "/srv/packages/%05u/inner", i)), i % 2 != 0);
	lw_build_destroy(build);
	lw_index_close(index);
	free(older.data);
}

/* Code that was stored before its time is found again, and only that. */
Test(build, moved_code_comes_back_by_merging)
{
	unsigned char code[3000];
	lw_build *build = lw_build_create(), *code_only = lw_build_create();
	for (unsigned i = 0; i < 200; i++)
		add_file(build, i, 0);
	add_dir(build, 1, 0);
	cr_assert_eq(lw_build_move_code(build, code_only), 0);
	struct lw_build_facts facts;
	lw_build_facts(build, &facts);
	cr_expect(facts.code == 0 && facts.files == 200 && facts.directories == 1);
	struct image stored = image_of(code_only);
	lw_build_destroy(code_only);
	/* Two sources were changed meanwhile: in stamp, in content. */
	uint32_t len = code_of(3, 0, code);
	cr_assert_eq(lw_build_file(build, key_of(1, 3), 1, mix(9, 3, 0), 0, NULL, 0, false), 0);
	cr_assert_eq(lw_build_file(build, key_of(1, 4), mix(8, 4, 0), 1, 0, NULL, 0, false), 0);
	cr_assert(len && code_of(4, 0, code));
	lw_index *index = open_image(&stored);
	cr_assert_eq(lw_build_merge(build, index, NULL), 0);
	struct image merged = image_of(build);
	lw_build_destroy(build);
	lw_index_close(index);
	index = open_image(&merged);
	for (unsigned i = 0; i < 200; i++)
		if (i != 3 && i != 4)
			expect_file(index, i, 0);
	for (unsigned i = 3; i < 5; i++) {
		const struct lw_file_record *file;
		cr_assert_eq(lw_index_find_file(index, key_of(1, i), &file), LW_OK);
		cr_expect_eq(LW_FILE_LEN(file), 0, "file %u got another one's code", i);
	}
	expect_dir(index, 1, 0);
	lw_index_close(index);
	free(stored.data);
	free(merged.data);
}

/* One damaged block of each section in turn: what rests on it is left out, the rest is there and right. */
Test(build, merge_leaves_damage_out)
{
	enum { COUNT = 2000 };
	stamped = true;
	struct image pristine = image_of_range(0, COUNT, 0);
	for (int s = 0; s < LW_SEC_COUNT; s++) {
		struct image image = { malloc(pristine.size), pristine.size };
		memcpy(image.data, pristine.data, image.size);
		*(unsigned char *)image_section(&image, (enum lw_section)s) ^= 1;
		lw_index *index = open_image(&image);
		lw_build *build = lw_build_create();
		unsigned skipped = 0;
		cr_assert_eq(lw_build_merge(build, index, &skipped), 0);
		cr_assert(lw_index_damaged(index));
		cr_assert_gt(skipped, 0);
		struct image merged = image_of(build);
		lw_index *result = open_image(&merged);
		unsigned facts = lw_index_dir_count(result) + lw_index_file_count(result) + lw_index_view_count(result);
		cr_assert_eq(facts + skipped, COUNT + COUNT + COUNT / 16);
		lw_build_destroy(build);
		build = lw_build_create();
		cr_assert_eq(lw_build_merge(build, result, &skipped), 0);
		cr_assert_eq(skipped, 0);
		lw_build_destroy(build);
		lw_index_close(result);
		lw_index_close(index);
		free(merged.data);
		free(image.data);
	}
	free(pristine.data);
}

/* A crafted file whose directories all claim the one large listing must not become as much larger in memory. */
Test(build, merge_of_shared_ranges)
{
	enum { COUNT = 1000, NAMES = 200 };
	char text[NAMES][8];
	const char *names[NAMES];
	for (unsigned i = 0; i < NAMES; i++) {
		sprintf(text[i], "n%u", i);
		names[i] = text[i];
	}
	struct lw_listing *listing = image_listing(names, NAMES, LW_KIND_DIR);
	lw_build *build = lw_build_create();
	for (unsigned i = 0; i < COUNT; i++) {
		char path[64];
		cr_assert_eq(lw_build_dir(build, path, path_of(i, path), 1, 0, i ? NULL : listing), 0);
	}
	struct image image = image_of(build);
	lw_build_destroy(build);
	lw_listing_destroy(listing);
	struct lw_dir_record *dirs = image_section(&image, LW_SEC_DIRS);
	for (unsigned i = 0; i < COUNT; i++) {
		dirs[i].entries = 0;
		dirs[i].count = NAMES;
	}
	image_reseal(&image, image_head(&image));

	lw_index *index = open_image(&image);
	build = lw_build_create();
	unsigned skipped;
	cr_assert_eq(lw_build_merge(build, index, &skipped), 0);
	cr_assert_eq(skipped, COUNT - 1);
	cr_assert_leq(lw_build_size(build), image.size);
	lw_build_destroy(build);
	lw_index_close(index);
	free(image.data);
}

/* ---- limits ---- */

Test(build, too_big)
{
	/* Never touched: sizes alone must decide. */
	static const char nothing[1];
	const size_t most = (1u << LW_FILE_LEN_BITS) - 16;
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_build_file(build, key_of(1, 0), 0, 0, 0, nothing, (size_t)1 << LW_FILE_LEN_BITS, true), -E2BIG);
	cr_assert_eq(lw_build_file(build, key_of(1, 0), 0, 0, 0, nothing, SIZE_MAX, false), -E2BIG);
	cr_assert(lw_build_empty(build));
	unsigned added = 0;
	while (lw_build_file(build, key_of(1, added), 0, 0, 0, nothing, most, false) == 0)
		added++;
	cr_assert_eq(added, 256, "%u", added);
	cr_assert_eq(lw_build_file(build, key_of(1, 1000), 0, 0, 0, nothing, most, false), -E2BIG);
	/* A replacement frees what it replaces. */
	cr_assert_eq(lw_build_file(build, key_of(1, 0), 0, 0, 0, nothing, most, false), 0);
	cr_assert_eq(lw_build_file(build, key_of(1, 0), 0, 0, 0, NULL, 0, false), 0);
	cr_assert_eq(lw_build_file(build, key_of(1, 1000), 0, 0, 0, nothing, most, false), 0);

	static const char *const names[] = { "a", "b" };
	struct lw_listing *two = image_listing(names, 2, LW_KIND_DIR);
	const struct lw_listing huge = { .count = UINT32_MAX - 1 };
	cr_assert_eq(lw_build_dir(build, "/a", 2, 0, 0, two), 0);
	cr_assert_eq(lw_build_dir(build, "/b", 2, 0, 0, &huge), -E2BIG);
	cr_assert_eq(lw_build_dir(build, nothing, UINT16_MAX + 1, 0, 0, NULL), -E2BIG);
	lw_listing_destroy(two);

	const struct lw_build_name name = { "a", 1, 0 };
	cr_assert_eq(lw_build_view(build, key_of(2, 0), NULL, 65536, &name, 1), -E2BIG);
	cr_assert_eq(lw_build_view(build, key_of(2, 0), NULL, 1, &name, UINT32_MAX / 12 + 1), -E2BIG);
	cr_assert_eq(lw_build_view(build, key_of(2, 0), NULL, 1, &name, UINT32_MAX), -E2BIG);
	lw_build_destroy(build);
}

Test(build, senseless)
{
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_build_file(build, key_of(1, 0), 0, 0, 1, NULL, 0, true), -EINVAL);
	cr_assert_eq(lw_build_file(build, key_of(1, 0), 0, 0, 1u << 30, NULL, 0, true), -EINVAL);

	struct lw_entry entries[2] = {
		{ .hash = lw_name_hash("a", 1), .name = 0, .len = 1 }, { .hash = lw_name_hash("b", 1), .name = 1, .len = 1 },
	};
	if (entries[0].hash > entries[1].hash) {
		struct lw_entry swap = entries[0];
		entries[0] = entries[1];
		entries[1] = swap;
	}
	struct lw_listing listing = { .count = 2, .names_len = 2, .entries = entries, .names = "ab" };
	cr_assert_eq(lw_build_dir(build, "/a", 2, 0, 0, &listing), 0);
	listing.names_len = 1;
	cr_assert_eq(lw_build_dir(build, "/a", 2, 0, 0, &listing), -EINVAL);
	listing.names_len = 2;
	struct lw_entry swapped[2] = { entries[1], entries[0] }, twice[2] = { entries[0], entries[0] };
	listing.entries = swapped;
	cr_assert_eq(lw_build_dir(build, "/a", 2, 0, 0, &listing), -EINVAL);
	listing.entries = twice;
	cr_assert_eq(lw_build_dir(build, "/a", 2, 0, 0, &listing), -EINVAL);
	entries[0].hash--;
	listing.entries = entries;
	cr_assert_eq(lw_build_dir(build, "/a", 2, 0, 0, &listing), -EINVAL);
	entries[0].hash++;
	entries[0].len = 0;
	cr_assert_eq(lw_build_dir(build, "/a", 2, 0, 0, &listing), -EINVAL);

	char long_name[256];
	memset(long_name, 'x', sizeof(long_name));
	const struct lw_view_dir dirs[] = { { 1, 1 }, { 2, 2 } };
	const struct lw_build_name wrong[][2] = {
		{ { "a", 1, 0 }, { "a", 1, 1 } }, { { "a", 1, 0 }, { "b", 1, 2 } }, { { "a", 0, 0 }, { "b", 1, 0 } },
		{ { "a", 1, 0 }, { long_name, 256, 0 } },
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		cr_assert_eq(lw_build_view(build, key_of(2, 0), dirs, 2, wrong[i], 2), -EINVAL);
	cr_assert_eq(lw_build_view(build, key_of(2, 0), NULL, 0, NULL, 0), 0);

	/* What was refused has changed nothing. */
	struct image image = image_of(build);
	lw_index *index = open_image(&image);
	struct lw_index_dir dir;
	struct lw_index_view view;
	cr_assert_eq(lw_index_find_dir(index, "/a", 2, &dir), LW_OK);
	cr_assert_eq(dir.record->count, 2);
	cr_assert_eq(lw_index_find_view(index, key_of(2, 0), &view), LW_OK);
	cr_assert_eq(view.record->entries + view.record->count, 0);
	cr_assert_eq(lw_index_file_count(index), 0);
	lw_index_close(index);
	free(image.data);
	lw_build_destroy(build);
}

/* ---- writing ---- */

Test(build, short_and_interrupted_writes)
{
	lw_build *build = lw_build_create();
	add_all(build, 0, 400, 0);
	struct image whole = image_of(build);
	unsigned calls = write_calls;
	writes = PIECES;
	struct image pieces = image_of(build);
	cr_assert_gt(write_calls, calls * 10);
	cr_assert_eq(pieces.size, whole.size);
	cr_assert_eq(memcmp(pieces.data, whole.data, whole.size), 0);
	writes = NOTHING;
	int fd = memfd_create("nothing", 0);
	cr_assert_eq(lw_build_write(build, fd, image_key, 0, 0), -EIO);
	close(fd);
	free(whole.data);
	free(pieces.data);
	lw_build_destroy(build);
}

Test(build, at_the_current_offset)
{
	lw_build *build = lw_build_create();
	add_all(build, 0, 20, 0);
	struct image expected = image_of(build);
	int fd = memfd_create("offset", 0);
	cr_assert_eq(lseek(fd, 100, SEEK_SET), 100);
	cr_assert_eq(lw_build_write(build, fd, image_key, 1000, 123456789), 0);
	cr_assert_eq(lseek(fd, 0, SEEK_CUR), 100);
	struct image image = image_read(fd);
	cr_assert_eq(image.size, expected.size + 100);
	cr_assert_eq(memcmp(image.data + 100, expected.data, expected.size), 0);
	close(fd);
	int fds[2];
	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(lw_build_write(build, fds[1], image_key, 0, 0), -ESPIPE);
	close(fds[0]);
	close(fds[1]);
	free(image.data);
	free(expected.data);
	lw_build_destroy(build);
}

Test(build, no_space)
{
	lw_build *build = lw_build_create();
	add_all(build, 0, 400, 0);
	int fd = open("/dev/full", O_RDWR);
	cr_assert_geq(fd, 0);
	cr_assert_eq(lw_build_write(build, fd, image_key, 0, 0), -ENOSPC);
	close(fd);
	lw_build_destroy(build);
}

static uint64_t next_limit(uint64_t limit, uint64_t size)
{
	return limit < size && limit + 4001 > size ? size : limit + 4001;
}

/* A limit at one place after the other: an error each time, and what is left is refused. */
Test(build, file_size_limit)
{
	lw_build *build = lw_build_create();
	add_all(build, 0, 400, 0);
	uint64_t size = lw_build_size(build);
	signal(SIGXFSZ, SIG_IGN);
	for (uint64_t limit = 0; limit <= size; limit = next_limit(limit, size)) {
		/* memfds know no limit. */
		FILE *file = tmpfile();
		cr_assert_not_null(file);
		const struct rlimit small = { limit, RLIM_INFINITY }, none = { RLIM_INFINITY, RLIM_INFINITY };
		setrlimit(RLIMIT_FSIZE, &small);
		int got = lw_build_write(build, fileno(file), image_key, 0, 0);
		setrlimit(RLIMIT_FSIZE, &none);
		lw_index *index;
		if (limit < size) {
			cr_assert_eq(got, -EFBIG);
			cr_assert_eq(lw_index_open(fileno(file), &image_key, &index, NULL), -EBADMSG);
		} else {
			cr_assert_eq(got, 0);
			cr_assert_eq(lw_index_open(fileno(file), &image_key, &index, NULL), 0);
			expect_all(index, 0, 400, 0);
			lw_index_close(index);
		}
		fclose(file);
	}
	lw_build_destroy(build);
}
