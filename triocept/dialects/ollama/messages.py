"""Messages.

Rules:

1. A message's content is one text. Thinking, text, images, calls: in that order, for they come in fields.
2. A result names its tool, or its call's id, or neither: then it is that of the oldest call without one.
3. Results stand right behind their calls, one message each; what else their turn holds, and what they show, comes
   after all of them.
4. The wire has images alone, and only the data itself. Of anything else, it is said that it is not shown.
5. Thinking that another provider signed is of no use to this one.
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
from ...errors import DialectError
from .._documents import Fields, merged, plain_message, read_text, split_data_url
from .._pairing import MADE, Pairing, in_pairs, results_first
from .tools import parse_call, render_call

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_RENDERED = {"developer": "system"}


def parse_message(value: Json, path: str) -> Message:
    """One message of the conversation; its calls and its result may have no ids yet."""
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
    """What a message says."""
    parts: list[Part] = []
    if thinking := fields.text("thinking"):
        parts.append(Reasoning(thinking))
    if text := fields.text("content"):
        parts.append(Text(text))
    for path, item in fields.items("images"):
        parts.append(_parse_image(read_text(item, path)))
    parts += [parse_call(item, path) for path, item in fields.items("tool_calls")]
    return tuple(parts)


def paired(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The messages, whose calls and results have ids."""
    pairing, waiting = Pairing(lambda identity: {"tool_call_id": identity}), deque[ToolCall]()
    found: list[Message] = []
    for message in messages:
        if not in_pairs(message):
            found.append(message)
            continue
        waiting += message.tool_calls
        for result in message.tool_results:  # one at the most
            call = _call_of(result, waiting)
            if call is not None:
                waiting.remove(call)
                if not (result.id or result.name):
                    named = msgspec.structs.replace(result, name=call.name)
                    message = msgspec.structs.replace(message, content=(named,))
        found.append(pairing.pair(message))
    return tuple(found)


def _call_of(result: ToolResult, waiting: Iterable[ToolCall]) -> ToolCall | None:
    """Of the calls without a result, the one that this belongs to."""
    for call in waiting:
        if result.id == call.id if result.id else (result.name or call.name) == call.name:
            return call
    if result.id and result.name:  # an id that only the result has
        return next((call for call in waiting if call.name == result.name), None)
    return None


def render_messages(messages: Iterable[Message], *, same_dialect: bool) -> list[Json]:
    """The messages of a request.

    Args:
        messages: the conversation.
        same_dialect: whether it came in this dialect.
    """
    documents: list[Json] = []
    names: dict[str, str] = {}
    for message, said in results_first(messages, None if same_dialect else _media_of):
        names |= {call.id: call.name for call in message.tool_calls}
        documents.append(
            _render_result(said, names, same_dialect=same_dialect)
            if isinstance(said, ToolResult)
            else _render_message(message, said, same_dialect=same_dialect)
        )
    return documents


def render_parts(parts: Sequence[Part], *, same_dialect: bool) -> dict[str, Json]:
    """The fields of a message that say these parts; those that have no place in one are left out."""
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


def _render_message(message: Message, parts: Sequence[Part], *, same_dialect: bool) -> Json:
    role = "user" if message.role == "tool" else message.role
    unsigned = [part for part in parts if not (isinstance(part, Reasoning) and part.blobs)]
    document: Json = {"role": _RENDERED.get(role, role), **render_parts(unsigned, same_dialect=same_dialect)}
    return merged(document, message.extra) if same_dialect and message.extra else document


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


def _media_of(result: ToolResult) -> list[Part]:
    return [part for part in result.content if isinstance(part, Media)]


def _parse_image(text: str) -> Media:
    """Base64, as the wire has it; clients of other wires send a `data:` URL."""
    inline = split_data_url(text)
    return (
        Media(kind="image", media_type=inline[0], data=inline[1])
        if inline
        else Media(kind="image", data=text)
    )


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
