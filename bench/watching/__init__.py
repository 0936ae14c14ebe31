# SPDX-License-Identifier: MIT
"""What `bench/watch.sh` compares: watchers of a source tree."""
