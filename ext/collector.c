/* SPDX-License-Identifier: MIT */
/*
 * collector: automatic collections that would fire while modules are imported wait, within bounds, until the import is over.
 *
 * An import allocates tens of thousands of containers that all stay alive: the collections that these set off find nothing. The collector fires when the
 * count of its young generation exceeds a threshold, so we set that count back below zero while imports are under way. Nothing else
 * is touched: gc.isenabled(), gc.get_threshold(), gc.callbacks and gc.collect() are what they were, a program that changes them in a module body
 * is obeyed, and what we granted wears off by itself, whatever becomes of the import that it was granted for:
 *
 *   GRANT   allocations of containers without a collection at the start of an import; a server that a module body starts has used it up soon
 *   SPAN    allocations within one outermost import after which a young collection runs all the same, so that garbage stays bounded
 *   TIME    after this much of an outermost import nothing is granted any more
 *
 * When the outermost import is over, the count becomes what it would have been, at most the threshold: one young collection follows soon.
 *
 * The count is a field of the interpreter's state that has no public name. Its place comes from the headers of the build and is proven
 * before it is used (collector_find): it must agree with what the gc module says, before and after a change. If not, collections are as always.
 */
#if LW_HAVE_GENERATIONS
#define Py_BUILD_CORE 1 /* collector_layout.h */
#endif
#include "state.h"

#include "stamp.h"

#if LW_HAVE_GENERATIONS
#include "collector_layout.h"
#endif

PyObject *lw_gc_module(lw_state *state)
{
	PyObject *imp = PyDict_GetItemString(state->bootstrap_dict, "_imp");
	PyObject *spec = imp ? PyObject_CallFunction(state->module_spec, "sO", "gc", Py_None) : NULL;
	PyObject *gc = spec ? PyObject_CallMethod(imp, "create_builtin", "O", spec) : NULL;
	PyObject *done = gc ? PyObject_CallMethod(imp, "exec_builtin", "O", gc) : NULL;
	if (!done)
		Py_CLEAR(gc);
	Py_XDECREF(spec);
	Py_XDECREF(done);
	return gc;
}

/* --- finding the count --- */

static int refuse(lw_state *state, const char *why)
{
	state->collector.reason = why;
	return 0;
}

#if !LW_HAVE_GENERATIONS
int lw_collector_find(lw_state *state, bool wanted)
{
#ifdef Py_GIL_DISABLED
	const char *other = "free-threaded: the collector goes by the growth of memory, and is left alone";
#else
	const char *other = "built for an interpreter without generations, whose collector does little at a time, and is left alone";
#endif
	return refuse(state, wanted ? other : "switched off by LADEWERK_GC=0");
}

void lw_collector_begin(lw_state *state) {}
void lw_collector_extend(lw_state *state) {}
void lw_collector_end(lw_state *state) {}
#else

enum { GRANT = 64 * 1024, SPAN = 512 * 1024 };
static const int64_t TIME_NS = INT64_C(10) * 1000 * 1000 * 1000;

/* gc.NAME() as N ints: 0 or -1. */
static int ask_gc(PyObject *gc, const char *name, int *out, Py_ssize_t n)
{
	PyObject *answer = PyObject_CallMethod(gc, name, NULL);
	int result = answer && PyTuple_Check(answer) && PyTuple_GET_SIZE(answer) == n ? 0 : -1;
	for (Py_ssize_t i = 0; i < n && result == 0; i++)
		out[i] = (int)PyLong_AsLong(PyTuple_GET_ITEM(answer, i));
	Py_XDECREF(answer);
	return PyErr_Occurred() ? -1 : result;
}

/* A list of containers begins and ends at its head. */
static bool is_list(const PyGC_Head *head)
{
	const uintptr_t flags = 3;
	const PyGC_Head *next = (const PyGC_Head *)head->_gc_next;
	return next && !((uintptr_t)next & flags) && (PyGC_Head *)(next->_gc_prev & ~flags) == head;
}

/* Everything that can be compared is as the gc module says: 1, 0, -1. */
static int looks_right(PyObject *gc, const struct gc_generation *generation)
{
	int threshold[LW_GENERATIONS], count[LW_GENERATIONS];
	if (ask_gc(gc, "get_threshold", threshold, LW_GENERATIONS) < 0 || ask_gc(gc, "get_count", count, LW_GENERATIONS) < 0)
		return -1;
	for (int i = 0; i < LW_GENERATIONS; i++)
		if (generation[i].threshold != threshold[i] || (i > 0 && generation[i].count != count[i]))
			return 0;
	for (int i = 0; i < LW_GENERATIONS; i++)
		if (!is_list(&generation[i].head))
			return 0;
	return threshold[2] > 0; /* an incremental collector has none; it does little at a time */
}

/* What is written there is what the gc module reports: 1, 0, -1. */
static int obeys(PyObject *gc, struct gc_generation *young)
{
	const int sample = -123456;
	int count[LW_GENERATIONS], before = young->count;
	young->count = sample;
	int result = ask_gc(gc, "get_count", count, LW_GENERATIONS);
	bool same = result == 0 && count[0] >= sample && count[0] < sample + 1000;
	young->count = before;
	return result < 0 ? -1 : same;
}

int lw_collector_find(lw_state *state, bool wanted)
{
	state->collector.count = NULL;
	state->collector.active = false;
	if (!wanted)
		return refuse(state, "switched off by LADEWERK_GC=0");
	struct gc_generation *generation = lw_generations(PyInterpreterState_Get());
	PyObject *gc = lw_gc_module(state);
	int right = gc ? looks_right(gc, generation) : -1;
	if (right > 0)
		right = obeys(gc, generation);
	Py_XDECREF(gc);
	if (right < 0 && !PyErr_ExceptionMatches(PyExc_Exception))
		return -1;
	PyErr_Clear();
	if (right <= 0)
		return refuse(state, "this interpreter's collector is not the one that Ladewerk was built for");
	state->collector.reason = NULL;
	state->collector.count = &generation->count;
	state->collector.threshold = &generation->threshold;
	return 0;
}

/* --- postponing --- */

/* Containers allocated since the last grant. */
static void settle(struct lw_collector *collector)
{
	if (*collector->count > collector->granted)
		collector->used += *collector->count - collector->granted;
	collector->granted = *collector->count;
}

/* A program that has the collector seldom, or never, run has its way. */
static bool is_ordinary(const struct lw_collector *collector)
{
	return *collector->threshold > 0 && *collector->threshold < GRANT;
}

static bool is_over(const struct lw_collector *collector)
{
	return lw_monotonic_ns() - collector->begun_ns >= TIME_NS;
}

static void grant(struct lw_collector *collector)
{
	*collector->count = collector->granted = -GRANT;
}

void lw_collector_begin(lw_state *state)
{
	struct lw_collector *collector = &state->collector;
	collector->imports++; /* in a forked child, also those of threads that are gone: what is over does not count */
	if (!collector->count || (collector->active && !is_over(collector)) || !is_ordinary(collector) || !PyGC_IsEnabled())
		return;
	collector->active = true;
	collector->begun_ns = lw_monotonic_ns();
	collector->used = *collector->count;
	collector->bursts++;
	grant(collector);
}

void lw_collector_extend(lw_state *state)
{
	struct lw_collector *collector = &state->collector;
	settle(collector);
	if (is_over(collector) || !is_ordinary(collector)) {
		collector->active = false;
	} else if (collector->used >= SPAN) {
		collector->used = 0;
		*collector->count = collector->granted = *collector->threshold; /* the next allocation sets it off */
	} else {
		grant(collector);
	}
}

void lw_collector_end(lw_state *state)
{
	struct lw_collector *collector = &state->collector;
	if (--collector->imports)
		return;
	collector->active = false;
	if (!collector->count || *collector->count >= 0)
		return;
	settle(collector);
	*collector->count = (int)Py_MIN(collector->used, (int64_t)*collector->threshold);
}
#endif
