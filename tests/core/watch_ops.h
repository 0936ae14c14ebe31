/* SPDX-License-Identifier: MIT */
/*
 * watch_ops: what can happen to directories and to the way to them, for the tests of every backend.
 *
 * Each operation prepares, is armed (the directory "d" of the working directory, or what it names), acts by one system call at a time, and says what must be covered by
 * what is reported at once.
 */
#ifndef LW_TEST_WATCH_OPS_H
#define LW_TEST_WATCH_OPS_H

#include "forbid.h"
#include "tree.h"
#include "watch.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#ifdef LW_TEST_URING
#include <liburing.h>
#endif

#define WATCH_OK(call) TREE_CHECK((call) >= 0)

/* --- what is reported --- */

enum { WATCH_KEPT = 4096 };
struct watch_seen {
	unsigned count, all;
	struct {
		enum lw_watch_kind kind;
		char path[512], name[256];
	} event[WATCH_KEPT];
};

static inline void watch_see(void *arg, const struct lw_watch_event *event)
{
	struct watch_seen *seen = arg;
	seen->all += event->kind == LW_WATCH_ALL;
	if (seen->count == WATCH_KEPT)
		return;
	seen->event[seen->count].kind = event->kind;
	snprintf(seen->event[seen->count].path, sizeof seen->event->path, "%.*s", (int)event->len, event->path);
	snprintf(seen->event[seen->count++].name, sizeof seen->event->name, "%.*s", (int)event->name_len, event->name);
}

/* Whether PATH is DIR or below it. */
static inline bool watch_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);
	return strncmp(path, dir, len) == 0 && (!path[len] || path[len] == '/');
}

/* Whether somebody who looks again at what was reported looks at PATH. */
static inline bool watch_covers(const struct watch_seen *seen, const char *path)
{
	for (unsigned i = 0; i < seen->count; i++) {
		char whole[800];
		snprintf(whole, sizeof whole, "%s%s%s", seen->event[i].path, *seen->event[i].name ? "/" : "", seen->event[i].name);
		if (seen->event[i].kind == LW_WATCH_FILE ? strcmp(path, whole) == 0 : watch_below(path, whole))
			return true;
	}
	return seen->all;
}

static inline bool watch_readable(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	return poll(&poll_fd, 1, 0) == 1;
}

static inline const struct watch_seen *watch_drain(lw_watch *watch)
{
	static struct watch_seen seen;
	seen.count = seen.all = 0;
	TREE_CHECK(lw_watch_drain(watch, 0, watch_see, &seen) >= 0);
	return &seen;
}

/* Nothing is to be told. Events that are nobody's business, of directories above, do not count: others come and go there. */
static inline bool watch_tells_nothing(lw_watch *watch)
{
	const struct watch_seen *seen = watch_drain(watch);
	return !seen->count && !seen->all;
}

static inline void watch_print(const struct watch_seen *seen)
{
	static const char *const kinds[] = { "names", "file", "subtree", "all" };
	for (unsigned i = 0; i < seen->count; i++)
		fprintf(stderr, "  %s %s '%s'\n", kinds[seen->event[i].kind], seen->event[i].path, seen->event[i].name);
}

static inline lw_watch *watch_create(enum lw_watch_backend backend)
{
	lw_watch *watch;
	char why[LW_WATCH_WHY], here[PATH_MAX];
	const char *path = getcwd(here, sizeof here);
	int error = lw_watch_create(backend, &path, 1, &watch, why);
	TREE_CHECK(error == 0 || !fprintf(stderr, "%s\n", why));
	return watch;
}

/* NAME in the working directory, as an absolute path. */
static inline const char *watch_path(const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned next;
	char *out = path[next++ % 4], here[PATH_MAX];
	TREE_CHECK(getcwd(here, sizeof here) && snprintf(out, PATH_MAX, "%s/%s", here, name) < PATH_MAX);
	return out;
}

static inline int watch_arm(lw_watch *watch, const char *name)
{
	const char *path = watch_path(name);
	return lw_watch_arm(watch, path, strlen(path));
}

static inline void watch_remove(const char *name)
{
	tree_destroy(watch_path(name));
}

/* --- in a directory --- */

static int op_fd, op_other;

static inline void op_write(const char *name, const char *text)
{
	tree_write(AT_FDCWD, name, text);
}

static inline int op_open(const char *name, int flags)
{
	int fd = open(name, flags | O_CLOEXEC, 0644);
	TREE_CHECK(fd >= 0);
	return fd;
}

static inline void op_close_both(void)
{
	close(op_fd);
	close(op_other);
	op_fd = op_other = -1;
}

/* Before each: an empty "d/sub", files "d/file" and "d/second", link "d/link" to file, "outside", "tree/a/b/file". */
static inline void op_prepare(void)
{
	op_fd = op_other = -1;
	WATCH_OK(mkdir("d", 0755));
	WATCH_OK(mkdir("d/sub", 0755));
	op_write("d/file", "0123456789");
	op_write("d/second", "second");
	op_write("outside", "outside");
	WATCH_OK(symlink("file", "d/link"));
	WATCH_OK(mkdir("tree", 0755));
	WATCH_OK(mkdir("tree/a", 0755));
	WATCH_OK(mkdir("tree/a/b", 0755));
	op_write("tree/a/b/file", "deep");
}

static inline void prepare_write(void) { op_fd = op_open("d/file", O_WRONLY); }
static inline void prepare_append(void) { op_fd = op_open("d/file", O_WRONLY | O_APPEND); }
static inline void prepare_copy(void) { op_fd = op_open("d/file", O_WRONLY); op_other = op_open("outside", O_RDONLY); }
static inline void prepare_splice(void)
{
	int ends[2];
	WATCH_OK(pipe2(ends, O_CLOEXEC));
	WATCH_OK(write(ends[1], "piped", 5));
	close(ends[1]);
	op_fd = op_open("d/file", O_WRONLY);
	op_other = ends[0];
}
static inline void prepare_close(void) { op_fd = op_open("d/file", O_WRONLY); WATCH_OK(write(op_fd, "x", 1)); }
static inline void prepare_tmpfile(void) { op_fd = open("d", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644); }
static inline void prepare_swap_file(void) { op_write("d/.file.swp", "new text"); }
static inline void prepare_held(void) { op_fd = op_open("d/sub", O_RDONLY | O_DIRECTORY); }
static inline void prepare_sub(void) { WATCH_OK(mkdir("d/another", 0755)); op_write("d/another/x", "x"); }

static inline int act_creat(void) { return op_fd = open("d/new", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644); }
static inline int act_write(void) { return (int)write(op_fd, "new", 3); }
static inline int act_pwrite(void) { return (int)pwrite(op_fd, "new", 3, 4); }
static inline int act_writev(void) { struct iovec part = { (void *)"new", 3 }; return (int)pwritev2(op_fd, &part, 1, 0, 0); }
static inline int act_copy_range(void) { return (int)copy_file_range(op_other, NULL, op_fd, NULL, 7, 0); }
static inline int act_sendfile(void) { return (int)sendfile(op_fd, op_other, NULL, 7); }
static inline int act_splice(void) { return (int)splice(op_other, NULL, op_fd, NULL, 5, 0); }
static inline int act_close(void) { int fd = op_fd; op_fd = -1; return close(fd); }
static inline int act_open_trunc(void) { return op_fd = open("d/file", O_WRONLY | O_TRUNC | O_CLOEXEC); }
static inline int act_truncate(void) { return truncate("d/file", 3); }
static inline int act_ftruncate(void) { return ftruncate(op_fd, 3); }
static inline int act_fallocate(void) { return fallocate(op_fd, 0, 0, 100); }
static inline int act_rename_over(void) { return rename("d/second", "d/file"); }
static inline int act_save(void) { return rename("d/.file.swp", "d/file"); }
static inline int act_rename_in(void) { return rename("outside", "d/file"); }
static inline int act_rename_out(void) { return rename("d/file", "taken"); }
static inline int act_exchange(void) { return renameat2(AT_FDCWD, "d/file", AT_FDCWD, "d/second", RENAME_EXCHANGE); }
static inline int act_exchange_out(void) { return renameat2(AT_FDCWD, "outside", AT_FDCWD, "d/file", RENAME_EXCHANGE); }
static inline int act_exchange_kinds(void) { return renameat2(AT_FDCWD, "d/file", AT_FDCWD, "d/sub", RENAME_EXCHANGE); }
static inline int act_link(void) { return link("outside", "d/new"); }
static inline int act_link_tmpfile(void)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", op_fd);
	return linkat(AT_FDCWD, path, AT_FDCWD, "d/new", AT_SYMLINK_FOLLOW);
}
static inline int act_symlink(void) { return symlink("second", "d/new"); }
static inline int act_mknod(void) { return mkfifo("d/new", 0644); }
static inline int act_unlink(void) { return unlink("d/file"); }
static inline int act_unlink_link(void) { return unlink("d/link"); }
static inline int act_mkdir(void) { return mkdir("d/new", 0755); }
static inline int act_rmdir(void) { return rmdir("d/sub"); }
static inline int act_dir_in(void) { return rename("tree/a", "d/new"); }
static inline int act_dir_out(void) { return rename("d/sub", "taken"); }
static inline int act_dir_rename(void) { return rename("d/sub", "d/new"); }
static inline int act_dir_over(void) { return rename("d/another", "d/sub"); }
static inline int act_dir_exchange(void) { return renameat2(AT_FDCWD, "d/another", AT_FDCWD, "d/sub", RENAME_EXCHANGE); }
static inline int act_chmod(void) { return chmod("d/file", 0600); }
static inline int act_chown(void) { return chown("d/file", (uid_t)-1, getegid()); }
static inline int act_chmod_dir(void) { return chmod("d", 0700); }
static inline int act_chmod_sub(void) { return chmod("d/sub", 0700); }
static inline int act_utimes(void) { struct timespec t[2] = { { 1, 0 }, { 1, 0 } }; return utimensat(AT_FDCWD, "d/file", t, 0); }
static inline int act_xattr(void) { return setxattr("d/file", "user.ladewerk", "x", 1, 0); }

#ifdef LW_TEST_URING
/* One request, waited for. */
static inline int op_uring(void (*prepare)(struct io_uring_sqe *sqe))
{
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	TREE_CHECK(io_uring_queue_init(4, &ring, 0) == 0);
	prepare(io_uring_get_sqe(&ring));
	TREE_CHECK(io_uring_submit(&ring) == 1 && io_uring_wait_cqe(&ring, &cqe) == 0);
	int result = cqe->res;
	io_uring_queue_exit(&ring);
	return result;
}
static inline void uring_write(struct io_uring_sqe *sqe) { io_uring_prep_write(sqe, op_fd, "new", 3, 0); }
static inline void uring_unlink(struct io_uring_sqe *sqe) { io_uring_prep_unlinkat(sqe, AT_FDCWD, "d/file", 0); }
static inline void uring_rename(struct io_uring_sqe *sqe) { io_uring_prep_renameat(sqe, AT_FDCWD, "d/second", AT_FDCWD, "d/file", 0); }
static inline void uring_mkdir(struct io_uring_sqe *sqe) { io_uring_prep_mkdirat(sqe, AT_FDCWD, "d/new", 0755); }
static inline int act_uring_write(void) { return op_uring(uring_write); }
static inline int act_uring_unlink(void) { return op_uring(uring_unlink); }
static inline int act_uring_rename(void) { return op_uring(uring_rename); }
static inline int act_uring_mkdir(void) { return op_uring(uring_mkdir); }
#endif

static const struct watch_op {
	const char *name;
	void (*prepare)(void);
	int (*act)(void);		/* one system call; negative: not on this file system */
	const char *changed, *also;
	bool ring;
} watch_ops[] = {
	{ "creat", NULL, act_creat, "d/new", NULL, false },
	{ "write", prepare_write, act_write, "d/file", NULL, false },
	{ "append", prepare_append, act_write, "d/file", NULL, false },
	{ "pwrite", prepare_write, act_pwrite, "d/file", NULL, false },
	{ "pwritev2", prepare_write, act_writev, "d/file", NULL, false },
	{ "copy_file_range", prepare_copy, act_copy_range, "d/file", NULL, false },
	{ "sendfile", prepare_copy, act_sendfile, "d/file", NULL, false },
	{ "splice", prepare_splice, act_splice, "d/file", NULL, false },
	{ "close of what was written", prepare_close, act_close, "d/file", NULL, false },
	{ "open O_TRUNC", NULL, act_open_trunc, "d/file", NULL, false },
	{ "truncate", NULL, act_truncate, "d/file", NULL, false },
	{ "ftruncate", prepare_write, act_ftruncate, "d/file", NULL, false },
	{ "fallocate", prepare_write, act_fallocate, "d/file", NULL, false },
	{ "rename over", NULL, act_rename_over, "d/file", "d/second", false },
	{ "atomic save", prepare_swap_file, act_save, "d/file", "d/.file.swp", false },
	{ "rename in", NULL, act_rename_in, "d/file", NULL, false },
	{ "rename out", NULL, act_rename_out, "d/file", NULL, false },
	{ "exchange", NULL, act_exchange, "d/file", "d/second", false },
	{ "exchange with outside", NULL, act_exchange_out, "d/file", NULL, false },
	{ "exchange file and directory", NULL, act_exchange_kinds, "d/file", "d/sub/x", false },
	{ "link", NULL, act_link, "d/new", NULL, false },
	{ "link of an unnamed file", prepare_tmpfile, act_link_tmpfile, "d/new", NULL, false },
	{ "symlink", NULL, act_symlink, "d/new", NULL, false },
	{ "mknod", NULL, act_mknod, "d/new", NULL, false },
	{ "unlink", NULL, act_unlink, "d/file", NULL, false },
	{ "unlink of a link", NULL, act_unlink_link, "d/link", NULL, false },
	{ "mkdir", NULL, act_mkdir, "d/new", "d/new/x", false },
	{ "rmdir", NULL, act_rmdir, "d/sub", "d/sub/x", false },
	{ "rmdir of what is open", prepare_held, act_rmdir, "d/sub", "d/sub/x", false },
	{ "directory moved in", NULL, act_dir_in, "d/new", "d/new/b/file", false },
	{ "directory moved out", NULL, act_dir_out, "d/sub", "d/sub/x", false },
	{ "directory renamed", NULL, act_dir_rename, "d/sub/x", "d/new/x", false },
	{ "directory renamed over", prepare_sub, act_dir_over, "d/sub/x", "d/another/x", false },
	{ "directories exchanged", prepare_sub, act_dir_exchange, "d/sub/x", "d/another/x", false },
	{ "chmod", NULL, act_chmod, "d/file", NULL, false },
	{ "chown", NULL, act_chown, "d/file", NULL, false },
	{ "chmod of the directory", NULL, act_chmod_dir, "d", NULL, false },
	{ "chmod of a directory in it", NULL, act_chmod_sub, "d/sub", NULL, false },
	{ "utimes", NULL, act_utimes, "d/file", NULL, false },
	{ "setxattr", NULL, act_xattr, "d/file", NULL, false },
#ifdef LW_TEST_URING
	{ "io_uring write", prepare_write, act_uring_write, "d/file", NULL, true },
	{ "io_uring unlink", NULL, act_uring_unlink, "d/file", NULL, true },
	{ "io_uring rename", NULL, act_uring_rename, "d/file", "d/second", true },
	{ "io_uring mkdir", NULL, act_uring_mkdir, "d/new", NULL, true },
#endif
};
enum { WATCH_OPS = sizeof watch_ops / sizeof *watch_ops };

/* Others come and go in directories above: their events are not ours to judge. */
static inline bool watch_is_quiet(lw_watch *watch)
{
	for (unsigned i = 0; i < 100; i++) {
		if (!watch_readable(lw_watch_fd(watch)))
			return true;
		watch_drain(watch);
	}
	return false;
}

/* One operation on an empty working directory, with "d" armed, and "d/sub" if BOTH. */
static inline void watch_check_op(enum lw_watch_backend backend, const struct watch_op *op, bool both)
{
	op_prepare();
	if (op->prepare)
		op->prepare();
	lw_watch *watch = watch_create(backend);
	cr_assert_eq(watch_arm(watch, "d"), 0);
	cr_assert(!both || watch_arm(watch, "d/sub") == 0);
	cr_assert(watch_is_quiet(watch), "%s: readable before", op->name);
	if (op->act() < 0) {
		TREE_CHECK(errno == EOPNOTSUPP || errno == EINVAL);
	} else {
		cr_assert(watch_readable(lw_watch_fd(watch)), "%s: not readable", op->name);
		const struct watch_seen *seen = watch_drain(watch);
		cr_assert(watch_covers(seen, watch_path(op->changed)), "%s: %s is not covered", op->name, op->changed);
		cr_assert(!op->also || watch_covers(seen, watch_path(op->also)), "%s: %s is not covered", op->name, op->also);
		cr_assert(!watch_covers(seen, watch_path(strcmp(op->changed, "d") ? "d/untouched" : "untouched")), "%s: more than that", op->name);
		cr_assert(watch_is_quiet(watch), "%s: readable afterwards", op->name);
	}
	lw_watch_destroy(watch);
	op_close_both();
}

/* --- on the way --- */

/* Whatever PREPARE makes, FIRST and THEN turn; NULL: nothing. PATH is armed, and must be covered after each. */
static const char *turn_held;

static inline void make_way(void)
{
	WATCH_OK(mkdir("top", 0755));
	WATCH_OK(mkdir("top/way", 0755));
	WATCH_OK(mkdir("top/way/d", 0755));
	op_write("top/way/d/old", "");
	op_fd = turn_held ? op_open(turn_held, O_PATH | O_NOFOLLOW) : -1;
}

static inline void make_new(const char *first, const char *second, const char *third)
{
	WATCH_OK(mkdir(first, 0755));
	WATCH_OK(second ? mkdir(second, 0755) : 0);
	WATCH_OK(third ? mkdir(third, 0755) : 0);
}

/* release -> rel/2 by an absolute link; "rel/1" and "rel/2" hold "d". */
static inline void make_links(void)
{
	make_new("rel", "rel/1", "rel/1/d");
	make_new("rel/2", "rel/2/d", "elsewhere");
	make_new("top", "top/in", "top/in/here");
	WATCH_OK(symlink("rel/1", "current"));			/* relative */
	WATCH_OK(symlink(watch_path("current"), "absolute"));	/* a chain */
	WATCH_OK(symlink("../../rel/../rel/1", "top/in/dots"));	/* up and down */
	WATCH_OK(symlink("top/in", "shortcut"));		/* "..", physically */
	WATCH_OK(symlink("//rel///1/", "odd") == 0 ? unlink("odd") : -1);
	WATCH_OK(symlink("./rel//1/.", "odd"));
	op_fd = turn_held ? op_open(turn_held, O_PATH | O_NOFOLLOW) : -1;
}

static inline int turn_parent(void) { return rename("top/way", "top/old"); }
static inline int turn_top(void) { return rename("top", "old"); }
static inline int turn_top_exchange(void) { make_new("x", "x/way", "x/way/d"); return renameat2(AT_FDCWD, "x", AT_FDCWD, "top", RENAME_EXCHANGE); }
static inline int turn_itself(void) { return rename("top/way/d", "taken"); }
static inline int turn_itself_over(void) { WATCH_OK(mkdir("empty", 0755)); WATCH_OK(unlink("top/way/d/old")); return rename("empty", "top/way/d"); }
static inline int turn_itself_exchange(void) { WATCH_OK(mkdir("x", 0755)); return renameat2(AT_FDCWD, "x", AT_FDCWD, "top/way/d", RENAME_EXCHANGE); }
static inline int turn_rmdir(void) { WATCH_OK(unlink("top/way/d/old")); return rmdir("top/way/d"); }
static inline int turn_flip(void) { WATCH_OK(symlink("rel/2", "new")); return rename("new", "current"); }
static inline int turn_unlink(void) { return unlink("current"); }
static inline int turn_move_link(void) { return rename("current", "taken"); }
static inline int turn_exchange_link(void) { return renameat2(AT_FDCWD, "current", AT_FDCWD, "elsewhere", RENAME_EXCHANGE); }
static inline int turn_target(void) { return rename("rel/1", "rel/old"); }
static inline int turn_rel(void) { return rename("rel", "old"); }
static inline int turn_first_of_chain(void) { WATCH_OK(symlink("rel/2", "new")); return rename("new", "absolute"); }
static inline int turn_up(void) { return rename("top/in", "elsewhere/in"); }
static inline int turn_shortcut(void) { WATCH_OK(symlink("elsewhere", "new")); return rename("new", "shortcut"); }

static const struct watch_turn {
	const char *name;
	void (*prepare)(void);
	const char *held;	/* open meanwhile */
	const char *path;
	int (*act)(void);
} watch_turns[] = {
	{ "ancestor renamed", make_way, NULL, "top/way/d", turn_parent },
	{ "its ancestor renamed", make_way, NULL, "top/way/d", turn_top },
	{ "ancestor exchanged", make_way, NULL, "top/way/d", turn_top_exchange },
	{ "itself moved", make_way, NULL, "top/way/d", turn_itself },
	{ "itself replaced", make_way, NULL, "top/way/d", turn_itself_over },
	{ "itself replaced while open", make_way, "top/way/d", "top/way/d", turn_itself_over },
	{ "itself exchanged", make_way, NULL, "top/way/d", turn_itself_exchange },
	{ "itself removed", make_way, NULL, "top/way/d", turn_rmdir },
	{ "itself removed while open", make_way, "top/way/d", "top/way/d", turn_rmdir },
	{ "link flipped", make_links, NULL, "current/d", turn_flip },
	{ "link flipped while open", make_links, "current", "current/d", turn_flip },
	{ "link flipped, itself armed", make_links, NULL, "current", turn_flip },
	{ "link unlinked", make_links, NULL, "current/d", turn_unlink },
	{ "link unlinked while open", make_links, "current", "current/d", turn_unlink },
	{ "link moved", make_links, NULL, "current/d", turn_move_link },
	{ "link exchanged", make_links, NULL, "current/d", turn_exchange_link },
	{ "target moved", make_links, NULL, "current/d", turn_target },
	{ "target moved, link armed", make_links, NULL, "current", turn_target },
	{ "target's ancestor moved", make_links, NULL, "current/d", turn_rel },
	{ "second link of a chain flipped", make_links, NULL, "absolute/d", turn_flip },
	{ "first link of a chain flipped", make_links, NULL, "absolute/d", turn_first_of_chain },
	{ "target of a chain moved", make_links, NULL, "absolute/d", turn_target },
	{ "target of a link with dots moved", make_links, NULL, "top/in/dots/d", turn_target },
	{ "what dots go through moved", make_links, NULL, "top/in/dots/d", turn_up },
	{ "dots behind a link, link flipped", make_links, NULL, "shortcut/dots/d", turn_shortcut },
	{ "dots behind a link, target moved", make_links, NULL, "shortcut/dots/d", turn_target },
	{ "dots behind a link, its target moved", make_links, NULL, "shortcut/dots", turn_up },
	{ "odd link, target moved", make_links, NULL, "odd/d", turn_target },
};
enum { WATCH_TURNS = sizeof watch_turns / sizeof *watch_turns };

static inline void watch_check_turn(enum lw_watch_backend backend, const struct watch_turn *turn)
{
	char path[PATH_MAX];
	turn_held = turn->held;
	turn->prepare();
	strcpy(path, watch_path(turn->path));
	lw_watch *watch = watch_create(backend);
	cr_assert_eq(lw_watch_arm(watch, path, strlen(path)), 0, "%s", turn->name);
	cr_assert_eq(lw_watch_arm(watch, path, strlen(path)), 0, "%s", turn->name);
	TREE_CHECK(turn->act() == 0);
	cr_assert(watch_readable(lw_watch_fd(watch)), "%s: not readable", turn->name);
	const struct watch_seen *seen = watch_drain(watch);
	cr_assert(watch_covers(seen, path), "%s: not covered", turn->name);
	lw_watch_destroy(watch);
	if (op_fd >= 0)
		close(op_fd);
}

#endif
