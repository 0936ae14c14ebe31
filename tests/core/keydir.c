/* SPDX-License-Identifier: MIT */
/*
 * keydir: no file replaces another, not even when writers have one pid at one time, as in two pid namespaces or on two machines.
 *
 *     writer A (pid 77)                writer B (pid 77)
 *     write .tmp-seg-T-77-n
 *     rename it to seg-T-77-n
 *                                      write .tmp-seg-T-77-n (gone by now)
 *                                      rename it to seg-T-77-n: A's facts are lost
 *
 * Two things prevent it: n is random, and rename refuses to replace. Each must do alone. The control has neither.
 * This file includes keydir.c, so that it can take them away; the library's copy is not linked.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int no_random, renameat2_error, blind;

#define getpid() 77
#define syscall(number, ...) \
	((number) == SYS_getrandom && no_random ? -1L \
	: (number) == SYS_renameat2 && renameat2_error ? (errno = renameat2_error, -1L) \
	: syscall(number, __VA_ARGS__))
/* A writer that looks before the other has renamed sees nothing. */
#define fstatat(...) (blind ? (errno = ENOENT, -1) : fstatat(__VA_ARGS__))
#include "../../core/keydir.c"
#undef fstatat
#undef getpid

enum { TIME = 12345, WRITERS = 3 };

static char path[128];
static int dir;

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(path, sizeof(path), "%.80s/ladewerk-keydir-XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(path));
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(dir >= 0);
}

static void teardown(void)
{
	close(dir);
	rmdir(path);
}

TestSuite(keydir, .init = setup, .fini = teardown);

static int create_file(void)
{
	struct lw_keydir_draft draft;
	int err = lw_keydir_draft(dir, LW_KEYDIR_SEGMENT, TIME, &draft);
	return err ? err : lw_keydir_finish(dir, &draft, 0);
}

/* The numbers of children begin where their parent's were, like those of processes that just started. */
static void write_as_child(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(create_file() != 0);
	int status;
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0);
}

/* How many files WRITERS leave behind. */
static unsigned files_left(void)
{
	struct lw_keydir list;

	for (unsigned i = 0; i < WRITERS; i++)
		write_as_child();
	lseek(dir, 0, SEEK_SET);
	cr_assert_eq(lw_keydir_read(dir, &list), 0);
	unsigned files = list.files, count = list.count;
	for (unsigned i = 0; i < count; i++)
		unlinkat(dir, list.entry[i].name, 0);
	lw_keydir_clear(&list);
	cr_assert_eq(files, count, "a temporary file is left");
	return files;
}

Test(keydir, no_file_replaces_another)
{
	static const struct { int no_random, renameat2_error, blind; unsigned files; } row[] = {
		{ 0, 0, 0, WRITERS },
		{ 1, 0, 1, WRITERS },		/* the rename refuses */
		{ 0, EINVAL, 1, WRITERS },	/* the names differ */
		{ 1, EINVAL, 0, WRITERS },	/* it is looked at before */
		{ 1, ENOSYS, 0, WRITERS },
		{ 1, EINVAL, 1, 1 },		/* the control */
	};
	for (unsigned i = 0; i < sizeof(row) / sizeof(*row); i++) {
		no_random = row[i].no_random;
		renameat2_error = row[i].renameat2_error;
		blind = row[i].blind;
		cr_expect_eq(files_left(), row[i].files, "row %u", i);
	}
}

Test(keydir, other_errors_are_told)
{
	struct lw_keydir_draft draft;

	renameat2_error = EIO;
	cr_assert_eq(lw_keydir_draft(dir, LW_KEYDIR_BASE, TIME, &draft), 0);
	cr_assert_eq(lw_keydir_finish(dir, &draft, 0), -EIO);
	cr_assert_eq(faccessat(dir, draft.name, F_OK, 0), -1);
}
