"""What an agent is answered, whole."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .._util.checks import NamesItself
from .content import Json, Opaque, Reasoning, RefusalText, Text, ToolCall

ResponsePart: TypeAlias = Text | Reasoning | ToolCall | RefusalText | Opaque

StopReason: TypeAlias = Literal[
    "end",  # the model was done
    "stop_sequence",  # it wrote one of the stop strings
    "tool_use",  # it wants tools to be run
    "max_tokens",  # the cap on its output was reached
    "context_full",  # the context window was full while it wrote
    "refused",  # it, or a filter, would not go on
    "paused",  # a provider's own tool loop wants to be resumed
]


class Usage(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself):
    """Tokens, counted one way for all dialects. None: nobody said."""

    input_tokens: int
    """The whole prompt, cached and cache-writing tokens included."""
    output_tokens: int
    """Everything the model wrote, reasoning included."""
    cached_tokens: int | None = None
    """Of the input, read from a cache."""
    cache_write_tokens: int | None = None
    """Of the input, written to a cache."""
    reasoning_tokens: int | None = None
    """Of the output, reasoning."""
    estimated: bool = False
    """True where nobody counted and the numbers are ours, four characters to a token."""
    extra: dict[str, Json] | None = None


class Response(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One whole answer of a model. `Response.of("hello")` and `Response.of(ToolCall(…))` make the usual ones."""

    content: tuple[ResponsePart, ...]
    stop_reason: StopReason | None = None
    """None: by content, `tool_use` where a tool is called, else `end`."""
    stop_sequence: str | None = None
    """Which stop string it was, where the provider tells."""
    usage: Usage | None = None
    """None: nobody counted. An agent that must have numbers gets an estimate, marked so in the turn."""
    model: str = ""
    """Empty: the name that the agent asked for."""
    id: str = ""
    """Empty: one is made when the answer is given."""
    extra: dict[str, Json] | None = None
    dialect: str = ""
    """The dialect that it came in, in whose words every `extra` in it is. Empty: made by the program; its `extra`
    is written into any dialect."""

    @classmethod
    def of(cls, *parts: str | ResponsePart, stop_reason: StopReason | None = None) -> Response:
        """An answer of these parts; a `str` is text."""
        return cls(
            tuple(Text(part) if isinstance(part, str) else part for part in parts), stop_reason=stop_reason
        )

    @property
    def text(self) -> str:
        """All its visible text, joined."""
        return "".join([part.text for part in self.content if isinstance(part, Text)])

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple([part for part in self.content if isinstance(part, ToolCall)])

    @property
    def stopped(self) -> StopReason:
        """`stop_reason`, or what the content implies."""
        return self.stop_reason or settled_stop(None, calls=bool(self.tool_calls))


def said_in(response: Response) -> list[Json]:
    """What a model has said in it, part by part: equal for answers that are the same to the letter.

    Ids of calls, and what the wire has beside, are not the model's.
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
    """The stop reason of an answer that does or does not call tools: whether it is a tool turn is decided by that.

    Servers disagree with themselves: vLLM answers a named tool choice with "stop", others say "tool_calls" and
    call none.
    """
    if stop is None or stop in ("end", "tool_use"):
        return "tool_use" if calls else "end"
    return stop
