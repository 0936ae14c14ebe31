/* SPDX-License-Identifier: MIT */
/*
 * intern: texts that are kept once: equal ones have the same address, and keep it until the table is destroyed.
 */
#ifndef LW_BPF_INTERN_H
#define LW_BPF_INTERN_H

#include <stddef.h>

typedef struct lw_interned lw_interned;

/** NULL without memory. */
lw_interned *lw_interned_create(void);
/** With all its texts; NULL is allowed. */
void lw_interned_destroy(lw_interned *table);
/** The one text that equals TEXT (LEN bytes, none of them NUL). NULL without memory. */
const char *lw_interned_text(lw_interned *table, const char *text, size_t len);

#endif
