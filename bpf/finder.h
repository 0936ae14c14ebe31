/* SPDX-License-Identifier: MIT */
/*
 * finder: looks for Pythons and Ladewerk's extension in what processes have mapped, or will soon, and puts probes into them. A file is read once, however many processes map it.
 */
#ifndef LW_BPF_FINDER_H
#define LW_BPF_FINDER_H

#include "capture.h"

typedef struct lw_finder lw_finder;

int lw_finder_create(lw_capture *capture, lw_finder **out);
/** NULL is allowed. Programs are the finder's; probes are capture's, and stay. */
void lw_finder_destroy(lw_finder *finder);

/**
 * What PID has mapped: its executable and libraries called like a Python's or Ladewerk's; THOROUGH: all files, for programs that embed a Python under another name.
 * *PYTHON: the one it has; NULL: none, and WHY (LW_CAPTURE_WHY bytes) says so. 0; -ENOTSUP (it has one that cannot be traced), -ESRCH, -EACCES, -ENOMEM, or what capture says.
 */
int lw_finder_look(lw_finder *finder, pid_t pid, bool thorough, const struct lw_program **python, char *why);
/** The file at ROOT and PATH, which need not be mapped by anybody. -ENOEXEC (neither), and as above. */
int lw_finder_file(lw_finder *finder, const char *root, const char *path, const struct lw_program **python, char *why);
/** What belongs to the executable at ROOT and PATH and will be mapped soon, as far as can be guessed: its libpython, Ladewerk's extension. */
void lw_finder_guess(lw_finder *finder, const char *root, const char *path);
/** The same for the executable of PID, as it was called and as it is; and for our own. */
void lw_finder_guess_of(lw_finder *finder, pid_t pid);

#endif
