/* SPDX-License-Identifier: MIT */
/*
 * collector_layout: where the interpreter of this build keeps its generations. Private headers of CPython: whoever includes them defines Py_BUILD_CORE
 * before Python.h, and verifies what they say of the interpreter that runs.
 */
#ifndef LW_EXT_COLLECTOR_LAYOUT_H
#define LW_EXT_COLLECTOR_LAYOUT_H

#pragma GCC system_header /* they are not written for our warnings */

#include "internal/pycore_interp.h"

enum { LW_GENERATIONS = 3 };

/** The first of LW_GENERATIONS. */
static inline struct gc_generation *lw_generations(PyInterpreterState *interpreter)
{
	return interpreter->gc.generations;
}

#endif
