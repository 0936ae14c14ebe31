/* SPDX-License-Identifier: MIT */
/*
 * events: core's watch (watch.h) as a Python object.
 *
 * Threads: one at a time; whoever owns it has a lock. fork: the child closes it and makes another.
 */
#include "live.h"

#include "watch.h"

typedef struct {
	PyObject_HEAD
	lw_watch *watch;	/* NULL: closed */
} events;

static int events_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
	events *self = (events *)object;
	char why[LW_WATCH_WHY] = "";
	if (!PyArg_ParseTuple(args, ""))
		return -1;
	lw_watch_destroy(self->watch);
	self->watch = NULL;
	int error = lw_watch_create(LW_WATCH_INOTIFY, NULL, 0, &self->watch, why);
	if (error == 0)
		return 0;
	PyErr_Format(PyExc_OSError, "%s", *why ? why : strerror(-error));
	return -1;
}

static void events_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);
	lw_watch_destroy(((events *)object)->watch);
	type->tp_free(object);
	Py_DECREF(type);
}

static lw_watch *open_watch(PyObject *object)
{
	lw_watch *watch = ((events *)object)->watch;
	if (!watch)
		PyErr_SetString(PyExc_ValueError, "closed");
	return watch;
}

static PyObject *events_arm(PyObject *object, PyObject *arg)
{
	lw_watch *watch = open_watch(object);
	PyObject *path;
	if (!watch || !PyUnicode_FSConverter(arg, &path))
		return NULL;
	int error = lw_watch_arm(watch, PyBytes_AS_STRING(path), (size_t)PyBytes_GET_SIZE(path));
	Py_DECREF(path);
	return PyBool_FromLong(error == 0);
}

struct batch {
	PyObject *list;
	bool failed;
};

static void on_event(void *arg, const struct lw_watch_event *event)
{
	struct batch *batch = arg;
	if (batch->failed)
		return;
	PyObject *path = PyUnicode_DecodeFSDefaultAndSize(event->path ? event->path : "", event->path ? (Py_ssize_t)event->len : 0);
	PyObject *name = path ? PyUnicode_DecodeFSDefaultAndSize(event->name ? event->name : "", event->name ? (Py_ssize_t)event->name_len : 0) : NULL;
	PyObject *item = name ? Py_BuildValue("iOO", (int)event->kind, path, name) : NULL;
	batch->failed = !item || PyList_Append(batch->list, item) < 0;
	Py_XDECREF(path);
	Py_XDECREF(name);
	Py_XDECREF(item);
}

static PyObject *events_drain(PyObject *object, PyObject *unused)
{
	lw_watch *watch = open_watch(object);
	struct batch batch = { watch ? PyList_New(0) : NULL, false };
	if (!batch.list)
		return NULL;
	int64_t count = lw_watch_owns_fd(lw_watch_fd(watch)) ? lw_watch_drain(watch, 0, on_event, &batch) : -EBADF;
	if (count < 0 && !batch.failed) {
		errno = (int)-count;
		PyErr_SetFromErrno(PyExc_OSError);
	}
	if (count < 0 || batch.failed)
		Py_CLEAR(batch.list);
	return batch.list;
}

static PyObject *events_fileno(PyObject *object, PyObject *unused)
{
	lw_watch *watch = open_watch(object);
	return watch ? PyLong_FromLong(lw_watch_fd(watch)) : NULL;
}

static PyObject *events_close(PyObject *object, PyObject *unused)
{
	events *self = (events *)object;
	lw_watch_destroy(self->watch);
	self->watch = NULL;
	Py_RETURN_NONE;
}

static PyMethodDef events_methods[] = {
	{ "arm", events_arm, METH_O, "arm(directory): from here on what changes in it is told. False: it cannot be." },
	{ "drain", events_drain, METH_NOARGS, "What has been told since: a list of (kind, directory, name). OSError: nothing holds any more." },
	{ "fileno", events_fileno, METH_NOARGS, "Readable while there is something to drain." },
	{ "close", events_close, METH_NOARGS, "May be called again." },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot events_slots[] = {
	{ Py_tp_init, events_init },
	{ Py_tp_dealloc, events_dealloc },
	{ Py_tp_methods, events_methods },
	{ Py_tp_doc, "What changes in directories (inotify). OSError: it is not to be had, and why." },
	{ 0, NULL },
};

static PyType_Spec events_spec = {
	.name = "ladewerk._live.Events",
	.basicsize = sizeof(events),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = events_slots,
};

static const struct {
	const char *name;
	int value;
} kinds[] = {
	{ "NAMES", LW_WATCH_NAMES },
	{ "FILE", LW_WATCH_FILE },
	{ "SUBTREE", LW_WATCH_SUBTREE },
	{ "ALL", LW_WATCH_ALL },
};

int lw_live_add_events(PyObject *module)
{
	PyObject *type = PyType_FromModuleAndSpec(module, &events_spec, NULL);
	int result = type ? PyModule_AddObjectRef(module, "Events", type) : -1;
	for (unsigned i = 0; !result && i < Py_ARRAY_LENGTH(kinds); i++) {
		PyObject *value = PyLong_FromLong(kinds[i].value);
		result = value ? PyObject_SetAttrString(type, kinds[i].name, value) : -1;
		Py_XDECREF(value);
	}
	Py_XDECREF(type);
	return result;
}
