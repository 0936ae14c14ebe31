/* SPDX-License-Identifier: MIT */
/*
 * model_private: what the files of the model share.
 *
 *     model.c      records in, listeners told; spans
 *     threads.c    processes and threads, as far as records name them
 *     holders.c    waits, and who held what was waited for
 *
 * Spans that have ended, and waits that are over, are kept for a while: a wait is told when it is over, and asks who held the lock when it began.
 */
#ifndef LW_BPF_MODEL_PRIVATE_H
#define LW_BPF_MODEL_PRIVATE_H

#include "intern.h"
#include "model.h"

enum {
	PROBES = LW_SOURCE_LADEWERK + 1,	/* sources that see imports */
	OPEN_MOST = 4096,	/* spans of a thread; more are ends that got lost */
	RECENT = 2048,		/* spans that have ended */
	PASTS = 2048,		/* waits that are over */
	SPAN_BUCKETS = 4096,
	THREAD_BUCKETS = 1024,
	PROCESS_BUCKETS = 256,
	LOCK_BUCKETS = 1024,
};

/* What probes of one source say of a span. */
struct probe {
	uint32_t open;		/* starts without an end yet */
	uint64_t frame;		/* of the first of them */
};

enum verdict { VERDICT_UNKNOWN, VERDICT_FOUND, VERDICT_FAILED };

struct span {
	struct span *outer;	/* of the same thread, begun before; not over yet */
	struct span *same;	/* in its bucket, by process and module */
	struct span *newer;	/* of those that are over: the one that ended next */
	uint64_t id, parent;
	const char *module, *importer;
	uint32_t pid, tid;
	unsigned depth;
	uint64_t begin_ns, end_ns;	/* end 0: it is open */
	uint64_t left_ns;	/* its place on the stack was seen used by others since then; 0: it was not */
	struct probe by[PROBES];
	uint8_t source, latest;	/* that began it; whose start came last */
	uint8_t verdict, outcome;
	bool clocked;
	bool silent;		/* inherited by a fork: the parent's import, not this process's own */
	bool taken;		/* `outcome` is there */
	struct lw_clock begin_clock;
	/* What spans within it took; and whose time this one's is taken from, from when on. */
	uint64_t inner_ns;
	struct lw_clock inner_clock;
	struct span *from;
	uint64_t from_ns;
	struct lw_clock from_clock;
};

/* A wait that is over. They have serial numbers, from 1; the last PASTS of them are kept. */
struct past {
	enum lw_class kind;
	const char *module;
	uint32_t pid, tid, waker;
	uint64_t begin_ns, end_ns;
	uint64_t before;	/* the one before in its bucket, by lock */
};

struct process;

struct thread {
	struct thread *next;		/* in its bucket */
	struct thread *before, *after;	/* of its process */
	struct process *process;
	uint32_t pid, tid;
	struct span *innermost;		/* the latest that is open */
	unsigned open;
};

struct process {
	struct process *next;
	struct thread *threads;
	uint32_t pid;
};

struct lw_model {
	struct lw_listener *listener;
	unsigned listeners;
	uint64_t spans;			/* numbers given */
	uint64_t senseless, dropped;
	lw_interned *texts;
	const char *name[LW_NAMES + 1];
	const char *unknown;		/* "?" */
	struct span *span[SPAN_BUCKETS];
	struct thread *thread[THREAD_BUCKETS];
	struct process *process[PROCESS_BUCKETS];
	struct span *recent, *recent_last;	/* oldest first */
	unsigned recent_count;
	struct past past[PASTS];
	uint64_t pasts;			/* serial number of the last one */
	uint64_t latest[LOCK_BUCKETS];
};

#define TELL(model, what, ...) \
	do { \
		for (unsigned l_ = 0; l_ < (model)->listeners; l_++) \
			if ((model)->listener[l_].what) \
				(model)->listener[l_].what((model)->listener[l_].context, __VA_ARGS__); \
	} while (0)

static inline uint64_t lw_since(uint64_t end, uint64_t begin)
{
	return end > begin ? end - begin : 0;
}

/* --- model.c --- */

/** Number NAME's text; what says that it is not known if it has none. */
const char *lw_model_name(const lw_model *model, uint32_t name);
static inline bool lw_model_knows(const lw_model *model, const char *module)
{
	return module != model->unknown;
}
/** All open spans of THREAD end at NS, unseen. */
void lw_model_cut(lw_model *model, struct thread *thread, uint64_t ns);
/** Spans of MODULE in process PID, open ones and recent ones: the bucket in which they are, with others. */
struct span **lw_model_bucket(lw_model *model, uint32_t pid, const char *module);

/* --- threads.c --- */

/** NULL: not known. */
struct process *lw_process_find(const lw_model *model, uint32_t pid);
/** NULL: not known. */
struct thread *lw_thread_find(const lw_model *model, uint32_t tid);
/** Thread TID of process PID, which is alive at NS: entered if it was not known. NULL without memory. */
struct thread *lw_thread_enter(lw_model *model, uint32_t pid, uint32_t tid, uint64_t ns);
/** It is gone at NS; its open spans are cut. Frees THREAD. */
void lw_thread_leave(lw_model *model, struct thread *thread, uint64_t ns);
/** So is the process, with all its threads. Frees PROCESS. */
void lw_process_leave(lw_model *model, struct process *process, uint64_t ns);
/** Everything, without a word. */
void lw_threads_free(lw_model *model);

/* --- holders.c --- */

void lw_model_wait(lw_model *model, const struct lw_event_wait *record);

#endif
