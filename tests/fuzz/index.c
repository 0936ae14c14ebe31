/* SPDX-License-Identifier: MIT */
/*
 * index: any bytes at all, given to the reader and to lw_build_merge(). The first byte selects how far they get:
 *
 *   0   as they are: almost always refused
 *   1   poured into the sections of a file whose layout and sums are right: the bounds checks behind the sums
 *   2   as patches of a sound file, whose sums are then made right: the same, one step away from normal
 *   3   laid over the head of a sound file, whose own hash is then made right: the checks at open
 *   4   as 2, of a file that is relative to two roots
 *
 * Then everything is read, looked up, and merged. What a builder makes of it must open again, whole.
 */
#include "../image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Keeps reads from being optimised away. */
static volatile uint64_t sink;

static void touch(const void *data, size_t size)
{
	sink += lw_hash64(data, size);
}

/* ---- inputs ---- */

static const char *const names[] = { "alpha", "beta", "gamma", "delta", "epsilon" };
enum { NAMES = 5, FACTS = 20, MODES = 5 };

static lw_build *sound_build(bool relative)
{
	lw_build *build = lw_build_create();
	const struct lw_view_dir dirs[] = { { lw_hash64("/d/1", 4), 3 }, { 0, 0 }, { lw_hash64("/d/0", 4), 2 } };
	static const uint64_t stamps[NAMES] = { 1, 0, 3, 4, 5 };
	const struct lw_build_name view[] = { { "alpha", 5, 0 }, { "beta", 4, 2 } };
	for (unsigned i = 0; i < FACTS; i++) {
		char path[32];
		struct lw_listing *listing = image_listing(names, i % (NAMES + 1), LW_KIND_DIR);
		MUST(lw_build_dir_stamped(build, path, (size_t)sprintf(path, relative ? "0/%u" : "/d/%u", i), i, 0, listing, stamps) == 0);
		MUST(lw_build_file(build, lw_hash128(path, strlen(path)), i, i, LW_FILE_PUBLIC, path, strlen(path), true) == 0);
		MUST(lw_build_view(build, lw_hash128(&i, sizeof(i)), dirs, 3, view, i % 3) == 0);
		lw_listing_destroy(listing);
	}
	return build;
}

static struct image sound_image(bool relative)
{
	static struct image sounds[2];
	struct image *sound = &sounds[relative];
	if (!sound->data) {
		lw_build *build = sound_build(relative);
		*sound = relative ? image_of_relative(build, 2) : image_of(build);
		lw_build_destroy(build);
	}
	struct image image = { malloc(sound->size), sound->size };
	MUST(image.data);
	memcpy(image.data, sound->data, sound->size);
	return image;
}

static struct image raw(const uint8_t *data, size_t size)
{
	struct image image = { malloc(size + !size), size };
	MUST(image.data);
	memcpy(image.data, data, size);
	return image;
}

/* One byte per section: its number of records (or of 32 bytes; of stamps: odd, there are as many as entries, else none); then what fills them, over and over. */
static struct image poured(const uint8_t *data, size_t size)
{
	static const uint32_t unit[LW_SEC_COUNT] = { 32, 32, 12, 8, 40, 40, 32, 32 };
	struct lw_index_head head = { .format = LW_INDEX_FORMAT, .head_size = sizeof(head) };
	memcpy(head.magic, LW_INDEX_MAGIC, sizeof(head.magic));
	for (int s = 0; s < LW_SEC_COUNT && size; s++, data++, size--)
		head.section[s].size = (uint64_t)*data * unit[s];
	bool stamped = head.section[LW_SEC_STAMPS].size / 8 % 2;
	head.section[LW_SEC_STAMPS].size = stamped ? head.section[LW_SEC_ENTRIES].size / 12 * 8 : 0;
	MUST(lw_index_layout(&head) == 0);
	struct image image = { calloc(1, head.file_size), head.file_size };
	MUST(image.data);
	memcpy(image.data, &head, sizeof(head));
	size_t from = 0;
	for (int s = 0; s < LW_SEC_COUNT && size; s++)
		for (uint64_t i = 0; i < head.section[s].size; i++)
			image.data[head.section[s].offset + i] = data[from++ % size];
	image_reseal(&image, &head);
	return image;
}

/* Patches of five bytes: section, offset (two), value, how. */
static struct image patched(const uint8_t *data, size_t size, bool relative)
{
	struct image image = sound_image(relative);
	for (; size >= 5; data += 5, size -= 5) {
		uint64_t section = data[0] % LW_SEC_COUNT;
		uint64_t limit = image_head(&image)->section[section].size;
		unsigned char *at = image_section(&image, (enum lw_section)section);
		at += (data[1] | data[2] << 8) % limit;
		*at = data[4] % 2 ? data[3] : *at ^ data[3];
	}
	image_reseal(&image, image_head(&image));
	return image;
}

static struct image beheaded(const uint8_t *data, size_t size)
{
	struct image image = sound_image(size && data[size - 1] % 2);
	struct lw_index_head *head = image_head(&image);
	for (size_t i = 0; i < size && i < sizeof(*head); i++)
		image.data[i] ^= data[i];
	head->head_hash = lw_hash64(head, offsetof(struct lw_index_head, head_hash));
	return image;
}

static struct image make_image(const uint8_t *data, size_t size)
{
	switch (size ? data[0] % MODES : 0) {
	case 1: return poured(data + 1, size - 1);
	case 2: return patched(data + 1, size - 1, false);
	case 3: return beheaded(data + 1, size - 1);
	case 4: return patched(data + 1, size - 1, true);
	default: return raw(data, size);
	}
}

/* ---- reading ---- */

static void read_dir(const struct lw_index_dir *dir)
{
	touch(dir->entries, dir->record->count * sizeof(*dir->entries));
	const struct lw_entry *entry;
	const uint64_t *stamps;
	if (lw_index_stamps(dir, dir->entries, dir->record->count, &stamps) == LW_OK)
		touch(stamps, dir->record->count * sizeof(*stamps));
	for (unsigned n = 0; n < NAMES; n++)
		if (lw_index_dir_find(dir, names[n], strlen(names[n]), &entry) == LW_OK)
			touch(entry, sizeof(*entry));
	for (uint32_t i = 0; i < dir->record->count && i < 64; i++) {
		const char *name = lw_index_string(dir->index, dir->entries[i].name, dir->entries[i].len);
		if (name)
			lw_index_dir_find(dir, name, dir->entries[i].len, &entry);
		if (lw_index_stamps(dir, &dir->entries[i], 1, &stamps) == LW_OK)
			touch(stamps, sizeof(*stamps));
	}
}

static void read_dirs(const lw_index *index)
{
	for (uint32_t i = 0; i < lw_index_dir_count(index); i++) {
		struct lw_index_dir dir, found;
		const char *path;
		if (lw_index_dir_at(index, i, &dir, &path) != LW_OK)
			continue;
		touch(path, dir.record->path_len);
		read_dir(&dir);
		if (lw_index_find_dir(index, path, dir.record->path_len, &found) == LW_OK)
			read_dir(&found);
	}
	struct lw_index_dir dir;
	if (lw_index_find_dir(index, "/d/3", 4, &dir) == LW_OK)
		read_dir(&dir);
}

static void bind(lw_index *index)
{
	const struct lw_root root[] = { { "/srv", 4, 0 }, { "/srv/lib", 8, 1 }, { "/far", 4, UINT32_MAX } };
	MUST(lw_index_head(index)->roots <= LW_ROOTS_MAX);
	lw_roots *roots = lw_roots_create(root, 3);
	MUST(roots);
	lw_index_bind(index, roots);
}

/* Whatever the file says, what it answers for lies below its roots. */
static void read_bound(const lw_index *index)
{
	static const char *const paths[] = { "/srv", "/srv/1", "/srv/19", "/srv/lib", "/srv/lib/1", "/srvs/1", "/far/1", "", "/" };
	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		const char *path = paths[i];
		const struct lw_file_record *file;
		struct lw_index_dir dir;
		bool held = lw_index_holds(index, path, strlen(path));
		int found = lw_index_find_dir(index, path, strlen(path), &dir);
		if (found == LW_OK)
			read_dir(&dir);
		int got = lw_index_find_path(index, path, strlen(path), lw_hash128(path, strlen(path)), &file);
		if (lw_index_is_relative(index))
			MUST(held || (found == LW_ABSENT && got == LW_ABSENT));
	}
}

static void read_files(const lw_index *index)
{
	for (uint32_t i = 0; i < lw_index_file_count(index); i++) {
		const struct lw_file_record *file, *found;
		const void *code;
		size_t len;
		if (lw_index_file_at(index, i, &file) != LW_OK)
			continue;
		if (lw_index_code(index, file, &code, &len) == LW_OK)
			touch(code, len);
		if (lw_index_find_file(index, file->key, &found) == LW_OK)
			MUST(lw_hash128_cmp(found->key, file->key) == 0);
	}
}

static void read_view(const struct lw_index_view *view)
{
	touch(view->dirs, view->record->entries * sizeof(*view->dirs));
	touch(view->names, view->record->count * sizeof(*view->names));
	for (unsigned n = 0; n < NAMES; n++) {
		uint32_t first;
		if (lw_index_view_find(view, names[n], strlen(names[n]), &first) == LW_OK)
			touch(&view->dirs[first], sizeof(*view->dirs));
	}
}

static void read_views(const lw_index *index)
{
	for (uint32_t i = 0; i < lw_index_view_count(index); i++) {
		struct lw_index_view view, found;
		if (lw_index_view_at(index, i, &view) != LW_OK)
			continue;
		read_view(&view);
		if (lw_index_find_view(index, view.record->key, &found) == LW_OK)
			read_view(&found);
	}
}

/* Whatever was merged makes a sound index: all of it can be merged again. */
static void merge(const lw_index *index)
{
	lw_build *build = lw_build_create(), *again = lw_build_create();
	unsigned skipped;
	lw_index *written;
	MUST(lw_build_merge(build, index, NULL) == 0);
	struct image image = image_of(build);
	MUST(image.size == lw_build_size(build));
	MUST(lw_index_open_memory(image.data, image.size, &image_key, &written, NULL) == 0);
	MUST(lw_build_merge(again, written, &skipped) == 0);
	MUST(skipped == 0 && !lw_index_damaged(written));
	MUST(lw_index_dir_count(written) <= lw_index_dir_count(index));
	lw_build_destroy(again);
	lw_index_close(written);
	lw_build_destroy(build);
	free(image.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image image = make_image(data, size);
	lw_index *index;
	lw_reason why = NULL;
	if (lw_index_open_memory(image.data, image.size, NULL, &index, &why) == 0) {
		if (lw_index_is_relative(index))
			bind(index);
		read_dirs(index);
		read_bound(index);
		read_files(index);
		read_views(index);
		merge(index);
		lw_index_read_ahead(index, 0, UINT64_MAX);
		lw_index_close(index);
	} else {
		MUST(why);
		/* Right sums are never refused at open. */
		MUST(size == 0 || data[0] % MODES == 0 || data[0] % MODES == 3);
	}
	free(image.data);
	return 0;
}
