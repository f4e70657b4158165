"""Traces for tests of the replay: turns at given times, in given conversations."""

from collections.abc import Sequence

import msgspec

from triocept import Message, Request, Response, Text, Tool, ToolCall, ToolResult, Trace, Turn
from triocept._recording.replay.record import Record
from triocept._trace.conversation import CallKind, Conversation
from triocept._trace.trace import TraceWriter
from triocept._trace.turn import OutcomeKind


def said(role: str, text: str) -> Message:
    return Message(role, (Text(text),))  # type: ignore[arg-type]


def called(name: str, id: str = "c1", **arguments: object) -> Message:  # noqa: A002
    call = ToolCall.of(name, **arguments)
    return Message("assistant", (ToolCall(call.name, call.arguments, id),))


def resulted(text: str, id: str = "c1", role: str = "tool") -> Message:  # noqa: A002
    return Message(role, (ToolResult(id=id, content=(Text(text),)),))  # type: ignore[arg-type]


def turn(
    came: float,
    settled: float,
    *messages: Message | str,
    answer: str | Response = "ok",
    of: str = "main",
    kind: CallKind | None = None,
    outcome: OutcomeKind = "answered",
) -> Turn:
    """A turn of the conversation `of`; one that is not called `main` is a sub-agent's."""
    told = tuple(each if isinstance(each, Message) else said("user", each) for each in messages)
    parent = None if of == "main" else "main"
    return Turn(
        id=f"x{came:g}",
        rollout="r",
        number=0,
        dialect="anthropic_messages",
        request=Request(dialect="anthropic_messages", model="m", messages=told, tools=(Tool(name="t"),)),
        outcome=outcome,
        response=Response.of(answer) if isinstance(answer, str) else answer,
        conversation=Conversation(
            id=of, parent=parent, kind=kind or ("sub_agent" if parent is not None else "main")
        ),
        started_at=came,
        duration=settled - came,
    )


def record_of(
    turns: Sequence[Turn], *, clock: tuple[float, float] = (float("inf"), 0), **options: bool
) -> Record:
    """Return a record of these turns in the order in which they settled; `clock` was set then, by so much."""
    trace, (when, by) = Trace("r"), clock
    for each in sorted(turns, key=lambda turn: turn.started_at + turn.duration):
        started_at = each.started_at + (by if each.started_at >= when else 0)
        TraceWriter(trace).add(msgspec.structs.replace(each, started_at=started_at))
    return Record(trace, **options)
