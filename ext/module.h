/* SPDX-License-Identifier: MIT */
/**
 * module: what every extension module of ours says of itself to the interpreter, among its slots: it may be loaded in interpreters with a GIL of their own, and does without one.
 */
#ifndef LADEWERK_MODULE_H
#define LADEWERK_MODULE_H

#include <Python.h>

#if PY_VERSION_HEX >= 0x030d0000
#define LW_MODULE_SLOTS { Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED }, { Py_mod_gil, Py_MOD_GIL_NOT_USED },
#elif PY_VERSION_HEX >= 0x030c0000
#define LW_MODULE_SLOTS { Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED },
#else
#define LW_MODULE_SLOTS
#endif

#endif
