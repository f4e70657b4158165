"""Messages and the system prompt.

Rules:

1. The system and developer messages at the head are the top-level `system`. One further on stays where it is, with
   the role "system", which only the newest models take: so from another dialect it is a reminder in the user's turn,
   in the words that Claude Code has for it.
2. All results of a turn are in one user message, and first in it.
3. A turn with nothing in it is left out (an assistant's) or says so (a user's): the wire has no empty
   content.
4. From another dialect: the first turn is the user's, results are in the turn behind their calls whatever stood
   between them, and no two calls have one id.
5. Reasoning that Anthropic did not sign is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, takewhile
from reprlib import repr as short

import msgspec

from ..._canonical.content import Json, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult
from ...errors import DialectError
from .._documents import Fields, as_content, merged, plain_message
from .._ids import distinct_calls, legal_id
from .._portable import portable
from .parts import parse_content, render_block, render_result
from .reasoning import render_reasoning
from .tools import render_call

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
_NOTHING = "(no content)"
_INSTRUCTING = ("system", "developer")
_SILENT = Message("user")


def parse_message(value: Json, path: str) -> Message:
    """One message of the conversation."""
    if (plain := plain_message(value, _ROLES)) is not None:
        return plain
    fields = Fields(value, path)
    role = fields.need_text("role")
    if role not in _ROLES:
        raise DialectError(f"there is no role {short(role)}", path=fields.at("role"))
    content = parse_content(fields.take("content"), fields.at("content"))
    return Message(_ROLES[role], content, extra=fields.rest())


def parse_system(value: Json) -> tuple[Message, ...]:
    """The top-level `system`; none where it says nothing."""
    content = parse_content(value, "system")
    return (Message("system", content),) if content else ()


def render_messages(messages: Sequence[Message], *, same_dialect: bool) -> tuple[Json | None, list[Json]]:
    """The top-level `system` (None: there is none) and the messages.

    Args:
        messages: the conversation.
        same_dialect: whether it came in this dialect.
    """
    system: list[Json] = []
    documents: list[Json] = []
    for role, parts, extra in _turns(
        messages if same_dialect else _adapted(distinct_calls(portable(messages)))
    ):
        blocks = _render_parts(parts, same_dialect=same_dialect)
        if role == "system" and not documents:
            system += blocks
        elif blocks or role == "user":
            document = {"role": role, "content": as_content(blocks) or _NOTHING}
            documents.append(merged(document, extra) if same_dialect and extra else document)
    if not documents or (not same_dialect and documents[0]["role"] == "assistant"):
        documents.insert(0, {"role": "user", "content": _NOTHING})
    return (as_content(system) if system else None), documents


def _adapted(messages: Sequence[Message]) -> list[Message]:
    """The conversation of another dialect, as the wire wants it."""
    head = list(takewhile(lambda message: message.role in _INSTRUCTING, messages))
    rest = [_as_user(message) for message in messages[len(head) :]]
    turns = head
    for speaks, several in groupby(rest, key=lambda message: message.role == "assistant"):
        said = [message for message in several if message is not _SILENT]
        if not speaks and any(message.tool_results for message in said):
            said = [Message("user", tuple(part for message in said for part in message.content))]
        turns += said
    return turns


def _as_user(message: Message) -> Message:
    """Instructions that stand further on, as the user's text; any other message as it is."""
    if message.role not in _INSTRUCTING:
        return message
    if not message.text.strip():
        return _SILENT
    return Message("user", (Text(f"<system-reminder>\n{message.text}\n</system-reminder>"),))


def _turns(messages: Iterable[Message]) -> Iterable[tuple[str, list[Part], dict[str, Json] | None]]:
    """Role, parts, extra of each wire message: tools' messages join each other and the user's behind."""
    joined: list[Part] | None = None
    for message in messages:
        role = "system" if message.role == "developer" else message.role
        if joined is not None and role in ("tool", "user"):
            joined += message.content
        elif role == "tool":
            joined = list(message.content)
        if role != "tool":
            if joined is None:
                yield role, list(message.content), message.extra
                continue
            yield "user", joined, message.extra if role == "user" else None
            joined = None
            if role != "user":
                yield role, list(message.content), message.extra
    if joined is not None:
        yield "user", joined, None


def _render_parts(parts: Sequence[Part], *, same_dialect: bool) -> list[Json]:
    blocks: list[Json] = [
        render_result(part, same_dialect=same_dialect) for part in parts if isinstance(part, ToolResult)
    ]
    for part in parts:
        match part:
            case ToolResult():
                continue
            case ToolCall():
                # Without an id, the call and its result have the same made one.
                named = part if part.id else msgspec.structs.replace(part, id=legal_id("", "toolu_"))
                blocks.append(render_call(named, same_dialect=same_dialect))
            case Reasoning():
                blocks += render_reasoning(part, same_dialect=same_dialect, signed_only=True)
            case _:
                block = render_block(part, same_dialect=same_dialect)
                if block is not None:
                    blocks.append(block)
    return blocks
