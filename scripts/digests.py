#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Print this interpreter's lines for ext/verified.h (run it with an interpreter that has ladewerk installed).

Verifying an interpreter means more than printing these lines: read how its importlib differs from the nearest verified one, choose the
flavour, and run the tests and scripts/cpython-tests.sh with it.
"""

import sys
from ladewerk import _native

find, load, find_known, load_known = _native.digests()
version = sys.version.split()[0]
print(f"find  {{ 0x{find[0]:016x}, 0x{find[1]:016x}, FLAVOUR_? }}, /* {version} */", "known" if find_known else "new")
print(f"load  {{ 0x{load[0]:016x}, 0x{load[1]:016x}, FLAVOUR_? }}, /* {version} */", "known" if load_known else "new")
