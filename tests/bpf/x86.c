/* SPDX-License-Identifier: MIT */
/* x86: lengths as objdump has them, over all the code of this program; and what is known of single instructions. */
#include "x86.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Test(x86, kinds_and_effects)
{
	static const struct { const char *code; unsigned length; enum lw_x86_kind kind; bool emulated, keeps_rax, keeps_rsp; } cases[] = {
		{ "\xe8\x10\0\0\0", 5, LW_X86_CALL, true, false, false },
		{ "\x67\xe8\x10\0\0\0", 6, LW_X86_CALL, true, false, false },		/* what linkers make of a call through the GOT */
		{ "\x66\x48\xe8\x10\0\0\0", 7, LW_X86_CALL, false, false, false },
		{ "\xff\x15\x10\0\0\0", 6, LW_X86_CALL_SLOT, false, false, false },
		{ "\xff\xd0", 2, LW_X86_OTHER, false, false, false },			/* call *%rax */
		{ "\xff\xe0", 2, LW_X86_LEAVES, false, false, false },			/* jmp *%rax */
		{ "\xc3", 1, LW_X86_LEAVES, false, false, false },
		{ "\x0f\x0b", 2, LW_X86_LEAVES, false, false, false },			/* ud2 */
		{ "\xeb\x05", 2, LW_X86_LEAVES, true, true, true },
		{ "\x74\x05", 2, LW_X86_BRANCH, true, true, true },
		{ "\x0f\x84\0\0\0\0", 6, LW_X86_BRANCH, true, true, true },
		{ "\x90", 1, LW_X86_OTHER, true, true, true },
		{ "\x49\x90", 2, LW_X86_OTHER, false, false, true },			/* xchg %rax,%r8 */
		{ "\x0f\x1f\x44\0\0", 5, LW_X86_OTHER, false, true, true },		/* nopl */
		{ "\xf3\x0f\x1e\xfa", 4, LW_X86_OTHER, false, true, true },		/* endbr64 */
		{ "\x53", 1, LW_X86_OTHER, true, false, false },
		{ "\x48\x89\xc3", 3, LW_X86_OTHER, false, true, true },			/* mov %rax,%rbx */
		{ "\x48\x89\xd8", 3, LW_X86_OTHER, false, false, true },		/* mov %rbx,%rax */
		{ "\x48\x8b\x44\x24\x08", 5, LW_X86_OTHER, false, false, true },	/* mov 8(%rsp),%rax */
		{ "\x48\x89\x44\x24\x08", 5, LW_X86_OTHER, false, true, true },		/* mov %rax,8(%rsp) */
		{ "\x49\x89\xc4", 3, LW_X86_OTHER, false, true, true },			/* mov %rax,%r12 */
		{ "\x4c\x89\xe4", 3, LW_X86_OTHER, false, true, false },		/* mov %r12,%rsp */
		{ "\x48\x83\xc4\x08", 4, LW_X86_OTHER, false, true, false },		/* add $8,%rsp */
		{ "\x48\x83\xf8\x08", 4, LW_X86_OTHER, false, true, true },		/* cmp $8,%rax */
		{ "\x84\xc0", 2, LW_X86_OTHER, false, true, true },			/* test %al,%al */
		{ "\x31\xc0", 2, LW_X86_OTHER, false, false, true },			/* xor %eax,%eax */
		{ "\xb4\x01", 2, LW_X86_OTHER, false, false, true },			/* mov $1,%ah */
		{ "\x40\xb4\x01", 3, LW_X86_OTHER, false, true, false },		/* mov $1,%spl */
		{ "\x48\xb8\0\0\0\0\0\0\0\0", 10, LW_X86_OTHER, false, false, true },
		{ "\x48\xc1\xe8\x03", 4, LW_X86_OTHER, false, false, true },		/* shr $3,%rax */
		{ "\x48\xf7\xe3", 3, LW_X86_OTHER, false, false, true },		/* mul %rbx */
		{ "\x48\xff\xc0", 3, LW_X86_OTHER, false, false, true },		/* inc %rax */
		{ "\x48\x0f\x44\xc3", 4, LW_X86_OTHER, false, false, true },		/* cmove %rbx,%rax */
	};
	struct lw_x86 got;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cr_assert(lw_x86_decode((const uint8_t *)cases[i].code, cases[i].length, &got), "%zu", i);
		cr_expect(got.length == cases[i].length && got.kind == cases[i].kind && got.emulated == cases[i].emulated && got.keeps_rax == cases[i].keeps_rax && got.keeps_rsp == cases[i].keeps_rsp, "%zu", i);
		/* Cut anywhere, it is unknown, and nothing behind is read (ASan). */
		for (unsigned cut = 0; cut < cases[i].length; cut++) {
			uint8_t *exact = malloc(cut + 1);
			memcpy(exact, cases[i].code, cut);
			cr_expect_not(lw_x86_decode(exact, cut, &got), "%zu at %u", i, cut);
			free(exact);
		}
	}
	cr_expect_not(lw_x86_decode((const uint8_t *)"\x06", 1, &got));
	cr_expect_not(lw_x86_decode((const uint8_t *)"ffffffffffffffffffff", 20, &got), "prefixes only");
}

/* Bytes of a line of objdump: "  401000:\t48 89 c3 \tmov ...". How many; 0: it is another line. */
static size_t bytes_of(const char *line, uint8_t *bytes, size_t room)
{
	const char *tab = strchr(line, '\t'), *end = tab ? strchr(tab + 1, '\t') : NULL;
	size_t count = 0;
	if (!end || *line != ' ' || strstr(end, "(bad)"))
		return 0;
	for (const char *at = tab + 1; at < end && *at != ' ' && count < room; at += 3)
		bytes[count++] = (uint8_t)strtoul(at, NULL, 16);
	return count;
}

Test(x86, lengths_are_as_objdump_has_them)
{
	if (system("command -v objdump > /dev/null"))
		cr_skip_test("objdump is missing");
	char line[512];
	snprintf(line, sizeof(line), "objdump -d --insn-width=16 /proc/%d/exe /lib64/ld-linux-x86-64.so.2 2> /dev/null", getpid());
	FILE *dump = popen(line, "r");
	unsigned known = 0, unknown = 0;
	while (dump && fgets(line, sizeof(line), dump)) {
		uint8_t bytes[16];
		struct lw_x86 got;
		size_t count = bytes_of(line, bytes, sizeof(bytes));
		if (!count)
			continue;
		if (!lw_x86_decode(bytes, count, &got)) {
			unknown++;
			continue;
		}
		known++;
		cr_assert_eq(got.length, count, "%u, but %s", got.length, line);
	}
	pclose(dump);
#ifdef __x86_64__
	cr_expect_gt(known, 10000);
	/* EVEX, in the linker's copies for new processors. */
	cr_expect_lt(unknown, known / 20, "%u of %u", unknown, known);
#endif
}
