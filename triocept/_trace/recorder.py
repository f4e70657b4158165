"""Where turns go, beside the trace."""

from __future__ import annotations

import os
from typing import Protocol, runtime_checkable

from .._util.checks import described, is_not_async
from .entries import Entry
from .service import ServiceCall
from .trace import Trace
from .turn import Turn


class Recorder(Protocol):
    """Gets every turn before the agent can see the end of its answer.

    All three are awaited in a shielded scope, so that a turn is never half recorded: a recorder that waits for
    something must bound that wait itself. What `record` raises fails the exchange: the agent gets a 500, and the
    exception reaches whoever answers it. What it goes on to raise, and `seal` after it, is told only if it differs.
    """

    async def record(self, turn: Turn) -> None:
        """Keep `turn`."""

    async def seal(self, trace: Trace) -> None:
        """The rollout of `trace` has ended: no turn of it will follow, and nothing else but a score."""

    async def aclose(self) -> None:
        """The endpoint has stopped. A recorder that is used again afterwards opens itself again."""


@runtime_checkable
class ServiceRecorder(Protocol):
    """A recorder that wants the calls of host services too. One without this method gets turns alone."""

    async def record_service(self, call: ServiceCall) -> None:
        """Keep `call`, as `Recorder.record` keeps a turn: before the caller sees its result, and shielded."""


@runtime_checkable
class EntryRecorder(Protocol):
    """A recorder that wants to know how a rollout began, its agents, its calls before they are handed over, and its
    scores. One without this method gets turns alone."""

    async def record_entry(self, entry: Entry) -> None:
        """Keep `entry`, as `Recorder.record` keeps a turn, and shielded.

        An `Opening` comes first, when the rollout opens; what fails there opens none. An `Intent` comes before its call
        is handed over: what fails there fails the call, which gets a 500. A `Score` may come after `seal`.
        """


@runtime_checkable
class OpenedRecorder(Protocol):
    """A recorder that has to be opened: one that cannot be is found before there is an agent."""

    async def aopen(self) -> None:
        """An endpoint starts, or a rollout: their bodies begin when this has returned, and what it raises they raise.

        Called once for each of them, and so again for a recorder that is open. Cancellation is theirs to use.
        """


def check_recorder(recorder: object) -> None:
    """See whether `recorder` is one.

    Raises:
        TypeError: it is none; the text says what is wrong with it.
    """
    if (problem := _problem(recorder)) is not None:
        raise TypeError(f"recorder is a Recorder, such as JSONLRecorder(path): {problem}")


def _problem(recorder: object) -> str | None:
    if isinstance(recorder, (str, os.PathLike)):
        return f"it is not {described(recorder)}; JSONLRecorder({os.fspath(recorder)!r}) writes that file"
    if isinstance(recorder, type):
        return f"{recorder.__name__} is a class: give an object of it"
    kind = type(recorder).__name__
    for name in ("record", "seal", "aclose"):
        method = getattr(recorder, name, None)
        if not callable(method):
            return f"{kind} has no `{name}`"
        if is_not_async(method):
            return f"`{name}` of {kind} is not async"
    return None
