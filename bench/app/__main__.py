# SPDX-License-Identifier: MIT
"""Measures a program of the user's own: bench/run.sh --app 'python app.py --flag'."""
from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import environments
import machine
import pair
import running
from app import analysis, command, outcome, overlay, page
from app.analysis import Analysis, Shown
from app.command import Program, Refused
from app.outcome import Alike, Outcome
from app.overlay import Overlay, Way
from app.times import Times
from environments import Environments, Unavailable, directory
from pair import Command, Failed
from rows import say
from sections import Effort
from tables import Row

HERE = Path(__file__).resolve().parents[1]
CHECKOUT = HERE.parent

TIMED = {"quick": Effort(9, 60), "headline": Effort(15, 300), "full": Effort(31, math.inf)}
PROBED = {"quick": Effort(9, 30), "headline": Effort(9, 60), "full": Effort(15, math.inf)}  # runs of the probe `times`
SPLITS = 3  # runs of the probe `split`, and of Ladewerk's report
CHECKS = 3  # runs of stock Python that say how far it repeats itself


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/run.sh", description="Measures a program of yours, stock and with Ladewerk, and says what its imports cost. It is run many times: it must end "
        "by itself, and may do nothing that it must not do often. Its environment is left as it is.")
    parser.add_argument("--app", required=True, metavar="COMMAND", help="its command line, in quotation marks: Python, or a script of an environment")
    parser.add_argument("--root", type=Path, action="append", default=[], metavar="DIR",
                        help="a directory with sources of the program, for `watch` and `frozen`; may be given more than once (default: the script's, or this one)")
    parser.add_argument("-n", "--runs", type=int, help=f"rounds (default: {TIMED['headline'].rounds})")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", dest="effort", action="store_const", const="quick", default="headline", help="a short look")
    effort.add_argument("--full", dest="effort", action="store_const", const="full", help="more rounds, however long they take")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS", help="that one run of it may take (default: 120)")
    parser.add_argument("--seed", type=int, default=1, help="of the order (default: 1)")
    parser.add_argument("--ladewerk", type=Path, metavar="DIR", help="a site-packages with the Ladewerk to be measured (default: this checkout's is built)")
    parser.add_argument("--build", type=Path, default=CHECKOUT / "build-bench", help="where environments and caches are kept (default: build-bench/)")
    parser.add_argument("-o", "--output", type=Path, help="directory for report.md and report.json (default: bench/results/DATE-app/)")
    options = running.parsed(parser, list(argv) if argv is not None else None)
    if options.runs is not None and options.runs < 1:
        parser.error("-n needs a positive number")
    if not options.timeout > 0:
        parser.error("--timeout needs a positive number")
    if options.ladewerk and not (options.ladewerk / "ladewerk").is_dir():
        parser.error(f"--ladewerk: {options.ladewerk} has no package ladewerk")
    options.root = [_root(root) for root in options.root]
    return options


def _root(path: Path) -> Path:
    if not path.is_dir():
        raise Refused(f"--root {path} is no directory")
    return path.resolve()


def default_roots(program: Program) -> list[Path]:
    """Where its first modules are looked for, unless that is a home directory or one above: those hold too much else. For what is started from a bin/, where
    no modules are: the current directory."""
    own = program.own_directory
    own = Path.cwd() if own and own.name == "bin" else own
    home = Path.home()
    return [own] if own and not home.is_relative_to(own) else []


@dataclass
class App:
    """A program under measurement."""

    program: Program
    roots: list[Path]
    overlay: Overlay
    timeout: float
    stock: Outcome
    alike: Alike
    failed: dict[str, str] = field(default_factory=dict)  # by way

    @property
    def watched(self) -> list[Path]:
        """The roots and the libraries; none within another, so that each directory is looked at once."""
        found = sorted({*self.roots, *(Path(library).resolve() for library in self.program.python.libraries)})
        return [root for root in found if not any(root != other and root.is_relative_to(other) for other in found)]

    def look_again(self) -> None:
        """Stock Python once more: what differs now may differ there as well, only more seldom than in the runs before."""
        outcomes = [self.stock, *(outcome.observe(Command(self.program.argv(), self.overlay.stock()), self.timeout) for _ in range(CHECKS))]
        self.alike = outcome.looser(self.alike, outcome.how_alike(outcomes) or self.alike)

    def probed(self, env: Mapping[str, str], file: Path) -> tuple[Outcome, str]:
        """One run with a probe in it, which leaves FILE; and why it did not, or nothing."""
        file.unlink(missing_ok=True)
        try:
            found = outcome.observe(Command(self.program.argv(), env), self.timeout)
        except (Failed, OSError) as failure:
            return self.stock, str(failure)
        if found.status != self.stock.status:
            return found, f"with the probe {found.words()}, without {self.stock.words()}"
        return found, "" if file.exists() else "nothing was written: the program ends by os._exit(), a signal or another program, or imports nothing"

    def probe(self, kind: str, effort: Effort) -> tuple[list[dict[str, Any]], str]:
        """What runs with the probe have written, or why there is nothing."""
        say(f"  probe {kind}: {effort.rounds} runs")
        file, records, deadline = self.overlay.state / f"{kind}.marshal", [], time.monotonic() + effort.seconds
        for done in range(effort.rounds):
            found, why = self.probed(self.overlay.environment(f"probe:{kind}:{file}"), file)
            if why:
                return [], why
            if (record := analysis.read_record(file, found.ended)) is None:
                return [], "what the probe wrote cannot be read"
            records.append(record)
            if done + 1 >= pair.MINIMUM and time.monotonic() > deadline:
                break
        return records, ""


# --- before anything is timed ----------------------------------------------------------------------------------------------


def look(program: Program, env: Mapping[str, str], timeout: float) -> tuple[Outcome, Alike]:
    """What the program does with stock Python, and how far it repeats itself. The first run writes byte code, and is not compared. Refused."""
    say("  stock Python, unmeasured")
    try:
        outcomes = [outcome.observe(Command(program.argv(), env), timeout) for _ in range(CHECKS + 1)][1:]
    except Failed as failure:
        raise Refused(f"the program {failure}") from None
    except OSError as error:
        raise Refused(f"the program cannot be started: {error.strerror}") from None
    alike = outcome.how_alike(outcomes)
    if alike is None:
        said = ", ".join(dict.fromkeys(found.words() for found in outcomes))
        raise Refused(f"the program ends differently from run to run ({said}); give it what makes it do the same each time")
    return outcomes[0], alike


def check(app: App, way: Way) -> str:
    """Two runs, the first of which may learn. Why the way is not timed, or nothing."""
    say(f"  check {way.label}")
    try:
        for _ in range(2):
            found = outcome.observe(way.command(app.program), app.timeout)
            if outcome.difference(app.stock, found, app.alike):
                app.look_again()
            if differs := outcome.difference(app.stock, found, app.alike):
                return f"{differs}: not timed"
    except (Failed, OSError) as failure:
        return str(failure)
    return ""


# --- rows ----------------------------------------------------------------------------------------------------------------


def common(app: App) -> Row:
    return {"python": app.program.python.key, "workload": "app", "title": app.program.text}


def timed_rows(app: App, ways: Sequence[Way], effort: Effort, seed: int) -> list[Row]:
    why = {way.key: way.skipped or check(app, way) for way in ways}
    commands = {way.key: replace(way.command(app.program), expected=app.stock.status) for way in ways if not why[way.key]}
    say(f"  measure: {effort.rounds} rounds")
    samples = pair.rounds(commands, effort.rounds, seed=seed, on_failure=lambda key, failure: why.update({key: str(failure)}),
                          seconds=effort.seconds, timeout=app.timeout)
    rows = []
    for way in ways:
        row: Row = {**common(app), "section": "app", "contender": way.key, "label": way.label, "base": way.base}
        if why[way.key]:
            row["skipped"] = why[way.key]
        else:
            for name in ("wall_ms", "cpu_ms", "rss_mb"):
                row[name] = [round(getattr(sample, name), 4) for sample in samples[way.key]]
            row["rss_floor_mb"] = round(pair.own_peak_mb(), 1)
        rows.append(row)
    return rows


def split_rows(app: App, ways: Sequence[Way]) -> list[Row]:
    records, why = app.probe("split", Effort(SPLITS, math.inf))
    base: Row = {**common(app), "section": "app-split"}
    rows = [{**base, "contender": "stock", "label": "stock", "base": True, **(analysis.stock_split(records) if records else {"skipped": why})}]
    for way in ways:
        if way.report:
            rows.append({**base, "contender": way.key, "label": way.label, "base": False, **_reported(app, way)})
    return rows


def _reported(app: App, way: Way) -> Row:
    file, reports = app.overlay.state / f"{way.key}.json", []
    if way.skipped:
        return {"skipped": way.skipped}
    for _ in range(SPLITS):
        if why := app.probed(way.report, file)[1]:
            return {"skipped": why}
        if (report := analysis.read_report(file)) is None:
            return {"skipped": "Ladewerk's report cannot be read"}
        reports.append(report)
    yes, every = analysis.served(reports[-1])
    return {**analysis.ladewerk_split(reports), "served": yes, "imports": every}


def analysed_rows(app: App, effort: Effort) -> list[Row]:
    timed, why = app.probe("times", effort)
    graphs, why_no_graph = app.probe("graph", Effort(1, math.inf)) if timed else ([], why)
    if not graphs:
        keys = (("app-imports", "the dearest modules"), ("app-drop", "what one import less would save"))
        return [{**common(app), "section": key, "contender": "stock", "label": label, "base": True, "skipped": why_no_graph} for key, label in keys]
    times = Times.of(timed)
    shown = Shown([*app.roots, Path.cwd()], [Path(library) for library in app.program.python.libraries])
    found = Analysis(graphs[0], times, shown, common(app))
    return [found.whole(timed), *found.imports(), *found.drops(), *found.lazy()]


# --- the whole -----------------------------------------------------------------------------------------------------------


def notes(program: Program, environ: Mapping[str, str], why_not: str, stock: Outcome) -> list[str]:
    found = []
    if stock.status:
        last = stock.err.decode(errors="replace").strip().rpartition("\n")[2].strip()
        found.append(f"With stock Python the program ends with {stock.words()}{last and f' ({last})'}: is that what is to be measured?")
    if program.python.ladewerk and not why_not:
        found.append("The program's environment has a Ladewerk of its own; the one that is measured is this checkout's.")
    if environ.get("PYTHONDONTWRITEBYTECODE") or any(word.startswith("-") and not word.startswith(("--", "-W", "-X")) and "B" in word for word in program.options):
        found.append("No byte code is written in this environment: stock Python compiles at each start what has none. Unset PYTHONDONTWRITEBYTECODE (or leave out "
                     "-B) unless the program runs so.")
    return found


def about(app: App, options: argparse.Namespace) -> dict[str, Any]:
    shown = Shown([Path.cwd()], [Path(library).parent for library in app.program.python.libraries])
    does = f"{app.stock.words()} with stock Python; the other ways were compared with it: {app.alike.value}"
    version = "the one in --ladewerk" if options.ladewerk else options.revision or "this checkout"
    return {
        "command": app.program.text, "does": does, "ladewerk": f"none: {options.why_not}" if options.why_not else version,
        "roots": [shown.place(str(root)) for root in app.roots], "notes": notes(app.program, app.overlay.environ, app.overlay.why_not, app.stock), "effort": options.effort,
    }


def measure(app: App, options: argparse.Namespace) -> Iterator[Row]:
    """Row by row: what there is when somebody interrupts is written down."""
    timed, probed = TIMED[options.effort], PROBED[options.effort]
    if options.runs:
        timed, probed = Effort(options.runs, math.inf), Effort(options.runs, math.inf)
    say("  artifact and daemon")
    no_artifact = overlay.write_artifact(app.overlay, app.program, app.roots)
    with overlay.daemon(app.overlay, app.program, app.watched) as no_watch:
        ways = overlay.ways(app.overlay, app.program, no_watch, no_artifact)
        yield from timed_rows(app, ways, timed, options.seed)
        yield from split_rows(app, ways)
    yield from analysed_rows(app, probed)


def ladewerk(program: Program, options: argparse.Namespace) -> tuple[Path | None, str]:
    """A directory with the package as it is installed for the program's interpreter, or why there is none."""
    if options.ladewerk:
        return options.ladewerk, ""
    home = Environments(Path(program.python.base), directory(options.build, program.python.key, program.python.base), CHECKOUT)
    try:
        python = home.ladewerk("small")
    except Unavailable as why:
        return None, str(why)
    return next(python.parent.parent.glob("lib/python*/site-packages")), ""


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    program = command.parse(options.app, environ)
    command.check_file(program)
    options.output = options.output or HERE / "results" / f"{datetime.now(timezone.utc):%Y-%m-%dT%H%M%SZ}-app"
    running.end_in_order()
    with ExitStack() as stack:
        stack.callback(os.close, running.alone(options.build))
        running.check_output(options.output)
        state = options.build / "app"
        shutil.rmtree(state, ignore_errors=True)
        where, options.why_not = ladewerk(program, options)
        options.quick, options.revision = options.effort == "quick", environments.revision(CHECKOUT)
        started = running.Run(options)
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ladewerk-")))
        made = overlay.make(state, sockets, where, options.why_not, environ, program.python.executable)
        stock, alike = look(program, made.stock(), options.timeout)
        app = App(program, options.root or default_roots(program), made, options.timeout, stock, alike)
        interrupted = ""
        try:
            started.section("app", lambda: measure(app, options))
        except (KeyboardInterrupt, running.Ended) as end:
            interrupted = str(end) or "interrupted"
        facts = machine.interpreter(Path(program.python.executable))
        started.write(page.markdown, {"python": facts, "app": about(app, options), "interrupted": interrupted})
    print((options.output / "report.md").read_text(), end="")
    say(f"written: {options.output}/report.md and report.json")
    if interrupted:
        sys.exit(130)


def main(argv: Sequence[str] | None = None) -> None:
    try:
        run(parse(argv), os.environ)
    except Refused as refused:
        print(f"run.sh: --app: {refused}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
