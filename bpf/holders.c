/* SPDX-License-Identifier: MIT */
/*
 * holders: waits for locks, and who held them. A wait is told when it is over; the question is who held the lock when it began.
 *
 * Who releases a lock wakes one of those that wait for it, and that one, or somebody who came between, releases it in turn and wakes the next:
 *
 *     A holds ........... wakes B
 *     B   waits --------- has it, wakes C
 *     C     waits ------- - - - - - - - - - - has it        C was woken by B, but waited for A
 *
 * So while anybody waits, every release wakes somebody, and the first wake-up from this lock after a wait began was made by who held it then: the head of the chain
 * of wakers. The waits of others that ended before ours are known when ours is told, for they have run and woken on.
 *
 * It is believed if that thread was importing the module then. If no import of the module by it was ever seen (the outermost importlib.import_module(), or one that
 * began before the trace, or it found the module in sys.modules), then too; unless somebody else imported the module until shortly before we were woken, and never
 * waited: then another wake-up came first, whose thread has not run yet. Else, and without wakers: of the threads that were importing it then and are not known to have
 * waited, the one whose import ended first.
 */
#include "model_private.h"

#include <string.h>

static const char none[] = "";	/* the module of other locks: compared by address, as names are */

enum { LOOK_BACK = 1024, LATE_NS = 1000000000 /* how much later than another that ended after it a wait may be told */ };

static uint64_t *latest_of(lw_model *model, const struct lw_wait *wait)
{
	uintptr_t sum = ((uintptr_t)wait->module >> 4) * 31 + wait->pid * 2654435761u + wait->kind;
	return &model->latest[(sum ^ sum >> 10) % LOCK_BUCKETS];
}

static const struct past *past_at(const lw_model *model, uint64_t serial)
{
	return serial && serial + PASTS > model->pasts ? &model->past[serial % PASTS] : NULL;
}

static bool is_same_lock(const struct past *past, const struct lw_wait *wait)
{
	return past->kind == wait->kind && past->module == wait->module && past->pid == wait->pid;
}

static void remember(lw_model *model, const struct lw_wait *wait)
{
	uint64_t *latest = latest_of(model, wait), serial = ++model->pasts;
	model->past[serial % PASTS] = (struct past){
		.kind = wait->kind, .module = wait->module, .pid = wait->pid, .tid = wait->tid, .waker = wait->waker,
		.begin_ns = wait->begin_ns, .end_ns = wait->begin_ns + wait->wait_ns, .before = *latest,
	};
	*latest = serial;
}

/* Who made the first wake-up from this lock after WAIT began; 0: not known, or another process. */
static uint32_t first_waker(lw_model *model, const struct lw_wait *wait)
{
	uint64_t first_ns = wait->begin_ns + wait->wait_ns;
	uint32_t waker = wait->waker;
	const struct past *past = past_at(model, *latest_of(model, wait));
	for (unsigned i = 0; past && i < LOOK_BACK && past->end_ns + LATE_NS > wait->begin_ns; past = past_at(model, past->before), i++) {
		/* Timers and signals wake, too, and have released nothing. */
		if (!is_same_lock(past, wait) || !past->waker || past->end_ns <= wait->begin_ns || (waker && past->end_ns >= first_ns))
			continue;
		first_ns = past->end_ns;
		waker = past->waker;
	}
	const struct thread *thread = lw_thread_find(model, waker);
	return waker == wait->tid || (thread && thread->pid != wait->pid) ? 0 : waker;
}

static bool is_other_import(const struct span *span, const struct lw_wait *wait)
{
	return span->pid == wait->pid && span->module == wait->module && span->tid != wait->tid && !span->silent;
}

static bool covers(const struct span *span, uint64_t ns)
{
	return span->begin_ns <= ns && (!span->end_ns || span->end_ns > ns);
}

/* Whether thread TID is known to have waited itself when WAIT began, or since: then it had the lock later. */
static bool has_waited(lw_model *model, uint32_t tid, const struct lw_wait *wait)
{
	const struct past *past = past_at(model, *latest_of(model, wait));
	for (unsigned i = 0; past && i < LOOK_BACK && past->end_ns + LATE_NS > wait->begin_ns; past = past_at(model, past->before), i++)
		if (is_same_lock(past, wait) && past->tid == tid && past->end_ns > wait->begin_ns)
			return true;
	return false;
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

/* Whether the import SPAN, that had the lock without waiting for it, ended nearer to the end of WAIT than to its beginning. */
static bool lasted_until(const struct span *span, const struct lw_wait *wait)
{
	const uint64_t woken_ns = wait->begin_ns + wait->wait_ns;
	return span->end_ns && span->end_ns <= woken_ns && woken_ns - span->end_ns < lw_since(span->end_ns, wait->begin_ns);
}

static uint32_t holder_of_module(lw_model *model, const struct lw_wait *wait)
{
	const uint32_t head = first_waker(model, wait);
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
	/* Late, and nobody else's import was seen: nor was an earlier one of that thread. */
	if (head && (!best || (!head_was_late && !lasted_until(best, wait))))
		return head;
	return best ? best->tid : 0;
}

static uint32_t holder_of(lw_model *model, const struct lw_wait *wait)
{
	switch (wait->kind) {
	case LW_CLASS_MODULE: return *wait->module ? holder_of_module(model, wait) : 0;
	case LW_CLASS_GLOBAL:
	case LW_CLASS_GIL: return first_waker(model, wait);
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
	const char *module = kind == LW_CLASS_MODULE ? lw_model_name(model, head->name) : model->unknown;
	struct lw_wait wait = {
		.kind = kind, .module = lw_model_knows(model, module) ? module : none, .pid = head->pid, .tid = head->tid, .waker = record->waker,
		.begin_ns = head->ns, .wait_ns = record->wait_ns, .queue_ns = record->queue_ns,
	};
	wait.holder = holder_of(model, &wait);
	wait.importer = importer_of(thread, &wait);
	wait.within = thread->innermost ? thread->innermost->id : 0;
	if (kind != LW_CLASS_FUTEX)
		remember(model, &wait);
	TELL(model, wait, &wait);
}
