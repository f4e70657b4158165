"""A file of turns: one JSON object a line, appended, readable at any moment.

Lines::

    {"type":"turn", "version":1, …the fields of Turn…, "request":{…, "messages":[]},
     "conversation":[[0,5]], "first":4, "new":[message, …]}
    {"type":"service", "version":1, "call":{…the fields of ServiceCall…}}
    {"type":"seal", "version":1, "rollout":id, "run":run, "turns":N, "services":M, "branch":{…} or null,
     "stopped":reason or null}

The messages of a run are numbered in the order in which they first appear: `new` holds those from number `first` on.
`conversation` says, as half-open ranges of these numbers, which of them a turn's request held. So the file grows by
what is new.

Rules:

1. Several rollouts, endpoints and programs may append to one file at once. Each line says whose it is: by the
   rollout's id, and by its `run`, which no other rollout has, not even one of the same id in another program or
   another epoch.
2. A line is written by one `write` to a file opened for appending, and nobody takes back what is in the file: whatever
   kills a program, at most one line of it is cut. Who appends begins on a new line.
3. A line that cannot be read, a cut one or a damaged one, costs itself alone, and the turns whose messages stood in it
   alone. Empty lines mean nothing.
4. No seal, or one whose counts differ, means that turns or service calls may be missing.
5. What has no meaning for older files (`services`, `branch`, `run`, `stopped`) may be missing: they stay readable.
   Where no line has a run, a seal ends a rollout, and so does a turn whose number does not grow: what follows under
   the same id is another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from .._canonical.content import Message
from ..errors import DialectError
from .branch import Branch
from .service import ServiceCall
from .turn import Turn

__all__ = ["VERSION", "Line", "SealLine", "ServiceLine", "TurnLine", "encoded_line", "lines_in"]

VERSION = 1


class TurnLine(msgspec.Struct, frozen=True, tag_field="type", tag="turn", kw_only=True):
    """A turn; its messages are in the table of its run."""

    version: int = VERSION
    turn: Turn
    conversation: list[tuple[int, int]]
    first: int
    new: list[Message]


class ServiceLine(msgspec.Struct, frozen=True, tag_field="type", tag="service", kw_only=True):
    """A service call."""

    version: int = VERSION
    call: ServiceCall


class SealLine(msgspec.Struct, frozen=True, tag_field="type", tag="seal", kw_only=True):
    """The end of a rollout: how much of it has to be in the file."""

    version: int = VERSION
    rollout: str
    run: str = ""
    turns: int
    services: int = 0
    branch: Branch | None = None
    stopped: str | None = None


class _Versioned(msgspec.Struct, frozen=True):
    version: int


Line: TypeAlias = TurnLine | ServiceLine | SealLine

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_version_decoder = msgspec.json.Decoder(_Versioned)
_START = re.compile(rb'\{"type":"(?:turn|service|seal)","version":\d')
"""How every line begins. In a JSON string its quotes would be escaped."""


def encoded_line(line: Line) -> bytes:
    """A line, with its newline."""
    return _encode(line) + b"\n"


def lines_in(data: bytes, place: str) -> Iterator[Line | DialectError]:
    """What stands between two newlines: a line, or the error that names what is none.

    Or what a program that was killed in the middle of a line has left, and right behind it the line that another
    program appended at that moment.

    Raises:
        DialectError: a line was written by a newer triocept.
    """
    try:
        yield _decoded(data)
    except msgspec.DecodeError as exc:
        yield from _run_together(memoryview(data), exc, place)


def _run_together(data: memoryview, exc: msgspec.DecodeError, place: str) -> Iterator[Line | DialectError]:
    """The lines at the end of what is none, and before them what is left."""
    lines: list[Line | DialectError] = []
    end = len(data)
    for start in (*reversed([found.start() for found in _START.finditer(data, 1)]), 0):
        try:
            lines.append(_decoded(data[start:end]))
            end = start
        except msgspec.DecodeError as why:
            exc = why
    if end:
        if (version := _version_of(data[:end])) > VERSION:
            raise DialectError(f"written by a newer triocept (version {version})", path=place) from exc
        yield DialectError(f"not a line of a triocept trace: {exc}", path=place)
    yield from reversed(lines)


def _decoded(data: bytes | memoryview) -> Line:
    try:
        return _decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as exc:  # msgspec's own are none of its DecodeError
        raise msgspec.DecodeError(str(exc)) from exc


def _version_of(data: bytes | memoryview) -> int:
    """That of a line with which we can do nothing more."""
    try:
        return _version_decoder.decode(data).version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
