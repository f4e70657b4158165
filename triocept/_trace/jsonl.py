"""Write trace files (`JSONLRecorder`). The module `lines` describes the format of these files."""

from __future__ import annotations

import os
import time
import weakref
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, final

import msgspec

from .._util.checks import check_bool
from .entries import AgentStart, Entry, Intent, Opening, Score
from .linefile import LineFile
from .runlines import RunLines
from .trace import Trace, TraceWriter
from .turn import ServiceCall, Turn

T = TypeVar("T")
Key: TypeAlias = tuple[str, str]


class Place(msgspec.Struct, frozen=True):
    """The byte ranges of a rollout's lines in a file.

    Lines of other rollouts may be between these ranges.
    """

    ranges: tuple[tuple[int, int], ...]
    """Start and end of each range, in bytes from the file's beginning, in order. At least one range."""
    digest: str | None
    """Digest of the rollout's seal; None if the rollout is not sealed."""

    @property
    def begin(self) -> int:
        return self.ranges[0][0]

    @property
    def end(self) -> int:
        return self.ranges[-1][1]


@final
class JSONLRecorder:
    """Recorder that appends the complete record of a rollout to a file.

    The recorder writes each call before the call is passed to its handler, and each turn before the agent receives the
    end of the answer. The recorder also writes service calls, agents and scores. `check` verifies the file.

    Lines are written to the operating system, but not forced to the disk: they survive a SIGKILL of the program. With
    `fsync=True`, each line also survives a power cut, at the cost of a disk write for each line. Several recorders, in
    one program or in several, may share a file. If the file is removed, renamed, replaced or truncated while the
    recorder writes to it, the recorder continues with the file that is then at the path. If no file is at the path, the
    recorder creates a new file.

    Args:
        path: the file; created if it does not exist, else appended to. Its directory must exist.
        fsync: True forces each line to the disk.

    Closing: after `aclose`, and while it records no open rollout, the recorder has no open file descriptor. The
    recorder opens the file again when needed. A copy of the recorder (`pickle`, `copy`) contains only the path and
    opens the file itself.

    Raises:
        OSError: the error's text names the path. `aopen` raises it, before the body of `serve_endpoint` or
            `open_rollout` begins, if the file cannot be written or is not a regular file. The methods that record raise
            it if a line could not be written completely.
    """

    def __init__(self, path: str | os.PathLike[str], *, fsync: bool = False) -> None:
        check_bool("fsync", fsync)
        self.path: Path = Path(path)
        self._file = LineFile(self.path.absolute(), fsync=fsync)
        self._open: dict[Key, RunLines] = {}
        self._sealed: dict[Key, tuple[RunLines, weakref.ref[Trace]]] = {}
        """Lines of each sealed rollout that may still get a score, because the program holds the rollout's trace."""

    def __repr__(self) -> str:
        return f"JSONLRecorder({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A descriptor is a number: in another process it may be any file. A copy opens the path anew.
        return partial(JSONLRecorder, self._file.path, fsync=self._file.fsync), ()

    async def aopen(self) -> None:
        self._file.look()

    async def record_entry(self, entry: Entry) -> None:
        run = self._run_of(entry)
        match entry:
            case Intent():  # one for each call
                run.intent(entry)
            case AgentStart():
                run.agent(entry)
            case Score():
                run.score(entry)
        self._write(run)
        if run.sealed and (trace := self._sealed[entry.rollout, entry.run][1]()) is not None:
            TraceWriter(trace).set_digest(run.digest)

    async def record(self, turn: Turn) -> None:
        run = self._run_of(turn)
        run.turn(turn)
        self._write(run)

    async def record_service(self, call: ServiceCall) -> None:
        run = self._run_of(call)
        run.service(call)
        self._write(run)

    async def seal(self, trace: Trace) -> None:
        run = self._run_of(trace)
        run.seal(trace, TraceWriter(trace).sealed_at)
        key = (trace.rollout, trace.run)
        self._open.pop(key, None)
        self._sealed[key] = (run, reference(self._sealed, key, trace))
        self._write(run)
        TraceWriter(trace).set_digest(run.digest)

    async def aclose(self) -> None:
        self._file.close()

    def _run_of(self, entry: Entry | Turn | ServiceCall | Trace) -> RunLines:
        """Begin a block of lines for the rollout of `entry`, and return the rollout's `RunLines`.

        If another file is now at the recorder's path, return a new `RunLines` for that file.
        """
        number = self._file.look()
        key = (entry.rollout, entry.run)
        run = self._open.get(key) or self._known(key)
        if run is None and isinstance(entry, Score):
            raise ValueError(
                f"this recorder did not record rollout {entry.rollout}: pass the score to the recorder of this rollout"
            )
        if run is None or run.number != number:
            opening = run.opening if run and not isinstance(entry, Opening) else _opening_of(entry)
            run = RunLines(opening, number, before=run)
            if run.sealed:
                self._sealed[key] = (run, self._sealed[key][1])
            else:
                self._open[key] = run
        run.begin()
        return run

    def _known(self, key: Key) -> RunLines | None:
        if (run := self._open.get(key)) is not None:
            return run
        sealed = self._sealed.get(key)
        return sealed[0] if sealed is not None else None

    def _write(self, run: RunLines) -> None:
        try:
            run.write_to(self._file)
        finally:
            if not self._open:
                self._file.close()


def place_of(trace: Trace, recorder: JSONLRecorder) -> Place | None:
    """Return the position of a trace's lines in the recorder's file.

    Return None if the recorder has written no line of this trace. The position of a sealed rollout is known only while
    the program has a reference to the rollout's trace.
    """
    run = recorder._known((trace.rollout, trace.run))
    if run is None or not run.ranges:
        return None
    return Place(tuple(run.ranges), run.digest if run.sealed else None)


def reference(known: dict[Key, tuple[T, weakref.ref[Trace]]], key: Key, trace: Trace) -> weakref.ref[Trace]:
    """Return a weak reference to a trace. When the trace is deleted, the reference deletes `known[key]`.

    Without the trace, the program cannot score the rollout, so `known[key]` is no longer needed.
    """

    def forget(gone: object) -> None:
        if key in known and known[key][1] is gone:
            del known[key]

    return weakref.ref(trace, forget)


def _opening_of(entry: Entry | Turn | ServiceCall | Trace) -> Opening:
    """Return the `Opening` of a rollout. If this recorder has not recorded it, make an `Opening` from `entry`."""
    match entry:
        case Opening():
            return entry
        case Intent() | Score():
            at: float | None = entry.at
        case _:
            at = entry.started_at
    return Opening(
        rollout=entry.rollout,
        run=entry.run,
        at=at if at is not None else time.time(),
        versions=dict(entry.versions) if isinstance(entry, Trace) else {},
        metadata=dict(entry.metadata) if isinstance(entry, Trace) else {},
        branch=getattr(entry, "branch", None),
    )
