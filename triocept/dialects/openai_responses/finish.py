"""How an answer ended: `status` and `incomplete_details`.

An answer that is `incomplete` is one that hit a cap or a filter. To Codex that is fatal, so it is told
`completed` always. An upstream's unknown status, or none, is a failure: never an end that it did not say.
"""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import StopReason
from ...errors import UpstreamError
from .._fields import Fields
from .._stops import settled_stop

__all__ = ["is_cut", "parse_finish", "render_finish"]

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
    """The stop reason; and the wire's words, as fields to keep, where the reason does not say it all.

    Raises:
        UpstreamError: the answer is not finished, or incomplete for an unknown reason.
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
    """The status, and the reason why it is incomplete; a refusal in words needs no filter."""
    settled = settled_stop(stop, calls=calls)
    reason = _RENDERED.get(settled)
    if codex or reason is None or (settled == "refused" and refusal):
        return "completed", None
    return "incomplete", reason


def is_cut(stop: StopReason | None) -> bool:
    """Whether the last thing written may not be whole."""
    return stop in ("max_tokens", "context_full")
