/* SPDX-License-Identifier: MIT */
/*
 * usdt: static probes as SystemTap's <sys/sdt.h> describes them in notes of an ELF file: addresses, semaphores, and where the compiler put the arguments.
 */
#ifndef LW_BPF_USDT_H
#define LW_BPF_USDT_H

#include "elffile.h"
#include "event.h"

struct lw_usdt {
	const char *provider, *name;
	const char *arguments;		/* "8@%rax -4@%edx" */
	uint64_t address;		/* of the instruction, in the file's terms */
	uint64_t semaphore;		/* address of a 16-bit counter; 0: none */
};

/** Called for each probe; strings are valid during the call. Not 0: ends the walk with that. */
typedef int lw_usdt_sink(void *context, const struct lw_usdt *probe);

/**
 * The probes in SIZE bytes of notes (a section .note.stapsdt; with a zero byte behind). BASE is the address of section .stapsdt.base, 0: there is none: addresses of a file that was
 * prelinked after its notes were written are moved by as much. What SINK said; -EINVAL after a note that lies: those before it were told.
 */
int lw_usdt_parse(const uint8_t *notes, size_t size, uint64_t base, lw_usdt_sink *sink, void *context);
/** Those of ELF. As above; 0 if it has none. -ENOMEM. */
int lw_usdt_read(const lw_elf *elf, lw_usdt_sink *sink, void *context);

/**
 * The first argument of *TEXT, for a program of MACHINE (EM_X86_64, EM_AARCH64); *TEXT then is behind it. Its `form` is left alone.
 * 0; -ENOENT (none is left); -EINVAL (makes no sense); -ENOTSUP (needs what struct lw_argument cannot say: an index register, a symbol, a float).
 */
int lw_argument_parse(unsigned machine, const char **text, struct lw_argument *out);

/** Register NAME ("rax", "w1", "sp"): its offset in the registers of a program of MACHINE. False: there is no such register. */
bool lw_register_find(unsigned machine, const char *name, size_t length, uint16_t *offset);

#endif
