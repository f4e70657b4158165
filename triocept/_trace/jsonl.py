"""A file of turns: one JSON object a line, appended, readable at any moment.

Lines::

    {"type":"turn", "version":1, …the fields of Turn…, "request":{…, "messages":[]},
     "conversation":[[0,5]], "first":4, "new":[message, …]}
    {"type":"seal", "version":1, "rollout":id, "turns":N}

The messages of a rollout are numbered in the order in which they first appear: `new` holds those from number `first`
on. `conversation` says, as half-open ranges of these numbers, which of them a turn's request held. So the file grows
by what is new.

Rules:

1. A line is written by one `write` to a file opened for appending: whatever kills the program, the file holds whole
   lines, and at most one cut line at its end, which `read_traces` leaves out.
2. Several rollouts, and several endpoints, may share a file.
3. No seal, or one whose count differs, means that turns may be missing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import final

import msgspec

from .._canonical.content import Message
from ..errors import DialectError
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


class _SealLine(msgspec.Struct, frozen=True, tag_field="type", tag="seal", kw_only=True):
    version: int = VERSION
    rollout: str
    turns: int


_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[_TurnLine | _SealLine] = msgspec.json.Decoder(_TurnLine | _SealLine)


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

    async def record(self, turn: Turn) -> None:
        table = self._tables.setdefault(turn.rollout, MessageTable())
        first = self._written.get(turn.rollout, 0)
        numbers = table.add(turn.request.messages)
        bare = msgspec.structs.replace(turn, request=msgspec.structs.replace(turn.request, messages=()))
        new = table.messages[first:]
        self._write(_TurnLine(turn=bare, conversation=ranges(numbers), first=first, new=new))
        self._written[turn.rollout] = len(table.messages)  # not before: a line that failed brought nothing

    async def seal(self, trace: Trace) -> None:
        self._tables.pop(trace.rollout, None)
        self._written.pop(trace.rollout, None)
        self._write(_SealLine(rollout=trace.rollout, turns=len(trace)))

    async def aclose(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, line: _TurnLine | _SealLine) -> None:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        data = _encode(line) + b"\n"
        written = os.write(self._fd, data)
        if written != len(data):  # a full disk: no half line may stay
            os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_END) - written)
            raise OSError(f"{self.path}: only {written} of {len(data)} bytes of a turn could be written")
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
    seals: dict[str, int] = {}
    with open(path, "rb") as file:
        for number, data in enumerate(file, 1):
            if not data.endswith(b"\n"):
                break
            line = _read_line(data, f"{path}:{number}")
            if isinstance(line, _SealLine):
                traces.setdefault(line.rollout, Trace(line.rollout))
                seals[line.rollout] = line.turns
            else:
                name = line.turn.rollout
                trace = traces.setdefault(name, Trace(name))
                trace._append(_whole(line, tables.setdefault(name, []), f"{path}:{number}"))
    for name, count in seals.items():
        if len(traces[name]) == count:
            traces[name]._seal()
    return list(traces.values())


def _read_line(data: bytes, place: str) -> _TurnLine | _SealLine:
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
