"""The whole response to a request, and its token counts."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .._util.checks import NamesItself
from .content import Json, Opaque, Reasoning, RefusalText, Text, ToolCall

ResponsePart: TypeAlias = Text | Reasoning | ToolCall | RefusalText | Opaque

StopReason: TypeAlias = Literal[
    "end",  # the model finished
    "stop_sequence",  # the model wrote one of the stop strings
    "tool_use",  # the model calls tools
    "max_tokens",  # the maximum of output tokens was reached
    "context_full",  # the context window was full during the answer
    "refused",  # the model, or a filter, refused to go on
    "paused",  # a provider's own tool loop must be resumed
]


class Usage(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself):
    """Token counts of a call. Each count has the same meaning in all dialects. None means unknown."""

    input_tokens: int
    """Tokens of the whole prompt, including tokens that were read from or written to a cache."""
    output_tokens: int
    """Tokens of the whole output, including reasoning."""
    cached_tokens: int | None = None
    """Input tokens that were read from a cache."""
    cache_write_tokens: int | None = None
    """Input tokens that were written to a cache."""
    reasoning_tokens: int | None = None
    """Output tokens that are reasoning."""
    estimated: bool = False
    """True if triocept estimated the counts, with four characters per token."""
    extra: dict[str, Json] | None = None


class Response(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The whole answer of a model. `Response.of("hello")` and `Response.of(ToolCall(…))` create simple answers."""

    content: tuple[ResponsePart, ...]
    stop_reason: StopReason | None = None
    """The stop reason. None means `tool_use` if the content has a tool call, else `end`."""
    stop_sequence: str | None = None
    """The stop string that ended the answer. None if no stop string ended the answer, or if the provider does not send
    it."""
    usage: Usage | None = None
    """The token counts; None if unknown. If the usage is None, an agent that requires token counts gets an estimate,
    and the turn marks the counts as estimated."""
    model: str = ""
    """The model's name; if empty, the name in the request is used."""
    id: str = ""
    """The id of the response; if empty, an id is generated when a handler answers with the response."""
    extra: dict[str, Json] | None = None
    dialect: str = ""
    """The dialect in which the response was received; every `extra` in the response has the field names of this
    dialect. Empty if the program created the response; its `extra` is then written in any dialect."""

    @classmethod
    def of(cls, *parts: str | ResponsePart, stop_reason: StopReason | None = None) -> Response:
        """Return a response with these parts; a `str` becomes a `Text`."""
        return cls(
            tuple(Text(part) if isinstance(part, str) else part for part in parts), stop_reason=stop_reason
        )

    @property
    def text(self) -> str:
        """All text parts of the response, joined. Reasoning is not included."""
        return "".join([part.text for part in self.content if isinstance(part, Text)])

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple([part for part in self.content if isinstance(part, ToolCall)])

    @property
    def stopped(self) -> StopReason:
        """The value of `stop_reason` if it is set; otherwise the stop reason that follows from the content."""
        return self.stop_reason or settled_stop(None, calls=bool(self.tool_calls))


def said_in(response: Response) -> list[Json]:
    """Return the content that the model wrote, part by part. Responses with the same content give equal lists.

    Ids of calls and the fields in `extra` are left out, because the model did not write them.
    """
    return [_said(part) for part in response.content]


def _said(part: ResponsePart) -> Json:
    match part:
        case ToolCall(name=name, arguments=arguments):
            return "call", name, arguments
        case Opaque(dialect=dialect, raw=raw):
            return dialect, raw
        case _:
            return type(part).__name__, part.text


def settled_stop(stop: StopReason | None, *, calls: bool) -> StopReason:
    """Return the stop reason of an answer.

    If `stop` is None, `tool_use` or `end`, the result is `tool_use` if `calls` is True (the answer has tool calls), and
    `end` otherwise. Any other reason is returned unchanged.

    Some servers send a stop reason that contradicts the answer. vLLM sends "stop" with the call of a named tool choice,
    and other servers send "tool_calls" without a call.
    """
    if stop is None or stop in ("end", "tool_use"):
        return "tool_use" if calls else "end"
    return stop
