"""Where turns go, beside the trace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from .service import ServiceCall
from .trace import Trace
from .turn import Turn

__all__ = ["Recorder", "RecorderGroup", "ServiceRecorder"]


class Recorder(Protocol):
    """Gets every turn before the agent can see the end of its answer.

    All three are awaited in a shielded scope, so that a turn is never half recorded: a recorder that waits for
    something must bound that wait itself. What `record` raises fails the exchange: the agent gets a 500, and the
    exception reaches whoever answers it.
    """

    async def record(self, turn: Turn) -> None:
        """Keep `turn`."""

    async def seal(self, trace: Trace) -> None:
        """The rollout of `trace` has ended: no turn of it will follow."""

    async def aclose(self) -> None:
        """The endpoint has stopped. A recorder that is used again afterwards opens itself again."""


@runtime_checkable
class ServiceRecorder(Protocol):
    """A recorder that wants the calls of host services too. One without this method gets turns alone."""

    async def record_service(self, call: ServiceCall) -> None:
        """Keep `call`, as `Recorder.record` keeps a turn: before the caller sees its result, and shielded."""


class RecorderGroup:
    """Several recorders as one: each gets every turn, in order. What one raises keeps the turn from the next ones."""

    def __init__(self, recorders: Iterable[Recorder]) -> None:
        self._recorders = tuple(recorders)

    async def record(self, turn: Turn) -> None:
        for recorder in self._recorders:
            await recorder.record(turn)

    async def record_service(self, call: ServiceCall) -> None:
        for recorder in self._recorders:
            if isinstance(recorder, ServiceRecorder):
                await recorder.record_service(call)

    async def seal(self, trace: Trace) -> None:
        for recorder in self._recorders:
            await recorder.seal(trace)

    async def aclose(self) -> None:
        for recorder in self._recorders:
            await recorder.aclose()
