/* SPDX-License-Identifier: MIT */
/*
 * lazy_policy: whether an import may wait.
 */
#include "lazy.h"
