# SPDX-License-Identifier: MIT
"""How the cost of an import grows: with path entries, with the modules that an index knows, with those that are loaded, with threads that look up.

`curves` says what each curve is and what becomes of its rows, `processes`, `lookups` and `reloads` measure them, `section` is what suite.py lists.
"""
