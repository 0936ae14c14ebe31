# SPDX-License-Identifier: MIT
from collections.abc import Callable, Container, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, Literal, TypeAlias, TypedDict, final, type_check_only

__version__: str
has_probes: bool

# name, importer, begun, ended, thread, depth, outcome, {phase: ns}, whether it was of an engine
_Record: TypeAlias = tuple[str, str | None, int, int, int, int, str, dict[str, int], bool]
# importer, its file and line, module, what is taken from it, name, what became of it, file and line of the use, ns that it took
_LazyName: TypeAlias = tuple[
    str, str, int, str, str | None, str, Literal["waits", "resolved", "overwritten", "failed"], str | None, int | None, int,
]
# event, importee, importer, spec, nanoseconds, error
_Listener: TypeAlias = Callable[[_Event, str, str | None, ModuleSpec | None, int, BaseException | None], object]
_Event: TypeAlias = Literal["found", "loading", "loaded", "failed", "reused"]

@type_check_only
class Stats(TypedDict):
    active: bool
    fast_path: bool
    freshness: Literal["stat", "watch", "frozen"] | None
    cache: str | None
    reason: str | None
    served: dict[str, int]
    aside: dict[str, int]
    session: dict[str, int | str | None]
    collector: dict[str, int | str | None]
    unmarshal: dict[str, int | str | None]
    index: IndexStats | None
    watch: list[WatchStats]
    engines: EngineStats
    lazy: LazyStats

@type_check_only
class LazyStats(TypedDict):
    mode: Literal["off", "default", "own", "all"]
    reason: str | None
    registered: int
    resolved: int
    eager: int

@type_check_only
class EngineStats(TypedDict):
    served: int
    refused: int
    reason: str | None

@type_check_only
class WatchStats(TypedDict):
    by: Literal["daemon", "process"]
    backend: str
    checks: int
    distrusted: int
    changes: int
    refused: int
    reason: str | None

@type_check_only
class CheckStats(TypedDict):
    directories: int
    unchanged: int
    changed: int
    vanished: int
    unreadable: int
    racy: int
    found: int
    damaged: int
    syscalls: int
    threads: int
    seconds: float
    cpu_seconds: float
    backend: str
    why: str

@type_check_only
class BuildStats(TypedDict):
    entries: int
    directories: int
    modules: int
    sources: int
    unreadable: int
    vanished: int
    loops: int
    links_left: int
    syscalls: int
    seconds: float
    cpu_seconds: float
    threads: int
    backend: str
    why: str
    known: int
    from_pyc: int
    compiled: int
    skipped: int
    code_bytes: int
    spilled: int
    index_bytes: int
    fact_bytes: int
    string_bytes: int

@type_check_only
class FrozenStats(TypedDict):
    entries: int
    directories: int
    modules: int
    sources: int
    unreadable: int
    vanished: int
    loops: int
    links_left: int
    syscalls: int
    seconds: float
    cpu_seconds: float
    threads: int
    backend: str
    compiled: int
    code_bytes: int
    index_bytes: int

@type_check_only
class IndexStats(TypedDict):
    path: str
    roots: list[str | None]
    files: int
    reason: str | None
    freshness: Literal["stat", "frozen"]

def install(*, freshness: Literal["stat", "watch", "frozen"] | None = None, cache: str | None = None) -> bool: ...
def uninstall() -> None: ...
def boot(enabled: bool, /) -> None: ...
def stats() -> Stats: ...
def flush() -> None: ...
def digests() -> tuple[tuple[int, int], tuple[int, int], bool, bool]: ...
def unmarshal(data: bytes, /) -> Any: ...
def canonical(data: bytes, /) -> bytes: ...
def probe_uring() -> tuple[int, str]: ...
def place(*, cache: str | None = None) -> tuple[str | None, str, str]: ...
def record(on: bool, /) -> None: ...
def records() -> list[_Record]: ...
def listen(listener: _Listener | None, events: Container[str], /) -> None: ...
def listing(path: bytes, /) -> list[tuple[str, bool, tuple[str, ...], bool]] | None: ...
def source_code(name: str, entry: str, path: str, loader: object, cached: str | None, /) -> CodeType | None: ...
def routed(engines: object, /) -> None: ...
def _lazy_settings(use_env: bool, /) -> dict[str, str]: ...
def _lazy_project(text: str | bytes, /) -> tuple[bool, str | None, str]: ...
def _lazy_ask(
    mode: str, rules: str, roots: tuple[str, ...], questions: tuple[tuple[str, str, str, str | None], ...], /,
) -> list[tuple[bool, bool, bool, bool]]: ...
def _lazy_plan(code: CodeType, /) -> tuple[Any, ...] | None: ...
def _namespace(module: ModuleType, /) -> dict[str, Any]: ...
def _lazy_stop() -> None: ...
def _lazy_names(namespace: dict[str, Any], /) -> list[str]: ...
def lazy_census() -> list[_LazyName]: ...
def _lazy_transform(code: CodeType, /) -> CodeType: ...
def reset(*, cache: str | None = None) -> int: ...

@final
class Inside:
    def __new__(
        cls, find_and_load: Callable[[str, Callable[[str], ModuleType]], ModuleType], sys: dict[str, Any], bootstrap: dict[str, Any], external: dict[str, Any],
        builtins: dict[str, Any], own: dict[str, Any], given: Callable[[str], ModuleSpec | None] | None = None, names: frozenset[str] = ...,
        ask: Callable[[Any, str, Any], ModuleSpec | None] | None = None, hooks: dict[str, Any] = ...,
    ) -> Inside: ...
    def __call__(self, name: str, import_: Callable[[str], ModuleType], /) -> ModuleType: ...
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None, engine: object = None,
    ) -> ModuleSpec | None: ...
    def invalidate_caches(self) -> None: ...
    def step_aside(self) -> None: ...
    def rule(self, attend: Callable[[str], object], replaced: dict[str, tuple[object, object]], /) -> None: ...
    def store(self, shown: object, stored: dict[str, Any], /) -> None: ...
    def failed(self, importee: str, importer: str | None, error: BaseException, /) -> None: ...
    def listen(self, listener: _Listener | None, events: Container[str], /) -> None: ...
    @property
    def reason(self) -> str | None: ...

@final
class Builder:
    def __new__(cls, cache: str | None = None, memory: int = ..., *, dry: bool = False, bases: tuple[str, ...] = ()) -> Builder: ...
    def scan(self, roots: list[str], threads: int = 0, backend: str = "auto", /) -> BuildStats: ...
    def measure(self, roots: list[str], threads: int = 0, backend: str = "auto", build: bool = False, /) -> BuildStats: ...
    def revalidate(self, roots: list[str], threads: int = 0, backend: str = "auto", /) -> CheckStats: ...
    def gather(self) -> list[tuple[int, str]]: ...
    def add(self, number: int, source: bytes, code: bytes, /) -> bool: ...
    def write(self) -> str: ...
    def stats(self) -> BuildStats: ...
    @property
    def progress(self) -> int: ...
    @property
    def lazy(self) -> bool: ...

@final
class FrozenBuilder:
    def __new__(cls, path: str, roots: list[str]) -> FrozenBuilder: ...
    def scan(self, threads: int = 0, backend: str = "auto", /) -> list[tuple[int, str, str]]: ...
    def add(self, number: int, source: bytes, code: bytes, /) -> None: ...
    def write(self) -> None: ...
    def stats(self) -> FrozenStats: ...
    @property
    def progress(self) -> int: ...
    @property
    def lazy(self) -> bool: ...
