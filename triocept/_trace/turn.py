"""Define the frozen records of settled exchanges, and of calls to host services."""

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
    """The point in the parent's trace where a child rollout begins."""

    rollout: str
    """The parent's id."""
    run: str = ""
    """Id of the parent's run, as in `Trace.run`."""
    turns: int = 0
    """Number of turns in the parent's trace when the child began."""
    service: str | None = None
    """Id of the parent's service call that opened the child; None if the program opened it."""


UPSTREAM = "upstream"
"""Name of the note in which an upstream records its name and settings: `temperature`, and `model` if it differs from
the model that the agent requested."""

OutcomeKind: TypeAlias = Literal["answered", "refused", "failed", "abandoned"]


class TurnError(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The reason why a call was not answered."""

    type: str
    """Name of the exception's class."""
    message: str
    status: int | None = None
    """HTTP status that was sent to the agent; None if no connection of the agent was waiting for the answer."""


class Draft(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An answer that one handler has read from another handler.

    The agent did not get this answer, or got a changed version of this answer.
    """

    why: str
    """Name of the handler that has read the answer: `approve`, `best_of`, `rewrite`, …. `abort` means that the
    upstream's server aborted the answer, and the call was sent again. If the agent had received a part of the answer,
    that part is the draft, and the agent got the rest of the text after it."""
    counted: bool = False
    """True if the draft's tokens count in addition to the tokens of the turn's answer."""
    common: int = 0
    """Number of equal messages at the beginning of the turn's request and the draft's request."""
    dropped: int = 0
    """Number of messages after the common messages in the turn's request, which the draft's request does not contain.
    """
    messages: tuple[Message, ...] = ()
    """The messages after the common messages in the draft's request."""
    changed: bool = False
    """True if the draft's request differs from the turn's request in more than its messages."""
    response: Response | None = None
    """The answer. If the server aborted the answer: the part that the server returned. None if the other handler gave
    no answer."""
    error: TurnError | None = None
    """Reason why the other handler gave no answer; None if it gave an answer."""
    notes: dict[str, Json] = {}
    """Notes that handlers added while they produced the draft."""
    tokens: Tokens | None = None
    started: float
    """Seconds from the start of the turn to the start of the draft."""
    duration: float
    """Seconds from the start of the draft to its end."""


DecisionKind: TypeAlias = Literal["approve", "modify", "reject", "answer", "terminate", "escalate"]


class Decided(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Record of a decision about a tool call that the model has proposed."""

    call: str
    """Id of the call."""
    tool: str
    """Name of the tool."""
    kind: DecisionKind
    arguments: str | None = None
    """The changed arguments if `kind` is `modify`; otherwise None."""
    reason: str = ""
    """For a rejection, the reason that is sent to the model. For other kinds, the text that replaces the model's
    answer."""
    by: str = ""
    """Name of the policy, or of the person, that decided."""
    seconds: float
    """Seconds that the decision took."""
    way: Literal["answer", "gate"] = "answer"
    """Way in which the decision was carried out. `answer`: triocept changed the model's answer. `gate`: the agent's own
    hook allowed or blocked the call."""


class TurnRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Outcome of a call: the fields of a turn that are not known yet when the call is passed to its handler."""

    number: int
    """Position of the turn, from 0, in the order in which the rollout's exchanges got their outcomes."""
    outcome: OutcomeKind
    response: Response | None = None
    """The answer. If its stream failed or was abandoned: the part that was sent. None if no part was sent."""
    error: TurnError | None = None
    """Reason why the call was not answered; None if the outcome is `answered`."""
    conversation: Conversation | None = None
    """Conversation of the call, if the agent names one. `trace.conversations` has the conversation of every turn."""
    attempt: int = 1
    """Number of the attempt, from 1, if the agent's SDK sends it (`x-stainless-retry-count` + 1)."""
    started_at: float
    """Time when the call was received, in seconds since the epoch."""
    first_event: float | None = None
    """Seconds from `started_at` to the first increment of the answer; None if the answer was not streamed."""
    duration: float
    """Seconds from `started_at` until the exchange got its outcome."""
    attended: bool = True
    """True if a connection of the agent waited for the answer when the exchange got its outcome. A turn is recorded
    before the last byte is sent, so it does not contain how much of the answer the agent received."""
    rewritten: bool = False
    """True if the answer is not the answer that an upstream sampled. Either the program answered with other content, or
    the server aborted its answer, and an upstream continued the text (see `drafts`); `tokens` are then the tokens of
    the last part of the answer."""
    notes: dict[str, Json] = {}
    """Notes that the program added with `exchange.annotate`."""
    decisions: tuple[Decided, ...] = ()
    """Decisions about the tool calls of the model, in the order of the calls. Decisions of `open_rollout(gate=…)` are
    made after the turn that proposed the calls. So these decisions are in a later turn: the turn whose request contains
    the tools' results."""
    drafts: tuple[Draft, ...] = ()
    """Answers that one handler has read from another handler, in order. The agent did not get these answers, or got
    changed versions."""
    tokens: Tokens | None = None
    """Token ids and log probabilities of the call; None if the upstream did not request them from its server."""
    policy_start: str | None = None
    """Version of the model's weights when the upstream sent the call to its server; None if unknown. If the server
    reports no version, this is `upstream.policy_version`."""
    policy_end: str | None = None
    """Version of the model's weights when the answer was complete. The version differs from `policy_start` if the
    server changed its weights while the call was running (`upstream.paused`)."""
    increments: Increments | None = None
    """The pieces of the answer, and their times; None if `record_increments` is not set, or the answer was not
    streamed."""
    wire: WireView | None = None
    """The HTTP traffic of the call; None if `record_wire` is not set."""
    raw: RawResponse | None = None
    """The raw bytes that were sent to the agent (`exchange.respond_raw`), and the way in which they ended. None if the
    call was answered, or refused, in its dialect. If raw bytes were sent, `response` is their content, if the program
    passed it. Bytes that were generated while they were sent may be incomplete: their `end` is then `reset` if the
    generator failed, or `stall` if the agent disconnected."""


class Turn(TurnRecord, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Record of a model call of the agent, and of its outcome."""

    id: str
    """Id of the call's exchange."""
    rollout: str
    """Id of the call's rollout."""
    run: str = ""
    """Id of this run, which distinguishes rollouts with equal ids (see `Trace.run`)."""
    branch: Branch | None = None
    """For a child rollout: the point in the parent's trace where the child began. For other rollouts: None."""
    dialect: str
    request: Request
    agent: str | None = None
    """The User-Agent header of the call, with the name and version of the agent, or of its SDK."""

    @property
    def temperature(self) -> float | None:
        """Temperature at which the answer was sampled; None if unknown, or if no upstream answered.

        The provider may report the temperature. If it does not, this is the temperature that the upstream requested,
        after `sampling=` and `extra_body=` were applied; None if the upstream requested none. `request.sampling`
        contains the temperature that the agent requested.
        """
        if self.tokens is not None:
            return self.tokens.temperature
        note = self.notes.get(UPSTREAM)
        return note.get("temperature") if isinstance(note, dict) else None

    def __repr__(self) -> str:
        """Return a short text, because a turn contains its whole conversation and all tools of the agent."""
        response = self.response
        said = [call.name for call in response.tool_calls] if response is not None else []
        text = [short(response.text)] if response is not None and response.text else []
        what = f": {', '.join([*text, *said])}" if text or said else ""
        return f"<Turn {self.number} of rollout {self.rollout}, {self.outcome}{what}>"


ServiceKind: TypeAlias = Literal["tool", "user", "stop", "state", "embeddings", "moderations", "gate"]


class ServiceCall(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Record of a call to a host service, and of its outcome."""

    id: str
    rollout: str
    """Id of the call's rollout."""
    run: str = ""
    """Id of this run, which distinguishes rollouts with equal ids (see `Trace.run`)."""
    number: int
    """Position of the call, from 0, in the order in which the rollout's service calls ended."""
    kind: ServiceKind
    name: str
    """For the kinds `tool` and `gate`, the name of the tool. For `embeddings` and `moderations`, the name of the model.
    For other kinds, the operation: `user`, `stop`, `get`, `put`."""
    arguments: Json = None
    """Arguments of the call, as received."""
    outcome: OutcomeKind
    """`answered`; `refused`: the arguments were invalid, or the service refused; `failed`: the service raised an
    exception; `abandoned`: the caller disconnected, or the rollout ended."""
    result: Json = None
    """Result of the service; for embeddings, the number of vectors and their length."""
    error: TurnError | None = None
    """Reason why the call was not answered; None if the outcome is `answered`."""
    turns: int = 0
    """Number of turns in the trace when the service call began. By this number, the service call has its place among
    the model calls."""
    started_at: float
    """Time when the call started, in seconds since the epoch."""
    duration: float
    """Seconds from `started_at` to the end of the call."""
    branch: Branch | None = None
    """For a child rollout: the point in the parent's trace where the child began. For other rollouts: None."""
