"""The documents of the side routes: `GET /v1/models`, `POST /v1/messages/count_tokens`."""

from __future__ import annotations

from collections.abc import Iterable

from ..._canonical.content import Json

__all__ = ["render_models", "render_token_count"]

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
