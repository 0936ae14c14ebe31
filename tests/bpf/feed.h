/* SPDX-License-Identifier: MIT */
/* feed: records as the BPF programs send them, made up; and a listener that writes down what a model tells. */
#ifndef LW_TESTS_BPF_FEED_H
#define LW_TESTS_BPF_FEED_H

#include "model.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEED_PID = 100 };

struct told {
	char what;	/* S started, I import, W wait, + and - process */
	struct lw_import import;
	struct lw_wait wait;
	uint32_t pid;
};

struct feed {
	lw_model *model;
	struct told *told;
	unsigned count, room;
	uint32_t pid;			/* of the records to come */
	uint8_t source;
	const struct lw_clock *clock;	/* goes with spans, if not NULL */
};

static inline struct told *feed_tell(void *context, char what)
{
	struct feed *feed = context;
	if (feed->count == feed->room) {
		feed->room = feed->room ? 2 * feed->room : 64;
		feed->told = reallocarray(feed->told, feed->room, sizeof(*feed->told));
		cr_assert(feed->told);
	}
	struct told *told = &feed->told[feed->count++];
	*told = (struct told){ .what = what };
	return told;
}

static inline void feed_started(void *context, const struct lw_import *import)
{
	feed_tell(context, 'S')->import = *import;
}

static inline void feed_import(void *context, const struct lw_import *import)
{
	feed_tell(context, 'I')->import = *import;
}

static inline void feed_wait_told(void *context, const struct lw_wait *wait)
{
	feed_tell(context, 'W')->wait = *wait;
}

static inline void feed_process(void *context, uint32_t pid, bool alive)
{
	feed_tell(context, alive ? '+' : '-')->pid = pid;
}

/* OTHERS hear everything first. */
static inline void feed_begin_with(struct feed *feed, const struct lw_listener *others, unsigned count)
{
	struct lw_listener all[4];
	cr_assert(count < 4);
	for (unsigned i = 0; i < count; i++)
		all[i] = others[i];
	all[count] = (struct lw_listener){ feed, feed_started, feed_import, feed_wait_told, feed_process };
	*feed = (struct feed){ .model = lw_model_create(all, count + 1), .pid = FEED_PID };
	cr_assert(feed->model);
}

static inline void feed_begin(struct feed *feed)
{
	feed_begin_with(feed, NULL, 0);
}

static inline void feed_end(struct feed *feed)
{
	lw_model_destroy(feed->model);
	free(feed->told);
}

/* Of as many bytes as the record has, so that a byte too far is seen. */
static inline void feed_record(struct feed *feed, const void *record, size_t size)
{
	void *copy = malloc(size + !size);
	cr_assert(copy);
	memcpy(copy, record, size);
	lw_model_event(feed->model, copy, size);
	free(copy);
}

static inline void feed_name(struct feed *feed, uint32_t number, const char *text)
{
	struct lw_event_name record = { .head = { .kind = LW_EVENT_NAME, .name = number } };
	size_t len = strlen(text);
	cr_assert(len < LW_NAME_SIZE);
	memcpy(record.text, text, len);
	feed_record(feed, &record, sizeof(record.head) + len + 1);
}

/* Numbers from 1. */
static inline void feed_names(struct feed *feed, const char *const *text)
{
	for (uint32_t i = 0; text[i]; i++)
		feed_name(feed, i + 1, text[i]);
}

static inline void feed_span(struct feed *feed, uint8_t kind, uint8_t flags, uint32_t tid, uint32_t name, uint64_t ns, uint64_t frame)
{
	struct lw_event_span record = {
		.head = { .kind = kind, .source = feed->source, .flags = flags, .pid = feed->pid, .tid = tid, .name = name, .ns = ns }, .frame = frame,
	};
	if (feed->clock) {
		record.head.flags |= LW_EVENT_CLOCKED;
		record.clock = *feed->clock;
	}
	feed_record(feed, &record, feed->clock ? sizeof(record) : LW_EVENT_SPAN_SHORT);
}

static inline void feed_start(struct feed *feed, uint32_t tid, uint32_t name, uint64_t ns)
{
	feed_span(feed, LW_EVENT_START, 0, tid, name, ns, 0);
}

static inline void feed_done(struct feed *feed, uint32_t tid, uint32_t name, uint64_t ns)
{
	feed_span(feed, LW_EVENT_DONE, 0, tid, name, ns, 0);
}

static inline void feed_start_at(struct feed *feed, uint32_t tid, uint32_t name, uint64_t ns, uint64_t frame)
{
	feed_span(feed, LW_EVENT_START, 0, tid, name, ns, frame);
}

static inline void feed_done_at(struct feed *feed, uint32_t tid, uint32_t name, uint64_t ns, uint64_t frame)
{
	feed_span(feed, LW_EVENT_DONE, 0, tid, name, ns, frame);
}

static inline void feed_wait(struct feed *feed, uint32_t tid, enum lw_class kind, uint32_t name, uint64_t begin, uint64_t wait, uint32_t waker)
{
	struct lw_event_wait record = {
		.head = { .kind = LW_EVENT_WAIT, .source = LW_SOURCE_SCHED, .detail = (uint8_t)kind, .pid = feed->pid, .tid = tid, .name = name, .ns = begin },
		.wait_ns = wait, .waker = waker,
	};
	feed_record(feed, &record, sizeof(record));
}

static inline void feed_head(struct feed *feed, uint8_t kind, uint32_t tid, uint32_t name, uint64_t ns)
{
	struct lw_event_head record = { .kind = kind, .pid = feed->pid, .tid = tid, .name = name, .ns = ns };
	feed_record(feed, &record, sizeof(record));
}

/* The Nth (from 0) of that kind that was told; NULL: there were not so many. */
static inline const struct told *feed_nth(const struct feed *feed, char what, unsigned n)
{
	for (unsigned i = 0; i < feed->count; i++)
		if (feed->told[i].what == what && n-- == 0)
			return &feed->told[i];
	return NULL;
}

static inline unsigned feed_count(const struct feed *feed, char what)
{
	unsigned count = 0;
	while (feed_nth(feed, what, count))
		count++;
	return count;
}

static inline const struct lw_import *feed_import_nth(const struct feed *feed, unsigned n)
{
	const struct told *told = feed_nth(feed, 'I', n);
	cr_assert(told, "there is no import %u", n);
	return &told->import;
}

static inline const struct lw_wait *feed_wait_nth(const struct feed *feed, unsigned n)
{
	const struct told *told = feed_nth(feed, 'W', n);
	cr_assert(told, "there is no wait %u", n);
	return &told->wait;
}

static inline uint64_t feed_senseless(const struct feed *feed)
{
	uint64_t senseless, dropped;
	lw_model_faults(feed->model, &senseless, &dropped);
	cr_assert_eq(dropped, 0);
	return senseless;
}

/* xorshift64: rounds can be repeated. */
static inline uint64_t feed_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static inline uint64_t feed_below(uint64_t *state, uint64_t limit)
{
	return (feed_random(state) >> 11) % limit;
}

#endif
