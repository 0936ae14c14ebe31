/* SPDX-License-Identifier: MIT */
/*
 * lazy_fork: fork() while other threads import what names wait for.
 *
 * Such a thread holds the lock of the module that it imports, and does not exist in the child: which would wait for that lock for ever as soon as it needs the module.
 * In stock Python the import was over before the threads began. So os.fork() and os.forkpty() wait for first uses that are under way in other threads of the interpreter,
 * before anything of a fork happens. (Not among the functions that are registered to be called before forks: what modules register while we wait there would be
 * called after the fork only, and others' functions hold locks by then that modules need.)
 *
 * A module may be waiting for the very thread that forks: what uses no CPU time for half a second, or does not end within five, is waited for no longer, now or later.
 * Who forks amid an import waits for nobody, as others may be waiting for that. Imports of statements that are executed are not waited for, as they are not in stock Python.
 *
 * First uses that begin during a fork wait for it in turn, briefly, and once per fork: they may have locks that the fork needs.
 *
 * Forks by other functions than these two (in C) wait for nobody.
 */
#include "lazy_scope.h"

#include "stamp.h"

#include <pthread.h>
#include <time.h>

struct lw_use {
	struct lw_use *next, **link;
	lw_state *state;
	PyInterpreterState *interpreter;
	struct lw_who who;
	uint64_t number;	/* in the order of their beginnings */
	clockid_t clock;	/* CPU time of the thread */
	bool given_up;
};

enum { STEP_NS = 200 * 1000 };
static const int64_t BRIEF_NS = 100000000, STUCK_NS = 500000000, LONGEST_NS = 5000000000;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;	/* of what follows; taken with a GIL, and nothing is called meanwhile */
static struct lw_use *uses;
static uint64_t use_count;
static uint64_t forks_begun, forks_ended;	/* by our functions */
static struct lw_who lineage;			/* the forks that this process descends by, and the thread that the last one has left */
static PyCFunction stock_fork, stock_forkpty;

/* One of our forks, on the stack of its thread; they may be nested, as functions are called before and after. */
struct under_way {
	struct under_way *outer;
	uint64_t forks;		/* lineage.forks when it began */
	bool over;		/* for others: what is called afterwards is nothing to wait for */
};

/* Idents of threads are used again, in children those of threads that were lost: numbers are not. */
static _Atomic uint64_t thread_count;
static _Thread_local uint64_t thread_number, waited_in_vain; /* for as many forks */
static _Thread_local struct under_way *fork_here;

static uint64_t this_thread(void)
{
	if (!thread_number)
		thread_number = ++thread_count;
	return thread_number;
}

static bool is_this_thread(struct lw_who who)
{
	return who.thread == this_thread();
}

struct lw_who lw_who_am_i(lw_state *state)
{
	uint64_t ident = state ? lw_lazy_ident(state) : 0;
	pthread_mutex_lock(&mutex);
	struct lw_who who = { this_thread(), lineage.forks, ident };
	pthread_mutex_unlock(&mutex);
	return who;
}

bool lw_who_is_me(lw_state *state, struct lw_who who)
{
	return is_this_thread(who) && (!state || !who.ident || lw_lazy_ident(state) == who.ident);
}

static bool is_alive(struct lw_who who)
{
	return who.forks == lineage.forks || who.thread == lineage.thread;
}

bool lw_who_is_alive(struct lw_who who)
{
	pthread_mutex_lock(&mutex);
	bool alive = is_alive(who);
	pthread_mutex_unlock(&mutex);
	return alive;
}

static void fork_prepare(void)
{
	pthread_mutex_lock(&mutex);
}

static void fork_parent(void)
{
	if (fork_here && !fork_here->over) {
		fork_here->over = true;
		forks_ended++;
	}
	pthread_mutex_unlock(&mutex);
}

static void set_clock(struct lw_use *use)
{
	if (pthread_getcpuclockid(pthread_self(), &use->clock))
		use->clock = CLOCK_REALTIME; /* gets on all the time */
}

static void fork_child(void)
{
	lineage = (struct lw_who){ this_thread(), lineage.forks + 1, 0 };
	forks_ended = forks_begun;
	for (struct lw_use *use = uses; use; use = use->next)
		if (is_this_thread(use->who))
			set_clock(use); /* the thread has another number here */
	pthread_mutex_unlock(&mutex);
}

static void register_with_libc(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/* --- waiting --- */

/* What there is to wait for: uses of other threads that nobody has given up. */
struct sight {
	lw_state *state;	/* of one of them */
	uint64_t count, newest, cpu;
	bool amid;		/* this thread is at such an import itself */
};

static uint64_t cpu_time(clockid_t clock)
{
	struct timespec time;
	return clock_gettime(clock, &time) ? 0 : (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static struct sight look(void)
{
	struct sight sight = { 0 };
	PyInterpreterState *here = PyInterpreterState_Get();
	pthread_mutex_lock(&mutex);
	for (const struct lw_use *use = uses; use; use = use->next) {
		if (use->interpreter != here || !is_alive(use->who))
			continue;
		if (is_this_thread(use->who)) {
			sight.amid = true;
		} else if (!use->given_up) {
			sight.state = use->state;
			sight.count++;
			sight.newest = Py_MAX(sight.newest, use->number);
			sight.cpu += cpu_time(use->clock);
		}
	}
	pthread_mutex_unlock(&mutex);
	return sight;
}

/* All up to number NEWEST. */
static void give_up(uint64_t newest)
{
	PyInterpreterState *here = PyInterpreterState_Get();
	pthread_mutex_lock(&mutex);
	for (struct lw_use *use = uses; use; use = use->next)
		use->given_up |= use->interpreter == here && use->number <= newest;
	pthread_mutex_unlock(&mutex);
}

static void sleep_a_little(void)
{
	const struct timespec step = { .tv_nsec = STEP_NS };
	Py_BEGIN_ALLOW_THREADS
	nanosleep(&step, NULL);
	Py_END_ALLOW_THREADS
}

/* This thread imports: for a name, or by a statement. */
static bool imports_itself(const struct sight *sight)
{
	int imports = sight->amid ? 1 : lw_lazy_imports_here(sight->state);
	PyErr_Clear();
	return imports > 0;
}

/* Until nobody else is at it while we have the GIL. 0; -1: a signal handler has raised an exception. */
static int wait_for_others(void)
{
	struct sight now = look(), then = now;
	const int64_t began = lw_monotonic_ns();
	int64_t moved = began;
	if (now.count && imports_itself(&now))
		return 0;
	while (now.count) {
		sleep_a_little();
		if (PyErr_CheckSignals() < 0)
			return -1;
		now = look();
		int64_t time = lw_monotonic_ns();
		if (now.count != then.count || now.newest != then.newest || now.cpu != then.cpu)
			moved = time;
		if (time - moved >= STUCK_NS || time - began >= LONGEST_NS) {
			give_up(now.newest);
			return 0;
		}
		then = now;
	}
	return 0;
}

/* --- forks --- */

static void begin_fork(struct under_way *fork)
{
	pthread_mutex_lock(&mutex);
	forks_begun++;
	*fork = (struct under_way){ fork_here, lineage.forks, false };
	pthread_mutex_unlock(&mutex);
	fork_here = fork;
}

static void end_fork(struct under_way *fork)
{
	fork_here = fork->outer;
	pthread_mutex_lock(&mutex);
	forks_ended += !fork->over && lineage.forks == fork->forks; /* else this is the child, where none is under way */
	pthread_mutex_unlock(&mutex);
}

static PyObject *fork_by(PyCFunction stock, PyObject *module)
{
	if (wait_for_others() < 0)
		return NULL;
	struct under_way fork;
	begin_fork(&fork); /* not before: who has waited for us in vain does not wait again */
	PyObject *result = stock(module, NULL);
	end_fork(&fork);
	return result;
}

static PyObject *our_fork(PyObject *module, PyObject *unused)
{
	return fork_by(stock_fork, module);
}

static PyObject *our_forkpty(PyObject *module, PyObject *unused)
{
	return fork_by(stock_forkpty, module);
}

/* OURS in place of the C function behind NAME: whoever has the function object, or gets it, has what it was, and calls ours. *STOCK: what was there. */
static void put(PyObject *module, const char *name, PyCFunction ours, PyCFunction *stock)
{
	PyObject *function = PyObject_GetAttrString(module, name);
	PyMethodDef *method = function && PyCFunction_CheckExact(function) ? ((PyCFunctionObject *)function)->m_ml : NULL;
	bool usual = method && method->ml_flags == METH_NOARGS && PyCFunction_GET_SELF(function) == module;
	pthread_mutex_lock(&mutex);
	if (usual && !*stock) {
		*stock = method->ml_meth;
		method->ml_meth = ours;
	}
	pthread_mutex_unlock(&mutex);
	PyErr_Clear();
	Py_XDECREF(function);
}

int lw_lazy_watch_forks(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	PyObject *name = PyUnicode_FromString("posix"), *posix = name ? PyImport_GetModule(name) : NULL;
	Py_XDECREF(name);
	if (!posix)
		return PyErr_Occurred() ? -1 : 0;
	pthread_once(&once, register_with_libc);
	put(posix, "fork", our_fork, &stock_fork);
	put(posix, "forkpty", our_forkpty, &stock_forkpty);
	Py_DECREF(posix);
	return 0;
}

/* --- uses --- */

/* With the mutex: this thread is at another use. */
static bool is_amid(void)
{
	for (const struct lw_use *use = uses; use; use = use->next)
		if (is_this_thread(use->who) && is_alive(use->who))
			return true;
	return false;
}

/* USE has begun, unless it has to wait for forks first. Whoever forks does not, nor who is waited for by forks already; nor does anybody IN_VAIN for those that have begun. */
static bool may_begin(struct lw_use *use, bool in_vain)
{
	pthread_mutex_lock(&mutex);
	if (in_vain)
		waited_in_vain = forks_begun;
	bool may = forks_begun == forks_ended || fork_here || waited_in_vain >= forks_begun || is_amid();
	if (may) {
		use->who = (struct lw_who){ this_thread(), lineage.forks, 0 };
		use->number = ++use_count;
		use->link = &uses;
		use->next = uses;
		if (uses)
			uses->link = &use->next;
		uses = use;
	}
	pthread_mutex_unlock(&mutex);
	return may;
}

struct lw_use *lw_use_begins(lw_state *state)
{
	struct lw_use *use = state ? PyMem_RawCalloc(1, sizeof(*use)) : NULL;
	if (!use)
		return NULL;
	use->state = state;
	use->interpreter = PyInterpreterState_Get();
	set_clock(use);
	int64_t until = 0;
	while (!may_begin(use, until && lw_monotonic_ns() >= until)) {
		if (!until)
			until = lw_monotonic_ns() + BRIEF_NS;
		sleep_a_little();
	}
	return use;
}

void lw_use_ends(struct lw_use *use)
{
	if (!use)
		return;
	pthread_mutex_lock(&mutex);
	*use->link = use->next;
	if (use->next)
		use->next->link = use->link;
	pthread_mutex_unlock(&mutex);
	PyMem_RawFree(use);
}
