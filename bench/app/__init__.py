# SPDX-License-Identifier: MIT
"""`bench/run.sh --app`: the user's own program, stock and with Ladewerk; where its imports spend their time; what could be spared.

    command.py      what a command line starts, and by which interpreter
    overlay.py      how it is started: nothing in its environment is written to
    start.py        runs in the program, before it: `sitecustomize` of the overlay
    probe.py        runs in the program: what is imported by which statement, how long that takes, what is used of it
    outcome.py      does it do the same as with stock Python?
    graph.py        dominators: what goes when one statement goes
    analysis.py     from what the probe wrote to rows
    page.py         the report
    __main__.py     the order of things
"""
