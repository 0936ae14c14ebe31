/* SPDX-License-Identifier: MIT */
/*
 * screen: the terminal, while a program draws on all of it: another screen, no echo, keys one by one. There is one; one thread uses it.
 *
 * It is given back when the program exits, is stopped from the keyboard (and taken again when it goes on), or gets a deadly signal that nobody else had a handler for when the screen was taken.
 */
#ifndef LW_BPF_SCREEN_H
#define LW_BPF_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

/** Keys come from IN, OUT shows. 0, or -ENOTTY (not terminals, or TERM says that it can do nothing), -EBUSY (taken already). */
int lw_screen_take(int in, int out);
/** As it was. Not taken: nothing happens. */
void lw_screen_give_back(void);
/** Whether the size has changed, or what was shown is gone, since this was last asked. */
bool lw_screen_changed(void);
void lw_screen_size(unsigned *rows, unsigned *columns);
/** The whole of TEXT (no more than the screen has room for, lines divided by "\r\n"; what a line had before must be erased by it). False: the terminal is gone. Interrupted by a signal, it is shown in part, and lw_screen_changed() says so. */
bool lw_screen_show(const char *text, size_t size);
/** The next key that was hit; 0: none, -1: the terminal is gone. Cursor keys and the like are left out. */
int lw_screen_key(void);

#endif
