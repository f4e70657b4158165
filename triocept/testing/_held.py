"""Keep an async context open in the endpoint's trio loop while a `with` block in another thread runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Generic, TypeVar, final

import trio

from .._util.failures import split_cancelled
from ._job import Job
from ._loop import Loop, over

T = TypeVar("T")


@final
class Held(Generic[T]):
    """An async context that stays open in its own trio task.

    `open` enters the context; `close` exits it with the block's error.
    """

    def __init__(self, loop: Loop, context: AbstractAsyncContextManager[T, Any]) -> None:
        self._loop = loop
        self._context = context
        self._opened: Job[T] = Job()
        self._closed: Job[bool] = Job()
        self._leave = trio.Event()
        self._error: BaseException | None = None
        self.failures: list[BaseException] = []
        """The exception that the context raised when it was exited, without cancellations. Empty if it raised none."""

    @property
    def is_forked(self) -> bool:
        """True if this process is a fork of the process that opened the context. If True, `close` does nothing."""
        return self._loop.is_forked

    def open(self) -> T:
        """Enter the context and return its value.

        Raise the exceptions of the context, and the errors of `Loop.call`.
        """
        try:
            self._closed.when_done(lambda: self._opened.fail(over()))
            self._loop.submit(self._closed, self._run)
            self._loop.wait(self._opened)
            return self._opened.take()
        except BaseException:
            self.give_up()
            raise

    def give_up(self) -> None:
        """Cancel the task of the context, even if the context is still being opened."""
        self._loop.give_up(self._closed)

    def close(self, error: BaseException | None) -> bool:
        """Exit the context with the block's `error`. Return True if the context has suppressed `error`.

        If the context raises any other exception than `error`, raise this exception.
        """
        self.end(error)
        return not self.is_forked and self._closed.take()

    def end(self, error: BaseException | None) -> None:
        """Exit the context with the block's `error`, and wait until the context has ended.

        Raise only errors of `Loop.wait`.
        """
        if self.is_forked:
            return
        self._error = error
        trace = error.__traceback__ if error is not None else None
        try:
            self._loop.soon(self._leave.set)
            self._loop.wait(self._closed)
        finally:
            if error is not None:
                error.__traceback__ = trace  # cut the frames of the loop

    def when_ended(self, callback: Callable[[], None]) -> None:
        self._closed.when_done(callback)

    async def _run(self) -> bool:
        try:
            async with self._context as value:
                self._opened.succeed(value)
                await self._leave.wait()
                if self._error is not None:
                    raise self._error
        except BaseException as exc:
            if exc is self._error:
                return False
            _, failure = split_cancelled(exc)
            if failure is not None:
                self.failures.append(failure)
                self._opened.fail(failure)
            raise
        return self._error is not None


@contextmanager
def holding(loop: Loop, context: AbstractAsyncContextManager[T, Any]) -> Iterator[T]:
    """Keep `context` open in the trio loop while the block runs.

    Raise the same errors as `Held.open` and `Held.close`.
    """
    held = Held(loop, context)
    opened = False
    try:
        value = held.open()
        opened = True
        yield value
    except BaseException as exc:
        if not (opened and held.close(exc)):
            raise
    else:
        held.close(None)
    finally:
        held.give_up()  # does nothing unless a Ctrl-C interrupted the close
