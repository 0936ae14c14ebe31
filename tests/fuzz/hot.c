/* SPDX-License-Identifier: MIT */
/*
 * hot: any bytes at all as the record of what an entry point touched. The first byte selects how far they get:
 *
 *   0   as they are: almost always refused
 *   1   as ranges under sound sums, of a file that is there or not: what is behind the sums
 *   2   laid over a sound record, whose sums are then left alone: refused, unless nothing has changed
 *
 * What is taken is read ahead from a mapped file, and compared with what was touched of it (too little to be written).
 */
#include "../image.h"
#include "hot.h"

#include <errno.h>
#include <stdbool.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FACTS = 40, ENTRY = 7 };

static struct lw_snapshot snapshot(void)
{
	static lw_index *index;
	if (!index) {
		static char code[LW_BLOCK];
		lw_build *build = lw_build_create();
		for (unsigned i = 0; i < FACTS; i++)
			MUST(lw_build_file(build, lw_hash128(&i, sizeof(i)), i, i, 0, code, sizeof(code) - i, true) == 0);
		int fd = image_file(build);
		MUST(lw_index_open(fd, &image_key, &index, NULL) == 0);
		close(fd);
		lw_build_destroy(build);
	}
	return (struct lw_snapshot){ .count = 1, .index = &index };
}

static void seal(char *record, const struct lw_hot_range *range, uint32_t count)
{
	struct lw_hot_head head = { .format = LW_HOT_FORMAT, .count = count, .entry = ENTRY };
	memcpy(head.magic, LW_HOT_MAGIC, sizeof(head.magic));
	head.hash = lw_hash64(range, count * sizeof(*range));
	head.head_hash = lw_hash64(&head, offsetof(struct lw_hot_head, head_hash));
	memcpy(record, &head, sizeof(head));
	memcpy(record + sizeof(head), range, count * sizeof(*range));
}

/* Nine bytes a range: whose it is, first, count. */
static size_t poured(const uint8_t *data, size_t size, const struct lw_snapshot *files, char *record)
{
	static struct lw_hot_range range[LW_HOT_RANGES];
	uint32_t count = 0;
	for (; size >= 9 && count < LW_HOT_RANGES; data += 9, size -= 9, count++) {
		range[count].file = lw_index_head(files->index[0])->roots_hash + (data[0] >= 0xc0);
		memcpy(&range[count].first, data + 1, 4);
		memcpy(&range[count].count, data + 5, 4);
		/* Many near the file's blocks. */
		range[count].first &= data[0] & 1 ? 0x3f : UINT32_MAX;
		range[count].count &= data[0] & 2 ? 0x3f : UINT32_MAX;
	}
	seal(record, range, count);
	return sizeof(struct lw_hot_head) + count * sizeof(*range);
}

static size_t overlaid(const uint8_t *data, size_t size, const struct lw_snapshot *files, char *record)
{
	const struct lw_hot_range range[] = { { lw_index_head(files->index[0])->roots_hash, 1, 9 }, { 1, 2, 3 } };
	const size_t whole = sizeof(struct lw_hot_head) + sizeof(range);
	seal(record, range, 2);
	for (size_t i = 0; i < size && i < whole; i++)
		record[i] = (char)(record[i] ^ data[i]);
	return whole;
}

static bool is_blank(const uint8_t *data, size_t size)
{
	while (size && !data[size - 1])
		size--;
	return size == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char record[sizeof(struct lw_hot_head) + LW_HOT_RANGES * sizeof(struct lw_hot_range)];
	const struct lw_snapshot files = snapshot();
	struct lw_hot hot = { 0 };
	const unsigned how = size ? data[0] % 3 : 0;
	const uint8_t *rest = size ? data + 1 : data;
	const size_t left = size ? size - 1 : 0;
	size_t len = left < sizeof(record) ? left : sizeof(record);
	if (how == 1)
		len = poured(rest, left, &files, record);
	else if (how == 2)
		len = overlaid(rest, left, &files, record);
	else if (len)
		memcpy(record, rest, len);

	/* Exactly as large as said: a byte too far is seen. */
	char *copy = malloc(len + !len);
	MUST(copy);
	memcpy(copy, record, len);
	int result = lw_hot_decode(copy, len, ENTRY, &hot);
	free(copy);
	MUST(result == 0 || result == -EBADMSG);
	MUST(how != 1 || result == 0);
	MUST(how != 2 || (result == 0) == is_blank(rest, left < len ? left : len));
	if (result == 0) {
		MUST(lw_hot_read_ahead(&hot, &files) <= LW_HOT_MOST);
		MUST(lw_hot_store(&hot, NULL, &files) == 0);
		lw_hot_close(&hot);
	}
	return 0;
}
