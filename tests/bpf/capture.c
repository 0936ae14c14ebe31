/* SPDX-License-Identifier: MIT */
/* capture: every hit of a probe in this program is a record, in order, or is counted as lost; by one link for all probes as by a perf event each. */
#include "capture.h"
#include "mappings.h"
#include "state.h"

#include <bpf/bpf.h>
#include <criterion/criterion.h>
#include <asm/ptrace.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HITS = 500 };

/*
 * A function with a nop for a probe, LABEL; the name is in the register of a first argument. One for each test: they run at once, and a probe is in all processes of a file.
 */
#if defined(__x86_64__)
#define FIRST(name)
#define IN_FIRST(name) "D"(name)
#else
#define FIRST(name) register const char *first __asm__("x0") = name;
#define IN_FIRST(name) "r"(first)
#endif
#define PROBED(function, label)                                                                                        \
	extern const char label[];                                                                                     \
	__attribute__((noinline, noclone)) static void function(const char *name)                                      \
	{                                                                                                              \
		FIRST(name)                                                                                            \
		__asm__ volatile(".globl " #label "\n" #label ": nop" : : IN_FIRST(name) : "memory");                  \
	}

PROBED(hit_counted, test_capture_counted)
PROBED(hit_crowded, test_capture_crowded)
PROBED(hit_named, test_capture_named)
PROBED(hit_left, test_capture_left)
PROBED(hit_missed, test_capture_missed)

struct place {
	uintptr_t address;
	uint64_t offset;
};

static int find_offset(void *context, const struct lw_mapping *mapping)
{
	struct place *place = context;
	if (place->address < mapping->start || place->address >= mapping->end)
		return 0;
	place->offset = place->address - mapping->start + mapping->offset;
	return 1;
}

/* File offset of LABEL in this program. */
static uint64_t offset_of(const char *label)
{
	struct place place = { .address = (uintptr_t)label };
	cr_assert_eq(lw_mappings_read(getpid(), find_offset, &place), 1);
	return place.offset;
}

static struct lw_program own_program(const char *label)
{
	struct lw_program program = { .kind = LW_PROGRAM_LADEWERK, .path = (char *)"this test", .reach = (char *)"/proc/self/exe", .ino = 1, .count = 1 };
	program.sites[0].offset = offset_of(label);
	program.sites[0].site.kind = LW_SITE_START;
	program.sites[0].site.argument[0] = (struct lw_argument){ .place = LW_PLACE_REGISTER, .form = LW_FORM_CHARS, .size = 8 };
#if defined(__x86_64__)
	program.sites[0].site.argument[0].reg = offsetof(struct pt_regs, rdi);
#endif
	return program;
}

/* What came, of this process. */
struct seen {
	unsigned starts, names, processes, cut;
	uint32_t name;		/* of the last start */
	char text[LW_NAME_SIZE];	/* of the last name */
	uint64_t ns;
	bool ordered;
	struct lw_clock clock;	/* of the last start */
	struct lw_event_wait wait;	/* the last one */
};

static void see(void *context, const struct lw_event_head *record, size_t size)
{
	struct seen *seen = context;
	if (record->pid != (uint32_t)getpid())
		return;
	seen->ordered &= record->ns >= seen->ns;
	seen->ns = record->ns;
	if (record->kind == LW_EVENT_NAME) {
		seen->names++;
		seen->cut += record->flags & LW_EVENT_CUT ? 1 : 0;
		snprintf(seen->text, sizeof(seen->text), "%s", ((const struct lw_event_name *)record)->text);
	}
	seen->processes += record->kind == LW_EVENT_PROCESS;
	seen->starts += record->kind == LW_EVENT_START;
	if (record->kind == LW_EVENT_START)
		seen->name = record->name;
	if (record->flags & LW_EVENT_CLOCKED)
		seen->clock = ((const struct lw_event_span *)record)->clock;
	if (record->kind == LW_EVENT_WAIT)
		seen->wait = *(const struct lw_event_wait *)record;
}

/* An open capture, or this test is over. */
static lw_capture *open_capture(struct lw_capture_options options)
{
	char why[LW_CAPTURE_WHY];
	lw_capture *capture;
	int error = lw_capture_open(&options, &capture, why);
	const char *required = getenv("LADEWERK_REQUIRE_KERNEL");
	if ((error == -EPERM || error == -ENOSYS) && !(required && strcmp(required, "1") == 0))
		cr_skip_test("%s", why);
	cr_assert_eq(error, 0, "%s", why);
	return capture;
}

static lw_capture *open_attached(const char *label, struct lw_capture_options options)
{
	char why[LW_CAPTURE_WHY] = "";
	lw_capture *capture = open_capture(options);
	struct lw_program program = own_program(label);
	cr_assert_eq(lw_capture_attach(capture, &program, why), 0, "%s", why);
	cr_assert_eq(lw_capture_attach(capture, &program, why), 0, "once more, and nothing happens: %s", why);
	return capture;
}

Test(capture, every_hit_is_a_record)
{
	for (unsigned way = 0; way < 2; way++) {
		struct seen seen = { .ordered = true };
		struct lw_capture_counts counts;
		lw_capture *capture = open_attached(test_capture_counted, (struct lw_capture_options){ .one_by_one = way == 1 });
		for (unsigned i = 0; i < HITS; i++)
			hit_counted("spam.eggs");
		cr_expect_eq(lw_capture_stop(capture, see, &seen), 0);
		lw_capture_count(capture, &counts);
		cr_expect_eq(seen.starts, HITS, "%u", seen.starts);
		cr_expect(seen.processes == 1 && seen.names == 1 && seen.ordered && seen.name != 0);
		cr_expect_str_eq(seen.text, "spam.eggs");
		cr_expect(counts.hits == HITS && counts.lost == 0 && counts.events == HITS + 2, "%" PRIu64 " hits, %" PRIu64 " lost, %" PRIu64 " events", counts.hits, counts.lost, counts.events);
		cr_expect(counts.overhead_ns > 0);
		/* The probe is gone. */
		hit_counted("spam.eggs");
		lw_capture_count(capture, &counts);
		cr_expect_eq(counts.hits, HITS);
		lw_capture_close(capture);
	}
}

Test(capture, what_has_no_room_is_counted)
{
	enum { MANY = 8 * HITS };
	struct seen seen = { .ordered = true };
	struct lw_capture_counts counts;
	lw_capture *capture = open_attached(test_capture_crowded, (struct lw_capture_options){ .ring_kib = 64 });
	for (unsigned i = 0; i < MANY; i++)
		hit_crowded("spam.eggs");
	cr_expect_eq(lw_capture_stop(capture, see, &seen), 0);
	lw_capture_count(capture, &counts);
	cr_expect_gt(counts.lost, 0);
	cr_expect_lt(seen.starts, MANY);
	cr_expect_eq(seen.starts + counts.lost, MANY, "%u seen, %" PRIu64 " lost", seen.starts, counts.lost);
	lw_capture_close(capture);
}

Test(capture, names_have_one_number_each)
{
	char longest[2 * LW_NAME_SIZE], name[32];
	struct seen seen = { .ordered = true };
	uint32_t first;
	lw_capture *capture = open_attached(test_capture_named, (struct lw_capture_options){ 0 });
	hit_named("a");
	lw_capture_read(capture, 0, see, &seen);
	first = seen.name;
	for (unsigned i = 0; i < HITS; i++) {
		snprintf(name, sizeof(name), "module%u", i);
		hit_named(name);
	}
	lw_capture_read(capture, 0, see, &seen);
	cr_expect_eq(seen.names, HITS + 1);
	cr_expect_eq(seen.name, first + HITS);
	hit_named("a");
	lw_capture_read(capture, 0, see, &seen);
	cr_expect_eq(seen.name, first);
	cr_expect_eq(seen.names, HITS + 1);

	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	hit_named(longest);
	lw_capture_read(capture, 0, see, &seen);
	cr_expect_eq(seen.cut, 1);
	cr_expect_eq(strlen(seen.text), LW_NAME_SIZE - 1);

	hit_named(NULL);
	hit_named((const char *)8);
	hit_named("");
	cr_expect_eq(lw_capture_stop(capture, see, &seen), 0);
	cr_expect_eq(seen.name, 0, "what cannot be read has no name");
	cr_expect_eq(seen.starts, HITS + 6);
	lw_capture_close(capture);
}

Test(capture, who_is_left_alone_is_counted_and_not_told)
{
	struct seen seen = { .ordered = true };
	struct lw_capture_counts counts;
	lw_capture *capture = open_attached(test_capture_left, (struct lw_capture_options){ 0 });
	cr_assert_eq(lw_capture_follow(capture, getpid(), false, 0, NULL), 0);
	hit_left("a");
	/* Its children are no hits. */
	pid_t child = fork();
	if (!child)
		_exit(0);
	cr_assert_eq(waitpid(child, NULL, 0), child);
	lw_capture_read(capture, 0, see, &seen);
	cr_expect_eq(seen.starts + seen.processes + seen.names, 0);
	cr_assert_eq(lw_capture_follow(capture, getpid(), true, 0, NULL), 0);
	hit_left("a");
	lw_capture_read(capture, 0, see, &seen);
	cr_expect(seen.starts == 1 && seen.processes == 0);
	lw_capture_forget(capture, getpid());
	hit_left("a");
	cr_expect_eq(lw_capture_stop(capture, see, &seen), 0);
	cr_expect(seen.starts == 2 && seen.processes == 1);
	lw_capture_count(capture, &counts);
	cr_expect_eq(counts.hits, 3);
	cr_expect_eq(counts.strangers, 1);
	lw_capture_close(capture);
}

/* Another tracer of the same file opens meanwhile: what it tries its probe with is no hit of ours. */
Test(capture, two_at_once_leave_each_other_alone)
{
	for (unsigned way = 0; way < 2; way++) {
		struct lw_capture_options options = { .one_by_one = way == 1 };
		struct lw_capture_counts counts;
		struct seen seen = { .ordered = true };
		int status = -1;
		lw_capture *capture = open_capture(options), *other;
		pid_t child = fork();
		if (!child) {
			char why[LW_CAPTURE_WHY];
			_exit(lw_capture_open(&options, &other, why) ? 1 : 0);
		}
		cr_assert_eq(waitpid(child, &status, 0), child);
		cr_assert_eq(status, 0);
		cr_expect_eq(lw_capture_stop(capture, see, &seen), 0);
		lw_capture_count(capture, &counts);
		cr_expect(counts.hits == 0 && counts.events == 0, "%" PRIu64 " hits, %" PRIu64 " events", counts.hits, counts.events);
		lw_capture_close(capture);
	}
}

Test(capture, a_file_that_is_none)
{
	char why[LW_CAPTURE_WHY] = "";
	lw_capture *capture = open_capture((struct lw_capture_options){ 0 });
	struct lw_program program = own_program(test_capture_left);
	program.reach = (char *)"/nowhere";
	cr_expect_lt(lw_capture_attach(capture, &program, why), 0);
	cr_expect(strstr(why, "this test"), "%s", why);
	lw_capture_close(capture);
}

/* --- arrivals that nobody has seen --- */

/* The map with the entries of threads, by its name among the files of this process, which has one capture open. */
static int find_threads(void)
{
	for (int fd = 3; fd < 256; fd++) {
		struct bpf_map_info info = { 0 };
		__u32 size = sizeof(info);
		if (!bpf_obj_get_info_by_fd(fd, &info, &size) && info.type == BPF_MAP_TYPE_HASH && !strcmp(info.name, "threads") && info.value_size == sizeof(struct lw_thread))
			return fd;
	}
	return -1;
}

enum { MS = 1000000 };

/* This thread has gone to wait a second ago, in CLASS, and was woken half a second ago, if that; that it got its CPU was not told. */
static void miss(int threads, uint8_t class, bool woken)
{
	struct lw_thread thread;
	struct timespec now;
	__u32 key = (__u32)getpid();
	cr_assert_eq(bpf_map_lookup_elem(threads, &key, &thread), 0);
	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t ns = (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
	thread.clock.ns[LW_CLASS_CPU] += ns - thread.since;
	thread.since = ns - 1000 * MS;
	thread.woken = woken ? ns - 500 * MS : 0;
	thread.now = class;
	cr_assert_eq(bpf_map_update_elem(threads, &key, &thread, BPF_EXIST), 0);
}

/* What the clock says of CLASS more than before, in tenths of a second. */
static unsigned went_on(const struct seen *before, const struct seen *after, enum lw_class class)
{
	return (unsigned)((after->clock.ns[class] - before->clock.ns[class] + 50 * MS) / (100 * MS));
}

/* Next the thread comes to a probe, or leaves its CPU again: in either case it was there. */
Test(capture, who_runs_has_got_a_processor)
{
	static const uint8_t classes[] = { LW_CLASS_SLEEP, LW_CLASS_MODULE, LW_CLASS_GIL, LW_CLASS_QUEUE };
	struct seen seen = { .ordered = true };
	lw_capture *capture = open_attached(test_capture_missed, (struct lw_capture_options){ .sched = true, .sched_needed = true });
	int threads = find_threads();
	cr_assert_geq(threads, 0);
	for (unsigned way = 0; way < 4 * sizeof(classes); way++) {
		uint8_t class = classes[way / 4];
		bool woken = (way & 1) && class != LW_CLASS_QUEUE;
		hit_missed("a");
		lw_capture_read(capture, 0, see, &seen);
		struct seen before = seen;
		miss(threads, class, woken);
		if (way & 2)
			usleep(1000);
		hit_missed("a");
		lw_capture_read(capture, 0, see, &seen);
		unsigned waited = woken ? 5 : 10;
		cr_expect_eq(went_on(&before, &seen, class), waited, "%u: %u", way, went_on(&before, &seen, class));
		cr_expect_eq(went_on(&before, &seen, LW_CLASS_CPU), 10 - waited, "%u: %u", way, went_on(&before, &seen, LW_CLASS_CPU));
		if (class == LW_CLASS_MODULE || class == LW_CLASS_GIL)
			cr_expect(seen.wait.head.detail == class && seen.wait.wait_ns / (100 * MS) == waited, "%u: %llu ns", way, (unsigned long long)seen.wait.wait_ns);
	}
	lw_capture_close(capture);
}
