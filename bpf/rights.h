/* SPDX-License-Identifier: MIT */
/*
 * rights: what this process may do and what this kernel has, of what tracing needs. Asked for before and after an attempt fails, to say why; never instead of trying.
 */
#ifndef LW_BPF_RIGHTS_H
#define LW_BPF_RIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct lw_rights {
	bool admin, bpf, perfmon, ptrace;	/* effective capabilities: CAP_SYS_ADMIN, CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE */
	bool borrowed;				/* they are those of a user namespace, which do not count here */
	bool btf;				/* /sys/kernel/btf/vmlinux can be read */
	bool uprobes;				/* the kernel has them */
	unsigned kernel;			/* 0x060600 for 6.6 */
};

void lw_rights_ask(struct lw_rights *out);
/** A sentence (SIZE bytes, cut to that) that says which capabilities are missing for BPF programs at uprobes, or do not count, and how to get them. False: none is. */
bool lw_rights_missing(const struct lw_rights *rights, char *text, size_t size);

#endif
