# SPDX-License-Identifier: MIT
"""Lazy imports: real programs in normal use, eager and lazy; and what is left of it when a program has been running for long."""
