/* SPDX-License-Identifier: MIT */
/*
 * live: what a terminal shows while a trace is under way: sums per module, sorted; imports that are not over yet; waits for locks.
 *
 *     lw_live_create()          the terminal is ours: another screen, no echo
 *     lw_live_tick() ...        some times a second
 *     lw_live_destroy()         it is as it was
 *
 * The terminal is restored however the program ends (screen.h); so install handlers of your own first. One live view at a time; one thread. Nothing else may write to the terminal meanwhile: not
 * for a command that shares it.
 *
 * Keys: s t c w n choose the order (self, total, count, waited, name), r turns it round, p holds the picture, q quits.
 */
#ifndef LW_BPF_LIVE_H
#define LW_BPF_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "writer.h"

typedef struct lw_live lw_live;

/* What the first lines say. */
struct lw_live_state {
	uint64_t now_ns;		/* CLOCK_MONOTONIC */
	unsigned processes;		/* followed */
	uint64_t target_cpu_ns;		/* theirs meanwhile; 0: not known */
	struct lw_capture_counts counts;
};

/**
 * Takes the terminal: keys from descriptor IN, pictures to OUT. SETUP: totals, globs, threshold (against a module's total), colour, begin_ns and inner count; must live as long.
 * 0, or -ENOTTY (IN or OUT is no terminal, or one without abilities: TERM=dumb), -EBUSY (there is a view), -ENOMEM.
 */
int lw_live_create(const struct lw_writer_setup *setup, int in, int out, lw_live **live);
/** NULL is allowed. */
void lw_live_destroy(lw_live *live);
/** For the model. */
struct lw_listener lw_live_listener(lw_live *live);
/** Obeys keys, and draws if it is time (twice a second, after a key, when the size has changed). False: the user has quit, or the terminal is gone. */
bool lw_live_tick(lw_live *live, const struct lw_live_state *state);

#endif
