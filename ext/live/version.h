/* SPDX-License-Identifier: MIT */
/*
 * version: whether a dictionary has changed since somebody looked at it.
 */
#ifndef LW_LIVE_VERSION_H
#define LW_LIVE_VERSION_H

#include "live.h"

#include <stdint.h>

/** *VERSION of DICT: as long as it stays the same, so have keys and values since the first call for DICT. 0, or -1 with an exception. */
int lw_version(PyObject *dict, uint64_t *version);

/** The same for a DICT that lw_version() knows already: it does not fail. */
uint64_t lw_version_now(PyObject *dict);

#endif
