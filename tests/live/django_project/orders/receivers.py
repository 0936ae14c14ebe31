# SPDX-License-Identifier: MIT
"""What is saved is counted: once, however often this was executed."""
LOG = []


def saved(sender, instance, **more):
    LOG.append(sender.__name__)
