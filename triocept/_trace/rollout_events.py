"""Events of rollouts. `serve_endpoint(on_event=…)` passes each event to a function when it happens.

Rules:

1. The events of one rollout are numbered, and are sent in the order in which they are recorded. `RolloutOpened` is the
   first event, and `RolloutEnded` the last, except that a `Scored` event may follow `RolloutEnded`.
2. Each `CallArrived` is followed by exactly one `TurnSettled` or `TurnLost` of the same exchange. The exchange's other
   events are sent between these two. Exception: decisions for the agent's hook (see `gate`) are sent when the agent
   requests them.
3. Events contain the recorded entries, which are redacted and shared with the trace. A function must not change them.
4. No event contains a key in use, and no key is split over several events. If a piece of text ends with characters that
   may be the start of a key, these characters are sent with the next piece.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request
from .conversation import Conversation
from .cost import usage_of
from .entries import AgentStart, Ending, Opening, Score
from .turn import Decided, ServiceCall, Turn
from .waits import waited

_BRIEF = 200
"""Maximum characters of each text that `brief` returns."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    rollout: str
    """Id of the rollout."""
    run: str
    """Id of this run, which distinguishes rollouts with equal ids (see `Trace.run`)."""
    number: int
    """Position in the order of the rollout's events, from 0."""
    at: float
    """Time of the event, in seconds since the epoch."""
    clock: float
    """Time of the event by trio's clock (`trio.current_time()`), in seconds. Use it to compute durations."""

    def brief(self) -> dict[str, Json]:
        """Return the event as a short JSON object, for a log or a terminal.

        Texts are cut to their last 200 characters, and messages are left out.
        """
        name = type(self).__name__
        return {"event": name, "rollout": self.rollout, "number": self.number, "at": self.at, **self._more()}

    def _more(self) -> dict[str, Json]:
        names = self.__struct_fields__[len(_Event.__struct_fields__) :]
        found: dict[str, Json] = msgspec.to_builtins({name: getattr(self, name) for name in names})
        return found


class RolloutOpened(_Event, frozen=True, kw_only=True):
    """A rollout was opened."""

    opening: Opening
    """Record of the start: the rollout's metadata and, for a child rollout, its parent."""

    def _more(self) -> dict[str, Json]:
        branch = self.opening.branch
        return {"parent": branch.rollout if branch else None, "metadata": self.opening.metadata}


class RolloutEnded(_Event, frozen=True, kw_only=True):
    """A rollout has ended, and its trace is sealed."""

    ended: Ending | None
    """The way in which the rollout's body ended, as in `Trace.ended`; None if unknown."""
    stopped: str | None
    """Reason why the rollout was stopped, such as the limit that was reached; None if the rollout was not stopped."""
    turns: int
    """Number of turns in the rollout's trace."""


class AgentStarted(_Event, frozen=True, kw_only=True):
    """An agent's process is about to start."""

    agent: AgentStart
    """Record of the agent's start, with its command and directories."""

    def _more(self) -> dict[str, Json]:
        return {"argv": list(self.agent.argv), "cwd": self.agent.cwd}


class AgentEnded(_Event, frozen=True, kw_only=True):
    """An agent's process has ended. This event is not sent if the rollout ended before the process."""

    agent: AgentStart
    """Record of the agent's start."""
    returncode: int | None
    """Return code of the process. A return code of -n means that the signal n ended the process. None if the process
    could not be started."""

    def _more(self) -> dict[str, Json]:
        return {"argv": list(self.agent.argv), "returncode": self.returncode}


class CallArrived(_Event, frozen=True, kw_only=True):
    """A model call of the agent has arrived.

    The event is sent just before the call is passed to its handler. If no handler gets the call (because a limit is
    reached, for example), the event is sent just before the call's `TurnSettled`.
    """

    exchange: str
    """Id of the call's exchange. The call's turn has the same id."""
    dialect: str
    request: Request
    agent: str | None
    """User-Agent header of the call, as in `Turn.agent`."""
    conversation: Conversation | None = None
    """Conversation of the call, if the agent names one, as in `Turn.conversation`."""

    def _more(self) -> dict[str, Json]:
        request = self.request
        texts: list[str] = []
        for message in request.messages[-1:]:
            texts = [*(result.text for result in message.tool_results), message.text]
        return {
            "exchange": self.exchange,
            "dialect": self.dialect,
            "model": request.model,
            "messages": len(request.messages),
            "tools": len(request.tools),
            "text": "\n".join(filter(None, texts))[-_BRIEF:],
            "agent": self.agent,
        }


IncrementKind: TypeAlias = Literal["text", "reasoning", "refusal", "tool_call", "other", "raw"]


class IncrementSent(_Event, frozen=True, kw_only=True):
    """A piece of an answer was sent to the agent. This event is sent only for a streamed answer."""

    exchange: str
    """Id of the exchange."""
    index: int
    """Position in the order of the exchange's increments, from 0."""
    kind: IncrementKind
    """`tool_call`: the name of a tool, or a piece of its arguments. `other`: a part that only its dialect understands.
    `raw`: raw bytes."""
    part: int
    """Index of the part in the answer, from 0; 0 for raw bytes."""
    text: str = ""
    """Text to append to the part; empty for raw bytes and `other`. If a piece ends with characters that could be the
    start of a key, the next piece contains these characters. With a `Redaction`, each part is one piece, sent when the
    part is complete."""
    call: str = ""
    """Id of the tool call, in the call's first piece; otherwise empty."""
    tool: str = ""
    """Name of the tool, in the call's first piece; otherwise empty."""


class DecisionAsked(_Event, frozen=True, kw_only=True):
    """A policy was asked to decide about a tool call of the model.

    A `DecisionMade` event follows, unless the agent disconnects before the decision, or the policy raises.
    """

    exchange: str
    """Id of the exchange in which the model proposed the call."""
    call: str
    """Id of the tool call."""
    tool: str
    """Name of the tool."""
    arguments: str
    """Arguments of the call, as text."""


class DecisionMade(_Event, frozen=True, kw_only=True):
    """A policy, or a person, has decided about a tool call of the model."""

    exchange: str
    """Id of the exchange in which the model proposed the call."""
    asked: int
    """Number of the `DecisionAsked` event about the same tool call. (The ids of two tool calls may be equal.)"""
    decision: Decided
    """The decision, with its time and the name of the policy or person that made it."""


class TurnSettled(_Event, frozen=True, kw_only=True):
    """A model call has an outcome, and its turn is recorded."""

    turn: Turn

    @property
    def exchange(self) -> str:
        """Id of the call's exchange."""
        return self.turn.id

    def _more(self) -> dict[str, Json]:
        turn = self.turn
        response, error = turn.response, turn.error
        usage = usage_of(turn)
        return {
            "exchange": turn.id,
            "turn": turn.number,
            "outcome": turn.outcome,
            "duration": turn.duration,
            "waited": waited(turn),
            "text": response.text[-_BRIEF:] if response is not None else "",
            "tool_calls": [call.name for call in response.tool_calls] if response is not None else [],
            "input_tokens": usage.input_tokens if usage is not None else None,
            "output_tokens": usage.output_tokens if usage is not None else None,
            "error": f"{error.type}: {error.message}"[:_BRIEF] if error is not None else None,
        }


class TurnLost(_Event, frozen=True, kw_only=True):
    """A model call has ended without a turn, because the turn could not be created or recorded.

    The agent gets a 500.
    """

    exchange: str
    """Id of the call's exchange."""
    error: str
    """Class name of the exception."""


class ServiceCalled(_Event, frozen=True, kw_only=True):
    """A call to a host service has ended."""

    call: ServiceCall

    def _more(self) -> dict[str, Json]:
        call = self.call
        names = ("id", "kind", "name", "outcome", "duration")
        return {each: getattr(call, each) for each in names} | {"error": call.error and call.error.type}


class Scored(_Event, frozen=True, kw_only=True):
    """The rollout got a score. This event may come after `RolloutEnded`."""

    score: Score

    def _more(self) -> dict[str, Json]:
        return {"name": self.score.name, "value": self.score.value}


RolloutEvent: TypeAlias = (
    RolloutOpened
    | RolloutEnded
    | AgentStarted
    | AgentEnded
    | CallArrived
    | IncrementSent
    | DecisionAsked
    | DecisionMade
    | TurnSettled
    | TurnLost
    | ServiceCalled
    | Scored
)
"""Any event of a rollout, as passed to `on_event`."""
