"""A module for those who read modules."""
import json
import os
from dataclasses import dataclass, field


@dataclass
class Record:
    """Something with a name."""

    name: str
    values: list[int] = field(default_factory=list)

    def total(self) -> int:
        """The sum of the values."""
        return sum(self.values)


def read(path: str) -> list[Record]:
    """All records in a file."""
    with open(path, encoding="utf-8") as file:
        return [Record(**each) for each in json.load(file)]


def main() -> None:
    """Shows all that there is."""
    for name in sorted( os.listdir(".") ):
        if name.endswith(".json"):
            print(name, sum(record.total() for record in read(name)))


if __name__ == "__main__":
    main()
