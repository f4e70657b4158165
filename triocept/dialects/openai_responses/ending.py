"""The end of an answer: `status` and `incomplete_details`, and its usage.

An `incomplete` answer reached a token limit or a filter. Codex treats that status as fatal, so it always gets
`completed`. An upstream's unknown or missing status is a failure: triocept never invents a status.

`input_tokens` includes the cached tokens, `output_tokens` the reasoning, as the canonical numbers do. The wire
requires all numbers (Codex treats a turn without `total_tokens` as a broken stream), so an unknown number is written
as 0. Further numbers of servers are kept under their own names.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import StopReason, Usage, settled_stop
from ...errors import UpstreamError
from .._documents import Fields, known_of, merged
from ..openai_chat.ending import UsageNames
from ..openai_chat.ending import parse_usage as parse_openai_usage

_PARSED: dict[str, StopReason] = {
    "max_output_tokens": "max_tokens",
    "content_filter": "refused",
    "max_messages": "paused",
    "steered": "paused",
}
_RENDERED: dict[StopReason, str] = {
    "max_tokens": "max_output_tokens",
    "context_full": "max_output_tokens",
    "refused": "content_filter",
}


def parse_finish(
    status: Json, details: Fields | None, *, calls: bool, refusal: bool
) -> tuple[StopReason, dict[str, Json]]:
    """Return the stop reason, and the wire's fields to keep if the reason alone does not identify them.

    Raises:
        UpstreamError: the answer is not finished, or is incomplete for an unknown reason.
    """
    if status == "completed":
        return settled_stop("refused" if refusal and not calls else "end", calls=calls), {}
    reason = details.text("reason") if details else None
    stop = _PARSED.get(reason or "") if status == "incomplete" else None
    if stop is None:
        raise UpstreamError(
            f"the provider ended its answer for no reason known to Responses: {status!r}, {reason!r}"
        )
    told = render_finish(stop, calls=calls, refusal=refusal, codex=False)
    kept = {"status": status, "incomplete_details": {"reason": reason}}
    return stop, {} if told == (status, reason) else kept


def render_finish(
    stop: StopReason | None, *, calls: bool, refusal: bool, codex: bool
) -> tuple[str, str | None]:
    """Return the status, and the reason of an incomplete answer; a refusal in words is completed."""
    settled = settled_stop(stop, calls=calls)
    reason = _RENDERED.get(settled)
    if codex or reason is None or (settled == "refused" and refusal):
        return "completed", None
    return "incomplete", reason


def is_cut(stop: StopReason | None) -> bool:
    """Return True if the end of the answer may be cut off."""
    return stop in ("max_tokens", "context_full")


_INPUTS, _OUTPUTS = "input_tokens_details", "output_tokens_details"


def parse_usage(value: Json, path: str) -> Usage | None:
    """Return the usage; None if it is missing, or contains no number. A null counts as missing."""
    if isinstance(value, dict):
        value = known_of(
            {name: known_of(inner) if isinstance(inner, dict) else inner for name, inner in value.items()}
        )
    return parse_openai_usage(value, path, UsageNames("input_tokens", "output_tokens"))


def render_usage(usage: Usage, *, same_dialect: bool) -> dict[str, Json]:
    """Return the wire form of the usage, with every number that the wire requires."""
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
