/* SPDX-License-Identifier: MIT */
/*
 * holders: waits for locks, and who held them. A wait is told when it is over; the question is who held the lock when it began.
 *
 * Who releases a lock wakes one waiter, who releases it in turn and wakes the next:
 *
 *     A holds ........... wakes B
 *     B   waits --------- has it, wakes C
 *     C     waits ------- - - - - - - - - - - has it        C was woken by B, but waited for A
 *
 * So the chain of wakers is followed for as long as a waker got the lock only after our wait had begun. Its head held the lock, if that thread was importing the
 * module then, or if none of its imports of the module was ever seen (importlib.import_module() from C, or a trace that began later). Without wakers: of the
 * threads that were importing it then and are not known to have waited, the one whose import ended first.
 */
#include "model_private.h"

#include <string.h>

enum { CHAIN_MOST = 256 };

/* The latest wait of THREAD for the lock of WAIT, that was over after WAIT began, and by END; NULL: there is none. */
static const struct past *wait_over_by(const struct thread *thread, const struct lw_wait *wait, uint64_t end_ns)
{
	const unsigned kept = thread->waits < PAST ? thread->waits : PAST;
	for (unsigned i = 1; i <= kept; i++) {
		const struct past *past = &thread->past[(thread->waits - i) % PAST];
		if (past->kind == wait->kind && past->module == wait->module && past->end_ns > wait->begin_ns && past->end_ns <= end_ns)
			return past;
	}
	return NULL;
}

/* Head of the chain of wakers of WAIT; 0: a timer, an interrupt, or another process. */
static uint32_t head_of_wakers(const lw_model *model, const struct lw_wait *wait)
{
	uint32_t tid = wait->waker;
	uint64_t end_ns = wait->begin_ns + wait->wait_ns;
	for (unsigned i = 0; tid && i < CHAIN_MOST; i++) {
		const struct thread *thread = lw_thread_find(model, tid);
		if (!thread)
			return tid;
		if (thread->pid != wait->pid)
			return 0;
		const struct past *past = wait_over_by(thread, wait, end_ns);
		if (!past)
			return tid == wait->tid ? 0 : tid;
		tid = past->waker;
		end_ns = past->end_ns;
	}
	return 0;
}

static bool is_other_import(const struct span *span, const struct lw_wait *wait)
{
	return span->pid == wait->pid && span->module == wait->module && span->tid != wait->tid && !span->silent;
}

static bool covers(const struct span *span, uint64_t ns)
{
	return span->begin_ns <= ns && (!span->end_ns || span->end_ns > ns);
}

static bool has_waited(const lw_model *model, uint32_t tid, const struct lw_wait *wait)
{
	const struct thread *thread = lw_thread_find(model, tid);
	const struct past *past = thread ? wait_over_by(thread, wait, UINT64_MAX) : NULL;
	return past && past->begin_ns <= wait->begin_ns;
}

/* Of two imports, the one that has the lock: who has it is done first. */
static const struct span *likelier(const struct span *a, const struct span *b)
{
	if (!a || !a->end_ns != !b->end_ns)
		return a && a->end_ns ? a : b;
	if (a->end_ns != b->end_ns)
		return a->end_ns < b->end_ns ? a : b;
	return a->begin_ns <= b->begin_ns ? a : b;
}

static uint32_t holder_of_module(lw_model *model, const struct lw_wait *wait)
{
	const uint32_t head = head_of_wakers(model, wait);
	const struct span *best = NULL;
	bool head_was_late = false;
	for (const struct span *span = *lw_model_bucket(model, wait->pid, wait->module); span; span = span->same) {
		if (!is_other_import(span, wait))
			continue;
		if (covers(span, wait->begin_ns)) {
			if (span->tid == head)
				return head;
			if (!has_waited(model, span->tid, wait))
				best = likelier(best, span);
		} else if (span->tid == head) {
			head_was_late = true;
		}
	}
	if (head && !head_was_late)
		return head;
	return best ? best->tid : 0;
}

static uint32_t holder_of(lw_model *model, const struct lw_wait *wait)
{
	switch (wait->kind) {
	case LW_CLASS_MODULE: return *wait->module ? holder_of_module(model, wait) : 0;
	case LW_CLASS_GLOBAL:
	case LW_CLASS_GIL: return head_of_wakers(model, wait);
	default: return 0;	/* of other locks nothing is known: the waker need not have held one */
	}
}

/* Module whose import the thread is in; one that waits for a module's lock in order to import it is in the import around that. */
static const char *importer_of(const struct thread *thread, const struct lw_wait *wait)
{
	const struct span *span = thread->innermost;
	const char *importer = "";
	while (span && wait->kind == LW_CLASS_MODULE && span->module == wait->module) {
		importer = span->importer;
		span = span->outer;
	}
	return span ? span->module : importer;
}

void lw_model_wait(lw_model *model, const struct lw_event_wait *record)
{
	const struct lw_event_head *head = &record->head;
	const enum lw_class kind = head->detail;
	if (kind != LW_CLASS_MODULE && kind != LW_CLASS_GLOBAL && kind != LW_CLASS_GIL && kind != LW_CLASS_FUTEX) {
		model->senseless++;
		return;
	}
	struct thread *thread = lw_thread_enter(model, head->pid, head->tid, head->ns);
	if (!thread) {
		model->dropped++;
		return;
	}
	const char *module = kind == LW_CLASS_MODULE ? lw_model_name(model, head->name) : "";
	struct lw_wait wait = {
		.kind = kind, .module = lw_model_knows(model, module) ? module : "", .pid = head->pid, .tid = head->tid, .waker = record->waker,
		.begin_ns = head->ns, .wait_ns = record->wait_ns, .queue_ns = record->queue_ns,
	};
	wait.holder = holder_of(model, &wait);
	wait.importer = importer_of(thread, &wait);
	wait.within = thread->innermost ? thread->innermost->id : 0;
	if (kind != LW_CLASS_FUTEX)
		thread->past[thread->waits++ % PAST] = (struct past){ kind, wait.module, wait.begin_ns, wait.begin_ns + wait.wait_ns, wait.waker };
	TELL(model, wait, &wait);
}
