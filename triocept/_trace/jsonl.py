"""A file of turns: one JSON object a line, appended, readable at any moment.

Lines::

    {"type":"turn", "version":1, …the fields of Turn…, "request":{…, "messages":[]},
     "conversation":[[0,5]], "first":4, "new":[message, …]}
    {"type":"service", "version":1, "call":{…the fields of ServiceCall…}}
    {"type":"seal", "version":1, "rollout":id, "turns":N, "services":M, "branch":{…} or null}

The messages of a rollout are numbered in the order in which they first appear: `new` holds those from number `first`
on. `conversation` says, as half-open ranges of these numbers, which of them a turn's request held. So the file grows
by what is new.

Rules:

1. A line is written by one `write` to a file opened for appending: whatever kills the program, the file holds whole
   lines, and at most one cut line at its end, which `read_traces` leaves out.
2. Several rollouts, and several endpoints, may share a file.
3. No seal, or one whose counts differ, means that turns or service calls may be missing.
4. What has no meaning for older files (`services`, `branch`) may be missing: they stay readable.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, final

import msgspec

from .._canonical.content import Message
from ..errors import DialectError
from .branch import Branch
from .service import ServiceCall
from .table import MessageTable, ranges
from .trace import Trace
from .turn import Turn

__all__ = ["JSONLRecorder", "read_traces"]

VERSION = 1


class _TurnLine(msgspec.Struct, frozen=True, tag_field="type", tag="turn", kw_only=True):
    version: int = VERSION
    turn: Turn
    conversation: list[tuple[int, int]]
    first: int
    new: list[Message]


class _ServiceLine(msgspec.Struct, frozen=True, tag_field="type", tag="service", kw_only=True):
    version: int = VERSION
    call: ServiceCall


class _SealLine(msgspec.Struct, frozen=True, tag_field="type", tag="seal", kw_only=True):
    version: int = VERSION
    rollout: str
    turns: int
    services: int = 0
    branch: Branch | None = None


_Line: TypeAlias = _TurnLine | _ServiceLine | _SealLine


_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)


@final
class JSONLRecorder:
    """Appends every turn to a file, one line each, before the agent sees the end of its answer.

    The write is to the operating system, not to the disk: it outlives the program's SIGKILL. `fsync=True` makes each
    line outlive a power cut too, and costs what the disk costs.

    Args:
        path: the file; it is made if it is not there, and appended to if it is. Its directory must exist.
        fsync: whether each line is forced to the disk.

    Raises:
        OSError: from `record`, if the line could not be written whole; what was written of it is taken back.
    """

    def __init__(self, path: str | os.PathLike[str], *, fsync: bool = False) -> None:
        self.path = Path(path)
        self._fsync = fsync
        self._fd: int | None = None
        self._tables: dict[str, MessageTable] = {}
        self._written: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"JSONLRecorder({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A descriptor is a number: in another process it may be any file. A copy opens the path anew.
        return partial(JSONLRecorder, self.path.absolute(), fsync=self._fsync), ()

    async def record(self, turn: Turn) -> None:
        table = self._tables.setdefault(turn.rollout, MessageTable())
        first = self._written.get(turn.rollout, 0)
        numbers = table.add(turn.request.messages)
        bare = msgspec.structs.replace(turn, request=msgspec.structs.replace(turn.request, messages=()))
        new = table.messages[first:]
        self._write(_TurnLine(turn=bare, conversation=ranges(numbers), first=first, new=new))
        self._written[turn.rollout] = len(table.messages)  # not before: a line that failed brought nothing

    async def record_service(self, call: ServiceCall) -> None:
        self._write(_ServiceLine(call=call))

    async def seal(self, trace: Trace) -> None:
        self._tables.pop(trace.rollout, None)
        self._written.pop(trace.rollout, None)
        seal = _SealLine(
            rollout=trace.rollout, turns=len(trace), services=len(trace.services), branch=trace.branch
        )
        self._write(seal)

    async def aclose(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, line: _Line) -> None:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        data = _encode(line) + b"\n"
        written = os.write(self._fd, data)
        if written != len(data):  # a full disk: no half line may stay
            os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_END) - written)
            raise OSError(f"{self.path}: only {written} of {len(data)} bytes of a line could be written")
        if self._fsync:
            os.fsync(self._fd)


def read_traces(path: str | os.PathLike[str]) -> list[Trace]:
    """The traces in a file of `JSONLRecorder`, in the order in which they began.

    A cut line at the very end (the program was killed in the middle of a write) is left out.

    Raises:
        OSError: the file cannot be read.
        DialectError: a line is not ours; the path is `file:line`.
    """
    traces: dict[str, Trace] = {}
    tables: dict[str, list[Message]] = {}
    seals: dict[str, _SealLine] = {}
    with open(path, "rb") as file:
        for number, data in enumerate(file, 1):
            if not data.endswith(b"\n"):
                break
            line = _read_line(data, f"{path}:{number}")
            match line:
                case _TurnLine(turn=turn):
                    trace = _trace_of(traces, turn.rollout, turn.branch)
                    trace._append(_whole(line, tables.setdefault(turn.rollout, []), f"{path}:{number}"))
                case _ServiceLine(call=call):
                    _trace_of(traces, call.rollout, call.branch)._append_service(call)
                case _SealLine():
                    _trace_of(traces, line.rollout, line.branch)
                    seals[line.rollout] = line
    for name, seal in seals.items():
        if (len(traces[name]), len(traces[name].services)) == (seal.turns, seal.services):
            traces[name]._seal()
    _join_families(traces)
    return list(traces.values())


def _trace_of(traces: dict[str, Trace], rollout: str, branch: Branch | None) -> Trace:
    if rollout not in traces:
        traces[rollout] = Trace(rollout, branch=branch)
    return traces[rollout]


def _join_families(traces: dict[str, Trace]) -> None:
    """Give each parent that is in the file its children."""
    for trace in traces.values():
        if trace.branch is not None and (parent := traces.get(trace.branch.rollout)) is not None:
            parent._children.append(trace)


def _read_line(data: bytes, place: str) -> _Line:
    try:
        line = _decoder.decode(data)
    except msgspec.DecodeError as exc:
        raise DialectError(f"not a line of a triocept trace: {exc}", path=place) from exc
    if line.version > VERSION:
        raise DialectError(f"written by a newer triocept (version {line.version})", path=place)
    return line


def _whole(line: _TurnLine, table: list[Message], place: str) -> Turn:
    table[line.first :] = line.new
    messages: list[Message] = []
    for start, stop in line.conversation:
        if not 0 <= start <= stop <= len(table):
            raise DialectError(f"messages {start} to {stop} are not in the file", path=place)
        messages += table[start:stop]
    request = msgspec.structs.replace(line.turn.request, messages=tuple(messages))
    return msgspec.structs.replace(line.turn, request=request)
