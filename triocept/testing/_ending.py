"""How the block of a rollout ends: what went wrong is raised once, and hides nothing.

Rules:

1. What nobody has raised (a reply is left, a call was not answered) is an error of a body that has none; else a note.
   Which error leaves, where there are several, is said in `_leaving`.
2. A handler that has answered may still fail: it has a moment to do so (`AT_WORK`), before it is cancelled.
3. In a process that was forked off nothing is done.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Protocol, final

from .._canonical.request import Request
from .._rollout.rollout import Rollout, rested, unanswered, wait_rested
from .._trace.trace import Trace, snapshot
from .._util.failures import keeping, without
from ..handlers.script.source import described_request
from ._environment import Target
from ._held import Held
from ._leaving import explain, is_among, is_mistake, leave
from ._loop import Loop

log = logging.getLogger("triocept.testing")

AT_WORK = 1.0
"""Seconds for handlers that have answered when the body has ended: whoever answers first and checks then takes less."""


class Script(Protocol):
    """A handler that is to be used up."""

    @property
    def unused(self) -> Sequence[str]:
        """The replies that are left, in words."""


@final
class Life:
    """What becomes of a rollout, as another thread than the loop's may know it.

    Args:
        loop: in which it lives.
        script: what has to be used up; None: nothing.
    """

    rollout: Rollout
    """The rollout, once it is open."""
    target: Target
    """What the environment may lead to."""

    def __init__(self, loop: Loop, script: Script | None) -> None:
        self.closers: list[Callable[[], None]] = []
        """What is to be closed with it."""
        self.told: list[BaseException] = []
        """What was raised already."""
        self._loop = loop
        self._script = script
        self._closed = False
        self._unused: Sequence[str] = ()
        """Replies that are left, at the last look."""
        self._waiting: list[Request] = []
        """Calls that nobody answers, likewise."""

    @property
    def trace(self) -> Trace:
        """A copy, which does not grow; all of it, once nothing is written to it any more."""
        return self.rollout.trace if self._closed else self._loop.ask(snapshot, self.rollout.trace)

    @property
    def calls(self) -> list[Request]:
        """What its agent has asked so far."""
        return self.rollout.calls if self._closed else self._loop.ask(lambda: self.rollout.calls)

    @property
    def faults(self) -> tuple[BaseException, ...]:
        """What its handler raised, and the like."""
        faults = self.rollout.faults
        for fault in faults:
            explain(fault)
        return faults

    def news(self) -> list[BaseException]:
        """What is wrong so far, and was not told before. Handlers that have answered have a moment to end."""
        if not self._closed:
            if not self._loop.ask(self._looked):
                self._loop.call(self._look, AT_WORK)
            self._loop.warn()
        errors = [fault for fault in self.faults if not is_among(fault, self.told)]
        if not self.faults:
            errors += map(AssertionError, self.complaints())
        self.told += errors
        return errors

    def complaints(self) -> list[str]:
        """What nobody has raised, and is wrong all the same."""
        if self.told:
            return []
        return [*self._left(), *self._unanswered()]

    @asynccontextmanager
    async def opened(self, context: AbstractAsyncContextManager[Rollout]) -> AsyncIterator[Rollout]:
        """The rollout, in the loop; before it is closed, there is a look at what is wrong."""
        async with context as rollout:
            self.rollout = rollout
            try:
                yield rollout
            except BaseException as exc:
                await self._look(AT_WORK if isinstance(exc, Exception) else 0)
                raise
            await self._look(AT_WORK)

    def _looked(self) -> bool:
        """Whether a look needs no wait."""
        is_rested = rested(self.rollout)
        if is_rested:
            self._note()
        return is_rested

    async def _look(self, seconds: float) -> None:
        if left := await wait_rested(self.rollout, seconds):
            handlers = "a handler was" if left == 1 else f"{left} handlers were"
            log.warning("%s still at work on what was answered, and gets no more time", handlers)
        self._note()

    def _note(self) -> None:
        """Keep what is wrong, and nobody has raised."""
        self._unused = self._script.unused if self._script is not None else ()
        self._waiting = unanswered(self.rollout)

    def close(self) -> None:
        """The rollout is closed."""
        self._closed = True
        self.target.close()
        for close in self.closers:
            close()

    def _left(self) -> Iterator[str]:
        if left := self._unused:
            calls = len(self.calls)
            what = f"{len(left)} {'reply is' if len(left) == 1 else 'replies are'} left of {self._whose}"
            hint = "" if calls or self.trace.services else f" ({self.target.why_no_call()})"
            yield "\n".join([f"{what}, after {calls} {'call' if calls == 1 else 'calls'}{hint}:", *left])

    def _unanswered(self) -> Iterator[str]:
        if self._waiting:
            of = f" of {self._whose}" if self.target.is_one_of_several else ""
            yield "\n".join([f"nobody has answered these calls{of}:", *map(described_request, self._waiting)])

    @property
    def _whose(self) -> str:
        return f"{self.target.name if self.target.is_one_of_several else 'the model'}'s"


@contextmanager
def living(
    context: AbstractAsyncContextManager[Rollout], loop: Loop, script: Script | None
) -> Iterator[Life]:
    """Open a rollout, and end it with the block; errors as of `SyncEndpoint.open_rollout`."""
    __tracebackhide__ = True
    life = Life(loop, script)
    held = Held(loop, life.opened(context))
    opened = False
    try:
        rollout = held.open()
        life.target = Target(f"rollout {rollout.id}", rollout)
        opened = True
        yield life
    except BaseException as exc:
        if opened:
            leave(exc, _close(life, loop, held, exc))
        raise
    else:
        leave(None, _close(life, loop, held, None))
    finally:
        held.give_up()  # what a Ctrl-C has cut short; else nothing


def _close(life: Life, loop: Loop, held: Held[Rollout], body: BaseException | None) -> list[BaseException]:
    """Close it; what is to be raised."""
    if held.is_forked:
        return []
    raised: list[BaseException] = []
    with keeping(raised):
        held.close(body)
    with keeping(raised):
        loop.warn()
    life.close()
    known = life.faults
    faults = [*known, *_taken_apart(raised, known)]
    errors = [error for error in faults if not is_among(error, [*life.told, body])]
    if errors:
        return errors
    complaints = [] if known or is_mistake(body) else life.complaints()
    if body is None:
        return [AssertionError(complaint) for complaint in complaints]
    for complaint in complaints:
        body.add_note(f"triocept: {complaint}")
    return []


def _taken_apart(errors: Iterable[BaseException], faults: Sequence[BaseException]) -> Iterator[BaseException]:
    """Without the group that a rollout's end makes of several, and what is in a group that a handler raised: a nursery
    makes that anew on its way."""
    for error in errors:
        others = list(error.exceptions) if isinstance(error, BaseExceptionGroup) else [error]
        for fault in faults:
            if isinstance(fault, BaseExceptionGroup):
                others = without(fault, others)
        yield from others
