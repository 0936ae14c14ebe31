/* SPDX-License-Identifier: MIT */
/*
 * daemon: its loop when things go wrong: who writes faster than it reads, a queue that cannot be read, no descriptor left. The protocol is in tests/race/freshness.c.
 */
#include "client.h"
#include "daemon_private.h"
#include "stamp.h"
#include "tree.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* The source under test, with what stands between it and what it calls. */

static int dir, file[2];
static int64_t writes_until;	/* somebody has always written something when what was there before has been read */
static bool is_broken;		/* the queue cannot be read */
static unsigned drains;
static int64_t tick_ns, ticks_ns;	/* the daemon's clock goes on by so much whenever it is asked; 0: as the system's */
static _Atomic unsigned turns;

struct listener {
	lw_watch_sink *sink;
	void *arg;
};

static void write_again(void *arg, const struct lw_watch_event *event)
{
	const struct listener *to = arg;
	static unsigned count;
	to->sink(to->arg, event);
	/* The same file twice would be one event. */
	if (lw_monotonic_ns() < writes_until)
		TREE_CHECK(pwrite(file[count++ % 2], "#", 1, 0) == 1);
}

static int64_t drain(lw_watch *watch, unsigned limit, lw_watch_sink *sink, void *arg)
{
	struct listener to = { sink, arg };
	int64_t count = lw_watch_drain(watch, limit, write_again, &to);
	drains++;
	return is_broken ? -EIO : count;
}

static int wait_counted(int epoll, struct epoll_event *event, int most, int ms)
{
	atomic_fetch_add(&turns, 1);
	return epoll_wait(epoll, event, most, ms);
}

static int64_t clock_ns(void)
{
	return tick_ns ? ticks_ns += tick_ns : lw_monotonic_ns();
}

#define lw_monotonic_ns clock_ns
#define lw_watch_drain drain
#define epoll_wait wait_counted
#include "../../core/daemon.c"
#undef lw_monotonic_ns
#undef lw_watch_drain
#undef epoll_wait

static char root[PATH_MAX];
static struct sockaddr_un address;
static struct lw_suffixes suffixes;
static int stopper[2], ready[2];
static lw_daemon *daemon_;
static pthread_t thread;
static int result;

static void say_ready(void *arg, const lw_daemon *daemon)
{
	TREE_CHECK(write(ready[1], "", 1) == 1);
}

static void begin_test(void)
{
	static const char *const extensions[] = { ".so" };
	static const char *const roots[] = { root };
	char why[LW_WATCH_WHY];
	tree_create(root, sizeof root);
	dir = tree_open(AT_FDCWD, root);
	for (unsigned i = 0; i < 2; i++)
		TREE_CHECK((file[i] = openat(dir, i ? "a.py" : "b.py", O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) >= 0);
	TREE_CHECK(lw_suffixes_init(&suffixes, extensions, 1) == 0 && pipe(stopper) == 0 && pipe(ready) == 0);
	address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	TREE_CHECK(snprintf(address.sun_path, sizeof address.sun_path, "%s.socket", root) < (int)sizeof address.sun_path);
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	TREE_CHECK(bind(listener, (const struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 16) == 0);
	const struct lw_daemon_config config = { .suffixes = &suffixes, .backend = LW_WATCH_INOTIFY, .roots = roots, .count = 1, .threads = 1, .listener = listener,
		.ready = say_ready };
	TREE_CHECK(lw_daemon_create(&config, &daemon_, why) == 0);
}

static void *run(void *arg)
{
	result = lw_daemon_run(daemon_, stopper[0]);
	return NULL;
}

static void start(void)
{
	char byte;
	TREE_CHECK(pthread_create(&thread, NULL, run, NULL) == 0 && read(ready[0], &byte, 1) == 1);
}

static void end(void)
{
	TREE_CHECK(write(stopper[1], "", 1) == 1 && pthread_join(thread, NULL) == 0);
}

static void end_test(void)
{
	lw_daemon_destroy(daemon_);
	close(dir);
	unlink(address.sun_path);
	tree_destroy(root);
}

TestSuite(daemon, .init = begin_test, .fini = end_test);

/* Meanwhile nobody can attach, and nobody believes it. */
Test(daemon, a_batch_ends_though_the_queue_does_not)
{
	TREE_CHECK(lw_watch_arm(daemon_->watch, root, strlen(root)) == 0);
	writes_until = lw_monotonic_ns() + 1000 * MS;
	tree_write(dir, "a.py", "");
	int64_t begun = lw_monotonic_ns();
	cr_expect_eq(take_events(daemon_), 0);
	cr_expect_lt(lw_monotonic_ns() - begun, 500 * MS);
	cr_expect(is_readable(lw_watch_fd(daemon_->watch)), "there is more");
	cr_expect_eq(lw_journal_generation(daemon_->journal) % 2, 0);
}

/* After 10 ms what was seen is told, whatever comes next. */
Test(daemon, a_batch_lasts_10_ms_at_most)
{
	TREE_CHECK(lw_watch_arm(daemon_->watch, root, strlen(root)) == 0);
	for (tick_ns = MS; tick_ns <= 5 * MS; tick_ns += 4 * MS) {
		writes_until = INT64_MAX;
		tree_write(dir, "a.py", "");
		drains = 0;
		cr_expect_eq(take_events(daemon_), 0);
		cr_expect_eq(drains * tick_ns, 10 * MS, "%u", drains);
		writes_until = 0;
		cr_expect_eq(take_events(daemon_), 0);
	}
}

Test(daemon, what_was_lost_with_the_queue_is_believed_by_nobody)
{
	lw_journal *reader;
	uint64_t at = 0;
	TREE_CHECK(lw_watch_arm(daemon_->watch, root, strlen(root)) == 0 && lw_journal_open(lw_journal_fd(daemon_->journal), &reader) == 0);
	is_broken = true;
	cr_expect_eq(take_events(daemon_), -EIO);
	cr_expect_eq(lw_journal_read(reader, &at, copy, NULL), LW_JOURNAL_CLOSED);
	lw_journal_destroy(reader);
}

static int filling[256];
static unsigned fillings;

static void fill_descriptors(void)
{
	for (int fd; fillings < sizeof filling / sizeof *filling && (fd = dup(STDERR_FILENO)) >= 0; )
		filling[fillings++] = fd;
}

static void give_back_descriptors(void)
{
	while (fillings)
		close(filling[--fillings]);
}

/* All that there may be are open. The limit that was. */
static struct rlimit use_up_descriptors(void)
{
	enum { MOST = 256 };
	struct rlimit limit, low;
	TREE_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	low = limit;
	low.rlim_cur = MOST;
	TREE_CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
	fill_descriptors();
	return limit;
}

static int make_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	TREE_CHECK(fd >= 0);
	return fd;
}

static void knock(int client)
{
	TREE_CHECK(connect(client, (const struct sockaddr *)&address, sizeof address) == 0);
}

enum { CLIENTS = 4 };

static bool is_answered(int client)
{
	struct lw_attach_hello hello = { .version = LW_ATTACH_VERSION, .wish = LW_ATTACH_STATUS };
	char answer[4096];
	memcpy(hello.magic, LW_ATTACH_MAGIC, sizeof hello.magic);
	return send(client, &hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello && recv(client, answer, sizeof answer, 0) > 0;
}

/* They knock while the daemon finds no descriptor for them: it is not to be kept awake. Then, when so many have been TURNED_AWAY, there are some again. */
static void knock_in_vain(int *client, unsigned turned_away)
{
	start();
	for (unsigned i = 0; i < CLIENTS; i++)
		client[i] = make_socket();
	usleep(300000);
	const struct rlimit limit = use_up_descriptors();
	unsigned before = atomic_load(&turns);
	for (unsigned i = 0; i < CLIENTS; i++)
		knock(client[i]);
	usleep(500000);
	for (unsigned tries = 0; tries < 60000 && __atomic_load_n(&daemon_->turned_away, __ATOMIC_RELAXED) < turned_away; tries++)
		usleep(1000);
	cr_expect_lt(atomic_load(&turns) - before, 50, "%u turns", atomic_load(&turns) - before);
	TREE_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void hang_up(const int *client)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		close(client[i]);
	end();
	cr_expect_eq(result, 0);
}

Test(daemon, without_descriptors_it_turns_away)
{
	int client[CLIENTS];
	knock_in_vain(client, CLIENTS);
	for (unsigned i = 0; i < CLIENTS; i++)
		cr_expect_not(is_answered(client[i]));
	cr_expect_eq(daemon_->turned_away, CLIENTS);
	int later = make_socket();
	knock(later);
	cr_expect(is_answered(later));
	close(later);
	hang_up(client);
}

/* Nor with the one that it keeps in reserve: it cannot even turn them away. */
Test(daemon, without_any_descriptor_it_sleeps)
{
	int client[CLIENTS];
	close(daemon_->spare);
	daemon_->spare = -1;
	knock_in_vain(client, 0);
	for (unsigned i = 0; i < CLIENTS; i++)
		cr_expect(is_answered(client[i]), "they are let in at last");
	hang_up(client);
}

static void ignore(void *arg, const struct lw_change *change)
{
}

/* Attached. */
static lw_fresh *make_client(void)
{
	lw_fresh *client = lw_client_create(&suffixes, &address);
	bool holds = false;
	TREE_CHECK(client && lw_client_attach(client));
	/* Others may remove something on the way at any moment. */
	for (unsigned tries = 0; tries < 1000 && !(holds = lw_fresh_check(client, ignore, NULL)); tries++)
		usleep(1000);
	TREE_CHECK(holds);
	return client;
}

/* How often the daemon wakes while they come to their ends. */
static unsigned wakes_of_ends(void)
{
	lw_fresh *client[CLIENTS];
	for (unsigned i = 0; i < CLIENTS; i++)
		client[i] = make_client();
	usleep(200000);
	unsigned before = atomic_load(&turns);
	for (unsigned i = 0; i < CLIENTS; i++) {
		lw_fresh_destroy(client[i]);
		usleep(20000);
	}
	return atomic_load(&turns) - before;
}

/* Its exit takes no longer for our sake. */
Test(daemon, the_end_of_a_client_wakes_nobody)
{
	unsigned wakes = CLIENTS;
	start();
	/* Others may wake it at any moment. */
	for (unsigned tries = 0; tries < 20 && wakes >= CLIENTS; tries++)
		wakes = wakes_of_ends();
	cr_expect_lt(wakes, CLIENTS);
	end();
}

/* Whether the daemon has a descriptor for one who knocks while all are in use but that of its end of a connection whose client has just gone. */
static bool misses_who_has_gone(void)
{
	int later = make_socket();
	lw_fresh *client = make_client();
	const struct rlimit limit = use_up_descriptors();
	lw_fresh_destroy(client);
	fill_descriptors();
	knock(later);
	bool answered = is_answered(later);
	TREE_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	give_back_descriptors();
	close(later);
	return answered;
}

Test(daemon, who_has_gone_is_missed_when_descriptors_are)
{
	bool missed = false;
	start();
	/* Others may wake it at any moment: then it has looked before. */
	for (unsigned tries = 0; tries < 20 && !missed; tries++)
		missed = misses_who_has_gone();
	cr_expect(missed);
	end();
}
