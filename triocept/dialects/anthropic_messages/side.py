"""What is asked beside model calls: `GET /v1/models`, `POST /v1/messages/count_tokens`; and by whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..._canonical.content import Json
from ..side import CountCalls, SideCall, SideRoute, TokenCount, counted_by, only
from .request import parse_request

REQUIRED: dict[str, Json] = {"max_tokens": 1}
_COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking")

_EPOCH = "1970-01-01T00:00:00Z"  # what Anthropic writes where the release date is unknown


def render_models(names: Iterable[str]) -> Json:
    """The list of models."""
    data = [
        {"type": "model", "id": name, "display_name": name, "created_at": _EPOCH, "lifecycle": "active"}
        for name in names
    ]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "has_more": False, "first_id": first, "last_id": last}


def render_token_count(count: int) -> Json:
    """How many tokens the prompt has."""
    return {"input_tokens": count}


def is_client(path: str, headers: Mapping[str, str]) -> bool:
    """Whether the client speaks to Anthropic: its SDKs say so in a header, and only it has /messages."""
    return "anthropic-version" in headers or "/messages" in path


def key_headers(api_key: str) -> dict[str, str]:
    """Where a key stands."""
    return {"x-api-key": api_key}


def count_tokens(model: str, document: Json) -> CountCalls:
    """The call that counts; see `Dialect.count_tokens`. vLLM and llama.cpp have it, too."""
    return counted_by("/v1/messages/count_tokens", only(document, _COUNTED), "input_tokens")


def environment(base_url: str, api_key: str, model: str) -> dict[str, str]:
    """Where agents look for Anthropic; `ANTHROPIC_AUTH_TOKEN` is not among them.

    Anthropic's clients take either of two keys. With both, agno makes no call and ends as if all were well, and the
    SDKs (anthropic 2.14, in JavaScript 1.14) warn. Everything reads this one. Claude Code in a terminal asks whether it
    may use it, and does so with both as well; with `-p` it does not ask.
    """
    return {"ANTHROPIC_BASE_URL": base_url, "ANTHROPIC_API_KEY": api_key}


def _count(call: SideCall) -> TokenCount:
    document = call.document
    if isinstance(document, dict):
        document = {**REQUIRED, **document}  # not asked for here, where nothing is written
    return TokenCount(request=parse_request(document), render=render_token_count)


SIDE_ROUTES = (
    SideRoute(
        paths=("/v1/messages/count_tokens", "/messages/count_tokens"),
        method="POST",
        answer=_count,
    ),
)
NOT_SERVED = (
    *("/v1/complete", "/v1/files", "/v1/messages/batches", "/v1/skills"),
    "/messages/batches",
)
