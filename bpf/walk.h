/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * walk: what a blocked thread waits for, from its Python frames. The same code for the BPF program and for process_vm_readv(2): whoever includes this says before how memory of the target is read.
 *
 *     LW_PEEK(reader, to, size, from)    SIZE bytes at address FROM; 0: all of them are there, else TO is zeroed
 *     LW_PEEK_TEXT(reader, to, size, from)    a terminated string, or as much of it as fits; less than 0: not even its beginning
 *     LW_LOOP(times, step, context)    STEP(round, CONTEXT) so often, or until it returns 1
 *
 * The functions of importlib that block, innermost frame first (frames of the interpreter's own between them are passed over):
 *
 *     acquire, [__enter__,] _find_and_load(name)      the lock of module `name`, which somebody else is importing
 *     acquire, _lock_unlock_module(name)              the same, where the module is in sys.modules already
 *     acquire, anything else                          the lock of a module (_exec, of reload())
 *     _get_module_lock | cb | __enter__               the global import lock, which guards the table of module locks, resp. finders
 *
 * The file of the innermost one must be importlib's, frozen: other people's functions have these names as well.
 * Memory of the target may say anything: every loop is bounded, every address is only ever given to LW_PEEK.
 */
#ifndef LW_BPF_WALK_H
#define LW_BPF_WALK_H

#include "event.h"

#ifndef LW_INLINE
#define LW_INLINE static inline __attribute__((always_inline))
#endif

enum {
	LW_WALK_THREADS = 4096,	/* thread states that are looked at in one search */
	LW_WALK_FRAMES = 8,	/* a chain has four at most, shims between them */
	LW_WALK_CODE = 24,	/* bytes of a function's name that are looked at */
	LW_WALK_FILE = 32,
	LW_WALK_COMPACT = 8,	/* bits of a str's state, from str_kind on */
	LW_WALK_ASCII = 16,
};

/* What the walk found. */
struct lw_spot {
	__u32 class;		/* enum lw_class: MODULE, GLOBAL, FUTEX */
	__u32 seen;		/* whether there was a frame at all */
	__u64 name;		/* address of the str that is the module's name; 0: not known */
	char top[LW_WALK_CODE];	/* name of the innermost code */
};

/* The address that is kept at FROM; 0: none, or it could not be read (then LW_PEEK leaves zeros). */
LW_INLINE __u64 lw_peek_address(const void *reader, __u64 from)
{
	__u64 address = 0;
	(void)LW_PEEK(reader, &address, sizeof(address), from);
	return address;
}

/* Whether TEXT is WORD, a literal. Without branches, and no memcmp(): BPF has none. */
LW_INLINE int lw_walk_same(const char *text, const char *word, unsigned size)
{
	unsigned char difference = 0;
#pragma GCC unroll 32
	for (unsigned i = 0; i < size; i++)
		difference |= (unsigned char)(text[i] ^ word[i]);
	return !difference;
}

#define lw_is(text, word) lw_walk_same(text, word, sizeof(word))

/*
 * The thread state of a thread: by THREAD_ID (pthread_self()) if that is not 0, else by NATIVE (gettid() in its own namespace). 0: none.
 * fork() leaves the native number of its caller as it was, in some versions.
 */
LW_INLINE int lw_walk_is_thread(const void *reader, const struct lw_layout *layout, __u64 tstate, __u64 thread_id, __u64 native)
{
	return lw_peek_address(reader, tstate + (thread_id ? layout->thread_id : layout->thread_native)) == (thread_id ? thread_id : native);
}

/* A search, which goes through the threads of one interpreter after the other. */
struct lw_search {
	const void *reader;
	const struct lw_layout *layout;
	__u64 thread_id, native;
	__u64 interpreter, tstate;
	__u64 found;
};

/* One thread state; whether that was the last one. */
static long lw_walk_search(__u32 round, void *context)
{
	struct lw_search *search = context;
	const struct lw_layout *layout = search->layout;
	(void)round;
	if (!search->interpreter)
		return 1;
	if (!search->tstate) {
		search->interpreter = lw_peek_address(search->reader, search->interpreter + layout->interpreter_next);
		search->tstate = lw_peek_address(search->reader, search->interpreter + layout->interpreter_threads);
		return 0;
	}
	if (lw_walk_is_thread(search->reader, layout, search->tstate, search->thread_id, search->native)) {
		search->found = search->tstate;
		return 1;
	}
	search->tstate = lw_peek_address(search->reader, search->tstate + layout->thread_next);
	return 0;
}

LW_INLINE __u64 lw_walk_thread(const void *reader, const struct lw_layout *layout, __u64 runtime, __u64 thread_id, __u64 native)
{
	struct lw_search search = { .reader = reader, .layout = layout, .thread_id = thread_id, .native = native };
	search.interpreter = lw_peek_address(reader, runtime + layout->runtime_interpreters);
	search.tstate = lw_peek_address(reader, search.interpreter + layout->interpreter_threads);
	LW_LOOP(LW_WALK_THREADS, lw_walk_search, &search);
	return search.found;
}

/* Characters of the str at OBJECT; only for what is known to be ASCII where it matters. */
LW_INLINE void lw_walk_ascii(const void *reader, const struct lw_layout *layout, __u64 object, char *to, unsigned size)
{
	if (LW_PEEK_TEXT(reader, to, size, object + layout->str_ascii) < 0)
		to[0] = 0;
}

/* Whether a function of importlib may block in code of this name, and on what. */
LW_INLINE __u32 lw_walk_class(const char *name)
{
	if (lw_is(name, "acquire"))
		return LW_CLASS_MODULE;
	if (lw_is(name, "_get_module_lock") || lw_is(name, "cb") || lw_is(name, "__enter__"))
		return LW_CLASS_GLOBAL;
	return LW_CLASS_FUTEX;
}

/* SPOT is zeroed by the caller. Returns 0, or -1 if there are no frames, or not where LAYOUT says. */
LW_INLINE int lw_walk_frames(const void *reader, const struct lw_layout *layout, __u64 tstate, struct lw_spot *spot)
{
	__u64 frame = lw_peek_address(reader, tstate + layout->thread_frame);
	if (layout->cframe_frame != 0xffff)
		frame = lw_peek_address(reader, frame + layout->cframe_frame);
	spot->class = LW_CLASS_FUTEX;
	for (int i = 0; i < LW_WALK_FRAMES && frame; i++) {
		char name[LW_WALK_FILE] = {};
		__u8 owner = 0xff;
		__u64 here = frame;
		(void)LW_PEEK(reader, &owner, sizeof(owner), frame + layout->frame_owner);
		frame = lw_peek_address(reader, frame + layout->frame_previous);
		if (owner >= layout->frame_owner_c)
			continue;
		__u64 code = lw_peek_address(reader, here + layout->frame_code) & ~(__u64)layout->tag_mask;
		lw_walk_ascii(reader, layout, lw_peek_address(reader, code + layout->code_name), name, LW_WALK_CODE);
		if (!spot->seen) {
			spot->seen = 1;
			__builtin_memcpy(spot->top, name, LW_WALK_CODE);
			__u32 class = lw_walk_class(name);
			if (class == LW_CLASS_FUTEX)
				break;
			lw_walk_ascii(reader, layout, lw_peek_address(reader, code + layout->code_filename), name, LW_WALK_FILE);
			if (!lw_is(name, "<frozen importlib._bootstrap>"))
				break;
			spot->class = class;
			if (class == LW_CLASS_GLOBAL)
				break;
			continue;
		}
		if (lw_is(name, "__enter__"))
			continue;
		if (lw_is(name, "_find_and_load") || lw_is(name, "_lock_unlock_module"))
			spot->name = lw_peek_address(reader, here + layout->frame_locals) & ~(__u64)layout->tag_mask;
		break;
	}
	return spot->seen ? 0 : -1;
}

/* Characters of SIZE bytes each that become UTF-8. */
struct lw_wide {
	const void *reader;
	char *text;
	__u64 from, count;
	__u32 size, at;
};

/* One character; whether that was the last one. Without branches on what it is: the verifier would follow each of them. */
static long lw_walk_wide(__u32 round, void *context)
{
	struct lw_wide *wide = context;
	__u32 at = wide->at, size = wide->size;
	__u64 c = 0;
	if (round >= wide->count || at > LW_NAME_SIZE - 5 || size > 4)
		return 1;
	if (LW_PEEK(wide->reader, &c, size, wide->from + (__u64)round * size))
		return 1;
	__u64 two = (0x7f - c) >> 63, three = (0x7ff - c) >> 63, four = (0xffff - c) >> 63;
	/* 0 or 1; if the compiler knew that, it would make branches of them. */
	__asm__ volatile("" : "+r"(two), "+r"(three), "+r"(four));
	__u64 last = 0x80 | (c & 0x3f), third = 0x80 | (c >> 6 & 0x3f), second = 0x80 | (c >> 12 & 0x3f);
	__u64 bytes2 = 0xc0 | c >> 6 | last << 8;
	__u64 bytes3 = 0xe0 | c >> 12 | third << 8 | last << 16;
	__u64 bytes4 = 0xf0 | c >> 18 | second << 8 | third << 16 | last << 24;
	__u64 bytes = c + two * (bytes2 - c) + three * (bytes3 - bytes2) + four * (bytes4 - bytes3);
	wide->text[at] = (char)bytes;
	wide->text[at + 1] = (char)(bytes >> 8);
	wide->text[at + 2] = (char)(bytes >> 16);
	wide->text[at + 3] = (char)(bytes >> 24);
	wide->at = at + 1 + (__u32)(two + three + four);
	return 0;
}

/*
 * The str at OBJECT as UTF-8 in TEXT, which has LW_NAME_SIZE bytes, all zero; its length, 0 if it cannot be read. Of longer ones as much as fits.
 * What is at OBJECT need not be a str: then what comes out is anything.
 */
LW_INLINE __u32 lw_walk_name(const void *reader, const struct lw_layout *layout, __u64 object, char *text)
{
	__u32 state = 0;
	__u64 length = 0, utf8 = 0;
	if (LW_PEEK(reader, &state, sizeof(state), object + layout->str_state) || LW_PEEK(reader, &length, sizeof(length), object + layout->str_length))
		return 0;
	state >>= layout->str_kind & 31;
	__u32 kind = state & 7;
	if (!(state & LW_WALK_COMPACT))
		return 0;
	if (state & LW_WALK_ASCII)
		utf8 = object + layout->str_ascii;
	else if (LW_PEEK(reader, &utf8, sizeof(utf8), object + layout->str_ascii + sizeof(__u64)))
		return 0;
	if (utf8) {
		long read = LW_PEEK_TEXT(reader, text, LW_NAME_SIZE, utf8);
		return read > 0 && read <= LW_NAME_SIZE ? (__u32)read - 1 : 0;
	}
	if (kind != 1 && kind != 2 && kind != 4)
		return 0;
	struct lw_wide wide = { .reader = reader, .text = text, .from = object + layout->str_compact, .count = length, .size = kind };
	LW_LOOP(LW_NAME_SIZE, lw_walk_wide, &wide);
	return wide.at <= LW_NAME_SIZE - 1 ? wide.at : 0;
}

#endif
