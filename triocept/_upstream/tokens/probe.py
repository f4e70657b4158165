"""Whether a server gives its tokens: asked once, before an agent is let in."""

from __future__ import annotations

from ..._trace.tokens import Tokens
from ...errors import UpstreamError

__all__ = ["HINTS", "check_probe"]

HINTS = {
    "vllm": "it must know `return_token_ids` (0.11 and later)",
    "sglang": "it must know the header x-sglext-return-output-ids (0.5.23 does)",
    "llama_cpp": "it must know `return_tokens` with `verbose`, and /tokenize (a build of 2025 or later)",
}


def check_probe(tokens: Tokens) -> None:
    """Accept what a server gave for one token.

    Args:
        tokens: what was collected.

    Raises:
        UpstreamError: something is missing; the text says what, and what to do.
    """
    if tokens.gaps:
        raise UpstreamError(
            f"the server does not give its tokens as {tokens.engine} does: {', '.join(tokens.gaps)}; "
            f"{HINTS[tokens.engine]}"
        )
