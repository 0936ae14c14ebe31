# SPDX-License-Identifier: MIT
"""``python -m ladewerk``: what the ``ladewerk`` command does, whatever PATH says."""
import sys

from ladewerk.cli import main

# Worker processes of `index` import this file under another name.
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
