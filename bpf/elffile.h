/* SPDX-License-Identifier: MIT */
/*
 * elffile: what a 64-bit little-endian ELF file says, read with bounds: the file belongs to the traced program, and we run as root.
 *
 * Only pread(2), never mmap(2): a file that is cut while we read is an error and no SIGBUS. Nothing is read whole but what is asked for, and that up to a limit,
 * so a sparse file of terabytes costs nothing. Numbers of the file are used only after they were found to lie within it.
 *
 * Addresses are those of the file (without load bias). One thread uses a lw_elf.
 */
#ifndef LW_BPF_ELFFILE_H
#define LW_BPF_ELFFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <elf.h>

typedef struct lw_elf lw_elf;

/**
 * A descriptor of the regular file at PATH. What is at PATH may be anything that a target put there: of what is no regular file nothing is opened, for opening alone can do something
 * (a watchdog, a tape). -ENOEXEC (not a regular file), or what open(2) says.
 */
int lw_elf_open(const char *path);
/** FD stays the caller's and must live as long. -ENOEXEC (not such a file), -ENOMEM, or what pread() says. */
int lw_elf_create(int fd, lw_elf **out);
/** NULL is allowed. */
void lw_elf_destroy(lw_elf *elf);

/** EM_X86_64, EM_AARCH64, or another. */
unsigned lw_elf_machine(const lw_elf *elf);
/** PT_LOAD segments, COUNT of them, as the file has them but for those that lie. */
const Elf64_Phdr *lw_elf_segments(const lw_elf *elf, unsigned *count);
/** By name, the first; NULL: none. Its sh_offset and sh_size lie within the file (SHT_NOBITS excepted). */
const Elf64_Shdr *lw_elf_section(const lw_elf *elf, const char *name);
/** By type (SHT_DYNSYM, ...), the first. */
const Elf64_Shdr *lw_elf_section_of(const lw_elf *elf, unsigned type);
/** The section whose number is INDEX, as in sh_link. */
const Elf64_Shdr *lw_elf_section_at(const lw_elf *elf, unsigned index);

/** Copy of SIZE bytes at OFFSET of the file, with a zero byte behind; free() it. -ENOEXEC (beyond the end, or more than MAX), -ENOMEM. */
int lw_elf_load(const lw_elf *elf, uint64_t offset, uint64_t size, uint64_t max, uint8_t **out);
/** Where SIZE bytes at ADDRESS are in the file. False: nowhere (as in .bss). */
bool lw_elf_offset(const lw_elf *elf, uint64_t address, uint64_t size, uint64_t *offset);
/** Up to SIZE bytes at ADDRESS, fewer at the end of a segment: how many. 0: nothing is there. */
size_t lw_elf_read(const lw_elf *elf, uint64_t address, void *buffer, size_t size);

/** Called for each string of .dynamic with TAG (DT_NEEDED, DT_RUNPATH, ...). Not 0: ends the walk with that. What it said, 0, -ENOMEM. */
int lw_elf_strings(const lw_elf *elf, int64_t tag, int (*sink)(void *context, const char *string), void *context);

struct lw_elf_symbol {
	const char *name;	/* in: what to look for */
	uint64_t address, size;	/* out; address 0: not defined here */
	uint32_t index;		/* in .dynsym; 0: only in .symtab, or not at all */
	bool wanted;		/* .dynsym refers to it, defined or not */
};
/** Looks for SYMBOLS: in .dynsym, and those that are not defined there in .symtab. What cannot be read is not there. -ENOMEM. */
int lw_elf_symbols(const lw_elf *elf, struct lw_elf_symbol *symbols, unsigned count);

#endif
