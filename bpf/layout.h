/* SPDX-License-Identifier: MIT */
/*
 * layout: where an interpreter keeps what a walk of its frames needs, and that walk through process_vm_readv(2), as the BPF program makes it.
 *
 * 3.11 and 3.12: tables, by version. 3.13 and later: from _Py_DebugOffsets at the head of _PyRuntime, whose cookie and version are checked.
 */
#ifndef LW_BPF_LAYOUT_H
#define LW_BPF_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "event.h"

/**
 * Layout of the interpreter whose _PyRuntime is at address RUNTIME of process PID. VERSION (0x030c) is what its file claims, 0 if that is not known.
 * 0, or -errno: -EPERM, -ESRCH, -ENOTSUP (an unknown version, or one that describes itself in an unknown way). WHY: LW_PROGRAM_WHY bytes.
 */
int lw_layout_read(pid_t pid, uint64_t runtime, unsigned version, struct lw_layout *out, char *why);

/* What a blocked thread waits for, as its Python frames say. */
struct lw_standing {
	enum lw_class class;		/* LW_CLASS_MODULE, LW_CLASS_GLOBAL, LW_CLASS_FUTEX (nothing of these) */
	char module[LW_NAME_SIZE];	/* of LW_CLASS_MODULE */
	char top[64];			/* name of the topmost code */
};
/** The walk, for tests and for doubts: thread TID (blocked or not) of PID. -ESRCH (no thread state), -EFAULT (memory moved meanwhile), -EPERM. */
int lw_layout_stand(pid_t pid, uint64_t runtime, const struct lw_layout *layout, pid_t tid, struct lw_standing *out);

/**
 * Imports that thread TID is in by the interpreter's own means: those that passed its probe. HOLDS, if not NULL, is set if it has the lock of MODULE: it imports that and does not wait
 * for it. 0, if there are none, or they cannot be read.
 */
unsigned lw_layout_imports(pid_t pid, uint64_t runtime, const struct lw_layout *layout, pid_t tid, const char *module, bool *holds);

#endif
