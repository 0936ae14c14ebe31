# SPDX-License-Identifier: MIT
"""Where modules of a Django project register what they define: receivers of signals, the admin's sites, checks, URL converters, lookups.

What a module that is executed again had registered is taken out before; what has registered stays by the module of the thing itself (of a function, class, or an instance's class).
"""
from __future__ import annotations

import contextlib
import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from ladewerk import _live
from ._adapters import module
from ._sources import is_lazy, own

_signals: weakref.WeakSet[Any] = weakref.WeakSet()  # all that modules have by a global name
_seen: dict[str, Any] = {}


def defined_in(thing: Any, modules: set[str]) -> bool:
    while isinstance(thing, functools.partial):
        thing = thing.func
    of = getattr(thing, "__self__", None)
    return getattr(thing, "__module__", None) in modules or (of is not None and not isinstance(of, ModuleType) and getattr(of, "__module__", None) in modules)


def _is_signal(thing: Any) -> bool:
    return issubclass(type(thing), module("django.dispatch").Signal)  # not isinstance(): proxies may answer that with an error


def signals() -> list[Any]:
    for name in _live.strangers(sys.modules, _seen):
        holder = sys.modules.get(name)
        try:
            _seen[name] = weakref.ref(holder)
        except TypeError:
            _seen[name] = holder
        if isinstance(holder, ModuleType) and not is_lazy(holder):
            _signals.update(value for value in list(object.__getattribute__(holder, "__dict__").values()) if _is_signal(value))
    return list(_signals)


@contextlib.contextmanager
def _locked(signal: Any) -> Iterator[None]:
    taken = signal.lock.acquire(timeout=1)  # in the child of a fork a thread that is gone may have it
    try:
        yield
    finally:
        if taken:
            signal.lock.release()


def _subclasses(of: Any) -> Iterator[Any]:
    for each in of.__subclasses__():
        yield each
        yield from _subclasses(each)


def _receiver(entry: Any) -> Any:
    return entry[1]() if isinstance(entry[1], weakref.ReferenceType) else entry[1]


class Registries:
    """``keep()`` what there is, then ``forget()``; ``restore()`` puts back what was kept."""

    def __init__(self) -> None:
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._sets: list[tuple[set[Any], set[Any]]] = []
        self._receivers: list[tuple[Any, list[Any]]] = []
        self._sites: dict[Any, dict[Any, Any]] = {}
        self._undo: list[Callable[[], None]] = []

    def keep(self) -> None:
        registry, lookups = module("django.core.checks.registry").registry, module("django.db.models.query_utils").RegisterLookupMixin
        self._sets = [(each, set(each)) for each in (registry.registered_checks, registry.deployment_checks)]
        self._receivers = [(signal, list(signal.receivers)) for signal in signals()]
        dicts = [vars(each)["class_lookups"] for each in {lookups, *_subclasses(lookups)} if "class_lookups" in vars(each)]
        if "django.urls.converters" in sys.modules:
            dicts.append(sys.modules["django.urls.converters"].REGISTERED_CONVERTERS)
        for site in self.sites():
            dicts += [site._actions, site._global_actions]
            self._sites[site] = dict(site._registry)
        self._dicts = [(each, dict(each)) for each in dicts]

    def sites(self) -> list[Any]:
        """Of the admin."""
        return list(getattr(sys.modules.get("django.contrib.admin.sites"), "all_sites", ()))

    def sites_changed(self) -> bool:
        return any(dict(site._registry) != self._sites.get(site) for site in self.sites())

    # --- before bodies are executed ---

    def forget(self, modules: set[str], models: set[Any]) -> None:
        """What MODULES have registered, and what was registered for MODELS, which go."""
        for content, _ in self._dicts:
            for key in [key for key, value in content.items() if defined_in(value, modules)]:
                del content[key]
        for things, _ in self._sets:
            things.difference_update([thing for thing in things if defined_in(thing, modules)])
        for signal, _ in self._receivers:
            self._forget_receivers(signal, modules, models)
        for site in self._sites:
            for model, admin in list(site._registry.items()):
                if model in models or defined_in(admin, modules) or self._plain(admin) and f"{model._meta.app_config.name}.admin" in modules:
                    del site._registry[model]
        _forget_lookups()

    def _plain(self, admin: Any) -> bool:
        """Registered by ``admin.site.register(model)``: its class says nothing of who did it."""
        return bool(type(admin).__module__ == "django.contrib.admin.options" and admin.model._meta.app_config is not None)

    def _forget_receivers(self, signal: Any, modules: set[str], models: set[Any]) -> None:
        with _locked(signal):
            signal.receivers = [entry for entry in signal.receivers if not self._goes(_receiver(entry), modules, models)]
            signal.sender_receivers_cache.clear()

    def _goes(self, receiver: Any, modules: set[str], models: set[Any]) -> bool:
        return receiver is not None and (defined_in(receiver, modules) or getattr(getattr(receiver, "__self__", None), "model", None) in models)

    def lenient(self) -> None:
        """Until the end, this thread may register what was registered before with the admin, and unregister what was forgotten."""
        sites = sys.modules.get("django.contrib.admin.sites")
        if sites is None:
            return
        site_class, me, before = sites.AdminSite, threading.get_ident(), self._sites
        register, unregister = site_class.register, site_class.unregister

        def each(models: Any) -> list[Any]:
            return [models] if isinstance(models, type) else list(models)

        @functools.wraps(register)
        def register_again(self: Any, model_or_iterable: Any, *args: Any, **options: Any) -> Any:
            if threading.get_ident() == me:
                model_or_iterable = each(model_or_iterable)
                for model in model_or_iterable:
                    if model in self._registry and self._registry[model] is before.get(self, {}).get(model):
                        del self._registry[model]
            return register(self, model_or_iterable, *args, **options)

        @functools.wraps(unregister)
        def unregister_forgotten(self: Any, model_or_iterable: Any) -> Any:
            if threading.get_ident() == me:
                model_or_iterable = [model for model in each(model_or_iterable) if model in self._registry or model not in before.get(self, {})]
            return unregister(self, model_or_iterable)

        site_class.register, site_class.unregister = register_again, unregister_forgotten

        def back() -> None:
            if site_class.register is register_again:
                site_class.register = register
            if site_class.unregister is unregister_forgotten:
                site_class.unregister = unregister
        self._undo.append(back)

    # --- after them ---

    def follow(self, modules: set[str], models: dict[int, Any], old_modules: dict[str, Any], new_modules: dict[str, Any]) -> None:
        """Receivers of other modules hear of new senders (MODELS: id of the old -> new), and new signals, as they did of the old ones."""
        replaced = set()
        for name in modules:
            old = old_modules.get(name)
            for key, signal in list(object.__getattribute__(old, "__dict__").items()) if isinstance(old, ModuleType) else ():
                new = own(new_modules.get(name), key)
                if new is not signal and _is_signal(signal) and _is_signal(new):
                    replaced.add(signal)
                    self._connect(signal, new, modules, {**models, id(None): None})
        for signal, _ in self._receivers:
            if signal not in replaced:
                self._connect(signal, signal, modules, models)

    def _connect(self, signal: Any, to: Any, modules: set[str], senders: dict[int, Any]) -> None:
        for entry in list(signal.receivers):
            (who, sender), receiver = entry[0], _receiver(entry)
            if sender in senders and receiver is not None and not defined_in(receiver, modules):
                uid = None if who == _identity(receiver) else who
                to.connect(receiver, sender=senders[sender], weak=isinstance(entry[1], weakref.ReferenceType), dispatch_uid=uid)

    # --- the end ---

    def leave(self) -> None:
        while self._undo:
            self._undo.pop()()

    def restore(self) -> None:
        self.leave()
        for content, before in self._dicts:
            _put_back(content, before)
        for things, kept in self._sets:
            things.clear()
            things.update(kept)
        for signal, receivers in self._receivers:
            with _locked(signal):
                signal.receivers = list(receivers)
                signal.sender_receivers_cache.clear()
        for site, registry in self._sites.items():
            _put_back(site._registry, registry)
        _forget_lookups()


def _identity(receiver: Any) -> Any:
    return (id(receiver.__self__), id(receiver.__func__)) if hasattr(receiver, "__func__") else id(receiver)


def _put_back(content: dict[Any, Any], before: dict[Any, Any]) -> None:
    content.clear()
    content.update(before)


def _forget_lookups() -> None:
    forget = getattr(module("django.db.models.query_utils").RegisterLookupMixin, "_clear_cached_class_lookups", None)
    if forget is not None:
        forget()
