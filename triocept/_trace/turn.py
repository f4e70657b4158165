"""The frozen records of settled exchanges, and of calls of host services."""

from __future__ import annotations

from reprlib import repr as short
from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json, Message
from .._canonical.request import Request
from .._canonical.response import Response
from .conversation import Conversation
from .increments import Increments
from .raw import RawResponse
from .tokens import Tokens
from .wire import WireView


class Branch(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The point where a child rollout leaves the trace of its parent."""

    rollout: str
    """The parent's id."""
    run: str = ""
    """Run of the parent's id, as in `Trace.run`."""
    turns: int = 0
    """Number of turns in the parent's trace at that point."""
    service: str | None = None
    """Id of the parent's service call that opened the child; None if the program opened it."""


UPSTREAM = "upstream"
"""The note in which an upstream records its name and its settings: `temperature`, and `model` where it differs from the
agent's."""

OutcomeKind: TypeAlias = Literal["answered", "refused", "failed", "abandoned"]


class TurnError(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The reason why a turn was not answered."""

    type: str
    """Name of the exception's class."""
    message: str
    status: int | None = None
    """HTTP status that was sent to the agent; None if no connection waited."""


class Draft(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An answer that one handler has read from another: the agent did not get it, or not unchanged."""

    why: str
    """Name of the handler that has read it: `approve`, `best_of`, `rewrite`, …; `abort`: its server has aborted it, and
    the call was sent again."""
    counted: bool = False
    """True if its usage is additional to that of the turn's answer."""
    common: int = 0
    """Number of messages at the head of the turn's request that the draft's request begins with."""
    dropped: int = 0
    """Number of the other messages of the turn's request, which the draft's request does not have."""
    messages: tuple[Message, ...] = ()
    """The messages of the draft's request after the common ones."""
    changed: bool = False
    """True if the draft's request differs in more than its messages."""
    response: Response | None = None
    """The answer. None if the draft was not answered. Of an aborted call: the part that its server has returned."""
    error: TurnError | None = None
    """None exactly if the draft was answered."""
    notes: dict[str, Json] = {}
    """Notes of the handlers that have answered it."""
    tokens: Tokens | None = None
    started: float
    """Seconds from the start of the turn to the start of the draft."""
    duration: float
    """Seconds from the start of the draft to its end."""


DecisionKind: TypeAlias = Literal["approve", "modify", "reject", "answer", "terminate", "escalate"]


class Decided(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A decision about a tool call that the model has proposed."""

    call: str
    """Id of the call."""
    tool: str
    """Name of the tool."""
    kind: DecisionKind
    arguments: str | None = None
    """The changed arguments, of a call that was modified."""
    reason: str = ""
    """The reason that the model gets for a rejection; the text, of an answer in place of the model's."""
    by: str = ""
    """Name of the policy, or of the person, that decided."""
    seconds: float
    """Seconds that the decision took."""
    way: Literal["answer", "gate"] = "answer"
    """`answer`: carried out in the model's answer; `gate`: by the agent's own hook."""


class TurnRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Outcome of a call: the fields of a turn that are unknown when the call is passed to its handler."""

    number: int
    """Place in the order in which the rollout's exchanges settled, from 0."""
    outcome: OutcomeKind
    response: Response | None = None
    """The answer; for a failed or abandoned stream, the part that was sent; None if nothing was sent."""
    error: TurnError | None = None
    """None exactly if the outcome is `answered`."""
    conversation: Conversation | None = None
    """Conversation of the call, if the agent names it; `trace.conversations` has the conversation of each turn."""
    attempt: int = 1
    """Number of the attempt of the agent's SDK, if the SDK sends it (`x-stainless-retry-count` + 1)."""
    started_at: float
    """Time when the call was received: seconds since the epoch."""
    first_event: float | None = None
    """Seconds from `started_at` to the first increment of the answer; None if the answer was given whole."""
    duration: float
    """Seconds from `started_at` to the moment the exchange settled."""
    attended: bool = True
    """True if a connection of the agent waited for the answer when the exchange settled. A turn does not record how
    much of the answer the agent received: it is recorded before the last byte leaves."""
    rewritten: bool = False
    """True if the program answered with other content than `tokens` encode, which an upstream had sampled for this
    call."""
    notes: dict[str, Json] = {}
    """Notes that the program added with `exchange.annotate`."""
    decisions: tuple[Decided, ...] = ()
    """Decisions about the tool calls of the model, in the order of the calls."""
    drafts: tuple[Draft, ...] = ()
    """Answers that handlers around other handlers have read, and that the agent did not get unchanged, in order."""
    tokens: Tokens | None = None
    """Ids and log probabilities, from an upstream configured to return them; None if not requested."""
    policy_start: str | None = None
    """Version of the weights when the call was sent to its server; None if unknown. It comes from the server, else from
    `upstream.policy_version`."""
    policy_end: str | None = None
    """Version of the weights when the answer was complete. It differs from `policy_start` if the server has kept the
    call while its weights changed (`upstream.paused`)."""
    increments: Increments | None = None
    """The pieces of the answer, and their times; None if not requested (`record_increments`), or the answer was given
    whole."""
    wire: WireView | None = None
    """The call as sent over the wire; None if not requested (`record_wire`)."""
    raw: RawResponse | None = None
    """The raw bytes sent to the agent (`exchange.respond_raw`), and how they ended; None if the call was answered, or
    refused, in its dialect. `response` is then the content of the bytes, if the program passed it. Bytes generated
    while they are sent may be incomplete: with the end `reset` if the generator failed, `stall` if the agent left."""


class Turn(TurnRecord, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A model call of the agent, and its outcome."""

    id: str
    """Id of the call's exchange."""
    rollout: str
    """Id of the call's rollout."""
    run: str = ""
    """Run of the rollout's id, as in `Trace.run`: programs may reuse an id."""
    branch: Branch | None = None
    """The point where a child rollout leaves its parent; None for a root rollout."""
    dialect: str
    request: Request
    agent: str | None = None
    """Name that the caller gives itself: its User-Agent header. It holds name and version of the agent, or of its
    SDK."""

    @property
    def temperature(self) -> float | None:
        """Temperature at which the answer was sampled.

        The temperature in the provider's answer, or the temperature requested from it, after `sampling=` and
        `extra_body=` of the upstream. None if the upstream requested none and the provider reported none, or no
        upstream has answered. `request.sampling` holds the agent's request.
        """
        if self.tokens is not None:
            return self.tokens.temperature
        note = self.notes.get(UPSTREAM)
        return note.get("temperature") if isinstance(note, dict) else None

    def __repr__(self) -> str:
        """Return a short text: a turn holds its whole conversation, and every tool of the agent."""
        response = self.response
        said = [call.name for call in response.tool_calls] if response is not None else []
        text = [short(response.text)] if response is not None and response.text else []
        what = f": {', '.join([*text, *said])}" if text or said else ""
        return f"<Turn {self.number} of rollout {self.rollout}, {self.outcome}{what}>"


ServiceKind: TypeAlias = Literal["tool", "user", "stop", "state", "embeddings", "moderations", "gate"]


class ServiceCall(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A call of a host service, and its outcome."""

    id: str
    rollout: str
    """Id of the call's rollout."""
    run: str = ""
    """Run of the rollout's id, as in `Trace.run`."""
    number: int
    """Place in the order in which the rollout's service calls ended, from 0."""
    kind: ServiceKind
    name: str
    """Name of the tool (`tool`, `gate`), or of the model that should embed or moderate; for other kinds, the
    operation: `user`, `stop`, `get`, `put`."""
    arguments: Json = None
    """Arguments as received."""
    outcome: OutcomeKind
    """`answered`; `refused`: the arguments do not fit, or the service refused; `failed`: the service raised;
    `abandoned`: the caller disconnected, or the rollout ended."""
    result: Json = None
    """Result of the service; for embeddings, the number of vectors and their length."""
    error: TurnError | None = None
    """None exactly if the outcome is `answered`."""
    turns: int = 0
    """Number of turns in the trace when the call began: the model calls before it."""
    started_at: float
    """Start of the call: seconds since the epoch."""
    duration: float
    """Seconds from `started_at` to the end of the call."""
    branch: Branch | None = None
    """The point where a child rollout leaves its parent; None for a root rollout."""
