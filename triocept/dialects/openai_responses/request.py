"""Parse and render requests of the Responses API, with their `input`.

Rules:

1. `extra` has the structure of the document. `extra` contains unknown fields of `reasoning` and of `text` under these
   names, and also `store`, `include`, `metadata` and all other fields.
2. `messages` contains only the messages in the document. If the request continues a `previous_response`, these are the
   new messages.
3. A websocket frame is also parsed as a request. The frame's field `type` is ignored, and its field `generate` is kept
   in `extra`.
4. The API has no stop strings, seeds and penalties, but some servers support these. If the request came in this
   dialect, these settings are written for a provider. If the request came in another dialect, these settings are left
   out.
5. If several calls in a request from another dialect have the same id, the later calls get new ids.
6. OpenAI stores answers by default. For a request from another dialect, `store` is set to False.

The input is a string, or a list of items:

1. `instructions` becomes the first system message, which has `extra["field"]`. System messages at the start of a
   conversation from another dialect become the `instructions`.
2. An input message is one `Message`. Consecutive items that the model wrote are one assistant message. This message
   equals the answer that the agent got.
3. A tool result is one message. The result of a free-text call has the type `custom_tool_call_output`.
4. An unknown item is kept unchanged, in the `extra["item"]` of a message. The message's role depends on the item. If
   the item is a message between agents, the message also has a text, for providers of other dialects.
5. Codex sends items without ids, so no ids are generated for a provider. Existing ids are sent to the provider.

`text` contains the format that the answer must have. Further fields of `text` (`verbosity`) are kept in `extra`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from reprlib import repr as short
from typing import TypeAlias

from ..._canonical.content import Json, Media, Message, Opaque, Part, Role, Text, ToolCall, ToolResult
from ..._canonical.frozen import frozen_request
from ..._canonical.memory import Memory
from ..._canonical.request import OutputFormat, ReasoningAsk, Request
from ...errors import DialectError
from .._calls import distinct_calls, short_id
from .._documents import (
    Fields,
    as_content,
    as_error,
    in_result,
    kind_of,
    known_of,
    merged,
    parse_content,
    plain_message,
    text_in,
)
from .._portable import effort_for, refuse_token_ids
from ..base import HERE, Target
from ..openai_chat.request import parse_sampling, read_format, render_sampling, render_user
from ..side import only
from .items import parse_item, parse_part, render_history, render_parts
from .tools import (
    DECLARING,
    NAME,
    NO_NAMES,
    Names,
    names_of,
    parse_choice,
    parse_tools,
    render_choice,
    render_tools,
)

NOT_POSTED = frozenset({"type", "generate", "stream_id"})
"""Fields of websocket frames that are not sent to a provider over HTTP."""
_FRAME = "response.create"
_SAMPLING = ("temperature", "top_p")
_SOURCES = ("conversation", "prompt")  # other sources of a conversation, beside an earlier response


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    """Convert the JSON body of an agent's call into a `Request`; see `ParseRequest`."""
    memory = memory or Memory()
    if not _is_list_alone(document):  # else the meaning of an item may depend on other items
        return frozen_request(*_parse(document, memory))

    def read(items: list[Json]) -> tuple[Message, ...]:
        return parse_input(items, NO_NAMES, memory)

    return memory.request(document, "input", lambda whole: _parse(whole, memory, declares=False), read, NAME)


def as_it_came(document: Mapping[str, Json], request: Request) -> bool:
    """Return True if the agent's JSON body can be sent to a provider unchanged.

    Return False if the body continues an answer of this endpoint, because a provider does not have this answer. Return
    False for a websocket frame, too: a frame has no field that requests a stream.
    """
    if "previous_response_id" in document or document.get("type") == _FRAME:
        return False
    return bool(document.get("stream")) == request.stream


def _is_list_alone(document: Json) -> bool:
    """Return True if the `input` is a list whose items can be parsed without the request's other fields.

    Return False if an item declares tools, or if a tool is in a namespace.
    """
    if not isinstance(document, dict) or not isinstance(items := document.get("input"), list):
        return False
    tools = document.get("tools")
    if isinstance(tools, list) and any(isinstance(tool, dict) and "tools" in tool for tool in tools):
        return False
    kinds = [item.get("type") for item in items if isinstance(item, dict)]
    return not any(kind in kinds for kind in DECLARING)


def _parse(document: Json, memory: Memory, *, declares: bool = True) -> tuple[Request, int]:
    """Return the request in `document`, and the number of its messages that came from `instructions`.

    `declares` is True if input items may declare tools.
    """
    fields = Fields(document)
    if fields.peek("type") == _FRAME:
        fields.take("type")
    model = fields.need_text("model")
    previous = fields.text("previous_response_id")
    value = fields.take("input")
    if value is None or value == []:
        if previous is None and all(fields.peek(name) is None for name in _SOURCES):
            raise DialectError("is missing" if value is None else "must not be empty", path="input")
        value = []
    tools = parse_tools(fields, value if declares else [], memory)
    messages = parse_input(value, names_of(tools), memory)
    instructions = parse_instructions(fields.text("instructions"), memory)
    choice = parse_choice(fields.take("tool_choice"), "tool_choice")
    parallel = fields.flag("parallel_tool_calls")
    stream, sampling = fields.flag("stream"), parse_sampling(fields, fields.integer("max_output_tokens"))
    effort, output_format = text_in(fields, "reasoning", "effort"), None
    if (text := fields.object("text")) is not None:
        output_format = read_format(text, "format", None)
        fields.keep("text", text.rest())
    request = Request(
        dialect=NAME,
        model=model,
        messages=(*instructions, *messages),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        stream=stream or False,
        sampling=sampling,
        reasoning=ReasoningAsk(effort=effort) if effort else None,
        output_format=output_format,
        previous_response=previous,
        user=fields.text("user"),
        extra=fields.rest(),
    )
    return request, len(instructions)


def render_request(request: Request) -> Json:
    """Convert a request into the JSON body for a provider; see `Dialect.render_request`."""
    refuse_token_ids(request.messages)
    same_dialect = request.dialect == NAME
    messages = request.messages if same_dialect else distinct_calls(request.messages)
    instructions, items = render_input(messages, names_of(request.tools), same_dialect=same_dialect)
    if not items and request.previous_response is None:
        items = [{"type": "message", "role": "user", "content": ""}]
    document: dict[str, Json] = {"model": request.model, "input": items}
    if instructions is not None:
        document["instructions"] = instructions
    tools = render_tools(request.tools, same_dialect=same_dialect)
    if tools:
        document["tools"] = tools
    if tools or same_dialect:  # OpenAI refuses both without tools
        if (choice := request.tool_choice) is not None:
            document["tool_choice"] = render_choice(choice, request.tools, same_dialect=same_dialect)
        if request.parallel_tool_calls is not None:
            document["parallel_tool_calls"] = request.parallel_tool_calls
    if request.previous_response is not None:
        document["previous_response_id"] = request.previous_response
    document |= _render_options(request, same_dialect=same_dialect)
    if not same_dialect:
        document["store"] = False
    return merged(document, request.extra) if same_dialect and request.extra else document


def _render_options(request: Request, *, same_dialect: bool) -> dict[str, Json]:
    document = render_sampling(request.sampling, same_dialect=same_dialect)
    if not same_dialect:
        document = only(document, _SAMPLING)
    if request.sampling.max_output_tokens is not None:
        document["max_output_tokens"] = request.sampling.max_output_tokens
    if request.stream:
        document["stream"] = True
    if effort := effort_for(request.reasoning):
        document["reasoning"] = {"effort": effort}
    if request.output_format:
        document["text"] = {"format": render_format(request.output_format, same_dialect=same_dialect)}
    return document | render_user(request, same_dialect=same_dialect)


INSTRUCTIONS: dict[str, Json] = {"field": "instructions"}
"""The `extra` of the message that contains the `instructions`."""
_ROLES: dict[str, Role] = {"system": "system", "developer": "developer", "user": "user"}
_RESULTS = ("function_call_output", "custom_tool_call_output")
_PLACES: dict[str, Role] = {
    "additional_tools": "developer",
    "configuration_update": "developer",
    "compaction_trigger": "user",
    "agent_message": "user",
}
_MARK = "item"
_AGENT = "agent_message"
_Run: TypeAlias = tuple[int, list[Json], bool]
"""A group of input items that form one message: the index of the first item, the items, and True if the model wrote
these items."""


def parse_instructions(text: str | None, memory: Memory) -> tuple[Message, ...]:
    return memory.read(
        NAME,
        "instructions",
        [text] if text else [],
        lambda text, _: Message("system", (Text(text),), extra=dict(INSTRUCTIONS)),
    )


def parse_input(value: Json, names: Names, memory: Memory) -> tuple[Message, ...]:
    """Convert the field `input` into messages."""
    if isinstance(value, str):
        return (Message("user", (Text(value),) if value else ()),)
    if not isinstance(value, list):
        raise DialectError(f"must be a string or a list, not {kind_of(value)}", path="input")
    if not names.are_plain:  # then the meaning of an item depends on the tools
        memory = Memory()

    def parse_run(run: _Run, _: str) -> Message | None:
        start, items, written = run
        if not written:
            return _parse_item(items[0], f"input[{start}]")
        parts = [
            part
            for number, item in enumerate(items, start)
            for part in parse_item(item, f"input[{number}]", names, answer=False)
        ]
        return Message("assistant", tuple(parts)) if parts else None

    read = memory.read(NAME, "input", memory.group(NAME, "input", value, _runs), parse_run)
    return tuple([message for message in read if message is not None])


def render_input(
    messages: Sequence[Message], names: Names, *, same_dialect: bool, replay: bool = True
) -> tuple[str | None, list[Json]]:
    """Return the values of `instructions` (or None) and `input`.

    `replay` is True for a request to a provider, which accepts only its own reasoning.
    """
    _, rest = _head(messages, same_dialect=same_dialect)
    customs = {call.id for message in rest for call in message.tool_calls if call.kind == "text"}
    items: list[Json] = []
    for message in rest:
        if message.role == "assistant":
            items += render_history(message.content, names, same_dialect=same_dialect, replay=replay)
            continue
        for result in message.tool_results:
            output = as_content(render_parts(result.content, same_dialect=same_dialect), "input_text")
            identity = result.id if same_dialect and result.id else short_id(result.id, "call_")
            document: dict[str, Json] = {
                "type": _RESULTS[result.id in customs],
                "call_id": identity,
                "output": as_error(output, "input_text") if result.is_error else output,
            }
            items.append({**document, **(result.extra or {})} if same_dialect else document)
        items += _render_message(message, same_dialect=same_dialect)
    return render_instructions(messages, same_dialect=same_dialect), items


def render_instructions(messages: Sequence[Message], *, same_dialect: bool) -> str | None:
    """Return the value of `instructions`: the joined system messages at the start; None if there is no such message."""
    head, _ = _head(messages, same_dialect=same_dialect)
    return "\n\n".join([message.text for message in head if message.text]) or None


def _runs(items: Sequence[Json], same: int, known: Sequence[_Run]) -> list[_Run]:
    """Group the input items by message: adjacent items of the model form one group, any other item forms its own group.

    Args:
        items: the items of the `input`.
        same: number of items, counted from the beginning, that are the same objects as in the latest call.
        known: the groups of the latest call. Groups of the first `same` items are returned unchanged, except the last
            of these groups if the model wrote it, because further items could belong to that group.
    """
    count = bisect_left(known, same, key=itemgetter(0))
    if count and not known[count - 1][2]:  # a group of one item
        first = known[count - 1][0] + 1
    else:
        count = max(0, count - 1)
        first = known[count][0] if count else 0
    runs, run = [*known[:count]], None
    for number, item in enumerate(items[first:], first):
        kind = (item.get("type") or "message") if isinstance(item, dict) else None
        writes = isinstance(kind, str) and kind not in _PLACES and not kind.endswith("_output")
        if kind == "message":
            writes = item.get("role") == "assistant"
        if writes and run is not None:  # the open group of the model
            run.append(item)
        else:
            runs.append((number, one := [item], writes))
            run = one if writes else None
    return runs


def _parse_item(value: Json, path: str) -> Message:
    """Convert an input item that the model did not write into a `Message`."""
    if (plain := plain_message(value, _ROLES)) is not None:
        return plain
    fields = Fields(value, path)
    role = fields.text("role")
    kind = fields.text("type") or ("message" if role else None)
    if kind is None:
        raise DialectError("is missing", path=fields.at("type"))
    if kind in _RESULTS:
        value = fields.take("output")
        output = in_result(parse_content(value, fields.at("output"), parse_part), value, NAME)
        identity = fields.text("call_id")
        if kind != _RESULTS[0]:
            fields.keep("type", kind)
        return Message("tool", (ToolResult(id=identity or "", content=output, extra=fields.rest()),))
    if kind != "message":
        texts = _agent_texts(fields) if kind == _AGENT else ()
        return Message(_PLACES.get(kind, "tool"), (Opaque(NAME, value), *texts), extra={_MARK: kind})
    if role is None or role not in _ROLES:
        what = "is missing" if role is None else f"there is no role {short(role)}"
        raise DialectError(what, path=fields.at("role"))
    content = parse_content(fields.take("content"), fields.at("content"), parse_part)
    return Message(_ROLES[role], content, extra=fields.rest())


def _agent_texts(fields: Fields) -> tuple[Part, ...]:
    """Convert a Codex message between two agents into text, for providers that do not support such an item."""
    author = fields.peek("author")
    name = author if isinstance(author, str) else "another agent"
    content = fields.peek("content")
    try:
        parts = parse_content(content, fields.at("content"), parse_part) if content is not None else ()
    except DialectError:
        parts = ()
    said = tuple(part for part in parts if isinstance(part, Text | Media))
    if not said:
        return (Text(f"[a message from {name} that only its own provider can read]"),)
    return (Text(f"[from {name}]"), *said)


def _head(messages: Sequence[Message], *, same_dialect: bool) -> tuple[Sequence[Message], Sequence[Message]]:
    """Split the messages into the messages that become the `instructions`, and the other messages."""
    count = 0
    for message in messages:
        if message.role != "system" or (same_dialect and message.extra != INSTRUCTIONS):
            break
        count += 1
    return messages[:count], messages[count:]


def _render_message(message: Message, *, same_dialect: bool) -> Iterable[Json]:
    """Convert a message that the model did not write into input items, without its tool results."""
    parts = [part for part in message.content if not isinstance(part, ToolResult | ToolCall)]
    extra = message.extra or {}
    if message.role == "tool" or (same_dialect and _MARK in extra and len(extra) == 1):
        return [part.raw for part in parts if isinstance(part, Opaque) and part.dialect == NAME]
    if not parts and message.content:
        return []
    role = "system" if same_dialect and message.extra == INSTRUCTIONS else message.role
    content = as_content(render_parts(parts, same_dialect=same_dialect), "input_text")
    document = {"type": "message", "role": role, "content": content}
    return [{**document, **extra} if same_dialect and message.extra != INSTRUCTIONS else document]


def render_format(output: OutputFormat, *, same_dialect: bool) -> Json:
    document: dict[str, Json] = {"type": output.kind}
    if output.kind == "json_schema":
        # OpenAI requires a name.
        inner = {"name": output.name or "answer", "schema": output.schema or {}, "strict": output.strict}
        document |= known_of(inner)
    return merged(document, output.extra) if same_dialect and output.extra else document
