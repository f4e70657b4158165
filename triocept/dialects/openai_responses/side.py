"""Calls other than model calls: earlier answers, token counts, compaction.

`GET /v1/responses/{id}` (with `stream=true`: as events) and `GET /v1/responses/{id}/input_items` return earlier
answers and their input.
"""

from __future__ import annotations

from typing import Literal

from ..._canonical.content import Json
from ..._canonical.events import events_of
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..._canonical.tokens import estimate_input_tokens
from ..._util.sse import encode_sse
from ...errors import Refusal
from .._documents import encode_json
from .._ids import legal_id
from ..side import CountCalls, SideBody, SideCall, SideRoute, counted_by, only
from .items import complete
from .messages import render_input
from .names import NAME
from .namespaces import Names
from .request import parse_request
from .response import render_response
from .stream_renderer import Documents

_PREFIXES = {"message": "msg_", "function_call": "fc_", "custom_tool_call": "ctc_", "reasoning": "rs_"}
_COUNTED = frozenset(
    {"model", "input", "instructions", "tools", "tool_choice", "reasoning", "text", "parallel_tool_calls"}
)


def count_tokens(model: str, document: Json) -> CountCalls:
    """Yield the call that counts tokens; see `Dialect.count_tokens`."""
    return counted_by("/responses/input_tokens", only(document, _COUNTED), "input_tokens")


def render_stored(response: Response, request: Request, *, created: int | None = None) -> Json:
    """Return an earlier answer; `created` is in Unix seconds, and defaults to the current time."""
    document = render_response(response, request)
    if created is not None:
        document["created_at"] = created
        if "completed_at" in document:
            document["completed_at"] = created
    return document


def render_stored_events(response: Response, request: Request, *, after: int = -1) -> bytes:
    """Return an earlier answer as a stream: the events with a number above `after`, and always the terminal event.

    A text that was streamed in many pieces is sent in one piece, so the numbers differ from those of the first stream.
    """
    documents = Documents(request)
    events = [wire for event in events_of(response) for wire in documents.render(event)]
    told = events[min(max(after + 1, 0), len(events) - 1) :]
    return b"".join(encode_sse(event.data, event.type) for event in told)


def render_input_items(request: Request, *, order: Literal["asc", "desc"] = "desc") -> Json:
    """Return the items of the input, each with an id, on one page; the newest first by default, as at OpenAI."""
    same_dialect = request.dialect == NAME
    _, items = render_input(request.messages, Names(request.tools), same_dialect=same_dialect, replay=False)
    data = [_listed(item, number) for number, item in enumerate(items)]
    if order == "desc":
        data.reverse()
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": False}


def render_token_count(request: Request) -> Json:
    """Return the estimated tokens of the prompt: the answer of `POST /v1/responses/input_tokens`."""
    return {"object": "response.input_tokens", "input_tokens": estimate_input_tokens(request)}


def _listed(item: dict[str, Json], number: int) -> dict[str, Json]:
    """Return the item with a stable id, and with its content as a list."""
    prefix = _PREFIXES.get(item["type"], "item_")
    made = legal_id(f"{number} {encode_json(item).decode()}", prefix)
    listed = complete({**item, "id": item.get("id") or made}, "", item.get("status") or "completed")
    if item["type"] == "message" and isinstance(item["content"], str):
        listed["content"] = [{"type": "input_text", "text": item["content"]}]
    return listed


def _stored(call: SideCall) -> Json | SideBody:
    earlier = call.earlier(call.names["response_id"])
    if call.query.get("stream") == "true":
        after = _whole_number(call.query.get("starting_after"), -1)
        body = render_stored_events(earlier.response, earlier.request, after=after)
        return SideBody(body=body, content_type="text/event-stream")
    return render_stored(earlier.response, earlier.request, created=int(earlier.started_at))


def _input_items(call: SideCall) -> Json:
    earlier = call.earlier(call.names["response_id"])
    order: Literal["asc", "desc"] = "asc" if call.query.get("order") == "asc" else "desc"
    return render_input_items(earlier.request, order=order)


def _input_tokens(call: SideCall) -> Json:
    return render_token_count(parse_request(call.document))


def _compact(call: SideCall) -> Json:
    raise Refusal(
        404,
        "there is no compaction here, for it is opaque state of a provider's own model: have the conversation "
        "summarised by a model call",
        should_retry=False,
        code="unknown_url",
    )


def _whole_number(text: str | None, otherwise: int) -> int:
    try:
        return otherwise if text is None else int(text)
    except ValueError:
        return otherwise


def _both(path: str) -> tuple[str, str]:
    return f"/v1{path}", path


SIDE_ROUTES = (
    SideRoute(paths=("/v1/responses/<response_id>",), answer=_stored),
    SideRoute(paths=("/v1/responses/<response_id>/input_items",), answer=_input_items),
    SideRoute(paths=_both("/responses/input_tokens"), method="POST", answer=_input_tokens),
    SideRoute(paths=_both("/responses/compact"), method="POST", answer=_compact),
)
