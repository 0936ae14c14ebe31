# SPDX-License-Identifier: MIT
"""Django's settings, read again from the new settings module. What has kept a setting's value hears of it as in Django's own tests: by the signal ``setting_changed``."""
from __future__ import annotations

import os
import sys
import time
from typing import Any

from ._adapters import module

_UNCHANGEABLE = ("DATABASES",)  # connections are made already; the signal's receiver would only warn


def _values(settings: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(settings).items() if key.isupper() and key != "SETTINGS_MODULE"}


class SettingsSwitch:
    """``settings``: Django's. ``name``: of the module that they come from, "" if from none or if they are overridden at the moment."""

    def __init__(self) -> None:
        conf = module("django.conf")
        self.settings: Any = conf.settings
        wrapped = self.settings._wrapped
        self.name: str = wrapped.SETTINGS_MODULE if type(wrapped) is conf.Settings else ""
        self._old: Any = None  # once switched, until that was undone
        self._new: Any = None

    def switch(self) -> None:
        """Its module was executed again, aside: this thread imports the new one."""
        module("django.test.signals")  # Django's own receivers of setting_changed
        old = self.settings._wrapped
        timezone = os.environ.get("TZ")
        try:
            new = module("django.conf").Settings(self.name)
        except BaseException:
            _set_timezone(timezone)
            raise
        self._old, self._new = old, new
        self.settings._wrapped = new
        self._tell(old, new, True)

    def back(self) -> None:
        if self._old is None:
            return
        self.settings._wrapped = self._old
        _set_timezone(self._old.TIME_ZONE)
        self._tell(self._new, self._old, False)
        self._old = None

    def _tell(self, old: Any, new: Any, enter: bool) -> None:
        before, after = _values(old), _values(new)
        changed = [key for key in {**before, **after} if (key in before) != (key in after) or before[key] != after[key]]
        signal = module("django.core.signals").setting_changed
        send = signal.send if enter else signal.send_robust
        for key in changed:
            if key not in _UNCHANGEABLE:
                send(sender=type(new), setting=key, value=after.get(key), enter=enter)
        if "LOGGING" in changed or "LOGGING_CONFIG" in changed:
            module("django.utils.log").configure_logging(new.LOGGING_CONFIG, new.LOGGING)


def _set_timezone(name: str | None) -> None:
    if name:
        os.environ["TZ"] = name
    else:
        os.environ.pop("TZ", None)
    time.tzset()


def importers(sources: Any) -> set[str]:
    """Modules whose bodies import Django's settings: they may have taken a value."""
    names = {"django.conf", "django.conf.settings"}
    found: set[str] = set()
    for name in names:
        found |= set(sources.importers.get(name, ())) | set(sources.takers.get(name, {}))
    return {name for name in found if name in sys.modules}
