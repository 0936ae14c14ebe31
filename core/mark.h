/* SPDX-License-Identifier: MIT */
/*
 * mark: has a start died inside us?
 *
 * A start leaves an empty file "start-<pid>-<start time>-<pid namespace>" and removes it when it has succeeded. All
 * it says is in its name, so it is there whole or not at all, and needs no space on a full disk. The start time
 * tells a reused pid apart; a pid of another namespace (a container that shares the cache) cannot be looked up, so such
 * a mark counts as dead only when it is older than a day.
 */
#ifndef LW_MARK_H
#define LW_MARK_H

#include <stdbool.h>

enum { LW_MARK_NAME = 64, LW_MARK_DAY = 24 * 60 * 60 };

/** The name of this process's mark. */
void lw_mark_name(char name[LW_MARK_NAME]);

/** Whether NAME is the name of a mark; *PID (may be NULL) is whose. */
bool lw_mark_parse(const char *name, int *pid);

/** Leave mark NAME in DIR. 0 or -errno. */
int lw_mark_leave(int dir, const char *name);

/** Whether the process that left mark NAME in DIR is gone without having removed it: it may have done so since DIR was listed. */
bool lw_mark_dead(int dir, const char *name);

#endif
