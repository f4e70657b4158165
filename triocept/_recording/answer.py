"""An agent's answer as a value: complete, or up to where it broke; with its pieces and their times.

Rules:

1. It holds the canonical answer, not a provider's bytes: so it can be given again in any dialect.
2. Ids of answers and of calls are not kept: each answer gets new ids in the format of its dialect.
3. No header is kept. The time at which an agent may retry is a number.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from .._canonical.response import Response, ResponsePart
from .._trace.increments import Increments

FailureKind: TypeAlias = Literal["refusal", "upstream", "truncated", "context_length"]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why a call was not answered, or not completely."""

    kind: FailureKind
    """`refusal`: a handler refused; otherwise a provider failed."""
    status: int
    message: str
    retry_after: float | None = None
    """Seconds until the agent may retry."""
    should_retry: bool | None = None
    code: str | None = None
    dialect: str = ""
    """Dialect of `body` and `code`."""
    body: str = ""
    """The provider's own document."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a call."""

    response: Response | None = None
    """The answer; if it broke, the part that was sent; None: nothing was sent."""
    failure: Failure | None = None
    hung_up: bool = False
    """True if the agent disconnected before the end."""
    holds_calls: bool = True
    """True if calls in a stream waited for its end."""
    increments: Increments | None = None
    """Pieces of the answer; None: it was given whole."""
    first_event: float | None = None
    """Seconds from the call to the first event."""
    duration: float = 0.0
    """Seconds from the call to the end."""


def says_the_same(one: Answer, other: Answer) -> bool:
    """Return True if two answers have equal content.

    Times, pieces, ids, and the number of cached prompt tokens may differ."""
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
