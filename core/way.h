/* SPDX-License-Identifier: MIT */
/*
 * way: would lw_scan() of a root go into this directory? The rules of scan.h for links and loops, asked for one directory that lies
 * somewhere below, without a walk: what lies on the way is looked at.
 */
#ifndef LW_WAY_H
#define LW_WAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * Whether a walk from the first ROOT_LEN bytes of PATH goes into PATH (absolute, terminated, less than PATH_MAX bytes, no trailing slash), if it goes to
 * the directory that holds it. A name that no walk enters (lw_names_entered()) is the caller's business. *LINKED: it is a link, or one lies on the way.
 * ADDS to *SYSCALLS.
 */
bool lw_way_enters(const char *path, size_t root_len, bool *linked, uint64_t *syscalls);

#endif
