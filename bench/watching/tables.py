# SPDX-License-Identifier: MIT
"""The rows of watch.py as Markdown, figures and plots; the report.json of bench/watch.sh as a report.

    python3 -m watching.tables REPORT.json > REPORT.md      (in bench/)
"""
from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

import compared
import series
from figures import Figure
from goals import Goal, goals_table
from head import Document, care, rivals_part, unrest
from plots import Plot
from report import show
from stats import Median, differences, percentile, ratios
from tables import Row, Rows, number, ratio_text, signed, table, why

LEGEND = """\
Watchers take turns, in an order shuffled in each round; one run of a watcher is armed, then saved under, then stormed. Medians; in brackets the 95 % interval of a median
(below 6 rounds the whole range). Nothing else is to happen on the machine: what others take of it shows first in the 99th percentiles.
"""
TITLES = {
    "arm": "Until everything is watched",
    "save": "From a save until it is known",
    "storm": "A storm of files",
    "check": "What a check costs",
    "startup": "Start-up of a program",
    "crowd": "Many who want to know",
    "exits": "The end of a process",
}
BASES = {"arm": "scan", "save": "ladewerk-inotify", "storm": "ladewerk-inotify", "check": "ladewerk-inotify", "exits": "ladewerk-inotify"}
MIB = 1024  # KiB
BACKENDS = ("fanotify", "inotify")
ALLOWED_CPU = {"fanotify": 0.1, "inotify": 0.35}  # s per 100,000 directories over the scan


def each_median(row: Row, field: str) -> list[float]:
    """Of a field that has a list of samples for each round: the medians."""
    return [statistics.median(samples) for samples in row[field]]


def _of(row: Row, field: str, scale: float = 1.0) -> str:
    return number(statistics.median(row[field]) * scale) if row.get(field) else ""


def _lines(rows: Iterable[Row], line: Callable[[Row], list[str]], width: int) -> list[list[str]]:
    return [[row["label"], why(row), *[""] * (width - 2)] if "skipped" in row else line(row) for row in rows]


# --- figures that goals are about -------------------------------------------------------------------------------------

def over_scan(rows: Rows, backend: str) -> Median | None:
    """CPU seconds of arming and indexing over those of the scan, round by round, per 100,000 directories."""
    row, scan = rows.get("arm", "arm", f"ladewerk-{backend}"), rows.get("arm", "arm", "scan")
    if "first_cpu_seconds" not in row or "inside_cpu_s" not in scan:
        return None
    found, scale = differences(row["first_cpu_seconds"], scan["inside_cpu_s"]), 100_000 / scan["directories"]
    return Median(found.value * scale, found.low * scale, found.high * scale, found.n)


def beyond_index_mib(row: Row) -> Median | None:
    """The index is in shared memory, of which a part may be resident here."""
    if "index_bytes" not in row:
        return None
    return Median.of([(rss - shared) / MIB for rss, shared in zip(row["rss_kib"], row["shared_kib"])])


def of_poll(row: Row, check: str, poll: str) -> Median | None:
    return ratios(row[check], row[poll]) if check in row else None


def poll_noise(row: Row, poll: str) -> Median:
    """The poll twice in the same round."""
    return ratios(row[f"{poll.removesuffix('_ns')}_again_ns"], row[poll])


def attach_us(row: Row) -> Median | None:
    return Median.of([ns / 1e3 for ns in row["attach_ns"]]) if row.get("attach_ns") else None


def of_one_entry(rows: Rows, contender: str) -> Median | None:
    return rows.ratio("wall_ms", ("startup", "entries-1000", contender), ("startup", "entries-1", contender))


def of_one_watcher(rows: Rows, backend: str) -> Median | None:
    """A write with 150 clients of the daemon by one with none."""
    many, none = (rows.get("crowd", "crowd", f"ladewerk-{backend}-{count}") for count in (150, 0))
    return ratios(each_median(many, "wall_us"), each_median(none, "wall_us")) if "wall_us" in many and "wall_us" in none else None


def later_exit(row: Row) -> Median | None:
    return differences(row["attached"], row["nothing"]) if "attached" in row else None


# --- goals ------------------------------------------------------------------------------------------------------------

Found = Callable[[Rows], Median | float | None]


def _goal(rows: Rows, text: str, part: str, wanted: str, found: Found, met: Callable[[float], bool], contender: str = "") -> list[Goal]:
    """None where the part did not run; the reason is that of the contender's row."""
    if not rows.section(part):
        return []
    why_not = next((row["skipped"] for row in rows.section(part) if row["contender"] == contender and "skipped" in row), "")
    return [Goal(f"watch, {text}", wanted, met, found(rows), why=why_not)]


def _percentile_ms(backend: str, share: float) -> Found:
    def found(rows: Rows) -> float | None:
        row = rows.get("save", "save", f"ladewerk-{backend}")
        return percentile(row["written_us"], share) / 1e3 if row.get("written_us") else None

    return found


def _most_lost(backend: str) -> Found:
    return lambda rows: max(rows.get("storm", "storm", f"ladewerk-{backend}").get("lost", ()), default=None)


def _goals_of(rows: Rows, backend: str) -> list[Goal]:
    key, allowed = f"ladewerk-{backend}", ALLOWED_CPU[backend]

    def row(part: str) -> Callable[[Rows], Row]:
        return lambda rows: rows.get(part, part, key)

    wanted = [
        (f"{backend}: arm and index, CPU s over the scan, per 100,000 directories", "arm", f"<= {allowed}", lambda rows: over_scan(rows, backend), lambda v: v <= allowed, key),
        (f"{backend}: RSS beyond the index, MiB", "arm", "<= 16", lambda rows: beyond_index_mib(row("arm")(rows)), lambda v: v <= 16, key),
        (f"{backend}: save -> published, p50, ms", "save", "<= 0.1", _percentile_ms(backend, 0.5), lambda v: v <= 0.1, key),
        (f"{backend}: save -> published, p99, ms", "save", "<= 1", _percentile_ms(backend, 0.99), lambda v: v <= 1, key),
        (f"{backend}: lost in a storm", "storm", "0", _most_lost(backend), lambda v: v == 0, key),
        (f"{backend}: a client's check, of the bare poll", "check", "<= 2", lambda rows: of_poll(row("check")(rows), "client_ns", "poll_ns"), lambda v: v <= 2, key),
        (f"{backend}: to become a client, us", "check", "<= 200", lambda rows: attach_us(row("check")(rows)), lambda v: v <= 200, key),
        (f"{backend}: a write with 150 clients, of one with none", "crowd", "<= 1.1", lambda rows: of_one_watcher(rows, backend), lambda v: v <= 1.1, f"{key}-150"),
        (f"{backend}: us that the end of a client takes longer", "exits", "0", lambda rows: later_exit(row("exits")(rows)), lambda v: v <= 0, key),
    ]
    return [goal for each in wanted for goal in _goal(rows, *each)]


def goals(rows: Sequence[Row]) -> list[Goal]:
    """Of the parts that ran."""
    main = compared.parts(Rows.of_main(rows).rows)
    whole = _goal(main, "1000 path entries, of 1 (whole processes)", "startup", "<= 1.1", lambda rows: of_one_entry(rows, "watch"), lambda v: v <= 1.1, "watch")
    return [*(goal for backend in BACKENDS for goal in _goals_of(main, backend)), *whole]


# --- parts ------------------------------------------------------------------------------------------------------------

def arm_part(rows: Rows) -> str:
    def line(row: Row) -> list[str]:
        beyond, backend = beyond_index_mib(row), row["contender"].removeprefix("ladewerk-")
        over = over_scan(rows, backend) if backend in BACKENDS else None
        return [
            row["label"], _of(row, "wall_s"), _of(row, "cpu_s"), _of(row, "first_cpu_seconds") or _of(row, "inside_cpu_s"), signed(over) if over else "",
            _of(row, "rss_kib", 1 / MIB), _of(row, "index_bytes", 1 / MIB**2), number(beyond.value) if beyond else "", _of(row, "peak_kib", 1 / MIB), str(len(row["wall_s"])),
        ]

    about = rows.section("arm")[0]["about"]["tree"]
    head = ("", "wall, s", "CPU, s", "inside, CPU s", "over the scan, per 100,000", "RSS, MiB", "index, MiB", "beyond it", "peak RSS", "n")
    text = (
        f"{about['directories']:,} directories, {about['entries']:,} entries, all in the kernel's memory; more directories that a scan leaves out are there as well, and rivals watch them. "
        "From the start of the process; `inside` is without an interpreter's or a program's start. RSS is that of the process that watches, when it is ready; what the kernel "
        "keeps for each inotify watch (about 1 KiB with its inode) is in nobody's. The index is shared memory, which counts here as far as it is mapped; `beyond it` is the rest of RSS.\n\n"
    )
    return text + table(head, _lines(rows.section("arm"), line, len(head)))


def save_part(rows: Rows) -> str:
    def line(row: Row) -> list[str]:
        us, closed = row["written_us"], row.get("closed_us")
        if not us:
            return [row["label"], "", "", "", "", str(sum(row["lost"])), "0"]
        shares = [number(percentile(us, share) / 1e3) for share in (0.5, 0.99)]
        return [row["label"], *shares, number(max(us) / 1e3), number(percentile(closed, 0.5) / 1e3) if closed else "", str(sum(row["lost"])), f"{len(us):,}"]

    head = ("", "p50, ms", "p99, ms", "most, ms", "p50 from the close", "lost", "n")
    text = (
        f"A write to an existing file of the tree and its close, {rows.section('save')[0]['about']['pause_ms']} ms apart on average, at random. From before the write until a program knows of that file: a client of the "
        "daemon that checks again and again, giving way to whoever waits for the CPU (its check holds, and it was told of that path); rivals, until their callback, line or subscription names it, in a Python program.\n\n"
    )
    return text + table(head, _lines(rows.section("save"), line, len(head)))


def storm_part(rows: Rows) -> str:
    def line(row: Row) -> list[str]:
        return [row["label"], ", ".join(f"{lost:,}" for lost in row["lost"]), _of(row, "storm_s"), _of(row, "settled_s"), str(row.get("overflows", "")), str(len(row["lost"]))]

    storm = rows.section("storm")[0]["about"]["storm"]
    head = ("", "lost, each time", "storm, s", "settled after, s", "overflows", "n")
    text = (
        f"{storm['files']:,} files made by {storm['processes']} processes as fast as they can, in {storm['directories']:,} directories and in new ones below them: created, written, renamed. "
        "Lost: never named, by the time that nothing has been said for a while. Ladewerk: sources and directories of the whole tree of which its index, when nothing is left to be "
        "looked at, says something else than a walk, or nothing.\n\n"
    )
    return text + table(head, _lines(rows.section("storm"), line, len(head)))


def check_part(rows: Rows) -> str:
    def line(row: Row) -> list[str]:
        client, own = of_poll(row, "client_ns", "poll_ns"), of_poll(row, "own_ns", "own_poll_ns")
        return [row["label"], _of(row, "poll_ns"), _of(row, "client_ns"), ratio_text(client, poll_noise(row, "poll_ns")), _of(row, "own_poll_ns"), _of(row, "own_ns"),
                ratio_text(own, poll_noise(row, "own_poll_ns")),
                _of(row, "attach_ns", 1e-3), str(len(row["poll_ns"]))]

    head = ("", "bare poll, ns", "client's check, ns", "of the poll", "bare poll, own queue", "own check, ns", "of the poll", "to attach, us", "n")
    text = "In one process, in turns, with nothing to tell. The client's is the daemon's queue, which it polls; `own`: an inotify instance of the process itself. "
    text += "To attach: from the making of a client until its first check holds.\n\n"
    return text + table(head, _lines(rows.section("check"), line, len(head)))


def startup_part(rows: Rows) -> str:
    loads, found = rows.workloads("startup"), rows.section("startup")

    def cell(row: Row, base: Row) -> list[str]:
        if "skipped" in row:
            return [why(row), ""]
        return [f"{_of(row, 'wall_ms')} / {_of(row, 'cpu_ms')}", ratio_text(ratios(row["wall_ms"], base["wall_ms"])) if "wall_ms" in base and row is not base else ""]

    lines = []
    for key, label in rows.contenders("startup", loads[0]).items():
        mine = [rows.get("startup", load, key) for load in loads]
        lines.append([label, *(text for row in mine for text in cell(row, mine[0]))])
    head = ["", *(text for load in loads for text in (rows.title("startup", load), "of 1 entry"))]
    count = max((len(row.get("wall_ms", ())) for row in found), default=0)
    who = found[0]["freshness_by"]
    text = f"200 modules behind so many path entries; whole processes from outside, launcher and exit included: wall / CPU, ms. n = {count}. Freshness in `watch` is looked after by {who}.\n\n"
    return text + table(head, lines)


def crowd_part(rows: Rows) -> str:
    def line(row: Row) -> list[str]:
        wall = [us for samples in row["wall_us"] for us in samples]
        cpu = [us for samples in row["cpu_us"] for us in samples]
        return [row["label"], number(statistics.median(wall)), number(percentile(wall, 0.99)), number(statistics.median(cpu)), f"{len(wall):,}"]

    head = ("", "us", "p99", "CPU of the writer, us", "n")
    text = "A write of one byte into a watched directory, 2 ms apart, with so many processes that want to know of it: what it costs the writer.\n\n"
    return text + table(head, _lines(rows.section("crowd"), line, len(head)))


def exits_part(rows: Rows) -> str:
    def line(row: Row) -> list[str]:
        later = later_exit(row)
        return [row["label"], _of(row, "nothing"), _of(row, "attached"), signed(later) if later else "", _of(row, "inotify"), str(len(row["nothing"]))]

    head = ("", "with nothing, us", "a client of the daemon", "longer", "60 inotify watches of its own", "n")
    return "From before `_exit` until the parent knows of it.\n\n" + table(head, _lines(rows.section("exits"), line, len(head)))


PARTS = {
    "arm": arm_part, "save": save_part, "storm": storm_part, "check": check_part, "startup": startup_part, "crowd": crowd_part, "exits": exits_part,
}


def part(rows: Sequence[Row]) -> str:
    """Of all parts that ran."""
    of, texts = compared.parts(rows), [LEGEND]
    for each, title in TITLES.items():
        if found := of.section(each):
            texts += [f"### {title}\n", compared.reasons(found) or PARTS[each](of)]
    return "\n".join(texts)


# --- figures and plots ------------------------------------------------------------------------------------------------

def _check_figure(row: Row) -> Figure:
    """Of the poll, which is made in the same rounds, twice."""
    key = f"{row['python']}/watch/check/{row['contender']}/client_ns"
    return Figure(key, f"{row['label']}: a client's check, of the bare poll", "ns", row["client_ns"], row["poll_ns"], row["poll_again_ns"])


def _arm_figures(rows: Sequence[Row]) -> list[Figure]:
    """CPU of the daemon until its first snapshot, of the scan's."""
    scans = {row["contender"]: row["inside_cpu_s"] for row in rows if "inside_cpu_s" in row}
    return [
        Figure(f"{row['python']}/watch/arm/{row['contender']}/inside_cpu_s", f"{row['label']}: armed and indexed, of a scan", "s", row["first_cpu_seconds"], scans.get("scan"), scans.get(compared.AGAIN))
        for row in rows if "first_cpu_seconds" in row and row["contender"] != compared.AGAIN
    ]


def figures(rows: Sequence[Row]) -> list[Figure]:
    def of(*parts: str) -> list[Row]:
        return [row for row in rows if row["part"] in parts and "skipped" not in row]

    saves = [row for row in of("save") if row["contender"] != compared.AGAIN and row["written_us"]]
    alone = [Figure(f"{row['python']}/watch/save/{row['contender']}/written_us", f"{row['label']}: a save, until it is known", "us", row["written_us"]) for row in saves]
    return [*_arm_figures(of("arm")), *alone, *map(_check_figure, of("check")), *series.figures("wall_ms")(of("startup"))]


def plots(rows: Sequence[Row]) -> list[Plot]:
    """What it takes until all is watched, and until a save is known."""
    fields = {"arm": ("cpu_s", "CPU s", 1.0), "save": ("written_us", "ms", 1e-3)}
    return [plot for _, group in compared.groups(rows) if group[0]["workload"] in fields for plot in compared.bars(group, *fields[group[0]["workload"]])]


# --- the whole --------------------------------------------------------------------------------------------------------

def warnings(document: Document) -> list[str]:
    found = unrest(document)
    for row in document["rows"]:
        if any(row.get("unwatched", ())):
            found.append(f"{row['label']} could not watch {max(row['unwatched']):,} directories: its rows are not the same work.")
        if row["part"] == "save" and 0 < len(row.get("written_us", ())) < 1000:
            found.append("Fewer than 1000 saves: a 99th percentile says little.")
        if row.get("freshness_by", "['daemon']") != "['daemon']":
            found.append(f"Programs were to be clients of the daemon; freshness was looked after by {row['freshness_by'] or 'nobody'}.")
    return list(dict.fromkeys(found))


def markdown(document: Document) -> str:
    parts = ["# Watchers' benchmark\n", rivals_part(document), *([care(found)] if (found := warnings(document)) else []), part(document["rows"]), "## Goals\n", goals_table(goals(document["rows"]))]
    return "\n".join(parts)


if __name__ == "__main__":
    show(markdown, __doc__)
