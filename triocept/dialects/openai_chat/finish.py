"""Finish reasons.

Agents do wild things with a reason that they do not know (opencode asks again for ever), so none is ever
invented: an upstream's unknown reason (`abort`, `error`, `network_error`, …) is a failure, and only four are
written.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import StopReason
from ...errors import UpstreamError
from .._stops import settled_stop

__all__ = ["parse_finish", "render_finish"]

_PARSED: dict[str, StopReason] = {
    "stop": "end",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refused",
    "function_call": "tool_use",
    "eos_token": "end",  # text-generation-inference
    "stop_sequence": "stop_sequence",  # text-generation-inference
    "model_length": "context_full",  # Mistral
}
_RENDERED: dict[StopReason, str] = {
    "end": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "context_full": "length",
    "refused": "content_filter",
    "paused": "stop",
}


def parse_finish(reason: Json, matched: Json, *, calls: bool, refusal: bool) -> tuple[StopReason, str | None]:
    """Stop reason and stop sequence.

    Args:
        reason: the wire's `finish_reason`. matched: which stop string it was: vLLM's `stop_reason`, SGLang's
        `matched_stop` (an int is a token id). calls: whether tools are called. refusal: whether there is a
        refusal in words.

    Raises:
        UpstreamError: the reason is unknown or missing.
    """
    stop = _PARSED.get(reason) if isinstance(reason, str) else None
    if stop is None:
        raise UpstreamError(
            f"the provider ended its answer for no reason known to chat completions: {reason!r}"
        )
    if stop == "end" and isinstance(matched, str):
        return "stop_sequence", matched
    if stop == "end" and refusal:
        return "refused", None
    return settled_stop(stop, calls=calls), None


def render_finish(stop: StopReason | None, *, calls: bool, refusal: bool) -> str:
    """The `finish_reason`; a refusal in words needs no filter, for some agents die of `content_filter`."""
    settled = settled_stop(stop, calls=calls)
    return "stop" if settled == "refused" and refusal else _RENDERED[settled]
