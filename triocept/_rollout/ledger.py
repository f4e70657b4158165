"""What a rollout writes down: its trace, and its recorder.

Rules:

1. One at a time, in the order in which things happened: the recorder first, then the trace.
2. A recorder that fails turns an answer into a failure: what is not recorded is not given.
3. Sealed once, and nothing is written afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from .._trace.recorder import Recorder, ServiceRecorder
from .._trace.service import ServiceCall
from .._trace.trace import Trace
from .._trace.turn import Turn, TurnError

__all__ = ["Ledger"]


class Ledger:
    """The record of one rollout."""

    def __init__(self, trace: Trace, recorder: Recorder | None) -> None:
        self._trace = trace
        self.recorder = recorder
        self._lock = trio.Lock()

    async def record(self, make_turn: Callable[[int], Turn]) -> Turn:
        """Record a turn. Shielded.

        Args:
            make_turn: makes it, of its number.

        Raises:
            Exception: what the recorder raised; the trace has the turn as a failed one.
        """
        if self.recorder is None:
            turn = make_turn(len(self._trace))
            self._trace._append(turn)
            return turn
        with trio.CancelScope(shield=True):
            async with self._lock:
                turn = make_turn(len(self._trace))
                await self._write(turn, self.recorder)
                self._trace._append(turn)
        return turn

    async def _write(self, turn: Turn, recorder: Recorder) -> None:
        try:
            await recorder.record(turn)
        except BaseException as exc:
            error = TurnError(type=type(exc).__name__, message=f"not recorded: {exc}", status=500)
            self._trace._append(msgspec.structs.replace(turn, outcome="failed", error=error))
            raise

    async def record_service(self, make_call: Callable[[int], ServiceCall]) -> None:
        """Record a service call. Shielded."""
        recorder: object = self.recorder
        with trio.CancelScope(shield=True):
            async with self._lock:
                call = make_call(len(self._trace.services))
                if isinstance(recorder, ServiceRecorder):
                    await recorder.record_service(call)
                self._trace._append_service(call)

    async def seal(self) -> None:
        """The end; the second time it does nothing (a child may be closed by its parent, too)."""
        async with self._lock:
            first = not self._trace.sealed
            self._trace._seal()
        if first and self.recorder is not None:
            await self.recorder.seal(self._trace)
