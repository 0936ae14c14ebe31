# SPDX-License-Identifier: MIT
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    name: str
    price: int
