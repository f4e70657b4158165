"""Requests of chat completions.

Rules:

1. `max_completion_tokens` wins over `max_tokens`. A request that had only the old name has the old name at a provider,
   too: the name stays in `extra`, with null, as a mark.
2. `extra` mirrors the document: unknown fields of `stream_options` are in `extra["stream_options"]`.
3. Legacy `functions` and `function_call` are read as tools and tool choice.
4. Only one choice is supported: `n` above 1 is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..._canonical.content import Json, Message
from ..._canonical.memory import Memory
from ..._canonical.request import ReasoningAsk, Request, Tool, ToolChoice
from ...errors import DialectError
from .._documents import Fields, merged
from .._efforts import effort_for
from .._portable import portable, refuse_token_ids
from ..base import HERE, Target
from .formats import parse_format, render_format
from .messages import parse_message, render_messages
from .names import NAME
from .sampling import parse_include_usage, parse_sampling, render_sampling, render_stream, render_user
from .tools import parse_choice, parse_tool, render_choice, render_tool

_MAX, _OLD_MAX = "max_completion_tokens", "max_tokens"


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    """Return the request that an agent sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
    """
    memory = memory or Memory()
    read = partial(memory.read, NAME, "messages", parse=parse_message)
    return memory.request(document, "messages", partial(_parse, memory=memory, read=read), read, NAME)


def _parse(
    document: Json, memory: Memory, read: Callable[[list[Json]], tuple[Message, ...]]
) -> tuple[Request, int]:
    fields = Fields(document)
    model = fields.need_text("model")
    messages = read(_need_messages(fields))
    if (fields.integer("n") or 1) > 1:
        raise DialectError("only one choice can be given", path="n")
    stream = fields.flag("stream") or False
    request = Request(
        dialect=NAME,
        model=model,
        messages=messages,
        tools=_parse_tools(fields, memory),
        tool_choice=_parse_choice(fields),
        parallel_tool_calls=fields.flag("parallel_tool_calls"),
        stream=stream,
        include_usage=parse_include_usage(fields),
        sampling=parse_sampling(fields, _parse_cap(fields)),
        reasoning=_parse_reasoning(fields),
        output_format=parse_format(fields),
        user=fields.text("user"),
        extra=fields.rest(),
    )
    return request, 0


def render_request(request: Request) -> Json:
    """Return the document that sends `request` to a provider.

    Raises:
        DialectError: the prompt is token ids, which only the completions dialect can express.
    """
    refuse_token_ids(request.messages)
    same_dialect = request.dialect == NAME
    document: dict[str, Json] = {
        "model": request.model,
        "messages": render_messages(
            request.messages if same_dialect else portable(request.messages), same_dialect=same_dialect
        ),
    }
    tools = [
        wire for tool in request.tools if (wire := render_tool(tool, same_dialect=same_dialect)) is not None
    ]
    if tools:
        document["tools"] = tools
    if tools or same_dialect:  # OpenAI refuses both without tools
        if request.tool_choice is not None:
            document["tool_choice"] = render_choice(request.tool_choice, same_dialect=same_dialect)
        if request.parallel_tool_calls is not None:
            document["parallel_tool_calls"] = request.parallel_tool_calls
    extra = dict(request.extra or {}) if same_dialect else {}
    if request.sampling.max_output_tokens is not None:
        document[_OLD_MAX if _OLD_MAX in extra else _MAX] = request.sampling.max_output_tokens
    document |= render_sampling(request.sampling, same_dialect=same_dialect)
    extra.pop(_OLD_MAX, None)
    document |= _render_asks(request, same_dialect=same_dialect)
    return merged(document, extra) if extra else document


def _need_messages(fields: Fields) -> list[Json]:
    if fields.peek("messages") is None:
        raise DialectError("is missing", path="messages")
    messages = fields.array("messages")
    if not messages:
        raise DialectError("must not be empty", path="messages")
    return messages


def _parse_tools(fields: Fields, memory: Memory) -> tuple[Tool, ...]:
    tools = memory.read(NAME, "tools", fields.array("tools"), parse_tool)
    legacy = [
        parse_tool({"type": "function", "function": item}, path) for path, item in fields.items("functions")
    ]
    return (*tools, *legacy)


def _parse_choice(fields: Fields) -> ToolChoice | None:
    choice = parse_choice(fields.take("tool_choice"), "tool_choice")
    legacy = fields.take("function_call")
    if choice is None and legacy is not None:
        return parse_choice(
            legacy if isinstance(legacy, str) else {"type": "function", "function": legacy}, "function_call"
        )
    return choice


def _parse_cap(fields: Fields) -> int | None:
    cap, old_cap = fields.integer(_MAX), fields.integer(_OLD_MAX)
    if cap is None and old_cap is not None:
        fields.mark(_OLD_MAX)
        return old_cap
    return cap


def _parse_reasoning(fields: Fields) -> ReasoningAsk | None:
    effort = fields.text("reasoning_effort")
    return ReasoningAsk(effort=effort) if effort else None


def _render_asks(request: Request, *, same_dialect: bool) -> dict[str, Json]:
    document = render_stream(request)
    effort = effort_for(request.reasoning)
    if effort:
        document["reasoning_effort"] = effort
    if request.output_format:
        document["response_format"] = render_format(request.output_format, same_dialect=same_dialect)
    return document | render_user(request, same_dialect=same_dialect)
