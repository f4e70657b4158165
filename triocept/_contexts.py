"""Contexts that no Ctrl-C cuts in two.

trio raises `KeyboardInterrupt` wherever the program is at that moment, unless that code is protected. A context that
has started something, and is interrupted before it can end it, waits for it for ever. Protected, it gets the interrupt
at one of its checkpoints, as it gets a cancellation. Its body is not: that is the user's. Nor is what they gave us to
call (a handler, a recorder, a tool): protection reaches down the stack, so each such call goes through `theirs`.
Only a context that a pool is given to open endpoints with stays protected: half entered, nobody could leave it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import Generic, ParamSpec, TypeVar

from trio.lowlevel import disable_ki_protection, enable_ki_protection

__all__ = ["protected_context", "theirs"]

P = ParamSpec("P")
T = TypeVar("T")


def protected_context(
    function: Callable[P, AsyncIterator[T]],
) -> Callable[P, AbstractAsyncContextManager[T, bool | None]]:
    """`contextlib.asynccontextmanager`, of a function whose own code no Ctrl-C lands in."""
    make = asynccontextmanager(function)

    @wraps(function)
    def open_context(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T, bool | None]:
        return _Protected(make(*args, **kwargs))

    return open_context


class _Protected(AbstractAsyncContextManager[T, "bool | None"], Generic[T]):
    """A context whose entry and exit are protected from their first instruction on: those of contextlib are not."""

    def __init__(self, context: AbstractAsyncContextManager[T, bool | None]) -> None:
        self._context = context

    @enable_ki_protection
    async def __aenter__(self) -> T:
        return await self._context.__aenter__()

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._context.__aexit__(kind, value, traceback)


@disable_ki_protection
async def theirs(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the user's own code, and await it: a Ctrl-C ends that wherever it is."""
    return await function(*args, **kwargs)
