# SPDX-License-Identifier: MIT
"""What Django has made of modules to answer requests: URL resolvers, template engines, handlers with their middleware, and caches."""
from __future__ import annotations

import copy
import sys
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from ._adapters import module
from ._sources import Sources, own

#: Caches that hold classes, functions or names of a project: module, attribute, what empties it.
_CACHES = (
    ("django.urls", "clear_url_caches", ""),
    ("django.urls.converters", "get_converters", "cache_clear"),
    ("django.urls.resolvers", "_route_to_regex", "cache_clear"),
    ("django.template.engine", "Engine.get_default", "cache_clear"),
    ("django.template.utils", "get_app_template_dirs", "cache_clear"),
    ("django.forms.renderers", "get_default_renderer", "cache_clear"),
    ("django.core.management", "get_commands", "cache_clear"),
    ("django.contrib.auth.password_validation", "get_default_password_validators", "cache_clear"),
    ("django.contrib.auth.hashers", "get_hashers", "cache_clear"),
    ("django.contrib.auth.hashers", "get_hashers_by_algorithm", "cache_clear"),
    ("django.contrib.staticfiles.finders", "get_finder", "cache_clear"),
    ("django.contrib.contenttypes.models", "ContentType.objects", "clear_cache"),
    ("django.views.debug", "get_default_exception_reporter_filter", "cache_clear"),
    ("django.utils.formats", "reset_format_cache", ""),
)


def clear_caches() -> None:
    """They are filled again when they are used."""
    for holder, path, method in _CACHES:
        thing: Any = sys.modules.get(holder)
        for name in (*path.split("."), *([method] if method else [])):
            thing = getattr(thing, name, None)
        if thing is not None:
            thing()
    router: Any = getattr(sys.modules.get("django.db"), "router", None)
    if router is not None:
        router._routers = None
        vars(router).pop("routers", None)


def clear_translations() -> None:
    """Of apps that are gone, and of new ones."""
    translations: Any = sys.modules.get("django.utils.translation.trans_real")
    if translations is not None:
        translations._translations = {}


# --- URLs ---


def _resolvers(patterns: Any) -> Iterator[Any]:
    """All in PATTERNS, but not in modules that they include."""
    for pattern in patterns if isinstance(patterns, (list, tuple)) else ():
        if hasattr(pattern, "urlconf_name"):
            yield pattern
            yield from _resolvers(pattern.urlconf_name)


def included(sources: Sources) -> dict[str, set[str]]:
    """Name of a module of URLs -> the modules that have included it: they hold its patterns."""
    found: dict[str, set[str]] = {}
    for name, resolver in _all_resolvers(sources):
        if isinstance(resolver.urlconf_name, ModuleType):
            found.setdefault(resolver.urlconf_name.__name__, set()).add(name)
    return found


def _all_resolvers(sources: Sources, new: dict[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
    for name in list({**sources.records, **(new or {})}):
        patterns = own((new or {}).get(name, sys.modules.get(name)), "urlpatterns")
        for resolver in _resolvers(patterns):
            yield name, resolver


class AdminUrls:
    """URLs of the admin's sites are a list made when they are included; ``renew()`` it for what is registered now."""

    def __init__(self) -> None:
        self._before: list[tuple[list[Any], list[Any]]] = []

    def renew(self, sources: Sources, new: dict[str, Any]) -> None:
        made: dict[Any, list[Any]] = {}
        for _, resolver in _all_resolvers(sources, new):
            patterns = resolver.urlconf_name
            site = next((each.callback.admin_site for each in patterns if hasattr(getattr(each, "callback", None), "admin_site")), None) if isinstance(patterns, list) else None
            if site is not None:
                if site not in made:
                    made[site] = site.get_urls()
                self._before.append((patterns, list(patterns)))
                patterns[:] = made[site]

    def back(self) -> None:
        for patterns, before in self._before:
            patterns[:] = before


def check_urls(settings: Any, new: dict[str, Any]) -> None:
    """ImproperlyConfigured and what importing raises: the project's URLs, if they have been used, could not be resolved."""
    root = getattr(settings, "ROOT_URLCONF", None)
    if isinstance(root, str) and (root in sys.modules or root in new):
        module("django.urls").get_resolver(root).url_patterns


# --- templates ---


class Engines:
    """``keep()`` them; ``renew()``: made anew, if they have been used, since they hold tags and filters, and parsed templates."""

    def __init__(self) -> None:
        self._before: dict[str, Any] | None = None

    def keep(self) -> None:
        engines = _engines()
        if engines is not None:
            self._before = dict(vars(engines), _engines=dict(engines._engines))

    def renew(self) -> None:
        engines = _engines()
        if engines is None:
            return
        fresh = type(engines)()
        if self._before is None or self._before["_engines"]:
            fresh.all()
        _become(engines, vars(fresh))

    def back(self) -> None:
        if self._before is not None:
            _become(_engines(), self._before)


def _engines() -> Any:
    return getattr(sys.modules.get("django.template"), "engines", None)


def _become(engines: Any, content: dict[str, Any]) -> None:
    vars(engines).update(content)
    if "templates" not in content:
        vars(engines).pop("templates", None)


# --- middleware ---

_PARTS = ("_view_middleware", "_template_response_middleware", "_exception_middleware", "_middleware_chain")
_handlers: weakref.WeakSet[Any] = weakref.WeakSet()
_generation = 0


class _Chain:
    """``BaseHandler._middleware_chain`` from the first reload on: so handlers are known that have answered a request since, and those are noticed that have not, and were made before the last reload."""

    def __get__(self, handler: Any, owner: Any = None) -> Any:
        if handler is None:
            return None
        chain, generation = vars(handler).get("_middleware_chain"), vars(handler).get("_ladewerk_generation", 0)
        if chain is not None and generation != _generation:
            vars(handler).update(_renewed(handler), _ladewerk_generation=_generation)
            chain = vars(handler)["_middleware_chain"]
        if chain is not None:
            _handlers.add(handler)
        return chain

    def __set__(self, handler: Any, chain: Any) -> None:
        vars(handler).update(_middleware_chain=chain, _ladewerk_generation=_generation)


def _renewed(handler: Any) -> dict[str, Any]:
    """Its parts, of the middleware that settings name now. HANDLER itself has the old ones: others use it."""
    fresh = copy.copy(handler)
    fresh.load_middleware(is_async=module("asgiref.sync").iscoroutinefunction(vars(handler)["_middleware_chain"]))
    return {part: vars(fresh).get(part) for part in _PARTS}


def know_handlers() -> None:
    handlers: Any = sys.modules.get("django.core.handlers.base")
    if handlers is not None and not isinstance(vars(handlers.BaseHandler).get("_middleware_chain"), _Chain):
        handlers.BaseHandler._middleware_chain = _Chain()


class Middleware:
    """Of all handlers that are known, made anew."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, dict[str, Any]]] = []

    def renew(self) -> None:
        for handler in list(_handlers):
            parts = _renewed(handler)
            self._before.append((handler, {part: vars(handler).get(part) for part in _PARTS}))
            vars(handler).update(parts)

    def made(self) -> None:
        global _generation
        _generation += 1
        for handler, _ in self._before:
            vars(handler)["_ladewerk_generation"] = _generation

    def back(self) -> None:
        for handler, before in self._before:
            vars(handler).update(before)
        self._before.clear()
