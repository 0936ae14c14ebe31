# SPDX-License-Identifier: MIT
"""What autoloaders raise: attributes of ladewerk.Autoloader."""


class AutoloadError(Exception):
    """The base of all."""


class SetupRequired(AutoloadError):
    """setup() must come first."""


class ReloadingDisabled(AutoloadError):
    """enable_reloading() must come first, before setup()."""


class LoaderConflict(AutoloadError):
    """Two autoloaders would manage the same directory."""


class NamespaceConflict(AutoloadError):
    """The namespace of a root directory is no package."""


class ExpectedNameError(AutoloadError, ImportError):
    """A file does not define what its name promises."""


class NameClash(AutoloadError, ImportError):
    """A module of that name comes from elsewhere."""


class ImportUnderWay(AutoloadError):
    """Modules cannot be unloaded or replaced while they are being imported."""
