# SPDX-License-Identifier: MIT
"""Records of the ring buffer (bpf/event.h) made by hand, and `play` (tools/play.c), which puts them through the model into an output format."""
from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

BPF = Path(__file__).parents[2] / "bpf"
PARTS = ("model", "threads", "holders", "intern", "forest", "totals", "contention", "writer", "text", "lanes", "paths", "live", "screen")

BEGIN_NS = 1_000_000_000
MS = 1_000_000

_KINDS = {"name": 0, "start": 1, "done": 2, "wait": 3, "exit": 7}
CLASSES = ("cpu", "queue", "module", "global", "gil", "futex", "disk", "sleep")
_HEAD = struct.Struct("=BBBBIIIQ")
_FAILED, _CLOCKED = 1, 8


@dataclass
class Records:
    """What one process (1100) sends; times are milliseconds since the trace began."""

    pid: int = 1100
    data: bytearray = field(default_factory=bytearray)
    names: dict[bytes, int] = field(default_factory=dict)
    depth: dict[int, int] = field(default_factory=dict)

    def _add(self, kind: str, at: float, tid: int | None, name: int, body: bytes = b"", *, flags: int = 0, detail: int = 0) -> None:
        head = _HEAD.pack(_KINDS[kind], 0, flags, detail, self.pid, tid or self.pid, name, BEGIN_NS + round(at * MS))
        self.data += struct.pack("=I", len(head + body)) + head + body

    def name(self, text: str | bytes) -> int:
        """The number of a name; told when it is new."""
        raw = text.encode() if isinstance(text, str) else text
        if raw and raw not in self.names:
            self.names[raw] = len(self.names) + 1
            self._add("name", 0, None, self.names[raw], raw + b"\0")
        return self.names.get(raw, 0)

    def _span(self, kind: str, at: float, module: str | bytes, importer: str | bytes, tid: int | None, stack: int, flags: int, clock: dict[str, float] | None) -> None:
        thread = tid or self.pid
        depth = self.depth.get(thread, 0) - (kind == "done")
        self.depth[thread] = depth + (kind == "start")
        number, by = self.name(module), self.name(importer)
        body = struct.pack("=IIQ", by, 0, stack or 0x7fff0000 - 0x100 * depth)
        if clock is not None:
            flags |= _CLOCKED
            body += struct.pack("=8Q", *(round(clock.get(c, 0) * MS) for c in CLASSES))
        self._add(kind, at, tid, number, body, flags=flags)

    def start(self, at: float, module: str | bytes, importer: str | bytes = "", *, tid: int | None = None, stack: int = 0, clock: dict[str, float] | None = None) -> None:
        """STACK: where on it the call is, if not beneath what is open in this thread. CLOCK: milliseconds by class."""
        self._span("start", at, module, importer, tid, stack, 0, clock)

    def done(self, at: float, module: str | bytes, *, tid: int | None = None, stack: int = 0, failed: bool = False, clock: dict[str, float] | None = None) -> None:
        self._span("done", at, module, "", tid, stack, _FAILED if failed else 0, clock)

    def wait(self, at: float, kind: str, took: float, *, module: str = "", queue: float = 0, waker: int = 0, tid: int | None = None) -> None:
        body = struct.pack("=QQII", round(took * MS), round(queue * MS), waker, 0)
        self._add("wait", at, tid, self.name(module), body, detail=CLASSES.index(kind))

    def exit(self, at: float, tid: int | None = None) -> None:
        self._add("exit", at, tid, 0)


def build(where: Path) -> Path:
    """Compiles `play`, with sanitizers."""
    program = where / "play"
    sources = [BPF / f"{part}.c" for part in PARTS] + sorted(BPF.glob("write_*.c")) + [Path(__file__).parent / "tools" / "play.c"]
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", f"-I{BPF}"]
    subprocess.run(["cc", *flags, *sources, "-o", program], check=True)
    return program


@dataclass
class Player:
    program: Path
    where: Path

    def arguments(self, form: str, records: Records, *, threshold: float = 0, labels: int = 100, inner: bool = False, globs: tuple[str, ...] = ()) -> list[str]:
        """The command line for RECORDS; THRESHOLD in milliseconds."""
        path = self.where / "records"
        path.write_bytes(records.data)
        return [str(self.program), form, str(path), str(round(threshold * MS)), str(labels), str(int(inner)), *globs]

    def play(self, form: str, records: Records, **options: object) -> tuple[str, str]:
        """What the format writes to stdout and to stderr."""
        done = subprocess.run(self.arguments(form, records, **options), capture_output=True, timeout=60)  # type: ignore[arg-type]
        assert done.returncode == 0, (done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout.decode(), done.stderr.decode()
