"""What is asked beside model calls of Responses: what was answered before, how many tokens an input has, compaction."""

from __future__ import annotations

from typing import Literal

from ..._canonical.content import Json
from ...errors import Refusal
from ..side import CountCalls, SideBody, SideCall, SideRoute, counted_by, only
from .extras import render_input_items, render_stored, render_stored_events, render_token_count
from .request import parse_request

__all__ = ["SIDE_ROUTES", "count_tokens"]

_COUNTED = frozenset(
    {"model", "input", "instructions", "tools", "tool_choice", "reasoning", "text", "parallel_tool_calls"}
)


def count_tokens(model: str, document: Json) -> CountCalls:
    """The call that counts; see `Dialect.count_tokens`."""
    return counted_by("/responses/input_tokens", only(document, _COUNTED), "input_tokens")


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
