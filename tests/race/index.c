/* SPDX-License-Identifier: MIT */
/*
 * index: many threads read one freshly opened index, so that they verify the same blocks at the same moment.
 *
 *     thread A                         thread B
 *     bit clear -> hash the block
 *                                      bit clear -> hash the block (twice is harmless)
 *     set the bit
 *                                      set another bit of the same word: must not lose A's
 *                                      look up A's block: right whether the bit is seen or not
 *
 * Every answer must be right in every thread; of a damaged block every thread must get LW_BAD, never its contents. Each block is counted once as touched,
 * whoever verified it how often: the control counts every time, and must be found out. For that index.c is compiled into this program.
 */
#include "../image.h"

static bool careless;	/* constant while threads run */
#define LW_INDEX_FIRST(before, bit) (careless || !((before) & (bit)))
#include "../../core/index.c"

#include <pthread.h>

enum { THREADS = 4, ROUNDS = 150, CONTROL_ROUNDS = 20000, FACTS = 600 };

struct round {
	const lw_index *index;
	bool damaged;		/* the code of file 0 is */
	pthread_barrier_t start;
};

static struct lw_hash128 key_of(unsigned i)
{
	return lw_hash128(&i, sizeof(i));
}

static size_t path_of(unsigned i, char *out)
{
	return (size_t)sprintf(out, "/srv/app/%u", i);
}

static lw_build *build_facts(void)
{
	static const char *const names[] = { "alpha", "beta", "gamma" };
	static char code[64];
	struct lw_listing *listing = image_listing(names, 3, LW_KIND_DIR);
	lw_build *build = lw_build_create();
	for (unsigned i = 0; i < FACTS; i++) {
		char path[32];
		MUST(lw_build_dir(build, path, path_of(i, path), i + 1, 0, listing) == 0);
		memset(code, (int)i, sizeof(code));
		MUST(lw_build_file(build, key_of(i), i + 1, 0, 0, code, sizeof(code), true) == 0);
	}
	lw_listing_destroy(listing);
	return build;
}

static void read_dir(const struct round *round, unsigned i)
{
	char path[32];
	struct lw_index_dir dir;
	const struct lw_entry *entry;
	MUST(lw_index_find_dir(round->index, path, path_of(i, path), &dir) == LW_OK);
	MUST(dir.record->stamp == i + 1);
	MUST(lw_index_dir_find(&dir, "beta", 4, &entry) == LW_OK);
}

static void read_code(const struct round *round, unsigned i)
{
	const struct lw_file_record *file;
	const void *code;
	size_t len;
	MUST(lw_index_find_file(round->index, key_of(i), &file) == LW_OK);
	int got = lw_index_code(round->index, file, &code, &len);
	/* The damaged block holds the code of the first 64 files. */
	if (round->damaged && i < LW_BLOCK / 64) {
		MUST(got == LW_BAD && lw_index_damaged(round->index));
		return;
	}
	MUST(got == LW_OK && len == 64 && *(const unsigned char *)code == i % 256);
}

static void *reader(void *arg)
{
	struct round *round = arg;
	pthread_barrier_wait(&round->start);
	for (unsigned i = 0; i < FACTS; i++) {
		read_dir(round, i);
		read_code(round, i);
	}
	return NULL;
}

static uint64_t bits_set(const lw_index *index)
{
	uint64_t count = 0;
	for (uint64_t w = 0; w <= lw_index_blocks(index) / 64; w++)
		count += (uint64_t)__builtin_popcountll(lw_index_touched_word(index, w));
	return count;
}

/* Whether the blocks touched were counted right. */
static bool run_round(const struct image *image, bool damaged)
{
	lw_index *index;
	MUST(lw_index_open_memory(image->data, image->size, &image_key, &index, NULL) == 0);
	struct round round = { .index = index, .damaged = damaged };
	pthread_t thread[THREADS];
	MUST(pthread_barrier_init(&round.start, NULL, THREADS) == 0);
	for (int t = 0; t < THREADS; t++)
		MUST(pthread_create(&thread[t], NULL, reader, &round) == 0);
	for (int t = 0; t < THREADS; t++)
		MUST(pthread_join(thread[t], NULL) == 0);
	MUST(lw_index_damaged(index) == damaged);
	bool right = bits_set(index) > 0 && lw_index_touched(index) == bits_set(index);
	pthread_barrier_destroy(&round.start);
	lw_index_close(index);
	return right;
}

static void run_control(const struct image *image)
{
	int rounds = 0;
	careless = true;
	while (run_round(image, false))
		MUST(++rounds < CONTROL_ROUNDS);
	careless = false;
}

int main(void)
{
	lw_build *build = build_facts();
	struct image image = image_of(build);
	for (int i = 0; i < ROUNDS; i++)
		MUST(run_round(&image, false));
	run_control(&image);
	*(unsigned char *)image_section(&image, LW_SEC_CODE) ^= 1;
	for (int i = 0; i < ROUNDS; i++)
		MUST(run_round(&image, true));
	free(image.data);
	lw_build_destroy(build);
	return 0;
}
