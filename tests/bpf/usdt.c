/* SPDX-License-Identifier: MIT */
/* usdt: notes as assemblers write them and as they do not, and arguments in both machines' syntax. */
#include "usdt.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- arguments --- */

struct argument_case {
	const char *text;
	int error;
	struct lw_argument expected;
};

static void check(unsigned machine, const struct argument_case *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *text = cases[i].text;
		struct lw_argument got = { 0 }, expected = cases[i].expected;
		cr_assert_eq(lw_argument_parse(machine, &text, &got), cases[i].error, "%s", cases[i].text);
		cr_expect_eq(*text, 0, "%s: not all of it was taken", cases[i].text);
		if (!cases[i].error)
			cr_expect(got.place == expected.place && got.size == expected.size && got.is_signed == expected.is_signed && got.reg == expected.reg && got.offset == expected.offset, "%s", cases[i].text);
	}
}

Test(usdt, arguments_of_x86_64)
{
	static const struct argument_case cases[] = {
		{ "8@%rax", 0, { LW_PLACE_REGISTER, 0, 8, 0, 80, 0, 0 } },
		{ "-4@%edx", 0, { LW_PLACE_REGISTER, 0, 4, 1, 96, 0, 0 } },
		{ "2@%r15w", 0, { LW_PLACE_REGISTER, 0, 2, 0, 0, 0, 0 } },
		{ "-1@%ah", 0, { LW_PLACE_REGISTER, 0, 1, 1, 81, 0, 0 } },
		{ "8@%rsp", 0, { LW_PLACE_REGISTER, 0, 8, 0, 152, 0, 0 } },
		{ "8@$5", 0, { LW_PLACE_CONSTANT, 0, 8, 0, 0, 0, 5 } },
		{ "-8@$-9223372036854775808", 0, { LW_PLACE_CONSTANT, 0, 8, 1, 0, 0, INT64_MIN } },
		{ "8@$0xffffffffffffffff", 0, { LW_PLACE_CONSTANT, 0, 8, 0, 0, 0, -1 } },
		{ "-4@8(%rsp)", 0, { LW_PLACE_MEMORY, 0, 4, 1, 152, 0, 8 } },
		{ "8@-16(%rbp)", 0, { LW_PLACE_MEMORY, 0, 8, 0, 32, 0, -16 } },
		{ "8@(%r8)", 0, { LW_PLACE_MEMORY, 0, 8, 0, 72, 0, 0 } },
		{ "8@0x10(%rdi)", 0, { LW_PLACE_MEMORY, 0, 8, 0, 112, 0, 16 } },
		{ "8@(%rax,%rcx,8)", -ENOTSUP, { 0 } }, { "8@8(%rax,%rcx)", -ENOTSUP, { 0 } }, { "8@(,%rcx,8)", -ENOTSUP, { 0 } },
		{ "8@symbol(%rip)", -ENOTSUP, { 0 } }, { "8@16(%rip)", -ENOTSUP, { 0 } }, { "8@$symbol", -ENOTSUP, { 0 } }, { "8@4096", -ENOTSUP, { 0 } },
		{ "8f@%xmm0", -ENOTSUP, { 0 } }, { "8@%xmm0", -ENOTSUP, { 0 } },
		{ "", -ENOENT, { 0 } }, { "   ", -ENOENT, { 0 } },
		{ "8", -EINVAL, { 0 } }, { "8@", -EINVAL, { 0 } }, { "@%rax", -EINVAL, { 0 } }, { "3@%rax", -EINVAL, { 0 } }, { "-9223372036854775808@%rax", -EINVAL, { 0 } },
		{ "8@%", -EINVAL, { 0 } }, { "8@%rbx2", -EINVAL, { 0 } }, { "8@%rax)", -EINVAL, { 0 } }, { "8@(", -EINVAL, { 0 } }, { "8@(%", -EINVAL, { 0 } }, { "8@(%rax", -EINVAL, { 0 } },
		{ "8@$", -EINVAL, { 0 } }, { "8@8(rax)", -EINVAL, { 0 } }, { "8@%rax,", -EINVAL, { 0 } }, { "99999999999999999999@%rax", -EINVAL, { 0 } },
	};
	check(EM_X86_64, cases, sizeof(cases) / sizeof(*cases));
}

Test(usdt, arguments_of_aarch64)
{
	static const struct argument_case cases[] = {
		{ "8@x0", 0, { LW_PLACE_REGISTER, 0, 8, 0, 0, 0, 0 } },
		{ "-4@w19", 0, { LW_PLACE_REGISTER, 0, 4, 1, 152, 0, 0 } },
		{ "8@x30", 0, { LW_PLACE_REGISTER, 0, 8, 0, 240, 0, 0 } },
		{ "8@sp", 0, { LW_PLACE_REGISTER, 0, 8, 0, 248, 0, 0 } },
		{ "-4@wzr", 0, { LW_PLACE_CONSTANT, 0, 4, 1, 0, 0, 0 } },
		{ "8@xzr", 0, { LW_PLACE_CONSTANT, 0, 8, 0, 0, 0, 0 } },
		{ "-8@-3", 0, { LW_PLACE_CONSTANT, 0, 8, 1, 0, 0, -3 } },
		{ "8@#7", 0, { LW_PLACE_CONSTANT, 0, 8, 0, 0, 0, 7 } },
		{ "8@[x0]", 0, { LW_PLACE_MEMORY, 0, 8, 0, 0, 0, 0 } },
		{ "8@[sp, 16]", 0, { LW_PLACE_MEMORY, 0, 8, 0, 248, 0, 16 } },
		{ "8@[sp,#-16]", 0, { LW_PLACE_MEMORY, 0, 8, 0, 248, 0, -16 } },
		{ "8@[x0, x1]", -ENOTSUP, { 0 } }, { "8@[x0, :lo12:symbol]", -EINVAL, { 0 } },
		{ "8@x31", -EINVAL, { 0 } }, { "8@x01", -EINVAL, { 0 } }, { "8@x", -EINVAL, { 0 } }, { "8@[", -EINVAL, { 0 } }, { "8@[x0", -EINVAL, { 0 } }, { "8@[x0,", -EINVAL, { 0 } },
		{ "8@[x0, 1", -EINVAL, { 0 } }, { "8@%rax", -EINVAL, { 0 } },
	};
	check(EM_AARCH64, cases, sizeof(cases) / sizeof(*cases));
}

Test(usdt, arguments_come_one_after_the_other)
{
	const char *text = "8@%rax  -4@8(%rsp) 8@$5 ";
	struct lw_argument argument;
	uint8_t places[3];
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(lw_argument_parse(EM_X86_64, &text, &argument), 0);
		places[i] = argument.place;
	}
	cr_expect(places[0] == LW_PLACE_REGISTER && places[1] == LW_PLACE_MEMORY && places[2] == LW_PLACE_CONSTANT);
	cr_expect_eq(lw_argument_parse(EM_X86_64, &text, &argument), -ENOENT);
	/* One that is not understood does not stand in the way of the next. */
	text = "8@(%rax,%rcx,8) [x0, 16 8@%rax";
	cr_expect_eq(lw_argument_parse(EM_X86_64, &text, &argument), -ENOTSUP);
	cr_expect_eq(lw_argument_parse(EM_X86_64, &text, &argument), -EINVAL);
	text = "8@%rax";
	cr_expect_eq(lw_argument_parse(EM_386, &text, &argument), -ENOTSUP);
}

/* --- notes --- */

struct heard {
	unsigned count;
	struct lw_usdt last;
	char arguments[64];
};

static int hear(void *context, const struct lw_usdt *probe)
{
	struct heard *heard = context;
	heard->count++;
	heard->last = *probe;
	snprintf(heard->arguments, sizeof(heard->arguments), "%s", probe->arguments);
	return 0;
}

enum { ROOM = 512 };

/* A note at TO; its size. */
static size_t put_note(uint8_t *to, const char *owner, uint32_t type, const uint64_t addresses[3], const char *strings, size_t strings_size)
{
	Elf64_Nhdr header = { (uint32_t)strlen(owner) + 1, (uint32_t)(24 + strings_size), type };
	size_t at = sizeof(header);
	memset(to, 0, ROOM / 2);
	memcpy(to, &header, sizeof(header));
	memcpy(to + at, owner, header.n_namesz);
	at += (header.n_namesz + 3) & ~3u;
	memcpy(to + at, addresses, 24);
	memcpy(to + at + 24, strings, strings_size);
	return at + ((header.n_descsz + 3) & ~3u);
}

static const char STRINGS[] = "python\0import__find__load__done\0" "8@%rax -4@%edx";
static const uint64_t ADDRESSES[3] = { 0x1000, 0x5000, 0x9000 };

Test(usdt, notes_are_moved_with_their_base)
{
	uint8_t notes[ROOM];
	struct heard heard = { 0 };
	size_t size = put_note(notes, "stapsdt", 3, ADDRESSES, STRINGS, sizeof(STRINGS));
	cr_assert_eq(lw_usdt_parse(notes, size, 0x5000, hear, &heard), 0);
	cr_expect(heard.count == 1 && heard.last.address == 0x1000 && heard.last.semaphore == 0x9000);
	cr_expect_str_eq(heard.arguments, "8@%rax -4@%edx");
	cr_assert_eq(lw_usdt_parse(notes, size, 0x4000, hear, &heard), 0);
	cr_expect(heard.last.address == 0 && heard.last.semaphore == 0x8000);
	/* No base: as they are. No semaphore: none, wherever it is moved to. */
	static const uint64_t bare[3] = { 0x1000, 0x5000, 0 };
	size = put_note(notes, "stapsdt", 3, bare, STRINGS, sizeof(STRINGS));
	cr_assert_eq(lw_usdt_parse(notes, size, 0, hear, &heard), 0);
	cr_expect(heard.last.address == 0x1000 && heard.last.semaphore == 0);
	cr_assert_eq(lw_usdt_parse(notes, size, 0x6000, hear, &heard), 0);
	cr_expect(heard.last.address == 0x2000 && heard.last.semaphore == 0);
}

Test(usdt, notes_of_others_are_passed_over)
{
	uint8_t notes[ROOM];
	struct heard heard = { 0 };
	size_t size = put_note(notes, "GNU", 3, ADDRESSES, STRINGS, sizeof(STRINGS));
	size += put_note(notes + size, "stapsdt", 3, ADDRESSES, STRINGS, sizeof(STRINGS));
	cr_assert_eq(lw_usdt_parse(notes, size, 0, hear, &heard), 0);
	cr_expect_eq(heard.count, 1);
	cr_expect_eq(put_note(notes, "stapsdt", 4, ADDRESSES, STRINGS, sizeof(STRINGS)), size - put_note(notes, "GNU", 3, ADDRESSES, STRINGS, sizeof(STRINGS)));
}

/* Cut at every byte, and with every byte of its head changed: never beyond the end (ASan), and what is told has strings. */
Test(usdt, notes_that_lie)
{
	uint8_t notes[ROOM];
	struct heard heard = { 0 };
	size_t size = put_note(notes, "stapsdt", 3, ADDRESSES, STRINGS, sizeof(STRINGS));
	for (size_t cut = 0; cut < size; cut++) {
		uint8_t *exact = malloc(cut + 1);
		memcpy(exact, notes, cut);
		exact[cut] = 0;
		(void)lw_usdt_parse(exact, cut, 0x5000, hear, &heard);
		free(exact);
	}
	for (size_t at = 0; at < 20; at++) {
		for (unsigned value = 0; value < 256; value++) {
			uint8_t *exact = malloc(size + 1);
			memcpy(exact, notes, size);
			exact[size] = 0;
			exact[at] = (uint8_t)value;
			(void)lw_usdt_parse(exact, size, 0x5000, hear, &heard);
			free(exact);
		}
	}
	/* Strings that do not end. */
	size = put_note(notes, "stapsdt", 3, ADDRESSES, "python\0x\0" "8@%rax--", 17);
	heard.count = 0;
	cr_expect_eq(lw_usdt_parse(notes, size, 0, hear, &heard), -EINVAL);
	cr_expect_eq(heard.count, 0);
}
