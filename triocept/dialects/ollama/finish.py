"""Why an answer ended: `done_reason`. There is none for a tool turn and none for a refusal: both are `stop`.

Servers before 0.1.40 write none. One that is not known is a failure, never an end that it did not say.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import StopReason
from ...errors import UpstreamError
from .._stops import settled_stop

__all__ = ["parse_finish", "render_finish"]

_PARSED: dict[str, StopReason] = {"": "end", "stop": "end", "length": "max_tokens"}


def parse_finish(reason: Json, *, calls: bool) -> StopReason:
    """The stop reason.

    Raises:
        UpstreamError: it is not known (`load`, say: there was nothing to answer).
    """
    stop = _PARSED.get(reason or "") if isinstance(reason, str | None) else None
    if stop is None:
        raise UpstreamError(f"the provider ended its answer for no reason known to Ollama: {reason!r}")
    return settled_stop(stop, calls=calls)


def render_finish(stop: StopReason | None) -> str:
    """The `done_reason`."""
    return "length" if stop in ("max_tokens", "context_full") else "stop"
