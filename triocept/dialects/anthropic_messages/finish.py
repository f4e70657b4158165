"""Stop reasons. An upstream's unknown reason, or none, is a failure: never an end that it did not say."""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import StopReason
from ...errors import UpstreamError
from .._stops import settled_stop

__all__ = ["parse_finish", "render_finish"]

_PARSED: dict[str, StopReason] = {
    "end_turn": "end",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "context_full",
    "refusal": "refused",
    "pause_turn": "paused",
    "compaction": "paused",  # a beta's; the word itself is kept beside
}
_RENDERED: dict[StopReason, str] = {stop: word for word, stop in _PARSED.items() if word != "compaction"}


def parse_finish(reason: Json, *, calls: bool) -> tuple[StopReason, dict[str, Json]]:
    """The stop reason; and the wire's word, as a field to keep, where the reason does not say it all.

    Raises:
        UpstreamError: the reason is unknown or missing.
    """
    stop = _PARSED.get(reason) if isinstance(reason, str) else None
    if stop is None:
        raise UpstreamError(f"the provider ended its answer for no reason known to Messages: {reason!r}")
    kept = {"stop_reason": reason} if _RENDERED[stop] != reason else {}
    return settled_stop(stop, calls=calls), kept


def render_finish(stop: StopReason | None, *, calls: bool, refusal: bool) -> str:
    """The `stop_reason`; words of refusal mean a refusal, as they do in other dialects."""
    settled = settled_stop(stop, calls=calls)
    return _RENDERED["refused" if settled == "end" and refusal else settled]
