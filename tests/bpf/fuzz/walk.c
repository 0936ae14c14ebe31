/* SPDX-License-Identifier: MIT */
/*
 * walk: any memory, through the walk of frames and names. It ends, stays within what it was given room for, and names are terminated, with nothing but zeros behind, which makes them keys.
 *
 * The input is a layout (of one byte per offset, so that structures overlap) and then memory, whose addresses are offsets in it; only a byte of each address counts, so that most of them lead somewhere.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "event.h"

struct memory {
	const uint8_t *data;
	size_t size;
};

enum { LAYOUT = 24 };

static int peek(const void *reader, void *to, size_t size, uint64_t from)
{
	const struct memory *memory = reader;
	memset(to, 0, size);
	from &= 0xff;
	if (from >= memory->size || size > memory->size - from)
		return -1;
	memcpy(to, memory->data + from, size);
	return 0;
}

static long peek_text(const void *reader, char *to, size_t size, uint64_t from)
{
	const struct memory *memory = reader;
	memset(to, 0, size);
	from &= 0xff;
	if (from >= memory->size)
		return -1;
	size_t most = memory->size - from < size - 1 ? memory->size - from : size - 1;
	size_t length = strnlen((const char *)memory->data + from, most);
	memcpy(to, memory->data + from, length);
	return (long)length + 1;
}

#define LW_PEEK(reader, to, size, from) peek(reader, to, size, from)
#define LW_PEEK_TEXT(reader, to, size, from) peek_text(reader, to, size, from)
#define LW_LOOP(times, step, context)                               \
	do {                                                        \
		for (unsigned round = 0; round < (times); round++)  \
			if (step(round, context))                   \
				break;                              \
	} while (0)
#include "walk.h"

#define MUST(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct lw_layout layout_of(const uint8_t *at)
{
	return (struct lw_layout){
		.runtime_interpreters = at[0], .interpreter_next = at[1], .interpreter_threads = at[2], .thread_next = at[3], .thread_id = at[4], .thread_native = at[5],
		.thread_frame = at[6], .cframe_frame = at[7] & 1 ? 0xffff : at[7], .frame_previous = at[8], .frame_code = at[9], .frame_locals = at[10], .frame_owner = at[11],
		.frame_owner_c = at[12], .tag_mask = at[13] & 7, .code_name = at[14], .code_filename = at[15], .str_state = at[16], .str_length = at[17], .str_ascii = at[18],
		.str_compact = at[19], .str_kind = at[20],
	};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < LAYOUT)
		return 0;
	struct lw_layout layout = layout_of(data);
	struct memory memory = { data + LAYOUT, size - LAYOUT };
	struct lw_spot spot = { 0 };
	char name[LW_NAME_SIZE] = "";
	uint64_t tstate = lw_walk_thread(&memory, &layout, data[21], data[22], data[23]);
	if (lw_walk_frames(&memory, &layout, tstate, &spot) == 0) {
		MUST(spot.class == LW_CLASS_MODULE || spot.class == LW_CLASS_GLOBAL || spot.class == LW_CLASS_FUTEX);
		MUST(memchr(spot.top, 0, sizeof(spot.top)));
	}
	uint32_t length = lw_walk_name(&memory, &layout, spot.name, name);
	MUST(length < LW_NAME_SIZE);
	for (uint32_t i = length; i < LW_NAME_SIZE; i++)
		MUST(length == 0 || name[i] == 0);
	return 0;
}
