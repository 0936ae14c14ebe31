/* SPDX-License-Identifier: MIT */
/*
 * hash: the one hash function of index and cache files, XXH3 (64 and 128 bits), from libxxhash's
 * header. It finds corruption and names things; it is no defence against an attacker: whoever can
 * write the cache can run code anyway (see store.h for who may).
 */
#ifndef LW_HASH_H
#define LW_HASH_H

#include <stddef.h>
#include <stdint.h>

struct lw_hash128 {
	uint64_t hi, lo;
};

uint64_t lw_hash64(const void *data, size_t size);
struct lw_hash128 lw_hash128(const void *data, size_t size);

/** lw_hash64() of the path of NAME in directory DIR. 0 (which no path is known to have) where that is longer than any path can be. */
uint64_t lw_hash64_below(const char *dir, size_t len, const char *name, size_t name_len);

static inline int lw_hash128_cmp(struct lw_hash128 a, struct lw_hash128 b)
{
	if (a.hi != b.hi)
		return a.hi < b.hi ? -1 : 1;
	return a.lo < b.lo ? -1 : a.lo > b.lo;
}

#endif
