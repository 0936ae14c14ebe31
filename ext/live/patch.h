/* SPDX-License-Identifier: MIT */
/*
 * patch: functions and classes that stay what they are, and take the contents of others. The primitives of swap.c; none of them runs Python code.
 */
#ifndef LW_PATCH_H
#define LW_PATCH_H

#include "live.h"

/** All that function FUNCTION has, as a tuple: whoever keeps it keeps that alive. NULL with an exception. */
PyObject *lw_function_contents(PyObject *function);

/** Whether CLOSURE, a tuple of cells, would do for FUNCTION. */
int lw_is_closure(PyObject *function, PyObject *closure);

/** FUNCTION takes code, globals, defaults, attributes and names of OTHER, and CLOSURE, or OTHER's if NULL. Cannot fail. The caller holds FUNCTION's
 * lw_function_contents(), and has asked lw_is_closure(OTHER, CLOSURE). */
void lw_function_take(PyObject *function, PyObject *other, PyObject *closure);

/** What class TYPE itself has by NAME: strong; NULL, with an exception or without. */
PyObject *lw_type_get(PyObject *type, PyObject *name);

/** TYPE.NAME = VALUE (NULL: deleted; no matter if it is not there), whatever its metaclass says. 0, or -1 with an exception. The caller holds what was there. */
int lw_type_set(PyObject *type, PyObject *name, PyObject *value);

/** TYPE.__bases__ = BASES: 0, or -1 with an exception and nothing has changed. */
int lw_type_rebase(PyObject *type, PyObject *bases);

#endif
