#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/registry.sh [--quick] [-n ROUNDS] [--only NAMES[,NAMES]]: look-ups in a table that several threads share, while snapshots are replaced; beside locks,
# rculfhash and a dict of dicts. NAMES: 5000, 50000, 1000000.
exec "$(dirname "${BASH_SOURCE[0]}")/section.sh" registry "$@"
