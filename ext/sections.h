/* SPDX-License-Identifier: MIT */
/**
 * sections: critical sections of CPython where there is always a GIL. Before 3.13 the headers have none.
 */
#ifndef LADEWERK_SECTIONS_H
#define LADEWERK_SECTIONS_H

#include <Python.h>

#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

#endif
