/* SPDX-License-Identifier: MIT */
/*
 * collect: keeps all keys of a place together below a size, by removing the ones unused for longest.
 *
 * A key's last use is the mtime of its "ok", or of its directory while there is none. Kept in any case: the caller's own key, keys of
 * other owners, and keys whose lock is held (somebody is at work there). Processes that have files of a removed
 * key open keep them.
 */
#ifndef LW_COLLECT_H
#define LW_COLLECT_H

#include <stdint.h>

/** Collect in PLACE, sparing key OWN. Failures are ignored: the next one tries again. */
void lw_collect(const char *place, const char *own, uint64_t max_bytes);

#endif
