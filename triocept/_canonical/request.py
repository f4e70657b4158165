"""What an agent asks of its model."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import takewhile
from typing import TYPE_CHECKING, Literal, NoReturn

import msgspec

from .._util.checks import NamesItself
from .content import Json, Message, Text, ToolResult


class Tool(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself):
    """A tool that the agent offers."""

    name: str
    """Empty for a provider's own tool that has no name."""
    description: str | None = None
    parameters: dict[str, Json] | None = None
    """JSON Schema of the arguments; None where there is none."""
    kind: Literal["function", "custom", "server"] = "function"
    """`custom` takes free text; `server` is run by the provider and known to its own dialect only."""
    strict: bool | None = None
    extra: dict[str, Json] | None = None
    """For kind `server` (and `custom`), the whole wire object."""


class ToolChoice(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself
):
    """Which tools the model may, must or must not call."""

    mode: Literal["auto", "none", "required", "tool"] = "auto"
    name: str | None = None
    """The one tool, for mode `tool`."""
    extra: dict[str, Json] | None = None


class Sampling(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself
):
    """How to sample. None everywhere: the model's own default."""

    max_output_tokens: int | None = None
    """Reasoning counts inside it."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Name the field that was meant: providers have other names for some."""
            near = get_close_matches(name, self.__struct_fields__, 1)
            hint = f": {near[0]}?" if near else ""
            raise AttributeError(f"Sampling has no {name!r}{hint}", name=name, obj=self)


class ReasoningAsk(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself
):
    """How much the model should think."""

    effort: str | None = None
    """An open set: none, minimal, low, medium, high, xhigh, max, adaptive."""
    budget_tokens: int | None = None


class OutputFormat(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself
):
    """The shape that the answer's text must have."""

    kind: Literal["json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Json] | None = None
    strict: bool | None = None
    extra: dict[str, Json] | None = None


class Request(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One model call, as a value: what any dialect says, in one form."""

    dialect: str
    """The dialect that it came in; `extra` everywhere below is in its words."""
    model: str
    messages: tuple[Message, ...]
    """The conversation. System prompts are messages, wherever they stand."""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    stream: bool = False
    """Whether the agent asked for the answer piece by piece."""
    include_usage: bool = True
    """Whether a streamed answer tells the usage (chat completions: only if asked)."""
    sampling: Sampling = Sampling()
    reasoning: ReasoningAsk | None = None
    output_format: OutputFormat | None = None
    framing: Literal["sse", "json_array"] = "sse"
    """How a stream is framed, if it is one."""
    previous_response: str | None = None
    """The id of an earlier response that this conversation goes on from; `messages` are only what is new."""
    continued_from: str | None = None
    """The id of an earlier response whose conversation stands at the head of `messages`, since `previous_response`
    named it."""
    user: str | None = None
    """The end user, as the agent names them."""
    extra: dict[str, Json] | None = None
    """Every field of the document that has no place above."""

    @property
    def system(self) -> str:
        """The text of the system and developer messages at the head of the conversation."""
        texts = []
        for message in self.messages:
            if message.role not in ("system", "developer"):
                break
            texts.append(message.text)
        return "\n\n".join(texts)

    @property
    def user_text(self) -> str:
        """The text of the user's newest message that has any; empty if there is none.

        Messages of tool results alone are passed over. `last` may be a system message (Claude Code sends one behind the
        user's).
        """
        for message in reversed(self.messages):
            if message.role == "user" and any(isinstance(part, Text) for part in message.content):
                return message.text
        return ""

    @property
    def last(self) -> Message | None:
        """The newest message, of whatever role; None in an empty conversation."""
        return self.messages[-1] if self.messages else None

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """The results of the tools that ran since the model spoke last."""
        behind = takewhile(lambda message: message.role != "assistant", reversed(self.messages))
        return tuple([result for message in reversed(list(behind)) for result in message.tool_results])
