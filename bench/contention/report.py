# SPDX-License-Identifier: MIT
"""What the rows of `contention` say: tables and plots."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from contention.latencies import SHARES, pooled
from contention.trees import SAME_SLOW, THERE
from plots import Line, Plot
from stats import Median, enough, ratios
from tables import Row, count_text, escaped, table, times_text, why

_SHOWN = {"stock": "stock", "ladewerk-stat": "ladewerk", "ladewerk-frozen": "ladewerk"}  # in plots and tables of latency, and the kind of their lines


@dataclass(frozen=True)
class Group:
    """The rows of one kind of storm on one interpreter."""

    python: str
    kind: str
    title: str
    rows: Sequence[Row]

    @property
    def threads(self) -> list[int]:
        return sorted({row["threads"] for row in self.rows})

    @property
    def contenders(self) -> dict[str, str]:
        """Key and label, in the order of the rows."""
        return {row["contender"]: row["label"] for row in self.rows}

    def row(self, contender: str, threads: int) -> Row | None:
        """None: it has no samples."""
        return next((row for row in self.rows if row["contender"] == contender and row["threads"] == threads and "wall_ms" in row), None)

    def skipped(self) -> dict[str, Row]:
        """Those without samples, by their label."""
        return {row["label"]: row for row in self.rows if "skipped" in row}


def groups(rows: Iterable[Row]) -> list[Group]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if "kind" in row and not _is_of_locks(row):
            found.setdefault((row["python"], row["kind"]), []).append(row)
    return [Group(python, kind, its[0]["kind_title"], its) for (python, kind), its in found.items()]


def _is_of_locks(row: Row) -> bool:
    return str(row["workload"]).endswith("-locks")


# --- tables ---


def per_second(row: Row) -> list[float]:
    """Imports a second, of all threads together."""
    return [row["imports"] / ms * 1e3 for ms in row["wall_ms"]]


def _times(row: Row, base: Row, again: Row | None, name: str) -> str:
    """How many times faster ROW is than BASE."""
    noise = ratios(base[name], again[name]) if again and row is not again else None
    return times_text(ratios(base[name], row[name]), noise)


def _speed(group: Group, contender: str, threads: int) -> str:
    row, base = group.row(contender, threads), group.row("stock", threads)
    if row is None:
        return "-"
    speed = f"{Median.of(per_second(row)).value:,.0f}"
    return speed if base is None or row is base else f"{speed}, {_times(row, base, group.row('again', threads), 'wall_ms')}"


def _us(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _latency(group: Group, contender: str, threads: int) -> str:
    row, base = group.row(contender, threads), group.row("stock", threads)
    if row is None:
        return "-"
    counts = {int(least): count for least, count in row["histogram_ns"].items()}
    total = sum(counts.values())
    text = " / ".join(_us(pooled(counts, share) / 1e3) if enough(total, share) else "-" for share in SHARES.values())
    if base is None or row is base or not enough(row["imports"], SHARES["p99"]):
        return text
    return f"{text}; p99 {_times(row, base, group.row('again', threads), 'p99_us')}"


def _group(group: Group) -> Iterator[str]:
    yield f"### {group.python}: {group.title}{count_text(len(row.get('wall_ms', ())) for row in group.rows)}\n"
    speeds = [[str(count), *(_speed(group, contender, count) for contender in group.contenders)] for count in group.threads]
    yield "Imports a second, and how many times stock's:\n"
    yield table(["threads", *group.contenders.values()], speeds)
    shown = {key: label for key, label in group.contenders.items() if key in _SHOWN}
    latencies = [[str(count), *(_latency(group, contender, count) for contender in shown)] for count in group.threads]
    yield "Latency of single imports, us, p50 / p99 / p99.9 of all rounds together, and how many times less than stock's; `-` of too few imports:\n"
    yield table(["threads", *shown.values()], latencies)
    yield from (f"{label}: {why(row)}\n" for label, row in group.skipped().items())
    yield from _remarks(group)


def _remarks(group: Group) -> Iterator[str]:
    row = next((row for row in group.rows if "wall_ms" in row), None)
    if row is None:
        return
    for label in dict.fromkeys(row["label"] for row in group.rows if group.python.endswith("t") and row["check"].get("gil")):
        yield f"{label}: something that was imported has switched the GIL on.\n"
    if group.kind == THERE.key:
        yield f"Two looks at the clock are in each latency: {row['check']['clock_ns']} ns here.\n"
    for label, failures in {row["label"]: row["failures"] for row in group.rows if "failures" in row}.items():
        yield f"{label}: {len(failures)} runs failed and were made again. The first: *{escaped(failures[0])}*\n"
    reloads = {row["label"]: Median.of([count / ms * 1e3 for count, ms in zip(row["reloads"], row["wall_ms"])]).value for row in group.rows if "reloads" in row}
    if reloads:
        yield "Reloads a second meanwhile: " + ", ".join(f"{label} {rate:,.0f}" for label, rate in reloads.items()) + ".\n"


def _ms(figures: Mapping[str, Sequence[float]] | None, name: str) -> str:
    return "-" if figures is None else f"{Median.of(figures[name]).value:,.1f}"


_WAITS = {
    "module locks: probes": ("probes", "module_ms"), "traced": ("traced", "module_ms"),
    "import lock: probes": ("probes", "global_ms"), " traced": ("traced", "global_ms"),
    "GIL: traced": ("traced", "gil_ms"), "other locks: traced": ("traced", "other_ms"),
    "GIL, processor, disk, sleep: probes": ("probes", "rest_ms"), "CPU": ("probes", "cpu_ms"),
}


def _longer(row: Row, timed: Sequence[Row]) -> str:
    """How long the storm took, and how long it takes when nobody looks."""
    alone = next((one for one in timed if _whose(one) == _whose(row) and "wall_ms" in one), None)
    here = _ms(row["probes"], "wall_ms") if "wall_ms" in row["probes"] else "-"
    return f"{here} ({Median.of(alone['wall_ms']).value:,.1f})" if alone else here


def _whose(row: Row) -> tuple[str, str, int, str]:
    return row["python"], row["kind"], row["threads"], row["contender"]


def _locks(rows: Sequence[Row]) -> Iterator[str]:
    timed = [row for row in rows if "kind" in row and not _is_of_locks(row)]
    rows = [row for row in rows if _is_of_locks(row)]
    if not rows:
        return
    yield "### What threads waited for\n"
    looks = count_text(len(row["probes"]["module_ms"]) for row in rows if "probes" in row)
    yield f"ms, summed over all threads, median of storms that were not timed{looks}; probes and tracer see the same ones. No contender's turn is beside another's, and nothing is compared. "
    yield "The last column is what the storm took with both in it, and, in parentheses, what it takes when it is timed: as much do they distort.\n"
    lines = []
    for row in rows:
        where = [row["python"], row["kind"], str(row["threads"]), row["label"]]
        lines.append([*where, why(row), *[""] * len(_WAITS)] if "skipped" in row else [*where, *(_ms(row.get(source), name) for source, name in _WAITS.values()), _longer(row, timed)])
    yield table(["python", "imports", "threads", "contender", *_WAITS, "wall (timed)"], lines)
    reasons = {(row["python"], row["why_not_traced"]) for row in rows if row.get("why_not_traced")}
    yield from (f"{python}: not traced, *{escaped(reason)}*\n" for python, reason in sorted(reasons))


def part(rows: Sequence[Row]) -> str:
    text = [line for group in groups(rows) for line in _group(group)]
    text += _locks(rows)
    text += [f"{row['title']}: {why(row)}\n" for row in rows if "kind" not in row]
    return "\n".join(text)


# --- plots ---


def _line(group: Group, contender: str, name: str) -> Line | None:
    rows = [row for count in group.threads if (row := group.row(contender, count))]
    if name == "p99_us":
        rows = [row for row in rows if enough(row["imports"], SHARES["p99"])]
    if not rows:
        return None
    found = [Median.of(per_second(row) if name == "per_second" else row[name]) for row in rows]
    return Line.of(rows[0]["label"], [row["threads"] for row in rows], found, _SHOWN[contender])


def _plot(group: Group, name: str, what: str, unit: str, log_y: bool) -> Plot:
    lines = [line for contender in _SHOWN if (line := _line(group, contender, name))]
    title = f"{group.python}: {group.title}"
    return Plot(f"contention-{group.kind}-{what}-{group.python}", title, "threads", unit, lines, log_x=True, log_y=log_y)


def plots(rows: Sequence[Row]) -> list[Plot]:
    """Throughput and p99; not the throughput of a sleep, nor the p99 of what takes less than a look at the clock."""
    found = []
    for group in groups(rows):
        if group.kind != SAME_SLOW.key:
            found.append(_plot(group, "per_second", "throughput", "imports a second", False))
        if group.kind != THERE.key:
            found.append(_plot(group, "p99_us", "p99", "p99 of an import, us", True))
    return [plot for plot in found if plot.lines]
