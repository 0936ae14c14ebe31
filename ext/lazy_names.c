/* SPDX-License-Identifier: MIT */
/*
 * lazy_names: which import statements of a module may wait, and which loads may meet a name that waits.
 */
#include "lazy.h"
