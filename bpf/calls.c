/* SPDX-License-Identifier: MIT */
/*
 * calls: see calls.h. Code is read in pieces, what is of interest looked for as four bytes, and only around those decoded.
 */
#include "calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "x86.h"

enum {
	RUNTIME_MAX = 16 << 20,
	RELOCATIONS_MAX = 32 << 20,
	CODE_MAX = 256 << 20,		/* of all segments together, where they say more than there can be */
	PIECE = 256 << 10,
	OVERLAP = 4 + 8,		/* an operand and the instruction before it may lie across the end of a piece */
	BEFORE = 4,			/* bytes of an instruction before its 32-bit operand, at most */
	STRAIGHT = 160,			/* bytes of straight-line code that are looked at */
	AFTER = 12,			/* instructions behind the call */
	SLOTS = 8,
};

static const char NAME[] = "_find_and_load", FUNCTION[] = "PyObject_CallMethodObjArgs";

/* What code is compared with. */
struct sought {
	const lw_elf *elf;
	uint64_t runtime, object;	/* addresses of _PyRuntime, and of the str within it */
	uint64_t function;		/* of PyObject_CallMethodObjArgs; 0: not here */
	uint64_t slots[SLOTS];		/* of the GOT, that get its address */
	unsigned slot_count;
	struct lw_call *calls;
	unsigned count;
};

/* --- the name --- */

static int64_t number_at(const uint8_t *data)
{
	int64_t number;
	memcpy(&number, data, sizeof(number));
	return number;
}

/*
 * Whether the characters at AT of DATA are those of a compact ASCII str; where it begins. Before them are, in 3.11: 48 bytes, the length at 16; from 3.12 on: 40, at 16;
 * free-threaded: 56, at 32. The last two differ in what is 40 bytes before the characters: the reference count, never 0, or that of other threads, 0.
 */
static bool is_str(const uint8_t *data, uint64_t at, uint64_t *begin)
{
	enum { LENGTH = sizeof(NAME) - 1 };
	unsigned before = 0;
	if (at >= 56 && number_at(data + at - 24) == LENGTH && !number_at(data + at - 40))
		before = 56;
	else if (at >= 40 && number_at(data + at - 24) == LENGTH)
		before = 40;
	else if (at >= 48 && number_at(data + at - 32) == LENGTH)
		before = 48;
	*begin = at - before;
	return before;
}

static int find_name(struct sought *sought, uint64_t size)
{
	uint64_t offset, begin;
	uint8_t *data;
	if (size > RUNTIME_MAX || !lw_elf_offset(sought->elf, sought->runtime, size, &offset))
		return 0;
	int error = lw_elf_load(sought->elf, offset, size, RUNTIME_MAX, &data);
	if (error)
		return error == -ENOMEM ? error : 0;
	const uint8_t *at = data;
	while (!sought->object && (at = memmem(at, size - (uint64_t)(at - data), NAME, sizeof(NAME)))) {
		if (is_str(data, (uint64_t)(at - data), &begin))
			sought->object = sought->runtime + begin;
		at++;
	}
	free(data);
	return 0;
}

/* --- the function --- */

/* Slots that relocations of SECTION fill with symbol INDEX. */
static int find_slots(struct sought *sought, const char *section_name, uint32_t index)
{
	const Elf64_Shdr *section = lw_elf_section(sought->elf, section_name);
	uint8_t *data;
	if (!section || section->sh_type != SHT_RELA)
		return 0;
	int error = lw_elf_load(sought->elf, section->sh_offset, section->sh_size, RELOCATIONS_MAX, &data);
	if (error)
		return error == -ENOMEM ? error : 0;
	for (uint64_t at = 0; section->sh_size - at >= sizeof(Elf64_Rela) && sought->slot_count < SLOTS; at += sizeof(Elf64_Rela)) {
		Elf64_Rela relocation;
		memcpy(&relocation, data + at, sizeof(relocation));
		if (ELF64_R_SYM(relocation.r_info) == index)
			sought->slots[sought->slot_count++] = relocation.r_offset;
	}
	free(data);
	return 0;
}

static int find_function(struct sought *sought)
{
	struct lw_elf_symbol symbol = { .name = FUNCTION };
	int error = lw_elf_symbols(sought->elf, &symbol, 1);
	sought->function = symbol.address;
	if (!error && symbol.index)
		error = find_slots(sought, ".rela.plt", symbol.index);
	if (!error && symbol.index)
		error = find_slots(sought, ".rela.dyn", symbol.index);
	return error;
}

static bool is_slot(const struct sought *sought, uint64_t address)
{
	for (unsigned i = 0; i < sought->slot_count; i++) {
		if (sought->slots[i] == address)
			return true;
	}
	return false;
}

/* Whether TARGET is the function, or an entry of the PLT that jumps to it: [endbr64] [bnd] jmp *slot(%rip). */
static bool is_function(const struct sought *sought, uint64_t target)
{
	uint8_t code[16];
	int32_t distance;
	if (sought->function && target == sought->function)
		return true;
	size_t size = lw_elf_read(sought->elf, target, code, sizeof(code)), at = 0;
	if (size >= 4 && !memcmp(code, "\xf3\x0f\x1e\xfa", 4))
		at = 4;
	if (at < size && code[at] == 0xf2)
		at++;
	if (size - at < 6 || code[at] != 0xff || code[at + 1] != 0x25)
		return false;
	memcpy(&distance, code + at + 2, sizeof(distance));
	return is_slot(sought, target + at + 6 + (uint64_t)(int64_t)distance);
}

/* --- code --- */

/* Whether the 32-bit operand at OPERAND, whose address is ADDRESS, belongs to an instruction that gives rsi the str's address. At least BEFORE bytes are before it. */
static bool takes_name(const struct sought *sought, const uint8_t *operand, uint64_t address)
{
	int32_t value;
	memcpy(&value, operand, sizeof(value));
	uint64_t wide = (uint64_t)(int64_t)value;
	const uint8_t *before = operand - BEFORE;
	enum { RSI = 6, LEA = 0x8d, REX_W = 0x48 };
	if (address + 4 + wide == sought->object)					/* lea name(%rip), %rsi */
		return before[1] == REX_W && before[2] == LEA && before[3] == (RSI << 3 | 5);
	if (wide == sought->object - sought->runtime) {
		if ((before[1] & 0xfe) == REX_W && before[2] == LEA && (before[3] & 0xf8) == (0x80 | RSI << 3) && (before[3] & 7) != 4)	/* lea offset(%rax), %rsi */
			return true;
		if ((before[0] & 0xfe) == REX_W && before[1] == LEA && before[2] == (0x80 | RSI << 3 | 4) && before[3] == 0x24)		/* of rsp, r12 */
			return true;
		return before[1] == REX_W && before[2] == 0x81 && before[3] == (0xc0 | RSI);						/* add $offset, %rsi */
	}
	return wide == sought->object && (before[3] == (0xb8 | RSI) || (before[1] == REX_W && before[2] == 0xc7 && before[3] == (0xc0 | RSI)));	/* mov $name, %esi */
}

/* The call that is next, straight on from ADDRESS: whether it is the function's. *CALL: its address; *BEHIND: that of the instruction after it. */
static bool next_call(const struct sought *sought, uint64_t address, uint64_t *call, uint64_t *behind)
{
	uint8_t code[STRAIGHT];
	size_t size = lw_elf_read(sought->elf, address, code, sizeof(code));
	struct lw_x86 instruction;
	for (size_t at = 0; lw_x86_decode(code + at, size - at, &instruction); at += instruction.length) {
		uint64_t next = address + at + instruction.length, target = next + (uint64_t)(int64_t)instruction.distance;
		*call = address + at;
		*behind = next;
		if (instruction.kind == LW_X86_CALL)
			return is_function(sought, target);
		if (instruction.kind == LW_X86_CALL_SLOT)
			return is_slot(sought, target);
		if (instruction.kind != LW_X86_OTHER)
			return false;
	}
	return false;
}

/*
 * Where to see the return of the call before ADDRESS: an instruction that is certainly executed next or soon, with the same stack pointer. The first that is emulated, as long as nothing
 * unknown comes before it; else the very next one.
 */
static struct lw_call place_behind(const struct sought *sought, uint64_t address)
{
	struct lw_call place = { .behind = address, .in_rax = true, .slow = true };
	uint8_t code[STRAIGHT];
	size_t size = lw_elf_read(sought->elf, address, code, sizeof(code)), at = 0;
	bool in_rax = true;
	for (unsigned i = 0; i < AFTER; i++) {
		struct lw_x86 instruction;
		if (!lw_x86_decode(code + at, size - at, &instruction))
			break;
		if (instruction.emulated) {
			place.behind = address + at;
			place.in_rax = in_rax;
			place.slow = false;
			break;
		}
		if (instruction.kind != LW_X86_OTHER || !instruction.keeps_rsp)
			break;
		in_rax &= instruction.keeps_rax;
		at += instruction.length;
	}
	return place;
}

static void take_call(struct sought *sought, uint64_t after_operand)
{
	uint64_t call, behind;
	if (sought->count == LW_CALLS || !next_call(sought, after_operand, &call, &behind))
		return;
	for (unsigned i = 0; i < sought->count; i++) {
		if (sought->calls[i].call == call)
			return;
	}
	struct lw_call found = place_behind(sought, behind);
	found.call = call;
	sought->calls[sought->count++] = found;
}

/* Code of SEGMENT, *LEFT bytes at most. */
static int search(struct sought *sought, const Elf64_Phdr *segment, uint64_t *left)
{
	uint64_t limit = segment->p_filesz < *left ? segment->p_filesz : *left;
	*left -= limit;
	uint8_t *piece = malloc(PIECE);
	if (!piece)
		return -ENOMEM;
	for (uint64_t at = 0; at < limit; at += PIECE - OVERLAP) {
		size_t size = lw_elf_read(sought->elf, segment->p_vaddr + at, piece, PIECE);
		for (size_t i = BEFORE; i + 4 <= size; i++) {
			uint64_t address = segment->p_vaddr + at + i;
			if (takes_name(sought, piece + i, address))
				take_call(sought, address + 4);
		}
		if (size < PIECE)
			break;
	}
	free(piece);
	return 0;
}

int lw_calls_find(const lw_elf *elf, uint64_t runtime, uint64_t size, struct lw_call *calls)
{
	struct sought sought = { .elf = elf, .runtime = runtime, .calls = calls };
	if (lw_elf_machine(elf) != EM_X86_64)
		return -ENOTSUP;
	int error = find_name(&sought, size);
	if (!error && sought.object)
		error = find_function(&sought);
	unsigned count;
	uint64_t left = CODE_MAX;
	const Elf64_Phdr *segments = lw_elf_segments(elf, &count);
	for (unsigned i = 0; !error && sought.object && i < count; i++) {
		if (segments[i].p_flags & PF_X)
			error = search(&sought, &segments[i], &left);
	}
	return error ? error : (int)sought.count;
}
