"""Contents and the system instruction.

Rules:

1. The system and developer messages at the head are the `systemInstruction`; a later one becomes the user's text.
2. Results may come in a turn of the user, of `function`, or of the model (from Antigravity). A turn of the model with
   results is split, for no request may end with the model.
3. From another dialect: adjacent turns of one role are joined, with results first and their media after them, and the
   first turn is the user's. Thoughts that Gemini did not sign, and empty texts, are left out. A call's own signature
   is kept, for a forwarding program may have restored it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from reprlib import repr as short

from ..._canonical.content import Json, Media, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult
from ...errors import DialectError
from .._documents import merged, read_text
from .fields import ProtoFields
from .parts import parse_part, render_part, render_reasoning
from .results import render_result
from .tools import UNSIGNED, render_call

_ROLES: dict[str, Role] = {"user": "user", "model": "assistant", "function": "tool", "system": "system"}
_NOTHING: Json = {"text": "(no content)"}


def parse_content(value: Json, path: str) -> Message:
    """Return one of the contents as a message; its calls and results may still lack ids."""
    fields = ProtoFields(value, path)
    role = fields.text("role") or "user"
    if role not in _ROLES:
        raise DialectError(f"there is no role {short(role)}", path=fields.at("role"))
    parts = tuple([parse_part(item, where) for where, item in fields.each("parts")])
    return Message(_ROLES[role], parts, extra=fields.rest())


def parted(message: Message) -> tuple[Message, ...]:
    """Return the message; as two messages if it is a turn of the model with results."""
    results = message.tool_results if message.role == "assistant" else ()
    if not results:
        return (message,)
    said = tuple(part for part in message.content if not isinstance(part, ToolResult))
    answered = Message("tool", results, extra=message.extra)
    return (Message("assistant", said, extra=message.extra), answered) if said else (answered,)


def parse_system(value: Json, path: str) -> tuple[Message, ...]:
    """Return the `systemInstruction` (a content, a part or a string) as messages; no message if it is empty."""
    if value is None or value == "":
        return ()
    if not isinstance(value, dict):
        return (Message("system", (Text(read_text(value, path)),)),)
    fields = ProtoFields(value, path)
    if fields.peek("parts") is None and fields.peek("text") is not None:
        return (Message("system", (parse_part(value, path),)),)
    parts = tuple(parse_part(item, where) for where, item in fields.each("parts"))
    return (Message("system", parts, extra=fields.rest()),) if parts else ()


def render_messages(messages: Sequence[Message], *, same_dialect: bool) -> tuple[Json | None, list[Json]]:
    """Return the `systemInstruction` (or None) and the contents.

    Args:
        messages: the conversation.
        same_dialect: True if the conversation came in this dialect.
    """
    system: list[Json] = []
    beside: dict[str, Json] = {}
    contents: list[dict[str, Json]] = []
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    for message in messages:
        parts = _own_parts(message, names) if same_dialect else _foreign_parts(message, names)
        extra = message.extra if same_dialect and message.extra else {}
        if message.role in ("system", "developer") and not contents:
            if parts:
                system += parts
                beside |= extra
            continue
        role = "model" if message.role == "assistant" else "user"
        if same_dialect:
            contents.append(merged({"role": role, "parts": parts}, extra))
        elif parts or role == "user":
            _append(contents, role, parts or [_NOTHING])
    if not same_dialect:
        for content in contents:
            content["parts"].sort(key=_is_no_result)
    if not contents or (not same_dialect and contents[0]["role"] == "model"):
        contents.insert(0, {"role": "user", "parts": [_NOTHING]})
    return merged({"parts": system}, beside) if system else None, list(contents)


def _own_parts(message: Message, names: dict[str, str]) -> list[Json]:
    parts: list[Json] = []
    for part in message.content:
        match part:
            case Reasoning():
                parts += render_reasoning(part, same_dialect=True, answer=False)
            case ToolCall():
                parts.append(render_call(part, same_dialect=True))
            case ToolResult():
                parts.append(
                    render_result(part, names.get(part.id), _writer(same_dialect=True), same_dialect=True)
                )
            case _:
                document = render_part(part, same_dialect=True)
                parts += [] if document is None else [document]
    return parts


def _foreign_parts(message: Message, names: dict[str, str]) -> list[Json]:
    results = message.tool_results
    parts: list[Json] = [
        render_result(each, names.get(each.id), _writer(same_dialect=False), same_dialect=False)
        for each in results
    ]
    media = [part for each in results for part in each.content if isinstance(part, Media)]
    signed = False
    for part in (*media, *message.content):
        match part:
            case ToolResult():
                continue
            case Reasoning():
                parts += render_reasoning(part, same_dialect=False, answer=False) if _is_signed(part) else []
            case ToolCall():
                document = render_call(part, same_dialect=False)
                signature = (part.extra or {}).get("thoughtSignature", None if signed else UNSIGNED)
                parts.append(document if signature is None else {**document, "thoughtSignature": signature})
                signed = True  # only the first of parallel calls has a signature
            case Text(text=""):
                continue
            case _:
                wire = render_part(part, same_dialect=False)
                parts += [] if wire is None else [wire]
    return parts


def _is_signed(part: Reasoning) -> bool:
    return any(
        "thoughtSignature" in document
        for document in render_reasoning(part, same_dialect=False, answer=False)
    )


def _writer(*, same_dialect: bool) -> Callable[[Part], Json | None]:
    return lambda part: render_part(part, same_dialect=same_dialect)


def _append(contents: list[dict[str, Json]], role: str, parts: list[Json]) -> None:
    """Append parts as a new turn, or to the last turn if it has the same role."""
    if not contents or contents[-1]["role"] != role:
        contents.append({"role": role, "parts": parts})
    else:
        contents[-1]["parts"] += parts


def _is_no_result(part: Json) -> bool:
    return "functionResponse" not in part
