/* SPDX-License-Identifier: MIT */
/* bench: what every one of these programs needs. */
#ifndef LW_BENCH_H
#define LW_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* A bench that cannot do its work says what failed, and ends. */
static inline void check(bool holds, const char *what)
{
	if (holds)
		return;
	perror(what);
	exit(1);
}

static inline int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

#endif
