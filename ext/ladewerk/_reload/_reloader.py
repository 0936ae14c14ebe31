# SPDX-License-Identifier: MIT
"""Who reloads when: one reload at a time, those who come meanwhile share the next one; readers with a pin are waited for."""
from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ladewerk import _live
from ladewerk._outside import outside
from . import _share, _transaction
from ._errors import Reloaded, ReloadError
from ._inplace import InPlace, collect_young
from ._pins import GATE
from ._plan import Plan, make_plan, why_not
from ._sources import Sources
from ._transaction import Transaction

ANY = None
AHEAD = 0.1  # seconds that a plan made ahead is believed
OVERTAKEN = 100  # rounds; it may be a body that overtakes its own reload
MEANWHILE = 10  # rounds for what other threads import while a reload runs; the next reload goes on


class _Turn:
    """The reload that somebody waits for, and what came of it."""

    def __init__(self) -> None:
        self.done = False
        self.thread = threading.get_ident()  # who leads it
        self.result: Reloaded | None = None
        self.error: BaseException | None = None


_ATTEMPTS = (1, 2, 3)
POLICIES: dict[str, type[Transaction]] = {"replace": Transaction, "in place": InPlace}


def check_policy(policy: str) -> str:
    if policy not in POLICIES:
        raise ValueError(f"policy is 'replace' or 'in place', not {policy!r}")
    return policy


class _Ahead(NamedTuple):
    """A plan that nobody has asked for yet, what it was made for, and when."""

    plan: Plan
    suspects: set[str]
    version: bytes  # of sys.modules
    made: float


class _One:
    """Of the process: one transaction at a time, because import statements lead there."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread = 0


_one = _One()


def _after_fork() -> None:
    transaction = _transaction.active
    if transaction is not None and _one.thread != threading.get_ident():
        transaction.end()
    mine = _one.thread == threading.get_ident()
    if not mine:
        _one.lock = threading.Lock()
        _one.thread = 0
    for reloader in list(_reloaders):
        reloader._forked(mine)


class Reloader:
    """Reloads what lies below ROOTS (None: everything but the standard library and site-packages). PATIENCE: seconds that a swap waits for pins.

    POLICY: of reloads that name none. WATCH: let the kernel tell what has changed (inotify, from the first reload on); where that is not to be had, or False, every source's stamp is compared.
    """

    def __init__(self, roots: Iterable[str | os.PathLike[str]] | None = None, patience: float = 5.0, watch: bool = True,
                 policy: str = "replace") -> None:
        self.patience = patience
        self.policy = check_policy(policy)
        self._sources = Sources(roots)
        self._wants_watch = watch
        self._events: _live.Events | None = None
        self._pending: set[str] = set()  # reported, not yet reloaded
        self._everything = True  # compare all stamps
        self._absent: set[str] = set()  # directories that were not there to be armed
        self._ahead: _Ahead | None = None
        self._mutex = threading.Condition()
        self._waiting: dict[str, _Turn] = {}  # by policy: who comes now shares it
        self._on_unload: list[tuple[str | None, Callable[[str, Any], object]]] = []
        with self._glancing():
            self._sources.meet()  # what is imported from here on was not imported earlier
        _reloaders.add(self)

    def on_unload(self, callback: Callable[[str, Any], object], name: str | None = ANY) -> None:
        """CALLBACK(name, module) after a reload has removed a module because its source is gone; those for a NAME before those for any."""
        self._on_unload.append((name, callback))

    # --- who ---

    def reload(self, changed: Iterable[Any] | None = None, policy: str | None = None) -> Reloaded:
        """Execute again what has changed (CHANGED: modules, names or paths; None: whatever has) and what depends on it. ReloadError: nothing was changed.

        POLICY "replace": new module objects; "in place": modules, functions and classes stay, and take new contents; None: the Reloader's own.

        Without CHANGED, everything that was saved before the call is live when it returns; concurrent calls share one reload that begins after the last of them.
        """
        policy = self.policy if policy is None else check_policy(policy)
        if GATE.held():
            raise ReloadError("reload() within pinned() would wait for itself; nothing was changed")
        if _one.thread == threading.get_ident():
            raise ReloadError("reload() within a reload, in a module body or a hook; nothing was changed")
        if changed is not None:
            if isinstance(changed, (str, bytes)):
                raise TypeError("changed is an iterable of names, modules or paths")
            return self._alone(list(changed), policy)
        while True:
            fresh = _Turn()
            try:
                with self._mutex:
                    turn = self._waiting.get(policy)
                    if turn is None:
                        turn = self._waiting[policy] = fresh
                    elif turn.thread == fresh.thread:  # a signal handler's, while this thread waits
                        raise ReloadError("reload() within a reload, in a signal handler; nothing was changed")
                    while turn is not fresh and not turn.done:
                        self._mutex.wait(1)  # an interrupt may have cut off the word that it is done
                if turn is fresh:
                    self._lead(fresh, policy)
            except BaseException as error:
                fresh.error = error
                raise
            finally:
                fresh.done = True
                if self._waiting.get(policy) is fresh:
                    del self._waiting[policy]
                with self._mutex:
                    self._mutex.notify_all()
            if turn is fresh or turn.error is None or isinstance(turn.error, Exception):
                break  # else it was the interrupt of the thread that led: somebody else must
        if isinstance(turn.error, ReloadError):
            raise turn.error.again()
        if turn.error is not None:
            raise turn.error
        assert turn.result is not None
        return turn.result

    def reload_for(self, owner: Any) -> Reloaded:
        """For who makes a Share of its own (_share.py): what has changed of the modules that it manages."""
        if GATE.held():
            raise ReloadError("reload() within pinned() would wait for itself; nothing was changed")
        if _one.thread == threading.get_ident():
            raise ReloadError("reload() within a reload, in a module body or a hook; nothing was changed")
        return self._alone(None, self.policy, owner)

    def _lead(self, turn: _Turn, policy: str) -> None:
        with _one.lock:
            _one.thread = turn.thread
            try:
                with self._mutex:
                    del self._waiting[policy]  # from here on it is too late to share it
                turn.result = self._run(None, policy)
            finally:
                _one.thread = 0

    def _alone(self, changed: list[Any] | None, policy: str, owner: Any = None) -> Reloaded:
        me = threading.get_ident()
        with _one.lock:
            _one.thread = me
            try:
                return self._run(changed, policy, owner)
            finally:
                _one.thread = 0

    # --- what ---

    def prepare(self) -> None:
        """What the first reload would have to do before it can tell what has changed."""
        if _one.thread == threading.get_ident():
            raise ReloadError("watch() within a reload, in a module body or a hook; nothing was changed")
        with _one.lock:
            _one.thread = threading.get_ident()
            try:
                with self._glancing():
                    self._look()
                    self._sources.complete_graph()
            finally:
                _one.thread = 0

    def plan_ahead(self) -> None:
        """Plan the next reload while its caller has to wait anyway. The plan is used if, until then, the kernel has told of nothing and nothing was imported."""
        with _one.lock:
            _one.thread = threading.get_ident()
            try:
                with self._glancing():
                    suspects, version = self._look(), self._sources.seen_all()
                    self._ahead = None
                    # What autoloaders have to say is said in the reload.
                    if version is not None and self.told_of_all() and not self._sources.share.has_autoloaders():
                        self._ahead = _Ahead(make_plan(self._sources, suspects, set()), suspects, version, time.monotonic())
            except BaseException:
                pass  # the reload will meet it, too, and say so
            finally:
                _one.thread = 0

    def _planned(self, suspects: set[str]) -> Plan:
        """For SUSPECTS, as _look() has just found them."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.suspects == suspects and ahead.version == self._sources.seen_all() and time.monotonic() - ahead.made < AHEAD:
            return ahead.plan
        return make_plan(self._sources, suspects, set())

    def note(self) -> bool | None:
        """Take in what the kernel has told. None: no module is concerned of which no reload of all knows; True: a reload may find something; False: not yet, a source
        is empty, or gone, that was not."""
        with _one.lock:
            self._news = False
            with self._glancing():
                suspects = self._look(hurry=True)
            if not self._untried:
                return None
            return not any(self._sources.being_written(name) for name in suspects)

    def writing(self) -> bool:
        """A source that is to be reloaded is empty, or gone."""
        with _one.lock:
            return any(self._sources.being_written(name) for name in self._pending)

    def fileno(self) -> int:
        """Readable when the kernel has told of something; -1: it tells nothing, or not of all."""
        return self._events.fileno() if self._events is not None and not self._blind else -1

    def told_of_all(self) -> bool:
        """No source needs to be looked at again and again."""
        return self.fileno() >= 0 and not self._sources.has_links()

    def _look(self, hurry: bool = False) -> set[str]:
        """Suspects among the modules; whoever is one stays one until a reload has succeeded. HURRY: only among those that we know, if one of these was told of."""
        sources = self._sources
        before = self._pending | sources.unsure
        if self._wants_watch and self._events is None:
            try:
                self._events = _live.Events()
            except OSError:
                self._wants_watch = False
            else:
                sources.arm = self._arm
                sources.rearm()
                self._everything = True
        if self._events is not None:
            try:
                told = sources.told(self._events.drain())
            except OSError:
                self._drop_events()
                return self._look()
            if told is None:
                sources.rearm()
                self._everything, self._ahead = True, None
            else:
                self._pending |= told
                told_news = bool(told) or (sources.new_files and (bool(self._pending) or sources.share.has_autoloaders()))
                if told_news:
                    self._news, self._ahead = True, None
        self._untried |= self._news or self._everything
        if any(map(os.path.exists, self._absent)):
            self._absent.clear()
            sources.rearm()
            self._everything, self._ahead = True, None
        if not (hurry and self._news and not self._everything):
            sources.meet()
        if self._everything or self._events is None or self._blind:
            self._pending |= sources.suspects()
            self._everything = False
        self._pending |= sources.unsure | sources.linked()
        self._untried |= not self._pending <= before
        return set(self._pending)

    _untried = False  # somebody was told of, or met and is a suspect, whom no reload of all has tried
    _news = False  # somebody was told of since note() began
    _blind = False  # a directory could not be armed

    def _arm(self, directory: str) -> bool:
        if self._events is None:
            return False
        armed = self._events.arm(directory)
        if not armed and not os.path.exists(directory):
            self._absent.add(directory)  # an entry of sys.path that leads nowhere, as on most systems
        elif not armed:
            self._blind = True
        return armed

    def _drop_events(self) -> None:
        events, self._events, self._ahead = self._events, None, None
        self._sources.arm = lambda directory: False
        if events is not None:
            events.close()
        self._everything = True

    def _forked(self, mine: bool) -> None:
        """In the child: the queue is shared with the parent."""
        self._drop_events()
        self._mutex = threading.Condition()
        self._waiting = {}
        if not mine:
            self._sources.share = _share.Share()

    def _run(self, changed: list[Any] | None, policy: str, owner: Any = None) -> Reloaded:
        tried = changed is None and owner is None
        try:
            for _ in range(OVERTAKEN):
                with contextlib.suppress(_share.Overtaken), outside():
                    return self._run_once(changed, policy, owner)
            with outside():
                return self._run_once(changed, policy, owner)
        except KeyboardInterrupt:
            tried = False
            raise
        finally:
            if tried:
                self._untried = False

    def _run_once(self, changed: list[Any] | None, policy: str, owner: Any) -> Reloaded:
        begun = time.perf_counter()
        sources = self._sources
        replaced: list[str] = []
        with self._shared(owner) as share:
            suspects = {name for name in self._look() if share.concerns(name)}
            forced: set[str] = set()
            if changed is not None:
                forced, suspects, self._ahead = sources.named(changed), set(), None
                plan = make_plan(sources, suspects, forced)
            else:
                plan = self._planned(suspects)
            executed, removed = self._transact(plan, policy, replaced)
        self._pending -= suspects | forced
        sources.shrink()
        plan.skipped.update((record.name, why_not(record)) for record in plan.touched if sources.looked_again(record))
        try:
            executed = self._catch_up(executed, removed, policy, replaced, owner)
        finally:
            for name, module in removed:
                self._unloaded(name, module)
        if policy == "in place" and executed:
            collect_young()
        return Reloaded(tuple(plan.changed), executed, tuple(plan.removed), plan.skipped, time.perf_counter() - begun, tuple(replaced))

    @contextlib.contextmanager
    def _glancing(self) -> Iterator[None]:
        """To look at what is there, without a transaction."""
        self._sources.share = _share.make(None)
        try:
            with outside():
                yield
        finally:
            self._sources.share = _share.Share()

    @contextlib.contextmanager
    def _shared(self, owner: Any) -> Iterator[_share.Share]:
        self._sources.share = _share.make(owner)
        try:
            with self._sources.share as share:
                yield share
        finally:
            self._sources.share = _share.Share()

    def _catch_up(self, executed: tuple[str, ...], removed: list[tuple[str, Any]], policy: str, replaced: list[str], owner: Any) -> tuple[str, ...]:
        """Execute again what other threads have imported meanwhile. -> all that was executed; REMOVED and REPLACED grow."""
        last = executed
        for _ in range(MEANWHILE):
            if not last or not self._sources.has_strangers():
                break
            try:
                with self._shared(owner) as share:
                    late = {name for name in self._sources.imported_meanwhile(last) if share.concerns(name)}
                    if not late:
                        break
                    last, gone = self._transact(make_plan(self._sources, late, set()), policy, replaced)
            except ReloadError as error:
                text = f"{error.text.replace('; nothing was changed', '')}; another thread has imported it meanwhile and it keeps the old; replaced were {', '.join(executed)}"
                raise ReloadError(text, name=error.name, path=error.path, line=error.line, chain=error.chain) from error.__cause__
            executed = (*executed, *(name for name in last if name not in executed))
            removed += gone
        return executed

    def _transact(self, plan: Plan, policy: str, replaced: list[str]) -> tuple[tuple[str, ...], list[tuple[str, Any]]]:
        share = self._sources.share
        if not plan:
            self._swap(share, (), [])
            share.committed(plan)
            return (), []
        share.settle([*plan.steps, *plan.removed])
        # What bodies have told a framework of are the new classes: these must stay.
        transaction = POLICIES["replace" if plan.adapters else policy](self._sources, plan)
        try:
            if plan.adapters:  # bodies write to registries that readers read
                self._let_out()
            versions = self._make(transaction, share)
        finally:
            GATE.open()
        transaction.commit()
        self._sources.swapped(*versions)
        share.committed(plan)
        replaced += transaction.replaced
        removed = [(name, transaction.old.get(name)) for name in plan.removed]
        return tuple(transaction.order), removed

    def _let_out(self) -> None:
        """Until GATE.open() nobody is inside pinned()."""
        if not GATE.close(self.patience, True):
            raise ReloadError(f"readers inside pinned() did not finish within {self.patience:g} s; nothing was changed")

    def _make(self, transaction: Transaction, share: _share.Share) -> tuple[bytes, bytes]:
        try:
            share.unloaded(transaction.plan)
            transaction.begin()
            transaction.execute()
            versions = self._step(transaction, share)
        finally:
            interrupt = None
            for _ in _ATTEMPTS:  # (no call before `try`: a signal's handler runs where a call begins or ends)
                if _transaction.active is not transaction:
                    break
                try:
                    transaction.end()
                except BaseException as error:
                    interrupt = error
            if not transaction.made:
                share.abandoned()
            if interrupt is not None:
                raise interrupt
        return versions

    def _step(self, transaction: Transaction, share: _share.Share) -> tuple[bytes, bytes]:
        """All changes at once, when no reader has a pin and no import of what goes is under way. -> the versions of sys.modules before and after."""
        if transaction.plan.adapters:  # readers are out already; an import under way may wait for one
            share.hurry(transaction.names(), self.patience)
        while True:
            share.settle(transaction.names())
            if not transaction.plan.adapters:
                self._let_out()
            changes = transaction.changes()  # as names are now: while we waited, other threads went on
            versions = self._swap(share, transaction.names(), changes)
            if versions is not None:
                return versions
            if not transaction.plan.adapters:
                GATE.open()

    @staticmethod
    def _swap(share: _share.Share, names: Iterable[str], changes: list[Any]) -> tuple[bytes, bytes] | None:
        """None: one of NAMES is being imported."""
        try:
            if not share.hold(names):
                return None
            changes = [*changes, *share.changes()]
            try:
                return _live.swap(changes, sys.modules)
            except TypeError as error:  # in place: bases that CPython does not let a class have, because of a subclass elsewhere
                raise ReloadError(f"{error}; nothing was changed") from error
        finally:
            try:
                share.release()
            except BaseException:  # an interrupt
                share.release()
                raise

    def _unloaded(self, name: str, module: Any) -> None:
        for wanted in (name, ANY):
            for key, callback in list(self._on_unload):
                if key != wanted:
                    continue
                try:
                    callback(name, module)
                except Exception:
                    sys.excepthook(*sys.exc_info())

    def close(self) -> None:
        """Give the watch back."""
        with contextlib.nullcontext() if _one.thread == threading.get_ident() else _one.lock:
            self._drop_events()
            self._wants_watch = False
        _reloaders.discard(self)


_reloaders: weakref.WeakSet[Reloader] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
