"""Continued requests: of an earlier answer, with references to earlier items, or warm-ups."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..._canonical.content import Json, Message, Opaque, Part
from ..._canonical.request import Request
from ..._canonical.response import Response
from .items import parse_item
from .messages import INSTRUCTIONS
from .names import NAME
from .namespaces import Names
from .response import render_response


def is_stored(request: Request) -> bool:
    """Return True if the agent wants the answer stored: `store`, which is on by default."""
    return (request.extra or {}).get("store") is not False


def is_warm_up(request: Request) -> bool:
    """Return True for a request without generation.

    Codex sends such a request as its first frame on a websocket, with the stable prefix of the conversation.
    """
    return (request.extra or {}).get("generate") is False


def continued(request: Request, earlier: Request, answer: Response) -> Request:
    """Return the request with the conversation that it continues: the messages of `earlier`, and its `answer`.

    `instructions` are not carried over, as at OpenAI; tools that items declared are.
    """
    before = [message for message in earlier.messages if message.extra != INSTRUCTIONS]
    head = [message for message in request.messages if message.extra == INSTRUCTIONS]
    rest = [message for message in request.messages if message.extra != INSTRUCTIONS]
    said = [Message("assistant", answer.content)] if answer.content else []
    known = {tool.name for tool in request.tools}
    declared = [
        tool for tool in earlier.tools if "declared_in" in (tool.extra or {}) and tool.name not in known
    ]
    return msgspec.structs.replace(
        request,
        messages=(*head, *before, *said, *rest),
        tools=(*request.tools, *declared),
        previous_response=None,
        continued_from=request.previous_response,
    )


def referenced(request: Request, answers: Iterable[tuple[Request, Response]]) -> Request:
    """Return the request with `item_reference`s replaced by their items.

    Vercel's AI SDK sends references to the model's items unless `store` is false. A reference to an unknown item is
    left as it is.

    Args:
        request: the request of the agent.
        answers: earlier requests with their answers, the newest first; read only as far as needed.
    """
    opaque = [part for message in request.messages for part in message.content if type(part) is Opaque]
    wanted = {name for part in opaque if (name := _reference(part))}
    found: dict[str, Json] = {}
    for earlier, answer in answers if wanted else ():
        items = render_response(answer, earlier)["output"]
        found |= {item["id"]: item for item in items if item.get("id") in wanted}
        if found.keys() == wanted:
            break
    if not found:
        return request
    names = Names(request.tools)
    messages = tuple(_with_items(message, found, names) for message in request.messages)
    return msgspec.structs.replace(request, messages=messages)


def _reference(part: Part) -> str | None:
    match part:
        case Opaque(dialect=dialect, raw={"type": "item_reference", "id": str(identity)}) if dialect == NAME:
            return identity
    return None


def _with_items(message: Message, found: dict[str, Json], names: Names) -> Message:
    if not any(_reference(part) in found for part in message.content):
        return message
    content: list[Part] = []
    for part in message.content:
        item = found.get(_reference(part) or "")
        content += [part] if item is None else parse_item(item, "input", names, answer=False)
    return msgspec.structs.replace(message, content=tuple(content))
