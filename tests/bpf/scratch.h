/* SPDX-License-Identifier: MIT */
/* scratch: where tests put files. */
#ifndef TEST_SCRATCH_H
#define TEST_SCRATCH_H

#include <stdio.h>
#include <stdlib.h>

enum { SCRATCH = 128 };

/* A template for mkstemp() and mkdtemp(), in $TMPDIR. */
static inline char *scratch_template(char path[SCRATCH], const char *name)
{
	const char *base = getenv("TMPDIR");
	snprintf(path, SCRATCH, "%.80s/ladewerk-%.20s-XXXXXX", base ? base : P_tmpdir, name);
	return path;
}

#endif
