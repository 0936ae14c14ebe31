# SPDX-License-Identifier: MIT
"""Two sides compared: two revisions measured in the same rounds, or two reports."""
