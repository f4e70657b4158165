"""Items that a model writes: messages, reasoning and calls; all others are kept whole.

Rules:

1. Each text of a message is one part. The item's own fields (`id`, `phase`, …) are in `extra["item"]` of the first
   part. A later part has `content_index`, and continues the item of the part before it.
2. A part without such marks is an item of its own.
3. An unknown item, or a message with an unknown part, is one opaque part.
4. An agent gets every item with an id and a status, generated if missing. An id is derived from the answer's id and
   the item's position, so that it is stable whenever the answer is sent again, and can be referred to. The status of
   an answer's item is not kept; the status of a request's item is.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..._canonical.content import Json, Media, Opaque, Part, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.response import ResponsePart
from .._documents import Fields
from .._ids import short_id
from .calls import parse_call, render_call
from .names import NAME
from .namespaces import Names
from .parts import output_text, parse_output_text
from .reasoning import ENCRYPTED, encrypted_of, is_replayable, parse_reasoning, reasoning_text, text_field

_CONTENT = ("output_text", "text", "input_text", "refusal")
_PREFIXES = {"message": "msg_", "function_call": "fc_", "custom_tool_call": "ctc_", "reasoning": "rs_"}


def parse_item(value: Json, path: str, names: Names, *, answer: bool) -> tuple[ResponsePart, ...]:
    """Return the parts of one item; no parts for an empty message.

    Args:
        value: the item.
        path: the path of the item.
        names: the names of the tools that the agent offers.
        answer: True for an item of an answer, False for one of a request.
    """
    fields = Fields(value, path)
    kind = fields.text("type") or "message"
    if kind == "reasoning":
        return parse_reasoning(fields, answer=answer)
    if kind not in _PREFIXES:
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
    """Return the items of a request's assistant message.

    Args:
        parts: the parts to write.
        names: the names of the tools that the agent offers.
        same_dialect: True if the parts' `extra` uses this dialect's field names.
        replay: True if the items go to a provider, which accepts only its own reasoning.
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
    """Return the items of an answer to an agent; `identity` is the answer's id."""
    items = _render(parts, names, same_dialect=same_dialect, fresh=True, packed=True)
    return [complete(item, place(identity, number)) for number, item in enumerate(items)]


def place(identity: str, number: int) -> str:
    """Return the base of an item's id: the answer's id, and the item's position in it."""
    return f"{short_id(identity.removeprefix('resp_'), '', 48)}_{number}"


def complete(item: dict[str, Json], made_of: str, status: str = "completed") -> dict[str, Json]:
    """Return the item for an agent: with an id (a missing one is made of `made_of`) and a status."""
    kind = item.get("type")
    prefix = _PREFIXES.get(kind) if isinstance(kind, str) else None
    if prefix is None:
        return item
    identity = {} if isinstance(item.get("id"), str) else {"id": f"{prefix}{made_of}"}
    state = {} if kind == "reasoning" else {"status": status}
    return {**identity, **item, **state}


def goes_on(part: Part, *, same_dialect: bool) -> bool:
    """Return True if the part continues the item of the part before it."""
    if not same_dialect or not isinstance(part, Text | RefusalText | Reasoning):
        return False
    extra = part.extra or {}
    return "item" not in extra and ("content_index" in extra or "summary_index" in extra)


def item_of(part: Part, *, same_dialect: bool) -> dict[str, Json]:
    """Return the item that begins with this text or reasoning, still without it. The item's lists are copies."""
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
        match part:
            case Text() | RefusalText():
                if last != "message" or not goes_on(part, same_dialect=same_dialect):
                    items.append(item_of(part, same_dialect=same_dialect))
                items[-1]["content"].append(output_text(part, same_dialect=same_dialect, answer=fresh))
                last = "message"
            case Reasoning():
                if last != "reasoning" or not goes_on(part, same_dialect=same_dialect):
                    items.append(item_of(part, same_dialect=same_dialect))
                _add_reasoning(items[-1], part, same_dialect=same_dialect, packed=packed)
                last = "reasoning"
            case _:
                items += _render_other(part, names, same_dialect=same_dialect, fresh=fresh)
                last = ""
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


def _add_reasoning(item: dict[str, Json], part: Reasoning, *, same_dialect: bool, packed: bool) -> None:
    if part.text:
        field = text_field(part, same_dialect=same_dialect)
        item.setdefault(field, []).append(reasoning_text(part, part.text, same_dialect=same_dialect))
    encrypted = encrypted_of(part.blobs, packed=packed)
    if encrypted is not None:
        item[ENCRYPTED] = encrypted


def _parse_message(fields: Fields) -> tuple[Text | RefusalText, ...] | None:
    """Return the texts of a message; None if it contains other parts."""
    content = fields.take("content")
    fields.take("role")
    if isinstance(content, str):
        content = [{"type": "output_text", "text": content}] if content else []
    fields.keep("content", content)
    entries = [Fields(value, path) for path, value in fields.items("content")]
    if any((entry.peek("type") or "output_text") not in _CONTENT for entry in entries):
        return None
    found = [_placed(parse_output_text(entry), number) for number, entry in enumerate(entries)]
    item = fields.rest()
    if found and item:
        found[0] = msgspec.structs.replace(found[0], extra={"item": item, **(found[0].extra or {})})
    return tuple(found)


def _placed(part: Text | RefusalText, number: int) -> Text | RefusalText:
    if not number:
        return part
    return msgspec.structs.replace(part, extra={"content_index": number, **(part.extra or {})})
