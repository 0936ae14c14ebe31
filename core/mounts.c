/* SPDX-License-Identifier: MIT */
/*
 * mounts: see mounts.h. The table is read into sorted rows; two such tables are merged to find what only one of them has.
 */
#include "mounts.h"
#include "watch.h"
#include "hash.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* <linux/stat.h> of older systems does not have it. */
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000U
#endif

/* RACES: how often a table that changes while it is read is read again before somebody else gets a turn. */
enum { RACES = 64, CHUNK = 16 * 1024 };

struct row {
	uint64_t id;	/* a hash of what tells the mount from others */
	uint32_t at, len;
	bool certain;	/* ID does so for certain */
};

struct table {
	struct row *row;
	char *text;	/* the points, each terminated */
	uint32_t rows, row_room;
	size_t used, room;
};

struct lw_mounts {
	int fd, own;		/* for the caller's poll, and for ours */
	bool due;		/* a change has been seen that is not in the table yet */
	struct table table;
};

static void table_clear(struct table *table)
{
	free(table->row);
	free(table->text);
	*table = (struct table){ 0 };
}

/* Room for SIZE more bytes. */
static int grow_text(struct table *table, size_t size)
{
	size_t room = table->room ? table->room : 4096;
	while (room - table->used < size)
		room *= 2;
	if (room > UINT32_MAX)
		return -ENOMEM;
	char *text = room == table->room ? table->text : realloc(table->text, room);
	if (!text)
		return -ENOMEM;
	table->text = text;
	table->room = room;
	return 0;
}

static int grow_rows(struct table *table)
{
	if (table->rows < table->row_room)
		return 0;
	uint32_t room = table->row_room ? 2 * table->row_room : 64;
	struct row *row = realloc(table->row, room * sizeof *row);
	if (!row)
		return -ENOMEM;
	table->row = row;
	table->row_room = room;
	return 0;
}

static int table_add(struct table *table, struct row row, const char *point)
{
	int error = grow_rows(table);
	if (!error)
		error = grow_text(table, row.len + 1);
	if (error)
		return error;
	row.at = (uint32_t)table->used;
	table->row[table->rows++] = row;
	memcpy(table->text + table->used, point, row.len);
	table->text[table->used + row.len] = '\0';
	table->used += row.len + 1;
	return 0;
}

static int compare_points(const struct table *a, const struct row *x, const struct table *b, const struct row *y)
{
	int order = memcmp(a->text + x->at, b->text + y->at, x->len < y->len ? x->len : y->len);
	return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int compare(const struct table *a, const struct row *x, const struct table *b, const struct row *y)
{
	int order = compare_points(a, x, b, y);
	return order ? order : (x->id > y->id) - (x->id < y->id);
}

static int compare_rows(const void *x, const void *y, void *table)
{
	return compare(table, x, table, y);
}

/* Reading */

static bool is_octal(const char *at, const char *end)
{
	return end - at >= 4 && at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' && at[3] >= '0' && at[3] <= '7';
}

/* In place; the new length. */
static size_t unescape(char *text, size_t len)
{
	size_t to = 0;
	for (size_t from = 0; from < len; from++) {
		if (is_octal(text + from, text + len)) {
			text[to++] = (char)((text[from + 1] - '0') << 6 | (text[from + 2] - '0') << 3 | (text[from + 3] - '0'));
			from += 3;
		} else {
			text[to++] = text[from];
		}
	}
	return to;
}

/* Types of this machine's own, which answer at once. */
static bool is_prompt(const char *type, size_t len)
{
	static const char known[] = " bpf btrfs cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs erofs ext2 ext3 ext4 f2fs hugetlbfs mqueue nsfs proc pstore"
		" ramfs securityfs selinuxfs squashfs sysfs tmpfs tracefs vfat xfs ";
	/* In a line of mountinfo spaces surround it, too. */
	return memmem(known, sizeof known - 1, type - 1, len + 2);
}

/* The number of the uppermost mount at POINT, which is never used again; 0: not known. */
static uint64_t unique_id(const char *point)
{
	struct statx st;
	const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
	if (statx(AT_FDCWD, point, flags, STATX_MNT_ID_UNIQUE, &st) || !(st.stx_mask & STATX_MNT_ID_UNIQUE))
		return 0;
	return st.stx_mnt_id;
}

struct field {
	char *text;
	size_t len;
};

static bool next_field(char **at, char *end, struct field *field)
{
	char *space = memchr(*at, ' ', (size_t)(end - *at));
	field->text = *at;
	field->len = (size_t)((space ? space : end) - *at);
	*at = space ? space + 1 : end;
	return field->len;
}

/* "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [MORE ...] - TYPE ...". */
static bool split_line(char *line, char *end, struct field *point, struct field *type)
{
	struct field field;
	char *at = line;
	for (int i = 0; i < 5; i++)
		if (!next_field(&at, end, point))
			return false;
	do
		if (!next_field(&at, end, &field))
			return false;
	while (field.len != 1 || *field.text != '-');
	return next_field(&at, end, type) && at < end;
}

/* The line is written to. */
static int add_line(struct table *table, char *line, char *end)
{
	struct field point, type;
	if (!split_line(line, end, &point, &type))
		return -EPROTO;
	/* All before POINT and the number. */
	uint64_t known[2] = { lw_hash64(line, (size_t)(point.text - line)) };
	size_t len = unescape(point.text, point.len);
	point.text[len] = '\0';
	known[1] = is_prompt(type.text, type.len) ? unique_id(point.text) : 0;
	/* "/" is "", as everywhere. */
	struct row row = { .id = lw_hash64(known, sizeof known), .len = len == 1 ? 0 : (uint32_t)len, .certain = known[1] };
	return table_add(table, row, point.text);
}

static int read_all(int fd, struct table *text)
{
	ssize_t got;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	do {
		int error = grow_text(text, CHUNK);
		if (error)
			return error;
		got = read(fd, text->text + text->used, CHUNK);
		if (got < 0 && errno != EINTR)
			return -errno;
		text->used += got > 0 ? (size_t)got : 0;
	} while (got);
	return 0;
}

static int read_lines(int fd, struct table *table)
{
	struct table text = { 0 };
	int error = read_all(fd, &text);
	char *line = text.text, *end = text.text + (error ? 0 : text.used);
	while (!error && line < end) {
		char *newline = memchr(line, '\n', (size_t)(end - line));
		newline = newline ? newline : end;
		error = add_line(table, line, newline);
		line = newline + 1;
	}
	table_clear(&text);
	return error;
}

static int read_table(int fd, struct table *table)
{
	*table = (struct table){ 0 };
	int error = read_lines(fd, table);
	if (error)
		table_clear(table);
	else if (table->rows)
		qsort_r(table->row, table->rows, sizeof *table->row, compare_rows, table);
	return error;
}

/* What is new */

/* Whether the kernel has something new to say; it says it once. */
static int has_news(const lw_mounts *mounts)
{
	struct pollfd poller = { .fd = mounts->own, .events = POLLPRI };
	int count = poll(&poller, 1, 0);
	if (count < 0)
		return errno == EINTR ? 1 : -errno;
	return count && poller.revents & (POLLERR | POLLPRI);
}

/* A table during whose reading nothing changed; or the last one that was read, and the next call reads it again. */
static int read_quiet(lw_mounts *mounts, struct table *table)
{
	int error, news = 1;
	*table = (struct table){ 0 };
	for (int race = 0; race < RACES && news > 0; race++) {
		table_clear(table);
		error = read_table(mounts->own, table);
		if (error)
			return error;
		news = has_news(mounts);
	}
	mounts->due = news != 0;
	return 0;
}

struct teller {
	lw_mounts_sink *sink;
	void *arg;
	const struct table *table;	/* of the last point told, */
	const struct row *last;
};

/* Several mounts at one point are one. */
static void tell(struct teller *teller, const struct table *table, const struct row *row)
{
	if (teller->last && compare_points(teller->table, teller->last, table, row) == 0)
		return;
	teller->table = table;
	teller->last = row;
	teller->sink(teller->arg, table->text + row->at, row->len);
}

/* What is in both tables may be another mount nevertheless. A root that is replaced leaves nothing to be asked by. */
static bool may_be_another(const struct row *row)
{
	return !row->certain && row->len;
}

static void tell_differences(struct teller *teller, const struct table *was, const struct table *is)
{
	uint32_t i = 0, j = 0;
	while (i < was->rows || j < is->rows) {
		int order = i == was->rows ? 1 : j == is->rows ? -1 : compare(was, was->row + i, is, is->row + j);
		if (order < 0)
			tell(teller, was, was->row + i);
		else if (order > 0 || may_be_another(is->row + j))
			tell(teller, is, is->row + j);
		i += order <= 0;
		j += order >= 0;
	}
}

int lw_mounts_changed(lw_mounts *mounts, lw_mounts_sink *sink, void *arg)
{
	struct teller teller = { .sink = sink, .arg = arg };
	struct table is;
	if (!lw_watch_owns_fd(mounts->own))
		return -EBADF;
	int news = has_news(mounts);
	if (news <= 0 && !mounts->due)
		return news;
	mounts->due = true;
	int error = read_quiet(mounts, &is);
	if (error)
		return error;
	tell_differences(&teller, &mounts->table, &is);
	table_clear(&mounts->table);
	mounts->table = is;
	return 1;
}

void lw_mounts_each(const lw_mounts *mounts, lw_mounts_sink *sink, void *arg)
{
	const struct table *table = &mounts->table;
	for (uint32_t i = 0; i < table->rows; i++)
		sink(arg, table->text + table->row[i].at, table->row[i].len);
}

static int open_table(void)
{
	int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	int error = fd < 0 ? -errno : lw_watch_prepare_fd(fd);
	if (error && fd >= 0)
		close(fd);
	return error ? error : fd;
}

int lw_mounts_open_unread(lw_mounts **out)
{
	lw_mounts *mounts = malloc(sizeof *mounts);
	*out = NULL;
	if (!mounts)
		return -ENOMEM;
	*mounts = (lw_mounts){ .fd = open_table(), .own = -1 };
	if (mounts->fd < 0) {
		int error = mounts->fd;
		free(mounts);
		return error;
	}
	*out = mounts;
	return 0;
}

int lw_mounts_open(lw_mounts **out)
{
	int error = lw_mounts_open_unread(out);
	if (error)
		return error;
	(*out)->own = open_table();
	error = (*out)->own < 0 ? (*out)->own : read_quiet(*out, &(*out)->table);
	if (error) {
		lw_mounts_close(*out);
		*out = NULL;
	}
	return error;
}

void lw_mounts_close(lw_mounts *mounts)
{
	if (!mounts)
		return;
	lw_watch_close_fd(mounts->fd);
	lw_watch_close_fd(mounts->own);
	table_clear(&mounts->table);
	free(mounts);
}

int lw_mounts_fd(const lw_mounts *mounts)
{
	return mounts->fd;
}
