/* SPDX-License-Identifier: MIT */
/*
 * lazy: names that wait: registered by statements, resolved by loads.
 */
#include "lazy.h"
