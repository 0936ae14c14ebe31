/* SPDX-License-Identifier: MIT */
/*
 * statq: many names of one directory asked at once, through ioq.h, in bounded memory.
 *
 * Threads: one owner, whose callbacks run inside its own calls.
 */
#ifndef LW_STATQ_H
#define LW_STATQ_H

#include "ioq.h"
#include "stamp.h"

typedef struct lw_statq lw_statq;

/** The answer to what was asked as NUMBER: as lw_stat_at() would give it. */
typedef void lw_statq_answer(void *arg, uint32_t number, int error, const struct lw_stat *st);

/** Answers go to ANSWER(ARG, ...). WHY as in lw_ioq_create(), as are errors. */
int lw_statq_create(const struct lw_ioq_config *config, lw_statq_answer *answer, void *arg, lw_statq **out, char *why);
/** Everything must have been answered. NULL is allowed. */
void lw_statq_destroy(lw_statq *q);

/** Ask for NAME (copied; terminated, at most LW_STATQ_NAME bytes) in directory FD, which stays open until all is answered. May answer others meanwhile. */
void lw_statq_ask(lw_statq *q, int fd, const char *name, uint32_t number);
enum { LW_STATQ_NAME = 263 };

/** Wait until all is answered. */
void lw_statq_finish(lw_statq *q);

/** Of the queue below. */
void lw_statq_stats(const lw_statq *q, struct lw_ioq_stats *stats);

#endif
