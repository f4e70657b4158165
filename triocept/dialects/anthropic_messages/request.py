"""Requests of Messages.

Rules:

1. `extra` mirrors the document: unknown fields of `thinking`, `output_config` and `metadata` are under these names.
2. `max_tokens` is required. Default: 64,000, the number that Claude Code sends.
3. From another dialect: temperature is clamped to 0..1. A request for JSON without a schema becomes an instruction in
   words. An effort becomes a thinking budget only if the wire allows thinking: without a forced tool, without sampling
   parameters, and not after tool calls whose thinking is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..._canonical.content import Json, Message, Text
from ..._canonical.memory import Memory
from ..._canonical.request import OutputFormat, Request, Sampling
from ...errors import DialectError
from .._documents import Fields, known_of, merged
from .._portable import refuse_token_ids
from ..base import HERE, Target
from .messages import parse_message, parse_system, render_messages
from .names import NAME
from .thinking import parse_ask, render_ask
from .threads import parse_thread
from .tools import parse_choice, parse_tool, render_choice, render_tool

_MAX_TOKENS = 64_000
_JSON_ONLY = "Answer with one JSON object and nothing else."


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
    if fields.peek("messages") is None:
        raise DialectError("is missing", path="messages")
    previous = parse_thread(fields)
    messages = read(fields.array("messages"))
    if not messages and previous is None:
        raise DialectError("must not be empty", path="messages")
    cap = fields.need_integer("max_tokens")
    choice, parallel = parse_choice(fields.take("tool_choice"), "tool_choice")
    ask, output_format = parse_ask(fields)
    system = parse_system(fields.take("system"))
    request = Request(
        dialect=NAME,
        model=model,
        messages=(*system, *messages),
        tools=memory.read(NAME, "tools", fields.array("tools"), parse_tool),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        stream=fields.flag("stream") or False,
        sampling=Sampling(
            max_output_tokens=cap,
            temperature=fields.number("temperature"),
            top_p=fields.number("top_p"),
            top_k=fields.integer("top_k"),
            stop=fields.texts("stop_sequences"),
        ),
        reasoning=ask,
        output_format=output_format,
        previous_response=previous,
        user=_parse_user(fields),
        extra=fields.rest(),
    )
    return request, len(system)


def render_request(request: Request) -> Json:
    """Return the document that sends `request` to a provider.

    Raises:
        DialectError: the prompt is token ids, which only the completions dialect can express.
    """
    refuse_token_ids(request.messages)
    same_dialect = request.dialect == NAME
    system, messages = render_messages(_with_format_words(request), same_dialect=same_dialect)
    document: dict[str, Json] = {"model": request.model, "messages": messages}
    if system is not None:
        document["system"] = system
    document["max_tokens"] = request.sampling.max_output_tokens or _MAX_TOKENS
    tools = [
        wire for tool in request.tools if (wire := render_tool(tool, same_dialect=same_dialect)) is not None
    ]
    if tools:
        document["tools"] = tools
    choice = render_choice(request.tool_choice, request.parallel_tool_calls, same_dialect=same_dialect)
    if choice is not None and (tools or same_dialect):  # refused without tools
        document["tool_choice"] = choice
    if request.stream:
        document["stream"] = True
    document |= _render_sampling(request.sampling, same_dialect=same_dialect)
    document |= render_ask(request, document, same_dialect=same_dialect)
    if request.output_format and request.output_format.schema is not None:
        form = _render_format(request.output_format, same_dialect=same_dialect)
        document["output_config"] = {**document.get("output_config", {}), "format": form}
    if request.previous_response is not None:
        document["thread"] = {"type": "continue", "previous_message_id": request.previous_response}
    if request.user is not None:
        document["metadata"] = {"user_id": request.user}
    return merged(document, request.extra) if same_dialect and request.extra else document


def _parse_user(fields: Fields) -> str | None:
    metadata = fields.object("metadata")
    if metadata is None:
        return None
    user = metadata.text("user_id")
    fields.keep("metadata", metadata.rest())
    return user


def _with_format_words(request: Request) -> tuple[Message, ...]:
    """Return the messages, with an instruction before them if the request is for JSON without a schema."""
    wish = request.output_format
    if wish is None or wish.schema is not None:
        return request.messages
    return (Message("system", (Text(_JSON_ONLY),)), *request.messages)


def _render_sampling(sampling: Sampling, *, same_dialect: bool) -> dict[str, Json]:
    temperature = sampling.temperature
    if temperature is not None and not same_dialect:
        temperature = min(1, max(0, temperature))
    document: dict[str, Json] = {
        "temperature": temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "stop_sequences": [stop for stop in sampling.stop if same_dialect or stop.strip()]
        or None,  # blank stop strings are refused
    }
    return known_of(document)


def _render_format(output: OutputFormat, *, same_dialect: bool) -> Json:
    document = {"type": "json_schema", "schema": output.schema}
    return merged(document, output.extra) if same_dialect and output.extra else document
