"""Finish reasons: those of chat completions, but for tools, which there are none of."""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.response import StopReason
from ..openai_chat import finish as chat

__all__ = ["parse_finish", "render_finish"]


def parse_finish(reason: Json, matched: Json) -> tuple[StopReason, str | None]:
    """Stop reason and stop sequence.

    Args:
        reason: the wire's `finish_reason`. matched: which stop string it was: vLLM's `stop_reason`, SGLang's
        `matched_stop` (an int is a token id).

    Raises:
        UpstreamError: the reason is unknown or missing.
    """
    return chat.parse_finish(reason, matched, calls=False, refusal=False)


def render_finish(stop: StopReason | None) -> str:
    """The `finish_reason`."""
    return chat.render_finish(stop, calls=False, refusal=False)
