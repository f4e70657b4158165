"""The end of an answer: its stop reason, and its usage.

An upstream's unknown or missing reason is a failure: triocept never invents a reason. The wire's `input_tokens`
exclude cached tokens; the canonical number includes them. Further numbers of servers (`server_tool_use`,
`service_tier`, …) are kept under their own names.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import StopReason, Usage, settled_stop
from ...errors import UpstreamError
from .._documents import Fields, known_of, merged

_PARSED: dict[str, StopReason] = {
    "end_turn": "end",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "context_full",
    "refusal": "refused",
    "pause_turn": "paused",
    "compaction": "paused",  # a beta's; the word itself is kept in `extra`
}
_RENDERED: dict[StopReason, str] = {stop: word for word, stop in _PARSED.items() if word != "compaction"}


def parse_finish(reason: Json, *, calls: bool) -> tuple[StopReason, dict[str, Json]]:
    """Return the stop reason, and the wire's word as a field to keep if the reason alone does not identify it.

    Raises:
        UpstreamError: the reason is unknown or missing.
    """
    stop = _PARSED.get(reason) if isinstance(reason, str) else None
    if stop is None:
        raise UpstreamError(f"the provider ended its answer for no reason known to Messages: {reason!r}")
    kept = {"stop_reason": reason} if _RENDERED[stop] != reason else {}
    return settled_stop(stop, calls=calls), kept


def render_finish(stop: StopReason | None, *, calls: bool, refusal: bool) -> str:
    """Return the `stop_reason`; a refusal in words is a refusal, as in other dialects."""
    settled = settled_stop(stop, calls=calls)
    return _RENDERED["refused" if settled == "end" and refusal else settled]


_READ, _WRITTEN = "cache_read_input_tokens", "cache_creation_input_tokens"
_DETAILS = "output_tokens_details"


def parse_usage(value: Json, path: str) -> Usage | None:
    """Return the usage; None if it is missing, or contains no number."""
    if not value:
        return None
    fields = Fields(value, path)
    fresh, output = fields.count("input_tokens"), fields.count("output_tokens")
    read, written = fields.count(_READ), fields.count(_WRITTEN)
    if fresh is None and output is None:
        return None
    details = fields.object(_DETAILS) or Fields({})
    thinking = details.count("thinking_tokens")
    fields.keep(_DETAILS, details.rest())
    return Usage(
        input_tokens=(fresh or 0) + (read or 0) + (written or 0),
        output_tokens=output or 0,
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=thinking,
        extra=known_of(fields.rest()) or None,
    )


def render_usage(usage: Usage, *, same_dialect: bool) -> dict[str, Json]:
    """Return the wire form of the usage."""
    cached = (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)
    document: dict[str, Json] = {"input_tokens": max(0, usage.input_tokens - cached)}
    if usage.cache_write_tokens is not None:
        document[_WRITTEN] = usage.cache_write_tokens
    if usage.cached_tokens is not None:
        document[_READ] = usage.cached_tokens
    document["output_tokens"] = usage.output_tokens
    if usage.reasoning_tokens is not None:
        document[_DETAILS] = {"thinking_tokens": usage.reasoning_tokens}
    if same_dialect and usage.extra:
        both: dict[str, Json] = merged(document, usage.extra)
        return both
    return document
