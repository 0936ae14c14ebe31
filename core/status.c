/* SPDX-License-Identifier: MIT */
/* daemon: how it is, in numbers and as JSON. */
#include "daemon_private.h"
#include "stamp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void lw_daemon_stats(const lw_daemon *daemon, struct lw_daemon_stats *stats)
{
	struct lw_keeper_stats keeper;
	lw_keeper_stats(daemon->keeper, &keeper);
	*stats = (struct lw_daemon_stats){
		.why = daemon->why,
		.directories = keeper.directories, .sources = keeper.sources, .bytes = keeper.bytes,
		.unwatched = keeper.unwatched, .unwatched_error = keeper.unwatched_error,
		.marked = keeper.marked, .folds = keeper.folds, .bases = keeper.bases,
		.fold_ns = keeper.fold_ns, .fold_cpu_ns = keeper.fold_cpu_ns, .last_error = keeper.last_error,
		.first_ns = daemon->first_ns, .first_cpu_ns = daemon->first_cpu_ns,
		.generation = daemon->steps + lw_journal_generation(daemon->journal),
		.journal_bytes = lw_journal_position(daemon->journal), .journals = daemon->journals + 1,
		.attached = daemon->attached, .turned_away = daemon->turned_away, .events_per_second = daemon->rate,
		.up_ns = lw_monotonic_ns() - daemon->begun_ns,
		.ready = daemon->ready && daemon->serves,
	};
	lw_watch_stats(daemon->watch, &stats->watch);
	stats->backend = stats->watch.backend;
	stats->watch.events = daemon->events;
	for (const struct client *client = daemon->clients; client; client = client->next)
		stats->clients += client->attached;
}

/* A JSON string: bytes that are no ASCII are passed on, as file names are. */
static void put_text(FILE *out, const char *text)
{
	fputc('"', out);
	for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
		if (*at == '"' || *at == '\\')
			fprintf(out, "\\%c", *at);
		else if (*at < 0x20)
			fprintf(out, "\\u%04x", *at);
		else
			fputc(*at, out);
	}
	fputc('"', out);
}

static void put_roots(FILE *out, const lw_daemon *daemon)
{
	fputs("\"roots\":[", out);
	for (unsigned i = 0; i < daemon->config.count; i++) {
		const char *trouble = lw_daemon_root_trouble(daemon, i), *path = daemon->config.roots[i];
		fprintf(out, "%s{\"path\":", i ? "," : "");
		put_text(out, *path ? path : "/");
		fputs(",\"trouble\":", out);
		if (trouble)
			put_text(out, trouble);
		else
			fputs("null", out);
		fputc('}', out);
	}
	fputs("]", out);
}

/* Resident memory, KiB; 0: not known. */
static uint64_t rss_kib(void)
{
	uint64_t pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");
	if (!file)
		return 0;
	if (fscanf(file, "%*s %" SCNu64, &pages) != 1)
		pages = 0;
	fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

static void put_numbers(FILE *out, const struct lw_daemon_stats *s)
{
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{ "pid", (uint64_t)getpid() }, { "directories", s->directories }, { "sources", s->sources }, { "index_bytes", s->bytes },
		{ "armed", s->watch.armed }, { "watches", s->watch.watches }, { "events", s->watch.events }, { "overflows", s->watch.overflows },
		{ "unwatched", s->unwatched }, { "marked", s->marked }, { "folds", s->folds }, { "bases", s->bases }, { "generation", s->generation },
		{ "journal_bytes", s->journal_bytes }, { "journals", s->journals }, { "clients", s->clients }, { "attached", s->attached }, { "turned_away", s->turned_away }, { "rss_kib", rss_kib() },
	};
	const struct {
		const char *name;
		int64_t ns;
	} times[] = {
		{ "first_seconds", s->first_ns }, { "first_cpu_seconds", s->first_cpu_ns }, { "fold_seconds", s->fold_ns }, { "fold_cpu_seconds", s->fold_cpu_ns },
		{ "up_seconds", s->up_ns },
	};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		fprintf(out, ",\"%s\":%" PRIu64, numbers[i].name, numbers[i].value);
	for (size_t i = 0; i < sizeof times / sizeof *times; i++)
		fprintf(out, ",\"%s\":%.6f", times[i].name, (double)times[i].ns / 1e9);
	fprintf(out, ",\"events_per_second\":%.1f", s->events_per_second);
}

static void put_status(FILE *out, const lw_daemon *daemon)
{
	struct lw_daemon_stats s;
	lw_daemon_stats(daemon, &s);
	fprintf(out, "{\"ready\":%s,", s.ready ? "true" : "false");
	put_roots(out, daemon);
	fputs(",\"backend\":", out);
	put_text(out, s.backend);
	fputs(",\"why\":", out);
	put_text(out, s.why);
	fputs(",\"unwatched_because\":", out);
	put_text(out, s.unwatched ? lw_watch_remedy(s.unwatched_error) : "");
	fputs(",\"trouble\":", out);
	put_text(out, s.last_error ? strerror(s.last_error) : "");
	put_numbers(out, &s);
	fputs("}", out);
}

char *lw_daemon_status(const lw_daemon *daemon)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	if (!out)
		return NULL;
	put_status(out, daemon);
	bool failed = ferror(out);
	if (fclose(out) || failed) {
		free(text);
		return NULL;
	}
	return text;
}
