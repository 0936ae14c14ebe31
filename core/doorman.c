/* SPDX-License-Identifier: MIT */
/* daemon: who may become a client, and what a client gets (attach.h). */
#include "daemon_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_our_user(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof peer;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

int lw_doorman_spare(void)
{
	return open("/", O_PATH | O_CLOEXEC);
}

/* Whoever is left standing keeps us awake. */
static bool turn_away(lw_daemon *daemon)
{
	if (daemon->spare >= 0)
		close(daemon->spare);
	int fd = accept4(daemon->config.listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	daemon->spare = lw_doorman_spare();
	daemon->turned_away += fd >= 0;
	return fd >= 0;
}

static bool is_short(int error)
{
	return error == EMFILE || error == ENFILE;
}

int lw_doorman_admit(lw_daemon *daemon)
{
	for (;;) {
		int fd = accept4(daemon->config.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && is_short(errno) && (lw_doorman_sweep(daemon) || turn_away(daemon)))
			continue;
		if (fd < 0) {
			/* Nobody more; or we are short of something, which would wake us again and again. */
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
				lw_daemon_set_deaf(daemon, true);
			return 0;
		}
		struct client *client = is_our_user(fd) ? calloc(1, sizeof *client) : NULL;
		if (!client) {
			close(fd);
			continue;
		}
		*client = (struct client){ .next = daemon->clients, .fd = fd };
		daemon->clients = client;
		if (lw_daemon_add_client(daemon, client))
			lw_doorman_dismiss(daemon, client);
	}
}

void lw_doorman_dismiss(lw_daemon *daemon, struct client *client)
{
	struct client **at = &daemon->clients;
	while (*at != client)
		at = &(*at)->next;
	*at = client->next;
	/* Closing does not do: threads that fold have copies of all descriptors, for a while. */
	epoll_ctl(client->attached ? daemon->attached_epoll : daemon->epoll, EPOLL_CTL_DEL, client->fd, NULL);
	close(client->fd);
	free(client);
}

bool lw_doorman_sweep(lw_daemon *daemon)
{
	enum { MOST = 64 };
	struct epoll_event event[MOST];
	bool any = false;
	for (int count = MOST; count == MOST;) {
		count = epoll_wait(daemon->attached_epoll, event, MOST, 0);
		for (int i = 0; i < count; i++)
			lw_doorman_dismiss(daemon, event[i].data.ptr);
		any |= count > 0;
	}
	return any;
}

static bool is_same(const struct lw_attach_id *a, const struct lw_attach_id *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

static bool looks_after_any(const lw_daemon *daemon)
{
	for (unsigned i = 0; i < daemon->config.count; i++)
		if (!daemon->root[i].error)
			return true;
	return false;
}

/* errno: why there is nothing for this client. */
static uint32_t refuse(const lw_daemon *daemon, const struct lw_attach_hello *hello)
{
	if (hello->version != LW_ATTACH_VERSION)
		return EPROTO;
	if (hello->key.hi != daemon->key.hi || hello->key.lo != daemon->key.lo)
		return EINVAL;
	if (!is_same(&hello->mounts, &daemon->mount_ns) || !is_same(&hello->top, &daemon->top))
		return EXDEV;
	if (lw_watch_fd(daemon->watch) < 0)
		return EOPNOTSUPP;
	if (!daemon->serves || lw_keeper_is_void(daemon->keeper))
		return EAGAIN;
	return looks_after_any(daemon) ? 0 : ENOENT;
}

/* The roots that are looked after, at OUT; bytes. */
static size_t write_roots(const lw_daemon *daemon, char *out, size_t size, uint32_t *count)
{
	size_t used = 0;
	*count = 0;
	for (unsigned i = 0; i < daemon->config.count; i++) {
		struct lw_attach_root root = { .id = daemon->root[i].id, .len = (uint32_t)strlen(daemon->config.roots[i]) };
		if (daemon->root[i].error || size - used < sizeof root + root.len)
			continue;
		memcpy(out + used, &root, sizeof root);
		memcpy(out + used + sizeof root, daemon->config.roots[i], root.len);
		used += sizeof root + root.len;
		++*count;
	}
	return used;
}

static bool send_all(int to, const void *data, size_t size, const int *fds, unsigned count)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(LW_ATTACH_FDS * sizeof(int))] = { 0 };
	struct iovec part = { .iov_base = (void *)data, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	if (count) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	return sendmsg(to, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

/* It has all it needs. What is left to be told of it is its end, and that its exit should wait for our waking up is too much. */
static bool is_kept(lw_daemon *daemon, struct client *client)
{
	epoll_ctl(daemon->epoll, EPOLL_CTL_DEL, client->fd, NULL);
	client->attached = true;
	daemon->attached++;
	return lw_daemon_add_client(daemon, client) == 0;
}

static bool send_snapshot(lw_daemon *daemon, struct client *client, const struct lw_attach_hello *hello)
{
	const int fds[LW_ATTACH_FDS] = { lw_watch_fd(daemon->watch), lw_journal_fd(daemon->journal), lw_keeper_base(daemon->keeper),
		lw_keeper_delta(daemon->keeper) };
	struct lw_attach_reply *reply = malloc(LW_ATTACH_BYTES);
	if (!reply)
		return false;
	*reply = (struct lw_attach_reply){ .version = LW_ATTACH_VERSION, .error = refuse(daemon, hello), .mounts = daemon->mount_ns, .top = daemon->top,
		.position = daemon->position, .bytes = sizeof *reply };
	memcpy(reply->magic, LW_ATTACH_MAGIC, sizeof reply->magic);
	struct lw_watch_stats watch;
	lw_watch_stats(daemon->watch, &watch);
	strncpy(reply->backend, watch.backend, sizeof reply->backend - 1);
	if (!reply->error)
		reply->bytes += (uint32_t)write_roots(daemon, (char *)(reply + 1), LW_ATTACH_BYTES - sizeof *reply, &reply->roots);
	unsigned count = reply->error ? 0 : fds[LW_ATTACH_DELTA] < 0 ? LW_ATTACH_DELTA : LW_ATTACH_FDS;
	bool sent = send_all(client->fd, reply, reply->bytes, fds, count);
	bool taken = sent && !reply->error;
	free(reply);
	return taken && is_kept(daemon, client);
}

static bool send_status(lw_daemon *daemon, struct client *client)
{
	lw_doorman_sweep(daemon);
	char *status = lw_daemon_status(daemon);
	if (status)
		send_all(client->fd, status, strlen(status), NULL, 0);
	free(status);
	return false;
}

/* Whether CLIENT stays. */
static bool answer(lw_daemon *daemon, struct client *client)
{
	struct lw_attach_hello hello;
	ssize_t size = recv(client->fd, &hello, sizeof hello, MSG_DONTWAIT);
	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (size != sizeof hello || memcmp(hello.magic, LW_ATTACH_MAGIC, sizeof hello.magic))
		return false;
	return hello.wish == LW_ATTACH_STATUS ? send_status(daemon, client) : send_snapshot(daemon, client, &hello);
}

int lw_doorman_listen(lw_daemon *daemon, struct client *client)
{
	if (!answer(daemon, client))
		lw_doorman_dismiss(daemon, client);
	return 0;
}
