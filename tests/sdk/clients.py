"""The SDKs' sync clients, spelled as their async ones: a scenario is written once, and holds of both.

`await`, `async for` and `async with` on what a sync client gives run its `__call__`, `__next__` and `__enter__` in a
thread: in trio's own thread they would block the endpoint that they wait for.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from triocept import Rollout


@asynccontextmanager
async def open_client(rollout: Rollout, dialect: str, kind: str, **options: Any) -> AsyncIterator[Any]:
    """The official client of `dialect`: `kind` is `async`, under trio, or `sync`, in a thread."""
    client = rollout.client(dialect, sync=kind == "sync", **options)
    async with client if kind == "async" else _InThread(client) as ready:
        yield ready


class _InThread:
    """Something of a sync client, as its async counterpart looks."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        return _wrapped(value) if not inspect.isroutine(value) else partial(_Call, value)

    def __aiter__(self) -> _InThread:
        return _InThread(iter(self._thing))

    async def __anext__(self) -> Any:
        item = await trio.to_thread.run_sync(next, self._thing, _END)
        if item is _END:
            raise StopAsyncIteration
        return item

    async def __aenter__(self) -> Any:
        return _wrapped(await trio.to_thread.run_sync(self._thing.__enter__))

    async def __aexit__(self, *exc: Any) -> None:
        await trio.to_thread.run_sync(self._thing.__exit__, *exc)


class _Call:
    """A call of a sync client that has not been made: it is awaited, entered or iterated, as the async one is."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._call = partial(function, *args, **kwargs)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._made().__await__()

    async def _made(self) -> Any:
        return _wrapped(await trio.to_thread.run_sync(self._call))

    async def __aenter__(self) -> Any:
        self._entered = _InThread(await trio.to_thread.run_sync(self._call))
        return await self._entered.__aenter__()

    async def __aexit__(self, *exc: Any) -> None:
        await self._entered.__aexit__(*exc)

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for item in _InThread(await trio.to_thread.run_sync(self._call)):
            yield item


_END: Any = object()


def _wrapped(value: Any) -> Any:
    """A stream, a manager or a resource in its async clothes; a value as it is."""
    of_sdk = type(value).__module__.split(".")[0] in ("openai", "anthropic")
    document = hasattr(value, "model_dump") or type(value).__name__ == "LegacyAPIResponse"  # read already
    return _InThread(value) if inspect.isgenerator(value) or (of_sdk and not document) else value
