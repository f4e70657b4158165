"""Finish reasons.

There is none for a tool turn: that one is `STOP`. A call that the model wrote wrongly, and every other reason that
does not mean an answer, is the provider's failure, never an end.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import StopReason
from ...errors import UpstreamError
from .._stops import settled_stop

__all__ = ["parse_finish", "render_finish"]

_PARSED: dict[str, StopReason] = {
    "STOP": "end",
    "FUNCTION_CALL": "tool_use",  # aimock
    "MAX_TOKENS": "max_tokens",
    "SAFETY": "refused",
    "RECITATION": "refused",
    "LANGUAGE": "refused",
    "BLOCKLIST": "refused",
    "PROHIBITED_CONTENT": "refused",
    "SPII": "refused",
    "IMAGE_SAFETY": "refused",
    "IMAGE_PROHIBITED_CONTENT": "refused",
    "IMAGE_RECITATION": "refused",
    "ESCALATION": "refused",
    "MODEL_ARMOR": "refused",
    "PUP_LIMITED_DISABLED": "refused",
    "CONTINUATION": "paused",
}
_RENDERED: dict[StopReason, str] = {
    "end": "STOP",
    "stop_sequence": "STOP",
    "tool_use": "STOP",
    "max_tokens": "MAX_TOKENS",
    "context_full": "MAX_TOKENS",
    "refused": "SAFETY",
    "paused": "CONTINUATION",
}


def parse_finish(reason: Json, words: Json, *, calls: bool) -> tuple[StopReason, dict[str, Json]]:
    """The stop reason; and the wire's word, as a field to keep, where the reason does not say it all.

    Args:
        reason: the wire's `finishReason`. words: its `finishMessage`. calls: whether tools are called.

    Raises:
        UpstreamError: the reason is unknown or missing, or means a failure (`MALFORMED_FUNCTION_CALL`, …).
    """
    stop = _PARSED.get(reason) if isinstance(reason, str) else None
    if stop is None:
        more = f": {words}" if isinstance(words, str) and words else ""
        raise UpstreamError(f"the provider ended its answer for {reason!r}, which is no answer{more}")
    return settled_stop(stop, calls=calls), {} if _RENDERED[stop] == reason else {"finishReason": reason}


def render_finish(stop: StopReason | None, *, calls: bool, refusal: bool) -> str:
    """The `finishReason`; words of refusal mean a refusal, as they do in other dialects."""
    settled = settled_stop(stop, calls=calls)
    return _RENDERED["refused" if settled == "end" and refusal else settled]
