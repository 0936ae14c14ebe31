# SPDX-License-Identifier: MIT
"""The head of a report: on what and how it was measured, and what makes it less believable."""
from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from figures import Figure
from tables import Row, escaped, table

Document = dict[str, Any]  # what running.Run and suite.facts write

BUSY = 0.05  # share of the machine's CPU time that others may use
OFF = 0.02  # how far the base measured twice may be from itself
SHOWN = 3  # of the controls that are off
PROGRAMS = ("sympy", "django", "sqlalchemy", "twisted", "pandas", "boto3")


# --- machine and run --------------------------------------------------------------------------------------------------

def machine_text(document: Document) -> str:
    box = document["machine"]
    return f"{box['cpu']}, {box['cores']} cores{', virtual' if box['virtual'] else ''}, {box['memory_gib']} GiB"


def system_text(document: Document) -> str:
    box = document["machine"]
    turbo = {True: "turbo on", False: "turbo off"}.get(box.get("turbo"), "")
    said = {
        "governor": box.get("governor"), "clock driver": box.get("cpufreq"), "threads of a core": box.get("threads_per_core"),
        "clock source": box.get("clocksource"), "container": box.get("container"), "CPU limit": box.get("cpu_limit"),
    }
    return ", ".join([box["kernel"], box["filesystem"], *([turbo] if turbo else []), *(f"{name} {value}" for name, value in said.items() if value)])


def python_text(facts: Mapping[str, Any]) -> str:
    kinds = [name for name, flag in (("free-threaded", "free_threaded"), ("debug build", "debug")) if facts[flag]]
    return ", ".join([facts["version"], facts["compiler"], f"configured for PGO: {_yes(facts['pgo'])}, LTO: {_yes(facts['lto'])}", *kinds])


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def pythons(document: Document) -> Mapping[str, Mapping[str, Any]]:
    """By key, the main one first; of a report from before there were several: the only one."""
    return document.get("pythons") or {"": document["python"]}


def _others(found: Mapping[str, float]) -> float:
    """Share of the machine that was not ours."""
    return float(found["others"] + found["stolen"])


def shares(document: Document, sections: Collection[str] = ()) -> dict[str, float]:
    """Which part of the machine others used in SECTIONS (none: in each); "" is the whole run, of a report that says no more. What daemons and
    file systems of the benchmark's own use counts as others' in their sections."""
    found = {name: _others(its) for name, its in document.get("section_neighbours", {}).items() if not sections or name in sections}
    return found or {"": _others(document["neighbours"])}


def busy(document: Document, sections: Collection[str] = ()) -> dict[str, float]:
    """The same, where it is too much."""
    return {name: share for name, share in shares(document, sections).items() if share > BUSY}


def _run_lines(document: Document) -> list[tuple[str, str]]:
    others = document["neighbours"]
    effort = document.get("effort") or ("quick" if document["quick"] else "")
    command = document.get("command")
    return [
        ("run", ", ".join([f"{document['started']}, {document['seconds']:.0f} s, seed {document['seed']}", *([effort] if effort else [])])),
        *([("command", f"`{escaped(command)}`")] if command else []),
        ("neighbours", f"{100 * others['others']:.1f} % of the CPU used by others, {100 * others['stolen']:.1f} % stolen by the hypervisor; load before {others['load_before']}"),
    ]


def machine_table(document: Document, tested: Iterable[tuple[str, str]]) -> str:
    first, *others = pythons(document).values()
    lines = [("machine", machine_text(document)), ("system", system_text(document)), ("python", python_text(first))]
    if others:
        lines.append(("beside it", "; ".join(map(_beside, others))))
    return table(("", ""), [*lines, *tested, *_run_lines(document)], text=True)


def _beside(facts: Mapping[str, Any]) -> str:
    kinds = " free-threaded" * facts["free_threaded"] + " debug build" * facts["debug"]
    return f"{facts['version']}{kinds}" + (f" (without Ladewerk: {escaped(facts['missing'])})" if facts.get("missing") else "")


def rivals_part(document: Document) -> str:
    """Of a benchmark whose rivals are programs."""
    return machine_table(document, [("Ladewerk", document["revision"] or "not installed"), ("others", ", ".join(document["versions"]))])


def machine_part(document: Document) -> str:
    packages = {name.lower(): version for name, version in next(iter(pythons(document).values()))["packages"].items()}
    tested = [f"{name} {packages[name]}" for name in PROGRAMS if name in packages]
    return machine_table(document, [
        ("Ladewerk", " ".join(filter(None, (packages.get("ladewerk", "not installed"), document["revision"])))),
        ("programs", ", ".join(tested) or "none"),
        ("tools", ", ".join(version or f"{name} missing" for name, version in document.get("tools", {}).items()) or "none"),
    ])


# --- what makes it less believable ------------------------------------------------------------------------------------

def unrest(document: Document) -> list[str]:
    """What may happen to any run."""
    found = []
    if document.get("interrupted"):
        found.append(f"The run was ended before its end ({document['interrupted']}): what is missing below was not measured.")
    if theirs := busy(document):
        where = ", ".join(f"{name} {100 * share:.0f} %" for name, share in theirs.items() if name)
        found.append(f"The machine was not idle{where and f' ({where})'}: ratios and counts may still hold, absolute times and narrow differences do not.")
    if document.get("revision", "").endswith("-dirty"):
        found.append("Ladewerk was built from a checkout with uncommitted changes.")
    if document["why_not"]:
        found.append(f"Ladewerk could not be installed: {document['why_not']}")
    return found


def care(found: Iterable[str]) -> str:
    return "Read with care:\n\n" + "\n".join(f"- {text}" for text in found) + "\n"


def warnings(document: Document, figures: Sequence[Figure]) -> list[str]:
    """What makes this run less believable."""
    found, facts = unrest(document), next(iter(pythons(document).values()))
    if facts["debug"]:
        found.append("The interpreter is a debug build.")
    if not facts["pgo"]:
        found.append(
            "The interpreter was not configured with --enable-optimizations. Unless its distributor optimized it by other "
            "means, its Python code runs slower than most, which flatters whoever replaces Python code by C."
        )
    found += _controls(figures)
    return [*found, *_not_imported(document["rows"])]


def _not_imported(rows: Sequence[Row]) -> list[str]:
    """Who imported less than stock; those who left out the same are said together."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for row in rows:
        if missing := row.get("check", {}).get("missing"):
            found.setdefault((row["title"], tuple(missing)), []).append(row["label"])
    return [
        f"{title}: stock imported {', '.join(missing[:3])}{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}; not so {', '.join(dict.fromkeys(labels))}."
        for (title, missing), labels in found.items()
    ]


def _controls(figures: Sequence[Figure]) -> list[str]:
    """Bases that were not the same when they were measured again; what several figures are divided by is one. Of many, the worst."""
    found = {}
    for figure in figures:
        python, section, load, _, field = figure.place
        if noise := figure.noise:
            found[f"{section}, {load}, {field}" + (f", {python}" if python else "")] = noise.value - 1
    off = sorted((name for name, by in found.items() if abs(by) > OFF), key=lambda name: -abs(found[name]))
    said = [f"{name}: the control, the base measured twice, differs by {100 * found[name]:+.1f} %." for name in off[:SHOWN]]
    rest = len(off) - len(said)
    return [*said, *([f"{rest} more of {len(found)} controls: by more than {100 * OFF:.0f} %."] if rest else [])]
