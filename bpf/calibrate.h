/* SPDX-License-Identifier: MIT */
/*
 * calibrate: what a probe costs its process on this machine: trap, BPF program, record. This program hits a probe of its own, and measures.
 */
#ifndef LW_BPF_CALIBRATE_H
#define LW_BPF_CALIBRATE_H

#include <stdint.h>

#include "event.h"

/** File offset, within /proc/self/exe, of the instruction; -errno. SITE: what a hit of it means (the start of an import with a name that no module has). */
int lw_calibrate_site(struct lw_site *site, uint64_t *offset);
/** CPU time of one hit in nanoseconds, without what the instruction takes itself. To be called with a probe there. */
uint64_t lw_calibrate_hit(void);

#endif
