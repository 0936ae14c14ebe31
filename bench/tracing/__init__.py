# SPDX-License-Identifier: MIT
"""What `bench/trace.sh` compares: tracers of imports."""
