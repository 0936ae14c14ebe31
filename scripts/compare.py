# SPDX-License-Identifier: MIT
"""Run some real programs with and without Ladewerk and show both side by side; used by quickstart.sh.

Whole processes, as their parent sees them: start-up, launcher and exit included. Both take turns, the ratio is the
median of the rounds' ratios, and both must print the same.
"""
from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

from pair import Command, Failed, Sample, ratios, rounds  # noqa: E402

PROGRAMS = {
    "sympy": """
from sympy import integrate, sin, symbols
x = symbols("x")
print(integrate(x * sin(x), x))
""",
    "django": """
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib." + app for app in ("admin", "auth", "contenttypes", "sessions", "messages")],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
django.setup()
from django.contrib import admin
print(len(admin.site.get_urls()))
""",
    "sqlalchemy": """
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
class Base(DeclarativeBase): pass
class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
engine = create_engine("sqlite://")
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add(User(name="Ada"))
    session.commit()
    print(session.scalars(select(User)).one().name)
""",
    "twisted": """
from twisted.web import server, static
from twisted.internet import endpoints, reactor
site = server.Site(static.Data(b"hello", "text/plain"))
endpoint = endpoints.serverFromString(reactor, "tcp:0:interface=127.0.0.1")
reactor.callWhenRunning(lambda: endpoint.listen(site).addCallback(lambda port: reactor.stop()))
reactor.run()
print(type(site).__name__)
""",
}


def compare(name: str, bin_dir: Path, count: int) -> str:
    """One line of the table."""
    tail = ("-c", PROGRAMS[name])
    commands = {
        "stock": Command((str(bin_dir / "python"), *tail), {**os.environ, "LADEWERK": "0"}),
        "ladewerk": Command((str(bin_dir / "ladewerk"), "run", *tail), dict(os.environ)),
    }
    rounds(commands, 2)  # reads everything once, writes bytecode, learns
    samples = rounds(commands, count)
    if len({sample.out for side in samples.values() for sample in side}) != 1:
        raise Failed(f"{name} prints something else with Ladewerk")
    return name.ljust(12) + "  ".join(_columns(samples, what) for what in ("wall_ms", "cpu_ms"))


def _columns(samples: dict[str, list[Sample]], what: str) -> str:
    stock, ours = ([getattr(sample, what) for sample in samples[side]] for side in ("stock", "ladewerk"))
    return f"{statistics.median(stock):9.0f} {statistics.median(ours):9.0f} {ratios(ours, stock).value:7.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", "--rounds", type=int, default=9)
    parser.add_argument("venv", type=Path, help="a virtual environment with Ladewerk and the programs' packages")
    options = parser.parse_args()
    print(f"{'':12}{'wall, ms':>9} {'Ladewerk':>9} {'ratio':>7}  {'CPU, ms':>9} {'Ladewerk':>9} {'ratio':>7}")
    try:
        for name in PROGRAMS:
            print(compare(name, options.venv.absolute() / "bin", options.rounds), flush=True)
    except (Failed, OSError) as failure:
        sys.exit(f"compare.py: {failure}")


if __name__ == "__main__":
    main()
