"""A file of traces: one JSON object a line, appended, readable at any moment, and its own proof.

Format 2. Every line begins with the same members::

    {"type":…, "version":2, "rollout":id, "run":run, "seq":N, "prev":"32 hex digits", …}

and goes on with those of its type:

=========  ============================================================================================================
open       the rollout has begun: `at`, `versions`, `metadata`, `branch`; `elsewhere`: how many intents, turns and
           service calls of it are in another file, where this one was begun anew in mid-run
agent      an agent's process is about to be started: `argv`, `cwd`, `home`, `config`, `started_at`
blob       a message (`kind` is `message`) or a list of tools (`tools`): `number` (of each kind from 0), `value`, and
           `digest`, the first 32 hex digits of the value's SHA-256; where a conversation says the same again, `same`
           in the place of the value: the number of the blob that has it
intent     a call is about to be handed over: `call` (its id), `number`, `at`, `agent`, `request` without messages and
           tools, `messages`: the numbers of its blobs, as half-open ranges, `tools`: that of its blob, and `digest`
turn       what became of a call: `call`, and `turn`, the members of a Turn but for those that stand at its intent
service    a service call: `call`
score      what somebody makes of the rollout: `name`, `value`, `at`; it may come behind the seal
seal       the end: how many `intents`, `turns` and `services` there were, `ended` (`body`, `cancelled`, `raised`),
           `stopped`, `at`; and `digest`, the chain
=========  ============================================================================================================

An intent's `digest` is over its request as it was recorded: `sha256(messages + tools + request)`, its first 32 hex
digits. `request` are the bytes that stand in the line, `tools` the digest of the tools (16 bytes, or none), and
`messages` goes from message to message as the chain does from line to line, beginning with nothing:
`sha256(messages + digest)`, 16 bytes of it.

Rules:

1. A rollout has one writer, and one chain (see `chain`): `seq` counts its lines, `prev` and the seal's `digest` tell
   what each stands behind. Several rollouts, endpoints and programs may append to one file at once: each line says
   whose it is, by the rollout's id, and by its `run`, which no other rollout has, not even one of the same id in
   another program or another epoch.
2. Lines are written by one `write` to a file opened for appending, and nobody takes back what is in the file: whatever
   kills a program, at most one line of it is cut. Who appends begins on a new line.
3. A line that cannot be read, a cut one or a damaged one, costs itself alone, and the turns whose messages stood in it
   alone. Empty lines mean nothing.
4. An intent stands in the file before its call is handed over, a turn before the agent can see the end of its answer.
   An intent that no turn follows is a call that was at work when the program died.
5. A score behind the seal goes on with the chain, and another seal closes it.

A line of a later version is an error for `read_traces`, and a gap for `check`. A line of format 1, which triocept 0.2.0
wrote, cannot be read either, but costs itself alone.
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
"""Half-open."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    version: int = VERSION
    rollout: str
    run: str = ""
    seq: int
    """How many lines of this rollout came before."""
    prev: str
    """The chain so far."""


class Elsewhere(msgspec.Struct, frozen=True):
    """What of a rollout is in another file."""

    intents: int
    turns: int
    services: int


class OpenLine(_Line, frozen=True, kw_only=True, tag="open"):
    """The rollout has begun."""

    at: float
    versions: dict[str, str] = {}
    metadata: dict[str, Json] = {}
    branch: Branch | None = None
    elsewhere: Elsewhere | None = None


class AgentLine(_Line, frozen=True, kw_only=True, tag="agent"):
    """An agent's process is about to be started."""

    argv: tuple[str, ...]
    cwd: str
    home: str | None = None
    config: str | None = None
    started_at: float


class BlobLine(_Line, frozen=True, kw_only=True, tag="blob"):
    """A message, or a list of tools, once."""

    kind: Literal["message", "tools"]
    number: int
    digest: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    same: int | msgspec.UnsetType = msgspec.UNSET
    """The number of the blob that has its value."""


class IntentLine(_Line, frozen=True, kw_only=True, tag="intent"):
    """A call is about to be handed over."""

    call: str
    number: int
    at: float
    agent: str | None = None
    request: msgspec.Raw
    messages: Ranges
    tools: int | None = None
    digest: str


class TurnLine(_Line, frozen=True, kw_only=True, tag="turn"):
    """What became of a call."""

    call: str
    turn: TurnRecord


class ServiceLine(_Line, frozen=True, kw_only=True, tag="service"):
    """A service call."""

    call: ServiceCall


class ScoreLine(_Line, frozen=True, kw_only=True, tag="score"):
    """What somebody makes of the rollout."""

    name: str
    value: float
    at: float


class SealLine(_Line, frozen=True, kw_only=True, tag="seal"):
    """The end: how much of the rollout has to be in the file, and the chain."""

    intents: int
    turns: int
    services: int
    ended: Ending | None = None
    stopped: str | None = None
    at: float
    digest: msgspec.UnsetType | str = msgspec.UNSET


Line: TypeAlias = OpenLine | AgentLine | BlobLine | IntentLine | TurnLine | ServiceLine | ScoreLine | SealLine

line_bytes = msgspec.json.Encoder().encode
"""A line, without its newline."""
