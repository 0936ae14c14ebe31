/* SPDX-License-Identifier: MIT */
/*
 * nearby: files that a program will map soon: the libpython that an executable is linked to, and Ladewerk's extension beside a Python. Probes in them are there before they run.
 *
 * These are guesses, by what is customary. What is not found this way is found once it is mapped.
 */
#ifndef LW_BPF_NEARBY_H
#define LW_BPF_NEARBY_H

#include <stdbool.h>
#include <sys/types.h>

/** Whether the executable that FD is open on is linked to a libpython; LIBRARY (SIZE bytes): its name, as in "libpython3.12.so.1.0". */
bool lw_needs_python(int fd, char *library, size_t size);
/**
 * The libpython of the executable at PATH (as its process names it), where the dynamic linker would find it: RUNPATH, then the usual directories. ROOT is put before all paths ("" or
 * "/proc/PID/root"). FOUND (SIZE bytes) is without ROOT. False: it needs none, or it is nowhere.
 */
bool lw_python_library(const char *root, const char *path, char *found, size_t size);
/** SINK is called with the paths (without ROOT) of Ladewerk extensions in the site-packages that belong to the executable at PATH, a symbolic link's directory first. Not 0: ends it. */
int lw_ladewerk_nearby(const char *root, const char *path, int (*sink)(void *context, const char *path), void *context);

#endif
