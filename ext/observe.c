/* SPDX-License-Identifier: MIT */
/*
 * observe: see observe.h. A record is an array that grows; it holds the names themselves, and nothing is formatted
 * before it is asked for.
 */
#include "observe.h"

#include "stamp.h"

#include <stdlib.h>
#include <unistd.h>

#if LW_HAVE_SDT
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>
#define SEMAPHORE(name) volatile unsigned short ladewerk_##name##_semaphore __attribute__((section(".probes"), visibility("hidden")))
#else
#define SEMAPHORE(name) volatile unsigned short ladewerk_##name##_semaphore
#define DTRACE_PROBE2(provider, probe, a, b) ((void)(a), (void)(b))
#define DTRACE_PROBE3(provider, probe, a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

SEMAPHORE(import__start);
SEMAPHORE(import__done);
SEMAPHORE(wait__begin);
SEMAPHORE(wait__end);

bool lw_has_probes(void)
{
#if LW_HAVE_SDT
	return true;
#else
	return false;
#endif
}

static const char *const how_names[LW_HOW_COUNT] = { "failed", "stock", "pack", "pyc", "compiled", "stock_loader", "builtin", "namespace", "finder", "waited" };
static const char *const phase_names[LW_PHASE_COUNT] = { "rest", "find", "validate", "compile", "unmarshal", "execute", "collect", "wait" };

struct lw_span {
	struct lw_span *outer;		/* the import that this one is within, on this thread */
	PyObject *name, *importer;	/* strong; importer may be NULL */
	PyObject *spec;			/* strong or NULL: what was found */
	int64_t begun, mark;		/* mark: when the phase began, or went on */
	int64_t spent[LW_PHASE_COUNT];
	enum lw_phase phase;
	enum lw_how how;
	uint32_t depth;
	bool inside;			/* of an engine: IMPORTER is none of the process's modules, whatever its name */
};

struct record {
	PyObject *name, *importer;
	int64_t begun, ended;
	int64_t spent[LW_PHASE_COUNT];
	unsigned long thread;
	uint32_t depth;
	uint8_t how;
	bool inside;
};

struct lw_recorder {
	struct record *record;
	size_t count, capacity;
	uint64_t lost;			/* without memory */
	PyObject *callback;		/* in gc.callbacks */
	pid_t pid;			/* whose record this is: a forked child inherits it */
};

_Thread_local struct lw_span *lw_current_span;

/* --- who imports --- */

static bool is_importlib(PyObject *name)
{
	const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
	return text && (strncmp(text, "importlib", 9) == 0 || strncmp(text, "_frozen_importlib", 17) == 0 || strncmp(text, "ladewerk._engine", 16) == 0);
}

PyObject *lw_importer_name(void)
{
	PyObject *name = NULL;
	PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
	while (frame) {
		PyObject *globals = PyFrame_GetGlobals(frame);
		Py_XSETREF(name, Py_XNewRef(PyDict_GetItemString(globals, "__name__")));
		Py_DECREF(globals);
		PyFrameObject *back = name && is_importlib(name) ? PyFrame_GetBack(frame) : NULL;
		Py_DECREF(frame);
		frame = back;
	}
	if (name && !PyUnicode_Check(name))
		Py_CLEAR(name);
	PyErr_Clear();
	return name;
}

static const char *text_of(PyObject *name)
{
	const char *text = name ? PyUnicode_AsUTF8(name) : "";
	if (!text)
		PyErr_Clear();
	return text ? text : "?";
}

/* --- spans --- */

static void stop_clock(struct lw_span *span, int64_t now)
{
	span->spent[span->phase] += now - span->mark;
	span->mark = now;
}

struct lw_span *lw_span_begin(lw_state *state, PyObject *name)
{
	struct lw_span *span = PyMem_RawCalloc(1, sizeof(*span));
	if (!span)
		return NULL;
	span->name = Py_NewRef(name);
	span->importer = lw_importer_name();
	span->how = LW_HOW_STOCK;
	span->inside = state != state->home;
	span->outer = lw_current_span;
	span->depth = span->outer ? span->outer->depth + 1 : 0;
	if (ladewerk_import__start_semaphore)
		DTRACE_PROBE2(ladewerk, import__start, text_of(name), text_of(span->importer));
	span->begun = span->mark = lw_monotonic_ns();
	if (span->outer)
		stop_clock(span->outer, span->begun);
	lw_current_span = span;
	return span;
}

enum lw_phase lw_phase_slow(enum lw_phase phase)
{
	struct lw_span *span = lw_current_span;
	enum lw_phase before = span->phase;
	stop_clock(span, lw_monotonic_ns());
	span->phase = phase;
	return before;
}

void lw_phase_move(enum lw_phase from, enum lw_phase to, int64_t ns)
{
	if (!lw_current_span)
		return;
	if (ns > lw_current_span->spent[from])
		ns = lw_current_span->spent[from]; /* another thread's share is in it */
	lw_current_span->spent[from] -= ns;
	lw_current_span->spent[to] += ns;
}

bool lw_span_within(PyObject *name)
{
	struct lw_span *span = lw_current_span;
	while (span && PyUnicode_Compare(span->name, name) != 0)
		span = span->outer;
	return span != NULL;
}

void lw_span_how(enum lw_how how)
{
	if (lw_current_span)
		lw_current_span->how = how;
}

/* Somebody wants to hear of SPEC, and SPAN is its import. */
static bool is_of(lw_state *state, const struct lw_span *span, PyObject *spec)
{
	PyObject *name = NULL;
	if (!lw_is_heard(state) || !span || span->spec)
		return false;
	bool same = lw_attr_get(spec, LW_STR(state, name), &name) > 0 && PyUnicode_Check(name) && PyUnicode_Compare(name, span->name) == 0;
	Py_XDECREF(name);
	PyErr_Clear();
	return same;
}

void lw_span_spec(lw_state *state, PyObject *spec)
{
	struct lw_span *span = lw_current_span;
	if (!is_of(state, span, spec))
		return;
	span->spec = Py_NewRef(spec);
	lw_tell(state, LW_EVENT_FOUND, span->name, span->importer, spec, 0, NULL);
	lw_tell(state, LW_EVENT_LOADING, span->name, span->importer, spec, 0, NULL);
}

void lw_wait_begin(lw_state *state)
{
	struct lw_span *span = lw_current_span;
	if (!span)
		return;
	if (ladewerk_wait__begin_semaphore)
		DTRACE_PROBE2(ladewerk, wait__begin, text_of(span->name), text_of(span->importer));
	lw_phase_slow(LW_PHASE_WAIT);
}

void lw_wait_end(lw_state *state)
{
	struct lw_span *span = lw_current_span;
	if (!span)
		return;
	lw_phase_slow(LW_PHASE_REST);
	if (ladewerk_wait__end_semaphore)
		DTRACE_PROBE2(ladewerk, wait__end, text_of(span->name), text_of(span->importer));
}

/* Take SPAN out of the thread's chain, wherever it is by now. */
static void unlink_span(struct lw_span *span, int64_t now)
{
	struct lw_span **at = &lw_current_span;
	while (*at && *at != span)
		at = &(*at)->outer;
	if (*at)
		*at = span->outer;
	if (span->outer && lw_current_span == span->outer)
		span->outer->mark = now;
}

/* --- the record --- */

static bool has_room(struct lw_recorder *recorder)
{
	if (recorder->count < recorder->capacity)
		return true;
	size_t capacity = recorder->capacity ? recorder->capacity * 2 : 1024;
	struct record *larger = PyMem_RawRealloc(recorder->record, capacity * sizeof(*larger));
	if (!larger) {
		recorder->lost++;
		return false;
	}
	recorder->record = larger;
	recorder->capacity = capacity;
	return true;
}

/* Takes over SPAN's references. */
static bool keep(struct lw_recorder *recorder, const struct lw_span *span, int64_t ended)
{
	if (!has_room(recorder))
		return false;
	struct record *record = &recorder->record[recorder->count++];
	*record = (struct record){
		.name = span->name, .importer = span->importer, .begun = span->begun, .ended = ended, .thread = PyThread_get_thread_ident(),
		.depth = span->depth, .how = (uint8_t)span->how, .inside = span->inside,
	};
	memcpy(record->spent, span->spent, sizeof(record->spent));
	return true;
}

/* Without a spec of its own it found the module there: by its parent's doing, or another thread's. */
static void tell_end(lw_state *state, const struct lw_span *span, PyObject *module, PyObject *error, int64_t now)
{
	if (!module)
		lw_tell(state, LW_EVENT_FAILED, span->name, span->importer, span->spec, now - span->begun, error);
	else if (span->spec)
		lw_tell(state, LW_EVENT_LOADED, span->name, span->importer, span->spec, now - span->begun, NULL);
	else if (module != Py_None)
		lw_tell_reused(state, span->name, module);
}

void lw_span_end(lw_state *state, struct lw_span *span, PyObject *module)
{
	struct lw_error error;
	bool kept = false;
	int64_t now = lw_monotonic_ns();
	stop_clock(span, now);
	unlink_span(span, now);
	if (!module)
		span->how = LW_HOW_FAILED;
	lw_error_save(&error);
	if (lw_is_heard(state))
		tell_end(state, span, module, error.value, now);
	if (ladewerk_import__done_semaphore)
		DTRACE_PROBE3(ladewerk, import__done, text_of(span->name), text_of(span->importer), (int)span->how);
	state = state->home;
	Py_BEGIN_CRITICAL_SECTION(state->module);
	if (state->recorder)
		kept = keep(state->recorder, span, now);
	Py_END_CRITICAL_SECTION();
	if (!kept) {
		Py_DECREF(span->name);
		Py_XDECREF(span->importer);
	}
	Py_XDECREF(span->spec);
	PyMem_RawFree(span);
	lw_error_restore(&error);
}

/* gc.callbacks: a collection stops the clock of what it interrupts. */
static PyObject *on_collection(PyObject *self, PyObject *args)
{
	static _Thread_local enum lw_phase interrupted;
	const char *phase;
	PyObject *info;
	if (!PyArg_ParseTuple(args, "sO", &phase, &info))
		return NULL;
	if (strcmp(phase, "start") == 0)
		interrupted = lw_phase(LW_PHASE_COLLECT);
	else
		lw_phase(interrupted);
	Py_RETURN_NONE;
}

static PyMethodDef on_collection_def = { "ladewerk_report", on_collection, METH_VARARGS, "Notes garbage collections within imports." };

static PyObject *gc_callbacks(lw_state *state)
{
	PyObject *gc = lw_gc_module(state);
	PyObject *list = gc ? PyObject_GetAttrString(gc, "callbacks") : NULL;
	Py_XDECREF(gc);
	return list;
}

static int begin_record(lw_state *state)
{
	PyObject *callbacks = gc_callbacks(state);
	struct lw_recorder *recorder = callbacks ? PyMem_RawCalloc(1, sizeof(*recorder)) : NULL;
	int result = recorder ? 0 : -1;
	if (recorder) {
		recorder->pid = getpid();
		recorder->callback = PyCFunction_New(&on_collection_def, NULL);
		result = recorder->callback ? PyList_Append(callbacks, recorder->callback) : -1;
		state->recorder = recorder;
		state->lazy.recording = true;
	}
	Py_XDECREF(callbacks);
	if (result < 0)
		lw_record_clear(state);
	return result;
}

static void end_record(lw_state *state)
{
	PyObject *callbacks = gc_callbacks(state);
	Py_ssize_t at = callbacks ? PySequence_Index(callbacks, state->recorder->callback) : -1;
	if (at >= 0)
		PySequence_DelItem(callbacks, at);
	Py_XDECREF(callbacks);
	PyErr_Clear();
	lw_record_clear(state);
}

void lw_record_clear(lw_state *state)
{
	struct lw_recorder *recorder = state->recorder;
	state->lazy.recording = false;
	if (!recorder)
		return; /* nor need there be a module */
	Py_BEGIN_CRITICAL_SECTION(state->module);
	recorder = state->recorder;
	state->recorder = NULL;
	Py_END_CRITICAL_SECTION();
	if (!recorder)
		return;
	for (size_t i = 0; i < recorder->count; i++) {
		Py_DECREF(recorder->record[i].name);
		Py_XDECREF(recorder->record[i].importer);
	}
	Py_XDECREF(recorder->callback);
	PyMem_RawFree(recorder->record);
	PyMem_RawFree(recorder);
}

PyObject *lw_record(PyObject *module, PyObject *on)
{
	lw_state *state = lw_state_of(module);
	int wanted = PyObject_IsTrue(on);
	if (wanted < 0)
		return NULL;
	if (wanted && !state->recorder && begin_record(state) < 0)
		return PyErr_Occurred() ? NULL : PyErr_NoMemory();
	if (!wanted && state->recorder)
		end_record(state);
	Py_RETURN_NONE;
}

/* ladewerk._report, from beside the extension: at exit sys.path is the program's, which may have a `ladewerk` of its own. */
static PyObject *load_report(PyObject *module)
{
	lw_state *state = lw_state_of(module);
	PyObject *file = PyModule_GetFilenameObject(module);
	PyObject *parts = file ? PyObject_CallMethod(file, "rpartition", "s", "/") : NULL;
	PyObject *spec = parts ? PyObject_CallMethod(state->path_finder, "find_spec", "s[O]", "ladewerk._report", PyTuple_GET_ITEM(parts, 0)) : NULL;
	PyObject *load = spec ? PyDict_GetItemString(state->bootstrap_dict, "_load") : NULL;
	PyObject *report = load ? PyObject_CallOneArg(load, spec) : NULL;
	Py_XDECREF(file);
	Py_XDECREF(parts);
	Py_XDECREF(spec);
	if (!report && !PyErr_Occurred())
		PyErr_SetString(PyExc_ImportError, "ladewerk: there is no way to load the report");
	return report;
}

/* SELF: (module, value of LADEWERK_REPORT). What the report imports itself is not recorded any more. */
static PyObject *write_report(PyObject *self, PyObject *unused)
{
	PyObject *module = PyTuple_GET_ITEM(self, 0), *value = PyTuple_GET_ITEM(self, 1);
	lw_state *state = lw_state_of(module);
	if (!state->recorder || state->recorder->pid != getpid())
		Py_RETURN_NONE;
	PyObject *records = lw_records(module, NULL);
	if (!records)
		return NULL;
	end_record(state);
	PyObject *report = load_report(module);
	PyObject *done = report ? PyObject_CallMethod(report, "at_exit", "OO", value, records) : NULL;
	Py_XDECREF(report);
	Py_DECREF(records);
	return done;
}

static PyMethodDef write_report_def = { "ladewerk_report", write_report, METH_NOARGS, "Writes the report of this process." };

int lw_report_if_asked(lw_state *state, const char *value)
{
	if (!value || state->recorder || strtol(value, NULL, 10) != getpid() || PyInterpreterState_Get() != PyInterpreterState_Main())
		return 0;
	PyObject *atexit = PyImport_ImportModule("atexit"); /* built in */
	PyObject *text = atexit ? PyUnicode_DecodeFSDefault(value) : NULL;
	PyObject *self = text ? PyTuple_Pack(2, state->module, text) : NULL;
	PyObject *function = self ? PyCFunction_New(&write_report_def, self) : NULL;
	PyObject *registered = function ? PyObject_CallMethod(atexit, "register", "O", function) : NULL;
	Py_XDECREF(atexit);
	Py_XDECREF(text);
	Py_XDECREF(self);
	Py_XDECREF(function);
	Py_XDECREF(registered);
	return registered ? begin_record(state) : -1;
}

static PyObject *phases_of(const struct record *record)
{
	PyObject *dict = PyDict_New();
	for (unsigned i = 0; dict && i < LW_PHASE_COUNT; i++) {
		PyObject *ns = record->spent[i] > 0 ? PyLong_FromLongLong(record->spent[i]) : NULL;
		if (ns && PyDict_SetItemString(dict, phase_names[i], ns) < 0)
			Py_CLEAR(dict);
		Py_XDECREF(ns);
	}
	return dict;
}

static PyObject *record_of(const struct record *record)
{
	PyObject *phases = phases_of(record);
	if (!phases)
		return NULL;
	return Py_BuildValue("OOLLkIsNO", record->name, record->importer ? record->importer : Py_None, (long long)record->begun, (long long)record->ended,
		record->thread, record->depth, how_names[record->how], phases, record->inside ? Py_True : Py_False);
}

PyObject *lw_records(PyObject *module, PyObject *unused)
{
	lw_state *state = lw_state_of(module);
	PyObject *list = PyList_New(0);
	Py_BEGIN_CRITICAL_SECTION(module); /* other threads go on importing */
	for (size_t i = 0; list && state->recorder && i < state->recorder->count; i++) {
		struct record record = state->recorder->record[i]; /* a finalizer may import, and the array move */
		PyObject *item = record_of(&record);
		if (!item || PyList_Append(list, item) < 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	Py_END_CRITICAL_SECTION();
	return list;
}
