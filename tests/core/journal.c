/* SPDX-License-Identifier: MIT */
/*
 * journal: what one side writes the other reads, in order and once; nothing in the memory is believed unchecked. Its races are in tests/race/freshness.c and tests/model/journal.pml.
 */
#include "journal.h"
#include "hash.h"
#include "tree.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { GENERATION = 64, END = 128, RECORDS = 4096 };

struct heard {
	unsigned count;
	char text[4096];
};

static void hear(void *arg, const struct lw_change *change)
{
	struct heard *heard = arg;
	size_t used = strlen(heard->text);
	heard->count++;
	if (change->kind == LW_CHANGE_PATH)
		snprintf(heard->text + used, sizeof heard->text - used, "%llu ", (unsigned long long)change->hash);
	else
		snprintf(heard->text + used, sizeof heard->text - used, "%s%.*s ", change->kind == LW_CHANGE_ALL ? "all" : "below:", (int)change->len,
			change->path ? change->path : "");
}

static void add_path(lw_journal *journal, uint64_t hash)
{
	lw_journal_add(journal, &(struct lw_change){ .kind = LW_CHANGE_PATH, .hash = hash });
}

static void add_subtree(lw_journal *journal, const char *path)
{
	lw_journal_add(journal, &(struct lw_change){ .kind = LW_CHANGE_SUBTREE, .path = path, .len = strlen(path) });
}

static lw_journal *create(size_t size)
{
	lw_journal *journal;
	cr_assert_eq(lw_journal_create(size, &journal), 0);
	return journal;
}

static lw_journal *open_it(const lw_journal *journal)
{
	lw_journal *reader;
	cr_assert_eq(lw_journal_open(lw_journal_fd(journal), &reader), 0);
	return reader;
}

Test(journal, tells_in_order_and_once)
{
	lw_journal *writer = create(0), *reader = open_it(writer);
	struct heard heard = { 0 };
	uint64_t at = 0;
	cr_expect_eq(lw_journal_read(reader, &at, hear, &heard), LW_JOURNAL_HOLDS);
	cr_expect_eq(heard.count, 0);
	lw_journal_begin(writer);
	add_path(writer, 7);
	add_subtree(writer, "/a/b");
	add_subtree(writer, "");
	lw_journal_add(writer, &(struct lw_change){ .kind = LW_CHANGE_ALL });
	lw_journal_end(writer);
	cr_expect_eq(lw_journal_read(reader, &at, hear, &heard), LW_JOURNAL_HOLDS);
	cr_expect_str_eq(heard.text, "7 below:/a/b below: all ");
	cr_expect_eq(at, lw_journal_position(writer));
	cr_expect_eq(lw_journal_read(reader, &at, hear, &heard), LW_JOURNAL_HOLDS);
	cr_expect_eq(heard.count, 4);
	lw_journal_destroy(writer);
	lw_journal_destroy(reader);
}

/* A reader may have seen the generation before it even. */
Test(journal, a_batch_is_told_at_its_end)
{
	lw_journal *writer = create(0);
	lw_journal_begin(writer);
	add_path(writer, 1);
	cr_expect_eq(lw_journal_position(writer), 0);
	lw_journal_end(writer);
	cr_expect_gt(lw_journal_position(writer), 0);
	lw_journal_destroy(writer);
}

Test(journal, odd_is_not_now_even_if_the_writer_has_died)
{
	lw_journal *writer = create(0), *reader = open_it(writer);
	struct heard heard = { 0 };
	uint64_t at = 0;
	lw_journal_begin(writer);
	add_path(writer, 1);
	cr_expect_eq(lw_journal_read(reader, &at, hear, &heard), LW_JOURNAL_BUSY);
	cr_expect_eq(heard.count, 0);
	lw_journal_destroy(writer);
	cr_expect_eq(lw_journal_read(reader, &at, hear, &heard), LW_JOURNAL_BUSY);
	lw_journal_destroy(reader);
}

Test(journal, a_full_one_is_closed)
{
	lw_journal *writer = create(RECORDS + 64), *reader = open_it(writer);
	struct heard heard = { 0 };
	uint64_t at = 0;
	lw_journal_begin(writer);
	for (unsigned i = 0; i < 4; i++)
		add_path(writer, i + 1);
	cr_expect_not(lw_journal_is_closed(writer));
	lw_journal_end(writer);
	cr_expect_eq(lw_journal_read(reader, &at, hear, &heard), LW_JOURNAL_HOLDS);
	cr_expect_str_eq(heard.text, "1 2 3 4 ");
	lw_journal_begin(writer);
	add_path(writer, 9);
	cr_expect(lw_journal_is_closed(writer));
	cr_expect_eq(lw_journal_read(reader, &at, hear, &heard), LW_JOURNAL_CLOSED, "odd as well");
	lw_journal_end(writer);
	cr_expect_eq(lw_journal_read(reader, &at, hear, &heard), LW_JOURNAL_CLOSED);
	cr_expect_eq(heard.count, 4);
	lw_journal_destroy(writer);
	lw_journal_destroy(reader);
}

Test(journal, nobody_else_can_write_or_cut_it)
{
	lw_journal *writer = create(0);
	int fd = lw_journal_fd(writer);
	char byte = 1;
	cr_expect_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	cr_expect_eq(pwrite(fd, &byte, 1, 0), -1);
	cr_expect_eq(ftruncate(fd, 0), -1);
	lw_journal_destroy(writer);
}

/* A memfd of SIZE bytes that says it is a journal, with SEALS. */
static int forge(size_t size, int seals, char **map)
{
	lw_journal *real = create(0);
	int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	TREE_CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	*map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TREE_CHECK(*map != MAP_FAILED);
	TREE_CHECK(pread(lw_journal_fd(real), *map, size < RECORDS ? size : RECORDS, 0) > 0);
	if (seals)
		TREE_CHECK(fcntl(fd, F_ADD_SEALS, seals) == 0);
	lw_journal_destroy(real);
	return fd;
}

Test(journal, what_is_none_is_refused)
{
	const int seals = F_SEAL_GROW | F_SEAL_SHRINK;
	lw_journal *out;
	char *map;
	int fd = forge(RECORDS * 2, F_SEAL_GROW, &map);
	cr_expect_eq(lw_journal_open(fd, &out), -EBADMSG, "it could be cut");
	close(fd);
	fd = forge(100, seals, &map);
	cr_expect_eq(lw_journal_open(fd, &out), -EBADMSG, "too small");
	close(fd);
	fd = forge(RECORDS * 2, seals, &map);
	cr_expect_eq(lw_journal_open(fd, &out), 0, "control");
	lw_journal_destroy(out);
	map[8] ^= 1;
	cr_expect_eq(lw_journal_open(fd, &out), -EPROTO, "another format");
	map[0] ^= 1;
	cr_expect_eq(lw_journal_open(fd, &out), -EBADMSG);
	cr_expect_null(out);
	close(fd);
	fd = open("/proc/self/exe", O_RDONLY);
	cr_expect_eq(lw_journal_open(fd, &out), -EBADMSG, "no memfd");
	close(fd);
}

Test(journal, hostile_records_are_not_followed)
{
	static const struct {
		uint64_t end, at;
		uint32_t kind, len;
	} odd[] = {
		{ .end = UINT64_MAX }, { .end = RECORDS + 8 }, { .end = 8 }, { .end = 16, .len = 1 }, { .end = 16, .len = UINT32_MAX },
		{ .end = 24, .len = UINT32_MAX - 16 }, { .end = 16, .kind = 3 }, { .end = 16, .at = 32 }, { .end = 32, .at = 3 },
	};
	char *map;
	int fd = forge(RECORDS * 2, F_SEAL_GROW | F_SEAL_SHRINK, &map);
	lw_journal *reader;
	TREE_CHECK(lw_journal_open(fd, &reader) == 0);
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		struct heard heard = { 0 };
		uint64_t at = odd[i].at;
		memcpy(map + END, &odd[i].end, sizeof odd[i].end);
		memcpy(map + RECORDS, &odd[i].kind, sizeof odd[i].kind);
		memcpy(map + RECORDS + 4, &odd[i].len, sizeof odd[i].len);
		cr_expect_eq(lw_journal_read(reader, &at, hear, &heard), LW_JOURNAL_CLOSED, "%zu", i);
	}
	lw_journal_destroy(reader);
	close(fd);
}

Test(journal, random_bytes_do_no_harm)
{
	char *map;
	int fd = forge(RECORDS * 2, F_SEAL_GROW | F_SEAL_SHRINK, &map);
	lw_journal *reader;
	TREE_CHECK(lw_journal_open(fd, &reader) == 0);
	uint64_t seed = 42;
	for (unsigned round = 0; round < 20000; round++) {
		struct heard heard = { 0 };
		uint64_t at = 0, end = tree_random(&seed) % (RECORDS + 64);
		for (unsigned i = 0; i < 64; i++)
			map[RECORDS + tree_random(&seed) % 512] = (char)(tree_random(&seed) % 4);
		memcpy(map + END, &end, sizeof end);
		lw_journal_read(reader, &at, hear, &heard);
		cr_assert_leq(at, RECORDS);
	}
	lw_journal_destroy(reader);
	close(fd);
}
