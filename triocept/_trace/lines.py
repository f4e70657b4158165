"""The format of a trace file: one JSON object a line, appended, readable at any moment, verifiable by itself.

Format 2. Every line begins with the same members::

    {"type":…, "version":2, "rollout":id, "run":run, "seq":N, "prev":"32 hex digits", …}

and continues with the members of its type:

=========  ============================================================================================================
open       the rollout has begun: `at`, `versions`, `metadata`, `branch`; `elsewhere`: the numbers of its intents, turns
           and service calls in another file, if this file was begun during the run
agent      an agent's process is about to start: `argv`, `cwd`, `home`, `config`, `started_at`
blob       a message (`kind` is `message`) or a list of tools (`tools`): `number` (of each kind from 0), `value`, and
           `digest`, the first 32 hex digits of the value's SHA-256; for a repetition in a conversation, `same` in
           place of the value: the number of the blob that has the value
intent     a call is about to be passed to its handler: `call` (its id), `number`, `at`, `agent`, `request` without
           messages and tools, `messages`: the numbers of its blobs, as half-open ranges, `tools`: the number of its
           blob, and `digest`
turn       outcome of a call: `call`, and `turn`, the members of a Turn without the members of its intent
service    a service call: `call`
score      a score of the rollout: `name`, `value`, `at`; it may come behind the seal
seal       the end: the numbers of `intents`, `turns` and `services`, `ended` (`body`, `cancelled`, `raised`),
           `stopped`, `at`; and `digest`, the chain
=========  ============================================================================================================

An intent's `digest` covers its request as recorded: the first 32 hex digits of `sha256(messages + tools + request)`.
`request` is the bytes in the line, `tools` the digest of the tools (16 bytes, or none). `messages` is a chain over the
messages, as the chain over lines, and begins empty: 16 bytes of `sha256(messages + digest)`.

Rules:

1. A rollout has one writer, and one chain (see `chain`): `seq` counts its lines; `prev` and the seal's `digest` contain
   the chain before each line. Several rollouts, endpoints and programs may append to one file at once. Each line names
   its rollout by id and `run`. The run is unique, even among rollouts of the same id in another program or another
   epoch.
2. Lines are written by one `write` to a file opened for appending, and content of the file is never removed. A killed
   program leaves at most one incomplete line. Each writer begins on a new line.
3. An unreadable line, incomplete or damaged, loses only itself and the turns whose messages it contained. Empty lines
   are ignored.
4. An intent is in the file before its call is passed to the handler, a turn before the agent receives the end of its
   answer. An intent without a turn is a call that was running when the program died.
5. A score behind the seal continues the chain, and another seal closes it.

A line of a later version is an error for `read_traces`, and a gap for `check`. A line of format 1, which triocept 0.2.0
wrote, is unreadable too, but loses only itself.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from .branch import Branch
from .entries import Ending
from .service import ServiceCall
from .turn import TurnRecord

VERSION = 2
Ranges: TypeAlias = list[tuple[int, int]]
"""Half-open ranges of numbers."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    version: int = VERSION
    rollout: str
    run: str = ""
    seq: int
    """Number of earlier lines of this rollout."""
    prev: str
    """The chain before this line."""


class Elsewhere(msgspec.Struct, frozen=True):
    """Numbers of a rollout's records in another file."""

    intents: int
    turns: int
    services: int


class OpenLine(_Line, frozen=True, kw_only=True, tag="open"):
    """Line for the start of the rollout."""

    at: float
    versions: dict[str, str] = {}
    metadata: dict[str, Json] = {}
    branch: Branch | None = None
    elsewhere: Elsewhere | None = None


class AgentLine(_Line, frozen=True, kw_only=True, tag="agent"):
    """Line for an agent's process that is about to start."""

    argv: tuple[str, ...]
    cwd: str
    home: str | None = None
    config: str | None = None
    started_at: float


class BlobLine(_Line, frozen=True, kw_only=True, tag="blob"):
    """Line for a message, or a list of tools, written once."""

    kind: Literal["message", "tools"]
    number: int
    digest: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    same: int | msgspec.UnsetType = msgspec.UNSET
    """Number of the blob that has the value."""


class IntentLine(_Line, frozen=True, kw_only=True, tag="intent"):
    """Line for a call that is about to be passed to its handler."""

    call: str
    number: int
    at: float
    agent: str | None = None
    request: msgspec.Raw
    messages: Ranges
    tools: int | None = None
    digest: str


class TurnLine(_Line, frozen=True, kw_only=True, tag="turn"):
    """Line for the outcome of a call."""

    call: str
    turn: TurnRecord


class ServiceLine(_Line, frozen=True, kw_only=True, tag="service"):
    """Line for a service call."""

    call: ServiceCall


class ScoreLine(_Line, frozen=True, kw_only=True, tag="score"):
    """Line for a score of the rollout."""

    name: str
    value: float
    at: float


class SealLine(_Line, frozen=True, kw_only=True, tag="seal"):
    """Line for the end: the numbers of records that must be in the file, and the chain."""

    intents: int
    turns: int
    services: int
    ended: Ending | None = None
    stopped: str | None = None
    at: float
    digest: msgspec.UnsetType | str = msgspec.UNSET


class OtherLine(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "type"}):
    """Line of this format with content that this version cannot read: only its place in the chain is known."""

    kind: str
    rollout: str
    run: str = ""
    seq: int
    prev: str
    call: Json = None
    digest: Json = None
    why: str = ""
    """The part that cannot be read; not a member of the line."""

    def __str__(self) -> str:
        return f"this version of triocept cannot read the {self.kind} line: {self.why}"


Line: TypeAlias = OpenLine | AgentLine | BlobLine | IntentLine | TurnLine | ServiceLine | ScoreLine | SealLine

line_bytes = msgspec.json.Encoder().encode
"""Encode a line, without its newline."""
