/* SPDX-License-Identifier: MIT */
/*
 * crew: see crew.h.
 *
 * The end: `open` counts pieces that wait or are being visited; a visit ends by adding what it brought minus one, so it is 0 only when all is done.
 *
 * Sleep without losing a wake-up:
 *
 *     sleeper                                   pusher
 *     lock; seen = turns; idle++; unlock        lock own stack; push; unlock
 *     look into every stack (each locked)       if (idle) { lock; turns++; signal; unlock }
 *     lock; wait while turns == seen
 *
 * A piece that the sleeper did not see was pushed after it had looked into that stack; the stack's lock orders idle++ before the pusher's
 * look at idle.
 *
 * A thread beyond the number wanted is parked. What is on its stack others steal.
 */
#include "crew.h"
#include "stamp.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* What the race test's control takes away. */
#ifndef LW_CREW_LOCK
#define LW_CREW_LOCK(worker) pthread_mutex_lock(&(worker)->lock)
#define LW_CREW_UNLOCK(worker) pthread_mutex_unlock(&(worker)->lock)
#endif

/* NOTE_NS: the sums of the pace are shared by all threads, and to ask how long one has waited takes 2 us. */
enum { STEAL_MOST = 32, STACK_SIZE = 1024 * 1024, NOTE_NS = 500 * 1000 };

struct worker {
	struct lw_crew_worker public;	/* first: the job's pointer is ours */
	struct crew *crew;
	pthread_t thread;
	struct lw_pace_thread waits;
	uint64_t noted_calls;
	int64_t noted_ns;		/* monotonic; time until then is accounted for */
	int64_t noted_aside_ns;
	_Alignas(64) pthread_mutex_t lock;	/* protects what follows */
	void **piece;			/* [head, tail) */
	size_t head, tail, room;
};

struct crew {
	const struct lw_crew_job *job;
	bool paced;			/* constant */
	struct lw_pace pace;
	struct worker *worker;		/* LW_PACE_MOST of them */
	_Alignas(64) _Atomic uint64_t open;
	_Alignas(64) _Atomic unsigned idle;	/* asleep, or about to be */
	_Atomic int result;
	_Atomic unsigned started;	/* grows under LOCK */
	pthread_mutex_t lock;		/* protects what follows, and sleeping */
	pthread_cond_t wake, unpark;
	uint64_t turns;
	bool over;
	bool refused;			/* the system gave fewer threads: do not ask again */
};

/* Stacks */

static int make_room(struct worker *worker, size_t count)
{
	size_t used = worker->tail - worker->head;
	if (worker->head) {
		memmove(worker->piece, worker->piece + worker->head, used * sizeof *worker->piece);
		worker->head = 0;
		worker->tail = used;
	}
	if (used + count <= worker->room)
		return 0;
	size_t room = 2 * (used + count) + 64;
	void **larger = realloc(worker->piece, room * sizeof *larger);
	if (!larger)
		return -ENOMEM;
	worker->piece = larger;
	worker->room = room;
	return 0;
}

static int put(struct worker *worker, void *const *pieces, size_t count)
{
	LW_CREW_LOCK(worker);
	int error = worker->tail + count <= worker->room ? 0 : make_room(worker, count);
	if (!error) {
		memcpy(worker->piece + worker->tail, pieces, count * sizeof *pieces);
		worker->tail += count;
	}
	LW_CREW_UNLOCK(worker);
	return error;
}

static void *take_newest(struct worker *worker)
{
	LW_CREW_LOCK(worker);
	void *piece = worker->tail > worker->head ? worker->piece[--worker->tail] : NULL;
	LW_CREW_UNLOCK(worker);
	return piece;
}

static size_t take_oldest(struct worker *victim, void **pieces)
{
	LW_CREW_LOCK(victim);
	size_t count = (victim->tail - victim->head + 1) / 2;
	if (count > STEAL_MOST)
		count = STEAL_MOST;
	if (count)
		memcpy(pieces, victim->piece + victim->head, count * sizeof *pieces);
	victim->head += count;
	LW_CREW_UNLOCK(victim);
	return count;
}

/* Sleep */

static void announce(struct crew *crew, size_t count)
{
	/* Ordered by the lock of the stack that was pushed to, see above. */
	unsigned idle = atomic_load_explicit(&crew->idle, memory_order_relaxed);
	if (!idle)
		return;
	pthread_mutex_lock(&crew->lock);
	crew->turns++;
	for (size_t i = 0; i < count && i < idle; i++)
		pthread_cond_signal(&crew->wake);
	pthread_mutex_unlock(&crew->lock);
}

/* Nobody sleeps on. */
static void call_all(struct crew *crew, bool over)
{
	pthread_mutex_lock(&crew->lock);
	crew->over = crew->over || over;
	crew->turns++;
	pthread_cond_broadcast(&crew->wake);
	pthread_cond_broadcast(&crew->unpark);
	pthread_mutex_unlock(&crew->lock);
}

static void stop(struct crew *crew, int result)
{
	int none = 0;
	atomic_compare_exchange_strong_explicit(&crew->result, &none, result, memory_order_relaxed, memory_order_relaxed);
	call_all(crew, true);
}

static bool stopped(const struct crew *crew)
{
	/* Relaxed: the sooner it is seen the better, nothing rests on it. */
	return atomic_load_explicit(&crew->result, memory_order_relaxed) != 0;
}

static void *steal(struct worker *worker)
{
	struct crew *crew = worker->crew;
	void *pieces[STEAL_MOST];
	unsigned started = atomic_load_explicit(&crew->started, memory_order_acquire);
	for (unsigned i = 1; i < started; i++) {
		size_t count = take_oldest(&crew->worker[(worker->public.number + i) % started], pieces);
		if (!count)
			continue;
		if (count > 1 && put(worker, pieces, count - 1)) {
			stop(crew, -ENOMEM);
			return NULL;
		}
		if (count > 1)
			announce(crew, count - 1);
		return pieces[count - 1];
	}
	return NULL;
}

/* A piece, once there is one; NULL: the run is over. */
static void *wait_for_piece(struct worker *worker)
{
	struct crew *crew = worker->crew;
	void *piece = NULL;
	for (;;) {
		pthread_mutex_lock(&crew->lock);
		uint64_t seen = crew->turns;
		bool over = crew->over;
		atomic_fetch_add_explicit(&crew->idle, 1, memory_order_relaxed);
		pthread_mutex_unlock(&crew->lock);
		if (!over)
			piece = steal(worker);
		pthread_mutex_lock(&crew->lock);
		while (!piece && !crew->over && crew->turns == seen)
			pthread_cond_wait(&crew->wake, &crew->lock);
		over = crew->over;
		atomic_fetch_sub_explicit(&crew->idle, 1, memory_order_relaxed);
		pthread_mutex_unlock(&crew->lock);
		if (piece || over)
			return piece;
	}
}

static bool is_surplus(const struct worker *worker)
{
	return worker->crew->paced && worker->public.number >= lw_pace_wanted(&worker->crew->pace);
}

static void park(struct worker *worker)
{
	struct crew *crew = worker->crew;
	/* What is on our stack is for the others now. */
	announce(crew, STEAL_MOST);
	pthread_mutex_lock(&crew->lock);
	while (!crew->over && is_surplus(worker))
		pthread_cond_wait(&crew->unpark, &crew->lock);
	pthread_mutex_unlock(&crew->lock);
}

/* What was before is not accounted for. */
static void begin_noting(struct worker *worker)
{
	if (!worker->crew->paced)
		return;
	worker->noted_ns = lw_monotonic_ns();
	lw_pace_thread_waited(&worker->waits, worker->noted_ns);
	worker->noted_aside_ns = worker->public.aside_ns;
	worker->noted_calls = worker->public.calls;
}

static void *next_piece(struct worker *worker)
{
	if (is_surplus(worker)) {
		park(worker);
		begin_noting(worker);
	}
	if (stopped(worker->crew))
		return NULL;
	void *piece = take_newest(worker);
	if (!piece) {
		piece = wait_for_piece(worker);
		begin_noting(worker);
	}
	return piece;
}

/* Threads */

static void *work(void *arg);

/* Up to COUNT threads. Called by one of them, or before there are any. */
static void start(struct crew *crew, unsigned count)
{
	sigset_t all, old;
	pthread_attr_t attributes;
	pthread_mutex_lock(&crew->lock);
	unsigned started = atomic_load_explicit(&crew->started, memory_order_relaxed);
	if (crew->over || crew->refused || started >= count) {
		pthread_mutex_unlock(&crew->lock);
		return;
	}
	/* The program's signals are for the program's threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	while (started < count && pthread_create(&crew->worker[started].thread, &attributes, work, &crew->worker[started]) == 0)
		started++;
	crew->refused = started < count;
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	/* Release: the new workers are set up. */
	atomic_store_explicit(&crew->started, started, memory_order_release);
	pthread_mutex_unlock(&crew->lock);
}

static void follow_pace(struct worker *worker)
{
	struct crew *crew = worker->crew;
	int64_t now = lw_monotonic_ns();
	if (now - worker->noted_ns < NOTE_NS)
		return;
	int64_t waited = lw_pace_thread_waited(&worker->waits, now) - (worker->public.aside_ns - worker->noted_aside_ns);
	uint64_t calls = worker->public.calls - worker->noted_calls;
	worker->noted_ns = now;
	worker->noted_aside_ns = worker->public.aside_ns;
	worker->noted_calls = worker->public.calls;
	if (!lw_pace_note(&crew->pace, calls, waited > 0 ? waited : 0, now))
		return;
	start(crew, lw_pace_wanted(&crew->pace));
	call_all(crew, false);
}

static void visit_all(struct worker *worker)
{
	struct crew *crew = worker->crew;
	void *piece;
	while ((piece = next_piece(worker))) {
		int result = crew->job->visit(crew->job->arg, &worker->public, piece);
		if (result)
			stop(crew, result);
		/* Relaxed: nobody concludes more from it than that nothing is left to take. */
		if (atomic_fetch_sub_explicit(&crew->open, 1, memory_order_relaxed) == 1)
			call_all(crew, true);
		if (crew->paced)
			follow_pace(worker);
	}
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct crew *crew = worker->crew;
	worker->public.own = crew->job->enter(crew->job->arg, &worker->public);
	if (!worker->public.own) {
		stop(crew, -ENOMEM);
		return NULL;
	}
	if (crew->paced)
		lw_pace_thread_begin(&worker->waits);
	begin_noting(worker);
	visit_all(worker);
	if (crew->paced)
		lw_pace_thread_end(&worker->waits);
	crew->job->leave(crew->job->arg, &worker->public);
	return NULL;
}

/* The run */

int lw_crew_push(struct lw_crew_worker *public, void *const *pieces, size_t count)
{
	struct worker *worker = (struct worker *)public;
	struct crew *crew = worker->crew;
	if (!count)
		return 0;
	/* Before they can be taken: it must not fall to 0 while they are out. */
	atomic_fetch_add_explicit(&crew->open, count, memory_order_relaxed);
	int error = put(worker, pieces, count);
	if (error)
		atomic_fetch_sub_explicit(&crew->open, count, memory_order_relaxed);
	else if (count > 1) /* one is ours */
		announce(crew, count);
	return error;
}

bool lw_crew_stopped(const struct lw_crew_worker *public)
{
	return stopped(((const struct worker *)public)->crew);
}

bool lw_crew_waits(const struct lw_crew_worker *public)
{
	const struct crew *crew = ((const struct worker *)public)->crew;
	return crew->paced && lw_pace_wanted(&crew->pace) > crew->pace.low;
}

static struct crew *crew_create(const struct lw_crew_job *job)
{
	struct crew *crew = aligned_alloc(64, sizeof *crew);
	struct worker *workers = aligned_alloc(64, LW_PACE_MOST * sizeof *workers);
	if (!crew || !workers) {
		free(crew);
		free(workers);
		return NULL;
	}
	memset(crew, 0, sizeof *crew);
	memset(workers, 0, LW_PACE_MOST * sizeof *workers);
	crew->job = job;
	crew->worker = workers;
	crew->paced = job->threads == 0;
	pthread_mutex_init(&crew->lock, NULL);
	pthread_cond_init(&crew->wake, NULL);
	pthread_cond_init(&crew->unpark, NULL);
	for (unsigned i = 0; i < LW_PACE_MOST; i++) {
		workers[i].public.number = i;
		workers[i].crew = crew;
		pthread_mutex_init(&workers[i].lock, NULL);
	}
	return crew;
}

static void crew_destroy(struct crew *crew)
{
	for (unsigned i = 0; i < LW_PACE_MOST; i++) {
		pthread_mutex_destroy(&crew->worker[i].lock);
		free(crew->worker[i].piece);
	}
	pthread_cond_destroy(&crew->wake);
	pthread_cond_destroy(&crew->unpark);
	pthread_mutex_destroy(&crew->lock);
	free(crew->worker);
	free(crew);
}

static unsigned first_threads(struct crew *crew)
{
	unsigned threads = crew->job->threads;
	if (threads)
		return threads < LW_PACE_MOST ? threads : LW_PACE_MOST;
	unsigned cores = lw_cores();
	lw_pace_init(&crew->pace, cores < LW_PACE_MOST ? cores : LW_PACE_MOST, LW_PACE_MOST);
	return lw_pace_wanted(&crew->pace);
}

int lw_crew_run(const struct lw_crew_job *job, void *const *pieces, size_t count, unsigned *threads)
{
	*threads = 1;
	if (!count)
		return 0;
	struct crew *crew = crew_create(job);
	if (!crew)
		return -ENOMEM;
	unsigned first = first_threads(crew);
	atomic_store_explicit(&crew->started, 1, memory_order_relaxed);
	int result = lw_crew_push(&crew->worker[0].public, pieces, count);
	if (!result) {
		start(crew, first);
		work(&crew->worker[0]);
		/* We may have seen the result of somebody who has not ended the run yet; from here on nobody starts more. */
		call_all(crew, true);
		*threads = atomic_load_explicit(&crew->started, memory_order_acquire);
		for (unsigned i = 1; i < *threads; i++)
			pthread_join(crew->worker[i].thread, NULL);
		result = atomic_load_explicit(&crew->result, memory_order_relaxed);
	}
	crew_destroy(crew);
	return result;
}
