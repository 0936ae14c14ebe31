/* SPDX-License-Identifier: MIT */
/*
 * forbid: take system calls away from this process with a real seccomp filter, and what to do where the kernel lacks something. For children: a filter
 * stays.
 */
#ifndef LW_TEST_FORBID_H
#define LW_TEST_FORBID_H

#include "uring.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ACTION for the system call NUMBER, everything else allowed. */
static inline int forbid(long number, unsigned action)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof filter / sizeof *filter, .filter = filter };
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Whether io_uring can be used, asked once. */
static inline bool forbid_have_ring(void)
{
	static int known;
	char text[LW_URING_TEXT];
	if (!known)
		known = lw_uring_probe(text, sizeof text) == 0 ? 1 : -1;
	return known > 0;
}

/* In a Criterion test: without what it needs it is skipped, or fails where LADEWERK_REQUIRE_KERNEL says so. */
#define FORBID_NEEDS(condition, ...) \
	do { \
		const char *forbid_require = getenv("LADEWERK_REQUIRE_KERNEL"); \
		if (condition) \
			break; \
		if (forbid_require && strcmp(forbid_require, "0") != 0) \
			cr_assert_fail(__VA_ARGS__); \
		cr_skip_test(__VA_ARGS__); \
	} while (0)

#endif
