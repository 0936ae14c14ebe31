/* SPDX-License-Identifier: MIT */
#include "hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t lw_hash64(const void *data, size_t size)
{
	return XXH3_64bits(data, size);
}

struct lw_hash128 lw_hash128(const void *data, size_t size)
{
	XXH128_hash_t hash = XXH3_128bits(data, size);
	return (struct lw_hash128){ .hi = hash.high64, .lo = hash.low64 };
}
