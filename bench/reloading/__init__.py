# SPDX-License-Identifier: MIT
"""What `bench/reload.sh` compares: what brings a saved file to life in a running program."""
