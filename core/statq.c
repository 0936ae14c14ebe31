/* SPDX-License-Identifier: MIT */
/* statq: see statq.h. As many slots as can be under way; a free one is taken, or the next one that is answered. */
#include "statq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SLOTS = 256 };

struct slot {
	struct lw_ioq_op op;
	struct slot *next;		/* free */
	uint32_t number;
	struct statx statx;
	char name[LW_STATQ_NAME + 1];
};

struct lw_statq {
	lw_ioq *queue;
	lw_statq_answer *answer;
	void *arg;
	struct slot *free;
	struct slot slot[SLOTS];
};

int lw_statq_create(const struct lw_ioq_config *config, lw_statq_answer *answer, void *arg, lw_statq **out, char *why)
{
	*out = NULL;
	lw_statq *q = calloc(1, sizeof *q);
	if (!q)
		return -ENOMEM;
	int error = lw_ioq_create(config, &q->queue, why);
	if (error) {
		free(q);
		return error;
	}
	q->answer = answer;
	q->arg = arg;
	for (unsigned i = 0; i < SLOTS; i++) {
		q->slot[i].next = q->free;
		q->free = &q->slot[i];
	}
	*out = q;
	return 0;
}

void lw_statq_destroy(lw_statq *q)
{
	if (!q)
		return;
	lw_ioq_destroy(q->queue);
	free(q);
}

/* False: nothing is under way. */
static bool take_answer(lw_statq *q)
{
	struct lw_stat st = { 0 };
	struct lw_ioq_op *op = lw_ioq_reap(q->queue, true);
	if (!op)
		return false;
	struct slot *slot = op->data;
	if (!op->result)
		lw_stat_of(&slot->statx, &st);
	q->answer(q->arg, slot->number, (int)op->result, &st);
	slot->next = q->free;
	q->free = slot;
	return true;
}

void lw_statq_ask(lw_statq *q, int fd, const char *name, uint32_t number)
{
	if (!q->free)
		take_answer(q);
	struct slot *slot = q->free;
	q->free = slot->next;
	slot->number = number;
	memcpy(slot->name, name, strlen(name) + 1);
	slot->op = (struct lw_ioq_op){
		.kind = LW_IOQ_STATX, .fd = fd, .path = slot->name, .mask = LW_STAT_MASK, .statx = &slot->statx, .data = slot,
	};
	lw_ioq_submit(q->queue, &slot->op);
}

void lw_statq_finish(lw_statq *q)
{
	while (take_answer(q))
		;
}

void lw_statq_stats(const lw_statq *q, struct lw_ioq_stats *stats)
{
	lw_ioq_stats(q->queue, stats);
}
