"""`GET /v1/models`, as OpenAI answers it: what is told in a dialect that has no list of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable

from .._canonical.content import Json

__all__ = ["render_models"]


def render_models(names: Iterable[str], *, created: int | None = None) -> Json:
    """The list of models; `created` is in Unix seconds, now where it is None."""
    created = int(time.time()) if created is None else created
    data = [{"id": name, "object": "model", "created": created, "owned_by": "triocept"} for name in names]
    return {"object": "list", "data": data}
