"""The documents of the side routes, and what a request says of them.

`GET /v1/responses/{id}` (with `stream=true`: as events) and `GET /v1/responses/{id}/input_items` tell of what was
answered before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from ..._canonical.content import Json, Message, Opaque, Part
from ..._canonical.fold import events_of
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..._canonical.tokens import estimate_input_tokens
from ..._sse import encode_sse
from .._ids import legal_id
from .._json import encode_json
from .items import complete, parse_item
from .messages import INSTRUCTIONS, render_input
from .names import NAME
from .namespaces import Names
from .response import render_response
from .stream_documents import Documents

__all__ = [
    "continued",
    "is_stored",
    "is_warm_up",
    "referenced",
    "render_input_items",
    "render_stored",
    "render_stored_events",
    "render_token_count",
]

_PREFIXES = {"message": "msg_", "function_call": "fc_", "custom_tool_call": "ctc_", "reasoning": "rs_"}


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
    wanted = {name for message in request.messages for part in message.content if (name := _reference(part))}
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


def render_stored(response: Response, request: Request, *, created: int | None = None) -> Json:
    """The answer, as it is told again; `created` is in Unix seconds, now where it is None."""
    document = render_response(response, request)
    if created is not None:
        document["created_at"] = created
        if "completed_at" in document:
            document["completed_at"] = created
    return document


def render_stored_events(response: Response, request: Request, *, after: int = -1) -> bytes:
    """The answer told again as a stream: the events whose number is over `after`, and the terminal one in any case.

    A text that was streamed in many pieces is told in one, so its numbers are not those of the first time.
    """
    documents = Documents(request)
    events = [wire for event in events_of(response) for wire in documents.render(event)]
    told = events[min(max(after + 1, 0), len(events) - 1) :]
    return b"".join(encode_sse(event.data, event.type) for event in told)


def render_input_items(request: Request, *, order: Literal["asc", "desc"] = "desc") -> Json:
    """The items of the input, the newest first, as OpenAI lists them; all at once, each with an id."""
    same_dialect = request.dialect == NAME
    _, items = render_input(request.messages, Names(request.tools), same_dialect=same_dialect, replay=False)
    data = [_listed(item, number) for number, item in enumerate(items)]
    if order == "desc":
        data.reverse()
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": False}


def _listed(item: dict[str, Json], number: int) -> dict[str, Json]:
    """The item with an id that is the same each time, and with its content as a list."""
    prefix = _PREFIXES.get(item["type"], "item_")
    made = legal_id(f"{number} {encode_json(item).decode()}", prefix)
    listed = complete({**item, "id": item.get("id") or made}, "", item.get("status") or "completed")
    if item["type"] == "message" and isinstance(item["content"], str):
        listed["content"] = [{"type": "input_text", "text": item["content"]}]
    return listed


def render_token_count(request: Request) -> Json:
    """About how many tokens the prompt has: the answer of `POST /v1/responses/input_tokens`."""
    return {"object": "response.input_tokens", "input_tokens": estimate_input_tokens(request)}
