"""Usage: `prompt_tokens` holds the cached, `completion_tokens` the reasoning, as the canonical numbers do.

What servers add beside (`cost`, `audio_tokens`, …) is kept, under its own names.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import Usage
from .._fields import Fields, merged

__all__ = ["parse_usage", "render_usage"]


def parse_usage(value: Json, path: str) -> Usage | None:
    """The usage; None where there is none, or no number in it."""
    if not value:
        return None
    fields = Fields(value, path)
    prompt, completion = fields.count("prompt_tokens"), fields.count("completion_tokens")
    total = fields.count("total_tokens")
    if prompt is None and completion is None:
        return None
    inputs, outputs = Fields({}), Fields({})
    inputs = fields.object("prompt_tokens_details") or inputs
    outputs = fields.object("completion_tokens_details") or outputs
    cached, written = inputs.count("cached_tokens"), inputs.count("cache_write_tokens")
    reasoning = outputs.count("reasoning_tokens")
    if cached is None:
        cached = fields.count("prompt_cache_hit_tokens")  # DeepSeek
    if reasoning is None:
        reasoning = fields.count("reasoning_tokens")  # SGLang
    fields.keep("prompt_tokens_details", inputs.rest())
    fields.keep("completion_tokens_details", outputs.rest())
    return Usage(
        input_tokens=max(0, (total or 0) - (completion or 0)) if prompt is None else prompt,
        output_tokens=max(0, (total or 0) - (prompt or 0)) if completion is None else completion,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
        extra=fields.rest(),
    )


def render_usage(usage: Usage, *, own: bool) -> Json:
    """The wire form of the usage."""
    document: dict[str, Json] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    inputs = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
    known = {name: value for name, value in inputs.items() if value is not None}
    if known:
        document["prompt_tokens_details"] = known
    if usage.reasoning_tokens is not None:
        document["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return merged(document, usage.extra) if own and usage.extra else document
