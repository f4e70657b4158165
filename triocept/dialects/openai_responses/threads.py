"""What a request goes on from: an earlier answer, single items of it, or nothing yet."""

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
    """Whether the agent wants the answer kept for later: `store`, which is on where nothing is said."""
    return (request.extra or {}).get("store") is not False


def is_warm_up(request: Request) -> bool:
    """Whether nothing is to be generated: Codex's first frame on a websocket, which sends the stable prefix ahead."""
    return (request.extra or {}).get("generate") is False


def continued(request: Request, earlier: Request, answer: Response) -> Request:
    """The request with the conversation that it goes on from: that of `earlier`, which `answer` answered.

    `instructions` are not carried over, as OpenAI does not; the tools that items declared are.
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
    """The request with the items themselves in the place of `item_reference`s to them.

    Vercel's AI SDK sends what the model wrote so, unless `store` is false; what nobody has written is left as it is.

    Args:
        request: what the agent sent.
        answers: what was asked and answered before, the newest first; read as far as is needed.
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
