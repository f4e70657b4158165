"""End a sync rollout's `with` block: raise each error exactly once, so that no error hides another error.

Rules:

1. A problem without an exception (an unused reply, an unanswered call) is raised as an AssertionError. If the body has
   raised an exception, the problem becomes a note of that exception. `_leaving` chooses among several errors.
2. A call counts as unanswered only if the rollout has no handler. If there is a handler, this handler may still run
   when the test ends, because the application has stopped waiting for the answer, or sends calls in the background.
   An unanswered call is then not an error of the test.
3. A handler may fail after it has answered. So at the end of the block, a running handler gets `AT_WORK` seconds to
   finish before it is cancelled.
4. If the process is forked within the block, the end of the block does nothing in the forked process.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Protocol, final

from .._canonical.request import Request
from .._rollout.mistakes import not_used
from .._rollout.rollout import Rollout, core_of_rollout, rested, unanswered, wait_rested
from .._trace.trace import Trace, snapshot
from .._util.failures import without
from ..handlers.script.source import described_request
from ._environment import Target
from ._held import Held
from ._leaving import chain, explain, is_among, is_mistake, leave
from ._loop import Loop

log = logging.getLogger("triocept.testing")

AT_WORK = 1.0
"""Maximum seconds that a handler may still run when the block's body has ended. This is enough time for assertions
about the request that the handler has answered.
"""


class Script(Protocol):
    """A handler with replies that must all be used before the block ends."""

    @property
    def unused(self) -> Sequence[str]:
        """Descriptions of the unused replies."""


@final
class Life:
    """State of a sync rollout, which any thread can read.

    All replies of `script` must be used before the block ends. None means that replies may stay unused.
    """

    rollout: Rollout
    """The rollout. Set when the rollout is open."""
    target: Target
    """The `Target` of the rollout, to which environment variables can point."""

    def __init__(self, loop: Loop, script: Script | None) -> None:
        self.closers: list[Callable[[], None]] = []
        """Functions that are called when the rollout closes."""
        self.raised: list[BaseException] = []
        """Errors that `news` has already returned, and that are not reported again."""
        self.known: tuple[BaseException, ...] = ()
        """The rollout's faults (such as exceptions of the handler) at the time of the last call of `left`."""
        self._loop = loop
        self._script = script
        self._closed = False
        self._unused: Sequence[str] = ()
        """Descriptions of the replies that were unused at the last check."""
        self._waiting: list[Request] = []
        """Requests of the calls that were unanswered at the last check."""

    @property
    def trace(self) -> Trace:
        """A copy of the trace so far, which does not change later.

        After the rollout has closed: the complete trace itself.
        """
        return self.rollout.trace if self._closed else self._loop.ask(snapshot, self.rollout.trace)

    @property
    def calls(self) -> list[Request]:
        return self.rollout.calls if self._closed else self._loop.ask(lambda: self.rollout.calls)

    @property
    def faults(self) -> tuple[BaseException, ...]:
        faults = self.rollout.faults
        for fault in faults:
            explain(fault)
        return faults

    def news(self) -> list[BaseException]:
        """Wait at most `AT_WORK` seconds for running handlers. Return the problems that no earlier call returned."""
        if not self._closed:
            if not self._loop.ask(self._note_if_at_rest):
                self._loop.call(self._look, AT_WORK)
            self._loop.warn()
        errors = [fault for fault in self.faults if not is_among(fault, self.raised)]
        if not self.faults:
            errors += map(AssertionError, self.complaints())
        self.raised += errors
        return errors

    def left(
        self, raised: Iterable[BaseException], told: Iterable[BaseException | None]
    ) -> list[BaseException]:
        """Return the errors to report at the end of the block: faults, and errors `raised` while the rollout closed.

        Leave out the errors in `told`, and errors that `news` has already returned.
        """
        self.known, told = self.faults, [*self.raised, *told]
        errors = [*self.known, *_taken_apart(raised, self.known)]
        return [error for error in errors if not is_among(error, told)]

    def log_rest(self) -> None:
        """Log the faults of the rollout that occurred after its block had stopped waiting for the rollout's end."""
        for fault in self.faults:
            if not is_among(fault, [*self.known, *self.raised]):
                log.error("a handler failed after the block of its rollout had ended", exc_info=fault)

    def complained(self, body: BaseException | None) -> list[BaseException]:
        """Return the texts of `complaints` as AssertionErrors.

        If the body raised an exception (`body`), add the texts to it as notes, and return an empty list.
        """
        complaints = self.complaints()
        if body is None:
            return [AssertionError(complaint) for complaint in complaints]
        for complaint in complaints:
            body.add_note(f"triocept: {complaint}")
        return []

    def complaints(self) -> list[str]:
        """Return texts about the problems for which there is no exception: unused replies and unanswered calls."""
        if self.raised:
            return []
        found: list[str] = []
        of = f" of {self.target.name}" if self.target.is_one_of_several else ""
        if left := self._unused:
            calls = len(self.calls)
            came = f"{calls} {'call' if calls == 1 else 'calls'} came" if calls else self.target.why_no_call()
            found += ["\n".join([f"{not_used(self._script, len(left), of)} ({came}):", *left])]
        if waiting := self._waiting:
            found += ["\n".join([f"these calls{of} were not answered:", *map(described_request, waiting)])]
        return found

    @asynccontextmanager
    async def opened(self, context: AbstractAsyncContextManager[Rollout]) -> AsyncIterator[Rollout]:
        """Keep the rollout open in the endpoint's loop while the body runs.

        Before the rollout closes, record its problems.
        """
        async with context as rollout:
            self.rollout = rollout
            core_of_rollout(
                rollout
            ).logs_unused_replies = False  # they are errors here, unless they may be left
            try:
                yield rollout
            except BaseException as exc:
                await self._look(AT_WORK if isinstance(exc, Exception) else 0)
                raise
            await self._look(AT_WORK)

    def _note_if_at_rest(self) -> bool:
        is_rested = rested(self.rollout)
        if is_rested:
            self._note()
        return is_rested

    async def _look(self, seconds: float) -> None:
        if left := await wait_rested(self.rollout, seconds):
            handlers = "a handler was" if left == 1 else f"{left} handlers were"
            log.warning("%s still running after the answer; the test does not wait any longer", handlers)
        self._note()

    def _note(self) -> None:
        self._unused = self._script.unused if self._script is not None else ()
        self._waiting = unanswered(self.rollout)

    def close(self) -> None:
        self._closed = True
        self.target.close()
        for close in self.closers:
            close()


@contextmanager
def living(
    context: AbstractAsyncContextManager[Rollout], loop: Loop, script: Script | None
) -> Iterator[Life]:
    """Keep a rollout open while the block runs, and yield its state.

    Raise the same errors as `SyncEndpoint.open_rollout`.
    """
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
            _end(life, loop, held, exc)
        raise
    else:
        _end(life, loop, held, None)
    finally:
        held.give_up()  # does nothing unless a Ctrl-C interrupted the end
        if opened:
            held.when_ended(life.log_rest)


def _end(life: Life, loop: Loop, held: Held[Rollout], body: BaseException | None) -> None:
    """Close the rollout. Raise the error that the `with` block must raise; but if this error is `body`, return.

    `body` is the exception that the block's own code raised. A Ctrl-C during this function cancels the rollout. The
    Ctrl-C is then treated like an exception of the block's code.
    """
    __tracebackhide__ = True
    if held.is_forked:
        return
    raised: list[BaseException] = []
    try:
        try:
            for step in (partial(held.end, body), loop.warn):
                try:
                    step()
                except (RuntimeError, RuntimeWarning, TimeoutError) as exc:  # see `Loop.wait` and `Loop.warn`
                    raised.append(exc)
        finally:
            held.give_up()  # does nothing if the rollout has closed
            life.close()
        errors = life.left([*raised, *held.failures], [body])
        if not errors and not life.known and not is_mistake(body):
            errors = life.complained(body)
        leave(body, errors)
    except BaseException as exc:  # the chosen error, or a Ctrl-C
        leave(exc, life.left([*raised, *held.failures], chain(exc)))
        raise


def _taken_apart(errors: Iterable[BaseException], faults: Sequence[BaseException]) -> Iterator[BaseException]:
    """Flatten the exception groups in `errors`, which the end of a rollout raised; yield single exceptions.

    If a handler raised a group, `faults` contains this group; do not yield the members of such a group.
    """
    for error in errors:
        others = list(error.exceptions) if isinstance(error, BaseExceptionGroup) else [error]
        for fault in faults:
            if isinstance(fault, BaseExceptionGroup):
                others = without(fault, others)
        yield from others
