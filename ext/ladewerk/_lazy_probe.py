# SPDX-License-Identifier: MIT
"""What a process that `ladewerk lazy-check` runs has registered by its end: read there, compared elsewhere.

It runs within somebody else's program: it imports nothing that an interpreter does not have, looks at no module that is not loaded, and reads namespaces as they are, so that no
name that waits is resolved.

An entry is (key, value, about): ABOUT names the modules without which nobody could miss it. What a class is registered for is nobody's business while there is no such class; a codec is
everybody's. So a lazy program that has not loaded one of them need not have the entry.
"""
from __future__ import annotations

import sys
import types
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

Entry = tuple[str, str, tuple[str, ...]]

FORMAT = 1
FUNCTIONS: Any = FunctionType, BuiltinFunctionType, MethodType
LANGUAGE: Any = getattr(types, "LazyImportType", ())  # what is bound where a name waits from 3.15 on

#: Tables of the standard library that programs add to: dictionaries (by their keys) and lists.
TABLES = (
    ("copy", "_copy_dispatch"), ("copy", "_deepcopy_dispatch"), ("copyreg", "dispatch_table"), ("copyreg", "_extension_registry"), ("email.charset", "ALIASES"),
    ("email.charset", "CHARSETS"), ("email.charset", "CODEC_MAP"), ("encodings.aliases", "aliases"), ("logging", "_levelToName"), ("shutil", "_ARCHIVE_FORMATS"),
    ("shutil", "_UNPACK_FORMATS"), ("sqlite3.dbapi2", "adapters"), ("sqlite3.dbapi2", "converters"), ("urllib.parse", "uses_fragment"), ("urllib.parse", "uses_netloc"),
    ("urllib.parse", "uses_params"), ("urllib.parse", "uses_query"), ("urllib.parse", "uses_relative"), ("webbrowser", "_browsers"), ("xml.etree.ElementTree", "_namespace_map"),
)


# --- looking without touching -------------------------------------------------------------------------------------------


def _namespace(name: str) -> dict[str, Any]:
    """That of the module NAME as it is: names that wait are not in it. Empty: it is not loaded, or is a proxy, which may say that it is a module."""
    module, native = sys.modules.get(name), sys.modules.get("ladewerk._native")
    if not issubclass(type(module), ModuleType):
        return {}
    return native._namespace(module) if native else vars(module)


def _home(thing: Any) -> str:
    """The module that THING comes from; of what is no class or function, its class."""
    if isinstance(thing, MethodType):
        return _home(thing.__func__)
    if type(thing).__name__ == "partial":
        return _home(thing.func)
    if not isinstance(thing, (type, *FUNCTIONS)):
        thing = type(thing)
    home = type.__getattribute__(thing, "__module__") if isinstance(thing, type) else getattr(thing, "__module__", None)
    return home if isinstance(home, str) else "builtins"


def _name(thing: Any) -> str:
    """The same in every process: no addresses."""
    if isinstance(thing, MethodType):
        return _name(thing.__func__)
    if type(thing).__name__ == "partial":
        return _name(thing.func)
    if isinstance(thing, type):
        return f"{_home(thing)}.{type.__getattribute__(thing, '__qualname__')}"
    if isinstance(thing, FUNCTIONS):
        return f"{_home(thing)}.{thing.__qualname__}"
    return f"a {_name(type(thing))}"


def _text(thing: Any) -> str:
    return repr(thing) if isinstance(thing, (str, bytes, int, float, type(None))) else f"({', '.join(map(_text, thing))})" if isinstance(thing, tuple) else _name(thing)


def _about(thing: Any) -> tuple[str, ...]:
    """Plain values are about nothing."""
    if isinstance(thing, tuple):
        return tuple(home for each in thing for home in _about(each))
    return () if isinstance(thing, (str, bytes, int, float, type(None))) else (_home(thing),)


def _above(name: str) -> tuple[str, ...]:
    """The innermost loaded module that NAME is below, or is."""
    while name and name not in sys.modules:
        name = name.rpartition(".")[0]
    return (name,) if name else ()


# --- what there is to compare -------------------------------------------------------------------------------------------

_exits: list[Any] = []  # what is registered to be called at exit, since begin()


def _codecs() -> Iterator[Entry]:
    import gc

    search, strict = _namespace("encodings").get("search_function"), sys.modules["_codecs"].lookup_error("strict")
    for holder in gc.get_referrers(search):
        if type(holder) is list and holder[:1] == [search]:
            yield from ((f"the search function {_name(one)}", "", ()) for one in holder)
    for holder in gc.get_referrers(strict):
        if type(holder) is dict and "xmlcharrefreplace" in holder and holder.get("strict") is strict:
            yield from ((f"the error handler {name!r}", _name(handler), ()) for name, handler in holder.items() if isinstance(name, str))


def _at_exit() -> Iterator[Entry]:
    for function in (*_exits, *map(_meant, _namespace("threading").get("_threading_atexits", ()))):
        yield _name(function), "", (_home(function),)


def _meant(function: Any) -> Any:
    """What threading._register_atexit() was given: 3.13 and later keep a lambda that calls it."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ())) if type(function) is FunctionType else {}
    return cells["func"].cell_contents if "func" in cells else function


def _warnings() -> Iterator[Entry]:
    own = _namespace("warnings")
    for action, message, category, module, line in (own if "filters" in own else _namespace("_warnings")).get("filters", ()):
        words = [action, getattr(message, "pattern", message), _name(category), getattr(module, "pattern", module), line]
        yield " ".join(str(word) for word in words if word), "", (_home(category),)


def _classes() -> Iterator[type]:
    waiting, seen = [object], set()
    while waiting:
        for one in type.__subclasses__(waiting.pop()):
            if id(one) not in seen:
                seen.add(id(one))
                waiting.append(one)
                yield one


def _abc() -> Iterator[Entry]:
    import _abc as native  # type: ignore[import-not-found]

    meta = _namespace("abc").get("ABCMeta", ())
    for base in [one for one in _classes() if isinstance(one, meta)]:
        for reference in native._get_dump(base)[0]:
            if (one := reference()) is not None:
                yield f"{_name(one)} as a {_name(base)}", "", (_home(base), _home(one))


def _dispatch() -> Iterator[Entry]:
    """functools.singledispatch."""
    for name in list(sys.modules):
        for function in list(_namespace(name).values()):
            if type(function) is FunctionType and function.__module__ == name and "registry" in function.__dict__ and "dispatch" in function.__dict__:
                for one, does in list(function.__dict__["registry"].items()):
                    yield f"{_name(function)} of {_name(one)}", _name(does), (name, _home(one))


def _tables() -> Iterator[Entry]:
    for module, attribute in TABLES:
        table = _namespace(module).get(attribute, ())
        for item in list(table) if isinstance(table, (dict, list)) else ():
            yield f"{_text(item)} in {module}.{attribute}", "", (module, *_about(item))
    pickler = _namespace("pickle").get("_Pickler")
    for item in list(pickler.dispatch) if pickler else ():
        yield f"{_text(item)} in pickle._Pickler.dispatch", "", ("pickle", *_about(item))


def _mimetypes() -> Iterator[Entry]:
    """What the files of the system do not say."""
    own = _namespace("mimetypes")
    if not own.get("inited"):
        return
    fresh = own["MimeTypes"](tuple(file for file in own["knownfiles"] if _is_file(file)))
    for strict in (False, True):
        for suffix, kind in own["_db"].types_map[strict].items():
            if fresh.types_map[strict].get(suffix) != kind:
                yield suffix, kind, ("mimetypes",)


def _is_file(path: str) -> bool:
    from posix import stat

    try:
        return stat(path).st_mode & 0o170000 == 0o100000
    except OSError:
        return False


def _logging() -> Iterator[Entry]:
    own = _namespace("logging")
    if not own:
        return
    yield "the class of loggers", _name(own["_loggerClass"]), _about(own["_loggerClass"])
    yield "the factory of records", _name(own["_logRecordFactory"]), _about(own["_logRecordFactory"])
    loggers = {"root": own["root"], **own["Logger"].manager.loggerDict}
    for name, logger in loggers.items():
        handlers = [_name(handler) for handler in getattr(logger, "handlers", ())]
        filters = [_name(one) for one in getattr(logger, "filters", ())]
        if isinstance(logger, own["Logger"]) and (logger.level or handlers or filters or logger.disabled or not logger.propagate):
            state = f"level {logger.level}, {', '.join([*handlers, *filters]) or 'no handler'}{', disabled' * logger.disabled}{', not propagated' * (not logger.propagate)}"
            yield f"the logger {name}", state, ("logging", *(() if name == "root" else _above(name)))


def _signals() -> Iterator[Entry]:
    import _signal  # type: ignore[import-not-found]

    for number in sorted(_signal.valid_signals()):
        handler = _signal.getsignal(number)
        yield f"signal {int(number)}", _name(handler) if callable(handler) else str(handler and int(handler)), ()


def _hooks() -> Iterator[Entry]:
    for name in ("excepthook", "displayhook", "unraisablehook", "breakpointhook", "stdin", "stdout", "stderr"):
        yield f"sys.{name}", _name(getattr(sys, name, None)), ()
    for name in ("meta_path", "path_hooks"):
        for hook in getattr(sys, name):
            yield f"{_name(hook)} in sys.{name}", "", (_home(hook),)
    import gc

    for function in gc.callbacks:
        yield f"{_name(function)} in gc.callbacks", "", (_home(function),)
    yield "builtins.__import__", _name(_namespace("builtins").get("__import__")), ()
    if "excepthook" in _namespace("threading"):
        yield "threading.excepthook", _name(_namespace("threading")["excepthook"]), ("threading",)


def _environment() -> Iterator[Entry]:
    from posix import environ

    for name, value in getattr(sys.modules.get("os"), "environ", environ).items():
        if not name.startswith("LADEWERK"):
            yield name, value, ()


def _settings() -> Iterator[Entry]:
    import gc
    from posix import getcwd

    for entry in sys.path:
        yield f"{entry!r} in sys.path", "", ()
    yield "the current directory", getcwd(), ()
    yield "the recursion limit", str(sys.getrecursionlimit()), ()
    yield "the switch interval", str(sys.getswitchinterval()), ()
    yield "the garbage collector", f"{gc.isenabled()} {gc.get_threshold()}", ()
    yield "sys.dont_write_bytecode", str(sys.dont_write_bytecode), ()
    if "_locale" in sys.builtin_module_names:  # the C library's, which is asked by others, too
        import _locale

        for name in [name for name in vars(_locale) if name.startswith("LC_") and name != "LC_ALL"]:
            yield f"the locale {name}", str(_locale.setlocale(getattr(_locale, name))), ()
    if timeout := _namespace("_socket"):
        yield "the default timeout of sockets", str(timeout["getdefaulttimeout"]()), ("_socket",)
    if context := _namespace("multiprocessing.context"):
        yield "how multiprocessing starts processes", str(context["_default_context"].get_start_method(allow_none=True)), ("multiprocessing.context",)
    if (policy := _namespace("asyncio.events").get("_event_loop_policy")) is not None and not _home(policy).startswith("asyncio."):
        yield "the policy of event loops", _name(policy), ("asyncio.events",)
    if decimal := _namespace("decimal"):
        yield "decimal.DefaultContext", repr(decimal["DefaultContext"]), ("decimal",)
        yield "the decimal context", repr(decimal["getcontext"]()), ("decimal",)
    if csv := _namespace("_csv"):
        yield "the dialects of csv", str(sorted(csv["list_dialects"]())), ("_csv",)
        yield "the field size limit of csv", str(csv["field_size_limit"]()), ("_csv",)


def _modules() -> Iterator[Entry]:
    """What was put into sys.modules under a name that no import would give it."""
    for name, module in list(sys.modules.items()):
        spec = _namespace(name).get("__spec__")
        if isinstance(name, str) and getattr(spec, "name", None) != name and name not in ("__main__", "__mp_main__", "cython_runtime") and not name.startswith("_cython_"):
            own = _namespace(name).get("__name__") if isinstance(module, ModuleType) else None
            parent = name.rpartition(".")[0]
            yield name, own if isinstance(own, str) else _name(module), (parent,) if parent else ()


def _patches() -> Iterator[Entry]:
    """
    Names of modules, and of classes in them, that hold what comes from elsewhere. Most are imports, as they should be, and the same in both runs. (sys.last_type
    and its like are what has become of the program.)
    """
    for module in list(sys.modules):
        for name, value in list(_namespace(module).items()):
            if isinstance(value, (type, *FUNCTIONS)) and isinstance(name, str) and not (module == "sys" and name.startswith("last_")):
                if _home(value) != module:
                    yield f"{module}.{name}", _name(value), (module,)
                elif isinstance(value, type):
                    for attribute, what in list(type.__dict__["__dict__"].__get__(value).items()):
                        if isinstance(what, FUNCTIONS) and _home(what) != module:
                            yield f"{module}.{name}.{attribute}", _name(what), (module,)


KINDS: dict[str, Callable[[], Iterator[Entry]]] = {
    "codecs": _codecs, "atexit": _at_exit, "warnings": _warnings, "abc": _abc, "singledispatch": _dispatch, "tables": _tables, "mimetypes": _mimetypes, "logging": _logging,
    "signals": _signals, "hooks": _hooks, "environment": _environment, "settings": _settings, "modules": _modules, "patches": _patches,
}


# --- in the program -----------------------------------------------------------------------------------------------------


def _entries(kind: str) -> list[Entry] | None:
    """None: what the program has made of it cannot be read."""
    try:
        return list(KINDS[kind]())
    except Exception:
        return None


def _bound() -> dict[str, list[str]]:
    """What is in the namespaces of modules, and, with a question mark, what waits there."""
    waiting = _namespace("ladewerk._native").get("_lazy_names", lambda namespace: [])
    modules = {module: _namespace(module) for module in list(sys.modules) if isinstance(module, str)}
    return {module: [*(f"{'?' * isinstance(value, LANGUAGE)}{name}" for name, value in list(own.items())), *(f"?{name}" for name in waiting(own))]
            for module, own in modules.items()}


def _lazy() -> dict[str, Any] | None:
    native = _namespace("ladewerk._native")
    try:
        return native["stats"]()["lazy"] if native else None
    except Exception:
        return None


def _write(place: str, begun: int) -> None:
    import marshal
    from posix import getpid, rename

    facts = {"format": FORMAT, "argv": [str(word) for word in sys.orig_argv], "begun": begun, "lazy": _lazy(), "bound": _bound(),
             "entries": {kind: entries for kind in KINDS if (entries := _entries(kind)) is not None}}
    path = f"{place}/{getpid()}"
    with open(path + ".tmp", "wb") as file:
        file.write(marshal.dumps(facts))
    rename(path + ".tmp", path)


def begin(place: str) -> None:
    """At exit, after everything that the program has registered, write what there is into the directory PLACE."""
    import atexit
    from posix import getpid
    from time import monotonic_ns

    begun, own, _register, _unregister, _clear = monotonic_ns(), getpid(), atexit.register, atexit.unregister, atexit._clear

    def last() -> None:
        if getpid() == own:  # a forked child has the parent's
            try:
                _write(place, begun)
            except Exception:  # there is nobody to tell: the program's output is compared
                pass

    def register(function: Any, /, *args: Any, **kwargs: Any) -> Any:
        _register(function, *args, **kwargs)
        _exits.append(function)
        return function

    def unregister(function: Any, /) -> None:
        _unregister(function)
        _exits[:] = [one for one in _exits if one != function]

    def clear() -> None:
        _clear()
        _exits.clear()
        _register(last)

    _register(last)
    atexit.register, atexit.unregister, atexit._clear = register, unregister, clear
