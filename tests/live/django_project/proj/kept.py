# SPDX-License-Identifier: MIT
"""Never executed again; its names follow."""
__ladewerk_reload__ = False
from orders.receivers import LOG  # noqa: E402, F401
