/* SPDX-License-Identifier: MIT */
/*
 * image: an index file in memory, for tests that take one apart. Whatever fails here fails the test program.
 */
#ifndef TESTS_IMAGE_H
#define TESTS_IMAGE_H

#include "build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct image {
	unsigned char *data;
	size_t size;
};

static inline void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "cannot go on: %s\n", what);
	abort();
}
#define MUST(condition) must(condition, #condition)

static const struct lw_hash128 image_key = { 0x0123456789abcdef, 42 };

/* A file that holds BUILD, in memory; the caller closes it. */
static inline int image_file(lw_build *build)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	MUST(fd >= 0);
	MUST(lw_build_write(build, fd, image_key, 1000, 123456789) == 0);
	return fd;
}

static inline struct image image_read(int fd)
{
	struct image image = { .size = (size_t)lseek(fd, 0, SEEK_END) };
	image.data = malloc(image.size);
	MUST(image.data);
	MUST(pread(fd, image.data, image.size, 0) == (ssize_t)image.size);
	return image;
}

/* Exactly as large as the file, so that AddressSanitizer sees a byte too far. */
static inline struct image image_of(lw_build *build)
{
	int fd = image_file(build);
	struct image image = image_read(fd);
	close(fd);
	return image;
}

/* The same, relative to ROOTS roots. */
static inline struct image image_of_relative(lw_build *build, uint32_t roots)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	MUST(fd >= 0);
	MUST(lw_build_write_relative(build, fd, image_key, roots) == 0);
	struct image image = image_read(fd);
	close(fd);
	return image;
}

static inline struct lw_index_head *image_head(const struct image *image)
{
	return (struct lw_index_head *)image->data;
}

static inline void *image_section(const struct image *image, enum lw_section section)
{
	return image->data + image_head(image)->section[section].offset;
}

/*
 * Verification switched off: make all sums right again, whatever the sections hold. LAYOUT tells where they are; the
 * head's own fields are left as they are, but for its hashes.
 */
static inline void image_reseal(const struct image *image, const struct lw_index_head *layout)
{
	uint64_t *sums = (uint64_t *)(image->data + layout->sums_offset);
	for (uint64_t i = 0; i < layout->sums_size / 8; i++)
		sums[i] = lw_hash64(image->data + (i + 1) * LW_BLOCK, LW_BLOCK);
	uint64_t *roots = (uint64_t *)(image->data + layout->roots_offset);
	for (uint64_t i = 0; i < layout->roots_size / 8; i++)
		roots[i] = lw_hash64(image->data + layout->sums_offset + i * LW_BLOCK, LW_BLOCK);
	struct lw_index_head *head = image_head(image);
	head->roots_hash = lw_hash64(roots, layout->roots_size);
	head->head_hash = lw_hash64(head, offsetof(struct lw_index_head, head_hash));
}

/* A listing of NAMES, sorted as listings are, each of KINDS. */
static inline struct lw_listing *image_listing(const char *const *names, uint32_t count, lw_kinds kinds)
{
	struct lw_entry *entries = calloc(count + 1, sizeof(*entries));
	char *text = calloc(count + 1, 256);
	MUST(entries && text);
	for (uint32_t i = 0, n = 0; i < count; i++, n++) {
		uint32_t hash = lw_name_hash(names[i], strlen(names[i])), at = n;
		for (; at > 0; at--) {
			const struct lw_entry *before = &entries[at - 1];
			if (before->hash < hash || (before->hash == hash && strcmp(text + before->name, names[i]) < 0))
				break;
			entries[at] = *before;
		}
		entries[at] = (struct lw_entry){ .hash = hash, .name = i * 256, .len = (uint8_t)strlen(names[i]), .kinds = kinds };
		strcpy(text + i * 256, names[i]);
	}
	struct lw_listing *listing = lw_listing_copy(entries, count, text);
	MUST(listing);
	free(entries);
	free(text);
	return listing;
}

#endif
