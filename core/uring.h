/* SPDX-License-Identifier: MIT */
/*
 * uring: may this process use io_uring? For `ladewerk doctor` and ioq.h, NEVER in a user's program: a seccomp filter may
 * kill instead of refusing, and even asking in a forked child leaves a core dump or an audit record behind.
 *
 * Nothing depends on the answer being yes: without io_uring Ladewerk reads with threads.
 */
#ifndef LW_URING_H
#define LW_URING_H

#include <stddef.h>

enum { LW_URING_TEXT = 256 };

/**
 * Try io_uring in a forked child. Returns 0 or -errno and a sentence in TEXT (SIZE bytes, LW_URING_TEXT hold any):
 *
 *     0            works; names what it can do
 *     -ENOSYS      the kernel is too old, was built without it, or a filter says so
 *     -EPERM       forbidden: by seccomp (refusing or killing) or by kernel.io_uring_disabled
 *     -EOPNOTSUPP  works, but cannot do what would be needed
 *     -ENOTSUP     Ladewerk was built without liburing (the same number on Linux; the sentence tells)
 *     -ETIMEDOUT   no answer within five seconds
 *     others       as the kernel gave them
 */
int lw_uring_probe(char *text, size_t size);

#endif
