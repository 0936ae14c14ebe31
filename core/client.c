/* SPDX-License-Identifier: MIT */
/*
 * client: see client.h. A check, in this order (journal.h says why):
 *
 *     is the descriptor of the watch ours still?       F_GETSIG; else detach
 *     poll: is the daemon's queue empty?               else not now: it is at work
 *           has the mount table changed?               the first time: detach; else what lies there is no longer looked after
 *           now and then: is the daemon gone?          detach
 *     journal: even? records that are new              closed: attach again
 *
 * Void is what the snapshot says of what has changed since: each path by its hash, subtrees by their path.
 */
#include "client.h"
#include "attach.h"
#include "hash.h"
#include "index.h"
#include "journal.h"
#include "mounts.h"
#include "stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SUBTREES = 64, VOID_FIRST = 64, WHY = 256 };

/* Hashes of paths; open addressing. */
struct void_set {
	uint64_t *hash;
	uint32_t capacity, count;
};

struct client {
	struct lw_fresh fresh;
	struct sockaddr_un address;
	struct lw_hash128 key;
	int socket;			/* -1: not connected */
	int watch;			/* -1: not attached */
	int64_t attached_ns, retry_ns;	/* monotonic; RETRY: not before */
	int64_t alive_ns;		/* coarse; the daemon is taken to be alive until then */
	bool soon;			/* it has said that it has nothing yet */
	lw_journal *journal;
	lw_mounts *mounts;
	bool mounts_change;		/* they have, while we were attached; so the table is read */
	lw_index *index[2];		/* newest first; NULL behind the last */
	uint64_t position;		/* in the journal */
	struct void_set voided;
	char *subtree[SUBTREES];	/* void as well, and no longer looked after */
	unsigned subtrees;
	char *root[LW_ATTACH_ROOTS];
	unsigned roots;
	char backend[16], why[WHY];
};

/* What is void */

static uint64_t *void_slot(const struct void_set *set, uint64_t hash)
{
	for (uint32_t i = (uint32_t)hash & (set->capacity - 1);; i = (i + 1) & (set->capacity - 1))
		if (!set->hash[i] || set->hash[i] == hash)
			return &set->hash[i];
}

static bool void_has(const struct void_set *set, uint64_t hash)
{
	return set->capacity && *void_slot(set, hash);
}

static bool void_add(struct void_set *set, uint64_t hash)
{
	if (set->count >= set->capacity / 2) {
		struct void_set bigger = { .capacity = set->capacity ? set->capacity * 2 : VOID_FIRST, .count = set->count };
		bigger.hash = calloc(bigger.capacity, sizeof *bigger.hash);
		if (!bigger.hash)
			return false;
		for (uint32_t i = 0; i < set->capacity; i++)
			if (set->hash[i])
				*void_slot(&bigger, set->hash[i]) = set->hash[i];
		free(set->hash);
		*set = bigger;
	}
	uint64_t *slot = void_slot(set, hash);
	set->count += !*slot;
	*slot = hash;
	return true;
}

static bool is_below(const char *path, size_t len, const char *top)
{
	size_t top_len = strlen(top);
	return len >= top_len && memcmp(path, top, top_len) == 0 && (len == top_len || path[top_len] == '/');
}

static bool is_among(char *const *tops, unsigned count, const char *path, size_t len)
{
	for (unsigned i = 0; i < count; i++)
		if (is_below(path, len, tops[i]))
			return true;
	return false;
}

static bool add_path(char **paths, unsigned *count, unsigned most, const char *path, size_t len)
{
	char *copy = *count < most ? strndup(path, len) : NULL;
	if (copy)
		paths[(*count)++] = copy;
	return copy;
}

/* Coming and going */

/* The program may have closed it, and given its number to something else. */
static void close_fd(int *fd)
{
	lw_watch_close_fd(*fd);
	*fd = -1;
}

static void free_paths(char **paths, unsigned *count)
{
	while (*count)
		free(paths[--*count]);
}

static void drop(struct client *client)
{
	close_fd(&client->socket);
	close_fd(&client->watch);
	lw_journal_destroy(client->journal);
	lw_mounts_close(client->mounts);
	for (unsigned i = 0; i < 2; i++)
		lw_index_close(client->index[i]);
	free(client->voided.hash);
	free_paths(client->subtree, &client->subtrees);
	free_paths(client->root, &client->roots);
	client->journal = NULL;
	client->mounts = NULL;
	client->index[0] = client->index[1] = NULL;
	client->voided = (struct void_set){ 0 };
}

static void set_why(struct client *client, const char *why)
{
	snprintf(client->why, sizeof client->why, "%s", why);
}

/* Nothing of what we were told is looked after any longer. */
static void detach(struct client *client, const char *why, lw_fresh_sink *sink, void *arg)
{
	/* First: they point into what is closed then. */
	sink(arg, &(struct lw_change){ .kind = LW_CHANGE_ALL });
	drop(client);
	set_why(client, why);
}

/* Take the descriptors of MESSAGE: how many. */
static unsigned take_fds(struct msghdr *message, int *fds)
{
	unsigned count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < got && count < LW_ATTACH_FDS; i++)
			memcpy(&fds[count++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
	return count;
}

static bool is_peer_us(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof peer;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

/*
 * What is mounted before this the daemon knows of when it answers; what comes later we see ourselves. What it was before is only read where mounts have been seen to
 * change: most programs end before that, and it would take longer than all else here.
 */
static bool look_at_mounts(struct client *client)
{
	int error = client->mounts_change ? lw_mounts_open(&client->mounts) : lw_mounts_open_unread(&client->mounts);
	if (!error)
		return true;
	set_why(client, "/proc/self/mountinfo cannot be watched");
	return false;
}

static bool say_hello(struct client *client)
{
	struct lw_attach_hello hello = { .version = LW_ATTACH_VERSION, .wish = LW_ATTACH_SNAPSHOT, .key = client->key };
	memcpy(hello.magic, LW_ATTACH_MAGIC, sizeof hello.magic);
	if (!look_at_mounts(client) || lw_attach_here(&hello.mounts, &hello.top))
		return false;
	return send(client->socket, &hello, sizeof hello, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof hello;
}

static bool reach(struct client *client)
{
	client->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (client->socket < 0 || lw_watch_prepare_fd(client->socket))
		return false;
	if (connect(client->socket, (const struct sockaddr *)&client->address, sizeof client->address)) {
		set_why(client, "none runs; `ladewerk watch ROOT...` is one");
	} else if (!is_peer_us(client->socket)) {
		set_why(client, "the daemon runs as another user");
	} else if (say_hello(client)) {
		set_why(client, "the daemon has not answered yet");
		return true;
	}
	drop(client);
	return false;
}

/* The roots that are the same directories here. */
static bool take_roots(struct client *client, const char *at, const char *end, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct lw_attach_root root;
		struct lw_attach_id id;
		char path[PATH_MAX];
		if ((size_t)(end - at) < sizeof root)
			return false;
		memcpy(&root, at, sizeof root);
		at += sizeof root;
		if (root.len >= sizeof path || root.len > (size_t)(end - at))
			return false;
		memcpy(path, at, root.len);
		path[root.len] = '\0';
		at += root.len;
		if (lw_attach_identify(*path ? path : "/", &id) == 0 && id.dev == root.id.dev && id.ino == root.id.ino
				&& !add_path(client->root, &client->roots, LW_ATTACH_ROOTS, path, root.len))
			return false;
	}
	return true;
}

static bool is_same(const struct lw_attach_id *a, const struct lw_attach_id *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

/* What is wrong with the answer, or NULL. */
static const char *judge(const struct lw_attach_reply *reply, size_t size, unsigned fds)
{
	struct lw_attach_id mounts, top;
	if (size < sizeof *reply || memcmp(reply->magic, LW_ATTACH_MAGIC, sizeof reply->magic) || reply->version != LW_ATTACH_VERSION || reply->bytes != size)
		return "the daemon is of another version; restart it";
	if (reply->error)
		return reply->error == EAGAIN ? "the daemon is reading its roots"
			: reply->error == ENOENT ? "the daemon looks after none of its roots; `ladewerk watch --status` says why"
			: "the daemon has nothing for this program";
	if (fds <= LW_ATTACH_BASE)
		return "the daemon sent no snapshot";
	if (lw_attach_here(&mounts, &top) || !is_same(&mounts, &reply->mounts) || !is_same(&top, &reply->top))
		return "the daemon sees other mounts (another container)";
	return NULL;
}

/* Were it cut, or written to, what is verified once would not hold. */
static bool open_index(const struct client *client, int fd, lw_index **out)
{
	const int needed = F_SEAL_WRITE | F_SEAL_SHRINK;
	int seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 && (seals & needed) == needed && lw_index_open(fd, &client->key, out, NULL) == 0;
}

static const char *open_all(struct client *client, const struct lw_attach_reply *reply, const int *fds, unsigned count)
{
	bool bad = lw_journal_open(fds[LW_ATTACH_JOURNAL], &client->journal) != 0;
	unsigned at = 0;
	if (!bad && count > LW_ATTACH_DELTA)
		bad = !open_index(client, fds[LW_ATTACH_DELTA], &client->index[at++]);
	if (!bad)
		bad = !open_index(client, fds[LW_ATTACH_BASE], &client->index[at]);
	if (bad)
		return "what the daemon sent cannot be used";
	if (!take_roots(client, (const char *)(reply + 1), (const char *)reply + reply->bytes, reply->roots))
		return "what the daemon sent cannot be used";
	if (!client->roots)
		return "the daemon's roots are other directories here";
	client->position = reply->position;
	memcpy(client->backend, reply->backend, sizeof client->backend - 1);
	return NULL;
}

static const char *take_snapshot(struct client *client, const struct lw_attach_reply *reply, size_t size, int *fds, unsigned count)
{
	const char *wrong = judge(reply, size, count);
	client->soon = wrong && size >= sizeof *reply && (reply->error == EAGAIN || reply->error == ENOENT);
	if (!wrong && !lw_watch_owns_fd(fds[LW_ATTACH_WATCH]))
		wrong = "the daemon sent no watch";
	if (!wrong)
		wrong = open_all(client, reply, fds, count);
	if (wrong)
		return wrong;
	client->watch = fds[LW_ATTACH_WATCH];
	client->attached_ns = lw_monotonic_ns();
	fds[LW_ATTACH_WATCH] = -1;
	return NULL;
}

/* The answer, if it is there. */
static bool receive(struct client *client)
{
	char *data = malloc(LW_ATTACH_BYTES);
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(LW_ATTACH_FDS * sizeof(int))];
	struct iovec part = { .iov_base = data, .iov_len = data ? LW_ATTACH_BYTES : 0 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	int fds[LW_ATTACH_FDS];
	ssize_t size = recvmsg(client->socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
		free(data);
		return false;
	}
	/* Without memory as well: they would be ours for ever. */
	unsigned count = size >= 0 ? take_fds(&message, fds) : 0;
	client->soon = false;
	const char *wrong = size > 0 ? take_snapshot(client, (const struct lw_attach_reply *)data, (size_t)size, fds, count) : "the daemon has ended";
	for (unsigned i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(data);
	if (wrong)
		drop(client);
	set_why(client, wrong ? wrong : "");
	return !wrong;
}

static bool is_time(struct client *client)
{
	int64_t now = lw_monotonic_ns();
	if (now < client->retry_ns)
		return false;
	client->retry_ns = now + LW_CLIENT_RETRY_NS;
	return true;
}

/* Attached after this? WAIT: for the answer, a little. */
static bool try_attach(struct client *client, bool wait)
{
	if (client->socket < 0 && !(is_time(client) && reach(client)))
		return false;
	if (wait)
		poll(&(struct pollfd){ .fd = client->socket, .events = POLLIN }, 1, LW_CLIENT_PATIENCE_NS / 1000000);
	return receive(client);
}

bool lw_client_attach(lw_fresh *fresh)
{
	struct client *client = (struct client *)fresh;
	return client->watch >= 0 || try_attach(client, true) || client->socket >= 0 || client->soon;
}

/* Checking */

struct telling {
	struct client *client;
	lw_fresh_sink *sink;
	void *arg;
};

static void on_change(void *arg, const struct lw_change *change)
{
	const struct telling *telling = arg;
	struct client *client = telling->client;
	bool noted = true;
	if (change->kind == LW_CHANGE_PATH)
		noted = void_add(&client->voided, change->hash);
	else if (change->kind == LW_CHANGE_SUBTREE)
		noted = add_path(client->subtree, &client->subtrees, SUBTREES, change->path, change->len);
	/* More than we can remember, or all: nothing is looked after until we attach again. */
	if (!noted || change->kind == LW_CHANGE_ALL)
		free_paths(client->root, &client->roots);
	client->fresh.stats.changes++;
	telling->sink(telling->arg, noted ? change : &(struct lw_change){ .kind = LW_CHANGE_ALL });
}

static void on_mount(void *arg, const char *point, size_t len)
{
	struct client *client = ((struct telling *)arg)->client;
	for (unsigned i = 0; i < client->roots; i++)
		if (lw_attach_concerns(point, client->root[i]))
			on_change(arg, &(struct lw_change){ .kind = LW_CHANGE_SUBTREE, .path = client->root[i], .len = strlen(client->root[i]) });
}

static int64_t coarse_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/*
 * The daemon's end is no matter of freshness: its queue lives on in our descriptor and holds the next change, or the generation has stayed odd. So where all HOLDS this
 * is asked now and then only: a third descriptor to poll costs a quarter of a check.
 */
static bool has_daemon_ended(struct client *client, bool holds)
{
	int64_t now = coarse_ns();
	if (holds && now < client->alive_ns)
		return false;
	client->alive_ns = now + LW_CLIENT_ALIVE_NS;
	return poll(&(struct pollfd){ .fd = client->socket, .events = POLLIN }, 1, 0) > 0;
}

static const char *judge_mounts(struct client *client, struct telling *telling)
{
	if (client->mounts_change)
		return lw_mounts_changed(client->mounts, on_mount, telling) < 0 ? "/proc/self/mountinfo cannot be read" : NULL;
	client->mounts_change = true;
	return "something was mounted or unmounted";
}

enum { POLL_WATCH, POLL_MOUNTS, POLLED };

/* Why this client has to detach, or NULL: then *HOLDS is set. */
static const char *judge_attached(struct client *client, struct telling *telling, bool *holds)
{
	struct pollfd fds[POLLED] = {
		[POLL_WATCH] = { .fd = client->watch, .events = POLLIN },
		[POLL_MOUNTS] = { .fd = lw_mounts_fd(client->mounts), .events = POLLPRI },
	};
	enum lw_journal_state state = LW_JOURNAL_BUSY;
	if (!lw_watch_owns_fd(client->watch))
		return "the program has closed the descriptor of the daemon's watch";
	bool polled = poll(fds, POLLED, 0) >= 0;
	const char *why = polled && fds[POLL_MOUNTS].revents ? judge_mounts(client, telling) : NULL;
	if (why)
		return why;
	if (polled && !fds[POLL_WATCH].revents)
		state = lw_journal_read(client->journal, &client->position, on_change, telling);
	*holds = state == LW_JOURNAL_HOLDS;
	if (has_daemon_ended(client, *holds))
		return "the daemon has ended";
	return state == LW_JOURNAL_CLOSED || !client->roots ? "the daemon's snapshot was replaced" : NULL;
}

static bool check_attached(struct client *client, struct telling *telling)
{
	bool holds = false;
	const char *why = judge_attached(client, telling, &holds);
	if (why)
		detach(client, why, telling->sink, telling->arg);
	return !why && holds;
}

static bool client_check(lw_fresh *fresh, lw_fresh_sink *sink, void *arg)
{
	struct client *client = (struct client *)fresh;
	struct telling telling = { .client = client, .sink = sink, .arg = arg };
	bool attached = client->watch >= 0;
	if (attached && check_attached(client, &telling))
		return true;
	if (client->watch >= 0)
		return false;
	/* A snapshot that was replaced is no reason to wait before we ask for the next, unless that happens all the time. */
	if (attached && lw_monotonic_ns() - client->attached_ns > LW_CLIENT_RETRY_NS)
		client->retry_ns = 0;
	return try_attach(client, false) && check_attached(client, &telling);
}

/* What the snapshot knows */

static bool is_covered(const struct client *client, const char *path, size_t len)
{
	return client->watch >= 0 && is_among(client->root, client->roots, path, len) && !is_among(client->subtree, client->subtrees, path, len);
}

static bool find_dir(const struct client *client, const char *path, size_t len, struct lw_index_dir *out)
{
	int result = LW_ABSENT;
	for (unsigned i = 0; i < 2 && client->index[i] && result == LW_ABSENT; i++)
		result = lw_index_find_dir(client->index[i], path, len, out);
	return result == LW_OK && !(out->record->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR | LW_DIR_UNREADABLE));
}

static bool client_dir(lw_fresh *fresh, const char *path, size_t len, struct lw_index_dir *out)
{
	const struct client *client = (const struct client *)fresh;
	return is_covered(client, path, len) && !void_has(&client->voided, lw_hash64(path, len)) && find_dir(client, path, len, out);
}

static uint64_t client_file(lw_fresh *fresh, const char *path, size_t len, const struct lw_index_dir *dir, const struct lw_entry *entry)
{
	const struct client *client = (const struct client *)fresh;
	const uint64_t *stamp;
	if (!is_covered(client, path, len) || (client->voided.count && void_has(&client->voided, lw_hash64(path, len))))
		return 0;
	return lw_index_stamps(dir, entry, 1, &stamp) == LW_OK ? *stamp : 0;
}

static enum lw_armed client_arm(lw_fresh *fresh, const char *path, size_t len)
{
	const struct client *client = (const struct client *)fresh;
	struct lw_index_dir found;
	if (!is_covered(client, path, len))
		return LW_ARMED_NOT;
	if (find_dir(client, path, len, &found))
		return LW_ARMED;
	const char *slash = memrchr(path, '/', len);
	size_t above = slash ? (size_t)(slash - path) : 0;
	const struct lw_entry *entry;
	/* A link that leads nowhere would come to life without an event above it: the names there must be those of now. */
	bool told = slash && client_dir(fresh, path, above, &found)
		&& lw_index_dir_find(&found, slash + 1, len - above - 1, &entry) == LW_OK && !(entry && entry->flags & LW_ENTRY_DOUBT);
	return told ? LW_ARMED_ABOVE : LW_ARMED_NOT;
}

static void client_forked(lw_fresh *fresh)
{
	/* The connection is the parent's. Ours is a new one. */
	drop((struct client *)fresh);
	set_why((struct client *)fresh, "forked");
}

static void client_destroy(lw_fresh *fresh)
{
	drop((struct client *)fresh);
	free(fresh);
}

static const struct lw_fresh_ops client_ops = {
	.check = client_check, .arm = client_arm, .dir = client_dir, .file = client_file, .forked = client_forked, .destroy = client_destroy,
};

lw_fresh *lw_client_create(const struct lw_suffixes *suffixes, const struct sockaddr_un *address)
{
	struct client *client = calloc(1, sizeof *client);
	if (!client)
		return NULL;
	*client = (struct client){ .fresh = { .ops = &client_ops, .stats = { .by = "daemon" } }, .address = *address, .key = lw_attach_key(suffixes),
		.socket = -1, .watch = -1 };
	client->fresh.stats.backend = client->backend;
	client->fresh.stats.why = client->why;
	return &client->fresh;
}
