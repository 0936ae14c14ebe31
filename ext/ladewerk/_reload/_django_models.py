# SPDX-License-Identifier: MIT
"""Django's registry of models: models of modules that are executed again leave it, and come back by their own bodies; what relations have put on other models follows.

A model that relates to a replaced one is made anew as well, its module being a dependant (_django.py). Models that are never executed again (those of installed packages: a log
entry that relates to the project's user) keep their identity: their fields are led to the new model as soon as it is registered, which is how Django resolves relations by name.
"""
from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from ._adapters import module


def relations(model: Any) -> Iterator[Any]:
    """Fields of MODEL's own that lead to other models."""
    meta = model._meta
    for field in (*meta.local_fields, *meta.local_many_to_many, *meta.private_fields):
        if getattr(field, "remote_field", None) is not None:
            yield field


def targets(field: Any) -> list[Any]:
    """The models FIELD leads to, as far as they are there: its target, and that between them."""
    rel = field.remote_field
    return [each for each in (getattr(rel, "model", None), getattr(rel, "through", None)) if isinstance(each, type)]


def forget_cached(thing: Any) -> None:
    """What cached_property has kept in THING."""
    cached = module("django.utils.functional").cached_property
    for name in list(vars(thing)):
        if isinstance(getattr(type(thing), name, None), cached):
            del vars(thing)[name]


def _accessor(rel: Any) -> Any:
    return rel.accessor_name if hasattr(type(rel), "accessor_name") else rel.get_accessor_name()


class Models:
    """``keep()`` what there is, then ``forget()``; ``restore()`` puts back what was kept."""

    def __init__(self) -> None:
        self.apps: Any = module("django.apps").apps
        self.gone: dict[tuple[str, str], Any] = {}  # (label, name) -> the old class
        self._pending: dict[Any, list[Any]] = {}
        self._registry: dict[str, dict[str, Any]] = {}
        self._classes: list[tuple[Any, dict[str, Any], dict[str, list[Any]]]] = []
        self._led: list[tuple[Any, dict[str, Any]]] = []  # fields and their rels, as they were

    def all(self) -> Iterator[Any]:
        for models in list(self.apps.all_models.values()):
            yield from list(models.values())

    def keep(self) -> None:
        self._registry = {label: dict(models) for label, models in self.apps.all_models.items()}
        self._pending = {key: list(functions) for key, functions in self.apps._pending_operations.items()}
        self._classes = [(model, dict(vars(model)), {key: list(value) for key, value in vars(model._meta).items() if type(value) is list}) for model in self.all()]

    # --- before bodies are executed ---

    def forget(self, modules: Iterable[str]) -> None:
        """Models that MODULES have defined."""
        modules = set(modules)
        going = {key: model for label, models in self.apps.all_models.items() for name, model in models.items() if model.__module__ in modules for key in [(label, name)]}
        for (label, name), model in going.items():
            del self.apps.all_models[label][name]
            self._detach(model)
        self.gone.update(going)
        old = set(going.values())
        for model in self.all():
            for field in relations(model):
                for each in targets(field):
                    if each in old:
                        self._await(model, field, each)
        self.apps.clear_cache()

    def _detach(self, model: Any) -> None:
        """Take from other models what MODEL's relations have put there."""
        for field in relations(model):
            rel = field.remote_field
            if not isinstance(getattr(rel, "model", None), type):
                continue
            name = _accessor(rel)
            for owner in {rel.model, rel.model._meta.concrete_model}:
                descriptor = vars(owner).get(name)
                if descriptor is not None and rel in (getattr(descriptor, "rel", None), getattr(descriptor, "related", None)):
                    delattr(owner, name)
            limits = getattr(rel.model._meta, "related_fkey_lookups", [])
            limits[:] = [each for each in limits if each is not getattr(rel, "limit_choices_to", None)]

    def _await(self, model: Any, field: Any, old: Any) -> None:
        """FIELD of MODEL, which stays, leads to the model that will have OLD's name."""
        self.apps.lazy_model_operation(functools.partial(self._lead, model, field, old), (old._meta.app_label, old._meta.model_name))

    def _lead(self, model: Any, field: Any, old: Any, new: Any) -> None:
        rel = field.remote_field
        self._led += [(thing, dict(vars(thing))) for thing in (field, rel)]
        for thing in (field, rel, vars(model).get(field.name)):
            if hasattr(thing, "__dict__"):
                forget_cached(thing)
        if getattr(rel, "through", None) is old:
            rel.through = new
        if rel.model is not old:
            return
        rel.model = new
        if getattr(field, "to_fields", None) == [None]:
            rel.field_name = None  # its primary key, whatever that is now
        field.do_related_class(new, model)

    # --- after them ---

    def check(self, labels: Iterable[str]) -> None:
        """LookupError: a model of LABELS has a relation to one that is not there."""
        for label in labels:
            for model in self.apps.all_models[label].values():
                for field in relations(model) if not model._meta.auto_created else ():
                    target = getattr(field.remote_field, "model", None)
                    if isinstance(target, type) and not self._is_there(target) or isinstance(target, str) and not self._was_awaited(model, target):
                        name = target if isinstance(target, str) else target._meta.label  # type: ignore[attr-defined]
                        raise LookupError(f"{model._meta.label}.{field.name} ({model.__module__}) relates to {name}, which is not there")

    def _is_there(self, model: Any) -> bool:
        meta = model._meta
        return meta.abstract or meta.apps is not self.apps or self.apps.all_models[meta.app_label].get(meta.model_name) is model

    def _was_awaited(self, model: Any, target: str) -> bool:
        """It has never been there."""
        label, _, name = target.rpartition(".")
        return (label or model._meta.app_label, name.lower()) in self._pending

    def replaced(self) -> dict[int, Any]:
        """id(old class) -> the new one."""
        found = ((old, self.apps.all_models[label].get(name)) for (label, name), old in self.gone.items())
        return {id(old): new for old, new in found if new is not None and new is not old}

    # --- back ---

    def restore(self) -> None:
        all_models, pending = self.apps.all_models, self.apps._pending_operations
        for label in list(all_models):
            models = all_models[label]
            before = self._registry.get(label, {})
            models.update(before)
            for name in models.keys() - before.keys():
                del models[name]
        pending.clear()
        pending.update(self._pending)
        for thing, before in reversed(self._led):
            vars(thing).clear()
            vars(thing).update(before)
        for model, before, lists in self._classes:
            self._restore_class(model, before, lists)
        self.gone.clear()
        self._led.clear()
        self.apps.clear_cache()

    def _restore_class(self, model: Any, before: dict[str, Any], lists: dict[str, list[Any]]) -> None:
        now = vars(model)
        for name in [name for name in now if name not in before]:
            delattr(model, name)
        for name, value in before.items():
            if now.get(name) is not value:
                setattr(model, name, value)
        for name, content in lists.items():
            there = getattr(model._meta, name, None)
            if type(there) is list and there != content:
                there[:] = content
        for field in relations(model):
            descriptor = now.get(field.name)
            if hasattr(descriptor, "__dict__"):
                forget_cached(descriptor)
