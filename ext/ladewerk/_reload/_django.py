# SPDX-License-Identifier: MIT
"""Django: what ext/RELOAD.md says in *Django*.

    begin       keep the registries as they are; models, receivers, admin classes, ... of modules that are executed again leave them
    started     the settings module has been executed, if it must be: settings are read from it, apps that are new get their configurations, those that are gone leave,
                models are executed
    (bodies)    register what they define, as at any start
    executed    ready(), the admin's modules; then URLs, engines and middleware are made anew
    end         caches are emptied; or all registries are as they were
"""
from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ._adapters import Adapter, module
from . import _django_settings as settings_module
from . import _django_web as web
from ._django_models import Models, forget_cached, relations, targets
from ._django_registries import Registries

if TYPE_CHECKING:
    from ._sources import Sources
    from ._transaction import Transaction


def in_use() -> bool:
    """django.setup() has been called and has returned."""
    apps = getattr(sys.modules["django.apps"], "apps", None)
    if apps is None or not apps.ready:
        return False
    web.know_handlers()
    return True


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


class Django(Adapter):
    name = "django"

    def __init__(self) -> None:
        self._edges: dict[str, set[str]] | None = None
        self._settings = settings_module.SettingsSwitch()
        self._models = Models()
        self._registries = Registries()
        self._engines, self._middleware, self._admin_urls = web.Engines(), web.Middleware(), web.AdminUrls()
        self._begun = False
        self._new_configs: list[Any] = []
        self._kept_configs: list[tuple[Any, dict[str, Any]]] = []

    # --- planning ---

    def dependants(self, sources: Sources, changed: Iterable[str]) -> set[str]:
        """Modules of models that relate to models in CHANGED; modules of URLs that include theirs; whoever imports the settings, if their module is among them."""
        if self._edges is None:
            self._edges = web.included(sources)
            for model in self._models.all():
                for field in relations(model):
                    for target in targets(field):
                        self._edges.setdefault(target.__module__, set()).add(model.__module__)
        changed = set(changed)
        found = set().union(*(self._edges.get(name, ()) for name in changed))
        if self._settings.name in changed:
            found |= settings_module.importers(sources)
        return found - changed

    # --- before bodies ---

    def begin(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._apps = self._models.apps
        self._configs = self._apps.app_configs
        self._registries.keep()
        self._models.keep()
        self._engines.keep()
        self._begun = True
        self._kept_configs = [(config, dict(vars(config))) for config in self._configs.values()]
        self._replaced = {*transaction.plan.steps, *transaction.plan.removed}
        self._forget(self._replaced)
        self._registries.lenient()

    def _forget(self, modules: set[str]) -> None:
        self._models.forget(modules)
        self._registries.forget(modules, set(self._models.gone.values()))

    def first(self) -> list[str]:
        return [self._settings.name]

    def started(self) -> None:
        if self._settings.name in self._transaction.plan.steps:
            self._settings.switch()
            for config in self._configs.values():
                forget_cached(config)
        self._configure()
        for config in self._apps.app_configs.values():
            self._load_models(config)

    def _configure(self) -> None:
        """app_configs for INSTALLED_APPS as it is now. What has not changed keeps its configuration."""
        configs: dict[str, Any] = {}
        wrong = module("django.core.exceptions").ImproperlyConfigured
        for entry in self._settings.settings.INSTALLED_APPS if self._settings.name else self._configs.values():
            config = self._config(entry)
            if config.label in configs:
                raise wrong(f"Application labels aren't unique, duplicates: {config.label}")
            configs[config.label] = config
        names = Counter(config.name for config in configs.values())
        if len(names) != len(configs):
            raise wrong(f"Application names aren't unique, duplicates: {', '.join(name for name, count in names.items() if count > 1)}")
        self._apps.app_configs = configs
        self._apps.clear_cache()
        for label in self._configs.keys() - configs.keys():
            self._leave(self._configs[label])

    def _config(self, entry: Any) -> Any:
        base = module("django.apps").AppConfig
        for config in self._configs.values():
            own_class = f"{type(config).__module__}.{type(config).__qualname__}"
            if entry in (config, config.name, own_class):
                if not self._replaced & {config.name, f"{config.name}.apps", type(config).__module__}:
                    return config
                entry = entry if isinstance(entry, str) else own_class if type(config) is not base else config.name
                break
        config = base.create(entry)
        config.apps = self._apps
        config.models = self._apps.all_models[config.label]
        self._new_configs.append(config)
        return config

    def _leave(self, config: Any) -> None:
        """An app that is not installed any more: its models, and what imports them within the app, are unloaded. If it comes back they are executed."""
        sources, transaction = self._transaction.sources, self._transaction
        defining = {model.__module__ for model in self._apps.all_models[config.label].values()} | {f"{config.name}.models"}
        models = {name for name in defining if name in sources.records and name in sys.modules}
        users = {name for name in sources.dependants(models) if name in sys.modules and name in sources.records}
        outside = sorted(name for name in users if not _within(name, config.name) or self._apps.get_containing_app_config(name) is not None)
        if outside:
            raise LookupError(f"{outside[0]} imports models of {config.name}, which is not in INSTALLED_APPS any more")
        going = {name for name in (*models, *users) if name not in transaction.plan.removed}
        self._forget({*going, *defining})
        for name in going:
            transaction.forget(name)

    def _load_models(self, config: Any) -> None:
        """Before any other module, as django.setup() does; of apps, too, that are new, or may have models now."""
        name = f"{config.name}.models"
        if name in self._transaction.plan.removed:
            config.models_module = None
        elif config in self._new_configs or config.name in self._transaction.sources.records:
            self._check_not_loaded(config, name)
            config.import_models()

    def _check_not_loaded(self, config: Any, name: str) -> None:
        loaded = name in sys.modules and name not in self._transaction.new and name not in self._transaction.plan.steps
        if loaded and config.label not in self._configs:
            raise ImportError(f"{name} was imported before its app was installed: start again", name=name)

    # --- after bodies ---

    def executed(self) -> None:
        transaction, apps = self._transaction, self._apps
        self._models.check(apps.app_configs)
        for config in self._touched({*transaction.new, *self._replaced}):
            config.ready()
        self._discover_admin()
        self._registries.follow(self._replaced, self._models.replaced(), transaction.old, transaction.new)
        apps.clear_cache()
        web.clear_caches()
        if apps.app_configs.keys() != self._configs.keys():
            web.clear_translations()
        self._engines.renew()
        if self._registries.sites_changed():
            self._admin_urls.renew(transaction.sources, transaction.new)
        web.check_urls(self._settings.settings, transaction.new)
        for path in self._settings.settings.MIDDLEWARE:
            if path.rpartition(".")[0] in transaction.plan.removed:  # what import_string() would not notice
                transaction.get_all(path.rpartition(".")[0])
        self._middleware.renew()

    def _touched(self, modules: set[str]) -> list[Any]:
        """Configurations that are new, and those of apps that one of MODULES belongs to."""
        apps = self._apps
        touched = {id(apps.get_containing_app_config(name)) for name in modules} | {id(config) for config in self._new_configs}
        return [config for config in apps.app_configs.values() if id(config) in touched]

    def _discover_admin(self) -> None:
        """Modules that an app has only now."""
        if not self._apps.is_installed("django.contrib.admin"):
            return
        has_submodule = module("django.utils.module_loading").module_has_submodule
        for config in self._apps.app_configs.values():
            name = f"{config.name}.admin"
            if config.name in self._transaction.sources.records or config in self._new_configs:
                if name not in sys.modules and name not in self._transaction.new and has_submodule(config.module, "admin"):
                    module(name)

    def changes(self) -> list[Any]:
        """Global names of installed packages that are bound to replaced models (``UserModel`` in django.contrib.auth)."""
        replaced = self._models.replaced()
        packages = tuple(config.name + "." for config in self._apps.app_configs.values() if config.name not in self._transaction.sources.records)
        found: list[Any] = []
        if not replaced:
            return found
        for name, holder in list(sys.modules.items()):
            if name.startswith(packages) and isinstance(holder, ModuleType) and name not in self._transaction.new:
                names = object.__getattribute__(holder, "__dict__")
                found += [(names, key, replaced[id(value)]) for key, value in list(names.items()) if id(value) in replaced]
        return found

    # --- the end ---

    def end(self, made: bool) -> None:
        if not self._begun:
            return
        self._registries.leave()
        if made:
            self._middleware.made()
            self._apps.clear_cache()  # threads without a pin may have filled it in the middle
        else:
            self._undo()
        web.clear_caches()
        self._begun = False

    def _undo(self) -> None:
        self._middleware.back()
        self._admin_urls.back()
        self._apps.app_configs = self._configs
        for config, before in self._kept_configs:
            vars(config).clear()
            vars(config).update(before)
        self._registries.restore()
        self._models.restore()
        self._settings.back()
        self._engines.back()
        self._apps.clear_cache()
