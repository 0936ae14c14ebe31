/* SPDX-License-Identifier: MIT */
#include "hash.h"

#include <limits.h>
#include <string.h>

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

uint64_t lw_hash64_below(const char *dir, size_t len, const char *name, size_t name_len)
{
	char path[PATH_MAX + UINT8_MAX + 2];
	if (len > PATH_MAX || name_len > UINT8_MAX)
		return 0;
	memcpy(path, dir, len);
	path[len] = '/';
	memcpy(path + len + 1, name, name_len);
	return lw_hash64(path, len + 1 + name_len);
}
