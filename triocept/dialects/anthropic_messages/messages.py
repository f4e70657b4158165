"""Messages and the system prompt.

Rules:

1. The system and developer messages at the head become the top-level `system`. A later one keeps its position and the
   role "system", which only the newest models accept. From another dialect, it becomes a reminder in the user's turn,
   in the words that Claude Code uses for reminders.
2. All results of a turn are in one user message, before its other parts.
3. An empty turn of the assistant is left out, and an empty turn of the user is "(no content)": the wire has no empty
   content.
4. From another dialect: the first turn is the user's, results come in the turn right after their calls, and ids of
   calls are distinct.
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
    """Return the canonical message of a wire message."""
    if (plain := plain_message(value, _ROLES)) is not None:
        return plain
    fields = Fields(value, path)
    role = fields.need_text("role")
    if role not in _ROLES:
        raise DialectError(f"there is no role {short(role)}", path=fields.at("role"))
    content = parse_content(fields.take("content"), fields.at("content"))
    return Message(_ROLES[role], content, extra=fields.rest())


def parse_system(value: Json) -> tuple[Message, ...]:
    """Return the top-level `system` as messages; no message if it is empty."""
    content = parse_content(value, "system")
    return (Message("system", content),) if content else ()


def render_messages(messages: Sequence[Message], *, same_dialect: bool) -> tuple[Json | None, list[Json]]:
    """Return the top-level `system` (or None) and the messages.

    Args:
        messages: the conversation.
        same_dialect: True if the conversation came in this dialect.
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
    """Return the conversation of another dialect in the order that the wire requires."""
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
    """Return instructions that come after the head as a user's text; return any other message unchanged."""
    if message.role not in _INSTRUCTING:
        return message
    if not message.text.strip():
        return _SILENT
    return Message("user", (Text(f"<system-reminder>\n{message.text}\n</system-reminder>"),))


def _turns(messages: Iterable[Message]) -> Iterable[tuple[str, list[Part], dict[str, Json] | None]]:
    """Yield role, parts and extra of each wire message; messages of tools are joined with the next message of the
    user."""
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
                # A call without an id and its result get the same generated id.
                named = part if part.id else msgspec.structs.replace(part, id=legal_id("", "toolu_"))
                blocks.append(render_call(named, same_dialect=same_dialect))
            case Reasoning():
                blocks += render_reasoning(part, same_dialect=same_dialect, signed_only=True)
            case _:
                block = render_block(part, same_dialect=same_dialect)
                if block is not None:
                    blocks.append(block)
    return blocks
