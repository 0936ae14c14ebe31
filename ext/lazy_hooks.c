/* SPDX-License-Identifier: MIT */
/*
 * lazy_hooks: names that wait, and readers from outside.
 */
#include "lazy.h"
