/* SPDX-License-Identifier: MIT */
/*
 * x86: see x86.h. Lengths are right for what compilers write for x86-64 (tests compare with objdump); what else there is (EVEX, XOP, 3DNow!) is unknown.
 */
#include "x86.h"

#include <string.h>

enum { RAX = 0, RSP = 4, RBP = 5, NO_REGISTER = 0xff, UNCERTAIN = 0xfe, LONGEST = 15 };

/* Where the decoder is. */
struct cursor {
	const uint8_t *at, *end;
	uint8_t rex;
	bool data16, short_operands, short_addresses, repeated;	/* data16: the prefix is there; short_operands: and it counts */
	/* of the ModRM byte, if there is one */
	bool has_modrm;
	uint8_t mod, reg, rm;		/* reg and rm with REX's bits; rm of a memory operand means nothing */
	int32_t displacement;
};

static bool take(struct cursor *cursor, size_t size)
{
	if ((size_t)(cursor->end - cursor->at) < size)
		return false;
	cursor->at += size;
	return true;
}

static bool take_modrm(struct cursor *cursor)
{
	if (!take(cursor, 1))
		return false;
	uint8_t modrm = cursor->at[-1], low = modrm & 7;
	cursor->has_modrm = true;
	cursor->mod = modrm >> 6;
	cursor->reg = (uint8_t)((modrm >> 3 & 7) | (cursor->rex & 4 ? 8 : 0));
	cursor->rm = (uint8_t)(low | (cursor->rex & 1 ? 8 : 0));
	if (cursor->mod == 3)
		return true;
	bool far = cursor->mod == 2 || (cursor->mod == 0 && low == RBP);
	if (low == RSP) {
		if (!take(cursor, 1))
			return false;
		far |= cursor->mod == 0 && (cursor->at[-1] & 7) == RBP;
	}
	if (far) {
		if (!take(cursor, 4))
			return false;
		memcpy(&cursor->displacement, cursor->at - 4, 4);
		return true;
	}
	return cursor->mod != 1 || take(cursor, 1);
}

/* Whether the one-byte OPCODE has a ModRM byte. */
static bool has_modrm(uint8_t opcode)
{
	if (opcode < 0x40)
		return !(opcode & 4);
	return opcode == 0x63 || opcode == 0x69 || opcode == 0x6b || (opcode >= 0x80 && opcode <= 0x8f) || opcode == 0xc0 || opcode == 0xc1 || opcode == 0xc6 || opcode == 0xc7
		|| (opcode >= 0xd0 && opcode <= 0xd3) || (opcode >= 0xd8 && opcode <= 0xdf) || opcode == 0xf6 || opcode == 0xf7 || opcode == 0xfe || opcode == 0xff;
}

/* Not in 64-bit mode, or a prefix that has been dealt with, or an escape. */
static bool is_invalid(uint8_t opcode)
{
	static const uint8_t invalid[] = { 0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x62, 0x82, 0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea };
	return memchr(invalid, opcode, sizeof(invalid));
}

/* Bytes of the immediate operand of the one-byte OPCODE. */
static size_t immediate(const struct cursor *cursor, uint8_t opcode)
{
	size_t word = cursor->short_operands ? 2 : 4;
	if (opcode < 0x40)
		return (opcode & 7) == 4 ? 1 : (opcode & 7) == 5 ? word : 0;
	if ((opcode >= 0x70 && opcode <= 0x7f) || (opcode >= 0xb0 && opcode <= 0xb7) || (opcode >= 0xe0 && opcode <= 0xe7))
		return 1;
	if (opcode >= 0xb8 && opcode <= 0xbf)
		return cursor->rex & 8 ? 8 : word;
	if (opcode >= 0xa0 && opcode <= 0xa3)
		return cursor->short_addresses ? 4 : 8;
	switch (opcode) {
	case 0x6a: case 0x6b: case 0x80: case 0x83: case 0xa8: case 0xc0: case 0xc1: case 0xc6: case 0xcd: case 0xeb:
		return 1;
	case 0x68: case 0x69: case 0x81: case 0xa9: case 0xc7:
		return word;
	case 0xe8: case 0xe9:
		return 4;
	case 0xc2: case 0xca:
		return 2;
	case 0xc8:
		return 3;
	case 0xf6:
		return (cursor->reg & 6) == 0 ? 1 : 0;
	case 0xf7:
		return (cursor->reg & 6) == 0 ? word : 0;
	default:
		return 0;
	}
}

/* Behind 0f. */
static bool two_byte(struct cursor *cursor, uint8_t opcode, struct lw_x86 *out)
{
	if (opcode >= 0x80 && opcode <= 0x8f) {
		out->kind = LW_X86_BRANCH;
		out->emulated = !cursor->data16;
		out->keeps_rax = out->keeps_rsp = true;
		return take(cursor, 4);
	}
	if (opcode == 0x0b || opcode == 0xb9 || opcode == 0xff) {
		out->kind = LW_X86_LEAVES;
		return opcode == 0x0b || take_modrm(cursor);
	}
	if (opcode == 0x38)
		return take(cursor, 1) && take_modrm(cursor);
	if (opcode == 0x3a)
		return take(cursor, 1) && take_modrm(cursor) && take(cursor, 1);
	if (opcode == 0x04 || opcode == 0x0a || opcode == 0x0c || opcode == 0x0f || (opcode >= 0x24 && opcode <= 0x27) || (opcode >= 0x36 && opcode <= 0x3f))
		return false;
	bool bare = opcode == 0x05 || opcode == 0x06 || opcode == 0x07 || opcode == 0x08 || opcode == 0x09 || opcode == 0x0e || (opcode >= 0x30 && opcode <= 0x35) || opcode == 0x77
		|| opcode == 0xa0 || opcode == 0xa1 || opcode == 0xa2 || (opcode >= 0xa8 && opcode <= 0xaa) || (opcode >= 0xc8 && opcode <= 0xcf);
	bool byte = (opcode >= 0x70 && opcode <= 0x73) || opcode == 0xa4 || opcode == 0xac || opcode == 0xba || opcode == 0xc2 || (opcode >= 0xc4 && opcode <= 0xc6);
	if ((!bare && !take_modrm(cursor)) || (byte && !take(cursor, 1)))
		return false;
	/* nopl, endbr64 and hints; cmov and the like write the register they name. */
	if (opcode >= 0x18 && opcode <= 0x1f)
		out->keeps_rax = out->keeps_rsp = opcode == 0x1f || (opcode == 0x1e && cursor->repeated && cursor->mod == 3);
	else if ((opcode >= 0x40 && opcode <= 0x4f) || opcode == 0xb6 || opcode == 0xb7 || opcode == 0xbe || opcode == 0xbf || opcode == 0xaf) {
		out->keeps_rax = cursor->reg != RAX;
		out->keeps_rsp = cursor->reg != RSP;
	} else if (opcode == 0x10 || opcode == 0x11 || opcode == 0x28 || opcode == 0x29 || opcode == 0x57 || opcode == 0xef || opcode == 0x6f || opcode == 0x7f)
		out->keeps_rax = out->keeps_rsp = true;		/* of SSE's registers */
	return true;
}

/* AVX: the maps of 0f, 0f 38, 0f 3a. */
static bool vex(struct cursor *cursor, uint8_t escape)
{
	if (!take(cursor, 1))
		return false;
	unsigned map = 1;
	if (escape == 0xc4) {
		map = cursor->at[-1] & 0x1f;
		if (!take(cursor, 1))
			return false;
	}
	if (!take(cursor, 1))
		return false;
	uint8_t opcode = cursor->at[-1];
	bool byte = map == 3 || (map == 1 && ((opcode >= 0x70 && opcode <= 0x73) || opcode == 0xc2 || (opcode >= 0xc4 && opcode <= 0xc6)));
	return map >= 1 && map <= 3 && ((map == 1 && opcode == 0x77) || take_modrm(cursor)) && (!byte || take(cursor, 1));
}

/* What a one-byte OPCODE writes, of the sixteen registers: which, NO_REGISTER, or UNCERTAIN. */
static uint8_t written_by(const struct cursor *cursor, uint8_t opcode)
{
	uint8_t rm = cursor->has_modrm && cursor->mod == 3 ? cursor->rm : NO_REGISTER, extension = cursor->reg & 7;
	if (opcode < 0x38)
		return !cursor->has_modrm ? RAX : opcode & 2 ? cursor->reg : rm;
	if (opcode >= 0xb0 && opcode <= 0xbf)
		return (uint8_t)((opcode & 7) | (cursor->rex & 1 ? 8 : 0));
	if (opcode < 0x40 || (opcode >= 0x70 && opcode <= 0x7f))
		return NO_REGISTER;			/* cmp; branches */
	switch (opcode) {
	case 0x84: case 0x85: case 0xa8: case 0xa9:	/* test */
		return NO_REGISTER;
	case 0x90:
		return cursor->rex & 1 ? RAX : NO_REGISTER;
	case 0x80: case 0x81: case 0x83:
		return extension == 7 ? NO_REGISTER : rm;
	case 0x88: case 0x89: case 0xc6: case 0xc7: case 0xc0: case 0xc1: case 0xd0: case 0xd1: case 0xd2: case 0xd3:
		return rm;
	case 0x8a: case 0x8b: case 0x8d: case 0x63: case 0x69: case 0x6b:
		return cursor->reg;
	case 0xf6: case 0xf7:				/* test; not, neg; mul, div */
		return extension < 2 ? NO_REGISTER : extension < 4 ? rm : RAX;
	case 0xfe: case 0xff:				/* inc, dec */
		return extension < 2 ? rm : UNCERTAIN;
	default:
		return UNCERTAIN;
	}
}

static void effects(const struct cursor *cursor, uint8_t opcode, struct lw_x86 *out)
{
	uint8_t written = written_by(cursor, opcode);
	/* Without REX, 4 to 7 of an operation on bytes are the second bytes of rax to rbx. */
	bool bytes = !(opcode & 1) && opcode < 0xb8 && opcode != 0x8d;
	if (bytes && !cursor->rex && written == RSP)
		written = RAX;
	out->keeps_rax = written != UNCERTAIN && written != RAX;
	out->keeps_rsp = written != UNCERTAIN && written != RSP;
}

static bool one_byte(struct cursor *cursor, uint8_t opcode, struct lw_x86 *out)
{
	if (is_invalid(opcode) || (has_modrm(opcode) && !take_modrm(cursor)) || !take(cursor, immediate(cursor, opcode)))
		return false;
	effects(cursor, opcode, out);
	bool plain = !cursor->data16;	/* the kernel leaves instructions with this prefix alone */
	if (opcode == 0xe8) {
		out->kind = LW_X86_CALL;
		memcpy(&out->distance, cursor->at - 4, 4);
		out->emulated = plain;
	} else if (opcode == 0xff && (cursor->reg & 7) == 2) {
		out->kind = cursor->mod == 0 && (cursor->rm & 7) == RBP ? LW_X86_CALL_SLOT : LW_X86_OTHER;
		out->distance = cursor->displacement;
	} else if (opcode == 0xe9 || opcode == 0xeb) {
		out->kind = LW_X86_LEAVES;
		out->emulated = plain;
		out->keeps_rax = out->keeps_rsp = true;
	} else if (opcode == 0xc2 || opcode == 0xc3 || opcode == 0xca || opcode == 0xcb || opcode == 0xcc || opcode == 0xcf || opcode == 0xf4
			|| (opcode == 0xff && ((cursor->reg & 7) == 4 || (cursor->reg & 7) == 5))) {
		out->kind = LW_X86_LEAVES;
	} else if (opcode >= 0x70 && opcode <= 0x7f) {
		out->kind = LW_X86_BRANCH;
		out->emulated = plain;
	} else if (opcode >= 0xe0 && opcode <= 0xe3) {
		out->kind = LW_X86_BRANCH;
	} else if (opcode == 0x90) {
		out->emulated = plain && !cursor->rex && !cursor->repeated;
	} else if (opcode >= 0x50 && opcode <= 0x57) {
		out->emulated = plain && (!cursor->rex || cursor->rex == 0x41);
	}
	return true;
}

static bool take_prefix(struct cursor *cursor, uint8_t byte)
{
	if (byte == 0x66)
		cursor->data16 = cursor->short_operands = true;
	else if (byte == 0x67)
		cursor->short_addresses = true;
	else if (byte == 0xf2 || byte == 0xf3)
		cursor->repeated = true;
	else
		return byte == 0xf0 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x26 || byte == 0x64 || byte == 0x65;
	return true;
}

/* Prefixes, and the byte behind them. */
static bool take_opcode(struct cursor *cursor, uint8_t *opcode)
{
	do {
		if (!take(cursor, 1))
			return false;
		*opcode = cursor->at[-1];
	} while (take_prefix(cursor, *opcode));
	if ((*opcode & 0xf0) != 0x40)
		return true;
	cursor->rex = *opcode;
	if (cursor->rex & 8)
		cursor->short_operands = false;
	if (!take(cursor, 1))
		return false;
	*opcode = cursor->at[-1];
	return true;
}

bool lw_x86_decode(const uint8_t *code, size_t size, struct lw_x86 *out)
{
	if (size > LONGEST)
		size = LONGEST;
	struct cursor cursor = { .at = code, .end = code + size };
	uint8_t opcode;
	*out = (struct lw_x86){ .kind = LW_X86_OTHER };
	if (!take_opcode(&cursor, &opcode))
		return false;
	bool known;
	if (opcode == 0x0f)
		known = take(&cursor, 1) && two_byte(&cursor, cursor.at[-1], out);
	else if (opcode == 0xc4 || opcode == 0xc5)
		known = vex(&cursor, opcode);
	else
		known = one_byte(&cursor, opcode, out);
	out->length = (unsigned)(cursor.at - code);
	return known;
}
