/* SPDX-License-Identifier: MIT */
/*
 * published: how long after a save a client of the daemon knows of it.
 *
 *     bench_published SUFFIXES SAVES PAUSE_MS FILE ...        (FILE: absolute, below a root of the daemon)
 *
 * Writes to one FILE after the other in place, PAUSE_MS apart on average (at random, 0 to twice that), and checks again and again, giving way to whoever waits for
 * the CPU, until the client has been told of that path and the check holds: the queue is empty, the generation even. Prints JSON: for each save the us from before
 * the write and from after the close; how often a check said "not now" on the way; and how many times a new snapshot was taken instead of being told.
 */
#include "attached.h"
#include "hash.h"

#include <fcntl.h>
#include <sched.h>

static const int64_t PATIENCE_NS = INT64_C(10) * 1000 * 1000 * 1000;

struct awaited {
	uint64_t hash;
	bool told, replaced;
};

static void on_change(void *arg, const struct lw_change *change)
{
	struct awaited *awaited = arg;
	awaited->told |= change->kind == LW_CHANGE_PATH && change->hash == awaited->hash;
	awaited->replaced |= change->kind == LW_CHANGE_ALL;
}

static void ignore(void *arg, const struct lw_change *change)
{
}

static void save(const char *path, unsigned number, int64_t *before, int64_t *after)
{
	char text[64];
	int len = snprintf(text, sizeof text, "SAVED = %09u\n", number);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	check(fd >= 0, path);
	*before = now_ns();
	check(write(fd, text, (size_t)len) == len, path);
	close(fd);
	*after = now_ns();
}

/* When PATH's change is known; DISTRUSTED counts the checks that said "not now". */
static int64_t wait_for(lw_fresh *client, const char *path, int64_t begun, uint64_t *distrusted, bool *replaced)
{
	struct awaited awaited = { .hash = lw_hash64(path, strlen(path)) };
	for (;;) {
		bool holds = lw_fresh_check(client, on_change, &awaited);
		int64_t now = now_ns();
		if (holds && (awaited.told || awaited.replaced)) {
			*replaced = awaited.replaced;
			return now;
		}
		*distrusted += !holds;
		/* The daemon may have been woken on this CPU. */
		sched_yield();
		if (now - begun > PATIENCE_NS) {
			fprintf(stderr, "%s: nothing was told within 10 s%s%s\n", path, *client->stats.why ? ": " : "", client->stats.why);
			exit(1);
		}
	}
}

static void pause_at_random(unsigned pause_ms)
{
	static uint64_t seed = 11;
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	usleep((useconds_t)((seed >> 33) % (2000 * (uint64_t)pause_ms + 1)));
}

static void print(const char *name, const double *value, unsigned count)
{
	printf("\"%s\": [", name);
	for (unsigned i = 0; i < count; i++)
		printf("%s%.2f", i ? ", " : "", value[i]);
	printf("], ");
}

int main(int argc, char **argv)
{
	struct lw_suffixes suffixes;
	unsigned saves = argc > 4 ? (unsigned)atoi(argv[2]) : 0, pause_ms = argc > 4 ? (unsigned)atoi(argv[3]) : 0, replaced = 0;
	uint64_t distrusted = 0;
	if (!saves) {
		fprintf(stderr, "usage: bench_published SUFFIXES SAVES PAUSE_MS FILE ...\n");
		return 2;
	}
	take_suffixes(argv[1], &suffixes);
	lw_fresh *client = attach(&suffixes);
	double *written = calloc(saves, sizeof *written), *closed = calloc(saves, sizeof *closed);
	check(written && closed, "memory");
	for (unsigned i = 0; i < saves; i++) {
		const char *path = argv[4 + i % (unsigned)(argc - 4)];
		int64_t before, after;
		bool new_snapshot;
		pause_at_random(pause_ms);
		lw_fresh_check(client, ignore, NULL); /* what is told late belongs to an earlier save */
		save(path, i, &before, &after);
		int64_t known = wait_for(client, path, before, &distrusted, &new_snapshot);
		written[i] = (double)(known - before) / 1e3;
		closed[i] = (double)(known - after) / 1e3;
		replaced += new_snapshot;
	}
	printf("{");
	print("written_us", written, saves);
	print("closed_us", closed, saves);
	printf("\"distrusted\": %llu, \"replaced\": %u}\n", (unsigned long long)distrusted, replaced);
	lw_fresh_destroy(client);
	free(written);
	free(closed);
	return 0;
}
