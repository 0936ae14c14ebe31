/* SPDX-License-Identifier: MIT */
/*
 * instances: how many inotify instances all processes of the user may take for watching inside themselves: half of what the kernel allows the user, so that
 * editors and other programs find some.
 *
 *     lw_instance_take(&slot)      before lw_watch_create(); refused: no watching in this process
 *     ...
 *     close(slot)                  after lw_watch_destroy()
 *
 * A slot is a byte of a file in the user's runtime directory (runtime.h), locked by an open-file-description lock. It lives exactly as long as an inotify instance that is
 * opened beside it: until the last process that has the descriptor closes it, ends, or calls exec. A child of fork has both, and gives both back with lw_watch_destroy() and
 * close(); should it do neither, the instance is not free, and the slot rightly is not either. (The older record locks, which belong to a process, would be
 * lost as soon as any descriptor of the file is closed, and would leave the child's instance uncounted.)
 */
#ifndef LW_INSTANCES_H
#define LW_INSTANCES_H

/** The slots there are. */
unsigned lw_instance_limit(void);

/** 0, and *SLOT is a descriptor (close-on-exec) to be kept; or -errno: -EMFILE (all are taken, or the process is out of descriptors), and those of lw_runtime_open(). */
int lw_instance_take(int *slot);

#endif
