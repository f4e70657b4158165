"""What a rollout writes down: its trace, and its recorder.

Rules:

1. One at a time, in the order in which things happened: the recorder first, then the trace.
2. A recorder that fails turns an answer into a failure: what is not recorded is not given.
3. Its trouble is told once: what it raises again, for the next turn or the seal, is raised as the very exception that
   it raised first, and whoever collects errors (`raise_all`) takes one that comes twice for one.
4. Sealed once, and nothing is written afterwards.
5. A recorder that is being given something cannot have more recorded: it would wait for itself.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, cast

import msgspec
import trio

from .._trace.directory_recorder import DirectoryRecorder
from .._trace.entries import Entry, Opening
from .._trace.jsonl import JSONLRecorder
from .._trace.recorder import EntryRecorder, OpenedRecorder, Recorder, ServiceRecorder, check_recorder
from .._trace.redaction import Redaction, Redactor
from .._trace.service import ServiceCall
from .._trace.trace import Trace, TraceWriter
from .._trace.turn import Turn, TurnError
from .._util.contexts import protected_methods, theirs

T = TypeVar("T")
for kind in (JSONLRecorder, DirectoryRecorder):  # here, because `_trace` knows no trio
    protected_methods(kind)


class RecordWriter:
    """The record of one rollout.

    Args:
        trace: what it is kept in.
        recorder: what gets it too.
        redaction: what is taken out of it before, beside keys.
        parent: the ledger of the parent rollout, whose owner hears the child's errors too.
    """

    def __init__(
        self,
        trace: Trace,
        recorder: Recorder | None,
        *,
        redaction: Redaction | None = None,
        parent: RecordWriter | None = None,
    ) -> None:
        self._trace = trace
        self.redactor: Redactor = Redactor(redaction)
        self.writer: TraceWriter = TraceWriter(trace)
        """What is written of the trace beside its turns, by whoever has this."""
        self.recorder = recorder
        self._takes_entries = isinstance(recorder, EntryRecorder)
        self._lock = trio.Lock()
        self._raised: list[Exception] = (
            [] if parent is None or parent.recorder is not recorder else parent._raised
        )
        """What the recorder has raised so far, each once."""

    def as_given(self, turn: Turn) -> Turn:
        """A turn of the trace, with the messages and the answer as they were before anything was taken out of them: for
        whatever goes to the agent, or to a model."""
        return self.redactor.as_given(turn)

    def stop(self, reason: str) -> None:
        """Say why the rollout was stopped."""
        self.writer.stop(self.redactor.text(reason))

    async def open(self, opening: Opening) -> None:
        """Open the recorder, and tell it how the rollout begins; what it raises leaves bare."""
        await _open(self.recorder)
        await self.record_entry(opening)

    def check_free(self) -> None:
        """See that it is not the recorder itself that wants to have something recorded.

        Raises:
            RuntimeError: it is, while it is being given something.
        """
        if self._lock.locked() and self._lock.statistics().owner is trio.lowlevel.current_task():
            raise RuntimeError(
                "a recorder that is being given a turn cannot settle an exchange, stop the rollout or ask its model: "
                "that would be recorded behind the turn; let another task do it: "
                "`nursery.start_soon(rollout.stop, reason)`"
            )

    async def see_through(self) -> None:
        """Wait until what others have begun to record is recorded: first come, first served."""
        async with self._lock:
            pass

    @trio.lowlevel.enable_ki_protection
    async def record(self, make_turn: Callable[[int], Turn]) -> Turn:
        """Record a turn. Shielded.

        Args:
            make_turn: makes it, of its number.

        Raises:
            Exception: what the recorder raised; the trace has the turn as a failed one.
        """
        if self.recorder is None:
            turn = self.redactor.turn(make_turn(len(self._trace)))
            self.writer.add(turn)
            return turn
        self.check_free()
        with trio.CancelScope(shield=True):
            await self._begin()
            try:
                turn = self.redactor.turn(make_turn(len(self._trace)))
                await self._write(turn, self.recorder)
                self.writer.add(turn)
            finally:
                self._lock.release()
        return turn

    async def _begin(self) -> None:
        """Wait for those that record something now. No checkpoint where nobody does: a turn of the event loop for each
        call is dearer than the line."""
        if not self._lock.locked():
            self._lock.acquire_nowait()
            return
        try:
            await self._lock.acquire()
        except (
            KeyboardInterrupt
        ):  # it arrives when this is recorded, at the next checkpoint; a further one does now
            await self._lock.acquire()
            signal.raise_signal(signal.SIGINT)

    async def _write(self, turn: Turn, recorder: Recorder) -> None:
        try:
            await self._tell(recorder.record, turn)
        except BaseException as exc:
            error = TurnError(type=type(exc).__name__, message=f"not recorded: {exc}", status=500)
            self.writer.add(msgspec.structs.replace(turn, outcome="failed", error=error))
            raise

    @trio.lowlevel.enable_ki_protection
    async def record_entry(self, entry: Entry) -> None:
        """Record what is no turn and no service call. Shielded; no checkpoint, where no recorder wants it.

        Raises:
            Exception: what the recorder raised; the trace does not have it.
        """
        entry = self.redactor.entry(entry)
        if self._takes_entries:
            self.check_free()
            with trio.CancelScope(shield=True):
                await self._begin()
                try:
                    await self._tell(cast(EntryRecorder, self.recorder).record_entry, entry)
                finally:
                    self._lock.release()
        self.writer.add(entry)

    @trio.lowlevel.enable_ki_protection
    async def record_service(self, make_call: Callable[[int], ServiceCall]) -> None:
        """Record a service call. Shielded."""
        recorder: object = self.recorder
        self.check_free()
        with trio.CancelScope(shield=True):
            await self._begin()
            try:
                call = self.redactor.service(make_call(len(self._trace.services)))
                if isinstance(recorder, ServiceRecorder):
                    await self._tell(recorder.record_service, call)
                self.writer.add(call)
            finally:
                self._lock.release()

    async def seal(self) -> None:
        """The end; the second time it does nothing (a child may be closed by its parent, too)."""
        await self._begin()
        try:
            first = not self._trace.sealed
            self.writer.seal()
        finally:
            self._lock.release()
        if first and self.recorder is not None:
            await self._tell(self.recorder.seal, self._trace)

    async def _tell(self, take: Callable[[T], Awaitable[None]], given: T) -> None:
        """Give it to the recorder; what that raises again is raised as it was first."""
        try:
            await theirs(take, given)
            return
        except Exception as exc:
            error = self._first_like(exc)
        raise error  # outside of the handler, which would become its context

    def _first_like(self, exc: Exception) -> Exception:
        """The very exception that has said the same before, or this one; of a group, each of its own."""
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
        return one.exceptions == other.exceptions  # each is the first of its like
    return type(one) is type(other) and str(one) == str(other)


async def _open(recorder: object) -> None:
    if isinstance(recorder, OpenedRecorder):
        await theirs(recorder.aopen)


@asynccontextmanager
async def recording(recorder: Recorder) -> AsyncIterator[None]:
    """Open the recorder of an endpoint, or a pool, and close it at the end: shielded, as all that it is asked.

    Raises:
        TypeError: it is none.
    """
    check_recorder(recorder)
    try:
        await _open(recorder)
        yield
    finally:
        with trio.CancelScope(shield=True):
            await theirs(recorder.aclose)
