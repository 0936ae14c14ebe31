/* SPDX-License-Identifier: MIT */
/*
 * live: the extension module ladewerk._live, put together from its parts.
 */
#include "live.h"
#include "../module.h"

/* What each part adds: 0, or -1 with an exception. */
static int (*const parts[])(PyObject *module) = {
	lw_live_add_edges,
	lw_live_add_statements,
	lw_live_add_graph,
	lw_live_add_aside,
	lw_live_add_patch,
	lw_live_add_swap,
	lw_live_add_pins,
	lw_live_add_events,
	lw_live_add_version,
	NULL,
};

static int live_exec(PyObject *module)
{
	for (unsigned i = 0; parts[i]; i++)
		if (parts[i](module) < 0)
			return -1;
	return 0;
}

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, live_exec },
	LW_MODULE_SLOTS
	{ 0, NULL },
};

static struct PyModuleDef live_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "ladewerk._live",
	.m_doc = "The C side of the import graph, of reloads and of autoloaders.",
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__live(void);

PyMODINIT_FUNC PyInit__live(void)
{
	return PyModuleDef_Init(&live_module);
}
