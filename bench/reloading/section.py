# SPDX-License-Identifier: MIT
"""Save -> new code live, and save -> a restarted program: a section of run.sh, and reload.sh."""
from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import compared
from environments import Unavailable, beside
from figures import Figure
from goals import Goal, at_most
from plots import Line, Plot
from reloading import reload, restart
from reloading.reloaders import CONTENDERS, OURS
from sections import Effort, Place, Section
from stats import PAIRS, Median, enough, percentile, ratios
from tables import Row, Rows, number, ratio_text, table, why

PARTS = ("save", "alone", "restart")  # alone: a save, Ladewerk and nobody else
PACKAGES = {"IPython autoreload": "ipython", "jurigged": "jurigged", "hmr": "hmr", "watchfiles, restart": "watchfiles"}
SHORT = (OURS, "importlib.reload", "IPython autoreload")  # where there is little time: those who neither wait nor lose
SIZES, SHORT_SIZES = (100, 10_000), (100, 2000)


def _peers(place: Place, names: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """The environment of those that are Python packages; why one is not in it, by contender."""
    packages = {name: PACKAGES[name] for name in names if name in PACKAGES}
    try:
        environments = beside(place)
        python = environments.empty("peers")
        failures = environments.packages("peers", packages.values())
    except Unavailable as reason:
        return place.main.python, dict.fromkeys(packages, str(reason))
    return python, {name: failures[package] for name, package in packages.items() if package in failures}


def _save(place: Place, effort: Effort, state: Path, names: Sequence[str]) -> list[Row]:
    full = place.effort == "full"
    peers, why_not = _peers(place, names)
    if place.main.missing:
        why_not[OURS] = place.main.missing
    pythons = {name: peers if name in PACKAGES else place.main.python for name in names}
    ground = reload.Ground(place.main.key, pythons, why_not, state, place.seed)
    return reload.measure(ground, names, SIZES if full else SHORT_SIZES, effort.rounds, effort.seconds)


def _restart(place: Place, effort: Effort, state: Path) -> list[Row]:
    """Every save is a start of a program, of each contender."""
    peers, why_not = _peers(place, ["watchfiles, restart"])
    reasons = {"watchfiles": why_not["watchfiles, restart"]} if why_not else {}
    installed, rows = {name.lower() for name in place.main.facts["packages"]}, []
    for number_, imports in enumerate(restart.PROGRAMS):
        needed = {each.partition(".")[0] for each in imports} & {"sqlalchemy", "django"}
        absent = ", ".join(sorted(needed - installed))
        here = dict.fromkeys(restart.LABELS, f"{absent} is not installed") if absent else dict(reasons)
        if place.main.missing:
            here["ladewerk-run"] = place.main.missing
        count = min(30, max(PAIRS, effort.rounds // 6))
        rows += restart.measure(place.main.key, place.main.python, peers.with_name("watchfiles"), state / f"restart{number_}", imports, count, place.seed, here)
    return rows


def run(place: Place, effort: Effort) -> list[Row]:
    full = place.effort == "full"
    wanted = place.parts.get("reload") or (("save", "restart") if full else ("save",))
    (state := place.state / "reload").mkdir(parents=True)
    rows: list[Row] = []
    if "save" in wanted or "alone" in wanted:
        rows += _save(place, effort, state, [OURS] if "save" not in wanted else list(CONTENDERS) if full else SHORT)
    return rows + (_restart(place, effort, state) if "restart" in wanted else [])


# --- what is said of them ---------------------------------------------------------------------------------------------

def _kind(rows: Sequence[Row], kind: str) -> dict[str, list[Row]]:
    """Workload -> rows of those whose workloads begin with KIND."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["workload"].startswith(kind):
            found.setdefault(row["workload"], []).append(row)
    return found


def _leaf_lines(rows: Sequence[Row]) -> list[list[str]]:
    lines = []
    for row in rows:
        if "skipped" in row:
            lines.append([row["label"], why(row), "", "", "", ""])
            continue
        ms = row["ms"]
        times = [number(percentile(ms, share)) if enough(len(ms), share) else "-" for share in (0.5, 0.99)] if ms else ["", ""]
        lines.append([row["label"], row["told"], *times, f"{len(ms)} of {row['tried']}", ", ".join(row["loses"]) or "nothing"])
    return lines


def _hub_line(row: Row) -> list[str]:
    if "skipped" in row:
        return [f"{row['count']:,}", why(row), "", "", ""]
    ratio = ratios(row["ms"], row["bodies_ms"]) if row["ms"] else None
    medians = [number(Median.of(row[field]).value) if row[field] else "" for field in ("ms", "bodies_ms")]
    return [f"{row['count']:,}", *medians, ratio_text(ratio), f"{len(row['ms'])} of {row['tried']}"]


def _ours(rows: Sequence[Row], kind: str) -> list[Row]:
    """Those that have saves, by how many modules are loaded."""
    return sorted((row for row in rows if row["workload"].startswith(kind) and row["contender"] == "ladewerk" and row.get("ms")), key=lambda row: row["count"])


def _growth(rows: Sequence[Row]) -> Figure | None:
    """Of the most modules to the fewest, round by round: all sizes take turns. Not where a save was lost, and rounds would not fit."""
    ours = _ours(rows, "leaf")
    if len(ours) < 2 or any(len(row["ms"]) != row["tried"] for row in (ours[0], ours[-1])) or ours[0]["tried"] != ours[-1]["tried"]:
        return None
    few, many = ours[0], ours[-1]
    again = next((row["ms"] for row in rows if row["workload"] == few["workload"] and row["contender"] == compared.AGAIN and len(row.get("ms", ())) == len(few["ms"])), None)
    key = f"{many['python']}/reload/{many['workload']}/ladewerk/ms-of-{few['workload']}"
    return Figure(key, f"{OURS}: {many['count']:,} modules loaded, of {few['count']:,}", "ms", many["ms"], few["ms"], again)


def part(rows: Sequence[Row]) -> str:
    parts = []
    for group in _kind(rows, "leaf").values():
        parts += [f"### {group[0]['title']}\n", table(("", "is told", "p50, ms", "p99", "live", "loses"), _leaf_lines(group))]
    if hubs := [row for group in _kind(rows, "hub").values() for row in group]:
        head = ("modules", "p50, ms", "its 101 bodies", "ratio [95 %]", "live")
        parts += [f"### {OURS}: a save of a module with 100 dependants\n", table(head, [_hub_line(row) for row in hubs])]
    if found := _growth(rows):
        parts.append(f"{found.label}: {ratio_text(found.ratio, found.noise)}.\n")
    if restarts := [row for group in _kind(rows, "restart").values() for row in group]:
        parts.append(compared.part(restarts))
    return "\n".join(parts)


def figures(rows: Sequence[Row]) -> list[Figure]:
    alone = [Figure(f"{row['python']}/reload/{row['workload']}/ladewerk/ms", row["title"], "ms", row["ms"]) for kind in ("leaf", "hub") for row in _ours(rows, kind)]
    growth = _growth(rows)
    return [*alone, *([growth] if growth else []), *compared.figures([row for row in rows if "field" in row])]


def goals(rows: Sequence[Row]) -> list[Goal]:
    """With as many modules loaded as there are in this run."""
    main = Rows.of_main(rows).rows
    found = []
    for row in _ours(main, "leaf")[-1:]:
        text, ms = f"a save, until its code is live, {row['count']:,} modules loaded:", row["ms"]
        last = percentile(ms, 0.99) if enough(len(ms), 0.99) else None
        found.append(Goal(f"{text} p50, ms", "<= 5", at_most(5), Median.of(ms)))
        found.append(Goal(f"{text} p99, ms", "<= 20", at_most(20), last, why=f"{len(ms)} saves have none"))
    return found


def plots(rows: Sequence[Row]) -> list[Plot]:
    """Against the modules that are loaded."""
    found: list[Plot] = compared.plots([row for row in rows if "field" in row])
    by_label: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["workload"].startswith("leaf") and row.get("ms") and row["contender"] != compared.AGAIN:
            by_label.setdefault((row["label"], row["contender"]), []).append(row)
    lines = [Line.measured(label, [row["count"] for row in theirs], [row["ms"] for row in theirs], compared.kind(key)) for (label, key), theirs in by_label.items()]
    if any(len(line.xs) > 1 for line in lines):
        found.insert(0, Plot("reload", "A save, until the new code is live", "modules loaded", "ms", lines, log_x=True, log_y=True))
    return found


SECTION = Section("reload", "A save, until its code is live", {"headline": Effort(101, 20), "full": Effort(200, math.inf)}, run, part, plots, figures, goals, frozenset({"packages"}), PARTS)
