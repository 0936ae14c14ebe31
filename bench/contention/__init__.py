# SPDX-License-Identifier: MIT
"""Imports by many threads at once: what they cost, how long single ones take, and what threads wait for.

    trees.py      what is imported, and by which plan
    storm.py      the program under test: threads that follow a plan
    locks.py      what its threads waited for: its own probes, and `ladewerk trace`
    section.py    who takes part, what is measured
    report.py     what is said of it
"""
