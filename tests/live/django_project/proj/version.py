# SPDX-License-Identifier: MIT
"""What all modules take by value: one edit here concerns them all."""
VERSION = 0
