/* SPDX-License-Identifier: MIT */
/*
 * freshcheck: what a check of freshness costs, beside the bare poll(2) of the same descriptor; and what it takes to become a client.
 *
 *     bench_freshcheck SUFFIXES DIRECTORY [ROUNDS]        (101; DIRECTORY: absolute, below a root of the daemon)
 *
 * In turns, CALLS of each: the bare poll of the daemon's queue, as a client has it; the client's check; the poll again; the same three of a queue of this process's own, with one
 * directory armed. Then a client is made: from its creation until its first check holds. Prints JSON: ns per call, a number for each round.
 */
#include "attached.h"

#include <fcntl.h>
#include <poll.h>

enum { CALLS = 2000, ROUNDS_MAX = 10001, FD_MAX = 256, AGAIN = 100 };
static const int64_t PATIENCE_NS = INT64_C(10) * 1000 * 1000 * 1000;

static unsigned rounds = 101;

static void count_one(void *arg, const struct lw_change *change)
{
	++*(unsigned *)arg;
}

/* The descriptor of a watch that was opened since: the one that is marked and is no socket. */
static int find_watch(const bool *before)
{
	for (int fd = 0; fd < FD_MAX; fd++) {
		char link[64], name[64] = "";
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		if (!before[fd] && lw_watch_owns_fd(fd) && readlink(link, name, sizeof name - 1) > 0 && strstr(name, "notify"))
			return fd;
	}
	check(false, "the watch's descriptor");
	return -1;
}

static void note_open(bool *open)
{
	for (int fd = 0; fd < FD_MAX; fd++)
		open[fd] = fcntl(fd, F_GETFD) >= 0;
}

static _Noreturn void give_up(void)
{
	fprintf(stderr, "something happens all the time: the tree has to be quiet, with fanotify all of its file system\n");
	exit(1);
}

/* Until there is nothing to be told. */
static void settle(lw_fresh *fresh)
{
	unsigned told;
	for (int64_t end = now_ns() + PATIENCE_NS; !lw_fresh_check(fresh, count_one, &told);)
		if (now_ns() > end)
			give_up();
}

/* *QUIET: nothing has happened meanwhile. */
static double time_poll(int fd, bool *quiet)
{
	struct pollfd one = { .fd = fd, .events = POLLIN };
	unsigned empty = 0;
	int64_t begun = now_ns();
	for (unsigned i = 0; i < CALLS; i++)
		empty += poll(&one, 1, 0) == 0;
	*quiet = empty == CALLS;
	return (double)(now_ns() - begun) / CALLS;
}

static double time_check(lw_fresh *fresh, bool *quiet)
{
	unsigned told = 0, held = 0;
	int64_t begun = now_ns();
	for (unsigned i = 0; i < CALLS; i++)
		held += lw_fresh_check(fresh, count_one, &told);
	int64_t taken = now_ns() - begun;
	*quiet = held == CALLS && !told;
	return (double)taken / CALLS;
}

/* The poll, the check, and the poll once more, which tells how far a measurement is from itself. */
struct turn {
	double bare, ours, again;
};

/* Somebody may remove something on the way to the tree: again then. */
static struct turn take_turn(lw_fresh *fresh, int queue)
{
	for (unsigned i = 0; i < AGAIN; i++) {
		struct turn turn;
		bool before, within, after;
		settle(fresh);
		turn.bare = time_poll(queue, &before);
		turn.ours = time_check(fresh, &within);
		turn.again = time_poll(queue, &after);
		if (before && within && after)
			return turn;
	}
	give_up();
}

/* Somebody may be told of something just then: again. */
static double time_attach(const struct lw_suffixes *suffixes)
{
	struct sockaddr_un address;
	unsigned told = 0;
	check(lw_attach_address(suffixes, true, false, &address) == 0, "LADEWERK_WATCH");
	for (unsigned i = 0; i < AGAIN; i++) {
		int64_t begun = now_ns();
		lw_fresh *client = lw_client_create(suffixes, &address);
		bool holds = client && lw_client_attach(client) && lw_fresh_check(client, count_one, &told);
		int64_t taken = now_ns() - begun;
		lw_fresh_destroy(client);
		if (holds)
			return (double)taken;
	}
	give_up();
}

/* One number of each of ROUNDS elements of SIZE bytes. */
static void print(const char *name, const double *ns, size_t size, const char *end)
{
	printf("\"%s\": [", name);
	for (unsigned i = 0; i < rounds; i++)
		printf("%s%.1f", i ? ", " : "", *(const double *)((const char *)ns + i * size));
	printf("]%s", end);
}

static void print_turns(const char *who, const struct turn *turns)
{
	char name[64];
	snprintf(name, sizeof name, "%spoll_ns", who);
	print(name, &turns->bare, sizeof *turns, ", ");
	snprintf(name, sizeof name, "%s_ns", *who ? "own" : "client");
	print(name, &turns->ours, sizeof *turns, ", ");
	snprintf(name, sizeof name, "%spoll_again_ns", who);
	print(name, &turns->again, sizeof *turns, ", ");
}

int main(int argc, char **argv)
{
	static struct turn client[ROUNDS_MAX], own[ROUNDS_MAX];
	static double attaching[ROUNDS_MAX];
	struct lw_suffixes suffixes;
	bool open[FD_MAX];
	if (argc > 3)
		rounds = (unsigned)atoi(argv[3]);
	if (argc < 3 || argc > 4 || !rounds || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench_freshcheck SUFFIXES DIRECTORY [ROUNDS]\n");
		return 2;
	}
	take_suffixes(argv[1], &suffixes);
	note_open(open);
	lw_fresh *attached = attach(&suffixes);
	int queue = find_watch(open);
	note_open(open);
	lw_fresh *process = lw_fresh_own();
	check(process && lw_fresh_arm(process, argv[2], strlen(argv[2])) == LW_ARMED, argv[2]);
	int own_queue = find_watch(open);
	for (unsigned i = 0; i < rounds; i++) {
		client[i] = take_turn(attached, queue);
		own[i] = take_turn(process, own_queue);
		attaching[i] = time_attach(&suffixes);
	}
	printf("{");
	print_turns("", client);
	print_turns("own_", own);
	print("attach_ns", attaching, sizeof *attaching, "}\n");
	lw_fresh_destroy(process);
	lw_fresh_destroy(attached);
	return 0;
}
