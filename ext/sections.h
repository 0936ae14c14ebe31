/* SPDX-License-Identifier: MIT */
/**
 * sections: who takes turns in builds without a GIL; with one, nobody else is there. Critical sections are CPython's (before 3.13 the headers have none): they are left while their
 * thread waits. A mutex is held all the time, so no Python code may run then.
 */
#ifndef LADEWERK_SECTIONS_H
#define LADEWERK_SECTIONS_H

#include <Python.h>

#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

#ifdef Py_GIL_DISABLED
typedef PyMutex lw_mutex;
#define lw_lock(mutex) PyMutex_Lock(mutex)
#define lw_unlock(mutex) PyMutex_Unlock(mutex)
#else
typedef struct { char unused; } lw_mutex;
#define lw_lock(mutex) ((void)(mutex))
#define lw_unlock(mutex) ((void)(mutex))
#endif

#endif
