"""The frozen record of one settled exchange."""

from __future__ import annotations

from reprlib import repr as short
from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request
from .._canonical.response import Response
from .branch import Branch
from .conversation import Conversation
from .increments import Increments
from .raw import RawResponse
from .tokens import Tokens
from .wire import WireView

UPSTREAM = "upstream"
"""The note in which an upstream says which it is, and what it asked: `temperature`, and `model` where that is not the
agent's."""

OutcomeKind: TypeAlias = Literal["answered", "refused", "failed", "abandoned"]


class TurnError(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Why a turn was not answered."""

    type: str
    """The name of the exception's class."""
    message: str
    status: int | None = None
    """The HTTP status that the agent was given; None where nobody was there to get one."""


class TurnRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What became of a call: of a turn, all but what was known when the call was handed over."""

    number: int
    """Its place in the order in which the rollout's exchanges settled, from 0."""
    outcome: OutcomeKind
    response: Response | None = None
    """The answer; for a failed or abandoned stream, as much of it as was sent; None where there was nothing."""
    error: TurnError | None = None
    """None exactly if the outcome is `answered`."""
    conversation: Conversation | None = None
    """Whose call it is, where the agent says so itself; `trace.conversations` knows for all turns."""
    attempt: int = 1
    """Which try of the agent's SDK this was, as far as the SDK tells (`x-stainless-retry-count` + 1)."""
    started_at: float
    """When the call was caught: seconds since the epoch."""
    first_event: float | None = None
    """Seconds from there to the first increment of the answer; None where it was given whole."""
    duration: float
    """Seconds from there to the moment it settled."""
    attended: bool = True
    """Whether a connection of the agent waited for the answer when it settled. What it then got of it a turn cannot
    say: it is recorded before the last byte leaves."""
    rewritten: bool = False
    """Whether the program answered with something else than `tokens` spell, which an upstream had sampled for it."""
    notes: dict[str, Json] = {}
    """What the program said with `exchange.annotate`."""
    tokens: Tokens | None = None
    """Ids and log probabilities, from an upstream that was asked for them; None: nobody asked."""
    increments: Increments | None = None
    """In which pieces the answer came, and when; None: nobody asked (`record_increments`), or it was given whole."""
    wire: WireView | None = None
    """How it went over the wire; None: nobody asked (`record_wire`)."""
    raw: RawResponse | None = None
    """The raw bytes that the agent was sent (`exchange.respond_raw`), and how they ended; None: it was answered, or
    refused, in its dialect. `response` is then what they say, where the program has told. Of those that were made on
    their way there may be a beginning alone: with the end `reset` where that failed, `stall` where the agent left."""


class Turn(TurnRecord, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One model call of the agent, and what became of it."""

    id: str
    """That of its exchange."""
    rollout: str
    """The id of its rollout."""
    run: str = ""
    """Which rollout of this id, as of `Trace.run`: programs may use an id again."""
    branch: Branch | None = None
    """Of a child rollout: where it leaves its parent."""
    dialect: str
    request: Request
    agent: str | None = None
    """What the caller calls itself: its User-Agent header. The agent's name and version stand there, or its SDK's."""

    @property
    def temperature(self) -> float | None:
        """At which temperature the answer was sampled: the one that the provider was asked for, after `sampling=` and
        `extra_body=` of the upstream, or says that it took. None: it was asked for none and took its own, nobody said,
        or no upstream has answered. What the agent asked for is in `request.sampling`."""
        if self.tokens is not None:
            return self.tokens.temperature
        note = self.notes.get(UPSTREAM)
        return note.get("temperature") if isinstance(note, dict) else None

    def __repr__(self) -> str:
        """Short: a turn holds its whole conversation, and every tool of the agent."""
        response = self.response
        said = [call.name for call in response.tool_calls] if response is not None else []
        text = [short(response.text)] if response is not None and response.text else []
        what = f": {', '.join([*text, *said])}" if text or said else ""
        return f"<Turn {self.number} of rollout {self.rollout}, {self.outcome}{what}>"
