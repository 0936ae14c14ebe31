# SPDX-License-Identifier: MIT
"""What is said of lazy imports: a table for each kind of program, their medians, what differs from stock, steady state; goals and plots."""
from __future__ import annotations

import statistics
from collections.abc import Sequence

import compared
import series
from figures import Figure
from goals import Goal, at_most
from lazy.programs import GROUPS
from lazy.ways import AGAIN, ALL, DEFAULT, EAGER, FROZEN, LAZY, OWN, STOCK
from plots import Plot
from stats import Median, extreme, middle_ratio, ratios
from tables import Row, Rows, by_python, count_text, escaped, number, ratio_text, table, why

STEADY = "steady"  # the group of loops
LOOP = "inside_cpu_us"


def _group(rows: Sequence[Row], group: str) -> list[Row]:
    return [row for row in rows if row.get("group") == group]


def _of(rows: Sequence[Row], way: str) -> dict[str, Row]:
    """Workload -> its row of a way, where it has samples."""
    return {row["workload"]: row for row in rows if row["contender"] == way and ("cpu_ms" in row or LOOP in row)}


def _pairs(rows: Sequence[Row], way: str, base: str, field: str) -> dict[str, tuple[list[float], list[float]]]:
    """Of the programs that ran in both."""
    ones, others = _of(rows, way), _of(rows, base)
    return {load: (row[field], others[load][field]) for load, row in ones.items() if load in others}


def middle(rows: Sequence[Row], way: str, base: str, field: str = "cpu_ms") -> Median | None:
    """Of the middle program. Programs have rounds of their own, and after a run that was cut short some have fewer."""
    pairs = _pairs(rows, way, base, field)
    return middle_ratio(list(pairs.values())) if pairs else None


def worst(rows: Sequence[Row], ways: Sequence[str], base: str, field: str = "cpu_ms") -> tuple[Median | None, str]:
    """The greatest ratio of any program in any of WAYS, and whose it is."""
    found = {f"{load}, {way}": ratios(*pair) for way in ways for load, pair in _pairs(rows, way, base, field).items()}
    if not found:
        return None, ""
    return extreme(list(found.values()), max), max(found, key=lambda name: found[name].value)


def _differing(rows: Sequence[Row], way: str) -> list[Row]:
    return [row for row in rows if row["contender"] == way and row["check"].get("differs")]


# --- tables -----------------------------------------------------------------------------------------------------------

def _short(row: Row, base: Row, field: str) -> str:
    """A ratio in a table that has many of them; reasons have a table of their own."""
    if field not in row or field not in base:
        return "*differs*" if row.get("check", {}).get("differs") else "-"
    found = ratios(row[field], base[field])
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _titles(ways: dict[str, str]) -> list[str]:
    return [label for key, label in ways.items() if key != STOCK.key]


def _programs(rows: Rows, group: list[Row], ways: dict[str, str]) -> str:
    lines = []
    for load in dict.fromkeys(row["workload"] for row in group):
        base = rows.base("lazy", load)
        if "cpu_ms" not in base:
            lines.append([f"`{base['title']}`", why(base), *[""] * len(ways)])
            continue
        imported = " → ".join(str(count) for key in (EAGER.key, ALL.key) if (count := rows.get("lazy", load, key).get("check", {}).get("modules")))
        cells = [_short(rows.get("lazy", load, key), base, "cpu_ms") for key in ways if key != STOCK.key]
        lines.append([f"`{escaped(base['title'])}`", number(statistics.median(base["cpu_ms"])), *cells, imported])
    for text, of in (("median, of stock", STOCK.key), ("median, of eager Ladewerk", EAGER.key)):
        found = [middle(group, key, of) for key in ways if key != STOCK.key]
        if any(found):
            lines.append([f"**{text}**", "", *(ratio_text(one) if one else "" for one in found), ""])
    return table(("", "stock, CPU ms", *_titles(ways), "modules: eager → all"), lines)


def _wall(group: list[Row], ways: dict[str, str]) -> str:
    found = {label: middle(group, key, STOCK.key, "wall_ms") for key, label in ways.items() if key != STOCK.key}
    said = "; ".join(f"{label} {ratio_text(one)}" for label, one in found.items() if one)
    return f"Wall time, the median program, of stock: {said}.\n" if said else ""


def _reasons(rows: Sequence[Row]) -> str:
    ran = set(_of(rows, STOCK.key))  # of the others the tables have said why
    lines = [[f"`{escaped(row['title'])}`", row["label"], why(row)] for row in rows if "skipped" in row and row["workload"] in ran and row.get("group") != STEADY]
    return "#### What is not as with stock, or did not run\n\n" + table(("", "", ""), lines, text=True) if lines else ""


def _steady(rows: Rows, group: list[Row]) -> str:
    lines = []
    for load in dict.fromkeys(row["workload"] for row in group):
        base, mine = rows.base("lazy", load), rows.get("lazy", load, ALL.key)
        ran = LOOP in base
        lines.append([base["title"], number(statistics.median(base[LOOP])) if ran else why(base), rows.of_base(mine, LOOP) or (why(mine) if ran else "")])
    if found := middle(group, ALL.key, STOCK.key, LOOP):
        lines.append(["**median**", "", ratio_text(found, middle(group, AGAIN.key, STOCK.key, LOOP))])
    return table(("", "stock, CPU us a loop", ALL.label), lines)


def part(rows: Sequence[Row]) -> str:
    texts, several = [], len(by_python(rows)) > 1
    for python, theirs in by_python(rows).items():
        ways = {row["contender"]: row["label"] for row in theirs.rows if row.get("group") != STEADY}
        of = f", Python {python}" if several else ""
        for key, title in GROUPS.items():
            if group := _group(theirs.rows, key):
                count = count_text(len(row["cpu_ms"]) for row in group if "cpu_ms" in row)
                texts += [f"### {title.capitalize()}{of}{count}\n", _programs(theirs, group, ways), _wall(group, ways)]
        texts.append(_reasons(theirs.rows))
        if group := _group(theirs.rows, STEADY):
            count = count_text(len(row[LOOP]) for row in group if LOOP in row)
            texts += [f"### Steady state: loops of pyperformance{of}{count}\n", _steady(theirs, group)]
    return "\n".join(text for text in texts if text)


# --- figures, goals, plots --------------------------------------------------------------------------------------------

def figures(rows: Sequence[Row]) -> list[Figure]:
    return series.figures("cpu_ms", "wall_ms", LOOP)(rows)


def goals(rows: Sequence[Row]) -> list[Goal]:
    main = Rows.of_main(rows).rows
    tools, programs = _group(main, "cli"), [row for row in main if row.get("group") in GROUPS]
    found = []
    if tools:
        text = f"`{ALL.label}`, the median of {len(_of(tools, ALL.key))} command-line tools: CPU of"
        found += [Goal(f"{text} eager Ladewerk", "<= 0.60", at_most(0.60), middle(tools, ALL.key, EAGER.key)),
                  Goal(f"{text} stock", "<= 0.50", at_most(0.50), middle(tools, ALL.key, STOCK.key))]
    if programs:
        slowest, whose = worst(programs, [DEFAULT.key, OWN.key, ALL.key], EAGER.key)
        found.append(Goal("lazy, the worst program: CPU of eager Ladewerk", "<= 1.02", at_most(1.02), slowest, whose))
        for way in (DEFAULT, ALL):
            ran = [row for row in programs if row["contender"] == way.key and ("cpu_ms" in row or row["check"].get("differs"))]
            differ = _differing(programs, way.key)
            found.append(Goal(f"`{way.label}`: programs of {len(ran)} that differ from stock", "0", lambda count: count == 0, float(len(differ)) if ran else None,
                              ", ".join(row["workload"] for row in differ)))
    if loops := _group(main, STEADY):
        text = f"steady state, the median of {len(_of(loops, ALL.key))} loops: CPU of stock"
        found.append(Goal(text, "0.99 to 1.01", lambda ratio: 0.99 <= ratio <= 1.01, middle(loops, ALL.key, STOCK.key, LOOP)))
    return found


def plots(rows: Sequence[Row]) -> list[Plot]:
    """Bars of the lazy ways for each kind of program."""
    found: list[Plot] = []
    for python, theirs in by_python(rows).items():
        for key, title in GROUPS.items():
            those = Rows(row for row in _group(theirs.rows, key) if row["contender"] in {STOCK.key, EAGER.key, *(way.key for way in LAZY)} - {FROZEN.key})
            lines, _ = series.bars(those, "lazy", lambda row, base: ratios(row["cpu_ms"], base["cpu_ms"]))
            if lines:
                found.append(Plot(f"lazy-{key}-{python}", f"{title.capitalize()}: CPU, of stock", "", "CPU, ratio to stock", lines, names=those.workloads("lazy"), mark=1.0))
    return found
