/* SPDX-License-Identifier: MIT */
/* daemon: see daemon.h. The loop; status.c says how it is, doorman.c lets clients in. */
#include "daemon_private.h"
#include "stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* BATCH: of events, at most, before they are told; EVENTS: so many are taken without a look at the clock. LW_DAEMON_PEACE, LW_DAEMON_IMPATIENCE: when what is marked is looked at. RATE: an average over about so long. */
#define MS INT64_C(1000000)
#define BATCH_NS (10 * MS)
enum { EVENTS = 1024 };
#ifndef LW_DAEMON_PEACE_NS /* tests are in a hurry */
#define LW_DAEMON_PEACE_NS (100 * MS)
#define LW_DAEMON_IMPATIENCE_NS (2000 * MS)
#endif
#define ROOTS_NS (1000 * MS)
#define RATE_NS (5000 * MS)

/* Events */

/* Whether HASH was told in this batch already, as far as we remember. */
static bool was_told(lw_daemon *daemon, uint64_t hash)
{
	struct told *told = &daemon->told[hash % LW_DAEMON_TOLD];
	bool same = told->hash == hash && told->batch == daemon->batch;
	*told = (struct told){ .hash = hash, .batch = daemon->batch };
	return same;
}

static void tell_path(lw_daemon *daemon, uint64_t hash)
{
	if (!was_told(daemon, hash))
		lw_journal_add(daemon->journal, &(struct lw_change){ .kind = LW_CHANGE_PATH, .hash = hash });
}

static void tell(lw_daemon *daemon, const struct lw_watch_event *event)
{
	if (event->kind == LW_WATCH_ALL) {
		lw_journal_add(daemon->journal, &(struct lw_change){ .kind = LW_CHANGE_ALL });
	} else if (event->kind == LW_WATCH_SUBTREE) {
		lw_journal_add(daemon->journal, &(struct lw_change){ .kind = LW_CHANGE_SUBTREE, .path = event->path, .len = event->len });
	} else {
		if (event->kind == LW_WATCH_NAMES)
			tell_path(daemon, lw_hash64(event->path, event->len));
		if (event->name_len)
			tell_path(daemon, lw_hash64_below(event->path, event->len, event->name, event->name_len));
	}
}

static void on_event(void *arg, const struct lw_watch_event *event)
{
	lw_daemon *daemon = arg;
	lw_keeper_mark(daemon->keeper, event);
	tell(daemon, event);
}

static void on_mount(void *arg, const char *point, size_t len)
{
	lw_daemon *daemon = arg;
	for (unsigned i = 0; i < daemon->config.count; i++) {
		const char *root = daemon->config.roots[i];
		if (!lw_attach_concerns(point, root))
			continue;
		lw_watch_disarm(daemon->watch, root, strlen(root));
		on_event(arg, &(struct lw_watch_event){ .kind = LW_WATCH_SUBTREE, .path = root, .len = strlen(root) });
	}
}

static bool is_readable(int fd)
{
	return fd >= 0 && poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) > 0;
}

static void note_rate(lw_daemon *daemon, int64_t now, uint64_t events)
{
	double elapsed = (double)(now - daemon->rate_ns) / RATE_NS;
	double weight = elapsed > 1 ? 1 : elapsed;
	if (now > daemon->rate_ns)
		daemon->rate += weight * ((double)events * 1e9 / (double)(now - daemon->rate_ns) - daemon->rate);
	daemon->rate_ns = now;
}

/* What was in the journal that is full is lost for those who have not read it; they are told so by its end. */
static int renew_journal(lw_daemon *daemon)
{
	lw_journal *journal;
	int error = lw_journal_create(0, &journal);
	if (error)
		return error;
	lw_journal_close(daemon->journal);
	daemon->steps += lw_journal_generation(daemon->journal);
	lw_journal_destroy(daemon->journal);
	daemon->journal = journal;
	daemon->journals++;
	return 0;
}

static int end_batch(lw_daemon *daemon)
{
	lw_journal_end(daemon->journal);
	if (!lw_journal_is_closed(daemon->journal))
		return 0;
	daemon->serves = false;
	return renew_journal(daemon);
}

/* A batch: generation odd, drain, look again, generation even (journal.h). */
static int take_events(lw_daemon *daemon)
{
	int64_t begun = lw_monotonic_ns(), count = 0, drained;
	daemon->batch++;
	lw_journal_begin(daemon->journal);
	if (lw_mounts_changed(daemon->mounts, on_mount, daemon) < 0) {
		lw_watch_disarm(daemon->watch, "", 0);
		on_event(daemon, &(struct lw_watch_event){ .kind = LW_WATCH_ALL });
	}
	do {
		drained = lw_watch_drain(daemon->watch, EVENTS, on_event, daemon);
		count += drained > 0 ? drained : 0;
	} while (drained > 0 && lw_monotonic_ns() - begun < BATCH_NS && is_readable(lw_watch_fd(daemon->watch)));
	if (drained < 0) /* what was read and not told is lost */
		lw_journal_close(daemon->journal);
	int error = end_batch(daemon);
	daemon->events += (uint64_t)count;
	daemon->changed_ns = begun;
	daemon->marked_ns = daemon->marked_ns ? daemon->marked_ns : begun;
	return drained < 0 ? (int)drained : error;
}

/* Roots */

/* Before they are read: what lies there later is another root. */
static void identify_roots(lw_daemon *daemon)
{
	for (unsigned i = 0; i < daemon->config.count; i++) {
		const char *path = daemon->config.roots[i];
		struct root *root = &daemon->root[i];
		root->id = (struct lw_attach_id){ 0 };
		root->missing = lw_attach_identify(*path ? path : "/", &root->id);
		root->error = root->missing ? root->missing : lw_watch_arm(daemon->watch, path, strlen(path));
	}
}

static bool is_another(const struct root *root, const char *path)
{
	struct lw_attach_id id = { 0 };
	int missing = lw_attach_identify(*path ? path : "/", &id);
	return !missing != !root->missing || id.dev != root->id.dev || id.ino != root->id.ino;
}

/* It could not be armed, because of its rights or a limit, say. */
static bool is_possible_now(const lw_daemon *daemon, const struct root *root, const char *path)
{
	return root->error && !root->missing && lw_watch_arm(daemon->watch, path, strlen(path)) == 0;
}

/* Nobody tells of a root that was removed and is made again, nor of the rights on one that is not watched. */
static int look_for_roots(lw_daemon *daemon, int64_t now)
{
	bool found = false;
	if (now - daemon->roots_ns < ROOTS_NS || daemon->folding)
		return 0;
	daemon->roots_ns = now;
	for (unsigned i = 0; i < daemon->config.count; i++) {
		const char *path = daemon->config.roots[i];
		if (!is_another(&daemon->root[i], path) && !is_possible_now(daemon, &daemon->root[i], path))
			continue;
		if (!found)
			lw_journal_begin(daemon->journal);
		found = true;
		on_event(daemon, &(struct lw_watch_event){ .kind = LW_WATCH_SUBTREE, .path = path, .len = strlen(path) });
	}
	return found ? end_batch(daemon) : 0;
}

const char *lw_daemon_root_trouble(const lw_daemon *daemon, unsigned i)
{
	int error = daemon->root[i].error;
	return error ? lw_watch_remedy(error) : NULL;
}

/* Folding */

static void *fold(void *arg)
{
	lw_daemon *daemon = arg;
	lw_keeper_fold(daemon->keeper);
	eventfd_write(daemon->folded, 1);
	return NULL;
}

struct copying {
	lw_journal *to;
};

static void copy(void *arg, const struct lw_change *change)
{
	lw_journal_add(((struct copying *)arg)->to, change);
}

/* What is new since the snapshot goes to a new journal, before the old one is full. */
static int rotate_journal(lw_daemon *daemon)
{
	struct copying copying;
	uint64_t at = daemon->position;
	if (lw_journal_position(daemon->journal) < LW_JOURNAL_SIZE / 4 * 3)
		return 0;
	int error = lw_journal_create(0, &copying.to);
	if (error)
		return error;
	lw_journal_begin(copying.to);
	lw_journal_read(daemon->journal, &at, copy, &copying);
	lw_journal_end(copying.to);
	lw_journal_close(daemon->journal);
	daemon->steps += lw_journal_generation(daemon->journal);
	lw_journal_destroy(daemon->journal);
	daemon->journal = copying.to;
	daemon->journals++;
	daemon->position = 0;
	return 0;
}

static void note_first(lw_daemon *daemon)
{
	struct lw_keeper_stats stats;
	if (daemon->ready)
		return;
	lw_keeper_stats(daemon->keeper, &stats);
	daemon->first_ns = stats.fold_ns;
	daemon->first_cpu_ns = stats.fold_cpu_ns;
	daemon->ready = !stats.last_error;
	if (daemon->ready && daemon->config.ready)
		daemon->config.ready(daemon->config.arg, daemon);
}

static int end_fold(lw_daemon *daemon)
{
	eventfd_t ignored;
	eventfd_read(daemon->folded, &ignored);
	if (daemon->folding)
		pthread_join(daemon->folder, NULL);
	daemon->folding = false;
	daemon->failed = !lw_keeper_end(daemon->keeper);
	/* A snapshot that could not be made leaves the one before, as of its own position. */
	if (!daemon->failed) {
		/* A journal that was full meanwhile has taken what happened since with it. */
		daemon->serves = daemon->fold_journal == daemon->journals;
		daemon->position = daemon->fold_position;
	}
	daemon->serves = daemon->serves && !lw_keeper_is_void(daemon->keeper);
	int error = daemon->serves ? rotate_journal(daemon) : 0;
	daemon->folded_ns = lw_monotonic_ns();
	if (!error && daemon->serves)
		note_first(daemon);
	return error;
}

static int begin_fold(lw_daemon *daemon)
{
	sigset_t all, before;
	daemon->fold_journal = daemon->journals;
	daemon->fold_position = lw_journal_position(daemon->journal);
	daemon->marked_ns = 0;
	identify_roots(daemon);
	lw_keeper_begin(daemon->keeper);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&daemon->folder, NULL, fold, daemon);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	daemon->folding = !error;
	if (!error)
		return 0;
	fold(daemon); /* then here and now */
	return end_fold(daemon);
}

/* When what is marked should be looked at, by the clock; negative: there is nothing to do. */
static int64_t fold_at(const lw_daemon *daemon)
{
	int64_t again = daemon->folded_ns + (daemon->failed ? LW_DAEMON_IMPATIENCE_NS : LW_DAEMON_PEACE_NS);
	if (daemon->folding)
		return -1;
	if (daemon->failed || !daemon->serves || lw_keeper_is_void(daemon->keeper))
		return daemon->ready || daemon->failed ? again : 0;
	if (!lw_keeper_is_marked(daemon->keeper))
		return -1;
	int64_t peace = daemon->changed_ns + LW_DAEMON_PEACE_NS, patience = daemon->marked_ns + LW_DAEMON_IMPATIENCE_NS;
	return peace < patience ? peace : patience;
}

/* ns until then; 0: now. */
static int64_t fold_in(const lw_daemon *daemon, int64_t now)
{
	int64_t at = fold_at(daemon);
	return at < 0 ? -1 : at > now ? at - now : 0;
}

/* Life */

static int add_to(int epoll, int fd, uint32_t events, void *what)
{
	struct epoll_event event = { .events = events, .data.ptr = what };
	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int add_fd(lw_daemon *daemon, int fd, uint32_t events, void *what)
{
	return add_to(daemon->epoll, fd, events, what);
}

/* What a descriptor in the epoll set is, by its address; clients are themselves. */
static char is_watch, is_mounts, is_listener, is_folded, is_stop;

static int set_up(lw_daemon *daemon)
{
	daemon->epoll = epoll_create1(EPOLL_CLOEXEC);
	daemon->attached_epoll = epoll_create1(EPOLL_CLOEXEC);
	daemon->folded = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	daemon->spare = lw_doorman_spare();
	if (daemon->epoll < 0 || daemon->attached_epoll < 0 || daemon->folded < 0)
		return -errno;
	int error = lw_journal_create(0, &daemon->journal);
	if (!error)
		error = add_fd(daemon, daemon->folded, EPOLLIN, &is_folded);
	if (!error)
		error = add_fd(daemon, daemon->config.listener, EPOLLIN, &is_listener);
	if (!error)
		error = add_fd(daemon, lw_mounts_fd(daemon->mounts), EPOLLPRI, &is_mounts);
	if (!error && lw_watch_fd(daemon->watch) >= 0)
		error = add_fd(daemon, lw_watch_fd(daemon->watch), EPOLLIN, &is_watch);
	return error;
}

/* Whether they can be told to clients. */
static int check_roots(const struct lw_daemon_config *config, char *why)
{
	size_t bytes = sizeof(struct lw_attach_reply);
	for (unsigned i = 0; i < config->count; i++)
		bytes += sizeof(struct lw_attach_root) + strlen(config->roots[i]);
	if (config->count > LW_ATTACH_ROOTS)
		snprintf(why, LW_WATCH_WHY, "%d roots are the most that a daemon takes; give it directories that hold several of them", LW_ATTACH_ROOTS);
	else if (bytes > LW_ATTACH_BYTES)
		snprintf(why, LW_WATCH_WHY, "the paths of the roots are too long, taken together; give it directories that hold several of them");
	else
		return 0;
	return -E2BIG;
}

int lw_daemon_create(const struct lw_daemon_config *config, lw_daemon **out, char *why)
{
	*out = NULL;
	if (check_roots(config, why))
		return -E2BIG;
	lw_daemon *daemon = calloc(1, sizeof *daemon);
	if (!daemon)
		return -ENOMEM;
	daemon->config = *config;
	daemon->epoll = daemon->attached_epoll = daemon->folded = daemon->spare = -1;
	daemon->begun_ns = daemon->rate_ns = lw_monotonic_ns();
	daemon->key = lw_attach_key(config->suffixes);
	/* Before the watch: it does not look for mounts itself. */
	int error = lw_mounts_open(&daemon->mounts);
	if (!error)
		error = lw_watch_create(config->backend, config->roots, config->count, &daemon->watch, daemon->why);
	snprintf(why, LW_WATCH_WHY, "%s", daemon->why);
	if (!error)
		error = lw_attach_here(&daemon->mount_ns, &daemon->top);
	if (!error)
		error = set_up(daemon);
	if (!error) {
		const struct lw_keeper_config keeper = { .suffixes = config->suffixes, .key = daemon->key, .watch = daemon->watch, .roots = config->roots,
			.count = config->count, .threads = config->threads };
		daemon->keeper = lw_keeper_create(&keeper);
		error = daemon->keeper ? 0 : -ENOMEM;
	}
	if (error)
		lw_daemon_destroy(daemon);
	else
		*out = daemon;
	return error;
}

void lw_daemon_destroy(lw_daemon *daemon)
{
	if (!daemon)
		return;
	if (daemon->folding)
		pthread_join(daemon->folder, NULL);
	while (daemon->clients)
		lw_doorman_dismiss(daemon, daemon->clients);
	/* Whoever has it mapped is to ask somebody else. */
	if (daemon->journal)
		lw_journal_close(daemon->journal);
	lw_keeper_destroy(daemon->keeper);
	lw_journal_destroy(daemon->journal);
	lw_watch_destroy(daemon->watch);
	lw_mounts_close(daemon->mounts);
	if (daemon->epoll >= 0)
		close(daemon->epoll);
	if (daemon->attached_epoll >= 0)
		close(daemon->attached_epoll);
	if (daemon->folded >= 0)
		close(daemon->folded);
	if (daemon->spare >= 0)
		close(daemon->spare);
	free(daemon);
}

/* ms to sleep at most. */
static int patience(const lw_daemon *daemon)
{
	int64_t wait = fold_in(daemon, lw_monotonic_ns());
	int64_t most = ROOTS_NS;
	if (wait >= 0 && wait < most)
		most = wait;
	return (int)((most + MS - 1) / MS);
}

/* 1: stop. */
static int handle(lw_daemon *daemon, void *what)
{
	if (what == &is_stop)
		return 1;
	if (what == &is_folded)
		return end_fold(daemon);
	if (what == &is_listener)
		return lw_doorman_admit(daemon);
	return lw_doorman_listen(daemon, what);
}

/* Who asks for the news of mounts uses it up: it may be among the COUNT events already. */
static bool has_mounts_news(const lw_daemon *daemon, const struct epoll_event *event, int count)
{
	for (int i = 0; i < count; i++)
		if (event[i].data.ptr == &is_mounts)
			return true;
	return poll(&(struct pollfd){ .fd = lw_mounts_fd(daemon->mounts), .events = POLLPRI }, 1, 0) > 0;
}

static int turn(lw_daemon *daemon)
{
	enum { MOST = 64 };
	struct epoll_event event[MOST];
	int count = epoll_wait(daemon->epoll, event, MOST, patience(daemon)), result = 0;
	if (count < 0 && errno != EINTR)
		return -errno;
	/* Events first: whoever asks next is to know of what was before. */
	if (has_mounts_news(daemon, event, count) || is_readable(lw_watch_fd(daemon->watch)))
		result = take_events(daemon);
	for (int i = 0; i < count && !result; i++)
		if (event[i].data.ptr != &is_watch && event[i].data.ptr != &is_mounts)
			result = handle(daemon, event[i].data.ptr);
	/* Awake as it is. After the answers: nobody waits for this. */
	if (!result)
		lw_doorman_sweep(daemon);
	int64_t now = lw_monotonic_ns();
	if (now - daemon->rate_ns > ROOTS_NS) {
		note_rate(daemon, now, daemon->events - daemon->rated);
		daemon->rated = daemon->events;
		if (daemon->deaf)
			lw_daemon_set_deaf(daemon, false);
	}
	if (!result)
		result = look_for_roots(daemon, now);
	if (!result && fold_in(daemon, now) == 0)
		result = begin_fold(daemon);
	return result;
}

int lw_daemon_run(lw_daemon *daemon, int stop)
{
	int result = add_fd(daemon, stop, EPOLLIN, &is_stop);
	while (!result)
		result = turn(daemon);
	epoll_ctl(daemon->epoll, EPOLL_CTL_DEL, stop, NULL);
	return result > 0 ? 0 : result;
}

void lw_daemon_set_deaf(lw_daemon *daemon, bool deaf)
{
	struct epoll_event event = { .events = deaf ? 0 : EPOLLIN, .data.ptr = &is_listener };
	epoll_ctl(daemon->epoll, EPOLL_CTL_MOD, daemon->config.listener, &event);
	daemon->deaf = deaf;
}

int lw_daemon_add_client(lw_daemon *daemon, struct client *client)
{
	return add_to(client->attached ? daemon->attached_epoll : daemon->epoll, client->fd, EPOLLIN | EPOLLRDHUP, client);
}
