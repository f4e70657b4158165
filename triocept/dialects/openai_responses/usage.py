"""Usage: `input_tokens` holds the cached, `output_tokens` the reasoning, as the canonical numbers do.

The wire must have all numbers (Codex takes a turn without `total_tokens` for a broken stream), so one that nobody
counted is written as 0. What servers add beside is kept, under its own names.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import Usage
from .._fields import known_of, merged
from ..openai_chat.usage import UsageNames
from ..openai_chat.usage import parse_usage as parse_openai_usage

__all__ = ["parse_usage", "render_usage"]

_INPUTS, _OUTPUTS = "input_tokens_details", "output_tokens_details"


def parse_usage(value: Json, path: str) -> Usage | None:
    """The usage; None where there is none, or no number in it. A null beside the numbers is no number."""
    if isinstance(value, dict):
        value = known_of(
            {name: known_of(inner) if isinstance(inner, dict) else inner for name, inner in value.items()}
        )
    return parse_openai_usage(value, path, UsageNames("input_tokens", "output_tokens"))


def render_usage(usage: Usage, *, same_dialect: bool) -> dict[str, Json]:
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
    if same_dialect and usage.extra:
        both: dict[str, Json] = merged(document, usage.extra)
        return both
    return document
