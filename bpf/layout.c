/* SPDX-License-Identifier: MIT */
/*
 * 3.11 and 3.12 do not describe themselves; their structures are fixed within a minor version, and the same on x86-64 and aarch64. 3.13 and later do, by a table of numbers
 * whose order is the minor version's. Either way what was read is tried out on the process, if it has threads already: a debug build has other structures than its version says.
 */
#include "layout.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "program.h"

/* --- memory of the target --- */

/* 0, or -errno of the read, EFAULT if less is there, and zeros in TO. */
static int peek(pid_t pid, void *to, size_t size, uint64_t from)
{
	struct iovec here = { to, size }, there = { (void *)(uintptr_t)from, size };
	ssize_t got = process_vm_readv(pid, &here, 1, &there, 1, 0);
	int error = got < 0 ? -errno : -EFAULT;
	if (got == (ssize_t)size)
		return 0;
	memset(to, 0, size);
	return error;
}

/* Length with the terminator, or -errno and zeros in TO; what follows the terminator is zero, too. Not beyond a page at once: the next one need not be there. */
static long peek_text(pid_t pid, char *to, size_t size, uint64_t from)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), done = 0;
	memset(to, 0, size);
	while (done < size - 1) {
		size_t some = page - (size_t)((from + done) & (page - 1));
		if (some > size - 1 - done)
			some = size - 1 - done;
		int error = peek(pid, to + done, some, from + done);
		if (error) {
			memset(to, 0, size);
			return error;
		}
		char *end = memchr(to + done, 0, some);
		if (end) {
			memset(end, 0, size - (size_t)(end - to));
			return end - to + 1;
		}
		done += some;
	}
	return (long)size;
}

#define LW_PEEK(reader, to, size, from) peek(*(const pid_t *)(reader), to, size, from)
#define LW_PEEK_TEXT(reader, to, size, from) peek_text(*(const pid_t *)(reader), to, size, from)
#define LW_LOOP(times, step, context)                               \
	do {                                                        \
		for (unsigned round = 0; round < (times); round++)  \
			if (step(round, context))                   \
				break;                              \
	} while (0)
#include "walk.h"

/* --- tables --- */

static const struct lw_layout layout_311 = {
	.version = 0x030b, .has_gil = 1, .runtime_size = 166688,
	.runtime_interpreters = 40, .interpreter_next = 0, .interpreter_threads = 16,
	.thread_next = 8, .thread_id = 152, .thread_native = 160, .thread_frame = 56, .cframe_frame = 8,
	.frame_previous = 48, .frame_code = 32, .frame_locals = 72, .frame_owner = 69, .frame_owner_c = 0xff,
	.code_name = 120, .code_filename = 112,
	.str_state = 32, .str_length = 16, .str_ascii = 48, .str_compact = 72, .str_kind = 2,
};

static const struct lw_layout layout_312 = {
	.version = 0x030c, .has_gil = 1, .runtime_size = 459944,
	.runtime_interpreters = 40, .interpreter_next = 0, .interpreter_threads = 72,
	.thread_next = 8, .thread_id = 136, .thread_native = 144, .thread_frame = 56, .cframe_frame = 0,
	.frame_previous = 8, .frame_code = 0, .frame_locals = 72, .frame_owner = 70, .frame_owner_c = 3,
	.code_name = 120, .code_filename = 112,
	.str_state = 32, .str_length = 16, .str_ascii = 40, .str_compact = 56, .str_kind = 2,
};

/* In both of them. */
enum { THREAD_INTERPRETER = 16 };

/* --- what an interpreter says of itself (_Py_DebugOffsets) --- */

enum { COOKIE, VERSION, FREE_THREADED, WORDS = 128 };

/* Where the numbers are, in words of 8 bytes from the beginning. */
struct description {
	unsigned version;
	uint8_t words;	/* in all */
	uint8_t runtime_size, runtime_interpreters;
	uint8_t interpreter_size, interpreter_next, interpreter_threads;
	uint8_t thread_size, thread_next, thread_interpreter, thread_frame, thread_id, thread_native;
	uint8_t frame_size, frame_previous, frame_code, frame_locals, frame_owner;
	uint8_t code_size, code_filename, code_name;
	uint8_t str_size, str_state, str_length, str_ascii;
};

static const struct description descriptions[] = {
	{ 0x030d, 73, 3, 5, 6, 8, 9, 19, 21, 22, 23, 24, 25, 28, 29, 30, 32, 33, 34, 35, 36, 67, 68, 69, 70 },
	{ 0x030e, 95, 3, 5, 6, 8, 9, 22, 24, 25, 26, 27, 28, 31, 32, 33, 35, 36, 39, 40, 41, 77, 78, 79, 80 },
	{ 0x030f, 111, 3, 5, 6, 8, 9, 22, 24, 25, 26, 30, 31, 39, 40, 41, 43, 44, 47, 48, 49, 89, 90, 91, 92 },
};

/* Offset AT of something of SIZE bytes within a structure whose size is word WHOLE. */
static bool fits(const uint64_t *words, unsigned at, unsigned whole, uint64_t size, uint64_t limit)
{
	return words[whole] < (1u << 30) && words[at] <= limit && words[at] + size <= words[whole];
}

/* Whether every number may be one: they are a program's, which may be hostile, and go into 16 bits. */
static bool plausible(const uint64_t *w, const struct description *d)
{
	const uint64_t small = 0xfffe, large = 0x7fffffff;
	return fits(w, d->runtime_interpreters, d->runtime_size, 8, small)
	       && fits(w, d->interpreter_next, d->interpreter_size, 8, large) && fits(w, d->interpreter_threads, d->interpreter_size, 8, large)
	       && fits(w, d->thread_next, d->thread_size, 8, small) && fits(w, d->thread_interpreter, d->thread_size, 8, small)
	       && fits(w, d->thread_frame, d->thread_size, 8, small) && fits(w, d->thread_id, d->thread_size, 8, small)
	       && fits(w, d->thread_native, d->thread_size, 8, small)
	       && fits(w, d->frame_previous, d->frame_size, 8, small) && fits(w, d->frame_code, d->frame_size, 8, small)
	       && fits(w, d->frame_locals, d->frame_size, 8, small) && fits(w, d->frame_owner, d->frame_size, 1, small)
	       && fits(w, d->code_filename, d->code_size, 8, small) && fits(w, d->code_name, d->code_size, 8, small)
	       && fits(w, d->str_state, d->str_size, 4, small) && fits(w, d->str_length, d->str_size, 8, small)
	       && w[d->str_ascii] <= 256;
}

static struct lw_layout described(const uint64_t *w, const struct description *d)
{
	bool free_threaded = w[FREE_THREADED] != 0;
	return (struct lw_layout){
		.version = (uint16_t)d->version, .free_threaded = free_threaded, .has_gil = !free_threaded, .runtime_size = (uint32_t)w[d->runtime_size],
		.runtime_interpreters = (uint16_t)w[d->runtime_interpreters],
		.interpreter_next = (uint32_t)w[d->interpreter_next], .interpreter_threads = (uint32_t)w[d->interpreter_threads],
		.thread_next = (uint16_t)w[d->thread_next], .thread_id = (uint16_t)w[d->thread_id], .thread_native = (uint16_t)w[d->thread_native],
		.thread_frame = (uint16_t)w[d->thread_frame], .cframe_frame = 0xffff,
		.frame_previous = (uint16_t)w[d->frame_previous], .frame_code = (uint16_t)w[d->frame_code], .frame_locals = (uint16_t)w[d->frame_locals],
		.frame_owner = (uint16_t)w[d->frame_owner], .frame_owner_c = 3, .tag_mask = d->version >= 0x030e ? 3 : 0,
		.code_name = (uint16_t)w[d->code_name], .code_filename = (uint16_t)w[d->code_filename],
		.str_state = (uint16_t)w[d->str_state], .str_length = (uint16_t)w[d->str_length], .str_ascii = (uint16_t)w[d->str_ascii],
		.str_compact = (uint16_t)(w[d->str_ascii] + 2 * sizeof(uint64_t)),
		/* Free-threaded builds from 3.14 on keep `interned` in a byte of its own. */
		.str_kind = free_threaded && d->version >= 0x030e ? 8 : 2,
	};
}

static int read_description(pid_t pid, uint64_t runtime, struct lw_layout *out, unsigned *thread_interpreter, char *why)
{
	uint64_t words[WORDS];
	int error = peek(pid, words, 3 * sizeof(*words), runtime);
	if (error)
		return error;
	unsigned version = (unsigned)(words[VERSION] >> 16);
	const struct description *description = NULL;
	for (size_t i = 0; i < sizeof(descriptions) / sizeof(*descriptions); i++)
		if (descriptions[i].version == version)
			description = &descriptions[i];
	if (!description) {
		snprintf(why, LW_PROGRAM_WHY, "Python %u.%u describes its structures in a way that is not known here (3.11 to 3.15 are): imports are traced, but not what threads wait for", version >> 8 & 0xff, version & 0xff);
		return -ENOTSUP;
	}
	error = peek(pid, words, description->words * sizeof(*words), runtime);
	if (error)
		return error;
	if (!plausible(words, description)) {
		snprintf(why, LW_PROGRAM_WHY, "this Python %u.%u (%#llx) describes its structures with numbers that make no sense: a build before its first release?", version >> 8 & 0xff, version & 0xff, (unsigned long long)words[VERSION]);
		return -ENOTSUP;
	}
	*out = described(words, description);
	*thread_interpreter = (unsigned)words[description->thread_interpreter];
	return 0;
}

/* The first thread state must belong to its interpreter. A process that has none yet proves nothing. */
static bool proven(pid_t pid, uint64_t runtime, const struct lw_layout *layout, unsigned thread_interpreter)
{
	uint64_t interpreter = 0, tstate = 0, owner = 0;
	if (peek(pid, &interpreter, sizeof(interpreter), runtime + layout->runtime_interpreters))
		return false;
	if (!interpreter)
		return true;
	if (peek(pid, &tstate, sizeof(tstate), interpreter + layout->interpreter_threads))
		return false;
	return !tstate || (peek(pid, &owner, sizeof(owner), tstate + thread_interpreter) == 0 && owner == interpreter);
}

static void say_unreadable(pid_t pid, int error, char *why)
{
	if (error == -EPERM)
		snprintf(why, LW_PROGRAM_WHY, "memory of process %d may not be read: that needs CAP_SYS_PTRACE, or to be its user (with kernel.yama.ptrace_scope=0)", (int)pid);
	else
		snprintf(why, LW_PROGRAM_WHY, "memory of process %d cannot be read: %s", (int)pid, strerror(-error));
}

int lw_layout_read(pid_t pid, uint64_t runtime, unsigned version, struct lw_layout *out, char *why)
{
	char cookie[8] = "", unused[LW_PROGRAM_WHY];
	unsigned thread_interpreter = THREAD_INTERPRETER;
	if (!why)
		why = unused;
	why[0] = 0;
	memset(out, 0, sizeof(*out));
	int error = peek(pid, cookie, sizeof(cookie), runtime);
	if (!error && memcmp(cookie, "xdebugpy", sizeof(cookie)) == 0)
		error = read_description(pid, runtime, out, &thread_interpreter, why);
	else if (!error && version == layout_311.version)
		*out = layout_311;
	else if (!error && version == layout_312.version)
		*out = layout_312;
	else if (!error) {
		snprintf(why, LW_PROGRAM_WHY, version ? "Python %u.%u does not say how it is laid out (3.11 to 3.15 are known)" : "this Python does not say how it is laid out, nor which version it is", version >> 8, version & 0xff);
		return -ENOTSUP;
	}
	if (error) {
		if (!why[0])
			say_unreadable(pid, error, why);
		return error == -EFAULT ? -ENOTSUP : error;
	}
	if (!proven(pid, runtime, out, thread_interpreter)) {
		snprintf(why, LW_PROGRAM_WHY, "this Python %u.%u is not laid out like a usual build of that version (a debug build?)", out->version >> 8, out->version & 0xff);
		return -ENOTSUP;
	}
	return 0;
}

/* --- the walk --- */

/* Number of thread TID in its own namespace; TID itself if that cannot be found. */
static uint64_t native_number(pid_t pid, pid_t tid)
{
	char path[64], line[256];
	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
	FILE *file = fopen(path, "re");
	unsigned long number = (unsigned long)tid;
	while (file && fgets(line, sizeof(line), file)) {
		char *last = strrchr(line, '\t');
		if (strncmp(line, "NSpid:", 6) == 0 && last)
			sscanf(last, "%lu", &number);
	}
	if (file)
		fclose(file);
	return number;
}

int lw_layout_stand(pid_t pid, uint64_t runtime, const struct lw_layout *layout, pid_t tid, struct lw_standing *out)
{
	struct lw_spot spot = { 0 };
	char byte;
	memset(out, 0, sizeof(*out));
	int error = peek(pid, &byte, 1, runtime);
	if (error)
		return error;
	uint64_t tstate = lw_walk_thread(&pid, layout, runtime, 0, native_number(pid, tid));
	if (!tstate)
		return -ESRCH;
	if (lw_walk_frames(&pid, layout, tstate, &spot))
		return -EFAULT;
	out->class = (enum lw_class)spot.class;
	memcpy(out->top, spot.top, sizeof(spot.top));
	if (spot.name)
		lw_walk_name(&pid, layout, spot.name, out->module);
	return 0;
}

/* --- imports that are under way --- */

/* Goes on from FRAME to its caller. What FRAME is a call of: NAME (LW_WALK_CODE bytes) if that is one of importlib's functions, else "". Returns FRAME; 0: it has no code. */
static uint64_t next_function(pid_t pid, const struct lw_layout *layout, uint64_t *frame, char *name)
{
	char file[LW_WALK_FILE] = "";
	uint8_t owner = 0xff;
	uint64_t here = *frame;
	memset(name, 0, LW_WALK_CODE);
	(void)peek(pid, &owner, sizeof(owner), here + layout->frame_owner);
	*frame = lw_peek_address(&pid, here + layout->frame_previous);
	if (owner >= layout->frame_owner_c)
		return 0;
	uint64_t code = lw_peek_address(&pid, here + layout->frame_code) & ~(uint64_t)layout->tag_mask;
	lw_walk_ascii(&pid, layout, lw_peek_address(&pid, code + layout->code_filename), file, sizeof(file));
	if (lw_is(file, "<frozen importlib._bootstrap>"))
		lw_walk_ascii(&pid, layout, lw_peek_address(&pid, code + layout->code_name), name, LW_WALK_CODE);
	return here;
}

static bool is_module(pid_t pid, const struct lw_layout *layout, uint64_t frame, const char *module)
{
	char text[LW_NAME_SIZE] = "";
	uint64_t object = lw_peek_address(&pid, frame + layout->frame_locals) & ~(uint64_t)layout->tag_mask;
	return object && lw_walk_name(&pid, layout, object, text) && strcmp(text, module) == 0;
}

unsigned lw_layout_imports(pid_t pid, uint64_t runtime, const struct lw_layout *layout, pid_t tid, const char *module, bool *holds)
{
	enum { DEEP = 1024 };
	char name[LW_WALK_CODE], inner[LW_WALK_CODE] = "";
	uint64_t frame = lw_walk_thread(&pid, layout, runtime, 0, native_number(pid, tid)), call = 0;
	unsigned seen = 0;
	frame = frame ? lw_peek_address(&pid, frame + layout->thread_frame) : 0;
	if (frame && layout->cframe_frame != 0xffff)
		frame = lw_peek_address(&pid, frame + layout->cframe_frame);
	for (unsigned i = 0; i < DEEP && (frame || call); i++) {
		uint64_t here = frame ? next_function(pid, layout, &frame, name) : 0;
		if (!here && frame)
			continue;
		/* Who called it: the interpreter, through its probe, or importlib itself. */
		if (call && (!here || !lw_is(name, "_gcd_import")))
			seen++;
		call = here && lw_is(name, "_find_and_load") ? here : 0;
		if (call && holds && lw_is(inner, "_find_and_load_unlocked") && is_module(pid, layout, call, module))
			*holds = true;
		memcpy(inner, name, sizeof(inner));
	}
	return seen;
}
