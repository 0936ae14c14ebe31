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

/** Each adds what edges.h, graph.h offer: 0, or -1 with an exception. */
int lw_live_add_edges(PyObject *module);
int lw_live_add_statements(PyObject *module); /* statements.c */
int lw_live_add_graph(PyObject *module);
/* Reloads: what one thread sees (aside.c), functions and classes that stay (patch.c), the step (swap.c), its readers (pins.c), what changes on disk (events.c). */
int lw_live_add_aside(PyObject *module);
int lw_live_add_patch(PyObject *module);
int lw_live_add_swap(PyObject *module);
int lw_live_add_pins(PyObject *module);
int lw_live_add_events(PyObject *module);
int lw_live_add_version(PyObject *module); /* version.c: what has changed in sys.modules */

#endif
