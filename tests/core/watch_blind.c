/* SPDX-License-Identifier: MIT */
/*
 * watch, the blind spots: what no backend is told of, each beside what it is told of when the same is done otherwise. Whoever relies on watching must ask for
 * these files and directories himself, or not have them.
 */
#include "watch_ops.h"
#include "watch_private.h"

#include <linux/aio_abi.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static char root[PATH_MAX];
static enum lw_watch_backend backend;

static void set_up(void)
{
	tree_create(root, sizeof root);
	TREE_CHECK(chdir(root) == 0);
}

static void tear_down(void)
{
	TREE_CHECK(chdir("/") == 0);
	tree_destroy(root);
}

TestSuite(watch_blind, .init = set_up, .fini = tear_down, .timeout = 60);

/* BODY, by each backend that there is here, in a directory of its own; "d" is made. */
static void with_each(void (*body)(lw_watch *watch))
{
	static const enum lw_watch_backend all[] = { LW_WATCH_FANOTIFY, LW_WATCH_INOTIFY };
	for (size_t i = 0; i < 2; i++) {
		lw_watch *watch;
		const char *path = watch_path("d"), *name = i ? "inotify" : "fanotify";
		TREE_CHECK(mkdir(name, 0755) == 0 && chdir(name) == 0 && mkdir("d", 0755) == 0);
		backend = all[i];
		if (lw_watch_create(backend, &path, 1, &watch, NULL) == 0) {
			body(watch);
			lw_watch_destroy(watch);
		}
		TREE_CHECK(chdir(root) == 0);
	}
}

static bool told(lw_watch *watch, const char *name)
{
	return watch_covers(watch_drain(watch), watch_path(name));
}

/* --- stores through a mapping --- */

static void store(lw_watch *watch)
{
	op_write("d/file", "0123456789");
	int fd = op_open("d/file", O_RDWR);
	char *map = mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TREE_CHECK(map != MAP_FAILED && watch_arm(watch, "d") == 0);
	memcpy(map, "new", 3);
	TREE_CHECK(msync(map, 10, MS_SYNC) == 0);
	cr_assert(!told(watch, "d/file"));
	TREE_CHECK(pwrite(fd, "new", 3, 0) == 3);
	cr_assert(told(watch, "d/file"));
	/* It is told of in the end: a file that was open for writing is closed. */
	memcpy(map, "xyz", 3);
	TREE_CHECK(munmap(map, 10) == 0 && close(fd) == 0);
	cr_assert(told(watch, "d/file"));
}

Test(watch_blind, stores_through_a_mapping)
{
	with_each(store);
}

/* --- libaio's way to write --- */

static void aio(lw_watch *watch)
{
	aio_context_t context = 0;
	struct io_event done;
	op_write("d/file", "0123456789");
	int fd = op_open("d/file", O_WRONLY);
	struct iocb block = { .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = (uint32_t)fd, .aio_buf = (uintptr_t)"new", .aio_nbytes = 3 }, *blocks[] = { &block };
	long made = syscall(SYS_io_setup, 1, &context);
	if (made) {
		close(fd);
		FORBID_NEEDS(false, "io_setup is not allowed here");
	}
	cr_assert_eq(watch_arm(watch, "d"), 0);
	TREE_CHECK(syscall(SYS_io_submit, context, 1, blocks) == 1 && syscall(SYS_io_getevents, context, 1, 1, &done, NULL) == 1 && done.res == 3);
	cr_assert(!told(watch, "d/file"));
	TREE_CHECK(write(fd, "new", 3) == 3);
	cr_assert(told(watch, "d/file"));
	syscall(SYS_io_destroy, context);
	close(fd);
}

Test(watch_blind, libaio)
{
	with_each(aio);
}

/* --- other names --- */

static void other_name(lw_watch *watch)
{
	TREE_CHECK(mkdir("other", 0755) == 0);
	op_write("d/file", "0123456789");
	TREE_CHECK(link("d/file", "other/name") == 0);
	op_write("other/target", "0123456789");
	TREE_CHECK(symlink("../other/target", "d/link") == 0);
	cr_assert_eq(watch_arm(watch, "d"), 0);
	op_write("other/name", "by another name");
	cr_assert(!told(watch, "d/file"));
	op_write("d/file", "by its name");
	cr_assert(told(watch, "d/file"));
	op_write("d/link", "through the link");
	cr_assert(!told(watch, "d/link"));
	TREE_CHECK(unlink("d/link") == 0);
	cr_assert(told(watch, "d/link"));
}

Test(watch_blind, other_names)
{
	with_each(other_name);
}

/* --- mounts --- */

/* In a mount namespace of its own. */
static void in_namespace(void (*body)(void))
{
	int status;
	fflush(NULL);
	pid_t pid = fork();
	TREE_CHECK(pid >= 0);
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
			_exit(77);
		body();
		_exit(0);
	}
	TREE_CHECK(waitpid(pid, &status, 0) == pid);
	FORBID_NEEDS(!(WIFEXITED(status) && WEXITSTATUS(status) == 77), "nothing can be mounted here");
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
}

static void mount_over(lw_watch *watch)
{
	op_write("d/file", "0123456789");
	TREE_CHECK(watch_arm(watch, "d") == 0);
	TREE_CHECK(mount("none", "d", "tmpfs", 0, NULL) == 0);
	TREE_CHECK(access("d/file", F_OK) != 0 && !told(watch, "d/file"));
	op_write("d/file", "elsewhere");
	TREE_CHECK(!told(watch, "d/file"));
	TREE_CHECK(umount("d") == 0);
	watch_drain(watch);
	op_write("d/file", "here");
	TREE_CHECK(told(watch, "d/file"));
}

static void mounts_over(void)
{
	with_each(mount_over);
}

Test(watch_blind, mount_over)
{
	in_namespace(mounts_over);
}

static void overlay(void)
{
	char options[4 * PATH_MAX], text[8] = "";
	TREE_CHECK(mkdir("o", 0755) == 0 && mount("none", "o", "tmpfs", 0, NULL) == 0 && chdir("o") == 0);
	make_new("lower", "upper", "work");
	make_new("merged", NULL, NULL);
	op_write("lower/file", "old");
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", watch_path("lower"), watch_path("upper"), watch_path("work"));
	if (mount("none", "merged", "overlay", 0, options))
		_exit(77);
	/* It is refused, so what is shown is the kernel's own. */
	lw_watch *watch = watch_create(LW_WATCH_INOTIFY);
	TREE_CHECK(watch_arm(watch, "merged") == -EOPNOTSUPP);
	lw_watch_destroy(watch);
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	TREE_CHECK(inotify_add_watch(fd, "merged", IN_ALL_EVENTS & ~(IN_OPEN | IN_ACCESS | IN_CLOSE)) > 0);
	op_write("lower/file", "new");
	op_fd = op_open("merged/file", O_RDONLY);
	TREE_CHECK(read(op_fd, text, 3) == 3 && strcmp(text, "new") == 0 && !watch_readable(fd));
	op_write("merged/file", "top");
	TREE_CHECK(watch_readable(fd));
	close(op_fd);
	close(fd);
	TREE_CHECK(umount("merged") == 0 && chdir("/") == 0);
}

Test(watch_blind, below_an_overlay)
{
	in_namespace(overlay);
}

/* --- behind FUSE's surface --- */

/* A file system whose truth is elsewhere: a "file", as large as this says. */
static _Atomic uint64_t *far_size;	/* relaxed: nothing else rests on it */

static struct fuse_attr far_attr(uint64_t node)
{
	bool top = node == FUSE_ROOT_ID;
	uint64_t size = atomic_load_explicit(far_size, memory_order_relaxed);
	return (struct fuse_attr){ .ino = node, .mode = top ? S_IFDIR | 0755 : S_IFREG | 0644, .nlink = 1, .size = top ? 0 : size };
}

static void far_answer(int fd, const struct fuse_in_header *in, int error, const void *data, size_t size)
{
	struct fuse_out_header out = { .len = (uint32_t)(sizeof out + size), .error = error, .unique = in->unique };
	struct iovec parts[] = { { &out, sizeof out }, { (void *)data, size } };
	TREE_CHECK(writev(fd, parts, 2) == (ssize_t)out.len || errno == ENOENT); /* nobody waits any longer */
}

static void far_serve_one(int fd, const struct fuse_in_header *in)
{
	const struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096 };
	const struct fuse_attr_out attr = { .attr = far_attr(in->nodeid) };
	const struct fuse_entry_out entry = { .nodeid = 2, .attr = far_attr(2) };
	const struct fuse_statfs_out statfs = { .st.namelen = 255 };
	switch (in->opcode) {
	case FUSE_INIT:
		return far_answer(fd, in, 0, &init, sizeof init);
	case FUSE_GETATTR: case FUSE_SETATTR:
		return far_answer(fd, in, 0, &attr, sizeof attr);
	case FUSE_LOOKUP:
		return strcmp((const char *)(in + 1), "file") ? far_answer(fd, in, -ENOENT, NULL, 0) : far_answer(fd, in, 0, &entry, sizeof entry);
	case FUSE_STATFS:
		return far_answer(fd, in, 0, &statfs, sizeof statfs);
	case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_INTERRUPT:
		return;
	default:
		return far_answer(fd, in, -ENOSYS, NULL, 0);
	}
}

/* Until it is unmounted. */
static pid_t far_serve(int fd)
{
	static _Alignas(8) char request[128 * 1024];
	pid_t pid = fork();
	TREE_CHECK(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (ssize_t got; (got = read(fd, request, sizeof request)) >= 0 || errno == EINTR || errno == ENOENT;)
		if (got >= (ssize_t)sizeof(struct fuse_in_header))
			far_serve_one(fd, (const struct fuse_in_header *)request);
	_exit(errno != ENODEV);
}

static void far_away(void)
{
	char options[100];
	struct stat st;
	int status, device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	TREE_CHECK(mkdir("f", 0755) == 0);
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u", device, (unsigned)geteuid(), (unsigned)getegid());
	if (device < 0 || mount("far", "f", "fuse", MS_NOSUID | MS_NODEV, options))
		_exit(77);
	far_size = mmap(NULL, sizeof *far_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TREE_CHECK(far_size != MAP_FAILED);
	pid_t server = far_serve(device);
	close(device);
	/* It is refused, so what is shown is the kernel's own. */
	lw_watch *watch = watch_create(LW_WATCH_INOTIFY);
	TREE_CHECK(watch_arm(watch, "f") == -EOPNOTSUPP);
	lw_watch_destroy(watch);
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	TREE_CHECK(inotify_add_watch(fd, "f", IN_ALL_EVENTS) > 0 && stat("f/file", &st) == 0 && st.st_size == 0);
	atomic_store_explicit(far_size, 7, memory_order_relaxed);
	TREE_CHECK(stat("f/file", &st) == 0 && st.st_size == 7 && !watch_readable(fd));
	TREE_CHECK(chmod("f/file", 0644) == 0 && watch_readable(fd));
	close(fd);
	TREE_CHECK(umount("f") == 0 && waitpid(server, &status, 0) == server && status == 0);
}

Test(watch_blind, behind_fuse)
{
	in_namespace(far_away);
}

/* --- what is not known to report everything --- */

Test(watch_blind, not_believed)
{
	static const uint32_t types[] = { FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, SMB2_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, V9FS_MAGIC, CEPH_SUPER_MAGIC, PROC_SUPER_MAGIC, 0 };
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		cr_assert(!lw_watch_reports(types[i]), "%zu", i);
	cr_assert(lw_watch_reports(EXT4_SUPER_MAGIC) && lw_watch_reports(TMPFS_MAGIC));
}
