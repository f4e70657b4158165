"""Calls other than model calls (`GET /v1/models`, `POST /v1/messages/count_tokens`), and recognition of clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..._canonical.content import Json
from ..side import CountCalls, SideRoute, TokenCount, counted_by, only
from .request import parse_request

REQUIRED: dict[str, Json] = {"max_tokens": 1}
_COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking")

_EPOCH = "1970-01-01T00:00:00Z"  # Anthropic's value for an unknown release date


def render_models(names: Iterable[str]) -> Json:
    data = [
        {"type": "model", "id": name, "display_name": name, "created_at": _EPOCH, "lifecycle": "active"}
        for name in names
    ]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "has_more": False, "first_id": first, "last_id": last}


def render_token_count(count: int) -> Json:
    return {"input_tokens": count}


def is_client(path: str, headers: Mapping[str, str]) -> bool:
    """Return True if a client of Anthropic's API sent the call.

    Anthropic's SDKs send the header `anthropic-version`, and no other API has a path with `/messages`.
    """
    return "anthropic-version" in headers or "/messages" in path


def key_headers(api_key: str) -> dict[str, str]:
    return {"x-api-key": api_key}


def count_tokens(model: str, document: Json) -> CountCalls:
    # vLLM and llama.cpp have this route, too.
    return counted_by("/v1/messages/count_tokens", only(document, _COUNTED), "input_tokens")


def environment(base_url: str, api_key: str, model: str) -> dict[str, str]:
    """Return environment variables with the endpoint's URL and key. `ANTHROPIC_AUTH_TOKEN` is deliberately not set.

    Anthropic's clients accept either of two keys, `ANTHROPIC_API_KEY` and `ANTHROPIC_AUTH_TOKEN`. If both are set, agno
    makes no call and exits as if it had succeeded, and the SDKs (anthropic 2.14, in JavaScript 1.14) warn. Every client
    reads `ANTHROPIC_API_KEY`. Claude Code in a terminal asks the user before using this key, even if both variables are
    set. With `-p`, Claude Code does not ask.
    """
    return {"ANTHROPIC_BASE_URL": base_url, "ANTHROPIC_API_KEY": api_key}


SIDE_ROUTES = (
    SideRoute(
        paths=("/v1/messages/count_tokens", "/messages/count_tokens"),
        method="POST",
        answer=lambda call: TokenCount(
            # `max_tokens` is optional in this call, which generates no output.
            request=parse_request(
                {**REQUIRED, **call.document} if isinstance(call.document, dict) else call.document
            ),
            render=render_token_count,
        ),
    ),
)
NOT_SERVED = (
    *("/v1/complete", "/v1/files", "/v1/messages/batches", "/v1/skills"),
    "/messages/batches",
)
