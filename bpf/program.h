/* SPDX-License-Identifier: MIT */
/*
 * program: an executable or library that holds a Python or Ladewerk's extension: where to put probes, and how its interpreter is laid out.
 *
 * All of it comes from the file: notes of USDT, symbols, code, and what an interpreter of 3.13 and later says of itself at the head of _PyRuntime. So a binary
 * of which no process runs yet is known as well. The file stays open as long as the program is there: it may be deleted, replaced, or in a mount namespace that ends.
 *
 * x86-64 and aarch64 (there with USDT only).
 */
#ifndef LW_BPF_PROGRAM_H
#define LW_BPF_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "event.h"

enum { LW_PROGRAM_SITES = 32, LW_PROGRAM_WHY = 512 };

enum lw_program_kind { LW_PROGRAM_PYTHON, LW_PROGRAM_LADEWERK };

struct lw_program_site {
	struct lw_site site;
	uint64_t offset;		/* of the instruction, in the file */
	uint64_t semaphore;		/* in the file; 0: none */
	bool slow;			/* the kernel will single-step this instruction (program.c says what that costs) */
};

struct lw_program {
	enum lw_program_kind kind;
	char *path;			/* as the target names it: for people */
	char *reach;			/* by which this process can open it, though it were deleted or in another mount namespace: /proc/self/fd/N */
	int fd;				/* N */
	dev_t dev;
	ino_t ino;
	bool usdt;			/* sites are USDT's; else call sites */
	uint64_t runtime;		/* address of _PyRuntime in the file's own terms; 0: not found. Add the load bias of a process */
	unsigned version;		/* 0x030c; 0: not known */
	uint64_t head_offset, head_address;	/* of the first page that is mapped: in the file, and in its own terms */
	bool laid_out;			/* `layout` is right; else there will be no classes of waits for its processes, and WHY said why */
	struct lw_layout layout;
	unsigned count;
	struct lw_program_site sites[LW_PROGRAM_SITES];
};

/**
 * What process PID has mapped from PATH, which is as in /proc/PID/maps; PID 0: the file at PATH, of which there need be no process. WHY (LW_PROGRAM_WHY bytes) is a sentence
 * for people, if not 0, or why it is not `laid_out`.
 * 0, or -errno: -ENOEXEC (not ELF, or neither Python nor Ladewerk), -ENOTSUP (a Python in which no place for probes was found: which, and what would help), -ENOENT, -ESRCH,
 * -EACCES, -ENOMEM.
 */
int lw_program_read(pid_t pid, const char *path, struct lw_program **out, char *why);
/** The same for the file that FD is open on, which is the program's from here on, error or not; PATH is for people. */
int lw_program_read_open(int fd, const char *path, struct lw_program **out, char *why);
/** NULL is allowed. */
void lw_program_destroy(struct lw_program *program);

/** Load bias of PROGRAM in process PID (what to add to addresses in the file's terms). -ESRCH, -EACCES, -ENOENT (not mapped there). */
int lw_program_bias(const struct lw_program *program, pid_t pid, uint64_t *bias);

#endif
