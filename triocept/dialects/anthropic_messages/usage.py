"""Usage: the wire's `input_tokens` are those that no cache had, the canonical ones are all.

What servers add beside (`server_tool_use`, `service_tier`, …) is kept, under its own names.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import Usage
from .._fields import Fields, known_of, merged

__all__ = ["parse_usage", "render_usage"]

_READ, _WRITTEN = "cache_read_input_tokens", "cache_creation_input_tokens"
_DETAILS = "output_tokens_details"


def parse_usage(value: Json, path: str) -> Usage | None:
    """The usage; None where there is none, or no number in it."""
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
    """The wire form of the usage."""
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
