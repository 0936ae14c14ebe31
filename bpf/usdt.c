/* SPDX-License-Identifier: MIT */
/*
 * usdt: see usdt.h.
 *
 * A note's contents: three addresses (probe, .stapsdt.base as it was then, semaphore), then provider, name and arguments as strings. An argument is N@OPERAND, N the size in
 * bytes (negative: signed), OPERAND as the assembler of that machine writes it.
 */
#include "usdt.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	NOTES_MAX = 4 << 20,
	NOTE_TYPE = 3,			/* NT_STAPSDT */
	ARGUMENT_MAX = 128,		/* characters */
};

/* --- notes --- */

static size_t aligned(size_t size)
{
	return (size + 3) & ~(size_t)3;
}

/* The string at *AT, which ends before END; *AT is behind it then. NULL: it does not end. */
static const char *string_at(const uint8_t **at, const uint8_t *end)
{
	const uint8_t *zero = *at < end ? memchr(*at, 0, (size_t)(end - *at)) : NULL;
	const char *string = (const char *)*at;
	if (!zero)
		return NULL;
	*at = zero + 1;
	return string;
}

static bool probe_of(const uint8_t *contents, size_t size, uint64_t base, struct lw_usdt *out)
{
	uint64_t addresses[3];
	if (size < sizeof(addresses))
		return false;
	memcpy(addresses, contents, sizeof(addresses));
	uint64_t moved = base && addresses[1] ? base - addresses[1] : 0;
	out->address = addresses[0] + moved;
	out->semaphore = addresses[2] ? addresses[2] + moved : 0;
	const uint8_t *at = contents + sizeof(addresses), *end = contents + size;
	out->provider = string_at(&at, end);
	out->name = out->provider ? string_at(&at, end) : NULL;
	out->arguments = out->name ? string_at(&at, end) : NULL;
	return out->arguments;
}

int lw_usdt_parse(const uint8_t *notes, size_t size, uint64_t base, lw_usdt_sink *sink, void *context)
{
	for (size_t at = 0; size - at >= sizeof(Elf64_Nhdr);) {
		Elf64_Nhdr header;
		memcpy(&header, notes + at, sizeof(header));
		at += sizeof(header);
		size_t name = aligned(header.n_namesz), contents = aligned(header.n_descsz);
		if (name > size - at || header.n_descsz > size - at - name)
			return -EINVAL;
		struct lw_usdt probe;
		if (header.n_type == NOTE_TYPE && header.n_namesz == sizeof("stapsdt") && !memcmp(notes + at, "stapsdt", sizeof("stapsdt"))) {
			if (!probe_of(notes + at + name, header.n_descsz, base, &probe))
				return -EINVAL;
			int error = sink(context, &probe);
			if (error)
				return error;
		}
		at += name;
		at += contents < size - at ? contents : size - at;
	}
	return 0;
}

int lw_usdt_read(const lw_elf *elf, lw_usdt_sink *sink, void *context)
{
	const Elf64_Shdr *section = lw_elf_section(elf, ".note.stapsdt"), *base = lw_elf_section(elf, ".stapsdt.base");
	if (!section || section->sh_type != SHT_NOTE)
		return 0;
	uint8_t *notes;
	int error = lw_elf_load(elf, section->sh_offset, section->sh_size, NOTES_MAX, &notes);
	if (error)
		return error == -ENOMEM ? error : 0;
	error = lw_usdt_parse(notes, section->sh_size, base ? base->sh_addr : 0, sink, context);
	free(notes);
	return error == -EINVAL ? 0 : error;
}

/* --- registers --- */

/* In the order of x86-64's struct pt_regs, 8 bytes each. The letters by which 8, 16, 32 and 64 bits are called. */
static const struct {
	const char *names[5];		/* 64, 32, 16, 8 bits, 8 bits of the second byte */
	uint16_t offset;
} x86_registers[] = {
	{ { "r15", "r15d", "r15w", "r15b" }, 0 }, { { "r14", "r14d", "r14w", "r14b" }, 8 }, { { "r13", "r13d", "r13w", "r13b" }, 16 },
	{ { "r12", "r12d", "r12w", "r12b" }, 24 }, { { "rbp", "ebp", "bp", "bpl" }, 32 }, { { "rbx", "ebx", "bx", "bl", "bh" }, 40 },
	{ { "r11", "r11d", "r11w", "r11b" }, 48 }, { { "r10", "r10d", "r10w", "r10b" }, 56 }, { { "r9", "r9d", "r9w", "r9b" }, 64 },
	{ { "r8", "r8d", "r8w", "r8b" }, 72 }, { { "rax", "eax", "ax", "al", "ah" }, 80 }, { { "rcx", "ecx", "cx", "cl", "ch" }, 88 },
	{ { "rdx", "edx", "dx", "dl", "dh" }, 96 }, { { "rsi", "esi", "si", "sil" }, 104 }, { { "rdi", "edi", "di", "dil" }, 112 },
	{ { "rsp", "esp", "sp", "spl" }, 152 },
};

static bool is(const char *name, size_t length, const char *other)
{
	return other && strlen(other) == length && !memcmp(name, other, length);
}

static bool x86_register(const char *name, size_t length, uint16_t *offset)
{
	for (size_t i = 0; i < sizeof(x86_registers) / sizeof(*x86_registers); i++) {
		for (unsigned width = 0; width < 5; width++) {
			if (is(name, length, x86_registers[i].names[width])) {
				*offset = (uint16_t)(x86_registers[i].offset + (width == 4));
				return true;
			}
		}
	}
	return false;
}

/* x0 to x30 and sp lie one after the other in struct user_pt_regs. */
static bool arm_register(const char *name, size_t length, uint16_t *offset)
{
	unsigned number = 0;
	if (is(name, length, "sp") || is(name, length, "wsp")) {
		*offset = 31 * 8;
		return true;
	}
	if (length < 2 || length > 3 || (name[0] != 'x' && name[0] != 'w'))
		return false;
	for (size_t i = 1; i < length; i++) {
		if (!isdigit((unsigned char)name[i]))
			return false;
		number = number * 10 + (unsigned)(name[i] - '0');
	}
	if (number > 30 || (length == 3 && name[1] == '0'))
		return false;
	*offset = (uint16_t)(number * 8);
	return true;
}

bool lw_register_find(unsigned machine, const char *name, size_t length, uint16_t *offset)
{
	return machine == EM_X86_64 ? x86_register(name, length, offset) : machine == EM_AARCH64 && arm_register(name, length, offset);
}

/* --- arguments --- */

static size_t word_length(const char *text)
{
	size_t length = 0;
	while (isalnum((unsigned char)text[length]))
		length++;
	return length;
}

static void skip_blanks(const char **text)
{
	while (**text == ' ')
		++*text;
}

/* A number, with sign, decimal or 0x; *TEXT is behind it. Addresses of 64 bits wrap as the assembler has them. */
static bool take_number(const char **text, int64_t *out)
{
	const char *digits = *text + (**text == '-' || **text == '+');
	if (!isdigit((unsigned char)*digits))
		return false;
	char *end;
	errno = 0;
	uint64_t value = strtoull(digits, &end, 0);
	if (errno)
		return false;
	*out = (int64_t)(**text == '-' ? 0 - value : value);
	*text = end;
	return true;
}

static int take_register(unsigned machine, const char **text, uint16_t *offset)
{
	size_t length = word_length(*text);
	if (!lw_register_find(machine, *text, length, offset))
		return is(*text, length, "rip") || is(*text, length, "xmm0") ? -ENOTSUP : -EINVAL;
	*text += length;
	return 0;
}

/* $5   %rax   (%rax)   -8(%rbp)   8(%rax,%rcx,4)   symbol(%rip) */
static int x86_operand(const char **text, struct lw_argument *out)
{
	int64_t number = 0;
	if (**text == '$') {
		++*text;
		out->place = LW_PLACE_CONSTANT;
		if (take_number(text, &number))
			return out->offset = number, 0;
		return isalpha((unsigned char)**text) || **text == '_' ? -ENOTSUP : -EINVAL;
	}
	if (**text == '%') {
		++*text;
		out->place = LW_PLACE_REGISTER;
		return take_register(EM_X86_64, text, &out->reg);
	}
	if (**text != '(' && !take_number(text, &number))
		return isalpha((unsigned char)**text) || **text == '_' || **text == '.' ? -ENOTSUP : -EINVAL;
	out->place = LW_PLACE_MEMORY;
	out->offset = number;
	if (**text != '(')
		return **text && **text != ' ' ? -EINVAL : -ENOTSUP;		/* a fixed address */
	++*text;
	if (**text == ',')
		return -ENOTSUP;
	if (*(*text)++ != '%')
		return -EINVAL;
	int error = take_register(EM_X86_64, text, &out->reg);
	if (error || **text == ',')
		return error ? error : -ENOTSUP;
	return *(*text)++ == ')' ? 0 : -EINVAL;
}

/* 5   #5   x0   [x0]   [sp, 16]   [x0, x1] */
static int arm_operand(const char **text, struct lw_argument *out)
{
	int64_t number = 0;
	const char *digits = *text + (**text == '#');
	if (take_number(&digits, &number)) {
		*text = digits;
		out->place = LW_PLACE_CONSTANT;
		return out->offset = number, 0;
	}
	size_t length = word_length(*text);
	if (is(*text, length, "xzr") || is(*text, length, "wzr")) {
		*text += length;
		out->place = LW_PLACE_CONSTANT;
		return 0;
	}
	if (**text != '[') {
		out->place = LW_PLACE_REGISTER;
		return take_register(EM_AARCH64, text, &out->reg);
	}
	++*text;
	out->place = LW_PLACE_MEMORY;
	int error = take_register(EM_AARCH64, text, &out->reg);
	if (error)
		return error;
	skip_blanks(text);
	if (**text == ',') {
		++*text;
		skip_blanks(text);
		if (**text == '#')
			++*text;
		if (!take_number(text, &number))
			return isalpha((unsigned char)**text) ? -ENOTSUP : -EINVAL;
	}
	out->offset = number;
	return *(*text)++ == ']' ? 0 : -EINVAL;
}

/* The size before the @: 1, 2, 4, 8, perhaps negative; "f" behind it is a float's. */
static int take_size(const char **text, struct lw_argument *out)
{
	int64_t size;
	if (!take_number(text, &size))
		return -EINVAL;
	out->is_signed = size < 0;
	uint64_t bytes = size < 0 ? 0 - (uint64_t)size : (uint64_t)size;
	if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8)
		return -EINVAL;
	out->size = (uint8_t)bytes;
	if (**text == 'f')
		return -ENOTSUP;
	return *(*text)++ == '@' ? 0 : -EINVAL;
}

/* Behind the argument that begins at TEXT: blanks within brackets belong to it. */
static const char *argument_end(const char *text)
{
	for (unsigned depth = 0; *text && (depth || *text != ' '); text++)
		depth = *text == '[' || *text == '(' ? depth + 1 : (*text == ']' || *text == ')') && depth ? depth - 1 : depth;
	return text;
}

int lw_argument_parse(unsigned machine, const char **text, struct lw_argument *out)
{
	skip_blanks(text);
	if (!**text)
		return -ENOENT;
	char copy[ARGUMENT_MAX];
	const char *begin = *text, *end = argument_end(begin), *at = copy;
	*text = end;
	if ((size_t)(end - begin) >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, begin, (size_t)(end - begin));
	copy[end - begin] = 0;
	*out = (struct lw_argument){ .form = out->form };
	int error = take_size(&at, out);
	if (!error)
		error = machine == EM_X86_64 ? x86_operand(&at, out) : machine == EM_AARCH64 ? arm_operand(&at, out) : -ENOTSUP;
	return error ? error : *at ? -EINVAL : 0;
}
