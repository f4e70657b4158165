"""Messages, tools and their calls.

Tools and their calls:

1. A tool is a function, as in chat completions; other providers' own tools are left out.
2. The arguments of a call are an object. Its id is optional: servers before 0.12 have no ids, and neither have the
   messages that the official clients send back. An id that triocept generated for such a call is not written.

Messages:

1. A message's content is one text. Parts come as thinking, text, images and calls, in this order: the wire has fields
   for them, not a list.
2. A result names its tool, or its call's id, or neither: then it belongs to the oldest call without a result.
3. Results come right after their calls, one message each; other parts of their turn, and their media, come after all
   results.
4. The wire has only images, and only as inline data. Other media become a text that names them.
5. Thinking that another provider signed is left out: it is useless at this one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
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
from ..._canonical.request import Tool
from ...errors import DialectError
from .._calls import MADE, SCHEMA, Pairing, in_pairs, object_of, results_first, text_of, wrapped
from .._documents import Fields, known_of, merged, plain_message, read_text, split_data_url
from ..openai_chat.parts import parse_function

NAME = "ollama"


def parse_tool(value: Json, path: str) -> Tool:
    """Return a tool that the agent offers."""
    fields = Fields(value, path)
    kind = fields.text("type") or "function"
    if kind != "function":
        raise DialectError("must be 'function'", path=fields.at("type"))
    return parse_function(fields, "function")


def render_tool(tool: Tool, *, same_dialect: bool) -> Json | None:
    """Return the tool's wire form; None for another provider's own tool."""
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
    """Return a call of a message; it may have no id."""
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
    """Return the wire form of a call."""
    if call.kind == "text":
        call = wrapped(call)
    document: dict[str, Json] = {} if not call.id or call.id.startswith(MADE) else {"id": call.id}
    document["function"] = {"name": call.name, "arguments": object_of(call.arguments)}
    return merged(document, call.extra) if same_dialect and call.extra else document


_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_RENDERED = {"developer": "system", "tool": "user"}


def parse_message(value: Json, path: str) -> Message:
    """Return the canonical message of a wire message; its calls and its result may still lack ids."""
    if (plain := plain_message(value, _ROLES)) is not None:
        return plain
    fields = Fields(value, path)
    role = fields.need_text("role")
    if role in _ROLES:
        return Message(_ROLES[role], message_parts(fields), extra=fields.rest())
    if role != "tool":
        raise DialectError(f"there is no role {short(role)}", path=fields.at("role"))
    identity, name = fields.text("tool_call_id") or "", fields.text("tool_name")
    content = tuple(part for part in message_parts(fields) if isinstance(part, Text | Media))
    return Message("tool", (ToolResult(id=identity, content=content, name=name, extra=fields.rest()),))


def message_parts(fields: Fields) -> tuple[Part, ...]:
    """Return the parts in the fields of a message."""
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
    """Return the messages with ids for their calls and results."""
    pairing, waiting = Pairing(lambda identity: {"tool_call_id": identity}), deque[ToolCall]()
    found: list[Message] = []
    for message in messages:
        if not in_pairs(message):
            found.append(message)
            continue
        waiting += message.tool_calls
        for result in message.tool_results:  # at most one
            call = _call_of(result, waiting)
            if call is not None:
                waiting.remove(call)
                if not (result.id or result.name):
                    named = msgspec.structs.replace(result, name=call.name)
                    message = msgspec.structs.replace(message, content=(named,))
        found.append(pairing.pair(message))
    return tuple(found)


def _call_of(result: ToolResult, waiting: Iterable[ToolCall]) -> ToolCall | None:
    """Return the call that the result belongs to, among the calls without a result."""
    for call in waiting:
        if result.id == call.id if result.id else (result.name or call.name) == call.name:
            return call
    if result.id and result.name:  # an id that only the result has
        return next((call for call in waiting if call.name == result.name), None)
    return None


def render_messages(messages: Iterable[Message], *, same_dialect: bool) -> list[Json]:
    """Return the messages of a request.

    Args:
        messages: the conversation.
        same_dialect: True if the conversation came in this dialect.
    """
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


def render_parts(parts: Sequence[Part], *, same_dialect: bool) -> dict[str, Json]:
    """Return the fields of a message with these parts; parts that the wire cannot hold are left out."""
    texts = [text for part in parts if (text := _text_of(part)) is not None]
    document: dict[str, Json] = {"content": "".join(texts)}
    if thinking := "".join(part.text for part in parts if isinstance(part, Reasoning)):
        document["thinking"] = thinking
    if images := [data for part in parts if isinstance(part, Media) and (data := _image_of(part))]:
        document["images"] = images
    if calls := [
        render_call(part, same_dialect=same_dialect) for part in parts if isinstance(part, ToolCall)
    ]:
        document["tool_calls"] = calls
    return document


def _render_result(result: ToolResult, names: dict[str, str], *, same_dialect: bool) -> Json:
    shown = [part for part in result.content if same_dialect or not isinstance(part, Media)]
    said = render_parts(shown, same_dialect=same_dialect)
    if not said["content"] and result.content and not same_dialect:
        said["content"] = "(see below)"
    if result.is_error:
        said["content"] = f"Error: {said['content']}"
    document: dict[str, Json] = {"role": "tool", **said}
    if name := result.name or names.get(result.id):
        document["tool_name"] = name
    if result.id and not result.id.startswith(MADE):
        document["tool_call_id"] = result.id
    return merged(document, result.extra) if same_dialect and result.extra else document


def _image_of(media: Media) -> str | None:
    if media.kind != "image":
        return None
    if media.data is not None:
        return media.data
    inline = split_data_url(media.url or "")
    return inline[1] if inline else None


def _text_of(part: Part) -> str | None:
    match part:
        case Text(text=text) | RefusalText(text=text):
            return text
        case Media() if _image_of(part) is None:
            return f"[{part.kind}: {part.url or part.name or 'not shown'}]"
        case _:
            return None
