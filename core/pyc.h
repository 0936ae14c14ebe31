/* SPDX-License-Identifier: MIT */
/*
 * pyc: read a .pyc file, and judge whether it may be believed.
 *
 * Stock Python believes a timestamp .pyc whose header holds the source's size and mtime in whole seconds, and so
 * serves old code after a same-size edit within the second, or with its mtime put back (touch -r, cp -p, rsync -t). Here the .pyc must also
 * be younger than the last change of its source, by more than the time that compiling can have taken:
 *
 *     pyc.mtime_ns > source.ctime_ns + 50 ms + 2 us per byte of source
 *
 * (50 ms covers the clock tick and a slow start, 2 us per byte a slow compiler; where the source's times are whole seconds the file system
 * is coarse, and it is two seconds more.) The ctime, because nobody can set it.
 *
 * Where the .pyc's own mtime and ctime are more than a second apart, they came from elsewhere (an image layer, a copied tree, a chown -R), and the
 * source's ctime says when it came. Such a .pyc is believed if the source came with it, at most ten seconds later, and by its mtime:
 *
 *     pyc.mtime_ns > source.mtime_ns + 50 ms + 2 us per byte of source
 *
 * Where both came with the file system itself (lw_stat_from_image), stock's rule holds. So it does for a source whose mtime is a whole second
 * while its ctime is not: it was cut by an archive.
 */
#ifndef LW_PYC_H
#define LW_PYC_H

#include "stamp.h"
#include <stddef.h>

enum lw_pyc_verdict {
	LW_PYC_GOOD,		/* *DATA (malloc'ed, SIZE bytes) holds the file; code starts at LW_PYC_HEADER */
	LW_PYC_NONE,		/* missing, unreadable, another magic number, or of another source: compile */
	LW_PYC_DOUBTED,		/* stock would take it, we do not: compile */
	LW_PYC_HASHED,		/* hash-based: the stock loader decides */
};
enum { LW_PYC_HEADER = 16 };

/** No source and no .pyc beyond that is read. */
enum { LW_PYC_LIMIT = 256 << 20 };

enum lw_pyc_verdict lw_pyc_read(const char *path, uint32_t magic, const struct lw_stat *source, void **data, size_t *size);

/** The verdict on SIZE bytes (at least LW_PYC_HEADER) read from a .pyc file of which PYC is a stat. */
enum lw_pyc_verdict lw_pyc_judge(const void *data, size_t size, const struct lw_stat *pyc, uint32_t magic, const struct lw_stat *source);

/** Read the whole of an open regular file of ST->size bytes (and no more than LIMIT). 0 or -errno (-EFBIG, -ESTALE: it shrank or grew). */
int lw_read_whole(int fd, const struct lw_stat *st, size_t limit, void **data, size_t *size);

/** lw_hash64 of the file at PATH, and its stat from the open descriptor. 0 or -errno (-ESTALE: it changed meanwhile, -EINVAL: no regular file). */
int lw_content_hash(const char *path, struct lw_stat *st, uint64_t *hash);

#endif
