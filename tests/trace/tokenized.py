"""Traces with tokens, made by hand: the ids are what a test says."""

from collections.abc import Iterable, Sequence
from typing import Any

from triocept import Message, Request, Response, Text, Tool, Trace, Turn
from triocept._trace.tokens import packed_floats, packed_ids
from triocept._trace.trace import TraceWriter
from triocept.traces import Tokens

TOOLS = (Tool(name="bash"),)


class Given:
    """One call to be made into a turn."""

    def __init__(
        self,
        prompt: Sequence[int],
        completion: Sequence[int],
        messages: Sequence[Message] = (),
        answer: str | Response = "",
        **more: Any,
    ) -> None:
        self.prompt, self.completion = prompt, completion
        self.messages, self.answer = messages, answer
        self.more = more


def said(*texts: str) -> tuple[Message, ...]:
    """`user: …`, `assistant: …`; without a role it is the user's."""
    found = []
    for text in texts:
        role, colon, rest = text.partition(": ")
        found.append(Message(role if colon else "user", (Text(rest if colon else text),)))  # type: ignore[arg-type]
    return tuple(found)


def tokens(prompt: Sequence[int], completion: Sequence[int], **more: Any) -> Tokens:
    """Whole ones, and log probabilities that say whose they are."""
    fields = {"policy_version": "step-1", "temperature": 1.0, "stop_included": True, **more}
    return Tokens(
        prompt=packed_ids(prompt),
        completion=packed_ids(completion),
        probabilities=packed_floats([-each / 64 for each in completion]),
        engine="vllm",
        **fields,
    )


def made(number: int, given: Given) -> Turn:
    """The turn of a call."""
    fields: dict[str, Any] = {
        "id": f"x{number}", "outcome": "answered", "started_at": float(number),
        "tokens": tokens(given.prompt, given.completion),
        "tools": TOOLS, **given.more,
    }  # fmt: skip
    request = Request(
        dialect="openai_chat", model="m", messages=tuple(given.messages), tools=fields.pop("tools")
    )
    return Turn(
        rollout="r",
        number=number,
        dialect="openai_chat",
        request=request,
        response=given.answer if isinstance(given.answer, Response) else Response.of(given.answer),
        duration=0.0,
        **fields,
    )


def trace_of(turns: Iterable[Turn | Given]) -> Trace:
    """A trace of these, in this order."""
    trace = Trace("r")
    writer = TraceWriter(trace)
    for number, turn in enumerate(turns):
        writer.add(made(number, turn) if isinstance(turn, Given) else turn)
    return trace
