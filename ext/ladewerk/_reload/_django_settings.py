# SPDX-License-Identifier: MIT
"""Django's settings, read again from the new settings module. What has kept a setting's value hears of it as in Django's own tests: by the signal ``setting_changed``."""
from __future__ import annotations

import os
import sys
import time
from typing import Any

_UNCHANGEABLE = ("DATABASES",)  # connections are made already; the signal's receiver would only warn


def _values(settings: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(settings).items() if key.isupper() and key != "SETTINGS_MODULE"}


class SettingsSwitch:
    """``module``: what the settings come from, "" if from no module or if they are overridden at the moment."""

    def __init__(self) -> None:
        from django.conf import Settings, settings
        self._settings: Any = settings
        wrapped = settings._wrapped
        self.module: str = wrapped.SETTINGS_MODULE if type(wrapped) is Settings else ""
        self._old: Any = None  # once switched

    def switch(self) -> None:
        """Its module was executed again, aside: this thread imports the new one."""
        from django.conf import Settings
        import django.test.signals  # noqa: F401: Django's own receivers
        old = self._settings._wrapped
        timezone = os.environ.get("TZ")
        try:
            new = Settings(self.module)
        except BaseException:
            _set_timezone(timezone)
            raise
        self._old = old
        self._settings._wrapped = new
        self._tell(old, new, True)

    def back(self) -> None:
        if self._old is None:
            return
        new, old, self._old = self._settings._wrapped, self._old, None
        self._settings._wrapped = old
        _set_timezone(old.TIME_ZONE)
        self._tell(new, old, False)

    def _tell(self, old: Any, new: Any, enter: bool) -> None:
        from django.core.signals import setting_changed
        before, after = _values(old), _values(new)
        changed = [key for key in {**before, **after} if (key in before) != (key in after) or before[key] != after[key]]
        send = setting_changed.send if enter else setting_changed.send_robust
        for key in changed:
            if key not in _UNCHANGEABLE:
                send(sender=type(new), setting=key, value=after.get(key), enter=enter)
        if "LOGGING" in changed or "LOGGING_CONFIG" in changed:
            from django.utils.log import configure_logging
            configure_logging(new.LOGGING_CONFIG, new.LOGGING)


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
