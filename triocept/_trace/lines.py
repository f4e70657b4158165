"""The format of a trace file. Each line is a JSON object. The file can be read and verified even while it is written.

Format 2. Every line begins with the same members::

    {"type":…, "version":2, "rollout":id, "run":run, "seq":N, "prev":"32 hex digits", …}

and continues with the members of its type:

=========  ============================================================================================================
open       the rollout has begun: `at`, `versions`, `metadata`, `branch`. If this file was begun during the run:
           `elsewhere`, the numbers of the rollout's intents, turns and service calls in the earlier file
agent      an agent's process is about to start: `argv`, `cwd`, `home`, `config`, `started_at`
blob       a message (`kind` is `message`) or a list of tools (`kind` is `tools`): `number` (each kind counts from 0),
           `value`, and `digest`, the first 32 hex digits of the value's SHA-256. If a conversation repeats a message,
           the further blob has `same` (the number of the blob with the value) instead of `value`
intent     a call is about to be passed to its handler: `call` (its id), `number`, `at`, `agent`, `request` (without
           messages and tools), `messages` (the numbers of their blobs, as half-open ranges), `tools` (the number of
           their blob), and `digest`
turn       the outcome of a call: `call`, and `turn`, the members of a Turn that are not in the intent
service    a service call has ended: `call`
score      a score of the rollout: `name`, `value`, `at`. A score may come after the seal
seal       the rollout has ended: the numbers of `intents`, `turns` and `services`, `ended` (`body`, `cancelled`,
           `raised`), `stopped`, `at`; and `digest`, the chain
=========  ============================================================================================================

An intent's `digest` covers its request as recorded: the first 32 hex digits of `sha256(messages + tools + request)`. In
this formula, `request` means the bytes of the member `request` in the line, and `tools` means the digest of the tools
(16 bytes, or no bytes). `messages` means a chain over the digests of the messages. The chain begins empty; each message
changes it to the first 16 bytes of `sha256(messages + digest)`.

Rules:

1. A rollout has one writer, and one chain (see `chain`). In each line, `seq` is the number of earlier lines of the
   rollout, and `prev` is the chain before the line. In the seal, `digest` is the chain after the seal. Several
   rollouts, endpoints and programs may append to one file concurrently. Each line names its rollout by id and `run`.
   The run is unique, even if a rollout of another program or another epoch has the same id.
2. Each block of lines is one `write` to a file opened for appending, and content of the file is never removed. A killed
   program leaves at most one incomplete line. Each writer begins on a new line.
3. If a line is unreadable (incomplete or damaged), only that line is lost, with the turns whose messages it contains.
   Empty lines are ignored.
4. An intent is in the file before its call is passed to the handler. A turn is in the file before the agent receives
   the end of the answer. An intent without a turn is a call that was running when the program died.
5. A score after the seal continues the chain, and another seal closes the chain again.

For a line of a later version, `read_traces` raises an error, and `check` reports a gap. A line of format 1, which
triocept 0.2.0 wrote, is treated like an unreadable line by both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO, Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from .entries import Ending
from .turn import Branch, ServiceCall, TurnRecord

VERSION = 2
Ranges: TypeAlias = list[tuple[int, int]]
"""Half-open ranges of numbers."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    version: int = VERSION
    rollout: str
    run: str = ""
    seq: int
    """Number of earlier lines of the rollout."""
    prev: str
    """The chain before this line, as 32 hex digits."""


class Elsewhere(msgspec.Struct, frozen=True):
    """For each kind of record: the number of the rollout's records in earlier files."""

    intents: int
    turns: int
    services: int


class OpenLine(_Line, frozen=True, kw_only=True, tag="open"):
    """Line that records the start of the rollout."""

    at: float
    versions: dict[str, str] = {}
    metadata: dict[str, Json] = {}
    branch: Branch | None = None
    elsewhere: Elsewhere | None = None


class AgentLine(_Line, frozen=True, kw_only=True, tag="agent"):
    """Line that records that an agent's process is about to start."""

    argv: tuple[str, ...]
    cwd: str
    home: str | None = None
    config: str | None = None
    started_at: float


class BlobLine(_Line, frozen=True, kw_only=True, tag="blob"):
    """Line that contains a message or a list of tools. Intents refer to such a line by its number."""

    kind: Literal["message", "tools"]
    number: int
    digest: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    same: int | msgspec.UnsetType = msgspec.UNSET
    """Number of an earlier blob with the same value. This line then contains no value."""


class IntentLine(_Line, frozen=True, kw_only=True, tag="intent"):
    """Line that records that a call is about to be passed to its handler."""

    call: str
    number: int
    at: float
    agent: str | None = None
    request: msgspec.Raw
    messages: Ranges
    tools: int | None = None
    digest: str


class TurnLine(_Line, frozen=True, kw_only=True, tag="turn"):
    """Line that records the outcome of a call."""

    call: str
    turn: TurnRecord


class ServiceLine(_Line, frozen=True, kw_only=True, tag="service"):
    """Line that records a service call that has ended."""

    call: ServiceCall


class ScoreLine(_Line, frozen=True, kw_only=True, tag="score"):
    """Line that records a score of the rollout."""

    name: str
    value: float
    at: float


class SealLine(_Line, frozen=True, kw_only=True, tag="seal"):
    """Line that records the end of the rollout.

    It contains the numbers of records that the file must contain, and the chain.
    """

    intents: int
    turns: int
    services: int
    ended: Ending | None = None
    stopped: str | None = None
    at: float
    digest: msgspec.UnsetType | str = msgspec.UNSET


class OtherLine(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "type"}):
    """A line of this format that belongs to the chain, but whose content this version of triocept cannot read.

    Only the line's place in the chain (`seq` and `prev`) is verified.
    """

    kind: str
    rollout: str
    run: str = ""
    seq: int
    prev: str
    call: Json = None
    digest: Json = None
    why: str = ""
    """Reason why the line cannot be read. This field is not a member of the line in the file."""

    def __str__(self) -> str:
        return f"this version of triocept cannot read the {self.kind} line: {self.why}"


Line: TypeAlias = OpenLine | AgentLine | BlobLine | IntentLine | TurnLine | ServiceLine | ScoreLine | SealLine

line_bytes = msgspec.json.Encoder().encode
"""Function that returns a line as JSON bytes, without a newline."""
BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Exceptions that msgspec's decoders raise for bytes that are not JSON of the expected type."""


class Unreadable(msgspec.Struct, frozen=True):
    """Bytes in a trace file that are not a line of this format."""

    why: str
    version: int = 0
    """Format version of a line that another version of triocept wrote; 0 if the bytes are not such a line."""
    cut: bool = False
    """True if the file ends within these bytes, without a newline: a program was killed during a write, or is still
    writing."""


class Found(msgspec.Struct, frozen=True):
    """A readable line of a trace file, with its bytes."""

    line: Line | OtherLine
    data: memoryview
    """Bytes of the line without its newline. The chain is computed from these bytes."""


Piece: TypeAlias = Found | Unreadable

_START = re.compile(rb'\{"type":"(?:open|agent|blob|intent|turn|service|score|seal)","version":\d')
"""Start of every line. This text cannot occur within a line, because quotes in a JSON string are escaped."""
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_other_decoder = msgspec.json.Decoder(OtherLine)
_HEAD = re.compile(rb'\{"type":"[a-z]+","version":(\d{1,9})[,}]')
_FORMAT_1 = re.compile(rb'\{"type":"(?:turn|service|seal)","version":1[,}]')
"""Start of every line of format 1."""


class _Versioned(msgspec.Struct, frozen=True):
    version: int


_version_decoder = msgspec.json.Decoder(_Versioned)


def found_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, Piece]]:
    with open(path, "rb") as file:
        yield from lines_in(file)


def lines_in(file: BinaryIO, size: int | None = None) -> Iterator[tuple[int, Piece]]:
    """Yield the pieces (lines, or unreadable bytes) of an open file from its beginning, each with its line number.

    If `size` is given, read only the first `size` bytes, because the file may grow during the iteration.
    """
    left = size
    for number, data in enumerate(file, 1):
        if left is not None:
            data, left = data[:left], max(left - len(data), 0)
        for piece in lines_between(data):
            yield number, piece
        if left == 0:
            return


def lines_between(data: bytes) -> Iterator[Piece]:
    """Yield the pieces in the bytes between two newlines: a line, unreadable bytes, or both.

    Unreadable bytes and a line occur together if a program was killed during a write, and another program then appended
    a line without a newline before it. An empty line yields no piece.
    """
    body = memoryview(data)[: -1 if data.endswith(b"\n") else None]
    if not data.strip():
        return
    try:
        yield Found(_decoded(body), body)
        return
    except msgspec.DecodeError as exc:
        why = exc
    pieces: list[Piece] = []
    end = len(body)
    for start in (*reversed([found.start() for found in _START.finditer(body, 1)]), 0):
        try:
            pieces.append(Found(_decoded(body[start:end]), body[start:end]))
            end = start
        except msgspec.DecodeError as exc:
            why = exc
    if end:
        version = _version_of(body[:end])
        is_other = version > VERSION or _FORMAT_1.match(body) is not None
        is_cut = len(body) == len(data) and not pieces
        yield Unreadable(str(why), version if is_other else 0, cut=is_cut)
    yield from reversed(pieces)


def _decoded(data: memoryview) -> Line | OtherLine:
    try:
        version = _version_of(data)
        if version == VERSION:
            return _decoder.decode(data)
    except msgspec.ValidationError as exc:
        try:
            return msgspec.structs.replace(_other_decoder.decode(data), why=str(exc))
        except msgspec.DecodeError:
            raise exc from None
    except (UnicodeDecodeError, RecursionError) as exc:
        raise msgspec.DecodeError(str(exc)) from exc
    raise msgspec.DecodeError(
        f"the line has format {version}" if version else "the line does not begin like a line of a trace"
    )


def _version_of(data: memoryview) -> int:
    if (match := _HEAD.match(data)) is not None:
        return int(match[1])
    try:
        return _version_decoder.decode(data).version
    except BROKEN:
        return 0


def other_version(version: int) -> str:
    if version < VERSION:
        return f"the line has format {version}, which triocept 0.2.0 can read, and later versions cannot"
    return f"the line was written by a newer triocept (format {version})"
