# SPDX-License-Identifier: MIT
"""``pinned()``: one generation throughout, for a thread or a task. The lock and the waiting are in _live (pins.c)."""
from __future__ import annotations

import contextvars
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from ladewerk import _live

T = TypeVar("T")

GATE = _live.Gate()
os.register_at_fork(after_in_child=GATE.forked)


class Pin(_live.Pin):
    """``with`` it, or ``async with`` it; once."""

    async def __aenter__(self) -> Pin:
        if not self.try_enter():
            import asyncio
            pause = 0.001
            while not self.try_enter():  # a swap is waiting for others
                await asyncio.sleep(pause)
                pause = min(2 * pause, 0.02)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.__exit__(*error)


class _Response:
    """What a WSGI application returned, with the pin held until it is closed or read to its end."""

    def __init__(self, parts: Iterable[bytes], pin: Pin) -> None:
        self._parts, self._pin, self._done = parts, pin, False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._parts
        finally:
            self._leave()

    def _leave(self) -> None:
        if not self._done:
            self._done = True
            self._pin.__exit__(None, None, None)

    def close(self) -> None:
        try:
            close = getattr(self._parts, "close", None)
            if close:
                close()
        finally:
            self._leave()


class Pinned:
    """What ``ladewerk.pinned`` is."""

    def __call__(self) -> Pin:
        """A context manager, sync and async: inside it, this thread or task sees one generation. It waits while a swap is under way, never within another."""
        return Pin(GATE)

    def wsgi(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """APPLICATION, each request pinned until its response is closed or read."""
        def pinned_application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            pin = Pin(GATE)
            pin.__enter__()
            try:
                return _Response(application(environ, start_response), pin)
            except BaseException:
                pin.__exit__(None, None, None)
                raise
        return pinned_application

    def asgi(self, application: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """APPLICATION, each HTTP request pinned; what lasts (lifespan, websocket) is not."""
        async def pinned_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
            if scope.get("type") != "http":
                await application(scope, receive, send)
                return
            async with Pin(GATE):
                await application(scope, receive, send)
        return pinned_application

    def submit(self, executor: Executor, function: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        """executor.submit(), pinned: to the caller's generation if he is pinned, which then lasts until FUNCTION is done, else to that of its start."""
        if not GATE.held():
            return executor.submit(_run_pinned, function, args, kwargs)
        context = contextvars.copy_context()
        pin = Pin(GATE)
        context.run(pin.__enter__)
        try:
            future = executor.submit(context.run, function, *args, **kwargs)
        except BaseException:
            pin.__exit__(None, None, None)
            raise
        future.add_done_callback(lambda done: pin.__exit__(None, None, None))
        return future


def _run_pinned(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    with Pin(GATE):
        return function(*args, **kwargs)


pinned = Pinned()
__all__ = ["GATE", "Pin", "Pinned", "pinned"]
