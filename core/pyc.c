/* SPDX-License-Identifier: MIT */
#include "pyc.h"

#include "hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECOND = 1000000000, MARGIN_NS = 50 * 1000 * 1000, COMPILE_NS_PER_BYTE = 2000 };
/* How long restoring one directory may take. */
static const int64_t RESTORING_NS = INT64_C(10) * SECOND;

int lw_read_whole(int fd, const struct lw_stat *st, size_t limit, void **data, size_t *size)
{
	if (st->size > limit)
		return -EFBIG;
	size_t expected = (size_t)st->size, got = 0;
	char *buffer = malloc(expected + 1);
	if (!buffer)
		return -ENOMEM;
	/* One byte more than expected tells a file that grew from one that did not. */
	while (got <= expected) {
		ssize_t n = read(fd, buffer + got, expected + 1 - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int error = -errno;
			free(buffer);
			return error;
		}
		if (n == 0)
			break;
		got += (size_t)n;
	}
	if (got != expected) {
		free(buffer);
		return -ESTALE;
	}
	*data = buffer;
	*size = got;
	return 0;
}

static int open_regular(const char *path, struct lw_stat *st)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	int error = lw_stat_fd(fd, st);
	if (!error && !S_ISREG(st->mode))
		error = -EINVAL;
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

int lw_content_hash(const char *path, struct lw_stat *st, uint64_t *hash)
{
	int fd = open_regular(path, st);
	if (fd < 0)
		return fd;
	void *data;
	size_t size;
	struct lw_stat after;
	int error = lw_read_whole(fd, st, LW_PYC_LIMIT, &data, &size);
	if (error)
		goto out;
	/* An edit between stat and read would bind the new content to the old stamp, and to the code that goes with it. */
	error = lw_stat_fd(fd, &after);
	if (!error && lw_stamp(&after) != lw_stamp(st))
		error = -ESTALE;
	if (!error)
		*hash = lw_hash64(data, size);
	free(data);
out:
	close(fd);
	return error;
}

static uint32_t u32(const unsigned char *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Whole seconds, rounded towards zero as by Python's int(st_mtime). */
static bool header_matches(const unsigned char *header, const struct lw_stat *source)
{
	return u32(header + 8) == (uint32_t)(source->mtime_ns / SECOND) && u32(header + 12) == (uint32_t)source->size;
}

/* Whether both times are whole seconds: the file system has no finer ones. */
static bool coarse(const struct lw_stat *st)
{
	return st->mtime_ns % SECOND == 0 && st->ctime_ns % SECOND == 0;
}

/* Whether SOURCE, last changed at CHANGED_NS, can have been compiled after that and before WRITTEN_NS. */
static bool time_to_compile(const struct lw_stat *source, int64_t changed_ns, int64_t written_ns)
{
	int64_t limit;
	/* What does not fit is "the future". */
	if (__builtin_mul_overflow(source->size, COMPILE_NS_PER_BYTE, &limit)
			|| __builtin_add_overflow(limit, MARGIN_NS + (coarse(source) ? 2LL * SECOND : 0), &limit)
			|| __builtin_add_overflow(limit, changed_ns, &limit))
		return false;
	return written_ns > limit;
}

/* Whether ST's mtime is what the clock said when it was written, and its inode has been left alone since. */
static bool written_here(const struct lw_stat *st)
{
	int64_t age;
	return !__builtin_sub_overflow(st->ctime_ns, st->mtime_ns, &age) && age >= 0 && age <= SECOND;
}

/* Both came with their times from elsewhere: then the two came together, and stock's rule has held there. */
static bool restored_together(const struct lw_stat *pyc, const struct lw_stat *source)
{
	int64_t until;
	if (!__builtin_add_overflow(pyc->ctime_ns, RESTORING_NS, &until) && source->ctime_ns > until)
		return false;
	bool unpacked = source->mtime_ns % SECOND == 0 && !coarse(source);
	return unpacked || time_to_compile(source, source->mtime_ns, pyc->mtime_ns);
}

static bool believed(const struct lw_stat *pyc, const struct lw_stat *source)
{
	if (lw_stat_from_image(source) && lw_stat_from_image(pyc))
		return true;
	return written_here(pyc) ? time_to_compile(source, source->ctime_ns, pyc->mtime_ns) : restored_together(pyc, source);
}

enum lw_pyc_verdict lw_pyc_judge(const void *data, size_t size, const struct lw_stat *pyc, uint32_t magic, const struct lw_stat *source)
{
	const unsigned char *header = data;
	if (size < LW_PYC_HEADER || u32(header) != magic)
		return LW_PYC_NONE;
	if (u32(header + 4) & 1)
		return LW_PYC_HASHED;
	if (u32(header + 4) != 0 || !header_matches(header, source))
		return LW_PYC_NONE;
	return believed(pyc, source) ? LW_PYC_GOOD : LW_PYC_DOUBTED;
}

enum lw_pyc_verdict lw_pyc_read(const char *path, uint32_t magic, const struct lw_stat *source, void **data, size_t *size)
{
	struct lw_stat st;
	int fd = open_regular(path, &st);
	if (fd < 0)
		return LW_PYC_NONE;
	int error = st.size < LW_PYC_HEADER ? -EINVAL : lw_read_whole(fd, &st, LW_PYC_LIMIT, data, size);
	close(fd);
	if (error)
		return LW_PYC_NONE;

	enum lw_pyc_verdict verdict = lw_pyc_judge(*data, *size, &st, magic, source);
	if (verdict != LW_PYC_GOOD) {
		free(*data);
		*data = NULL;
	}
	return verdict;
}
