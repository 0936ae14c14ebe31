/* SPDX-License-Identifier: MIT */
/*
 * x86: as much of x86-64's machine code as it takes to follow a compiler's code in a straight line: how long instructions are, and what they do to the two registers that matter here.
 */
#ifndef LW_BPF_X86_H
#define LW_BPF_X86_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lw_x86_kind { LW_X86_OTHER, LW_X86_CALL /* direct */, LW_X86_CALL_SLOT /* through a pointer relative to rip */, LW_X86_LEAVES /* jump, return, trap: does not go on behind */, LW_X86_BRANCH };

struct lw_x86 {
	enum lw_x86_kind kind;
	unsigned length;
	int32_t distance;		/* of CALL, CALL_SLOT: from the end of the instruction */
	bool emulated;			/* a uprobe at it costs one trap: the kernel does what it does. Else it is executed out of line, and single-stepped */
	bool keeps_rax, keeps_rsp;	/* certainly */
};

/** The instruction at CODE, of which SIZE bytes are there. False: unknown, or cut. */
bool lw_x86_decode(const uint8_t *code, size_t size, struct lw_x86 *out);

#endif
