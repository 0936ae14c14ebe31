/* SPDX-License-Identifier: MIT */
/*
 * play: records of the ring buffer from a file, through the model into an output format: what tests of formats run.
 *
 *     play FORMAT RECORDS THRESHOLD_NS LABELS INNER [GLOB ...]
 *
 * PLAY_COLUMNS in the environment: the width of the terminal that is written to.
 * RECORDS: for each, its length (uint32_t) and itself. INNER 1: processes have other numbers in their own namespace (their number less 1000). FORMAT "live": the view on the terminal, until its user quits or SIGTERM comes.
 */
#include "live.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t ended;

static void on_term(int number)
{
	ended = number;
}

static pid_t inner(pid_t number)
{
	return number - 1000;
}

static void play_records(const char *path, lw_model *model)
{
	union {
		struct lw_event_head head;
		char bytes[4096];
	} record;
	uint32_t size;
	FILE *in = fopen(path, "rb");
	if (!in)
		exit(2);
	while (fread(&size, sizeof(size), 1, in) == 1) {
		if (size > sizeof(record) || fread(&record, 1, size, in) != size)
			exit(2);
		lw_model_event(model, &record.head, size);
	}
	fclose(in);
}

/* As if 25,000 us had been measured in a second of CPU time. */
static struct lw_capture_counts counts(void)
{
	return (struct lw_capture_counts){ .hits = 40, .switches = 50, .events = 30, .lost = 2, .program_ns = 10000000, .overhead_ns = 25000000 };
}

static int play_live(const struct lw_writer_setup *setup, lw_totals *totals, const char *records)
{
	lw_live *live;
	if (!getenv("PLAY_NO_HANDLER"))
		sigaction(SIGTERM, &(struct sigaction){ .sa_handler = on_term }, NULL);
	int error = lw_live_create(setup, 0, 1, &live);
	if (error)
		return error == -16 ? 16 : 25;
	lw_model *model = lw_model_create((struct lw_listener[]){ lw_totals_listener(totals), lw_live_listener(live) }, 2);
	play_records(records, model);
	struct lw_live_state state = { .processes = 2, .target_cpu_ns = 1000000000, .counts = counts() };
	do {
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		state.now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
		if (!lw_live_tick(live, &state))
			break;
		poll(NULL, 0, 20);
	} while (!ended);
	lw_live_destroy(live);
	lw_model_destroy(model);
	fputs("good bye\n", stdout);
	return ended ? 15 : 0;
}

static int play_format(const struct lw_format *format, const struct lw_writer_setup *setup, lw_totals *totals, const char *records)
{
	lw_writer *writer;
	if (!format || format->create(setup, &writer))
		return 2;
	lw_model *model = lw_model_create((struct lw_listener[]){ lw_totals_listener(totals), format->listener(writer) }, 2);
	play_records(records, model);
	struct lw_ending ending = { .counts = counts(), .end_ns = setup->begin_ns + 1000000000, .target_cpu_ns = 1000000000, .note = "a \"note\"" };
	lw_model_end(model, ending.end_ns);
	lw_model_faults(model, &ending.senseless, &ending.dropped);
	format->end(writer, &ending);
	format->destroy(writer);
	lw_model_destroy(model);
	return ferror(stdout) ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc < 6)
		return 2;
	lw_totals *totals = lw_totals_create();
	const char *columns = getenv("PLAY_COLUMNS");
	const struct lw_writer_setup setup = {
		.out = stdout, .totals = totals, .threshold_ns = strtoull(argv[3], NULL, 10), .labels = (unsigned)atoi(argv[4]), .inner = atoi(argv[5]) ? inner : NULL,
		.globs = argc > 6 ? (const char *const *)&argv[6] : NULL, .glob_count = (unsigned)argc - 6, .begin_ns = 1000000000,
		.width = columns ? (unsigned)atoi(columns) : 0,
	};
	int status = strcmp(argv[1], "live") == 0 ? play_live(&setup, totals, argv[2]) : play_format(lw_format_find(argv[1]), &setup, totals, argv[2]);
	lw_totals_destroy(totals);
	return status;
}
