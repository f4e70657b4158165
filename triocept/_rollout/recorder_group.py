"""A recorder that passes every record to several recorders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from .._trace.entries import Entry
from .._trace.recorder import EntryRecorder, OpenedRecorder, Recorder, ServiceRecorder, check_recorder
from .._trace.trace import Trace
from .._trace.turn import ServiceCall, Turn
from .._util.checks import described
from .._util.contexts import call_user, protected_methods
from .._util.failures import run_each


@protected_methods
class RecorderGroup:
    """Several recorders that act as one recorder: each turn is passed to every recorder, in the order of the list.

    If one recorder fails, the recorders after it in the list do not receive the turn. All recorders are sealed and
    closed, even if some fail; several errors are raised as a group.
    """

    def __init__(self, recorders: Iterable[Recorder]) -> None:
        given: object = recorders
        if not isinstance(given, Iterable):
            raise TypeError(f"RecorderGroup takes a list of recorders, not {described(given)}")
        self._recorders = tuple(recorders)
        for recorder in self._recorders:
            check_recorder(recorder)

    async def aopen(self) -> None:
        for recorder in self._recorders:
            if isinstance(recorder, OpenedRecorder):
                await call_user(recorder.aopen)

    async def record(self, turn: Turn) -> None:
        for recorder in self._recorders:
            await call_user(recorder.record, turn)

    async def record_service(self, call: ServiceCall) -> None:
        for recorder in self._recorders:
            if isinstance(recorder, ServiceRecorder):
                await call_user(recorder.record_service, call)

    async def record_entry(self, entry: Entry) -> None:
        for recorder in self._recorders:
            if isinstance(recorder, EntryRecorder):
                await call_user(recorder.record_entry, entry)

    async def seal(self, trace: Trace) -> None:
        await _ask_each([partial(call_user, recorder.seal, trace) for recorder in self._recorders])

    async def aclose(self) -> None:
        await _ask_each([partial(call_user, recorder.aclose) for recorder in self._recorders])


async def _ask_each(steps: Iterable[Callable[[], Awaitable[None]]]) -> None:
    errors = await run_each(*steps)
    if len(errors) > 1:
        raise BaseExceptionGroup("several recorders of a RecorderGroup failed", errors)
    if errors:
        raise errors[0]
