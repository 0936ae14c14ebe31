/* SPDX-License-Identifier: MIT */
/*
 * code_layout: how the interpreter of this build makes code objects. Private headers of CPython: whoever includes them defines Py_BUILD_CORE before
 * Python.h, and verifies what comes of it. The functions are weak: an interpreter of the same version that does not export them leaves them NULL.
 */
#ifndef LW_EXT_CODE_LAYOUT_H
#define LW_EXT_CODE_LAYOUT_H

#pragma GCC system_header /* they are not written for our warnings */

#include "internal/pycore_code.h"

#pragma weak _PyCode_New
#pragma weak _PyCode_Validate

#endif
