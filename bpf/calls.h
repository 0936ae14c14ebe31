/* SPDX-License-Identifier: MIT */
/*
 * calls: where an interpreter without USDT calls importlib._bootstrap._find_and_load(), and where it comes back.
 *
 *     1   the interned str "_find_and_load" is part of _PyRuntime: found by its bytes, checked by its length
 *     2   the code that takes its address into rsi: relative to rip, as a constant, or from _PyRuntime's address (through the GOT, in shared libraries)
 *     3   straight on from there, the next call is that of PyObject_CallMethodObjArgs(importlib, name, abs_name, ...): the module's name is in rdx
 *     4   straight on from the call, the first instruction that the kernel emulates is where the return is seen: a uprobe at it costs an eighth
 *
 * x86-64. Only imports that miss sys.modules come here.
 */
#ifndef LW_BPF_CALLS_H
#define LW_BPF_CALLS_H

#include "elffile.h"

enum { LW_CALLS = 8 };

struct lw_call {
	uint64_t call;		/* address of the call instruction; rdx: the module's name, a str */
	uint64_t behind;	/* of an instruction that is executed after it */
	bool in_rax;		/* where rax still is the result, NULL for failure */
	bool slow;		/* that the kernel single-steps */
};

/** Calls in ELF, whose _PyRuntime has SIZE bytes at RUNTIME: how many, at most LW_CALLS. 0: none was found. -ENOMEM, -ENOTSUP (machine). */
int lw_calls_find(const lw_elf *elf, uint64_t runtime, uint64_t size, struct lw_call *calls);

#endif
