"""The end of an answer: its finish reason, and its usage.

Agents fail on an unknown reason (opencode retries for ever), so no new reason is ever written. An upstream's unknown
reason (`abort`, `error`, `network_error`, …) is a failure, and only four reasons are written.

`prompt_tokens` includes the cached tokens, `completion_tokens` the reasoning, as the canonical numbers do. Further
numbers of servers (`cost`, `audio_tokens`, …) are kept under their own names.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..._canonical.content import Json
from ..._canonical.response import StopReason, Usage, settled_stop
from ...errors import UpstreamError
from .._documents import Fields, known_of, merged

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
    """Return stop reason and stop sequence.

    Args:
        reason: the wire's `finish_reason`.
        matched: the matched stop string: vLLM's `stop_reason`, SGLang's `matched_stop` (an int is a token id).
        calls: True if tools are called.
        refusal: True if the answer contains a refusal in words.

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
    """Return the `finish_reason`; a refusal in words is "stop", for some agents crash on `content_filter`."""
    settled = settled_stop(stop, calls=calls)
    return "stop" if settled == "refused" and refusal else _RENDERED[settled]


@dataclass(frozen=True)
class UsageNames:
    """The names of the token counts on a wire."""

    inputs: str
    outputs: str
    cached: str = ""
    """A second name of the cached tokens, which one server uses."""
    reasoning: str = ""
    """A second name of the reasoning tokens, which one server uses."""

    @property
    def details(self) -> tuple[str, str]:
        """The names of the objects with the details of input and output tokens."""
        return f"{self.inputs}_details", f"{self.outputs}_details"


_CHAT = UsageNames(
    "prompt_tokens",
    "completion_tokens",
    cached="prompt_cache_hit_tokens",  # DeepSeek
    reasoning="reasoning_tokens",  # SGLang
)


def parse_usage(value: Json, path: str, names: UsageNames = _CHAT) -> Usage | None:
    """Return the usage; None if it is missing, or contains no number."""
    if not value:
        return None
    fields = Fields(value, path)
    inputs, outputs, total = (fields.count(name) for name in (names.inputs, names.outputs, "total_tokens"))
    if inputs is None and outputs is None:
        return None
    read, wrote = (fields.object(name) or Fields({}) for name in names.details)
    cached, written = read.count("cached_tokens"), read.count("cache_write_tokens")
    reasoning = wrote.count("reasoning_tokens")
    if cached is None and names.cached:
        cached = fields.count(names.cached)
    if reasoning is None and names.reasoning:
        reasoning = fields.count(names.reasoning)
    for name, left in zip(names.details, (read, wrote), strict=True):
        fields.keep(name, left.rest())
    return Usage(
        input_tokens=max(0, (total or 0) - (outputs or 0)) if inputs is None else inputs,
        output_tokens=max(0, (total or 0) - (inputs or 0)) if outputs is None else outputs,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
        extra=fields.rest(),
    )


def render_usage(usage: Usage, *, same_dialect: bool) -> Json:
    """Return the wire form of the usage."""
    document: dict[str, Json] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_tokens is not None or usage.cache_write_tokens is not None:
        details = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
        document["prompt_tokens_details"] = known_of(details)
    if usage.reasoning_tokens is not None:
        document["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return merged(document, usage.extra) if same_dialect and usage.extra else document
