/* SPDX-License-Identifier: MIT */
/*
 * pins: readers who want one generation throughout, and the swap that waits for them.
 *
 *     Pin.__enter__     closed? wait until it is open. Then: one more hold
 *     Pin.__exit__      the last one within this hold: one hold less
 *     Gate.close()      from here on new pins wait; wait, for a time, until there is no hold
 *     (swap)
 *     Gate.open()
 *
 * A hold belongs to a context (contextvars), so to a thread or a task. Whoever has one and enters again never waits, and makes it last until both have left: so does a task
 * or an executor's function that was given the context of one who holds.
 *
 * Who closes the gate and runs code of others until it opens it again (module bodies, callbacks of frameworks) may enter meanwhile: it would wait for itself.
 *
 * Locks: the mutex protects the plain fields of gate and holds. Python code never runs and no reference is dropped while it is held; who waits has given up the GIL.
 * fork: forked() forgets all holds but the one of the calling context.
 */
#include "live.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum { SLICE_NS = 50 * 1000 * 1000 }; /* between two looks for signals */

typedef struct {
	PyObject_HEAD
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool ready;			/* (once) the two above are there */
	bool closed;			/* mutex */
	bool passes;			/* mutex: while it is closed, CLOSER may enter */
	pthread_t closer;		/* mutex */
	unsigned holds;			/* mutex */
	uint64_t epoch;			/* mutex: forks */
	PyObject *variable;		/* (once) ContextVar: the hold of this context */
	PyTypeObject *hold_type;	/* (once) */
} gate;

typedef struct {
	PyObject_HEAD
	gate *gate;			/* (once) */
	unsigned depth;			/* mutex: 0: it has ended */
	uint64_t epoch;			/* mutex */
} hold;

typedef struct {
	PyObject_HEAD
	gate *gate;			/* (once) */
	hold *hold;			/* of the thread that entered; NULL: not entered */
	PyObject *token;		/* to put the variable back; NULL: it was not set */
} pin;

/* --- waiting --- */

static int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Wait for a change until UNTIL_NS, no longer than a slice. The mutex is not held; the condition is looked at with it. */
static void wait_slice(gate *self, int64_t until_ns, bool (*settled)(const gate *))
{
	int64_t end = now_ns() + SLICE_NS;
	if (end > until_ns)
		end = until_ns;
	struct timespec ts = { end / 1000000000, end % 1000000000 };
	Py_BEGIN_ALLOW_THREADS
	pthread_mutex_lock(&self->mutex);
	while (!settled(self) && pthread_cond_timedwait(&self->changed, &self->mutex, &ts) == 0)
		;
	pthread_mutex_unlock(&self->mutex);
	Py_END_ALLOW_THREADS
}

static bool is_open(const gate *self)
{
	return !self->closed;
}

static bool is_empty(const gate *self)
{
	return !self->holds;
}

static int init_locks(gate *self)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	int error = pthread_mutex_init(&self->mutex, NULL);
	if (!error && (error = pthread_cond_init(&self->changed, &attr)))
		pthread_mutex_destroy(&self->mutex);
	pthread_condattr_destroy(&attr);
	self->ready = !error;
	return error ? -1 : 0;
}

/* --- Hold --- */

static void hold_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);
	Py_XDECREF(((hold *)object)->gate);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyType_Slot hold_slots[] = {
	{ Py_tp_dealloc, hold_dealloc },
	{ Py_tp_doc, "One reader's hold on the generation that it began with." },
	{ 0, NULL },
};

static PyType_Spec hold_spec = {
	.name = "ladewerk._live.Hold",
	.basicsize = sizeof(hold),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = hold_slots,
};

/* The hold of this context, whether it lasts or has ended: strong or NULL; -1 with exception. */
static int context_hold(gate *self, hold **out)
{
	PyObject *value;
	if (PyContextVar_Get(self->variable, NULL, &value) < 0)
		return -1;
	if (value && !Py_IS_TYPE(value, self->hold_type))
		Py_CLEAR(value);
	*out = (hold *)value;
	return 0;
}

/* With the mutex. */
static bool lasts(const gate *self, const hold *mine)
{
	return mine && mine->depth && mine->epoch == self->epoch;
}

enum entered { ENTERED_AGAIN, ENTERED, ENTERED_NOT };

/* MINE (may be NULL) if it lasts, else FRESH. */
static enum entered try_enter(gate *self, hold *mine, hold *fresh)
{
	enum entered result = ENTERED_NOT;
	pthread_mutex_lock(&self->mutex);
	if (lasts(self, mine)) {
		mine->depth++;
		result = ENTERED_AGAIN;
	} else if (!self->closed || (self->passes && pthread_equal(self->closer, pthread_self()))) {
		fresh->depth = 1;
		fresh->epoch = self->epoch;
		self->holds++;
		result = ENTERED;
	}
	pthread_mutex_unlock(&self->mutex);
	return result;
}

/* Whether it has ended. */
static bool leave(gate *self, hold *mine)
{
	pthread_mutex_lock(&self->mutex);
	if (lasts(self, mine) && --mine->depth == 0 && --self->holds == 0)
		pthread_cond_broadcast(&self->changed);
	bool ended = !lasts(self, mine);
	pthread_mutex_unlock(&self->mutex);
	return ended;
}

/* --- Pin --- */

static int pin_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	pin *self = (pin *)object;
	PyObject *of;
	if (!PyArg_ParseTuple(args, "O", &of))
		return -1;
	if (strcmp(Py_TYPE(of)->tp_name, "ladewerk._live.Gate")) {
		PyErr_SetString(PyExc_TypeError, "a pin is for a Gate");
		return -1;
	}
	Py_XSETREF(self->gate, (gate *)Py_NewRef(of));
	return 0;
}

/* 1: entered; 0: closed, and WAIT is false; -1. */
static int pin_take(pin *self, bool wait)
{
	gate *of = self->gate;
	if (!of || self->hold) {
		PyErr_SetString(PyExc_RuntimeError, "a pin is entered once; pinned() gives another");
		return -1;
	}
	hold *mine, *fresh = NULL;
	if (context_hold(of, &mine) < 0)
		return -1;
	if (!(fresh = (hold *)of->hold_type->tp_alloc(of->hold_type, 0))) {
		Py_XDECREF(mine);
		return -1;
	}
	fresh->gate = (gate *)Py_NewRef(of);
	enum entered entered;
	while ((entered = try_enter(of, mine, fresh)) == ENTERED_NOT && wait) {
		wait_slice(of, INT64_MAX, is_open);
		if (PyErr_CheckSignals() < 0)
			break;
	}
	int result = PyErr_Occurred() ? -1 : entered != ENTERED_NOT;
	if (result > 0 && entered == ENTERED) {
		self->token = PyContextVar_Set(of->variable, (PyObject *)fresh);
		if (!self->token) {
			leave(of, fresh);
			result = -1;
		}
	}
	if (result > 0)
		self->hold = (hold *)Py_NewRef(entered == ENTERED ? fresh : mine);
	Py_XDECREF(mine);
	Py_DECREF(fresh);
	return result;
}

static void pin_drop(pin *self)
{
	hold *mine = self->hold;
	PyObject *token = self->token;
	self->hold = NULL;
	self->token = NULL;
	bool ended = !mine || leave(self->gate, mine); /* else another pin of this context has it still (generators take turns), and must find it */
	if (token && ended && PyContextVar_Reset(self->gate->variable, token) < 0)
		PyErr_Clear(); /* left in another context than it was entered in: what is in there has ended, and is taken for that */
	Py_XDECREF(mine);
	Py_XDECREF(token);
}

static PyObject *pin_enter(PyObject *self, PyObject *unused)
{
	return pin_take((pin *)self, true) < 0 ? NULL : Py_NewRef(self);
}

static PyObject *pin_try_enter(PyObject *self, PyObject *unused)
{
	int taken = pin_take((pin *)self, false);
	return taken < 0 ? NULL : PyBool_FromLong(taken);
}

static PyObject *pin_exit(PyObject *self, PyObject *args)
{
	pin_drop((pin *)self);
	Py_RETURN_NONE;
}

static void pin_dealloc(PyObject *object)
{
	pin *self = (pin *)object;
	PyTypeObject *type = Py_TYPE(object);
	PyObject *error, *value, *traceback;
	PyErr_Fetch(&error, &value, &traceback);
	if (self->hold)
		leave(self->gate, self->hold); /* never left: a generator that nobody finished */
	PyErr_Restore(error, value, traceback);
	Py_XDECREF(self->hold);
	Py_XDECREF(self->token);
	Py_XDECREF(self->gate);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyMethodDef pin_methods[] = {
	{ "__enter__", pin_enter, METH_NOARGS, "Wait while it is closed; within a hold of this context never." },
	{ "__exit__", pin_exit, METH_VARARGS, "Let go." },
	{ "try_enter", pin_try_enter, METH_NOARGS, "The same without waiting: whether it was entered." },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot pin_slots[] = {
	{ Py_tp_init, pin_init },
	{ Py_tp_dealloc, pin_dealloc },
	{ Py_tp_methods, pin_methods },
	{ Py_tp_doc, "Pin(gate): a context manager, entered once." },
	{ 0, NULL },
};

static PyType_Spec pin_spec = {
	.name = "ladewerk._live.Pin",
	.basicsize = sizeof(pin),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = pin_slots,
};

/* --- Gate --- */

static int gate_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	gate *self = (gate *)object;
	if (self->ready) {
		PyErr_SetString(PyExc_RuntimeError, "initialised already");
		return -1;
	}
	self->variable = PyContextVar_New("ladewerk.pinned", NULL);
	self->hold_type = (PyTypeObject *)PyObject_GetAttrString((PyObject *)Py_TYPE(object), "Hold");
	if (!self->variable || !self->hold_type)
		return -1;
	if (init_locks(self) < 0) {
		PyErr_NoMemory();
		return -1;
	}
	return 0;
}

static void gate_dealloc(PyObject *object)
{
	gate *self = (gate *)object;
	PyTypeObject *type = Py_TYPE(object);
	if (self->ready) {
		pthread_cond_destroy(&self->changed);
		pthread_mutex_destroy(&self->mutex);
	}
	Py_XDECREF(self->variable);
	Py_XDECREF(self->hold_type);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyObject *gate_close(PyObject *object, PyObject *args)
{
	gate *self = (gate *)object;
	double patience;
	int passes = 0;
	if (!PyArg_ParseTuple(args, "d|p", &patience, &passes))
		return NULL;
	int64_t until = patience > 1e9 ? INT64_MAX : now_ns() + (int64_t)(patience * 1e9);
	pthread_mutex_lock(&self->mutex);
	bool free = !self->closed, empty = is_empty(self);
	if (free) {
		self->closed = true;
		self->passes = passes;
		self->closer = pthread_self();
	}
	pthread_mutex_unlock(&self->mutex);
	if (!free)
		return PyErr_Format(PyExc_RuntimeError, "closed already");
	while (!empty && now_ns() < until) {
		wait_slice(self, until, is_empty);
		pthread_mutex_lock(&self->mutex);
		empty = is_empty(self);
		pthread_mutex_unlock(&self->mutex);
		if (PyErr_CheckSignals() < 0)
			break;
	}
	if (empty && !PyErr_Occurred())
		Py_RETURN_TRUE;
	pthread_mutex_lock(&self->mutex);
	self->closed = false;
	pthread_cond_broadcast(&self->changed);
	pthread_mutex_unlock(&self->mutex);
	return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
}

static PyObject *gate_open(PyObject *object, PyObject *unused)
{
	gate *self = (gate *)object;
	pthread_mutex_lock(&self->mutex);
	self->closed = false;
	pthread_cond_broadcast(&self->changed);
	pthread_mutex_unlock(&self->mutex);
	Py_RETURN_NONE;
}

static PyObject *gate_held(PyObject *object, PyObject *unused)
{
	gate *self = (gate *)object;
	hold *mine;
	if (context_hold(self, &mine) < 0)
		return NULL;
	pthread_mutex_lock(&self->mutex);
	bool held = lasts(self, mine);
	pthread_mutex_unlock(&self->mutex);
	Py_XDECREF(mine);
	return PyBool_FromLong(held);
}

static PyObject *gate_holds(PyObject *object, void *unused)
{
	gate *self = (gate *)object;
	pthread_mutex_lock(&self->mutex);
	unsigned holds = self->holds;
	pthread_mutex_unlock(&self->mutex);
	return PyLong_FromUnsignedLong(holds);
}

static PyObject *gate_forked(PyObject *object, PyObject *unused)
{
	gate *self = (gate *)object;
	hold *mine;
	if (context_hold(self, &mine) < 0)
		return NULL;
	bool held = lasts(self, mine);
	self->epoch++;
	self->closed = false;
	self->holds = held;
	if (held)
		mine->epoch = self->epoch;
	Py_XDECREF(mine);
	/* A thread that is gone may have had the mutex. */
	return init_locks(self) < 0 ? PyErr_NoMemory() : Py_NewRef(Py_None);
}

static PyMethodDef gate_methods[] = {
	{ "close", gate_close, METH_VARARGS, "close(patience, passes=False): new pins wait, but, if it PASSES, those of this thread. True: nobody holds any more. False: after PATIENCE seconds somebody still did, and it is open again." },
	{ "open", gate_open, METH_NOARGS, "Pins that wait go on." },
	{ "held", gate_held, METH_NOARGS, "Whether the calling context holds." },
	{ "forked", gate_forked, METH_NOARGS, "For the child after fork: other threads' holds have gone with them." },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef gate_getset[] = {
	{ "holds", gate_holds, NULL, "how many hold", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot gate_slots[] = {
	{ Py_tp_init, gate_init },
	{ Py_tp_dealloc, gate_dealloc },
	{ Py_tp_methods, gate_methods },
	{ Py_tp_getset, gate_getset },
	{ Py_tp_doc, "Between readers and the swap." },
	{ 0, NULL },
};

static PyType_Spec gate_spec = {
	.name = "ladewerk._live.Gate",
	.basicsize = sizeof(gate),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = gate_slots,
};

int lw_live_add_pins(PyObject *module)
{
	PyObject *holds = PyType_FromModuleAndSpec(module, &hold_spec, NULL);
	PyObject *pins = holds ? PyType_FromModuleAndSpec(module, &pin_spec, NULL) : NULL;
	PyObject *gates = pins ? PyType_FromModuleAndSpec(module, &gate_spec, NULL) : NULL;
	int result = gates ? PyObject_SetAttrString(gates, "Hold", holds) : -1;
	if (!result)
		result = PyModule_AddObjectRef(module, "Gate", gates);
	if (!result)
		result = PyModule_AddObjectRef(module, "Hold", holds);
	if (!result)
		result = PyModule_AddObjectRef(module, "Pin", pins);
	Py_XDECREF(holds);
	Py_XDECREF(pins);
	Py_XDECREF(gates);
	return result;
}
