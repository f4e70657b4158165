"""The writer that adds a rollout's records to its trace, and passes them to its recorder.

Rules:

1. Entries are written one at a time, in the order of the events, each to the recorder first and then to the trace.
2. If a recorder fails to record a turn, the agent gets an error, because an answer is sent only after it was recorded.
3. An error of the recorder is reported once. If the recorder raises an equal error again, for the next turn or when it
   is sealed, the first exception object is raised again, so that code which collects errors (`raise_all`) recognises
   the duplicate.
4. A trace is sealed once, and no record is written after the seal.
5. While a recorder records an entry, it cannot add another entry, because it would wait for itself.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, cast

import msgspec
import trio

from .._trace.directory import DirectoryRecorder
from .._trace.entries import Entry, Opening
from .._trace.jsonl import JSONLRecorder
from .._trace.recorder import EntryRecorder, OpenedRecorder, Recorder, ServiceRecorder, check_recorder
from .._trace.redaction import Redaction, Redactor
from .._trace.rollout_events import RolloutEnded, ServiceCalled
from .._trace.trace import Trace, TraceWriter
from .._trace.turn import ServiceCall, Turn, TurnError
from .._util.contexts import call_user, protected_methods
from .event_sender import EventSender

T = TypeVar("T")
E = TypeVar("E", bound=Entry)
_OWN = (JSONLRecorder, DirectoryRecorder)
for kind in _OWN:  # here, because `_trace` does not import trio
    protected_methods(kind)


class RecordWriter:
    """Writes the records of one rollout: redacts them, adds them to the trace, passes them to the recorder.

    Args:
        trace: the trace to write to.
        recorder: the recorder that receives every entry, too.
        redaction: removes secrets from the records. API keys are always removed, also without a redaction.
        parent: the record writer of the parent rollout; None without a parent. Errors of the child are also raised to
            the code that opened the parent.
        events: sends the events of the rollout. None if the program has no `on_event`.
    """

    def __init__(
        self,
        trace: Trace,
        recorder: Recorder | None,
        *,
        redaction: Redaction | None = None,
        parent: RecordWriter | None = None,
        events: EventSender | None = None,
    ) -> None:
        self._trace = trace
        self.redactor: Redactor = Redactor(redaction)
        self.writer: TraceWriter = TraceWriter(trace)
        """The writer of the trace. Only `RecordWriter` adds turns with it; other code may add all other records."""
        self.recorder = recorder
        self.events = events
        self._takes_entries = isinstance(recorder, EntryRecorder)
        self._never_waits = isinstance(recorder, _OWN)
        """True if the methods of the recorder have no checkpoint. While such a method runs, no other task runs, and no
        cancellation arrives. So the method needs neither the lock nor a cancel scope."""
        self._lock = trio.Lock()
        shared = parent is not None and parent.recorder is recorder
        self._raised: list[Exception] = parent._raised if parent is not None and shared else []
        """Errors that the recorder has raised so far, each only once."""

    def as_given(self, turn: Turn) -> Turn:
        """Return a recorded turn with its messages and answer as they were before redaction.

        Code that sends a part of the turn to an agent or a model must take the part from this version of the turn.
        """
        return self.redactor.as_given(turn)

    def stop(self, reason: str) -> None:
        self.writer.stop(self.redactor.text(reason))

    async def open(self, opening: Opening) -> None:
        """Open the recorder, and record the opening of the rollout. Errors of the recorder are raised unwrapped."""
        await _open(self.recorder)
        await self.record_entry(opening)

    def check_free(self) -> None:
        """Raise RuntimeError if the caller is the recorder, and is recording an entry."""
        if self._lock.locked() and self._lock.statistics().owner is trio.lowlevel.current_task():
            raise RuntimeError(
                "while a recorder records a turn, it cannot settle an exchange, stop the rollout or call the model, "
                "because such an action is recorded only after the turn; start another task for the action: "
                "`nursery.start_soon(rollout.stop, reason)`"
            )

    async def see_through(self) -> None:
        """Wait until the entries that are being recorded now are recorded."""
        async with self._lock:
            pass

    @trio.lowlevel.enable_ki_protection
    async def record(self, make_turn: Callable[[int], Turn]) -> Turn:
        """Record a turn. Cancellation: does not prevent the recording.

        Args:
            make_turn: function that returns the turn. `make_turn` is called with the number of the turn.

        Raises:
            Exception: the error of the recorder. The trace contains the turn with the outcome `failed`.
        """
        if self.recorder is None:
            turn = self.redactor.turn(make_turn(len(self._trace)))
            self._add_turn(turn)
            return turn
        self.check_free()
        if self._never_waits and not self._lock.locked():
            return await self._record(self.recorder, make_turn)
        with trio.CancelScope(shield=True):
            await self._begin()
            try:
                turn = await self._record(self.recorder, make_turn)
            finally:
                self._lock.release()
        return turn

    async def _record(self, recorder: Recorder, make_turn: Callable[[int], Turn]) -> Turn:
        turn = self.redactor.turn(make_turn(len(self._trace)))
        try:
            await self._pass_on(recorder.record, turn)
        except BaseException as exc:
            error = TurnError(
                type=type(exc).__name__, message=f"the turn could not be recorded: {exc}", status=500
            )
            self._add_turn(msgspec.structs.replace(turn, outcome="failed", error=error))
            raise
        self._add_turn(turn)
        return turn

    def _add_turn(self, turn: Turn) -> None:
        self.writer.add(turn)
        if self.events is not None:
            self.events.turn(turn)

    async def _begin(self) -> None:
        """Acquire the lock as soon as no other recording is in progress.

        If no recording is in progress, this method has no checkpoint, which would cost each model call a cycle of the
        event loop.
        """
        if not self._lock.locked():
            self._lock.acquire_nowait()
            return
        try:
            await self._lock.acquire()
        except KeyboardInterrupt:
            # The interrupt is raised at the next checkpoint after this recording; a second interrupt is raised here.
            await self._lock.acquire()
            signal.raise_signal(signal.SIGINT)

    @trio.lowlevel.enable_ki_protection
    async def record_entry(self, entry: E) -> E:
        """Record an entry, such as the opening or a score. Return the recorded entry, which may be redacted.

        Cancellation: does not prevent the recording. If the recorder does not take entries, the function has no
        checkpoint.

        Raises:
            Exception: the error of the recorder. The trace does not contain the entry.
        """
        entry = cast(E, self.redactor.entry(entry))
        if self._takes_entries:
            self.check_free()
            record = cast(EntryRecorder, self.recorder).record_entry
            if self._never_waits and not self._lock.locked():
                await self._pass_on(record, entry)
            else:
                with trio.CancelScope(shield=True):
                    await self._begin()
                    try:
                        await self._pass_on(record, entry)
                    finally:
                        self._lock.release()
        self.writer.add(entry)
        if self.events is not None:
            self.events.entry(entry)
        return entry

    @trio.lowlevel.enable_ki_protection
    async def record_service(self, make_call: Callable[[int], ServiceCall]) -> None:
        """Record a service call. Cancellation: does not prevent the recording."""
        recorder: object = self.recorder
        self.check_free()
        with trio.CancelScope(shield=True):
            await self._begin()
            try:
                call = self.redactor.service(make_call(len(self._trace.services)))
                if isinstance(recorder, ServiceRecorder):
                    await self._pass_on(recorder.record_service, call)
                self.writer.add(call)
                if self.events is not None:
                    self.events.send(ServiceCalled, call=call)
            finally:
                self._lock.release()

    async def seal(self) -> None:
        """Seal the trace.

        A second call does nothing: both a rollout and its parent may call this method for the rollout's trace.
        """
        await self._begin()
        try:
            first = not self._trace.sealed
            self.writer.seal()
        finally:
            self._lock.release()
        try:
            if first and self.recorder is not None:
                await self._pass_on(self.recorder.seal, self._trace)
        finally:
            if first and self.events is not None:
                ended, stopped, turns = self._trace.ended, self._trace.stopped, len(self._trace)
                self.events.send(RolloutEnded, ended=ended, stopped=stopped, turns=turns)

    async def _pass_on(self, take: Callable[[T], Awaitable[None]], given: T) -> None:
        """Call `take`, a method of the recorder, with `given`.

        If `take` raises an error that equals an earlier error, raise the earlier exception object in its place.
        """
        try:
            await call_user(take, given)
            return
        except Exception as exc:
            error = self._first_like(exc)
        raise error  # outside of the `except` block, which would become its context

    def _first_like(self, exc: Exception) -> Exception:
        """Return the first exception of the recorder that had the same type and text as `exc`.

        If `exc` is a group, return a group in which each exception is replaced in this way.
        """
        if isinstance(exc, ExceptionGroup):
            parts = [self._first_like(one) for one in exc.exceptions]
            if parts != list(exc.exceptions):
                exc = exc.derive(parts).with_traceback(exc.__traceback__)
        first = next((one for one in self._raised if _says_the_same(one, exc)), exc)
        if first is exc:
            self._raised.append(exc)
        return first


def _says_the_same(one: Exception, other: Exception) -> bool:
    if isinstance(one, ExceptionGroup) and isinstance(other, ExceptionGroup):
        return one.exceptions == other.exceptions  # equal members are one object: the first of them
    return type(one) is type(other) and str(one) == str(other)


async def _open(recorder: object) -> None:
    if isinstance(recorder, OpenedRecorder):
        await call_user(recorder.aopen)


@asynccontextmanager
async def recording(recorder: Recorder) -> AsyncIterator[None]:
    """Open the recorder of an endpoint or a pool. Close it at the end of the block, even after a cancellation.

    Raises:
        TypeError: the argument is not a recorder.
    """
    check_recorder(recorder)
    try:
        await _open(recorder)
        yield
    finally:
        with trio.CancelScope(shield=True):
            await call_user(recorder.aclose)
