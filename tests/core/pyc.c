/* SPDX-License-Identifier: MIT */
/*
 * Verdicts on .pyc files whose header, times and length are set by hand, against sources that are a struct lw_stat only. Files that change
 * while they are read: pyc.c is compiled into this program with a read() that does the changing.
 */
#include "tree.h"
#include <criterion/criterion.h>
#include <unistd.h>

static void (*before_read)(void);

static ssize_t changing_read(int fd, void *buffer, size_t size)
{
	if (before_read)
		before_read();
	return read(fd, buffer, size);
}

#define read changing_read
#include "../../core/pyc.c"
#undef read

enum { MAGIC = 0x0a0d0dcb };
static const int64_t NS = 1000000000, MS = 1000000;
/* A moment that is no whole second. */
static const int64_t WHEN = INT64_C(1700000000) * 1000000000 + 123456789;

static char root[PATH_MAX], path[PATH_MAX + 8];

static void setup(void)
{
	tree_create(root, sizeof root);
	snprintf(path, sizeof path, "%s/m.pyc", root);
}

static void teardown(void)
{
	tree_destroy(root);
}

TestSuite(pyc, .init = setup, .fini = teardown);

struct pyc {
	uint32_t magic, flags, mtime, size;
	size_t length;		/* of the file */
	int64_t mtime_ns;	/* of the file */
};

static void put32(unsigned char *at, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (unsigned char)(value >> 8 * i);
}

static void set_mtime(const char *file, int64_t ns)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = ns / NS, .tv_nsec = ns % NS } };
	cr_assert_eq(utimensat(AT_FDCWD, file, times, 0), 0);
}

static void write_pyc(const struct pyc *pyc)
{
	unsigned char data[64] = { 0 };
	put32(data, pyc->magic);
	put32(data + 4, pyc->flags);
	put32(data + 8, pyc->mtime);
	put32(data + 12, pyc->size);
	memset(data + LW_PYC_HEADER, 'c', sizeof data - LW_PYC_HEADER);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	cr_assert_eq(write(fd, data, pyc->length), (ssize_t)pyc->length);
	close(fd);
	set_mtime(path, pyc->mtime_ns);
}

static enum lw_pyc_verdict verdict(const struct lw_stat *source)
{
	void *data = NULL;
	size_t size = 0;
	enum lw_pyc_verdict got = lw_pyc_read(path, MAGIC, source, &data, &size);
	if (got == LW_PYC_GOOD)
		cr_assert(size >= LW_PYC_HEADER && ((unsigned char *)data)[size - 1] == (size > LW_PYC_HEADER ? 'c' : ((unsigned char *)data)[15]));
	else
		cr_assert_null(data, "nothing to free");
	free(data);
	return got;
}

static const struct lw_stat plain_source = { .size = 1000, .mtime_ns = WHEN, .ctime_ns = WHEN, .mode = S_IFREG | 0644 };

static struct pyc good_pyc(const struct lw_stat *source)
{
	return (struct pyc){ .magic = MAGIC, .mtime = (uint32_t)(source->mtime_ns / NS), .size = (uint32_t)source->size, .length = 64,
		.mtime_ns = WHEN + 10 * NS };
}

static enum lw_pyc_verdict judge(struct pyc pyc, const struct lw_stat *source)
{
	write_pyc(&pyc);
	return verdict(source);
}

Test(pyc, headers)
{
	const struct lw_stat *source = &plain_source;
	struct pyc pyc = good_pyc(source);
	cr_assert_eq(judge(pyc, source), LW_PYC_GOOD);
	pyc.magic++;
	cr_assert_eq(judge(pyc, source), LW_PYC_NONE);
	pyc = good_pyc(source), pyc.mtime++;
	cr_assert_eq(judge(pyc, source), LW_PYC_NONE);
	pyc = good_pyc(source), pyc.mtime--;
	cr_assert_eq(judge(pyc, source), LW_PYC_NONE);
	pyc = good_pyc(source), pyc.size++;
	cr_assert_eq(judge(pyc, source), LW_PYC_NONE);
	pyc = good_pyc(source), pyc.flags = 1;
	cr_assert_eq(judge(pyc, source), LW_PYC_HASHED);
	pyc.flags = 3;
	cr_assert_eq(judge(pyc, source), LW_PYC_HASHED);
	pyc.magic++;
	cr_assert_eq(judge(pyc, source), LW_PYC_NONE, "another interpreter's flags mean nothing");
	pyc = good_pyc(source), pyc.flags = 4;
	cr_assert_eq(judge(pyc, source), LW_PYC_NONE);
	pyc.flags = 2;
	cr_assert_eq(judge(pyc, source), LW_PYC_NONE);
}

Test(pyc, truncated_missing_and_of_the_wrong_type)
{
	const struct lw_stat *source = &plain_source;
	struct pyc pyc = good_pyc(source);
	for (pyc.length = 0; pyc.length < LW_PYC_HEADER; pyc.length++)
		cr_assert_eq(judge(pyc, source), LW_PYC_NONE);
	cr_assert_eq(judge(pyc, source), LW_PYC_GOOD, "a header alone: unmarshalling will tell");
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(verdict(source), LW_PYC_NONE);
	cr_assert_eq(mkdir(path, 0755), 0);
	cr_assert_eq(verdict(source), LW_PYC_NONE);
	cr_assert_eq(rmdir(path), 0);
	alarm(10);
	cr_assert_eq(mkfifo(path, 0644), 0);
	cr_assert_eq(verdict(source), LW_PYC_NONE, "and it does not wait for a writer");
	struct lw_stat st;
	uint64_t hash;
	cr_assert_eq(lw_content_hash(path, &st, &hash), -EINVAL);
	alarm(0);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(symlink("m.pyc", path), 0);
	cr_assert_eq(verdict(source), LW_PYC_NONE);
	cr_assert_eq(lw_content_hash(path, &st, &hash), -ELOOP);
}

/* The .pyc written AFTER ns later than the source. */
static enum lw_pyc_verdict judge_after(const struct lw_stat *source, int64_t after)
{
	struct pyc pyc = good_pyc(source);
	pyc.mtime_ns = source->mtime_ns + after;
	return judge(pyc, source);
}

Test(pyc, margins)
{
	struct lw_stat source = plain_source;
	int64_t margin = 50 * MS + 1000 * 2000;
	cr_assert_eq(judge_after(&source, margin), LW_PYC_DOUBTED);
	cr_assert_eq(judge_after(&source, margin + 1), LW_PYC_GOOD);
	cr_assert_eq(judge_after(&source, 0), LW_PYC_DOUBTED);
	cr_assert_eq(judge_after(&source, -NS), LW_PYC_DOUBTED, "stock takes even an older one");
	source.size = 1000000;
	margin = 50 * MS + INT64_C(1000000) * 2000;
	cr_assert_eq(judge_after(&source, margin), LW_PYC_DOUBTED);
	cr_assert_eq(judge_after(&source, margin + 1), LW_PYC_GOOD);
	source.size = 0;
	cr_assert_eq(judge_after(&source, 50 * MS), LW_PYC_DOUBTED);
	cr_assert_eq(judge_after(&source, 50 * MS + 1), LW_PYC_GOOD);
}

Test(pyc, whole_seconds)
{
	struct lw_stat source = plain_source;
	source.mtime_ns = WHEN / NS * NS;
	cr_assert_eq(judge_after(&source, -5 * NS), LW_PYC_GOOD, "unpacked: stock's rule holds");
	source.ctime_ns = source.mtime_ns;
	int64_t margin = 50 * MS + 1000 * 2000 + 2 * NS;
	cr_assert_eq(judge_after(&source, margin), LW_PYC_DOUBTED, "the file system counts in seconds");
	cr_assert_eq(judge_after(&source, margin + 1), LW_PYC_GOOD);
	source.mtime_ns += 1;
	cr_assert_eq(judge_after(&source, 50 * MS), LW_PYC_DOUBTED);
}

/* The last change of a source shows in its ctime; a .pyc that was restored with its source is judged by their mtimes. */
Test(pyc, changes_that_the_mtime_does_not_show)
{
	const int64_t margin = 50 * MS + 1000 * 2000, second = WHEN / NS * NS, day = 86400 * NS;
	const struct { int64_t pyc_mtime, pyc_ctime, source_mtime, source_ctime; bool believed; const char *why; } table[] = {
		{ WHEN + margin + 1, WHEN + margin + 2, WHEN, WHEN, true, "compiled later" },
		{ WHEN + margin, WHEN + margin + 1, WHEN, WHEN, false, "compiled too soon" },
		{ WHEN, WHEN + 1, WHEN - day, WHEN + NS, false, "edited after it was compiled, mtime put back" },
		{ WHEN, WHEN + 1, second - day, WHEN + NS, false, "the same, with a whole second" },
		{ WHEN, WHEN + 1, WHEN - day, WHEN - margin - 1, true, "mtime put back before it was compiled" },
		{ WHEN, WHEN + 1, WHEN + day, WHEN - margin - 1, true, "mtime in the future" },
		{ WHEN, WHEN + 1, WHEN + day, WHEN - margin, false, "mtime in the future, compiled too soon" },
		{ WHEN - day, WHEN, WHEN - day - margin - 1, WHEN, true, "restored together" },
		{ WHEN - day, WHEN, WHEN - day - margin, WHEN, false, "restored together, compiled too soon" },
		{ WHEN - day, WHEN, second - day, WHEN, true, "restored together, mtime cut by an archive" },
		{ second - day, WHEN, second, WHEN, true, "the same, and the .pyc is older: stock's rule" },
		{ WHEN - day, WHEN, WHEN - 2 * day, WHEN + 10 * NS, true, "the source came last" },
		{ WHEN - day, WHEN, WHEN - 2 * day, WHEN + 10 * NS + 1, false, "the source came later" },
		{ WHEN - day, WHEN, second - 2 * day, WHEN + 11 * NS, false, "the same, mtime cut by an archive" },
		{ WHEN + day, WHEN, WHEN, WHEN, true, "dated ahead" },
		{ INT64_MAX, INT64_MIN, WHEN, WHEN, false, "no such times" },
		{ INT64_MIN, INT64_MAX, WHEN, INT64_MAX, false, "no such times" },
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		const struct lw_stat pyc = { .mtime_ns = table[i].pyc_mtime, .ctime_ns = table[i].pyc_ctime };
		const struct lw_stat source = { .size = 1000, .mtime_ns = table[i].source_mtime, .ctime_ns = table[i].source_ctime };
		cr_expect_eq(believed(&pyc, &source), table[i].believed, "%s", table[i].why);
	}
}

/* An image of a file system has whole seconds throughout, and pip compiles within the second. */
Test(pyc, made_with_the_file_system)
{
	struct lw_stat real;
	tree_write(AT_FDCWD, path, "");
	set_mtime(path, WHEN);
	cr_assert_eq(lw_stat_at(AT_FDCWD, path, &real), 0);
	const int64_t second = WHEN / NS * NS;
	struct lw_stat source = { .dev = real.dev, .size = 1000, .mtime_ns = second, .ctime_ns = second }, pyc = source;
	cr_assert(believed(&pyc, &source));
	source.dev = pyc.dev = real.dev + 1;
	cr_assert(!believed(&pyc, &source), "there nothing has shown that it counts finer than seconds");
	source.dev = pyc.dev = real.dev;
	source.ctime_ns = second + NS;
	cr_assert(!believed(&pyc, &source), "touched since");
	source.ctime_ns = second;
	pyc.ctime_ns = pyc.mtime_ns = second + 1;
	cr_assert(!believed(&pyc, &source), "written by somebody else, at once");
}

/* Whatever the source's stat says, nothing overflows, and what cannot be judged is not believed. */
Test(pyc, extreme_stats)
{
	static const int64_t times[] = { INT64_MAX, INT64_MAX - 60 * MS, INT64_MIN, -1500000000, -1, 0, 1 };
	static const uint64_t sizes[] = { 0, 1000, UINT32_MAX, UINT64_C(1) << 53, INT64_MAX, UINT64_MAX };
	for (unsigned t = 0; t < sizeof times / sizeof *times; t++) {
		for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
			struct lw_stat source = { .size = sizes[s], .mtime_ns = times[t], .ctime_ns = WHEN, .mode = S_IFREG | 0644 };
			struct pyc pyc = good_pyc(&source);
			pyc.mtime_ns = WHEN;
			bool far = times[t] > WHEN || sizes[s] > UINT32_MAX;
			bool whole = times[t] % NS == 0;
			cr_assert_eq(judge(pyc, &source), far && !whole ? LW_PYC_DOUBTED : LW_PYC_GOOD, "%u %u", t, s);
		}
	}
}

static void grow(void)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	cr_assert_eq(write(fd, "more", 4), 4);
	close(fd);
	before_read = NULL;
}

static void shrink(void)
{
	cr_assert_eq(truncate(path, 20), 0);
	before_read = NULL;
}

static void rewrite(void)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, "X", 1, 30), 1);
	close(fd);
	before_read = NULL;
}

Test(pyc, files_that_change_while_they_are_read)
{
	static void (*const change[])(void) = { grow, shrink };
	for (unsigned i = 0; i < 2; i++) {
		struct pyc pyc = good_pyc(&plain_source);
		write_pyc(&pyc);
		before_read = change[i];
		cr_assert_eq(verdict(&plain_source), LW_PYC_NONE);
		cr_assert_null(before_read);
	}
}

Test(pyc, a_hash_belongs_to_one_stamp)
{
	static void (*const change[])(void) = { grow, shrink, rewrite };
	struct lw_stat st, now;
	uint64_t hash;
	char text[100];
	memset(text, 't', sizeof text);
	for (unsigned i = 0; i < 3; i++) {
		tree_write(AT_FDCWD, path, "");
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		cr_assert_eq(write(fd, text, sizeof text), (ssize_t)sizeof text);
		close(fd);
		usleep(40 * 1000);
		cr_assert_eq(lw_content_hash(path, &st, &hash), 0);
		cr_assert_eq(hash, lw_hash64(text, sizeof text));
		cr_assert_eq(lw_stat_at(AT_FDCWD, path, &now), 0);
		cr_assert_eq(lw_stamp(&st), lw_stamp(&now));
		before_read = change[i];
		cr_assert_eq(lw_content_hash(path, &st, &hash), -ESTALE, "an edit between stat and read");
		cr_assert_null(before_read);
	}
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(lw_content_hash(path, &st, &hash), -ENOENT);
	tree_write(AT_FDCWD, path, "");
	cr_assert_eq(lw_content_hash(path, &st, &hash), 0);
	cr_assert_eq(hash, lw_hash64("", 0));
}

Test(pyc, limits_of_reading)
{
	void *data;
	size_t size;
	struct lw_stat st;
	tree_write(AT_FDCWD, path, "0123456789");
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(lw_stat_fd(fd, &st), 0);
	cr_assert_eq(lw_read_whole(fd, &st, 9, &data, &size), -EFBIG);
	cr_assert_eq(lw_read_whole(fd, &st, 10, &data, &size), 0);
	cr_assert(size == 10 && memcmp(data, "0123456789", 10) == 0);
	free(data);
	cr_assert_eq(lw_read_whole(fd, &st, 10, &data, &size), -ESTALE, "from where the descriptor stands");
	close(fd);
	cr_assert_eq(lw_read_whole(-1, &st, 10, &data, &size), -EBADF);
	cr_assert_eq(truncate(path, INT64_C(1) << 40), 0);
	uint64_t hash;
	cr_assert_eq(lw_content_hash(path, &st, &hash), -EFBIG);
}
