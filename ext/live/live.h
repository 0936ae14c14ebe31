/* SPDX-License-Identifier: MIT */
/*
 * live: what the parts of ladewerk._live share. That extension is loaded by whoever asks for the import graph, a reload or an
 * autoloader, and by nobody else: programs whose imports are only served pay nothing for it.
 *
 * Each part is a file with one function here that adds what it offers to the module.
 */
#ifndef LW_LIVE_H
#define LW_LIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#endif
