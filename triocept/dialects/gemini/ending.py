"""The end of an answer: its finish reason, and its usage.

A tool turn has no reason of its own: its reason is `STOP`. A malformed call, and every other reason that does not mean
an answer, is the provider's failure, never an end.

`promptTokenCount` includes the cached tokens, `candidatesTokenCount` excludes thoughts. So the canonical output is
candidates and thoughts, and the input is the prompt and the tokens that a provider's own tools added. Further counts
(by modality, …) are kept under their own names. The wire has no count of tokens written to a cache.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import StopReason, Usage, settled_stop
from ...errors import UpstreamError
from .._documents import merged
from .fields import ProtoFields

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
    """Return the stop reason, and the wire's word as a field to keep if the reason alone does not identify it.

    Args:
        reason: the wire's `finishReason`.
        words: the wire's `finishMessage`.
        calls: True if tools are called.

    Raises:
        UpstreamError: the reason is unknown or missing, or means a failure (`MALFORMED_FUNCTION_CALL`, …).
    """
    stop = _PARSED.get(reason) if isinstance(reason, str) else None
    if stop is None:
        more = f": {words}" if isinstance(words, str) and words else ""
        raise UpstreamError(f"the provider ended its answer for {reason!r}, which is no answer{more}")
    return settled_stop(stop, calls=calls), {} if _RENDERED[stop] == reason else {"finishReason": reason}


def render_finish(stop: StopReason | None, *, calls: bool, refusal: bool) -> str:
    """Return the `finishReason`; a refusal in words is a refusal, as in other dialects."""
    settled = settled_stop(stop, calls=calls)
    return _RENDERED["refused" if settled == "end" and refusal else settled]


_TOOLS = "toolUsePromptTokenCount"


def parse_usage(value: Json, path: str) -> Usage | None:
    """Return the usage; None if it is missing, or contains no number."""
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
    """Return the wire form of the usage."""
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
