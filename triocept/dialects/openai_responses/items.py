"""Parse and render items of the Responses API: messages, reasoning, `function_call` and `custom_tool_call`.

Reasoning items, which have `summary`, `content` and `encrypted_content`:

1. Each text of the summary and of the content is one part. Further fields of the item are in `extra["item"]` of the
   first part. The `extra` of a later text of the summary contains `summary_index`. The `extra` of a text of the content
   contains `content_index`.
2. The encrypted content becomes a blob of the last part, and is passed on unchanged.
3. An agent sends reasoning items back unchanged. So the signatures of other providers are packed into
   `encrypted_content` for the agent, and unpacked when the agent sends the item back.
4. A provider refuses encrypted content from other providers. So a request to a provider contains only reasoning of this
   dialect, without blobs of other dialects.

Content (a string, or a list of input_text, input_image, input_file, input_audio, output_text and refusal):

1. A list of one plain text means the same as a string, and is written as a string.
2. Text that the model wrote has the type `output_text`, other text has `input_text`. A text that came with another type
   keeps this type.
3. An unknown part is kept unchanged.

Items that a model writes (other items are kept unchanged):

1. Each text of a message is one part. Further fields of the item (`id`, `phase`, …) are in `extra["item"]` of the first
   part. A later part has `content_index` in `extra`, and belongs to the same item as the part before it.
2. A part without these fields in `extra` is a separate item.
3. An unknown item, or a message with an unknown part, is one opaque part.
4. An agent gets every item with an id and a status, which are generated if missing. A generated id is derived from the
   answer's id and the item's position. So the id stays the same if the answer is sent again, and later requests can use
   this id to refer to the item. The status of an item in an answer is not kept; the status of an item in a request is
   kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from ..._canonical.content import (
    Blob,
    Json,
    Media,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
)
from ..._canonical.response import ResponsePart
from .._calls import fresh_id, short_id
from .._documents import Fields, data_url, known_of, merged, present
from .._portable import pack, unpack
from ..openai_chat.parts import file_at, image_at, parse_audio, render_audio, take_arguments
from .tools import NAME, Names


def parse_call(fields: Fields, kind: Literal["json", "text"], names: Names) -> ToolCall:
    """Convert a `function_call` item (`kind` is `json`) or a `custom_tool_call` item (`text`) into a `ToolCall`.

    The caller has already read the item's `type`.
    """
    identity, name = fields.text("call_id") or "", fields.need_text("name")
    if kind == "json":
        arguments = take_arguments(fields, "arguments") or "{}"
    else:
        arguments = fields.text("input") or ""
    known = names.known(name, fields.peek("namespace"))
    if known != name:
        fields.keep("name", name)
    return ToolCall(known, arguments, identity, kind, fields.rest())


def render_call(call: ToolCall, names: Names, *, same_dialect: bool, fresh: bool) -> dict[str, Json]:
    """Convert a tool call into a `function_call` or `custom_tool_call` item.

    A call without an id gets a random id if `fresh` is True. If `fresh` is False, the call and its result get the same
    constant id.
    """
    identity = call.id or (fresh_id("call_") if fresh else "")
    if not same_dialect or not call.id:
        identity = short_id(identity, "call_")
    document: dict[str, Json] = {"type": "function_call", "call_id": identity, "name": call.name}
    if call.kind == "text":
        document |= {"type": "custom_tool_call", "input": call.arguments}
    else:
        document["arguments"] = call.arguments or "{}"
    if not (same_dialect and "namespace" in (call.extra or {})):
        document |= names.wire(call.name)
    return {**document, **call.extra} if same_dialect and call.extra else document


ENCRYPTED = "encrypted_content"
_TYPES = {"summary": "summary_text", "content": "reasoning_text"}


def parse_reasoning(fields: Fields, *, answer: bool) -> tuple[Reasoning, ...]:
    """Convert a reasoning item into parts, one for each text. An item without text becomes one empty part."""
    blobs = blobs_of(fields.text(ENCRYPTED))
    found: list[Reasoning] = []
    for field, usual in _TYPES.items():
        for number, (path, value) in enumerate(fields.items(field)):
            inner = Fields(value, path)
            kind, text = inner.text("type"), inner.text("text") or ""
            extra = dict(inner.rest() or {})
            if kind not in (usual, None):
                extra["type"] = kind
            if field == "content" or number:
                extra[f"{field}_index"] = number
            if text:
                found.append(Reasoning(text, extra=extra or None))
    found = found or [Reasoning()]
    if answer:
        fields.take("status")
    item = fields.rest()
    first = found[0]
    if item or first.extra:
        found[0] = msgspec.structs.replace(first, extra={"item": item or {}, **(first.extra or {})})
    found[-1] = msgspec.structs.replace(found[-1], blobs=blobs)
    return tuple(found)


def reasoning_text(part: Reasoning, text: str, *, same_dialect: bool) -> dict[str, Json]:
    kind = _TYPES[text_field(part, same_dialect=same_dialect)]
    return {"type": kind, "text": text, **_unplaced_extra(part, same_dialect=same_dialect)}


def _unplaced_extra(part: Text | RefusalText | Reasoning, *, same_dialect: bool) -> dict[str, Json]:
    """Return the `extra` of a part without the fields that contain the part's position in its item."""
    extra = part.extra if same_dialect and part.extra else {}
    return {name: value for name, value in extra.items() if name not in _PLACES}


_PLACES = ("item", "content_index", "summary_index")


def text_field(part: Reasoning, *, same_dialect: bool) -> Literal["summary", "content"]:
    """Return the name of the list in a reasoning item to which the text belongs. Agents display only `summary`."""
    return "content" if same_dialect and part.extra and "content_index" in part.extra else "summary"


def is_replayable(part: Reasoning, *, same_dialect: bool) -> bool:
    """Return True if a provider of the Responses API accepts the reasoning `part` in a request.

    Such a provider refuses encrypted reasoning of other providers.
    """
    ours = [blob.dialect == NAME for blob in part.blobs]
    return all(ours) if same_dialect else any(ours)


def blobs_of(encrypted: str | None) -> tuple[Blob, ...]:
    """Return the blobs in an item's `encrypted_content`.

    If `pack` wrote this content, these are the packed blobs. Any other content is one blob of this dialect.
    """
    if not encrypted:  # llama.cpp writes ""
        return ()
    return unpack(encrypted) or (Blob(NAME, ENCRYPTED, encrypted),)


def encrypted_of(blobs: tuple[Blob, ...], *, packed: bool) -> str | None:
    """Return the value of `encrypted_content` for these blobs; None if there is no value to write.

    The value is the last blob of this dialect. If no blob is of this dialect and `packed` is True, the value contains
    all blobs, packed into one text.
    """
    same_dialect = [blob.data for blob in blobs if blob.dialect == NAME and blob.kind == ENCRYPTED]
    if same_dialect:
        return same_dialect[-1]
    return pack(blobs, NAME) if packed else None


_LISTS = ("annotations", "logprobs")


def parse_part(value: Json, path: str) -> Part:
    """Convert one item of an input message's `content` into a part."""
    fields = Fields(value, path)
    kind = fields.need_text("type")
    match kind:
        case "input_text" | "output_text" | "text" | "refusal":
            fields.keep("type", kind)
            return parse_output_text(fields, "input_text")
        case "input_image":
            if not isinstance(fields.peek("image_url"), dict):
                return image_at(fields.text("image_url"), fields)
            image = fields.need_object("image_url")  # the form of chat completions, which some clients send
            url = image.need_text("url")
            fields.keep("image_url", image.rest())
            return image_at(url, fields)
        case "input_file":
            data, link, name = fields.text("file_data"), fields.text("file_url"), fields.text("filename")
            return file_at(link, data, name, fields)
        case "input_audio":
            return parse_audio(fields)
        case _:
            return Opaque(NAME, value)


def parse_output_text(fields: Fields, usual: str = "output_text") -> Text | RefusalText:
    """Convert a text or refusal in a message's `content` into a part.

    `usual` is the value of the field `type` if the field is missing.
    """
    kind = fields.text("type") or usual
    if kind == "refusal":
        return RefusalText(fields.text("refusal") or "", fields.rest())
    text = fields.text("text") or ""
    for name in _LISTS:
        if not fields.peek(name):
            fields.take(name)
    if kind != usual:
        fields.keep("type", kind)
    return Text(text, fields.rest())


def render_parts(parts: Iterable[Part], *, same_dialect: bool) -> list[dict[str, Json]]:
    return present([_render_part(part, same_dialect=same_dialect) for part in parts])


def output_text(part: Text | RefusalText, *, same_dialect: bool, answer: bool) -> dict[str, Json]:
    """Convert a text of the model into an item of `content`.

    If `answer` is True, the item also gets the lists that clients require, such as `annotations`.
    """
    document: dict[str, Json]
    if isinstance(part, RefusalText):
        document = {"type": "refusal", "refusal": part.text}
    else:
        document = {"type": "output_text", "text": part.text, "annotations": []}
        if answer:
            document["logprobs"] = []
    return {**document, **_unplaced_extra(part, same_dialect=same_dialect)}


def _render_part(part: Part, *, same_dialect: bool) -> dict[str, Json] | None:
    match part:
        case Text(text=text) | RefusalText(text=text):
            document: dict[str, Json] = {"type": "input_text", "text": text}
        case Media():
            url = data_url(part)
            if url is None and not (same_dialect and part.extra):  # the part may have the id of a file
                document = {"type": "input_text", "text": f"[{part.name or part.kind}: not shown]"}
            elif part.kind == "image":
                detail = None if same_dialect else "auto"
                document = known_of({"type": "input_image", "image_url": url, "detail": detail})
            elif part.kind == "audio" and part.data is not None:
                document = render_audio(part)
            else:
                data = url if part.url is None else None
                file = {"file_url": part.url, "file_data": data, "filename": part.name}
                document = {"type": "input_file", **known_of(file)}
        case Opaque(dialect=dialect, raw=raw):
            return raw if dialect == NAME and isinstance(raw, dict) else None
        case _:
            return None
    return merged(document, part.extra) if same_dialect and part.extra else document


_CONTENT = ("output_text", "text", "input_text", "refusal")
PREFIXES = {"message": "msg_", "function_call": "fc_", "custom_tool_call": "ctc_", "reasoning": "rs_"}


def parse_item(value: Json, path: str, names: Names, *, answer: bool) -> tuple[ResponsePart, ...]:
    """Convert one item of an answer, or of a request's `input`, into parts. An empty message has no part."""
    fields = Fields(value, path)
    kind = fields.text("type") or "message"
    if kind == "reasoning":
        return parse_reasoning(fields, answer=answer)
    if kind not in PREFIXES:
        return (Opaque(NAME, value),)
    if answer:
        fields.take("status")
    if kind == "message":
        found = _parse_message(fields)
        return (Opaque(NAME, value),) if found is None else found
    return (parse_call(fields, "json" if kind == "function_call" else "text", names),)


def render_history(
    parts: Iterable[Part], names: Names, *, same_dialect: bool, replay: bool
) -> list[dict[str, Json]]:
    """Convert the parts of an assistant message into items of a request's `input`.

    `replay` is True if the items are sent to a provider, which accepts only its own reasoning.
    """
    kept = (
        part
        for part in parts
        if not (replay and isinstance(part, Reasoning) and not is_replayable(part, same_dialect=same_dialect))
    )
    return _render(kept, names, same_dialect=same_dialect, fresh=False, packed=not replay)


def render_answer(
    parts: Iterable[Part], names: Names, identity: str, *, same_dialect: bool
) -> list[dict[str, Json]]:
    """Convert the parts of an answer for an agent into items. `identity` is the id of the answer."""
    items = _render(parts, names, same_dialect=same_dialect, fresh=True, packed=True)
    return [complete(item, place(identity, number)) for number, item in enumerate(items)]


def place(identity: str, number: int) -> str:
    """Return a generated item id without its prefix: the answer's id and the item's position in the answer."""
    return f"{short_id(identity.removeprefix('resp_'), '', 48)}_{number}"


def complete(item: dict[str, Json], made_of: str, status: str = "completed") -> dict[str, Json]:
    """Return `item` with the id and the status that agents require. A generated id ends with `made_of`."""
    kind = item.get("type")
    prefix = PREFIXES.get(kind) if isinstance(kind, str) else None
    if prefix is None:
        return item
    identity = {} if isinstance(item.get("id"), str) else {"id": f"{prefix}{made_of}"}
    state = {} if kind == "reasoning" else {"status": status}
    return {**identity, **item, **state}


def goes_on(part: Part, *, same_dialect: bool) -> bool:
    """Return True if `part` belongs to the same item as the part that precedes it in the answer."""
    if not same_dialect or not isinstance(part, Text | RefusalText | Reasoning):
        return False
    extra = part.extra or {}
    return "item" not in extra and ("content_index" in extra or "summary_index" in extra)


def item_of(part: Part, *, same_dialect: bool) -> dict[str, Json]:
    """Return the item that a text or reasoning part begins, without the text of the part.

    The item's lists are copies.
    """
    extra = (
        part.extra if same_dialect and isinstance(part, Text | RefusalText | Reasoning) and part.extra else {}
    )
    item = extra.get("item")
    said = (
        {name: [*v] if isinstance(v, list) else v for name, v in item.items()}
        if isinstance(item, dict)
        else {}
    )
    if isinstance(part, Reasoning):
        return {"type": "reasoning", "summary": [], **said}
    return {"type": "message", "role": "assistant", "content": [], **said}


def _render(
    parts: Iterable[Part], names: Names, *, same_dialect: bool, fresh: bool, packed: bool
) -> list[dict[str, Json]]:
    items: list[dict[str, Json]] = []
    last = ""  # the kind of the item that a part may continue
    for part in parts:
        if not isinstance(part, Text | RefusalText | Reasoning):
            items += _render_other(part, names, same_dialect=same_dialect, fresh=fresh)
            last = ""
            continue
        kind = "reasoning" if isinstance(part, Reasoning) else "message"
        if last != kind or not goes_on(part, same_dialect=same_dialect):
            items.append(item_of(part, same_dialect=same_dialect))
        last, item = kind, items[-1]
        if not isinstance(part, Reasoning):
            item["content"].append(output_text(part, same_dialect=same_dialect, answer=fresh))
            continue
        if part.text:
            field = text_field(part, same_dialect=same_dialect)
            item.setdefault(field, []).append(reasoning_text(part, part.text, same_dialect=same_dialect))
        if (encrypted := encrypted_of(part.blobs, packed=packed)) is not None:
            item[ENCRYPTED] = encrypted
    return items


def _render_other(part: Part, names: Names, *, same_dialect: bool, fresh: bool) -> list[dict[str, Json]]:
    match part:
        case ToolCall():
            return [render_call(part, names, same_dialect=same_dialect, fresh=fresh)]
        case Opaque(dialect=dialect, raw=raw) if dialect == NAME and isinstance(raw, dict):
            return [raw]
        case Media():  # the wire cannot hold media that a model made
            return _render(
                [Text(f"[{part.name or part.kind}: not shown]")],
                names,
                same_dialect=False,
                fresh=fresh,
                packed=False,
            )
        case _:
            return []


def _parse_message(fields: Fields) -> tuple[Text | RefusalText, ...] | None:
    """Convert a message item into texts and refusals. Return None if the item contains any other part."""
    content = fields.take("content")
    fields.take("role")
    if isinstance(content, str):
        content = [{"type": "output_text", "text": content}] if content else []
    fields.keep("content", content)
    entries = [Fields(value, path) for path, value in fields.items("content")]
    if any((entry.peek("type") or "output_text") not in _CONTENT for entry in entries):
        return None
    found = [parse_output_text(entry) for entry in entries]
    for number, part in enumerate(found[1:], 1):
        found[number] = msgspec.structs.replace(part, extra={"content_index": number, **(part.extra or {})})
    item = fields.rest()
    if found and item:
        found[0] = msgspec.structs.replace(found[0], extra={"item": item, **(found[0].extra or {})})
    return tuple(found)
