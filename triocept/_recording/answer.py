"""What an agent got: the whole of it, or what came before it broke; in which pieces, and when.

Rules:

1. It is what the agent was given, not a provider's bytes: so it can be given again in any dialect.
2. Ids of answers and of calls are not kept: each answer gets new ones, which fit the dialect that it is given in.
3. No header is kept. When an agent may try again is a number.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from .._canonical.response import Response, ResponsePart
from .._trace.increments import Increments

FailureKind: TypeAlias = Literal["refusal", "upstream", "truncated", "context_length"]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why it was not answered, or not to the end."""

    kind: FailureKind
    """`refusal`: a handler's; else a provider's."""
    status: int
    message: str
    retry_after: float | None = None
    """Seconds."""
    should_retry: bool | None = None
    code: str | None = None
    dialect: str = ""
    """In whose words `body` and `code` are."""
    body: str = ""
    """The provider's own document."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a call."""

    response: Response | None = None
    """The answer; of one that broke, what was sent of it; None: nothing."""
    failure: Failure | None = None
    hung_up: bool = False
    """Whether the agent hung up before its end."""
    holds_calls: bool = True
    """Whether calls in a stream waited for its end."""
    increments: Increments | None = None
    """In which pieces it came; None: it was given whole."""
    first_event: float | None = None
    """Seconds from the call to the first of them."""
    duration: float = 0.0
    """Seconds from the call to its end."""


def says_the_same(one: Answer, other: Answer) -> bool:
    """Whether two answers differ in nothing but in when, in which pieces and under which ids they came, and in what of
    the prompt was in a cache."""
    return _said(one) == _said(other)


def _said(answer: Answer) -> list[Json]:
    response, said = answer.response, [answer.failure, answer.hung_up, answer.holds_calls]
    if response is None:
        return said
    usage = response.usage
    return [
        *said,
        [_part(part) for part in response.content],
        response.stop_reason,
        response.stop_sequence,
        response.model,
        None if usage is None else (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens),
    ]


def _part(part: ResponsePart) -> Json:
    match part:
        case ToolCall():
            return ["call", part.name, part.arguments, part.kind]
        case Reasoning():
            return ["reasoning", part.text, [(blob.dialect, blob.kind) for blob in part.blobs]]
        case Text() | RefusalText():
            return [type(part).__name__, part.text]
        case Opaque():
            return ["opaque", part.dialect, _without_ids(part.raw)]


def _without_ids(raw: Json) -> Json:
    return {name: value for name, value in raw.items() if name != "id"} if isinstance(raw, dict) else raw
