# SPDX-License-Identifier: MIT
"""What `bench/scan.sh` compares: scanners of a source tree."""
