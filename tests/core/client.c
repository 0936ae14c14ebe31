/* SPDX-License-Identifier: MIT */
/*
 * client: what becomes of what a daemon sends, or something in a daemon's place. How it stays fresh is in tests/race/freshness.c.
 */
#include "client.h"
#include "attach.h"
#include "build.h"
#include "forbid.h"
#include "journal.h"
#include "tree.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>

static char root[PATH_MAX];
static int dir, listener, base;
static struct sockaddr_un address;
static struct lw_suffixes suffixes;
static lw_watch *watch;
static lw_journal *journal;
static lw_fresh *client;

/* All that there is in ROOT. */
static int write_snapshot(int seals)
{
	struct lw_listing *listing;
	struct lw_stat st;
	int fd = memfd_create("snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	lw_build *build = lw_build_create();
	TREE_CHECK(fd >= 0 && build && lw_listing_read(root, &suffixes, &listing, &st) == 0);
	TREE_CHECK(lw_build_dir(build, root, strlen(root), lw_stamp(&st), LW_DIR_PUBLIC, listing) == 0);
	lw_listing_destroy(listing);
	TREE_CHECK(lw_build_write(build, fd, lw_attach_key(&suffixes), geteuid(), 1) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0);
	lw_build_destroy(build);
	return fd;
}

static void set_up(void)
{
	static const char *const extensions[] = { ".so" };
	tree_create(root, sizeof root);
	dir = tree_open(AT_FDCWD, root);
	tree_write(dir, "name.py", "");
	TREE_CHECK(lw_suffixes_init(&suffixes, extensions, 1) == 0);
	TREE_CHECK(lw_watch_create(LW_WATCH_INOTIFY, NULL, 0, &watch, NULL) == 0 && lw_watch_arm(watch, root, strlen(root)) == 0);
	TREE_CHECK(lw_journal_create(0, &journal) == 0);
	base = write_snapshot(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	TREE_CHECK(snprintf(address.sun_path, sizeof address.sun_path, "%s.socket", root) < (int)sizeof address.sun_path);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	TREE_CHECK(bind(listener, (const struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 4) == 0);
	TREE_CHECK((client = lw_client_create(&suffixes, &address)));
}

static void tear_down(void)
{
	lw_fresh_destroy(client);
	lw_journal_destroy(journal);
	lw_watch_destroy(watch);
	close(base);
	close(listener);
	close(dir);
	unlink(address.sun_path);
	tree_destroy(root);
}

TestSuite(client, .init = set_up, .fini = tear_down);

static void ignore(void *arg, const struct lw_change *change)
{
}

/* Whoever has asked. */
static int hear(void)
{
	struct lw_attach_hello hello;
	cr_assert(lw_client_attach(client), "somebody is there");
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	TREE_CHECK(fd >= 0 && recv(fd, &hello, sizeof hello, 0) == sizeof hello);
	return fd;
}

static void send_with(int to, const void *data, size_t size, const int *fds, unsigned count)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(LW_ATTACH_FDS * sizeof(int))] = { 0 };
	struct iovec part = { .iov_base = (void *)data, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int)) };
	memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	TREE_CHECK(sendmsg(to, &message, MSG_NOSIGNAL) == (ssize_t)size);
}

static void send_snapshot(int to, int snapshot)
{
	const int fds[] = { lw_watch_fd(watch), lw_journal_fd(journal), snapshot };
	struct {
		struct lw_attach_reply reply;
		char roots[sizeof(struct lw_attach_root) + PATH_MAX];
	} message = { .reply = { .version = LW_ATTACH_VERSION, .position = lw_journal_position(journal), .roots = 1 } };
	struct lw_attach_root at = { .len = (uint32_t)strlen(root) };
	memcpy(message.reply.magic, LW_ATTACH_MAGIC, sizeof message.reply.magic);
	TREE_CHECK(lw_attach_here(&message.reply.mounts, &message.reply.top) == 0 && lw_attach_identify(root, &at.id) == 0);
	memcpy((char *)(&message.reply + 1), &at, sizeof at);
	memcpy((char *)(&message.reply + 1) + sizeof at, root, at.len);
	message.reply.bytes = (uint32_t)(sizeof message.reply + sizeof at + at.len);
	send_with(to, &message, message.reply.bytes, fds, 3);
}

static bool knows(const char *path)
{
	struct lw_index_dir found;
	return lw_fresh_dir(client, path, strlen(path), &found);
}

static void tell(void *arg, const struct lw_watch_event *event)
{
	lw_journal_add(journal, &(struct lw_change){ .kind = LW_CHANGE_PATH, .hash = lw_hash64(event->path, event->len) });
	lw_journal_add(journal, &(struct lw_change){ .kind = LW_CHANGE_PATH, .hash = lw_hash64_below(event->path, event->len, event->name, event->name_len) });
}

static void be_at_work(void)
{
	lw_journal_begin(journal);
	TREE_CHECK(lw_watch_drain(watch, 0, tell, NULL) >= 0);
	lw_journal_end(journal);
}

/* Others may remove something on the way at any moment. */
static bool holds(void)
{
	for (unsigned i = 0; i < 1000; i++) {
		be_at_work();
		if (lw_fresh_check(client, ignore, NULL))
			return true;
	}
	return false;
}

static enum lw_armed arm(const char *name)
{
	char path[PATH_MAX + 32];
	return lw_fresh_arm(client, path, (size_t)sprintf(path, "%s/%s", root, name));
}

Test(client, takes_what_a_daemon_sends)
{
	int to = hear();
	cr_expect_not(lw_fresh_check(client, ignore, NULL), "it has not answered yet");
	send_snapshot(to, base);
	cr_expect(holds());
	cr_expect(knows(root));
	cr_expect_eq(arm("name"), LW_ARMED_ABOVE);
	cr_expect_eq(arm("unknown"), LW_ARMED_NOT);
	close(to);
}

/* What is no directory by the names of then may be a link by now, and come to life from elsewhere. */
Test(client, does_not_vouch_for_names_that_have_changed)
{
	int to = hear();
	send_snapshot(to, base);
	cr_assert(holds());
	cr_assert_eq(arm("name"), LW_ARMED_ABOVE);
	TREE_CHECK(symlinkat("nowhere/yet", dir, "name") == 0);
	cr_expect_not(lw_fresh_check(client, ignore, NULL), "the daemon has not seen it");
	cr_expect(holds());
	cr_expect_not(knows(root));
	cr_expect_eq(arm("name"), LW_ARMED_NOT);
	close(to);
}

static unsigned count_fds(void)
{
	unsigned count = 0;
	for (int fd = 0; fd < 1000; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

Test(client, keeps_no_descriptors_of_an_answer_that_is_none)
{
	unsigned before = count_fds();
	const int fds[] = { base, base, base, base };
	static const char text[] = "no reply at all";
	for (unsigned i = 0; i < 2; i++) {
		int to = hear();
		send_with(to, text, i ? sizeof text : 0, fds, 4);
		cr_expect_not(lw_fresh_check(client, ignore, NULL));
		close(to);
		cr_expect_eq(count_fds(), before, "%u", i);
		usleep(LW_CLIENT_RETRY_NS / 1000);
	}
}

/* The first change of the mount table, which it has not read by then, means that all may be another; after that it is told apart where. */
Test(client, sees_what_is_mounted)
{
	char elsewhere[PATH_MAX + 16];
	FORBID_NEEDS(unshare(CLONE_NEWNS) == 0, "no mount namespace of one's own (CAP_SYS_ADMIN)");
	TREE_CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	snprintf(elsewhere, sizeof elsewhere, "%s.elsewhere", root);
	tree_mkdir(AT_FDCWD, elsewhere);
	for (unsigned i = 0; i < 2; i++) {
		int to = hear();
		send_snapshot(to, base);
		cr_assert(holds() && knows(root));
		TREE_CHECK(mount("none", elsewhere, "tmpfs", 0, NULL) == 0);
		cr_expect_eq(holds() && knows(root), i, "%u", i);
		if (i) {
			TREE_CHECK(mount("none", root, "tmpfs", 0, NULL) == 0);
			holds();
			cr_expect_not(knows(root));
			TREE_CHECK(umount(root) == 0);
		}
		TREE_CHECK(umount(elsewhere) == 0);
		close(to);
		usleep(LW_CLIENT_RETRY_NS / 1000);
	}
	rmdir(elsewhere);
}

/* Whoever could shorten it could kill us. */
Test(client, wants_its_snapshot_sealed)
{
	int to = hear(), open_to_all = write_snapshot(0);
	send_snapshot(to, open_to_all);
	cr_expect_not(holds());
	cr_expect_not(knows(root));
	close(open_to_all);
	close(to);
}
