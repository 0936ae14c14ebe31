# SPDX-License-Identifier: MIT
"""The sections about imports by whole processes: start-up, path entries, one-line modules, programs, interpreters, peers, memory, system calls, hyperfine."""
