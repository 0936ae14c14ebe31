/* SPDX-License-Identifier: MIT */
/*
 * runtime: the directory for what the user's running processes share, and nobody else may touch: gone after the next start of the machine.
 *
 * $XDG_RUNTIME_DIR/ladewerk, else /run/user/UID/ladewerk, else /tmp/ladewerk-UID. It is made 0700, and believed only if it is the effective user's own and
 * closed to all others.
 */
#ifndef LW_RUNTIME_H
#define LW_RUNTIME_H

#include <limits.h>
#include <stdbool.h>

/**
 * An O_PATH descriptor, close-on-exec, and in PATH (PATH_MAX bytes, may be NULL) its path; or -errno: -EPERM (it is somebody else's, or open to others), -ENOENT (it is not
 * there; not with CREATE), -EROFS, ...
 */
int lw_runtime_open(bool create, char *path);

#endif
