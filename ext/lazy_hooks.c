/* SPDX-License-Identifier: MIT */
/*
 * lazy_hooks: names that wait, and readers from outside: those that find a name in the dictionary of a module in another way than by running its code.
 *
 *   module.name, getattr, from-import    the slot of the module type, before the module's own __getattr__. Loads of attributes that are there go on specialising
 *                                        where a package has no such attribute: a submodule that it would have by now (lazy_below.c)
 *   module.__dict__, vars(module), func.__globals__    the slot of member descriptors, for these two of them
 *   frame.f_globals, frame.f_locals      their getters
 *   dir(module), module.__dir__()        the method: lists what waits, and imports nothing
 *   globals(), locals(), vars(), dir(), eval(), exec()    the built-in functions
 *   sys.settrace() and the like          the functions in sys: what waits anywhere is resolved, and nothing waits any more. A load that meets a name that waits raises
 *                                        and handles an exception, jumps, and runs code that the source has not: who traces is not to see it
 *
 * Who gets a dictionary finds in it whatever he looks for: all that waits is resolved first (but see lazy_asker.c), except what cannot be imported.
 *
 * Nothing is replaced by another object, so that what somebody has kept, compares or pickles is what it was: functions and descriptors are led elsewhere from within.
 * A built-in function changes places with a new one in what it calls; its signature, text and name stay.
 *
 * Not to be hooked: object.__getattribute__(module, name), which knows no __getattr__ of modules either; C code that reads PyModule_GetDict(), or runs text with it.
 *
 * Threads: with the GIL. Types and, up to 3.11, their descriptors are the process's: they are led elsewhere by the first interpreter with lazy imports, and back by the last;
 * an interpreter without lazy imports goes on to the stock functions. Functions are each interpreter's own.
 */
#include "lazy.h"

#if LW_LAZY_BUILT

#include <pthread.h>
#include <structmember.h>

enum { FUNCTIONS_MAX = 16 };

/* A built-in function that does something else first. */
struct function {
	PyCFunctionObject *here;	/* strong: the one that everybody has */
	PyCFunctionObject *stock;	/* strong: what it was */
	PyMethodDef def;
};

struct lw_lazy_hooks {
	PyInterpreterState *interpreter;
	struct function function[FUNCTIONS_MAX];
	unsigned functions;
};

/* --- the interpreter's state --- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned interpreters;				/* mutex: with hooks */
static _Atomic(PyInterpreterState *) first_interpreter;	/* the first of them, and */
static _Atomic(lw_state *) first_state;			/* its state; stored before it, so that who reads the one finds the other */

static const char state_key[] = "ladewerk._native.lazy";

/* The state of this interpreter, NULL: it has no hooks. */
static lw_state *state_here(void)
{
	PyInterpreterState *here = PyInterpreterState_Get();
	if (atomic_load_explicit(&first_interpreter, memory_order_acquire) == here)
		return atomic_load_explicit(&first_state, memory_order_relaxed);
	PyObject *dict = PyInterpreterState_GetDict(here);
	PyObject *capsule = dict ? PyDict_GetItemString(dict, state_key) : NULL;
	return capsule ? PyCapsule_GetPointer(capsule, state_key) : NULL;
}

static int remember_state(lw_state *state)
{
	PyInterpreterState *nobody = NULL;
	if (!atomic_load_explicit(&first_interpreter, memory_order_relaxed)) {
		pthread_mutex_lock(&mutex);
		bool first = atomic_load_explicit(&first_interpreter, memory_order_relaxed) == nobody;
		if (first) {
			atomic_store_explicit(&first_state, state, memory_order_relaxed);
			atomic_store_explicit(&first_interpreter, PyInterpreterState_Get(), memory_order_release);
		}
		pthread_mutex_unlock(&mutex);
		if (first)
			return 0;
	}
	PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());
	PyObject *capsule = dict ? PyCapsule_New(state, state_key, NULL) : NULL;
	int result = capsule ? PyDict_SetItemString(dict, state_key, capsule) : -1;
	Py_XDECREF(capsule);
	return result;
}

static void forget_state(const struct lw_lazy_hooks *hooks)
{
	if (atomic_load_explicit(&first_interpreter, memory_order_relaxed) == hooks->interpreter) {
		atomic_store_explicit(&first_interpreter, NULL, memory_order_release);
		return;
	}
	PyObject *dict = PyInterpreterState_GetDict(hooks->interpreter);
	struct lw_error error;
	lw_error_save(&error);
	if (dict && PyDict_DelItemString(dict, state_key) < 0)
		PyErr_Clear();
	lw_error_restore(&error);
}

/* --- dictionaries that go out --- */

static int resolve_one(lw_state *state, PyObject *dict, PyObject *name)
{
	PyObject *value = lw_lazy_resolve(state, dict, name);
	Py_XDECREF(value);
	return value || !PyErr_Occurred() ? 0 : -1;
}

/* DICT is about to be given to the running code. 0 or -1. */
static int reveal(PyObject *dict, enum lw_door door)
{
	lw_state *state = dict && PyDict_Check(dict) ? state_here() : NULL;
	if (!state || !lw_lazy_any(state, dict))
		return 0;
	struct lw_asked asked = lw_lazy_asked(door);
	int result = 0;
	if (asked.what == LW_ASKED_ALL || asked.what == LW_ASKED_STAR)
		result = lw_lazy_resolve_all(state, dict, asked.what == LW_ASKED_STAR);
	else if (asked.what == LW_ASKED_NAME)
		result = resolve_one(state, dict, asked.of);
	else if (asked.what == LW_ASKED_TEXT)
		result = lw_lazy_resolve_mentioned(state, dict, NULL, asked.of);
	Py_XDECREF(asked.of);
	return result;
}

/* The same, and DICT, a reference that is handed on. */
static PyObject *revealed(PyObject *dict, enum lw_door door)
{
	if (dict && reveal(dict, door) < 0)
		Py_CLEAR(dict);
	return dict;
}

/* --- the module type --- */

/* Written once, under the mutex, before anything is led here. What is stock is static in the interpreter's binary: the same in all interpreters of the process. */
static bool taken;
static getattrofunc stock_getattr;
static descrgetfunc stock_member_get;
static PyMethodDef stock_dir, own_dir;
static PyGetSetDef stock_frame_globals, stock_frame_locals, own_frame_globals, own_frame_locals;
static PyMethodDef *stock_dir_place;
static PyGetSetDef *stock_frame_globals_place, *stock_frame_locals_place;
static PyMemberDef own_function_globals, *stock_function_globals_place;

/* MODULE has no attribute NAME, and the exception says so: a submodule, of which a package is about to have it, or NULL. */
static PyObject *submodule(lw_state *state, PyObject *module, PyObject *name)
{
	struct lw_error error;
	if (!PyErr_ExceptionMatches(PyExc_AttributeError))
		return NULL;
	lw_error_save(&error);
	PyObject *value = lw_lazy_asked_by_importlib() ? NULL : lw_lazy_submodule(state, module, name);
	if (value || PyErr_Occurred())
		lw_error_drop(&error);
	else
		lw_error_restore(&error);
	return value;
}

static PyObject *module_getattr(PyObject *self, PyObject *name)
{
	lw_state *state = PyUnicode_Check(name) ? state_here() : NULL;
	if (!state)
		return stock_getattr(self, name);
	PyObject *value = lw_lazy_resolve(state, PyModule_GetDict(self), name);
	if (value || PyErr_Occurred())
		return value;
	value = stock_getattr(self, name);
	return value ? value : submodule(state, self, name);
}

static bool is_module_dict(PyMemberDescrObject *descriptor)
{
	return PyDescr_TYPE(descriptor) == &PyModule_Type;
}

/* A member descriptor reads: the dictionary of a module, the globals of a function, or any other. */
static PyObject *member_get(PyObject *self, PyObject *obj, PyObject *type)
{
	PyMemberDescrObject *descriptor = (PyMemberDescrObject *)self;
	if (descriptor->d_member == &own_function_globals && obj && PyFunction_Check(obj))
		return revealed(Py_NewRef(PyFunction_GET_GLOBALS(obj)), LW_DOOR_FUNCTION);
	PyObject *value = stock_member_get(self, obj, type);
	return is_module_dict(descriptor) && obj ? revealed(value, LW_DOOR_DICT) : value;
}

/* The names in DICT, and those that wait in it: a new list. */
static PyObject *names_of(lw_state *state, PyObject *dict)
{
	PyObject *names = PyDict_Keys(dict), *waiting = names ? lw_lazy_names_in(state, dict) : NULL;
	for (Py_ssize_t i = 0; names && waiting && i < PyList_GET_SIZE(waiting); i++) {
		int there = PyDict_Contains(dict, PyList_GET_ITEM(waiting, i));
		if (there < 0 || (!there && PyList_Append(names, PyList_GET_ITEM(waiting, i)) < 0))
			Py_CLEAR(names);
	}
	if (!waiting)
		Py_CLEAR(names);
	Py_XDECREF(waiting);
	return names;
}

static PyObject *module_dir(PyObject *self, PyObject *unused)
{
	PyObject *dict = PyModule_GetDict(self), *function;
	lw_state *state = state_here();
	if (!state || !dict || !lw_lazy_any(state, dict))
		return stock_dir.ml_meth(self, unused);
	PyObject *name = PyUnicode_InternFromString("__dir__");
	int found = name ? lw_dict_get(dict, name, &function) : -1;
	Py_XDECREF(name);
	if (!found)
		return names_of(state, dict);
	PyObject *result = found > 0 ? PyObject_CallNoArgs(function) : NULL;
	if (found > 0)
		Py_DECREF(function);
	return result;
}

static PyObject *frame_globals(PyObject *frame, void *closure)
{
	return revealed(stock_frame_globals.get(frame, closure), LW_DOOR_FRAME);
}

static PyObject *frame_locals(PyObject *frame, void *closure)
{
	return revealed(stock_frame_locals.get(frame, closure), LW_DOOR_LOCALS);
}

/* TYPE.NAME as TYPE itself has it, of type KIND: borrowed; NULL without an exception. */
static PyObject *descriptor(PyTypeObject *type, const char *name, PyTypeObject *kind)
{
#if PY_VERSION_HEX >= 0x030c0000
	PyObject *dict = PyType_GetDict(type);
#else
	PyObject *dict = Py_XNewRef(type->tp_dict);
#endif
	PyObject *found = dict ? PyDict_GetItemString(dict, name) : NULL;
	Py_XDECREF(dict);
	return found && Py_IS_TYPE(found, kind) ? found : NULL;
}

/* What is led elsewhere in this interpreter's types; NULL where something is not as known. */
struct types {
	PyWrapperDescrObject *getattribute, *member_get;
	PyMethodDescrObject *dir;
	PyGetSetDescrObject *frame_globals, *frame_locals;
	PyMemberDescrObject *function_globals;
};

/* 1; 0: something is not as known. */
static bool find_types(struct types *types)
{
	types->getattribute = (PyWrapperDescrObject *)descriptor(&PyModule_Type, "__getattribute__", &PyWrapperDescr_Type);
	types->member_get = (PyWrapperDescrObject *)descriptor(&PyMemberDescr_Type, "__get__", &PyWrapperDescr_Type);
	types->dir = (PyMethodDescrObject *)descriptor(&PyModule_Type, "__dir__", &PyMethodDescr_Type);
	types->frame_globals = (PyGetSetDescrObject *)descriptor(&PyFrame_Type, "f_globals", &PyGetSetDescr_Type);
	types->frame_locals = (PyGetSetDescrObject *)descriptor(&PyFrame_Type, "f_locals", &PyGetSetDescr_Type);
	types->function_globals = (PyMemberDescrObject *)descriptor(&PyFunction_Type, "__globals__", &PyMemberDescr_Type);
	bool has_dict = descriptor(&PyModule_Type, "__dict__", &PyMemberDescr_Type) != NULL;
	return has_dict && types->getattribute && types->member_get && types->dir && types->dir->d_method->ml_flags == METH_NOARGS
		&& types->frame_globals && types->frame_locals && types->function_globals;
}

static void take_stock(const struct types *types)
{
	if (taken)
		return;
	taken = true;
	stock_getattr = PyModule_Type.tp_getattro;
	stock_member_get = PyMemberDescr_Type.tp_descr_get;
	stock_dir_place = types->dir->d_method;
	stock_frame_globals_place = types->frame_globals->d_getset;
	stock_frame_locals_place = types->frame_locals->d_getset;
	stock_function_globals_place = types->function_globals->d_member;
	stock_dir = own_dir = *stock_dir_place;
	own_dir.ml_meth = module_dir;
	stock_frame_globals = own_frame_globals = *stock_frame_globals_place;
	own_frame_globals.get = frame_globals;
	stock_frame_locals = own_frame_locals = *stock_frame_locals_place;
	own_frame_locals.get = frame_locals;
	own_function_globals = *stock_function_globals_place;
	own_function_globals.flags |= PY_AUDIT_READ; /* loads of it do not specialise, so that each asks; member_get() audits nothing */
}

/* Subclasses of TYPE that have inherited FROM: TO. 0 or -1. */
static int lead_subclasses(PyTypeObject *type, getattrofunc from, getattrofunc to)
{
	PyObject *subclasses = PyObject_CallMethod((PyObject *)type, "__subclasses__", NULL);
	int result = subclasses && PyList_Check(subclasses) ? 0 : -1;
	for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(subclasses); i++) {
		PyTypeObject *subclass = (PyTypeObject *)PyList_GET_ITEM(subclasses, i);
		if (subclass->tp_getattro == from)
			subclass->tp_getattro = to;
		result = lead_subclasses(subclass, from, to);
	}
	Py_XDECREF(subclasses);
	return result;
}

/* With the mutex, so that who begins and who ends at the same time do not undo each other; nothing of Python is called. */
static void lead_types(const struct types *types)
{
	types->getattribute->d_wrapped = (void *)module_getattr;
	types->member_get->d_wrapped = (void *)member_get;
	types->dir->d_method = &own_dir;
	types->frame_globals->d_getset = &own_frame_globals;
	types->frame_locals->d_getset = &own_frame_locals;
	types->function_globals->d_member = &own_function_globals;
	PyMemberDescr_Type.tp_descr_get = member_get;
	PyModule_Type.tp_getattro = module_getattr;
}

/* The same. Subclasses that are not led back go on by our function, which asks for nothing then. */
static void lead_types_back(const struct types *types)
{
	types->getattribute->d_wrapped = (void *)stock_getattr;
	types->member_get->d_wrapped = (void *)stock_member_get;
	types->dir->d_method = stock_dir_place;
	types->frame_globals->d_getset = stock_frame_globals_place;
	types->frame_locals->d_getset = stock_frame_locals_place;
	types->function_globals->d_member = stock_function_globals_place;
	PyMemberDescr_Type.tp_descr_get = stock_member_get;
	PyModule_Type.tp_getattro = stock_getattr;
}

/* --- functions --- */

#define FUNCTION(name) static PyObject *name(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
#define AS_METHOD(function) ((PyCFunction)(void (*)(void))(function))
typedef PyObject *function_hook(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);

/* What HOOK stands in front of: a new reference, or NULL with an exception. */
static PyObject *stock_function(function_hook *hook)
{
	lw_state *state = state_here();
	struct lw_lazy_hooks *hooks = state ? state->lazy.hooks : NULL;
	for (unsigned i = 0; hooks && i < hooks->functions; i++)
		if (hooks->function[i].def.ml_meth == AS_METHOD(hook))
			return Py_NewRef(hooks->function[i].stock);
	PyErr_SetString(PyExc_RuntimeError, "ladewerk: the extension has been torn down");
	return NULL;
}

static PyObject *call_stock(function_hook *hook, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	PyObject *stock = stock_function(hook);
	PyObject *result = stock ? PyObject_Vectorcall(stock, args, (size_t)nargs, kwnames) : NULL;
	Py_XDECREF(stock);
	return result;
}

FUNCTION(hook_globals)
{
	return revealed(call_stock(hook_globals, args, nargs, kwnames), LW_DOOR_CALL);
}

FUNCTION(hook_locals)
{
	return revealed(call_stock(hook_locals, args, nargs, kwnames), LW_DOOR_CALL);
}

/* vars(module) comes to its dictionary by the attribute. */
FUNCTION(hook_vars)
{
	PyObject *result = call_stock(hook_vars, args, nargs, kwnames);
	return nargs ? result : revealed(result, LW_DOOR_CALL);
}

/* The names of the running code, if these are a module's in which names wait: borrowed, or NULL. (A function's are not asked for: that may keep what they refer to.) */
static PyObject *own_module(lw_state *state)
{
	PyObject *globals = PyEval_GetGlobals();
	if (!globals || !lw_lazy_any(state, globals))
		return NULL;
#if PY_VERSION_HEX >= 0x030d0000
	PyObject *locals = PyEval_GetFrameLocals();
	Py_XDECREF(locals);
#else
	PyObject *locals = PyEval_GetLocals();
#endif
	PyErr_Clear();
	return locals == globals ? globals : NULL;
}

/* Names of the running code's own: those that wait are listed, too. */
FUNCTION(hook_dir)
{
	lw_state *state = nargs || kwnames ? NULL : state_here();
	PyObject *dict = state ? own_module(state) : NULL;
	if (!dict)
		return call_stock(hook_dir, args, nargs, kwnames);
	PyObject *names = names_of(state, dict);
	if (names && PyList_Sort(names) < 0)
		Py_CLEAR(names);
	return names;
}

/* Argument I of eval() or exec(), by position or by NAME: borrowed, NULL if there is none or it is None. */
static PyObject *argument(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, Py_ssize_t i, const char *name)
{
	PyObject *value = i < nargs ? args[i] : NULL;
	for (Py_ssize_t k = 0; !value && kwnames && k < PyTuple_GET_SIZE(kwnames); k++)
		if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, k), name) == 0)
			value = args[nargs + k];
	return value == Py_None ? NULL : value;
}

/* SOURCE, code or text, is to run with DICT. 0 or -1. What is neither, eval() refuses. */
static int reveal_to(lw_state *state, PyObject *dict, PyObject *source)
{
	if (!dict || !PyDict_Check(dict) || !lw_lazy_any(state, dict))
		return 0;
	bool text = PyUnicode_Check(source) || PyObject_CheckBuffer(source);
	return PyCode_Check(source) ? lw_lazy_resolve_mentioned(state, dict, source, NULL) : text ? lw_lazy_resolve_mentioned(state, dict, NULL, source) : 0;
}

/* The code has missed a name that waits in DICT, and was not to be had: then what its import raises is the exception. */
static void say_why(lw_state *state, PyObject *dict)
{
	struct lw_error error;
	lw_error_save(&error);
	PyObject *name = PyObject_GetAttrString(error.value, "name");
	PyErr_Clear();
	if (name && PyUnicode_Check(name) && dict && PyDict_Check(dict))
		resolve_one(state, dict, name);
	Py_XDECREF(name);
	if (PyErr_Occurred())
		lw_error_drop(&error);
	else
		lw_error_restore(&error);
}

/* eval() or exec(): HOOK. */
static PyObject *run(function_hook *hook, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	lw_state *state = nargs ? state_here() : NULL;
	PyObject *globals = argument(args, nargs, kwnames, 1, "globals"), *locals = argument(args, nargs, kwnames, 2, "locals");
	if (!state)
		return call_stock(hook, args, nargs, kwnames);
	globals = Py_XNewRef(globals ? globals : PyEval_GetGlobals());
	PyObject *result = NULL;
	if (reveal_to(state, globals, args[0]) == 0 && (locals == globals || reveal_to(state, locals, args[0]) == 0)) {
		result = call_stock(hook, args, nargs, kwnames);
		if (!result && PyErr_ExceptionMatches(PyExc_NameError))
			say_why(state, globals);
	}
	Py_XDECREF(globals);
	return result;
}

FUNCTION(hook_eval)
{
	return run(hook_eval, args, nargs, kwnames);
}

FUNCTION(hook_exec)
{
	return run(hook_exec, args, nargs, kwnames);
}

/* --- tracing --- */

/* Somebody begins to trace: nothing is to wait. 0 or -1. */
static int end_waiting(void)
{
	lw_state *state = state_here();
	if (!state)
		return 0;
	state->lazy.traced = true; /* first: what is imported now is eager */
	return lw_lazy_resolve_everywhere(state);
}

FUNCTION(hook_settrace)
{
	return nargs == 1 && args[0] != Py_None && end_waiting() < 0 ? NULL : call_stock(hook_settrace, args, nargs, kwnames);
}

FUNCTION(hook_settrace_all)
{
	return nargs == 1 && args[0] != Py_None && end_waiting() < 0 ? NULL : call_stock(hook_settrace_all, args, nargs, kwnames);
}

#if PY_VERSION_HEX >= 0x030c0000
/* sys.monitoring events that know of calls only; profilers and the like use no others. -1 with an exception. */
static long quiet_events(void)
{
	static const char *const names[] = { "PY_START", "PY_RESUME", "PY_RETURN", "PY_YIELD", "PY_THROW", "PY_UNWIND", "CALL", "C_RETURN", "C_RAISE" };
	PyObject *monitoring = PySys_GetObject("monitoring");
	PyObject *events = monitoring ? PyObject_GetAttrString(monitoring, "events") : NULL;
	long bits = events ? 0 : -1;
	for (size_t i = 0; events && bits >= 0 && i < Py_ARRAY_LENGTH(names); i++) {
		PyObject *event = PyObject_GetAttrString(events, names[i]);
		long bit = event ? PyLong_AsLong(event) : -1;
		bits = bit < 0 ? -1 : bits | bit;
		Py_XDECREF(event);
	}
	Py_XDECREF(events);
	return bits;
}

/* EVENTS are to be told of. 0 or -1. */
static int end_waiting_for(PyObject *events)
{
	long quiet = quiet_events(), wanted = PyLong_Check(events) ? PyLong_AsLong(events) : 0;
	if (PyErr_Occurred())
		PyErr_Clear();
	return (wanted & ~quiet) || quiet < 0 ? end_waiting() : 0;
}

FUNCTION(hook_set_events)
{
	return nargs == 2 && end_waiting_for(args[1]) < 0 ? NULL : call_stock(hook_set_events, args, nargs, kwnames);
}

FUNCTION(hook_set_local_events)
{
	return nargs == 3 && end_waiting_for(args[2]) < 0 ? NULL : call_stock(hook_set_local_events, args, nargs, kwnames);
}
#endif

/* --- putting functions in place --- */

static void exchange(PyCFunctionObject *a, PyCFunctionObject *b)
{
	PyMethodDef *def = a->m_ml;
	vectorcallfunc call = a->vectorcall;
	a->m_ml = b->m_ml;
	a->vectorcall = b->vectorcall;
	b->m_ml = def;
	b->vectorcall = call;
}

/* DICT[NAME] does as HOOK does. 0; 1: it is no built-in function; -1. */
static int lead_function(struct lw_lazy_hooks *hooks, PyObject *dict, const char *name, PyCFunction hook)
{
	PyObject *found = PyDict_GetItemString(dict, name);
	if (!found || !PyCFunction_CheckExact(found))
		return 1;
	struct function *function = &hooks->function[hooks->functions];
	PyCFunctionObject *here = (PyCFunctionObject *)found;
	function->def = (PyMethodDef){ here->m_ml->ml_name, hook, METH_FASTCALL | METH_KEYWORDS, here->m_ml->ml_doc };
	function->stock = (PyCFunctionObject *)PyCFunction_NewEx(&function->def, here->m_self, here->m_module);
	if (!function->stock)
		return -1;
	function->here = (PyCFunctionObject *)Py_NewRef(found);
	exchange(function->here, function->stock);
	hooks->functions++;
	return 0;
}

static void lead_functions_back(struct lw_lazy_hooks *hooks)
{
	for (unsigned i = 0; i < hooks->functions; i++) {
		exchange(hooks->function[i].here, hooks->function[i].stock);
		Py_DECREF(hooks->function[i].here);
		Py_DECREF(hooks->function[i].stock);
	}
	hooks->functions = 0;
}

/* 0; 1: one of them is not the built-in function; -1. */
static int lead_functions(lw_state *state, struct lw_lazy_hooks *hooks)
{
	static const struct { const char *name; PyCFunction hook; } of_builtins[] = {
		{ "globals", AS_METHOD(hook_globals) }, { "locals", AS_METHOD(hook_locals) }, { "vars", AS_METHOD(hook_vars) },
		{ "dir", AS_METHOD(hook_dir) }, { "eval", AS_METHOD(hook_eval) }, { "exec", AS_METHOD(hook_exec) },
	};
	for (size_t i = 0; i < Py_ARRAY_LENGTH(of_builtins); i++) {
		int result = lead_function(hooks, state->builtins, of_builtins[i].name, of_builtins[i].hook);
		if (result)
			return result;
	}
	return 0;
}

static int lead_tracing(lw_state *state, struct lw_lazy_hooks *hooks)
{
	int result = lead_function(hooks, state->sys_dict, "settrace", AS_METHOD(hook_settrace));
#if PY_VERSION_HEX >= 0x030c0000
	PyObject *monitoring = PyDict_GetItemString(state->sys_dict, "monitoring");
	PyObject *dict = monitoring && PyModule_Check(monitoring) ? PyModule_GetDict(monitoring) : NULL;
	if (!result)
		result = lead_function(hooks, state->sys_dict, "_settraceallthreads", AS_METHOD(hook_settrace_all));
	if (!result)
		result = dict ? lead_function(hooks, dict, "set_events", AS_METHOD(hook_set_events)) : 1;
	if (!result)
		result = lead_function(hooks, dict, "set_local_events", AS_METHOD(hook_set_local_events));
#endif
	return result;
}

/* --- all of it --- */

static void end_types(void)
{
	struct types types;
	struct lw_error error;
	lw_error_save(&error);
	bool known = find_types(&types);
	pthread_mutex_lock(&mutex);
	bool last = !--interpreters && known;
	if (last)
		lead_types_back(&types);
	pthread_mutex_unlock(&mutex);
	if (last && lead_subclasses(&PyModule_Type, module_getattr, stock_getattr) < 0)
		PyErr_Clear();
	lw_error_restore(&error);
}

static int begin_types(void)
{
	struct types types;
	if (!find_types(&types))
		return 1;
	pthread_mutex_lock(&mutex);
	interpreters++;
	take_stock(&types);
	lead_types(&types);
	pthread_mutex_unlock(&mutex);
	if (lead_subclasses(&PyModule_Type, stock_getattr, module_getattr) == 0)
		return 0;
	end_types();
	return -1;
}

int lw_lazy_hooks_begin(lw_state *state)
{
	if (state->lazy.hooks)
		return 0;
	struct lw_lazy_hooks *hooks = PyMem_Calloc(1, sizeof(*hooks));
	if (!hooks)
		return PyErr_NoMemory(), -1;
	hooks->interpreter = PyInterpreterState_Get();
	state->lazy.hooks = hooks;
	int result = remember_state(state);
	if (!result)
		result = lead_functions(state, hooks);
	if (!result)
		result = lead_tracing(state, hooks);
	if (!result)
		result = begin_types();
	if (!result)
		return 0;
	lead_functions_back(hooks);
	forget_state(hooks);
	PyMem_Free(hooks);
	state->lazy.hooks = NULL;
	return result > 0 ? lw_lazy_refuse(state, "a built-in function or type that reads names of modules is not the stock one") : -1;
}

void lw_lazy_hooks_end(lw_state *state)
{
	struct lw_lazy_hooks *hooks = state->lazy.hooks;
	if (!hooks)
		return;
	state->lazy.hooks = NULL;
	end_types();
	lead_functions_back(hooks);
	forget_state(hooks);
	PyMem_Free(hooks);
}

#elif PY_VERSION_HEX < 0x030f0000 /* nothing waits; later, lazy_language.c */

int lw_lazy_hooks_begin(lw_state *state)
{
	return 0;
}

void lw_lazy_hooks_end(lw_state *state)
{
}

#endif
