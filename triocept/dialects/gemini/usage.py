"""Usage: `promptTokenCount` holds the cached, `candidatesTokenCount` holds no thoughts.

So the canonical output is candidates and thoughts, and the input is the prompt and what a provider's own tools added
to it. What else is counted (by modality, …) is kept, under its own names. Tokens written to a cache are not told.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import Usage
from .._fields import merged
from .fields import ProtoFields

__all__ = ["parse_usage", "render_usage"]

_TOOLS = "toolUsePromptTokenCount"


def parse_usage(value: Json, path: str) -> Usage | None:
    """The usage; None where there is none, or no number in it."""
    if not value:
        return None
    fields = ProtoFields(value, path)
    prompt, candidates = fields.count("promptTokenCount"), fields.count("candidatesTokenCount")
    thoughts, tools = fields.count("thoughtsTokenCount"), fields.count(_TOOLS)
    cached, total = fields.count("cachedContentTokenCount"), fields.count("totalTokenCount")
    if prompt is None and candidates is None and total is None:
        return None
    output = (candidates or 0) + (thoughts or 0)
    if prompt is None:
        prompt = max(0, (total or 0) - output - (tools or 0))
    elif candidates is None and total is not None:
        output = max(thoughts or 0, total - prompt - (tools or 0))
    if tools is not None:
        fields.keep(_TOOLS, tools)
    return Usage(
        input_tokens=prompt + (tools or 0),
        output_tokens=output,
        cached_tokens=cached,
        reasoning_tokens=thoughts,
        extra=fields.rest(),
    )


def render_usage(usage: Usage, *, same_dialect: bool) -> dict[str, Json]:
    """The wire form of the usage."""
    extra = (usage.extra or {}) if same_dialect else {}
    tools = extra.get(_TOOLS)
    added = tools if isinstance(tools, int) else 0
    document: dict[str, Json] = {
        "promptTokenCount": max(0, usage.input_tokens - added),
        "candidatesTokenCount": max(0, usage.output_tokens - (usage.reasoning_tokens or 0)),
    }
    if usage.cached_tokens is not None:
        document["cachedContentTokenCount"] = usage.cached_tokens
    if usage.reasoning_tokens is not None:
        document["thoughtsTokenCount"] = usage.reasoning_tokens
    document["totalTokenCount"] = usage.input_tokens + usage.output_tokens
    both: dict[str, Json] = merged(document, extra)
    return both
