"""Parse and render requests of Ollama's `/api/chat`, with their messages, tools and tool calls.

Tools and their calls:

1. A tool is a function, defined as in chat completions. Tools that a provider runs are left out.
2. The arguments of a call are an object. The id of a call is optional: servers before 0.12 send no ids, and the
   official clients send calls back without ids. If triocept generated the id of a call, the id is not written.

Messages:

1. In this API, a message has a field for each kind of part, not a list of parts. So the parts of a message are written
   as thinking, text, images and calls, in this order. All texts of a message become one string.
2. A result names its tool, or the id of its call, or neither. If a result names neither, the result belongs to the
   oldest call without a result.
3. Results are placed right after their calls, one message each. Other parts of the message that contained the results,
   and media in results, are placed after all results.
4. The API's only media are images, as inline data. Any other media are replaced by a text that names the media.
5. Thinking that another provider signed is left out, because only that provider can use such thinking.

Requests:

1. An answer is a stream if `stream` is not false.
2. `options` contains the sampling settings. The other fields of `options` stay in `extra["options"]`. A `num_predict`
   below 0 means no limit, and stays in `extra["options"]`, too. Other fields of the request (`keep_alive`, `truncate`,
   `logprobs`, …) stay in `extra` under their names.
3. `think` is a boolean or an effort. True is read as the effort "adaptive", False as "none".
4. The API has no tool choice. For a tool choice from another dialect, "none" removes the tools, and the choice of one
   tool removes all other tools. The choice "required" cannot be expressed. This choice is left out, because the request
   is valid without a choice.
5. Efforts from another dialect become one of the three efforts that the API accepts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from reprlib import repr as short

import msgspec

from ..._canonical.content import (
    Json,
    Media,
    Message,
    Part,
    Reasoning,
    RefusalText,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from ..._canonical.memory import Memory
from ..._canonical.request import OutputFormat, ReasoningAsk, Request, Tool
from ...errors import DialectError
from .._calls import MADE, SCHEMA, Pairing, in_pairs, object_of, results_first, text_of, wrapped
from .._documents import (
    Fields,
    kind_of,
    known_of,
    merged,
    need_items,
    plain_message,
    present,
    read_text,
    split_data_url,
)
from .._portable import effort_for, portable, refuse_token_ids
from ..base import HERE, Target
from ..openai_chat.parts import parse_function
from ..openai_chat.request import parse_sampling, render_sampling

NAME = "ollama"


def parse_tool(value: Json, path: str) -> Tool:
    fields = Fields(value, path)
    kind = fields.text("type") or "function"
    if kind != "function":
        raise DialectError("must be 'function'", path=fields.at("type"))
    return parse_function(fields, "function")


def render_tool(tool: Tool, *, same_dialect: bool) -> Json | None:
    if tool.kind == "server":
        return None
    inner = {
        "name": tool.name,
        "description": tool.description,
        "parameters": SCHEMA if tool.kind == "custom" else tool.parameters,
        "strict": tool.strict if same_dialect else None,
    }
    document: dict[str, Json] = {"type": "function", "function": known_of(inner)}
    return merged(document, tool.extra) if same_dialect and tool.extra else document


def parse_call(value: Json, path: str) -> ToolCall:
    """Convert one item of a message's `tool_calls` into a `ToolCall`. The id of the `ToolCall` may be empty."""
    fields = Fields(value, path)
    identity = fields.text("id") or ""
    inner = fields.need_object("function")
    name = inner.need_text("name")
    arguments = inner.take("arguments")
    if not isinstance(arguments, str):  # an object is Ollama's form; clients of other wires send a string
        arguments = text_of(Fields(arguments or {}, inner.at("arguments")).rest() or {})
    fields.keep("function", inner.rest())
    return ToolCall(name, arguments, identity, extra=fields.rest())


def render_call(call: ToolCall, *, same_dialect: bool) -> dict[str, Json]:
    if call.kind == "text":
        call = wrapped(call)
    document: dict[str, Json] = {} if not call.id or call.id.startswith(MADE) else {"id": call.id}
    document["function"] = {"name": call.name, "arguments": object_of(call.arguments)}
    return merged(document, call.extra) if same_dialect and call.extra else document


_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_RENDERED = {"developer": "system", "tool": "user"}


def parse_message(value: Json, path: str) -> Message:
    """Convert a message of a request into a `Message`. Its tool calls, or its tool result, may be without ids."""
    if (plain := plain_message(value, _ROLES)) is not None:
        return plain
    fields = Fields(value, path)
    role = fields.need_text("role")
    if role in _ROLES:
        return Message(_ROLES[role], message_parts(fields), extra=fields.rest())
    if role != "tool":
        raise DialectError(f"unknown role {short(role)}", path=fields.at("role"))
    identity, name = fields.text("tool_call_id") or "", fields.text("tool_name")
    content = tuple(part for part in message_parts(fields) if isinstance(part, Text | Media))
    return Message("tool", (ToolResult(id=identity, content=content, name=name, extra=fields.rest()),))


def message_parts(fields: Fields) -> tuple[Part, ...]:
    """Convert a message's fields (`thinking`, `content`, `images`, `tool_calls`) into parts."""
    parts: list[Part] = []
    if thinking := fields.text("thinking"):
        parts.append(Reasoning(thinking))
    if text := fields.text("content"):
        parts.append(Text(text))
    for path, item in fields.items("images"):  # base64, or a `data:` URL, which clients of other wires send
        media_type, data = split_data_url(read_text(item, path)) or (None, item)
        parts.append(Media(kind="image", media_type=media_type, data=data))
    parts += [parse_call(item, path) for path, item in fields.items("tool_calls")]
    return tuple(parts)


def paired(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return the messages with an id for each tool call and each result. A result gets the id of its call."""
    pairing, waiting = Pairing(lambda identity: {"tool_call_id": identity}), deque[ToolCall]()
    found: list[Message] = []
    for message in messages:
        if not in_pairs(message):
            found.append(message)
            continue
        waiting += message.tool_calls
        for result in message.tool_results:  # at most one
            call = next((call for call in waiting if call.id == result.id), None) if result.id else None
            if call is None and (result.name or not result.id):  # no id, or an id that only the result has
                call = next((call for call in waiting if result.name in (None, "", call.name)), None)
            if call is not None:
                waiting.remove(call)
                if not (result.id or result.name):
                    named = msgspec.structs.replace(result, name=call.name)
                    message = msgspec.structs.replace(message, content=(named,))
        found.append(pairing.pair(message))
    return tuple(found)


def render_messages(messages: Iterable[Message], *, same_dialect: bool) -> list[Json]:
    """Return the value of the request field `messages`."""
    documents: list[Json] = []
    names: dict[str, str] = {}
    for message, content in results_first(
        messages,
        None if same_dialect else lambda result: [part for part in result.content if isinstance(part, Media)],
    ):
        names |= {call.id: call.name for call in message.tool_calls}
        if isinstance(content, ToolResult):
            documents.append(_render_result(content, names, same_dialect=same_dialect))
            continue
        role = _RENDERED.get(message.role, message.role)
        unsigned = [part for part in content if not (isinstance(part, Reasoning) and part.blobs)]
        document: Json = {"role": role, **render_parts(unsigned, same_dialect=same_dialect)}
        documents.append(merged(document, message.extra) if same_dialect and message.extra else document)
    return documents


def render_parts(parts: Iterable[Part], *, same_dialect: bool) -> dict[str, Json]:
    """Convert parts into the fields of a message. Leave out parts that Ollama's API cannot express."""
    texts, thoughts, images = list[str](), list[str](), list[str]()
    calls: list[Json] = []
    for part in parts:
        match part:
            case Text(text=text) | RefusalText(text=text):
                texts.append(text)
            case Reasoning(text=text):
                thoughts.append(text)
            case ToolCall():
                calls.append(render_call(part, same_dialect=same_dialect))
            case Media(kind="image", data=str(data)):
                images.append(data)
            case Media(kind="image", url=str(url)) if inline := split_data_url(url):
                images.append(inline[1])
            case Media():
                texts.append(f"[{part.kind}: {part.url or part.name or 'not shown'}]")
    document: dict[str, Json] = {"content": "".join(texts)}
    document |= {"thinking": "".join(thoughts)} if any(thoughts) else {}
    document |= {"images": [data for data in images if data]} if any(images) else {}
    return document | ({"tool_calls": calls} if calls else {})


def _render_result(result: ToolResult, names: dict[str, str], *, same_dialect: bool) -> Json:
    shown = [part for part in result.content if same_dialect or not isinstance(part, Media)]
    document: dict[str, Json] = {"role": "tool", **render_parts(shown, same_dialect=same_dialect)}
    if not document["content"] and result.content and not same_dialect:
        document["content"] = "(see below)"
    if result.is_error:
        document["content"] = f"Error: {document['content']}"
    if name := result.name or names.get(result.id):
        document["tool_name"] = name
    if result.id and not result.id.startswith(MADE):
        document["tool_call_id"] = result.id
    return merged(document, result.extra) if same_dialect and result.extra else document


_CAP = "num_predict"
_FLAGS = {True: "adaptive", False: "none"}
_THOUGHTS: dict[str, Json] = {"adaptive": True, "none": False}
_EFFORTS = {"minimal": "low", "xhigh": "high", "max": "high"}


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    memory = memory or Memory()

    def read(messages: list[Json]) -> tuple[Message, ...]:
        return paired(memory.read(NAME, "messages", messages, parse_message))

    return memory.request(document, "messages", lambda whole: (_parse(whole, memory), 0), read, NAME)


def as_it_came(document: Mapping[str, Json], request: Request) -> bool:
    return (document.get("stream") is not False) == request.stream


def render_request(request: Request) -> Json:
    """Convert a request into the JSON body for a provider; see `Dialect.render_request`."""
    refuse_token_ids(request.messages)
    same_dialect = request.dialect == NAME
    messages = request.messages if same_dialect else portable(request.messages)
    document: dict[str, Json] = {
        "model": request.model,
        "messages": render_messages(messages, same_dialect=same_dialect),
        "stream": request.stream,
    }
    choice, offered = request.tool_choice, request.tools
    if not same_dialect and choice is not None and choice.mode not in ("auto", "required"):
        offered = tuple(tool for tool in offered if choice.mode == "tool" and tool.name == choice.name)
    if tools := present([render_tool(tool, same_dialect=same_dialect) for tool in offered]):
        document["tools"] = tools
    sampling = request.sampling
    cap = known_of({_CAP: sampling.max_output_tokens})
    if options := {**cap, **render_sampling(sampling, same_dialect=True)}:
        document["options"] = options
    if request.output_format is not None:
        shape = request.output_format
        document["format"] = shape.schema or {} if shape.kind == "json_schema" else "json"
    ask = request.reasoning
    effort = ask.effort if ask is not None and ask.effort in _THOUGHTS else effort_for(ask)
    if effort is not None:
        document["think"] = _THOUGHTS.get(effort, _EFFORTS.get(effort, effort))
    return merged(document, request.extra) if same_dialect and request.extra else document


def _parse(document: Json, memory: Memory) -> Request:
    fields = Fields(document)
    model = fields.need_text("model")
    messages = paired(memory.read(NAME, "messages", need_items(fields, "messages"), parse_message))
    tools = memory.read(NAME, "tools", fields.array("tools"), parse_tool)
    stream, options = fields.flag("stream") is not False, fields.object("options") or Fields({})
    cap = options.integer(_CAP)
    sampling = parse_sampling(options, cap if cap is None or cap >= 0 else None)
    if cap is not None and cap < 0:
        options.keep(_CAP, cap)
    fields.keep("options", options.rest())
    think, shape = fields.take("think"), fields.take("format")
    if think is not None and not isinstance(think, bool | str):
        raise DialectError(f"must be a boolean or a string, not {kind_of(think)}", path="think")
    effort = _FLAGS[think] if isinstance(think, bool) else think
    output_format = OutputFormat(kind="json_object") if shape == "json" else None
    if shape not in (None, "", "json"):
        if not isinstance(shape, dict):
            raise DialectError("must be 'json' or a JSON Schema", path="format")
        output_format = OutputFormat(kind="json_schema", schema=shape)
    return Request(
        dialect=NAME,
        model=model,
        messages=messages,
        tools=tools,
        stream=stream,
        sampling=sampling,
        reasoning=ReasoningAsk(effort=effort) if effort else None,
        output_format=output_format,
        extra=fields.rest(),
    )
