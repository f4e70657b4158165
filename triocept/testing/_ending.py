"""How the block of a rollout ends: what went wrong is raised once, and hides nothing.

What nobody has raised (a reply is left, a call was not answered) is an error of a body that has none; else a note.
Which error leaves, where there are several, is said in `_leaving`. In a process that was forked off nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, final

from .._canonical.request import Request
from .._failures import keeping, without
from .._rollout.rollout import Rollout, unanswered
from .._trace.trace import Trace, snapshot
from ..handlers.script.miss import described_request
from ._held import Held
from ._leaving import is_among, leave
from ._loop import Loop

__all__ = ["NO_CALL", "Life", "Script", "living"]

NO_CALL = (
    "no call came at all: was the client built before the model, or with a base_url of its own? It reads the "
    "environment when it is made; `model.client(dialect)` makes one that leads here"
)


class Script(Protocol):
    """A handler that is to be used up."""

    @property
    def unused(self) -> Sequence[str]:
        """The replies that are left, in words."""


@final
class Life:
    """What becomes of a rollout, as another thread than the loop's may know it.

    Args:
        rollout: the rollout, which is open.
        loop: in which it lives.
        script: what has to be used up; None: nothing.
    """

    def __init__(self, rollout: Rollout, loop: Loop, script: Script | None) -> None:
        self.closers: list[Callable[[], None]] = []
        """What is to be closed with it."""
        self.told: list[BaseException] = []
        """What was raised already."""
        self.rollout = rollout
        self._loop = loop
        self._script = script
        self._closed = False

    @property
    def trace(self) -> Trace:
        """A copy, which does not grow; all of it, once nothing is written to it any more."""
        return self.rollout.trace if self._closed else self._loop.ask(snapshot, self.rollout.trace)

    @property
    def calls(self) -> list[Request]:
        """What its agent has asked so far."""
        return self.rollout.calls if self._closed else self._loop.ask(lambda: self.rollout.calls)

    @property
    def errors(self) -> list[BaseException]:
        """What is wrong so far, and was not raised."""
        errors = [fault for fault in self.rollout.faults if not is_among(fault, self.told)]
        if not self.rollout.faults:
            errors += map(AssertionError, self.complaints())
        return errors

    def complaints(self) -> list[str]:
        """What nobody has raised, and is wrong all the same."""
        if self.told:
            return []
        return [*self._left(), *self._unanswered()]

    def close(self) -> None:
        """The rollout is closed."""
        self._closed = True
        for close in self.closers:
            close()

    def _left(self) -> Iterator[str]:
        if left := self._script.unused if self._script is not None else ():
            calls = len(self.calls)
            what = f"{len(left)} {'reply is' if len(left) == 1 else 'replies are'} left of the model's"
            hint = "" if calls or self.trace.services else f" ({NO_CALL})"
            yield "\n".join([f"{what}, after {calls} {'call' if calls == 1 else 'calls'}{hint}:", *left])

    def _unanswered(self) -> Iterator[str]:
        if waiting := self._loop.ask(unanswered, self.rollout):
            yield "\n".join(["nobody has answered these calls:", *map(described_request, waiting)])


@contextmanager
def living(held: Held[Rollout], loop: Loop, script: Script | None) -> Iterator[Life]:
    """Open a rollout, and end it with the block; errors as of `SyncEndpoint.open_rollout`."""
    __tracebackhide__ = True
    life: Life | None = None
    try:
        life = Life(held.open(), loop, script)
        yield life
    except BaseException as exc:
        if life is not None:
            leave(exc, _close(life, held, exc))
        raise
    else:
        leave(None, _close(life, held, None))
    finally:
        held.give_up()  # what a Ctrl-C has cut short; else nothing


def _close(life: Life, held: Held[Rollout], body: BaseException | None) -> list[BaseException]:
    """Close it; what is to be raised."""
    if held.is_forked:
        return []
    failed: list[BaseException] = []
    with keeping(failed):
        complaints = life.complaints() if not life.rollout.faults else []
    raised: list[BaseException] = []
    with keeping(raised):
        held.close(body)
    life.close()
    faults = [*life.rollout.faults, *_taken_apart(raised, life.rollout.faults), *failed]
    errors = [error for error in faults if not is_among(error, [*life.told, body])]
    if errors:
        return errors
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
