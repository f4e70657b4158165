"""Turns of a trace, as a rollout records them, in a line each."""

from typing import Any, get_args

from triocept import Message, Request, Response, Text, Tool, Trace, Turn
from triocept._canonical.content import Role
from triocept._trace.conversation import CallKind, Conversation
from triocept._trace.redaction import Redactor
from triocept._trace.trace import TraceWriter
from triocept._trace.turn import OutcomeKind
from triocept.traces import Decided, Draft, TurnError

TOOLS = (Tool(name="t"),)


def said(*texts: str) -> tuple[Message, ...]:
    """`user: …`, `assistant: …`; without a role it is the user's."""
    found = []
    for text in texts:
        role, colon, rest = text.partition(": ")
        if colon and role not in get_args(Role):
            role, rest = "user", text
        found.append(Message(role if colon else "user", (Text(rest if colon else text),)))  # type: ignore[arg-type]
    return tuple(found)


AS_RECORDED = Redactor().request
"""A request as a rollout records it, its messages shared with those of earlier ones."""


def tell(
    trace: Trace,
    messages: tuple[Message, ...],
    answer: str | Response | None = "",
    outcome: OutcomeKind = "answered",
    *,
    of: str = "",
    kind: CallKind = "main",
    parent: str | None = None,
    attempt: int = 1,
    agent: str | None = None,
    decisions: tuple[Decided, ...] = (),
    drafts: tuple[Draft, ...] = (),
    **request: Any,
) -> Turn:
    """One more turn: what was asked, and answered; `of` a conversation that the agent names, or none."""
    asked = Request(
        **{"dialect": "openai_chat", "model": "m", "tools": TOOLS, **request, "messages": messages}
    )
    named = Conversation(id=of, kind=kind, parent=parent) if of or kind != "main" else None
    turn = Turn(
        id=f"x{len(trace)}",
        rollout=trace.rollout,
        run=trace.run,
        number=len(trace),
        dialect="openai_chat",
        request=AS_RECORDED(asked),
        outcome=outcome,
        response=Response.of(answer) if isinstance(answer, str) else answer,
        conversation=named,
        attempt=attempt,
        agent=agent,
        decisions=decisions,
        drafts=drafts,
        error=None if outcome == "answered" else TurnError(type="Fault", message="no", status=500),
        started_at=0.0,
        duration=0.0,
    )
    TraceWriter(trace).add(turn)
    return turn
