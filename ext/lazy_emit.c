/* SPDX-License-Identifier: MIT */
/*
 * lazy_emit: the code of a module with what lazy imports need.
 */
#include "lazy.h"
