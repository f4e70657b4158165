"""Calls other than model calls: token counts, compaction, and calls that fetch, continue or name earlier answers.

`GET /v1/responses/{id}` returns an earlier answer; with `stream=true`, the answer comes as server-sent events. `GET
/v1/responses/{id}/input_items` returns the input of an earlier answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from ..._canonical.content import Json, Message, Opaque, Part
from ..._canonical.events import events_of
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..._canonical.tokens import estimate_input_tokens
from ..._util.sse import encode_sse
from ...errors import Refusal
from .._calls import legal_id
from .._documents import encode_json
from ..side import CountCalls, SideBody, SideCall, SideRoute, counted_by, only
from .items import PREFIXES, complete, parse_item
from .request import INSTRUCTIONS, parse_request, render_input
from .response import render_response
from .stream_renderer import Documents
from .tools import NAME, names_of

_COUNTED = frozenset(
    {"model", "input", "instructions", "tools", "tool_choice", "reasoning", "text", "parallel_tool_calls"}
)


def count_tokens(model: str, document: Json) -> CountCalls:
    return counted_by("/responses/input_tokens", only(document, _COUNTED), "input_tokens")


def render_stored(response: Response, request: Request, *, created: int | None = None) -> Json:
    """Return the JSON body of an earlier answer. `created` is the answer's time in Unix seconds (default: now)."""
    document = render_response(response, request)
    if created is not None:
        document["created_at"] = created
        if "completed_at" in document:
            document["completed_at"] = created
    return document


def render_stored_events(response: Response, request: Request, *, after: int = -1) -> bytes:
    """Return an earlier answer as server-sent events: the events numbered above `after`, and always the last event.

    Each text is sent in one piece. If the original stream sent a text in several pieces, the numbers of its events
    differ.
    """
    documents = Documents(request)
    events = [wire for event in events_of(response) for wire in documents.render(event)]
    told = events[min(max(after + 1, 0), len(events) - 1) :]
    return b"".join(encode_sse(event.data, event.type) for event in told)


def render_input_items(request: Request, *, order: Literal["asc", "desc"] = "desc") -> Json:
    """Return the JSON body that answers `GET …/input_items`: one page with all input items, each with an id.

    By default the newest item is first, as in OpenAI's API.
    """
    same_dialect = request.dialect == NAME
    _, items = render_input(
        request.messages, names_of(request.tools), same_dialect=same_dialect, replay=False
    )
    data: list[dict[str, Json]] = []
    for number, item in enumerate(items):
        made = legal_id(f"{number} {encode_json(item).decode()}", PREFIXES.get(item["type"], "item_"))
        listed = complete({**item, "id": item.get("id") or made}, "", item.get("status") or "completed")
        if item["type"] == "message" and isinstance(item["content"], str):
            listed["content"] = [{"type": "input_text", "text": item["content"]}]
        data.append(listed)
    if order == "desc":
        data.reverse()
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": False}


def render_token_count(request: Request) -> Json:
    return {"object": "response.input_tokens", "input_tokens": estimate_input_tokens(request)}


def _stored(call: SideCall) -> Json | SideBody:
    earlier = call.earlier(call.names["response_id"])
    if call.query.get("stream") == "true":
        try:
            after = int(call.query.get("starting_after", -1))
        except ValueError:
            after = -1
        body = render_stored_events(earlier.response, earlier.request, after=after)
        return SideBody(body=body, content_type="text/event-stream")
    return render_stored(earlier.response, earlier.request, created=int(earlier.started_at))


def _compact(call: SideCall) -> Json:
    raise Refusal(
        404,
        "triocept cannot compact a conversation, since the result is opaque state of a provider's model: have the "
        "conversation summarised by a model call",
        should_retry=False,
        code="unknown_url",
    )


def _both(path: str) -> tuple[str, str]:
    return f"/v1{path}", path


SIDE_ROUTES = (
    SideRoute(paths=("/v1/responses/<response_id>",), answer=_stored),
    SideRoute(
        paths=("/v1/responses/<response_id>/input_items",),
        answer=lambda call: render_input_items(
            call.earlier(call.names["response_id"]).request,
            order="asc" if call.query.get("order") == "asc" else "desc",
        ),
    ),
    SideRoute(
        paths=_both("/responses/input_tokens"),
        method="POST",
        answer=lambda call: render_token_count(parse_request(call.document)),
    ),
    SideRoute(paths=_both("/responses/compact"), method="POST", answer=_compact),
)


def is_warm_up(request: Request) -> bool:
    """Return True if the request has `generate: false`, which means that the model must not generate an answer.

    Codex sends such a request as the first frame on a websocket, with the stable prefix of the conversation.
    """
    return (request.extra or {}).get("generate") is False


def continued(request: Request, earlier: Request, answer: Response) -> Request:
    """Return the request with the messages of `earlier` and its `answer` before the request's own messages.

    As in OpenAI's API, the returned request does not have the `instructions` of `earlier`. But the returned request has
    the tools that input items of `earlier` declared.
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
    """Return the request, but replace each `item_reference` by the item of an earlier answer that it names.

    If `store` is not false, Vercel's AI SDK sends references in place of items that the model wrote. A reference to an
    unknown item is not changed. `answers` (the newest first) is iterated only until all referenced items are found.
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
    names = names_of(request.tools)
    messages: list[Message] = []
    for message in request.messages:
        content: list[Part] = []
        for part in message.content:
            item = found.get(_reference(part) or "")
            content += [part] if item is None else parse_item(item, "input", names, answer=False)
        messages.append(msgspec.structs.replace(message, content=tuple(content)))
    return msgspec.structs.replace(request, messages=tuple(messages))


def _reference(part: Part) -> str | None:
    match part:
        case Opaque(dialect=dialect, raw={"type": "item_reference", "id": str(identity)}) if dialect == NAME:
            return identity
    return None
