"""Usage: `input_tokens` holds the cached, `output_tokens` the reasoning, as the canonical numbers do.

The wire must have all numbers (Codex takes a turn without `total_tokens` for a broken stream), so one that nobody
counted is written as 0. What servers add beside is kept, under its own names.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import Usage
from .._fields import Fields, merged

__all__ = ["parse_usage", "render_usage"]

_INPUTS, _OUTPUTS = "input_tokens_details", "output_tokens_details"


def parse_usage(value: Json, path: str) -> Usage | None:
    """The usage; None where there is none, or no number in it."""
    if not value:
        return None
    fields = Fields(value, path)
    inputs, outputs = fields.count("input_tokens"), fields.count("output_tokens")
    total = fields.count("total_tokens")
    if inputs is None and outputs is None:
        return None
    read, wrote = fields.object(_INPUTS) or Fields({}), fields.object(_OUTPUTS) or Fields({})
    cached, written = read.count("cached_tokens"), read.count("cache_write_tokens")
    reasoning = wrote.count("reasoning_tokens")
    fields.keep(_INPUTS, _told(read))
    fields.keep(_OUTPUTS, _told(wrote))
    return Usage(
        input_tokens=max(0, (total or 0) - (outputs or 0)) if inputs is None else inputs,
        output_tokens=max(0, (total or 0) - (inputs or 0)) if outputs is None else outputs,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
        extra=_told(fields),
    )


def render_usage(usage: Usage, *, own: bool) -> dict[str, Json]:
    """The wire form of the usage, with every number that the wire has."""
    document: dict[str, Json] = {
        "input_tokens": usage.input_tokens,
        _INPUTS: {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": usage.output_tokens,
        _OUTPUTS: {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if own and usage.extra:
        both: dict[str, Json] = merged(document, usage.extra)
        return both
    return document


def _told(fields: Fields) -> dict[str, Json] | None:
    return {name: value for name, value in (fields.rest() or {}).items() if value is not None} or None
