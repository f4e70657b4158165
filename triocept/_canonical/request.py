"""The request that an agent sends to its model."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import takewhile
from typing import TYPE_CHECKING, Literal, NoReturn

import msgspec

from .._util.checks import Misnamed, NamesItself, has_no_keys
from .content import Json, Message, Text, ToolResult


class Tool(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself):
    """A tool that the agent offers."""

    name: str
    """The name of the tool; empty if a provider's own tool has no name."""
    description: str | None = None
    parameters: dict[str, Json] | None = None
    """JSON Schema of the arguments; None if the tool has no schema."""
    kind: Literal["function", "custom", "server"] = "function"
    """A `function` takes JSON, and a `custom` tool takes free text. The provider itself runs a `server` tool, which
    only the provider's own dialect can express."""
    strict: bool | None = None
    extra: dict[str, Json] | None = None
    """If the kind is `server` or `custom`: the whole JSON object that defines the tool. For a `function`: further
    fields of the JSON object that defines it."""


class ToolChoice(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself
):
    """The agent's setting for the use of tools: the tools that the model may call, must call or must not call."""

    mode: Literal["auto", "none", "required", "tool"] = "auto"
    name: str | None = None
    """The name of the tool, for mode `tool`."""
    extra: dict[str, Json] | None = None


class Sampling(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself
):
    """Sampling parameters. None means the model's default."""

    max_output_tokens: int | None = None
    """Maximum tokens of the answer, including reasoning."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Raise an AttributeError that suggests the field with the most similar name.

            (Providers use other names for some fields.)
            """
            near = get_close_matches(name, self.__struct_fields__, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise AttributeError(f"Sampling has no field {name!r}{hint}", name=name, obj=self)


class ReasoningAsk(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself
):
    """The amount of reasoning that is requested."""

    effort: str | None = None
    """The effort as a word: none, minimal, low, medium, high, xhigh, max, adaptive, or another word that a provider
    accepts."""
    budget_tokens: int | None = None


class OutputFormat(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, metaclass=NamesItself
):
    """The required format of the answer's text."""

    kind: Literal["json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Json] | None = None
    strict: bool | None = None
    extra: dict[str, Json] | None = None


class Request(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A model call, converted to one type for all dialects."""

    dialect: str
    """The dialect in which the request was received. Every `extra` in the request has the field names of this dialect.
    """
    model: str
    messages: tuple[Message, ...]
    """The messages of the conversation. System prompts are messages, too, even if the dialect has a separate field for
    them."""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    stream: bool = False
    """True if the agent requested a streamed answer."""
    include_usage: bool = True
    """True if a streamed answer contains the usage. In chat completions, a streamed answer contains the usage only if
    the agent requests the usage."""
    sampling: Sampling = Sampling()
    reasoning: ReasoningAsk | None = None
    output_format: OutputFormat | None = None
    framing: Literal["sse", "json_array"] = "sse"
    """The framing of a streamed answer: server-sent events, or (for Gemini) a JSON array."""
    previous_response: str | None = None
    """The id of the earlier response that this conversation continues. If this id is set, `messages` contains only the
    new messages."""
    continued_from: str | None = None
    """The id of the earlier response whose conversation triocept has put at the beginning of `messages`, because the
    agent sent only this id."""
    user: str | None = None
    """The agent's identifier for the end user."""
    extra: dict[str, Json] | None = None
    """All fields of the request's JSON body for which this class has no field."""

    if not TYPE_CHECKING:
        __getitem__ = has_no_keys
        prompt = Misnamed("user_text, the newest text of the user")
        text = Misnamed("user_text, the newest text of the user")

    @property
    def system(self) -> str:
        """The text of the system and developer messages at the beginning of the conversation."""
        texts = []
        for message in self.messages:
            if message.role not in ("system", "developer"):
                break
            texts.append(message.text)
        return "\n\n".join(texts)

    @property
    def user_text(self) -> str:
        """The text of the newest user message that has text; empty if no user message has text.

        Messages that have only tool results are skipped. (The property `last` is different. Its message may be a system
        message, because Claude Code sends a system message after the user's message.)
        """
        for message in reversed(self.messages):
            if message.role == "user" and any(isinstance(part, Text) for part in message.content):
                return message.text
        return ""

    @property
    def last(self) -> Message | None:
        """The newest message of any role; None if the conversation is empty."""
        return self.messages[-1] if self.messages else None

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """The results of the tools that ran since the model's last message."""
        behind = takewhile(lambda message: message.role != "assistant", reversed(self.messages))
        return tuple([result for message in reversed(list(behind)) for result in message.tool_results])


def offered_names(request: Request) -> list[str]:
    """Return the names of the offered tools. A tool inside a namespace of the Responses API is included."""
    names = []
    for tool in request.tools:
        inner = (tool.extra or {}).get("tools")
        within = inner if isinstance(inner, list) else []
        names += [tool.name, *(each.get("name") for each in within if isinstance(each, dict))]
    return [name for name in names if isinstance(name, str)]
