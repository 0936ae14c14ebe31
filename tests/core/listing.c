/* SPDX-License-Identifier: MIT */
/*
 * listing: equal to a plain reading of the same directory, for random directories, odd names, links, types that the file
 * system does not tell, directories of a million entries and reads that fail half-way.
 */
#include "listing.h"
#include "reference.h"

#include <criterion/criterion.h>
#include <sys/syscall.h>

/* Stands in for libc's getdents64, to play file systems that are not at hand. */
static struct {
	bool no_types;			/* every d_type is DT_UNKNOWN */
	bool interrupted;		/* every other call fails with EINTR */
	int error;			/* from call number error_at on */
	unsigned error_at, calls;
	uint32_t synthetic, made;	/* instead of the directory: that many entries */
	size_t name_len;		/* of the synthetic ones; 0: counted */
	void (*before)(void), (*after)(void);	/* called around each read */
} play;

static size_t make_entry(char *to, size_t room, uint32_t i)
{
	struct dirent64 *d = (struct dirent64 *)to;
	size_t len = play.name_len ? play.name_len + 3 : 16;
	size_t size = (offsetof(struct dirent64, d_name) + len + 1 + 7) & ~(size_t)7;
	if (size > room)
		return 0;
	memset(to, 0, size);
	d->d_reclen = (unsigned short)size;
	d->d_type = DT_REG;
	if (play.name_len)
		memset(d->d_name, 'x', play.name_len);
	else
		len = (size_t)sprintf(d->d_name, "m%07u", i % play.synthetic);
	strcpy(d->d_name + (play.name_len ? play.name_len : len), i % 2 ? ".py" : ".so");
	return size;
}

static ssize_t make_entries(char *buffer, size_t size)
{
	size_t at = 0, step;
	while (play.made < 2 * play.synthetic && (step = make_entry(buffer + at, size - at, play.made))) {
		at += step;
		play.made++;
	}
	return (ssize_t)at;
}

ssize_t getdents64(int fd, void *buffer, size_t size)
{
	play.calls++;
	if (play.before)
		play.before();
	if (play.interrupted && play.calls % 2) {
		errno = EINTR;
		return -1;
	}
	if (play.error && play.calls >= play.error_at) {
		errno = play.error;
		return -1;
	}
	if (play.synthetic)
		return make_entries(buffer, size);
	cr_assert_geq(size, 64 * 1024, "read in large steps");
	ssize_t got = syscall(SYS_getdents64, fd, buffer, size);
	if (play.after)
		play.after();
	for (ssize_t at = 0; play.no_types && at < got;) {
		struct dirent64 *d = (struct dirent64 *)((char *)buffer + at);
		d->d_type = DT_UNKNOWN;
		at += d->d_reclen;
	}
	return got;
}

static char root[PATH_MAX];
static int dir;
static struct lw_suffixes suffixes;

static void set_up(void)
{
	suffixes = ref_suffixes();
	tree_create(root, sizeof root);
	dir = tree_open(AT_FDCWD, root);
}

static void tear_down(void)
{
	close(dir);
	tree_destroy(root);
}

TestSuite(listing, .init = set_up, .fini = tear_down);

static void check_sorted(const struct lw_listing *l)
{
	size_t names = 0;
	for (uint32_t i = 0; i < l->count; i++) {
		const struct lw_entry *b = &l->entries[i];
		cr_assert(b->len > 0 && b->name + b->len <= l->names_len);
		cr_assert_eq(b->hash, lw_name_hash(l->names + b->name, b->len));
		cr_assert_eq(lw_listing_find(l, l->names + b->name, b->len), b);
		names += b->len;
		if (!i)
			continue;
		const struct lw_entry *a = b - 1;
		size_t shorter = a->len < b->len ? a->len : b->len;
		int order = memcmp(l->names + a->name, l->names + b->name, shorter);
		cr_assert(a->hash < b->hash || (a->hash == b->hash && (order < 0 || (!order && a->len < b->len))));
	}
	cr_assert_eq(names, l->names_len, "names are packed");
}

/* What lw_listing_read() says of the directory in PATH against readdir. Returns how many names it has. */
static uint32_t check_against_reference(const char *path)
{
	struct lw_listing *l;
	struct lw_stat st;
	struct stat ref_st;
	uint64_t seen = 0;
	size_t count;
	DIR *d = opendir(path);
	cr_assert(d);
	struct ref_entry *ref = ref_read(d, &suffixes, &count, &seen);
	cr_assert_eq(fstat(dirfd(d), &ref_st), 0);
	closedir(d);

	cr_assert_eq(lw_listing_read(path, &suffixes, &l, &st), 0);
	cr_assert_eq(lw_stamp(&st), ref_stamp(&ref_st));
	cr_assert_eq(l->count, count, "%u names instead of %zu", l->count, count);
	check_sorted(l);
	for (size_t i = 0; i < count; i++) {
		const struct lw_entry *e = lw_listing_find(l, ref[i].stem, strlen(ref[i].stem));
		cr_assert(e, "'%s' is missing", ref[i].stem);
		cr_assert_eq(e->kinds, ref[i].kinds, "'%s' is %x instead of %x", ref[i].stem, e->kinds, ref[i].kinds);
		cr_assert_eq(e->flags, ref[i].doubt ? LW_ENTRY_DOUBT : 0, "'%s'", ref[i].stem);
	}
	lw_listing_destroy(l);
	free(ref);
	return (uint32_t)count;
}

Test(listing, random_directories)
{
	uint64_t seed = 11, names = 0;
	for (unsigned i = 0; i < 150; i++) {
		char path[PATH_MAX + 32], name[32];
		snprintf(name, sizeof name, "%u", i);
		snprintf(path, sizeof path, "%s/%s", root, name);
		int fd = tree_mkdir(dir, name);
		tree_random_fill(fd, &seed, 60, 0);
		close(fd);
		play.no_types = play.interrupted = false;
		names += check_against_reference(path);
		play.no_types = true;
		check_against_reference(path);
		play.interrupted = true;
		check_against_reference(path);
	}
	cr_expect_gt(names, 500, "%d names", (int)names);
}

Test(listing, merges_and_doubts)
{
	struct lw_listing *l;
	struct lw_stat st;
	close(tree_mkdir(dir, "both"));
	tree_write(dir, "both.py", "");
	tree_write(dir, "both.abi3.so", "");
	close(tree_mkdir(dir, "dir.py"));
	tree_write(dir, "plain", "");
	tree_write(dir, "sound.txt", "");
	cr_assert_eq(symlinkat("both.py", dir, "sound.py"), 0);
	cr_assert_eq(symlinkat("nowhere", dir, "dangling.py"), 0);
	cr_assert_eq(symlinkat("both", dir, "misfit.py"), 0);
	cr_assert_eq(symlinkat("plain", dir, "misfit"), 0);
	cr_assert_eq(symlinkat("plain", dir, "half.py"), 0);
	tree_write(dir, "half.so", "");
	const struct { const char *name; lw_kinds kinds; uint8_t flags; } table[] = {
		{ "both", LW_KIND_DIR | LW_KIND_SUFFIX(1) | LW_KIND_SUFFIX(3), 0 },
		{ "sound", LW_KIND_SUFFIX(3), LW_ENTRY_DOUBT },
		{ "dangling", LW_KIND_SUFFIX(3), LW_ENTRY_DOUBT },
		{ "misfit", LW_KIND_DIR | LW_KIND_SUFFIX(3), LW_ENTRY_DOUBT },
		{ "half", LW_KIND_SUFFIX(2) | LW_KIND_SUFFIX(3), LW_ENTRY_DOUBT },
	};
	for (int unknown = 0; unknown < 2; unknown++) {
		play.no_types = unknown;
		cr_assert_eq(lw_listing_read(root, &suffixes, &l, &st), 0);
		cr_expect_eq(l->count, sizeof table / sizeof *table);
		for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
			const struct lw_entry *e = lw_listing_find(l, table[i].name, strlen(table[i].name));
			cr_assert(e, "%s", table[i].name);
			cr_expect(e->kinds == table[i].kinds && e->flags == table[i].flags, "%s: %x", table[i].name, e->kinds);
		}
		cr_expect_null(lw_listing_find(l, "dir", 3));
		cr_expect_null(lw_listing_find(l, "plain", 5));
		lw_listing_destroy(l);
	}
}

static void unlink_a(void)
{
	unlinkat(dir, "a.py", 0);
}

Test(listing, unknown_type_that_cannot_be_asked)
{
	/* Gone from the directory, still in the buffer: kept, in doubt. */
	struct lw_listing *l;
	struct lw_stat st;
	tree_write(dir, "a.py", "");
	play.no_types = true;
	play.after = unlink_a;
	cr_assert_eq(lw_listing_read(root, &suffixes, &l, &st), 0);
	cr_assert_eq(l->count, 1);
	cr_expect_eq(l->entries[0].kinds, LW_KIND_SUFFIX(3));
	cr_expect_eq(l->entries[0].flags, LW_ENTRY_DOUBT);
	lw_listing_destroy(l);
}

Test(listing, raw_names)
{
	char longest[NAME_MAX + 1], name[NAME_MAX + 1];
	memset(longest, 0xe9, NAME_MAX - 3);
	strcpy(longest + NAME_MAX - 3, ".py");
	tree_write(dir, longest, "");
	memset(name, 'd', NAME_MAX);
	name[NAME_MAX] = '\0';
	close(tree_mkdir(dir, name));
	for (int c = 1; c < 256; c++) {
		char file[8] = { (char)c, '.', 'p', 'y', '\0' };
		if (c != '/')
			tree_write(dir, file, "");
	}
	cr_expect_eq(check_against_reference(root), 2 + 255 - 2);
	struct lw_listing *l;
	struct lw_stat st;
	cr_assert_eq(lw_listing_read(root, &suffixes, &l, &st), 0);
	cr_expect(lw_listing_find(l, name, NAME_MAX));
	cr_expect(lw_listing_find(l, longest, NAME_MAX - 3));
	cr_expect_null(lw_listing_find(l, name, NAME_MAX - 1));
	cr_expect_null(lw_listing_find(l, "", 0));
	lw_listing_destroy(l);
}

Test(listing, a_million_entries)
{
	struct lw_listing *l;
	struct lw_stat st;
	play.synthetic = 500000;
	cr_assert_eq(lw_listing_read(root, &suffixes, &l, &st), 0);
	cr_assert_eq(l->count, 500000, "%u", l->count);
	cr_assert_eq(l->names_len, 500000 * 8);
	unsigned collisions = 0;
	for (uint32_t i = 0; i < l->count; i++) {
		char name[16];
		snprintf(name, sizeof name, "m%07u", i);
		const struct lw_entry *e = lw_listing_find(l, name, 8);
		cr_assert(e && memcmp(l->names + e->name, name, 8) == 0);
		collisions += i && l->entries[i].hash == l->entries[i - 1].hash;
	}
	cr_expect_gt(collisions, 0, "names of one hash were among them");
	lw_listing_destroy(l);
}

Test(listing, names_longer_than_linux_has)
{
	/* Some file systems in user space pass them on: no entry is left out silently. */
	struct lw_listing *l;
	struct lw_stat st;
	play.synthetic = 1;
	play.name_len = 255;
	cr_assert_eq(lw_listing_read(root, &suffixes, &l, &st), 0);
	cr_expect_eq(l->entries[0].len, 255);
	lw_listing_destroy(l);
	play.made = 0;
	play.name_len = 256;
	cr_assert_eq(lw_listing_read(root, &suffixes, &l, &st), -ENAMETOOLONG);
}

Test(listing, errors)
{
	struct lw_listing *l;
	struct lw_stat st;
	char path[PATH_MAX + 8];
	cr_expect_eq(lw_listing_read("", &suffixes, &l, &st), -ENOENT);
	snprintf(path, sizeof path, "%s/absent", root);
	cr_expect_eq(lw_listing_read(path, &suffixes, &l, &st), -ENOENT);
	tree_write(dir, "absent", "");
	cr_expect_eq(lw_listing_read(path, &suffixes, &l, &st), -ENOTDIR);
	cr_expect_eq(lw_listing_read_fd(-1, &suffixes, &l, &st), -EBADF);
	int file = openat(dir, "absent", O_RDONLY), bare = openat(dir, ".", O_PATH);
	cr_expect_eq(lw_listing_read_fd(file, &suffixes, &l, &st), -ENOTDIR);
	cr_expect_eq(lw_listing_read_fd(bare, &suffixes, &l, &st), -EBADF);
	close(file);
	close(bare);

	static const int errors[] = { EIO, ENOENT, ESTALE, EACCES };
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		for (play.error_at = 1; play.error_at <= 2; play.error_at++) {
			play.error = errors[i];
			play.calls = 0;
			cr_expect_eq(lw_listing_read(root, &suffixes, &l, &st), -errors[i]);
		}
	}
}

Test(listing, removed_while_open)
{
	struct lw_listing *l;
	struct lw_stat st;
	int fd = tree_mkdir(dir, "gone");
	cr_assert_eq(unlinkat(dir, "gone", AT_REMOVEDIR), 0);
	cr_expect_eq(lw_listing_read_fd(fd, &suffixes, &l, &st), -ENOENT);
	close(fd);
}

Test(listing, descriptor)
{
	struct lw_listing *l;
	struct lw_stat st;
	tree_write(dir, "a.py", "");
	/* Twice: the first leaves the offset at the end. */
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(lw_listing_read_fd(dir, &suffixes, &l, &st), 0);
		cr_expect_eq(l->count, 1);
		lw_listing_destroy(l);
	}
	cr_expect_neq(fcntl(dir, F_GETFD), -1, "still open");

	struct lw_listing_cost cost = { .entries = 100, .syscalls = 100 };
	struct lw_listing_reader *reader = lw_listing_reader_create(&suffixes);
	int fd = tree_open(AT_FDCWD, root);
	tree_write(dir, "b.txt", "");
	tree_write(dir, ".hidden", "");
	cr_assert_eq(lw_listing_reader_read(reader, fd, &l, &st, &cost), 0);
	cr_expect_eq(cost.entries, 103);
	cr_expect_eq(cost.syscalls, 103, "statx, getdents64 twice: %d", (int)cost.syscalls);
	lw_listing_destroy(l);
	lw_listing_reader_destroy(reader);
	close(fd);
}

static void add_late(void)
{
	if (play.calls == 1)
		tree_write(dir, "late.py", "");
}

Test(listing, stamp_is_taken_before_reading)
{
	/* A file made between stat and read may be listed, but then the stamp must be the old one. */
	struct lw_listing *l;
	struct lw_stat st, before, after;
	usleep(30000);
	cr_assert_eq(lw_stat_fd(dir, &before), 0);
	play.before = add_late;
	play.calls = 0;
	cr_assert_eq(lw_listing_read(root, &suffixes, &l, &st), 0);
	cr_assert_eq(lw_stat_fd(dir, &after), 0);
	cr_expect_eq(l->count, 1);
	cr_expect_eq(lw_stamp(&st), lw_stamp(&before));
	cr_expect_neq(lw_stamp(&st), lw_stamp(&after));
	lw_listing_destroy(l);
}

Test(listing, copy)
{
	struct lw_entry entries[3] = {
		{ .hash = 1, .name = 4, .len = 2, .flags = LW_ENTRY_DOUBT, .kinds = 1 },
		{ .hash = 2, .name = 0, .len = 3, .kinds = 2 },
		{ .hash = 2, .name = 0, .len = 4, .kinds = 3 },
	};
	struct lw_listing *l = lw_listing_copy(entries, 3, "abcdef");
	cr_assert(l);
	cr_expect(l->count == 3 && l->names_len == 9);
	cr_expect_arr_eq(l->names, "efabcabcd", 9);
	cr_expect_eq(l->entries[0].flags, LW_ENTRY_DOUBT);
	cr_expect_eq(l->entries[2].kinds, 3);
	lw_listing_destroy(l);

	l = lw_listing_copy(NULL, 0, NULL);
	cr_assert(l);
	cr_expect_eq(l->count, 0);
	cr_expect_null(lw_listing_find(l, "a", 1));
	lw_listing_destroy(l);
	lw_listing_destroy(NULL);
}

Test(listing, lower_bound)
{
	uint64_t seed = 5;
	for (unsigned round = 0; round < 2000; round++) {
		struct lw_entry e[40] = { { 0 } };
		uint32_t count = tree_random(&seed) % 41, hash = 0;
		for (uint32_t i = 0; i < count; i++)
			e[i].hash = hash += tree_random(&seed) % 3;
		for (uint32_t probe = 0; probe < hash + 2; probe++) {
			uint32_t want = 0;
			while (want < count && e[want].hash < probe)
				want++;
			cr_assert_eq(lw_listing_lower_bound(e, count, probe), want);
		}
		cr_assert_eq(lw_listing_lower_bound(e, count, UINT32_MAX), count);
	}
}

Test(listing, empty)
{
	cr_expect_eq(check_against_reference(root), 0);
}
